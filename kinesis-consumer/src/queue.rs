//! Kinesis queues: a stream's records one at a time, in no order, each acknowledged by itself.
//!
//! ```text
//! ReceiveQueueRecords ─▶ handler, several at once ─┬─ Ok ─────▶ AcknowledgeQueueRecords, ten at a time
//!   while there is room        ▲                   ├─ Retry ──▶ visible again after a growing pause
//!                              │                   └─ Poison ─▶ visible again at once, until it is a
//!   UpdateQueueRecordsVisibility, before the                    dead letter of the queue
//!   timeout of a record under way ends
//! ```
//!
//! No lease table, no checkpoints, no shards: the queue knows what was acknowledged. Any number of
//! consumers may share a queue. What is promised:
//!
//! - **At least once.** A record is acknowledged only after its handler returned `Ok`. One that was not,
//!   for whatever reason, comes again after its visibility timeout, until it was received
//!   `MaxReceiveCount` times and is a dead letter.
//! - **A record under way stays hidden**, however long its handler takes (12 hours at most).
//! - **A clean stop** receives no more, lets handlers finish within `shutdown_timeout`, and makes visible
//!   at once what is left. It waits for the receives under way, for `wait_time` at most where nothing
//!   comes: the queue may have counted and hidden records for it already, which would come again only
//!   after their visibility timeout, or be dead letters that no handler ever saw.
//!
//! Dead letters wait in the queue itself: [`QueueSettings::lane`] makes a consumer of them, and
//! [`QueueClient`] receives, restores and acknowledges them by hand.
//!
//! ```no_run
//! use kinesis_consumer::queue::{QueueConsumer, QueueRecord};
//! use kinesis_consumer::{Error, ProcessorError, codec::Json};
//! use tokio_util::sync::CancellationToken;
//!
//! #[derive(serde::Deserialize)]
//! struct Flight {
//!     delay: i32,
//! }
//!
//! async fn board(kinesis: aws_sdk_kinesis::Client, queue_arn: &str) -> Result<(), Error> {
//!     let handler = async |record: QueueRecord| -> Result<(), ProcessorError> {
//!         let flight: Flight = record.decode(&Json)?;
//!         println!("{:?} is {} minutes late", record.partition_key, flight.delay);
//!         Ok(())
//!     };
//!     let consumer = QueueConsumer::builder(queue_arn, kinesis, handler).build()?;
//!     consumer.run(CancellationToken::new()).await
//! }
//! ```
//!
//! Deliberately absent: creating and deleting queues.

mod book;
mod client;
mod consumer;
mod settings;
mod trouble;

use std::fmt;

use bytes::Bytes;
use kinesis_core::codec::Decode;
use kinesis_core::{Deaggregated, RawReason, UserRecord, deaggregate};
use tracing::warn;

use crate::metrics;
use crate::processor::ProcessorError;

pub use client::{Entry, QueueClient};
pub use consumer::{QueueConsumer, QueueConsumerBuilder};
pub use settings::{Lane, QueueSettings};

/// A record received from a queue.
///
/// `Debug` prints sizes in place of the payload and the key.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct QueueRecord {
    /// Names this delivery; every delivery has another.
    pub receipt_handle: String,
    /// Names the record, in every queue and delivery.
    pub record_id: String,
    /// The partition key, if the producer gave one.
    pub partition_key: Option<String>,
    /// The payload of the stream record.
    pub data: Bytes,
    /// When the service took the record: milliseconds since the Unix epoch.
    pub approximate_arrival_millis: Option<u64>,
    /// When it was first received from this queue, likewise.
    pub first_receive_millis: Option<u64>,
    /// How often it was received from this queue, this time included.
    pub receive_count: u32,
}

impl QueueRecord {
    /// The typed value that a producer made the payload of; see [`Record::decode`](crate::Record::decode).
    ///
    /// # Errors
    /// [`ProcessorError::Poison`], for `?` in a handler.
    pub fn decode<T>(&self, codec: &impl Decode<T>) -> Result<T, ProcessorError> {
        codec.decode(&self.data).map_err(ProcessorError::poison)
    }

    /// The user records inside, if a producer aggregated them; otherwise `None`. They are acknowledged
    /// together.
    ///
    /// Members that cannot be read are left out, with a WARN, and counted
    /// ([`metrics::QUEUE_CORRUPT_MEMBERS_DROPPED`]): they are lost when the record is acknowledged. What
    /// begins like an aggregate and is none is counted too
    /// ([`metrics::QUEUE_CORRUPT_AGGREGATES`]).
    pub fn members(&self) -> Option<Vec<UserRecord>> {
        match deaggregate(&self.data) {
            Deaggregated::Members(members) => Some(members),
            Deaggregated::Damaged { members, reason } => {
                let all = members.len();
                let members: Vec<_> = members.into_iter().flatten().collect();
                let lost = all - members.len();
                ::metrics::counter!(metrics::QUEUE_CORRUPT_MEMBERS_DROPPED).increment(lost as u64);
                warn!(
                    record_id = self.record_id,
                    members = lost,
                    reason,
                    "Members of an aggregate cannot be read: the others are processed without them."
                );
                Some(members)
            }
            Deaggregated::Raw(RawReason::NotAggregated) => None,
            Deaggregated::Raw(RawReason::Checksum | RawReason::Malformed(_)) => {
                ::metrics::counter!(metrics::QUEUE_CORRUPT_AGGREGATES).increment(1);
                warn!(
                    record_id = self.record_id,
                    "A record begins like an aggregate and cannot be opened: it is taken as it is."
                );
                None
            }
        }
    }
}

impl fmt::Debug for QueueRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueRecord")
            .field("record_id", &self.record_id)
            .field("data_bytes", &self.data.len())
            .field("receive_count", &self.receive_count)
            .finish_non_exhaustive()
    }
}
