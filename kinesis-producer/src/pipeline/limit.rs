//! When a shard may be sent to: its quota, and how long it is left alone after a failure.
//!
//! The bucket holds one second of `rate_limit` per cent of the shard's quota in records and bytes;
//! partition keys count, and so does every retry. After a failure the shard waits a random part of
//! an interval that doubles with each failure in a row; a success ends the row.

use std::time::Duration;

use kinesis_core::limits::{SHARD_WRITE_BYTES_PER_SECOND, SHARD_WRITE_RECORDS_PER_SECOND};
use kinesis_core::{Backoff, Rand, TokenBucket, TokenBucketRate};
use tokio::time::Instant;

/// The wait after a failure. Source: none, reasonable default; a shard's quota refills within a
/// second, an outage need not be asked about more than every five.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// What a shard takes from this producer.
pub(crate) fn shard_rate(rate_limit_percent: u32) -> TokenBucketRate {
    let share = f64::from(rate_limit_percent) / 100.0;
    TokenBucketRate::per_second(
        SHARD_WRITE_RECORDS_PER_SECOND as f64 * share,
        SHARD_WRITE_BYTES_PER_SECOND as f64 * share,
    )
}

/// The pace of one shard.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// `None` for records whose shard is not known.
    bucket: Option<TokenBucket>,
    failures_in_a_row: u32,
    not_before: Option<Instant>,
}

impl Limiter {
    pub(crate) fn new(rate: Option<TokenBucketRate>, now: Instant) -> Self {
        let bucket = rate.map(|rate| TokenBucket::new(rate, now));
        Self {
            bucket,
            failures_in_a_row: 0,
            not_before: None,
        }
    }

    /// The earliest time worth asking again; `None` = now.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Pays for one Kinesis record, or says no until [`Self::not_before`].
    pub(crate) fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        if self.not_before.is_some_and(|at| at > now) {
            return false;
        }
        match self
            .bucket
            .as_mut()
            .map(|bucket| bucket.try_take(1, bytes as u64, now))
        {
            Some(Err(wait)) => {
                self.not_before = now.checked_add(wait);
                false
            }
            Some(Ok(())) | None => {
                self.not_before = None;
                true
            }
        }
    }

    /// Notes a failure; `true` for the first in a row.
    pub(crate) fn failed(&mut self, now: Instant, rand: &Rand) -> bool {
        self.not_before = Some(now + BACKOFF.delay(self.failures_in_a_row, rand));
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.failures_in_a_row == 1
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use kinesis_core::Clock;

    use super::*;

    #[test]
    fn a_shard_takes_its_quota_at_once_and_then_at_its_rate() {
        let start = Clock::system().now();
        let mut limiter = Limiter::new(Some(shard_rate(100)), start);
        for _ in 0..1000 {
            assert!(limiter.admit(10, start));
        }
        assert!(!limiter.admit(10, start), "1000 records a second");
        let again = limiter.not_before().expect("a time to ask again");
        assert!(again > start && again < start + Duration::from_millis(2));
        assert!(limiter.admit(10, again));
    }

    #[test]
    fn failures_in_a_row_wait_longer_and_a_success_ends_the_row() {
        let start = Clock::system().now();
        let seed = 11;
        let rand = Rand::seeded(seed);
        let mut limiter = Limiter::new(None, start);
        assert!(limiter.failed(start, &rand), "the first one");
        for row in 1..40 {
            assert!(!limiter.failed(start, &rand));
            let wait = limiter.not_before().expect("waits") - start;
            assert!(wait <= BACKOFF.ceiling(row), "seed {seed}");
        }
        let again = limiter.not_before().expect("waits");
        assert!(again <= start || !limiter.admit(1, start));
        assert!(limiter.admit(1, again));
        limiter.succeeded();
        assert!(limiter.failed(start, &rand), "a new row");
    }
}
