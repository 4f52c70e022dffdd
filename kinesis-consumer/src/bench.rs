//! The way of a record through the consumer without the SDK, for the benches of this crate.
//! No part of the API: it changes without notice.
//!
//! [`Reading::run`] does what a shard's two tasks do between them: an answer of `GetRecords` is opened,
//! checked against the shard's range, put into the buffer, and taken out as the batch that a
//! processor is handed.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use kinesis_core::{HashKeyRange, Position, SequenceNumber, limits};
use tokio::sync::mpsc;

pub use crate::lease::bench::{Fleet, ManyStreams, Moves};

use crate::fetch::buffer::{BufferLimits, Filler, buffer};
use crate::fetch::unpack::{StreamRecord, Unpacker};
use crate::fetch::{Batch, Budget, Fetched};
use crate::record::Record;

/// More than an answer takes. Source: none.
const BUDGET_BYTES: usize = 1 << 30;

/// A shard's reader without a client.
pub struct Reading {
    unpacker: Unpacker,
    filler: Filler,
    receiver: mpsc::Receiver<Fetched>,
    answer: Vec<StreamRecord>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Reading {
    /// A reader of a shard of `range` that is answered with `aggregates` each time it asks.
    ///
    /// # Panics
    /// Never: a counted number is a sequence number.
    #[must_use]
    pub fn new(range: HashKeyRange, aggregates: &[Bytes]) -> Self {
        let record = |(data, number): (&Bytes, u64)| StreamRecord {
            sequence_number: SequenceNumber::try_from(number.to_string()).expect("a number"),
            partition_key: "a".into(),
            data: data.clone(),
            approximate_arrival_millis: Some(0),
        };
        let limits = BufferLimits {
            bytes: usize::MAX,
            records: usize::MAX,
        };
        let (filler, receiver) = buffer(limits, &Budget::new(BUDGET_BYTES));
        Self {
            unpacker: Unpacker::new(&Position::TrimHorizon, Some(range)),
            filler,
            receiver,
            answer: aggregates.iter().zip(1..).map(record).collect(),
        }
    }

    /// Reads one answer; hands its batch to `process`.
    ///
    /// # Panics
    /// If there is no batch.
    pub fn run(&mut self, process: impl FnOnce(&[Record])) {
        let unpacked = self.unpacker.unpack(self.answer.clone());
        let (bytes, count) = (unpacked.bytes, unpacked.records.len());
        let slot = self
            .filler
            .slot(limits::GET_RECORDS_MAX_BYTES)
            .now_or_never()
            .flatten();
        slot.expect("room")
            .send(bytes, count, |hold| Batch::new(unpacked.records, 0, hold));
        match self.receiver.recv().now_or_never().flatten() {
            Some(Fetched::Batch(batch)) => process(&Arc::clone(&batch.records)),
            _ => panic!("a batch was sent"),
        }
    }
}
