//! What this worker has seen of the leases of others: who is alive, without looking at any wall clock.
//!
//! Invariants:
//! - A lease is *expired* when its counter was the same in every look for `failover_time`, counted on
//!   this worker's monotonic clock from the moment the answer that first showed it was here. The
//!   holder sent the write that made the counter before that.
//! - A handoff is *overdue* when its old owner must have fenced itself: `handoff_timeout` plus
//!   `failover_time` after it was first seen.
//!
//! The leader looks at all leases by its scans; any worker at those that name it as their owner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesis_core::ShardId;
use tokio::time::Instant;

use super::Lease;
use super::tenure::Timing;

/// What one lease is, to who watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nobody owns it.
    Unowned,
    /// Its holder has not renewed it for `failover_time`.
    Expired,
    /// A handoff is overdue; the old owner has fenced itself.
    Overdue,
    /// Somebody works on it, or is about to.
    Active,
}

impl Standing {
    /// Whether nobody works on it.
    pub(crate) fn is_free(self) -> bool {
        match self {
            Self::Unowned | Self::Expired | Self::Overdue => true,
            Self::Active => false,
        }
    }
}

/// The memory of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    timing: Timing,
    seen: BTreeMap<ShardId, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    /// When this counter was first seen.
    since: Instant,
    /// When this handoff was first seen.
    handoff_since: Option<Instant>,
    /// The holder was seen raising the counter.
    renewed: bool,
}

impl Observer {
    pub(crate) fn new(timing: Timing) -> Self {
        Self {
            timing,
            seen: BTreeMap::new(),
        }
    }

    /// Takes in a scan whose last answer came at `now`.
    pub(crate) fn scanned(&mut self, leases: &[Lease], now: Instant) {
        for lease in leases {
            self.saw(lease, now);
        }
        let keys: BTreeSet<_> = leases.iter().map(|l| &l.shard_id).collect();
        self.seen.retain(|key, _| keys.contains(key));
    }

    /// Takes in one row that was read at `now`.
    pub(crate) fn saw(&mut self, lease: &Lease, now: Instant) {
        let before = self.seen.get(&lease.shard_id);
        // An eventually consistent read may be older than what is known.
        if before.is_some_and(|before| before.lease.counter > lease.counter) {
            return;
        }
        let same_counter = before.filter(|before| before.lease.counter == lease.counter);
        // One take of a lease sees one handoff at most; the same two workers may have had another
        // one before it, with something in between that no look showed.
        let same_handoff = before.filter(|before| {
            before.lease.owner == lease.owner
                && before.lease.checkpoint_owner == lease.checkpoint_owner
                && before.lease.acquisition == lease.acquisition
        });
        let same_holder = before.filter(|before| before.lease.holder() == lease.holder());
        let seen = Seen {
            lease: lease.clone(),
            since: same_counter.map_or(now, |before| before.since),
            handoff_since: lease.is_in_handoff().then(|| {
                same_handoff
                    .and_then(|before| before.handoff_since)
                    .unwrap_or(now)
            }),
            renewed: same_holder
                .is_some_and(|before| before.renewed || before.lease.counter < lease.counter),
        };
        self.seen.insert(lease.shard_id.clone(), seen);
    }

    /// What `lease`, which this worker does not hold, is at `now`.
    pub(crate) fn standing(&self, lease: &Lease, now: Instant) -> Standing {
        if lease.holder().is_none() {
            return Standing::Unowned;
        }
        let Some(seen) = self.seen.get(&lease.shard_id) else {
            return Standing::Active;
        };
        if now.duration_since(seen.since) >= self.timing.failover {
            return Standing::Expired;
        }
        let patience = self.timing.handoff + self.timing.failover;
        match seen.handoff_since {
            Some(since) if now.duration_since(since) >= patience => Standing::Overdue,
            _ => Standing::Active,
        }
    }

    /// Since when the counter of `lease` has been what it is.
    pub(crate) fn since(&self, lease: &Lease) -> Option<Instant> {
        self.seen.get(&lease.shard_id).map(|seen| seen.since)
    }

    /// Whether the holder of `lease` was seen at work. One that was not may not know of it yet, and
    /// would not notice a handoff.
    pub(crate) fn is_at_work(&self, lease: &Lease) -> bool {
        self.seen
            .get(&lease.shard_id)
            .is_some_and(|seen| seen.renewed && seen.lease.holder() == lease.holder())
    }

    /// Whether `lease` has been free for `failover_time` and nobody took it.
    pub(crate) fn is_unwanted(&self, lease: &Lease, now: Instant) -> bool {
        let seen = self.seen.get(&lease.shard_id);
        seen.is_some_and(|seen| {
            let free_after = lease
                .holder()
                .map_or(Duration::ZERO, |_| self.timing.failover);
            let expired = now.duration_since(seen.since) >= free_after + self.timing.failover;
            let overdue = seen.handoff_since.is_some_and(|since| {
                now.duration_since(since) >= self.timing.handoff + 2 * self.timing.failover
            });
            expired || overdue
        })
    }
}

/// Whether the lease of `row` was given to `me`, and nobody else can be working on it: its last holder
/// was another worker, or this process itself. With an earlier process of the same name there is no
/// telling; its lease has to expire. Each process marks what it holds: `acquisition` is the worker's
/// name, the process, and which take it is, and `process` is the first two of these.
pub(crate) fn is_given(row: &Lease, me: &str, process: &str) -> bool {
    if row.owner.as_deref() != Some(me) || row.is_in_handoff() {
        return false;
    }
    match row.acquisition.as_deref() {
        None => true,
        Some(mark) if mark.starts_with(process) => true,
        Some(mark) => !mark.starts_with(&format!("{me}/")),
    }
}

#[cfg(test)]
mod tests;
