//! A stream that is not what it was: described late, placing records otherwise, or another one of
//! the name.

use std::time::Duration;

use kinesis_core::UserRecord;
use kinesis_producer::{ErrorKind, Settings};

use crate::world::{STREAM, World, delivered, enqueue, numbered, pairs};

const SECOND: Duration = Duration::from_secs(1);

impl World {
    async fn recreate_stream(&self, shards: i32) {
        let delete = self.client.delete_stream().stream_name(STREAM);
        delete.send().await.expect("deleted");
        tokio::time::sleep(SECOND * 5).await;
        self.create_stream(shards).await;
        tokio::time::sleep(SECOND * 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_could_not_be_described_is_asked_again() {
    for code in ["ResourceNotFoundException", "ExpiredTokenException"] {
        let world = World::new(1).await;
        world.faults.refuse("DescribeStreamSummary", code);
        let producer = world.producer(Settings::default());
        producer.send(numbered(1)).await.expect("delivered");
        let oversize = || UserRecord::new("k", vec![0; 3 << 19]);
        let error = producer.send(oversize()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Rejected, "by the service");
        world.faults.allow("DescribeStreamSummary");
        tokio::time::sleep(SECOND * 15).await;
        let error = producer.send(oversize()).await.expect_err("refused");
        assert_eq!(
            error.kind(),
            ErrorKind::InvalidRecord,
            "{code}: known by now"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_does_not_allow_to_describe_is_not_asked_again_and_again() {
    let world = World::new(1).await;
    let operation = "DescribeStreamSummary";
    world.faults.refuse(operation, "AccessDeniedException");
    let producer = world.producer(Settings::default());
    for _ in 0..60 {
        producer.send(numbered(1)).await.expect("delivered");
        tokio::time::sleep(SECOND * 9).await;
    }
    assert_eq!(world.faults.calls(operation), 1, "in nine minutes");
    for _ in 0..20 {
        producer.send(numbered(1)).await.expect("delivered");
        tokio::time::sleep(SECOND * 9).await;
    }
    assert_eq!(world.faults.calls(operation), 2, "in twelve minutes");
}

/// DescribeStreamSummary has a quota for the whole account: 20 a second.
#[tokio::test(start_paused = true)]
async fn a_stream_is_asked_a_few_times_an_hour_while_records_come_and_never_while_none_do() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    producer.send(numbered(0)).await.expect("delivered");
    tokio::time::sleep(SECOND * 36_000).await;
    let calls = |operation| world.faults.calls(operation);
    assert_eq!(
        (calls("DescribeStreamSummary"), calls("ListShards")),
        (1, 1)
    );
    for number in 0..360 {
        producer.send(numbered(number)).await.expect("delivered");
        tokio::time::sleep(SECOND * 10).await;
    }
    let (described, listed) = (calls("DescribeStreamSummary") - 1, calls("ListShards") - 1);
    assert!((2..=7).contains(&described), "{described} times in an hour");
    assert!((45..=80).contains(&listed), "{listed} times in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_larger_maximum_is_noticed_by_a_record_that_was_refused_for_the_old_one() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    producer.send(numbered(1)).await.expect("delivered");
    let oversize = || UserRecord::new("k", vec![0; 3 << 19]);
    world.faults.describe("MaxRecordSizeInKiB", 2048.into());
    tokio::time::sleep(SECOND * 60).await;
    let error = producer.send(oversize()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidRecord);
    tokio::time::sleep(SECOND).await;
    let error = producer.send(oversize()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Rejected, "by the service itself");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_to_place_records_itself_is_noticed_by_the_first_of_them() {
    let world = World::new(4).await;
    let producer = world.producer(Settings::default());
    producer.send(numbered(1)).await.expect("delivered");
    tokio::time::sleep(SECOND * 11).await;
    world.faults.scatter();
    delivered(enqueue(&producer, 0..100).await).await;
    tokio::time::sleep(SECOND).await;
    let deliveries = delivered(enqueue(&producer, 100..20_000).await).await;
    let attempts = deliveries.iter().map(|(_, delivery)| delivery.attempts);
    assert_eq!(attempts.max(), Some(1), "packed for any shard");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_places_records_by_key_again_is_noticed_by_some_of_them() {
    let world = World::new(4).await;
    world.faults.scatter();
    let producer = world.producer(Settings::default());
    delivered(enqueue(&producer, 0..1000).await).await;
    tokio::time::sleep(SECOND * 11).await;
    world.faults.gather();
    for number in 0..12 {
        producer.send(numbered(number)).await.expect("delivered");
    }
    tokio::time::sleep(SECOND).await;
    let deliveries = delivered(enqueue(&producer, 2000..6000).await).await;
    world.read().await.contains_all(pairs(&deliveries));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_in_a_stream_that_was_created_anew_with_more_shards() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    delivered(enqueue(&producer, 0..500).await).await;
    world.recreate_stream(4).await;
    let deliveries = delivered(enqueue(&producer, 500..4000).await).await;
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
    let last = deliveries.last().expect("many");
    assert_eq!(last.1.attempts, 1, "cut for the new shards");
}

/// The first one lands in a shard of the id that it was meant for, but not all members belong there.
#[tokio::test(start_paused = true)]
async fn an_aggregate_for_a_shard_of_the_same_id_in_another_stream_is_not_taken_for_delivered() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let at = |number: u64, part: u128| {
        let hash_key = kinesis_core::HashKey(u128::MAX / 10 * part);
        numbered(number).with_explicit_hash_key(hash_key)
    };
    producer.send(at(0, 0)).await.expect("delivered");
    world.recreate_stream(4).await;
    let records: Vec<_> = (1..10)
        .map(|number| at(number, u128::from(number - 1)))
        .collect();
    // The first one goes by itself, and the others gather.
    let mut sent = vec![(at(10, 0), producer.try_send(at(10, 0)).expect("room"))];
    tokio::time::sleep(Duration::from_millis(1)).await;
    for record in records {
        sent.push((record.clone(), producer.try_send(record).expect("room")));
    }
    let deliveries = delivered(sent).await;
    world.read().await.contains_all(pairs(&deliveries));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_missing_for_a_while_comes_back_with_other_shards() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    delivered(enqueue(&producer, 0..500).await).await;
    let delete = world.client.delete_stream().stream_name(STREAM);
    delete.send().await.expect("deleted");
    tokio::time::sleep(SECOND * 5).await;
    let error = producer.send(numbered(1)).await.expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    world.create_stream(4).await;
    tokio::time::sleep(SECOND * 5).await;
    let deliveries = delivered(enqueue(&producer, 500..4000).await).await;
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    assert_eq!(stream.dropped, 0, "no aggregate of the old shard");
}

#[tokio::test(start_paused = true)]
async fn a_split_is_got_over_while_the_shards_cannot_be_listed() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    delivered(enqueue(&producer, 0..500).await).await;
    world.faults.refuse("ListShards", "InternalFailure");
    // A refresh fails, and the next ones back off.
    for number in 0..20 {
        producer.send(numbered(number)).await.expect("delivered");
        tokio::time::sleep(SECOND * 10).await;
    }
    assert!(world.faults.calls("ListShards") > 2);
    world.faults.allow("ListShards");
    world.split("shardId-000000000000").await;
    world.faults.refuse("ListShards", "InternalFailure");
    let clock = kinesis_core::Clock::system();
    let start = clock.now();
    let mut all = Vec::new();
    for round in 0..20 {
        all.extend(delivered(enqueue(&producer, 500 + round * 50..550 + round * 50).await).await);
    }
    let took = clock.now() - start;
    assert!(took < SECOND, "{took:?} in a network without delay");
    world.faults.allow("ListShards");
    let stream = world.read().await;
    stream.contains_all(pairs(&all));
}
