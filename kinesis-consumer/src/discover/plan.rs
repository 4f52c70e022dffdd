//! Which leases are missing, worked out from a listing of the shards and the rows of the table.
//!
//! A shard without a lease is
//! - *done* if a descendant of it has a lease, or it is not listed any more;
//! - *coming* if a parent of it has a lease that is not `SHARD_END`, or is itself coming: the end of
//!   its last parent creates it;
//! - else, if a parent's lease is `SHARD_END`, *lost on the way*: created, from its beginning;
//! - else *new to the application*: created at the initial position. With `LATEST` only if it is open,
//!   since a closed shard has no newest end to start behind.
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
use crate::settings::InitialPosition;

/// The rows of the table, for the plan: unreadable ones are there, but nothing is known of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    pub(crate) leases: &'a [Lease],
    pub(crate) unreadable: &'a [ShardId],
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

/// The leases to create, in this order.
pub(crate) fn missing_leases(
    shards: &ShardMap,
    known: Known<'_>,
    initial: InitialPosition,
) -> Vec<Lease> {
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
            Some(descendant_position(initial))
        } else {
            initial_position(shard, initial)
        };
        states.insert(
            &shard.id,
            if start.is_some() {
                State::Ahead
            } else {
                State::Done
            },
        );
        missing.extend(start.map(|position| lease_of(shard, position)));
    }
    missing
}

/// Where to start in a shard that is new to the application, if at all.
fn initial_position(shard: &Shard, initial: InitialPosition) -> Option<Position> {
    match initial {
        InitialPosition::TrimHorizon => Some(Position::TrimHorizon),
        InitialPosition::AtTimestamp(_) => Some(Position::AtTimestamp),
        InitialPosition::Latest => shard.is_open().then_some(Position::Latest),
    }
}

/// Where to start in a shard whose parent was read to its end.
pub(crate) fn descendant_position(initial: InitialPosition) -> Position {
    match initial {
        InitialPosition::TrimHorizon | InitialPosition::Latest => Position::TrimHorizon,
        // The parent may have ended before the instant.
        InitialPosition::AtTimestamp(_) => Position::AtTimestamp,
    }
}

/// The instant that `position` stands for, to be kept with a lease that is created at `now_millis`:
/// without it, each owner before the first checkpoint would start at a "latest" of its own and miss
/// what arrived before. In milliseconds since the Unix epoch.
pub(crate) fn instant_of(
    position: &Position,
    initial: InitialPosition,
    now_millis: u64,
) -> Option<u64> {
    match (position, initial) {
        (Position::Latest, _) => Some(now_millis),
        (Position::AtTimestamp, InitialPosition::AtTimestamp(epoch_millis)) => Some(epoch_millis),
        _ => None,
    }
}

fn lease_of(shard: &Shard, position: Position) -> Lease {
    Lease {
        parents: shard.parents().cloned().collect(),
        range: Some(shard.range),
        ..Lease::new(shard.id.clone(), position)
    }
}

impl ChildShard {
    /// The child's first lease.
    pub(crate) fn lease(&self, position: Position) -> Lease {
        Lease {
            parents: self.parents.iter().cloned().collect(),
            range: Some(self.range),
            ..Lease::new(self.id.clone(), position)
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
