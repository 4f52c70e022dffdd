//! Shards may be split and merged at any time: nothing is lost, keys keep their order across the
//! change, and children are read only after their parents.

use std::time::Duration;

use kinesis_core::UserRecord;
use tests::World;
use tests::history::{Event, History, numbered};
use tests::world::wait_until;

async fn send(producer: &kinesis_producer::Producer, records: &[UserRecord]) {
    let mut deliveries = Vec::new();
    for record in records {
        deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
    }
    for delivery in deliveries {
        delivery.await.expect("delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_split_and_a_merge_in_the_middle_lose_nothing_and_keep_the_order_per_key() {
    let world = World::start(2).await;
    let history = History::default();
    let records = numbered(30, 6_000);
    let workers = [world.worker("a", &history), world.worker("b", &history)];
    let producer = world.producer();
    send(&producer, &records[..2_000]).await;

    world.stream.split("shardId-000000000000").await;
    send(&producer, &records[2_000..4_000]).await;

    let (upper, next) = ("shardId-000000000003", "shardId-000000000001");
    world.stream.merge(upper, next).await;
    send(&producer, &records[4_000..]).await;

    wait_until("all records", async || {
        history.payloads().len() == records.len()
    })
    .await;
    wait_until("the parents to end", async || {
        history
            .events()
            .iter()
            .filter(|e| matches!(e, Event::Ended { .. }))
            .count()
            == 3
    })
    .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    for worker in workers {
        worker.stop().await.expect("an orderly end");
    }
    history.assert_nothing_lost(&records);
    history.assert_order_per_key();
    history.assert_duplicates_were_not_checkpointed();
    history.assert_parents_first(&world.parents().await);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_starts_after_a_reshard_reads_parents_first() {
    let world = World::start(1).await;
    let producer = world.producer();
    let records = numbered(20, 2_000);
    send(&producer, &records[..1_000]).await;
    world.stream.split("shardId-000000000000").await;
    send(&producer, &records[1_000..]).await;
    let history = History::default();
    let worker = world.worker("late", &history);
    wait_until("all records", async || {
        history.payloads().len() == records.len()
    })
    .await;
    worker.stop().await.expect("an orderly end");
    history.assert_nothing_lost(&records);
    history.assert_order_per_key();
    history.assert_parents_first(&world.parents().await);
    // Not asserted: no duplicates. An aggregate that was on its way when the shard was split has
    // members of both children, and the producer sends all of them again.
}
