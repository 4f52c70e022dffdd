//! The shared byte budget.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use super::*;

/// A budget with so many bytes for whoever comes first, two fifths of that in pieces, and a fifth for
/// what cannot be divided.
fn with_common(bytes: usize) -> Arc<Budget> {
    let budget = Budget::new(bytes / 5 * 8);
    assert_eq!(budget.largest(), bytes);
    budget
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
    let budget = with_common(15);
    let held = budget.reserve(15).await;
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
async fn what_is_more_than_the_true_size_is_given_back_at_once() {
    let budget = with_common(100);
    let mut held = budget.reserve(80).await;
    let mut waits = Box::pin(budget.reserve(80));
    assert!(waits.as_mut().now_or_never().is_none());
    held.shrink(20);
    assert!(waits.now_or_never().is_some());
    assert_eq!(budget.used(), 20);
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
    const KIB: usize = limits::KIB;
    let budget = with_common(300 * KIB);
    let _members: Vec<_> = (0..4).map(|_| budget.join()).collect();
    let first = budget.reserve_first(200 * KIB, 0).await;
    assert_eq!(first.bytes(), 200 * KIB, "while there is room");
    let stuck = budget.reserve(100 * KIB).await;
    // Others that read ahead wait, and are not passed over by those that hold nothing.
    let mut ahead = Box::pin(budget.reserve(50 * KIB));
    assert!(ahead.as_mut().now_or_never().is_none());
    let mut pieces = Vec::new();
    for _ in 0..4 {
        let piece = budget.reserve_first(80 * KIB, 0).now_or_never();
        pieces.push(piece.expect("there is one for each"));
    }
    assert!(pieces.iter().all(|piece| piece.bytes() == 30 * KIB));
    assert_eq!(budget.used(), 420 * KIB);
    pieces.pop();
    let piece = budget.reserve_first(80 * KIB, 30 * KIB).now_or_never();
    assert_eq!(piece.expect("given back").bytes(), 30 * KIB);
    drop(stuck);
    assert!(ahead.now_or_never().is_some());
    drop((first, pieces));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_few_took_all_pieces_each_that_comes_later_gets_a_small_one_above_the_total() {
    let budget = with_common(300 * limits::KIB);
    let _member = budget.join();
    let stuck = (
        budget.reserve(300 * limits::KIB).await,
        budget.reserve_first(300 * limits::KIB, 0).await,
    );
    assert_eq!(budget.used(), 420 * limits::KIB);
    let _later: Vec<_> = (0..50).map(|_| budget.join()).collect();
    let mut pieces = Vec::new();
    for _ in 0..50 {
        let piece = budget.reserve_first(80 * limits::KIB, 0).now_or_never();
        pieces.push(piece.expect("there always is one"));
    }
    assert!(pieces.iter().all(|piece| piece.bytes() == PIECE_MIN));
    let more_than_that = budget.reserve_first(PIECE_MIN + 1, PIECE_MIN + 1).await;
    assert_eq!(
        budget.used() - more_than_that.bytes(),
        420 * limits::KIB + 50 * PIECE_MIN
    );
    drop((stuck, pieces, more_than_that));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_larger_than_a_piece_and_cannot_be_divided_takes_no_piece_from_anybody() {
    const KIB: usize = limits::KIB;
    let budget = with_common(300 * KIB);
    let _members: Vec<_> = (0..4).map(|_| budget.join()).collect();
    let stuck = budget.reserve(300 * KIB).await;
    let first = budget.reserve_first(40 * KIB, 31 * KIB).now_or_never();
    assert_eq!(first.expect("60 are kept for it").bytes(), 40 * KIB);
    let first = budget.reserve_first(50 * KIB, 50 * KIB).now_or_never();
    let first = first.expect("given back").bytes();
    assert_eq!(first, 50 * KIB);
    let event = budget.reserve_first(59 * KIB, 59 * KIB).await;
    let large = budget.reserve_first(31 * KIB, 31 * KIB).now_or_never();
    assert!(large.is_none());
    for _ in 0..4 {
        let piece = budget.reserve_first(80 * KIB, 0).now_or_never();
        assert_eq!(piece.expect("there is one for each").bytes(), 30 * KIB);
    }
    drop(stuck);
    let common = budget.reserve_first(300 * KIB, 300 * KIB).now_or_never();
    assert!(common.is_some(), "the common pool serves it as well");
    drop((event, common));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_single_record_that_is_larger_than_the_pool_it_waits_for_is_alone_in_it() {
    const KIB: usize = limits::KIB;
    let budget = with_common(300 * KIB);
    let stuck = budget.reserve(300 * KIB).await;
    let large = budget.reserve_first(200 * KIB, 200 * KIB).now_or_never();
    let large = large.expect("nobody else is in it");
    assert_eq!((large.bytes(), budget.used()), (200 * KIB, 500 * KIB));
    let another = || budget.reserve_first(121 * KIB, 121 * KIB).now_or_never();
    assert!(another().is_none());
    drop(large);
    assert!(another().is_some());
    drop(stuck);
    // One that opens to more than all there is.
    let mut opens = budget.reserve(10 * KIB).await;
    assert!(!opens.exchange(600 * KIB, false).await, "it can be divided");
    assert_eq!(opens.bytes(), 10 * KIB);
    assert!(opens.exchange(600 * KIB, true).await);
    assert_eq!((opens.bytes(), budget.used()), (600 * KIB, 600 * KIB));
    drop(opens);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_answer_that_opens_to_more_takes_what_is_kept_for_such_however_many_wait() {
    let budget = with_common(100);
    let mut opens = budget.reserve(10).await;
    let stuck = budget.reserve(90).await;
    let places = budget.exchanges.acquire_many(EXCHANGES_MAX as u32).await;
    assert!(!opens.exchange(15, false).await, "too many wait");
    assert!(opens.exchange(15, true).await);
    assert_eq!((opens.bytes(), budget.used()), (15, 105));
    drop((stuck, opens, places));
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn reservations_that_have_to_grow_wait_with_nothing_in_hand_and_never_for_each_other() {
    let budget = with_common(100);
    let mut reservations = Vec::new();
    for _ in 0..=EXCHANGES_MAX {
        reservations.push(budget.reserve(10).await);
    }
    let most = Arc::new(AtomicUsize::new(0));
    let mut tasks: tokio::task::JoinSet<usize> = tokio::task::JoinSet::new();
    for mut reservation in reservations {
        let (budget, most) = (Arc::clone(&budget), Arc::clone(&most));
        tasks.spawn(async move {
            if !reservation.exchange(70, false).await {
                assert_eq!(reservation.bytes(), 10, "as it was");
                return 0;
            }
            assert_eq!(reservation.bytes(), 70);
            most.fetch_max(budget.used(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            1
        });
    }
    let all = timeout(Duration::from_secs(60), tasks.join_all()).await;
    let grown: usize = all.expect("none waits for another").into_iter().sum();
    assert_eq!(grown, EXCHANGES_MAX, "no more wait than may");
    assert_eq!(most.load(Ordering::Relaxed), 70);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_grows_in_place_where_there_is_room_and_a_wait_given_up_holds_nothing() {
    let budget = with_common(100);
    let mut grows = budget.reserve(10).await;
    let other = budget.reserve(50).await;
    let grown = grows.exchange(50, false).now_or_never();
    assert_eq!(grown, Some(true));
    assert_eq!(budget.used(), 100);
    let wait = timeout(Duration::from_secs(1), grows.exchange(60, false));
    assert!(wait.await.is_err());
    assert_eq!((grows.bytes(), budget.used()), (0, 50));
    drop(other);
    assert!(grows.exchange(100, false).await);
    assert!(
        !grows.exchange(101, false).await,
        "never more than there is"
    );
    assert_eq!(budget.used(), 100);
}
