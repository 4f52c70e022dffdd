//! What can be set, within which bounds.
//!
//! Durations are read and written as whole milliseconds, as in a KPL properties file. Options that
//! mean what a KPL option means carry its name. An unknown field is refused.

mod kpl;

use std::time::Duration;

use kinesis_core::limits::{
    KIB, MIB, PUT_RECORDS_MAX_BYTES, PUT_RECORDS_MAX_RECORDS, RECORD_MAX_BYTES_DEFAULT,
    RECORD_MAX_BYTES_LARGEST,
};
use serde::{Deserialize, Serialize};

pub use self::kpl::KplWarning;
use crate::Error;
use crate::pipeline::intake::{memory_of, record_that_fits};

/// Most bytes that may be outstanding in one producer.
/// Source: half of what a tokio semaphore counts.
const BUFFERED_BYTES_MAX: usize = usize::MAX >> 4;
/// Most records that may be outstanding in one producer.
/// Source: none, a bound far above any use that keeps the arithmetic safe.
const BUFFERED_RECORDS_MAX: usize = 100_000_000;
/// Most requests in flight. Source: KPL MaxConnections, upper bound.
const IN_FLIGHT_MAX: usize = 256;
/// Smallest `max_user_record_size`. Source: KPL MaxUserRecordSize, lower bound.
const RECORD_MIN_BYTES: usize = 64;
/// Smallest aggregate limit. Source: KPL AggregationMaxSize, lower bound.
const AGGREGATION_MIN_BYTES: usize = 64;
/// Longest duration of any kind: a year. Source: none, keeps the arithmetic safe.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Options of a producer. Every field has a default; [`Settings::validate`] runs in `build()`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Memory in bytes that records may take while they are accepted and not yet resolved, waiting
    /// or in flight. A record counts with 512 bytes and four times its data and partition key: itself,
    /// and its place in a request, which the SDK writes as base64. At the bound `send` and `enqueue`
    /// wait and `try_send` refuses; a record that cannot fit at all is refused. What comes on top does
    /// not grow with the load: the queues of the shards, and the encoding of one request for each
    /// thread of the runtime. Bounds: what a record of `max_user_record_size`, or 1 MiB without one,
    /// takes..=`usize::MAX / 16`.
    /// Source of the default (64 MiB; 65,000 records of 120 bytes): none, reasonable default.
    pub max_buffered_bytes: usize,
    /// Records that may be accepted and not yet resolved. Bounds: 1..=100,000,000.
    /// Source of the default (100,000): none, reasonable default.
    pub max_buffered_records: usize,
    /// Largest record that is accepted, data and partition key together, in bytes; `None` = the
    /// stream's own maximum record size, 1 to 10 MiB. What the stream takes is learnt from
    /// DescribeStreamSummary and bounds this too; until it is known, or if that call is not
    /// allowed, the service decides. Bounds: 64..=10 MiB.
    /// Source of the default (`None`): none; the KPL refuses data of more than 1 MiB.
    pub max_user_record_size: Option<usize>,
    /// Whether records of one shard are packed into aggregates. Consumers must then
    /// de-aggregate, as the KCL does. Source of the default (true): KPL.
    pub aggregation_enabled: bool,
    /// Most user records in an aggregate. Bounds: 1..=4,294,967,295.
    /// Source of the default (4,294,967,295): KPL.
    pub aggregation_max_count: usize,
    /// Largest aggregate in bytes, envelope and partition key included. A record of this size or
    /// more goes by itself. Bounds: 64..=10 MiB.
    /// Source of the default (51,200): KPL.
    pub aggregation_max_size: usize,
    /// The partition key that an aggregate goes under, and what may share one.
    /// Source of the default ([`EnvelopeKey::Constant`]): KPL.
    pub envelope_key: EnvelopeKey,
    /// Most Kinesis records in a request. Bounds: 1..=500. Source of the default: service quota.
    pub collection_max_count: usize,
    /// Most bytes in a request of several Kinesis records; a larger record goes by itself. Bounds:
    /// `aggregation_max_size`..=10 MiB. Source of the default (10 MiB): service quota.
    pub collection_max_size: usize,
    /// The longest that a record waits for company while its shard could take it. It waits less where
    /// that is not worth it: not at all while nothing is in flight, else until a quarter of a round
    /// trip after the last request that left unfilled. 0 sends as soon as the shard and a slot are
    /// free, in more and smaller requests. Bounds: 0..=one year. Source of the default (100 ms): KPL.
    #[serde(with = "millis")]
    pub record_max_buffered_time: Duration,
    /// PutRecords requests at one time. Bounds: 1..=256.
    /// Source of the default (24): KPL MaxConnections.
    pub max_in_flight: usize,
    /// Per cent of a shard's write quota (1000 records/s and 1 MiB/s, keys counted) that this
    /// producer uses at most. Where the shard throttles, because others write to it too, the
    /// producer takes less by itself, and more again when there is room. Of an AUTO stream it is that of all shards
    /// together. Bounds: 1..=1,000,000.
    /// Source of the default (100): service quota. The KPL's 150 has a third of what a saturating
    /// producer sends throttled and sent again; lower it to leave others a share from the start.
    pub rate_limit: u32,
    /// How long after acceptance a record may still be sent; then it fails with
    /// [`ErrorKind::Expired`](crate::ErrorKind::Expired). `None` = for ever. Bounds: 1 ms..=one
    /// year. Source of the default (`None`): none; the KPL's 30 s drops records in an outage.
    #[serde(with = "optional_millis")]
    pub record_ttl: Option<Duration>,
    /// Whether a record that the service throttles fails at once, with
    /// [`ErrorKind::Throttled`](crate::ErrorKind::Throttled), instead of being sent again after a
    /// backoff. Source of the default (false): KPL.
    pub fail_if_throttled: bool,
    /// After how long without an answer a request counts as failed and is sent again. Bounds:
    /// 1 ms..=one year. Source of the default (6 s): KPL.
    #[serde(with = "millis")]
    pub request_timeout: Duration,
    /// Keep the order of each hash key even when a part of a request fails: an aggregate is then
    /// the only Kinesis record of its shard in flight. That allows one `aggregation_max_size` per
    /// shard and round trip (a shard's full 1 MiB/s up to a round trip of 48 ms at the defaults).
    /// `false` lets one request carry several Kinesis records of a shard; one of them that has to
    /// be sent again is then overtaken by the others. And small records pass a large one that waits for
    /// its shard's quota, for a second at most (what stands directly behind it is tried, and nothing
    /// further back if that is too large as well); in order they wait behind it, up to a second for each MiB
    /// of it, and so do those of other keys of the shard. Source of the default (true): none; the KPL has
    /// no such mode.
    pub ordered: bool,
    /// Keep the order of all records of a shard among each other, not only of those of a hash key,
    /// also when a part of a request fails. A request then carries one Kinesis record of a shard:
    /// an aggregate, or a single record. Needs `ordered`, and another `envelope_key` than
    /// [`EnvelopeKey::Common`]. A merge joins the orders of two shards: what is under way to either
    /// of them then may change places with records of the other one, not with its own.
    /// Source of the default (false): none; the KPL has no such mode.
    pub ordered_per_shard: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_buffered_bytes: 64 * MIB,
            max_buffered_records: 100_000,
            max_user_record_size: None,
            aggregation_enabled: true,
            aggregation_max_count: u32::MAX as usize,
            aggregation_max_size: 50 * KIB,
            envelope_key: EnvelopeKey::Constant,
            collection_max_count: PUT_RECORDS_MAX_RECORDS,
            collection_max_size: PUT_RECORDS_MAX_BYTES,
            record_max_buffered_time: Duration::from_millis(100),
            max_in_flight: 24,
            rate_limit: 100,
            record_ttl: None,
            fail_if_throttled: false,
            request_timeout: Duration::from_secs(6),
            ordered: true,
            ordered_per_shard: false,
        }
    }
}

/// The partition key of an aggregate. Each member keeps its own inside; the shard is the same in
/// any case, by the first member's hash key.
#[derive(Copy, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EnvelopeKey {
    /// `"a"`, as the KPL has it.
    #[default]
    Constant,
    /// The first member's.
    FirstMember,
    /// The one of all members: only records of one partition key share an aggregate. For readers
    /// that go by the Kinesis record's key, such as Lambda's parallelization factor. Aggregates are
    /// smaller by as much as there are keys.
    Common,
}

impl Settings {
    /// Reads the text of a KPL properties file. Keys that are not in it have the defaults of this
    /// crate. What has no meaning here, is out of bounds here, or is unknown comes as a warning
    /// each; nothing is left out silently.
    ///
    /// | KPL | here | KPL's default | here |
    /// | --- | --- | --- | --- |
    /// | AggregationEnabled | `aggregation_enabled` | true | true |
    /// | AggregationMaxCount | `aggregation_max_count` | 4,294,967,295 | the same |
    /// | AggregationMaxSize | `aggregation_max_size` (with the envelope's key) | 51,200 | 51,200 |
    /// | CollectionMaxCount | `collection_max_count` | 500 | 500 |
    /// | CollectionMaxSize | `collection_max_size` | 5 MiB | 10 MiB: today's quota |
    /// | FailIfThrottled | `fail_if_throttled` | false | false |
    /// | MaxConnections | `max_in_flight` | 24 | 24 |
    /// | MaxUserRecordSize | `max_user_record_size` (with the key) | 1 MiB | the stream's |
    /// | RateLimit | `rate_limit` | 150 | 100: see there |
    /// | RecordMaxBufferedTime | `record_max_buffered_time` | 100 ms | 100 ms |
    /// | RecordTtl | `record_ttl`; over a year = `None` | 30 s | `None`: see there |
    /// | RequestTimeout | `request_timeout` | 6 s | 6 s |
    /// | – | `max_buffered_bytes`, `max_buffered_records` | no bound | 64 MiB, 100,000 |
    /// | – | `envelope_key` | `"a"` | `"a"` |
    /// | – | `ordered`, `ordered_per_shard` | no such modes | true, false |
    /// | Region, KinesisEndpoint, KinesisPort, Sts…, ConnectTimeout, Proxy…, CaCert…, VerifyCertificate, Credentials… | the SDK client, which has FIPS and dual-stack too | | |
    /// | Metrics…, Cloudwatch… | the program's [`metrics`](crate::metrics) recorder | | |
    /// | LogLevel | the program's `tracing` subscriber | | |
    /// | ThreadingModel, ThreadPoolSize, MinConnections | no threads here | | |
    /// | NativeExecutable, TempDirectory, EnableCoreDumps, …Daemon… | no child process here | | |
    /// | EnableOldestFutureTracker, ReturnUserRecordOnFailure | always so | | |
    /// | UserRecordTimeoutInMillis | `tokio::time::timeout` around the future | | |
    /// | GlueSchemaRegistry… | none; see [`Producer::typed_with`](crate::Producer::typed_with) | | |
    ///
    /// Source: KPL 1.0.7, `KinesisProducerConfiguration`.
    ///
    /// ```
    /// use kinesis_producer::Settings;
    ///
    /// let text = "RecordTtl = 60000\nRegion = eu-central-1\n";
    /// let (settings, warnings) = Settings::from_kpl_properties(text)?;
    /// assert_eq!(settings.record_ttl, Some(std::time::Duration::from_secs(60)));
    /// let expected = "Region is left out: it belongs to the SDK client that the producer is given";
    /// assert_eq!(warnings[0].to_string(), expected);
    /// # Ok::<(), kinesis_producer::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSettings`](crate::ErrorKind::InvalidSettings) for a value that the KPL
    /// itself refuses; the text names the key and its bounds.
    pub fn from_kpl_properties(text: &str) -> Result<(Self, Vec<KplWarning>), Error> {
        kpl::read(text)
    }

    /// Data and key of the largest record that goes through, whatever the stream takes.
    pub(crate) fn record_bytes_max(&self) -> usize {
        let given = self
            .max_user_record_size
            .unwrap_or(RECORD_MAX_BYTES_LARGEST);
        given.min(record_that_fits(self.max_buffered_bytes))
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSettings`](crate::ErrorKind::InvalidSettings), naming the first field
    /// out of bounds and its bounds.
    pub fn validate(&self) -> Result<(), Error> {
        let millisecond = Duration::from_millis(1);
        let record_max = self
            .max_user_record_size
            .unwrap_or(RECORD_MAX_BYTES_DEFAULT);
        let counts = [
            (
                "max_user_record_size",
                record_max,
                RECORD_MIN_BYTES,
                RECORD_MAX_BYTES_LARGEST,
            ),
            (
                "aggregation_max_size",
                self.aggregation_max_size,
                AGGREGATION_MIN_BYTES,
                RECORD_MAX_BYTES_LARGEST,
            ),
            (
                "aggregation_max_count",
                self.aggregation_max_count,
                1,
                u32::MAX as usize,
            ),
            (
                "max_buffered_bytes",
                self.max_buffered_bytes,
                memory_of(1, record_max),
                BUFFERED_BYTES_MAX,
            ),
            (
                "max_buffered_records",
                self.max_buffered_records,
                1,
                BUFFERED_RECORDS_MAX,
            ),
            (
                "collection_max_count",
                self.collection_max_count,
                1,
                PUT_RECORDS_MAX_RECORDS,
            ),
            (
                "collection_max_size",
                self.collection_max_size,
                self.aggregation_max_size,
                PUT_RECORDS_MAX_BYTES,
            ),
            ("max_in_flight", self.max_in_flight, 1, IN_FLIGHT_MAX),
            ("rate_limit", self.rate_limit as usize, 1, 1_000_000),
        ];
        for (field, value, min, max) in counts {
            if !(min..=max).contains(&value) {
                return Err(Error::setting(
                    field,
                    format!("{value} is not in {min}..={max}"),
                ));
            }
        }
        let by_key = !self.ordered || self.envelope_key == EnvelopeKey::Common;
        if self.ordered_per_shard && by_key {
            let needs = "it needs `ordered`, and another `envelope_key` than `common`";
            return Err(Error::setting("ordered_per_shard", needs.to_owned()));
        }
        let durations = [
            (
                "record_max_buffered_time",
                self.record_max_buffered_time,
                Duration::ZERO,
            ),
            (
                "record_ttl",
                self.record_ttl.unwrap_or(millisecond),
                millisecond,
            ),
            ("request_timeout", self.request_timeout, millisecond),
        ];
        for (field, value, min) in durations {
            if !(min..=DURATION_MAX).contains(&value) {
                let bounds = format!("{value:?} is not in {min:?}..={DURATION_MAX:?}");
                return Err(Error::setting(field, bounds));
            }
        }
        Ok(())
    }
}

/// A duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// A duration as whole milliseconds, or nothing.
mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature serde's `with` calls")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value
            .map(|value| u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
            .serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_defaults_are_valid() {
        Settings::default().validate().expect("defaults");
    }

    #[test]
    fn a_value_out_of_bounds_is_named_with_its_bounds() {
        type Change = fn(&mut Settings);
        let cases: [(&str, Change); 7] = [
            ("max_buffered_bytes", |s| s.max_buffered_bytes = 1000),
            ("max_buffered_records", |s| s.max_buffered_records = 0),
            ("collection_max_count", |s| s.collection_max_count = 501),
            ("collection_max_size", |s| s.collection_max_size = 1000),
            ("max_in_flight", |s| s.max_in_flight = 0),
            ("record_ttl", |s| s.record_ttl = Some(Duration::ZERO)),
            ("request_timeout", |s| s.request_timeout = Duration::ZERO),
        ];
        for (field, change) in cases {
            let mut settings = Settings::default();
            change(&mut settings);
            let error = settings.validate().expect_err(field);
            assert_eq!(error.kind(), ErrorKind::InvalidSettings);
            let text = error.to_string();
            assert!(text.contains(field) && text.contains("..="), "{text}");
        }
    }

    #[test]
    fn a_duration_is_taken_up_to_a_year_and_refused_beyond_it() {
        type Change = fn(&mut Settings, Duration);
        let cases: [(&str, Duration, Change); 3] = [
            ("record_ttl", Duration::from_millis(1), |s, d| {
                s.record_ttl = Some(d);
            }),
            ("request_timeout", Duration::from_millis(1), |s, d| {
                s.request_timeout = d;
            }),
            ("record_max_buffered_time", Duration::ZERO, |s, d| {
                s.record_max_buffered_time = d;
            }),
        ];
        for (field, least, change) in cases {
            let validated = |value| {
                let mut settings = Settings::default();
                change(&mut settings, value);
                settings.validate()
            };
            for value in [least, DURATION_MAX] {
                validated(value).expect(field);
            }
            let refused = [
                least.checked_sub(Duration::from_nanos(1)),
                Some(DURATION_MAX + Duration::from_nanos(1)),
                Some(Duration::MAX),
            ];
            for value in refused.into_iter().flatten() {
                let error = validated(value).expect_err(field);
                assert!(error.to_string().contains(field), "{value:?}: {error}");
            }
        }
        // What a file says in milliseconds.
        for text in [
            r#"{"record_ttl": 0}"#,
            r#"{"record_ttl": 18446744073709551615}"#,
        ] {
            let settings: Settings = serde_json::from_str(text).expect("a number");
            settings.validate().expect_err(text);
        }
    }

    #[test]
    fn order_per_shard_is_refused_where_records_overtake_each_other() {
        let ordered = Settings {
            ordered_per_shard: true,
            ..Settings::default()
        };
        ordered.validate().expect("with the defaults");
        for change in [
            |s: &mut Settings| s.ordered = false,
            |s: &mut Settings| s.envelope_key = EnvelopeKey::Common,
        ] {
            let mut settings = ordered.clone();
            change(&mut settings);
            let error = settings.validate().expect_err("no order");
            assert!(error.to_string().contains("ordered_per_shard"), "{error}");
        }
    }

    #[test]
    fn settings_are_read_from_a_file_with_milliseconds_and_defaults() {
        let text = r#"{"record_ttl": 30000, "record_max_buffered_time": 5}"#;
        let settings: Settings = serde_json::from_str(text).expect("valid");
        assert_eq!(settings.record_ttl, Some(Duration::from_secs(30)));
        assert_eq!(settings.record_max_buffered_time, Duration::from_millis(5));
        assert_eq!(settings.max_in_flight, 24);
        let back = serde_json::to_string(&settings).expect("serializable");
        assert_eq!(
            serde_json::from_str::<Settings>(&back).expect("valid"),
            settings
        );
        assert!(serde_json::from_str::<Settings>(r#"{"linger": 5}"#).is_err());
    }
}
