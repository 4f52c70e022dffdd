//! The KCL and our consumer at the same time, as one application: whoever leads gives leases to both,
//! each hands over to the other, and takes over from it when it dies or stops.
//!
//! What is told apart: a lease that was handed over (`checkpointOwner` names who had it until that one is
//! done; our worker tells of it as [`Gain::Handoff`] or [`EventKind::HandoffRequested`]), and one that was
//! taken because its owner gave no sign of life. Who leads is read off the lock.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::{EventKind, Gain, LeaseSettings, Settings};
use kinesis_core::ShardId;
use tests::history::{Event, History, numbered};
use tests::world::{APPLICATION, wait_until};
use tests::{Worker, World};

use crate::worker::{Checkpoints, KclWorker, Retrieval};

const SHARDS: usize = 4;

/// The longest wait for anything. Source: as that of the KCL's worker.
const PATIENCE: Duration = Duration::from_secs(150);

/// How a lease comes that its owner gives up for another: a KCL leaves no mark of its own on the row, so
/// that it was handed over, not only assigned, shows if one of ours had it before. Neither is an expiry.
const GIVEN: [Gain; 2] = [Gain::Handoff, Gain::Assigned];

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
        let waited = tokio::time::timeout(PATIENCE, waited);
        assert!(waited.await.is_ok(), "waited {PATIENCE:?} for: {what}");
    }

    /// Whose name is in the leader's lock.
    async fn leader(&self) -> String {
        let key = AttributeValue::S("Leader".to_owned());
        let lock = self.world.dynamodb.get_item().table_name(APPLICATION);
        let lock = lock.key("leaseKey", key).consistent_read(true).send();
        let lock = lock.await.expect("the table is read").item;
        let owner = lock.as_ref().and_then(|lock| lock.get("ownerName"));
        let owner = owner.and_then(|owner| owner.as_s().ok());
        owner.expect("somebody leads").clone()
    }

    /// Waits until `worker` reads from `shards` shards.
    async fn until_read(&self, worker: &str, shards: usize) {
        let before = self.history.events().len();
        let what = format!("{worker} to read from {shards} shards");
        self.until(&what, || self.read_by(worker, before) >= shards)
            .await;
    }
}

/// How the leases came that `worker` was given since this was asked last.
fn gains(worker: &mut Worker) -> Vec<Gain> {
    let told = worker.told().into_iter();
    let gain = |kind| match kind {
        EventKind::LeaseGained { by } => Some(by),
        _ => None,
    };
    told.filter_map(|event| gain(event.kind)).collect()
}

/// Fails unless `worker` handed leases over to `to`, so many at least, since this was asked last.
fn assert_handed_over(worker: &mut Worker, to: &str, leases: usize) {
    let told: Vec<_> = worker.told().into_iter().map(|event| event.kind).collect();
    let count = |is: &dyn Fn(&EventKind) -> bool| told.iter().filter(|kind| is(kind)).count();
    let asked = count(&|kind| matches!(kind, EventKind::HandoffRequested { to: by } if by == to));
    let released = count(&|kind| *kind == EventKind::LeaseReleased);
    assert!(
        asked >= leases && released >= leases,
        "not handed over to {to}: {told:?}"
    );
}

/// Fails unless leases came to `worker` since this was asked last, and all of them like this.
fn assert_came(worker: &mut Worker, how: &[Gain]) {
    let gains = gains(worker);
    assert!(
        !gains.is_empty() && gains.iter().all(|gain| how.contains(gain)),
        "{gains:?} is not {how:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_both_kinds_share_a_stream_under_either_leader_whoever_dies() {
    let fleet = Fleet {
        world: World::listening(SHARDS as i32).await,
        history: History::default(),
    };
    let records = numbered(64, 200_000);
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
    let mut ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    gains(&mut ours);
    let kcl = fleet.kcl("kcl").await;
    fleet.until_read("kcl", SHARDS / 2).await;
    fleet.until_read("ours", SHARDS / 2).await;
    assert_handed_over(&mut ours, "kcl", SHARDS / 2);
    assert_eq!(fleet.leader().await, "ours");

    // It dies: what it had expires, and we give it to ourselves.
    kcl.kill().await;
    fleet.until_read("ours", SHARDS).await;
    assert_came(&mut ours, &[Gain::Failover]);
    assert_eq!(fleet.leader().await, "ours");

    // We die: the KCL leads, and takes over everything.
    let kcl = fleet.kcl("kcl-again").await;
    fleet.until_read("kcl-again", 1).await;
    assert_handed_over(&mut ours, "kcl-again", 1);
    ours.kill().await;
    fleet.until_read("kcl-again", SHARDS).await;
    assert_eq!(fleet.leader().await, "kcl-again");

    // The KCL leads: one of ours that comes is given a share by handoff from it.
    let mut ours = fleet.ours("ours-again");
    fleet.until_read("ours-again", 1).await;
    assert_came(&mut ours, &GIVEN);
    assert_eq!(fleet.leader().await, "kcl-again");

    // It dies under the KCL, which takes over what it had.
    ours.kill().await;
    fleet.until_read("kcl-again", SHARDS).await;
    assert_eq!(fleet.leader().await, "kcl-again");

    // The KCL that leads dies: we lead, and take over everything.
    let mut ours = fleet.ours("ours-third");
    fleet.until_read("ours-third", 1).await;
    assert_came(&mut ours, &GIVEN);
    kcl.kill().await;
    fleet.until_read("ours-third", SHARDS).await;
    assert_came(&mut ours, &[Gain::Failover]);
    assert_eq!(fleet.leader().await, "ours-third");

    // We stop in order: the KCL leads. It stops in order: we lead. It gives nothing back then (a KCL
    // leaves its leases to expire), so we take them over as from one that died.
    let kcl = fleet.kcl("kcl-third").await;
    fleet.until_read("kcl-third", 1).await;
    assert_handed_over(&mut ours, "kcl-third", 1);
    ours.stop().await.expect("an orderly end");
    fleet.until_read("kcl-third", SHARDS).await;
    assert_eq!(fleet.leader().await, "kcl-third");
    let mut ours = fleet.ours("ours-fourth");
    fleet.until_read("ours-fourth", 1).await;
    assert_came(&mut ours, &GIVEN);
    kcl.stop().await;
    fleet.until_read("ours-fourth", SHARDS).await;
    assert_came(&mut ours, &[Gain::Failover]);
    assert_eq!(fleet.leader().await, "ours-fourth");

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
