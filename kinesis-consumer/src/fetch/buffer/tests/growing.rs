//! Records that grow ten thousandfold at once, as they come or once they are opened, in all shards of a
//! worker.

use kinesis_core::{Clock, Rand};

use super::*;
use crate::fetch::budget::PIECE_MIN;
use crate::fetch::fan_out::UNREAD_PATIENCE;
use crate::fetch::poll::{Answer, Ask, Poll, StartAt};

const SHARDS: usize = 1_000;
/// Whether to read on beside shards that are stuck, too: `stuck` has that with fewer, for every day.
const SLOW: bool = cfg!(feature = "slow");
const MOST_RECORDS: u32 = 10_000;

/// What the service answers to a request for so many records of so many bytes each.
fn answer(limit: u32, record_bytes: usize) -> (u64, usize) {
    let fitting = limits::GET_RECORDS_MAX_BYTES / record_bytes;
    let records = fitting.min(limit as usize).max(1);
    (records as u64, records * record_bytes)
}

/// Bytes of a record as it comes, and opened.
type Sizes = (usize, usize);

/// When records have grown.
const GROWN_AFTER: Duration = Duration::from_secs(30);

/// Reads a shard, as [`crate::fetch`] does, until nobody takes what it brings; records are of 100 B
/// until all at once they are of another size. Notes the most that the budget ever held.
async fn read(
    filler: Filler,
    budget: Arc<Budget>,
    most: Arc<AtomicUsize>,
    mut poll: Poll,
    grown: Sizes,
) {
    let clock = Clock::system();
    let begun = clock.now();
    poll.on_iterator("first".into());
    loop {
        let limit = match poll.next(clock.now()) {
            Ask::Wait(until) => {
                tokio::time::sleep_until(until).await;
                continue;
            }
            Ask::Iterator(at) => panic!("{at:?}"),
            Ask::Records(_) => poll.limit(MOST_RECORDS, usize::MAX),
        };
        let Some(mut slot) = filler.slot(poll.wanted(MOST_RECORDS)).await else {
            return;
        };
        let limit = limit.min(poll.limit(MOST_RECORDS, slot.bytes()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let has_grown = clock.now() - begun > GROWN_AFTER;
        let (record_bytes, opened_bytes) = if has_grown { grown } else { (100, 160) };
        let (records, bytes) = answer(limit, record_bytes);
        // With what is around the records.
        let length = (bytes + records as usize * 140).min(limits::GET_RECORDS_MAX_BYTES);
        if length > slot.bytes() {
            let has_room = timeout(UNREAD_PATIENCE, slot.grow(length, limit == 1)).await;
            if has_room != Ok(true) {
                poll.on_unread(limit, length as u64, clock.now());
                continue;
            }
        }
        let opened = records as usize * opened_bytes;
        let answer = Answer {
            next_iterator: Some("next".into()),
            last: None,
            records,
            bytes: bytes as u64,
            opened_bytes: opened as u64,
            millis_behind_latest: 1_000,
        };
        if opened > slot.bytes() {
            let has_room = timeout(UNREAD_PATIENCE, slot.grow(opened, records == 1)).await;
            if has_room != Ok(true) {
                poll.on_unopened(&answer, clock.now());
                continue;
            }
        }
        poll.on_answer(answer, clock.now());
        slot.send(opened, records as usize, batch);
        most.fetch_max(budget.used(), Ordering::Relaxed);
    }
}

/// A thousand shards, of which so many are stuck; the most that was ever held of the budget before the
/// records grew, and in all. All healthy ones read large ones.
async fn most_of_a_thousand(total: usize, stuck: usize, grown: Sizes) -> (usize, usize) {
    let budget = Budget::new(total);
    let (mut stuck_ends, mut processors) = (Vec::new(), tokio::task::JoinSet::new());
    let (most, large) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut readers = tokio::task::JoinSet::new();
    let rand = Rand::seeded(total as u64);
    for shard in 0..SHARDS {
        let settings = BufferLimits {
            bytes: 8 * limits::MIB,
            records: 30_000,
        };
        let (filler, mut receiver) = buffer(settings, &budget);
        let now = Clock::system().now();
        let poll = Poll::new(
            StartAt::TrimHorizon,
            Duration::from_secs(1),
            rand.fork(),
            now,
        );
        let (most, budget) = (Arc::clone(&most), Arc::clone(&budget));
        readers.spawn(read(filler, budget, most, poll, grown));
        if shard < stuck {
            stuck_ends.push(receiver);
            continue;
        }
        let (large, rand) = (Arc::clone(&large), rand.fork());
        processors.spawn(async move {
            let (mut seen, begun) = (false, Clock::system().now());
            while let Some(Fetched::Batch(in_hand)) = receiver.recv().await {
                let has_grown = begun.elapsed() > GROWN_AFTER + Duration::from_secs(1);
                let bytes = in_hand._hold.bytes;
                tokio::time::sleep(Duration::from_millis(rand.below(100))).await;
                if has_grown && bytes >= grown.1 && !std::mem::replace(&mut seen, true) {
                    large.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    tokio::time::sleep(GROWN_AFTER).await;
    let before = most.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(180)).await;
    let large = large.load(Ordering::Relaxed);
    assert_eq!(large, SHARDS - stuck, "all read the large ones");
    readers.shutdown().await;
    processors.shutdown().await;
    drop(stuck_ends);
    assert_eq!(budget.used(), 0, "everything is given back");
    (before, most.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_shards_whose_records_grow_at_once_stay_within_the_bound_and_all_are_read_on() {
    let beside_stuck = SLOW.then_some((64, 40));
    for (budget_mib, stuck) in [(20, 0)].into_iter().chain(beside_stuck) {
        let total = budget_mib * limits::MIB;
        let grown = (limits::MIB, limits::MIB);
        let (before, most) = most_of_a_thousand(total, stuck, grown).await;
        let bound = total + SHARDS * PIECE_MIN;
        assert!(before <= bound, "{before} bytes");
        assert!(most <= bound, "{most} of {bound} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_shards_whose_records_open_to_more_at_once_stay_within_the_bound_too() {
    // Aggregates of 50 KiB with members of 20 B.
    let grown = (50 * limits::KIB, 300 * limits::KIB);
    let beside_stuck = SLOW.then_some((128, 200));
    for (budget_mib, stuck) in [(20, 0)].into_iter().chain(beside_stuck) {
        let total = budget_mib * limits::MIB;
        let (before, most) = most_of_a_thousand(total, stuck, grown).await;
        let bound = total + SHARDS * PIECE_MIN;
        assert!(before <= bound, "{before} bytes");
        assert!(most <= bound, "{most} of {bound} bytes");
        assert!(most > total / 2, "only {most} bytes");
    }
}
