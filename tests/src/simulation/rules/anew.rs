//! What an operator may do to leases, and what follows from it.
//!
//! - A lease that was set anew goes back, or ahead, to where the operator wants it, and nowhere else: what
//!   came before that is nobody's any more, and all that came since has to be processed, again too.
//! - A lease whose row was deleted starts anew where the row that is made for it says. A shard that was read
//!   to its end meanwhile gets none. While there is none, nothing tells that the finished shards before it
//!   were read whose rows are gone too, in due course: they may start anew as well.
//! - There is one for streams alone that are read from their beginning: where others start, `start` says.
//! - The owner of a lease whose row was deleted may have taken it and not begun: it begins where the row was.
//! - The children of a shard that was set to an instant and has no record since start at that instant.

use kinesis_consumer::InitialPosition;
use kinesis_core::{Position, ShardId};

use super::{Checker, Shard};
use crate::simulation::log::Row;

/// What an operator did to a lease, until its next row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Anew {
    /// Set its checkpoint.
    Reset,
    /// Deleted its row.
    Removed,
}

impl Checker {
    /// An operator does this to a lease.
    pub(super) fn is_operated(&mut self, lease: &ShardId, anew: Anew) {
        let shard = self.shards.entry(lease.clone()).or_default();
        shard.anew = Some(anew);
        shard.is_operated = true;
        if anew == Anew::Removed {
            shard.removed_at = shard.row.take().map(|row| row.checkpoint);
            shard.checkpoint = None;
        }
    }

    /// Takes in what a row says of where a lease starts, where an operator is why it does.
    pub(super) fn starts_anew(&mut self, lease: &ShardId, row: &Row) {
        let Some(from) = from(row) else { return };
        let is_forgotten = self.is_forgotten(lease);
        let shard = self.shards.entry(lease.clone()).or_default();
        let by = shard.anew.take().or(is_forgotten.then_some(Anew::Removed));
        match by {
            Some(by) => {
                shard.checkpoint = Some(row.checkpoint.clone());
                for (position, kept) in &mut shard.records {
                    kept.done = came_before(position, from);
                }
                if by == Anew::Reset {
                    self.set_to.insert(from);
                }
            }
            // Of a parent that was set to this instant.
            None if shard.checkpoint.is_none() && self.set_to.contains(&from) => {
                for (position, kept) in &mut shard.records {
                    kept.done |= came_before(position, from);
                }
            }
            None => {}
        }
    }

    /// Whether a finished shard has no row, and one that came after it none any more.
    fn is_forgotten(&self, lease: &ShardId) -> bool {
        let has_row = |shard: &ShardId| self.shards.get(shard).is_some_and(|s| s.row.is_some());
        let was_removed = |(id, shard): (&ShardId, &Shard)| {
            shard.anew == Some(Anew::Removed) && self.comes_after(id, lease)
        };
        self.has_ended(lease) && !has_row(lease) && self.shards.iter().any(was_removed)
    }

    fn comes_after(&self, shard: &ShardId, ancestor: &ShardId) -> bool {
        let parents = self.truth.parents.get(shard).into_iter().flatten();
        parents
            .into_iter()
            .any(|parent| parent == ancestor || self.comes_after(parent, ancestor))
    }

    /// What a processor that starts there is done with.
    pub(super) fn start_of(&self, shard: &ShardId, position: &Position) -> Position {
        if self.truth.initial != InitialPosition::TrimHorizon {
            return position.clone();
        }
        let starts_at = self.shards.get(shard).and_then(|shard| {
            let row = shard
                .row
                .as_ref()
                .filter(|row| row.checkpoint == *position)?;
            let from = from(row)?;
            let before = shard.records.keys();
            before
                .take_while(|position| came_before(position, from))
                .last()
        });
        starts_at.unwrap_or(position).clone()
    }
}

impl Shard {
    /// Whether there was nothing left to read of it when its row was deleted.
    pub(super) fn was_removed_at_its_end(&self) -> bool {
        self.anew == Some(Anew::Removed) && self.records.values().all(|kept| kept.done)
    }
}

/// From which instant on a row that nobody has moved yet is to be read, in milliseconds since the Unix
/// epoch.
fn from(row: &Row) -> Option<u64> {
    match row.checkpoint {
        Position::TrimHorizon => Some(0),
        Position::Latest | Position::AtTimestamp => row.starts_at,
        Position::At { .. } | Position::ShardEnd => None,
    }
}

/// Whether a record came before an instant, which is at a whole second.
fn came_before(position: &Position, from: u64) -> bool {
    let Position::At {
        sequence_number, ..
    } = position
    else {
        return false;
    };
    let came = sequence_number.parts().map(|parts| parts.written_s * 1_000);
    came.is_some_and(|came| came < from)
}
