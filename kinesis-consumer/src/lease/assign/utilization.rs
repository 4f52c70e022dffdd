//! Leases by how busy the workers are: the KCL's variance-based rule.
//!
//! Each metric of a worker is smoothed and held against the average of all that have it. A worker
//! without metrics is weighed by the throughput of its leases. Free leases go to whoever is furthest
//! below the average, and it then counts as busier by what the lease delivers.
//!
//! When any worker is further above the average than the threshold, or above what it may rise to, it
//! gives leases: the damped part of its throughput that is too much, in an order of chance. Of several
//! metrics the one by which most is to be moved counts. Nobody gets a lease that would lift it above
//! the average or its range.
//!
//! When a worker is only further below the average, as one that is new in a large fleet, all that are
//! above it give, as long as half the threshold lets them. In the KCL just the busiest one gives, the
//! damped little that it is above: a fiftieth worker has its share after more than forty rounds there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use kinesis_core::{Rand, ShardId};

use super::{Fleet, Greatest, Plan, Rank, Rules};
use crate::lease::{Lease, UtilizationSettings};

/// The metric of workers that have none. Source: KCL 3.5.1.
const THROUGHPUT: &str = "T";
/// What throughput may rise to: the percentage of a fair share. Source: KCL 3.5.1.
const THROUGHPUT_RANGE: f64 = 100.0;

/// One metric of one worker.
#[derive(Clone, Copy, Debug)]
struct Gauge {
    value: f64,
    range: f64,
}

struct Busyness<'a> {
    how: UtilizationSettings,
    gauges: Vec<BTreeMap<&'a str, Gauge>>,
    averages: BTreeMap<&'a str, f64>,
    /// What the leases of each worker deliver, in KB/s.
    delivering: Vec<f64>,
    counts: Vec<usize>,
    /// What a lease of which it is not known delivers.
    usual: f64,
    /// A fair share of all there is.
    share: f64,
    leases_per_worker: f64,
    rules: Rules,
}

pub(super) fn plan(fleet: &Fleet<'_>, rules: Rules, how: UtilizationSettings, rand: &Rand) -> Plan {
    let mut busy = Busyness::new(fleet, rules, how);
    let mut plan = Plan::default();
    let mut idlest = busy.idlest();
    for candidate in &fleet.free {
        let lease = candidate.lease;
        let chosen = fleet
            .heir(candidate)
            .filter(|heir| busy.has_room(*heir))
            .or_else(|| busy.pop(&mut idlest, fleet.shunned(candidate)));
        let Some(place) = chosen else {
            plan.spillover += 1;
            continue;
        };
        busy.give(place, lease);
        busy.push(&mut idlest, place);
        plan.assign
            .push((lease.shard_id.clone(), fleet.name(place)));
    }
    if rules.rebalance {
        rebalance(fleet, &mut busy, &mut idlest, &mut plan, rand);
    }
    plan
}

/// By idleness, then by number of leases, then by place.
type Idlest = BinaryHeap<(Idleness, usize)>;
type Idleness = (Rank, Reverse<usize>, Reverse<usize>);

impl<'a> Busyness<'a> {
    fn new(fleet: &Fleet<'a>, rules: Rules, how: UtilizationSettings) -> Self {
        let known: Vec<f64> = fleet
            .candidates
            .iter()
            .filter_map(|c| Some(c.lease.throughput?.kbps()))
            .collect();
        let usual = known.iter().sum::<f64>() / (known.len().max(1) as f64);
        let workers = fleet.members.len().max(1) as f64;
        let mut busy = Self {
            how,
            gauges: Vec::new(),
            averages: BTreeMap::new(),
            delivering: vec![0.0; fleet.members.len()],
            counts: fleet.counts.clone(),
            usual,
            share: usual * fleet.candidates.len() as f64 / workers,
            leases_per_worker: (fleet.candidates.len() as f64 / workers).floor().max(1.0),
            rules,
        };
        for candidate in fleet.candidates.iter().filter(|c| !c.standing.is_free()) {
            if let Some(place) = fleet.place(candidate.lease.owner.as_deref()) {
                busy.delivering[place] += busy.kbps(candidate.lease);
            }
        }
        let alpha = f64::from(how.worker_metrics_ema_alpha_percentage) / 100.0;
        for (member, delivering) in fleet.members.iter().zip(&busy.delivering) {
            let gauge = |name: &'a String| {
                let range = member.ranges.get(name).copied().unwrap_or(u64::MAX) as f64;
                let value = member.smoothed(name, alpha)?;
                Some((name.as_str(), Gauge { value, range }))
            };
            let mut gauges: BTreeMap<_, _> = member.values.keys().filter_map(gauge).collect();
            if gauges.is_empty() {
                let part = if busy.share > 0.0 {
                    delivering / busy.share
                } else {
                    0.0
                };
                let gauge = Gauge {
                    value: part * 100.0,
                    range: THROUGHPUT_RANGE,
                };
                gauges.insert(THROUGHPUT, gauge);
            }
            busy.gauges.push(gauges);
        }
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for (name, gauge) in busy.gauges.iter().flatten() {
            let sum = sums.entry(name).or_default();
            *sum = (sum.0 + gauge.value, sum.1 + 1.0);
        }
        let averages = sums.into_iter().map(|(name, (sum, n))| (name, sum / n));
        busy.averages = averages.collect();
        busy
    }

    fn kbps(&self, lease: &Lease) -> f64 {
        lease.throughput.map_or(self.usual, |t| t.kbps())
    }

    fn average(&self, name: &str) -> f64 {
        self.averages.get(name).copied().unwrap_or(0.0)
    }

    fn has_room(&self, place: usize) -> bool {
        let most = self.how.max_throughput_per_host_kbps as f64;
        self.counts[place] < self.rules.leases_max && self.delivering[place] <= most
    }

    /// How far below the average, by the metric that is nearest to it. Of workers that are as idle,
    /// the one with fewer leases is idler.
    fn idleness(&self, place: usize) -> Idleness {
        let by = |(name, gauge): (&&str, &Gauge)| {
            if gauge.value == 0.0 {
                1.0
            } else {
                (self.average(name) - gauge.value) / gauge.value
            }
        };
        let least = self.gauges[place].iter().map(by).fold(f64::MAX, f64::min);
        (Rank(least), Reverse(self.counts[place]), Reverse(place))
    }

    fn idlest(&self) -> Idlest {
        let places = (0..self.gauges.len()).filter(|place| self.has_room(*place));
        places.map(|place| (self.idleness(place), place)).collect()
    }

    /// The idlest worker, the shunned one last.
    fn pop(&self, idlest: &mut Idlest, shunned: Option<usize>) -> Option<usize> {
        let mut passed = None;
        let mut chosen = None;
        while let Some((idleness, place)) = idlest.pop() {
            if !self.has_room(place) || idleness != self.idleness(place) {
                // It got a lease meanwhile and was put back with what it is now.
                continue;
            }
            if Some(place) == shunned {
                passed = Some((idleness, place));
                continue;
            }
            chosen = Some(place);
            break;
        }
        match (chosen, passed) {
            (Some(place), passed) => {
                idlest.extend(passed);
                Some(place)
            }
            (None, passed) => passed.map(|(_, place)| place),
        }
    }

    fn push(&self, idlest: &mut Idlest, place: usize) {
        if self.has_room(place) {
            idlest.push((self.idleness(place), place));
        }
    }

    /// What a metric with this average rises by with `lease`.
    fn rise(&self, average: f64, lease: &Lease) -> f64 {
        if self.share > 0.0 {
            self.kbps(lease) * average / self.share
        } else {
            average / self.leases_per_worker
        }
    }

    fn give(&mut self, place: usize, lease: &Lease) {
        let rises: Vec<(&str, f64)> = self.gauges[place]
            .keys()
            .map(|name| (*name, self.rise(self.average(name), lease)))
            .collect();
        for (name, rise) in rises {
            if let Some(gauge) = self.gauges[place].get_mut(name) {
                gauge.value += rise;
            }
        }
        self.delivering[place] += self.kbps(lease);
        self.counts[place] += 1;
    }

    fn would_be_too_busy(&self, place: usize, lease: &Lease) -> bool {
        self.gauges[place].iter().any(|(name, gauge)| {
            let average = self.average(name);
            let value = gauge.value + self.rise(average, lease);
            value > average || value > gauge.range
        })
    }

    /// What is to be taken from whom by `metric`, in KB/s.
    fn excess(&self, metric: &str) -> Vec<(usize, f64)> {
        let average = self.average(metric);
        let threshold = f64::from(self.how.rebalance_threshold_percentage) / 100.0;
        let (upper, lower) = (average * (1.0 + threshold), average * (1.0 - threshold));
        let with: Vec<(usize, Gauge)> = self
            .gauges
            .iter()
            .enumerate()
            .filter_map(|(place, gauges)| Some((place, *gauges.get(metric)?)))
            .collect();
        let too_busy = |gauge: &Gauge| gauge.value >= upper || gauge.value > gauge.range;
        if !with
            .iter()
            .any(|(_, gauge)| too_busy(gauge) || gauge.value < lower)
        {
            return Vec::new();
        }
        let mut givers: Vec<_> = with.iter().filter(|(_, gauge)| too_busy(gauge)).collect();
        let mut floor = average;
        let mut damping = f64::from(self.how.dampening_percentage) / 100.0;
        if givers.is_empty() {
            // Somebody has too little and nobody too much: a new worker in a large fleet.
            givers.extend(with.iter().filter(|(_, gauge)| gauge.value > average));
            floor = average * (1.0 - threshold / 2.0);
            damping = 1.0;
        }
        givers
            .into_iter()
            .filter(|(_, gauge)| gauge.value > 0.0)
            .map(|(place, gauge)| {
                let part = (gauge.value - floor) / gauge.value * damping;
                (*place, self.delivering[*place] * part)
            })
            .collect()
    }
}

fn rebalance(
    fleet: &Fleet<'_>,
    busy: &mut Busyness<'_>,
    idlest: &mut Idlest,
    plan: &mut Plan,
    rand: &Rand,
) {
    let total = |excess: &Vec<(usize, f64)>| Rank(excess.iter().map(|(_, kbps)| kbps).sum());
    let excess = busy.averages.keys().map(|metric| busy.excess(metric));
    let Some(mut excess) = excess.max_by_key(total) else {
        return;
    };
    excess.sort_by_key(|(_, kbps)| -> Greatest { Reverse(Rank(*kbps)) });
    let mut arriving = fleet.arriving.clone();
    for (giver, kbps) in excess {
        for lease in leases_to_take(fleet, busy, giver, kbps, rand) {
            let Some(taker) = busy
                .pop(idlest, Some(giver))
                .filter(|taker| *taker != giver)
            else {
                return;
            };
            if busy.would_be_too_busy(taker, lease) {
                // Nor would anybody else be better off with it; with a lesser one perhaps.
                busy.push(idlest, taker);
                continue;
            }
            busy.give(taker, lease);
            plan.hand_over
                .push((lease.shard_id.clone(), fleet.name(taker)));
            arriving[taker] += 1;
            if arriving[taker] < busy.rules.handoffs_max {
                busy.push(idlest, taker);
            }
        }
    }
}

/// Leases of `giver` that together deliver less than `kbps`; the least one if each delivers more.
fn leases_to_take<'a>(
    fleet: &Fleet<'a>,
    busy: &Busyness<'_>,
    giver: usize,
    kbps: f64,
    rand: &Rand,
) -> Vec<&'a Lease> {
    let mut leases = fleet.movable[giver].clone();
    leases.sort_unstable_by_key(|lease| -> &ShardId { &lease.shard_id });
    if busy.delivering[giver] == 0.0 {
        leases.truncate(1);
        return leases;
    }
    rand.shuffle(&mut leases);
    let mut rest = kbps;
    let mut taken = Vec::new();
    for lease in &leases {
        let delivers = busy.kbps(lease);
        if rest - delivers > 0.0 {
            rest -= delivers;
            taken.push(*lease);
        }
    }
    if taken.is_empty() && busy.how.allow_throughput_overshoot {
        let least = leases.iter().min_by_key(|lease| Rank(busy.kbps(lease)));
        taken.extend(least.copied());
    }
    taken
}
