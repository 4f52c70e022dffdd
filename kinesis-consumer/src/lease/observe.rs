//! What this worker has seen of the leases of others: who is alive, without looking at any wall clock.
//!
//! Invariants:
//! - A lease is *expired* when its counter was the same in every look for `failover_time`, counted on
//!   this worker's monotonic clock from the moment the answer that first showed it was here. The
//!   holder sent the write that made the counter before that. A worker of a KCL renews by a time of its
//!   own, which no row tells; nor do the intervals at which its counters are seen to move, since it
//!   raises them by checkpoints too, and may have none for a while. So its leases are left alone for the
//!   longest time that a KCL may be set to (`kcl_failover_time`).
//! - An answer about a counter counts for that counter only, and memory of a row only while it is
//!   certain to be that row: one may be deleted and made anew, and then counts from zero. A lower
//!   counter soon after a higher one is a late read; otherwise it is another row, of which nothing is
//!   known.
//! - A handoff is *overdue* when its old owner must have fenced itself: `handoff_timeout` plus
//!   `failover_time` after it was first seen.
//!
//! The leader looks at all leases by its scans; any worker at those that name it as their owner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesis_core::ShardId;
use tokio::time::Instant;

use super::stats::WorkerStats;
use super::tenure::Timing;
use super::{FORMER_OWNER, Lease};

/// How late a read may show a lower counter than was seen before it. Source: none; an eventually
/// consistent read is behind by less than a second as a rule, and what is held to be a new row though
/// it was a late read costs a failover some seconds, and nothing else.
const LATE_READ: Duration = Duration::from_secs(3);

/// For how many `failover_time`s a row without a mark is remembered that was not looked at. Meanwhile it
/// may have been deleted and made anew with the very same counter; a mark names one take of one row
/// and does not come again. Source: none; between its first look and its first pass as a leader a
/// worker waits for the lock of a dead one, by default almost two. Where the scans are slower
/// than that, for twice the time between the last two.
const FAILOVERS_REMEMBERED: u32 = 3;

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
    /// What `failover_time` is for a lease that a KCL has.
    kcl_failover: Duration,
    /// The workers of a KCL, by the last look at the rows of metrics.
    kcl_workers: BTreeSet<String>,
    /// Those of ours, by the same.
    own_workers: BTreeSet<String>,
    seen: BTreeMap<ShardId, Seen>,
    /// When the last scan came.
    scanned: Option<Instant>,
    /// The time between the last two.
    gap: Duration,
}

#[derive(Clone, Debug)]
struct Seen {
    lease: Lease,
    /// When this counter was first seen.
    since: Instant,
    /// When it was last seen.
    sighted: Instant,
    /// When this handoff was first seen.
    handoff_since: Option<Instant>,
    /// The holder was seen raising the counter.
    renewed: bool,
}

impl Observer {
    pub(crate) fn new(timing: Timing, kcl_failover: Duration) -> Self {
        Self {
            timing,
            kcl_failover,
            kcl_workers: BTreeSet::new(),
            own_workers: BTreeSet::new(),
            seen: BTreeMap::new(),
            scanned: None,
            gap: Duration::ZERO,
        }
    }

    /// Takes in all rows of worker metrics. A KCL that lives has one.
    pub(crate) fn told(&mut self, stats: &[WorkerStats]) {
        let (ours, of_kcl): (Vec<_>, Vec<_>) = stats.iter().partition(|row| row.is_ours);
        let names =
            |rows: Vec<&WorkerStats>| rows.into_iter().map(|row| row.worker.clone()).collect();
        (self.own_workers, self.kcl_workers) = (names(ours), names(of_kcl));
    }

    /// Takes in a scan whose last answer came at `now`.
    pub(crate) fn scanned(&mut self, leases: &[Lease], now: Instant) {
        for lease in leases {
            self.saw(lease, now);
        }
        // For the next scan: a row is not remembered over a pause that came only once.
        let before = self.scanned.replace(now);
        self.gap = before.map_or(Duration::ZERO, |before| now.duration_since(before));
        let keys: BTreeSet<_> = leases.iter().map(|l| &l.shard_id).collect();
        self.seen.retain(|key, _| keys.contains(key));
    }

    /// Takes in one row that was read at `now`.
    pub(crate) fn saw(&mut self, lease: &Lease, now: Instant) {
        let memory = (self.timing.failover * FAILOVERS_REMEMBERED).max(self.gap * 2);
        let age = |before: &Seen| now.duration_since(before.sighted);
        let before = self.seen.get(&lease.shard_id);
        let before = before.filter(|before| {
            let mark = &before.lease.acquisition;
            age(before) < memory || (mark.is_some() && *mark == lease.acquisition)
        });
        // An eventually consistent read may be older than what is known.
        let is_lower = |before: &Seen| before.lease.counter > lease.counter;
        if before.is_some_and(|before| is_lower(before) && age(before) < LATE_READ) {
            return;
        }
        // A row that was deleted and made anew has nothing in common with the one before it.
        let before = before.filter(|before| !is_lower(before));
        // A handoff that begins changes neither the holder nor its mark, and does not prove life.
        let same_counter = before.filter(|before| {
            before.lease.counter == lease.counter
                && before.lease.holder() == lease.holder()
                && before.lease.acquisition == lease.acquisition
        });
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
            sighted: now,
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

    /// What is remembered of `lease` as it is, rather than of an earlier or later state of it.
    fn sight(&self, lease: &Lease) -> Option<&Seen> {
        let seen = self.seen.get(&lease.shard_id);
        seen.filter(|seen| seen.lease.counter == lease.counter)
    }

    /// How long the counter of `lease` has to stand still until nobody holds it.
    fn failover_of(&self, lease: &Lease) -> Duration {
        if self.may_be_of_kcl(lease) {
            self.kcl_failover
        } else {
            self.timing.failover
        }
    }

    /// Whether a KCL may be working by `lease`. One of ours marks what it takes, and the leader asks only for
    /// what was taken; what lacks its mark it was given, and has not taken. An operator asks for that, too.
    fn may_be_of_kcl(&self, lease: &Lease) -> bool {
        let Some(holder) = lease.holder().filter(|by| lease.marked_by() != Some(by)) else {
            return false;
        };
        // The row of a KCL's lease may be the one that was deleted.
        let is_of_kcl = self.kcl_workers.contains(holder)
            || holder == FORMER_OWNER && !self.kcl_workers.is_empty();
        // Who does not lead knows no rows of metrics.
        is_of_kcl || lease.is_in_handoff() && !self.own_workers.contains(holder)
    }

    /// What `lease`, which this worker does not hold, is at `now`.
    pub(crate) fn standing(&self, lease: &Lease, now: Instant) -> Standing {
        if lease.holder().is_none() {
            return Standing::Unowned;
        }
        let Some(seen) = self.sight(lease) else {
            return Standing::Active;
        };
        let failover = self.failover_of(lease);
        if now.duration_since(seen.since) >= failover {
            return Standing::Expired;
        }
        let patience = self.timing.handoff + failover;
        match seen.handoff_since {
            Some(since) if now.duration_since(since) >= patience => Standing::Overdue,
            _ => Standing::Active,
        }
    }

    /// Since when the counter of `lease` has been what it is.
    pub(crate) fn since(&self, lease: &Lease) -> Option<Instant> {
        self.sight(lease).map(|seen| seen.since)
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
        self.sight(lease).is_some_and(|seen| {
            let failover = self.failover_of(lease);
            let free_after = lease.holder().map_or(Duration::ZERO, |_| failover);
            let expired = now.duration_since(seen.since) >= free_after + self.timing.failover;
            let overdue = seen.handoff_since.is_some_and(|since| {
                let patience = self.timing.handoff + failover;
                now.duration_since(since) >= patience + self.timing.failover
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
    let mark = row.acquisition.as_deref();
    let of_this_process = mark.is_some_and(|mark| mark.starts_with(process));
    row.owner.as_deref() == Some(me) && !row.is_in_handoff() && (is_untaken(row) || of_this_process)
}

/// Whether the owner of `row`, a worker of this crate, was given the lease and did not take it: it would
/// have marked it. A KCL works by a lease that it was given without a write.
pub(crate) fn is_untaken(row: &Lease) -> bool {
    row.owner.is_some() && !row.is_in_handoff() && row.marked_by() != row.owner.as_deref()
}

#[cfg(test)]
mod tests;
