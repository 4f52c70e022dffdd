//! How many shards an on-demand stream needs for the traffic that it had.
//!
//! ```text
//! writes ──▶ minute  bytes and records, by shard
//!              │ over ─▶ hot    a shard that took more than half of what a shard can
//!              │                  ─▶ split into pieces that took no more   at most every 15 minutes
//!              └──────▶ hours   the most shards that a minute of the hour needed, for 30 days
//!                                 ─▶ merge once half of the shards is enough for all of them
//! ```
//! Promises: after every split a shard that is used evenly has room for double the highest rate of
//! the last 30 days; traffic that more than doubles within 15 minutes meets the limits of the shards
//! that are there; shards are merged only when for 30 days half of them would have been enough, and
//! never below four or what is kept warm. A function of what was observed and of the time that comes
//! with it: the same records in the same order lead to the same shards, also in a recovery.
//!
//! Source: developer guide: a stream has four shards at the start, holds double the highest write
//! rate of the last 30 days, and splits a shard that takes more than 500 KB a second, evenly and
//! within 15 minutes. It does not say when shards are merged; here that follows from the 30 days.

use std::collections::{BTreeMap, VecDeque};

use kinesis_core::limits::{
    ON_DEMAND_SHARDS_AT_START, SHARD_WRITE_BYTES_PER_SECOND, SHARD_WRITE_RECORDS_PER_SECOND,
};

/// What half a shard takes in a minute. Source: developer guide (500 KB a second and shard).
const HALF_BYTES: u64 = 60 * SHARD_WRITE_BYTES_PER_SECOND as u64 / 2;
/// Source: as many records as go with these bytes.
const HALF_RECORDS: u64 = 60 * SHARD_WRITE_RECORDS_PER_SECOND as u64 / 2;

/// Shards of one on-demand stream. Source: service quota of the largest regions (10 GiB a second).
pub(crate) const ON_DEMAND_SHARDS_MAX: u32 = 10_240;

/// The same in other regions, by traffic. Source: service quota (200 MB a second).
const ON_DEMAND_SHARDS_ELSEWHERE_MAX: u32 = 200;

/// The regions whose quota is that. Source: developer guide, "Quotas and limits".
const LARGEST_REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];

/// How many shards the traffic of an on-demand stream gets it in the region.
pub(crate) fn shards_max(region: &str) -> u32 {
    match LARGEST_REGIONS.contains(&region) {
        true => ON_DEMAND_SHARDS_MAX,
        false => ON_DEMAND_SHARDS_ELSEWHERE_MAX,
    }
}

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// How long a peak is held. Source: developer guide.
const HELD_MS: u64 = 30 * 24 * HOUR_MS;
/// Between two scalings. Source: developer guide.
const SCALING_EVERY_MS: u64 = 15 * MINUTE_MS;

/// Bytes and records of a shard in a minute.
#[derive(Copy, Clone, Debug, Default)]
struct Traffic {
    bytes: u64,
    records: u64,
}

impl Traffic {
    /// How many shards at half of their limits take this.
    fn halves(self) -> u64 {
        let bytes = self.bytes.div_ceil(HALF_BYTES);
        bytes.max(self.records.div_ceil(HALF_RECORDS))
    }

    /// Whether a shard that takes this twice is hot: so it cannot be merged with one like it.
    fn is_busy(self) -> bool {
        let twice = Self {
            bytes: self.bytes * 2,
            records: self.records * 2,
        };
        twice.halves() > 1
    }
}

/// The hour since the epoch, and the most shards that one of its minutes needed.
type Hour = (u64, u32);

/// What an on-demand stream's traffic asks for.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// The minute since the epoch that is counted, and its traffic by shard.
    minute: u64,
    traffic: BTreeMap<u32, Traffic>,
    /// Into how many pieces each shard is to be split that was hot since the last scaling.
    hot: BTreeMap<u32, u32>,
    /// The last 30 days; an hour that a later one reaches is left out, so they descend.
    hours: VecDeque<Hour>,
    scaled_ms: Option<u64>,
}

/// How the shards are to change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Plan {
    /// These shards, each into that many pieces.
    Split(Vec<(u32, u32)>),
    /// All, into this many.
    Merge(u32),
}

impl Demand {
    /// Of a stream that becomes on-demand with `open` shards: they count as what it needed.
    pub(crate) fn start(open: u32, now_ms: u64) -> Self {
        let mut demand = Self {
            minute: now_ms / MINUTE_MS,
            ..Self::default()
        };
        demand.need(now_ms / HOUR_MS, open);
        demand
    }

    /// Notes what was written to `shard`, one of `open` open ones.
    pub(crate) fn observe(&mut self, open: u32, shard: u32, bytes: u64, records: u64, now_ms: u64) {
        self.end_minute(open, now_ms);
        let traffic = self.traffic.entry(shard).or_default();
        traffic.bytes += bytes;
        traffic.records += records;
    }

    /// What is to be done with the `open` shards now, if anything; never less than `warm` shards, and not
    /// to more than `most`.
    pub(crate) fn plan(&mut self, open: &[u32], warm: u32, most: u32, now_ms: u64) -> Option<Plan> {
        let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
        self.end_minute(count, now_ms);
        let since = |scaled_ms| now_ms.saturating_sub(scaled_ms);
        if self
            .scaled_ms
            .is_some_and(|at| since(at) < SCALING_EVERY_MS)
        {
            return None;
        }
        let mut room = most.saturating_sub(count);
        let mut split = Vec::new();
        for (&shard, &pieces) in self.hot.iter().filter(|(shard, _)| open.contains(shard)) {
            if pieces - 1 <= room {
                room -= pieces - 1;
                split.push((shard, pieces));
            }
        }
        if !split.is_empty() {
            return Some(Plan::Split(split));
        }
        let target = self.held(now_ms).max(warm).max(ON_DEMAND_SHARDS_AT_START);
        (target.saturating_mul(2) <= count).then_some(Plan::Merge(target))
    }

    /// The shards that the traffic of this hour and the last needed, of `open` open ones: what is
    /// left when excess capacity is released.
    pub(crate) fn needed_lately(&mut self, open: u32, now_ms: u64) -> u32 {
        self.end_minute(open, now_ms);
        let last = (now_ms / HOUR_MS).saturating_sub(1);
        let lately = self.hours.iter().filter(|(hour, _)| *hour >= last);
        lately.map(|(_, needed)| *needed).max().unwrap_or_default()
    }

    /// Forgets what was needed before this hour and the last.
    pub(crate) fn release(&mut self, now_ms: u64) {
        let last = (now_ms / HOUR_MS).saturating_sub(1);
        self.hours.retain(|(hour, _)| *hour >= last);
    }

    /// The shards were changed: what is counted of those that were there says nothing any more.
    pub(crate) fn scaled(&mut self, now_ms: u64) {
        self.scaled_ms = Some(now_ms);
        self.hot.clear();
        self.traffic.clear();
    }

    /// The most shards that were needed in the last 30 days.
    fn held(&mut self, now_ms: u64) -> u32 {
        self.forget(now_ms);
        self.hours.front().map_or(0, |(_, needed)| *needed)
    }

    /// Settles the minute that is counted, if it is over. Before the shards are changed: what it needed
    /// is known by the shards that it met.
    pub(crate) fn end_minute(&mut self, open: u32, now_ms: u64) {
        let minute = now_ms / MINUTE_MS;
        if minute <= self.minute {
            return;
        }
        let traffic = std::mem::take(&mut self.traffic);
        let hour = self.minute * MINUTE_MS / HOUR_MS;
        self.minute = minute;
        if traffic.is_empty() {
            return;
        }
        let mut all = Traffic::default();
        let mut pieces_more = 0;
        for (&shard, &one) in &traffic {
            all.bytes += one.bytes;
            all.records += one.records;
            let pieces = one.halves().next_power_of_two();
            let pieces = u32::try_from(pieces).unwrap_or(u32::MAX);
            if pieces > 1 {
                let hot = self.hot.entry(shard).or_default();
                *hot = pieces.max(*hot);
                pieces_more += pieces - 1;
            }
        }
        let needed = u32::try_from(all.halves()).unwrap_or(u32::MAX);
        let needed = if traffic.values().any(|one| one.is_busy()) {
            needed.max(open.saturating_add(pieces_more))
        } else {
            needed
        };
        self.need(hour, needed.min(ON_DEMAND_SHARDS_MAX));
    }

    /// Forgets the hours that ended 30 days ago.
    fn forget(&mut self, now_ms: u64) {
        let over = |hour: u64| (hour + 1) * HOUR_MS + HELD_MS <= now_ms;
        while self.hours.front().is_some_and(|(hour, _)| over(*hour)) {
            self.hours.pop_front();
        }
    }

    fn need(&mut self, hour: u64, needed: u32) {
        self.forget(hour * HOUR_MS);
        while self.hours.back().is_some_and(|(_, less)| *less <= needed) {
            self.hours.pop_back();
        }
        match self.hours.back() {
            Some((last, _)) if *last == hour => {} // a minute of this hour needed more
            _ => self.hours.push_back((hour, needed)),
        }
    }
}

#[cfg(test)]
mod tests;
