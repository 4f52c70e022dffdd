//! A fleet on a table in memory, for the benches of this crate: what a pass of the leader works out,
//! without DynamoDB. No part of the API: it changes without notice.
//!
//! [`Fleet::pass`] does what the leader does with one scan: it takes in the rows of leases and workers,
//! finds what is free, blocked and at work, who may get leases, and who gets which. Then the rows become
//! what the fleet would make of them by the next scan: every holder has renewed, what was given away is
//! taken, and a handoff has come to its end.

mod streams;

use std::time::Duration;

use kinesis_core::{Clock, Position, Rand, ShardId};
use tokio::time::Instant;

use super::assign::{self, Candidate, Rules};
use super::lineage::Lineage;
use super::observe::Observer;
use super::roster::Roster;
use super::stats::{CPU, VALUES_MAX, WorkerStats};
use super::tenure::Timing;
use super::{Lease, LeaseAssignment, LeaseSettings, Throughput};

pub use streams::ManyStreams;

/// From one pass to the next; reports of the workers come as often here.
const PASS_EVERY: Duration = Duration::from_secs(3);
/// CPU of a worker with an average load, in percent. Source: none.
const CPU_AVERAGE: f64 = 50.0;
/// What it may rise to. Source: the default.
const CPU_RANGE: u64 = 100;

/// Leases, workers, and the leader's memory of both.
#[derive(Debug)]
pub struct Fleet {
    assignment: LeaseAssignment,
    settings: LeaseSettings,
    leases: Vec<Lease>,
    workers: usize,
    observer: Observer,
    roster: Roster,
    rand: Rand,
    now: Instant,
    now_millis: u64,
}

/// What one [`Fleet::pass`] came to.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Moves {
    /// Free leases given away.
    pub assigned: usize,
    /// Handoffs begun.
    pub handed_over: usize,
}

/// A worker's name, as long as those the consumer makes up.
fn name(worker: usize) -> String {
    format!("ip-10-0-0-1.eu-central-1.compute.internal:{worker:08x}")
}

/// What a lease delivers in KB/s, when they are not alike: from 1 to 97.
fn kbps(lease: usize) -> f64 {
    1.0 + (lease * 7919 % 97) as f64
}

impl Fleet {
    /// `workers` workers, of whom the first `holders` hold `leases` leases evenly; with 0 holders all
    /// leases are free.
    #[must_use]
    pub fn new(assignment: LeaseAssignment, leases: usize, holders: usize, workers: usize) -> Self {
        let settings = LeaseSettings::default();
        let clock = Clock::system();
        let row = |index: usize| Lease {
            owner: (holders > 0).then(|| name(index % holders)),
            counter: 1,
            throughput: Throughput::of_kbps(kbps(index)),
            ..Lease::new(ShardId::from_index(index as u64), Position::TrimHorizon)
        };
        let mut fleet = Self {
            assignment,
            leases: (0..leases).map(row).collect(),
            workers,
            observer: Observer::new(Timing::of(&settings), settings.failover_of_kcl()),
            roster: Roster::new(settings.worker_metrics_interval, settings.failover_time),
            rand: Rand::seeded(1),
            now: clock.now(),
            now_millis: clock.epoch_millis(),
            settings,
        };
        // Whoever holds a lease was seen at work before.
        fleet.observer.scanned(&fleet.leases, fleet.now);
        fleet.goes_on();
        fleet
    }

    /// The workers' rows: as busy, for some time, as what they hold makes them.
    fn reports(&self) -> Vec<WorkerStats> {
        let loads = self.loads();
        let average = loads.iter().sum::<f64>() / loads.len().max(1) as f64;
        let report = |(worker, load): (usize, &f64)| {
            let mut stats = WorkerStats::new(&name(worker), self.now_millis / 1_000);
            let busy = (load / average.max(1.0) * CPU_AVERAGE).min(CPU_RANGE as f64);
            for _ in 0..VALUES_MAX {
                stats.record(CPU, Some(busy), CPU_RANGE);
            }
            stats
        };
        loads.iter().enumerate().map(report).collect()
    }

    fn held_by(&self) -> impl Iterator<Item = (usize, &Lease)> {
        self.leases.iter().filter_map(|lease| {
            let (_, number) = lease.holder()?.rsplit_once(':')?;
            Some((usize::from_str_radix(number, 16).ok()?, lease))
        })
    }

    /// What each worker's leases deliver, in KB/s.
    #[must_use]
    pub fn loads(&self) -> Vec<f64> {
        let mut loads = vec![0.0; self.workers];
        for (worker, lease) in self.held_by() {
            loads[worker] += lease.throughput.map_or(0.0, Throughput::kbps);
        }
        loads
    }

    /// How many leases each worker holds.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.workers];
        for (worker, _) in self.held_by() {
            counts[worker] += 1;
        }
        counts
    }

    /// Works out one pass, told `reports`, and returns it with what it comes to.
    fn plan(&mut self, reports: Vec<WorkerStats>) -> assign::Plan {
        self.observer.scanned(&self.leases, self.now);
        let lineage = Lineage::new(&self.leases, &[]);
        let open = self.leases.iter().filter(|lease| !lease.is_ended());
        let candidates: Vec<_> = open
            .filter(|lease| !lineage.is_blocked(lease))
            .map(|lease| Candidate {
                lease,
                standing: self.observer.standing(lease, self.now),
                since: self.observer.since(lease),
                at_work: self.observer.is_at_work(lease),
            })
            .collect();
        self.roster.scanned(&reports, self.now, self.now_millis);
        let members = self
            .roster
            .members(reports, &candidates, Some(&name(0)), self.now);
        let rules = Rules {
            assignment: self.assignment,
            leases_max: self.settings.max_leases_for_worker as usize,
            handoffs_max: self.settings.max_handoffs_at_once as usize,
            rebalance: true,
        };
        assign::plan(&candidates, &members, rules, &self.rand)
    }

    /// One pass of the leader, and what the fleet does until the next. `timed` is given what a leader
    /// has to work out, as a function to be called once.
    ///
    /// # Panics
    /// If `timed` does not call it.
    pub fn pass(&mut self, timed: impl FnOnce(&mut dyn FnMut())) -> Moves {
        let mut reports = Some(self.reports());
        let mut plan = None;
        timed(&mut || plan = reports.take().map(|reports| self.plan(reports)));
        let plan = plan.expect("a pass was made");
        let moves = Moves {
            assigned: plan.assign.len(),
            handed_over: plan.hand_over.len(),
        };
        for (id, to) in plan.assign.into_iter().chain(plan.hand_over) {
            let index = id.index().and_then(|index| usize::try_from(index).ok());
            let lease = index.and_then(|index| self.leases.get_mut(index));
            let lease = lease.expect("a lease of the table");
            lease.owner = Some(to);
            // Seen by the leader as its own write was answered.
            lease.counter += 1;
            self.observer.saw(lease, self.now);
        }
        self.goes_on();
        moves
    }

    fn goes_on(&mut self) {
        for lease in self.leases.iter_mut().filter(|lease| lease.owner.is_some()) {
            lease.counter += 1;
        }
        self.now += PASS_EVERY;
        self.now_millis += PASS_EVERY.as_millis() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::UtilizationSettings;

    /// Passes until nothing moves any more.
    fn passes(fleet: &mut Fleet) -> usize {
        let busy = |_: &usize| fleet.pass(|plan| plan()) != Moves::default();
        (1..=100).take_while(busy).count()
    }

    fn spread<T: PartialOrd + Copy>(values: &[T]) -> (T, T) {
        let mut sorted = values.to_vec();
        sorted.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        (sorted[0], sorted[sorted.len() - 1])
    }

    /// Leases, workers, and who holds all leases at first.
    fn fleets() -> impl Iterator<Item = (usize, usize, usize)> {
        let small = [0, 1, 10, 25, 49].map(|holders| (2_000, holders, 50));
        let large = [0, 250, 499].map(|holders| (20_000, holders, 500));
        small.into_iter().chain(large)
    }

    #[test]
    fn forty_leases_a_worker_are_shared_out_within_ten_passes_whoever_holds_them_at_first() {
        for (leases, holders, workers) in fleets() {
            let mut fleet = Fleet::new(LeaseAssignment::LeaseCount, leases, holders, workers);
            let passes = passes(&mut fleet);
            println!("{holders} of {workers} hold all at first: at rest after {passes} passes");
            assert!(passes <= 10, "{passes} passes from {holders} of {workers}");
            let spread = spread(&fleet.counts());
            assert_eq!(spread, (40, 40), "from {holders} of {workers}");
        }
    }

    #[test]
    fn forty_leases_a_worker_make_them_as_busy_as_the_threshold_asks_within_ten_passes() {
        let how = UtilizationSettings::default();
        let assignment = LeaseAssignment::WorkerUtilization(how);
        // From one holder of fifty it takes longer: each worker gives away a part of its load a pass.
        for (leases, holders, workers) in fleets().filter(|fleet| fleet.1 != 1) {
            let mut fleet = Fleet::new(assignment, leases, holders, workers);
            let mut passes = 0;
            let far = loop {
                fleet.pass(|plan| plan());
                passes += 1;
                let loads = fleet.loads();
                let average = loads.iter().sum::<f64>() / loads.len() as f64;
                let (least, most) = spread(&loads);
                let far = (average - least).max(most - average) / average * 100.0;
                if far <= f64::from(how.rebalance_threshold_percentage) || passes == 10 {
                    break far;
                }
            };
            println!("{holders} of {workers} hold all at first: {far:.1} % after {passes} passes");
            assert!(far <= f64::from(how.rebalance_threshold_percentage));
        }
    }
}
