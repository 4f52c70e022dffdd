//! The pipeline against a model of the service that fails, reshards and answers in any order.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kinesis_core::{
    Clock, Deaggregated, HashKey, HashKeyRange, SequenceNumber, Shard, ShardId, ShardMap,
    UserRecord, deaggregate,
};
use proptest::prelude::*;
use tokio::sync::oneshot::Receiver;

use super::retry::Answer;
use super::send::Put;
use super::*;
use crate::error::{Cause, Class};
use crate::pipeline::intake::Room;
use crate::pipeline::outcome::Slots;
use crate::{Delivery, DeliveryFuture, Error, ErrorKind};

/// A record of the model: whose turn it is within its key, and what it came to.
struct Accepted {
    key: usize,
    outcome: DeliveryFuture,
    result: Option<Result<Delivery, Error>>,
}

/// A Kinesis record the model stored, as a KCL reader sees it.
struct Stored {
    position: (ShardId, SequenceNumber),
    /// Numbers of the records; empty if the reader drops the aggregate.
    visible: Vec<usize>,
}

type Reply = Result<Vec<Answer>, Class>;

struct World {
    pipeline: Pipeline,
    settings: Settings,
    rand: Rand,
    now: Instant,
    slots: Slots,
    shards: Vec<Shard>,
    log: Vec<Stored>,
    accepted: Vec<Accepted>,
    flushes: Vec<(usize, Receiver<()>, bool)>,
    /// Flight, content, and the answer once the service took it.
    requests: Vec<(u64, Vec<Put>, Option<Reply>)>,
    loading: bool,
    /// Chance of a fault, in per cent.
    faults: u64,
    /// How ListShards fails where it does.
    list_faults: &'static [Class],
    /// Whether shards split and merge.
    reshards: bool,
}

const KEYS: usize = 9;
const POISON: u8 = 13;

fn shard(index: u64, range: HashKeyRange) -> Shard {
    Shard {
        id: ShardId::from_index(index),
        range,
        parent: None,
        adjacent_parent: None,
        starting_sequence_number: "0".parse().expect("a number"),
        ending_sequence_number: None,
    }
}

impl World {
    fn new(seed: u64, settings: Settings, shards: u32) -> Self {
        settings.validate().expect("valid settings");
        let (rand, now) = (Rand::seeded(seed), Clock::system().now());
        let ranges = HashKeyRange::FULL.split_even(shards).into_iter().zip(0..);
        Self {
            pipeline: Pipeline::new("stream".into(), settings.clone(), rand.fork(), now),
            settings,
            rand,
            now,
            slots: Slots::new(Arc::new(Room::new("stream".into(), 100_000, 1 << 30))),
            shards: ranges.map(|(range, index)| shard(index, range)).collect(),
            log: Vec::new(),
            accepted: Vec::new(),
            flushes: Vec::new(),
            requests: Vec::new(),
            loading: false,
            faults: 0,
            list_faults: &[Class::Unavailable],
            reshards: true,
        }
    }

    fn accept(&mut self, poison: bool) {
        let (number, key) = (self.accepted.len(), self.rand.below(KEYS as u64) as usize);
        let mut data = vec![if poison { POISON } else { 0 }; 1 + self.rand.below(300) as usize];
        data.extend_from_slice(&(number as u64).to_be_bytes());
        let record = UserRecord::new(format!("key-{key}"), data);
        self.slots.room().try_take(record.size()).expect("room");
        let (entry, outcome) = Entry::new(record, &self.slots, self.now);
        self.pipeline.accept(entry, self.now);
        self.accepted.push(Accepted {
            key,
            outcome,
            result: None,
        });
    }

    fn flush(&mut self) {
        let (done, flushed) = oneshot::channel();
        self.pipeline.flush(done);
        self.flushes.push((self.accepted.len(), flushed, false));
    }

    /// Takes what the pipeline wants done, and checks it against the limits.
    fn pump(&mut self) {
        while let Some(request) = self.pipeline.next_request(self.now) {
            let bytes: usize = request
                .records
                .iter()
                .map(|put| put.data.len() + put.partition_key.len())
                .sum();
            assert!(!request.records.is_empty());
            assert!(request.records.len() <= self.settings.collection_max_count);
            assert!(bytes <= self.settings.collection_max_size);
            self.requests.push((request.flight, request.records, None));
            assert!(self.requests.len() <= self.settings.max_in_flight);
        }
        self.loading |= self.pipeline.begin_map_load(self.now);
        if self.pipeline.begin_describe(self.now) {
            self.pipeline.learned(StreamTraits::unknown(), self.now);
        }
        self.observe();
    }

    /// Outcomes and flushes so far; a flush is done exactly when all before it is resolved.
    fn observe(&mut self) {
        for record in self
            .accepted
            .iter_mut()
            .filter(|record| record.result.is_none())
        {
            record.result = (&mut record.outcome).now_or_never();
        }
        for (before, flushed, done) in &mut self.flushes {
            *done = *done || flushed.try_recv().is_ok();
            let resolved = self.accepted[..*before]
                .iter()
                .all(|record| record.result.is_some());
            assert_eq!(*done, resolved, "a flush of {before} records");
        }
    }

    /// The service takes a request that is on its way; its answer is then on its way back.
    fn serve(&mut self, index: usize) {
        let (_, puts, answer) = &self.requests[index];
        if answer.is_some() {
            return;
        }
        let puts = puts.clone();
        let fault = self.rand.below(100) < self.faults;
        let answer = match self.rand.below(4) {
            _ if puts.iter().any(|put| is_poison(&put.data)) => Err(Class::Rejected),
            0 if fault => Err(Class::Unavailable),
            _ => {
                let answers = puts.iter().map(|put| self.store(put)).collect();
                // Stored, and the answer lost on its way.
                if fault && self.rand.below(3) == 0 {
                    Err(Class::Unavailable)
                } else {
                    Ok(answers)
                }
            }
        };
        self.requests[index].2 = Some(answer);
    }

    fn store(&mut self, put: &Put) -> Answer {
        if self.rand.below(100) < self.faults {
            return Answer::Failed(Arc::new(Cause::new("PutRecords", Class::Throttled, "Test")));
        }
        let by_key = || HashKey::of_partition_key(&put.partition_key);
        let key = put.explicit_hash_key.unwrap_or_else(by_key);
        let shard = self
            .shards
            .iter()
            .find(|shard| shard.range.contains(key))
            .expect("covered");
        let sequence_number: SequenceNumber = (self.log.len() + 1)
            .to_string()
            .try_into()
            .expect("a number");
        let visible = match deaggregate(&Bytes::copy_from_slice(&put.data)) {
            Deaggregated::Damaged { reason, .. } => panic!("a damaged aggregate: {reason}"),
            Deaggregated::Raw(_) => vec![number_of(&put.data)],
            // A KCL reader drops the whole aggregate if one member is not the shard's.
            Deaggregated::Members(members)
                if members
                    .iter()
                    .all(|member| shard.range.contains(member.hash_key())) =>
            {
                members
                    .iter()
                    .map(|member| number_of(&member.data))
                    .collect()
            }
            Deaggregated::Members(_) => Vec::new(),
        };
        let position = (shard.id.clone(), sequence_number.clone());
        let shard_id = shard.id.clone();
        self.log.push(Stored { position, visible });
        Answer::Stored {
            shard_id,
            sequence_number,
        }
    }

    fn answer(&mut self, index: usize) {
        self.serve(index);
        let (flight, _, answer) = self.requests.swap_remove(index);
        let answer = answer
            .expect("served")
            .map_err(|class| Cause::new("PutRecords", class, "Test"));
        self.pipeline.completed(flight, answer, self.now);
    }

    fn load_map(&mut self) {
        if std::mem::take(&mut self.loading) {
            let fault = self.rand.below(100) < self.faults;
            let class = self.list_faults[self.rand.below(self.list_faults.len() as u64) as usize];
            let failed = Cause::new("ListShards", class, "Test");
            let map = ShardMap::new(self.shards.iter().cloned());
            self.pipeline
                .map_loaded(if fault { Err(failed) } else { Ok(map) }, self.now);
        }
    }

    fn reshard(&mut self) {
        let next = self
            .shards
            .iter()
            .filter_map(|shard| shard.id.index())
            .max()
            .unwrap_or(0)
            + 1;
        let at = self.rand.below(self.shards.len() as u64) as usize;
        if self.rand.below(2) == 0 && at + 1 < self.shards.len() {
            let (a, b) = (self.shards.remove(at), self.shards.remove(at));
            let range = a.range.merge(b.range).expect("neighbours");
            self.shards.insert(at, shard(next, range));
        } else if self.shards.len() < 8 {
            let halves = self.shards.remove(at).range.split_even(2);
            self.shards.insert(at, shard(next, halves[0]));
            self.shards.insert(at + 1, shard(next + 1, halves[1]));
        }
    }

    fn step(&mut self) {
        match self.rand.below(20) {
            0..8 => {
                for _ in 0..=self.rand.below(6) {
                    let poison = self.faults > 0 && self.rand.below(60) == 0;
                    self.accept(poison);
                }
            }
            8..12 if !self.requests.is_empty() => {
                let index = self.rand.below(self.requests.len() as u64) as usize;
                self.answer(index);
            }
            12..14 if !self.requests.is_empty() => {
                let index = self.rand.below(self.requests.len() as u64) as usize;
                self.serve(index);
            }
            14..16 => self.load_map(),
            16 => self.flush(),
            17 if self.reshards && self.rand.below(4) == 0 => self.reshard(),
            _ => self.now += Duration::from_millis(self.rand.below(400)),
        }
        self.pump();
    }

    /// Lets everything come to its end without further faults.
    fn settle(&mut self) {
        self.faults = 0;
        for _ in 0..100_000 {
            self.pump();
            if self.pipeline.is_empty() {
                return;
            }
            if !self.requests.is_empty() {
                self.answer(0);
            } else if self.loading {
                self.load_map();
            } else {
                let wake = self
                    .pipeline
                    .next_wake(self.now)
                    .expect("something to wait for");
                assert!(wake > self.now, "waits for a time that has passed");
                self.now = wake;
            }
        }
        panic!("no end");
    }

    /// Every acknowledged record is visible where its delivery says; only poison failed.
    fn check_outcomes(&self, poison: impl Fn(&Error) -> bool) {
        assert_eq!(self.slots.room().outstanding(), (0, 0));
        for (number, record) in self.accepted.iter().enumerate() {
            match record.result.as_ref().expect("resolved") {
                Ok(delivery) => {
                    let position = (delivery.shard_id.clone(), delivery.sequence_number.clone());
                    let stored = self.log.iter().find(|stored| stored.position == position);
                    let visible = &stored.expect("stored").visible;
                    let index = delivery.sub_sequence as usize;
                    assert_eq!(
                        visible.get(index),
                        Some(&number),
                        "record {number} is not there"
                    );
                }
                Err(error) => {
                    assert!(poison(error), "record {number}: {error:?}");
                    assert!(error.record().is_some());
                }
            }
        }
    }

    /// Of each key, the records appear for the first time in the order they were accepted.
    fn check_order(&self) {
        let mut newest = [None; KEYS];
        let mut seen = vec![false; self.accepted.len()];
        for number in self
            .log
            .iter()
            .flat_map(|stored| stored.visible.iter().copied())
        {
            let first_time = !std::mem::replace(&mut seen[number], true);
            let newest = &mut newest[self.accepted[number].key];
            if first_time {
                assert!(*newest < Some(number), "record {number} behind {newest:?}");
                *newest = Some(number);
            }
        }
    }
}

impl World {
    /// Of each shard, the records appear for the first time in the order they were accepted.
    fn check_order_per_shard(&self) {
        let mut newest: BTreeMap<&ShardId, usize> = BTreeMap::new();
        let mut seen = vec![false; self.accepted.len()];
        for stored in &self.log {
            for &number in &stored.visible {
                if !std::mem::replace(&mut seen[number], true) {
                    let earlier = newest.insert(&stored.position.0, number);
                    assert!(earlier < Some(number), "record {number} behind {earlier:?}");
                }
            }
        }
    }
}

fn number_of(data: &[u8]) -> usize {
    let bytes = data[data.len() - 8..].try_into().expect("eight bytes");
    u64::from_be_bytes(bytes) as usize
}

fn is_poison(data: &[u8]) -> bool {
    match deaggregate(&Bytes::copy_from_slice(data)) {
        Deaggregated::Damaged { reason, .. } => panic!("a damaged aggregate: {reason}"),
        Deaggregated::Raw(_) => data[0] == POISON,
        Deaggregated::Members(members) => members.iter().any(|member| member.data[0] == POISON),
    }
}

fn small(ordered: bool) -> Settings {
    Settings {
        aggregation_max_size: 1000,
        max_user_record_size: Some(4000),
        collection_max_size: 6000,
        collection_max_count: 7,
        max_in_flight: 3,
        ordered,
        ..Settings::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nothing_is_lost_or_reordered_whatever_the_service_does(seed: u64, faults in 0u64..40) {
        let mut world = World::new(seed, small(true), 1 + (seed % 4) as u32);
        world.faults = faults;
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|error| error.kind() == ErrorKind::Rejected
            && error.record().is_some_and(|record| record.data[0] == POISON));
        world.check_order();
    }

    #[test]
    fn nothing_is_lost_with_several_kinesis_records_of_a_shard_in_a_request(seed: u64) {
        let mut world = World::new(seed, small(false), 2);
        world.faults = 20;
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
    }

    #[test]
    fn without_faults_order_holds_in_either_mode(seed: u64, ordered: bool) {
        let mut world = World::new(seed, small(ordered), 3);
        world.reshards = ordered;
        for _ in 0..300 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|_| false);
        world.check_order();
    }

    #[test]
    fn order_per_shard_survives_whatever_the_service_does(seed: u64, faults in 0u64..40) {
        let settings = Settings {
            ordered_per_shard: true,
            ..small(true)
        };
        let mut world = World::new(seed, settings, 2);
        (world.faults, world.reshards) = (faults, false);
        for _ in 0..400 {
            world.step();
        }
        world.settle();
        world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
        world.check_order();
        world.check_order_per_shard();
    }

    #[test]
    fn what_is_left_at_a_deadline_comes_back_once(seed: u64) {
        let mut world = World::new(seed, small(true), 2);
        world.faults = 30;
        for _ in 0..200 {
            world.step();
        }
        let open = world.accepted.iter().enumerate().filter(|(_, record)| record.result.is_none());
        let open: Vec<usize> = open.map(|(at, _)| at).collect();
        let left = world.pipeline.abandon();
        world.observe();
        // What was well stored and only waited for a fresh map is acknowledged.
        let back = open.iter().filter(|at| matches!(world.accepted[**at].result, Some(Err(_))));
        prop_assert_eq!(left, back.count() as u64);
        world.check_outcomes(|error| {
            matches!(error.kind(), ErrorKind::Undelivered | ErrorKind::Rejected)
        });
    }
}

mod cold_start;
mod recreated;

/// A world whose map is loaded.
fn ready(settings: Settings, shards: u32) -> World {
    let mut world = World::new(1, settings, shards);
    world.accept(false);
    world.settle();
    world.load_map();
    world
}

#[test]
fn an_idle_producer_sends_at_once_and_a_busy_one_gathers_company() {
    let mut world = ready(Settings::default(), 1);
    world.accept(false);
    world.pump();
    assert_eq!(world.requests.len(), 1, "idle: no linger");
    for _ in 0..50 {
        world.accept(false);
        world.pump();
    }
    assert_eq!(world.requests.len(), 1, "one request of a shard at a time");
    world.answer(0);
    world.pump();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(world.requests[0].1.len(), 1, "one aggregate");
}

#[test]
fn another_shard_waits_for_company_at_most_its_linger() {
    let mut world = ready(Settings::default(), 4);
    let linger = Settings::default().record_max_buffered_time;
    for _ in 0..100 {
        world.accept(false);
        world.pump();
    }
    assert_eq!(world.requests.len(), 1);
    let wake = world.pipeline.next_wake(world.now).expect("the linger");
    assert_eq!(wake, world.now + linger);
    world.now = wake;
    world.pump();
    assert_eq!(world.requests.len(), 2, "the other three shards, together");
    assert_eq!(world.requests[1].1.len(), 3);
}

#[test]
fn a_flush_cuts_the_linger_of_what_came_before_it() {
    let mut world = ready(Settings::default(), 4);
    for _ in 0..100 {
        world.accept(false);
        world.pump();
    }
    world.flush();
    world.pump();
    assert_eq!(world.requests.len(), 2);
    world.settle();
    assert!(world.flushes[0].2);
}

#[test]
fn the_lanes_of_closed_shards_are_forgotten() {
    let mut world = World::new(7, small(true), 3);
    for _ in 0..2_000 {
        world.step();
    }
    world.settle();
    // A record for each shard, so that the latest map is known.
    for _ in 0..50 {
        world.accept(false);
    }
    world.settle();
    let closed = world
        .shards
        .iter()
        .filter_map(|shard| shard.id.index())
        .max();
    assert!(closed > Some(30), "many shards were closed: {closed:?}");
    let lanes = world.pipeline.lanes.len();
    assert!(lanes <= 9, "{lanes} lanes of at most 8 open shards");
}

#[test]
fn a_failing_shard_does_not_hold_up_the_others() {
    let mut world = ready(Settings::default(), 2);
    world.faults = 100;
    for _ in 0..20 {
        world.accept(false);
    }
    world.pump();
    world.answer(0);
    world.faults = 0;
    // Both shards failed and back off; whatever ends first goes by itself.
    let wake = world.pipeline.next_wake(world.now).expect("the backoff");
    world.now = wake.max(world.now);
    world.pump();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(
        world.requests[0].1.len(),
        1,
        "only one shard's backoff is over"
    );
    world.settle();
    world.check_outcomes(|_| false);
}

#[test]
fn a_record_past_its_time_to_live_fails_with_the_last_cause() {
    let ttl = Duration::from_secs(2);
    let mut world = ready(
        Settings {
            record_ttl: Some(ttl),
            ..Settings::default()
        },
        1,
    );
    world.accept(false);
    world.pump();
    world.faults = 100;
    let begin = world.now;
    while world.accepted[1].result.is_none() {
        if world.requests.is_empty() {
            world.now = world
                .pipeline
                .next_wake(world.now)
                .expect("backoff or expiry");
        } else {
            world.answer(0);
        }
        world.pump();
    }
    let error = world.accepted[1]
        .result
        .take()
        .expect("resolved")
        .expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Expired);
    assert!(error.attempts() > 1 && std::error::Error::source(&error).is_some());
    assert_eq!(world.now, begin + ttl);
}

#[test]
fn one_invalid_record_among_many_is_found_within_twenty_requests() {
    let settings = Settings {
        aggregation_enabled: false,
        ..Settings::default()
    };
    let mut world = ready(settings, 1);
    // Explicit hash keys would do as well; here every record has a key of its own.
    for number in 1..=500 {
        let mut data = vec![if number == 333 { POISON } else { 0 }; 2];
        data.extend_from_slice(&(number as u64).to_be_bytes());
        let record = UserRecord::new(format!("own-{number}"), data);
        world.slots.room().try_take(record.size()).expect("room");
        let (entry, outcome) = Entry::new(record, &world.slots, world.now);
        world.pipeline.accept(entry, world.now);
        world.accepted.push(Accepted {
            key: 0,
            outcome,
            result: None,
        });
    }
    let mut requests = 0;
    loop {
        world.pump();
        if world.requests.is_empty() {
            break;
        }
        requests += 1;
        world.answer(0);
    }
    assert!(world.pipeline.is_empty());
    assert!(requests <= 20, "{requests} requests");
    world.check_outcomes(|error| error.kind() == ErrorKind::Rejected);
    let failed = world
        .accepted
        .iter()
        .filter(|record| matches!(record.result, Some(Err(_))));
    assert_eq!(failed.count(), 1);
}

#[test]
fn a_cold_start_without_a_map_goes_unaggregated_after_a_bounded_wait() {
    let mut world = World::new(5, Settings::default(), 2);
    world.faults = 100;
    for _ in 0..10 {
        world.accept(false);
    }
    world.pump();
    let begin = world.now;
    while world.requests.is_empty() {
        world.load_map();
        world.now = world
            .pipeline
            .next_wake(world.now)
            .expect("the map or the end of the wait");
        world.pump();
    }
    assert_eq!(world.now, begin + Duration::from_secs(5));
    assert!(
        world.requests[0]
            .1
            .iter()
            .all(|put| &*put.partition_key != "a")
    );
    world.settle();
    world.check_outcomes(|_| false);
    world.check_order();
}

#[test]
fn a_cold_start_at_a_stream_that_is_not_there_fails_with_the_cause() {
    let mut world = World::new(5, Settings::default(), 2);
    world.accept(false);
    world.pump();
    assert!(std::mem::take(&mut world.loading));
    let missing = Cause::new("ListShards", Class::NotFound, "ResourceNotFoundException");
    world.pipeline.map_loaded(Err(missing), world.now);
    world.observe();
    world.check_outcomes(|error| error.kind() == ErrorKind::NotFound);
    assert!(world.pipeline.is_empty());
    world.accept(false);
    world.settle();
    assert!(
        matches!(world.accepted[1].result, Some(Ok(_))),
        "the stream exists by now"
    );
}
