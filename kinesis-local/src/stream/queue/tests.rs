//! A queue against a model that is too simple to be wrong, and its bounds.

use bytes::Bytes;
use kinesis_core::{HashKey, Rand};

use super::change::{Asked, StartingPosition};
use super::*;
use crate::stream::tests::new_stream;

const NOW_MS: u64 = 1_795_399_200_000;
const HOUR_MS: u64 = 3_600_000;

const ATTRIBUTES: Attributes = Attributes {
    visibility_s: 30,
    max_receives: Some(3),
};

fn new_queue(stream: &Stream, asked: Asked, now_ms: u64) -> NewQueue {
    let start = StartingPosition::settle(asked, stream, now_ms);
    NewQueue {
        id: AttachedId { stream: 1, own: 9 },
        name: "q".to_owned(),
        attributes: ATTRIBUTES,
        start,
        cursors: NewQueue::cursors(start, stream),
        tags: Tags::new(),
    }
}

fn with_queue(shards: u32, asked: Asked) -> (Stream, Vec<Step>) {
    let stream = Stream::create(&new_stream("s", shards));
    let new = new_queue(&stream, asked, NOW_MS);
    let mut world = (stream, Vec::new());
    take(
        &mut world,
        Step::Queue(QueueChange::Create(Box::new(new)), NOW_MS),
    );
    world
}

/// What happened to the stream, to be done again by a recovery.
#[derive(Clone, Debug)]
enum Step {
    /// A record in a shard.
    Put(u32, u64),
    Split(u32, u64),
    Queue(QueueChange, u64),
}

fn make(stream: &mut Stream, step: &Step) {
    match step {
        Step::Put(shard, at_ms) => {
            let mut log = stream.shard(*shard).unwrap().log();
            log.append("k".into(), Bytes::from_static(b"data"), None, *at_ms);
            log.publish_all();
        }
        Step::Split(shard, at_ms) => {
            let range = stream.shard(*shard).unwrap().identity.range;
            let middle = range.start().0 + (range.end().0 - range.start().0) / 2;
            stream.split(*shard, HashKey(middle), *at_ms).unwrap();
        }
        Step::Queue(change, at_ms) => stream.apply_to_queue(9, change, *at_ms).unwrap(),
    }
}

fn take(world: &mut (Stream, Vec<Step>), step: Step) {
    make(&mut world.0, &step);
    world.1.push(step);
}

fn receive(
    world: &mut (Stream, Vec<Step>),
    lane: Lane,
    max: usize,
    hide_s: u64,
    now_ms: u64,
) -> Vec<Delivery> {
    let hide = Duration::from_secs(hide_s);
    let mut queue = world.0.queue(9).unwrap();
    let chosen = queue.choose(&world.0, lane, max, now_ms);
    let (deliveries, change) = queue.hand_over_to(chosen, lane, hide, now_ms);
    drop(queue);
    world.1.push(Step::Queue(change, now_ms));
    deliveries
}

/// A record in the model: every rule is looked up in the time, nothing is sorted or indexed.
#[derive(Clone, Debug)]
struct Known {
    key: Key,
    arrival_ms: u64,
    deliveries: u32,
    receives: u32,
    hidden_until_ms: u64,
    dead: bool,
    done: bool,
}

#[derive(Debug)]
struct Model {
    records: Vec<Known>,
    max_receives: Option<u32>,
    retention_ms: u64,
}

impl Model {
    fn pass(&mut self, now_ms: u64) {
        for record in &mut self.records {
            let enough = self.max_receives.is_some_and(|max| record.receives >= max);
            if record.hidden_until_ms <= now_ms && record.deliveries > 0 && enough {
                record.dead = true;
            }
            if record.arrival_ms < now_ms - self.retention_ms {
                record.done = true;
            }
        }
    }

    fn receivable(&self, lane: Lane, now_ms: u64) -> usize {
        let lane = |known: &&Known| known.dead == (lane == Lane::DeadLetter);
        let records = self.records.iter().filter(lane);
        records
            .filter(|known| !known.done && known.hidden_until_ms <= now_ms)
            .count()
    }

    /// The record behind a handle, if it is good.
    fn held(&mut self, handle: &Handle, lane: Lane) -> Option<&mut Known> {
        self.records.iter_mut().find(|known| {
            known.key == handle.key
                && handle.lane == lane
                && known.deliveries == handle.delivery
                && known.dead == (lane == Lane::DeadLetter)
                && !known.done
        })
    }
}

#[test]
fn a_queue_does_what_a_simple_model_does_through_timeouts_splits_retention_and_recoveries() {
    for seed in 0..150 {
        println!("seed {seed}");
        run_against_model(seed);
    }
}

fn run_against_model(seed: u64) {
    let rand = Rand::seeded(seed);
    let chance = |bound: usize| rand.below(bound as u64) as usize;
    let mut world = with_queue(2, Asked::TrimHorizon);
    let mut now_ms = NOW_MS;
    let mut model = Model {
        records: Vec::new(),
        max_receives: ATTRIBUTES.max_receives,
        retention_ms: 24 * HOUR_MS,
    };
    let mut handles: Vec<Handle> = Vec::new();
    for step in 0..250 {
        let at = format!("seed {seed}, step {step}");
        model.pass(now_ms);
        let lane = match chance(3) {
            0 => Lane::DeadLetter,
            _ => Lane::Normal,
        };
        match chance(12) {
            0..=2 => {
                let open = world.0.route(HashKey(u128::from(rand.next_u64()) << 64));
                let shard = open.identity.index;
                let counter = open.log().taken_end();
                take(&mut world, Step::Put(shard, now_ms));
                model.records.push(Known {
                    key: Key { shard, counter },
                    arrival_ms: now_ms,
                    deliveries: 0,
                    receives: 0,
                    hidden_until_ms: 0,
                    dead: false,
                    done: false,
                });
            }
            3 if world.0.shards().len() < 12 => {
                let open = world.0.route(HashKey(u128::from(rand.next_u64()) << 64));
                let shard = open.identity.index;
                take(&mut world, Step::Split(shard, now_ms));
            }
            4..=6 => {
                let (max, hide_s) = (1 + chance(10), [0, 1, 30, 600][chance(4)]);
                let expected = model.receivable(lane, now_ms).min(max);
                let deliveries = receive(&mut world, lane, max, hide_s, now_ms);
                assert_eq!(deliveries.len(), expected, "{at}");
                for delivery in deliveries {
                    let known = model
                        .records
                        .iter_mut()
                        .find(|known| known.key == delivery.handle.key);
                    let known = known.unwrap();
                    assert!(!known.done && known.hidden_until_ms <= now_ms, "{at}");
                    assert_eq!(known.dead, lane == Lane::DeadLetter, "{at}");
                    known.deliveries += 1;
                    known.receives += 1;
                    known.hidden_until_ms = now_ms + hide_s * 1000;
                    assert_eq!(delivery.receives, known.receives, "{at}");
                    assert!(
                        !handles.contains(&delivery.handle),
                        "{at}: a handle of its own"
                    );
                    handles.push(delivery.handle);
                }
            }
            7..=9 if !handles.is_empty() => {
                let handle = handles[handles.len() - 1 - chance(handles.len().min(12))];
                let held = {
                    let mut queue = world.0.queue(9).unwrap();
                    queue.settle(now_ms);
                    queue.forget_trimmed(&world.0, now_ms);
                    queue.held(&handle, lane)
                };
                let known = model.held(&handle, lane);
                assert_eq!(held.is_ok(), known.is_some(), "{at}: {held:?}");
                let (Ok(key), Some(known)) = (held, known) else {
                    continue;
                };
                let handed = match (chance(3), lane) {
                    (0, Lane::DeadLetter) => {
                        known.dead = false;
                        known.receives = 0;
                        known.hidden_until_ms = now_ms;
                        Handed::Restored(vec![key])
                    }
                    (1, _) => {
                        let until_ms = now_ms + [0, 5, 60][chance(3)] * 1000;
                        known.hidden_until_ms = until_ms;
                        Handed::Hidden(vec![(key, until_ms)])
                    }
                    _ => {
                        known.done = true;
                        Handed::Acknowledged(vec![key])
                    }
                };
                take(&mut world, Step::Queue(QueueChange::Handed(handed), now_ms));
            }
            10 => {
                now_ms += [1, 999, 30_000, 600_000, 6 * HOUR_MS][chance(5)];
            }
            11 if chance(3) == 0 => {
                let attributes = Attributes {
                    visibility_s: 30,
                    max_receives: [None, Some(1), Some(2), Some(5)][chance(4)],
                };
                model.max_receives = attributes.max_receives;
                take(
                    &mut world,
                    Step::Queue(QueueChange::Update(attributes), now_ms),
                );
            }
            11 => {
                let mut stream = Stream::create(&new_stream("s", 2));
                world.1.iter().for_each(|step| make(&mut stream, step));
                world.0 = stream;
            }
            _ => {}
        }
    }
    // Nothing is lost: what is neither acknowledged nor expired is received in the end.
    now_ms += 700_000;
    model.pass(now_ms);
    for lane in [Lane::Normal, Lane::DeadLetter] {
        let expected = model.receivable(lane, now_ms);
        let rest = receive(&mut world, lane, usize::MAX, 30, now_ms);
        assert_eq!(rest.len(), expected, "seed {seed}");
    }
    let left = model.records.iter().filter(|known| !known.done).count();
    assert_eq!(world.0.queue(9).unwrap().tracked_len(), left, "seed {seed}");
}

#[test]
fn no_more_than_120_000_records_are_in_flight() {
    let mut world = with_queue(1, Asked::TrimHorizon);
    for _ in 0..IN_FLIGHT_MAX + 2 {
        make(&mut world.0, &Step::Put(0, NOW_MS));
    }
    let first = receive(&mut world, Lane::Normal, usize::MAX, 30, NOW_MS);
    assert_eq!(first.len(), IN_FLIGHT_MAX);
    assert!(receive(&mut world, Lane::Normal, 10, 30, NOW_MS).is_empty());
    let done = QueueChange::Handed(Handed::Acknowledged(vec![first[0].handle.key]));
    take(&mut world, Step::Queue(done, NOW_MS));
    assert_eq!(receive(&mut world, Lane::Normal, 10, 30, NOW_MS).len(), 1);
}

#[test]
fn a_queue_begins_where_it_was_asked_to() {
    for (asked, expected) in [
        (Asked::TrimHorizon, 4),
        (Asked::Timestamp(NOW_MS + 1000), 3),
        (Asked::Latest, 2),
    ] {
        let mut stream = Stream::create(&new_stream("s", 1));
        make(&mut stream, &Step::Put(0, NOW_MS));
        make(&mut stream, &Step::Put(0, NOW_MS + 1000));
        let new = new_queue(&stream, asked, NOW_MS + 2000);
        let create = QueueChange::Create(Box::new(new));
        make(&mut stream, &Step::Queue(create, NOW_MS + 2000));
        make(&mut stream, &Step::Put(0, NOW_MS + 3000));
        make(&mut stream, &Step::Split(0, NOW_MS + 3000));
        make(&mut stream, &Step::Put(2, NOW_MS + 4000));
        let mut world = (stream, Vec::new());
        let received = receive(&mut world, Lane::Normal, 10, 30, NOW_MS + 5000);
        assert_eq!(received.len(), expected, "{asked:?}");
    }
}

#[test]
fn acknowledged_records_and_shards_read_to_their_end_are_not_kept() {
    let mut world = with_queue(1, Asked::TrimHorizon);
    for at in 0..1000 {
        take(&mut world, Step::Put(0, NOW_MS + at));
    }
    take(&mut world, Step::Split(0, NOW_MS + 2000));
    while let received = receive(&mut world, Lane::Normal, 10, 30, NOW_MS + 3000)
        && !received.is_empty()
    {
        let keys = received
            .iter()
            .rev()
            .map(|delivery| delivery.handle.key)
            .collect();
        let done = QueueChange::Handed(Handed::Acknowledged(keys));
        take(&mut world, Step::Queue(done, NOW_MS + 3000));
    }
    let queue = world.0.queue(9).unwrap();
    assert_eq!(queue.tracked_len(), 0);
    let unread: Vec<u32> = queue.cursors.keys().copied().collect();
    assert_eq!(unread, [1, 2], "only the children");
}

#[test]
fn records_of_more_than_a_mebibyte_do_not_keep_another_shards_from_being_received() {
    let stream = Stream::create(&new_stream("s", 2));
    let new = new_queue(&stream, Asked::TrimHorizon, NOW_MS);
    let mut world = (stream, Vec::new());
    let create = QueueChange::Create(Box::new(new));
    take(&mut world, Step::Queue(create, NOW_MS));
    let large = Bytes::from(vec![0; 3 << 20]);
    for (shard, data) in [(0, &large), (1, &large)] {
        let mut log = world.0.shard(shard).unwrap().log();
        for _ in 0..20 {
            log.append("k".into(), data.clone(), None, NOW_MS);
        }
        log.publish_all();
    }
    let mut of_shard = [0, 0];
    for _ in 0..4 {
        for delivery in receive(&mut world, Lane::Normal, 10, 30, NOW_MS + 1) {
            of_shard[delivery.handle.key.shard as usize] += 1;
        }
    }
    assert_eq!(of_shard, [6, 6], "three at a time, the shards by turns");
}

#[test]
fn what_was_chosen_and_not_handed_over_does_not_cost_its_shard_a_turn() {
    let mut world = with_queue(2, Asked::TrimHorizon);
    for (shard, at) in (0..40).flat_map(|at| [(0, at), (1, at)]) {
        take(&mut world, Step::Put(shard, NOW_MS + at));
    }
    let mut of_shard = [0, 0];
    for _ in 0..4 {
        // As a receive whose answer is larger than the room it has: it looks again.
        let mut queue = world.0.queue(9).unwrap();
        let chosen = queue.choose(&world.0, Lane::Normal, 10, NOW_MS + 50);
        drop(queue);
        assert_eq!(chosen.len(), 10);
        for delivery in receive(&mut world, Lane::Normal, 10, 30, NOW_MS + 50) {
            of_shard[delivery.handle.key.shard as usize] += 1;
        }
    }
    assert_eq!(of_shard, [20, 20]);
}
