//! The shared byte budget.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use super::*;

/// A budget with so many bytes for whoever comes first, and a third of that in pieces.
fn with_common(bytes: usize) -> Arc<Budget> {
    Budget::new(bytes + bytes / (PIECES_PART - 1))
}

#[tokio::test(start_paused = true)]
async fn a_reservation_waits_until_it_fits_and_those_who_wait_are_served_in_order() {
    let budget = with_common(100);
    let first = budget.reserve(80).await;
    let large = tokio::spawn({
        let budget = Arc::clone(&budget);
        async move { budget.reserve(100).await }
    });
    tokio::task::yield_now().await;
    let mut small = Box::pin(budget.reserve(10));
    assert!(
        small.as_mut().now_or_never().is_none(),
        "the large one was first, though this one would fit"
    );
    drop(first);
    let large = large.await.expect("no panic");
    assert_eq!(budget.used(), 100);
    assert!(small.as_mut().now_or_never().is_none());
    drop(large);
    let small = timeout(Duration::from_secs(1), small)
        .await
        .expect("it fits now");
    drop(small);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_holds_nothing() {
    let budget = with_common(10);
    let held = budget.reserve(10).await;
    assert!(
        timeout(Duration::from_secs(1), budget.reserve(5))
            .await
            .is_err()
    );
    drop(held);
    assert!(
        timeout(Duration::from_secs(1), budget.reserve(10))
            .await
            .is_ok()
    );
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_corrected_without_waiting_and_the_next_one_waits_it_out() {
    let budget = with_common(100);
    let mut held = budget.reserve(50).await;
    held.resize(120);
    assert_eq!(budget.used(), 120);
    assert!(
        timeout(Duration::from_secs(1), budget.reserve(1))
            .await
            .is_err()
    );
    held.resize(20);
    assert!(
        timeout(Duration::from_secs(1), budget.reserve(80))
            .await
            .is_ok()
    );
}

#[test]
fn the_share_of_a_shard_is_even() {
    let budget = with_common(100);
    assert_eq!(budget.share(), 100);
    let members: Vec<_> = (0..4).map(|_| budget.join()).collect();
    assert_eq!(budget.share(), 25);
    drop(members);
    assert_eq!(budget.share(), 100);
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_nothing_gets_an_even_piece_when_others_hold_the_rest() {
    let budget = with_common(300);
    let _members: Vec<_> = (0..4).map(|_| budget.join()).collect();
    let first = budget.reserve_first(200, 0).await;
    assert_eq!(first.bytes(), 200, "while there is room");
    let stuck = budget.reserve(100).await;
    // Others that read ahead wait, and are not passed over by those that hold nothing.
    let mut ahead = Box::pin(budget.reserve(50));
    assert!(ahead.as_mut().now_or_never().is_none());
    let mut pieces = Vec::new();
    for _ in 0..4 {
        let piece = budget.reserve_first(80, 0).now_or_never();
        pieces.push(piece.expect("there is one for each"));
    }
    assert!(pieces.iter().all(|piece| piece.bytes() == 25));
    assert_eq!(budget.used(), 400);
    assert!(budget.reserve_first(80, 0).now_or_never().is_none());
    pieces.pop();
    let needs = budget.reserve_first(80, 26).now_or_never();
    assert!(needs.is_none(), "a piece is too small");
    assert!(budget.reserve_first(80, 25).now_or_never().is_some());
    drop(stuck);
    assert!(ahead.now_or_never().is_some());
    drop((first, pieces));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_piece_takes_what_comes_free_first() {
    let budget = with_common(300);
    let _member = budget.join();
    let (held, piece) = (
        budget.reserve(300).await,
        budget.reserve_first(300, 0).await,
    );
    assert_eq!(piece.bytes(), 100);
    let mut waits = Box::pin(budget.reserve_first(300, 0));
    assert!(waits.as_mut().now_or_never().is_none());
    drop(held);
    assert_eq!(waits.now_or_never().expect("it fits now").bytes(), 300);
}
