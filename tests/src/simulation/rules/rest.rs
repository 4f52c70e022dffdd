//! Whether the fleet is at rest.

use std::collections::BTreeMap;

use super::Checker;

impl Checker {
    /// What is not as it should be when nothing has failed for long; `None` at rest.
    pub(in crate::simulation) fn unrest(&self) -> Option<String> {
        let is_alive = |worker: &str| self.alive.iter().any(|alive| **alive == *worker);
        for (id, shard) in &self.shards {
            if self.waits_for_stopped(id) {
                continue;
            }
            let stands_still = self.stands_still(shard);
            let left = shard
                .records
                .iter()
                .filter(|_| !stands_still)
                .filter(|(_, kept)| self.is_left(id, kept));
            if let Some((first, _)) = left.clone().next() {
                let left = left.count();
                return Some(format!(
                    "{left} records of {id} are left, the first at {first}"
                ));
            }
            if !self.truth.open.contains(id) && !stands_still {
                if !self.has_ended(id) && !self.is_before_start(id) {
                    return Some(format!("{id} is closed and not checkpointed at its end"));
                }
                continue;
            }
            let Some(row) = &shard.row else {
                return Some(format!("{id} has no lease"));
            };
            let owner = row.owner.as_deref().filter(|owner| is_alive(owner));
            let Some(owner) = owner else {
                return Some(format!("no living worker owns {id}: {row}"));
            };
            if row.checkpoint_owner.is_some() {
                return Some(format!("{id} is in a handoff: {row}"));
            }
            let works = shard.newest.as_ref().map(|newest| &*newest.worker);
            if works != Some(owner) || shard.left.is_some() {
                return Some(format!("{owner} owns {id}, and works on it: {works:?}"));
            }
        }
        let leader = self.leader.as_deref();
        if !leader.is_some_and(is_alive) {
            return Some(format!("no living worker leads: {leader:?}"));
        }
        // Those that are closed have no end, and count.
        let mut closed = self
            .shards
            .iter()
            .filter(|(id, _)| !self.truth.open.contains(*id));
        let counts = self.truth.by_number && !closed.any(|(_, shard)| self.stands_still(shard));
        counts.then(|| self.uneven()).flatten()
    }

    fn uneven(&self) -> Option<String> {
        let mut counts: BTreeMap<&str, usize> =
            self.alive.iter().map(|worker| (&**worker, 0)).collect();
        for id in &self.truth.open {
            let row = self.shards.get(id).and_then(|shard| shard.row.as_ref());
            let owner = row.and_then(|row| row.owner.as_deref());
            if let Some(count) = owner.and_then(|owner| counts.get_mut(owner)) {
                *count += 1;
            }
        }
        let most = counts.values().max().copied().unwrap_or(0);
        let least = counts.values().min().copied().unwrap_or(0);
        (most > least + 1).then(|| format!("the shards are shared out unevenly: {counts:?}"))
    }
}
