//! Each rule finds the histories that break it, and no other.

use kinesis_local::testing::START_MS;

use super::*;
use crate::simulation::log::{Call, Ending};
use crate::simulation::operator::NOBODY;

mod anew;
mod leading;
mod one_by_one;
mod pending;
mod quiet;
mod records;
mod rest;
mod start;
mod stopped;
mod turns;

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
        stops_after: None,
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
    see_all(&mut checker, 0, events.into_iter().flatten());
    let rules = checker.violations().iter();
    rules.map(|violation| violation.rule).collect()
}

const NOTHING: [Rule; 0] = [];

/// Lets the checker see all of it at that second.
fn see_all(checker: &mut Checker, second: u64, events: impl IntoIterator<Item = Event>) {
    let at = Duration::from_secs(second);
    for event in events {
        checker.see(&Entry { at, event });
    }
}

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
        stops_after: None,
    }
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
    see_all(&mut checker, 0, events.into_iter().flatten());
    checker.unrest()
}

fn holds(text: Option<String>, part: &str) {
    let text = text.expect("not at rest");
    assert!(text.contains(part), "{text}");
}
