//! What a sink counts: for a metrics recorder, and for whoever holds the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Unit, counter, describe_counter};

use super::batch::Batch;

/// Counter: objects stored.
pub const OBJECTS_STORED: &str = "kinesis_consumer_sink_objects_stored_total";
/// Counter: records in the objects stored.
pub const RECORDS_STORED: &str = "kinesis_consumer_sink_records_stored_total";
/// Counter: bytes of the objects stored.
pub const BYTES_STORED: &str = "kinesis_consumer_sink_bytes_stored_total";
/// Counter: batches whose object was not stored after all attempts of one round; they are tried again.
pub const WRITES_FAILED: &str = "kinesis_consumer_sink_writes_failed_total";

/// Gives the recorder the descriptions and units of a sink's metrics.
pub fn describe() {
    describe_counter!(OBJECTS_STORED, Unit::Count, "Objects stored.");
    describe_counter!(
        RECORDS_STORED,
        Unit::Count,
        "Records in the objects stored."
    );
    describe_counter!(BYTES_STORED, Unit::Bytes, "Bytes of the objects stored.");
    describe_counter!(
        WRITES_FAILED,
        Unit::Count,
        "Batches whose object was not stored after all attempts of one round."
    );
}

/// What the processors of one sink have stored, since the sink was built, on all shards. A batch
/// that had to be written again counts again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stored {
    /// Objects stored.
    pub objects: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// The running count behind [`Stored`]; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    objects: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    pub(super) fn read(&self) -> Stored {
        Stored {
            objects: self.counts.objects.load(Ordering::Relaxed),
            records: self.counts.records.load(Ordering::Relaxed),
            bytes: self.counts.bytes.load(Ordering::Relaxed),
        }
    }

    pub(super) fn stored(&self, batch: &Batch) {
        let (records, bytes) = (batch.records as u64, batch.body.len() as u64);
        self.counts.objects.fetch_add(1, Ordering::Relaxed);
        self.counts.records.fetch_add(records, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        counter!(OBJECTS_STORED).increment(1);
        counter!(RECORDS_STORED).increment(records);
        counter!(BYTES_STORED).increment(bytes);
    }
}

pub(super) fn write_failed() {
    counter!(WRITES_FAILED).increment(1);
}
