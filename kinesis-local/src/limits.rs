//! How much is taken and given per second, and how often each operation may be called.
//!
//! Promises: what is not limited is not counted. With the service's quotas ([`Limits::Aws`]) a shard
//! takes 1,000 records and 1 MiB a second and gives 5 reads and 2 MiB a second; each limit has a
//! burst of one second. A read larger than that is given when nothing is owed, and closes the shard
//! to reads for as long as it would have taken at that rate: 5 s after the service's 10 MiB. A call that is refused for its
//! form is not counted.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinesis_core::limits::{
    FAN_OUT_BYTES_PER_SECOND, ITERATORS_PER_SECOND, SHARD_READ_BYTES_PER_SECOND,
    SHARD_READS_PER_SECOND, SHARD_WRITE_BYTES_PER_SECOND, SHARD_WRITE_RECORDS_PER_SECOND,
};
use kinesis_core::{TokenBucket, TokenBucketRate};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// SubscribeToShard calls of a consumer on a shard per second. Source: `SubscribeToShard`.
const SUBSCRIPTIONS_PER_SECOND: u32 = 1;

/// Which limits per second the service enforces. The ones of a request itself (records in a
/// PutRecords, bytes of a record) are always enforced.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Limits {
    /// None: as fast as the machine goes.
    Off,
    /// The service's quotas.
    #[default]
    Aws,
    /// Quotas of your own.
    Given(Box<Quotas>),
}

/// The numbers behind [`Limits`]; each may be replaced, and 0 turns one off. In a file (`--limits
/// FILE`, TOML or JSON) what is left out is the service's.
///
/// ```
/// use kinesis_local::{KinesisLocal, Limits, Quotas};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), kinesis_local::Error> {
/// let mut quotas = Quotas::default();
/// quotas.shard_reads_per_second = 50;
/// quotas.calls_per_second.insert("CreateStream".to_owned(), 0);
/// let local = KinesisLocal::builder().limits(Limits::Given(Box::new(quotas))).start().await?;
/// # local.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Quotas {
    /// Bytes that a shard takes, data and partition keys. Default: 1 MiB.
    pub shard_write_bytes_per_second: u32,
    /// Records that a shard takes. Default: 1,000.
    pub shard_write_records_per_second: u32,
    /// Bytes that a shard gives by GetRecords, all readers together. Default: 2 MiB.
    pub shard_read_bytes_per_second: u32,
    /// GetRecords calls that a shard answers, all readers together. Default: 5.
    pub shard_reads_per_second: u32,
    /// GetShardIterator calls that a shard answers. Default: 5.
    pub shard_iterators_per_second: u32,
    /// Bytes that a shard pushes to one consumer of enhanced fan-out. Default: 2 MiB.
    pub fan_out_bytes_per_second: u32,
    /// SubscribeToShard calls of one consumer on one shard. Default: 1.
    pub subscriptions_per_second: u32,
    /// Calls of an operation, by its name, per account and region, or per stream where the service
    /// counts so (ListShards, and the operations on consumers apart from RegisterStreamConsumer).
    /// Operations that are not named have the service's number, if it has one.
    pub calls_per_second: BTreeMap<String, u32>,
}

impl Default for Quotas {
    /// The service's. Source: `kinesis_core::limits`.
    fn default() -> Self {
        Self {
            shard_write_bytes_per_second: SHARD_WRITE_BYTES_PER_SECOND as u32,
            shard_write_records_per_second: SHARD_WRITE_RECORDS_PER_SECOND as u32,
            shard_read_bytes_per_second: SHARD_READ_BYTES_PER_SECOND as u32,
            shard_reads_per_second: SHARD_READS_PER_SECOND as u32,
            shard_iterators_per_second: ITERATORS_PER_SECOND as u32,
            fan_out_bytes_per_second: FAN_OUT_BYTES_PER_SECOND as u32,
            subscriptions_per_second: SUBSCRIPTIONS_PER_SECOND,
            calls_per_second: BTreeMap::new(),
        }
    }
}

impl Limits {
    /// The numbers; `None`: nothing is limited.
    pub(crate) fn quotas(&self) -> Option<Arc<Quotas>> {
        match self {
            Self::Off => None,
            Self::Aws => Some(Arc::default()),
            Self::Given(quotas) => Some(Arc::new((**quotas).clone())),
        }
    }
}

/// The limits of one shard; its buckets are made when they are first asked.
#[derive(Debug, Default)]
pub(crate) struct ShardLimits {
    write: Option<TokenBucket>,
    read: Option<TokenBucket>,
    /// When reads are answered again after one that was larger than a second's worth.
    reads_open_at: Option<Instant>,
    iterators: Option<TokenBucket>,
}

impl ShardLimits {
    /// Whether a record of `bytes` may be written now; if so it is counted.
    pub(crate) fn take_write(
        &mut self,
        quotas: Option<&Quotas>,
        bytes: usize,
        now: Instant,
    ) -> bool {
        quotas.is_none_or(|quotas| {
            let rate = rate(
                quotas.shard_write_records_per_second,
                quotas.shard_write_bytes_per_second,
            );
            take(&mut self.write, rate, bytes, now)
        })
    }

    /// Whether a read that gives `bytes` may be done now; if so it is counted.
    pub(crate) fn take_read(
        &mut self,
        quotas: Option<&Quotas>,
        bytes: usize,
        now: Instant,
    ) -> bool {
        quotas.is_none_or(|quotas| {
            let rate = rate(
                quotas.shard_reads_per_second,
                quotas.shard_read_bytes_per_second,
            );
            if self.reads_open_at.is_some_and(|open_at| now < open_at) {
                return false;
            }
            // An empty read counts a byte, so that it waits for a debt like any other.
            let given = take(&mut self.read, rate, bytes.max(1), now);
            let seconds = bytes as f64 / rate.bytes_per_second;
            if given && seconds > 1.0 {
                // The bucket alone would be a second early: it was full when the read began.
                let pause = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
                self.reads_open_at = now.checked_add(pause);
            }
            given
        })
    }

    /// Whether an iterator may be handed out now; if so it is counted.
    pub(crate) fn take_iterator(&mut self, quotas: Option<&Quotas>, now: Instant) -> bool {
        quotas.is_none_or(|quotas| {
            let rate = rate(quotas.shard_iterators_per_second, 0);
            take(&mut self.iterators, rate, 0, now)
        })
    }
}

/// What a consumer's throughput on a shard allows; `None`: it is not limited.
pub(crate) fn fan_out_pace(quotas: Option<&Quotas>, now: Instant) -> Option<TokenBucket> {
    let bytes = quotas?.fan_out_bytes_per_second;
    (bytes > 0).then(|| TokenBucket::new(rate(0, bytes), now))
}

/// Calls counted by what they are: at most one bucket for each kind.
#[derive(Debug)]
pub(crate) struct Calls<K>(Mutex<HashMap<K, TokenBucket>>);

impl<K> Default for Calls<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Calls<K> {
    /// Whether this call may be made now, of `per_second`; if so it is counted.
    pub(crate) fn take(&self, kind: K, per_second: u32, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(kind);
        let bucket = bucket.or_insert_with(|| TokenBucket::new(rate(per_second, 0), now));
        bucket.try_take(1, 0, now).is_ok()
    }
}

/// A rate of which 0 means that it is not limited.
fn rate(records: u32, bytes: u32) -> TokenBucketRate {
    let or_unlimited = |number: u32| match number {
        0 => f64::MAX / 4.0,
        number => f64::from(number),
    };
    TokenBucketRate::per_second(or_unlimited(records), or_unlimited(bytes))
}

fn take(
    bucket: &mut Option<TokenBucket>,
    rate: TokenBucketRate,
    bytes: usize,
    now: Instant,
) -> bool {
    bucket
        .get_or_insert_with(|| TokenBucket::new(rate, now))
        .try_take(1, bytes as u64, now)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use kinesis_core::Clock;
    use kinesis_core::limits::MIB;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_limits_everything_fits() {
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!((0..5000).all(|_| limits.take_write(None, MIB, now)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_takes_a_thousand_records_a_second() {
        let aws = Quotas::default();
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!((0..1000).all(|_| limits.take_write(Some(&aws), 1, now)));
        assert!(!limits.take_write(Some(&aws), 1, now));
        assert!(limits.take_write(Some(&aws), 1, now + Duration::from_millis(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_takes_a_mebibyte_a_second() {
        let aws = Quotas::default();
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!(limits.take_write(Some(&aws), MIB, now));
        assert!(!limits.take_write(Some(&aws), 1000, now));
        assert!(limits.take_write(Some(&aws), 1000, now + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_ten_mebibytes_the_reads_of_the_next_seconds_are_refused() {
        let aws = Quotas::default();
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!(limits.take_read(Some(&aws), 10 * MIB, now));
        assert!(!limits.take_read(Some(&aws), 0, now + Duration::from_millis(4900)));
        assert!(limits.take_read(Some(&aws), 2 * MIB, now + Duration::from_millis(5000)));
        assert!(!limits.take_read(Some(&aws), 0, now + Duration::from_millis(5000)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_of_a_second_s_worth_leaves_the_reads_after_it_to_the_rate() {
        let aws = Quotas::default();
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!(limits.take_read(Some(&aws), 2 * MIB, now));
        assert!(limits.take_read(Some(&aws), MIB, now + Duration::from_millis(500)));
        assert!(!limits.take_read(Some(&aws), 3 * MIB, now + Duration::from_millis(1499)));
        assert!(limits.take_read(Some(&aws), 3 * MIB, now + Duration::from_millis(1501)));
        assert!(!limits.take_read(Some(&aws), 0, now + Duration::from_millis(3000)));
        assert!(limits.take_read(Some(&aws), 0, now + Duration::from_millis(3002)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_of_nothing_is_not_limited() {
        let quotas = Quotas {
            shard_write_records_per_second: 0,
            shard_reads_per_second: 0,
            shard_read_bytes_per_second: 0,
            shard_iterators_per_second: 0,
            fan_out_bytes_per_second: 0,
            ..Quotas::default()
        };
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!((0..5000).all(|_| limits.take_write(Some(&quotas), 1, now)));
        assert!((0..5000).all(|_| limits.take_read(Some(&quotas), MIB, now)));
        assert!((0..5000).all(|_| limits.take_iterator(Some(&quotas), now)));
        assert!(fan_out_pace(Some(&quotas), now).is_none());
        // Its bytes are limited all the same.
        let mut limits = ShardLimits::default();
        assert!(limits.take_write(Some(&quotas), MIB, now));
        assert!(!limits.take_write(Some(&quotas), MIB, now));
    }

    #[test]
    fn a_file_replaces_what_it_names() {
        let quotas: Quotas = serde_json::from_str(r#"{"shard_reads_per_second": 9}"#).unwrap();
        let expected = Quotas {
            shard_reads_per_second: 9,
            ..Quotas::default()
        };
        assert_eq!(quotas, expected);
        let error = serde_json::from_str::<Quotas>(r#"{"reads": 9}"#).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `reads`"),
            "{error}"
        );
    }
}
