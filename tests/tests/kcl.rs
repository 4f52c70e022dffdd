//! The toolkit against the Kinesis Client Library for Java: kinesis-local serves it, it reads what
//! our producer wrote, our consumer and it take over each other's lease table, and both work on one at
//! the same time. Its `AggregatorUtil` alone takes our aggregates apart.
//!
//! Needs `java` and `mvn`, and a few minutes of real time: see `interop/README.md`. Each test has
//! a kinesis-local of its own on a free port, and JVMs that end with it.

#[path = "kcl/aggregates.rs"]
mod aggregates;
#[path = "kcl/fleet.rs"]
mod fleet;
#[path = "kcl/half.rs"]
mod half;
#[path = "kcl/instants.rs"]
mod instants;
#[path = "kcl/legacy.rs"]
mod legacy;
#[path = "kcl/measured.rs"]
mod measured;
#[path = "kcl/mixed.rs"]
mod mixed;
#[path = "kcl/reading.rs"]
mod reading;
#[path = "kcl/resharding.rs"]
mod resharding;
#[path = "kcl/rows.rs"]
mod rows;
#[path = "kcl/streams.rs"]
mod streams;
#[path = "kcl/turns.rs"]
mod turns;
#[path = "kcl/two.rs"]
mod two;
#[path = "kcl/worker.rs"]
mod worker;

use std::time::Duration;

use kinesis_core::UserRecord;
use kinesis_producer::Producer;
use tests::World;
use tests::history::{Event, History};
use tests::world::STREAM;

/// Sends a few records at a time, so that there are many aggregates and many batches.
async fn send(producer: &Producer, records: &[UserRecord]) {
    for chunk in records.chunks(50) {
        let mut deliveries = Vec::new();
        for record in chunk {
            deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
        }
        for delivery in deliveries {
            delivery.await.expect("delivered");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn split(world: &World, shard: &str, at: u128) {
    let split = world.kinesis.split_shard().stream_name(STREAM);
    let split = split
        .shard_to_split(shard)
        .new_starting_hash_key(at.to_string());
    split.send().await.expect("split");
}

async fn merge(world: &World, shard: &str, with: &str) {
    let merge = world.kinesis.merge_shards().stream_name(STREAM);
    let merge = merge.shard_to_merge(shard).adjacent_shard_to_merge(with);
    merge.send().await.expect("merged");
}

/// Gives the stream so many shards, by splits and merges of its own.
async fn scale(world: &World, shards: i32) {
    let update = world.kinesis.update_shard_count().stream_name(STREAM);
    let update = update
        .target_shard_count(shards)
        .scaling_type(aws_sdk_kinesis::types::ScalingType::UniformScaling);
    update.send().await.expect("scaled");
}

fn ended(history: &History) -> usize {
    let ended = |event: &&Event| matches!(event, Event::Ended { .. });
    history.events().iter().filter(ended).count()
}
