//! Who gets which lease, and when one is let go.

use super::*;

#[tokio::test(start_paused = true)]
async fn two_workers_share_eight_leases_evenly_and_then_stay_so() {
    let rig = Rig::new(8).await;
    let (a, b) = pair(&rig).await;
    let before = (a.shards(), b.shards());
    for _ in 0..60 {
        until("a second passes", &[&a, &b], || true).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!((a.shards(), b.shards()), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_later_gets_its_share_by_handoff_without_any_expiry() {
    let rig = Rig::new(8).await;
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 8).await;
    let start = Clock::system().now();
    let b = rig.worker("b");
    until("four each", &[&a, &b], || a.count() == 4 && b.count() == 4).await;
    assert!(seconds_since(start) < 10.0, "{}", seconds_since(start));
    let c = rig.worker("c");
    until("an even share", &[&a, &b, &c], || {
        a.count() >= 2 && b.count() >= 2 && c.count() >= 2 && a.count() + b.count() + c.count() == 8
    })
    .await;
    for shard in 0..8 {
        let row = rig.lease(shard).await;
        assert_eq!(row.checkpoint_owner, None, "shard {shard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_goes_to_another_worker() {
    let rig = Rig::new(8).await;
    let (a, b) = pair(&rig).await;
    let returned = a.shards()[0];
    a.lease(returned).release().await.expect("gives back");
    let start = Clock::system().now();
    until("it moved", &[&a, &b], || b.shards().contains(&returned)).await;
    assert!(seconds_since(start) < 3.0, "{}", seconds_since(start));
    until("four each", &[&a, &b], || a.count() == 4 && b.count() == 4).await;
}

#[tokio::test(start_paused = true)]
async fn leases_are_created_at_the_initial_position_and_no_more_than_allowed_are_taken() {
    let rig = Rig::new(4).await;
    let mut settings = Settings {
        initial_position: InitialPosition::Latest,
        ..Settings::default()
    };
    settings.lease.max_leases_for_worker = 3;
    let a = rig.worker_with("a", rig.dynamodb.clone(), &settings, OnHandoff::Release);
    until("three", &[&a], || a.count() == 3).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(a.count(), 3);
    for shard in 0..4 {
        let row = rig.lease(shard).await;
        assert_eq!(row.checkpoint, Position::Latest);
        assert!(row.range.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_nobody_holds_on_to_is_given_back() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    a.held.lock().expect("not poisoned").clear();
    // The watcher has a clone; without a request it stays.
    sleep(Duration::from_secs(20)).await;
    assert!(rig.lease(0).await.owner.is_some());

    let rig = Rig::new(1).await;
    let (sender, mut gained) = mpsc::channel(1);
    let keeper = rig.keeper(STREAM);
    let stop = CancellationToken::new();
    let run = tokio::spawn(keeper.run(sender, stop.clone()));
    drop(gained.recv().await.expect("a lease"));
    sleep(Duration::from_secs(1)).await;
    assert!(rig.lease(0).await.owner.is_none(), "given back");
    let again = gained.recv().await.expect("taken again after a rest");
    assert_eq!(again.shard_id().index(), Some(0));
    drop(again);
    stop.cancel();
    run.await.expect("no panic").expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_keeper_whose_leases_are_not_released_fences_them_and_ends() {
    let rig = Rig::new(1).await;
    let (sender, mut gained) = mpsc::channel(1);
    let keeper = rig.keeper(STREAM);
    let stop = CancellationToken::new();
    let run = tokio::spawn(keeper.run(sender, stop.clone()));
    let lease = gained.recv().await.expect("a lease");
    stop.cancel();
    sleep(Duration::from_secs(20)).await;
    lease
        .checkpoint(&at(3))
        .await
        .expect("still ours while it drains");
    run.await.expect("no panic").expect("stops");
    assert!(lease.lost().is_cancelled());
    assert!(rig.lease(0).await.owner.is_none(), "given away");
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_taken_again_when_its_last_handle_is_dropped() {
    let rig = Rig::new(1).await;
    let cut = Arc::new(AtomicBool::new(false));
    let judge = Arc::clone(&cut);
    let client = rig.faulty(move |_| match judge.load(Ordering::SeqCst) {
        true => Fault::Throttle,
        false => Fault::None,
    });
    let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
    until("the lease", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    cut.store(true, Ordering::SeqCst);
    lease.lost().cancelled().await;
    cut.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(a.count(), 0, "somebody still has the old handle");
    drop(lease);
    let start = Clock::system().now();
    until("the lease again", &[&a], || a.count() == 1).await;
    assert!(seconds_since(start) < 2.5, "{}", seconds_since(start));
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_nobody_listens_to_ends() {
    let rig = Rig::new(2).await;
    let (sender, gained) = mpsc::channel(1);
    let keeper = rig.keeper(STREAM);
    drop(gained);
    keeper
        .run(sender, CancellationToken::new())
        .await
        .expect("ends");
    assert!(
        rig.table()
            .await
            .scan(true)
            .await
            .expect("scans")
            .leases
            .iter()
            .all(|l| l.owner.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_there_is_a_clear_error() {
    let rig = Rig::new(1).await;
    let (sender, _gained) = mpsc::channel(1);
    let keeper = rig.keeper("nowhere");
    let error = keeper
        .run(sender, CancellationToken::new())
        .await
        .expect_err("no such stream");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_given_more_than_its_own_limit_reads_it_and_does_not_choose_more() {
    let rig = Rig::new(10).await;
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 10).await;
    let mut settings = Settings::default();
    settings.lease.max_leases_for_worker = 4;
    let b = rig.worker_with("b", rig.dynamodb.clone(), &settings, OnHandoff::Release);
    // The leader has no limit, and shares evenly.
    until("five each", &[&a, &b], || a.count() == 5 && b.count() == 5).await;
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!((a.count(), b.count()), (5, 5), "nothing goes round");
    }
    // Left alone it leads, by its own setting.
    a.crash();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(b.count(), 5);
}
