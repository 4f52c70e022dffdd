//! What the tests of leases share, and the simulation of many workers.

mod cost;
pub(super) mod rig;
mod simulation;
