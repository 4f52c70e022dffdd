mod states;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_core::Position;
use tokio::time::sleep;

use super::*;
use crate::discover;
use crate::lease::ChildShard;
use crate::lease::item;
use crate::lease::tests::rig::{Fault, OnHandoff, Rig, STREAM, Worker, until};

fn at(number: u64) -> Position {
    Position::parse(&number.to_string(), 0).expect("a sequence number")
}

fn seconds_since(start: Instant) -> f64 {
    Clock::system().now().duration_since(start).as_secs_f64()
}

/// Two workers with four leases each.
async fn pair(rig: &Rig) -> (Worker, Worker) {
    let (a, b) = (rig.worker("a"), rig.worker("b"));
    until("four each", &[&a, &b], || a.count() == 4 && b.count() == 4).await;
    (a, b)
}

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

/// The worker of two that leads, and the other one.
async fn leader_first(rig: &Rig, (a, b): (Worker, Worker)) -> (Worker, Worker) {
    let table = rig.table().await;
    let leader = table.lock().await.expect("read").expect("a leader").owner;
    if leader == "a" { (a, b) } else { (b, a) }
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_crashed_worker_are_given_to_others_after_the_failover_time() {
    let rig = Rig::new(8).await;
    let workers = pair(&rig).await;
    let (leader, other) = leader_first(&rig, workers).await;
    let lost = other.lease(other.shards()[0]);
    let start = Clock::system().now();
    other.crash();
    until("all eight", &[&leader], || leader.count() == 8).await;
    let took = seconds_since(start);
    assert!((6.0..14.0).contains(&took), "{took}");
    assert!(
        lost.lost().is_cancelled(),
        "a dropped keeper fences its handles"
    );
}

#[tokio::test(start_paused = true)]
async fn a_crashed_leader_is_replaced_and_its_leases_are_given_to_others() {
    let rig = Rig::new(8).await;
    let workers = pair(&rig).await;
    let (leader, other) = leader_first(&rig, workers).await;
    let start = Clock::system().now();
    leader.crash();
    until("all eight", &[&other], || other.count() == 8).await;
    let took = seconds_since(start);
    assert!((6.0..20.0).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn leases_are_recovered_even_while_the_lock_cannot_be_had() {
    let rig = Rig::new(4).await;
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 4).await;
    a.crash();
    // A leader of two minutes, long dead: nobody may replace it for a while.
    let table = rig.table().await;
    let held = table.lock().await.expect("read").expect("a lock");
    let claim = crate::lease::lock::Claim::Expired(held.version);
    let minutes = Duration::from_secs(120);
    let claimed = table.claim_lock(&claim, "java", "v", minutes).await;
    claimed.expect("claimed");
    let start = Clock::system().now();
    let b = rig.worker("b");
    until("all", &[&b], || b.count() == 4).await;
    assert!(seconds_since(start) < 65.0, "{}", seconds_since(start));
    assert_eq!(table.lock().await.expect("read").expect("it").owner, "java");
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_of_the_leader_or_of_another_hands_everything_over_within_three_seconds() {
    for leader_stops in [true, false] {
        let rig = Rig::new(8).await;
        let workers = pair(&rig).await;
        let (leader, other) = leader_first(&rig, workers).await;
        let (stops, stays) = if leader_stops {
            (leader, other)
        } else {
            (other, leader)
        };
        let start = Clock::system().now();
        stops.stop().await.expect("stops");
        until("all eight", &[&stays], || stays.count() == 8).await;
        let took = seconds_since(start);
        assert!(took < 3.0, "leader {leader_stops}: {took}");
        let stats = rig.table().await.scan(true).await.expect("scans").stats;
        assert_eq!(stats.len(), 1, "who is gone has no metrics");
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
    assert!(rig.lease(0).await.counter >= before + 17);
    // It was written all the same.
    assert_eq!(rig.lease(0).await.checkpoint, at(1));
    stalled.await.expect("written long ago");
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
async fn a_checkpoint_saves_the_next_renewal() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    let before = rig.lease(0).await.counter;
    for second in 1..=60 {
        sleep(Duration::from_secs(1)).await;
        lease.checkpoint(&at(second)).await.expect("stored");
    }
    assert_eq!(rig.lease(0).await.counter, before + 60);
    sleep(Duration::from_secs(60)).await;
    let renewals = rig.lease(0).await.counter - before - 60;
    assert!((17..=19).contains(&renewals), "{renewals}");
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

#[tokio::test(start_paused = true)]
async fn a_handoff_whose_old_owner_died_is_taken_after_the_failover_time() {
    let rig = Rig::new(2).await;
    let a = rig.worker_with(
        "a",
        rig.dynamodb.clone(),
        &Settings::default(),
        OnHandoff::Ignore,
    );
    until("both", &[&a], || a.count() == 2).await;
    let b = rig.worker("b");
    let asked = async || {
        (
            rig.lease(0).await.is_in_handoff(),
            rig.lease(1).await.is_in_handoff(),
        )
    };
    while asked().await == (false, false) {
        sleep(Duration::from_millis(100)).await;
    }
    let start = Clock::system().now();
    a.crash();
    until("both", &[&b], || b.count() == 2).await;
    // The old owner was the leader, too.
    assert!(seconds_since(start) < 20.0, "{}", seconds_since(start));
    for shard in 0..2 {
        assert_eq!(rig.lease(shard).await.checkpoint_owner, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handoff_that_the_old_owner_ignores_is_forced_after_it_fenced_itself() {
    let rig = Rig::new(2).await;
    let a = rig.worker_with(
        "a",
        rig.dynamodb.clone(),
        &Settings::default(),
        OnHandoff::Ignore,
    );
    until("both", &[&a], || a.count() == 2).await;
    let start = Clock::system().now();
    let b = rig.worker("b");
    until("one each", &[&a, &b], || a.count() == 1 && b.count() == 1).await;
    let took = seconds_since(start);
    assert!((30.0..55.0).contains(&took), "{took}");
    until("it stays so", &[&a, &b], || {
        a.count() == 1 && b.count() == 1
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_read_is_skipped_and_the_others_go_on() {
    let rig = Rig::new(3).await;
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 3).await;
    a.stop().await.expect("stops");
    let mut broken = rig.item(1).await;
    broken.insert(
        "checkpoint".to_owned(),
        AttributeValue::S("nonsense".to_owned()),
    );
    rig.put(broken.clone()).await;
    let b = rig.worker("b");
    until("the others", &[&b], || b.count() == 2).await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(b.shards(), [0, 2]);
    assert_eq!(rig.item(1).await, broken, "left as it is");
    // Put right, it is taken without a restart.
    broken.insert(
        "checkpoint".to_owned(),
        AttributeValue::S("TRIM_HORIZON".to_owned()),
    );
    rig.put(broken).await;
    until("all", &[&b], || b.count() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_stopped_kcl_fleet_are_taken_over_where_they_stand() {
    let rig = Rig::new(2).await;
    rig.table().await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    for shard in 0..2 {
        rig.put(item::Item::from([
            (
                item::LEASE_KEY.to_owned(),
                text(ShardId::from_index(shard).as_str()),
            ),
            ("leaseOwner".to_owned(), text("ip-10-0-0-7:gone")),
            ("leaseCounter".to_owned(), item::number(55_000)),
            ("ownerSwitchesSinceCheckpoint".to_owned(), item::number(0)),
            ("checkpoint".to_owned(), text("777")),
            ("checkpointSubSequenceNumber".to_owned(), item::number(4)),
            (
                "throughputKBps".to_owned(),
                AttributeValue::N("1.5".to_owned()),
            ),
        ]))
        .await;
    }
    let start = Clock::system().now();
    let a = rig.worker("a");
    until("both", &[&a], || a.count() == 2).await;
    assert!(
        (10.0..14.0).contains(&seconds_since(start)),
        "{}",
        seconds_since(start)
    );
    assert_eq!(a.lease(0).lease().checkpoint.sub_sequence(), 4);
    assert!(
        a.lease(0).lease().range.is_some(),
        "filled in from the shard"
    );
    let item = rig.item(0).await;
    assert_eq!(
        item.get("throughputKBps"),
        Some(&AttributeValue::N("1.5".to_owned()))
    );
    let leases = rig.table().await.scan(true).await.expect("scans").leases;
    assert_eq!(
        leases.len(),
        2,
        "no lease of its own for a shard that has one"
    );
}

/// Closes shard 0 of two by a split, then merges the upper child with shard 1.
async fn reshard(rig: &Rig) -> ShardMapOf {
    let middle = kinesis_core::HashKeyRange::FULL.split_even(4)[1].start();
    rig.kinesis
        .split_shard()
        .stream_name(STREAM)
        .shard_to_split("shardId-000000000000")
        .new_starting_hash_key(middle.to_string())
        .send()
        .await
        .expect("splits");
    sleep(Duration::from_secs(60)).await;
    rig.kinesis
        .merge_shards()
        .stream_name(STREAM)
        .shard_to_merge("shardId-000000000003")
        .adjacent_shard_to_merge("shardId-000000000001")
        .send()
        .await
        .expect("merges");
    sleep(Duration::from_secs(60)).await;
    discover::list_shards(
        &rig.kinesis,
        &STREAM.into(),
        Duration::ZERO,
        &Rand::seeded(1),
    )
    .await
    .expect("lists")
}

type ShardMapOf = kinesis_core::ShardMap;

async fn finish(worker: &Worker, map: &ShardMapOf, shard: u64) {
    let id = ShardId::from_index(shard);
    let children: Vec<_> = map
        .children(&id)
        .map(|child| ChildShard {
            id: child.id.clone(),
            parents: child.parents().cloned().collect(),
            range: child.range,
        })
        .collect();
    let lease = worker.lease(shard);
    lease.end_shard(&children).await.expect("ends");
    lease.release().await.expect("gives back");
}

#[tokio::test(start_paused = true)]
async fn children_are_taken_only_after_every_parent_has_ended_and_finished_leases_go() {
    let rig = Rig::new(2).await;
    let a = rig.worker("a");
    until("both", &[&a], || a.count() == 2).await;
    let map = reshard(&rig).await;
    assert_eq!(
        map.get(&ShardId::from_index(4))
            .map(|s| s.parents().count()),
        Some(2)
    );

    // 1 ends first; its child 4 has another parent, 3, that has no lease yet.
    finish(&a, &map, 1).await;
    sleep(Duration::from_secs(100)).await;
    assert_eq!(a.shards(), [0]);
    assert!(rig.item(4).await.is_empty(), "4 comes from 3");
    let ended = rig.lease(1).await;
    assert!(ended.is_ended() && ended.owner.is_none() && ended.children.len() == 1);

    finish(&a, &map, 0).await;
    until("the children of 0", &[&a], || a.shards() == [2, 3]).await;
    finish(&a, &map, 3).await;
    until("the merged shard", &[&a], || a.shards() == [2, 4]).await;
    assert_eq!(rig.lease(4).await.checkpoint, Position::TrimHorizon);

    a.lease(2).checkpoint(&at(5)).await.expect("stored");
    a.lease(4).checkpoint(&at(6)).await.expect("stored");
    sleep(Duration::from_secs(300)).await;
    let leases = rig.table().await.scan(true).await.expect("scans").leases;
    let mut left: Vec<_> = leases
        .iter()
        .filter_map(|lease| lease.shard_id.index())
        .collect();
    left.sort_unstable();
    assert_eq!(left, [2, 4]);
    // A worker that starts now brings nothing finished back.
    let b = rig.worker("b");
    until("one each", &[&a, &b], || a.count() == 1 && b.count() == 1).await;
    assert_eq!(
        rig.table()
            .await
            .scan(true)
            .await
            .expect("scans")
            .leases
            .len(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deleted_is_found_missing_and_created_again() {
    let rig = Rig::new(3).await;
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 3).await;
    a.lease(1).release().await.expect("gives back");
    let key = AttributeValue::S("shardId-000000000001".to_owned());
    let delete = rig
        .dynamodb
        .delete_item()
        .table_name(crate::lease::tests::rig::TABLE);
    delete
        .key(item::LEASE_KEY, key)
        .send()
        .await
        .expect("deletes");
    until("all again", &[&a], || a.count() == 3).await;
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
