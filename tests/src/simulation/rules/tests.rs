//! Each rule finds the histories that break it, and no other.

use kinesis_local::testing::START_MS;

use super::*;

mod anew;
mod leading;
mod one_by_one;
mod pending;
mod start;

const SHARD: u64 = 0;

fn at(number: u64) -> Position {
    Position::parse(&number.to_string(), 0).unwrap()
}

fn instance(number: usize, worker: &str) -> Instance {
    of_shard(number, worker, SHARD)
}

fn of_shard(number: usize, worker: &str, shard: u64) -> Instance {
    Instance {
        number,
        worker: worker.into(),
        shard: ShardId::from_index(shard),
    }
}

fn written(shard: &ShardId, number: u64, key: &str) -> Written {
    Written {
        shard: shard.clone(),
        position: at(number),
        key: key.into(),
        arrived: START_MS + 1_000 * number,
    }
}

/// A stream of one open shard with three records, 1 to 3.
fn three() -> Truth {
    let shard = ShardId::from_index(SHARD);
    Truth {
        records: (1..=3).map(|n| written(&shard, n, "k")).collect(),
        parents: BTreeMap::from([(shard.clone(), Vec::new())]),
        open: BTreeSet::from([shard]),
        by_number: true,
        initial: InitialPosition::TrimHorizon,
        each: None,
    }
}

fn row_of(shard: u64, counter: u64, owner: &str, checkpoint: Position) -> Event {
    Event::Row {
        lease: ShardId::from_index(shard),
        row: Row {
            owner: Some(owner.to_owned()),
            checkpoint_owner: None,
            counter,
            checkpoint,
            pending: None,
            starts_at: None,
        },
    }
}

fn row(counter: u64, owner: &str, checkpoint: Position) -> Event {
    row_of(SHARD, counter, owner, checkpoint)
}

fn up(worker: &str) -> Event {
    let worker = worker.into();
    Event::Up { worker }
}

fn down(worker: &str) -> Event {
    let (worker, crashed) = (worker.into(), true);
    Event::Down { worker, crashed }
}

fn asked(worker: &str) -> Event {
    let worker = worker.into();
    Event::Asked { worker }
}

fn led(worker: &str) -> Event {
    let worker = worker.to_owned();
    Event::Led { worker }
}

fn begins(instance: &Instance, position: Position) -> Vec<Event> {
    let call = Call::Initialize;
    vec![
        enters(instance, call),
        Event::Begins {
            instance: instance.clone(),
            position,
            pending: None,
        },
        leaves(instance, call, Ending::Done),
    ]
}

fn enters(instance: &Instance, call: Call) -> Event {
    let instance = instance.clone();
    Event::Enters { instance, call }
}

fn leaves(instance: &Instance, call: Call, ending: Ending) -> Event {
    Event::Leaves {
        instance: instance.clone(),
        call,
        ending,
    }
}

fn given(instance: &Instance, number: u64) -> Event {
    Event::Delivered {
        instance: instance.clone(),
        position: at(number),
        payload: number.to_string(),
    }
}

fn asks(instance: &Instance) -> Event {
    Event::Asks {
        instance: instance.clone(),
        position: None,
    }
}

/// A whole call of `process_records`.
fn batch(instance: &Instance, numbers: &[u64], ending: Ending) -> Vec<Event> {
    let mut events = vec![enters(instance, Call::Process)];
    events.extend(numbers.iter().map(|number| given(instance, *number)));
    events.push(leaves(instance, Call::Process, ending));
    events
}

/// The rules that a history breaks, in the order in which it does.
fn broken(truth: Truth, events: impl IntoIterator<Item = Vec<Event>>) -> Vec<Rule> {
    let mut checker = Checker::new(truth);
    for event in events.into_iter().flatten() {
        let at = Duration::ZERO;
        checker.see(&Entry { at, event });
    }
    let rules = checker.violations().iter();
    rules.map(|violation| violation.rule).collect()
}

const NOTHING: [Rule; 0] = [];

/// A worker `a` that took the shard and was told to begin.
fn taken(a: &Instance) -> Vec<Vec<Event>> {
    let start = Position::TrimHorizon;
    vec![
        vec![
            up(&a.worker),
            led(&a.worker),
            row(1, &a.worker, start.clone()),
        ],
        begins(a, start),
    ]
}

#[test]
fn a_history_in_good_order_breaks_nothing() {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let mut history = taken(&a);
    history.extend([
        batch(&a, &[1], Ending::Failed),
        batch(&a, &[1, 2], Ending::Done),
        vec![row(2, "a", at(1)), down("a"), up("b"), row(3, "b", at(1))],
        begins(&b, at(1)),
        batch(&b, &[2, 3], Ending::Done),
        vec![row(4, "b", at(3)), led("b")],
    ]);
    assert_eq!(broken(three(), history), NOTHING);
}

#[test]
fn a_checkpoint_behind_a_record_that_nobody_is_done_with_loses_it() {
    let a = instance(0, "a");
    for (ending, asked) in [(Ending::Failed, false), (Ending::Dropped, false)] {
        let mut history = taken(&a);
        history.push(batch(&a, &[1], ending));
        history.push(vec![row(2, "a", at(1))]);
        assert_eq!(broken(three(), history), [Rule::Lost], "{ending:?} {asked}");
    }
    // A processor that asked for the checkpoint was done, whatever became of its call.
    let mut history = taken(&a);
    history.push(vec![enters(&a, Call::Process), given(&a, 1), asks(&a)]);
    history.push(vec![
        leaves(&a, Call::Process, Ending::Dropped),
        row(2, "a", at(1)),
    ]);
    assert_eq!(broken(three(), history), NOTHING);
    // A dead letter is no loss.
    let mut history = taken(&a);
    history.push(batch(&a, &[1], Ending::Failed));
    let buried = Event::Buried {
        shard: a.shard.clone(),
        position: at(1),
    };
    history.push(vec![buried, row(2, "a", at(1))]);
    assert_eq!(broken(three(), history), NOTHING);
    // The end of a shard is behind all of it.
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2], Ending::Done));
    history.push(vec![row(2, "a", Position::ShardEnd)]);
    assert_eq!(broken(three(), history), [Rule::Lost]);
}

#[test]
fn records_out_of_their_order_are_found() {
    let a = instance(0, "a");
    let cases: [(&[&[u64]], &str); 5] = [
        (&[&[2]], "the first is left out"),
        (&[&[1, 3]], "one in the middle is left out"),
        (&[&[1], &[3]], "one between batches is left out"),
        (&[&[1, 2], &[2, 3]], "one that was processed comes again"),
        (&[&[1, 2, 1]], "one comes back in its batch"),
    ];
    for (batches, what) in cases {
        let mut history = taken(&a);
        history.extend(
            batches
                .iter()
                .map(|numbers| batch(&a, numbers, Ending::Done)),
        );
        assert_eq!(broken(three(), history), [Rule::Order], "{what}");
    }
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2, 3, 4], Ending::Done));
    assert_eq!(broken(three(), history), [Rule::Order], "never written");
    let mut history = taken(&a);
    history.extend([
        vec![row(2, "b", Position::TrimHorizon)],
        begins(&instance(1, "b"), at(1)),
    ]);
    assert_eq!(broken(three(), history), [Rule::Order], "begins elsewhere");
    let history = vec![batch(&a, &[1], Ending::Done)];
    assert_eq!(broken(three(), history), [Rule::Order], "never began");
}

#[test]
fn two_processors_of_a_shard_at_work_are_found() {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let start = Position::TrimHorizon;
    // b begins while a is in a call.
    let mut history = taken(&a);
    history.push(vec![enters(&a, Call::Process), row(2, "b", start.clone())]);
    history.push(begins(&b, start.clone()));
    assert_eq!(broken(three(), history), [Rule::TwoOwners]);
    // a is called again though b has begun.
    let mut history = taken(&a);
    history.push(vec![row(2, "b", start.clone())]);
    history.push(begins(&b, start.clone()));
    history.push(batch(&a, &[1], Ending::Done));
    assert_eq!(broken(three(), history), [Rule::TwoOwners]);
    // What is said of the loss is no work.
    let mut history = taken(&a);
    history.push(vec![row(2, "b", start.clone())]);
    history.push(begins(&b, start));
    let lost = Call::LeaseLost;
    history.push(vec![
        enters(&a, lost),
        enters(&b, Call::Process),
        leaves(&a, lost, Ending::Done),
    ]);
    history.push(vec![leaves(&b, Call::Process, Ending::Failed)]);
    assert_eq!(broken(three(), history), NOTHING);
}

/// Shard 0 was split into 1 and 2.
fn split() -> Truth {
    let [parent, left, right] = [0, 1, 2].map(ShardId::from_index);
    Truth {
        records: Vec::new(),
        parents: BTreeMap::from([
            (parent.clone(), Vec::new()),
            (left.clone(), vec![parent.clone()]),
            (right.clone(), vec![parent]),
        ]),
        open: BTreeSet::from([left, right]),
        by_number: true,
        initial: InitialPosition::TrimHorizon,
        each: None,
    }
}

#[test]
fn a_child_that_begins_before_its_parents_end_is_found() {
    let (parent, child) = (of_shard(0, "a", 0), of_shard(1, "a", 1));
    let start = Position::TrimHorizon;
    let begun = |ended: bool| {
        let mut history = vec![
            vec![row_of(0, 1, "a", start.clone())],
            begins(&parent, start.clone()),
        ];
        if ended {
            history.push(vec![row_of(0, 2, "a", Position::ShardEnd)]);
        }
        history.push(vec![row_of(1, 1, "a", start.clone())]);
        history.push(begins(&child, start.clone()));
        broken(split(), history)
    };
    assert_eq!(begun(false), [Rule::Parents]);
    assert_eq!(begun(true), NOTHING);
}

#[test]
fn a_lease_that_goes_back_is_found() {
    let a = instance(0, "a");
    let went = |last: Event| {
        let mut history = taken(&a);
        history.push(batch(&a, &[1, 2], Ending::Done));
        history.push(vec![row(7, "a", at(2)), last]);
        broken(three(), history)
    };
    assert_eq!(went(row(8, "a", at(2))), NOTHING);
    assert_eq!(went(row(8, "a", at(1))), [Rule::Back], "the checkpoint");
    assert_eq!(went(row(6, "a", at(2))), [Rule::Back], "the counter");
    let lease = ShardId::from_index(SHARD);
    let by_hand = false;
    let deleted = Event::RowDeleted { lease, by_hand };
    assert_eq!(went(deleted), [Rule::Back], "deleted before its end");
}

#[test]
fn another_that_leads_without_a_reason_is_found() {
    let history = |then| [vec![up("a"), up("b"), led("a")], then];
    assert_eq!(broken(three(), history(vec![led("b")])), [Rule::Deposed]);
    assert_eq!(
        broken(three(), history(vec![asked("a"), led("b")])),
        NOTHING
    );
}

#[test]
fn a_worker_that_ends_by_itself_is_found() {
    let broke = Event::Broke {
        worker: "a".into(),
        what: "an error".to_owned(),
    };
    assert_eq!(broken(three(), [vec![up("a"), broke]]), [Rule::Broke]);
}

/// What keeps a history from being at rest.
fn unrest(truth: Truth, events: impl IntoIterator<Item = Vec<Event>>) -> Option<String> {
    let mut checker = Checker::new(truth);
    for event in events.into_iter().flatten() {
        let at = Duration::ZERO;
        checker.see(&Entry { at, event });
    }
    checker.unrest()
}

fn holds(text: Option<String>, part: &str) {
    let text = text.expect("not at rest");
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_fleet_that_is_not_at_rest_is_told_from_one_that_is() {
    let a = instance(0, "a");
    let rest = |last: Vec<Event>| {
        let mut history = taken(&a);
        history.push(batch(&a, &[1, 2, 3], Ending::Done));
        history.push(last);
        unrest(three(), history)
    };
    let start = Position::TrimHorizon;
    assert_eq!(rest(Vec::new()), None);
    holds(
        rest(vec![down("a"), up("b"), led("b")]),
        "no living worker owns",
    );
    holds(
        rest(vec![row(2, "b", start.clone()), up("b")]),
        "and works on it",
    );
    holds(rest(vec![led("b")]), "no living worker leads");
    let mut handoff = row(2, "a", start);
    if let Event::Row { row, .. } = &mut handoff {
        row.checkpoint_owner = Some("a".to_owned());
    }
    holds(rest(vec![handoff]), "in a handoff");
    let mut history = taken(&a);
    history.push(batch(&a, &[1, 2], Ending::Done));
    holds(unrest(three(), history), "1 records");
    holds(unrest(split(), []), "is closed and not");
    let what = "a reason".to_owned();
    assert_eq!(
        broken(three(), [vec![Event::Unrest { what }]]),
        [Rule::Stuck]
    );
}

#[test]
fn shards_that_are_shared_out_unevenly_are_not_at_rest() {
    let shared = |by_number: bool, second: &str| {
        let start = Position::TrimHorizon;
        let mut history = vec![vec![
            up("a"),
            up("b"),
            led("a"),
            row_of(0, 1, "a", Position::ShardEnd),
        ]];
        for (number, owner) in [(1, "a"), (2, second)] {
            history.push(vec![row_of(number, 1, owner, start.clone())]);
            history.push(begins(
                &of_shard(number as usize, owner, number),
                start.clone(),
            ));
        }
        unrest(
            Truth {
                by_number,
                ..split()
            },
            history,
        )
    };
    assert_eq!(shared(true, "b"), None);
    holds(shared(true, "a"), "unevenly");
    assert_eq!(shared(false, "a"), None);
}

/// The rules that a quiet history breaks in which `b` follows `a` on the shard after so many seconds.
fn followed(quiet: bool, seconds: u64, given_up: Vec<Event>, checkpoint: Position) -> Vec<Rule> {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let mut checker = Checker::new(three());
    let mut see = |at: u64, events: Vec<Event>| {
        for event in events {
            let at = Duration::from_secs(at);
            checker.see(&Entry { at, event });
        }
    };
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

/// The rules that a quiet history breaks in which `a` stops, the leader dies, and `b` follows on the shard
/// so many seconds after that; another leads before `a` stops, if so.
fn followed_without_a_leader(stops_first: bool, led_again: bool, seconds: u64) -> Vec<Rule> {
    let (a, b) = (instance(0, "a"), instance(1, "b"));
    let mut checker = Checker::new(three());
    let mut see = |at: u64, events: Vec<Event>| {
        for event in events {
            let at = Duration::from_secs(at);
            checker.see(&Entry { at, event });
        }
    };
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
