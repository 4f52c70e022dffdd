//! From an unknown consumer to one that can be used, or to the reason why not.

use super::*;

fn rules(may_register: bool) -> (Rules, Instant) {
    let now = kinesis_core::Clock::system().now();
    (Rules::new(may_register, Rand::seeded(5), now), now)
}

#[test]
fn an_absent_consumer_is_registered_and_used_when_active() {
    let (mut rules, now) = rules(true);
    assert_eq!(rules.on(Told::Absent, now), Next::Register);
    assert!(matches!(
        rules.on(Told::Registered, now),
        Next::DescribeIn(_)
    ));
    assert!(matches!(rules.on(Told::NotReady, now), Next::DescribeIn(_)));
    assert_eq!(rules.on(Told::Active, now), Next::Ready);
}

#[test]
fn the_worker_that_comes_second_looks_again() {
    let (mut rules, now) = rules(true);
    assert_eq!(rules.on(Told::Absent, now), Next::Register);
    assert!(matches!(rules.on(Told::InUse, now), Next::DescribeIn(_)));
    assert_eq!(rules.on(Told::Active, now), Next::Ready);
}

#[test]
fn a_limit_is_believed_when_it_is_told_several_times() {
    let (mut rules, now) = rules(true);
    for _ in 1..LIMIT_TRIES {
        assert!(matches!(
            rules.on(Told::LimitExceeded, now),
            Next::DescribeIn(_)
        ));
    }
    assert_eq!(
        rules.on(Told::LimitExceeded, now),
        Next::Refused(Reason::Limit)
    );
}

#[test]
fn a_consumer_given_by_its_arn_is_never_registered() {
    let (mut rules, now) = rules(false);
    assert_eq!(
        rules.on(Told::Absent, now),
        Next::Refused(Reason::NoConsumer)
    );
}

#[test]
fn what_is_never_ready_is_late_after_bounded_pauses() {
    let (mut rules, mut now) = rules(true);
    let begun = now;
    let mut pauses = 0;
    loop {
        match rules.on(Told::NotReady, now) {
            Next::DescribeIn(pause) => {
                assert!((PAUSE_MIN..=PAUSE_MIN + PAUSE_MAX).contains(&pause));
                now += pause;
                pauses += 1;
            }
            next => {
                assert_eq!(next, Next::Late);
                break;
            }
        }
    }
    assert!(now - begun <= PATIENCE && pauses >= 10, "{pauses} pauses");
}
