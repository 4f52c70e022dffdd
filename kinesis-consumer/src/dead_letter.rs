//! Dead letters: where a record goes that its processor cannot process, so that the shard goes on
//! and the record is not lost.
//!
//! ```text
//! batch ─ fails ─▶ isolate the guilty record ─▶ DeadLetter ─▶ DeadLetters::write ─ Ok ─▶ next record
//!                                                                 │      ▲
//!                                                                 └ Err ─┘ again, with backoff, for ever
//! ```
//!
//! Promise: a checkpoint passes a record that failed only after [`DeadLetters::write`] returned `Ok`
//! for it. While the destination is away the shard waits, keeps its lease, and nothing passes. (Records that
//! are handled one by one go on behind it, as far as a shard reads ahead, save those of its key.)
//!
//! A letter may be written more than once: after a crash, or a lease lost, between the write and
//! the next checkpoint. (stream, shard, sequence number, sub-sequence number) tell a repeat.
//!
//! Destinations that come with the crate: another stream ([`KinesisDeadLetters`]), objects in S3
//! ([`S3DeadLetters`], with the feature `sink-s3`), a local file ([`FileDeadLetters`]). All of them
//! write [`DeadLetter::to_json`]:
//!
//! | Member | |
//! |---|---|
//! | `stream`, `shard_id` | where the record was read |
//! | `sequence_number` (decimal string), `sub_sequence` (number) | its position there |
//! | `aggregated` | whether it came inside a KPL aggregate |
//! | `partition_key`, `explicit_hash_key` (decimal string or null) | as the producer gave them; the key is empty where there is none, and in a stream cut after 8 KiB |
//! | `approximate_arrival_millis` | when the service took it, since 1970, or null |
//! | `cause` | `retry`, `poison` or `panic`: what the last failure was |
//! | `error` | its text, cut after 4 KiB |
//! | `attempts` | failed calls of the processor that the record was in |
//! | `given_up_at_millis` | since 1970 |
//! | `part`, `parts` | `0` and `1`, save in a stream where the data does not fit into one record |
//! | `data_base64` | the payload, or this part of it |
//!
//! # Order
//! Later records of the same key are processed after their dead letter was stored, without it. Who
//! feeds a dead letter back delivers it after them.
//!
//! Deliberately absent: reading letters back, and limits on how many there may be: where all of a
//! stream is poison, all of it goes here.

mod envelope;
mod file;
#[cfg(feature = "sink-s3")]
mod s3;
mod stream;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kinesis_core::{Position, ShardId};
use serde::{Deserialize, Serialize};

use crate::error::BoxError;
use crate::record::Record;
pub use file::FileDeadLetters;
#[cfg(feature = "sink-s3")]
pub use s3::S3DeadLetters;
pub use stream::KinesisDeadLetters;

/// Most bytes of a failure's text that a letter keeps.
/// Source: none, reasonable default; it leaves room in a record of a stream.
const ERROR_BYTES_MAX: usize = 4 * 1024;

/// Where dead letters go. Shared by all shards of a worker.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Stores one letter so that it survives a crash; `Ok` only then.
    ///
    /// The consumer calls this for one letter of a shard at a time, and for shards side by side. On
    /// `Err`, on a panic, and after a minute without an answer it is called again with the same
    /// letter, with backoff. It may be called again with a letter that was stored before: a
    /// destination that can should put it in the place of the first.
    ///
    /// # Errors
    /// Anything; its text is logged, so it must not hold payload.
    ///
    /// # Cancel safety
    /// The future is dropped when the lease is lost, or when the worker stops. The letter may then be
    /// stored or not.
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError>;
}

#[async_trait]
impl<D: DeadLetters + ?Sized> DeadLetters for Arc<D> {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        (**self).write(letter).await
    }
}

/// How the processor failed for the last time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureCause {
    /// It returned [`ProcessorError::Retry`](crate::ProcessorError::Retry).
    Retry,
    /// It returned [`ProcessorError::Poison`](crate::ProcessorError::Poison) or
    /// [`ProcessorError::PoisonAt`](crate::ProcessorError::PoisonAt).
    Poison,
    /// It panicked.
    Panic,
}

impl FailureCause {
    /// As in a letter, and as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Poison => "poison",
            Self::Panic => "panic",
        }
    }
}

/// A record that was given up, and why.
///
/// `Debug` prints sizes in place of payload, key and the processor's text.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The stream that the record was read from.
    pub stream: Arc<str>,
    /// The shard.
    pub shard_id: ShardId,
    /// The record, with position, keys and payload.
    pub record: Record,
    /// How the processor failed for the last time.
    pub cause: FailureCause,
    /// What it said, with causes, cut after 4 KiB.
    pub error: String,
    /// Failed calls of `process_records` that the record was in, alone or with others, on this
    /// worker; where records are handled one by one, its own failures.
    pub attempts: u32,
    /// When it was given up: milliseconds since the Unix epoch.
    pub given_up_at_millis: u64,
}

impl DeadLetter {
    /// A letter as the consumer would make it, from one attempt; for tests of destinations.
    pub fn new(
        stream: impl Into<Arc<str>>,
        shard_id: ShardId,
        record: Record,
        cause: FailureCause,
        error: impl Into<String>,
    ) -> Self {
        let mut error = error.into();
        error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
        Self {
            stream: stream.into(),
            shard_id,
            record,
            cause,
            error,
            attempts: 1,
            given_up_at_millis: 0,
        }
    }

    /// Where the record is in its shard.
    pub fn position(&self) -> Position {
        self.record.position()
    }

    /// The letter as one line of JSON, without a line break; see the [module](self) for its members.
    pub fn to_json(&self) -> Vec<u8> {
        envelope::part(self, 0, 1, &self.record.data)
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("stream", &self.stream)
            .field("shard_id", &self.shard_id)
            .field("record", &self.record)
            .field("cause", &self.cause)
            .field("error_bytes", &self.error.len())
            .field("attempts", &self.attempts)
            .field("given_up_at_millis", &self.given_up_at_millis)
            .finish()
    }
}

#[cfg(test)]
mod tests;
