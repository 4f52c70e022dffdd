//! Leases: which worker may work on which shard, kept in one DynamoDB table as the KCL keeps it.
//!
//! ```text
//!  ListShards ──discover──▶ rows ──scan──▶ Observer ──▶ assign::plan ──take / start handoff──▶ row
//!  (start, holes)                         (who is alive)  (whom to take)                        │
//!                                                                                              ▼
//!  consumer ◀──gained── HeldLease ◀── its own task: renew every failover/3, checkpoint, fence, release
//! ```
//!
//! What this module promises:
//! - **One worker at a time.** Every write that moves a lease raises `leaseCounter` and is made on
//!   the condition that the counter is the one last seen. A worker may take a lease of another only
//!   after the counter stood still for `failover_time` on its own monotonic clock; the holder
//!   counts the same time from *before* it sent its last successful write, less a margin, and stops
//!   (`HeldLease::lost`) before that. Wall clocks take no part.
//! - **No lease stays stuck.** A row without a living holder is taken after `failover_time`. A
//!   handoff ends at the latest `handoff_timeout + failover_time` after it began: its old owner
//!   stops by itself at `handoff_timeout`, and the new one then takes the lease by force.
//! - **Parents before children.** A lease is taken only when each parent's lease is `SHARD_END` or
//!   is known, by a consistent read, not to exist. A blocked lease is left alone, not held.
//! - **No shard is lost.** The leases of a shard's children exist before the shard's checkpoint is
//!   `SHARD_END` (that of a merged shard: before its last parent's is); a lease is deleted only when
//!   all its children are under way.
//! - **A renewal never waits for user code.** Each lease has a task that does all its writes;
//!   [`HeldLease`] only sends it messages.
//!
//! # Rows
//! The attributes are those of the KCL 3.5 (`leaseKey` S hash key, `leaseOwner` S, `leaseCounter` N,
//! `checkpoint` S, `checkpointSubSequenceNumber` N, `ownerSwitchesSinceCheckpoint` N, `parentShardId`
//! SS, `childShardIds` SS, `startingHashKey` S, `endingHashKey` S, `checkpointOwner` S, `entityType`
//! S; see [`item`]) and two of our own. `acquisitionId` S: which take of the lease wrote last, so that
//! a write whose answer got lost is told apart from a write of somebody else. `startTimestampMillis`
//! N: the instant that a checkpoint of `LATEST` or `AT_TIMESTAMP` stands for. Rows of 2.x are read
//! too. Attributes that are not known here are kept: existing rows are only ever updated.
//!
//! # Handoff
//! `leaseOwner` already names the next owner and `checkpointOwner` the present one:
//! ```text
//!  owner=A           start: owner=B, checkpointOwner=A    A drains, checkpoints, completes: owner=B
//!  ────────────────▶ ───────────────────────────────────▶ ─────────────────────────────────────────▶
//!                    A dead: counter stands still, B (or another) takes it after failover_time
//!                    A never done: fences itself at handoff_timeout, B takes it by force
//! ```
//!
//! # Cost
//! One renewal per lease and `failover_time / 3` (none where a checkpoint was written in between),
//! and one eventually consistent scan of the table per worker and `lease_scan_interval`. At the
//! defaults a worker with 10 of 40 leases writes 3 units and reads about 2 units a second. A row is
//! about 0.5 kB, so 1,000 leases are 61 read units per scan: with many workers on a large table,
//! raise `lease_scan_interval`.
//!
//! Deliberately absent: a leader and its utilisation metrics, so live KCL 3 workers must not share
//! the table at the same time (they may have before, and may again); the
//! `LeaseOwnerToLeaseKeyIndex`.

pub mod admin;
mod assign;
mod held;
mod item;
mod keeper;
mod lineage;
pub(crate) mod metrics;
mod observe;
mod settings;
mod table;
mod tenure;
mod write;

use std::collections::BTreeSet;

use kinesis_core::{HashKeyRange, Position, ShardId};

use crate::checkpoint::PendingCheckpoint;
pub(crate) use held::HeldLease;
pub(crate) use keeper::LeaseKeeper;
pub use settings::{BillingMode, LeaseSettings, LeaseTableSettings};

/// One row of the lease table, as far as this crate understands it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lease {
    /// `leaseKey`: the shard's id, behind that of its stream where the application reads several.
    pub(crate) shard_id: ShardId,
    /// `leaseOwner`: who owns the lease or, during a handoff, is to own it next.
    pub(crate) owner: Option<String>,
    /// `checkpointOwner`: during a handoff, who still works on the shard.
    pub(crate) checkpoint_owner: Option<String>,
    /// `leaseCounter`: raised by every write of the holder and every change of owner.
    pub(crate) counter: u64,
    /// `checkpoint` and `checkpointSubSequenceNumber`.
    pub(crate) checkpoint: Position,
    /// `pendingCheckpoint`, its sub-sequence number and state: a checkpoint that is prepared and not
    /// committed; removed by the next checkpoint.
    pub(crate) pending_checkpoint: Option<PendingCheckpoint>,
    /// `ownerSwitchesSinceCheckpoint`.
    pub(crate) owner_switches: u64,
    /// `parentShardId`, a set in spite of its name.
    pub(crate) parents: BTreeSet<ShardId>,
    /// `childShardIds`; empty until the shard ends.
    pub(crate) children: BTreeSet<ShardId>,
    /// `startingHashKey` and `endingHashKey`; rows of 2.x may lack them.
    pub(crate) range: Option<HashKeyRange>,
    /// `acquisitionId`: the take of the lease that wrote last; absent in rows of the KCL.
    pub(crate) acquisition: Option<String>,
    /// `startTimestampMillis`: the instant that a checkpoint of `LATEST` or `AT_TIMESTAMP` stands
    /// for, in milliseconds since the Unix epoch, so that every owner starts at the same; absent in
    /// rows of the KCL.
    pub(crate) starts_at_millis: Option<u64>,
}

impl Lease {
    /// A lease that nobody has owned yet.
    pub(crate) fn new(shard_id: ShardId, checkpoint: Position) -> Self {
        Self {
            shard_id,
            owner: None,
            checkpoint_owner: None,
            counter: 0,
            checkpoint,
            pending_checkpoint: None,
            owner_switches: 0,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            range: None,
            acquisition: None,
            starts_at_millis: None,
        }
    }

    /// Who works on the shard now.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.checkpoint_owner.as_deref().or(self.owner.as_deref())
    }

    /// Whether a handoff is under way.
    pub(crate) fn is_in_handoff(&self) -> bool {
        self.checkpoint_owner.is_some()
    }

    /// Whether the shard was processed to its end.
    pub(crate) fn is_ended(&self) -> bool {
        self.checkpoint == Position::ShardEnd
    }
}

/// A shard that a split or merge made, as its parent's last read tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ChildShard {
    /// The child's id.
    pub(crate) id: ShardId,
    /// The shards it was made from: one after a split, two after a merge.
    pub(crate) parents: Vec<ShardId>,
    /// The part of the key space it takes.
    pub(crate) range: HashKeyRange,
}

#[cfg(test)]
mod tests;
