//! What a consumer of a thousand shards takes in memory while nothing is processed.
//!
//! Counted is what this thread has allocated and not freed, at its most: consumer, SDK, and
//! kinesis-local's side of each call, all of which run here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kinesis_consumer::{
    Checkpointer, Consumer, FanOutSettings, LeaseStore, ProcessRecordsInput, ProcessorError,
    Record, RecordProcessor, Retrieval, Settings, ShardId,
};
use kinesis_core::{Aggregate, Clock, HashKeyRange, Rand, UserRecord};
use kinesis_local::testing::{START_MS, TestStream};
use kinesis_local::{KinesisLocal, Limits};
use tokio_util::sync::CancellationToken;

const SHARDS: usize = 1_000;
const MIB: usize = 1 << 20;

/// The budget for what is fetched and not yet processed.
const BUDGET: usize = 24 * MIB;

/// What a thousand shards take beside it: idle ones ask all at once. Source: measured here, 75 MiB idle, and
/// a third as much again; 16 MiB of it are the small pieces that each shard may take above the budget.
const CONSTANT: usize = 100 * MIB;

/// Payload in each shard; nine budgets in all, so more than budget and constant.
const BYTES_OF_SHARD: usize = 9 * BUDGET / SHARDS;

/// Members of 20 bytes in each shard, as aggregates: about the budget as they come, and six
/// budgets once they are opened.
const MEMBERS_OF_SHARD: usize = 1_000;

/// What is in each shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Holds {
    Nothing,
    LargeRecord,
    Aggregate,
}

impl Holds {
    fn data(self) -> Option<Blob> {
        match self {
            Self::Nothing => None,
            Self::LargeRecord => Some(Blob::new(vec![7; BYTES_OF_SHARD])),
            Self::Aggregate => {
                let mut aggregate = Aggregate::new();
                for _ in 0..MEMBERS_OF_SHARD {
                    aggregate.push(UserRecord::new("key", vec![7; 20]));
                }
                let data = aggregate.encode().to_vec();
                assert!(data.len() * SHARDS < BUDGET * 3 / 2);
                Some(Blob::new(data))
            }
        }
    }
}

/// Never done with its first batch.
struct Stalled(Arc<AtomicUsize>);

#[async_trait]
impl RecordProcessor for Stalled {
    async fn process_records(&mut self, _: ProcessRecordsInput) -> Result<(), ProcessorError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn shard_ended(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        Ok(())
    }
}

async fn start(holds: Holds) -> KinesisLocal {
    let local = KinesisLocal::builder()
        .clock(Clock::starting_at(START_MS))
        .rand(Rand::seeded(1))
        .limits(Limits::Off)
        .start()
        .await
        .expect("kinesis-local starts");
    TestStream::create(&local, "flights", SHARDS as i32).await;
    if let Some(data) = holds.data() {
        let kinesis = aws_sdk_kinesis::Client::new(&local.sdk_config());
        let ranges = HashKeyRange::FULL.split_even(SHARDS as u32);
        for ranges in ranges.chunks(40) {
            let entry = |range: &HashKeyRange| {
                PutRecordsRequestEntry::builder()
                    .partition_key("key")
                    .explicit_hash_key(range.start().to_string())
                    .data(data.clone())
                    .build()
                    .expect("complete")
            };
            let records = Some(ranges.iter().map(entry).collect());
            let put = kinesis
                .put_records()
                .stream_name("flights")
                .set_records(records);
            assert_eq!(put.send().await.expect("put").failed_record_count, Some(0));
        }
    }
    local
}

/// The most that was allocated beyond what was there before the consumer, in bytes, and how many
/// processors were given a batch.
fn peak(holds: Holds, retrieval: Retrieval) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let local = runtime.block_on(start(holds));
    let called = Arc::new(AtomicUsize::new(0));
    let started = Arc::new(AtomicUsize::new(0));
    let measured = allocation_counter::measure(|| {
        runtime.block_on(async {
            let kinesis = aws_sdk_kinesis::Client::new(&local.sdk_config());
            let (calls, starts) = (Arc::clone(&called), Arc::clone(&started));
            let factory = move |_: &ShardId| {
                starts.fetch_add(1, Ordering::Relaxed);
                Stalled(Arc::clone(&calls))
            };
            let settings = Settings {
                max_buffered_bytes: BUDGET,
                retrieval: retrieval.clone(),
                shutdown_timeout: Duration::from_millis(100),
                ..Settings::default()
            };
            let leases = LeaseStore::in_memory();
            let consumer = Consumer::builder("arrivals", "flights", kinesis, leases, factory)
                .settings(settings)
                .rand(Rand::seeded(2))
                .build()
                .expect("valid");
            let running = tokio::spawn(consumer.run(CancellationToken::new()));
            while started.load(Ordering::Relaxed) < SHARDS {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // By fan-out a consumer is registered first, and what finds no room goes over to polling.
            let secs = if retrieval == Retrieval::Polling {
                10
            } else {
                60
            };
            tokio::time::sleep(Duration::from_secs(secs)).await;
            running.abort();
            assert!(running.await.expect_err("aborted").is_cancelled());
        });
    });
    let peak = usize::try_from(measured.bytes_max).expect("fits");
    (peak, called.load(Ordering::Relaxed))
}

fn by_fan_out() -> Retrieval {
    Retrieval::FanOut(FanOutSettings::default())
}

#[test]
fn a_thousand_idle_shards_stay_within_the_constant() {
    for retrieval in [Retrieval::Polling, by_fan_out()] {
        let (peak, called) = peak(Holds::Nothing, retrieval.clone());
        println!(
            "1,000 idle shards: {} KiB at most, {retrieval:?}",
            peak / 1_024
        );
        assert_eq!(called, 0);
        assert!(peak <= CONSTANT, "{peak} bytes");
    }
}

/// By polling only: by fan-out each of the events that wait lies whole in the memory of kinesis-local, which
/// counts here, and makes more than the bound of such records.
#[test]
fn a_thousand_stalled_shards_stay_within_budget_and_constant_though_more_waits_in_the_stream() {
    let (peak, called) = peak(Holds::LargeRecord, Retrieval::Polling);
    println!(
        "1,000 stalled shards: {} KiB at most, {called} given a batch",
        peak / 1_024
    );
    // Reading went as far as the budget lets it, and no further.
    let read = called * BYTES_OF_SHARD;
    assert!(read <= BUDGET, "{read} bytes were read");
    assert!(read > BUDGET / 4, "only {read} bytes were read");
    assert!(peak <= BUDGET + CONSTANT, "{peak} bytes");
}

#[test]
fn aggregates_of_small_members_in_a_thousand_stalled_shards_stay_within_budget_and_constant() {
    for retrieval in [Retrieval::Polling, by_fan_out()] {
        let (peak, called) = peak(Holds::Aggregate, retrieval.clone());
        println!(
            "1,000 shards stalled with aggregates: {} KiB at most, {called} given a batch, {retrieval:?}",
            peak / 1_024
        );
        let read = called * MEMBERS_OF_SHARD * size_of::<Record>();
        assert!(read <= BUDGET, "{read} bytes were read");
        assert!(read > BUDGET / 4, "only {read} bytes were read");
        assert!(peak <= BUDGET + CONSTANT, "{peak} bytes");
    }
}
