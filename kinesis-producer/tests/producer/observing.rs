//! What a producer tells of itself: metrics, spans, and the counters of its handle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use kinesis_core::UserRecord;
use kinesis_producer::{ErrorKind, Settings, metrics as names};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

use crate::faults::Fault;
use crate::world::{STREAM, World, delivered, enqueue, numbered};

/// The numbers of one metric: a counter's increments, a gauge's settings, a histogram's values.
#[derive(Debug, Default)]
struct Numbers(Mutex<Vec<f64>>);

impl Numbers {
    fn push(&self, number: f64) {
        self.0
            .lock()
            .expect("no panic while it is held")
            .push(number);
    }
}

impl CounterFn for Numbers {
    fn increment(&self, value: u64) {
        self.push(value as f64);
    }

    fn absolute(&self, value: u64) {
        self.push(value as f64);
    }
}

impl GaugeFn for Numbers {
    fn increment(&self, _value: f64) {
        unreachable!("gauges are set");
    }

    fn decrement(&self, _value: f64) {
        unreachable!("gauges are set");
    }

    fn set(&self, value: f64) {
        self.push(value);
    }
}

impl HistogramFn for Numbers {
    fn record(&self, value: f64) {
        self.push(value);
    }
}

/// Keeps everything, by name and labels.
#[derive(Debug, Default)]
struct Kept {
    numbers: Mutex<BTreeMap<String, Arc<Numbers>>>,
    described: Mutex<Vec<String>>,
}

impl Kept {
    fn numbers(&self, key: &Key) -> Arc<Numbers> {
        let mut name = key.name().to_owned();
        for label in key.labels().filter(|label| label.key() != "stream") {
            name = format!("{name}/{}", label.value());
        }
        let of_stream = key.labels().any(|label| label.key() == "stream");
        assert!(of_stream || name.starts_with("kinesis_local"), "{name}");
        let mut numbers = self.numbers.lock().expect("no panic while it is held");
        Arc::clone(numbers.entry(name).or_default())
    }

    fn of(&self, name: &str) -> Vec<f64> {
        let numbers = self.numbers.lock().expect("no panic while it is held");
        let numbers = numbers.get(name).unwrap_or_else(|| panic!("no {name}"));
        numbers.0.lock().expect("no panic while it is held").clone()
    }

    fn sum(&self, name: &str) -> f64 {
        self.of(name).iter().sum()
    }

    fn describe(&self, name: &KeyName) {
        let mut described = self.described.lock().expect("no panic while it is held");
        described.push(name.as_str().to_owned());
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, name: KeyName, _unit: Option<Unit>, _text: SharedString) {
        self.describe(&name);
    }

    fn describe_gauge(&self, name: KeyName, _unit: Option<Unit>, _text: SharedString) {
        self.describe(&name);
    }

    fn describe_histogram(&self, name: KeyName, _unit: Option<Unit>, _text: SharedString) {
        self.describe(&name);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.numbers(key))
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.numbers(key))
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.numbers(key))
    }
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_described_and_says_what_happened() {
    let recorder = Kept::default();
    let world = World::new(1).await;
    let producer = metrics::with_local_recorder(&recorder, || {
        names::describe();
        world.producer(Settings::default())
    });
    let described = std::mem::take(&mut *recorder.described.lock().expect("not poisoned"));
    let registered = recorder.numbers.lock().expect("not poisoned").clone();
    for name in registered.keys() {
        let name = name.split('/').next().unwrap_or_default();
        assert!(
            described.iter().any(|described| described == name),
            "{name}"
        );
    }
    // The codes are not known before there are errors.
    let of_errors = |name: &&String| *name != names::ERRORS_BY_CODE;
    for name in described.iter().filter(of_errors) {
        let known = registered
            .keys()
            .any(|key| key.split('/').next() == Some(name));
        assert!(known, "{name} is described and not there");
    }

    world
        .faults
        .next([Fault::Pass, Fault::Refuse(500, "InternalFailure")]);
    // Three times what the shard takes in a second.
    let large = (0..60).map(|_| UserRecord::new("k", vec![0; 50_000]));
    for outcome in producer.send_batch(large).await {
        outcome.expect("delivered");
    }
    delivered(enqueue(&producer, 0..1000).await).await;
    producer.flush().await;

    assert_eq!(recorder.sum(names::USER_RECORDS_RECEIVED), 1060.0);
    assert_eq!(recorder.sum(names::USER_RECORDS_PUT), 1060.0);
    assert_eq!(recorder.sum(names::USER_RECORDS_FAILED), 0.0);
    let kinesis_records = world.read().await.kinesis_records as f64;
    assert_eq!(recorder.sum(names::KINESIS_RECORDS_PUT), kinesis_records);
    let sent: f64 = recorder.sum(names::KINESIS_RECORDS_PER_REQUEST);
    let reasons = ["full", "timed", "manual", "idle", "slot", "retry"]
        .map(|reason| recorder.sum(&format!("{}/{reason}", names::FLUSHES_BY_REASON)));
    assert_eq!(reasons.iter().sum::<f64>(), sent, "{reasons:?}");
    let [full, _, _, idle, _, retry] = reasons;
    assert!(full > 0.0 && idle > 0.0 && retry > 0.0, "{reasons:?}");
    let waits = recorder.of(names::LIMITER_WAIT);
    assert!(waits.iter().any(|wait| *wait > 10.0), "{waits:?}");
    let fills = recorder.of(names::REQUEST_FILL);
    assert_eq!(fills.len(), world.faults.requests().len());
    assert!(
        fills.iter().all(|fill| *fill > 0.0 && *fill <= 100.0),
        "{fills:?}"
    );
    let ages = recorder.of(names::OLDEST_RECORD_AGE);
    assert!(ages.iter().any(|age| *age > 1000.0));
    for gauge in [
        names::OLDEST_RECORD_AGE,
        names::USER_RECORDS_PENDING,
        names::USER_RECORD_BYTES_PENDING,
    ] {
        assert_eq!(recorder.of(gauge).last(), Some(&0.0), "{gauge}");
    }
}

/// Data of all Kinesis records in the first shard.
async fn stored_bytes(world: &World) -> usize {
    let iterator = world.client.get_shard_iterator().stream_name(STREAM);
    let iterator = iterator.shard_id("shardId-000000000000");
    let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
    let from = iterator.send().await.expect("an iterator").shard_iterator;
    let page = world.client.get_records().set_shard_iterator(from).send();
    let page = page.await.expect("records");
    let bytes = page.records().iter().map(|r| r.data().as_ref().len());
    bytes.sum()
}

#[tokio::test(start_paused = true)]
async fn counts_and_times_are_those_of_what_happened() {
    let recorder = Kept::default();
    let world = World::new(1).await;
    // For the service task too, which runs on this thread: it registers a code when it first meets it.
    let _recording = metrics::set_default_local_recorder(&recorder);
    let producer = world.producer(Settings {
        record_ttl: Some(Duration::from_secs(10)),
        ..Settings::default()
    });
    let record = |bytes: usize| UserRecord::new("k", vec![0; bytes]);
    producer.send(record(10)).await.expect("delivered");

    let throttled = "ProvisionedThroughputExceededException";
    world.faults.next([Fault::RefuseHalf(throttled)]);
    producer.send(record(20)).await.expect("at the second try");

    let denied = "AccessDeniedException";
    world.faults.next([Fault::Refuse(400, denied)]);
    producer.send(record(30)).await.expect_err("denied");

    // The second one, too large for an aggregate, waits for the answer to the first, which does not come within six seconds.
    world.faults.next([Fault::Hang]);
    let hanging = producer.enqueue(record(40)).await.expect("accepted");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let behind = producer.enqueue(record(60_000)).await.expect("accepted");
    hanging.await.expect("after the timeout");
    behind.await.expect("delivered");

    let ten = (0..10).map(|_| record(6));
    for outcome in producer.send_batch(ten).await {
        outcome.expect("delivered");
    }

    world.faults.always(Fault::Hang);
    let error = producer.send(record(70)).await.expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Expired);
    let timeouts = f64::from(1 + error.attempts());
    world.faults.always(Fault::Pass);

    assert_eq!(recorder.sum(names::USER_RECORDS_DATA_PUT), 60_130.0);
    let stored = stored_bytes(&world).await as f64;
    assert!(stored > 60_130.0, "{stored}: with one aggregate");
    assert_eq!(recorder.sum(names::KINESIS_RECORDS_DATA_PUT), stored);
    assert_eq!(recorder.sum(names::USER_RECORD_EXPIRED), 1.0);
    assert_eq!(recorder.sum(names::USER_RECORDS_FAILED), 2.0);
    let by_code = |code: &str| recorder.sum(&format!("{}/{code}", names::ERRORS_BY_CODE));
    assert_eq!((by_code(throttled), by_code(denied)), (1.0, 1.0));
    assert_eq!(by_code("Timeout"), timeouts);
    assert_eq!(recorder.sum(names::ALL_ERRORS), 2.0 + timeouts);
    let mut retries = recorder.of(names::RETRIES_PER_RECORD);
    retries.sort_by(f64::total_cmp);
    // Of the throttled one and the one that hung.
    assert_eq!((retries.len(), retries.iter().sum::<f64>()), (14, 2.0));
    assert_eq!(retries[12..], [1.0, 1.0]);

    let requests = world.faults.requests().len();
    let times = recorder.of(names::REQUEST_TIME);
    assert_eq!(times.len(), requests);
    let timed_out = times.iter().filter(|ms| **ms >= 6000.0 && **ms < 6010.0);
    assert_eq!(timed_out.count() as f64, timeouts, "{times:?}");
    let buffering = recorder.of(names::BUFFERING_TIME);
    let waited = |ms: &f64| *ms >= 4000.0 && *ms < 5000.0;
    assert_eq!(
        buffering.iter().filter(|ms| waited(ms)).count(),
        1,
        "{buffering:?}"
    );
    assert!(
        buffering.iter().all(|ms| *ms < 10.0 || waited(ms)),
        "{buffering:?}"
    );
    for name in [
        names::USER_RECORDS_PER_KINESIS_RECORD,
        names::USER_RECORDS_PER_REQUEST,
    ] {
        let members = recorder.of(name);
        assert_eq!(
            members.iter().filter(|count| **count == 10.0).count(),
            1,
            "{members:?}"
        );
        assert_eq!(members.len(), requests, "{name}");
    }

    assert_eq!(recorder.sum(names::WRONG_SHARD), 0.0);
    world.split("shardId-000000000000").await;
    delivered(enqueue(&producer, 0..50).await).await;
    let dropped = world.read().await.dropped as f64;
    assert!(dropped > 0.0, "cut for the parent");
    assert_eq!(recorder.sum(names::WRONG_SHARD), dropped);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_oldest_record_counts_from_its_acceptance_until_it_is_resolved() {
    let world = World::new(2).await;
    let producer = world.producer(Settings {
        request_timeout: Duration::from_secs(60),
        ..Settings::default()
    });
    assert_eq!(producer.outstanding().oldest_age, None);
    world.faults.next([Fault::Hang]);
    let first = producer.try_send(numbered(1)).expect("room");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let second = producer.try_send(numbered(2)).expect("room");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let age = producer
        .outstanding()
        .oldest_age
        .expect("one is outstanding");
    assert!(
        age.abs_diff(Duration::from_secs(15)) < Duration::from_millis(100),
        "{age:?}"
    );
    first.await.expect("delivered after the timeout");
    second.await.expect("delivered");
    producer.flush().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(producer.outstanding().oldest_age, None);
}

/// The spans there were, each with its fields.
#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>);

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("kinesis_producer")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::from([("name", span.metadata().name().to_owned())]);
        span.record(&mut Fields(&mut fields));
        let mut spans = self.0.lock().expect("no panic while it is held");
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, _event: &Event<'_>) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn every_request_has_a_span_with_its_size_and_without_its_contents() {
    let spans = Spans::default();
    // Two of them: with one alone, a span that another test's thread meets first is asked of that
    // thread's subscriber, which is none, and the answer is kept.
    let _another = tracing::Dispatch::new(spans.clone());
    let _subscribed = tracing::subscriber::set_default(spans.clone());
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let record = UserRecord::new("secret-key", "secret-data");
    producer.send(record).await.expect("delivered");
    let spans = spans.0.lock().expect("no panic while it is held");
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).cloned();
    let put = named("put_records").expect("a request");
    assert_eq!((&*put["records"], &*put["bytes"]), ("1", "21"));
    assert!(put["stream"].contains("flights"));
    assert!(named("look_at_stream").is_some());
    assert!(!format!("{spans:?}").contains("secret"));
}
