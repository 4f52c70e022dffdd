//! The consumer against kinesis-local in process, under virtual time.

mod accounts;
mod across_batches;
mod admin;
mod aggregates;
mod chaos;
#[cfg(feature = "slow")]
mod crowded;
mod delivery;
mod events;
mod failures;
mod failures_one_by_one;
mod fan_out;
mod faulty;
mod growing;
mod handover;
mod latest;
mod ledger;
mod measured;
mod measured_kcl;
mod measured_shards;
mod memory;
mod network;
mod one_by_one;
mod poison;
mod prepared;
mod queue;
mod queue_faults;
mod resharding;
mod spans;
mod starts;
mod streams;
mod troubles;
mod unregistered;
mod world;
#[path = "../../src/written.rs"]
mod written;
