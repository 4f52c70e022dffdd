//! One shard's buffer: its bounds, and that everything is given back.

mod growing;
mod stuck;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kinesis_core::limits;
use tokio::time::timeout;

use super::*;
use crate::record::Record;

const LIMITS: BufferLimits = BufferLimits {
    bytes: 1000,
    records: 10,
};

fn batch(hold: Hold) -> Option<Batch> {
    let sequence_number: kinesis_core::SequenceNumber = "1".parse().expect("digits");
    let record = Record::new("key", "data", sequence_number);
    Batch::new(vec![record], 0, hold)
}

async fn has_slot(filler: &Filler) -> bool {
    let slot = filler.slot(limits::GET_RECORDS_MAX_BYTES);
    timeout(Duration::from_secs(1), slot).await.is_ok()
}

async fn fill(filler: &Filler, bytes: usize, records: usize) {
    let slot = filler.slot(bytes.max(limits::GET_RECORDS_MAX_BYTES)).await;
    slot.expect("somebody reads").send(bytes, records, batch);
}

#[tokio::test(start_paused = true)]
async fn reading_ahead_stops_at_the_limit_of_bytes_and_goes_on_when_a_batch_is_processed() {
    let budget = Budget::new(100 * limits::GET_RECORDS_MAX_BYTES);
    let (filler, mut receiver) = buffer(LIMITS, &budget);
    fill(&filler, 999, 1).await;
    assert!(has_slot(&filler).await, "tested before the fetch");
    fill(&filler, 500, 1).await;
    assert!(!has_slot(&filler).await);
    let in_hand = receiver.recv().await.expect("a batch");
    assert!(!has_slot(&filler).await, "a batch in hand still counts");
    drop(in_hand);
    assert!(has_slot(&filler).await);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_waits_for_more_room_is_the_first_once_the_batch_before_it_is_processed() {
    const KIB: usize = limits::KIB;
    let budget = Budget::new(800 * KIB);
    let limits = BufferLimits {
        bytes: 400 * KIB,
        records: 100,
    };
    let (filler, mut receiver) = buffer(limits, &budget);
    fill(&filler, KIB, 1).await;
    let in_hand = receiver.recv().await.expect("a batch");
    let mut event = filler.reserve_event(10 * KIB).await;
    let stuck = budget.reserve(budget.largest() - budget.used()).await;
    let processed = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(in_hand);
    };
    let room = timeout(
        Duration::from_secs(5),
        filler.exchange(&mut event, 50 * KIB),
    );
    let (room, ()) = tokio::join!(room, processed);
    assert!(room.expect("not behind those that are stuck"));
    assert_eq!(event.bytes(), 50 * KIB);
    drop(stuck);
}

#[tokio::test(start_paused = true)]
async fn reading_ahead_stops_at_the_limit_of_records_and_of_batches() {
    let budget = Budget::new(100 * limits::GET_RECORDS_MAX_BYTES);
    let (filler, _receiver) = buffer(LIMITS, &budget);
    fill(&filler, 1, 10).await;
    assert!(!has_slot(&filler).await);
    let (filler, _receiver) = buffer(LIMITS, &budget);
    for _ in 0..PENDING_BATCHES_MAX {
        fill(&filler, 1, 1).await;
    }
    assert!(!has_slot(&filler).await);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_stuck_leaves_the_others_their_share() {
    let limits_of_shard = BufferLimits {
        bytes: usize::MAX,
        records: usize::MAX,
    };
    let total = 4 * limits::GET_RECORDS_MAX_BYTES;
    let budget = Budget::new(total);
    let (stuck, _unread) = buffer(limits_of_shard, &budget);
    let (healthy, mut read) = buffer(limits_of_shard, &budget);
    fill(&stuck, budget.share(), 1).await;
    assert!(!has_slot(&stuck).await, "its half is full");
    for _ in 0..100 {
        fill(&healthy, total / 4, 1).await;
        assert!(read.recv().await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn all_is_given_back_when_nobody_reads_any_more() {
    let budget = Budget::new(100 * limits::GET_RECORDS_MAX_BYTES);
    let (filler, receiver) = buffer(LIMITS, &budget);
    fill(&filler, 10, 1).await;
    fill(&filler, 20, 1).await;
    assert_eq!(budget.used(), 30);
    drop(receiver);
    assert_eq!(budget.used(), 0);
    assert!(filler.slot(1).await.is_none());
    drop(filler);
    assert_eq!(2 * budget.share(), 125 * limits::GET_RECORDS_MAX_BYTES);
}

#[tokio::test(start_paused = true)]
async fn an_event_does_not_go_over_the_share_unless_the_shard_holds_nothing() {
    let budget = Budget::new(2 * limits::GET_RECORDS_MAX_BYTES);
    let (filler, mut receiver) = buffer(LIMITS, &budget);
    let fits = async |bytes| {
        let reserve = filler.reserve_event(bytes);
        timeout(Duration::from_secs(1), reserve).await.is_ok()
    };
    assert!(fits(5000).await, "it holds nothing");
    fill(&filler, 600, 1).await;
    assert!(fits(400).await);
    assert!(!fits(401).await);
    drop(receiver.recv().await);
    assert!(fits(401).await);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_stalled_shards_stay_within_the_budget_and_a_thousand_idle_ones_hold_nothing() {
    let seed = kinesis_core::Rand::from_entropy().next_u64();
    println!("seed {seed}");
    let rand = kinesis_core::Rand::seeded(seed);
    let budget = Budget::new(64 * 1024 * 1024);
    let (most, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (mut readers, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    for shard in 0..2_000 {
        let settings = BufferLimits {
            bytes: 8 * 1024 * 1024,
            records: 30_000,
        };
        let (filler, receiver) = buffer(settings, &budget);
        // Nothing is taken out: each processor is stuck with its first batch, or has none.
        readers.push(receiver);
        let (budget, rand) = (Arc::clone(&budget), rand.fork());
        let (most, asked) = (Arc::clone(&most), Arc::clone(&asked));
        tasks.spawn(async move {
            while let Some(slot) = filler.slot(2 * limits::MIB).await {
                most.fetch_max(budget.used(), Ordering::Relaxed);
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10 + rand.below(90))).await;
                let bytes = 1 + rand.below(slot.bytes() as u64) as usize;
                match shard % 2 {
                    0 => slot.send(bytes, 1, batch),
                    _ => slot.send(0, 0, |_| None),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (most, asked) = (most.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
    let bound = 64 * limits::MIB + 2_000 * crate::fetch::budget::PIECE_MIN;
    assert!(most <= bound, "{most} bytes");
    assert!(most > 38 * 1024 * 1024, "the budget is used: {most} bytes");
    assert!(asked > 40_000, "idle shards go on: {asked} times");
    readers.clear();
    tasks.shutdown().await;
    assert_eq!(budget.used(), 0, "everything is given back");
}
