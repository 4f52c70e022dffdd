//! Parents before children, and when a finished lease may go.
//!
//! A lease is *blocked* while a parent's lease exists and is not `SHARD_END`. A parent without a
//! lease is finished and deleted, or older than where the application started; but a scan is not a
//! snapshot, so it is only a hint, and the caller asks the table for each such parent by name
//! before it takes the child.
//!
//! A finished lease may be deleted when its children are known, all of them have leases that moved
//! on from where they began, and no lease of a parent is left: the last of these keeps a shard whose
//! lease is missing distinguishable from one that was finished. One whose children nobody knows may
//! go, too, once the stream does not list its shard any more and leases for all of the key space are
//! there: without a lease such a shard counts as finished, but what comes after it must have one.

use std::collections::BTreeMap;

use kinesis_core::{Position, ShardId};

use super::Lease;

/// What a scan says about the parents of a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Parents {
    /// All are `SHARD_END` or have no row; the latter are to be looked up.
    Ended { missing: Vec<ShardId> },
    /// This one is not finished, or its row cannot be read.
    Blocked { by: ShardId },
}

/// The leases of a table by shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lineage<'a> {
    /// `None` for a row that cannot be read.
    leases: BTreeMap<&'a ShardId, Option<&'a Lease>>,
}

impl<'a> Lineage<'a> {
    pub(crate) fn new(
        leases: impl IntoIterator<Item = &'a Lease>,
        unreadable: impl IntoIterator<Item = &'a ShardId>,
    ) -> Self {
        let readable = leases
            .into_iter()
            .map(|lease| (&lease.shard_id, Some(lease)));
        let unreadable = unreadable.into_iter().map(|id| (id, None));
        Self {
            leases: readable.chain(unreadable).collect(),
        }
    }

    pub(crate) fn parents(&self, lease: &Lease) -> Parents {
        let mut missing = Vec::new();
        for parent in &lease.parents {
            match self.leases.get(parent) {
                None => missing.push(parent.clone()),
                Some(Some(row)) if row.is_ended() => {}
                Some(_) => return Parents::Blocked { by: parent.clone() },
            }
        }
        Parents::Ended { missing }
    }

    pub(crate) fn is_blocked(&self, lease: &Lease) -> bool {
        matches!(self.parents(lease), Parents::Blocked { .. })
    }

    /// Whether the lease of a finished shard is of no more use.
    pub(crate) fn may_delete(&self, lease: &Lease) -> bool {
        lease.is_ended()
            && !lease.children.is_empty()
            && lease.children.iter().all(|child| self.is_under_way(child))
            && !self.has_parents(lease)
    }

    /// Whether the shard is finished, and its children are not known and will not be where the stream
    /// does not have it any more.
    pub(crate) fn is_childless_end(&self, lease: &Lease) -> bool {
        lease.is_ended() && lease.children.is_empty() && !self.has_parents(lease)
    }

    fn has_parents(&self, lease: &Lease) -> bool {
        let mut parents = lease.parents.iter();
        parents.any(|parent| self.leases.contains_key(parent))
    }

    fn is_under_way(&self, shard_id: &ShardId) -> bool {
        let row = self.leases.get(shard_id).copied().flatten();
        row.is_some_and(|row| match row.checkpoint {
            Position::At { .. } | Position::ShardEnd => true,
            Position::AtTimestamp | Position::TrimHorizon | Position::Latest => false,
        })
    }
}

#[cfg(test)]
mod tests;
