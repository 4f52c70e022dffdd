//! What a lease table is, wherever its rows are kept.
//!
//! ```text
//!  LeaseTable    rows of leases: read, created, written on a condition, found by their owner
//!    ├ Lock      the row of the leader
//!    └ Fleet     a row of each worker, and by which protocol all of them work
//!
//!  dynamodb      a table that workers of other processes, and of the KCL, share
//!  memory        a table of this process; ends with it
//! ```
//!
//! What every table promises, and [`conformance`] holds each to:
//! - A write is made only if its demand holds, atomically. A refusal comes with the row as it is,
//!   from the same request, so that the caller can tell whether an earlier attempt of its own, whose
//!   answer was lost, is what changed the row.
//! - A row that is not there is created by [`LeaseTable::create`] alone.
//! - What fails is an [`Error`] whose kind says whether to go on trying.
//!
//! Not public: rows, writes and locks are this crate's words for the KCL's protocol, and change with
//! it. What an application chooses is a [`LeaseStore`](crate::LeaseStore).

#[cfg(test)]
mod conformance;
pub(crate) mod dynamodb;
pub(crate) mod memory;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use kinesis_core::{HashKeyRange, ShardId};

use super::item::{CorruptRow, Row};
use super::lock::{Claim, LockRow};
use super::migration::ClientVersion;
use super::stats::WorkerStats;
use super::write::Write;
use super::{Lease, LeaseTableSettings};
use crate::error::Error;

/// The leases of one application.
#[async_trait]
pub(crate) trait LeaseTable: Lock + Fleet + Debug + Send + Sync {
    /// What it is called in logs and errors.
    fn name(&self) -> &str;

    /// Makes sure that the table is there, as `wanted` if it has to be made, and looks where its rows
    /// lie.
    async fn prepare(&self, wanted: &LeaseTableSettings) -> Result<(), Error>;

    /// All rows. What is not `consistent` may be cheaper, and may show rows as they were a moment ago.
    async fn scan(&self, consistent: bool) -> Result<Rows, Error>;

    /// One row, as it is now; `None` if there is none.
    async fn get(&self, shard_id: &ShardId) -> Result<Option<Row>, Error>;

    /// Creates a lease unless there is one; the row exists afterwards.
    async fn create(&self, lease: &Lease) -> Result<Created, Error>;

    /// Makes one write on its condition.
    async fn write(&self, write: &Write) -> Result<Outcome, Error>;

    /// Notes the shards that come after one, if `me` holds its lease. The counter is not raised, as
    /// with the KCL.
    async fn put_children(
        &self,
        shard_id: &ShardId,
        children: &BTreeSet<ShardId>,
        me: &str,
    ) -> Result<Outcome, Error>;

    /// Notes the hash keys of a shard on a row that lacks them. The counter is not raised, as with the
    /// KCL.
    async fn put_range(&self, shard_id: &ShardId, range: HashKeyRange) -> Result<Outcome, Error>;

    /// Deletes the lease of a finished shard, if it still is as seen; whether it was deleted.
    async fn delete_ended(&self, seen: &Lease) -> Result<bool, Error>;

    /// Whether [`Self::owned_by`] can be asked.
    async fn index(&self) -> Result<Index, Error>;

    /// The leases whose owner, or next owner, is `owner`; perhaps as of a moment ago.
    async fn owned_by(&self, owner: &str) -> Result<Vec<ShardId>, Error>;
}

/// The leader's lock.
#[async_trait]
pub(crate) trait Lock {
    /// The lock, perhaps as it was a moment ago; `None` if there is none or it cannot be read.
    async fn lock(&self) -> Result<Option<LockRow>, Error>;

    /// Makes `me` the leader, on the condition of `claim`.
    async fn claim_lock(
        &self,
        claim: &Claim,
        me: &str,
        version: &str,
        duration: Duration,
    ) -> Result<Locked, Error>;

    /// Proves that the leader `me` lives, if the lock is its own and at version `seen`.
    async fn beat_lock(
        &self,
        me: &str,
        seen: &str,
        version: &str,
        duration: Duration,
    ) -> Result<Locked, Error>;

    /// Gives the lock back, if `me` still has it.
    async fn release_lock(&self, me: &str, version: &str) -> Result<(), Error>;
}

/// The workers, and how they work. What only a KCL brings about has an answer here for tables that no
/// KCL reaches.
#[async_trait]
pub(crate) trait Fleet {
    /// Writes a worker's row.
    async fn put_stats(&self, stats: &WorkerStats) -> Result<(), Error>;

    /// Deletes a worker's row, if it still is one that was written at `updated_at`.
    async fn delete_stats(
        &self,
        worker: &str,
        updated_at: RangeInclusive<u64>,
    ) -> Result<(), Error>;

    /// The rows of all workers, of which a scan of the leases brought `scanned`.
    async fn all_stats(&self, scanned: Vec<WorkerStats>) -> Result<Vec<WorkerStats>, Error> {
        Ok(scanned)
    }

    /// Looks where rows lie now; whether that is elsewhere than before.
    ///
    /// # Errors
    /// `InvalidInput` for a place that is not known here.
    async fn find_layout(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// The protocol of the fleet; `None` if nobody wrote it down.
    async fn client_version(&self) -> Result<Option<ClientVersion>, Error> {
        Ok(Some(ClientVersion::Three))
    }

    /// Writes down the protocol of KCL 3, unless one was written down.
    async fn put_client_version(&self, _me: &str, _now_millis: u64) -> Result<(), Error> {
        Ok(())
    }
}

/// The answer to a conditional write.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The row after the write.
    Done(Lease),
    /// The row as it is; `None` if there is none, or it cannot be read.
    Refused(Option<Lease>),
}

/// All rows of the table, sorted by what they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) leases: Vec<Lease>,
    pub(crate) corrupt: Vec<CorruptRow>,
    pub(crate) stats: Vec<WorkerStats>,
}

/// What [`LeaseTable::create`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Created {
    New,
    Existed,
}

/// Whether the leases of an owner can be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Index {
    Active,
    /// It is being made, or somebody has to.
    NotYet,
    /// It may not be made by this worker.
    Denied,
}

/// What became of a write of the lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Locked {
    Done,
    /// The row as it is; `None` if there is none, or it cannot be read.
    Refused(Option<LockRow>),
    /// Nothing was written: the lock lies in another table by now.
    Moved,
}
