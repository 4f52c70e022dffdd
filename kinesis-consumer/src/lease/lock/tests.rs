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
fn a_leader_beats_three_times_in_its_time_and_stops_before_that_is_over() {
    let mut bench = Bench::new();
    bench.lead(0, "v1");
    assert!(bench.leads(bench.at(8)));
    assert!(!bench.leads(bench.at(9)));
    let at = bench.at(4);
    assert_eq!(bench.lock.step(at), Step::Beat("v1".to_owned()));
    assert_eq!(bench.lock.next(), at + TEN / 3);
    bench.lead(4, "v2");
    assert!(bench.leads(bench.at(12)));
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
    // It is time for the one after it.
    assert!(bench.lock.next() <= bench.at(7));
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
fn a_leader_is_silent_when_half_of_its_time_went_by_without_a_beat() {
    let mut bench = Bench::new();
    let now = bench.at(0);
    assert_eq!(bench.lock.silent_from(now), Some(now));
    bench.saw(0, Some(&row("other", "w1", TEN)));
    assert_eq!(bench.lock.silent_from(bench.at(1)), Some(bench.at(5)));
    bench.saw(3, Some(&row("other", "w2", TEN)));
    assert_eq!(bench.lock.silent_from(bench.at(4)), Some(bench.at(8)));
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
