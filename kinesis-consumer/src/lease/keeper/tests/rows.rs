//! Rows of parents, of others, and such as are not as they should be.

use super::*;
use crate::lease::Lease;

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
        (60.0..64.0).contains(&seconds_since(start)),
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
    discover::list_once(&rig.kinesis, &STREAM.into())
        .await
        .expect("lists")
        .shards
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
    delete_row(&rig, 1).await;
    until("all again", &[&a], || a.count() == 3).await;
}

async fn delete_row(rig: &Rig, shard: u64) {
    let key = AttributeValue::S(ShardId::from_index(shard).to_string());
    let delete = rig.dynamodb.delete_item();
    let delete = delete.table_name(crate::lease::tests::rig::TABLE);
    let deleted = delete.key(item::LEASE_KEY, key).send().await;
    deleted.expect("deletes");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_deleted_is_given_to_nobody_while_its_holder_may_still_be_at_work() {
    let rig = Rig::new(2).await;
    let a = rig.worker("a");
    until("both", &[&a], || a.count() == 2).await;
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&cut);
    let dynamodb = rig.faulty(move |_| {
        if is_cut.load(Ordering::Relaxed) {
            Fault::Hang
        } else {
            Fault::None
        }
    });
    let b = rig.worker_with("z", dynamodb, &Settings::default(), OnHandoff::Release);
    until("one each", &[&a, &b], || a.count() == 1 && b.count() == 1).await;
    // With nothing to do: whatever is free is given to it.
    let c = rig.worker("c");
    let all = [&a, &b, &c];
    sleep(Duration::from_secs(60)).await;
    let [shard] = b.shards()[..] else {
        panic!("one: {:?}", b.shards());
    };
    // Until it fences itself, b does not learn of it; a makes the row anew long before.
    cut.store(true, Ordering::Relaxed);
    delete_row(&rig, shard).await;
    until("b is fenced", &all, || b.count() == 0).await;
    assert!(!rig.item(shard).await.is_empty(), "made while b had it");
    until("c has it", &all, || c.shards() == [shard]).await;
}

#[tokio::test(start_paused = true)]
async fn a_finished_lease_without_children_goes_once_the_stream_does_not_list_its_shard() {
    let rig = Rig::new(2).await;
    rig.table().await;
    let ended = |index: u64| Lease::new(ShardId::from_index(index), Position::ShardEnd);
    // One expired unread; the other is listed, and open, so its end is a mistake of somebody's. All of
    // the key space has leases that are not finished.
    let child = Lease {
        parents: [ShardId::from_index(9)].into(),
        range: Some(kinesis_core::HashKeyRange::FULL),
        ..Lease::new(ShardId::from_index(0), Position::TrimHorizon)
    };
    for lease in [ended(9), ended(1), child] {
        rig.put(item::new_item(&lease)).await;
    }
    let a = rig.worker("a");
    until("the child", &[&a], || a.count() == 1).await;
    sleep(Settings::default().lease.lease_cleanup_interval * 2).await;
    assert!(rig.item(9).await.is_empty(), "deleted");
    assert!(!rig.item(1).await.is_empty(), "kept");
    assert_eq!(a.shards(), [0]);
    a.stop().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn the_last_row_of_a_stream_stays_until_what_follows_has_leases_that_skip_nothing() {
    let clock = Clock::starting_at(1_767_225_600_000);
    let mut rig = Rig::with_clock(1, clock).await;
    rig.table().await;
    let middle = kinesis_core::HashKeyRange::FULL.split_even(2)[1].start();
    let split = rig.kinesis.split_shard().stream_name(STREAM);
    let split = split.shard_to_split("shardId-000000000000");
    let split = split.new_starting_hash_key(middle.to_string());
    split.send().await.expect("splits");
    // The application stood still until the parent was gone.
    sleep(Duration::from_secs(25 * 3600)).await;
    let listed = discover::list_once(&rig.kinesis, &STREAM.into()).await;
    let map = listed.expect("lists").shards;
    assert!(map.get(&ShardId::from_index(0)).is_none(), "not listed");
    let read_once = Lease {
        range: Some(kinesis_core::HashKeyRange::FULL),
        ..Lease::new(ShardId::from_index(0), at(5))
    };
    rig.put(item::new_item(&read_once)).await;

    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    rig.kinesis = rig.faulty_kinesis(move |_| match is_down.load(Ordering::Relaxed) {
        true => Fault::Drop,
        false => Fault::None,
    });
    let mut settings = Settings {
        initial_position: crate::settings::InitialPosition::Latest,
        ..Settings::default()
    };
    // In every pass, so that one falls between the end of the shard and the new leases.
    settings.lease.lease_cleanup_interval = Duration::from_secs(1);
    let a = rig.worker_with("a", rig.dynamodb.clone(), &settings, OnHandoff::Release);
    until("the old shard", &[&a], || a.shards() == [0]).await;
    // Nobody can say any more which children it had.
    let lease = a.lease(0);
    lease.end_shard(&[]).await.expect("ends");
    lease.release().await.expect("gives back");
    // One look or two, which are too few to be sure of a hole.
    sleep(settings.lease.failover_time).await;
    down.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert!(rig.lease(0).await.is_ended(), "stays");
    down.store(false, Ordering::Relaxed);
    until("what follows", &[&a], || a.shards() == [1, 2]).await;
    for shard in [1, 2] {
        let begins = rig.lease(shard).await.checkpoint;
        assert_eq!(begins, Position::TrimHorizon, "shard {shard} is read whole");
    }
    sleep(Duration::from_secs(60)).await;
    assert!(
        rig.item(0).await.is_empty(),
        "deleted when it is of no more use"
    );
    a.stop().await.expect("stops");
}
