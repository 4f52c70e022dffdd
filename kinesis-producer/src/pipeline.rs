//! The pipeline: every accepted record from intake to outcome, as one synchronous machine.
//!
//! ```text
//! accept ─▶ lane per shard ──────────────▶ flight ─────────────▶ settled
//!           queue: aggregate.rs    ▲       one PutRecords        (delivered or failed)
//!           pace:  limit.rs        │          │
//!           next request:          │          ├─ failed, transient: back to the front of the lane
//!             collect.rs           └──────────┤
//!                                             ├─ invalid: parts ─▶ flights of their own
//!                                             └─ landed elsewhere: undecided until the map is fresh
//! ```
//!
//! Invariants: an entry is in exactly one place; every Kinesis record out of its lane (flight,
//! part, undecided) counts in the `held` of the lanes its members belong to, so nothing of those
//! lanes overtakes it; a new shard map moves waiting entries to their new lanes before anything
//! else is cut.
//!
//! The machine does no I/O and reads no clock: the service task (`service.rs`) carries its requests
//! out and tells it what came back.

mod aggregate;
mod collect;
mod depart;
pub(crate) mod intake;
mod lanes;
mod limit;
pub(crate) mod outcome;
mod reshard;
pub(crate) mod retry;
mod search;
pub(crate) mod send;
mod stale;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::{InvalidRecord, Rand, ShardId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::aggregate::KinesisRecord;
use self::collect::{Lane, RequestLimits, Urgency, collect};
use self::depart::Departures;
use self::intake::{Entry, Epochs};
use self::lanes::Lanes;
use self::outcome::Place;
use self::retry::{Verdict, judge};
use self::search::{Part, Search};
use self::send::Put;
use self::stale::Staleness;
use crate::Settings;
use crate::error::{Bound, Reason};
use crate::metrics::{Meters, as_millis};
use crate::shard_map::MapKeeper;
use crate::stream::{Inquiry, StreamTraits};

/// See the module.
pub(crate) struct Pipeline {
    stream: Arc<str>,
    settings: Settings,
    rand: Rand,
    meters: Meters,
    keeper: MapKeeper,
    traits: StreamTraits,
    inquiry: Inquiry,
    /// Sequence numbers tell when a shard was made, as far as is known.
    numbers_tell: bool,
    lanes: Lanes,
    flights: BTreeMap<u64, Flight>,
    next_flight: u64,
    /// Parts of invalid requests, to be sent as they are.
    parts: VecDeque<Part>,
    undecided: Vec<Landed>,
    epochs: Epochs,
    next_entry: u64,
    draining: bool,
    departures: Departures,
    staleness: Staleness,
}

/// One request under way.
struct Flight {
    records: Vec<KinesisRecord>,
    /// It is a [`Part`] that was cut so.
    named: bool,
    /// It is sent to find which records the service refuses.
    search: Option<Arc<Search>>,
    sent_at: Instant,
    /// When its oldest member was accepted.
    oldest: Option<Instant>,
}

/// An aggregate in a shard that the map does not know.
struct Landed {
    record: KinesisRecord,
    place: Place,
}

/// What is to be sent.
pub(crate) struct Request {
    pub(crate) flight: u64,
    pub(crate) records: Vec<Put>,
    /// Data and keys.
    pub(crate) bytes: usize,
}

impl Pipeline {
    pub(crate) fn new(stream: Arc<str>, settings: Settings, rand: Rand, now: Instant) -> Self {
        let traits = StreamTraits::unknown();
        let lanes = Lanes::new(None, |key| Lane::new(key, &settings, traits, None, now));
        Self {
            meters: Meters::new(&stream),
            stream,
            settings,
            rand,
            keeper: MapKeeper::new(),
            traits,
            inquiry: Inquiry::new(),
            numbers_tell: true,
            lanes,
            flights: BTreeMap::new(),
            next_flight: 0,
            parts: VecDeque::new(),
            undecided: Vec::new(),
            epochs: Epochs::new(),
            next_entry: 0,
            draining: false,
            departures: Departures::default(),
            staleness: Staleness::default(),
        }
    }

    /// Takes charge of an accepted record.
    pub(crate) fn accept(&mut self, mut entry: Entry, now: Instant) {
        entry.id = self.next_entry;
        entry.epoch = self.epochs.current();
        entry.accepted_at = now;
        self.next_entry += 1;
        self.epochs.accepted();
        self.keeper.needed(now);
        self.take_lane(entry);
    }

    /// Puts a waiting entry into its lane, unless the stream does not take it.
    fn take_lane(&mut self, entry: Entry) {
        let (bytes, max_bytes) = (entry.record.size(), self.traits.record_bytes_max);
        if bytes <= max_bytes {
            return self.lanes.push(entry);
        }
        let stream = Arc::clone(&self.stream);
        let source = InvalidRecord::TooLarge { bytes, max_bytes };
        let bound = Bound::Stream;
        self.fail(
            entry,
            Reason::Record {
                stream,
                source,
                bound,
            },
        );
    }

    fn verdict(&self, record: &KinesisRecord, stored_in: &ShardId) -> Verdict {
        if self.traits.auto {
            // No shard has a range of its own there.
            return Verdict::Delivered;
        }
        judge(record, stored_in, self.keeper.map())
    }

    /// Answers `done` once everything accepted so far is settled; none of it lingers any more.
    pub(crate) fn flush(&mut self, done: oneshot::Sender<()>) {
        self.epochs.flush(done);
    }

    /// Nothing new comes: nothing lingers any more.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether everything accepted is settled.
    pub(crate) fn is_empty(&self) -> bool {
        self.flights.is_empty()
            && self.parts.is_empty()
            && self.undecided.is_empty()
            && self.lanes.is_empty()
    }

    /// The next request to send now, if there is one and a slot for it.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<Request> {
        self.expire(now);
        if self.flights.len() >= self.settings.max_in_flight {
            return None;
        }
        let (mut records, named, search) = match self.parts.pop_front() {
            Some(Part {
                mut records,
                named,
                search,
            }) => {
                for member in records.iter_mut().flat_map(|record| &mut record.members) {
                    member.attempts = member.attempts.saturating_add(1);
                }
                (records, named, search)
            }
            None => {
                let urgency = self.urgency(now);
                let limits = RequestLimits::new(&self.settings);
                let (records, unasked) = collect(&mut self.lanes, &urgency, &limits, &self.meters);
                if unasked {
                    self.departures.left(now);
                }
                // What is looked through goes by itself.
                let first = records.first().and_then(|record| record.members.first());
                let search = first.and_then(|first| first.search.clone());
                (records, false, search)
            }
        };
        if records.is_empty() {
            return None;
        }
        let flight = self.next_flight;
        self.next_flight += 1;
        let bytes = self.measure_request(&records, now);
        let puts = Put::of_each(&mut records);
        self.flights.insert(
            flight,
            Flight {
                named,
                search,
                oldest: oldest_of(&records),
                records,
                sent_at: now,
            },
        );
        Some(Request {
            flight,
            records: puts,
            bytes,
        })
    }

    /// Whether to load the shard map now; if so the load counts as begun.
    pub(crate) fn begin_map_load(&mut self, now: Instant) -> bool {
        let begins = self.keeper.begin(now);
        if begins {
            self.inquiry.with_map(now);
        }
        begins
    }

    /// Whether to ask the stream now what it is like; if so it counts as asked.
    pub(crate) fn begin_describe(&mut self, now: Instant) -> bool {
        self.inquiry.begin(now)
    }

    /// Whether the shards are known, if not freshly.
    pub(crate) fn has_map(&self) -> bool {
        self.keeper.map().is_some()
    }

    /// Data and key of the largest record that the stream takes, as far as is known.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.traits.record_bytes_max
    }

    /// When to ask again without an event, if ever.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let urgency = self.urgency(now);
        let ready = self
            .lanes
            .waiting()
            .filter_map(|(key, lane)| lane.ready_at(key, &urgency));
        let expiry = self.settings.record_ttl.into_iter().flat_map(|ttl| {
            let heads = self
                .lanes
                .waiting()
                .filter_map(|(_, lane)| lane.queue.head());
            heads.map(move |head| head.accepted_at + ttl)
        });
        ready
            .chain(expiry)
            .filter(|at| *at > now)
            .chain(self.keeper.next_at())
            .chain(self.inquiry.next_at())
            .min()
    }

    /// Fails all that is left; how many there were.
    pub(crate) fn abandon(&mut self) -> u64 {
        let (well_stored, undecided): (Vec<_>, Vec<_>) = std::mem::take(&mut self.undecided)
            .into_iter()
            .partition(|landed| {
                self.verdict(&landed.record, &landed.place.shard_id) == Verdict::Delivered
            });
        for landed in well_stored {
            self.delivered(landed.record, landed.place);
        }
        let out = std::mem::take(&mut self.flights)
            .into_values()
            .flat_map(|flight| flight.records);
        let out = out
            .chain(
                std::mem::take(&mut self.parts)
                    .into_iter()
                    .flat_map(|part| part.records),
            )
            .chain(undecided.into_iter().map(|landed| landed.record))
            .flat_map(|record| record.members);
        let waiting = self.lanes.drain();
        let left: Vec<_> = out.chain(waiting).collect();
        let count = left.len() as u64;
        for entry in left {
            let source = entry.history.last();
            self.fail(
                entry,
                Reason::Undelivered {
                    stream: Arc::clone(&self.stream),
                    source,
                },
            );
        }
        count
    }

    /// When the oldest record that is not settled was accepted.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let waiting = self
            .lanes
            .waiting()
            .filter_map(|(_, lane)| lane.queue.head().map(|head| head.accepted_at));
        let flights = self.flights.values().filter_map(|flight| flight.oldest);
        let parts = self
            .parts
            .iter()
            .filter_map(|part| oldest_of(&part.records));
        let undecided = self.undecided.iter().map(|landed| &landed.record);
        let undecided = undecided.filter_map(|record| oldest_of(std::slice::from_ref(record)));
        waiting.chain(flights).chain(parts).chain(undecided).min()
    }

    /// Publishes how many were accepted.
    pub(crate) fn measure_received(&self, records: usize) {
        self.meters.received.increment(records as u64);
    }

    /// Publishes how much is outstanding.
    pub(crate) fn measure_pending(&self, records: u64, bytes: u64, oldest: Option<Duration>) {
        self.meters
            .oldest_age
            .set(as_millis(oldest.unwrap_or_default()));
        self.meters.pending.set(records as f64);
        self.meters.pending_bytes.set(bytes as f64);
    }

    fn urgency(&self, now: Instant) -> Urgency {
        Urgency {
            now,
            idle: self.flights.is_empty() && self.parts.is_empty(),
            departs_from: self.departures.next(),
            draining: self.draining,
            epoch: self.epochs.current(),
            unmapped_from: self.keeper.unmapped_from(now, self.draining),
            linger: self.settings.record_max_buffered_time,
        }
    }

    fn fail(&mut self, entry: Entry, reason: Reason) {
        let epoch = entry.epoch;
        self.meters.failed.increment(1);
        entry.fail(reason);
        self.epochs.settled(epoch, 1);
    }

    fn expire(&mut self, now: Instant) {
        let Some(ttl) = self.settings.record_ttl else {
            return;
        };
        let Some(oldest) = now.checked_sub(ttl) else {
            return;
        };
        let mut expired = self.lanes.expire(oldest);
        expired.extend(self.expire_parts(oldest));
        // What is left of a part may have no lane any more, if the stream was not found meanwhile.
        if self.lanes.has_unmapped() {
            self.keeper.needed(now);
        }
        if !expired.is_empty() {
            tracing::error!(
                stream = %self.stream, records = expired.len(),
                "Records were not stored within their time to live."
            );
        }
        self.meters.expired.increment(expired.len() as u64);
        for entry in expired {
            let (stream, source) = (Arc::clone(&self.stream), entry.history.last());
            self.fail(
                entry,
                Reason::Expired {
                    stream,
                    ttl,
                    source,
                },
            );
        }
    }

    /// Takes out what expired in a part; what is left of its Kinesis record goes back to its lane.
    fn expire_parts(&mut self, oldest: Instant) -> Vec<Entry> {
        let is_expired = |entry: &Entry| entry.accepted_at <= oldest;
        let has_expired = |record: &KinesisRecord| record.members.iter().any(is_expired);
        let mut cut_up = Vec::new();
        for part in &mut self.parts {
            cut_up.extend(part.records.extract_if(.., |record| has_expired(record)));
        }
        self.parts.retain(|part| !part.records.is_empty());
        cut_up.iter().for_each(|record| self.release(record));
        let members = cut_up.into_iter().flat_map(|record| record.members);
        let (expired, kept) = members.partition(is_expired);
        self.lanes.put_back(kept);
        expired
    }

    fn measure_request(&self, records: &[KinesisRecord], now: Instant) -> usize {
        let (mut members, mut bytes) = (0, 0);
        for record in records {
            bytes += record.size();
            members += record.members.len();
            self.meters
                .users_per_kinesis
                .record(record.members.len() as f64);
            if let Some(first) = record.members.first().filter(|first| first.attempts == 1) {
                self.meters
                    .buffering
                    .record(as_millis(now - first.accepted_at));
            }
        }
        self.meters.users_per_request.record(members as f64);
        self.meters.kinesis_per_request.record(records.len() as f64);
        let by_count = records.len() as f64 / self.settings.collection_max_count as f64;
        let by_bytes = bytes as f64 / self.settings.collection_max_size as f64;
        self.meters
            .request_fill
            .record(100.0 * by_count.max(by_bytes));
        bytes
    }
}

/// Members stand in order of acceptance.
fn oldest_of(records: &[KinesisRecord]) -> Option<Instant> {
    let firsts = records.iter().filter_map(|record| record.members.first());
    firsts.map(|first| first.accepted_at).min()
}

#[cfg(test)]
mod tests;
