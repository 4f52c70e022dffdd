//! The KCL and our consumer at the same time, as one application: whoever leads gives leases to both,
//! each hands over to the other, and takes over from it when it dies or stops.

use std::time::Duration;

use kinesis_consumer::{LeaseSettings, Settings};
use kinesis_core::ShardId;
use tests::history::{Event, History, numbered};
use tests::world::wait_until;
use tests::{Worker, World};

use crate::worker::{Checkpoints, KclWorker, Retrieval};

const SHARDS: usize = 4;

/// In step with how the KCL worker is set up; workers of one application agree on it.
fn hurried() -> Settings {
    Settings {
        lease: LeaseSettings {
            failover_time: Duration::from_secs(3),
            lease_assignment_interval: Duration::from_secs(1),
            leader_lock_duration: Duration::from_secs(6),
            worker_metrics_interval: Duration::from_secs(5),
            // The KCL finds no metrics of this machine either: both are weighed by throughput.
            disable_worker_metrics: true,
            ..LeaseSettings::default()
        },
        ..Settings::default()
    }
}

struct Fleet {
    world: World,
    history: History,
}

impl Fleet {
    fn ours(&self, name: &'static str) -> Worker {
        let history = self.history.clone();
        let factory = move |_: &ShardId| history.processor(name);
        self.world.worker_with(name, hurried(), factory)
    }

    async fn kcl(&self, name: &str) -> KclWorker {
        let how = (Retrieval::Polling, Checkpoints::All);
        KclWorker::start(&self.world, "mixed", name, how, &self.history).await
    }

    /// The shards that `worker` got records of, since the first `before` events.
    fn read_by(&self, worker: &str, before: usize) -> usize {
        let events = self.history.events();
        let mut shards: Vec<_> = events[before..]
            .iter()
            .filter_map(|event| match event {
                Event::Delivered {
                    worker: by, shard, ..
                } if by == worker => Some(shard.clone()),
                _ => None,
            })
            .collect();
        shards.sort_unstable();
        shards.dedup();
        shards.len()
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let waited = wait_until(what, async || done());
        let waited = tokio::time::timeout(Duration::from_secs(90), waited);
        assert!(waited.await.is_ok(), "waited 90 s for: {what}");
    }

    /// Waits until `worker` reads from `shards` shards.
    async fn until_read(&self, worker: &str, shards: usize) {
        let before = self.history.events().len();
        let what = format!("{worker} to read from {shards} shards");
        self.until(&what, || self.read_by(worker, before) >= shards)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_both_kinds_share_a_stream_under_either_leader_whoever_dies() {
    let fleet = Fleet {
        world: World::listening(SHARDS as i32).await,
        history: History::default(),
    };
    let records = numbered(64, 60_000);
    let producer = fleet.world.producer();
    let batches = records.clone();
    let (sent, count) = tokio::sync::watch::channel(0);
    let sending = tokio::spawn(async move {
        for batch in batches.chunks(32) {
            let mut deliveries = Vec::new();
            for record in batch {
                deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
            }
            for delivery in deliveries {
                delivery.await.expect("delivered");
            }
            sent.send_modify(|sent| *sent += batch.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
            if sent.is_closed() {
                break;
            }
        }
        *sent.borrow()
    });

    // We lead: a KCL worker that comes is given its share by handoff from us.
    let ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    let kcl = fleet.kcl("kcl").await;
    fleet.until_read("kcl", SHARDS / 2).await;
    fleet.until_read("ours", SHARDS / 2).await;

    // It dies: what it had is given back to us.
    kcl.kill().await;
    fleet.until_read("ours", SHARDS).await;

    // We die: the KCL leads, and takes over everything.
    let kcl = fleet.kcl("kcl-again").await;
    fleet.until_read("kcl-again", 1).await;
    ours.kill().await;
    fleet.until_read("kcl-again", SHARDS).await;

    // The KCL leads: one of ours that comes is given a share by handoff from it.
    let ours = fleet.ours("ours-again");
    fleet.until_read("ours-again", 1).await;

    // It stops in order: we lead, and take over everything.
    kcl.stop().await;
    fleet.until_read("ours-again", SHARDS).await;

    drop(count);
    let sent = sending.await.expect("all was sent");
    fleet
        .until("all records", || fleet.history.payloads().len() >= sent)
        .await;
    ours.stop().await.expect("an orderly end");
    fleet.history.assert_nothing_lost(&records[..sent]);
    fleet.history.assert_order_per_key();
    fleet.history.assert_duplicates_were_not_checkpointed();
}
