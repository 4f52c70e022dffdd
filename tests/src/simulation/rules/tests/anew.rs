//! What an operator may do, and what that does not excuse.

use kinesis_core::SequenceParts;

use super::*;

/// Where the record is that came in this second.
fn came(second: u64) -> Position {
    let parts = SequenceParts {
        shard_created_s: 0,
        shard_index: 0,
        counter: second,
        written_s: second,
    };
    Position::at(parts.encode(), 0)
}

/// A stream of one shard with three records, of the seconds 1 to 3.
fn of_three_seconds() -> Truth {
    let shard = ShardId::from_index(SHARD);
    Truth {
        records: (1..=3)
            .map(|second| Written {
                position: came(second),
                ..written(&shard, second, "k")
            })
            .collect(),
        ..three()
    }
}

/// An operator sets the shard to start there, and this is written.
fn reset(position: Position, second: Option<u64>, written: Event) -> Vec<Event> {
    let deed: Arc<str> = "operator 1".into();
    let to = Start {
        position,
        starts_at: second.map(|second| second * 1_000),
    };
    let begins = Event::Resets {
        deed: Arc::clone(&deed),
        to,
    };
    let lease = ShardId::from_index(SHARD);
    vec![begins, Event::Reset { lease, deed }, written]
}

/// As an operator writes it.
fn set(counter: u64, checkpoint: Position, second: Option<u64>) -> Vec<Event> {
    let written = of_nobody(from(counter, checkpoint.clone(), second));
    reset(checkpoint, second, written)
}

fn of_nobody(mut event: Event) -> Event {
    if let Event::Row { row, .. } = &mut event {
        row.owner = None;
    }
    event
}

fn removed(shard: u64) -> Event {
    let (lease, by_hand) = (ShardId::from_index(shard), true);
    Event::RowDeleted { lease, by_hand }
}

/// A row that is to be read from there on, and from this second.
fn from(counter: u64, checkpoint: Position, second: Option<u64>) -> Event {
    let mut event = row(counter, "b", checkpoint);
    if let Event::Row { row, .. } = &mut event {
        row.starts_at = second.map(|second| second * 1_000);
    }
    event
}

fn processes(instance: &Instance, seconds: &[u64]) -> Vec<Event> {
    let mut events = vec![enters(instance, Call::Process)];
    events.extend(seconds.iter().map(|second| Event::Delivered {
        instance: instance.clone(),
        position: came(*second),
        payload: second.to_string(),
    }));
    events.push(leaves(instance, Call::Process, Ending::Done));
    events
}

/// `a` is done with records, checkpointed, and gone; then this.
fn after(done: &[u64], then: Vec<Vec<Event>>) -> Vec<Vec<Event>> {
    let a = instance(0, "a");
    let mut history = taken(&a);
    history.push(processes(&a, done));
    let checkpoint = done
        .last()
        .map_or(Position::TrimHorizon, |last| came(*last));
    history.push(vec![row(2, "a", checkpoint), down("a"), up("b"), led("b")]);
    history.extend(then);
    history
}

#[test]
fn a_lease_that_is_set_anew_may_go_back_and_only_as_far_as_its_row_says_and_only_once() {
    let start = Position::TrimHorizon;
    let b = instance(1, "b");
    let anew = |counter| set(counter, start.clone(), None);
    let again = |then: Vec<Event>| {
        let begun = begins(&b, start.clone());
        broken(
            of_three_seconds(),
            after(
                &[1, 2],
                vec![anew(3), begun, processes(&b, &[1, 2, 3]), then],
            ),
        )
    };
    assert_eq!(again(Vec::new()), NOTHING);
    assert_eq!(again(vec![row(4, "b", came(3))]), NOTHING);
    let twice = vec![row(4, "b", came(3)), row(5, "b", start.clone())];
    assert_eq!(again(twice), [Rule::Back], "by nobody");
    let counter = after(&[1, 2], vec![anew(1)]);
    assert_eq!(
        broken(of_three_seconds(), counter),
        [Rule::Back],
        "the counter"
    );
}

#[test]
fn all_that_came_since_a_lease_is_set_to_is_to_be_processed_again() {
    let set = |checkpoint, second| vec![set(3, checkpoint, second)];
    let left = |history| unrest(of_three_seconds(), history).unwrap_or_default();
    let from_all = left(after(&[1, 2, 3], set(Position::TrimHorizon, None)));
    assert!(from_all.starts_with("3 records"), "{from_all}");
    let from_second = left(after(&[1, 2, 3], set(Position::AtTimestamp, Some(2))));
    assert!(from_second.starts_with("2 records"), "{from_second}");
    let from_third = left(after(&[1], set(Position::Latest, Some(3))));
    assert!(from_third.starts_with("1 records"), "{from_third}");
    // Who passes them without is found.
    let mut history = after(&[1, 2], set(Position::AtTimestamp, Some(2)));
    history.push(vec![row(4, "b", came(3))]);
    assert_eq!(broken(of_three_seconds(), history), [Rule::Lost]);
}

#[test]
fn a_processor_of_a_lease_that_is_set_to_an_instant_is_given_what_came_since_and_no_more() {
    let b = instance(1, "b");
    let given = |seconds: &[u64]| {
        let set = set(3, Position::AtTimestamp, Some(2));
        let begun = begins(&b, Position::AtTimestamp);
        let history = after(&[1], vec![set, begun, processes(&b, seconds)]);
        broken(of_three_seconds(), history)
    };
    assert_eq!(given(&[2, 3]), NOTHING);
    assert_eq!(given(&[3]), [Rule::Order], "one is left out");
    assert_eq!(given(&[1, 2, 3]), [Rule::Order], "one is from before");
    // Without an operator nobody begins at an instant, and nothing is left out.
    let begun = begins(&b, Position::AtTimestamp);
    let history = after(
        &[1],
        vec![vec![from(3, Position::AtTimestamp, Some(2))], begun],
    );
    assert_eq!(broken(of_three_seconds(), history), [Rule::Back]);
}

#[test]
fn a_lease_that_is_set_to_something_else_than_the_operator_wanted_is_found() {
    let instant = Position::AtTimestamp;
    let wrong = |written: Event| {
        let set = reset(instant.clone(), Some(2), written);
        broken(of_three_seconds(), after(&[1], vec![set]))
    };
    let right = || of_nobody(from(3, instant.clone(), Some(2)));
    assert_eq!(wrong(right()), NOTHING);
    let elsewhere = of_nobody(from(3, instant.clone(), Some(3)));
    assert_eq!(wrong(elsewhere), [Rule::Start], "at another instant");
    let beginning = of_nobody(from(3, Position::TrimHorizon, None));
    assert_eq!(wrong(beginning), [Rule::Start], "at the beginning");
    let owned = from(3, instant.clone(), Some(2));
    assert_eq!(wrong(owned), [Rule::Start], "and somebody has it");
    let mut prepared = right();
    if let Event::Row { row, .. } = &mut prepared {
        let (position, state) = (came(3), "s".to_owned());
        row.pending = Some(Pending { position, state });
    }
    assert!(wrong(prepared).contains(&Rule::Start), "and is prepared");
    // Nor is one set by who was not to.
    let (lease, deed) = (ShardId::from_index(SHARD), "operator 2".into());
    let history = after(&[1], vec![vec![Event::Reset { lease, deed }]]);
    assert_eq!(broken(of_three_seconds(), history), [Rule::Start]);
    // What is to be read is what the operator wanted, whatever was written.
    let newest = of_nobody(from(3, Position::Latest, Some(4)));
    let set = reset(Position::TrimHorizon, None, newest);
    let left = unrest(of_three_seconds(), after(&[1], vec![set]));
    holds(left, "3 records");
}

#[test]
fn a_lease_whose_row_was_deleted_and_that_comes_back_elsewhere_is_found() {
    let again = |position, second| {
        let history = vec![removed(SHARD), from(0, position, second)];
        broken(of_three_seconds(), after(&[1, 2], vec![history]))
    };
    assert_eq!(again(Position::TrimHorizon, None), NOTHING);
    assert_eq!(again(Position::Latest, Some(3)), [Rule::Start]);
    assert_eq!(again(Position::AtTimestamp, Some(1)), [Rule::Start]);
    // So is one that is made for the first time.
    let made = from(0, Position::Latest, Some(3));
    assert_eq!(broken(of_three_seconds(), [vec![made]]), [Rule::Start]);
}

#[test]
fn a_child_starts_at_its_beginning_or_at_the_instant_that_its_parent_stands_at() {
    let at_instant = |shard, second: Option<u64>| {
        let position = match second {
            Some(_) => Position::AtTimestamp,
            None => Position::TrimHorizon,
        };
        let mut event = row_of(shard, 1, "a", position);
        if let Event::Row { row, .. } = &mut event {
            row.starts_at = second.map(|second| second * 1_000);
        }
        event
    };
    let child = |parent: Option<u64>, moved: bool, child: Option<u64>| {
        let mut history = vec![at_instant(0, None)];
        if let Some(second) = parent {
            let written = of_nobody(at_instant(0, Some(second)));
            history.extend(reset(Position::AtTimestamp, parent, written));
        }
        if moved {
            let mut event = row(2, "a", came(9));
            if let Event::Row { row, .. } = &mut event {
                row.starts_at = parent.map(|second| second * 1_000);
            }
            history.push(event);
        }
        history.push(at_instant(1, child));
        broken(split(), [history])
    };
    assert_eq!(child(None, false, None), NOTHING);
    assert_eq!(child(None, false, Some(2)), [Rule::Start]);
    assert_eq!(child(Some(2), false, Some(2)), NOTHING);
    assert_eq!(child(Some(2), false, Some(3)), [Rule::Start]);
    assert_eq!(child(Some(2), false, None), [Rule::Start]);
    assert_eq!(child(Some(2), true, None), NOTHING, "it had records since");
}

#[test]
fn a_row_that_is_deleted_by_hand_starts_anew() {
    let start = Position::TrimHorizon;
    let deleted = || vec![removed(SHARD), from(0, start.clone(), None)];
    let history = after(&[1, 2], vec![deleted()]);
    assert_eq!(broken(of_three_seconds(), history.clone()), NOTHING);
    holds(unrest(of_three_seconds(), history), "3 records");
    let mut by_itself = after(&[1, 2], vec![deleted()]);
    by_itself.push(vec![row(1, "b", came(1))]);
    assert_eq!(broken(of_three_seconds(), by_itself), [Rule::Lost]);
    holds(
        unrest(
            of_three_seconds(),
            after(&[1, 2, 3], vec![vec![removed(SHARD)]]),
        ),
        "has no lease",
    );
}

#[test]
fn an_owner_that_does_not_know_that_its_row_was_deleted_begins_where_that_was() {
    let a = instance(0, "a");
    let begun = |before: Vec<Event>, position: Position| {
        let taken = vec![up("a"), led("a")];
        broken(three(), [taken, before, begins(&a, position)])
    };
    let start = Position::TrimHorizon;
    let took = || row(1, "a", start.clone());
    assert_eq!(begun(vec![took(), removed(SHARD)], start.clone()), NOTHING);
    assert_eq!(begun(vec![took(), removed(SHARD)], at(1)), [Rule::Order]);
    assert_eq!(begun(vec![removed(SHARD)], start.clone()), [Rule::Order]);
}

#[test]
fn finished_shards_may_be_read_again_while_one_behind_them_has_no_row() {
    let start = Position::TrimHorizon;
    let again = |removed_child: bool, parents_row: bool| {
        let mut history = vec![
            row_of(0, 0, "a", start.clone()),
            row_of(0, 1, "a", Position::ShardEnd),
            row_of(1, 1, "a", start.clone()),
            row_of(2, 1, "a", start.clone()),
        ];
        if !parents_row {
            let (lease, by_hand) = (ShardId::from_index(0), false);
            history.push(Event::RowDeleted { lease, by_hand });
        }
        history.extend(removed_child.then(|| removed(1)));
        history.push(row_of(0, 2, "a", start.clone()));
        broken(split(), [history])
    };
    assert_eq!(again(true, false), NOTHING);
    assert_eq!(again(false, false), [Rule::Back], "no row is missing");
    assert_eq!(
        again(true, true),
        [Rule::Back],
        "its row says that it is finished"
    );
    // One that ended when its own row was deleted needs no other.
    let end = |left: bool| {
        let mut history = vec![removed(0)];
        history.push(row_of(1, 1, "a", start.clone()));
        history.extend(begins(&of_shard(0, "a", 1), start.clone()));
        let records = left.then(|| written(&ShardId::from_index(0), 1, "k"));
        let truth = Truth {
            records: records.into_iter().collect(),
            ..split()
        };
        broken(truth, [history])
    };
    assert_eq!(end(false), NOTHING);
    assert_eq!(end(true), [Rule::Parents]);
}

#[test]
fn in_quiet_a_lease_that_an_operator_had_released_has_the_time_of_one_whose_owner_died() {
    let released = |owner: &str, seconds: u64| {
        let (a, b) = (instance(0, "a"), instance(1, "b"));
        let mut checker = Checker::new(three());
        let mut see = |at, events: Vec<Event>| see_all(&mut checker, at, events);
        taken(&a).into_iter().for_each(|events| see(0, events));
        see(1, vec![Event::Quiet, row(2, owner, Position::TrimHorizon)]);
        see(1, vec![asked("leaves")]);
        see(
            1,
            vec![
                enters(&a, Call::Shutdown),
                leaves(&a, Call::Shutdown, Ending::Done),
            ],
        );
        see(1 + seconds, begins(&b, Position::TrimHorizon));
        let violations = checker.violations().iter();
        violations.map(|broken| broken.rule).collect::<Vec<_>>()
    };
    assert_eq!(released(NOBODY, 15), NOTHING);
    assert_eq!(released(NOBODY, 16), [Rule::Slow]);
    assert_eq!(released("b", 4), [Rule::Slow]);
    // By a handoff to one that stops meanwhile.
    assert_eq!(released("leaves", 3), NOTHING);
    assert_eq!(released("leaves", 4), [Rule::Slow]);
}
