//! What a fleet costs at rest, by what DynamoDB counts, beside what the KCL would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tokio::time::sleep;

use super::rig::{Rig, Worker, until};
use crate::lease::metrics as names;

/// Units by operation and shard, and how many requests they were.
type Bill = BTreeMap<(String, String), (f64, u32)>;

/// Writes down every unit that is told.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Bill>>);

struct Line(Book, (String, String));

impl HistogramFn for Line {
    fn record(&self, units: f64) {
        let mut bill = self.0.0.lock().expect("not poisoned");
        let (sum, requests) = bill.entry(self.1.clone()).or_default();
        *sum += units;
        *requests += 1;
    }
}

impl Recorder for Book {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        if key.name() != names::TABLE_UNITS {
            return Histogram::noop();
        }
        let label = |name: &str| {
            let found = key.labels().find(|label| label.key() == name);
            found
                .map(|label| label.value().to_owned())
                .expect("a label")
        };
        let line = (label("operation"), label("shard"));
        Histogram::from_arc(Arc::new(Line(self.clone(), line)))
    }
}

/// A multiple of the intervals of renewals and reports, and many of all others; times [`PER_HOUR`] an hour.
const WATCHED: Duration = Duration::from_secs(120);
const PER_HOUR: f64 = 3_600.0 / 120.0;

/// What a write unit costs in read units, on demand. Source: DynamoDB's prices, the same in every
/// region: $0.625 and $0.125 a million in us-east-1.
const WRITE_IN_READS: f64 = 5.0;

/// Read units that the KCL 3.5.1 would use in an hour for the same fleet at rest, by its constants, if
/// a scan takes `scan` units. Rows are smaller than a kilobyte.
fn kcl_reads_an_hour(leases: u32, workers: u32, scan: f64) -> f64 {
    let (leases, workers) = (f64::from(leases), f64::from(workers));
    let every = |seconds: f64| 3_600.0 / seconds;
    // `DynamoDBLeaseCoordinator`: failoverTimeMillis / 3 - epsilonMillis.
    let renewals = leases * every(10.0 / 3.0 - 0.025);
    // `WorkerMetricStatsReporter`: every 30 s.
    let reports = workers * every(30.0);
    // `DynamoDBLockBasedLeaderDecider`: a beat of the leader every 30 s, a look of the others.
    let (beats, looks) = (every(30.0), (workers - 1.0) * every(30.0));
    // `LeaseAssignmentManager`: the whole table every 2 x failoverTimeMillis, eventually consistent.
    // `PeriodicShardSyncManager`: the same every leasesRecoveryAuditorExecutionFrequencyMillis.
    let scans = every(20.0) + every(120.0);
    // `LeaseDiscoverer`: the index, every scan interval / 2 - epsilonMillis. Half a unit at least.
    let queries = workers * every(20.0 / 2.0 - 0.025) * 0.5;
    (renewals + reports + beats) * WRITE_IN_READS + looks + scans * scan + queries
}

/// What a fleet at rest uses in an hour, and what the KCL would, in read units; and the bill.
async fn costs(leases: u32, workers: u32) -> (f64, f64, Bill) {
    let book = Book::default();
    let _installed = metrics::set_default_local_recorder(&book);
    let rig = Rig::new(leases as i32).await;
    let fleet = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].into_iter();
    let fleet: Vec<_> = fleet
        .take(workers as usize)
        .map(|id| rig.worker(id))
        .collect();
    let all: Vec<_> = fleet.iter().collect();
    let share = (leases / workers) as usize;
    until("even shares", &all, || {
        all.iter().all(|worker| worker.count() == share)
    })
    .await;
    sleep(Duration::from_secs(10)).await;
    book.0.lock().expect("not poisoned").clear();
    sleep(WATCHED).await;
    let bill = std::mem::take(&mut *book.0.lock().expect("not poisoned"));
    fleet.into_iter().for_each(Worker::crash);

    let of = |operation: &str| {
        let lines = bill.iter().filter(|((of, _), _)| of == operation);
        lines.fold((0.0, 0), |(units, requests), (_, line)| {
            (units + line.0, requests + line.1)
        })
    };
    let writes = ["update", "report", "beat"].map(|operation| of(operation).0);
    let reads = ["scan", "query", "lock", "get"].map(|operation| of(operation).0);
    let all = bill.values().map(|(units, _)| units).sum::<f64>();
    let told = writes.iter().chain(&reads).sum::<f64>();
    assert!(
        (all - told).abs() < 1e-6,
        "an operation of another name: {bill:?}"
    );
    let ours = (writes.iter().sum::<f64>() * WRITE_IN_READS + reads.iter().sum::<f64>()) * PER_HOUR;
    let (units, scans) = of("scan");
    let kcl = kcl_reads_an_hour(leases, workers, units / f64::from(scans));
    println!("update, report, beat {writes:?}; scan, query, lock, get {reads:?} in {WATCHED:?}");
    println!(
        "an hour of {leases} leases on {workers} workers, in read units: {ours:.0}, KCL {kcl:.0}"
    );
    (ours, kcl, bill)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_leases_on_five_workers_cost_no_more_than_with_the_kcl() {
    const LEASES: u32 = 100;
    let (ours, kcl, bill) = costs(LEASES, 5).await;
    assert!(
        ours <= kcl,
        "{ours:.0} read units an hour, the KCL {kcl:.0}"
    );

    // Whose writes they are is told too: each lease is renewed every 4 s, by one unit.
    let renewals: BTreeMap<_, _> = bill
        .iter()
        .filter(|((operation, _), _)| operation == "update")
        .map(|((_, shard), line)| (shard.as_str(), *line))
        .collect();
    assert_eq!(renewals.len(), LEASES as usize);
    for index in 0..u64::from(LEASES) {
        let shard = kinesis_core::ShardId::from_index(index);
        let (units, requests) = renewals[shard.as_str()];
        assert!(
            (29..=31).contains(&requests),
            "{shard}: {requests} renewals"
        );
        assert_eq!(units, f64::from(requests), "{shard}");
    }
    let unnamed = |((operation, shard), _): &(&(String, String), _)| {
        operation != "update" && !shard.is_empty()
    };
    assert!(bill.iter().find(unnamed).is_none(), "{bill:?}");
}

/// What a worker costs by itself, and the leader's lock and scans, weigh more where there are few leases.
#[tokio::test(start_paused = true)]
async fn two_leases_a_worker_cost_no_more_than_with_the_kcl_and_one_a_twentieth_more() {
    let two = [(40, 2), (20, 10), (8, 4), (4, 2), (3, 1)].map(|fleet| (fleet, 1.0));
    // A worker alone beats all the same, for others that may come.
    let fewer = [
        ((10, 10), 1.06),
        ((5, 5), 1.06),
        ((2, 1), 1.07),
        ((1, 1), 1.26),
    ];
    for ((leases, workers), most) in two.into_iter().chain(fewer) {
        let (ours, kcl, _) = costs(leases, workers).await;
        let share = ours / kcl;
        println!("{leases} on {workers}: {share:.3} of the KCL's");
        assert!(
            share <= most,
            "{leases} leases on {workers} workers: {share}"
        );
    }
}
