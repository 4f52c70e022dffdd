//! The table of the model: rows by the rules, and reads that are late.

use super::*;

impl Table {
    pub(super) fn new(leases: u64) -> Self {
        let fresh = |i| {
            (
                ShardId::from_index(i),
                Lease::new(ShardId::from_index(i), at(0)),
            )
        };
        Self {
            rows: (0..leases).map(fresh).collect(),
            past: Vec::new(),
            lock: None,
            stats: BTreeMap::new(),
        }
    }

    /// The row after the write, or the one that refused it.
    pub(super) fn write(&mut self, write: &Write) -> Result<Lease, Option<Box<Lease>>> {
        let Some(row) = self.rows.get(&write.shard_id).cloned() else {
            return Err(None);
        };
        let Some(next) = write.apply(&row) else {
            return Err(Some(Box::new(row)));
        };
        assert!(
            next.checkpoint >= row.checkpoint,
            "a checkpoint went back: {write:?}"
        );
        assert!(next.counter >= row.counter);
        self.rows.insert(write.shard_id.clone(), next.clone());
        Ok(next)
    }

    /// Writes the lock if the row is as demanded.
    pub(super) fn lock(&mut self, claim: &Claim, row: LockRow) -> bool {
        let holds = claim.holds(self.lock.as_ref());
        if holds {
            self.lock = Some(row);
        }
        holds
    }

    /// Each row from a moment of its own, up to a second ago.
    pub(super) fn scan(&self, rand: &Rand) -> Vec<Lease> {
        let stale = |id: &ShardId, row: &Lease| {
            let back = rand.below(11) as usize;
            match self.past.len().checked_sub(back) {
                Some(at) if back > 0 => self.past[at].get(id).unwrap_or(row).clone(),
                _ => row.clone(),
            }
        };
        self.rows.iter().map(|(id, row)| stale(id, row)).collect()
    }

    pub(super) fn tick(&mut self) {
        self.past.push(self.rows.clone());
        if self.past.len() > 10 {
            self.past.remove(0);
        }
    }
}
