//! The pipeline against a model of the service that fails, reshards and answers in any order.

mod chaos;
mod cold_start;
mod failing;
mod leaving;
mod recreated;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kinesis_core::{
    Clock, Deaggregated, HashKey, HashKeyRange, SequenceNumber, Shard, ShardId, ShardMap,
    UserRecord, deaggregate,
};
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
    /// Whether they merge, if they do either.
    merges: bool,
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
            merges: true,
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

    /// A record of this number with a key of its own.
    fn accept_own(&mut self, number: usize, poison: bool, hash_key: Option<HashKey>) {
        let mut data = vec![if poison { POISON } else { 0 }; 2];
        data.extend_from_slice(&(number as u64).to_be_bytes());
        let mut record = UserRecord::new(format!("own-{number}"), data);
        record.explicit_hash_key = hash_key;
        self.slots.room().try_take(record.size()).expect("room");
        let (entry, outcome) = Entry::new(record, &self.slots, self.now);
        self.pipeline.accept(entry, self.now);
        self.accepted.push(Accepted {
            key: 0,
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
            let max = self.settings.collection_max_size;
            assert!(bytes <= max || request.records.len() == 1);
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
        let answer = answer.expect("served").map_err(|class| {
            let cause = Cause::new("PutRecords", class, "Test");
            cause.of_content(class == Class::Rejected)
        });
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
        if self.merges && self.rand.below(2) == 0 && at + 1 < self.shards.len() {
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

/// A world whose map is loaded.
fn ready(settings: Settings, shards: u32) -> World {
    let mut world = World::new(1, settings, shards);
    world.accept(false);
    world.settle();
    world.load_map();
    world
}
