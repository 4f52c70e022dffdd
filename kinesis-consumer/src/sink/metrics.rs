//! What a sink counts.

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

pub(super) fn attempted(batch: &Batch, stored: bool) {
    if stored {
        counter!(OBJECTS_STORED).increment(1);
        counter!(RECORDS_STORED).increment(batch.records as u64);
        counter!(BYTES_STORED).increment(batch.body.len() as u64);
    } else {
        counter!(WRITES_FAILED).increment(1);
    }
}
