//! A queue's consumer whose calls get no answer, are denied or done in part, and whose handler panics.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use futures::future::BoxFuture;
use kinesis_consumer::metrics as names;
use kinesis_consumer::queue::{Lane, QueueConsumer, QueueRecord, QueueSettings};
use kinesis_consumer::{ErrorKind, ProcessorError};
use kinesis_core::HashKeyRange;
use kinesis_local::{FaultEffect, FaultPlan, FaultRule};
use tokio_util::sync::CancellationToken;

use crate::faulty::Faulty;
use crate::measured::{Counts, damaged};
use crate::queue::{Running, after, at_once, left, put, queue};
use crate::world::World;

/// Calls of this operation get their answer when nobody waits for it any more.
fn hangs(operation: &str) -> FaultPlan {
    let hour = FaultEffect::latency_ms(kinesis_local::FAULT_LATENCY_MAX_MS);
    FaultPlan::default().rule(FaultRule::new(hour).operation(operation))
}

/// Calls of this operation are denied.
fn denied(operation: &str) -> FaultPlan {
    let denied = FaultEffect::error("AccessDeniedException");
    FaultPlan::default().rule(FaultRule::new(denied).operation(operation))
}

/// The same world, reached by this network.
fn by(mut world: World, network: &Faulty) -> World {
    let config = world.kinesis.config().to_builder();
    let config = config.http_client(network.clone()).build();
    world.kinesis = aws_sdk_kinesis::Client::from_conf(config);
    world
}

/// A world whose queue, of six receives at most, gives out three records.
async fn of_three() -> (World, String) {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..3).await;
    (world, arn)
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
    let (world, arn) = of_three().await;
    let settings = QueueSettings::default();
    let half = settings.visibility_timeout / 2;
    let running = Running::start(&world, &arn, settings, after(90));
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
async fn records_whose_acknowledgement_is_denied_for_a_while_are_handled_once() {
    // Less than the records are hidden for, and many times as long.
    for seconds in [20, 300] {
        let world = World::new(1).await;
        let arn = queue(&world, 2).await;
        put(&world, 0..3).await;
        world.faults(denied("AcknowledgeQueueRecords"));
        let running = Running::start(&world, &arn, QueueSettings::default(), at_once);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert!(world.hits()[0] > 2, "it was tried again");
        world.faults(FaultPlan::default());
        // It goes on by itself.
        put(&world, 3..5).await;
        running.until_done(0..5).await;
        running.stop().await.expect("a clean stop");
        assert!(left(&world, &arn, Lane::Records).await.is_empty());
        assert!(left(&world, &arn, Lane::DeadLetters).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn records_whose_extension_is_denied_for_a_while_are_handled_once() {
    // It is put right before the records are visible, and long after.
    for seconds in [15, 60] {
        let (world, arn) = of_three().await;
        let running = Running::start(&world, &arn, QueueSettings::default(), after(90));
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.faults(denied("UpdateQueueRecordsVisibility"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert!(world.hits()[0] > 2, "it was tried again");
        world.faults(FaultPlan::default());
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(running.done(), [0, 1, 2], "each once");
        running.stop().await.expect("a clean stop");
        assert!(left(&world, &arn, Lane::Records).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_denied_for_a_while_is_made_again_and_for_a_minute_ends_the_consumer() {
    let (world, arn) = of_three().await;
    world.faults(denied("ReceiveQueueRecords"));
    let running = Running::start(&world, &arn, QueueSettings::default(), at_once);
    tokio::time::sleep(Duration::from_secs(40)).await;
    world.faults(FaultPlan::default());
    running.until_done(0..3).await;

    world.faults(denied("ReceiveQueueRecords"));
    let begun = world.clock.now();
    assert_eq!(running.failed().await.kind(), ErrorKind::Denied);
    let took = world.clock.now() - begun;
    assert!(took >= Duration::from_secs(60), "{took:?}");
    assert!(took <= Duration::from_secs(90), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn entries_of_a_request_that_fail_alone_are_told_again() {
    const TIMES: u64 = 3;
    for (operation, seconds) in [
        ("AcknowledgeQueueRecords", 0),
        ("UpdateQueueRecordsVisibility", 90),
    ] {
        let world = World::new(1).await;
        let arn = queue(&world, 6).await;
        let network = Faulty::leaving_out(world.http_client(), operation, TIMES);
        let world = by(world, &network);
        put(&world, 0..3).await;
        let running = Running::start(&world, &arn, QueueSettings::default(), after(seconds));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(network.left_out(), TIMES);
        assert_eq!(running.done(), [0, 1, 2], "each once");
        running.stop().await.expect("a clean stop");
        assert!(left(&world, &arn, Lane::Records).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_always_refused_is_given_up_and_the_consumer_goes_on() {
    /// As often as one is told.
    const TIMES: u64 = 10;
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    let network = Faulty::leaving_out(world.http_client(), "AcknowledgeQueueRecords", u64::MAX);
    let world = by(world, &network);
    put(&world, 0..1).await;
    // The record that comes again is not done with within the test.
    let handle = |_, receives: u32| -> BoxFuture<'static, Result<(), ProcessorError>> {
        Box::pin(async move {
            if receives > 1 {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    };
    let running = Running::start(&world, &arn, QueueSettings::default(), handle);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(network.left_out(), TIMES);
    put(&world, 1..2).await;
    running.until_done(0..2).await;
    running.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_for_good_ends_the_consumer_though_it_began_with_another_failure() {
    for (operation, seconds) in [
        ("AcknowledgeQueueRecords", 0),
        ("UpdateQueueRecordsVisibility", 7_200),
    ] {
        let (world, arn) = of_three().await;
        let away = FaultEffect::error("ServiceUnavailable");
        world.faults(FaultPlan::default().rule(FaultRule::new(away).operation(operation)));
        let running = Running::start(&world, &arn, QueueSettings::default(), after(seconds));
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(world.hits()[0] > 0, "it was told");
        let begun = world.clock.now();
        world.faults(denied(operation));
        tokio::time::sleep(Duration::from_secs(890)).await;
        assert_eq!(running.failed().await.kind(), ErrorKind::Denied);
        let took = world.clock.now() - begun;
        assert!(took >= Duration::from_secs(900), "{took:?}");
        assert!(took <= Duration::from_secs(960), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_cannot_be_read_are_counted_and_the_others_are_handled() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    let broken = {
        let mut aggregate = kinesis_core::Aggregate::new();
        aggregate.push(kinesis_core::UserRecord::new("key", "member"));
        let mut bytes = aggregate.encode().to_vec();
        *bytes.last_mut().expect("a checksum") ^= 1;
        bytes
    };
    let one_of_three = damaged(HashKeyRange::FULL);
    for data in [one_of_three, broken, b"plain".to_vec()] {
        let request = world.kinesis.put_record().stream_name("orders");
        let request = request.partition_key("a").data(Blob::new(data));
        request.send().await.expect("put");
    }
    let (sender, mut handled) = tokio::sync::mpsc::channel(3);
    let handler = move |record: QueueRecord| {
        let members = record.members().map(|members| members.len());
        let sender = sender.clone();
        async move { sender.send(members).await.map_err(ProcessorError::fatal) }
    };
    let consumer = QueueConsumer::builder(&*arn, world.kinesis.clone(), handler);
    let consumer = consumer.clock(world.clock.clone()).build().expect("valid");
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(consumer.run(shutdown.clone()));
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(handled.recv().await.expect("three"));
    }
    members.sort_unstable();
    assert_eq!(members, [None, None, Some(2)]);
    assert_eq!(counts.of(names::QUEUE_CORRUPT_MEMBERS_DROPPED), 1);
    assert_eq!(counts.of(names::QUEUE_CORRUPT_AGGREGATES), 1);
    shutdown.cancel();
    task.await.expect("no panic").expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_receive_was_answered_late_is_extended_before_it_is_visible() {
    let (world, arn) = of_three().await;
    let settings = QueueSettings {
        visibility_timeout: Duration::from_secs(3),
        wait_time: Duration::from_secs(1),
        ..QueueSettings::default()
    };
    // The service hid the records before; more than half of the timeout is over.
    let late = FaultRule::new(FaultEffect::latency_ms(1_700)).operation("ReceiveQueueRecords");
    // The receives after it would get them the moment they are visible.
    world.faults(FaultPlan::default().rule(late.times(1)));
    let running = Running::start(&world, &arn, settings, after(20));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.done(), [0, 1, 2], "each once");
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_before_its_future_exists_does_not_end_the_consumer() {
    let (world, arn) = of_three().await;
    let counted = std::sync::atomic::AtomicUsize::new(0);
    let handler = move |record: QueueRecord| {
        // In the call itself, not in what it returns.
        let calls = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(calls > 0, "asked to panic");
        drop(record);
        std::future::ready(Ok(()))
    };
    let consumer = QueueConsumer::builder(&*arn, world.kinesis.clone(), handler);
    let consumer = consumer.clock(world.clock.clone()).build().expect("valid");
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(consumer.run(shutdown.clone()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    shutdown.cancel();
    task.await.expect("no panic").expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}
