//! How much goes into a request.

use kinesis_core::{HashKeyRange, UserRecord};
use kinesis_producer::{ErrorKind, Settings};

use crate::world::{World, delivered, pairs};

const MIB: usize = 1 << 20;

/// A record of exactly so many bytes for the shard with this number, of `shards`.
fn record(shard: usize, shards: u32, bytes: usize) -> UserRecord {
    let start = HashKeyRange::FULL.split_even(shards)[shard].start();
    UserRecord::new("k", vec![0; bytes - 1]).with_explicit_hash_key(start)
}

#[tokio::test(start_paused = true)]
async fn a_request_is_filled_to_the_last_byte_that_the_service_takes() {
    const SHARDS: u32 = 20;
    let world = World::with_limits(SHARDS as i32).await;
    let producer = world.producer(Settings {
        max_buffered_bytes: 200 * MIB,
        ..Settings::default()
    });
    let mut sent = Vec::new();
    for shard in 0..SHARDS as usize {
        let record = record(shard, SHARDS, MIB);
        let outcome = producer.try_send(record.clone()).expect("room");
        sent.push((record, outcome));
    }
    let deliveries = delivered(sent).await;
    assert_eq!(world.faults.bytes(), [10 * MIB, 10 * MIB]);
    world.read().await.contains_all(pairs(&deliveries));
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_a_request_is_to_be_goes_by_itself() {
    let world = World::new(1).await;
    let settings = Settings {
        collection_max_size: 100_000,
        ..Settings::default()
    };
    let producer = world.producer(settings);
    let mut sent = Vec::new();
    for bytes in [60_000, MIB, 60_000, 30_000] {
        let record = record(0, 1, bytes);
        sent.push((record.clone(), producer.try_send(record).expect("room")));
    }
    let deliveries = delivered(sent).await;
    world.read().await.contains_all(pairs(&deliveries));
    let requests = world.faults.bytes();
    assert!(requests.contains(&MIB), "{requests:?}");
    assert!(
        requests
            .iter()
            .all(|bytes| *bytes == MIB || *bytes <= 100_000)
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_too_large_is_told_what_bounds_it() {
    let world = World::new(1).await;
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        world.producer(settings)
    };
    let producers = [
        (
            with(|s| s.max_user_record_size = Some(1000)),
            "max_user_record_size",
        ),
        (
            with(|s| s.max_buffered_bytes = 5 * MIB),
            "max_buffered_bytes",
        ),
        (with(|_| {}), "no record of the service"),
    ];
    for (producer, bound) in &producers {
        let error = producer
            .try_send(record(0, 1, 11 * MIB))
            .expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::InvalidRecord);
        assert!(error.to_string().contains(bound), "{error}");
    }
    let producer = &producers[1].0;
    producer.send(record(0, 1, 10)).await.expect("delivered");
    let error = producer
        .try_send(record(0, 1, MIB + 1))
        .expect_err("too large");
    assert!(
        error.to_string().contains("the stream's maximum"),
        "{error}"
    );
}
