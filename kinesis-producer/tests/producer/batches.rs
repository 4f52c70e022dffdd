//! Many records by one call, and through a sink.

use futures::{SinkExt, StreamExt};
use kinesis_core::UserRecord;
use kinesis_producer::{ErrorKind, Settings};

use crate::faults::Fault;
use crate::world::{World, numbered};

/// Fewer than the records that the tests send.
fn narrow() -> Settings {
    Settings {
        max_buffered_records: 10,
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_an_outcome_for_each_record_in_order() {
    let world = World::new(2).await;
    let producer = world.producer(narrow());
    let mut records: Vec<_> = (0..100).map(numbered).collect();
    let bad = UserRecord::new("", "x");
    records[50] = bad.clone();
    let outcomes = producer.send_batch(records.clone()).await;
    assert_eq!(outcomes.len(), 100);
    let mut delivered = Vec::new();
    for (index, (record, outcome)) in records.into_iter().zip(outcomes).enumerate() {
        match outcome {
            Ok(delivery) => delivered.push((record, delivery)),
            Err(error) => {
                assert_eq!((index, error.kind()), (50, ErrorKind::InvalidRecord));
                assert_eq!(error.into_record(), Some(bad.clone()));
            }
        }
    }
    assert_eq!(delivered.len(), 99);
    world
        .read()
        .await
        .contains_all(crate::world::pairs(&delivered));
}

#[tokio::test(start_paused = true)]
async fn a_sink_takes_more_than_there_is_room_for_and_ends_when_all_is_delivered() {
    let world = World::new(2).await;
    let producer = world.producer(narrow());
    let records = futures::stream::iter((0..500).map(|number| Ok(numbered(number))));
    let forwarded = records.forward(producer.sink()).await;
    forwarded.expect("delivered");
    assert_eq!(producer.outstanding().records, 0);
    let stream = world.read().await;
    assert_eq!(stream.records.len(), 500);
    stream.is_ordered_by_key();
    producer
        .send(numbered(500))
        .await
        .expect("a closed sink leaves the producer open");
}

#[tokio::test(start_paused = true)]
async fn a_sink_waits_at_the_bound_of_a_stalled_stream() {
    let world = World::new(1).await;
    world.faults.always(Fault::Hang);
    let producer = world.producer(narrow());
    let mut sink = producer.sink();
    for number in 0..11 {
        sink.feed(numbered(number)).await.expect("taken");
    }
    let wait = std::time::Duration::from_secs(1);
    let twelfth = tokio::time::timeout(wait, sink.feed(numbered(11))).await;
    assert!(
        twelfth.is_err(),
        "one record waits for room, the next waits for it"
    );
    assert_eq!(producer.outstanding().records, 10);
    world.faults.always(Fault::Pass);
    sink.close().await.expect("delivered");
    assert_eq!(world.read().await.records.len(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_sink_tells_of_a_failed_record_and_goes_on() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let mut sink = producer.sink();
    let refused = sink
        .send(UserRecord::new("", "x"))
        .await
        .expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::InvalidRecord);
    world
        .faults
        .next([Fault::Refuse(400, "AccessDeniedException")]);
    let failed = sink.send(numbered(1)).await.expect_err("failed");
    assert_eq!(failed.kind(), ErrorKind::AccessDenied);
    assert_eq!(failed.into_record(), Some(numbered(1)));
    sink.send(numbered(2)).await.expect("delivered");
    assert_eq!(world.read().await.records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_given_a_record_before_it_is_ready_hands_it_back() {
    use futures::Sink;
    let world = World::new(1).await;
    let producer = world.producer(Settings {
        max_buffered_records: 1,
        ..Settings::default()
    });
    let mut sink = std::pin::pin!(producer.sink());
    for number in 0..2 {
        // The second one waits for room.
        sink.as_mut().start_send(numbered(number)).expect("taken");
    }
    let error = sink
        .as_mut()
        .start_send(numbered(2))
        .expect_err("not ready");
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(error.into_record(), Some(numbered(2)));
    sink.close().await.expect("both delivered");
    assert_eq!(world.read().await.records.len(), 2);
}
