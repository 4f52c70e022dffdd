//! Settings of the consumer: plain values with defaults, checked once when the consumer is built.
//!
//! Names are those of the KCL where the meaning is the same, and so are the defaults unless the
//! field says why not. Durations are written as whole milliseconds in serialised form, with the
//! unit in the name (`idle_time_between_reads_millis`).
//!
//! Deliberately absent: components (clients, clock, randomness), which go to the builder.

mod retrieval;

use std::time::Duration;

use kinesis_core::limits;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
pub use crate::lease::{
    BillingMode, LeaseAssignment, LeaseSettings, LeaseTableSettings, UtilizationSettings,
};
pub use retrieval::{FanOutSettings, Retrieval};

/// Source: KCL `PollingConfig.maxRecords`, which is the service's limit for `GetRecords`.
const MAX_RECORDS_DEFAULT: u32 = 10_000;

/// One second in place of the KCL's 1.5 s: it still leaves four of the five reads per second of a
/// shard to other applications, and half of it is the mean wait a record adds at the tip.
/// Source: measured against the service's limit, none stricter known.
const IDLE_TIME_BETWEEN_READS_DEFAULT: Duration = Duration::from_secs(1);

/// Source: KCL `PollingConfig.MIN_IDLE_MILLIS_BETWEEN_READS`; five reads a second, the quota.
const IDLE_TIME_BETWEEN_READS_MIN: Duration = Duration::from_millis(200);

/// Source: KCL `PollingConfig.kinesisRequestTimeout`.
const KINESIS_REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Source: KCL `RecordsFetcherFactory.maxByteSize`.
const MAX_BYTE_SIZE_DEFAULT: usize = 8 * 1024 * 1024;

/// Source: KCL `RecordsFetcherFactory.maxRecordsCount`.
const MAX_RECORDS_COUNT_DEFAULT: usize = 30_000;

/// Source: none, reasonable default: 25 full answers of `GetRecords` in flight or buffered at once.
const MAX_BUFFERED_BYTES_DEFAULT: usize = 256 * 1024 * 1024;

/// Two full answers: with room for one a single stuck shard could take all of it.
/// Source: the service's limit for an answer.
const MAX_BUFFERED_BYTES_MIN: usize = 2 * limits::GET_RECORDS_MAX_BYTES;

/// Source: KCL `GracefulLeaseHandoffConfig.gracefulLeaseHandoffTimeoutMillis`.
const SHUTDOWN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Source: KCL `LifecycleConfig.taskBackoffTimeMillis`; here the base of a growing, jittered pause.
const TASK_BACKOFF_DEFAULT: Duration = Duration::from_millis(500);

/// Source: none, reasonable default: a processor that depends on a service that came back is not
/// idle for longer.
const TASK_BACKOFF_MAX_DEFAULT: Duration = Duration::from_secs(30);

/// Upper bound of every duration here, so that deadlines cannot overflow.
/// Source: none, reasonable default.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Where an application starts in a shard that it never checkpointed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialPosition {
    /// The oldest record kept. The default, because it is the only one that cannot miss a record.
    #[default]
    TrimHorizon,
    /// The next record written, counted from when the leases were made, by the service's clock (the
    /// header `Date` of its answers, in whole seconds, so up to a second early). The instant is stored
    /// with the lease: every worker that reads the shard before its first checkpoint starts there, so
    /// nothing that came since is missed, however long it takes until reading succeeds, and however wrong
    /// the clocks of workers are. (A KCL that gets such a lease knows no instant: it begins at the newest
    /// record of that moment.) For rows that a KCL made, which name no instant, it is when a worker
    /// begins with the shard, as it is in the KCL for all: what comes between two workers of which the
    /// first did not checkpoint is missed.
    Latest,
    /// The first record at or after this instant, in milliseconds since the Unix epoch. It is stored
    /// with the lease of a shard that is new to the application, and goes on to the shard's children
    /// while nothing was read: another instant at the next start changes nothing for a stream that
    /// has leases. Only for rows that a KCL made, which have no instant, each worker's own setting
    /// counts. A KCL in the same fleet has to be set to the same instant: it reads from its own, and one
    /// that is set to begin elsewhere fails to read such a lease, and keeps it.
    AtTimestamp(u64),
}

/// What happens to a batch that its processor fails, by an error or a panic. See
/// [`ProcessorError`](crate::ProcessorError) for what each error means under each of these. Where records are
/// handled one by one ([`for_each`](crate::for_each), [`record_stream`](crate::record_stream)) it is the record
/// that fails, not its batch: it is tried, and given up, by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OnFailure {
    /// It comes again until it succeeds, and nothing behind it is delivered before. The default.
    #[default]
    Retry,
    /// The guilty record is found, by delivering ever smaller parts of the batch, and goes to the
    /// dead letters; the others are processed in order. Needs
    /// [`ConsumerBuilder::dead_letters`](crate::ConsumerBuilder::dead_letters).
    DeadLetter {
        /// Calls, at least 1, with the whole batch before the search begins, and with a single
        /// record before it is given up. The pauses between them (`task_backoff`, growing) are what
        /// a failure that is not the record's own has to be over in: 10 attempts at the default
        /// backoff outlast about one minute. A failure of kind `Poison` counts as the last
        /// attempt; with `u32::MAX` only such records become dead letters.
        attempts: u32,
    },
    /// The shard stops: its processor gets `shutdown_requested`, nothing more of the shard is
    /// delivered, and its lease is kept, idle, until the worker stops or is to hand it over; the
    /// next owner tries again. Other shards go on.
    Stop {
        /// Calls, at least 1, with the batch before that. A failure of kind `Poison` counts as the
        /// last attempt.
        attempts: u32,
    },
}

/// How the consumer behaves. Checked by `ConsumerBuilder::build`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where to start in a shard without a checkpoint.
    pub initial_position: InitialPosition,
    /// How records come out of the stream.
    pub retrieval: Retrieval,
    /// Most stream records one `GetRecords` asks for, 1 to 10,000; fewer are asked for when those that
    /// came last were so large that they would be more than the 2 MiB that a shard gives in a second.
    /// A batch may hold more user records, since aggregates are opened.
    pub max_records: u32,
    /// Pause between reads at the tip of a shard, 200 ms to 24 h. While the reader is behind, it
    /// reads as fast as the quota of five reads and 2 MiB a second allows.
    #[serde(rename = "idle_time_between_reads_millis", with = "millis")]
    pub idle_time_between_reads: Duration,
    /// Longest wait for one answer of Kinesis, 1 s to 24 h; then the call is made again.
    #[serde(rename = "kinesis_request_timeout_millis", with = "millis")]
    pub kinesis_request_timeout: Duration,
    /// Bytes of one shard, fetched and not yet processed, at which reading ahead stops. Tested
    /// before a fetch, as in the KCL, so that one answer (at most 10 MiB) may go over it.
    pub max_byte_size: usize,
    /// User records of one shard, fetched and not yet processed, at which reading ahead stops.
    pub max_records_count: usize,
    /// Bytes that all shards of this worker together may hold fetched and not yet processed, at
    /// least 20 MiB: payload, keys and what a record takes besides, about 130 B of each user record and as
    /// much of the record of the stream that it came in. Each read reserves from it beforehand what it
    /// expects. An answer that is larger waits in its connection until there is room for it, and one whose
    /// aggregates take more than was reserved is not opened before; after 15 s it is dropped, and fewer
    /// records are asked for, or the shard is polled. So the sum stays below this and a constant, however
    /// suddenly records grow and however small the members of aggregates are.
    ///
    /// The constant: 16 KiB for each shard; eight answers that wait unopened, of 2 MiB as a rule and 10 MiB
    /// at most; and what one record takes that alone takes more than its part of this, five eighths or one
    /// eighth. Not counted are the transport's buffers and what reading an answer takes for a moment.
    ///
    /// Three eighths are kept for shards that hold nothing, so that shards whose processors are stuck do
    /// not stop the others: a quarter in small pieces, one for each shard, and an eighth for what cannot
    /// be had in smaller steps. Where shards that are stuck since there were fewer hold all pieces, one of
    /// 16 KiB is there in any case. By enhanced fan-out any event (up to 1 MB) that is larger than a piece
    /// cannot be had in smaller steps; when stuck shards hold that part too, a shard is polled in small
    /// steps instead, if [`FanOutSettings::fall_back_to_polling`] lets it, and otherwise waits.
    pub max_buffered_bytes: usize,
    /// From the request to stop, or to hand a lease over, until the lease is released, 100 ms to
    /// 24 h. The batch in hand may use two thirds of it, `shutdown_requested` the rest. In a handoff
    /// there is no more time than `lease.handoff_timeout` less a tenth of it, 2 s at most, for the
    /// release: give that as long if processors need all of this one.
    #[serde(rename = "shutdown_timeout_millis", with = "millis")]
    pub shutdown_timeout: Duration,
    /// Base of the jittered pause before a failed call of a processor is made again, 1 ms to 24 h.
    #[serde(rename = "task_backoff_millis", with = "millis")]
    pub task_backoff: Duration,
    /// Longest pause before a failed call of a processor is made again; at least `task_backoff`.
    #[serde(rename = "task_backoff_max_millis", with = "millis")]
    pub task_backoff_max: Duration,
    /// What happens to a batch that fails.
    pub on_failure: OnFailure,
    /// The lease table and how workers share it.
    pub lease: LeaseSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            initial_position: InitialPosition::default(),
            retrieval: Retrieval::default(),
            max_records: MAX_RECORDS_DEFAULT,
            idle_time_between_reads: IDLE_TIME_BETWEEN_READS_DEFAULT,
            kinesis_request_timeout: KINESIS_REQUEST_TIMEOUT_DEFAULT,
            max_byte_size: MAX_BYTE_SIZE_DEFAULT,
            max_records_count: MAX_RECORDS_COUNT_DEFAULT,
            max_buffered_bytes: MAX_BUFFERED_BYTES_DEFAULT,
            shutdown_timeout: SHUTDOWN_TIMEOUT_DEFAULT,
            task_backoff: TASK_BACKOFF_DEFAULT,
            task_backoff_max: TASK_BACKOFF_MAX_DEFAULT,
            on_failure: OnFailure::default(),
            lease: LeaseSettings::default(),
        }
    }
}

impl Settings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] that names the first field out of bounds, and the bound.
    pub fn validate(&self) -> Result<(), Error> {
        if let Retrieval::FanOut(fan_out) = &self.retrieval {
            fan_out.validate()?;
        }
        let most = u32::try_from(limits::GET_RECORDS_MAX_RECORDS).unwrap_or(u32::MAX);
        if self.max_records == 0 || self.max_records > most {
            return Err(out_of_bounds(
                "max_records",
                format_args!("1 to {most}"),
                self.max_records,
            ));
        }
        duration(
            "idle_time_between_reads",
            self.idle_time_between_reads,
            IDLE_TIME_BETWEEN_READS_MIN,
        )?;
        duration(
            "kinesis_request_timeout",
            self.kinesis_request_timeout,
            Duration::from_secs(1),
        )?;
        duration(
            "shutdown_timeout",
            self.shutdown_timeout,
            Duration::from_millis(100),
        )?;
        duration("task_backoff", self.task_backoff, Duration::from_millis(1))?;
        duration("task_backoff_max", self.task_backoff_max, self.task_backoff)?;
        for (field, value) in [
            ("max_byte_size", self.max_byte_size),
            ("max_records_count", self.max_records_count),
        ] {
            if value == 0 {
                return Err(out_of_bounds(field, format_args!("at least 1"), value));
            }
        }
        if let OnFailure::DeadLetter { attempts: 0 } | OnFailure::Stop { attempts: 0 } =
            self.on_failure
        {
            return Err(out_of_bounds("on_failure.attempts", "at least 1", 0));
        }
        if self.max_buffered_bytes < MAX_BUFFERED_BYTES_MIN {
            return Err(out_of_bounds(
                "max_buffered_bytes",
                format_args!("at least {MAX_BUFFERED_BYTES_MIN} (two full answers of GetRecords)"),
                self.max_buffered_bytes,
            ));
        }
        self.lease.validate()
    }
}

fn duration(field: &str, value: Duration, least: Duration) -> Result<(), Error> {
    if value >= least && value <= DURATION_MAX {
        return Ok(());
    }
    Err(out_of_bounds(
        field,
        format_args!(
            "{} ms to {} ms",
            least.as_millis(),
            DURATION_MAX.as_millis()
        ),
        format_args!("{} ms", value.as_millis()),
    ))
}

/// Whether `value` is a name of so many characters.
///
/// Source: the same alphabet in both services: letters, digits, `_`, `.` and `-`.
pub(crate) fn check_name(
    field: &str,
    value: &str,
    chars: std::ops::RangeInclusive<usize>,
) -> Result<(), Error> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if chars.contains(&value.len()) && value.chars().all(known) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!(
            "{field} must be {} to {} letters, digits, '_', '.' or '-', not {value:?}",
            chars.start(),
            chars.end()
        ),
    ))
}

fn out_of_bounds(
    field: &str,
    bound: impl std::fmt::Display,
    value: impl std::fmt::Display,
) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("setting {field} must be {bound}, not {value}"),
    )
}

/// Durations as whole milliseconds; also for the settings embedded in these.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests;
