//! The same number of leases for each worker.
//!
//! A move makes the numbers more even and never the reverse, so that leases do not travel in circles.

use std::collections::BTreeSet;

use super::{Fleet, Plan, Rules, pick};
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};

pub(super) fn plan(fleet: &Fleet<'_>, rules: Rules) -> Plan {
    let mut plan = Plan::default();
    let mut counts = fleet.counts.clone();
    let has_room = |count: usize| count < rules.leases_max;
    let mut poorest: BTreeSet<(usize, usize)> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| has_room(**count))
        .map(|(place, count)| (*count, place))
        .collect();

    for candidate in &fleet.free {
        let heir = fleet.heir(candidate).filter(|heir| has_room(counts[*heir]));
        let chosen = heir.or_else(|| {
            let order = poorest.iter().copied();
            pick(order, fleet.shunned(candidate)).map(|(_, place)| place)
        });
        let Some(place) = chosen else {
            plan.spillover += 1;
            continue;
        };
        poorest.remove(&(counts[place], place));
        counts[place] += 1;
        if has_room(counts[place]) {
            poorest.insert((counts[place], place));
        }
        let id = candidate.lease.shard_id.clone();
        plan.assign.push((id, fleet.name(place)));
    }
    even_out(fleet, rules, counts, poorest, &mut plan);
    plan
}

/// Moves from the richest to the poorest while they differ by two or more.
fn even_out(
    fleet: &Fleet<'_>,
    rules: Rules,
    mut counts: Vec<usize>,
    mut poorest: BTreeSet<(usize, usize)>,
    plan: &mut Plan,
) {
    let mut arriving = fleet.arriving.clone();
    poorest.retain(|(_, place)| arriving[*place] < rules.handoffs_max);
    let mut movable = fleet.movable.clone();
    for leases in &mut movable {
        leases.sort_unstable_by_key(|lease| &lease.shard_id);
    }
    let mut richest: BTreeSet<(usize, usize)> = counts
        .iter()
        .enumerate()
        .filter(|(place, _)| !movable[*place].is_empty())
        .map(|(place, count)| (*count, place))
        .collect();
    while let (Some(rich), Some(poor)) = (richest.last().copied(), poorest.first().copied()) {
        let is_even = rich.0 < poor.0 + 2;
        #[cfg(feature = "mutations")]
        let is_even = is_even && !(mutation::is(Mutation::EvensOutForEver) && rich.0 > poor.0);
        if is_even {
            return;
        }
        richest.remove(&rich);
        let Some(lease) = movable[rich.1].pop() else {
            continue;
        };
        let (rich, poor) = (rich.1, poor.1);
        for (place, grows) in [(rich, false), (poor, true)] {
            let before = counts[place];
            counts[place] = if grows { before + 1 } else { before - 1 };
            for set in [&mut richest, &mut poorest] {
                if set.remove(&(before, place)) {
                    set.insert((counts[place], place));
                }
            }
        }
        if !movable[rich].is_empty() {
            richest.insert((counts[rich], rich));
        }
        arriving[poor] += 1;
        if arriving[poor] >= rules.handoffs_max || counts[poor] >= rules.leases_max {
            poorest.remove(&(counts[poor], poor));
        }
        let to = fleet.name(poor);
        plan.hand_over.push((lease.shard_id.clone(), to));
    }
}
