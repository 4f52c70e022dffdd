//! Fleets that share the shards by how busy their machines are: real workers whose CPU, as they tell it,
//! follows what they read, on machines that are unlike. In virtual time.

mod kcl;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kcl::Kcl;
use kinesis_consumer::{
    BoxError, Checkpointer, EventKind, LeaseAssignment, LeaseSettings, ProcessRecordsInput,
    ProcessorError, RecordProcessor, Settings, UtilizationSettings, WorkerMetric,
};
use kinesis_core::{Clock, ShardId};
use tests::world::{APPLICATION, STREAM};
use tests::{Worker, World};
use tokio::time::Instant;

/// How often workers report.
const REPORTS: Duration = Duration::from_secs(5);

/// How often the leader balances: every sixth of its passes, each after 1.75 s. Two reports come in
/// between, as by default.
const ROUND: Duration = Duration::from_millis(10_500);

/// What all shards together are sent in a second, in bytes.
const BYTES_A_SECOND: usize = 120 * 1024;

fn settings() -> Settings {
    Settings {
        // Two in a report: reading is most of what this costs.
        idle_time_between_reads: REPORTS / 2,
        lease: LeaseSettings {
            worker_metrics_interval: REPORTS,
            assignment: LeaseAssignment::WorkerUtilization(UtilizationSettings {
                variance_balancing_frequency: 6,
                ..UtilizationSettings::default()
            }),
            ..LeaseSettings::default()
        },
        ..Settings::default()
    }
}

/// A machine: what it is busy with anyhow, what a KB/s costs it, both in percent, and what it may rise to.
#[derive(Clone, Copy, Debug)]
struct Machine {
    base: f64,
    per_kbps: f64,
    range: u8,
}

const ALIKE: Machine = Machine {
    base: 0.0,
    per_kbps: 0.5,
    range: 100,
};

/// What a reading comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gives {
    Readings,
    Errors,
    NotANumber,
}

/// One worker and what it does.
struct Member {
    worker: Worker,
    machine: Machine,
    /// Since the last reading, and in all.
    bytes: Arc<[AtomicU64; 2]>,
    gives: Arc<Mutex<Gives>>,
}

impl Member {
    fn of(world: &World, name: &str, machine: Machine) -> Self {
        let (bytes, gives) = (Arc::default(), Arc::new(Mutex::new(Gives::Readings)));
        let reader = Reader {
            bytes: Arc::clone(&bytes),
        };
        let factory = move |_: &ShardId| reader.clone();
        let meter = Meter {
            machine,
            bytes: Arc::clone(&bytes),
            gives: Arc::clone(&gives),
            since: Clock::system().now(),
        };
        let worker = world.builder(APPLICATION, name, settings(), factory);
        Self {
            worker: Worker::start(worker.worker_metrics(vec![Box::new(meter)])),
            machine,
            bytes,
            gives,
        }
    }

    /// A worker that only says that it lives.
    fn mute(world: &World, name: &str) -> Self {
        let bytes: Arc<[AtomicU64; 2]> = Arc::default();
        let reader = Reader {
            bytes: Arc::clone(&bytes),
        };
        let factory = move |_: &ShardId| reader.clone();
        let worker = world.builder(APPLICATION, name, settings(), factory);
        Self {
            worker: Worker::start(worker.worker_metrics(Vec::new())),
            machine: ALIKE,
            bytes,
            gives: Arc::new(Mutex::new(Gives::Readings)),
        }
    }

    fn gives(&self, what: Gives) {
        *self.gives.lock().expect("not poisoned") = what;
    }
}

#[derive(Clone)]
struct Reader {
    bytes: Arc<[AtomicU64; 2]>,
}

#[async_trait]
impl RecordProcessor for Reader {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let bytes: usize = input.records.iter().map(|record| record.data.len()).sum();
        for sum in self.bytes.iter() {
            sum.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Ok(input.checkpointer.checkpoint().await?)
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(&mut self, last: Checkpointer) -> Result<(), ProcessorError> {
        Ok(last.checkpoint().await?)
    }
}

/// The CPU of a machine on which the worker reads.
struct Meter {
    machine: Machine,
    bytes: Arc<[AtomicU64; 2]>,
    gives: Arc<Mutex<Gives>>,
    since: Instant,
}

#[async_trait]
impl WorkerMetric for Meter {
    fn short_name(&self) -> &str {
        "C"
    }

    fn max_utilization(&self) -> u8 {
        self.machine.range
    }

    async fn capture(&mut self) -> Result<f64, BoxError> {
        let now = Clock::system().now();
        let passed = now.duration_since(self.since).as_secs_f64();
        let bytes = self.bytes[0].swap(0, Ordering::Relaxed);
        self.since = now;
        let kbps = bytes as f64 / 1024.0 / passed.max(1.0);
        match *self.gives.lock().expect("not poisoned") {
            Gives::Readings => Ok((self.machine.base + self.machine.per_kbps * kbps).min(100.0)),
            Gives::Errors => Err("the machine does not tell".into()),
            Gives::NotANumber => Ok(f64::NAN),
        }
    }
}

/// Sends each shard the same, once a second, until dropped.
async fn steady(world: &World) -> tokio::task::JoinHandle<()> {
    let shards = world.stream.open_shards().await;
    let kinesis = world.kinesis.clone();
    tokio::spawn(async move {
        loop {
            let data = Blob::new(vec![b'x'; BYTES_A_SECOND / shards.len()]);
            let entry = |shard: &aws_sdk_kinesis::types::Shard| {
                let range = shard.hash_key_range().expect("a range");
                let entry = PutRecordsRequestEntry::builder()
                    .partition_key("any")
                    .explicit_hash_key(range.starting_hash_key());
                entry.data(data.clone()).build().expect("complete")
            };
            let put = kinesis.put_records().stream_name(STREAM);
            let put = put.set_records(Some(shards.iter().map(entry).collect()));
            put.send().await.expect("taken");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

/// The lease rows: owner, and whether a handoff is under way.
async fn rows(world: &World) -> Vec<(String, bool)> {
    let scan = world.dynamodb.scan().table_name(APPLICATION);
    let scan = scan.consistent_read(true).send().await;
    let items = scan.map(|answer| answer.items.unwrap_or_default());
    let text = |value: &AttributeValue| value.as_s().expect("text").clone();
    let leases = items.unwrap_or_default().into_iter();
    leases
        .filter(|item| text(&item["leaseKey"]).starts_with("shardId-"))
        .map(|item| {
            let owner = item.get("leaseOwner").map(text).unwrap_or_default();
            (owner, item.contains_key("checkpointOwner"))
        })
        .collect()
}

/// How many shards each worker has.
async fn shares(world: &World) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for (owner, _) in rows(world).await {
        *shares.entry(owner).or_default() += 1;
    }
    shares
}

type Fleet = BTreeMap<&'static str, Member>;

/// How many handoffs any of them asked for since this was called last.
fn moves(fleet: &mut Fleet) -> usize {
    let told = fleet.values_mut().flat_map(|member| member.worker.told());
    told.filter(|event| matches!(event.kind, EventKind::HandoffAsked { .. }))
        .count()
}

/// Waits until nothing was moved for so many rounds, each six passes of the leader; what was moved before.
async fn until_rest(fleet: &mut Fleet, rounds: usize) -> usize {
    let (mut moved, mut calm) = (0, 0);
    for round in 0..120 {
        tokio::time::sleep(ROUND).await;
        let now = moves(fleet);
        moved += now;
        calm = if now == 0 { calm + 1 } else { 0 };
        if calm == rounds {
            return moved;
        }
        assert!(round < 119, "still moving, {moved} in all");
    }
    moved
}

/// The CPU of each machine over the next minute, as it is.
async fn busy(fleet: &Fleet) -> BTreeMap<&'static str, f64> {
    let read = |member: &Member| member.bytes[1].load(Ordering::Relaxed);
    let before: Vec<_> = fleet.values().map(read).collect();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let fleet = fleet.iter().zip(before);
    fleet
        .map(|((name, member), before)| {
            let kbps = (read(member) - before) as f64 / 1024.0 / 60.0;
            (*name, member.machine.base + member.machine.per_kbps * kbps)
        })
        .collect()
}

async fn stop(fleet: Fleet) {
    for member in fleet.into_values() {
        member.worker.stop().await.expect("an orderly end");
    }
}

#[tokio::test(start_paused = true)]
async fn unlike_machines_come_to_be_as_busy_as_each_other_and_then_nothing_is_moved() {
    let world = World::start(36).await;
    let sending = steady(&world).await;
    let strong = Machine {
        per_kbps: 0.25,
        ..ALIKE
    };
    let noisy = Machine {
        base: 10.0,
        ..ALIKE
    };
    let machines = [
        ("a", ALIKE),
        ("b", ALIKE),
        ("noisy", noisy),
        ("strong", strong),
    ];
    let member = |(name, machine)| (name, Member::of(&world, name, machine));
    let mut fleet: Fleet = machines.map(member).into();
    let moved = until_rest(&mut fleet, 6).await;
    let (cpu, shares) = (busy(&fleet).await, shares(&world).await);
    println!("at rest after {moved} moves: {cpu:?}, {shares:?}");
    assert!(moved > 0);
    let average = cpu.values().sum::<f64>() / cpu.len() as f64;
    // The threshold, and a little because a minute does not begin and end with a batch; and one lease, which
    // nobody takes that would be above the average with it.
    let lease = cpu["a"] / shares["a"] as f64;
    let near = |cpu: &f64| (cpu - average).abs() <= 0.11 * average + lease;
    assert!(cpu.values().all(near), "{cpu:?} around {average}");
    assert!(
        shares["strong"] > shares["a"] && shares["a"] > shares["noisy"],
        "{shares:?}"
    );
    sending.abort();
    stop(fleet).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_sheds_what_lifts_it_above_its_range_and_gets_nothing_of_one_that_leaves() {
    let world = World::start(36).await;
    let sending = steady(&world).await;
    let low = Machine { range: 15, ..ALIKE };
    let machines = [("a", ALIKE), ("b", ALIKE), ("low", low)];
    let member = |(name, machine)| (name, Member::of(&world, name, machine));
    let mut fleet: Fleet = machines.map(member).into();
    let moved = until_rest(&mut fleet, 6).await;
    let (cpu, before) = (busy(&fleet).await, shares(&world).await);
    println!("at rest after {moved} moves: {cpu:?}, {before:?}");
    assert!(moved > 0);
    assert!(cpu["low"] <= 15.5 && cpu["low"] >= 13.0, "{cpu:?}");
    assert!(cpu["a"] >= 20.0 && cpu["b"] >= 20.0, "{cpu:?}");
    let leaves = fleet.remove("b").expect("a member");
    leaves.worker.stop().await.expect("an orderly end");
    until_rest(&mut fleet, 3).await;
    let after = shares(&world).await;
    assert!(after["low"] <= before["low"], "{before:?}, {after:?}");
    assert_eq!(after["a"] + after["low"], 36, "{after:?}");
    sending.abort();
    stop(fleet).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_readings_beside_workers_with_some_gets_its_share_and_rests() {
    let world = World::start(24).await;
    let sending = steady(&world).await;
    let member = |name| (name, Member::of(&world, name, ALIKE));
    let mut fleet: Fleet = ["a", "b"].map(member).into();
    until_rest(&mut fleet, 3).await;
    fleet.insert("mute", Member::mute(&world, "mute"));
    let moved = until_rest(&mut fleet, 3).await;
    let shares = shares(&world).await;
    println!("at rest after {moved} moves: {shares:?}");
    assert!(
        shares.len() == 3 && shares.values().all(|share| (7..=9).contains(share)),
        "{shares:?}"
    );
    sending.abort();
    stop(fleet).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_readings_fail_keeps_what_it_has_and_gets_more_when_they_are_back() {
    let world = World::start(24).await;
    let sending = steady(&world).await;
    let member = |name| (name, Member::of(&world, name, ALIKE));
    let mut fleet: Fleet = ["a", "b", "broken", "nonsense"].map(member).into();
    until_rest(&mut fleet, 2).await;
    let before = shares(&world).await;
    fleet["broken"].gives(Gives::Errors);
    fleet["nonsense"].gives(Gives::NotANumber);
    tokio::time::sleep(3 * REPORTS).await;
    let leaves = fleet.remove("b").expect("a member");
    leaves.worker.stop().await.expect("an orderly end");
    until_rest(&mut fleet, 3).await;
    let (during, cpu) = (shares(&world).await, busy(&fleet).await);
    for name in ["broken", "nonsense"] {
        assert_eq!(during[name], before[name], "{during:?}");
        assert!(cpu[name] > 10.0, "it goes on reading: {cpu:?}");
        fleet[name].gives(Gives::Readings);
    }
    assert_eq!(during["a"], before["a"] + before["b"]);
    until_rest(&mut fleet, 3).await;
    let after = shares(&world).await;
    println!("{before:?}, {during:?}, {after:?}");
    assert!(
        after.values().all(|share| (7..=9).contains(share)),
        "{after:?}"
    );
    sending.abort();
    stop(fleet).await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_all_of_whose_readings_fail_shares_by_number() {
    let world = World::start(12).await;
    let sending = steady(&world).await;
    let member = |name| (name, Member::of(&world, name, ALIKE));
    let mut fleet: Fleet = ["a", "b"].map(member).into();
    until_rest(&mut fleet, 3).await;
    for member in fleet.values() {
        member.gives(Gives::Errors);
    }
    tokio::time::sleep(3 * REPORTS).await;
    fleet.insert("c", Member::of(&world, "c", ALIKE));
    fleet["c"].gives(Gives::Errors);
    until_rest(&mut fleet, 3).await;
    let shares = shares(&world).await;
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [4, 4, 4]);
    sending.abort();
    stop(fleet).await;
}

#[tokio::test(start_paused = true)]
async fn a_kcl_worker_whose_cpu_is_the_busier_gives_leases_to_ours_until_both_are_alike() {
    let world = World::start(12).await;
    let kcl = Kcl {
        dynamodb: world.dynamodb.clone(),
        clock: Clock::starting_at(kinesis_local::testing::START_MS),
        cpu: Vec::new(),
    };
    let kcl = tokio::spawn(kcl.work());
    let sending = steady(&world).await;
    let mut fleet: Fleet = [("a", Member::of(&world, "a", ALIKE))].into();
    let moved = until_rest(&mut fleet, 4).await;
    let shares = shares(&world).await;
    println!("at rest after {moved} moves: {shares:?}");
    // A lease costs the KCL's machine twice as much.
    assert_eq!((shares["a"], shares["java"]), (8, 4), "{moved} moves");
    assert!(moved >= 1);
    sending.abort();
    kcl.abort();
    stop(fleet).await;
}
