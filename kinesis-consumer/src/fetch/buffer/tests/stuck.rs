//! Shards whose processors are stuck, and those beside them that go on.

use super::*;
use crate::fetch::budget::PIECE_MIN;

const NO_LIMITS: BufferLimits = BufferLimits {
    bytes: usize::MAX,
    records: usize::MAX,
};

/// Reads as long as there is room; nothing is taken out.
async fn read_until_stuck(filler: &Filler) {
    let wanted = 2 * limits::MIB;
    while let Ok(Some(slot)) = timeout(Duration::from_secs(1), filler.slot(wanted)).await {
        let bytes = slot.bytes();
        slot.send(bytes, 1, batch);
    }
}

/// Reads and processes so many answers; panics when it has to wait.
async fn goes_on(filler: &Filler, receiver: &mut mpsc::Receiver<Fetched>, answers: usize) {
    for _ in 0..answers {
        let slot = timeout(Duration::from_secs(1), filler.slot(2 * limits::MIB)).await;
        let slot = slot.expect("it does not wait").expect("somebody reads");
        let bytes = slot.bytes();
        assert!(bytes >= 8 * limits::KIB, "{bytes} bytes");
        slot.send(bytes, 1, batch);
        assert!(receiver.recv().await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn shards_that_are_stuck_do_not_stop_the_others_however_many_they_are() {
    for (shards, budget_mib) in [(2, 20), (16, 20), (500, 256), (1_000, 64)] {
        let budget = Budget::new(budget_mib * limits::MIB);
        let mut ends: Vec<_> = (0..shards).map(|_| buffer(NO_LIMITS, &budget)).collect();
        let (healthy, mut receiver) = ends.pop().expect("at least one");
        for (stuck, _unread) in &ends {
            read_until_stuck(stuck).await;
        }
        assert!(budget.used() <= budget_mib * limits::MIB);
        goes_on(&healthy, &mut receiver, 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn shards_that_come_later_and_are_stuck_too_do_not_stop_the_others_either() {
    for budget_mib in [20, 256] {
        let budget = Budget::new(budget_mib * limits::MIB);
        let (healthy, mut receiver) = buffer(NO_LIMITS, &budget);
        let mut ends = Vec::new();
        while ends.len() < 1_000 {
            // As many as there are come at once, and take what they can.
            let come: Vec<_> = (0..=ends.len())
                .map(|_| buffer(NO_LIMITS, &budget))
                .collect();
            for (stuck, _unread) in &come {
                read_until_stuck(stuck).await;
            }
            ends.extend(come);
            let constant = (1 + ends.len()) * PIECE_MIN;
            assert!(budget.used() <= budget_mib * limits::MIB + constant);
            goes_on(&healthy, &mut receiver, 20).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_waits_to_read_ahead_goes_on_with_a_piece_once_it_holds_nothing() {
    let budget = Budget::new(40 * limits::MIB);
    let (healthy, mut receiver) = buffer(NO_LIMITS, &budget);
    let (stuck, _unread) = buffer(NO_LIMITS, &budget);
    fill(&healthy, limits::MIB, 1).await;
    let slot = stuck.slot(24 * limits::MIB).await.expect("somebody reads");
    slot.send(24 * limits::MIB, 1, batch);
    let mut ahead = Box::pin(healthy.slot(2 * limits::MIB));
    let waited = timeout(Duration::from_secs(60), &mut ahead).await;
    assert!(waited.is_err(), "it holds something");
    // Others' waiting is none of its: the common pool stays full.
    let wanted = stuck.reserve(25 * limits::MIB);
    assert!(timeout(Duration::from_secs(1), wanted).await.is_err());
    let in_hand = receiver.recv().await.expect("a batch");
    drop(in_hand);
    let slot = timeout(Duration::from_secs(1), ahead).await;
    let slot = slot.expect("it goes on").expect("somebody reads");
    assert!(slot.bytes() > 0);
}
