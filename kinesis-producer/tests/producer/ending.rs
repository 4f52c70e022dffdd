//! Flush, close, drop: what was accepted is resolved, and nobody waits for ever.

use std::time::Duration;

use kinesis_core::Clock;
use kinesis_producer::{ErrorKind, Settings};

use crate::faults::Fault;
use crate::world::{World, delivered, enqueue, numbered, pairs};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn flush_ends_when_all_accepted_before_is_resolved_and_no_later() {
    let world = World::new(2).await;
    let producer = world.producer(Settings::default());
    let before = enqueue(&producer, 0..500).await;
    producer.flush().await;
    assert_eq!(producer.outstanding().records, 0);
    let stream = world.read().await;
    assert_eq!(stream.records.len(), 500);
    let deliveries = delivered(before).await;
    stream.contains_all(pairs(&deliveries));

    // What is accepted afterwards does not prolong a flush: the second record of the shard is
    // sent when the first is answered, and hangs.
    let sent_so_far = world.faults.requests().len();
    world.faults.next([Fault::Pass]);
    world.faults.always(Fault::Hang);
    let before = producer.enqueue(numbered(500)).await.expect("accepted");
    while world.faults.requests().len() == sent_so_far {
        tokio::task::yield_now().await;
    }
    let flush = producer.flush();
    tokio::pin!(flush);
    assert!(futures::poll!(&mut flush).is_pending());
    let after = producer
        .enqueue(numbered(500 + 23))
        .await
        .expect("accepted");
    flush.await;
    before.await.expect("delivered");
    assert_eq!(producer.outstanding().records, 1);
    world.faults.always(Fault::Pass);
    after.await.expect("delivered after the timeout");
}

#[tokio::test(start_paused = true)]
async fn flush_waits_out_failures_and_ends_with_failed_records_too() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    world
        .faults
        .next(vec![Fault::Refuse(500, "InternalFailure"); 3]);
    let first = producer.enqueue(numbered(1)).await.expect("accepted");
    producer.flush().await;
    assert_eq!(first.await.expect("delivered").attempts, 4);
    world
        .faults
        .next([Fault::Refuse(400, "AccessDeniedException")]);
    let second = producer.enqueue(numbered(2)).await.expect("accepted");
    producer.flush().await;
    assert_eq!(
        second.await.expect_err("refused").kind(),
        ErrorKind::AccessDenied
    );
}

#[tokio::test(start_paused = true)]
async fn close_delivers_what_was_accepted_and_refuses_the_rest() {
    let world = World::new(2).await;
    let producer = world.producer(Settings::default());
    let sent = enqueue(&producer, 0..300).await;
    producer.close(SECOND * 60).await.expect("drained");
    let deliveries = delivered(sent).await;
    world.read().await.contains_all(pairs(&deliveries));
    let error = producer.send(numbered(1)).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.into_record(), Some(numbered(1)));
    assert_eq!(
        producer.try_send(numbered(1)).expect_err("closed").kind(),
        ErrorKind::Closed
    );
    producer.flush().await;
    producer.close(SECOND).await.expect("closed already");
}

#[tokio::test(start_paused = true)]
async fn close_gives_back_what_its_deadline_leaves() {
    let world = World::new(1).await;
    world.faults.always(Fault::Hang);
    let producer = world.producer(Settings {
        max_buffered_records: 50,
        ..Settings::default()
    });
    let sent = enqueue(&producer, 0..50).await;
    let waiting = {
        let producer = producer.clone();
        tokio::spawn(async move { producer.enqueue(numbered(50)).await.map(drop) })
    };
    tokio::task::yield_now().await;
    let (clock, mut left) = (Clock::system(), 0);
    let start = clock.now();
    let error = producer.close(SECOND * 3).await.expect_err("undelivered");
    assert_eq!(error.kind(), ErrorKind::Undelivered);
    assert!(error.to_string().contains("50 records"), "{error}");
    assert_eq!(clock.now() - start, SECOND * 3);
    for (record, outcome) in sent {
        let error = outcome.await.expect_err("undelivered");
        assert_eq!(error.kind(), ErrorKind::Undelivered);
        assert_eq!(error.into_record(), Some(record));
        left += 1;
    }
    assert_eq!((left, producer.outstanding().records), (50, 0));
    let refused = waiting
        .await
        .expect("no panic")
        .expect_err("closed while it waited");
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(refused.into_record(), Some(numbered(50)));
}

#[tokio::test(start_paused = true)]
async fn of_two_deadlines_the_earlier_counts_and_a_dropped_close_goes_on() {
    let world = World::new(1).await;
    world.faults.always(Fault::Hang);
    let producer = world.producer(Settings::default());
    let outcome = producer.enqueue(numbered(1)).await.expect("accepted");
    let clock = Clock::system();
    let start = clock.now();
    let close = producer.close(SECOND * 100);
    assert!(tokio::time::timeout(SECOND, close).await.is_err());
    producer.close(SECOND * 5).await.expect_err("undelivered");
    assert_eq!(clock.now() - start, SECOND * 6);
    assert!(outcome.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_delivers_what_is_buffered() {
    let world = World::new(2).await;
    let producer = world.producer(Settings::default());
    let sent = enqueue(&producer, 0..300).await;
    drop(producer);
    let deliveries = delivered(sent).await;
    world.read().await.contains_all(pairs(&deliveries));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_in_an_outage_gives_up_after_a_while() {
    let world = World::new(1).await;
    world.faults.always(Fault::Hang);
    let producer = world.producer(Settings::default());
    let sent = enqueue(&producer, 0..10).await;
    let (clock, dropped) = (Clock::system(), Clock::system().now());
    drop(producer);
    for (record, outcome) in sent {
        let error = outcome.await.expect_err("undelivered");
        assert_eq!(error.into_record(), Some(record));
    }
    assert_eq!(clock.now() - dropped, SECOND * 30, "as documented");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_there_at_the_deadline_counts() {
    // Which of the two the task sees first is up to chance.
    for round in 0..20 {
        let world = World::new(1).await;
        world.faults.next([Fault::AnswerLate]);
        let producer = world.producer(Settings::default());
        let outcome = producer.enqueue(numbered(1)).await.expect("accepted");
        while world.read().await.records.is_empty() {
            tokio::task::yield_now().await;
        }
        world.faults.answer();
        let closed = producer.close(Duration::ZERO).await;
        closed.unwrap_or_else(|error| panic!("round {round}: {error}"));
        outcome.await.expect("delivered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_close_among_concurrent_senders_resolves_every_record() {
    for round in 0..10 {
        let world = World::new(2).await;
        let settings = Settings {
            max_buffered_records: 40,
            ..Settings::default()
        };
        let producer = world.producer(settings);
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let producer = producer.clone();
                tokio::spawn(async move {
                    let (mut accepted, mut outcomes) = (0, Vec::new());
                    for number in 0..200 {
                        match producer.enqueue(numbered(sender * 1000 + number)).await {
                            Ok(outcome) => outcomes.push(outcome),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed);
                                assert!(error.into_record().is_some());
                                break;
                            }
                        }
                        if number % 50 == 0 {
                            producer.flush().await;
                        }
                    }
                    for outcome in outcomes {
                        outcome.await.expect("what was accepted is delivered");
                        accepted += 1;
                    }
                    accepted
                })
            })
            .collect();
        for _ in 0..round * 20 {
            tokio::task::yield_now().await;
        }
        producer.close(SECOND * 60).await.expect("drained");
        let mut accepted = 0;
        for sender in senders {
            accepted += sender.await.expect("no panic");
        }
        // Only now: a sender that is being refused has room for its record until it has it back.
        assert_eq!(producer.outstanding().records, 0);
        assert_eq!(world.read().await.records.len(), accepted);
    }
}

#[test]
fn a_runtime_that_shuts_down_resolves_every_outcome() {
    let runtime = |()| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    let first = runtime(()).expect("a runtime");
    let (producer, sent) = first.block_on(async {
        let world = World::new(1).await;
        world.faults.always(Fault::Hang);
        let producer = world.producer(Settings::default());
        let sent = enqueue(&producer, 0..10).await;
        tokio::task::yield_now().await;
        (producer, sent)
    });
    drop(first);
    runtime(()).expect("a runtime").block_on(async {
        for (record, outcome) in sent {
            assert_eq!(
                outcome.await.expect_err("undelivered").into_record(),
                Some(record)
            );
        }
        producer.flush().await;
        let error = producer.close(SECOND).await.expect_err("not delivered");
        assert_eq!(error.kind(), ErrorKind::Undelivered);
        let error = producer.send(numbered(1)).await.expect_err("no task");
        assert_eq!(error.kind(), ErrorKind::Closed);
    });
    assert_eq!(producer.outstanding().records, 0);
}

#[test]
fn a_producer_outside_a_runtime_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let world = runtime
        .expect("a runtime")
        .block_on(World::without_stream());
    let built = kinesis_producer::Producer::builder(world.client.clone(), "s").build();
    assert_eq!(
        built.expect_err("no runtime").kind(),
        ErrorKind::InvalidSettings
    );
}
