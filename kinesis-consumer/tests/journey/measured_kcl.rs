//! The KCL's metrics, and ours for each: the table in the documentation of `metrics` is held against the
//! names that the KCL has, and against what workers really emit.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{BoxError, EventKind, OnFailure, Settings, WorkerMetric};
use kinesis_local::{FaultEffect, FaultPlan};

use crate::ledger::{Behaviour, Seen};
use crate::measured::Counts;
use crate::world::{Worker, World, for_workers, until};

/// What the KCL 3.5.1 measures, without what is of the protocol of 2.x and without the `Time` and `Success`
/// of each step within another. Source: its source, `MetricsUtil` and the scopes it opens.
const KCL: &[(&str, &[&str])] = &[
    (
        "LeaseAssignmentManager",
        &[
            "Success",
            "Time",
            "ExpiredLeases",
            "LeaseSpillover",
            "NumOfLeasesReassignment",
            "TotalLeases",
            "NumWorkers",
            "NumWorkersWithFailingWorkerMetric",
            "NumWorkersWithInvalidEntry",
            "LeaseDeserializationFailureCount",
            "ForceLeaderRelease",
            "LeaseAndWorkerMetricsLoad.Time",
            "BalanceWorkerVariance.Time",
            "ParallelyAssignLeases.Success",
        ],
    ),
    ("LeaderDecider", &["IsLeader"]),
    ("TakeLeases", &["TakenLeases", "ExpiredLeases"]),
    (
        "RenewAllLeases",
        &[
            "Success",
            "LostLeases",
            "CurrentLeases",
            "RenewLease.Success",
        ],
    ),
    ("LeaseDiscovery", &["NewLeasesDiscovered", "OwnerMismatch"]),
    (
        "WorkerMetricStatsReporter",
        &["Success", "InMemoryMetricStatsReporterFailure"],
    ),
    ("WorkerMetrics", &["FleetMinSupportCode"]),
    ("Migration", &["CurrentState:3xWorker"]),
    ("TableMigration", &["StatusOrdinal"]),
    (
        "PeriodicShardSyncManager",
        &["NumStreamsToSync", "NumStreamsWithPartialLeases"],
    ),
    (
        "MultiStreamTracker",
        &["ActiveStreams.Count", "DeletedStreams.Count"],
    ),
    ("ShardSyncTask", &["CreateLease.Success"]),
    (
        "ProcessTask",
        &[
            "RecordsProcessed",
            "DataBytesProcessed",
            "MillisBehindLatest",
            "RecordProcessor.processRecords.Time",
            "ExpiredIterator",
            "Success",
            "Time",
            "KinesisDataFetcher.getRecords.Success",
            "KinesisDataFetcher.getRecords.Time",
            "KinesisDataFetcher.getShardIterator.Success",
            "KinesisDataFetcher.getShardIterator.Time",
            "UpdateLease.Success",
            "UpdateLease.Time",
        ],
    ),
    ("ApplicationTracker", &["MillisBehindLatest"]),
    ("InitializeTask", &["RecordProcessor.initialize.Time"]),
    ("ShutdownTask", &["RecordProcessor.shutdown.Time"]),
];

/// The table of the documentation: operation, the KCL's name, and ours or why there is none.
fn table() -> Vec<(String, String, String)> {
    let text = include_str!("../../src/metrics.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows = rows.map(|row| row.trim_end_matches(" |").split(" | ").collect::<Vec<_>>());
    rows.skip(1)
        .map(|row| match row[..] {
            [operation, name, ours] => (
                operation.to_owned(),
                name.trim_matches('`').to_owned(),
                ours.to_owned(),
            ),
            _ => panic!("{row:?}"),
        })
        .collect()
}

#[test]
fn each_metric_of_the_kcl_has_a_row_that_names_ours_or_says_why_there_is_none() {
    let table = table();
    let rows: BTreeSet<(&str, &str)> = table
        .iter()
        .map(|(operation, name, _)| (operation.as_str(), name.as_str()))
        .collect();
    assert_eq!(rows.len(), table.len(), "each once");
    let names = KCL.iter().flat_map(|(operation, names)| {
        let of = |name: &&'static str| (*operation, *name);
        names.iter().map(of)
    });
    assert_eq!(rows, names.collect());
    for (_, name, ours) in &table {
        let is_ours = ours.starts_with('`') && ours.ends_with('`');
        assert!(is_ours || ours.starts_with("none: "), "{name}: {ours}");
    }
}

/// Fails from its second reading on.
#[derive(Default)]
struct Broken {
    read: bool,
}

#[async_trait]
impl WorkerMetric for Broken {
    fn short_name(&self) -> &str {
        "DB"
    }

    async fn capture(&mut self) -> Result<f64, BoxError> {
        match std::mem::replace(&mut self.read, true) {
            false => Ok(1.0),
            true => Err("the pool is closed".into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_ours_that_stands_for_one_of_the_kcl_is_emitted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(4).await;
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 2 },
        ..Settings::default()
    };
    let start = |name| {
        let behave = |seen: &Seen| match seen.text().as_str() {
            "3" => Behaviour::Poison,
            "7" => Behaviour::Fail,
            _ => Behaviour::Process,
        };
        let builder = world.builder(name, settings.clone(), behave);
        let builder = builder.worker_metrics(vec![Box::new(Broken::default())]);
        Worker::of(builder.build().expect("valid"))
    };
    let first = start("one");
    world.put_numbers(0..40, 13).await;
    world.ledger.until_processed(38).await;
    // The second is handed its share, and dies.
    let mut second = start("two-");
    for _ in 0..2 {
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        second.until_event("two has its share", started).await;
    }
    second.kill().await;
    until("the dead one's shards are taken", async || {
        counts.of("kinesis_consumer_leases_taken_total reason=failover") > 0
    })
    .await;
    world.faults(FaultPlan::default().rule(for_workers(FaultEffect::ExpiredIterator).times(1)));
    until("an iterator is new", async || {
        counts.of(kinesis_consumer::metrics::EXPIRED_ITERATORS) > 0
    })
    .await;
    // The table cannot be reached for so long that leases are lost.
    let away = |operation| for_workers(FaultEffect::DropRequest).operation(operation);
    let away = away("Scan").operation("UpdateItem");
    world.faults(FaultPlan::default().rule(away));
    until("leases are lost", async || {
        counts.of("kinesis_consumer_leases_lost_total") > 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.faults(FaultPlan::default());
    world.put_numbers(40..80, 13).await;
    until("reading goes on", async || world.ledger.texts().len() >= 78).await;
    world.delete_stream().await;
    until("its shards are gone", async || {
        counts.of(kinesis_consumer::metrics::SHARDS_NOT_FOUND) > 0
    })
    .await;
    first.stop().await.expect("a clean stop");
    let missing: BTreeSet<String> = table()
        .into_iter()
        .filter_map(|(_, _, ours)| Some(ours.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .filter(|ours| !counts.has(&format!("kinesis_consumer_{ours}")))
        .collect();
    assert_eq!(missing, BTreeSet::new());
}
