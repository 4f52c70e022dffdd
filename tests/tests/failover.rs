//! A worker that dies is replaced: nothing is lost, keys keep their order, and only what was not
//! checkpointed comes again.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_core::UserRecord;
use tests::World;
use tests::history::{Event, History, flights, numbered};
use tests::world::{APPLICATION, wait_until};

async fn send_slowly(world: &World, records: &[UserRecord]) {
    let producer = world.producer();
    for chunk in records.chunks(100) {
        let mut deliveries = Vec::new();
        for record in chunk {
            deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
        }
        producer.flush().await;
        for delivery in deliveries {
            delivery.await.expect("delivered");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_dropped_in_the_middle_of_the_flights_is_replaced() {
    let world = World::start(4).await;
    let history = History::default();
    let records = flights(6_000);
    let (doomed, survivor) = (
        world.worker("doomed", &history),
        world.worker("survivor", &history),
    );
    let sending = send_slowly(&world, &records);
    let killing = async {
        wait_until("both workers to have work", async || {
            let events = history.events();
            let worked = |name: &str| {
                events
                    .iter()
                    .any(|e| matches!(e, Event::Delivered { worker, .. } if worker == name))
            };
            worked("doomed") && worked("survivor")
        })
        .await;
        doomed.kill().await;
    };
    tokio::join!(sending, killing);
    wait_until("all records", async || {
        history.payloads().len() == records.len()
    })
    .await;
    survivor.stop().await.expect("an orderly end");
    history.assert_nothing_lost(&records);
    history.assert_order_per_key();
    history.assert_duplicates_were_not_checkpointed();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_in_order_hands_its_leases_over_within_three_seconds() {
    let world = World::start(4).await;
    let history = History::default();
    let (leaving, staying) = (
        world.worker("leaving", &history),
        world.worker("staying", &history),
    );
    let started = |name: &'static str| {
        let history = history.clone();
        move || {
            let of = |e: &Event| matches!(e, Event::Started { worker, .. } if worker == name);
            history.events().iter().filter(|e| of(e)).count()
        }
    };
    let (left, stayed) = (started("leaving"), started("staying"));
    wait_until("an even share", async || left() >= 2 && stayed() >= 2).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = stayed();
    leaving.stop().await.expect("an orderly end");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        stayed() - before,
        2,
        "both leases have a new owner after 3 s"
    );
    let records = numbered(16, 400);
    send_slowly(&world, &records).await;
    wait_until("all records", async || {
        history.payloads().len() == records.len()
    })
    .await;
    staying.stop().await.expect("an orderly end");
    assert_eq!(history.duplicates(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_lease_row_is_skipped_and_the_other_shards_go_on() {
    let world = World::start(3).await;
    let history = History::default();
    let records = numbered(60, 600);
    let first = world.worker("first", &history);
    send_slowly(&world, &records[..300]).await;
    wait_until("the first half", async || history.payloads().len() == 300).await;
    first.stop().await.expect("an orderly end");

    let key = HashMap::from([(
        "leaseKey".to_owned(),
        AttributeValue::S("shardId-000000000001".to_owned()),
    )]);
    let broken = world
        .dynamodb
        .update_item()
        .table_name(APPLICATION)
        .set_key(Some(key));
    broken
        .update_expression("SET checkpoint = :garbage")
        .expression_attribute_values(":garbage", AttributeValue::S("no checkpoint".to_owned()))
        .send()
        .await
        .expect("the row is updated");

    let second = world.worker("second", &history);
    send_slowly(&world, &records[300..]).await;
    let on_others: Vec<_> = history_of_others(&world, &records).await;
    wait_until("the other shards' records", async || {
        let seen = history.payloads();
        on_others.iter().all(|payload| seen.contains(payload))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let started_on_broken = history.events().iter().any(|e| {
        matches!(e, Event::Started { worker, shard }
            if worker == "second" && shard.as_str() == "shardId-000000000001")
    });
    assert!(
        !started_on_broken,
        "nobody works on a lease that cannot be read"
    );
    second.stop().await.expect("an orderly end");
}

/// The payloads of the records that do not belong to shard 1.
async fn history_of_others(world: &World, records: &[UserRecord]) -> Vec<String> {
    let listed = world
        .kinesis
        .list_shards()
        .stream_name(tests::world::STREAM)
        .send()
        .await;
    let listed = listed.expect("shards are listed");
    let shard = &listed.shards()[1];
    let range = shard.hash_key_range().expect("a shard has a range");
    let key = |text: &str| text.parse().expect("decimal");
    let range = kinesis_core::HashKeyRange::new(
        key(range.starting_hash_key()),
        key(range.ending_hash_key()),
    )
    .expect("ordered");
    let others = records
        .iter()
        .filter(|record| !range.contains(record.hash_key()));
    others
        .map(|record| String::from_utf8_lossy(&record.data).into_owned())
        .collect()
}
