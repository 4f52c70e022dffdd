//! Records one by one: several keys at once, as a stream, and typed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use kinesis_consumer::codec::Json;
use kinesis_consumer::dead_letter::FailureCause;
use kinesis_consumer::{
    Consumer, ErrorKind, ForEach, OnFailure, ProcessorError, RecordProcessorFactory, RecordStream,
    Settings, ShardRecord, for_each, record_stream,
};
use kinesis_core::Rand;
use kinesis_local::{FaultEffect, FaultPlan, FaultRule};

use crate::world::{APPLICATION, STREAM, Worker, World};

pub(crate) fn worker(
    world: &World,
    name: &str,
    settings: Settings,
    factory: impl RecordProcessorFactory + 'static,
) -> Worker {
    let (kinesis, dynamodb) = (world.kinesis.clone(), world.dynamodb.clone());
    let mut builder = Consumer::builder(APPLICATION, STREAM, kinesis, dynamodb, factory);
    if let OnFailure::DeadLetter { .. } = settings.on_failure {
        builder = builder.dead_letters(world.letters.clone());
    }
    let consumer = builder
        .worker_id(name)
        .settings(settings)
        .clock(world.clock.clone())
        .rand(Rand::seeded(name.len() as u64))
        .build();
    Worker::of(consumer.expect("valid"))
}

/// What was handled of each key, in its order.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl Seen {
    /// Takes for each number the time that `takes` says, and notes it then.
    pub(crate) fn factory(
        &self,
        takes: fn(usize) -> Duration,
    ) -> impl RecordProcessorFactory + use<> {
        let seen = self.clone();
        for_each(ForEach::default(), move |handled: ShardRecord| {
            let seen = seen.clone();
            async move {
                let number = handled.record.decode(&Json)?;
                tokio::time::sleep(takes(number)).await;
                let key = handled.record.partition_key.to_string();
                let mut seen = seen.0.lock().expect("no panic");
                seen.entry(key).or_default().push(number);
                Ok(())
            }
        })
    }

    pub(crate) fn count(&self) -> usize {
        let seen = self.0.lock().expect("no panic");
        seen.values().map(Vec::len).sum()
    }

    /// How many keys there are, each of which has to be in its order.
    pub(crate) fn keys_in_order(&self) -> usize {
        let seen = self.0.lock().expect("no panic");
        assert!(seen.values().all(|numbers| numbers.is_sorted()), "{seen:?}");
        seen.len()
    }
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_shard_are_handled_side_by_side_and_each_in_order() {
    let world = World::new(1).await;
    world.put_numbers(0..100, 7).await;
    let seen = Seen::default();
    // Each takes a time of its own, the later ones of a key often less.
    let factory = seen.factory(|number| Duration::from_millis(100 * (number as u64 * 37 % 11)));
    let worker = worker(&world, "one", Settings::default(), factory);
    crate::world::until("all are handled", async || seen.count() == 100).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!((seen.keys_in_order(), seen.count()), (7, 100));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_a_dead_letter_at_once_and_its_neighbours_are_handled_once() {
    let world = World::new(1).await;
    for text in ["1", "2", "no number", "4", "5"] {
        world.put(text, text).await;
    }
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let factory = for_each(ForEach::default(), move |handled: ShardRecord| {
        let noted = Arc::clone(&noted);
        async move {
            let number = handled.record.decode(&Json)?;
            noted.lock().expect("no panic").push(number);
            Ok(())
        }
    });
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 10 },
        ..Settings::default()
    };
    let worker = worker(&world, "one", settings, factory);
    crate::world::until("the others are handled", async || {
        seen.lock().expect("no panic").len() >= 4 && !world.ledger.letters().is_empty()
    })
    .await;
    worker.stop().await.expect("a clean stop");
    let letters = world.ledger.letters();
    assert_eq!((letters.len(), letters[0].cause), (1, FailureCause::Poison));
    assert_eq!(letters[0].record.data, "no number");
    assert_eq!(letters[0].attempts, 1);
    assert!(letters[0].error.contains("JSON"), "{}", letters[0].error);
    let mut seen = seen.lock().expect("no panic").clone();
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 4, 5]);
}

/// Takes the texts of the next `count` deliveries, acknowledged.
pub(crate) async fn take(records: &mut RecordStream, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let delivery = records.next().await.expect("it runs");
        texts.push(String::from_utf8_lossy(&delivery.record().data).into_owned());
        assert!(delivery.ack(), "the shard waits for it");
    }
    texts
}

pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_stream_has_every_record_in_order_and_ends_with_the_consumer() {
    let world = World::new(1).await;
    world.put_numbers(0..50, 3).await;
    let (mut records, factory) = record_stream(10);
    let worker = worker(&world, "one", Settings::default(), factory);
    assert_eq!(take(&mut records, 50).await, numbers(0..50));
    let (stopped, end) = tokio::join!(worker.stop(), records.next());
    stopped.expect("a clean stop");
    assert!(end.is_none(), "{end:?}");

    world.put_numbers(50..52, 3).await;
    let (mut records, factory) = record_stream(10);
    let worker = self::worker(&world, "two-", Settings::default(), factory);
    assert_eq!(
        take(&mut records, 2).await,
        numbers(50..52),
        "behind what was acknowledged"
    );
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_allowed_are_out_and_one_that_is_not_acknowledged_holds_the_checkpoint() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 1).await;
    let (mut records, factory) = record_stream(3);
    let worker = worker(&world, "one", Settings::default(), factory);
    let mut out = Vec::new();
    for _ in 0..3 {
        out.push(records.next().await.expect("it runs"));
    }
    let fourth = tokio::time::timeout(Duration::from_secs(60), records.next()).await;
    assert!(fourth.is_err(), "three are out");
    let held = out.remove(1);
    let first = out[0].record().position();
    for delivery in out {
        assert!(delivery.ack());
    }
    // The held one keeps one of three places; the others go on.
    let others = take(&mut records, 7).await;
    assert_eq!(others, numbers(3..10));
    tokio::time::sleep(Duration::from_secs(10)).await;
    let row = world.lease_row("shardId-000000000000").await;
    assert_eq!(
        row["checkpoint"],
        first.checkpoint(),
        "before the one that is out"
    );
    worker.kill().await;
    drop(held);

    let (mut records, factory) = record_stream(10);
    let worker = self::worker(&world, "two-", Settings::default(), factory);
    assert_eq!(take(&mut records, 9).await, numbers(1..10));
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_comes_again_and_one_that_is_poison_becomes_a_dead_letter() {
    let world = World::new(1).await;
    world.put_numbers(0..4, 1).await;
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 10 },
        ..Settings::default()
    };
    let (mut records, factory) = record_stream(1);
    let worker = worker(&world, "one", settings, factory);
    assert_eq!(take(&mut records, 1).await, ["0"]);
    drop(records.next().await);
    assert_eq!(take(&mut records, 1).await, ["1"], "and not 0 once more");
    let two = records.next().await.expect("it runs");
    two.fail(ProcessorError::poison("no flight"));
    assert_eq!(take(&mut records, 1).await, ["3"]);
    assert_eq!(world.ledger.letters()[0].record.data, "2");
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_whose_stream_was_dropped_stops_and_says_so() {
    let world = World::new(1).await;
    let (records, factory) = record_stream(1);
    drop(records);
    let worker = worker(&world, "one", Settings::default(), factory);
    world.put_numbers(0..1, 1).await;
    let error = worker.ended().await.expect_err("nobody takes records");
    assert_eq!(error.kind(), ErrorKind::Processor);
    let cause = std::error::Error::source(&error)
        .expect("a cause")
        .to_string();
    assert!(cause.contains("stream was dropped"), "{cause}");
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_before_the_stream_was_dropped_does_not_come_again() {
    let world = World::new(1).await;
    let (mut records, factory) = record_stream(1);
    let worker = worker(&world, "one", Settings::default(), factory);
    world.put_numbers(0..1, 1).await;
    assert_eq!(take(&mut records, 1).await, ["0"]);
    let row = async || world.lease_row("shardId-000000000000").await;
    crate::world::until("the first is checkpointed", async || {
        row().await["checkpoint"] != "TRIM_HORIZON"
    })
    .await;
    // No interval is over when the loop that takes them has had enough.
    world.put_numbers(1..2, 1).await;
    assert_eq!(take(&mut records, 1).await, ["1"]);
    drop(records);
    world.put_numbers(2..3, 1).await;
    let error = worker.ended().await.expect_err("nobody takes records");
    assert_eq!(error.kind(), ErrorKind::Processor);

    let (mut records, factory) = record_stream(1);
    let worker = self::worker(&world, "two-", Settings::default(), factory);
    assert_eq!(take(&mut records, 1).await, ["2"]);
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_of_a_shard_that_cannot_end_yet_does_not_come_again_after_a_stop() {
    let world = World::new(1).await;
    let (handled, mut numbers) = tokio::sync::mpsc::channel(10);
    let settings = ForEach {
        checkpoint_interval: Duration::from_secs(60 * 60),
        ..ForEach::default()
    };
    let factory = for_each(settings, move |record: ShardRecord| {
        let handled = handled.clone();
        async move {
            let number: u32 = record.record.decode(&Json)?;
            handled
                .try_send((number, record.record.position()))
                .expect("room");
            Ok(())
        }
    });
    let worker = worker(&world, "one", Settings::default(), factory);
    let row = async || world.lease_row("shardId-000000000000").await;
    world.put_numbers(0..1, 1).await;
    let (_, first) = numbers.recv().await.expect("it runs");
    crate::world::until("the first is checkpointed", async || {
        row().await["checkpoint"] == first.checkpoint()
    })
    .await;
    world.put_numbers(1..2, 1).await;
    let (number, second) = numbers.recv().await.expect("it runs");
    assert_eq!(number, 1);
    assert_eq!(row().await["checkpoint"], first.checkpoint());
    // The rows of the children cannot be made.
    let denied = FaultEffect::error("AccessDeniedException");
    let rule = FaultRule::new(denied).operation("PutItem");
    world.faults(FaultPlan::default().rule(rule));
    world.stream.split("shardId-000000000000").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.hits()[0] > 2, "the shard tries to end");
    worker.stop().await.expect("a clean stop");
    assert_eq!(row().await["checkpoint"], second.checkpoint());
}
