//! The life of a shard, step by step and at random.

use proptest::prelude::*;

use super::*;

mod handoff;

const TIMEOUT: Duration = Duration::from_secs(30);
const HANDOFF: Duration = Duration::from_secs(20);

fn life() -> (Life, Instant) {
    let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    (
        Life::new(StopTimes::new(TIMEOUT, HANDOFF), backoff, Rand::seeded(1)),
        kinesis_core::Clock::system().now(),
    )
}

/// A life in the middle of `process_records`.
fn processing() -> (Life, Instant) {
    let (mut life, now) = life();
    life.on(Event::Returned(Returned::Ok), now);
    life.on(Event::Fetched(Fetch::Batch), now);
    assert_eq!(life.doing(), Doing::Call(Call::Process));
    (life, now)
}

#[test]
fn a_shard_goes_from_its_first_batch_to_its_end() {
    let (mut life, now) = life();
    assert_eq!(life.doing(), Doing::Call(Call::Initialize));
    life.on(Event::Returned(Returned::Ok), now);
    for _ in 0..3 {
        assert_eq!(life.doing(), Doing::Fetch);
        life.on(Event::Fetched(Fetch::Batch), now);
        assert_eq!(life.doing(), Doing::Call(Call::Process));
        life.on(Event::Returned(Returned::Ok), now);
    }
    life.on(Event::Fetched(Fetch::End), now);
    assert_eq!(life.doing(), Doing::Call(Call::ShardEnded));
    life.on(Event::Returned(Returned::Ok), now);
    assert_eq!(life.doing(), Doing::Release);
    life.on(Event::Released(true), now);
    assert_eq!(life.doing(), Doing::Done(End::Ended));
}

#[test]
fn a_failed_batch_is_made_again_after_a_growing_pause_and_nothing_else_comes_between() {
    let (mut life, mut now) = processing();
    for attempt in 1..=20 {
        life.on(Event::Returned(Returned::Again), now);
        let Doing::Pause(until) = life.doing() else {
            panic!("{:?}", life.doing())
        };
        assert!(until - now <= Duration::from_secs(30));
        assert_eq!(life.attempts(), attempt);
        now = until;
        life.on(Event::Rested, now);
        assert_eq!(life.doing(), Doing::Call(Call::Process));
    }
    life.on(Event::Returned(Returned::Ok), now);
    assert_eq!((life.doing(), life.attempts()), (Doing::Fetch, 0));
}

#[test]
fn a_lost_lease_ends_everything_with_one_last_call() {
    let (mut life, now) = processing();
    life.on(Event::Lost, now);
    assert_eq!(life.doing(), Doing::Call(Call::LeaseLost));
    assert!(!life.minds_loss() && !life.minds_stop());
    life.on(Event::Returned(Returned::Again), now);
    assert_eq!(life.doing(), Doing::Done(End::Lost));
}

#[test]
fn a_lease_lost_call_that_hangs_does_not_hold_the_shard_for_ever() {
    let (mut life, now) = processing();
    life.on(Event::Lost, now);
    assert_eq!(life.deadline(), Some(now + TIMEOUT));
    life.on(Event::Deadline, now + TIMEOUT);
    assert_eq!(life.doing(), Doing::Done(End::Lost));
}

#[test]
fn a_stop_lets_the_batch_in_hand_finish_then_asks_for_the_last_checkpoint_and_releases() {
    let (mut life, now) = processing();
    life.on(Event::StopRequested, now);
    assert_eq!(life.doing(), Doing::Call(Call::Process));
    life.on(Event::Returned(Returned::Ok), now);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
    life.on(Event::Returned(Returned::Again), now);
    assert_eq!(life.doing(), Doing::Release);
    life.on(Event::Released(true), now);
    assert_eq!(life.doing(), Doing::Done(End::Released));
}

#[test]
fn a_batch_that_hangs_is_dropped_at_two_thirds_and_the_last_call_at_the_whole_of_the_time() {
    let (mut life, now) = processing();
    assert_eq!(life.deadline(), None);
    life.on(Event::StopRequested, now);
    let batch = now + Duration::from_secs(20);
    assert_eq!(life.deadline(), Some(batch));
    life.on(Event::Deadline, batch);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
    assert_eq!(life.deadline(), Some(now + TIMEOUT));
    life.on(Event::Deadline, now + TIMEOUT);
    assert_eq!(life.doing(), Doing::Release);
    life.on(Event::Released(false), now + TIMEOUT);
    assert!(matches!(life.doing(), Doing::Pause(_)));
    life.on(Event::Deadline, now + TIMEOUT + RELEASE_GRACE);
    assert_eq!(life.doing(), Doing::Done(End::Abandoned));
}

#[test]
fn a_stop_does_not_wait_out_the_pause_before_a_retry() {
    let (mut life, now) = processing();
    life.on(Event::Returned(Returned::Again), now);
    life.on(Event::StopRequested, now);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
}

#[test]
fn a_fatal_error_releases_the_lease_without_another_call() {
    let (mut life, now) = processing();
    life.on(Event::Returned(Returned::Fatal), now);
    assert_eq!(life.doing(), Doing::Release);
    life.on(Event::Released(true), now);
    assert_eq!(life.doing(), Doing::Done(End::Failed));
}

#[test]
fn a_shard_whose_reading_broke_down_gets_its_last_call_and_fails() {
    let (mut life, now) = life();
    life.on(Event::Returned(Returned::Ok), now);
    life.on(Event::Fetched(Fetch::Broken), now);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
    assert_eq!(life.deadline(), Some(now + TIMEOUT));
    life.on(Event::Returned(Returned::Ok), now);
    assert_eq!(life.doing(), Doing::Release);
    life.on(Event::Released(true), now);
    assert_eq!(life.doing(), Doing::Done(End::Failed));
}

#[test]
fn an_unknown_stream_parks_the_shard_and_does_not_end_it() {
    let (mut life, now) = life();
    life.on(Event::Returned(Returned::Ok), now);
    life.on(Event::Fetched(Fetch::NotFound), now);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
    life.on(Event::Returned(Returned::Ok), now);
    assert_eq!(life.doing(), Doing::Park);
    life.on(Event::StopRequested, now);
    assert_eq!(life.doing(), Doing::Release);
}

#[test]
fn an_expired_shard_is_ended_after_the_processors_last_call_and_tried_until_it_is_stored() {
    let (mut life, now) = life();
    life.on(Event::Returned(Returned::Ok), now);
    life.on(Event::Fetched(Fetch::Expired), now);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
    life.on(Event::Returned(Returned::Again), now);
    assert_eq!(life.doing(), Doing::Retire);
    life.on(Event::Retired(false), now);
    assert!(matches!(life.doing(), Doing::Pause(_)));
    life.on(Event::Rested, now);
    life.on(Event::Retired(true), now);
    life.on(Event::Released(true), now);
    assert_eq!(life.doing(), Doing::Done(End::Ended));
}

#[test]
fn a_shard_whose_end_is_not_stored_is_asked_again() {
    let (mut life, now) = life();
    life.on(Event::Returned(Returned::Ok), now);
    life.on(Event::Fetched(Fetch::End), now);
    life.on(Event::Returned(Returned::Again), now);
    assert!(matches!(life.doing(), Doing::Pause(_)));
    life.on(Event::Rested, now);
    assert_eq!(life.doing(), Doing::Call(Call::ShardEnded));
}

/// A life that is to store a dead letter.
fn burying() -> (Life, Instant) {
    let (mut life, now) = processing();
    life.on(Event::Returned(Returned::Guilty), now);
    assert_eq!(life.doing(), Doing::Bury);
    (life, now)
}

#[test]
fn a_batch_goes_on_part_by_part_without_a_pause_and_nothing_is_fetched_between() {
    let (mut life, now) = processing();
    for _ in 0..3 {
        life.on(Event::Returned(Returned::Part), now);
        assert_eq!(life.doing(), Doing::Call(Call::Process));
    }
    life.on(Event::Returned(Returned::Guilty), now);
    life.on(Event::Buried(Buried::Guilty), now);
    assert_eq!(life.doing(), Doing::Bury);
    life.on(Event::Buried(Buried::Part), now);
    assert_eq!(life.doing(), Doing::Call(Call::Process));
    life.on(Event::Returned(Returned::Guilty), now);
    life.on(Event::Buried(Buried::Last), now);
    assert_eq!(life.doing(), Doing::Fetch);
}

#[test]
fn a_letter_that_is_not_stored_is_tried_for_ever_with_pauses_and_nothing_comes_between() {
    let (mut life, mut now) = burying();
    for _ in 0..50 {
        life.on(Event::Buried(Buried::Failed), now);
        let Doing::Pause(until) = life.doing() else {
            panic!("{:?}", life.doing())
        };
        now = until;
        life.on(Event::Rested, now);
        assert_eq!(life.doing(), Doing::Bury);
    }
}

#[test]
fn a_stop_gives_a_letter_under_way_its_time_and_does_not_wait_for_one_that_failed() {
    let (mut life, now) = burying();
    life.on(Event::StopRequested, now);
    assert_eq!(life.doing(), Doing::Bury);
    assert_eq!(life.deadline(), Some(now + Duration::from_secs(20)));
    let mut hangs = life;
    hangs.on(Event::Deadline, now + Duration::from_secs(20));
    assert_eq!(hangs.doing(), Doing::Call(Call::ShutdownRequested));

    let (mut life, now) = burying();
    life.on(Event::Buried(Buried::Failed), now);
    life.on(Event::StopRequested, now);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
}

#[test]
fn a_batch_that_fails_for_good_parks_the_shard_after_the_processors_last_call() {
    let (mut life, now) = processing();
    life.on(Event::Returned(Returned::Stuck), now);
    assert_eq!(life.doing(), Doing::Call(Call::ShutdownRequested));
    life.on(Event::Returned(Returned::Ok), now);
    assert_eq!(life.doing(), Doing::Park);
    life.on(Event::StopRequested, now);
    assert_eq!(life.doing(), Doing::Release);
}

/// Anything that may happen in a state; times move on by themselves.
fn event_for(life: &Life, choice: u8) -> Event {
    let interruption = match choice % 16 {
        0 if life.minds_loss() => Some(Event::Lost),
        1 if life.minds_stop() => Some(Event::StopRequested),
        2 if life.deadline().is_some() => Some(Event::Deadline),
        3 if life.minds_handoff() => Some(Event::HandoffRequested),
        _ => None,
    };
    interruption.unwrap_or_else(|| match life.doing() {
        Doing::Call(Call::Process) => Event::Returned(
            [
                Returned::Ok,
                Returned::Again,
                Returned::Part,
                Returned::Guilty,
                Returned::Ok,
                Returned::Stuck,
                Returned::Guilty,
                Returned::Fatal,
            ][usize::from(choice / 32)],
        ),
        Doing::Bury => Event::Buried(
            [Buried::Last, Buried::Failed, Buried::Part, Buried::Guilty][usize::from(choice / 64)],
        ),
        Doing::Call(_) => Event::Returned(
            [Returned::Ok, Returned::Again, Returned::Ok, Returned::Fatal]
                [usize::from(choice / 64)],
        ),
        Doing::Pause(_) => Event::Rested,
        Doing::Fetch => Event::Fetched(
            [
                Fetch::Batch,
                Fetch::Batch,
                Fetch::Batch,
                Fetch::End,
                Fetch::NotFound,
                Fetch::Expired,
                Fetch::Batch,
                Fetch::Broken,
            ][usize::from(choice / 32)],
        ),
        Doing::Retire => Event::Retired(choice < 128),
        Doing::Release => Event::Released(choice < 128),
        Doing::Park => Event::Lost,
        Doing::Done(_) => Event::Rested,
    })
}

proptest! {
    #[test]
    fn whatever_happens_the_rules_of_a_life_hold(choices in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut life, mut now) = life();
        let mut lost = false;
        let mut stopped = false;
        let mut ended = false;
        for choice in choices {
            let before = life.doing();
            let event = event_for(&life, choice);
            now += Duration::from_millis(u64::from(choice) * 100);
            life.on(event, now);
            lost |= event == Event::Lost;
            stopped |= matches!(event, Event::StopRequested | Event::HandoffRequested);
            let after = life.doing();
            if let Doing::Done(_) = before {
                prop_assert_eq!(before, after, "a life that is over stays over");
            }
            if before == Doing::Call(Call::Process) && event == Event::Returned(Returned::Again) && !stopped {
                prop_assert!(matches!(after, Doing::Pause(_)), "a failed batch is not left: {:?}", after);
            }
            if before == Doing::Bury && event == Event::Buried(Buried::Failed) && !stopped {
                prop_assert!(matches!(after, Doing::Pause(_)), "a letter is not left: {:?}", after);
            }
            if before == Doing::Call(Call::ShardEnded) && event == Event::Returned(Returned::Ok) {
                ended = true;
            }
            ended |= event == Event::Retired(true);
            if after == Doing::Done(End::Ended) {
                prop_assert!(ended, "the end was not stored");
            }
            if lost {
                let allowed = matches!(after, Doing::Call(Call::LeaseLost) | Doing::Done(_));
                prop_assert!(allowed, "after the loss: {:?}", after);
            }
            if stopped {
                prop_assert!(!matches!(after, Doing::Fetch | Doing::Park), "after a stop: {:?}", after);
                let waits = matches!(after, Doing::Done(_)) || life.deadline().is_some();
                prop_assert!(waits, "no deadline in {:?}", after);
            }
        }
    }
}
