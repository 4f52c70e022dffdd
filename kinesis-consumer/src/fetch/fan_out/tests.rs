//! From where and when subscriptions are made, and what failures lead to.

use super::*;

const FIVE_MINUTES: Duration = Duration::from_secs(300);

fn fan_out(start: StartAt) -> (FanOut, Instant) {
    let now = kinesis_core::Clock::system().now();
    (FanOut::new(start, true, Rand::seeded(7), now), now)
}

fn number(digits: &str) -> SequenceNumber {
    digits.parse().expect("digits")
}

fn after(digits: &str) -> StartAt {
    StartAt::AfterSequence(number(digits))
}

fn event(last: Option<&str>, continuation: &str) -> Heard {
    Heard {
        continuation: Some(number(continuation)),
        last: last.map(number),
    }
}

/// When the next subscription is made, and from where.
fn subscribes(fan_out: &FanOut, now: Instant) -> (Instant, StartAt) {
    match fan_out.next(now) {
        Ask::Subscribe(start) => (now, start),
        Ask::Wait(until) => match fan_out.next(until) {
            Ask::Subscribe(start) => (until, start),
            other => panic!("{other:?}"),
        },
        Ask::Listen => panic!("still listening"),
    }
}

#[test]
fn after_five_minutes_it_subscribes_at_once_behind_the_last_event() {
    let (mut fan_out, now) = fan_out(StartAt::TrimHorizon);
    assert_eq!(fan_out.next(now), Ask::Subscribe(StartAt::TrimHorizon));
    fan_out.on_subscribed(now);
    assert_eq!(fan_out.next(now), Ask::Listen);
    assert!(!fan_out.on_event(event(Some("5"), "5")));
    assert!(!fan_out.on_event(event(None, "9")));
    let now = now + FIVE_MINUTES;
    assert_eq!(fan_out.on_end(now), None);
    assert_eq!(fan_out.next(now), Ask::Subscribe(after("9")));
    assert_eq!(fan_out.position(), after("5"), "polling knows records only");
}

#[test]
fn a_subscription_that_was_cut_is_made_again_when_the_service_would_take_it() {
    let (mut fan_out, now) = fan_out(StartAt::AtSequence(number("3")));
    fan_out.on_subscribed(now);
    let cut_at = now + Duration::from_secs(1);
    assert!(matches!(
        fan_out.on_trouble(Trouble::Other, cut_at),
        Verdict::Again { attempts: 1, .. }
    ));
    let (at, start) = subscribes(&fan_out, cut_at);
    assert_eq!(start, StartAt::AtSequence(number("3")), "nothing was taken");
    assert_eq!(at, now + SUBSCRIPTION_TAKEOVER_AFTER);
}

#[test]
fn the_last_event_of_a_shard_has_no_continuation() {
    let (mut fan_out, now) = fan_out(StartAt::TrimHorizon);
    fan_out.on_subscribed(now);
    let last = Heard {
        continuation: None,
        last: Some(number("8")),
    };
    assert!(fan_out.on_event(last));
}

#[test]
fn calls_that_fail_are_never_closer_than_a_second_nor_further_apart_than_the_bound() {
    let now = kinesis_core::Clock::system().now();
    let mut fan_out = FanOut::new(StartAt::TrimHorizon, false, Rand::seeded(7), now);
    for trouble in [
        Trouble::InUse,
        Trouble::Other,
        Trouble::Refused(Reason::Limit),
    ] {
        for _ in 0..100 {
            let (at, _) = subscribes(&fan_out, now);
            assert!(at - now <= SUBSCRIBE_INTERVAL + FETCH_BACKOFF_MAX);
            let Verdict::Again { pause, .. } = fan_out.on_trouble(trouble, now) else {
                panic!("it may not fall back");
            };
            assert!(pause >= SUBSCRIBE_INTERVAL);
        }
    }
}

#[test]
fn a_subscription_taken_over_waits_until_it_may_take_over_itself() {
    let (mut fan_out, now) = fan_out(StartAt::TrimHorizon);
    fan_out.on_subscribed(now);
    let taken_at = now + Duration::from_secs(60);
    fan_out.on_trouble(Trouble::InUse, taken_at);
    let (at, _) = subscribes(&fan_out, taken_at);
    assert!(at >= taken_at + SUBSCRIPTION_TAKEOVER_AFTER);
}

#[test]
fn two_that_take_over_from_each_other_for_ever_fall_back() {
    let (mut fan_out, mut now) = fan_out(StartAt::TrimHorizon);
    for round in 1..=FAILURES_BEFORE_FALL_BACK {
        now = subscribes(&fan_out, now).0;
        fan_out.on_subscribed(now);
        fan_out.on_event(event(None, "4"));
        let verdict = fan_out.on_trouble(Trouble::InUse, now);
        let fell_back = matches!(
            verdict,
            Verdict::FallBack {
                reason: Reason::Takeovers,
                ..
            }
        );
        assert_eq!(fell_back, round == FAILURES_BEFORE_FALL_BACK);
    }
}

#[test]
fn stalls_in_a_row_fall_back_and_an_event_in_between_resets_the_count() {
    let (mut fan_out, now) = fan_out(StartAt::TrimHorizon);
    let mut stall = |with_event: bool| {
        fan_out.on_subscribed(now);
        if with_event {
            fan_out.on_event(event(None, "4"));
        }
        fan_out.on_trouble(Trouble::Stalled, now)
    };
    for with_event in [false, false, true, false] {
        assert!(matches!(stall(with_event), Verdict::Again { .. }));
    }
    assert_eq!(
        stall(false),
        Verdict::FallBack {
            reason: Reason::Stalls,
            until: now + FAN_OUT_RETRY_AFTER
        }
    );
}

#[test]
fn a_refusal_falls_back_at_once_if_that_is_allowed() {
    for may_fall_back in [true, false] {
        let now = kinesis_core::Clock::system().now();
        let rand = Rand::seeded(7);
        let mut fan_out = FanOut::new(StartAt::TrimHorizon, may_fall_back, rand, now);
        let verdict = fan_out.on_trouble(Trouble::Refused(Reason::Limit), now);
        let fell_back = matches!(verdict, Verdict::FallBack { .. });
        assert_eq!(fell_back, may_fall_back);
    }
}

#[test]
fn subscriptions_that_end_without_an_event_count_as_failures() {
    let (mut fan_out, mut now) = fan_out(StartAt::TrimHorizon);
    for _ in 1..FAILURES_BEFORE_FALL_BACK {
        fan_out.on_subscribed(now);
        assert!(matches!(fan_out.on_end(now), Some(Verdict::Again { .. })));
        now = subscribes(&fan_out, now).0;
    }
    fan_out.on_subscribed(now);
    assert!(matches!(
        fan_out.on_end(now),
        Some(Verdict::FallBack { .. })
    ));
}

#[test]
fn a_position_that_is_refused_gives_way_to_the_last_record() {
    let (mut fan_out, now) = fan_out(StartAt::TrimHorizon);
    fan_out.on_subscribed(now);
    fan_out.on_event(event(Some("5"), "9"));
    fan_out.on_end(now);
    fan_out.on_trouble(Trouble::Position, now);
    assert_eq!(subscribes(&fan_out, now).1, after("5"));
}

#[test]
fn what_stays_unknown_is_given_up_and_never_polled_instead() {
    let (mut fan_out, now) = fan_out(StartAt::TrimHorizon);
    for _ in 0..2 * FAILURES_BEFORE_FALL_BACK {
        assert!(matches!(
            fan_out.on_trouble(Trouble::NotFound, now),
            Verdict::Again { .. }
        ));
    }
    let later = now + NOT_FOUND_PATIENCE;
    assert_eq!(
        fan_out.on_trouble(Trouble::NotFound, later),
        Verdict::GiveUp
    );
}

#[test]
fn a_subscription_let_go_for_want_of_room_goes_on_behind_the_last_event() {
    let (mut fan_out, now) = fan_out(StartAt::TrimHorizon);
    fan_out.on_subscribed(now);
    fan_out.on_event(event(Some("5"), "5"));
    fan_out.on_let_go();
    let later = now + UNREAD_PATIENCE;
    assert_eq!(fan_out.next(later), Ask::Subscribe(after("5")));
}
