//! The producer against kinesis-local in process, under virtual time, with faults by script.

mod accounts;
mod batches;
mod delivery;
mod ending;
mod failures;
mod faults;
mod freezing;
mod observing;
mod renewal;
mod resharding;
mod sharing;
#[cfg(all(feature = "json", feature = "zstd"))]
mod typed;
mod world;
