//! A record as a processor sees it: one user record, whether it came alone or inside a KPL
//! aggregate.
//!
//! ```text
//! stream record  seq 49…7 ── not aggregated ──▶ Record { 49…7, sub 0, aggregated: false }
//! stream record  seq 49…8 ── aggregate of 3 ──▶ Record { 49…8, sub 0 } { 49…8, sub 1 } { 49…8, sub 2 }
//! ```
//! Promise: within a shard, records are ordered by `(sequence_number, sub_sequence)`, which is
//! [`Record::position`]; the payload is a slice of what the service sent, never a copy.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::codec::Decode;
use kinesis_core::{HashKey, Position, SequenceNumber};

use crate::processor::ProcessorError;

/// One user record.
///
/// `Debug` prints sizes in place of the payload and the key.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// The key the producer gave, 1 to 256 characters; records of one key are in order.
    pub partition_key: Arc<str>,
    /// The hash key that stood in for the key's MD5, if the producer gave one. Known for members
    /// of an aggregate only: the service does not tell it for plain records.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload.
    pub data: Bytes,
    /// Sequence number of the stream record that carried this one.
    pub sequence_number: SequenceNumber,
    /// Index inside the aggregate, from 0; 0 for a plain record.
    pub sub_sequence: u64,
    /// Whether the record came inside a KPL aggregate.
    pub aggregated: bool,
    /// When the service took the stream record: milliseconds since the Unix epoch.
    pub approximate_arrival_millis: Option<u64>,
}

impl Record {
    /// A record as it would be read from a stream; for tests of processors.
    pub fn new(
        partition_key: impl Into<Arc<str>>,
        data: impl Into<Bytes>,
        sequence_number: SequenceNumber,
    ) -> Self {
        Self {
            partition_key: partition_key.into(),
            explicit_hash_key: None,
            data: data.into(),
            sequence_number,
            sub_sequence: 0,
            aggregated: false,
            approximate_arrival_millis: None,
        }
    }

    /// The typed value that a producer made the payload of, by the same [codec](crate::codec):
    /// `Json`, a codec of your own, or either inside `Compressed`.
    ///
    /// ```
    /// use kinesis_consumer::{ProcessRecordsInput, ProcessorError, codec::Json};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Flight {
    ///     delay: i32,
    /// }
    ///
    /// async fn process_records(input: ProcessRecordsInput) -> Result<(), ProcessorError> {
    ///     for record in input.records.iter() {
    ///         let flight: Flight = record.decode(&Json)?;
    ///         println!("{} is {} minutes late", record.partition_key, flight.delay);
    ///     }
    ///     Ok(input.checkpointer.checkpoint().await?)
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ProcessorError::PoisonAt`] this record, for `?` in a processor: under
    /// [`OnFailure::DeadLetter`](crate::OnFailure::DeadLetter) the records before it are delivered
    /// again, it becomes a dead letter, and those behind it follow.
    pub fn decode<T>(&self, codec: &impl Decode<T>) -> Result<T, ProcessorError> {
        codec
            .decode(&self.data)
            .map_err(|error| ProcessorError::poison_at(self.position(), error))
    }

    /// Where a reader stands once it has dealt with this record.
    pub fn position(&self) -> Position {
        Position::at(self.sequence_number.clone(), self.sub_sequence)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("sequence_number", &self.sequence_number.as_str())
            .field("sub_sequence", &self.sub_sequence)
            .field("aggregated", &self.aggregated)
            .field("data_bytes", &self.data.len())
            .field(
                "approximate_arrival_millis",
                &self.approximate_arrival_millis,
            )
            .finish_non_exhaustive()
    }
}
