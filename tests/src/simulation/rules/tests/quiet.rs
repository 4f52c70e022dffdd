//! What holds beyond that in quiet, and when nothing is written any more.

use super::*;

/// The rules that a quiet history breaks in which `b` follows `a` on the shard after so many seconds.
fn followed(quiet: bool, seconds: u64, given_up: Vec<Event>, checkpoint: Position) -> Vec<Rule> {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let mut checker = Checker::new(three());
    let mut see = |at, events: Vec<Event>| see_all(&mut checker, at, events);
    taken(&a).into_iter().for_each(|events| see(0, events));
    see(1, batch(&a, &[1, 2], Ending::Done));
    if quiet {
        see(1, vec![Event::Quiet]);
    }
    see(1, vec![row(2, "a", checkpoint.clone())]);
    see(1, given_up);
    see(1 + seconds, vec![row(3, "b", checkpoint.clone())]);
    see(1 + seconds, begins(&b, checkpoint));
    checker
        .violations()
        .iter()
        .map(|broken| broken.rule)
        .collect()
}

#[test]
fn in_quiet_a_shard_that_is_left_alone_for_too_long_is_found() {
    let a = instance(0, "a");
    let stops = || {
        vec![
            enters(&a, Call::Shutdown),
            leaves(&a, Call::Shutdown, Ending::Done),
        ]
    };
    assert_eq!(followed(true, 3, stops(), at(2)), NOTHING);
    assert_eq!(followed(true, 4, stops(), at(2)), [Rule::Slow]);
    assert_eq!(followed(false, 4, stops(), at(2)), NOTHING, "in trouble");
    // It led.
    assert_eq!(followed(true, 30, vec![down("a")], at(2)), NOTHING);
    assert_eq!(followed(true, 31, vec![down("a")], at(2)), [Rule::Slow]);
    let follower = || vec![asked("a"), led("b"), down("a")];
    assert_eq!(followed(true, 15, follower(), at(2)), NOTHING);
    assert_eq!(followed(true, 16, follower(), at(2)), [Rule::Slow]);
}

#[test]
fn in_quiet_a_shard_whose_worker_died_waits_for_who_leads_when_the_leader_stops_and_no_other_does()
{
    let gave_back = || Event::GaveBack { worker: "b".into() };
    let stops = || {
        vec![
            enters(&instance(0, "a"), Call::Shutdown),
            leaves(&instance(0, "a"), Call::Shutdown, Ending::Done),
        ]
    };
    let after = SEEN_TO_BE_GONE_WITHIN.as_secs();
    let led = || vec![asked("a"), led("b")];
    for given_up in [
        [led(), vec![down("a"), gave_back()]].concat(),
        [led(), vec![gave_back(), down("a")]].concat(),
    ] {
        assert_eq!(followed(true, 15 + after, given_up.clone(), at(2)), NOTHING);
        assert_eq!(followed(true, 16 + after, given_up, at(2)), [Rule::Slow]);
    }
    let given_up = [led(), stops(), vec![gave_back()]].concat();
    assert_eq!(followed(true, 4, given_up, at(2)), [Rule::Slow]);
    let another = vec![gave_back(), up("c"), super::led("c"), down("a")];
    let given_up = [led(), another].concat();
    assert_eq!(followed(true, 16, given_up, at(2)), [Rule::Slow]);
}

/// The rules that a quiet history breaks in which `a` stops, the leader dies, and `b` follows on the shard
/// so many seconds after that; another leads before `a` stops, if so.
fn followed_without_a_leader(stops_first: bool, led_again: bool, seconds: u64) -> Vec<Rule> {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let mut checker = Checker::new(three());
    let mut see = |at, events: Vec<Event>| see_all(&mut checker, at, events);
    taken(&a).into_iter().for_each(|events| see(0, events));
    see(1, batch(&a, &[1, 2], Ending::Done));
    let other_leads = vec![asked("a"), up("b"), up("leader"), led("leader")];
    see(1, other_leads);
    see(1, vec![row(2, "a", at(2))]);
    see(1, vec![Event::Quiet]);
    let stops = vec![
        enters(&a, Call::Shutdown),
        leaves(&a, Call::Shutdown, Ending::Done),
    ];
    // A beat that was under way when it died makes nobody lead.
    let mut dies = vec![down("leader"), led("leader")];
    dies.extend(led_again.then(|| led("b")));
    let (first, second) = if stops_first {
        (stops, dies)
    } else {
        (dies, stops)
    };
    see(2, first);
    see(3, second);
    let died = if stops_first { 3 } else { 2 };
    see(died + seconds, vec![row(3, "b", at(2))]);
    see(died + seconds, begins(&b, at(2)));
    let violations = checker.violations().iter();
    violations.map(|broken| broken.rule).collect()
}

#[test]
fn in_quiet_a_shard_whose_giver_died_waits_for_the_next_leader_and_not_longer() {
    for stops_first in [true, false] {
        let followed = |seconds| followed_without_a_leader(stops_first, false, seconds);
        assert_eq!(followed(30), NOTHING, "{stops_first}");
        assert_eq!(followed(31), [Rule::Slow], "{stops_first}");
    }
    // Somebody leads: what is left alone from then on has an owner as soon as ever, but that a lease may
    // be given to the dead first.
    let dead = ON_THE_DEAD.as_secs();
    let followed = |seconds| followed_without_a_leader(false, true, seconds);
    assert_eq!(followed(1 + 3 + dead), NOTHING);
    assert_eq!(followed(1 + 4 + dead), [Rule::Slow]);
}

#[test]
fn in_quiet_a_record_that_comes_again_after_an_orderly_end_is_found() {
    let a = instance(0, "a");
    let stops = |ending| {
        vec![
            enters(&a, Call::Shutdown),
            leaves(&a, Call::Shutdown, ending),
        ]
    };
    assert_eq!(followed(true, 1, stops(Ending::Done), at(1)), [Rule::Twice]);
    assert_eq!(followed(true, 1, stops(Ending::Failed), at(1)), NOTHING);
    assert_eq!(followed(true, 1, vec![down("a")], at(1)), NOTHING);
    assert_eq!(
        followed(false, 1, stops(Ending::Done), at(1)),
        NOTHING,
        "in trouble"
    );
    // What an earlier processor was done with when its worker died is no business of the last one.
    let (b, c) = (instance(1, "b"), instance(2, "c"));
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2], Ending::Done));
    history.push(vec![
        row(2, "a", at(1)),
        Event::Quiet,
        down("a"),
        row(3, "b", at(1)),
    ]);
    history.push(begins(&b, at(1)));
    history.push(vec![
        enters(&b, Call::Shutdown),
        leaves(&b, Call::Shutdown, Ending::Done),
    ]);
    history.push(vec![row(4, "c", at(1))]);
    history.push(begins(&c, at(1)));
    assert_eq!(broken(three(), history), NOTHING);
}

#[test]
fn in_quiet_a_lease_that_is_lost_is_found() {
    let lost = enters(&instance(0, "a"), Call::LeaseLost);
    assert_eq!(followed(true, 1, vec![lost.clone()], at(2)), [Rule::Shaken]);
    assert_eq!(followed(false, 1, vec![lost], at(2)), NOTHING);
}

#[test]
fn a_lease_that_is_moved_when_nothing_is_written_any_more_is_found() {
    let mut moved = row(1, "b", Position::TrimHorizon);
    if let Event::Row { row, .. } = &mut moved {
        row.checkpoint_owner = Some("a".to_owned());
    }
    let after = |events: Vec<Event>| broken(three(), [events, vec![moved.clone()]]);
    assert_eq!(after(vec![Event::Quiet]), NOTHING);
    assert_eq!(after(vec![Event::Quiet, Event::Still]), [Rule::Restless]);
    assert_eq!(after(vec![Event::Still, Event::Over]), NOTHING);
}
