//! Who leads without a reason is found, and nobody else.

use super::*;
use crate::simulation::rules::leading::Leading;

fn gave_back(worker: &str) -> Event {
    let worker = worker.into();
    Event::GaveBack { worker }
}

fn called(worker: &str, fault: bool, of_lock: bool) -> Event {
    called_for("DynamoDB.UpdateItem", worker, fault, of_lock)
}

fn called_for(operation: &str, worker: &str, fault: bool, of_lock: bool) -> Event {
    Event::Called {
        worker: worker.into(),
        operation: operation.to_owned(),
        fate: String::new(),
        fault,
        of_lock,
    }
}

/// Whether something is wrong with the last of these, each at so many seconds; nothing is with the others.
fn is_wrong(history: Vec<(u64, Event)>) -> bool {
    let mut leading = Leading::default();
    let mut wrong = false;
    for (seconds, event) in history {
        assert!(!wrong, "before {event:?}");
        let at = Duration::from_secs(seconds);
        wrong = leading.see(&Entry { at, event }).is_some();
    }
    wrong
}

/// `a` leads, and `b` is there; then this.
fn a_leads(then: Vec<(u64, Event)>) -> bool {
    let mut history = vec![(0, up("a")), (0, up("b")), (100, led("a"))];
    history.extend(then);
    is_wrong(history)
}

#[test]
fn who_leads_though_the_leader_lives_is_found() {
    assert!(a_leads(vec![(120, led("b"))]));
    assert!(!a_leads(vec![(104, led("a")), (107, led("a"))]));
    assert!(!a_leads(vec![(103, down("a")), (120, led("b"))]), "killed");
    assert!(!a_leads(vec![(103, asked("a")), (104, led("b"))]), "leaves");
    let back_again = vec![
        (103, asked("a")),
        (104, up("a")),
        (105, led("a")),
        (120, led("b")),
    ];
    assert!(a_leads(back_again), "it was asked in an earlier life");
}

#[test]
fn faults_of_calls_for_the_lock_are_a_reason_if_they_are_several_and_not_long_ago() {
    let faults = |count, worker, of_lock, led_at| {
        let mut then: Vec<_> = (0..count)
            .map(|_| (103, called(worker, true, of_lock)))
            .collect();
        then.push((led_at, led("b")));
        a_leads(then)
    };
    assert!(!faults(2, "a", true, 123));
    assert!(faults(1, "a", true, 110), "one alone is endured");
    assert!(faults(2, "a", true, 124), "long ago");
    assert!(faults(9, "a", false, 110), "of other calls");
    assert!(faults(9, "b", true, 110), "of another's");
    let before_quiet = vec![
        (103, called("a", true, true)),
        (103, called("a", true, true)),
        (104, Event::Quiet),
        (110, led("b")),
    ];
    assert!(a_leads(before_quiet), "before quiet");
    let sound = vec![
        (103, called("a", false, true)),
        (104, called("a", false, true)),
        (110, led("b")),
    ];
    assert!(a_leads(sound), "no faults");
}

#[test]
fn what_arrives_of_the_dead_makes_nobody_lead() {
    let late = |again: u64| {
        a_leads(vec![
            (101, down("a")),
            (102, up("a")),
            (again, led("a")),
            (125, led("b")),
        ])
    };
    assert!(!late(110), "a beat of the first life");
    assert!(late(111), "the second one leads");
    assert!(!a_leads(vec![
        (101, down("a")),
        (103, led("a")),
        (110, led("b"))
    ]));
}

#[test]
fn a_leader_that_gives_the_lock_back_and_has_no_reason_is_found() {
    assert!(a_leads(vec![(110, gave_back("a"))]));
    assert!(!a_leads(vec![(101, asked("a")), (110, gave_back("a"))]));
    assert!(!a_leads(vec![(101, down("a")), (103, gave_back("a"))]));
    let failed = |count: usize, event: Event| {
        let mut then: Vec<_> = (0..count).map(|_| (103, event.clone())).collect();
        then.push((253, gave_back("a")));
        a_leads(then)
    };
    let of_table = || called("a", true, false);
    assert!(failed(2, of_table()));
    assert!(!failed(3, of_table()), "a slow pass may have");
    let soon = |count: usize, at| {
        let mut then: Vec<_> = (0..count).map(|_| (103, of_table())).collect();
        then.push((at, gave_back("a")));
        a_leads(then)
    };
    assert!(soon(8, 112));
    assert!(soon(9, 111));
    assert!(!soon(9, 112), "three passes may have");
    assert!(failed(9, called("b", true, false)), "of another's");
    assert!(failed(9, called("a", true, true)), "of the lock alone");
    let of_stream = called_for("Kinesis.GetRecords", "a", true, false);
    assert!(failed(9, of_stream), "of the stream");
    let tries_to = || called_for("DynamoDB.DeleteItem", "a", true, true);
    assert!(a_leads(vec![(110, tries_to())]), "nor may it try to");
    let mut expires: Vec<_> = (0..9).map(|_| (103, of_table())).collect();
    expires.extend([(113, tries_to()), (125, led("b"))]);
    assert!(!a_leads(expires), "the lock was not heard of it");
    let before_quiet = vec![
        (103, of_table()),
        (103, of_table()),
        (103, of_table()),
        (104, Event::Quiet),
        (125, gave_back("a")),
    ];
    assert!(a_leads(before_quiet), "before quiet");
    let free = vec![
        (103, called("a", true, false)),
        (104, called("a", true, false)),
        (105, called("a", true, false)),
        (122, gave_back("a")),
        (123, led("b")),
    ];
    assert!(!a_leads(free), "the lock was free");
}
