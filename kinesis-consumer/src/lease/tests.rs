//! What the tests of leases share, and the simulation of many workers.

pub(super) mod rig;
mod simulation;
