//! How busy our workers are, as a leader of the KCL reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::{BoxError, WorkerMetric};

use crate::fleet::{Fleet, SHARDS, assert_given, gains, lease_table};
use crate::rows::Item;
use crate::worker::{How, Retrieval};

/// The CPU in a worker's row. Source: KCL 3.5.1, `WorkerMetricType`.
const CPU: &str = "C";

/// What the KCL says when leases are left that it can give to nobody. Source: 3.5.1.
const LEFT: &str = "Not able to assign all expiredOrUnAssignedLeases";

/// Gives a reading with all the decimals that are kept, and then others, unless it is to fail.
#[derive(Clone, Default)]
struct Readings {
    given: bool,
    fails: Arc<AtomicBool>,
}

#[async_trait]
impl WorkerMetric for Readings {
    fn short_name(&self) -> &str {
        CPU
    }

    fn max_utilization(&self) -> u8 {
        80
    }

    async fn capture(&mut self) -> Result<f64, BoxError> {
        if !std::mem::replace(&mut self.given, true) {
            return Ok(12.345_678);
        }
        match self.fails.load(Ordering::Relaxed) {
            true => Err("no reading".into()),
            false => Ok(17.25),
        }
    }
}

/// The readings in a worker's row, oldest first.
fn readings(rows: &BTreeMap<String, Item>, worker: &str) -> Vec<String> {
    let row = rows.get(worker).and_then(|row| row.get("sts")?.as_m().ok());
    let values = row.and_then(|metrics| metrics.get(CPU)?.as_l().ok());
    let number = |value: &AttributeValue| value.as_n().expect("a number").clone();
    values.into_iter().flatten().map(number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_of_the_kcl_reads_how_busy_ours_are_and_gives_one_whose_reading_failed_nothing() {
    let mut fleet = Fleet::start("measured", Retrieval::Polling).await;
    // Only so that the KCL finds leases, and starts at once.
    let before = fleet.ours("before");
    fleet.until_read("before", SHARDS).await;
    before.kill().await;
    let how = How {
        two_leases: true,
        ..How::default()
    };
    let kcl = fleet.kcl_with("kcl", how).await;
    fleet.until_leads(&lease_table(), "kcl").await;
    fleet.until_read("kcl", SHARDS / 2).await;

    // It may have no more, so what one of ours gets the KCL gave to it by what its row says.
    let mut first = fleet.ours_measured("first", Readings::default());
    fleet.until_read("first", SHARDS / 2).await;
    assert_given(&mut first);

    // All leases are somebody's when the second comes, and its next readings fail.
    let metric = Readings::default();
    let fails = Arc::clone(&metric.fails);
    fails.store(true, Ordering::Relaxed);
    let mut second = fleet.ours_measured("second", metric);
    let failed = async || {
        let rows = fleet.rows(&lease_table()).await;
        readings(&rows, "second").starts_with(&["12.345678", "-1"].map(str::to_owned))
    };
    fleet.until("a reading to fail", failed).await;
    first.kill().await;
    let left_before = kcl.log().matches(LEFT).count();
    let left = async || kcl.log().matches(LEFT).count() > left_before;
    fleet.until("leases to be left", left).await;
    assert_eq!(gains(&mut second), [], "its last reading failed");
    let understood = "workerId=second, entityType=WORKER_METRIC_STATS";
    let log = kcl.log();
    let mut understood = log.lines().filter(|line| line.contains(understood));
    assert!(understood.any(|line| line.contains("{C=[12.345678, -1.0")));

    // With one that did not it is given them, whatever failed before.
    fails.store(false, Ordering::Relaxed);
    fleet.until_read("second", SHARDS / 2).await;
    assert_eq!(fleet.leader().await, "kcl");

    fleet.finish().await;
    second.stop().await.expect("an orderly end");
    kcl.stop().await;
}
