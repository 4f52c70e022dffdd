//! Which leases are missing, worked out from a listing of the shards and the rows of the table.
//!
//! A shard without a lease is
//! - *done* if a descendant of it has a lease, or it is not listed any more;
//! - *coming* if a parent of it has a lease that is not `SHARD_END`, or is itself coming: the end of
//!   its last parent creates it;
//! - else, if a parent's lease is `SHARD_END`, *lost on the way*: created, from its beginning;
//! - else, if the stream has leases, *missed*: the first start broke off before it, or the application
//!   stood still until all shards between had gone. Created where the application began (see
//!   [`History`]);
//! - else *new to the application*: created at the initial position. With `LATEST` only if it is open,
//!   since a closed shard has no newest end to start behind.
//!
//! Beside a KCL a lease that would begin at an instant begins at the oldest record, unless the application
//! itself begins at one. A KCL knows an instant only from its own settings: without it, it takes a lease
//! whose checkpoint is `AT_TIMESTAMP`, fails with a null pointer whenever it begins to read, and keeps the
//! lease (source: KCL 3.5.1, `IteratorBuilder`; held by `tests/tests/kcl/instants.rs`). Whatever is read
//! twice then would otherwise not be read at all.
//!
//! Invariant, of this plan and of the end of a shard: a lease is created only when each parent has a
//! lease or is done. So a merged shard does not get one from its first parent while the other is
//! still coming. Both "a descendant has a lease, so it is done" and "a parent has no lease, so the
//! child may start" rest on it.
//!
//! Shards are looked at in the order of their ids, in which parents come before their children
//! (source: the service numbers shards as it makes them), and a lease that is to be created counts
//! for those after it. So with `TRIM_HORIZON` on an empty table the oldest shards of each line get a
//! lease and their children follow at their end.

use std::collections::{BTreeMap, BTreeSet};

use kinesis_core::{HashKey, Position, Shard, ShardId, ShardMap};

use crate::lease::{ChildShard, Lease};
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::settings::InitialPosition;

/// How far a worker's wall clock and the service's may differ, in milliseconds. Source: none,
/// reasonable bound.
const CLOCK_MARGIN_MILLIS: u64 = 60_000;

/// The rows of the table, for the plan: unreadable ones are there, but nothing is known of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) leases: &'a [Lease],
    pub(crate) unreadable: &'a [ShardId],
    /// Workers of a KCL may be given the leases.
    pub(crate) beside_kcl: bool,
}

/// What is known of a shard that is listed or has a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Has a lease that is not `SHARD_END`, or gets one from this plan or from a parent's end.
    Ahead,
    /// Has a lease that is `SHARD_END`.
    Ended,
    /// Finished and deleted, or older than where the application started.
    Done,
}

/// What the leases of a stream tell about when the application began to read it.
///
/// Starting a shard at the initial position of *now* would skip what came since, of an application
/// that has been reading the stream all the while. Instants are of the service's clock, or of a worker's
/// where the service did not tell, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum History {
    /// It begins now: there are no leases, or none that was ever read and none that says when it
    /// was made (a KCL's first start that broke off).
    None,
    /// It is beginning, at the newest record of this instant; nothing was read yet.
    Beginning(u64),
    /// It began at this instant.
    Since(u64),
    /// It began nobody knows when, or at the beginning.
    Long,
}

impl History {
    fn of(leases: &[Lease], initial: InitialPosition) -> Self {
        let latest = |lease: &Lease| lease.checkpoint == Position::Latest;
        let instants = leases.iter().filter_map(|lease| {
            let millis = lease.starts_at_millis?;
            Some(match lease.checkpoint {
                Position::AtTimestamp => millis,
                // That of the settings, and of no clock.
                _ if initial == InitialPosition::AtTimestamp(millis) => millis,
                // Of a lease that moved on it is not known whether it is the time of a worker's clock.
                _ => millis.saturating_sub(CLOCK_MARGIN_MILLIS),
            })
        });
        let rows: BTreeMap<&ShardId, &Lease> =
            leases.iter().map(|row| (&row.shard_id, row)).collect();
        let read = |lease: &Lease| {
            !latest(lease)
                && lease.checkpoint != Position::AtTimestamp
                && !descends_from_instant(lease, &rows)
        };
        // The instant of one lease, as an operator can set it, says nothing of one read for longer.
        if leases.iter().any(read) {
            return Self::Long;
        }
        match instants.min() {
            Some(millis) if leases.iter().all(latest) => {
                Self::Beginning(millis + CLOCK_MARGIN_MILLIS)
            }
            Some(millis) => Self::Since(millis),
            None => Self::None,
        }
    }
}

/// Whether a lease, or one that it comes after, says when it was made. A child that is read from its beginning
/// does not say so itself.
fn descends_from_instant(lease: &Lease, rows: &BTreeMap<&ShardId, &Lease>) -> bool {
    let mut seen = BTreeSet::new();
    let mut todo = vec![lease];
    while let Some(lease) = todo.pop() {
        if lease.starts_at_millis.is_some() {
            return true;
        }
        let parents = lease.parents.iter().filter_map(|id| rows.get(id).copied());
        todo.extend(parents.filter(|parent| seen.insert(&parent.shard_id)));
    }
    false
}

/// The leases to create, in this order. Those at an instant have it; it is `now_millis`, of the
/// service's clock, for those that begin at the newest record: without it, each owner before the first
/// checkpoint would start at a "latest" of its own and miss what arrived before.
pub(crate) fn missing_leases(
    shards: &ShardMap,
    known: Known<'_>,
    initial: InitialPosition,
    now_millis: u64,
) -> Vec<Lease> {
    let history = History::of(known.leases, initial);
    let state_of = |lease: &Lease| {
        if lease.is_ended() {
            State::Ended
        } else {
            State::Ahead
        }
    };
    let mut states: BTreeMap<&ShardId, State> = known
        .leases
        .iter()
        .map(|lease| (&lease.shard_id, state_of(lease)))
        .collect();
    states.extend(known.unreadable.iter().map(|id| (id, State::Ahead)));
    let ancestors = ancestors_of_leased(shards, known);
    let mut missing = Vec::new();
    for shard in shards.shards() {
        if states.contains_key(&shard.id) {
            continue;
        }
        let parents: Vec<State> = shard
            .parents()
            .filter_map(|parent| states.get(parent).copied())
            .collect();
        let start = if ancestors.contains(&shard.id) {
            None
        } else if parents.contains(&State::Ahead) {
            states.insert(&shard.id, State::Ahead);
            continue;
        } else if parents.contains(&State::Ended) {
            Some(Start::BEGINNING)
        } else if history == History::Long && parents.contains(&State::Done) {
            // A sibling of it has a lease, so it was there when the application began.
            initial_start(shard, initial, History::None, now_millis)
        } else {
            initial_start(shard, initial, history, now_millis)
        };
        states.insert(
            &shard.id,
            if start.is_some() {
                State::Ahead
            } else {
                State::Done
            },
        );
        let start = start.map(|start| match known.beside_kcl {
            true => start.legible_to_a_kcl(initial),
            false => start,
        });
        missing.extend(start.map(|start| lease_of(shard, start)));
    }
    missing
}

/// The first checkpoint of a lease, and the instant that is stored with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Start {
    position: Position,
    millis: Option<u64>,
}

impl Start {
    const BEGINNING: Self = Self {
        position: Position::TrimHorizon,
        millis: None,
    };

    fn at(millis: u64) -> Self {
        Self {
            position: Position::AtTimestamp,
            millis: Some(millis),
        }
    }

    /// The same, or earlier, as a KCL of an application that begins at `initial` can read it. The instant
    /// stays with it: it tells when the application began ([`History`]).
    fn legible_to_a_kcl(self, initial: InitialPosition) -> Self {
        match (&self.position, initial) {
            (Position::AtTimestamp, InitialPosition::Latest | InitialPosition::TrimHorizon) => {
                Self {
                    position: Position::TrimHorizon,
                    ..self
                }
            }
            _ => self,
        }
    }

    /// Where to start in a shard whose parents have these rows, one of which was just read to its
    /// end: at the instant that they were to be read from, if none of them had a record since; else at
    /// its beginning, since all of it is newer than what was read.
    pub(crate) fn of_child<'a>(
        parents: impl IntoIterator<Item = &'a Lease>,
        initial: InitialPosition,
    ) -> Self {
        let mut earliest: Option<u64> = None;
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::ChildrenFromBeginning) {
            return Self::BEGINNING;
        }
        for parent in parents {
            let instant = match (&parent.checkpoint, parent.starts_at_millis, initial) {
                (Position::AtTimestamp, Some(millis), _) => millis,
                // A row of the KCL, which does not store it.
                (Position::AtTimestamp, None, InitialPosition::AtTimestamp(millis)) => millis,
                _ => return Self::BEGINNING,
            };
            earliest = Some(earliest.map_or(instant, |earliest| earliest.min(instant)));
        }
        earliest.map_or(Self::BEGINNING, Self::at)
    }
}

/// Where to start in a shard without a leased parent, if at all.
fn initial_start(
    shard: &Shard,
    initial: InitialPosition,
    history: History,
    now_millis: u64,
) -> Option<Start> {
    let newest = |millis| Start {
        position: Position::Latest,
        millis: Some(millis),
    };
    #[cfg(feature = "mutations")]
    if mutation::is(Mutation::MissedLeaseStartsNow) && history != History::None {
        return Some(newest(now_millis));
    }
    match (initial, history) {
        (InitialPosition::TrimHorizon, _) | (_, History::Long) => Some(Start::BEGINNING),
        (_, History::Since(millis)) => Some(Start::at(millis)),
        (InitialPosition::AtTimestamp(millis), History::None | History::Beginning(_)) => {
            Some(Start::at(millis))
        }
        (InitialPosition::Latest, History::None) => shard.is_open().then(|| newest(now_millis)),
        (InitialPosition::Latest, History::Beginning(millis)) if shard.is_open() => {
            Some(newest(millis))
        }
        // Closed before that instant or since.
        (InitialPosition::Latest, History::Beginning(millis)) => {
            Some(Start::at(millis.saturating_sub(CLOCK_MARGIN_MILLIS)))
        }
    }
}

fn lease_of(shard: &Shard, start: Start) -> Lease {
    Lease {
        parents: shard.parents().cloned().collect(),
        range: Some(shard.range),
        starts_at_millis: start.millis,
        ..Lease::new(shard.id.clone(), start.position)
    }
}

impl ChildShard {
    /// The child's first lease.
    pub(crate) fn lease(&self, start: Start) -> Lease {
        Lease {
            parents: self.parents.iter().cloned().collect(),
            range: Some(self.range),
            starts_at_millis: start.millis,
            ..Lease::new(self.id.clone(), start.position)
        }
    }
}

fn ancestors_of_leased<'a>(shards: &'a ShardMap, known: Known<'a>) -> BTreeSet<&'a ShardId> {
    let mut ancestors = BTreeSet::new();
    let mut todo: Vec<&ShardId> = Vec::new();
    for lease in known.leases {
        todo.extend(&lease.parents);
        todo.extend(
            shards
                .get(&lease.shard_id)
                .into_iter()
                .flat_map(Shard::parents),
        );
    }
    for id in known.unreadable {
        todo.extend(shards.get(id).into_iter().flat_map(Shard::parents));
    }
    while let Some(id) = todo.pop() {
        if ancestors.insert(id) {
            todo.extend(shards.get(id).into_iter().flat_map(Shard::parents));
        }
    }
    ancestors
}

/// Whether the leases that are not finished cover every hash key. A lease without a range (2.x) or
/// that cannot be read covers none: better to list the shards once too often.
pub(crate) fn covers_key_space<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> bool {
    let open = leases.into_iter().filter(|lease| !lease.is_ended());
    let mut ranges: Vec<_> = open.filter_map(|lease| lease.range).collect();
    ranges.sort_unstable_by_key(|range| range.start());
    let mut next = HashKey::MIN;
    for range in ranges {
        if range.start() > next {
            return false;
        }
        match range.end().0.checked_add(1) {
            Some(after) => next = next.max(HashKey(after)),
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests;
