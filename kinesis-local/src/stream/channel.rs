//! A channel from a stream to a bucket: what is delivered, what is due when.
//!
//! ```text
//! shard 0   ▪ ▪ ▪ ▪ │ · · · ·      ▪ in an object that the bucket confirmed
//! shard 1   ▪ ▪ │ · ·              │ cursor, kept in the log after the object
//!                 └ the oldest: due when it is as old as the data may be; then everything is
//! ```
//! Promises: every record that arrives while the channel is there is delivered, of each shard in
//! its order, whatever is split or merged; an object is confirmed before its cursor moves, and its
//! name follows from its first record, so that what is delivered again after a crash replaces
//! itself. Only what left the stream's retention before it could be delivered is not.
//!
//! All changes go through [`Channel::apply`] with the time from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Stream;
use super::change::Tags;
use super::lifecycle::{Delays, Life, Status};
use super::shard::{Record, Shard, Start};

pub(crate) mod change;
pub(crate) mod object;

use change::{ChannelChange, NewChannel};

/// Records of one object. Source: none, reasonable default: what GetRecords gives.
const OBJECT_MAX_RECORDS: usize = kinesis_core::limits::GET_RECORDS_MAX_RECORDS;

/// Bytes of records in one object, a larger first record apart. Source: none, reasonable default.
const OBJECT_MAX_BYTES: usize = 16 * kinesis_core::limits::MIB;

/// One channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) settings: NewChannel,
    pub(crate) life: Life,
    updated_ms: Option<u64>,
    /// Why nothing arrives at the moment. Not kept: it is found out again.
    pub(crate) trouble: Option<String>,
    /// The first record that is not delivered, of the shards that are not read to their end.
    cursors: BTreeMap<u32, u64>,
    /// Shards with a lower index are in `cursors`, or read to their end.
    known_shards: u32,
}

/// When there is something to do.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Due {
    Now,
    /// Milliseconds since the Unix epoch.
    At(u64),
    /// Once a record is written.
    Never,
}

/// Records of one shard for one object.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) shard: u32,
    pub(crate) records: Vec<Record>,
    /// Where the next object of the shard begins.
    pub(crate) next: u64,
}

impl Channel {
    pub(crate) fn create(new: &NewChannel, at_ms: u64) -> Self {
        Self {
            cursors: (0..).zip(new.cursors.iter().copied()).collect(),
            known_shards: new.cursors.len() as u32,
            settings: new.clone(),
            life: Life::created(at_ms),
            updated_ms: None,
            trouble: None,
        }
    }

    pub(crate) fn status(&self, now_ms: u64, delays: Delays) -> Status {
        self.life
            .status_with_update(self.updated_ms, now_ms, delays)
    }

    /// Why it is FAILED, if it is.
    pub(crate) fn failure(&self) -> Option<&str> {
        let failed = self.settings.failed.as_deref();
        failed.or(self.trouble.as_deref())
    }

    /// Whether it will not deliver any more.
    pub(crate) fn is_over(&self) -> bool {
        self.life.deleted_ms.is_some() || self.settings.failed.is_some()
    }

    /// When the oldest record that is not delivered is too old to wait.
    pub(crate) fn due(&mut self, stream: &Stream, now_ms: u64) -> Due {
        let freshness_ms = u64::from(self.settings.freshness_s) * 1000;
        let shards = self.shards(stream);
        let oldest = shards.filter_map(|(index, shard)| {
            let batch = self.batch(stream, index, &shard, u64::MAX, 1, now_ms)?;
            batch.records.first().map(|record| record.arrival_ms)
        });
        match oldest.min() {
            None => Due::Never,
            Some(arrival_ms) if arrival_ms + freshness_ms <= now_ms => Due::Now,
            Some(arrival_ms) => Due::At(arrival_ms + freshness_ms),
        }
    }

    /// The shards that may hold something to deliver.
    pub(crate) fn shards(
        &mut self,
        stream: &Stream,
    ) -> impl Iterator<Item = (u32, Arc<Shard>)> + use<> {
        let count = stream.shards().len() as u32;
        for index in self.known_shards..count {
            self.cursors.insert(index, 0); // opened later: all of it is wanted
        }
        self.known_shards = self.known_shards.max(count);
        let shards = self.cursors.keys();
        let shards = shards.filter_map(|&index| Some((index, Arc::clone(stream.shard(index)?))));
        shards.collect::<Vec<_>>().into_iter()
    }

    /// The next records of a shard below `end`; `None`: there are none.
    pub(crate) fn next(
        &mut self,
        stream: &Stream,
        index: u32,
        end: u64,
        now_ms: u64,
    ) -> Option<Batch> {
        let shard = Arc::clone(stream.shard(index)?);
        self.batch(stream, index, &shard, end, OBJECT_MAX_RECORDS, now_ms)
    }

    fn batch(
        &mut self,
        stream: &Stream,
        index: u32,
        shard: &Shard,
        end: u64,
        max: usize,
        now_ms: u64,
    ) -> Option<Batch> {
        let next = *self.cursors.get(&index)?;
        let from_ms = self.settings.from_ms;
        let read = {
            let mut log = shard.log();
            log.trim(stream.horizon_ms(now_ms));
            // What arrived before the channel was ACTIVE is not its business.
            let next = next.max(log.seek(Start::Timestamp(from_ms)));
            log.read(next, max, OBJECT_MAX_BYTES, now_ms)
        };
        if read.records.is_empty() && read.ended {
            self.cursors.remove(&index);
        }
        let mut records = read.records;
        records.retain(|record| record.counter < end && record.arrival_ms >= from_ms);
        let last = records.last()?.counter;
        Some(Batch {
            shard: index,
            records,
            next: last + 1,
        })
    }

    /// Makes the change.
    pub(crate) fn apply(&mut self, change: &ChannelChange, at_ms: u64) {
        match change {
            ChannelChange::Create(_) => {} // made by `create`
            ChannelChange::Update {
                freshness_s,
                logging,
            } => {
                self.settings.freshness_s = *freshness_s;
                self.settings.logging = logging.clone();
                self.updated_ms = Some(at_ms);
            }
            ChannelChange::Delete => {
                self.life.deleted_ms = Some(at_ms);
                self.cursors.clear();
            }
            ChannelChange::Tags { set, removed } => {
                let tags: &mut Tags = &mut self.settings.tags;
                tags.extend(set.clone());
                tags.retain(|key, _| !removed.contains(key));
            }
            ChannelChange::Delivered { shard, next } => {
                for index in self.known_shards..=*shard {
                    self.cursors.insert(index, 0);
                }
                self.known_shards = self.known_shards.max(shard + 1);
                if let Some(cursor) = self.cursors.get_mut(shard) {
                    *cursor = (*cursor).max(*next);
                }
            }
        }
    }
}
