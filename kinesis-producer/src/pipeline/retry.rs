//! What becomes of a Kinesis record after the service answered.
//!
//! | answer | then |
//! | --- | --- |
//! | stored in the predicted shard | delivered |
//! | stored elsewhere, a single record or every member belongs there | delivered, once the map is fresh: until then its lane waits; at once while refreshes of the map fail |
//! | aggregate stored elsewhere, some member does not belong | all members again: a KCL reader drops the whole aggregate |
//! | aggregate stored in a shard the map does not know | undecided until the map is fresh, then one of the above; if the map is no wiser, or cannot be refreshed, all members again, each by itself |
//! | aggregate stored in a shard of a known id that was made at another time | as above: another stream has the name |
//! | throttled, 5xx, timeout, connection, wrong number of answers | again, after the shard's backoff (throttled, with `fail_if_throttled`: failed) |
//! | access denied, no such stream, KMS, SDK client without region or credentials | failed; no such stream: what is known of it is forgotten |
//! | signed too long ago, credentials expired, or the machine's own source of them out of reach | again for a minute in a row, counted over all requests (`stale.rs`); then failed, and what waits behind at its own first refusal |
//! | content of the request invalid, the answer names a few of its Kinesis records | the others at once, those each by itself |
//! | content invalid, several Kinesis records in the request | each half by itself, until the guilty one is alone |
//! | content invalid, one aggregate in it | its members in two halves, until the guilty one is alone |
//! | content invalid, one user record in it | failed |
//! | content invalid, and so of the 64 requests before of the same search (`search.rs`) | failed: it is not the records |
//! | refused otherwise (another 4xx) | failed |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kinesis_core::{HashKeyRange, SequenceNumber, ShardId, ShardMap};
use tokio::time::Instant;

use super::aggregate::KinesisRecord;
use super::collect::LaneKey;
use super::intake::Entry;
use super::outcome::Place;
use super::search::{self, Part, Search};
use super::{Flight, Landed, Pipeline};
use crate::attempts::Trip;
use crate::error::{Cause, Class, Reason};
use crate::metrics::as_millis;

/// The service's answer to one Kinesis record.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Stored {
        shard_id: ShardId,
        sequence_number: SequenceNumber,
    },
    Failed(Arc<Cause>),
}

impl Answer {
    fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }

    fn is_of_content(&self) -> bool {
        matches!(self, Self::Failed(cause) if cause.of_content)
    }
}

/// How a stored Kinesis record stands with readers that check the shard's range.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Every member will be read.
    Delivered,
    /// A reader drops it whole.
    Foreign,
    /// The shard's range is not known.
    Undecided,
}

pub(crate) fn judge(
    record: &KinesisRecord,
    stored_in: &ShardId,
    map: Option<&ShardMap>,
) -> Verdict {
    // A shard's range never changes: what was cut for it belongs to it.
    if record.members.len() < 2 || record.predicted.as_ref() == Some(stored_in) {
        return Verdict::Delivered;
    }
    match map.and_then(|map| map.get(stored_in)) {
        // Members of one key belong wherever their first one, by which it was placed, belongs.
        None if record.has_one_hash_key() => Verdict::Delivered,
        None => Verdict::Undecided,
        Some(shard)
            if record
                .members
                .iter()
                .all(|m| shard.range.contains(m.hash_key)) =>
        {
            Verdict::Delivered
        }
        Some(_) => Verdict::Foreign,
    }
}

/// What to do with a failed request.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Remedy {
    /// Send everything again after the backoff.
    Retry,
    /// Send parts of it as they are, each by itself.
    Part,
    /// Send the members of the one aggregate in two halves.
    Halve,
    /// Fail all members.
    Fail,
}

pub(crate) fn remedy(cause: &Cause, records: &[KinesisRecord], fail_if_throttled: bool) -> Remedy {
    match (cause.class, records) {
        (Class::Throttled, _) if fail_if_throttled => Remedy::Fail,
        (Class::Throttled | Class::Unavailable | Class::WrongShard, _) => Remedy::Retry,
        (Class::AccessDenied | Class::Client, _) if cause.stale => Remedy::Retry,
        (Class::Rejected, [_, _, ..]) if cause.of_content => Remedy::Part,
        (Class::Rejected, [one]) if cause.of_content && one.members.len() > 1 => Remedy::Halve,
        (
            Class::Rejected
            | Class::NotFound
            | Class::AccessDenied
            | Class::Encryption
            | Class::Client,
            _,
        ) => Remedy::Fail,
    }
}

/// What a batch of answers leaves to do, collected so that each lane is touched once.
#[derive(Default)]
pub(super) struct Aftermath {
    again: Vec<Entry>,
    failed_lanes: BTreeMap<LaneKey, Arc<Cause>>,
    good_lanes: BTreeSet<LaneKey>,
}

impl Aftermath {
    /// A Kinesis record of these lanes failed and is sent again. Of several causes that counts which
    /// is no throttle.
    fn failed(&mut self, lanes: Vec<LaneKey>, cause: &Arc<Cause>) {
        for key in lanes {
            let told = self
                .failed_lanes
                .entry(key)
                .or_insert_with(|| Arc::clone(cause));
            if told.class == Class::Throttled {
                *told = Arc::clone(cause);
            }
        }
    }
}

impl Pipeline {
    /// A request came back.
    pub(crate) fn completed(
        &mut self,
        flight: u64,
        reply: Result<Vec<Answer>, Cause>,
        now: Instant,
    ) {
        let Some(Flight {
            records,
            named,
            search,
            sent_at,
            ..
        }) = self.flights.remove(&flight)
        else {
            return;
        };
        if let Some(search) = &search {
            match &reply {
                Ok(answers) if answers.iter().any(Answer::is_stored) => search.took(),
                Ok(answers) if answers.iter().any(Answer::is_of_content) => search.refused(),
                Err(cause) if cause.of_content => search.refused(),
                Ok(_) | Err(_) => {}
            }
        }
        let took = now - sent_at;
        let trip = Trip { sent_at, took };
        self.meters.request.record(as_millis(took));
        let mut after = Aftermath::default();
        match reply {
            Ok(answers) => {
                self.departures.answered(took);
                self.staleness.passed();
                for (record, answer) in records.into_iter().zip(answers) {
                    let refusal = match answer {
                        Answer::Stored {
                            shard_id,
                            sequence_number,
                        } => {
                            let place = Place {
                                shard_id,
                                sequence_number,
                                trip,
                            };
                            self.stored(record, place, now, &mut after);
                            continue;
                        }
                        Answer::Failed(cause) => cause,
                    };
                    self.meters.error(&refusal.code);
                    if refusal.class == Class::Throttled {
                        self.paced(&record, false, now);
                    }
                    let part = Part {
                        records: vec![record],
                        named: false,
                        search: search.clone(),
                    };
                    self.refused(part, &refusal, false, trip, &mut after);
                }
            }
            Err(cause) => {
                self.meters.error(&cause.code);
                if cause.class == Class::Throttled {
                    records.iter().for_each(|r| self.paced(r, false, now));
                }
                if cause.class == Class::Rejected && cause.of_content {
                    // Perhaps for its size: the stream's maximum may have changed.
                    self.inquiry.doubt(now);
                }
                let missing = cause.class == Class::NotFound;
                let stale_for_good = self.staleness.failed(&cause, sent_at);
                let part = Part {
                    records,
                    named,
                    search,
                };
                self.refused(part, &Arc::new(cause), stale_for_good, trip, &mut after);
                if missing {
                    self.forget_stream(now);
                }
            }
        }
        self.clear_up(after, now);
    }

    /// The service took a Kinesis record.
    fn stored(
        &mut self,
        mut record: KinesisRecord,
        place: Place,
        now: Instant,
        after: &mut Aftermath,
    ) {
        let trip = place.trip;
        self.meters.kinesis_put.increment(1);
        self.meters
            .kinesis_data_put
            .increment(record.data_len as u64);
        self.paced(&record, true, now);
        after.good_lanes.extend(record.holds.iter().cloned());
        let as_predicted = record.predicted.as_ref() == Some(&place.shard_id);
        let namesake = self.in_namesake(&place, trip);
        if namesake {
            record.predicted = None;
        } else {
            self.placed(&record, &place, now);
        }
        let foretold = as_predicted && !namesake || self.traits.auto;
        let fresher = !foretold && self.keeper.suspect(trip.sent_at, now, &self.rand);
        let verdict = match self.verdict(&record, &place.shard_id) {
            // The range that is known of the id is not this shard's.
            _ if namesake && !record.has_one_hash_key() => Verdict::Undecided,
            verdict => verdict,
        };
        match verdict {
            // Well stored, but where the map did not expect it: the stream was resharded. Its lane
            // waits for the fresh map, or what follows would be cut by the old one, and members of
            // other shards be read before older records of their keys.
            Verdict::Delivered if !(fresher && record.predicted.is_some()) => {
                self.delivered(record, place);
            }
            Verdict::Delivered | Verdict::Undecided if fresher => {
                self.undecided.push(Landed { record, place });
            }
            verdict => self.again(record, verdict == Verdict::Undecided, trip, after),
        }
    }

    /// Whether a record was stored in another shard than the map's of the same id: the stream was
    /// deleted, and another one of its name created. Sequence numbers of the service tell when their
    /// shard was made, though no document promises it; so once they contradict a map that is
    /// younger than the request they are not asked again.
    fn in_namesake(&mut self, place: &Place, trip: Trip) -> bool {
        let shard = self.keeper.map().and_then(|map| map.get(&place.shard_id));
        let known = shard.and_then(|shard| shard.starting_sequence_number.parts());
        let (Some(known), Some(seen)) = (known, place.sequence_number.parts()) else {
            return false;
        };
        let differs = known.shard_created_s != seen.shard_created_s;
        if differs && self.keeper.is_younger(trip.sent_at) {
            self.numbers_tell = false;
        }
        differs && self.numbers_tell
    }

    /// Takes notice of where a record was placed by its first member's key.
    fn placed(&mut self, record: &KinesisRecord, place: &Place, now: Instant) {
        let Some(map) = self.keeper.map() else {
            return;
        };
        if let (Some(shard), Some(first)) = (map.get(&place.shard_id), record.members.first()) {
            // The only shard takes what it is given, by key or not.
            if shard.range != HashKeyRange::FULL {
                let inside = shard.range.contains(first.hash_key);
                self.inquiry
                    .stored(inside, self.traits.auto, map.len(), now);
            }
        }
    }

    pub(super) fn delivered(&mut self, record: KinesisRecord, place: Place) {
        self.release(&record);
        let bytes: usize = record
            .members
            .iter()
            .map(|member| member.record.data.len())
            .sum();
        self.meters.put.increment(record.members.len() as u64);
        self.meters.data_put.increment(bytes as u64);
        for run in record.members.chunk_by(|a, b| a.attempts == b.attempts) {
            let retries = run
                .first()
                .map_or(0, |member| member.attempts.saturating_sub(1));
            self.meters
                .retries
                .record_many(f64::from(retries), run.len());
        }
        let epochs = record.members.chunk_by(|a, b| a.epoch == b.epoch);
        let epochs: Vec<_> = epochs
            .filter_map(|run| Some((run.first()?.epoch, run.len())))
            .collect();
        Entry::deliver_all(record.members, place);
        for (epoch, count) in epochs {
            self.epochs.settled(epoch, count);
        }
    }

    /// Stored where a reader drops it: everything again. `alone` if another aggregate could land
    /// just as badly; also if the map in use would cut the same aggregate again.
    pub(super) fn again(
        &mut self,
        mut record: KinesisRecord,
        alone: bool,
        trip: Trip,
        after: &mut Aftermath,
    ) {
        self.release(&record);
        self.meters.wrong_shard.increment(1);
        let first = record.members.first().map(|member| member.hash_key);
        let same_again = first.is_some_and(|key| self.lanes.key_of(key) == record.predicted);
        let cause = Arc::new(Cause::new("PutRecords", Class::WrongShard, "WrongShard"));
        for member in &mut record.members {
            if alone || same_again {
                member.company = 1;
            }
            member
                .history
                .push(Arc::clone(&cause), member.accepted_at, trip);
        }
        after.again.append(&mut record.members);
    }

    /// The service took nothing of `part`; `stale_for_good`: nor will it of what is signed alike.
    fn refused(
        &mut self,
        part: Part,
        cause: &Arc<Cause>,
        stale_for_good: bool,
        trip: Trip,
        after: &mut Aftermath,
    ) {
        let Part {
            mut records,
            named,
            search,
        } = part;
        for member in records.iter_mut().flat_map(|record| &mut record.members) {
            let accepted_at = member.accepted_at;
            member.history.push(Arc::clone(cause), accepted_at, trip);
        }
        let mut remedy = remedy(cause, &records, self.settings.fail_if_throttled);
        if stale_for_good {
            remedy = Remedy::Fail;
        }
        let hopeless = search.as_ref().filter(|search| search.is_hopeless());
        if let Some(search) = hopeless.filter(|_| cause.of_content) {
            remedy = Remedy::Fail;
            let of_search = |part: &Part| search::is_same(part.search.as_ref(), Some(search));
            let parts = std::mem::take(&mut self.parts);
            let (parts, others): (VecDeque<_>, _) = parts.into_iter().partition(of_search);
            self.parts = others;
            records.extend(parts.into_iter().flat_map(|part| part.records));
        }
        if remedy == Remedy::Part {
            let search = search.or_else(|| Some(Search::begin()));
            let part = Part {
                records,
                named,
                search,
            };
            self.parts.extend(part.cut(&cause.guilty));
            return;
        }
        // The members of one that is alone are looked through by themselves.
        let of_members = (remedy == Remedy::Halve).then(|| {
            let known = records.iter().flat_map(|record| &record.members);
            let known = known.filter_map(|member| member.search.clone()).next();
            known.unwrap_or_else(Search::begin)
        });
        if remedy == Remedy::Fail {
            let members: usize = records.iter().map(|record| record.members.len()).sum();
            tracing::error!(stream = %self.stream, records = members, %cause, "Records failed for good.");
        }
        for record in records {
            self.release(&record);
            if remedy == Remedy::Retry {
                after.failed(record.holds, cause);
            }
            let half = u32::try_from(record.members.len().div_ceil(2)).unwrap_or(u32::MAX);
            for mut member in record.members {
                if let Some(search) = &of_members {
                    member.company = member.company.min(half);
                    member.search = Some(Arc::clone(search));
                }
                if remedy == Remedy::Fail {
                    let stream = Arc::clone(&self.stream);
                    self.fail(
                        member,
                        Reason::Service {
                            stream,
                            source: Arc::clone(cause),
                        },
                    );
                } else {
                    after.again.push(member);
                }
            }
        }
    }

    pub(super) fn clear_up(&mut self, after: Aftermath, now: Instant) {
        let Aftermath {
            again,
            failed_lanes,
            good_lanes,
        } = after;
        // A shard that took a part is not in an outage: its next wait is a short one again.
        for key in &good_lanes {
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.limiter.succeeded();
            }
        }
        for (key, cause) in failed_lanes {
            let Some(lane) = self.lanes.get_mut(&key) else {
                continue;
            };
            // Some shard is full, and others are not: the next records may go to any, at a pace that
            // learnt of it. Of another failure no pace learns.
            let paced = cause.class == Class::Throttled && lane.limiter.has_quota();
            if lane.spread && paced && good_lanes.contains(&key) {
                continue;
            }
            if lane.limiter.failed(now, &self.rand) && !good_lanes.contains(&key) {
                let shard = key.as_ref().map_or("unknown", ShardId::as_str);
                tracing::warn!(stream = %self.stream, shard, %cause, "Records are sent again.");
            }
        }
        self.lanes.put_back(again);
        // The walk that was to tell their shards may have failed for good while they were out.
        // Or the stream was not found since, and what landed elsewhere waits for a map that was dropped.
        if self.lanes.has_unmapped() || !self.undecided.is_empty() {
            self.keeper.needed(now);
        }
    }

    /// Tells the lanes of a Kinesis record whether their shard had throughput for it.
    fn paced(&mut self, record: &KinesisRecord, taken: bool, now: Instant) {
        for key in &record.holds {
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.limiter.answered(record.size(), taken, now);
            }
        }
    }

    pub(super) fn release(&mut self, record: &KinesisRecord) {
        for key in &record.holds {
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.held -= 1;
            }
        }
    }
}
