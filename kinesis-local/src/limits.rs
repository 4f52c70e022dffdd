//! How much a shard takes and gives per second.
//!
//! Promises: with [`Limits::Off`] nothing is counted; with [`Limits::Aws`] a shard takes 1,000
//! records and 1 MiB a second and gives 5 reads and 2 MiB a second, each with a burst of one
//! second; a read larger than that is given when nothing is owed, and the reads after it wait until
//! its debt is paid, as after the service's 10 MiB.

use kinesis_core::limits::{
    SHARD_READ_BYTES_PER_SECOND, SHARD_READS_PER_SECOND, SHARD_WRITE_BYTES_PER_SECOND,
    SHARD_WRITE_RECORDS_PER_SECOND,
};
use kinesis_core::{TokenBucket, TokenBucketRate};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Which throughput limits the streams have.
#[derive(Copy, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Limits {
    /// None: as fast as the machine goes.
    #[default]
    Off,
    /// The service's quotas per shard.
    Aws,
}

/// The limits of one shard; its buckets are made when they are first asked.
#[derive(Debug, Default)]
pub(crate) struct ShardLimits {
    write: Option<TokenBucket>,
    read: Option<TokenBucket>,
}

impl ShardLimits {
    /// Whether a record of `bytes` may be written now; if so it is counted.
    pub(crate) fn take_write(&mut self, limits: Limits, bytes: usize, now: Instant) -> bool {
        let rate = || {
            TokenBucketRate::per_second(
                SHARD_WRITE_RECORDS_PER_SECOND as f64,
                SHARD_WRITE_BYTES_PER_SECOND as f64,
            )
        };
        take(&mut self.write, rate, limits, bytes, now)
    }

    /// Whether a read that gives `bytes` may be done now; if so it is counted.
    pub(crate) fn take_read(&mut self, limits: Limits, bytes: usize, now: Instant) -> bool {
        let rate = || {
            TokenBucketRate::per_second(
                SHARD_READS_PER_SECOND as f64,
                SHARD_READ_BYTES_PER_SECOND as f64,
            )
        };
        // An empty read counts a byte, so that it waits for a debt like any other.
        take(&mut self.read, rate, limits, bytes.max(1), now)
    }
}

fn take(
    bucket: &mut Option<TokenBucket>,
    rate: impl FnOnce() -> TokenBucketRate,
    limits: Limits,
    bytes: usize,
    now: Instant,
) -> bool {
    match limits {
        Limits::Off => true,
        Limits::Aws => bucket
            .get_or_insert_with(|| TokenBucket::new(rate(), now))
            .try_take(1, bytes as u64, now)
            .is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kinesis_core::Clock;
    use kinesis_core::limits::MIB;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_limits_everything_fits() {
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!((0..5000).all(|_| limits.take_write(Limits::Off, MIB, now)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_takes_a_thousand_records_a_second() {
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!((0..1000).all(|_| limits.take_write(Limits::Aws, 1, now)));
        assert!(!limits.take_write(Limits::Aws, 1, now));
        assert!(limits.take_write(Limits::Aws, 1, now + Duration::from_millis(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_takes_a_mebibyte_a_second() {
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!(limits.take_write(Limits::Aws, MIB, now));
        assert!(!limits.take_write(Limits::Aws, 1000, now));
        assert!(limits.take_write(Limits::Aws, 1000, now + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_ten_mebibytes_the_reads_of_the_next_seconds_are_refused() {
        let mut limits = ShardLimits::default();
        let now = Clock::system().now();
        assert!(limits.take_read(Limits::Aws, 10 * MIB, now));
        assert!(!limits.take_read(Limits::Aws, 0, now + Duration::from_millis(3900)));
        assert!(limits.take_read(Limits::Aws, 0, now + Duration::from_millis(5000)));
    }
}
