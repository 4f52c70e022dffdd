//! The consumer against kinesis-local in process, under virtual time.

mod aggregates;
mod chaos;
mod delivery;
mod failures;
mod handover;
mod resharding;
mod world;
