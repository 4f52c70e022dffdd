//! What the metrics tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kinesis_consumer::metrics as names;
use kinesis_core::{Aggregate, HashKeyRange, UserRecord};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use crate::ledger::Behaviour;
use crate::world::World;

/// Sums of counters by name, whatever their labels.
#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

struct Count(Counts, String);

impl Counts {
    pub(crate) fn of(&self, name: &str) -> u64 {
        *self
            .0
            .lock()
            .expect("no panic under the lock")
            .get(name)
            .unwrap_or(&0)
    }
}

impl CounterFn for Count {
    fn increment(&self, by: u64) {
        let mut counts = self.0.0.lock().expect("no panic under the lock");
        *counts.entry(self.1.clone()).or_default() += by;
    }

    fn absolute(&self, _: u64) {}
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Count(self.clone(), key.name().to_owned())))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn records_retries_foreign_members_and_broken_aggregates_are_counted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    names::describe();
    let world = World::new(2).await;
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
