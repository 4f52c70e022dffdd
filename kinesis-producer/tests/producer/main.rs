//! The producer against kinesis-local in process, under virtual time, with faults by script.

mod accounts;
mod attempts;
mod batches;
mod components;
mod delivery;
mod ending;
mod failures;
mod faults;
mod filling;
mod freezing;
mod isolation;
mod observing;
mod renewal;
mod resharding;
mod sharing;
#[cfg(all(feature = "json", feature = "zstd"))]
mod typed;
mod world;
