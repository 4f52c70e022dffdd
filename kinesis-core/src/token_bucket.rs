//! A token bucket of two dimensions: records and bytes, taken together or not at all.
//!
//! Invariants: neither level exceeds its burst; a refused request takes nothing; a request larger
//! than a burst is let through once that dimension is full and leaves a debt, so that it is
//! delayed but never starved, and the rate over time still holds.
//!
//! Pure: the caller passes the time in. The same bucket paces a producer per shard and is the
//! shard's own limit in kinesis-local.

use std::time::Duration;

use tokio::time::Instant;

/// How fast a [`TokenBucket`] fills and how much it holds.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct TokenBucketRate {
    /// Records per second; not negative, finite.
    pub records_per_second: f64,
    /// Bytes per second; not negative, finite.
    pub bytes_per_second: f64,
    /// The most records that can be taken at once after a pause.
    pub record_burst: f64,
    /// The most bytes that can be taken at once after a pause.
    pub byte_burst: f64,
}

impl TokenBucketRate {
    /// A rate whose bursts are one second's worth.
    #[must_use]
    pub fn per_second(records: f64, bytes: f64) -> Self {
        Self {
            records_per_second: records,
            bytes_per_second: bytes,
            record_burst: records,
            byte_burst: bytes,
        }
    }
}

/// A bucket of record and byte tokens. See the module's text for its rules.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    records: Level,
    bytes: Level,
    filled_at: Instant,
}

#[derive(Copy, Clone, Debug)]
struct Level {
    tokens: f64,
    burst: f64,
    per_second: f64,
}

impl Level {
    fn fill(&mut self, seconds: f64) {
        self.tokens = (self.tokens + seconds * self.per_second).min(self.burst);
    }

    /// Seconds until `wanted` may be taken; 0 if now.
    fn wait_for(&self, wanted: f64) -> f64 {
        let missing = wanted.min(self.burst) - self.tokens;
        if missing <= 0.0 || wanted == 0.0 {
            0.0
        } else {
            missing / self.per_second
        }
    }
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: TokenBucketRate, now: Instant) -> Self {
        let full = |per_second, burst| Level {
            tokens: burst,
            burst,
            per_second,
        };
        Self {
            records: full(rate.records_per_second, rate.record_burst),
            bytes: full(rate.bytes_per_second, rate.byte_burst),
            filled_at: now,
        }
    }

    /// Takes `records` and `bytes` together.
    ///
    /// # Errors
    /// Takes nothing and tells how long to wait until the same request would pass if nobody else
    /// took anything; [`Duration::MAX`] if a rate of 0 will never let it pass.
    pub fn try_take(&mut self, records: u64, bytes: u64, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        let (records, bytes) = (records as f64, bytes as f64);
        let wait = self
            .records
            .wait_for(records)
            .max(self.bytes.wait_for(bytes));
        if wait > 0.0 {
            // Rounded up to a whole microsecond, so that the caller does not come a moment early.
            let micros = (wait * 1e6).ceil() + 1.0;
            return Err(Duration::try_from_secs_f64(micros / 1e6).unwrap_or(Duration::MAX));
        }
        self.records.tokens -= records;
        self.bytes.tokens -= bytes;
        Ok(())
    }

    /// Changes the rate from `now` on. What is in the bucket stays, up to the new burst.
    pub fn set_rate(&mut self, rate: TokenBucketRate, now: Instant) {
        self.fill(now);
        for (level, per_second, burst) in [
            (
                &mut self.records,
                rate.records_per_second,
                rate.record_burst,
            ),
            (&mut self.bytes, rate.bytes_per_second, rate.byte_burst),
        ] {
            *level = Level {
                tokens: level.tokens.min(burst),
                burst,
                per_second,
            };
        }
    }

    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.records.fill(seconds);
        self.bytes.fill(seconds);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Clock;

    const RATE: TokenBucketRate = TokenBucketRate {
        records_per_second: 10.0,
        bytes_per_second: 1000.0,
        record_burst: 10.0,
        byte_burst: 1000.0,
    };

    #[test]
    fn both_dimensions_limit_and_a_refusal_takes_nothing() {
        let start = Clock::system().now();
        let mut bucket = TokenBucket::new(RATE, start);
        assert_eq!(bucket.try_take(1, 900, start), Ok(()));
        let wait = bucket.try_take(1, 200, start).expect_err("bytes are short");
        assert!((Duration::from_millis(100)..Duration::from_millis(101)).contains(&wait));
        assert_eq!(
            bucket.try_take(9, 100, start),
            Ok(()),
            "the refusal took nothing"
        );
        let wait = bucket.try_take(1, 0, start).expect_err("records are short");
        assert!((Duration::from_millis(100)..Duration::from_millis(101)).contains(&wait));
        assert_eq!(bucket.try_take(1, 0, start + wait), Ok(()));
    }

    #[test]
    fn a_request_larger_than_the_burst_passes_when_full_and_is_paid_back() {
        let start = Clock::system().now();
        let mut bucket = TokenBucket::new(RATE, start);
        assert_eq!(bucket.try_take(1, 5000, start), Ok(()));
        let wait = bucket
            .try_take(1, 1, start)
            .expect_err("the debt comes first");
        assert!(wait >= Duration::from_secs(4), "{wait:?}");
    }

    #[test]
    fn a_rate_of_nothing_never_lets_pass() {
        let start = Clock::system().now();
        let mut bucket = TokenBucket::new(TokenBucketRate::per_second(0.0, 1000.0), start);
        assert_eq!(bucket.try_take(0, 10, start), Ok(()));
        // A burst of 0 is always full, so one record passes and its debt is never paid.
        assert_eq!(bucket.try_take(1, 10, start), Ok(()));
        assert_eq!(bucket.try_take(1, 10, start), Err(Duration::MAX));
    }

    #[test]
    fn a_new_rate_counts_from_now_on() {
        let start = Clock::system().now();
        let mut bucket = TokenBucket::new(RATE, start);
        assert_eq!(bucket.try_take(10, 0, start), Ok(()));
        let later = start + Duration::from_millis(500);
        bucket.set_rate(TokenBucketRate::per_second(100.0, 1000.0), later);
        assert_eq!(
            bucket.try_take(5, 0, later),
            Ok(()),
            "filled at the old rate"
        );
        assert!(bucket.try_take(1, 0, later).is_err());
        assert_eq!(
            bucket.try_take(10, 0, later + Duration::from_millis(101)),
            Ok(())
        );
    }

    proptest! {
        #[test]
        fn over_any_run_no_more_is_taken_than_burst_and_rate_allow(
            asks in prop::collection::vec((0u64..3, 0u64..900, 0u64..200), 1..200)
        ) {
            let start = Clock::system().now();
            let mut bucket = TokenBucket::new(RATE, start);
            let (mut now, mut records, mut bytes) = (start, 0u64, 0u64);
            for (r, b, wait_millis) in asks {
                now += Duration::from_millis(wait_millis);
                match bucket.try_take(r, b, now) {
                    Ok(()) => { records += r; bytes += b; }
                    Err(wait) => {
                        let mut copy = bucket.clone();
                        prop_assert_eq!(copy.try_take(r, b, now + wait), Ok(()));
                    }
                }
                let seconds = (now - start).as_secs_f64();
                prop_assert!(records as f64 <= 10.0 + 10.0 * seconds + 1e-6);
                prop_assert!(bytes as f64 <= 1000.0 + 1000.0 * seconds + 1e-6);
            }
        }
    }
}
