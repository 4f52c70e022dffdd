//! The consumer against kinesis-local in process, under virtual time.

mod accounts;
mod admin;
mod aggregates;
mod chaos;
mod delivery;
mod events;
mod failures;
mod fan_out;
mod faulty;
mod handover;
mod latest;
mod ledger;
mod measured;
mod measured_shards;
mod memory;
mod network;
mod one_by_one;
mod poison;
mod prepared;
mod queue;
mod queue_faults;
mod resharding;
mod starts;
mod streams;
mod troubles;
mod world;
