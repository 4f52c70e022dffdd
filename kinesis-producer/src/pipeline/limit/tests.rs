//! A shard's pace by itself, and among producers that know nothing of one another.

use kinesis_core::Clock;

use super::*;

#[test]
fn a_shard_takes_its_quota_at_once_and_then_at_its_rate() {
    let start = Clock::system().now();
    let mut limiter = Limiter::new(Some(shards_rate(1, 100)), start);
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
    let mut longest = Duration::ZERO;
    for row in 1..40 {
        assert!(!limiter.failed(start, &rand));
        let wait = limiter.not_before().expect("waits") - start;
        assert!(wait <= BACKOFF.ceiling(row), "seed {seed}");
        longest = longest.max(wait);
    }
    // The shard's first wait is a tenth of a second.
    let second = Duration::from_secs(1);
    assert!(longest > second * 4, "seed {seed}: {longest:?}");
    let again = limiter.not_before().expect("waits");
    assert!(again <= start || !limiter.admit(1, start));
    assert!(limiter.admit(1, again));
    let later = start + TELL_INTERVAL;
    assert!(limiter.failed(later, &rand), "an outage is told of again");
    assert!(!limiter.failed(later, &rand));
    limiter.succeeded();
    assert!(limiter.failed(later, &rand), "a new row");
}

/// A producer that always has more to send, one request at a time.
struct Saturating {
    limiter: Limiter,
    /// What is under way: when its answer comes, and whether the shard took it.
    under_way: Option<(Instant, bool)>,
    delivered: u64,
}

/// What became of the bytes sent to one shard.
struct Traffic {
    /// Of what the shard could have taken.
    goodput: f64,
    /// Of what was sent.
    throttled: f64,
    shares: Vec<f64>,
}

/// So many producers on one shard of the service's quota for two minutes.
fn compete(producers: usize, record_bytes: usize, seed: u64) -> Traffic {
    const SECONDS: u64 = 120;
    const ROUND_TRIP: Duration = Duration::from_millis(20);
    const STEP: Duration = Duration::from_millis(1);
    let (rand, start) = (Rand::seeded(seed), Clock::system().now());
    let rate = shards_rate(1, 100);
    let mut shard = TokenBucket::new(rate, start);
    let mut all: Vec<_> = (0..producers)
        .map(|_| Saturating {
            limiter: Limiter::new(Some(rate), start),
            under_way: None,
            delivered: 0,
        })
        .collect();
    let (mut sent, mut throttled) = (0, 0);
    let mut now = start;
    while now < start + Duration::from_secs(SECONDS) {
        let first = rand.below(producers as u64) as usize;
        for index in 0..producers {
            let producer = &mut all[(first + index) % producers];
            if let Some((at, taken)) = producer.under_way.filter(|(at, _)| *at <= now) {
                producer.under_way = None;
                producer.limiter.answered(record_bytes, taken, at);
                if taken {
                    producer.delivered += record_bytes as u64;
                    producer.limiter.succeeded();
                } else {
                    producer.limiter.failed(at, &rand);
                }
            }
            if producer.under_way.is_none() && producer.limiter.admit(record_bytes, now) {
                sent += record_bytes as u64;
                let taken = shard.try_take(1, record_bytes as u64, now).is_ok();
                throttled += if taken { 0 } else { record_bytes as u64 };
                producer.under_way = Some((now + ROUND_TRIP, taken));
            }
        }
        now += STEP;
    }
    let delivered: u64 = all.iter().map(|producer| producer.delivered).sum();
    let capacity = SHARD_WRITE_BYTES_PER_SECOND as u64 * SECONDS;
    Traffic {
        goodput: delivered as f64 / capacity as f64,
        throttled: throttled as f64 / sent as f64,
        shares: all.iter().filter_map(|p| p.limiter.share()).collect(),
    }
}

#[test]
fn producers_that_share_a_shard_fill_it_and_are_hardly_throttled() {
    for producers in [1, 2, 4] {
        for seed in 0..5 {
            let traffic = compete(producers, 51_200, seed);
            let Traffic {
                goodput,
                throttled,
                shares,
            } = traffic;
            let figures = format!(
                "{producers} producers, seed {seed}: goodput {goodput:.3}, throttled \
                 {throttled:.3}, shares {shares:.2?}"
            );
            assert!(goodput >= 0.95, "{figures}");
            assert!(throttled < 0.10, "{figures}");
            assert!(producers > 1 || throttled == 0.0, "{figures}");
        }
    }
}

#[test]
fn a_share_grows_back_when_the_others_leave() {
    let start = Clock::system().now();
    let mut limiter = Limiter::new(Some(shards_rate(1, 100)), start);
    let mut now = start;
    for _ in 0..5 {
        // Two, because one by itself says little.
        limiter.answered(1000, false, now);
        limiter.answered(1000, false, now);
        now += SHARE_PERIOD;
    }
    limiter.answered(1000, true, now);
    assert_eq!(limiter.share(), Some(SHARE_MIN), "never nothing");
    for _ in 0..20 {
        now += SHARE_PERIOD;
        limiter.answered(1000, true, now);
    }
    assert_eq!(limiter.share(), Some(1.0));
}

/// How long after one record another one of the same size may leave, while the share is small and
/// the shard takes everything.
fn wait_behind(bytes: usize) -> Duration {
    let start = Clock::system().now();
    let mut limiter = Limiter::new(Some(shards_rate(1, 100)), start);
    let mut now = start;
    for _ in 0..60 {
        for _ in 0..10 {
            limiter.answered(bytes, false, now);
        }
        now += SHARE_PERIOD;
    }
    limiter.answered(1, true, now);
    assert!(limiter.share() < Some(0.1));
    while !limiter.admit(bytes, now) {
        now = limiter.not_before().expect("a time to ask again");
    }
    let first = now;
    limiter.answered(bytes, true, now);
    while !limiter.admit(bytes, now) {
        let at = limiter.not_before().expect("a time to ask again");
        assert!(at > now, "asks in vain");
        now = at;
    }
    now - first
}

#[test]
fn a_shard_goes_on_soon_after_a_large_record_while_its_share_is_small() {
    // What the whole quota takes for the record, and the share's way back to the whole.
    for (bytes, seconds) in [(1 << 20, 14), (10 << 20, 24)] {
        let wait = wait_behind(bytes);
        assert!(
            wait < Duration::from_secs(seconds),
            "{bytes} bytes: {wait:?}"
        );
    }
}

#[test]
fn one_large_record_that_was_throttled_does_not_take_the_share_away() {
    let start = Clock::system().now();
    let mut limiter = Limiter::new(Some(shards_rate(1, 100)), start);
    limiter.answered(1 << 20, false, start);
    limiter.answered(1 << 20, true, start + SHARE_PERIOD);
    assert!(limiter.share() > Some(0.5), "{:?}", limiter.share());
}

#[test]
fn producers_of_large_records_share_a_shard_too() {
    for producers in [1, 2, 4] {
        for seed in 0..3 {
            let Traffic {
                goodput,
                throttled,
                shares,
            } = compete(producers, 1 << 20, seed);
            let figures = format!(
                "{producers} producers, seed {seed}: goodput {goodput:.3}, throttled \
                 {throttled:.3}, shares {shares:.2?}"
            );
            assert!(goodput >= 0.5, "{figures}");
        }
    }
}

/// As many of the smallest records as a request takes, from each of so many producers, for two
/// minutes: records delivered a second, and the part of what was sent that was throttled.
fn compete_in_records(producers: usize, seed: u64) -> (f64, f64) {
    const SECONDS: u64 = 120;
    const BYTES: usize = 10;
    let (rand, start) = (Rand::seeded(seed), Clock::system().now());
    let rate = shards_rate(1, 100);
    let mut shard = TokenBucket::new(rate, start);
    let mut limiters: Vec<_> = (0..producers)
        .map(|_| Limiter::new(Some(rate), start))
        .collect();
    // Of each one's request under way: when its answer comes, records taken, and those not.
    let mut under_way: Vec<Option<(Instant, u64, u64)>> = vec![None; producers];
    let (mut delivered, mut throttled) = (0, 0);
    let mut now = start;
    while now < start + Duration::from_secs(SECONDS) {
        let first = rand.below(producers as u64) as usize;
        for index in 0..producers {
            let index = (first + index) % producers;
            let limiter = &mut limiters[index];
            if let Some((_, taken, refused)) = under_way[index].take_if(|(at, ..)| *at <= now) {
                (0..taken).for_each(|_| limiter.answered(BYTES, true, now));
                (0..refused).for_each(|_| limiter.answered(BYTES, false, now));
                if taken > 0 {
                    limiter.succeeded();
                }
                if refused > 0 {
                    limiter.failed(now, &rand);
                }
                (delivered, throttled) = (delivered + taken, throttled + refused);
            }
            if under_way[index].is_none() {
                let sent = (0..500).take_while(|_| limiter.admit(BYTES, now)).count() as u64;
                let taken = (0..sent).filter(|_| shard.try_take(1, BYTES as u64, now).is_ok());
                let taken = taken.count() as u64;
                let answer = (now + Duration::from_millis(20), taken, sent - taken);
                under_way[index] = Some(answer).filter(|_| sent > 0);
            }
        }
        now += Duration::from_millis(1);
    }
    let sent = delivered + throttled;
    (
        delivered as f64 / SECONDS as f64,
        throttled as f64 / sent as f64,
    )
}

#[test]
fn producers_of_small_records_share_a_shard_s_records_as_they_do_its_bytes() {
    for producers in [1, 2, 4] {
        for seed in 0..3 {
            let (per_second, throttled) = compete_in_records(producers, seed);
            let figures = format!(
                "{producers} producers, seed {seed}: {per_second:.0} records/s, throttled \
                 {throttled:.3}"
            );
            assert!(per_second >= 950.0 && throttled < 0.10, "{figures}");
        }
    }
}

#[test]
fn a_pace_that_takes_another_s_place_keeps_failures_and_share_but_its_own_quota() {
    let (start, rand) = (Clock::system().now(), Rand::seeded(3));
    let limiter =
        |shards: Option<usize>| Limiter::new(shards.map(|shards| shards_rate(shards, 100)), start);
    let mut throttled = limiter(Some(1));
    assert!(throttled.admit(1000, start));
    throttled.answered(1000, false, start + SHARE_PERIOD);
    throttled.answered(1000, false, start + SHARE_PERIOD * 2);
    let share = throttled.share().expect("a quota");
    assert!(share < 1.0);
    throttled.failed(start, &rand);
    let not_before = throttled.not_before();
    let admitted = |limiter: &mut Limiter| {
        let at = start + SHARE_PERIOD * 2;
        (0..3000).filter(|_| limiter.admit(1, at)).count()
    };
    let mut of_four = throttled.succeeded_by(limiter(Some(4)));
    assert_eq!(
        (of_four.share(), of_four.not_before()),
        (Some(share), not_before)
    );
    assert!(admitted(&mut of_four) > 1000, "of four shards");
    let mut unknown = of_four.succeeded_by(limiter(None));
    assert_eq!(admitted(&mut unknown), 3000, "without a quota");
}

#[test]
fn without_a_quota_any_more_nothing_passes_what_it_kept_back() {
    let start = Clock::system().now();
    let mut short = Limiter::new(Some(shards_rate(1, 100)), start);
    while short.admit(1 << 19, start) {}
    assert_eq!(short.passing_from(start), Some(start));
    let mut free = short.succeeded_by(Limiter::new(None, start));
    assert_eq!(free.passing_from(start), None);
    assert_eq!(free.waited(start + SHARE_PERIOD), None);
}
