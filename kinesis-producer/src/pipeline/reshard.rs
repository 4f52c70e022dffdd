//! A new shard map: waiting records move to their new lanes, and what is under way is judged.
//!
//! Entries are encoded only when a request is made, so moving them is all that a split or merge
//! asks for. What is under way cannot move; it holds the lanes that its members belong to now, so
//! that a younger record of the same key does not overtake it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kinesis_core::ShardMap;
use tokio::time::Instant;

use super::aggregate::KinesisRecord;
use super::collect::{Lane, LaneKey};
use super::lanes::Lanes;
use super::limit::Limiter;
use super::retry::{Aftermath, Verdict};
use super::search::Part;
use super::{Flight, Landed, Pipeline};
use crate::error::{Cause, Class, Reason};
use crate::shard_map::Change;
use crate::stream::StreamTraits;

impl Pipeline {
    /// A walk through the shards came back.
    pub(crate) fn map_loaded(&mut self, result: Result<ShardMap, Cause>, now: Instant) {
        let mut after = Aftermath::default();
        let loaded = result.is_ok();
        match result {
            Ok(map) => {
                tracing::debug!(stream = %self.stream, shards = map.len(), "Shard map loaded.");
                match self.keeper.loaded(map, now, &self.rand) {
                    Change::None => {}
                    Change::Resharded => self.move_to_new_lanes(now),
                    Change::OtherStream => {
                        tracing::warn!(
                            stream = %self.stream,
                            "The stream was deleted, and another of its name created."
                        );
                        self.traits = StreamTraits::unknown();
                        self.inquiry.begin_anew(now);
                        self.distrust_predictions();
                        self.move_to_new_lanes(now);
                    }
                    // Whatever waits for one asks again, below.
                    Change::Stale => {}
                }
            }
            Err(cause) => {
                self.meters.error(&cause.code);
                if cause.class == Class::NotFound {
                    self.forget_stream(now);
                }
                let hopeless = self.keeper.failed(&cause, now, &self.rand);
                tracing::warn!(stream = %self.stream, %cause, hopeless, "Shard map not loaded.");
                if hopeless {
                    self.fail_unmapped(&Arc::new(cause));
                }
            }
        }
        for Landed { record, place } in std::mem::take(&mut self.undecided) {
            // The walk began before the request, and may not have seen the shard that took it.
            if loaded && self.keeper.suspect(place.trip.sent_at, now, &self.rand) {
                self.undecided.push(Landed { record, place });
                continue;
            }
            match self.verdict(&record, &place.shard_id) {
                Verdict::Delivered => self.delivered(record, place),
                Verdict::Foreign => self.again(record, false, place.trip, &mut after),
                Verdict::Undecided => self.again(record, true, place.trip, &mut after),
            }
        }
        self.clear_up(after, now);
    }

    /// The stream said what it is like.
    pub(crate) fn learned(&mut self, traits: StreamTraits, now: Instant) {
        if self.inquiry.answered(now, &self.rand) && traits != self.traits {
            tracing::debug!(stream = %self.stream, ?traits, "The stream was described.");
            if traits.auto && self.settings.aggregation_enabled {
                tracing::warn!(
                    stream = %self.stream,
                    "The stream places records itself (AUTO): readers that drop members of foreign \
                     shards, as the KCL up to 3.5 does, cannot read its aggregates."
                );
            }
            self.traits = traits;
            self.move_to_new_lanes(now);
        }
    }

    /// A record was refused for what was known of the stream.
    pub(crate) fn doubt_traits(&mut self, now: Instant) {
        self.inquiry.doubt(now);
    }

    /// The stream did not say what it is like; what was known of it stays in use.
    pub(crate) fn not_described(&mut self, cause: &Cause, now: Instant) {
        if self.inquiry.failed(cause, now, &self.rand) {
            tracing::info!(
                stream = %self.stream, %cause,
                "The stream's maximum record size and record distribution are not known: without \
                 kinesis:DescribeStreamSummary the service refuses what is too large for the stream."
            );
        } else {
            tracing::debug!(stream = %self.stream, %cause, "The stream was not described.");
        }
    }

    /// The stream is not there: one of its name may come, with other shards of the same ids.
    pub(super) fn forget_stream(&mut self, now: Instant) {
        if self.keeper.map().is_some() {
            self.keeper.forget();
            self.traits = StreamTraits::unknown();
            self.inquiry.forget();
            self.distrust_predictions();
            self.move_to_new_lanes(now);
        }
    }

    /// What is under way was cut for shards of another stream: where it lands is to be looked up.
    fn distrust_predictions(&mut self) {
        for record in under_way(&mut self.flights, &mut self.parts, &mut self.undecided) {
            record.predicted = None;
        }
    }

    /// Gives every waiting entry the lane that the new map says, and has what is under way hold
    /// the new lanes of its members. A shard that stays keeps its pace; closed ones are forgotten.
    fn move_to_new_lanes(&mut self, now: Instant) {
        let mut waiting = self.lanes.drain();
        waiting.sort_by_key(|entry| entry.id);
        let (settings, traits) = (&self.settings, self.traits);
        let map = self.keeper.map().filter(|_| !traits.auto);
        let shards = self.keeper.map().map(|map| map.open().count());
        let laid = Lanes::new(map, |key| Lane::new(key, settings, traits, shards, now));
        for (key, pace) in std::mem::replace(&mut self.lanes, laid).into_paces() {
            if let Some(lane) = self.lanes.get_mut(&key) {
                let own = std::mem::replace(&mut lane.limiter, Limiter::new(None, now));
                lane.limiter = pace.succeeded_by(own);
            }
        }
        for entry in waiting {
            self.take_lane(entry);
        }
        self.hold_again();
    }

    fn hold_again(&mut self) {
        let lanes = &mut self.lanes;
        for record in under_way(&mut self.flights, &mut self.parts, &mut self.undecided) {
            let keys: BTreeSet<LaneKey> = record
                .members
                .iter()
                .map(|member| lanes.key_of(member.hash_key))
                .collect();
            record.holds = keys.into_iter().collect();
            for key in &record.holds {
                if let Some(lane) = lanes.get_mut(key) {
                    lane.held += 1;
                }
            }
        }
    }

    fn fail_unmapped(&mut self, cause: &Arc<Cause>) {
        for entry in self.lanes.drain_unmapped() {
            let stream = Arc::clone(&self.stream);
            self.fail(
                entry,
                Reason::Service {
                    stream,
                    source: Arc::clone(cause),
                },
            );
        }
    }
}

/// Every Kinesis record out of its lane.
fn under_way<'a>(
    flights: &'a mut BTreeMap<u64, Flight>,
    parts: &'a mut VecDeque<Part>,
    undecided: &'a mut [Landed],
) -> impl Iterator<Item = &'a mut KinesisRecord> {
    let flights = flights.values_mut().flat_map(|flight| &mut flight.records);
    flights
        .chain(parts.iter_mut().flat_map(|part| &mut part.records))
        .chain(undecided.iter_mut().map(|landed| &mut landed.record))
}
