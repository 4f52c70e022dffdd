//! All lanes of a stream: which one takes a hash key, and which ones have records waiting.
//!
//! Invariants: lanes are sorted by key, the one of unknown shards first, so that a slot number is
//! valid until the lanes are laid anew; `waiting` holds exactly the lanes whose queues are not
//! empty. So an event costs what is waiting, not what the stream has in shards, and a record finds
//! its lane by one binary search.

use std::collections::BTreeSet;

use kinesis_core::{HashKey, HashKeyRange, ShardMap};
use tokio::time::Instant;

use super::collect::{Lane, LaneKey, Urgency};
use super::intake::Entry;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lanes {
    slots: Vec<(LaneKey, Lane)>,
    /// The open shards in the order of their ranges, each with its slot.
    routes: Vec<(HashKeyRange, usize)>,
    waiting: BTreeSet<usize>,
    /// Where the next turn begins.
    next: usize,
}

impl Lanes {
    /// The lanes of the open shards of `map`, and one for records whose shard is not known.
    pub(crate) fn new(map: Option<&ShardMap>, mut lane: impl FnMut(&LaneKey) -> Lane) -> Self {
        let open = || map.into_iter().flat_map(ShardMap::open);
        let keys: BTreeSet<LaneKey> = open().map(|shard| Some(shard.id.clone())).collect();
        let slots: Vec<_> = std::iter::once(None)
            .chain(keys)
            .map(|key| {
                let lane = lane(&key);
                (key, lane)
            })
            .collect();
        let mut lanes = Self {
            slots,
            routes: Vec::new(),
            waiting: BTreeSet::new(),
            next: 0,
        };
        lanes.routes = open()
            .filter_map(|shard| Some((shard.range, lanes.slot(&Some(shard.id.clone()))?)))
            .collect();
        lanes
    }

    /// Whether records wait whose shard is not known.
    pub(crate) fn has_unmapped(&self) -> bool {
        self.waiting.contains(&0)
    }

    /// The lane that takes `key`.
    pub(crate) fn key_of(&self, key: HashKey) -> LaneKey {
        let slot = self.route(key);
        self.slots.get(slot).and_then(|(key, _)| key.clone())
    }

    pub(crate) fn get_mut(&mut self, key: &LaneKey) -> Option<&mut Lane> {
        let slot = self.slot(key)?;
        self.slots.get_mut(slot).map(|(_, lane)| lane)
    }

    /// Takes a lane's pace out, before the lanes are laid anew.
    pub(crate) fn into_paces(self) -> impl Iterator<Item = (LaneKey, super::limit::Limiter)> {
        self.slots
            .into_iter()
            .map(|(key, lane)| (key, lane.limiter))
    }

    /// How many there are, that of unknown shards included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no record waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The lanes with records waiting.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&LaneKey, &Lane)> {
        let slots = self.waiting.iter().filter_map(|slot| self.slots.get(*slot));
        slots.map(|(key, lane)| (key, lane))
    }

    /// Adds the youngest entry to its lane.
    pub(crate) fn push(&mut self, entry: Entry) {
        let slot = self.route(entry.hash_key);
        if let Some((_, lane)) = self.slots.get_mut(slot) {
            if lane.queue.is_empty() {
                self.waiting.insert(slot);
            }
            lane.queue.push_back(entry);
        }
    }

    /// Puts entries back into their lanes, where they belong by their order of acceptance.
    pub(crate) fn put_back(&mut self, entries: Vec<Entry>) {
        let mut groups: std::collections::BTreeMap<usize, Vec<Entry>> = Default::default();
        for entry in entries {
            groups
                .entry(self.route(entry.hash_key))
                .or_default()
                .push(entry);
        }
        for (slot, group) in groups {
            if let Some((_, lane)) = self.slots.get_mut(slot) {
                lane.queue.put_back(group);
                self.waiting.insert(slot);
            }
        }
    }

    /// Takes out what was accepted at `oldest` or before.
    pub(crate) fn expire(&mut self, oldest: Instant) -> Vec<Entry> {
        self.take_out(|lane| lane.queue.expire(oldest))
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> Vec<Entry> {
        self.take_out(|lane| lane.queue.drain())
    }

    /// Takes out what waits in the lane of unknown shards.
    pub(crate) fn drain_unmapped(&mut self) -> Vec<Entry> {
        self.waiting.remove(&0);
        let unmapped = self.slots.first_mut();
        unmapped
            .map(|(_, lane)| lane.queue.drain())
            .unwrap_or_default()
    }

    /// The ready lanes, beginning behind the one served last, or where [`Self::begin_at`] says.
    pub(crate) fn turn(&self, urgency: &Urgency) -> Vec<usize> {
        let first = self.waiting.range(self.next..);
        first
            .chain(self.waiting.range(..self.next))
            .copied()
            .filter(|slot| {
                let ready = self
                    .slots
                    .get(*slot)
                    .and_then(|(key, lane)| lane.ready_at(key, urgency));
                ready.is_some_and(|at| at <= urgency.now)
            })
            .collect()
    }

    /// Serves one lane; whatever `serve` took out of its queue is accounted for.
    pub(crate) fn serve(&mut self, slot: usize, serve: impl FnOnce(&LaneKey, &mut Lane) -> bool) {
        if let Some((key, lane)) = self.slots.get_mut(slot) {
            if serve(key, lane) {
                self.next = slot.saturating_add(1);
            }
            if lane.queue.is_empty() {
                self.waiting.remove(&slot);
            }
        }
    }

    /// Lets the next turn begin with this lane.
    pub(crate) fn begin_at(&mut self, slot: usize) {
        self.next = slot;
    }

    fn take_out(&mut self, mut take: impl FnMut(&mut Lane) -> Vec<Entry>) -> Vec<Entry> {
        let mut taken = Vec::new();
        let slots = &mut self.slots;
        self.waiting.retain(|slot| {
            slots.get_mut(*slot).is_some_and(|(_, lane)| {
                taken.extend(take(lane));
                !lane.queue.is_empty()
            })
        });
        taken
    }

    fn slot(&self, key: &LaneKey) -> Option<usize> {
        self.slots.binary_search_by(|(k, _)| k.cmp(key)).ok()
    }

    /// The slot of the lane that takes `key`; 0 where the map has a hole or there is none.
    fn route(&self, key: HashKey) -> usize {
        let at = self.routes.partition_point(|(range, _)| range.end() < key);
        let found = self.routes.get(at);
        found
            .filter(|(range, _)| range.contains(key))
            .map_or(0, |(_, slot)| *slot)
    }
}
