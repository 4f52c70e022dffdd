//! Whom to take: the rules by which every worker, on its own, comes to its even share.
//!
//! 1. Leases that were given to this worker, or whose handoff to it is overdue, are its own: taken.
//! 2. Free leases (unowned, then expired) are taken up to this worker's share, which is
//!    `ceil(leases / workers)` over the leases that can be worked on and the workers that own one
//!    and are not leaving. A lease that stayed free for `failover_time` is taken in any case.
//! 3. When nothing is free, leases move by handoff from the worker with the most to the one with the
//!    fewest, as long as these differ by two or more. The moves are worked out in a fixed order
//!    from the table alone, so that all workers come to the same list, and each asks only for what
//!    goes to itself.
//!
//! Not counted and never taken: finished leases (`SHARD_END`), and leases with an unfinished parent.
//! In a handoff the lease counts for its next owner. A move of rule 3 makes the loads more even and
//! never the reverse, so that leases do not travel in circles.

use std::collections::BTreeMap;

use kinesis_core::{Rand, ShardId};

use super::Lease;
use super::observe::Standing;

/// One lease that can be worked on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) standing: Standing,
    /// It has been free for so long that nobody else seems to want it.
    pub(crate) unwanted: bool,
    /// This worker holds it.
    pub(crate) held: bool,
    /// Its owner is about to stop.
    pub(crate) owner_leaving: bool,
    /// This worker gave it back just now and leaves it to others for a while.
    pub(crate) resting: bool,
    /// Not to be taken now in any case: it was just tried, or its last handle is still in use.
    pub(crate) barred: bool,
}

/// The bounds of one worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) leases: usize,
    pub(crate) handoffs: usize,
}

/// What to do now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Plan {
    /// To take, in this order.
    pub(crate) take: Vec<ShardId>,
    /// To ask the present owner for.
    pub(crate) hand_over: Vec<ShardId>,
    /// Workers with a lease, this one included.
    pub(crate) workers: usize,
}

/// Works out what `me` does about `candidates`.
pub(crate) fn plan<'a>(
    me: &'a str,
    candidates: &[Candidate<'a>],
    limits: Limits,
    rand: &Rand,
) -> Plan {
    let loads = loads(me, candidates);
    let mine = loads.get(me).map_or(0, Vec::len);
    let mut plan = Plan {
        workers: loads.len(),
        ..Plan::default()
    };

    let given = candidates.iter().filter(|c| match c.standing {
        Standing::Assigned => true,
        Standing::Overdue => c.lease.owner.as_deref() == Some(me),
        Standing::Unowned | Standing::Expired | Standing::Active => false,
    });
    plan.take = given
        .filter(|c| !c.held && !c.barred)
        .map(|c| c.lease.shard_id.clone())
        .collect();

    let free: Vec<_> = candidates.iter().filter(|c| is_free(c, me)).collect();
    let kept: usize = loads.values().map(Vec::len).sum();
    let share = (kept + free.len())
        .div_ceil(plan.workers)
        .min(limits.leases);
    let room = share.saturating_sub(mine);
    let most = limits.leases.saturating_sub(mine);
    plan.take.extend(choose_free(&free, room, most, rand));

    if free.is_empty() {
        plan.hand_over = moves_to(me, loads, candidates, limits);
    }
    plan.take
        .truncate(limits.leases.saturating_sub(held(candidates)));
    plan
}

fn held(candidates: &[Candidate<'_>]) -> usize {
    candidates.iter().filter(|c| c.held).count()
}

/// The leases that stay with each worker, by id; leases that are free or whose owner is leaving are
/// nobody's.
fn loads<'a>(me: &'a str, candidates: &[Candidate<'a>]) -> BTreeMap<&'a str, Vec<&'a ShardId>> {
    let mut loads = BTreeMap::from([(me, Vec::new())]);
    for candidate in candidates {
        let owner = candidate.lease.owner.as_deref();
        let stays = candidate.held
            || match candidate.standing {
                Standing::Active => !candidate.owner_leaving,
                Standing::Assigned => true,
                Standing::Overdue => owner == Some(me),
                Standing::Expired | Standing::Unowned => false,
            };
        if let Some(owner) = owner.filter(|_| stays) {
            loads
                .entry(owner)
                .or_default()
                .push(&candidate.lease.shard_id);
        }
    }
    loads
}

fn is_free(candidate: &Candidate<'_>, me: &str) -> bool {
    if candidate.held || candidate.resting || candidate.barred {
        return false;
    }
    match candidate.standing {
        Standing::Unowned | Standing::Expired => true,
        Standing::Overdue => candidate.lease.owner.as_deref() != Some(me),
        Standing::Assigned | Standing::Active => false,
    }
}

/// Unowned ones first, each kind in an order of chance so that workers do not race for the same.
fn choose_free(free: &[&Candidate<'_>], room: usize, most: usize, rand: &Rand) -> Vec<ShardId> {
    let mut order = free.to_vec();
    rand.shuffle(&mut order);
    order.sort_by_key(|c| c.standing != Standing::Unowned);
    let (share, rest) = order.split_at(room.min(order.len()));
    let unwanted = rest.iter().filter(|c| c.unwanted);
    let chosen = share.iter().chain(unwanted).take(most);
    chosen.map(|c| c.lease.shard_id.clone()).collect()
}

/// The leases that `me` is to ask for so that all workers come to an even load.
fn moves_to(
    me: &str,
    mut loads: BTreeMap<&str, Vec<&ShardId>>,
    candidates: &[Candidate<'_>],
    limits: Limits,
) -> Vec<ShardId> {
    let in_handoff = |c: &&Candidate<'_>| c.lease.is_in_handoff();
    let pending = candidates
        .iter()
        .filter(in_handoff)
        .filter(|c| c.lease.owner.as_deref() == Some(me) && !c.held);
    let free_hands = limits.handoffs.saturating_sub(pending.count());
    let room = limits
        .leases
        .saturating_sub(loads.get(me).map_or(0, Vec::len));
    let moving: Vec<_> = candidates
        .iter()
        .filter(in_handoff)
        .map(|c| &c.lease.shard_id)
        .collect();

    let mut counts: BTreeMap<&str, usize> = loads.iter().map(|(w, l)| (*w, l.len())).collect();
    for leases in loads.values_mut() {
        leases.retain(|id| !moving.contains(id));
        leases.sort_unstable();
    }
    let mut asked = Vec::new();
    // Ends: every round takes one lease from a list, and a worker without any is left out.
    loop {
        let richest = counts
            .iter()
            .filter(|(worker, _)| loads.get(*worker).is_some_and(|l| !l.is_empty()))
            .max_by_key(|(worker, count)| (**count, std::cmp::Reverse(**worker)))
            .map(|(worker, count)| (*worker, *count));
        let poorest = counts
            .iter()
            .min_by_key(|(worker, count)| (**count, **worker))
            .map(|(worker, count)| (*worker, *count));
        let (Some((rich, most)), Some((poor, fewest))) = (richest, poorest) else {
            return asked;
        };
        if most < fewest + 2 {
            return asked;
        }
        let Some(lease) = loads.get_mut(rich).and_then(Vec::pop) else {
            return asked;
        };
        counts.insert(rich, most - 1);
        counts.insert(poor, fewest + 1);
        if poor == me {
            if asked.len() >= free_hands.min(room) {
                return asked;
            }
            asked.push(lease.clone());
        }
    }
}

#[cfg(test)]
mod tests;
