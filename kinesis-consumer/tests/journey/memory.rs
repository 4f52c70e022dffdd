//! Leases in the memory of the process: no table, and everything else as with one.

use std::collections::BTreeSet;

use kinesis_consumer::{EventKind, Gain, LeaseStore};

use crate::ledger::Behaviour;
use crate::resharding::{assert_parents_end_before_children_start, parents};
use crate::world::{World, until};

async fn world(shards: i32) -> World {
    let mut world = World::new(shards).await;
    world.leases = Some(LeaseStore::in_memory());
    world
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_read_through_its_splits_without_a_table() {
    let world = world(2).await;
    world.put_numbers(0..50, 13).await;
    world.stream.split("shardId-000000000000").await;
    world.put_numbers(50..100, 13).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(100).await;
    world.stream.split("shardId-000000000001").await;
    world.put_numbers(100..150, 13).await;
    world.ledger.until_processed(150).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..150);
    let parents = parents(&world).await;
    assert_parents_end_before_children_start(&world.ledger.notes(), &parents);
    let tables = world.dynamodb.list_tables().send().await.expect("listed");
    assert!(tables.table_names().is_empty(), "{tables:?}");
}

#[tokio::test(start_paused = true)]
async fn consumers_on_one_store_share_the_shards_and_replace_one_that_died() {
    let world = world(4).await;
    world.put_numbers(0..100, 13).await;
    let first = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(100).await;
    let mut second = world.worker("two-", |_| Behaviour::Process);
    for _ in 0..2 {
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        second.until_event("two has its share", started).await;
    }
    world.put_numbers(100..200, 13).await;
    world.ledger.until_processed(200).await;
    world.ledger.assert_each_once(0..200);
    first.kill().await;
    let by = Gain::Failover;
    let failover = |kind: &EventKind| *kind == EventKind::LeaseGained { by };
    second.until_event("two takes over", failover).await;
    world.put_numbers(200..300, 13).await;
    until("all numbers processed", async || {
        world
            .ledger
            .texts()
            .into_iter()
            .collect::<BTreeSet<_>>()
            .len()
            == 300
    })
    .await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_at_least_once(0..300);
}

#[tokio::test(start_paused = true)]
async fn a_store_keeps_checkpoints_for_the_next_consumer_and_a_new_store_has_none() {
    let mut world = world(2).await;
    world.put_numbers(0..50, 13).await;
    let first = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(50).await;
    first.stop().await.expect("a clean stop");
    world.put_numbers(50..80, 13).await;
    let second = world.worker("two-", |_| Behaviour::Process);
    world.ledger.until_processed(80).await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..80);
    world.leases = Some(LeaseStore::in_memory());
    let third = world.worker("three", |_| Behaviour::Process);
    world.ledger.until_processed(160).await;
    third.stop().await.expect("a clean stop");
}
