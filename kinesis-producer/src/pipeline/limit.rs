//! When a shard may be sent to: its quota, this producer's share of it, and how long it is left
//! alone after a failure.
//!
//! The bucket holds one second of the share of `rate_limit` per cent of the shard's quota in
//! records and bytes; partition keys count, and so does every retry, but for the parts of a request
//! that was refused whole: of that nothing was stored, and it was paid for. After a failure the shard
//! waits a random part of an interval that doubles with each failure in a row; a success ends the
//! row.
//!
//! ```text
//! every second:  share = min(1, share · (taken / sent + 2 %) + 0.5 %)      taken, sent: bytes
//! ```
//!
//! Of an AUTO stream, which places records itself, all shards are one: a bucket holds a second of the
//! share of what they take together, and a throttle in a request that was taken in part stops nothing.
//!
//! A period of one record counts as if the shard had taken a second one: a single large record
//! says little, whichever way it went.
//!
//! What the shard took is what this producer may send, so the sum over all producers of a shard
//! falls to what the shard takes within a second or two, however many there are, without a word
//! between them. The 2 % look for room that became free. The 0.5 % bring producers to equal shares,
//! because they weigh more for those who have little; after five seconds without a throttle the 2 %
//! double every second. The price is the throttled part: about
//! 2 % + 0.5 % for each producer that competes. A producer alone has the whole quota, and nothing
//! of it is throttled. Equal shares are what it tends to, not a promise: a producer whose requests
//! always come right after another's may stay at its smallest share until that one pauses.

use std::time::Duration;

use kinesis_core::limits::{SHARD_WRITE_BYTES_PER_SECOND, SHARD_WRITE_RECORDS_PER_SECOND};
use kinesis_core::{Backoff, Rand, TokenBucket, TokenBucketRate};
use tokio::time::Instant;

/// The wait after a failure. Source: none, reasonable default; a shard's quota refills within a
/// second, an outage need not be asked about more than every five.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// How often an outage is told of. Source: none, reasonable default.
const TELL_INTERVAL: Duration = Duration::from_secs(60);
/// How often the share is set anew. Source: simulated; a round trip is much shorter.
const SHARE_PERIOD: Duration = Duration::from_secs(1);
/// By which part of itself the share grows each period. Source: simulated.
const SHARE_GROWTH: f64 = 0.02;
/// After so many periods without a throttle the growth doubles with each further one, so that what
/// others leave is found within seconds. Source: simulated.
const CLEAN_PERIODS: u32 = 5;
/// How often the growth doubles at most: to more than the whole. Source: 0.02 · 2^6 > 1.
const DOUBLINGS_MAX: u32 = 6;
/// By which part of the quota the share grows each period. Source: simulated.
const SHARE_GAIN: f64 = 0.005;
/// The share is never smaller, so that others who do not adapt cannot starve this producer.
/// Source: none, reasonable default.
const SHARE_MIN: f64 = 0.02;
/// A period is filled up to so many records, as if the shard had taken the missing ones: a shard
/// takes one record of 1 MiB a second, and that one may always come right after another producer's.
/// Source: simulated.
const JUDGED_RECORDS_MIN: u64 = 2;
/// After so many periods without an answer any share has grown to the whole. Source: of 1.02.
const PERIODS_TO_WHOLE: u32 = 200;

/// How long records may pass one that waits for its quota, where no order is asked for: then its quota
/// is saved up for it. Source: none, reasonable default; as long as a quota takes to fill.
const PASSING_MAX: Duration = Duration::from_secs(1);

/// What so many shards take from this producer if nobody else writes to them.
pub(crate) fn shards_rate(shards: usize, rate_limit_percent: u32) -> TokenBucketRate {
    let share = f64::from(rate_limit_percent) / 100.0 * shards as f64;
    TokenBucketRate::per_second(
        SHARD_WRITE_RECORDS_PER_SECOND as f64 * share,
        SHARD_WRITE_BYTES_PER_SECOND as f64 * share,
    )
}

/// The part of the rate that this producer takes, learnt from what is throttled. See the module.
#[derive(Debug)]
struct Share {
    part: f64,
    /// Bytes answered in this period, and those of them that the shard took.
    sent: u64,
    taken: u64,
    /// Kinesis records answered in this period.
    records: u64,
    /// Periods in a row in which the shard took everything.
    clean: u32,
    period_ends: Instant,
}

impl Share {
    fn new(now: Instant) -> Self {
        Self {
            part: 1.0,
            sent: 0,
            taken: 0,
            records: 0,
            clean: 0,
            period_ends: now + SHARE_PERIOD,
        }
    }

    /// Ends the periods that are over; whether the part may have changed.
    fn advance(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for _ in 0..PERIODS_TO_WHOLE {
            if now < self.period_ends {
                return changed;
            }
            let success = self.success();
            self.clean = if self.taken == self.sent {
                self.clean.saturating_add(1)
            } else {
                0
            };
            let doublings = self.clean.saturating_sub(CLEAN_PERIODS).min(DOUBLINGS_MAX);
            let growth = SHARE_GROWTH * f64::from(1_u32 << doublings);
            let part = self.part * (success + growth) + SHARE_GAIN;
            self.part = part.clamp(SHARE_MIN, 1.0);
            (self.sent, self.taken, self.records) = (0, 0, 0);
            self.period_ends += SHARE_PERIOD;
            changed = true;
        }
        self.period_ends = now + SHARE_PERIOD;
        true
    }

    /// The part of what was sent in this period that the shard took.
    fn success(&self) -> f64 {
        if self.records == 0 {
            return 1.0;
        }
        let missing = JUDGED_RECORDS_MIN.saturating_sub(self.records) as f64;
        let padding = self.sent as f64 / self.records as f64 * missing;
        (self.taken as f64 + padding) / (self.sent as f64 + padding).max(1.0)
    }
}

/// The pace of one shard.
#[derive(Debug)]
pub(crate) struct Limiter {
    /// `None` for records whose shard is not known.
    quota: Option<Quota>,
    failures_in_a_row: u32,
    /// When a failure was told of.
    told_at: Option<Instant>,
    not_before: Option<Instant>,
    /// Since when the quota has kept a Kinesis record from leaving.
    short_since: Option<Instant>,
    /// When to ask for what comes behind that Kinesis record; `None` unless the quota keeps one back.
    behind_at: Option<Instant>,
}

#[derive(Debug)]
struct Quota {
    whole: TokenBucketRate,
    bucket: TokenBucket,
    share: Share,
}

impl Quota {
    fn advance(&mut self, now: Instant) {
        if self.share.advance(now) {
            let (whole, part) = (self.whole, self.share.part);
            let rate = TokenBucketRate {
                records_per_second: whole.records_per_second * part,
                bytes_per_second: whole.bytes_per_second * part,
                record_burst: whole.record_burst * part,
                byte_burst: whole.byte_burst * part,
            };
            self.bucket.set_rate(rate, now);
        }
    }
}

impl Limiter {
    pub(crate) fn new(rate: Option<TokenBucketRate>, now: Instant) -> Self {
        let quota = rate.map(|whole| Quota {
            whole,
            bucket: TokenBucket::new(whole, now),
            share: Share::new(now),
        });
        Self {
            quota,
            failures_in_a_row: 0,
            told_at: None,
            not_before: None,
            short_since: None,
            behind_at: None,
        }
    }

    /// The pace of a lane that takes this one's place: failures and share go on, the quota is its own.
    pub(crate) fn succeeded_by(self, next: Self) -> Self {
        let quota = match (self.quota, next.quota) {
            (Some(old), Some(new)) if old.whole == new.whole => Some(old),
            (Some(old), Some(mut new)) => {
                // What the bucket of all shards holds is not worth taking over.
                new.share = old.share;
                Some(new)
            }
            (_, new) => new,
        };
        // What no quota keeps back waits for none, nor does anything pass it.
        let waits = quota.is_some();
        Self {
            quota,
            short_since: self.short_since.filter(|_| waits),
            behind_at: self.behind_at.filter(|_| waits),
            ..self
        }
    }

    /// The part of `rate_limit` that this producer takes now, 0 to 1.
    #[cfg(test)]
    pub(crate) fn share(&self) -> Option<f64> {
        self.quota.as_ref().map(|quota| quota.share.part)
    }

    /// Notes that the shard took `bytes`, or that it had no throughput left for them.
    pub(crate) fn answered(&mut self, bytes: usize, taken: bool, now: Instant) {
        if let Some(quota) = &mut self.quota {
            quota.share.records += 1;
            quota.share.sent += bytes as u64;
            quota.share.taken += if taken { bytes as u64 } else { 0 };
            quota.advance(now);
        }
    }

    /// Whether it keeps to a quota.
    pub(crate) fn has_quota(&self) -> bool {
        self.quota.is_some()
    }

    /// The earliest time worth asking again; `None` = now.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// From when what comes behind the Kinesis record that the quota keeps back may pass it; `None`
    /// unless the quota does, and once it has for [`PASSING_MAX`].
    pub(crate) fn passing_from(&self, now: Instant) -> Option<Instant> {
        let passing = self
            .short_since
            .is_some_and(|since| now < since + PASSING_MAX);
        self.behind_at.filter(|_| passing)
    }

    /// Pays for one that comes behind the one that is kept back, if it may pass.
    pub(crate) fn admit_behind(&mut self, bytes: usize, now: Instant) -> bool {
        let may = self.passing_from(now).is_some_and(|at| at <= now);
        let Some(quota) = self.quota.as_mut().filter(|_| may) else {
            return false;
        };
        quota.advance(now);
        let paid = quota.bucket.try_take(1, bytes as u64, now);
        if let Err(wait) = paid {
            self.behind_at = now.checked_add(wait);
        }
        paid.is_ok()
    }

    /// Pays for one Kinesis record, or says no until [`Self::not_before`].
    pub(crate) fn admit(&mut self, bytes: usize, now: Instant) -> bool {
        if self.not_before.is_some_and(|at| at > now) {
            return false;
        }
        let paid = self.quota.as_mut().map(|quota| {
            quota.advance(now);
            let paid = quota.bucket.try_take(1, bytes as u64, now);
            // Looked at again when the share may have grown: behind a large record the wait at
            // a small share is minutes long.
            paid.map_err(|wait| {
                let by_then = quota.share.period_ends;
                now.checked_add(wait).map_or(by_then, |at| at.min(by_then))
            })
        });
        match paid {
            Some(Err(at)) => {
                self.not_before = Some(at);
                self.short_since.get_or_insert(now);
                self.behind_at = Some(now);
                false
            }
            Some(Ok(())) | None => {
                self.not_before = None;
                self.behind_at = None;
                true
            }
        }
    }

    /// How long the quota kept back what was just admitted; `None` if it did not.
    pub(crate) fn waited(&mut self, now: Instant) -> Option<Duration> {
        let since = self.short_since.take()?;
        Some(now.saturating_duration_since(since))
    }

    /// Notes a failure; whether to tell of it: the first in a row, and one each minute after it.
    pub(crate) fn failed(&mut self, now: Instant, rand: &Rand) -> bool {
        self.not_before = Some(now + BACKOFF.delay(self.failures_in_a_row, rand));
        self.behind_at = None;
        let tells =
            self.failures_in_a_row == 0 || self.told_at.is_none_or(|at| at + TELL_INTERVAL <= now);
        if tells {
            self.told_at = Some(now);
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        tells
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
    }
}

#[cfg(test)]
mod tests;
