//! Leases by how busy the workers are: the KCL's variance-based rule, and what it lacks.
//!
//! Each metric of a worker is smoothed and held against its *target*: the average of all workers, or what
//! it may rise to if that is less; the others' targets are higher then. Free leases go to whoever is furthest
//! below its target, and it then counts as busier by what the lease delivers.
//!
//! When any worker is further above its target than the threshold, or above what it may rise to, it
//! gives leases: the damped part of its throughput that is too much, in an order of chance. Of several
//! metrics the one by which most is to be moved counts. Nobody gets a lease that would lift it above
//! its target; within the threshold it may, if it relieves a worker that is above what it may rise to.
//!
//! Where this differs from the KCL:
//! - When a worker is only further below its target, as one that is new in a large fleet, all that are
//!   above theirs give, as long as half the threshold lets them. In the KCL just the busiest one gives, the
//!   damped little that it is above: a fiftieth worker has its share after more than forty rounds there.
//! - Nobody gets a lease either with which it would be above the threshold by what its own leases cost it. By
//!   the average of the fleet alone, as in the KCL, a weak machine takes a lease, is too busy with it, gives it
//!   back, and so on for ever.
//! - A worker that may rise less than the average leaves the rest to the others. In the KCL these are all
//!   above the average then, and take nothing.
//! - A worker that does not tell of a metric counts as one whose machine is as those of the others are on
//!   average. In the KCL it is held against its like alone, by throughput.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use kinesis_core::{Rand, ShardId};

use super::{Fleet, Greatest, Plan, Rank, Rules};
use crate::lease::stats::WorkerStats;
use crate::lease::{Lease, UtilizationSettings};

/// What a metric may rise to on a worker that does not tell of it, in percent. Source: KCL 3.5.1, as
/// for its own metrics.
const RANGE_DEFAULT: f64 = 100.0;

/// The least part of a fair share that a worker has to deliver for its own cost to be told by it: below,
/// most of what it shows may be other work. Source: none; so its cost is at most three times the average
/// as long as it is below its target.
const TELLING_PART: f64 = 1.0 / 3.0;

/// One metric of one worker.
#[derive(Clone, Copy, Debug)]
struct Gauge {
    value: f64,
    /// The same, with leases given in this pass at what the worker's own cost.
    feared: f64,
    range: f64,
    /// What it is to be: the average, or its range if that is less.
    target: f64,
    /// What a KB/s costs this worker.
    own_cost: f64,
}

struct Busyness<'a> {
    how: UtilizationSettings,
    /// One of each metric of the fleet, for each worker.
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
    /// Which part of all there is is free.
    free: f64,
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
            free: 0.0,
            leases_per_worker: (fleet.candidates.len() as f64 / workers).floor().max(1.0),
            rules,
        };
        for candidate in fleet.candidates.iter().filter(|c| !c.standing.is_free()) {
            if let Some(place) = fleet.place(candidate.lease.owner.as_deref()) {
                busy.delivering[place] += busy.kbps(candidate.lease);
            }
        }
        if busy.share > 0.0 {
            let free = fleet.free.iter().map(|free| busy.kbps(free.lease));
            busy.free = free.sum::<f64>() / busy.share / workers;
        }
        let alpha = f64::from(how.worker_metrics_ema_alpha_percentage) / 100.0;
        let metrics: BTreeSet<&'a str> = (fleet.members.iter())
            .flat_map(|member| member.values.keys().map(String::as_str))
            .collect();
        busy.gauges = vec![BTreeMap::new(); fleet.members.len()];
        for metric in metrics {
            let told = |member: &WorkerStats| {
                let range = member.ranges.get(metric).map(|range| *range as f64);
                Some((member.smoothed(metric, alpha)?, range?))
            };
            busy.measure(metric, fleet.members.iter().map(told).collect());
        }
        busy
    }

    /// Notes one metric: what each worker tells of it and may rise to, if it tells.
    fn measure(&mut self, metric: &'a str, told: Vec<Option<(f64, f64)>>) {
        let sum_of_tellers = |of: &dyn Fn(usize, f64) -> f64| -> f64 {
            let tellers = told.iter().enumerate();
            tellers
                .filter_map(|(place, told)| Some(of(place, told.as_ref()?.0)))
                .sum()
        };
        let values = sum_of_tellers(&|_, value| value);
        let delivering = sum_of_tellers(&|place, _| self.delivering[place]);
        let counts = sum_of_tellers(&|place, _| self.counts[place] as f64);
        let guess = |place: usize| {
            if delivering > 0.0 {
                values / delivering * self.delivering[place]
            } else if counts > 0.0 {
                values / counts * self.counts[place] as f64
            } else {
                0.0
            }
        };
        let told: Vec<(f64, f64)> = told
            .iter()
            .enumerate()
            .map(|(place, told)| told.unwrap_or_else(|| (guess(place), RANGE_DEFAULT)))
            .collect();
        let sum: f64 = told.iter().map(|(value, _)| value).sum();
        let average = sum / told.len().max(1) as f64;
        // What is free is somebody's in a moment.
        let free = self.free * told.len() as f64 * average;
        let ranges = told.iter().map(|(_, range)| *range);
        let level = level(ranges.collect(), sum + free);
        for (place, (value, range)) in told.into_iter().enumerate() {
            let telling = self.delivering[place].max(self.share * TELLING_PART);
            let gauge = Gauge {
                value,
                feared: value,
                range,
                target: level.min(range),
                own_cost: if telling > 0.0 { value / telling } else { 0.0 },
            };
            self.gauges[place].insert(metric, gauge);
        }
        self.averages.insert(metric, average);
    }

    fn kbps(&self, lease: &Lease) -> f64 {
        lease.throughput.map_or(self.usual, |t| t.kbps())
    }

    fn has_room(&self, place: usize) -> bool {
        let most = self.how.max_throughput_per_host_kbps as f64;
        self.counts[place] < self.rules.leases_max && self.delivering[place] <= most
    }

    /// How far below its target, by the metric that is nearest to it. Of workers that are as idle,
    /// the one with fewer leases is idler.
    fn idleness(&self, place: usize) -> Idleness {
        let by = |gauge: &Gauge| {
            if gauge.value == 0.0 {
                1.0
            } else {
                (gauge.target - gauge.value) / gauge.value
            }
        };
        let least = self.gauges[place].values().map(by).fold(f64::MAX, f64::min);
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

    /// What a metric rises by with `lease`, by the average of the fleet.
    fn rise(&self, metric: &str, lease: &Lease) -> f64 {
        let average = self.averages.get(metric).copied().unwrap_or(0.0);
        if self.share > 0.0 {
            self.kbps(lease) * average / self.share
        } else {
            average / self.leases_per_worker
        }
    }

    /// The gauges of a worker if it had `lease` too.
    fn with(&self, place: usize, lease: &Lease) -> impl Iterator<Item = (&'a str, Gauge)> {
        let kbps = self.kbps(lease);
        self.gauges[place].iter().map(move |(metric, gauge)| {
            let rise = self.rise(metric, lease);
            let gauge = Gauge {
                value: gauge.value + rise,
                feared: gauge.feared + rise.max(kbps * gauge.own_cost),
                ..*gauge
            };
            (*metric, gauge)
        })
    }

    fn give(&mut self, place: usize, lease: &Lease) {
        self.gauges[place] = self.with(place, lease).collect();
        self.delivering[place] += self.kbps(lease);
        self.counts[place] += 1;
    }

    /// Whether a worker is above what it may rise to.
    fn is_over_range(&self, place: usize) -> bool {
        let mut gauges = self.gauges[place].values();
        gauges.any(|gauge| gauge.value > gauge.range)
    }

    /// Whether a worker is not to have `lease`. One that `relieves` another, which is above what it may rise
    /// to, may come to be above its own target, within the threshold.
    fn would_be_too_busy(&self, place: usize, lease: &Lease, relieves: bool) -> bool {
        let upper = 1.0 + self.threshold();
        self.with(place, lease).any(|(_, gauge)| {
            (gauge.value > gauge.target && !relieves)
                || gauge.feared > gauge.target * upper
                || gauge.feared > gauge.range
        })
    }

    fn threshold(&self) -> f64 {
        f64::from(self.how.rebalance_threshold_percentage) / 100.0
    }

    /// What is to be taken from whom by `metric`, in KB/s.
    fn excess(&self, metric: &str) -> Vec<(usize, f64)> {
        let threshold = self.threshold();
        let with: Vec<(usize, Gauge)> = self
            .gauges
            .iter()
            .enumerate()
            .filter_map(|(place, gauges)| Some((place, *gauges.get(metric)?)))
            .collect();
        let too_busy = |gauge: &Gauge| {
            gauge.value >= gauge.target * (1.0 + threshold) || gauge.value > gauge.range
        };
        let too_idle = |gauge: &Gauge| gauge.value < gauge.target * (1.0 - threshold);
        if !with
            .iter()
            .any(|(_, gauge)| too_busy(gauge) || too_idle(gauge))
        {
            return Vec::new();
        }
        let mut givers: Vec<_> = with.iter().filter(|(_, gauge)| too_busy(gauge)).collect();
        let mut floor = 1.0;
        let mut damping = f64::from(self.how.dampening_percentage) / 100.0;
        if givers.is_empty() {
            // Somebody has too little and nobody too much: a new worker in a large fleet.
            givers.extend(with.iter().filter(|(_, gauge)| gauge.value > gauge.target));
            floor = 1.0 - threshold / 2.0;
            damping = 1.0;
        }
        givers
            .into_iter()
            .filter(|(_, gauge)| gauge.value > 0.0)
            .map(|(place, gauge)| {
                let part = (gauge.value - gauge.target * floor) / gauge.value * damping;
                (*place, self.delivering[*place] * part)
            })
            .collect()
    }
}

/// The level that `sum` comes to in vessels of these heights that are filled together; above all of them
/// if they cannot hold it.
fn level(mut heights: Vec<f64>, mut sum: f64) -> f64 {
    heights.sort_by(f64::total_cmp);
    for (full, height) in heights.iter().enumerate() {
        let even = sum / (heights.len() - full) as f64;
        if even <= *height {
            return even;
        }
        sum -= height;
    }
    f64::MAX
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
        let relieves = busy.is_over_range(giver);
        for lease in leases_to_take(fleet, busy, giver, kbps, rand) {
            let Some(taker) = busy
                .pop(idlest, Some(giver))
                .filter(|taker| *taker != giver)
            else {
                return;
            };
            if busy.would_be_too_busy(taker, lease, relieves) {
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
