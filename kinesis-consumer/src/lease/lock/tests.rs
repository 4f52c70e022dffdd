use kinesis_core::Clock;

use super::*;

const TEN: Duration = Duration::from_secs(10);

fn row(owner: &str, version: &str, duration: Duration) -> LockRow {
    LockRow {
        owner: owner.to_owned(),
        version: version.to_owned(),
        duration,
        released: false,
    }
}

/// A worker and its clock, in seconds.
struct Bench {
    start: Instant,
    lock: Leadership,
}

impl Bench {
    fn new() -> Self {
        let start = Clock::system().now();
        Self {
            start,
            lock: Leadership::new("me", TEN, start),
        }
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn saw(&mut self, second: u64, row: Option<&LockRow>) -> Option<Claim> {
        let at = self.at(second);
        self.lock.saw(row, at)
    }

    fn leads(&self, now: Instant) -> bool {
        self.lock.leads_until().is_some_and(|until| now < until)
    }

    fn lead(&mut self, second: u64, version: &str) {
        let at = self.at(second);
        self.lock.sending(version, at);
        self.lock.made();
    }
}

#[test]
fn a_lock_that_is_absent_or_released_is_claimed_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.saw(0, None), Some(Claim::Absent));
    let released = LockRow {
        released: true,
        ..row("other", "v1", TEN)
    };
    assert_eq!(bench.saw(1, Some(&released)), Some(Claim::Released));
}

#[test]
fn a_lock_is_claimed_after_it_stood_still_for_its_own_duration() {
    let mut bench = Bench::new();
    let java = row("java", "v1", Duration::from_secs(120));
    assert_eq!(bench.saw(0, Some(&java)), None);
    assert_eq!(bench.saw(30, Some(&row("java", "v2", java.duration))), None);
    assert_eq!(bench.saw(60, Some(&row("java", "v2", java.duration))), None);
    assert_eq!(
        bench.saw(149, Some(&row("java", "v2", java.duration))),
        None
    );
    assert_eq!(
        bench.saw(150, Some(&row("java", "v2", java.duration))),
        Some(Claim::Expired("v2".to_owned()))
    );
}

#[test]
fn a_leader_beats_twice_in_its_time_and_stops_before_that_is_over() {
    let mut bench = Bench::new();
    bench.lead(0, "v1");
    assert!(bench.leads(bench.at(8)));
    assert!(!bench.leads(bench.at(9)));
    let at = bench.at(4);
    assert_eq!(bench.lock.next(), at);
    assert_eq!(bench.lock.step(at), Step::Beat("v1".to_owned()));
    bench.lead(4, "v2");
    assert!(bench.leads(bench.at(12)));
    assert_eq!(bench.lock.next(), bench.at(8));
}

#[test]
fn a_beat_that_is_not_answered_is_made_again_soon() {
    let mut bench = Bench::new();
    bench.lead(0, "v1");
    let mut tries = 0;
    while bench.leads(bench.lock.next()) {
        let at = bench.lock.next();
        assert_eq!(bench.lock.step(at), Step::Beat("v1".to_owned()));
        bench.lock.sending(&format!("try {tries}"), at);
        tries += 1;
    }
    assert_eq!(tries, 10, "from 4 s to 8.5 s");
}

#[test]
fn a_beat_whose_answer_was_lost_still_counts_from_when_it_was_sent() {
    let mut bench = Bench::new();
    bench.lead(0, "v1");
    let sent = bench.at(3);
    bench.lock.sending("v2", sent);
    // No answer; the next beat is refused by a row that shows the version.
    bench.lock.sending("v3", bench.at(6));
    assert_eq!(bench.saw(6, Some(&row("me", "v2", TEN))), None);
    assert_eq!(bench.lock.version(), Some("v2"));
    assert_eq!(
        bench.lock.leads_until(),
        Some(sent + Duration::from_secs(9))
    );
    // The one after it counts from then.
    assert_eq!(bench.lock.next(), bench.at(7));
}

#[test]
fn a_lost_beat_counts_also_when_the_ones_after_it_are_lost_as_well() {
    let mut bench = Bench::new();
    bench.lead(0, "v1");
    let sent = bench.at(1);
    bench.lock.sending("v2", sent);
    for at in 2..2 + UNSETTLED_MAX as u64 - 1 {
        bench.lock.sending(&format!("failed at {at}"), bench.at(at));
    }
    assert_eq!(bench.saw(9, Some(&row("me", "v2", TEN))), None);
    assert_eq!(bench.lock.version(), Some("v2"));
    assert_eq!(
        bench.lock.leads_until(),
        Some(sent + Duration::from_secs(9))
    );
}

#[test]
fn a_leader_whose_lock_was_taken_follows() {
    let mut bench = Bench::new();
    bench.lead(0, "v1");
    assert_eq!(bench.saw(3, Some(&row("other", "w1", TEN))), None);
    assert!(!bench.leads(bench.at(3)));
    let at = bench.at(4);
    assert_eq!(bench.lock.step(at), Step::Look);
}

#[test]
fn an_earlier_life_under_the_same_name_has_to_expire_like_anybody() {
    let mut bench = Bench::new();
    let earlier = row("me", "old", TEN);
    assert_eq!(bench.saw(0, Some(&earlier)), None);
    assert_eq!(bench.saw(9, Some(&earlier)), None);
    assert_eq!(
        bench.saw(10, Some(&earlier)),
        Some(Claim::Expired("old".to_owned()))
    );
}

#[test]
fn a_leader_is_silent_when_its_next_beat_is_overdue() {
    let mut bench = Bench::new();
    let now = bench.at(0);
    assert_eq!(bench.lock.silent_from(now), Some(now));
    let overdue = TEN * 45 / 100;
    bench.saw(0, Some(&row("other", "w1", TEN)));
    assert_eq!(bench.lock.silent_from(bench.at(1)), Some(now + overdue));
    bench.saw(3, Some(&row("other", "w2", TEN)));
    let seen = bench.at(3);
    assert_eq!(bench.lock.silent_from(bench.at(4)), Some(seen + overdue));
    bench.lead(4, "v1");
    assert_eq!(bench.lock.silent_from(bench.at(5)), None);
}

#[test]
fn who_gave_the_lock_back_leaves_it_to_others_for_its_time() {
    let mut bench = Bench::new();
    bench.lead(0, "v1");
    let at = bench.at(1);
    bench.lock.gave_back(at);
    assert_eq!(bench.lock.next(), at + TEN);
    assert!(!bench.leads(at));
}

/// A follower beside a leader that beats every so often, for the first time after `phase`, until it dies:
/// its looks, and when it first saw which beat, in thousandths of a second.
fn follow(
    duration: Duration,
    every: u64,
    phase: u64,
    dies: u64,
) -> (Vec<u64>, Vec<(u64, u64)>, Option<Claim>) {
    let mut bench = Bench::new();
    let (mut looks, mut seen) = (Vec::new(), Vec::new());
    loop {
        let at = bench.lock.next();
        let millis = at.duration_since(bench.start).as_millis() as u64;
        assert_eq!(bench.lock.step(at), Step::Look);
        let beats = (millis.min(dies) + every - phase) / every;
        let claim = bench
            .lock
            .saw(Some(&row("other", &beats.to_string(), duration)), at);
        looks.push(millis);
        if seen.last().is_none_or(|(beat, _)| *beat != beats) {
            seen.push((beats, millis));
        }
        if claim.is_some() || looks.len() > 500 {
            return (looks, seen, claim);
        }
    }
}

#[test]
fn a_follower_sees_each_beat_soon_and_looks_hardly_more_often_than_the_leader_beats() {
    for phase in (0..4_000).step_by(70) {
        let (beat, dies) = (|number| (number - 1) * 4_000 + phase, 400_000);
        let (looks, seen, claim) = follow(TEN, 4_000, phase, dies);
        for (number, at) in &seen[1..] {
            let late = at - beat(*number);
            assert!(late <= 500, "beat {number}, first after {phase}: {late} ms");
        }
        let alive = looks.iter().filter(|at| **at <= dies).count();
        assert!((100..=135).contains(&alive), "{alive} looks at 100 beats");
        // The moment that the lock lapses.
        let (last, at) = *seen.last().expect("some");
        assert_eq!(claim, Some(Claim::Expired(last.to_string())));
        assert_eq!(looks.last(), Some(&(at + 10_000)));
        let apart = looks.windows(2).map(|two| two[1] - two[0]);
        assert!(apart.min() >= Some(40), "first after {phase}: {looks:?}");
    }
}

#[test]
fn a_kcl_that_leads_is_not_looked_at_more_often_than_one_of_ours() {
    for phase in (0..30_000).step_by(700) {
        let (looks, seen, claim) = follow(Duration::from_secs(120), 30_000, phase, 600_000);
        let alive = looks.iter().filter(|at| **at <= 600_000).count();
        assert!(alive <= 160, "{alive} looks in 600 s");
        let (last, at) = *seen.last().expect("some");
        assert_eq!(claim, Some(Claim::Expired(last.to_string())));
        assert_eq!(looks.last(), Some(&(at + 120_000)));
        let died = (last - 1) * 30_000 + phase;
        assert!(at - died <= 3_900, "seen {} ms after it", at - died);
    }
}

#[test]
fn a_look_that_is_late_says_nothing() {
    let mut bench = Bench::new();
    bench.saw(0, Some(&row("other", "w1", TEN)));
    bench.saw(3, Some(&row("other", "w2", TEN)));
    assert_eq!(bench.saw(5, Some(&row("other", "w1", TEN))), None);
    assert_eq!(bench.saw(12, Some(&row("other", "w2", TEN))), None);
    let claim = Some(Claim::Expired("w2".to_owned()));
    assert_eq!(bench.saw(13, Some(&row("other", "w2", TEN))), claim);
    // It is refused by the row as it is.
    bench.lock.sending("mine", bench.at(13));
    assert_eq!(bench.saw(13, Some(&row("other", "w3", TEN))), None);
    assert!(!bench.leads(bench.at(13)));
    assert_eq!(bench.saw(22, Some(&row("other", "w3", TEN))), None);
    let claim = Some(Claim::Expired("w3".to_owned()));
    assert_eq!(bench.saw(23, Some(&row("other", "w3", TEN))), claim);
}

/// Its second look shows what was there before the first, and then the leader dies.
#[test]
fn who_saw_a_late_look_last_claims_the_lock_all_the_same() {
    let mut bench = Bench::new();
    bench.saw(0, Some(&row("other", "w3", TEN)));
    bench.saw(1, Some(&row("other", "w2", TEN)));
    let mut claim = None;
    for second in 2..20 {
        let now = bench.saw(second, Some(&row("other", "w3", TEN)));
        claim = claim.or(now.map(|claim| (second, claim)));
    }
    assert_eq!(claim, Some((14, Claim::Expired("w3".to_owned()))));
}

#[test]
fn a_lock_that_cannot_be_read_is_not_claimed_again_and_again() {
    let mut bench = Bench::new();
    let (mut claims, end) = (0, bench.at(60));
    while bench.lock.next() < end {
        let at = bench.lock.next();
        assert_eq!(bench.lock.step(at), Step::Look);
        assert_eq!(bench.lock.saw(None, at), Some(Claim::Absent));
        bench.lock.sending("mine", at);
        assert_eq!(bench.lock.saw(None, at), Some(Claim::Absent), "refused");
        claims += 1;
    }
    assert!(claims <= 16, "{claims} in a minute");
}
