//! Records that are suddenly much larger than those before them, and the budget of the worker. `crowded` has
//! more of it.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kinesis_consumer::metrics as names;
use kinesis_consumer::{FanOutSettings, Retrieval, Settings};
use kinesis_core::HashKeyRange;

use crate::ledger::Behaviour;
use crate::measured::Counts;
use crate::world::{STREAM, World, until};

const MIB: usize = 1 << 20;

/// The least that the settings allow.
const BUDGET: usize = 20 * MIB;

fn with_least_budget(settings: Settings) -> Settings {
    Settings {
        max_buffered_bytes: BUDGET,
        ..settings
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_larger_than_expected_wait_until_there_is_room_for_them() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    const SHARDS: u32 = 8;
    let world = World::new(SHARDS as i32).await;
    let ranges = HashKeyRange::FULL.split_even(SHARDS);
    // What is read first tells that records are small; then comes a full answer of large ones.
    for range in &ranges {
        for _ in 0..40 {
            world.put_at(range.start(), vec![b'0'; 100]).await;
        }
        for _ in 0..5 {
            world.put_at(range.start(), vec![b'0'; MIB - 1]).await;
        }
    }
    let settings = with_least_budget(Settings::default());
    let slow = Duration::from_secs(1);
    let worker = world.worker_with("one", settings, move |seen| match seen.record.data.len() {
        100 => Behaviour::Process,
        _ => Behaviour::Slow(slow),
    });
    world.ledger.until_processed(45 * SHARDS as usize).await;
    worker.stop().await.expect("a clean stop");
    let most = counts.of(&format!("{} most", names::BUFFERED_BYTES)) as usize;
    assert!(most <= BUDGET, "{most} of {BUDGET} bytes");
    assert!(most > BUDGET / 2, "only {most} of {BUDGET} bytes");
}

/// Puts 30 records at once, so that they come as one event, of nearly 1 MB: larger than what stuck
/// shards leave.
async fn put_event(world: &World, range: &HashKeyRange) {
    let record = PutRecordsRequestEntry::builder()
        .partition_key("a")
        .explicit_hash_key(range.start().to_string())
        .data(Blob::new(vec![b'h'; 30_000]));
    let record = record.build().expect("complete");
    let put = world.kinesis.put_records().stream_name(STREAM);
    let put = put.set_records(Some(vec![record; 30])).send().await;
    assert_eq!(put.expect("put").failed_record_count, Some(0));
}

/// A worker of which all shards but one are stuck with records of nearly 1 MB; what it counted. The
/// healthy one takes so long for its first record.
pub(crate) async fn one_goes_on_beside_stuck_ones(
    stuck: u32,
    settings: Settings,
    first: Duration,
) -> Counts {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(stuck as i32 + 1).await;
    let ranges = HashKeyRange::FULL.split_even(stuck + 1);
    let (healthy, others) = ranges.split_last().expect("one at least");
    for range in others {
        world.put_at(range.start(), vec![b's'; 900_000]).await;
    }
    let settings = with_least_budget(settings);
    let worker = world.worker_with("one", settings, move |seen| match seen.record.data[0] {
        b's' => Behaviour::Hang,
        b'f' => Behaviour::Slow(first),
        _ => Behaviour::Process,
    });
    until("they hold what they can", async || {
        counts.of(names::BUFFERED_BYTES) as usize + 900_000 > BUDGET / 8 * 5
            || stuck == 1 && counts.of(names::BUFFERED_BYTES) > 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.put_at(healthy.start(), "first").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        put_event(&world, healthy).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.ledger.until_processed(601).await;
    // Fan-out is tried again meanwhile.
    tokio::time::sleep(Duration::from_secs(400)).await;
    put_event(&world, healthy).await;
    world.ledger.until_processed(631).await;
    worker.kill().await;
    counts.clone()
}

/// How often a shard went over to polling because there is no room for its events, and how often what came
/// by that retrieval was left unread.
pub(crate) fn without_room(counts: &Counts, retrieval: &str) -> (u64, u64) {
    let fall_backs = format!("{} reason=no_room", names::FAN_OUT_FALL_BACKS);
    let unread = format!("{} retrieval={retrieval}", names::FETCHES_WITHOUT_ROOM);
    (counts.of(&fall_backs), counts.of(&unread))
}

#[tokio::test(start_paused = true)]
async fn one_stuck_processor_does_not_starve_shards_that_are_read_by_fan_out() {
    let fan_out = FanOutSettings {
        fall_back_to_polling: false,
        ..FanOutSettings::default()
    };
    let settings = Settings {
        retrieval: Retrieval::FanOut(fan_out),
        ..Settings::default()
    };
    let counts = one_goes_on_beside_stuck_ones(1, settings, Duration::ZERO).await;
    assert_eq!(without_room(&counts, "fan_out"), (0, 0));
}
