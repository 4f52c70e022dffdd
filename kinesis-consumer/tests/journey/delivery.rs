//! Every record, once, in order per key, from where it was asked for.

use kinesis_consumer::{ErrorKind, InitialPosition, Settings};

use crate::ledger::{Behaviour, Note};
use crate::world::World;

#[tokio::test(start_paused = true)]
async fn all_records_of_four_shards_are_processed_once_and_in_order_per_key() {
    let world = World::new(4).await;
    world.put_numbers(0..200, 17).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(200).await;
    world.put_numbers(200..300, 17).await;
    world.ledger.until_processed(300).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..300);
    let shards: std::collections::BTreeSet<_> = world
        .ledger
        .processed()
        .into_iter()
        .map(|seen| seen.shard_id)
        .collect();
    assert_eq!(shards.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn two_workers_share_the_shards_and_process_each_record_once() {
    let world = World::new(4).await;
    let one = world.worker("one", |_| Behaviour::Process);
    let two = world.worker("two-", |_| Behaviour::Process);
    let started =
        |worker| move |note: &Note| matches!(note, Note::Initialized(by, ..) if *by == worker);
    world
        .ledger
        .until_note("worker one has a shard", started("one"))
        .await;
    world
        .ledger
        .until_note("worker two has a shard", started("two-"))
        .await;
    world.put_numbers(0..200, 17).await;
    world.ledger.until_processed(200).await;
    one.stop().await.expect("a clean stop");
    two.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..200);
}

#[tokio::test(start_paused = true)]
async fn latest_begins_with_what_is_put_after_the_start() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    // The service's clock is known to the second, and "newest" is early rather than late.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let settings = Settings {
        initial_position: InitialPosition::Latest,
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings, |_| Behaviour::Process);
    world
        .ledger
        .until_note("the shard is read", |note| {
            matches!(note, Note::Initialized(..))
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    world.put_numbers(10..20, 3).await;
    world.ledger.until_processed(10).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(10..20);
}

#[tokio::test(start_paused = true)]
async fn after_latest_a_successor_misses_nothing_that_the_first_worker_could_not_process() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    tokio::time::sleep(std::time::Duration::from_secs(300)).await;
    let latest = || Settings {
        initial_position: InitialPosition::Latest,
        ..Settings::default()
    };
    let first = world.worker_with("one", latest(), |_| Behaviour::Fail);
    world
        .ledger
        .until_note("the shard is read", |note| {
            matches!(note, Note::Initialized(..))
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    world.put_numbers(10..20, 3).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    first.stop().await.expect("a clean stop");
    world.put_numbers(20..30, 3).await;
    let second = world.worker_with("two", latest(), |_| Behaviour::Process);
    world.ledger.until_processed(20).await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(10..30);
}

#[tokio::test(start_paused = true)]
async fn a_point_in_time_begins_with_what_was_put_after_it() {
    let world = World::new(2).await;
    world.put_numbers(0..10, 3).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    let settings = Settings {
        initial_position: InitialPosition::AtTimestamp(world.clock.epoch_millis()),
        ..Settings::default()
    };
    world.put_numbers(10..20, 3).await;
    let worker = world.worker_with("one", settings, |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(10..20);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_stream_ends_run_with_an_error_that_names_it() {
    let world = World::new(1).await;
    let factory = |_: &kinesis_consumer::ShardId| -> Box<dyn kinesis_consumer::RecordProcessor> {
        unreachable!("there is no shard")
    };
    let consumer = kinesis_consumer::Consumer::builder(
        "application",
        "no-such-stream",
        world.kinesis.clone(),
        world.dynamodb.clone(),
        factory,
    )
    .build()
    .expect("valid");
    let error = consumer
        .run(Default::default())
        .await
        .expect_err("no such stream");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert!(error.to_string().contains("no-such-stream"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_expired_while_the_processor_was_busy_is_replaced_without_a_gap() {
    let world = World::new(1).await;
    let settings = Settings {
        max_records: 1,
        max_records_count: 1,
        ..Settings::default()
    };
    world.put_numbers(0..3, 1).await;
    let busy = std::time::Duration::from_secs(7 * 60);
    let worker = world.worker_with("one", settings, move |seen| match seen.text().as_str() {
        "0" | "4" => Behaviour::Slow(busy),
        _ => Behaviour::Process,
    });
    world.ledger.until_processed(1).await;
    world.put_numbers(3..8, 1).await;
    world.ledger.until_processed(8).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..8);
}
