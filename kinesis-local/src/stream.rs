//! What a stream is: its shards, their lineage, its consumers and its life, without any I/O.
//!
//! Promises: the open shards always part the whole hash-key space between them; a closed shard
//! keeps its records and never takes another; a shard's parents are closed before it opens; shard
//! indices are given out in order and never again. Everything changes by plain calls that get the
//! time from outside, so a recovery that replays the same calls ends in the same state.
//!
//! ```text
//! shard 0 ├──────────────┤ split                 range [0, 2^127)
//!                        ├─ shard 2 ──────▶      first half
//!                        ├─ shard 3 ───┐ merge   second half
//! shard 1 ├────────────────────────────┤         range [2^127, 2^128)
//!                                      ├─ shard 4 ▶  parent 3, adjacent parent 1
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kinesis_core::limits::ON_DEMAND_SHARDS_AT_START;
use kinesis_core::{HashKey, HashKeyRange};
use tokio::sync::watch;

pub(crate) mod attached;
pub(crate) mod change;
pub(crate) mod channel;
pub(crate) mod consumer;
pub(crate) mod daily;
pub(crate) mod demand;
pub(crate) mod distribution;
pub(crate) mod encryption;
pub(crate) mod filter;
pub(crate) mod iterator;
pub(crate) mod lifecycle;
pub(crate) mod monitoring;
pub(crate) mod policy;
pub(crate) mod queue;
pub(crate) mod scale;
pub(crate) mod shard;
pub(crate) mod token;
pub(crate) mod warm;

use change::Tags;
use channel::Channel;
use consumer::Consumer;
use daily::Daily;
use demand::{Demand, Plan};
use distribution::Distribution;
use encryption::Encryption;
use lifecycle::{Delays, Life, Status};
use monitoring::Metrics;
use queue::Queue;
use scale::Step;
use shard::{Identity, Shard};
use warm::Warm;

use crate::place::Place;

/// How a stream's capacity is ruled.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Provisioned,
    OnDemand,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Provisioned => "PROVISIONED",
            Self::OnDemand => "ON_DEMAND",
        }
    }
}

/// What CreateStream asked for, with everything settled that it left open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct NewStream {
    /// Tells this stream from an earlier one of the same name; never given twice by a store.
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    /// `None`: the account and region of the settings, whatever they are.
    pub(crate) place: Option<Arc<Place>>,
    pub(crate) created_ms: u64,
    pub(crate) mode: Mode,
    pub(crate) shard_count: u32,
    pub(crate) retention_hours: u32,
    pub(crate) record_max_bytes: u32,
    pub(crate) distribution: Distribution,
    /// The warm throughput of an on-demand stream, in MiB a second; its shards are counted already.
    pub(crate) warm_mibps: Option<u32>,
    pub(crate) tags: Tags,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) mode: Mode,
    pub(crate) retention_hours: u32,
    pub(crate) record_max_bytes: u32,
    pub(crate) distribution: Distribution,
    /// What it is kept ready to take while its account's commitment lasts.
    pub(crate) warm: Option<Warm>,
    pub(crate) encryption: Encryption,
    /// The metrics of its shards that it is monitored by.
    pub(crate) metrics: Metrics,
    /// Its resource policy, as it was given.
    pub(crate) policy: Option<String>,
    pub(crate) life: Life,
    /// By name; those that are gone too, until another is registered or deregistered.
    pub(crate) consumers: BTreeMap<String, Consumer>,
    /// By the part of their id that is their own; those that are gone too, until another is created.
    pub(crate) queues: BTreeMap<u64, Mutex<Queue>>,
    /// The same of channels.
    pub(crate) channels: BTreeMap<u64, Mutex<Channel>>,
    pub(crate) tags: Tags,
    /// When UpdateShardCount and UpdateStreamMode were used, in the last day.
    pub(crate) scaled: Daily,
    pub(crate) mode_switched: Daily,
    /// What its traffic asks for while it is on-demand.
    demand: Mutex<Demand>,
    /// Records that arrived before are expired, whatever the retention is now.
    kept_from_ms: u64,
    /// The last change that the stream goes through UPDATING for.
    updated_ms: Option<u64>,
    /// Tells who waits at any shard of the stream that something changed.
    news: Arc<watch::Sender<()>>,
    shards: Vec<Arc<Shard>>,
    /// Indices of the open shards, by where their range starts.
    open: Vec<u32>,
    /// Which of the open shards takes the next record that may go to any.
    turn: AtomicUsize,
}

/// Why shards cannot be split or merged; the API puts it in the service's words.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum ReshardRefusal {
    NoSuchShard(u32),
    AlreadyClosed(u32),
    KeyOutsideShard(HashKeyRange),
    NotAdjacent,
}

const MILLIS_PER_HOUR: u64 = 3_600_000;

impl Stream {
    /// A stream with `shard_count` shards of equal size.
    pub(crate) fn create(new: &NewStream) -> Self {
        // Shards that only keep it warm are no need of its traffic.
        let needed = match new.warm_mibps {
            None => new.shard_count,
            Some(_) => ON_DEMAND_SHARDS_AT_START,
        };
        let mut stream = Self {
            mode: new.mode,
            retention_hours: new.retention_hours,
            record_max_bytes: new.record_max_bytes,
            distribution: new.distribution,
            warm: new.warm_mibps.map(|target_mibps| Warm {
                target_mibps,
                since_ms: new.created_ms,
            }),
            encryption: Encryption::default(),
            metrics: Metrics::default(),
            policy: None,
            life: Life::created(new.created_ms),
            consumers: BTreeMap::new(),
            queues: BTreeMap::new(),
            channels: BTreeMap::new(),
            tags: new.tags.clone(),
            scaled: Daily::default(),
            mode_switched: Daily::default(),
            demand: Mutex::new(Demand::start(needed, new.created_ms)),
            kept_from_ms: 0,
            updated_ms: None,
            news: Arc::new(watch::Sender::new(())),
            shards: Vec::new(),
            open: Vec::new(),
            turn: AtomicUsize::new(0),
        };
        for range in HashKeyRange::FULL.split_even(new.shard_count) {
            stream.add_shard(range, [None, None], new.created_ms, new.created_ms / 1000);
        }
        stream
    }

    pub(crate) fn status(&self, now_ms: u64, delays: Delays) -> Status {
        self.life
            .status_with_update(self.updated_ms, now_ms, delays)
    }

    /// Tells of everything that changes in any shard, and of shards that open, after this call.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Wakes all who watch the stream.
    pub(crate) fn wake(&self) {
        self.news.send_replace(());
    }

    /// The queue, for a short while; the shards' locks may be taken inside, not the other way round.
    pub(crate) fn queue(&self, id: u64) -> Option<MutexGuard<'_, Queue>> {
        let queue = self.queues.get(&id)?;
        Some(queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The channel, for a short while, as [`queue`](Self::queue).
    pub(crate) fn channel(&self, id: u64) -> Option<MutexGuard<'_, Channel>> {
        let channel = self.channels.get(&id)?;
        Some(channel.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The consumer, if it is not gone.
    pub(crate) fn consumer(&self, name: &str, now_ms: u64, delays: Delays) -> Option<&Consumer> {
        let consumer = self.consumers.get(name)?;
        (!consumer.is_gone(now_ms, delays)).then_some(consumer)
    }

    /// Consumers that are not gone.
    pub(crate) fn consumer_count(&self, now_ms: u64, delays: Delays) -> usize {
        let consumers = self.consumers.values();
        consumers
            .filter(|consumer| !consumer.is_gone(now_ms, delays))
            .count()
    }

    /// Gives up what is left of consumers that are gone.
    pub(crate) fn forget_gone_consumers(&mut self, now_ms: u64, delays: Delays) {
        self.consumers
            .retain(|_, consumer| !consumer.is_gone(now_ms, delays));
    }

    /// Channels that are not gone.
    pub(crate) fn channel_count(&self, now_ms: u64, delays: Delays) -> usize {
        let channels = self.channels.keys().filter_map(|&id| self.channel(id));
        channels
            .filter(|channel| channel.status(now_ms, delays) != Status::Gone)
            .count()
    }

    /// Gives up what is left of channels that are gone.
    pub(crate) fn forget_gone_channels(&mut self, now_ms: u64, delays: Delays) {
        self.channels.retain(|_, channel| {
            let channel = channel.get_mut().unwrap_or_else(PoisonError::into_inner);
            channel.status(now_ms, delays) != Status::Gone
        });
    }

    /// Gives up what is left of queues that are gone.
    pub(crate) fn forget_gone_queues(&mut self, now_ms: u64, delays: Delays) {
        self.queues.retain(|_, queue| {
            let queue = queue.get_mut().unwrap_or_else(PoisonError::into_inner);
            queue.status(now_ms, delays) != Status::Gone
        });
    }

    /// Queues that are not gone.
    pub(crate) fn queue_count(&self, now_ms: u64, delays: Delays) -> usize {
        let ids = self.queues.keys().filter_map(|&id| self.queue(id));
        ids.filter(|queue| queue.status(now_ms, delays) != Status::Gone)
            .count()
    }

    pub(crate) fn is_gone(&self, now_ms: u64, delays: Delays) -> bool {
        self.status(now_ms, delays) == Status::Gone
    }

    /// All shards, by index.
    pub(crate) fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    pub(crate) fn shard(&self, index: u32) -> Option<&Arc<Shard>> {
        self.shards.get(index as usize)
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The open shard that takes `key`.
    pub(crate) fn route(&self, key: HashKey) -> &Arc<Shard> {
        let after = self
            .open
            .partition_point(|&index| self.at(index).identity.range.start() <= key);
        self.at(self.open[after - 1])
    }

    /// Notes what was written to `shard`, for the shards that an on-demand stream will need.
    pub(crate) fn observe(&self, shard: u32, bytes: usize, records: usize, now_ms: u64) {
        if self.mode == Mode::OnDemand {
            let open = self.open_shards();
            let mut demand = self.demand();
            demand.observe(open, shard, bytes as u64, records as u64, now_ms);
        }
    }

    /// The steps that the traffic of an on-demand stream asks for now, if any; never below `warm`
    /// shards, and not beyond `most`.
    pub(crate) fn steps_in_demand(&self, warm: u32, most: u32, now_ms: u64) -> Option<Vec<Step>> {
        if self.mode == Mode::Provisioned || self.life.deleted_ms.is_some() {
            return None;
        }
        let plan = self.demand().plan(&self.open, warm, most, now_ms)?;
        let steps = match plan {
            Plan::Split(split) => self.steps_to_split(&split),
            Plan::Merge(target) => self.steps_to(target),
        };
        Some(steps).filter(|steps| !steps.is_empty())
    }

    /// Held for plain calls only, like the locks of the shards.
    fn demand(&self) -> MutexGuard<'_, Demand> {
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_shards(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    /// The open shard whose turn it is: each gets as many records as the others.
    pub(crate) fn next_in_turn(&self) -> &Arc<Shard> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.at(self.open[turn % self.open.len()])
    }

    /// The shards that a split or merge of `index` opened; empty while it is open.
    pub(crate) fn children(&self, index: u32) -> impl Iterator<Item = &Arc<Shard>> {
        self.shards
            .iter()
            .filter(move |shard| shard.identity.parents().any(|parent| parent == index))
    }

    /// The oldest time whose records are kept.
    pub(crate) fn horizon_ms(&self, now_ms: u64) -> u64 {
        let retention_ms = u64::from(self.retention_hours) * MILLIS_PER_HOUR;
        now_ms.saturating_sub(retention_ms).max(self.kept_from_ms)
    }

    /// Whether `shard` is closed and everything in it is past the retention.
    pub(crate) fn is_expired(&self, shard: &Shard, now_ms: u64) -> bool {
        let horizon_ms = self.horizon_ms(now_ms);
        shard.closed_ms().is_some_and(|end_ms| end_ms < horizon_ms)
    }

    /// Forgets the records that are past the retention, in the shards alone.
    pub(crate) fn trim_shards(&self, now_ms: u64) {
        let horizon_ms = self.horizon_ms(now_ms);
        for shard in &self.shards {
            shard.log().trim(horizon_ms);
        }
    }

    /// Forgets all records that are past the retention.
    pub(crate) fn trim(&self, now_ms: u64) {
        self.trim_shards(now_ms);
        for queue in self.queues.keys().filter_map(|&id| self.queue(id)) {
            let mut queue = queue;
            queue.forget_trimmed(self, now_ms);
        }
    }

    /// Gives up all records: the stream was deleted.
    pub(crate) fn forget_records(&self) {
        for shard in &self.shards {
            shard.log().forget_all();
        }
    }

    /// Whether `index` can be split so that `key` starts the second child.
    pub(crate) fn check_split(&self, index: u32, key: HashKey) -> Result<(), ReshardRefusal> {
        let shard = self.open_shard(index)?;
        let range = shard.identity.range;
        // The service wants the first child to have at least two keys.
        if key.0 <= range.start().0.saturating_add(1) || key >= range.end() {
            return Err(ReshardRefusal::KeyOutsideShard(range));
        }
        Ok(())
    }

    /// Closes `index` and opens its two children.
    pub(crate) fn split(
        &mut self,
        index: u32,
        key: HashKey,
        now_ms: u64,
    ) -> Result<(), ReshardRefusal> {
        self.check_split(index, key)?;
        self.divide(index, key, now_ms)
    }

    /// Splits at any key within the shard, also where the service would not be asked to.
    fn divide(&mut self, index: u32, key: HashKey, now_ms: u64) -> Result<(), ReshardRefusal> {
        let range = self.open_shard(index)?.identity.range;
        let (first, second) = range
            .split_at(key)
            .ok_or(ReshardRefusal::KeyOutsideShard(range))?;
        let created_s = self.child_created_s(&[index], now_ms);
        self.close(index, now_ms);
        self.add_shard(first, [Some(index), None], now_ms, created_s);
        self.add_shard(second, [Some(index), None], now_ms, created_s);
        self.updated_ms = Some(now_ms);
        Ok(())
    }

    /// Whether `index` and `adjacent`, in this order, lie next to each other and are open.
    pub(crate) fn check_merge(&self, index: u32, adjacent: u32) -> Result<(), ReshardRefusal> {
        let first = self
            .shard(index)
            .ok_or(ReshardRefusal::NoSuchShard(index))?;
        let second = self
            .shard(adjacent)
            .ok_or(ReshardRefusal::NoSuchShard(adjacent))?;
        let end = first.identity.range.end().0;
        if end.checked_add(1) != Some(second.identity.range.start().0) {
            return Err(ReshardRefusal::NotAdjacent);
        }
        self.open_shard(index)?;
        self.open_shard(adjacent)?;
        Ok(())
    }

    /// Closes both shards and opens one over their ranges.
    pub(crate) fn merge(
        &mut self,
        index: u32,
        adjacent: u32,
        now_ms: u64,
    ) -> Result<(), ReshardRefusal> {
        self.check_merge(index, adjacent)?;
        let (first, second) = (
            self.at(index).identity.range,
            self.at(adjacent).identity.range,
        );
        let range = first.merge(second).ok_or(ReshardRefusal::NotAdjacent)?;
        let created_s = self.child_created_s(&[index, adjacent], now_ms);
        self.close(index, now_ms);
        self.close(adjacent, now_ms);
        self.add_shard(range, [Some(index), Some(adjacent)], now_ms, created_s);
        self.updated_ms = Some(now_ms);
        Ok(())
    }

    fn at(&self, index: u32) -> &Arc<Shard> {
        &self.shards[index as usize]
    }

    fn open_shard(&self, index: u32) -> Result<&Arc<Shard>, ReshardRefusal> {
        let shard = self
            .shard(index)
            .ok_or(ReshardRefusal::NoSuchShard(index))?;
        let place = self.place_of(shard.identity.range.start());
        if self.open.get(place) == Some(&index) {
            Ok(shard)
        } else {
            Err(ReshardRefusal::AlreadyClosed(index))
        }
    }

    /// Where in `open` the shard is, or would be, whose range starts at `start`.
    fn place_of(&self, start: HashKey) -> usize {
        self.open
            .partition_point(|&open| self.at(open).identity.range.start() < start)
    }

    /// The creation second in a child's sequence numbers: above its parents', so that every number
    /// of a child is greater than every number of its parents.
    fn child_created_s(&self, parents: &[u32], now_ms: u64) -> u64 {
        let parents = parents
            .iter()
            .map(|&index| self.at(index).identity.created_s);
        parents.chain([now_ms / 1000]).max().unwrap_or_default() + 1
    }

    fn close(&mut self, index: u32, now_ms: u64) {
        let shard = self.at(index);
        shard.close(now_ms);
        let place = self.place_of(shard.identity.range.start());
        if self.open.get(place) == Some(&index) {
            self.open.remove(place);
        }
    }

    fn add_shard(
        &mut self,
        range: HashKeyRange,
        parents: [Option<u32>; 2],
        created_ms: u64,
        created_s: u64,
    ) {
        let index = u32::try_from(self.shards.len()).unwrap_or(u32::MAX);
        let [parent, adjacent_parent] = parents;
        let identity = Identity {
            index,
            range,
            parent,
            adjacent_parent,
            created_ms,
            created_s,
        };
        let shard = Shard::open(identity, Arc::clone(&self.news));
        self.shards.push(Arc::new(shard));
        let place = self.place_of(range.start());
        self.open.insert(place, index);
    }
}

#[cfg(test)]
pub(crate) mod tests;
