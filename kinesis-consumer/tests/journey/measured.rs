//! What the metrics tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kinesis_consumer::metrics as names;
use kinesis_consumer::{OnFailure, Settings};
use kinesis_core::{Aggregate, HashKeyRange, UserRecord};
use kinesis_local::{FaultEffect, FaultPlan};
use md5::{Digest, Md5};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use crate::ledger::{Behaviour, Note};
use crate::world::{World, for_workers};

/// Sums of counters, and of what histograms recorded, by name, whatever their labels; and by name and
/// the label that tells kinds apart, as in `name cause=dead_letter`. `name times` is how often a histogram
/// recorded; of a gauge it is the newest value, and `name most` the greatest.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

/// What one counter or histogram adds to.
struct Count(Counts, Vec<String>);

/// The labels that are told apart.
const KINDS: [&str; 6] = [
    "application",
    "cause",
    "operation",
    "reason",
    "retrieval",
    "worker",
];

impl Counts {
    pub(crate) fn of(&self, name: &str) -> u64 {
        *self
            .0
            .lock()
            .expect("no panic under the lock")
            .get(name)
            .unwrap_or(&0)
    }

    /// Whether it was counted, set or recorded at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        let counts = self.0.lock().expect("no panic under the lock");
        counts.contains_key(name)
    }
}

impl Count {
    fn of(counts: &Counts, key: &Key) -> Arc<Self> {
        let mut names = vec![key.name().to_owned()];
        let kinds = key.labels().filter(|label| KINDS.contains(&label.key()));
        names.extend(kinds.map(|kind| format!("{} {}={}", key.name(), kind.key(), kind.value())));
        Arc::new(Self(counts.clone(), names))
    }
}

impl HistogramFn for Count {
    fn record(&self, value: f64) {
        CounterFn::increment(self, value.round() as u64);
        let mut counts = self.0.0.lock().expect("no panic under the lock");
        *counts.entry(format!("{} times", self.1[0])).or_default() += 1;
    }
}

impl GaugeFn for Count {
    fn increment(&self, by: f64) {
        self.set(self.0.of(&self.1[0]) as f64 + by);
    }

    fn decrement(&self, by: f64) {
        self.set(self.0.of(&self.1[0]) as f64 - by);
    }

    fn set(&self, value: f64) {
        let value = value.round() as u64;
        let mut counts = self.0.0.lock().expect("no panic under the lock");
        for name in &self.1 {
            counts.insert(name.clone(), value);
            let most = counts.entry(format!("{name} most")).or_default();
            *most = value.max(*most);
        }
    }
}

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        let mut counts = self.0.0.lock().expect("no panic under the lock");
        for name in &self.1 {
            *counts.entry(name.clone()).or_default() += by;
        }
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Count::of(self, key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Count::of(self, key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Count::of(self, key))
    }
}

/// A retry of the SDK's would be one more read of the five a second that nobody counts.
#[tokio::test(start_paused = true)]
async fn each_attempt_to_read_is_a_read_that_is_counted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    let throttled = FaultEffect::error("ProvisionedThroughputExceededException");
    let throttled = for_workers(throttled).operation("GetRecords");
    world.faults(FaultPlan::default().rule(throttled));
    let worker = world.worker("one", |_| Behaviour::Process);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    worker.stop().await.expect("a clean stop");
    let met = world.hits()[0];
    assert!(met > 5, "{met}");
    assert_eq!(counts.of(names::FETCH_FAILURES), met);
}

#[tokio::test(start_paused = true)]
async fn records_retries_foreign_members_and_broken_aggregates_are_counted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    names::describe();
    let world = World::halves().await;
    let ranges = HashKeyRange::FULL.split_even(2);
    let mut aggregate = Aggregate::new();
    for range in [ranges[0], ranges[1], ranges[1], ranges[0]] {
        aggregate.push(UserRecord::new("key", "member").with_explicit_hash_key(range.start()));
    }
    let mut broken = aggregate.encode().to_vec();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    world.put_at(ranges[0].start(), aggregate.encode()).await;
    world.put_at(ranges[0].start(), broken).await;
    world.put_at(ranges[0].start(), "plain").await;
    let failures = std::sync::atomic::AtomicU64::new(0);
    let worker = world.worker("one", move |seen| {
        let failures = failures.fetch_add(
            u64::from(seen.text() == "plain"),
            std::sync::atomic::Ordering::Relaxed,
        );
        match (seen.text().as_str(), failures) {
            ("plain", 0) => Behaviour::Fail,
            ("plain", 1) => Behaviour::Panic,
            _ => Behaviour::Process,
        }
    });
    crate::world::until("plain is processed", async || {
        world.ledger.texts().contains(&"plain".to_owned())
    })
    .await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(counts.of(names::RECORDS_PROCESSED), 4);
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DROPPED), 2);
    assert_eq!(counts.of(names::CORRUPT_AGGREGATES), 1);
    assert_eq!(counts.of(names::BATCHES_RETRIED), 2);
    assert_eq!(
        counts.of(names::RECORDS_REDELIVERED),
        8,
        "four records, twice again"
    );
    assert_eq!(counts.of(names::PROCESSOR_PANICS), 1);
}

#[tokio::test(start_paused = true)]
async fn foreign_members_that_no_reshard_explains_are_delivered_of_a_provisioned_stream_too() {
    // As it came: a stream with AUTO that is provisioned now, whose shards are as they were made.
    let world = World::new(2).await;
    let counts = counts_of_an_aggregate_with_foreign_members(&world).await;
    assert_eq!(counts.of(names::RECORDS_PROCESSED), 5);
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DELIVERED), 2);
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DROPPED), 0);
    assert_eq!(counts.of(names::RECORDS_SKIPPED), 0);
}

/// Two foreign members that an ancestor explains, and of another aggregate two that none does.
#[tokio::test(start_paused = true)]
async fn of_the_foreign_members_of_a_shard_only_those_that_a_reshard_explains_are_dropped() {
    let world = World::new(2).await;
    world.stream.split("shardId-000000000000").await;
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let quarters = HashKeyRange::FULL.split_even(4);
    for others in [quarters[1], quarters[3]] {
        let mut aggregate = Aggregate::new();
        for range in [quarters[0], others, others] {
            aggregate.push(UserRecord::new("key", "member").with_explicit_hash_key(range.start()));
        }
        world.put_at(quarters[0].start(), aggregate.encode()).await;
    }
    world.put_at(quarters[0].start(), "last").await;
    let worker = world.worker("one", |_| Behaviour::Process);
    crate::world::until("the last is processed", async || {
        world.ledger.texts().contains(&"last".to_owned())
    })
    .await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DROPPED), 2);
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DELIVERED), 2);
    assert_eq!(counts.of(names::RECORDS_PROCESSED), 5);
}

/// The successor cannot know what was delivered behind the checkpoint, and does not guess.
#[tokio::test(start_paused = true)]
async fn what_comes_twice_after_a_worker_died_is_told_by_the_failover_and_by_no_count_of_records() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    let first = world.worker("one", |seen| match seen.text().as_str() {
        "9" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    world
        .ledger
        .until_note(
            "it hangs",
            |note| matches!(note, Note::Tried(seen) if seen.text() == "9"),
        )
        .await;
    first.kill().await;
    let taken = |reason| {
        counts.of(&format!(
            "kinesis_consumer_leases_taken_total reason={reason}"
        ))
    };
    assert_eq!(taken("failover"), 0);
    let second = world.worker("two-", |_| Behaviour::Process);
    crate::world::until("the last is processed", async || {
        world.ledger.texts().contains(&"9".to_owned())
    })
    .await;
    second.stop().await.expect("a clean stop");
    assert!(world.ledger.texts().len() > 10, "some came twice");
    assert_eq!(
        (taken("failover"), counts.of(names::RECORDS_REDELIVERED)),
        (1, 0)
    );
}

/// Four members on the first of two shards, two of which belong to the second, are read to the end.
async fn counts_of_an_aggregate_with_foreign_members(world: &World) -> Counts {
    let counts = Counts::default();
    let installed = metrics::set_default_local_recorder(&counts);
    let ranges = HashKeyRange::FULL.split_even(2);
    let mut aggregate = Aggregate::new();
    for range in [ranges[0], ranges[1], ranges[1], ranges[0]] {
        aggregate.push(UserRecord::new("key", "member").with_explicit_hash_key(range.start()));
    }
    world.put_at(ranges[0].start(), aggregate.encode()).await;
    world.put_at(ranges[0].start(), "last").await;
    let worker = world.worker("one", |_| Behaviour::Process);
    crate::world::until("the last is processed", async || {
        world.ledger.texts().contains(&"last".to_owned())
    })
    .await;
    worker.stop().await.expect("a clean stop");
    drop(installed);
    counts
}

/// Nothing tells of a record whether it was written while the distribution was AUTO.
#[tokio::test(start_paused = true)]
async fn foreign_members_of_an_on_demand_stream_are_delivered_whatever_its_distribution_is_now() {
    let world = World::halves().await;
    world.make_on_demand().await;
    let counts = counts_of_an_aggregate_with_foreign_members(&world).await;
    assert_eq!(counts.of(names::RECORDS_PROCESSED), 5);
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DELIVERED), 2);
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DROPPED), 0);
    assert_eq!(counts.of(names::RECORDS_SKIPPED), 0);
}

#[tokio::test(start_paused = true)]
async fn foreign_members_are_delivered_where_the_stream_may_not_be_described() {
    let world = World::halves().await;
    let denied = for_workers(FaultEffect::error("AccessDeniedException"));
    world.faults(FaultPlan::seeded(1).rule(denied.operation("DescribeStreamSummary")));
    let counts = counts_of_an_aggregate_with_foreign_members(&world).await;
    assert_eq!(counts.of(names::RECORDS_PROCESSED), 5);
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DELIVERED), 2);
    assert_eq!(counts.of(names::RECORDS_SKIPPED), 0);
}

/// An aggregate of three whose member in the middle names a key that is not there.
pub(crate) fn damaged(at: HashKeyRange) -> Vec<u8> {
    let mut aggregate = Aggregate::new();
    for key in ["key", "other", "key"] {
        aggregate.push(UserRecord::new(key, "member").with_explicit_hash_key(at.start()));
    }
    let mut bytes = aggregate.encode().to_vec();
    let end = bytes.len() - 16;
    // Tag and index of the partition key of the second member.
    let at = bytes.windows(2).rposition(|two| two == [0x08, 1]);
    bytes[at.expect("a member has a key") + 1] = 9;
    let checksum = Md5::digest(&bytes[4..end]);
    bytes[end..].copy_from_slice(&checksum);
    bytes
}

#[tokio::test(start_paused = true)]
async fn every_record_that_is_passed_is_counted_as_processed_or_as_skipped() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::halves().await;
    let ranges = HashKeyRange::FULL.split_even(2);
    let mut aggregate = Aggregate::new();
    for range in [ranges[0], ranges[1], ranges[1], ranges[0]] {
        aggregate.push(UserRecord::new("key", "member").with_explicit_hash_key(range.start()));
    }
    world.put_at(ranges[0].start(), aggregate.encode()).await;
    world.put_at(ranges[0].start(), damaged(ranges[0])).await;
    world.put_at(ranges[0].start(), "poison").await;
    world.put_at(ranges[0].start(), "plain").await;
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 2 },
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings, |seen| match seen.text().as_str() {
        "poison" => Behaviour::Poison,
        _ => Behaviour::Process,
    });
    crate::world::until("plain is processed", async || {
        world.ledger.texts().contains(&"plain".to_owned())
    })
    .await;
    worker.stop().await.expect("a clean stop");
    let skipped = |cause| counts.of(&format!("{} cause={cause}", names::RECORDS_SKIPPED));
    assert_eq!(skipped("foreign_member"), 2);
    assert_eq!(skipped("corrupt_member"), 1);
    assert_eq!(skipped("dead_letter"), 1);
    assert_eq!(counts.of(names::RECORDS_SKIPPED), 4);
    assert_eq!(counts.of(names::RECORDS_PROCESSED), 5);
}

#[tokio::test(start_paused = true)]
async fn the_units_that_dynamodb_counts_are_told_by_operation() {
    const UNITS: &str = "kinesis_consumer_lease_table_units";
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(2).await;
    world.put_numbers(0..8, 3).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    crate::world::until("all is processed", async || world.ledger.texts().len() >= 8).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    worker.stop().await.expect("a clean stop");
    let of = |operation| counts.of(&format!("{UNITS} operation={operation}"));
    let written = |what| counts.of(&format!("kinesis_consumer_{what}_total"));
    let renewals = written("lease_renewals");
    // A row is smaller than a kilobyte, so each write of it is one unit.
    let writes = ["checkpoints", "leases_taken", "leases_released"];
    let writes = renewals + writes.into_iter().map(written).sum::<u64>();
    assert!(renewals >= 28, "two leases for a minute: {renewals}");
    assert!(
        (writes..writes + 5).contains(&of("update")),
        "{} units for {writes} writes, and those that made the rows",
        of("update")
    );
    let all = ["scan", "query", "lock", "beat", "report", "update"].map(of);
    assert!(all.iter().all(|units| *units > 0), "{all:?}");
    assert_eq!(all.iter().sum::<u64>(), counts.of(UNITS));
}
