//! The shared byte budget.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_reservation_waits_until_it_fits_and_those_who_wait_are_served_in_order() {
    let budget = Budget::new(100);
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
    let budget = Budget::new(10);
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
    let budget = Budget::new(100);
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
    let budget = Budget::new(100);
    assert_eq!(budget.share(), 100);
    let members: Vec<_> = (0..4).map(|_| budget.join()).collect();
    assert_eq!(budget.share(), 25);
    drop(members);
    assert_eq!(budget.share(), 100);
}
