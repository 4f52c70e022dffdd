//! One PutRecords request out of the shards that are ready.
//!
//! A lane is a shard's queue with its pace. It is *due* when waiting longer would serve nothing:
//! its next Kinesis record is full, it is a retry, a flush or close waits for it, nothing at all is
//! in flight, the last request left some while ago (`depart.rs`), or it has waited
//! `record_max_buffered_time`. A due lane whose shard may be sent to
//! and has nothing in flight is *ready*. A request takes from the ready lanes in turn, beginning
//! behind the one served last, until 500 records or 10 MiB are full. A record larger than
//! `collection_max_size` is a request of its own, and so is one that is looked through for members
//! that the service refuses (`search.rs`). The first lane whose next record
//! found no room begins the next request: others would fill that one before its turn too.
//!
//! Without an order to keep, what comes behind a large record that waits for its shard's quota may
//! pass it, for a second at most (`limit.rs`): small records need not wait for what fits less well.
//!
//! Order: a lane has one request in flight at a time (`held`), so the order of its records is kept
//! as long as they succeed. In ordered mode it is kept through partial failures too: an aggregate
//! is its lane's only Kinesis record in a request, and single records (and aggregates of one key)
//! share one only if their hash keys differ. With order per shard each Kinesis record is the only
//! one of its lane.

use std::collections::BTreeSet;
use std::time::Duration;

use kinesis_core::{HashKey, ShardId};
use tokio::time::Instant;

use super::aggregate::{AggregateLimits, KinesisRecord, Queue};
use super::lanes::Lanes;
use super::limit::{Limiter, shards_rate};
use crate::Settings;
use crate::metrics::{Flushed, Meters, as_millis};
use crate::stream::StreamTraits;

/// A shard, or `None` for records whose shard is not known.
pub(crate) type LaneKey = Option<ShardId>;

/// One shard's queue and pace.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) queue: Queue,
    pub(crate) limiter: Limiter,
    /// Kinesis records in flight that must settle before this lane sends again.
    pub(crate) held: usize,
    /// Its records go to any shard and have no order: it does not wait for what is in flight.
    pub(crate) spread: bool,
    /// No order is asked for: what fits its quota may pass what does not.
    passes: bool,
}

/// What decides when a lane is due.
#[derive(Debug)]
pub(crate) struct Urgency {
    pub(crate) now: Instant,
    /// Nothing is in flight.
    pub(crate) idle: bool,
    /// When a request that is not full may leave beside others; `None` = at once.
    pub(crate) departs_from: Option<Instant>,
    /// Nothing new is accepted.
    pub(crate) draining: bool,
    /// Entries of earlier epochs are being flushed.
    pub(crate) epoch: u64,
    /// When records may be sent without a known shard.
    pub(crate) unmapped_from: Option<Instant>,
    pub(crate) linger: Duration,
}

impl Lane {
    /// An empty lane at the full pace; that of an AUTO stream takes what its `shards` take together,
    /// as far as they are known.
    pub(crate) fn new(
        key: &LaneKey,
        settings: &Settings,
        traits: StreamTraits,
        shards: Option<usize>,
        now: Instant,
    ) -> Self {
        let aggregates = || AggregateLimits::new(settings, traits.record_bytes_max);
        let rate = |shards| shards_rate(shards, settings.rate_limit);
        let (limits, rate) = match key {
            Some(_) => (aggregates(), Some(rate(1))),
            None if traits.auto => (aggregates(), shards.map(rate)),
            None => (AggregateLimits::none(), None),
        };
        Self {
            queue: Queue::new(limits),
            limiter: Limiter::new(rate, now),
            held: 0,
            spread: traits.auto,
            passes: traits.auto || !settings.ordered,
        }
    }

    /// Why its next Kinesis record leaves, if it does now.
    fn why(&self, urgency: &Urgency) -> Flushed {
        let head = self.queue.head();
        if head.is_some_and(|head| head.attempts > 0) {
            Flushed::Retry
        } else if self.queue.is_full() {
            Flushed::Full
        } else if urgency.draining || head.is_some_and(|head| head.epoch < urgency.epoch) {
            Flushed::Manual
        } else if urgency.idle {
            Flushed::Idle
        } else if urgency.departs_from.is_none_or(|at| at <= urgency.now) {
            Flushed::Slot
        } else {
            Flushed::Timed
        }
    }

    fn is_ready(&self, key: &LaneKey, urgency: &Urgency) -> bool {
        let at = self.ready_at(key, urgency);
        at.is_some_and(|at| at <= urgency.now)
    }

    /// When this lane is ready; `None` if only an event can make it so.
    pub(crate) fn ready_at(&self, key: &LaneKey, urgency: &Urgency) -> Option<Instant> {
        let head = self.queue.head()?;
        if self.held > 0 && !self.spread {
            return None;
        }
        let due = urgency.idle
            || urgency.draining
            || self.queue.is_full()
            || head.epoch < urgency.epoch
            || head.attempts > 0;
        let mut at = if due {
            urgency.now
        } else {
            let departs_from = urgency.departs_from.unwrap_or(urgency.now);
            departs_from
                .min(head.accepted_at + urgency.linger)
                .max(urgency.now)
        };
        if key.is_none() {
            at = at.max(urgency.unmapped_from?);
        }
        let not_before = match (self.limiter.not_before(), self.passing_from(urgency.now)) {
            (Some(head), Some(behind)) => Some(head.min(behind)),
            (head, _) => head,
        };
        Some(not_before.map_or(at, |not_before| at.max(not_before)))
    }

    /// When what comes behind the first record may pass it, which waits for its quota.
    fn passing_from(&self, now: Instant) -> Option<Instant> {
        let passes = self.passes && self.queue.has_one_in_the_way();
        self.limiter.passing_from(now).filter(|_| passes)
    }
}

/// How much a request holds.
#[derive(Clone, Debug)]
pub(crate) struct RequestLimits {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    pub(crate) ordered: bool,
    pub(crate) ordered_per_shard: bool,
}

impl RequestLimits {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            count: settings.collection_max_count,
            bytes: settings.collection_max_size,
            ordered: settings.ordered,
            ordered_per_shard: settings.ordered_per_shard,
        }
    }
}

/// Takes a request's worth out of the ready lanes and holds them. Empty if no lane is ready. Tells too
/// whether any of it left unasked, before it was full.
pub(crate) fn collect(
    lanes: &mut Lanes,
    urgency: &Urgency,
    limits: &RequestLimits,
    meters: &Meters,
) -> (Vec<KinesisRecord>, bool) {
    let mut request = Vec::new();
    let (mut bytes, mut unasked) = (0, false);
    // A record that is looked through goes by itself, or others would be refused along with it.
    let mut apart = false;
    let mut no_room = None;
    for slot in lanes.turn(urgency) {
        lanes.serve(slot, |key, lane| {
            let before = request.len();
            let mut keys = BTreeSet::new();
            let fits = |queue: &Queue, bytes| {
                bytes + queue.next_size() <= limits.bytes && queue.search().is_none()
            };
            let mut passed = None;
            while request.len() < limits.count
                && !apart
                && !lane.queue.is_empty()
                && (request.is_empty() || fits(&lane.queue, bytes))
                && (passed.is_some() || lane.is_ready(key, urgency))
                && (!limits.ordered
                    || lane.spread
                    || may_share(lane, limits, request.len() > before, &mut keys))
            {
                let size = lane.queue.next_size();
                let admitted = if passed.is_none() {
                    lane.limiter.admit(size, urgency.now)
                } else {
                    lane.limiter.admit_behind(size, urgency.now)
                };
                if !admitted && passed.is_none() && lane.passing_from(urgency.now).is_some() {
                    passed = lane.queue.step_aside();
                    continue;
                }
                if !admitted {
                    break;
                }
                apart = lane.queue.search().is_some();
                let why = lane.why(urgency);
                let Some(record) = lane.queue.cut(key.clone()) else {
                    break;
                };
                meters.flushed(why);
                unasked |= why.is_unasked();
                let waited = passed.is_none().then(|| lane.limiter.waited(urgency.now));
                if let Some(waited) = waited.flatten() {
                    meters.limiter_wait.record(as_millis(waited));
                }
                bytes += record.size();
                request.push(record);
            }
            if let Some(passed) = passed {
                lane.queue.put_back(vec![passed]);
            }
            if request.len() == before && before > 0 && !fits(&lane.queue, bytes) {
                no_room = no_room.or(Some(slot));
            }
            lane.held += request.len() - before;
            request.len() > before
        });
        if apart || request.len() >= limits.count {
            break;
        }
    }
    if let Some(slot) = no_room {
        lanes.begin_at(slot);
    }
    (request, unasked)
}

/// Whether the lane's next Kinesis record may go into the same request as those before it without
/// any key appearing twice; `keys` are those so far that have one.
fn may_share(
    lane: &Lane,
    limits: &RequestLimits,
    has_others: bool,
    keys: &mut BTreeSet<HashKey>,
) -> bool {
    if limits.ordered_per_shard {
        return !has_others;
    }
    match lane.queue.next_hash_key() {
        // An aggregate was first: it left no key behind, and shares with nobody.
        Some(_) if has_others && keys.is_empty() => false,
        Some(key) => keys.insert(key),
        None => !has_others,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kinesis_core::{Clock, HashKeyRange, Shard, ShardMap, UserRecord};

    use super::*;
    use crate::pipeline::intake::{Entry, Room};
    use crate::pipeline::outcome::Slots;

    fn without_linger(now: Instant) -> Urgency {
        Urgency {
            now,
            idle: true,
            departs_from: None,
            draining: false,
            epoch: 0,
            unmapped_from: None,
            linger: Duration::ZERO,
        }
    }

    #[test]
    fn a_record_that_finds_no_room_begins_the_next_request() {
        let now = Clock::system().now();
        let settings = Settings::default();
        let ranges = HashKeyRange::FULL.split_even(3);
        let shards = ranges.iter().zip(0..).map(|(range, index)| Shard {
            id: ShardId::from_index(index),
            range: *range,
            parent: None,
            adjacent_parent: None,
            starting_sequence_number: "0".parse().expect("a number"),
            ending_sequence_number: None,
        });
        let map = ShardMap::new(shards);
        let traits = StreamTraits::unknown();
        let mut lanes = Lanes::new(Some(&map), |key| {
            Lane::new(key, &settings, traits, None, now)
        });
        let slots = Slots::new(Arc::new(Room::new("stream".into(), 1_000, 1 << 20)));
        let mut outcomes = Vec::new();
        let mut push = |lanes: &mut Lanes, shard: usize, bytes: usize| {
            let record = UserRecord::new("key", vec![0; bytes]);
            let record = record.with_explicit_hash_key(ranges[shard].start());
            slots.room().try_take(record.size()).expect("room");
            let (entry, outcome) = Entry::new(record, &slots, now);
            outcomes.push(outcome);
            lanes.push(entry);
        };
        let urgency = without_linger(now);
        let limits = RequestLimits {
            count: 500,
            bytes: 1_000,
            ordered: false,
            ordered_per_shard: false,
        };
        let meters = Meters::new(&"stream".into());
        push(&mut lanes, 1, 950);
        let mut sizes = Vec::new();
        for _ in 0..3 {
            // The others always have something to send.
            push(&mut lanes, 0, 100);
            push(&mut lanes, 2, 100);
            let (request, _) = collect(&mut lanes, &urgency, &limits, &meters);
            sizes.push(request.iter().map(KinesisRecord::size).max());
            for index in 0..3 {
                let lane = lanes.get_mut(&Some(ShardId::from_index(index)));
                lane.expect("a lane").held = 0;
            }
        }
        assert!(sizes[0] < Some(900), "{sizes:?}");
        assert!(sizes[1] > Some(900), "{sizes:?}");
    }

    #[test]
    fn passing_pays_for_what_passes_and_no_more() {
        let now = Clock::system().now();
        let settings = Settings {
            ordered: false,
            ..Settings::default()
        };
        let map = ShardMap::new([Shard {
            id: ShardId::from_index(0),
            range: HashKeyRange::FULL,
            parent: None,
            adjacent_parent: None,
            starting_sequence_number: "0".parse().expect("a number"),
            ending_sequence_number: None,
        }]);
        let traits = StreamTraits::unknown();
        let mut lanes = Lanes::new(Some(&map), |key| {
            Lane::new(key, &settings, traits, None, now)
        });
        let slots = Slots::new(Arc::new(Room::new("stream".into(), 100_000, 1 << 30)));
        let mut outcomes = Vec::new();
        for bytes in [1 << 20, 100] {
            let record = UserRecord::new("key", vec![0; bytes]);
            slots.room().try_take(record.size()).expect("room");
            let (entry, outcome) = Entry::new(record, &slots, now);
            outcomes.push(outcome);
            lanes.push(entry);
        }
        let key = Some(ShardId::from_index(0));
        let lane = lanes.get_mut(&key).expect("a lane");
        assert!(
            lane.limiter.admit(100_000, now),
            "the large one has to wait"
        );
        let urgency = without_linger(now);
        let limits = RequestLimits::new(&settings);
        let meters = Meters::new(&"stream".into());
        let (request, _) = collect(&mut lanes, &urgency, &limits, &meters);
        assert_eq!(request.len(), 1, "the small one passes");
        let lane = lanes.get_mut(&key).expect("a lane");
        let left = (0..2_000).take_while(|_| lane.limiter.admit_behind(0, now));
        assert_eq!(left.count(), 998, "of the shard's records for this second");
    }
}
