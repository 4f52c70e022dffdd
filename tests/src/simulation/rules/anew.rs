//! What an operator may do to leases, and what follows from it.
//!
//! - A lease that was set anew goes back, or ahead, to where the operator wanted it, by the deed and not by
//!   what was written, and nowhere else; nobody owns it then, and nothing is prepared. What came before that
//!   is nobody's any more, and all that came since has to be processed, again too.
//! - A lease whose row was deleted comes back where the application starts. A shard that was read
//!   to its end meanwhile gets none. While there is none, nothing tells that the finished shards before it
//!   were read whose rows are gone too, in due course: they may start anew as well.
//! - There is one for streams alone that are read from their beginning: where others start, `start` says.
//! - The owner of a lease whose row was deleted may have taken it and not begun: it begins where the row was.
//! - The children of a shard that was set to an instant and has no record since start at that instant, and of
//!   two such parents at the earlier one. Every other lease that is made starts at the beginning.

use kinesis_consumer::InitialPosition;
use kinesis_core::{Position, ShardId};

use super::{Checker, Rule, Shard};
use crate::simulation::log::{Row, Start};

/// What an operator did to a lease, until its next row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Anew {
    /// Set it to this.
    Reset(Start),
    /// Deleted its row.
    Removed,
}

impl Checker {
    /// An operator sets a lease by this deed.
    pub(super) fn reset(&mut self, lease: &ShardId, deed: &str) {
        let Some(to) = self.deeds.get(deed).cloned() else {
            let what = format!("{lease} is set, which {deed} was not to do");
            return self.breaks(Rule::Start, what);
        };
        self.operated(lease).anew = Some(Anew::Reset(to));
    }

    /// An operator deletes the row of a lease.
    pub(super) fn removed(&mut self, lease: &ShardId) {
        let shard = self.operated(lease);
        shard.anew = Some(Anew::Removed);
        shard.removed = shard.row.take();
        shard.checkpoint = None;
    }

    fn operated(&mut self, lease: &ShardId) -> &mut Shard {
        let shard = self.shards.entry(lease.clone()).or_default();
        let newest = shard.newest.as_ref();
        if let Some(life) = newest.and_then(|newest| self.lives.get_mut(&newest.number)) {
            life.is_operated = true;
        }
        shard
    }

    /// Takes in what a row says of where a lease starts, where an operator is why it does.
    pub(super) fn starts_anew(&mut self, lease: &ShardId, row: &Row) {
        let is_forgotten = self.is_forgotten(lease);
        let from_beginning = self.truth.initial == InitialPosition::TrimHorizon;
        let shard = self.shards.entry(lease.clone()).or_default();
        let anew = shard.anew.take();
        let to = match &anew {
            Some(Anew::Reset(to)) => to.clone(),
            Some(Anew::Removed) | None => row.start(),
        };
        let by_hand = anew.is_some() || is_forgotten;
        let by_parent = from_beginning && shard.checkpoint.is_none();
        if let Some(from) = from(&to).filter(|_| by_hand || by_parent) {
            for (position, kept) in &mut shard.records {
                kept.done = came_before(position, from) || (kept.done && !by_hand);
            }
            if by_hand {
                shard.checkpoint = Some(to.position);
            }
        }
        let Some(Anew::Reset(to)) = anew else { return };
        let is_free = row.owner.is_none() && row.checkpoint_owner.is_none();
        if row.start() != to || !is_free || row.pending.is_some() {
            let what = format!("{lease} was to be set to {to}, and to be nobody's: {row}");
            self.breaks(Rule::Start, what);
        }
    }

    /// A lease is made of an application that starts at the beginning.
    pub(super) fn is_made(&mut self, lease: &ShardId, row: &Row) {
        let instant = self.instant_of_parents(lease);
        let is_right = match (&row.checkpoint, row.starts_at) {
            (Position::TrimHorizon, None) => {
                let parents = self.truth.parents.get(lease).into_iter().flatten();
                let mut rows = parents.map(|parent| self.row_of(parent));
                let stands = |row: Option<&Row>| {
                    row.is_some_and(|row| row.checkpoint == Position::AtTimestamp)
                };
                instant.is_none() || !rows.all(stands)
            }
            (Position::AtTimestamp, Some(millis)) => instant == Some(millis),
            _ => false,
        };
        if !is_right {
            let start = row.start();
            let what = format!("{lease} is made to start at {start}, its parents at {instant:?}");
            self.breaks(Rule::Start, what);
        }
    }

    /// The earliest of the instants that the parents of a shard were set to, if all of them were.
    fn instant_of_parents(&self, lease: &ShardId) -> Option<u64> {
        let parents = self.truth.parents.get(lease).into_iter().flatten();
        let instants: Option<Vec<u64>> = parents
            .map(|parent| self.row_of(parent).and_then(|row| row.starts_at))
            .collect();
        instants.and_then(|instants| instants.into_iter().min())
    }

    /// The row of a lease, or the last one that an operator deleted.
    fn row_of(&self, lease: &ShardId) -> Option<&Row> {
        let shard = self.shards.get(lease)?;
        shard.row.as_ref().or(shard.removed.as_ref())
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
            let from = from(&row.start())?;
            let before = shard.records.keys();
            before
                .take_while(|position| came_before(position, from))
                .last()
        });
        starts_at.unwrap_or(position).clone()
    }
}

impl Shard {
    /// Whether the next row is that of an operator's.
    pub(super) fn is_set_anew(&self) -> bool {
        matches!(self.anew, Some(Anew::Reset(_)))
    }

    /// Whether there was nothing left to read of it when its row was deleted.
    pub(super) fn was_removed_at_its_end(&self) -> bool {
        self.anew == Some(Anew::Removed) && self.records.values().all(|kept| kept.done)
    }
}

/// From which instant on a lease that nobody has moved yet is to be read, in milliseconds since the Unix
/// epoch.
fn from(start: &Start) -> Option<u64> {
    match start.position {
        Position::TrimHorizon => Some(0),
        Position::Latest | Position::AtTimestamp => start.starts_at,
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
