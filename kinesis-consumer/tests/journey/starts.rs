//! Where shards begin that are new to an application which has read others of the stream.

use std::time::Duration;

use kinesis_consumer::{InitialPosition, Settings};
use kinesis_local::testing::START_MS;

use crate::ledger::Behaviour;
use crate::streams::{Board, start, streams};
use crate::world::World;

fn from(initial_position: InitialPosition) -> Settings {
    Settings {
        initial_position,
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_instant_at_the_next_start_skips_nothing_of_the_children_of_a_shard_that_was_read()
{
    let world = World::new(1).await;
    let first = from(InitialPosition::AtTimestamp(START_MS));
    let worker = world.worker_with("one", first, |_| Behaviour::Process);
    world.put_numbers(0..10, 3).await;
    world.ledger.until_processed(10).await;
    worker.stop().await.expect("a clean stop");

    world.put_numbers(10..20, 3).await;
    world.stream.split("shardId-000000000000").await;
    world.put_numbers(20..30, 3).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let now = from(InitialPosition::AtTimestamp(world.clock.epoch_millis()));
    let worker = world.worker_with("one", now, |_| Behaviour::Process);
    world.ledger.until_processed(30).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..30);
}

#[tokio::test(start_paused = true)]
async fn the_children_of_a_shard_that_had_nothing_since_the_instant_start_at_it_too() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    world.stream.split("shardId-000000000000").await;
    world.put_numbers(10..20, 3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let now = from(InitialPosition::AtTimestamp(world.clock.epoch_millis()));
    world.put_numbers(20..30, 3).await;
    let worker = world.worker_with("one", now, |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(20..30);
}

async fn is_read_as_another_after(gone_for: Duration) {
    let world = World::new(1).await;
    let board = Board::default();
    let list = streams([crate::world::STREAM.into()]);
    let worker = start(&world, "one", &list, &board);
    world.put("a", "old").await;
    board.until(crate::world::STREAM, &["old"]).await;
    world.delete_stream().await;
    tokio::time::sleep(gone_for).await;
    world.create_stream(1).await;
    world.put("a", "new").await;
    let all = ["old", "(stopped)", "new"];
    board.until(crate::world::STREAM, &all).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_created_anew_long_after_is_read_as_another() {
    is_read_as_another_after(Duration::from_secs(600)).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_created_anew_at_once_is_read_as_another() {
    is_read_as_another_after(Duration::from_secs(2)).await;
}
