//! Where an application starts: at the beginning of the stream, or at an instant, which every worker goes
//! by.

use std::collections::BTreeSet;

use kinesis_consumer::InitialPosition;
use kinesis_core::{Position, ShardId};
use kinesis_local::testing::START_MS;

use super::records::{Kept, Life};
use super::{Checker, Rule, Shard};
use crate::simulation::log::Row;

/// By how much earlier than its lease says a shard may be read from its newest record, in milliseconds:
/// the service tells its time in whole seconds, and an answer may be late.
/// Source: the network of the simulation, which keeps a message for 8 s at most each way.
const EARLY_MILLIS_MAX: u64 = 20_000;

/// By how much earlier a lease may start that was made later than others and starts at an instant of
/// which it is not known by whose clock it is, in milliseconds. Source: the consumer's `discover::plan`.
const MARGIN_MILLIS: u64 = 60_000;

/// Since when an application reads a stream. In milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    /// The instant that is stored with its leases.
    instant: u64,
    /// When the first of them was made, which is up to a second and two calls later.
    made: u64,
    /// By how much earlier records may come that are read from the beginning of their shard.
    slack: u64,
}

impl Life {
    /// Whether a record came before the instant that the shard is read from.
    pub(super) fn is_before_start(&self, kept: &Kept, shard: &Shard) -> bool {
        let at_instant = matches!(self.start, Position::Latest | Position::AtTimestamp);
        at_instant
            && shard
                .starts_at
                .is_some_and(|starts_at| kept.arrived < starts_at)
    }

    /// By how many milliseconds a record came earlier than what the shard may be read from. The beginning
    /// of a child is not before the instant that its application starts at.
    pub(super) fn early(&self, kept: &Kept, shard: &Shard, began: Option<&Began>) -> u64 {
        let (starts_at, slack) = match (&self.given, began) {
            (Position::Latest, _) => (shard.starts_at, EARLY_MILLIS_MAX),
            (Position::AtTimestamp, _) => (shard.starts_at, 0),
            (Position::TrimHorizon, Some(began)) => (Some(began.instant), began.slack),
            (Position::TrimHorizon, None) | (Position::At { .. } | Position::ShardEnd, _) => {
                return 0;
            }
        };
        starts_at.unwrap_or(0).saturating_sub(kept.arrived + slack)
    }
}

impl Checker {
    /// Settles what can be known before anything has happened.
    pub(super) fn starts(&mut self) {
        if let InitialPosition::AtTimestamp(millis) = self.truth.initial {
            let streams: BTreeSet<_> = self.shards.keys().map(stream_of).collect();
            for stream in streams {
                self.begin_at(stream, millis, 0);
            }
        }
    }

    /// The application begins with a stream at this instant: what came before is no loss.
    fn begin_at(&mut self, stream: String, millis: u64, slack: u64) {
        let of_stream = |key: &ShardId| stream_of(key) == stream;
        let shards = self.shards.iter_mut().filter(|(key, _)| of_stream(key));
        for shard in shards.map(|(_, shard)| shard) {
            for kept in shard.records.values_mut() {
                kept.done |= kept.arrived < millis;
            }
        }
        let began = Began {
            instant: millis,
            made: self.now_millis(),
            slack,
        };
        self.began.insert(stream, began);
    }

    fn now_millis(&self) -> u64 {
        START_MS + self.at.as_millis() as u64
    }

    /// Whether a shard has no lease because the application begins behind its end.
    pub(super) fn is_before_start(&self, shard: &ShardId) -> bool {
        let leased = self
            .shards
            .get(shard)
            .is_some_and(|shard| shard.is_leased());
        self.truth.initial == InitialPosition::Latest && !leased
    }

    /// Whether a record is still to be dealt with. What a shard without a lease holds from just before the
    /// first lease was made is not: it is behind the newest record, and only the stored instant is early.
    pub(super) fn is_left(&self, shard: &ShardId, kept: &Kept) -> bool {
        let began = self.began.get(&stream_of(shard));
        let before = || began.is_some_and(|began| kept.arrived < began.made);
        let is_passed_over = self.is_before_start(shard) && before();
        !kept.done && !is_passed_over
    }

    /// A lease is written; before its last row is forgotten.
    pub(super) fn starts_in(&mut self, lease: &ShardId, row: &Row) {
        let initial = self.truth.initial;
        let shard = self.shards.entry(lease.clone()).or_default();
        if shard.is_set_anew() {
            shard.starts_at = row.starts_at;
            return;
        }
        if initial == InitialPosition::TrimHorizon {
            if shard.row.is_none() {
                self.is_made(lease, row);
            }
            return;
        }
        if shard.is_leased() {
            let stood = shard.starts_at;
            if stood != row.starts_at {
                let what = format!(
                    "{lease} starts at {:?}, and before at {stood:?}",
                    row.starts_at
                );
                self.breaks(Rule::Start, what);
            }
            return;
        }
        shard.starts_at = row.starts_at;
        let wrong = match (&row.checkpoint, row.starts_at, initial) {
            // All of a child is newer than what was read of its parents.
            (Position::TrimHorizon, None, _) => {
                let parents = self.truth.parents.get(lease).into_iter().flatten();
                let mut parents = parents.filter_map(|parent| self.shards.get(parent));
                let follows = parents.any(Shard::is_leased);
                (!follows).then(|| "is read from its beginning, and no parent was read".to_owned())
            }
            (Position::AtTimestamp, Some(millis), InitialPosition::AtTimestamp(asked)) => {
                (millis != asked).then(|| format!("starts at {millis}, not at {asked}"))
            }
            (Position::Latest, Some(millis), InitialPosition::Latest) => self.newest(lease, millis),
            (Position::AtTimestamp, Some(millis), InitialPosition::Latest) => {
                let began = self.began.get(&stream_of(lease));
                match began.map(|began| began.instant) {
                    Some(began) if (began - MARGIN_MILLIS..=began).contains(&millis) => None,
                    began => Some(format!("starts at {millis}, the application at {began:?}")),
                }
            }
            (position, starts_at, initial) => Some(format!(
                "starts at {position}, {starts_at:?}, under {initial:?}"
            )),
        };
        if let Some(wrong) = wrong {
            self.breaks(Rule::Start, format!("{lease} {wrong}"));
        }
        let begun = |(child, parents): (&ShardId, &Vec<ShardId>)| {
            let begun = self
                .shards
                .get(child)
                .is_some_and(|child| child.newest.is_some());
            (begun && parents.contains(lease)).then(|| child.clone())
        };
        if let Some(child) = self.truth.parents.iter().find_map(begun) {
            let what = format!("{lease} has a lease, and {child}, its child, has begun");
            self.breaks(Rule::Parents, what);
        }
    }

    /// A lease begins at the newest record, of this instant; what is wrong with that.
    fn newest(&mut self, lease: &ShardId, millis: u64) -> Option<String> {
        let stream = stream_of(lease);
        if let Some(Began { instant, .. }) = self.began.get(&stream) {
            return (millis != *instant)
                .then(|| format!("starts at {millis}, another at {instant}"));
        }
        self.begin_at(stream, millis, EARLY_MILLIS_MAX);
        let first_up = self.first_up.unwrap_or_default().as_millis() as u64;
        let first = START_MS + first_up - EARLY_MILLIS_MAX;
        let now = self.now_millis();
        let wrong = millis < first || millis > now;
        wrong.then(|| format!("starts at {millis}, not between {first} and {now}"))
    }
}

/// The stream of a lease's key; empty where the application reads one.
pub(super) fn stream_of(key: &ShardId) -> String {
    let stream = key.as_str().rsplit_once(':').map(|(stream, _)| stream);
    stream.unwrap_or_default().to_owned()
}

impl Shard {
    /// Whether it has or had a lease.
    fn is_leased(&self) -> bool {
        self.checkpoint.is_some()
    }
}
