//! When to ask the stream what it is like.
//!
//! ```text
//! with the first shard map ──────────────▶ asked ─ answered ──▶ with the next map in 20 min or so
//! a record stored where it should not be, │        ├ failed ──▶ in 10 s, 20 s, … 10 min, until it is known
//! or refused for its size ────────────────┘        └ denied ──▶ in 10 min
//! ```
//!
//! The quota is one for the whole account, however many producers there are: 20 a second. So a stream
//! that gives no reason to doubt is asked three times an hour, and not at all while nothing is sent to
//! it; a reason asks again, but not within 10 s. Who was not answered waits longer each time.
//!
//! A refusal is not for ever: a stream may not exist yet, a token expires, a policy is mended. Only
//! a policy that does not allow the question stays as it is for long.

use std::time::Duration;

use kinesis_core::Rand;
use tokio::time::Instant;

use crate::error::Cause;

/// Shortest time between two questions. Source: none; far below the quota for
/// DescribeStreamSummary, 20 a second per account.
const INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Mean time from an answer to the next question without a reason; each time ± a half. Source: none,
/// reasonable default; 24,000 producers that send would use up the quota.
const INTERVAL_KNOWN: Duration = Duration::from_secs(1200);
/// How often the wait doubles while there is no answer: to more than [`INTERVAL_DENIED`], which
/// bounds it. Source: 10 s · 2^6 > 600 s.
const DOUBLINGS_MAX: u32 = 6;
/// The same once the stream was not found, and may be another one by now. Source: none; as above.
const INTERVAL_MIN_ANEW: Duration = Duration::from_secs(1);
/// The wait after an answer that a policy does not allow the question. Source: none, reasonable
/// default; somebody has to mend the policy.
const INTERVAL_DENIED: Duration = Duration::from_secs(600);
/// What it takes to doubt that a stream is AUTO: that it would have stored so many records in a row
/// where their keys belong only by a chance of 1 in 1,000. Five records do with four shards, ten with
/// two. In bits, as all of these. Source: none, reasonable default; until then records are lost to
/// readers that hold them against their shard's keys.
const BY_CHANCE_MIN: u32 = 10;
/// After each false alarm it takes a chance that is 32 times smaller. Source: none, reasonable default.
const BY_CHANCE_STEP: u32 = 5;
/// But none smaller than 1 in a million: false alarms of a busy stream are half an hour apart then.
const BY_CHANCE_MAX: u32 = 20;

/// See the module. Pure: time and answers are passed in.
#[derive(Debug)]
pub(crate) struct Inquiry {
    /// When to ask; `None` until a map is loaded or a record is misplaced.
    wanted_at: Option<Instant>,
    /// Not to be asked before.
    from: Option<Instant>,
    /// Not to be asked before without a reason.
    known_until: Option<Instant>,
    /// Questions in a row without an answer.
    failures_in_a_row: u32,
    asked_at: Option<Instant>,
    asking: bool,
    /// What is being asked about is gone: the answer may be another stream's.
    stale: bool,
    /// The stream has answered.
    known: bool,
    /// A refusal was told of.
    told: bool,
    /// Records in a row that an AUTO stream stored where their keys belong.
    by_key: u32,
    /// The chance of that which is too small, in bits.
    by_chance: u32,
}

impl Inquiry {
    pub(crate) fn new() -> Self {
        Self {
            wanted_at: None,
            from: None,
            known_until: None,
            failures_in_a_row: 0,
            asked_at: None,
            asking: false,
            stale: false,
            known: false,
            told: false,
            by_key: 0,
            by_chance: BY_CHANCE_MIN,
        }
    }

    /// A shard map is being loaded: asks along with it, if it is time to.
    pub(crate) fn with_map(&mut self, now: Instant) {
        let from = self.from.max(self.known_until);
        if !self.asking && from.is_none_or(|from| from <= now) {
            self.wanted_at = Some(now);
        }
    }

    /// A record was stored in one of several `shards`, whose range is known, `inside` it or not;
    /// `auto` is what the stream is taken for.
    pub(crate) fn stored(&mut self, inside: bool, auto: bool, shards: usize, now: Instant) {
        let doubtful = if auto {
            self.by_key = if inside { self.by_key + 1 } else { 0 };
            let bits = f64::from(self.by_key) * (shards as f64).log2();
            let doubtful = bits >= f64::from(self.by_chance);
            if doubtful {
                self.by_chance = (self.by_chance + BY_CHANCE_STEP).min(BY_CHANCE_MAX);
            }
            doubtful
        } else {
            !inside
        };
        if doubtful {
            self.by_key = 0;
            self.doubt(now);
        }
    }

    /// What is known may be outdated: asks as soon as it may.
    pub(crate) fn doubt(&mut self, now: Instant) {
        if self.asking {
            return;
        }
        let at = self.from.map_or(now, |from| from.max(now));
        self.wanted_at = Some(self.wanted_at.map_or(at, |wanted| wanted.min(at)));
    }

    /// When to ask without further events; `None` while an answer is awaited or none is wanted.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.wanted_at.filter(|_| !self.asking)
    }

    /// Whether to ask now; if so it counts as asked.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        let due = self.next_at().is_some_and(|at| at <= now);
        if due {
            self.asking = true;
            self.wanted_at = None;
            self.asked_at = Some(now);
        }
        due
    }

    /// There was an answer; whether it counts. One that was asked for before the stream was found to be
    /// gone does not, and it is asked again.
    pub(crate) fn answered(&mut self, now: Instant, rand: &Rand) -> bool {
        self.asking = false;
        if std::mem::take(&mut self.stale) {
            self.doubt(now);
            return false;
        }
        self.failures_in_a_row = 0;
        self.known_until = Some(now + INTERVAL_KNOWN.mul_f64(0.5 + rand.unit()));
        self.known = true;
        self.told = false;
        self.from = Some(now + INTERVAL_MIN);
        true
    }

    /// There was no answer; whether to tell of it: only of a refusal, and of the first one.
    pub(crate) fn failed(&mut self, cause: &Cause, now: Instant, rand: &Rand) -> bool {
        self.asking = false;
        self.stale = false;
        let wait = if is_denied(cause) {
            INTERVAL_DENIED
        } else {
            let doubled = INTERVAL_MIN * (1 << self.failures_in_a_row.min(DOUBLINGS_MAX));
            doubled
                .min(INTERVAL_DENIED)
                .mul_f64(1.0 + rand.unit() / 4.0)
        };
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let from = now + wait;
        self.from = Some(from);
        if !self.known {
            self.wanted_at = Some(from);
        }
        !cause.class.is_transient() && !std::mem::replace(&mut self.told, true)
    }

    /// What the answer was about is gone, and so is what an answer under way will be about.
    pub(crate) fn forget(&mut self) {
        self.stale = self.asking;
        self.known = false;
        self.known_until = None;
        self.failures_in_a_row = 0;
        (self.by_key, self.by_chance) = (0, BY_CHANCE_MIN);
        self.wanted_at = None;
        self.from = self.asked_at.map(|at| at + INTERVAL_MIN_ANEW);
    }

    /// The same, and another stream of the name is there already: it is asked by itself.
    pub(crate) fn begin_anew(&mut self, now: Instant) {
        self.forget();
        self.doubt(now);
    }
}

/// Whether a policy does not allow it, as against credentials that are refused.
fn is_denied(cause: &Cause) -> bool {
    matches!(
        &*cause.code,
        "AccessDenied" | "AccessDeniedException" | "NotAuthorized"
    )
}

#[cfg(test)]
mod tests {
    use kinesis_core::Clock;

    use super::*;
    use crate::error::Class;

    fn cause(class: Class, code: &str) -> Cause {
        Cause::new("DescribeStreamSummary", class, code)
    }

    #[test]
    fn it_goes_along_with_maps_and_not_too_often() {
        let now = Clock::system().now();
        let mut inquiry = Inquiry::new();
        assert!(!inquiry.begin(now), "nobody needs it");
        inquiry.with_map(now);
        assert!(inquiry.begin(now) && !inquiry.begin(now));
        inquiry.answered(now, &Rand::seeded(3));
        inquiry.with_map(now + INTERVAL_KNOWN / 2);
        let later = now + INTERVAL_KNOWN * 3 / 2;
        assert!(!inquiry.begin(later), "not with that map");
        inquiry.with_map(later);
        assert!(inquiry.begin(later));
    }

    #[test]
    fn a_reason_to_doubt_asks_again_but_not_within_the_least_interval() {
        let now = Clock::system().now();
        let mut inquiry = Inquiry::new();
        inquiry.with_map(now);
        assert!(inquiry.begin(now));
        inquiry.doubt(now);
        inquiry.answered(now, &Rand::seeded(3));
        assert_eq!(inquiry.next_at(), None, "the answer came after the doubt");
        inquiry.doubt(now);
        assert_eq!(inquiry.next_at(), Some(now + INTERVAL_MIN));
    }

    #[test]
    fn who_is_not_answered_waits_longer_each_time_and_others_at_other_times() {
        let mut waits = std::collections::BTreeSet::new();
        for seed in 0..8 {
            let (rand, mut now) = (Rand::seeded(seed), Clock::system().now());
            let mut inquiry = Inquiry::new();
            inquiry.with_map(now);
            for expected in [10, 20, 40, 80, 160, 320, 600, 600] {
                assert!(inquiry.begin(now));
                inquiry.failed(
                    &cause(Class::Throttled, "LimitExceededException"),
                    now,
                    &rand,
                );
                let at = inquiry.next_at().expect("again");
                let least = Duration::from_secs(expected);
                assert!(
                    at - now >= least && at - now <= least * 5 / 4,
                    "seed {seed}: {:?} for {least:?}",
                    at - now
                );
                waits.insert(at - now);
                now = at;
            }
        }
        assert_eq!(waits.len(), 64);
    }

    #[test]
    fn a_refusal_is_told_once_and_asked_again_and_a_denial_rarely() {
        let start = Clock::system().now();
        for (class, code, wait) in [
            (Class::NotFound, "ResourceNotFoundException", INTERVAL_MIN),
            (Class::AccessDenied, "ExpiredTokenException", INTERVAL_MIN),
            (Class::Client, "DispatchFailure", INTERVAL_MIN),
            (
                Class::AccessDenied,
                "AccessDeniedException",
                INTERVAL_DENIED,
            ),
        ] {
            let mut inquiry = Inquiry::new();
            inquiry.with_map(start);
            assert!(inquiry.begin(start));
            let (cause, rand) = (cause(class, code), Rand::seeded(3));
            assert!(inquiry.failed(&cause, start, &rand), "{code}: told");
            let at = inquiry.next_at().expect("asked again");
            assert!(at >= start + wait && at <= start + wait * 5 / 4, "{code}");
            assert!(inquiry.begin(at));
            assert!(!inquiry.failed(&cause, start, &rand), "{code}: once");
        }
    }

    #[test]
    fn an_answer_about_a_stream_that_is_gone_does_not_count_and_is_asked_for_again() {
        let (start, rand) = (Clock::system().now(), Rand::seeded(3));
        let later = start + INTERVAL_MIN_ANEW * 2;
        let mut inquiry = Inquiry::new();
        inquiry.with_map(start);
        assert!(inquiry.begin(start));
        inquiry.forget();
        assert!(!inquiry.begin(later), "one at a time");
        assert!(!inquiry.answered(later, &rand), "of the stream before");
        assert!(inquiry.begin(later), "and of this one?");
        assert!(inquiry.answered(later, &rand));
        // It fails: nothing that came too late is left.
        let again = later + INTERVAL_KNOWN * 2;
        inquiry.with_map(again);
        assert!(inquiry.begin(again));
        inquiry.forget();
        let cause = cause(Class::Unavailable, "Test");
        assert!(!inquiry.failed(&cause, again, &rand));
        let at = inquiry.next_at().expect("it is asked again");
        assert!(inquiry.begin(at) && inquiry.answered(at, &rand));
    }

    #[test]
    fn a_stream_that_is_another_by_now_is_asked_without_a_map() {
        let (start, rand) = (Clock::system().now(), Rand::seeded(3));
        let mut inquiry = Inquiry::new();
        inquiry.with_map(start);
        assert!(inquiry.begin(start) && inquiry.answered(start, &rand));
        inquiry.begin_anew(start);
        assert_eq!(inquiry.next_at(), Some(start + INTERVAL_MIN_ANEW));
    }

    #[test]
    fn a_record_where_its_key_does_not_belong_asks_at_once() {
        let (now, rand) = (Clock::system().now(), Rand::seeded(3));
        let mut inquiry = Inquiry::new();
        inquiry.with_map(now);
        assert!(inquiry.begin(now));
        inquiry.answered(now, &rand);
        inquiry.stored(true, false, 2, now);
        assert_eq!(inquiry.next_at(), None);
        inquiry.stored(false, false, 2, now);
        assert_eq!(inquiry.next_at(), Some(now + INTERVAL_MIN));
        let later = now + INTERVAL_MIN * 3;
        assert!(inquiry.begin(later));
        inquiry.answered(now, &rand);
        inquiry.stored(false, false, 2, later);
        assert_eq!(inquiry.next_at(), Some(later));
    }

    #[test]
    fn records_that_all_lie_where_their_keys_belong_are_no_auto_stream_s() {
        let (now, rand) = (Clock::system().now(), Rand::seeded(3));
        for (shards, enough) in [(2, 10), (4, 5), (32, 2), (1000, 2)] {
            let mut inquiry = Inquiry::new();
            let mut stored = |count: u32, inside: bool| {
                for _ in 0..count {
                    inquiry.stored(inside, true, shards, now);
                }
                inquiry.next_at()
            };
            assert_eq!(stored(enough - 1, true), None, "{shards} shards");
            assert_eq!(stored(1, false), None, "one of them elsewhere");
            assert_eq!(stored(enough - 1, true), None, "{shards} shards");
            assert_eq!(stored(1, true), Some(now), "{shards} shards");
            // It was one all the same: the next alarm takes more, up to one in a million.
            for alarm in [15_u32, 20, 20] {
                assert!(inquiry.begin(now));
                inquiry.answered(now, &rand);
                let enough = alarm.div_ceil(usize::ilog2(shards));
                let mut count = 0;
                while inquiry.next_at().is_none() {
                    inquiry.stored(true, true, shards, now);
                    count += 1;
                }
                assert_eq!(count, enough, "{shards} shards, {alarm} bits");
                inquiry.wanted_at = Some(now);
            }
        }
    }
}
