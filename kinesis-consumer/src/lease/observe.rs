//! What this worker has seen of the leases of others: who is alive, without looking at any wall clock.
//!
//! Invariants:
//! - A lease is *expired* when its counter was the same in every scan for `failover_time`, counted on
//!   this worker's monotonic clock from the moment the answer that first showed it was here. The
//!   holder sent the write that made the counter before that.
//! - A lease that names this worker as its owner, but that it does not hold, is treated as any
//!   other's, unless it is certain that nobody works on it: this process took it itself, or it was
//!   seen being given to this worker. So a second process under the same worker id is no exception.
//! - A worker that gave leases back a short while ago and took none since is *leaving*: others do not
//!   leave work for it.

use std::collections::BTreeMap;
use std::time::Duration;

use kinesis_core::ShardId;
use tokio::time::Instant;

use super::Lease;
use super::tenure::Timing;

/// What one lease is to this worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    /// Nobody owns it.
    Unowned,
    /// Its holder has not renewed it for `failover_time`.
    Expired,
    /// It was given to this worker and the old owner is done with it.
    Assigned,
    /// A handoff to this worker is overdue; the old owner has fenced itself.
    Overdue,
    /// Somebody works on it.
    Active,
}

/// The memory of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    me: String,
    /// What every `acquisitionId` of this process begins with.
    process: String,
    timing: Timing,
    seen: BTreeMap<ShardId, Seen>,
    /// When a worker last gave a lease back.
    gave_back: BTreeMap<String, Instant>,
}

#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    /// When this counter was first seen.
    since: Instant,
    /// When this handoff was first seen.
    handoff_since: Option<Instant>,
    /// It was seen being given to this worker.
    assigned: bool,
}

impl Observer {
    pub(crate) fn new(me: &str, process: &str, timing: Timing) -> Self {
        Self {
            me: me.to_owned(),
            process: process.to_owned(),
            timing,
            seen: BTreeMap::new(),
            gave_back: BTreeMap::new(),
        }
    }

    /// Takes in a scan whose last answer came at `now`.
    pub(crate) fn scanned(&mut self, leases: &[Lease], now: Instant) {
        for lease in leases {
            self.saw(lease, now);
        }
        let keys: std::collections::BTreeSet<_> = leases.iter().map(|l| &l.shard_id).collect();
        self.seen.retain(|key, _| keys.contains(key));
        let failover = self.timing.failover;
        self.gave_back
            .retain(|_, at| now.duration_since(*at) < failover);
    }

    /// Takes in one row that was read at `now`.
    pub(crate) fn saw(&mut self, lease: &Lease, now: Instant) {
        let before = self.seen.get(&lease.shard_id);
        if let Some(before) = before {
            // An eventually consistent read may be older than what is known.
            if before.lease.counter > lease.counter {
                return;
            }
            note_leaving(&mut self.gave_back, &before.lease, lease, now);
        }
        let same_counter = before.filter(|before| before.lease.counter == lease.counter);
        // One take of a lease sees one handoff at most; the same two workers may have had another
        // one before it, with something in between that no scan showed.
        let same_handoff = before.filter(|before| {
            before.lease.owner == lease.owner
                && before.lease.checkpoint_owner == lease.checkpoint_owner
                && before.lease.acquisition == lease.acquisition
        });
        let seen = Seen {
            lease: lease.clone(),
            since: same_counter.map_or(now, |before| before.since),
            handoff_since: lease.is_in_handoff().then(|| {
                same_handoff
                    .and_then(|before| before.handoff_since)
                    .unwrap_or(now)
            }),
            assigned: self.is_assigned(before, lease),
        };
        self.seen.insert(lease.shard_id.clone(), seen);
    }

    fn is_assigned(&self, before: Option<&Seen>, lease: &Lease) -> bool {
        if lease.owner.as_deref() != Some(&self.me) || lease.is_in_handoff() {
            return false;
        }
        let taken_here = lease
            .acquisition
            .as_deref()
            .is_some_and(|id| id.starts_with(&self.process));
        let given = before.is_some_and(|before| {
            // Whoever takes a lease leaves a mark; who gives it away does not.
            let unmarked = before.lease.acquisition == lease.acquisition;
            let was_mine = before.lease.holder() == Some(&self.me);
            unmarked && (before.assigned || !was_mine)
        });
        taken_here || given
    }

    /// What `lease`, which this worker does not hold, is to it at `now`.
    pub(crate) fn standing(&self, lease: &Lease, now: Instant) -> Standing {
        if lease.holder().is_none() {
            return Standing::Unowned;
        }
        let Some(seen) = self.seen.get(&lease.shard_id) else {
            return Standing::Active;
        };
        if seen.assigned {
            return Standing::Assigned;
        }
        if now.duration_since(seen.since) >= self.timing.failover {
            return Standing::Expired;
        }
        match seen.handoff_since {
            Some(since) if now.duration_since(since) >= self.patience(lease) => Standing::Overdue,
            _ => Standing::Active,
        }
    }

    /// How long a handoff may take before this worker ends it. The worker that it is meant for comes
    /// first.
    fn patience(&self, lease: &Lease) -> Duration {
        let limit = self.timing.handoff + self.timing.failover;
        if lease.owner.as_deref() == Some(&self.me) {
            limit
        } else {
            limit + self.timing.failover
        }
    }

    /// Whether `lease` has been free for `failover_time` and nobody took it.
    pub(crate) fn is_unwanted(&self, lease: &Lease, now: Instant) -> bool {
        let free_after = lease
            .holder()
            .map_or(Duration::ZERO, |_| self.timing.failover);
        self.seen
            .get(&lease.shard_id)
            .is_some_and(|seen| now.duration_since(seen.since) >= free_after + self.timing.failover)
    }

    /// Whether `worker` gives its leases back.
    pub(crate) fn is_leaving(&self, worker: &str) -> bool {
        self.gave_back.contains_key(worker)
    }
}

/// Notes who gave a lease back, and forgets who took one.
fn note_leaving(
    gave_back: &mut BTreeMap<String, Instant>,
    before: &Lease,
    after: &Lease,
    now: Instant,
) {
    match (before.holder(), after.holder()) {
        (Some(old), None) if !after.is_ended() => {
            gave_back.insert(old.to_owned(), now);
        }
        (old, Some(new)) if old != Some(new) => {
            gave_back.remove(new);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
