//! Metric names, as the KPL has them where they mean the same.
//!
//! Every metric carries the label `stream`; [`ERRORS_BY_CODE`] also `code`, [`FLUSHES_BY_REASON`]
//! also `reason`. Values are recorded
//! through the `metrics` facade: without a recorder they cost nothing. Handles are made once per
//! producer, in `build()`, and counted per batch, not per record, where the loop is hot: install the
//! recorder before that, a later one sees nothing of the producer but [`ERRORS_BY_CODE`].
//!
//! Two producers of one stream in a process share their counters and histograms, which add up. They
//! share the gauges too, which then show whichever spoke last: read
//! [`Producer::outstanding`](crate::Producer::outstanding) of each instead.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit};

/// User records accepted (KPL: UserRecordsReceived).
pub const USER_RECORDS_RECEIVED: &str = "UserRecordsReceived";
/// User records accepted and not yet resolved (KPL: UserRecordsPending).
pub const USER_RECORDS_PENDING: &str = "UserRecordsPending";
/// Bytes accepted and not yet resolved, data and keys. Not in the KPL.
pub const USER_RECORD_BYTES_PENDING: &str = "UserRecordBytesPending";
/// User records acknowledged (KPL: UserRecordsPut, its successes).
pub const USER_RECORDS_PUT: &str = "UserRecordsPut";
/// Bytes of data of acknowledged user records (KPL: UserRecordsDataPut).
pub const USER_RECORDS_DATA_PUT: &str = "UserRecordsDataPut";
/// User records that failed for good. The KPL counts them as zeros of UserRecordsPut.
pub const USER_RECORDS_FAILED: &str = "UserRecordsFailed";
/// User records whose time to live ran out (KPL: UserRecordExpired).
pub const USER_RECORD_EXPIRED: &str = "UserRecordExpired";
/// Kinesis records stored (KPL: KinesisRecordsPut, its successes).
pub const KINESIS_RECORDS_PUT: &str = "KinesisRecordsPut";
/// Bytes of data of stored Kinesis records (KPL: KinesisRecordsDataPut).
pub const KINESIS_RECORDS_DATA_PUT: &str = "KinesisRecordsDataPut";
/// Failures by error code: one per Kinesis record, or one per failed request (KPL: ErrorsByCode).
pub const ERRORS_BY_CODE: &str = "ErrorsByCode";
/// All failures (KPL: AllErrors).
pub const ALL_ERRORS: &str = "AllErrors";
/// Requests beyond the first that an acknowledged user record took (KPL: RetriesPerRecord).
pub const RETRIES_PER_RECORD: &str = "RetriesPerRecord";
/// Milliseconds from acceptance to the first request, oldest member of each Kinesis record
/// (KPL: BufferingTime, per user record and attempt there).
pub const BUFFERING_TIME: &str = "BufferingTime";
/// Milliseconds of a PutRecords request (KPL: RequestTime).
pub const REQUEST_TIME: &str = "RequestTime";
/// Members of a Kinesis record sent (KPL: UserRecordsPerKinesisRecord).
pub const USER_RECORDS_PER_KINESIS_RECORD: &str = "UserRecordsPerKinesisRecord";
/// Kinesis records of a request (KPL: KinesisRecordsPerPutRecordsRequest).
pub const KINESIS_RECORDS_PER_REQUEST: &str = "KinesisRecordsPerPutRecordsRequest";
/// User records of a request (KPL: UserRecordsPerPutRecordsRequest).
pub const USER_RECORDS_PER_REQUEST: &str = "UserRecordsPerPutRecordsRequest";
/// Aggregates that landed in a shard that not all members belong to; their members are sent
/// again (the KPL's error code "Wrong Shard").
pub const WRONG_SHARD: &str = "WrongShard";

/// Milliseconds since the oldest record that is not resolved was accepted; 0 without one. The KPL
/// has it as `getOldestRecordTimeInMillis`.
pub const OLDEST_RECORD_AGE: &str = "OldestRecordAge";
/// Milliseconds for which a shard's quota kept a Kinesis record back; only those that it did.
/// Not in the KPL.
pub const LIMITER_WAIT: &str = "LimiterWait";
/// Kinesis records that left their queue, by `reason`: `full`, `timed` (`record_max_buffered_time`),
/// `manual` (flush, close), `idle` (no request was in flight), `slot` (the last request had left a
/// while ago), `retry`. The KPL logs such counts.
pub const FLUSHES_BY_REASON: &str = "FlushesByReason";
/// Per cent of a request's room that was used: of its records or of its bytes, whichever was
/// nearer to `collection_max_count` or `collection_max_size`. Not in the KPL.
pub const REQUEST_FILL: &str = "RequestFill";

/// Tells the installed recorder what each metric means. Call it once per process.
pub fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(USER_RECORDS_RECEIVED, Unit::Count, "User records accepted.");
    describe_gauge!(
        USER_RECORDS_PENDING,
        Unit::Count,
        "User records accepted, not yet resolved."
    );
    describe_gauge!(
        USER_RECORD_BYTES_PENDING,
        Unit::Bytes,
        "Bytes accepted, not yet resolved."
    );
    describe_counter!(USER_RECORDS_PUT, Unit::Count, "User records acknowledged.");
    describe_counter!(
        USER_RECORDS_DATA_PUT,
        Unit::Bytes,
        "Data of acknowledged user records."
    );
    describe_counter!(
        USER_RECORDS_FAILED,
        Unit::Count,
        "User records that failed for good."
    );
    describe_counter!(
        USER_RECORD_EXPIRED,
        Unit::Count,
        "User records whose time to live ran out."
    );
    describe_counter!(KINESIS_RECORDS_PUT, Unit::Count, "Kinesis records stored.");
    describe_counter!(
        KINESIS_RECORDS_DATA_PUT,
        Unit::Bytes,
        "Data of stored Kinesis records."
    );
    describe_counter!(ERRORS_BY_CODE, Unit::Count, "Failures by error code.");
    describe_counter!(ALL_ERRORS, Unit::Count, "All failures.");
    describe_histogram!(
        RETRIES_PER_RECORD,
        Unit::Count,
        "Requests beyond the first per record."
    );
    describe_histogram!(
        BUFFERING_TIME,
        Unit::Milliseconds,
        "Acceptance to first request."
    );
    describe_histogram!(REQUEST_TIME, Unit::Milliseconds, "Duration of PutRecords.");
    describe_histogram!(
        USER_RECORDS_PER_KINESIS_RECORD,
        Unit::Count,
        "Members per Kinesis record."
    );
    describe_histogram!(
        KINESIS_RECORDS_PER_REQUEST,
        Unit::Count,
        "Kinesis records per request."
    );
    describe_histogram!(
        USER_RECORDS_PER_REQUEST,
        Unit::Count,
        "User records per request."
    );
    describe_counter!(
        WRONG_SHARD,
        Unit::Count,
        "Aggregates whose members had to be sent again."
    );
    describe_gauge!(
        OLDEST_RECORD_AGE,
        Unit::Milliseconds,
        "Age of the oldest record not yet resolved."
    );
    describe_histogram!(
        LIMITER_WAIT,
        Unit::Milliseconds,
        "How long a shard's quota kept a Kinesis record back."
    );
    describe_counter!(
        FLUSHES_BY_REASON,
        Unit::Count,
        "Kinesis records that left their queue, by reason."
    );
    describe_histogram!(
        REQUEST_FILL,
        Unit::Percent,
        "Room of a request that was used."
    );
}

/// The handles of one producer.
pub(crate) struct Meters {
    stream: Arc<str>,
    pub(crate) received: Counter,
    pub(crate) pending: Gauge,
    pub(crate) pending_bytes: Gauge,
    pub(crate) put: Counter,
    pub(crate) data_put: Counter,
    pub(crate) failed: Counter,
    pub(crate) expired: Counter,
    pub(crate) kinesis_put: Counter,
    pub(crate) kinesis_data_put: Counter,
    pub(crate) all_errors: Counter,
    pub(crate) retries: Histogram,
    pub(crate) buffering: Histogram,
    pub(crate) request: Histogram,
    pub(crate) users_per_kinesis: Histogram,
    pub(crate) kinesis_per_request: Histogram,
    pub(crate) users_per_request: Histogram,
    pub(crate) wrong_shard: Counter,
    pub(crate) oldest_age: Gauge,
    pub(crate) limiter_wait: Histogram,
    pub(crate) request_fill: Histogram,
    flushes: [Counter; Flushed::ALL.len()],
}

/// Why a Kinesis record left its queue.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Flushed {
    Full,
    Timed,
    Manual,
    Idle,
    Slot,
    Retry,
}

impl Flushed {
    /// Whether nothing asked for it: it left because it could.
    pub(crate) fn is_unasked(self) -> bool {
        matches!(self, Self::Idle | Self::Slot | Self::Timed)
    }

    const ALL: [(Self, &str); 6] = [
        (Self::Full, "full"),
        (Self::Timed, "timed"),
        (Self::Manual, "manual"),
        (Self::Idle, "idle"),
        (Self::Slot, "slot"),
        (Self::Retry, "retry"),
    ];
}

impl Meters {
    pub(crate) fn new(stream: &Arc<str>) -> Self {
        let counter = |name: &'static str| metrics::counter!(name, "stream" => stream.to_string());
        let gauge = |name: &'static str| metrics::gauge!(name, "stream" => stream.to_string());
        let histogram =
            |name: &'static str| metrics::histogram!(name, "stream" => stream.to_string());
        Self {
            stream: Arc::clone(stream),
            received: counter(USER_RECORDS_RECEIVED),
            pending: gauge(USER_RECORDS_PENDING),
            pending_bytes: gauge(USER_RECORD_BYTES_PENDING),
            put: counter(USER_RECORDS_PUT),
            data_put: counter(USER_RECORDS_DATA_PUT),
            failed: counter(USER_RECORDS_FAILED),
            expired: counter(USER_RECORD_EXPIRED),
            kinesis_put: counter(KINESIS_RECORDS_PUT),
            kinesis_data_put: counter(KINESIS_RECORDS_DATA_PUT),
            all_errors: counter(ALL_ERRORS),
            retries: histogram(RETRIES_PER_RECORD),
            buffering: histogram(BUFFERING_TIME),
            request: histogram(REQUEST_TIME),
            users_per_kinesis: histogram(USER_RECORDS_PER_KINESIS_RECORD),
            kinesis_per_request: histogram(KINESIS_RECORDS_PER_REQUEST),
            users_per_request: histogram(USER_RECORDS_PER_REQUEST),
            wrong_shard: counter(WRONG_SHARD),
            oldest_age: gauge(OLDEST_RECORD_AGE),
            limiter_wait: histogram(LIMITER_WAIT),
            request_fill: histogram(REQUEST_FILL),
            flushes: Flushed::ALL.map(|(_, reason)| {
                let stream = stream.to_string();
                metrics::counter!(FLUSHES_BY_REASON, "stream" => stream, "reason" => reason)
            }),
        }
    }

    pub(crate) fn flushed(&self, why: Flushed) {
        let reasons = Flushed::ALL.iter().zip(&self.flushes);
        for (_, counter) in reasons.filter(|((reason, _), _)| *reason == why) {
            counter.increment(1);
        }
    }

    pub(crate) fn error(&self, code: &str) {
        self.all_errors.increment(1);
        let stream = self.stream.to_string();
        metrics::counter!(ERRORS_BY_CODE, "stream" => stream, "code" => code.to_owned())
            .increment(1);
    }
}

/// A duration as the KPL records it.
pub(crate) fn as_millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
