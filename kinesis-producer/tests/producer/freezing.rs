//! A process that stands still for minutes between two calls, as in AWS Lambda: time jumps, and
//! what was on its way is gone.

use std::time::Duration;

use kinesis_core::Clock;
use kinesis_producer::{ErrorKind, Settings};
use tokio::time::advance;

use crate::faults::Fault;
use crate::world::{World, delivered, enqueue, numbered, pairs};

const FROZEN: Duration = Duration::from_secs(15 * 60);

#[tokio::test(start_paused = true)]
async fn what_is_flushed_before_a_freeze_is_stored_and_the_next_call_goes_on_at_once() {
    let world = World::new(2).await;
    let producer = world.producer(Settings::default());
    let mut sent = Vec::new();
    for call in 0..5 {
        let accepted = enqueue(&producer, call * 100..(call + 1) * 100).await;
        producer.flush().await;
        assert_eq!(producer.outstanding().records, 0);
        let stored = world.read().await.records.len() as u64;
        assert_eq!(stored, (call + 1) * 100, "before the freeze");
        sent.extend(delivered(accepted).await);
        advance(FROZEN).await;
    }
    assert!(sent.iter().all(|(_, delivery)| delivery.attempts == 1));
    let longest = sent.iter().map(|(_, delivery)| delivery.sent_after).max();
    assert!(longest < Some(Duration::from_millis(200)), "{longest:?}");
    // One at the start and one after each freeze; the reads above list them too.
    let listed = world.faults.calls("ListShards");
    assert!(listed <= 1 + 2 * 5, "{listed}: no catching up");
    let stream = world.read().await;
    stream.contains_all(pairs(&sent));
    stream.is_ordered_by_key();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_freeze_cut_off_is_sent_again() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    delivered(enqueue(&producer, 0..10).await).await;
    world.faults.next([Fault::Hang]);
    let accepted = enqueue(&producer, 10..20).await;
    while world.faults.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    advance(FROZEN).await;
    let thawed = Clock::system().now();
    let deliveries = delivered(accepted).await;
    let took = Clock::system().now() - thawed;
    assert!(took < Duration::from_secs(1), "{took:?} after the freeze");
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
}

#[tokio::test(start_paused = true)]
async fn a_record_that_grew_too_old_in_a_freeze_fails_and_the_next_one_is_delivered() {
    let world = World::new(1).await;
    let producer = world.producer(Settings {
        record_ttl: Some(Duration::from_secs(30)),
        ..Settings::default()
    });
    world.faults.next([Fault::Hang]);
    let old = producer.try_send(numbered(1)).expect("room");
    while world.faults.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    advance(FROZEN).await;
    let error = old.await.expect_err("too old");
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Expired, 1));
    assert_eq!(error.into_record(), Some(numbered(1)));
    producer.send(numbered(2)).await.expect("delivered");
}
