//! A fan-out consumer that nobody finds, as calls for it fail or hang for ever.

use std::time::Duration;

use kinesis_consumer::metrics as names;
use kinesis_local::{FaultEffect, FaultPlan};

use crate::fan_out::by_fan_out;
use crate::ledger::Behaviour;
use crate::measured::Counts;
use crate::world::{Worker, World, for_workers};

const SHARDS: usize = 4;

/// Longer than any call may take.
const FOR_EVER_MS: u64 = 3_600_000;

/// Shards that went over to polling because the consumer took too long.
const LATE: &str = "kinesis_consumer_fan_out_fall_backs reason=late";

/// Shards whose worker meets this in place of an answer go over to polling together, after a minute.
async fn all_are_polled(effect: FaultEffect, operation: &str, counts: &Counts) -> (World, Worker) {
    let world = World::new(SHARDS as i32).await;
    let rule = for_workers(effect.clone()).operation(operation);
    world.faults(FaultPlan::default().rule(rule));
    world.put_numbers(0..200, 50).await;
    let begun = world.clock.now();
    let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    world.ledger.until_processed(200).await;
    let took = world.clock.now() - begun;
    println!("{operation} {effect:?}: {took:?}");
    assert!(took < Duration::from_secs(90), "{took:?}");
    assert_eq!(counts.of(LATE), SHARDS as u64);
    world.ledger.assert_each_once(0..200);
    (world, worker)
}

#[tokio::test(start_paused = true)]
async fn shards_whose_consumer_is_never_described_are_polled_all_of_them_until_it_is() {
    let hang = FaultEffect::latency_ms(FOR_EVER_MS);
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let (world, worker) = all_are_polled(hang, "DescribeStreamConsumer", &counts).await;
    // It is looked for again, for all together.
    tokio::time::sleep(Duration::from_secs(370)).await;
    assert_eq!(counts.of(LATE), 2 * SHARDS as u64);
    world.put_numbers(200..300, 50).await;
    world.ledger.until_processed(300).await;
    world.faults(FaultPlan::default());
    tokio::time::sleep(Duration::from_secs(370)).await;
    assert_eq!(counts.of(names::SUBSCRIPTIONS), SHARDS as u64);
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..300);
}

#[tokio::test(start_paused = true)]
async fn shards_whose_consumer_is_never_registered_or_their_stream_never_told_of_are_polled_too() {
    for (effect, operation) in [
        (
            FaultEffect::error("InternalFailure"),
            "DescribeStreamConsumer",
        ),
        (
            FaultEffect::latency_before_ms(FOR_EVER_MS),
            "RegisterStreamConsumer",
        ),
        (
            FaultEffect::latency_ms(FOR_EVER_MS),
            "DescribeStreamSummary",
        ),
        (FaultEffect::DropRequest, "DescribeStreamSummary"),
    ] {
        let counts = Counts::default();
        let _installed = metrics::set_default_local_recorder(&counts);
        let (_world, worker) = all_are_polled(effect, operation, &counts).await;
        worker.stop().await.expect("a clean stop");
    }
}
