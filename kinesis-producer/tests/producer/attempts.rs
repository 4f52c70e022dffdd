//! What an attempt is: one call on the wire, for so long at most; and how long a record has for all.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::primitives::Blob;
use kinesis_core::Rand;
use kinesis_producer::{ErrorKind, FailureClass, Producer, Settings};

use crate::faults::Fault;
use crate::world::{STREAM, World, numbered};

const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// What a client retries that is left to itself.
const CURABLE: [Fault; 4] = [
    Fault::Refuse(500, "InternalFailure"),
    Fault::Refuse(503, "ServiceUnavailable"),
    Fault::Refuse(400, THROTTLED),
    Fault::LoseAnswer,
];

#[tokio::test(start_paused = true)]
async fn each_attempt_that_is_counted_is_one_call_on_the_wire_however_eager_the_client() {
    let world = World::new(1).await;
    let calls = || world.faults.calls("PutRecords");
    for retries in [RetryConfig::standard(), RetryConfig::adaptive()] {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(1));
        let config = world.client.config().to_builder();
        let config = config
            .retry_config(retries.with_max_attempts(5))
            .timeout_config(timeouts.build());
        let client = Client::from_conf(config.build());
        let faults = CURABLE.into_iter().chain([Fault::Hang]);
        for fault in faults {
            // By itself the client sends again, and would say nothing of it.
            let (name, before) = (format!("{fault:?}"), calls());
            world.faults.next([fault.clone()]);
            let entry = aws_sdk_kinesis::types::PutRecordsRequestEntry::builder()
                .data(Blob::new("x"))
                .partition_key("key");
            let put = client.put_records().stream_name(STREAM);
            let put = put.records(entry.build().expect("an entry")).send().await;
            put.expect("stored at the second attempt");
            assert_eq!(calls() - before, 2, "{name}: the client's own retry");

            let producer = Producer::builder(client.clone(), STREAM).rand(Rand::seeded(5));
            let producer = producer.build().expect("a producer");
            let before = calls();
            world.faults.next([fault.clone(), fault.clone(), fault]);
            let delivery = producer.send(numbered(1)).await.expect("delivered");
            assert_eq!(delivery.attempts, 4, "{name}");
            assert_eq!(delivery.failed_attempts().count(), 3, "{name}");
            assert_eq!(calls() - before, 4, "{name}: on the wire");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_given_up_after_the_time_that_is_set() {
    let world = World::new(1).await;
    // The client has no timeout of its own.
    for millis in [1, 750, 60_000] {
        let request_timeout = Duration::from_millis(millis);
        let producer = world.producer(Settings {
            request_timeout,
            ..Settings::default()
        });
        world.faults.next([Fault::Hang, Fault::Hang]);
        let delivery = producer.send(numbered(1)).await.expect("delivered");
        let attempts: Vec<_> = delivery.failed_attempts().collect();
        assert_eq!(attempts.len(), 2);
        for attempt in attempts {
            assert_eq!(
                (attempt.class, attempt.code),
                (FailureClass::Unavailable, "Timeout")
            );
            // Timers have whole milliseconds.
            let late = attempt.took.abs_diff(request_timeout);
            assert!(
                late <= Duration::from_millis(1),
                "{millis} ms: {:?}",
                attempt.took
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_shortest_time_to_live_ends_a_record_and_the_longest_does_no_harm() {
    let world = World::new(1).await;
    let year = Duration::from_secs(365 * 24 * 3600);
    world
        .faults
        .always(Fault::Refuse(503, "ServiceUnavailable"));
    for ttl in [Duration::from_millis(1), year] {
        let producer = world.producer(Settings {
            record_ttl: Some(ttl),
            request_timeout: ttl,
            record_max_buffered_time: ttl,
            ..Settings::default()
        });
        let outcome = producer.enqueue(numbered(1)).await.expect("accepted");
        let mut outcome = std::pin::pin!(outcome);
        let ended = tokio::time::timeout(Duration::from_secs(600), &mut outcome).await;
        if ttl < year {
            let error = ended.expect("in time").expect_err("expired");
            assert_eq!(error.kind(), ErrorKind::Expired);
        } else {
            ended.expect_err("it is tried again and again");
            world.faults.always(Fault::Pass);
            outcome.await.expect("delivered");
        }
        producer.close(Duration::MAX).await.expect("in order");
    }
}
