//! What the processors of all workers saw, in the order it happened, and the promises about it.
//!
//! A record's payload is `key:number`, numbers counting up from 0 per key in the order of sending,
//! so that loss, order and duplicates can be read off the payloads alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor, StreamId,
};
use kinesis_core::{Position, ShardId, UserRecord};

/// One thing that happened to a processor.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker's processor started on a shard.
    Started {
        /// The worker's name.
        worker: String,
        /// The shard.
        shard: ShardId,
    },
    /// A record was handed to a processor.
    Delivered {
        /// The worker's name.
        worker: String,
        /// The shard it came from.
        shard: ShardId,
        /// Its place in the shard.
        position: Position,
        /// Its payload.
        payload: String,
    },
    /// A checkpoint was written and acknowledged.
    Checkpointed {
        /// The shard.
        shard: ShardId,
        /// Up to and including this position.
        position: Position,
    },
    /// A processor was told that its shard has ended, and checkpointed that.
    Ended {
        /// The shard.
        shard: ShardId,
    },
    /// A processor was told that its lease is lost.
    LeaseLost {
        /// The worker's name.
        worker: String,
        /// The shard.
        shard: ShardId,
    },
}

/// The events of all workers, in order. Cheap to clone; clones share the list.
#[derive(Clone, Debug, Default)]
pub struct History {
    events: Arc<Mutex<Vec<Event>>>,
}

impl History {
    /// Adds what happened now.
    pub fn push(&self, event: Event) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }

    /// A copy of what happened so far.
    pub fn events(&self) -> Vec<Event> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The payloads delivered so far, each once.
    pub fn payloads(&self) -> BTreeSet<String> {
        let delivered = |event| match event {
            Event::Delivered { payload, .. } => Some(payload),
            _ => None,
        };
        self.events().into_iter().filter_map(delivered).collect()
    }

    /// How many records were delivered more than once, counting each extra time.
    pub fn duplicates(&self) -> usize {
        let deliveries = self
            .events()
            .iter()
            .filter(|e| matches!(e, Event::Delivered { .. }))
            .count();
        deliveries - self.payloads().len()
    }

    /// Fails unless every record that was sent was delivered, and nothing else.
    pub fn assert_nothing_lost(&self, sent: &[UserRecord]) {
        let sent: BTreeSet<_> = sent.iter().map(payload_of).collect();
        let seen = self.payloads();
        let lost: Vec<_> = sent.difference(&seen).take(5).collect();
        assert!(
            lost.is_empty(),
            "{} of {} lost: {lost:?}…",
            sent.len() - seen.len(),
            sent.len()
        );
        let strange: Vec<_> = seen.difference(&sent).take(5).collect();
        assert!(strange.is_empty(), "delivered but never sent: {strange:?}…");
    }

    /// Fails unless, per key, records were seen for the first time in the order of sending.
    pub fn assert_order_per_key(&self) {
        let mut next: BTreeMap<String, u64> = BTreeMap::new();
        for event in self.events() {
            let Event::Delivered { payload, shard, .. } = event else {
                continue;
            };
            let (key, number) = payload.rsplit_once(':').expect("payload is key:number");
            let number: u64 = number.parse().expect("payload is key:number");
            let next = next.entry(key.to_owned()).or_default();
            assert!(
                number <= *next,
                "{key}:{next} is missing before {payload} in {shard}"
            );
            *next = (*next).max(number + 1);
        }
    }

    /// Fails if a record came again although a checkpoint already covered it.
    pub fn assert_duplicates_were_not_checkpointed(&self) {
        let mut checkpoints: BTreeMap<ShardId, Position> = BTreeMap::new();
        for event in self.events() {
            match event {
                Event::Checkpointed { shard, position } => {
                    let last = checkpoints.entry(shard).or_insert(Position::TrimHorizon);
                    *last = position.max(last.clone());
                }
                Event::Ended { shard } => {
                    checkpoints.insert(shard, Position::ShardEnd);
                }
                Event::Delivered {
                    shard,
                    position,
                    payload,
                    worker,
                } => {
                    if let Some(last) = checkpoints.get(&shard) {
                        assert!(
                            position > *last,
                            "{payload} came to {worker} at {position} though {shard} was \
                             checkpointed at {last}"
                        );
                    }
                }
                Event::Started { .. } | Event::LeaseLost { .. } => {}
            }
        }
    }

    /// Fails unless every shard was started only after its parents, if any, had ended.
    pub fn assert_parents_first(&self, parents: &BTreeMap<ShardId, Vec<ShardId>>) {
        let mut ended = BTreeSet::new();
        for event in self.events() {
            match event {
                Event::Ended { shard } => {
                    ended.insert(shard);
                }
                Event::Started { shard, .. } => {
                    for parent in parents.get(&shard).into_iter().flatten() {
                        assert!(
                            ended.contains(parent),
                            "{shard} started before {parent} ended"
                        );
                    }
                }
                _ => {}
            }
        }
    }

    /// Fails unless every record of a shard was seen for the first time before any record of a shard
    /// that came of it. Holds for workers of other processes too, whose word that a shard has ended may
    /// arrive after the deed.
    pub fn assert_children_after_parents(&self, parents: &BTreeMap<ShardId, Vec<ShardId>>) {
        let mut places = BTreeSet::new();
        let mut begun = BTreeSet::new();
        for event in self.events() {
            let Event::Delivered {
                shard, position, ..
            } = event
            else {
                continue;
            };
            if places.insert((shard.clone(), position)) {
                assert!(
                    !begun.contains(&shard),
                    "a record of {shard} came after one of its children's"
                );
                begun.extend(parents.get(&shard).into_iter().flatten().cloned());
            }
        }
    }

    /// A processor that writes what it sees here and checkpoints after every batch.
    pub fn processor(&self, worker: &str) -> impl RecordProcessor + use<> {
        self.processor_of(None, worker)
    }

    /// The same for a worker of several streams, whose shards are told apart by the keys of their leases.
    pub fn processor_of(
        &self,
        stream: Option<&StreamId>,
        worker: &str,
    ) -> impl RecordProcessor + use<> {
        Recorder {
            history: self.clone(),
            worker: worker.to_owned(),
            stream: stream.cloned(),
            shard: None,
        }
    }
}

/// The `key:number` of a record made by [`numbered`].
fn payload_of(record: &UserRecord) -> String {
    String::from_utf8_lossy(&record.data).into_owned()
}

/// `count` records over `keys` keys, each with its number within its key as payload.
pub fn numbered(keys: usize, count: usize) -> Vec<UserRecord> {
    let number = |n: usize| {
        let key = format!("key-{}", n % keys);
        UserRecord::new(key.as_str(), format!("{key}:{}", n / keys))
    };
    (0..count).map(number).collect()
}

/// The first `count` of [`endless_flights`].
pub fn flights(count: usize) -> Vec<UserRecord> {
    endless_flights().take(count).collect()
}

/// The flights as records keyed by the airport they leave, each with its number there as payload; behind the
/// last they begin again at the first.
pub fn endless_flights() -> impl Iterator<Item = UserRecord> + Send {
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    let number = move |flight: examples::flights::Flight| {
        let number = numbers.entry(flight.origin.clone()).or_default();
        let payload = format!("{}:{number}", flight.origin);
        *number += 1;
        UserRecord::new(flight.origin, payload)
    };
    examples::flights::load().into_iter().cycle().map(number)
}

struct Recorder {
    history: History,
    worker: String,
    stream: Option<StreamId>,
    shard: Option<ShardId>,
}

impl Recorder {
    fn shard(&self) -> ShardId {
        self.shard.clone().expect("initialize came first")
    }

    async fn checkpoint(&self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        let before = checkpointer.last();
        checkpointer.checkpoint().await?;
        let position = checkpointer.last();
        if position != before {
            self.history.push(Event::Checkpointed {
                shard: self.shard(),
                position,
            });
        }
        Ok(())
    }
}

#[async_trait]
impl RecordProcessor for Recorder {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        let shard = match &self.stream {
            Some(stream) => format!("{stream}:{}", input.shard_id).into(),
            None => input.shard_id,
        };
        self.shard = Some(shard.clone());
        let worker = self.worker.clone();
        self.history.push(Event::Started { worker, shard });
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        for record in input.records.iter() {
            self.history.push(Event::Delivered {
                worker: self.worker.clone(),
                shard: self.shard(),
                position: record.position(),
                payload: String::from_utf8_lossy(&record.data).into_owned(),
            });
        }
        self.checkpoint(&input.checkpointer).await
    }

    async fn lease_lost(&mut self) {
        if let Some(shard) = self.shard.clone() {
            self.history.push(Event::LeaseLost {
                worker: self.worker.clone(),
                shard,
            });
        }
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        self.history.push(Event::Ended {
            shard: self.shard(),
        });
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.checkpoint(&checkpointer).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One record of each shard, in this order; the second shard came of the first.
    fn seen_in(shards: [u64; 3]) -> History {
        let history = History::default();
        for (number, shard) in (1_u64..).zip(shards) {
            history.push(Event::Delivered {
                worker: "a".to_owned(),
                shard: ShardId::from_index(shard),
                position: Position::parse(&number.to_string(), 0).expect("a number"),
                payload: format!("key:{number}"),
            });
        }
        history
    }

    fn parents() -> BTreeMap<ShardId, Vec<ShardId>> {
        BTreeMap::from([(ShardId::from_index(1), vec![ShardId::from_index(0)])])
    }

    #[test]
    fn children_behind_their_parents_are_in_order() {
        seen_in([0, 0, 1]).assert_children_after_parents(&parents());
    }

    #[test]
    #[should_panic(expected = "came after one of its children's")]
    fn a_record_of_a_parent_behind_one_of_its_child_is_found() {
        seen_in([0, 1, 0]).assert_children_after_parents(&parents());
    }
}
