//! What the producer, the consumer and the stream agree on.
//!
//! ```text
//! partition key ──MD5──▶ hash key ──lookup──▶ shard ──append──▶ sequence number
//!       │                (HashKey)          (ShardMap)         (SequenceNumber)
//!       └─ user record ──many to one──▶ KPL aggregate ──back──▶ user records + sub-sequence
//!          (UserRecord)                 (Aggregate)             (deaggregate)      (Position)
//! ```
//! A typed payload becomes a user record's data, and a value again, by a [`codec`].
//!
//! Everything here is synchronous and without I/O. Time and chance enter the workspace only
//! through [`Clock`] and [`Rand`], so that all of it runs under virtual time and from a seed.
//!
//! ```
//! use kinesis_core::{HashKey, HashKeyRange, UserRecord};
//!
//! let record = UserRecord::new("JFK", r#"{"delay":12}"#);
//! let shards = HashKeyRange::FULL.split_even(4);
//! let shard = shards.iter().position(|range| range.contains(record.hash_key()));
//! assert_eq!(record.hash_key(), HashKey::of_partition_key("JFK"));
//! assert_eq!(shard, Some(3));
//! ```
//!
//! Deliberately absent: any AWS SDK type, any network or file access; serde, but for the
//! codec of the feature `json`. The features `gzip` and `zstd` compress payloads.

pub mod aggregate;
mod backoff;
mod clock;
pub mod codec;
mod hash_key;
pub mod limits;
mod rand;
mod record;
mod sequence;
mod shard;
mod token_bucket;

pub use aggregate::{Aggregate, AggregateLayout, Deaggregated, RawReason, deaggregate};
pub use backoff::Backoff;
pub use clock::{CLOCK_ADVANCE_MAX, Clock, ClockError};
pub use hash_key::{HashKey, HashKeyRange, InvalidHashKey};
pub use rand::Rand;
pub use record::{InvalidRecord, UserRecord};
pub use sequence::{
    InvalidSequenceNumber, Position, SequenceNumber, SequenceOrigin, SequenceParts,
};
pub use shard::{Shard, ShardId, ShardMap};
pub use token_bucket::{TokenBucket, TokenBucketRate};
