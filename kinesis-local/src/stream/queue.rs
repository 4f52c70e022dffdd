//! A queue over a stream's shards: which record is with whom, until when, and which are done.
//!
//! ```text
//! shard 0   ✓ ✓ ◐ ✓ ○ ✗ ✓ ◐ │ · · · · ·         ✓ acknowledged: not kept
//! shard 1   ✓ ◐ ✓ │ · ·                          ◐ in flight  ○ visible again  ✗ dead letter: tracked
//!                 └ cursor: the first record that was never delivered
//!
//! not yet ──receive──▶ in flight ──timeout──▶ visible again ──receive──▶ in flight …
//! delivered                │   └─timeout, received MaxReceiveCount times─▶ dead letter ─restore─▶ visible
//!                          └─acknowledge─▶ gone                              └─ the same life, on its own lane
//! ```
//! Promises: a record is never with two receivers before its visibility timeout ends; every record
//! from the starting position on is delivered again and again until it is acknowledged, turns into
//! a dead letter or leaves the stream's retention, in whichever shard it is and whatever is split
//! or merged meanwhile; each delivery has a handle of its own and only the latest counts. What is
//! kept is one cursor per shard that is not read to its end, and the records between delivery and
//! acknowledgement.
//!
//! All changes go through [`Queue::apply`] with the time from outside. Timeouts need no change of
//! their own: they follow from the changes and the time, so a recovery that applies the same
//! changes ends in the same state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Stream;
use super::attached::AttachedId;
use super::change::Tags;
use super::lifecycle::{Delays, Life, Status};
use super::shard::{Record, Start};

pub(crate) mod change;
pub(crate) mod handle;

use change::{Handed, NewQueue, QueueChange};
use handle::{Handle, Refusal};

/// Records of a queue that may be in flight. Source: quotas for queues, developer guide.
pub(crate) const IN_FLIGHT_MAX: usize = 120_000;

/// Bytes of records that one receive gives, a larger first record apart. Source: none; what
/// GetRecords gives.
const RECEIVE_MAX_BYTES: usize = kinesis_core::limits::GET_RECORDS_MAX_BYTES;

/// A record, by its shard's index and its number there.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    pub(crate) shard: u32,
    pub(crate) counter: u64,
}

/// Which operations a record answers to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lane {
    Normal,
    DeadLetter,
}

/// What UpdateQueue changes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) visibility_s: u32,
    /// Receives until a record is a dead letter; `None`: never.
    pub(crate) max_receives: Option<u32>,
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: AttachedId,
    pub(crate) name: String,
    pub(crate) attributes: Attributes,
    pub(crate) start: change::StartingPosition,
    pub(crate) tags: Tags,
    /// Its resource policy, as it was given.
    pub(crate) policy: Option<String>,
    pub(crate) life: Life,
    updated_ms: Option<u64>,
    /// Where delivery goes on in the shards that are not read to their end.
    cursors: BTreeMap<u32, u64>,
    /// Shards with a lower index are in `cursors`, or read to their end.
    known_shards: u32,
    /// The shard that the next receive looks at first. Fairness only: not kept.
    turn: u32,
    /// What that is once what was last chosen is handed over.
    next_turn: Option<u32>,
    tracked: BTreeMap<Key, Tracked>,
    /// Tracked records by when they are, or became, visible.
    in_flight: BTreeSet<(u64, Key)>,
    visible: BTreeSet<(u64, Key)>,
    visible_dead: BTreeSet<(u64, Key)>,
    /// Time does not go back for a queue.
    latest_ms: u64,
}

/// A record that was delivered and is not acknowledged.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
struct Tracked {
    lane: Lane,
    /// How often it was delivered in all; tells a handle from earlier ones.
    deliveries: u32,
    /// How often since it was new or restored.
    receives: u32,
    first_ms: u64,
    /// When it becomes, or became, visible.
    visible_ms: u64,
    in_flight: bool,
}

/// A record as it is handed to a receiver.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) record: Record,
    pub(crate) handle: Handle,
    pub(crate) first_ms: u64,
    pub(crate) receives: u32,
}

impl Queue {
    pub(crate) fn create(new: &NewQueue, at_ms: u64) -> Self {
        let cursors = (0..).zip(new.cursors.iter().copied());
        Self {
            id: new.id,
            name: new.name.clone(),
            attributes: new.attributes,
            start: new.start,
            tags: new.tags.clone(),
            policy: None,
            life: Life::created(at_ms),
            updated_ms: None,
            known_shards: new.cursors.len() as u32,
            cursors: cursors.collect(),
            turn: 0,
            next_turn: None,
            tracked: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            visible: BTreeSet::new(),
            visible_dead: BTreeSet::new(),
            latest_ms: at_ms,
        }
    }

    pub(crate) fn status(&self, now_ms: u64, delays: Delays) -> Status {
        self.life
            .status_with_update(self.updated_ms, now_ms, delays)
    }

    /// Lets the timeouts pass that are over at `now_ms`. Returns the queue's time: never less than
    /// it was.
    pub(crate) fn settle(&mut self, now_ms: u64) -> u64 {
        self.latest_ms = self.latest_ms.max(now_ms);
        while let Some(&(visible_ms, key)) = self.in_flight.first()
            && visible_ms <= self.latest_ms
        {
            self.in_flight.pop_first();
            if let Some(tracked) = self.tracked.get_mut(&key) {
                tracked.in_flight = false;
            }
            self.show(key);
        }
        self.latest_ms
    }

    /// When the next timeout ends; `None`: nothing is in flight.
    pub(crate) fn next_visible_ms(&self) -> Option<u64> {
        self.in_flight.first().map(|&(visible_ms, _)| visible_ms)
    }

    /// Whether no more records may be in flight.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.len() >= IN_FLIGHT_MAX
    }

    /// Up to `max` records for a receiver that hides them until `visible_ms`: those whose timeout
    /// ended longest ago, then new ones. [`Queue::hand_over_to`] gives them to it, if that is before
    /// the queue is given up.
    pub(crate) fn choose(
        &mut self,
        stream: &Stream,
        lane: Lane,
        max: usize,
        now_ms: u64,
    ) -> Vec<(Key, Record)> {
        let now_ms = self.settle(now_ms);
        self.forget_trimmed(stream, now_ms);
        self.next_turn = None;
        let max = max.min(IN_FLIGHT_MAX.saturating_sub(self.in_flight.len()));
        let mut bytes = 0;
        let mut chosen = Vec::new();
        let waiting = match lane {
            Lane::Normal => &self.visible,
            Lane::DeadLetter => &self.visible_dead,
        };
        for &(_, key) in waiting {
            let Some(record) = record(stream, key, now_ms) else {
                continue; // its shard is about to forget it
            };
            bytes += record.size();
            if chosen.len() == max || (bytes > RECEIVE_MAX_BYTES && !chosen.is_empty()) {
                break;
            }
            chosen.push((key, record));
        }
        if lane == Lane::Normal && chosen.len() < max && bytes <= RECEIVE_MAX_BYTES {
            self.choose_new(stream, max, bytes, now_ms, &mut chosen);
        }
        chosen
    }

    /// Adds records that were never delivered, from one shard after the other.
    fn choose_new(
        &mut self,
        stream: &Stream,
        max: usize,
        mut bytes: usize,
        now_ms: u64,
        chosen: &mut Vec<(Key, Record)>,
    ) {
        self.learn_shards(stream.shards().len() as u32);
        let after = self.cursors.range(self.turn..);
        let before = self.cursors.range(..self.turn);
        let order: Vec<(u32, u64)> = after.chain(before).map(|(&at, &next)| (at, next)).collect();
        for (index, next) in order {
            let Some(shard) = stream.shard(index) else {
                continue;
            };
            let room = RECEIVE_MAX_BYTES.saturating_sub(bytes);
            let batch = {
                let mut log = shard.log();
                log.trim(stream.horizon_ms(now_ms));
                log.read(next, max - chosen.len(), room, now_ms)
            };
            if batch.records.is_empty() && batch.ended {
                self.cursors.remove(&index);
                continue;
            }
            let mut given = false;
            for record in batch.records {
                bytes += record.size();
                if bytes > RECEIVE_MAX_BYTES && !chosen.is_empty() {
                    // The next receive begins with this shard's record, or with the next shard's.
                    self.next_turn = Some(if given { index + 1 } else { index });
                    return;
                }
                given = true;
                let counter = record.counter;
                let key = Key {
                    shard: index,
                    counter,
                };
                chosen.push((key, record));
            }
            if chosen.len() == max {
                self.next_turn = Some(index + 1);
                return;
            }
        }
    }

    /// Gives records that were just chosen to a receiver that hides them for so long. The change is
    /// made; it is to be kept.
    pub(crate) fn hand_over_to(
        &mut self,
        chosen: Vec<(Key, Record)>,
        lane: Lane,
        hide: Duration,
        now_ms: u64,
    ) -> (Vec<Delivery>, QueueChange) {
        let now_ms = self.settle(now_ms);
        self.turn = self.next_turn.take().unwrap_or(self.turn);
        let change = QueueChange::Received {
            lane,
            visible_ms: now_ms.saturating_add(hide.as_millis() as u64),
            keys: chosen.iter().map(|&(key, _)| key).collect(),
        };
        self.apply(&change, now_ms);
        let delivery = |(key, record): (Key, Record)| {
            let tracked = self.tracked.get(&key)?;
            Some(Delivery {
                record,
                handle: Handle {
                    queue: self.id,
                    key,
                    lane,
                    delivery: tracked.deliveries,
                },
                first_ms: tracked.first_ms,
                receives: tracked.receives,
            })
        };
        (chosen.into_iter().filter_map(delivery).collect(), change)
    }

    fn learn_shards(&mut self, count: u32) {
        for index in self.known_shards..count {
            self.cursors.insert(index, 0); // opened later: all of it is wanted
        }
        self.known_shards = self.known_shards.max(count);
    }

    /// The record that `handle` stands for, if that was its latest delivery. After [`settle`].
    ///
    /// [`settle`]: Self::settle
    pub(crate) fn held(&self, handle: &Handle, lane: Lane) -> Result<Key, Refusal> {
        if handle.queue != self.id {
            return Err(Refusal::OtherQueue);
        }
        if handle.lane != lane {
            return Err(Refusal::OtherLane(lane));
        }
        let tracked = self.tracked.get(&handle.key).ok_or(Refusal::Gone)?;
        if tracked.deliveries != handle.delivery {
            return Err(Refusal::DeliveredAgain);
        }
        if tracked.lane != lane {
            return Err(Refusal::LaneChanged(lane));
        }
        Ok(handle.key)
    }

    /// Makes the change.
    pub(crate) fn apply(&mut self, change: &QueueChange, at_ms: u64) {
        let now_ms = self.settle(at_ms);
        match change {
            QueueChange::Create(_) => {} // made by `create`
            QueueChange::Update(attributes) => {
                self.attributes = *attributes;
                self.updated_ms = Some(now_ms);
                for (_, key) in std::mem::take(&mut self.visible) {
                    self.show(key); // may have been received often enough for a dead letter now
                }
            }
            QueueChange::Delete => {
                self.life.deleted_ms = Some(now_ms);
                self.cursors.clear();
                self.tracked.clear();
                self.in_flight.clear();
                self.visible.clear();
                self.visible_dead.clear();
            }
            QueueChange::Tags { set, removed } => {
                self.tags.extend(set.clone());
                self.tags.retain(|key, _| !removed.contains(key));
            }
            QueueChange::Received {
                lane: _,
                visible_ms,
                keys,
            } => {
                for &key in keys {
                    self.hand_over(key, *visible_ms, now_ms);
                }
            }
            QueueChange::Handed(Handed::Acknowledged(keys)) => {
                for key in keys {
                    self.forget(*key);
                }
            }
            QueueChange::Handed(Handed::Hidden(hidden)) => {
                for &(key, visible_ms) in hidden {
                    self.hide(key, visible_ms);
                }
            }
            QueueChange::Handed(Handed::Restored(keys)) => {
                for &key in keys {
                    self.hide(key, now_ms);
                    if let Some(tracked) = self.tracked.get_mut(&key) {
                        tracked.lane = Lane::Normal;
                        tracked.receives = 0;
                    }
                }
            }
        }
        self.settle(now_ms);
    }

    fn hand_over(&mut self, key: Key, visible_ms: u64, now_ms: u64) {
        self.learn_shards(key.shard + 1);
        if let Some(next) = self.cursors.get_mut(&key.shard) {
            *next = (*next).max(key.counter + 1);
        }
        let tracked = self.tracked.entry(key).or_insert(Tracked {
            lane: Lane::Normal,
            deliveries: 0,
            receives: 0,
            first_ms: now_ms,
            visible_ms: now_ms,
            in_flight: false,
        });
        tracked.deliveries += 1;
        tracked.receives = tracked.receives.saturating_add(1);
        self.hide(key, visible_ms);
    }

    /// Takes a tracked record out of sight until `visible_ms`.
    fn hide(&mut self, key: Key, visible_ms: u64) {
        self.unplace(key);
        if let Some(tracked) = self.tracked.get_mut(&key) {
            tracked.visible_ms = visible_ms;
            tracked.in_flight = true;
            self.in_flight.insert((visible_ms, key));
        }
    }

    /// Puts a tracked record whose timeout is over where it is received next.
    fn show(&mut self, key: Key) {
        let Some(tracked) = self.tracked.get_mut(&key) else {
            return;
        };
        let enough = |max| tracked.receives >= max;
        if self.attributes.max_receives.is_some_and(enough) {
            tracked.lane = Lane::DeadLetter;
        }
        let waiting = match tracked.lane {
            Lane::Normal => &mut self.visible,
            Lane::DeadLetter => &mut self.visible_dead,
        };
        waiting.insert((tracked.visible_ms, key));
    }

    fn unplace(&mut self, key: Key) {
        if let Some(tracked) = self.tracked.get(&key) {
            let place = (tracked.visible_ms, key);
            self.in_flight.remove(&place);
            self.visible.remove(&place);
            self.visible_dead.remove(&place);
        }
    }

    fn forget(&mut self, key: Key) {
        self.unplace(key);
        self.tracked.remove(&key);
    }

    /// Forgets the tracked records that the stream does not keep any more.
    pub(crate) fn forget_trimmed(&mut self, stream: &Stream, now_ms: u64) {
        let horizon_ms = stream.horizon_ms(now_ms);
        let mut from = Key {
            shard: 0,
            counter: 0,
        };
        while let Some((&Key { shard: index, .. }, _)) = self.tracked.range(from..).next() {
            let first = |counter| Key {
                shard: index,
                counter,
            };
            if let Some(shard) = stream.shard(index) {
                let kept_from = {
                    let mut log = shard.log();
                    log.trim(horizon_ms);
                    log.seek(Start::TrimHorizon)
                };
                let trimmed = self.tracked.range(first(0)..first(kept_from));
                let trimmed: Vec<Key> = trimmed.map(|(&key, _)| key).collect();
                for key in trimmed {
                    self.forget(key);
                }
            }
            let Some(next) = index.checked_add(1) else {
                return;
            };
            from = Key {
                shard: next,
                counter: 0,
            };
        }
    }

    #[cfg(test)]
    pub(crate) fn tracked_len(&self) -> usize {
        assert_eq!(
            self.tracked.len(),
            self.in_flight.len() + self.visible.len() + self.visible_dead.len()
        );
        self.tracked.len()
    }
}

/// The record at `key`, unless the stream has forgotten it.
fn record(stream: &Stream, key: Key, now_ms: u64) -> Option<Record> {
    let log = stream.shard(key.shard)?.log();
    let found = log.read(key.counter, 1, usize::MAX, now_ms).records.pop();
    found.filter(|record| record.counter == key.counter)
}

#[cfg(test)]
mod tests;
