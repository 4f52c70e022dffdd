//! Whom to give which lease: the leader's rules, by number ([`count`]) or by how busy the workers are
//! ([`utilization`]).
//!
//! Both give away what is free at once, and move by handoff what is worked on. Both look only at what
//! one scan showed, so that a new leader goes on where the last one stopped.
//!
//! Not looked at and never moved: finished leases (`SHARD_END`), and leases with an unfinished parent.
//! In a handoff a lease counts for its next owner, and is not asked for again. A lease whose owner is
//! not a member (it is about to leave, or its metrics are old) stays with it until it is free.
//!
//! A free lease goes to the worker that was to have it by a handoff, if that is a member; else not to
//! the worker that let it expire or gave it back, if there is another.

mod count;
mod utilization;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use kinesis_core::{Rand, ShardId};
use tokio::time::Instant;

use super::observe::Standing;
use super::stats::WorkerStats;
use super::{Lease, LeaseAssignment};

/// One lease that can be worked on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) standing: Standing,
    /// Since when its counter is what it is.
    pub(crate) since: Option<Instant>,
    /// Its holder was seen at work, so that it would notice a handoff.
    pub(crate) at_work: bool,
}

/// The bounds of each worker, and what is to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) assignment: LeaseAssignment,
    pub(crate) leases_max: usize,
    pub(crate) handoffs_max: usize,
    /// Whether leases may be moved by utilisation in this pass.
    pub(crate) rebalance: bool,
}

/// What to do now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Plan {
    /// Free leases and who gets them.
    pub(crate) assign: Vec<(ShardId, String)>,
    /// Leases to be asked for, and for whom.
    pub(crate) hand_over: Vec<(ShardId, String)>,
    /// Free leases that no worker has room for.
    pub(crate) spillover: usize,
}

/// Works out who gets what. `members` are the workers that may get leases, each once.
pub(crate) fn plan(
    candidates: &[Candidate<'_>],
    members: &[WorkerStats],
    rules: Rules,
    rand: &Rand,
) -> Plan {
    let fleet = Fleet::new(candidates, members);
    match rules.assignment {
        LeaseAssignment::WorkerUtilization(how) if fleet.has_metrics() => {
            utilization::plan(&fleet, rules, how, rand)
        }
        LeaseAssignment::WorkerUtilization(_) | LeaseAssignment::LeaseCount => {
            count::plan(&fleet, rules)
        }
    }
}

/// The candidates, by what there is to do with them. Workers go by their place in `members`.
struct Fleet<'a> {
    members: &'a [WorkerStats],
    places: BTreeMap<&'a str, usize>,
    candidates: &'a [Candidate<'a>],
    /// In the order in which to give them away.
    free: Vec<&'a Candidate<'a>>,
    /// How many leases each worker has or is about to have.
    counts: Vec<usize>,
    /// What may be moved away from each worker.
    movable: Vec<Vec<&'a Lease>>,
    /// Handoffs under way to each worker.
    arriving: Vec<usize>,
}

impl<'a> Fleet<'a> {
    fn new(candidates: &'a [Candidate<'a>], members: &'a [WorkerStats]) -> Self {
        let places = members
            .iter()
            .enumerate()
            .map(|(place, member)| (member.worker.as_str(), place));
        let mut fleet = Self {
            members,
            places: places.collect(),
            candidates,
            free: candidates.iter().filter(|c| c.standing.is_free()).collect(),
            counts: vec![0; members.len()],
            movable: vec![Vec::new(); members.len()],
            arriving: vec![0; members.len()],
        };
        // Those that nobody owns first, then those that have been alone for longest.
        fleet
            .free
            .sort_by_key(|c| (c.standing != Standing::Unowned, c.since, &c.lease.shard_id));
        for candidate in candidates.iter().filter(|c| !c.standing.is_free()) {
            let Some(place) = fleet.place(candidate.lease.owner.as_deref()) else {
                continue;
            };
            fleet.counts[place] += 1;
            if candidate.lease.is_in_handoff() {
                fleet.arriving[place] += 1;
            } else if candidate.at_work {
                fleet.movable[place].push(candidate.lease);
            }
        }
        fleet
    }

    fn place(&self, worker: Option<&str>) -> Option<usize> {
        self.places.get(worker?).copied()
    }

    fn name(&self, place: usize) -> String {
        self.members[place].worker.clone()
    }

    fn has_metrics(&self) -> bool {
        self.members.iter().any(|member| !member.values.is_empty())
    }

    /// Who was to have a free lease by a handoff that did not come to its end.
    fn heir(&self, candidate: &Candidate<'_>) -> Option<usize> {
        let in_handoff = candidate.lease.is_in_handoff();
        self.place(candidate.lease.owner.as_deref().filter(|_| in_handoff))
    }

    /// Who had a free lease last, and so is to get it back only if there is nobody else.
    fn shunned(&self, candidate: &Candidate<'_>) -> Option<usize> {
        let lease = candidate.lease;
        self.place(lease.holder().or_else(|| lease.marked_by()))
    }
}

/// Picks from an ordered walk over workers: the first that is not shunned, else the shunned one.
fn pick<T: Copy>(
    in_order: impl Iterator<Item = (T, usize)>,
    shunned: Option<usize>,
) -> Option<(T, usize)> {
    let mut last_resort = None;
    for (rank, place) in in_order {
        if Some(place) != shunned {
            return Some((rank, place));
        }
        last_resort = Some((rank, place));
    }
    last_resort
}

/// A number to order by that may be a fraction.
#[derive(Clone, Copy, Debug)]
struct Rank(f64);

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The greatest first.
type Greatest = Reverse<Rank>;

#[cfg(test)]
mod tests;
