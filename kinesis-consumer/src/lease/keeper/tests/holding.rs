//! Renewals and checkpoints of a lease that is held, over a bad network too.

use super::*;
use crate::checkpoint::PendingCheckpoint;

#[tokio::test(start_paused = true)]
async fn checkpoints_are_stored_never_go_back_and_end_with_the_lease() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    lease.checkpoint(&at(10)).await.expect("stored");
    lease.checkpoint(&at(10)).await.expect("nothing to do");
    let back = lease.checkpoint(&at(9)).await.expect_err("backwards");
    assert_eq!(back.kind(), ErrorKind::InvalidInput);
    lease.checkpoint(&at(11)).await.expect("stored");
    assert_eq!(rig.lease(0).await.checkpoint, at(11));
    assert_eq!(lease.lease().checkpoint, at(11));
    lease.release().await.expect("given back");
    let row = rig.lease(0).await;
    assert_eq!((row.owner, row.checkpoint), (None, at(11)));
    let late = lease.checkpoint(&at(12)).await.expect_err("not ours");
    assert_eq!(late.kind(), ErrorKind::LeaseLost);
    assert!(lease.lost().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_stops_in_the_middle_of_a_checkpoint_delays_no_renewal() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    let position = at(1);
    let mut stalled = std::pin::pin!(lease.checkpoint(&position));
    assert!(futures::poll!(stalled.as_mut()).is_pending());
    let before = rig.lease(0).await.counter;
    sleep(Duration::from_secs(60)).await;
    assert!(!lease.lost().is_cancelled());
    assert!(rig.lease(0).await.counter >= before + 14);
    // It was written all the same.
    assert_eq!(rig.lease(0).await.checkpoint, at(1));
    stalled.await.expect("written long ago");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_prepared_behind_a_checkpoint_whose_caller_stopped_in_the_middle() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    let prepare = async |position: u64| {
        let pending = PendingCheckpoint::new(at(position), "state");
        lease.prepare(pending).await.expect("stored, or not needed");
        rig.lease(0).await.pending_checkpoint
    };
    {
        let position = at(5);
        let mut dropped = std::pin::pin!(lease.checkpoint(&position));
        assert!(futures::poll!(dropped.as_mut()).is_pending());
    }
    for position in [4, 5] {
        assert_eq!(prepare(position).await, None, "{position}");
    }
    assert_eq!(rig.lease(0).await.checkpoint, at(5));
    let stored = prepare(6).await.map(|pending| pending.position);
    assert_eq!(stored, Some(at(6)));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_saves_the_next_renewal() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    // The first renewal may come early.
    lease.checkpoint(&at(1)).await.expect("stored");
    let before = rig.lease(0).await.counter;
    for second in 2..=61 {
        sleep(Duration::from_secs(1)).await;
        lease.checkpoint(&at(second)).await.expect("stored");
    }
    assert_eq!(rig.lease(0).await.counter, before + 60);
    sleep(Duration::from_secs(60)).await;
    let renewals = rig.lease(0).await.counter - before - 60;
    assert!((14..=15).contains(&renewals), "{renewals}");
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_of_a_zombie_is_refused_and_fences_it() {
    let rig = Rig::new(1).await;
    let cut = Arc::new(AtomicBool::new(false));
    let judge = Arc::clone(&cut);
    let client = rig.faulty(move |_| match judge.load(Ordering::SeqCst) {
        true => Fault::Drop,
        false => Fault::None,
    });
    let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
    until("the lease", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    lease.checkpoint(&at(1)).await.expect("stored");
    // Somebody takes the lease who does not keep to the time.
    let table = rig.table().await;
    let row = rig.lease(0).await;
    table
        .write(&crate::lease::write::Write::take(&row, "thief", "t"))
        .await
        .expect("taken");
    let refused = lease.checkpoint(&at(2)).await.expect_err("a zombie");
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    assert!(lease.lost().is_cancelled());
    assert_eq!(rig.lease(0).await.checkpoint, at(1));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_cut_off_fences_itself_before_another_takes_over() {
    let rig = Rig::new(4).await;
    let cut = Arc::new(AtomicBool::new(false));
    let judge = Arc::clone(&cut);
    let client = rig.faulty(move |_| match judge.load(Ordering::SeqCst) {
        true => Fault::Hang,
        false => Fault::None,
    });
    let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
    until("all", &[&a], || a.count() == 4).await;
    let b = rig.worker("b");
    until("two each", &[&a, &b], || a.count() == 2 && b.count() == 2).await;
    cut.store(true, Ordering::SeqCst);
    // `until` checks that no shard ever has two workers.
    until("b has all", &[&a, &b], || b.count() == 4).await;
    assert_eq!(a.count(), 0);
    cut.store(false, Ordering::SeqCst);
    until("two each again", &[&a, &b], || {
        a.count() == 2 && b.count() == 2
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn writes_whose_answers_are_lost_or_throttled_lose_no_lease_and_no_checkpoint() {
    let rig = Rig::new(4).await;
    let seed = 99;
    let rand = Rand::seeded(seed);
    let faults = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&faults);
    let client = rig.faulty(move |operation| {
        let fault = match (operation, rand.below(6)) {
            ("UpdateItem" | "PutItem", 0) => Fault::LoseAnswer,
            ("UpdateItem" | "Scan" | "GetItem", 1) => Fault::Throttle,
            ("UpdateItem", 2) => Fault::Drop,
            _ => Fault::None,
        };
        count.fetch_add(u64::from(fault != Fault::None), Ordering::SeqCst);
        fault
    });
    let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
    until("all", &[&a], || a.count() == 4).await;
    let leases: Vec<_> = (0..4).map(|shard| a.lease(shard)).collect();
    for step in 1..=100 {
        sleep(Duration::from_millis(700)).await;
        for (shard, lease) in leases.iter().enumerate() {
            lease.checkpoint(&at(step)).await.unwrap_or_else(|error| {
                panic!("seed {seed}, step {step}, shard {shard}: {error:?}")
            });
            assert_eq!(
                rig.lease(shard as u64).await.checkpoint,
                at(step),
                "seed {seed}"
            );
        }
    }
    assert!(faults.load(Ordering::SeqCst) > 100);
    a.stop().await.expect("stops");
    assert!(rig.lease(0).await.owner.is_none());
}
