//! A new shard map: waiting records move to their new lanes, and what is under way is judged.
//!
//! Entries are encoded only when a request is made, so moving them is all that a split or merge
//! asks for. What is under way cannot move; it holds the lanes that its members belong to now, so
//! that a younger record of the same key does not overtake it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kinesis_core::ShardMap;
use tokio::time::Instant;

use super::collect::{Lane, LaneKey};
use super::lanes::Lanes;
use super::retry::{Aftermath, Verdict};
use super::{Landed, Pipeline};
use crate::error::{Cause, Reason};
use crate::stream::StreamTraits;

impl Pipeline {
    /// A walk through the shards came back.
    pub(crate) fn map_loaded(&mut self, result: Result<ShardMap, Cause>, now: Instant) {
        let mut after = Aftermath::default();
        match result {
            Ok(map) => {
                tracing::debug!(stream = %self.stream, shards = map.len(), "Shard map loaded.");
                if self.keeper.loaded(map, now, &self.rand) {
                    self.move_to_new_lanes(now);
                }
            }
            Err(cause) => {
                self.meters.error(&cause.code);
                let hopeless = self.keeper.failed(&cause, now, &self.rand);
                tracing::warn!(stream = %self.stream, %cause, hopeless, "Shard map not loaded.");
                if hopeless {
                    self.fail_unmapped(&Arc::new(cause));
                }
            }
        }
        for Landed { record, place } in std::mem::take(&mut self.undecided) {
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
        if traits != self.traits {
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

    /// Gives every waiting entry the lane that the new map says, and has what is under way hold
    /// the new lanes of its members. A shard that stays keeps its pace; closed ones are forgotten.
    fn move_to_new_lanes(&mut self, now: Instant) {
        let mut waiting = self.lanes.drain();
        waiting.sort_by_key(|entry| entry.id);
        let (settings, traits) = (&self.settings, self.traits);
        let map = self.keeper.map().filter(|_| !traits.auto);
        let laid = Lanes::new(map, |key| Lane::new(key, settings, traits, now));
        for (key, pace) in std::mem::replace(&mut self.lanes, laid).into_paces() {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.limiter = pace;
            }
        }
        for entry in waiting {
            self.take_lane(entry);
        }
        self.hold_again();
    }

    fn hold_again(&mut self) {
        let under_way = self
            .flights
            .values_mut()
            .flat_map(|flight| &mut flight.records);
        let under_way = under_way
            .chain(self.parts.iter_mut().flat_map(|part| &mut part.records))
            .chain(self.undecided.iter_mut().map(|landed| &mut landed.record));
        for record in under_way {
            let lanes: BTreeSet<LaneKey> = record
                .members
                .iter()
                .map(|member| self.lanes.key_of(member.hash_key))
                .collect();
            record.holds = lanes.into_iter().collect();
            for key in &record.holds {
                if let Some(lane) = self.lanes.get_mut(key) {
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
