use kinesis_core::{Position, SequenceNumber};

use super::*;
use crate::checkpoint::Checkpointer;
use crate::processor::ProcessRecordsInput;
use crate::record::Record;

/// The records with these numbers.
fn input(shard_id: ShardId, numbers: std::ops::RangeInclusive<u64>) -> ProcessRecordsInput {
    let number = |number: u64| -> SequenceNumber { number.to_string().parse().expect("a number") };
    let at = Position::at(number(*numbers.end()), 0);
    let checkpointer = Checkpointer::in_memory(shard_id, Position::TrimHorizon, at);
    let records = numbers.map(|n| Record::new("key", n.to_string(), number(n)));
    ProcessRecordsInput::new(records.collect::<Vec<_>>(), checkpointer)
}

#[tokio::test(start_paused = true)]
async fn shards_that_find_no_room_wait_until_the_stream_is_polled() {
    let shards = NEW_SHARDS_MAX + 2;
    let (mut stream, factory) = record_stream(1);
    let processors = (0..shards as u64).map(|index| {
        let shard_id = ShardId::from_index(index);
        let mut processor = factory.create(&shard_id);
        let input = input(shard_id, 1..=1);
        tokio::spawn(async move { processor.process_records(input).await })
    });
    let processors: Vec<_> = processors.collect();
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(factory);
    let mut seen = 0;
    while let Some(delivery) = stream.next().await {
        assert!(delivery.ack(), "its shard waits");
        seen += 1;
    }
    assert_eq!(seen, shards);
    for processor in processors {
        processor.await.expect("no panic").expect("processed");
    }
}

#[tokio::test(start_paused = true)]
async fn records_of_a_lease_that_is_lost_are_not_delivered_any_more() {
    let (mut stream, factory) = record_stream(3);
    let shard_id = ShardId::from_index(0);
    let begin = |numbers| {
        let mut processor = factory.create(&shard_id);
        let input = input(shard_id.clone(), numbers);
        tokio::spawn(async move { processor.process_records(input).await })
    };
    let lost = begin(1..=3);
    let out = stream.next().await.expect("the first is out");
    // What the shard does when its lease is lost: the processor's future is dropped.
    lost.abort();
    assert!(lost.await.expect_err("aborted").is_cancelled());
    let gained = begin(7..=7);
    let delivery = stream.next().await.expect("the next lease's");
    assert_eq!(delivery.record().data, "7");
    assert!(delivery.ack(), "its shard waits");
    assert!(!out.ack(), "its shard does not wait any more");
    gained.await.expect("no panic").expect("processed");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_blames_no_record() {
    for held in [false, true] {
        let (mut stream, factory) = record_stream(3);
        let shard_id = ShardId::from_index(0);
        let mut processor = factory.create(&shard_id);
        let input = input(shard_id, 1..=3);
        let processing = tokio::spawn(async move { processor.process_records(input).await });
        let delivery = stream.next().await.expect("the first is out");
        if held {
            drop(stream);
            drop(delivery);
        } else {
            assert!(delivery.ack(), "its shard waits");
            drop(stream);
        }
        let result = processing.await.expect("no panic");
        assert!(
            matches!(result, Err(ProcessorError::Fatal(_))),
            "{held} {result:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_of_which_nothing_is_acknowledged_says_so() {
    let (written, _installed) = crate::written::Written::begin();
    let (mut stream, factory) = record_stream(100);
    let shard_id = ShardId::from_index(0);
    let mut processor = factory.create(&shard_id);
    let input = input(shard_id, 1..=3);
    let processing = tokio::spawn(async move { processor.process_records(input).await });
    let out = stream.by_ref().take(3).collect::<Vec<_>>().await;
    let warned = || {
        written
            .lines("does not acknowledge those that it has")
            .len()
    };
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(warned(), 0);
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(warned(), 1);
    assert!(out.into_iter().all(Delivery::ack), "it waits for them");
    processing.await.expect("no panic").expect("processed");
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_dropped_comes_again() {
    let (mut stream, factory) = record_stream(1);
    let shard_id = ShardId::from_index(0);
    let mut processor = factory.create(&shard_id);
    let input = input(shard_id, 1..=1);
    let processing = tokio::spawn(async move { processor.process_records(input).await });
    drop(stream.next().await.expect("it is out"));
    let result = processing.await.expect("no panic");
    assert!(
        matches!(result, Err(ProcessorError::Retry(_))),
        "{result:?}"
    );
}
