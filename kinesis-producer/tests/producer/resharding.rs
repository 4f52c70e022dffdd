//! Splits and merges under load: what is acknowledged is readable, and each key stays in order.

use kinesis_producer::Settings;

use crate::faults::Fault;
use crate::world::{World, delivered, enqueue, numbered, pairs};

#[tokio::test(start_paused = true)]
async fn a_split_and_a_merge_under_load_lose_and_reorder_nothing() {
    let world = World::new(2).await;
    let settings = Settings {
        aggregation_max_size: 1000,
        ..Settings::default()
    };
    let producer = world.producer(settings);
    let mut sent = enqueue(&producer, 0..2000).await;
    world.split("shardId-000000000000").await;
    sent.extend(enqueue(&producer, 2000..4000).await);
    world.split("shardId-000000000001").await;
    sent.extend(enqueue(&producer, 4000..6000).await);
    producer.flush().await;
    world
        .merge("shardId-000000000003", "shardId-000000000004")
        .await;
    sent.extend(enqueue(&producer, 6000..8000).await);
    let deliveries = delivered(sent).await;
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
    let last = deliveries.last().expect("many");
    assert!(
        last.1.shard_id.index() > Some(1),
        "the new shards are in use"
    );
}

#[tokio::test(start_paused = true)]
async fn a_split_behind_a_backlog_of_failures_loses_nothing() {
    let world = World::new(1).await;
    let settings = Settings {
        aggregation_max_size: 1000,
        ..Settings::default()
    };
    let producer = world.producer(settings);
    let faults = [
        Fault::Pass,
        Fault::Refuse(400, "ProvisionedThroughputExceededException"),
        Fault::LoseAnswer,
    ];
    world.faults.next(faults.iter().cycle().take(45).cloned());
    let sent = enqueue(&producer, 0..3000).await;
    world.split("shardId-000000000000").await;
    let deliveries = delivered(sent).await;
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
}

#[tokio::test(start_paused = true)]
async fn one_key_in_an_aggregate_of_a_split_shard_is_not_sent_twice() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    producer
        .send(crate::world::numbered(0))
        .await
        .expect("delivered");
    world.split("shardId-000000000000").await;
    // All of one key, so the aggregate fits the child it lands in.
    let mut sent = Vec::new();
    for number in 1..100 {
        let record = crate::world::numbered(number * 23);
        sent.push((
            record.clone(),
            producer.enqueue(record).await.expect("accepted"),
        ));
    }
    let deliveries = delivered(sent).await;
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    assert_eq!(stream.records.len(), 100, "nothing twice");
}

#[tokio::test(start_paused = true)]
async fn what_follows_a_record_that_met_a_split_is_cut_for_the_new_shards() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let one = |number| producer.send(crate::world::numbered(number));
    one(0).await.expect("delivered");
    world.split("shardId-000000000000").await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    // Alone, so it fits wherever it lands; but it lands where the map did not expect it.
    one(1).await.expect("delivered");
    let deliveries = delivered(enqueue(&producer, 2..30).await).await;
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    assert_eq!(
        stream.dropped, 0,
        "no aggregate has members of both children"
    );
}

/// The usual reason to split: the shard is full, and aggregates that were meant for it wait.
#[tokio::test(start_paused = true)]
async fn a_split_and_a_merge_behind_the_limit_of_a_shard_lose_and_reorder_nothing() {
    let world = World::with_limits(1).await;
    let producer = world.producer(Settings::default());
    let mut sent = Vec::new();
    let mut number = 0;
    for reshard in ["split", "merge", "none"] {
        // Two megabytes over what a shard takes in a second.
        for _ in 0..3_000 {
            let mut record = numbered(number);
            let mut data = record.data.to_vec();
            data.resize(1_000, b'.');
            record.data = data.into();
            sent.push((
                record.clone(),
                producer.enqueue(record).await.expect("accepted"),
            ));
            number += 1;
        }
        let waiting = producer.outstanding().bytes;
        assert!(waiting > 1 << 20, "a backlog: {waiting} bytes");
        match reshard {
            "split" => world.split("shardId-000000000000").await,
            "merge" => {
                let (left, right) = ("shardId-000000000001", "shardId-000000000002");
                world.merge(left, right).await;
            }
            _ => {}
        }
    }
    let deliveries = delivered(sent).await;
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
    let last = deliveries.last().expect("many");
    assert_eq!(last.1.shard_id.as_str(), "shardId-000000000003");
}

#[tokio::test(start_paused = true)]
async fn a_walk_through_the_shards_that_fails_at_a_later_page_is_no_map() {
    let world = World::new(4).await;
    world.faults.refuse_page(1);
    let producer = world.producer(Settings::default());
    let first = delivered(enqueue(&producer, 0..1000).await).await;
    assert_eq!(
        world.faults.calls("ListShards"),
        2 + 4,
        "a walk of two pages, and a whole one"
    );
    // Also the map in use is not replaced by a part of one.
    world.faults.refuse_page(2);
    tokio::time::sleep(std::time::Duration::from_secs(80)).await;
    let second = delivered(enqueue(&producer, 1000..2000).await).await;
    world.faults.list_whole();
    let stream = world.read().await;
    for deliveries in [&first, &second] {
        stream.contains_all(pairs(deliveries));
        let attempts = deliveries.iter().map(|(_, delivery)| delivery.attempts);
        assert_eq!(attempts.max(), Some(1));
    }
    assert_eq!(stream.dropped, 0);
}
