//! The common shapes of tests, and that instances side by side do not disturb each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use kinesis_core::{Clock, Rand, SequenceNumber};
use kinesis_local::testing::{START_MS, Sent, Stored, TestStream, range};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule, KinesisLocal, Limits, Settings};

/// Instances that run at once.
const INSTANCES: u64 = 16;

fn pairs(stored: &[Stored]) -> Vec<Sent> {
    let pair = |stored: &Stored| Sent {
        partition_key: stored.partition_key.clone(),
        data: stored.data.clone(),
    };
    let mut pairs: Vec<_> = stored.iter().map(pair).collect();
    pairs.sort_by(|a, b| (&a.partition_key, &a.data).cmp(&(&b.partition_key, &b.data)));
    pairs
}

fn sorted(mut sent: Vec<Sent>) -> Vec<Sent> {
    sent.sort_by(|a, b| (&a.partition_key, &a.data).cmp(&(&b.partition_key, &b.data)));
    sent
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_back_across_reshards_with_parents_first() {
    let stream = TestStream::start(2).await;
    let mut sent = stream.seed(1_200, 7).await;
    stream.split("shardId-000000000000").await;
    sent.extend(stream.seed(600, 8).await);
    stream
        .merge("shardId-000000000003", "shardId-000000000001")
        .await;
    stream.until_closed("shardId-000000000001").await;
    sent.extend(stream.seed(600, 9).await);
    let stored = stream.until_records(2_400).await;
    assert_eq!(pairs(&stored), sorted(sent));
    let numbers: Vec<_> = stored
        .iter()
        .map(|stored| (&stored.shard_id, &stored.sequence_number))
        .collect();
    assert!(
        numbers.is_sorted(),
        "shards are in order, and records in each"
    );
    let open = stream.open_shards().await;
    let ids: Vec<_> = open.iter().map(|shard| shard.shard_id()).collect();
    assert_eq!(ids, ["shardId-000000000002", "shardId-000000000004"]);
    assert!(range(&open[0]).end() < range(&open[1]).start());
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_records_and_numbers() {
    let run = async || {
        let stream = TestStream::start(3).await;
        stream.seed(500, 7).await;
        stream.read_all().await
    };
    let first = run().await;
    assert_eq!(first, run().await);
    assert_eq!(first.len(), 500);
    let stream = TestStream::start(1).await;
    assert_ne!(stream.seed(10, 1).await, stream.seed(10, 2).await);
}

#[tokio::test(start_paused = true)]
async fn waiting_outlasts_the_delays_of_the_instance() {
    let mut settings = Settings::default();
    (settings.create_delay_ms, settings.update_delay_ms) = (30_000, 60_000);
    let builder = KinesisLocal::builder().clock(Clock::starting_at(START_MS));
    let local = builder.settings(settings).start().await;
    let local = local.expect("it starts");
    let stream = TestStream::create(&local, "slow", 1).await;
    stream.register_consumer("reader").await;
    stream.split("shardId-000000000000").await;
    stream.until_closed("shardId-000000000000").await;
    stream.put("k", "x").await;
    assert_eq!(stream.until_records(1).await.len(), 1);
    let arn = stream.arn().await;
    assert!(arn.ends_with(":stream/slow"), "{arn}");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "and never: pigs fly")]
async fn what_never_comes_is_named() {
    let stream = TestStream::start(1).await;
    stream.until("pigs fly", async || false).await;
}

/// Puts, reshards and reads in one of many instances; each has its own seed and the same names.
async fn alone(seed: u64) -> Vec<Stored> {
    let builder = KinesisLocal::builder()
        .rand(Rand::seeded(seed))
        .limits(Limits::Off)
        .virtual_time(true);
    let local = builder.start().await.expect("it starts");
    let stream = TestStream::create(&local, "stream", 1).await;
    let mut sent = stream.seed(300, seed).await;
    if seed.is_multiple_of(2) {
        // What would hurt the others if anything were shared.
        let refused = FaultRule::new(FaultEffect::error("InvalidArgumentException"));
        let plan = FaultPlan::seeded(seed).rule(refused.operation("ListShards").times(1));
        local.set_faults(plan).expect("a plan");
        let list = stream.client().list_shards().stream_name("stream").send();
        list.await.expect_err("the fault is this instance's");
        local
            .advance(Duration::from_secs(3600))
            .expect("virtual time");
    }
    stream.split("shardId-000000000000").await;
    sent.extend(stream.seed(100, !seed).await);
    let stored = stream.read_all().await;
    assert_eq!(pairs(&stored), sorted(sent), "seed {seed}");
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn instances_side_by_side_do_not_disturb_each_other() {
    let all: Vec<_> = (0..INSTANCES)
        .map(|seed| tokio::spawn(alone(seed)))
        .collect();
    for one in all {
        assert_eq!(one.await.expect("no panic").len(), 400);
    }
}

/// Writers at once, and records of each.
const WRITERS: usize = 8;
const RECORDS_EACH: usize = 50;

/// Follows a shard from its beginning until what was `written` before the last read has come; the numbers.
async fn follow(stream: TestStream, written: Arc<AtomicBool>) -> Vec<SequenceNumber> {
    let iterator = stream
        .client()
        .get_shard_iterator()
        .stream_name(stream.name());
    let iterator = iterator
        .shard_id("shardId-000000000000")
        .shard_iterator_type(ShardIteratorType::TrimHorizon);
    let mut next = iterator.send().await.expect("an iterator").shard_iterator;
    let mut numbers = Vec::new();
    loop {
        let is_last = written.load(Ordering::Acquire);
        let get = stream.client().get_records().set_shard_iterator(next);
        let got = get.send().await.expect("the shard is read");
        next = got.next_shard_iterator;
        numbers.extend(
            got.records.iter().map(|record| {
                SequenceNumber::try_from(&*record.sequence_number).expect("a number")
            }),
        );
        if is_last && got.records.is_empty() {
            return numbers;
        }
        tokio::task::yield_now().await;
    }
}

/// If a number could be read before a smaller one of its shard, a reader that goes on behind it would
/// never see the smaller one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_number_is_readable_only_after_all_smaller_ones_of_its_shard() {
    let directory = tempfile::tempdir().expect("a directory");
    for durable in [false, true] {
        let mut builder = KinesisLocal::builder().limits(Limits::Off);
        if durable {
            builder = builder.data_dir(directory.path());
        }
        let local = builder.start().await.expect("it starts");
        let stream = TestStream::create(&local, "stream", 1).await;
        let written = Arc::new(AtomicBool::new(false));
        let reading: Vec<_> = (0..2)
            .map(|_| tokio::spawn(follow(stream.clone(), Arc::clone(&written))))
            .collect();
        let writing: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let stream = stream.clone();
                tokio::spawn(async move {
                    let mut numbers = Vec::new();
                    for _ in 0..RECORDS_EACH {
                        numbers.push(stream.put(&writer.to_string(), "x").await);
                    }
                    numbers
                })
            })
            .collect();
        let mut acknowledged = Vec::new();
        for writer in writing {
            acknowledged.extend(writer.await.expect("no panic"));
        }
        written.store(true, Ordering::Release);
        acknowledged.sort();
        for reader in reading {
            let read = reader.await.expect("no panic");
            assert_eq!(read, acknowledged, "durable: {durable}");
        }
        local.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_starts_at_a_fixed_time() {
    let stream = TestStream::start(1).await;
    let created = stream.summary().await.stream_creation_timestamp;
    assert_eq!(created.to_millis().expect("a time"), START_MS as i64);
}
