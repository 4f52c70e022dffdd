//! The lease table in the memory of this process: the rules of [`write`](crate::lease::write) and
//! [`lock`](crate::lease::lock) on rows in a map.
//!
//! Nothing here fails or waits, and every look is consistent. Rows end with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kinesis_core::{HashKeyRange, ShardId};

use super::{Created, Fleet, Index, LeaseTable, Lock, Locked, Outcome, Rows};
use crate::error::Error;
use crate::lease::item::Row;
use crate::lease::lock::{Claim, LockRow};
use crate::lease::stats::WorkerStats;
use crate::lease::write::Write;
use crate::lease::{Lease, LeaseTableSettings};

/// One lease table.
#[derive(Debug)]
pub(crate) struct MemoryTable {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    leases: BTreeMap<ShardId, Lease>,
    stats: BTreeMap<String, WorkerStats>,
    lock: Option<LockRow>,
}

impl MemoryTable {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Each change is one assignment, so a panic elsewhere leaves no half of one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what `change` makes of the row in its place; `None` refuses.
    fn update(&self, shard_id: &ShardId, change: impl FnOnce(&Lease) -> Option<Lease>) -> Outcome {
        let mut state = self.state();
        let Some(row) = state.leases.get_mut(shard_id) else {
            return Outcome::Refused(None);
        };
        match change(row) {
            Some(changed) => {
                *row = changed.clone();
                Outcome::Done(changed)
            }
            None => Outcome::Refused(Some(row.clone())),
        }
    }

    /// Writes the lock if `may` says so of it.
    fn put_lock(&self, may: impl FnOnce(Option<&LockRow>) -> bool, row: LockRow) -> Locked {
        let lock = &mut self.state().lock;
        if may(lock.as_ref()) {
            *lock = Some(row);
            Locked::Done
        } else {
            Locked::Refused(lock.clone())
        }
    }
}

fn lock_of(me: &str, version: &str, duration: Duration) -> LockRow {
    LockRow {
        owner: me.to_owned(),
        version: version.to_owned(),
        duration,
        released: false,
    }
}

#[async_trait]
impl LeaseTable for MemoryTable {
    fn name(&self) -> &str {
        &self.name
    }

    async fn prepare(&self, _wanted: &LeaseTableSettings) -> Result<(), Error> {
        Ok(())
    }

    async fn scan(&self, _consistent: bool) -> Result<Rows, Error> {
        let state = self.state();
        Ok(Rows {
            leases: state.leases.values().cloned().collect(),
            corrupt: Vec::new(),
            stats: state.stats.values().cloned().collect(),
        })
    }

    async fn get(&self, shard_id: &ShardId) -> Result<Option<Row>, Error> {
        let row = self.state().leases.get(shard_id).cloned();
        Ok(row.map(|lease| Row::Lease(Box::new(lease))))
    }

    async fn create(&self, lease: &Lease) -> Result<Created, Error> {
        let mut state = self.state();
        if state.leases.contains_key(&lease.shard_id) {
            return Ok(Created::Existed);
        }
        state.leases.insert(lease.shard_id.clone(), lease.clone());
        Ok(Created::New)
    }

    async fn write(&self, write: &Write) -> Result<Outcome, Error> {
        Ok(self.update(&write.shard_id, |row| write.apply(row)))
    }

    async fn put_children(
        &self,
        shard_id: &ShardId,
        children: &BTreeSet<ShardId>,
        me: &str,
    ) -> Result<Outcome, Error> {
        Ok(self.update(shard_id, |row| {
            (row.holder() == Some(me)).then(|| Lease {
                children: children.clone(),
                ..row.clone()
            })
        }))
    }

    async fn put_range(&self, shard_id: &ShardId, range: HashKeyRange) -> Result<Outcome, Error> {
        Ok(self.update(shard_id, |row| {
            row.range.is_none().then(|| Lease {
                range: Some(range),
                ..row.clone()
            })
        }))
    }

    async fn delete_ended(&self, seen: &Lease) -> Result<bool, Error> {
        let mut state = self.state();
        let row = state.leases.get(&seen.shard_id);
        let as_seen = row.is_some_and(|row| row.is_ended() && row.counter == seen.counter);
        if as_seen {
            state.leases.remove(&seen.shard_id);
        }
        Ok(as_seen)
    }

    async fn index(&self) -> Result<Index, Error> {
        Ok(Index::Active)
    }

    async fn owned_by(&self, owner: &str) -> Result<Vec<ShardId>, Error> {
        let state = self.state();
        let rows = state.leases.values();
        let owned = rows.filter(|row| row.owner.as_deref() == Some(owner));
        Ok(owned.map(|row| row.shard_id.clone()).collect())
    }
}

#[async_trait]
impl Lock for MemoryTable {
    async fn lock(&self) -> Result<Option<LockRow>, Error> {
        Ok(self.state().lock.clone())
    }

    async fn claim_lock(
        &self,
        claim: &Claim,
        me: &str,
        version: &str,
        duration: Duration,
    ) -> Result<Locked, Error> {
        Ok(self.put_lock(|row| claim.holds(row), lock_of(me, version, duration)))
    }

    async fn beat_lock(
        &self,
        me: &str,
        seen: &str,
        version: &str,
        duration: Duration,
    ) -> Result<Locked, Error> {
        let mine =
            |row: Option<&LockRow>| row.is_some_and(|row| row.owner == me && row.version == seen);
        Ok(self.put_lock(mine, lock_of(me, version, duration)))
    }

    async fn release_lock(&self, me: &str, version: &str) -> Result<(), Error> {
        let lock = &mut self.state().lock;
        lock.take_if(|row| row.owner == me && row.version == version);
        Ok(())
    }
}

#[async_trait]
impl Fleet for MemoryTable {
    async fn put_stats(&self, stats: &WorkerStats) -> Result<(), Error> {
        let row = stats.clone();
        self.state().stats.insert(stats.worker.clone(), row);
        Ok(())
    }

    async fn delete_stats(
        &self,
        worker: &str,
        updated_at: RangeInclusive<u64>,
    ) -> Result<(), Error> {
        let stats = &mut self.state().stats;
        let row = stats.get(worker);
        if row.is_some_and(|row| updated_at.contains(&row.updated_at)) {
            stats.remove(worker);
        }
        Ok(())
    }
}
