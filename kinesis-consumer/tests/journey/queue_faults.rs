//! A queue's consumer whose calls get no answer, and whose handler panics.

use std::time::Duration;

use futures::future::BoxFuture;
use kinesis_consumer::ProcessorError;
use kinesis_consumer::queue::{Lane, QueueSettings};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule};

use crate::queue::{Running, at_once, left, put, queue};
use crate::world::World;

/// Calls of this operation get their answer when nobody waits for it any more.
fn hangs(operation: &str) -> FaultPlan {
    let hour = FaultEffect::latency_ms(kinesis_local::FAULT_LATENCY_MAX_MS);
    FaultPlan::default().rule(FaultRule::new(hour).operation(operation))
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_never_answered_is_made_again() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    world.faults(hangs("ReceiveQueueRecords"));
    let running = Running::start(&world, &arn, QueueSettings::default(), at_once);
    tokio::time::sleep(Duration::from_secs(20)).await;
    world.faults(FaultPlan::default());
    put(&world, 0..3).await;
    running.until_done(0..3).await;
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_extension_that_is_never_answered_is_made_again_before_the_record_is_visible() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..3).await;
    let slow = |_, _| -> BoxFuture<'static, Result<(), ProcessorError>> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(90)).await;
            Ok(())
        })
    };
    let settings = QueueSettings::default();
    let half = settings.visibility_timeout / 2;
    let running = Running::start(&world, &arn, settings, slow);
    tokio::time::sleep(half / 2).await;
    // The request does not even arrive.
    let lost = FaultEffect::latency_before_ms(kinesis_local::FAULT_LATENCY_MAX_MS);
    let lost = FaultRule::new(lost).operation("UpdateQueueRecordsVisibility");
    world.faults(FaultPlan::default().rule(lost));
    tokio::time::sleep(half).await;
    assert_eq!(world.hits(), [1], "it was due");
    world.faults(FaultPlan::default());
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(running.done(), [0, 1, 2], "each once");
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_before_its_future_exists_does_not_end_the_consumer() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..3).await;
    let counted = std::sync::atomic::AtomicUsize::new(0);
    let handler = move |record: kinesis_consumer::queue::QueueRecord| {
        // In the call itself, not in what it returns.
        let calls = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(calls > 0, "asked to panic");
        drop(record);
        std::future::ready(Ok(()))
    };
    let consumer =
        kinesis_consumer::queue::QueueConsumer::builder(&*arn, world.kinesis.clone(), handler)
            .clock(world.clock.clone())
            .rand(kinesis_core::Rand::seeded(1))
            .build()
            .expect("valid");
    let shutdown = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(consumer.run(shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    shutdown.cancel();
    task.await.expect("no panic").expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}
