//! The time that a shard has whose lease is handed over.

use super::*;

/// What of [`HANDOFF`] is left for the processor.
const LEFT: Duration = Duration::from_secs(18);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_handoff_leaves_the_time_until_the_lease_is_fenced_less_that_of_the_release() {
    let (mut life, now) = processing();
    life.on(Event::HandoffRequested, now);
    assert_eq!(life.deadline(), Some(now + seconds(12)));
    life.on(Event::Deadline, now + seconds(12));
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
    assert_eq!(life.deadline(), Some(now + LEFT));
    life.on(Event::Deadline, now + LEFT);
    assert_eq!(life.doing(), Doing::Release, "before the fence");
}

#[test]
fn a_handoff_takes_no_longer_than_a_stop() {
    for (shutdown, handoff, left) in [
        (30, 300, 30_000),
        (30, 30, 28_000),
        (30, 10, 9_000),
        (5, 30, 5_000),
    ] {
        let times = StopTimes::new(seconds(shutdown), seconds(handoff));
        assert_eq!(times.handoff.as_millis(), left, "{shutdown} {handoff}");
        assert_eq!(times.shutdown, seconds(shutdown));
    }
}

#[test]
fn a_shard_that_stops_already_has_less_time_once_its_lease_is_to_be_handed_over() {
    let (mut life, now) = processing();
    life.on(Event::StopRequested, now);
    assert!(!life.minds_stop() && life.minds_handoff());
    let later = now + seconds(1);
    life.on(Event::HandoffRequested, later);
    assert!(!life.minds_handoff());
    assert_eq!(life.doing(), Doing::Call(Call::Process));
    assert_eq!(life.deadline(), Some(later + seconds(12)));
    life.on(Event::Returned(Returned::Ok), later);
    assert_eq!(life.deadline(), Some(later + LEFT));

    // One that is asked late gives no time back.
    let (mut life, now) = processing();
    life.on(Event::StopRequested, now);
    life.on(Event::HandoffRequested, now + seconds(19));
    assert_eq!(life.deadline(), Some(now + seconds(20)));
}

#[test]
fn a_stop_gives_a_handoff_no_more_time() {
    let (mut life, now) = processing();
    life.on(Event::HandoffRequested, now);
    assert!(!life.minds_stop() && life.is_stopping());
    life.on(Event::StopRequested, now + seconds(5));
    assert_eq!(life.deadline(), Some(now + seconds(12)));
}
