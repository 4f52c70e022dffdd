//! What a producer does when PutRecords fails, in whole or in part.

use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use kinesis_core::UserRecord;
use kinesis_producer::{ErrorKind, FailureClass, Producer, Settings};

use crate::faults::{Fault, Named, POISON};
use crate::world::{STREAM, World, delivered, enqueue, numbered, pairs};

#[tokio::test(start_paused = true)]
async fn a_throttled_record_is_retried_until_it_is_taken() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    world.faults.next(vec![
        Fault::RefuseHalf(
            "ProvisionedThroughputExceededException"
        );
        5
    ]);
    let delivery = producer.send(numbered(1)).await.expect("delivered");
    assert_eq!(delivery.attempts, 6);
    assert_eq!(world.read().await.records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn order_and_completeness_survive_every_kind_of_transient_failure() {
    let world = World::new(4).await;
    let settings = Settings {
        aggregation_max_size: 2000,
        ..Settings::default()
    };
    let producer = world.producer(settings);
    let faults = [
        Fault::RefuseHalf("ProvisionedThroughputExceededException"),
        Fault::Pass,
        Fault::Refuse(500, "InternalFailure"),
        Fault::LoseAnswer,
        Fault::RefuseHalf("InternalFailure"),
        Fault::Refuse(503, "ServiceUnavailable"),
        Fault::ShortAnswer,
        Fault::Pass,
        Fault::Hang,
        Fault::Refuse(400, "ProvisionedThroughputExceededException"),
        Fault::RefuseHalf("SomethingNew"),
    ];
    world.faults.next(faults.iter().cycle().take(60).cloned());
    let deliveries = delivered(enqueue(&producer, 0..4000).await).await;
    assert!(world.faults.requests().len() > 60, "all faults were met");
    let stream = world.read().await;
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
    assert!(deliveries.iter().any(|(_, delivery)| delivery.attempts > 2));
}

#[tokio::test(start_paused = true)]
async fn what_no_retry_cures_fails_at_once_with_its_kind_and_the_record() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let cases = [
        (
            Fault::Refuse(400, "AccessDeniedException"),
            ErrorKind::AccessDenied,
        ),
        (
            Fault::Refuse(400, "ResourceNotFoundException"),
            ErrorKind::NotFound,
        ),
        (
            Fault::Refuse(400, "KMSDisabledException"),
            ErrorKind::Encryption,
        ),
        (
            Fault::RefuseHalf("KMSInvalidStateException"),
            ErrorKind::Encryption,
        ),
        (
            Fault::Refuse(400, "ValidationException"),
            ErrorKind::Rejected,
        ),
        (Fault::Refuse(413, "Whatever"), ErrorKind::Rejected),
    ];
    for (fault, kind) in cases {
        world.faults.next([fault]);
        let error = producer.send(numbered(1)).await.expect_err("refused");
        assert_eq!((error.kind(), error.attempts()), (kind, 1));
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(error.into_record(), Some(numbered(1)));
    }
    producer
        .send(numbered(1))
        .await
        .expect("the producer goes on");
}

/// What a chain of providers says when none of them has credentials.
#[derive(Debug)]
struct NoCredentials;

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("none found")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_without_credentials_fails_the_record_instead_of_waiting() {
    let world = World::new(1).await;
    let without_provider = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url("http://127.0.0.1:0")
        .http_client(world.faults.clone());
    let with_empty_provider = without_provider.clone().credentials_provider(NoCredentials);
    for config in [without_provider, with_empty_provider] {
        let client = aws_sdk_kinesis::Client::from_conf(config.build());
        let producer = Producer::builder(client, STREAM).build().expect("valid");
        let error = producer
            .send(numbered(1))
            .await
            .expect_err("no credentials");
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error:?}");
    }
}

/// What the SDK's default chain says on an instance whose network is not up yet.
#[derive(Debug)]
struct UntilTheNetworkIsUp(kinesis_core::Clock, tokio::time::Instant);

impl ProvideCredentials for UntilTheNetworkIsUp {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(if self.0.now() < self.1 {
            Err(CredentialsError::not_loaded(
                "no credentials found in chain. Attempted:\n  Ec2InstanceMetadata: the credential \
                 provider was not enabled: could not communicate with IMDS: dispatch failure",
            ))
        } else {
            Ok(aws_credential_types::Credentials::from_keys(
                "AKID", "secret", None,
            ))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_network_comes_late_loses_no_record() {
    let world = World::new(1).await;
    let clock = kinesis_core::Clock::system();
    let up = clock.now() + Duration::from_secs(30);
    let config = world.client.config().to_builder();
    let config = config.credentials_provider(UntilTheNetworkIsUp(clock.clone(), up));
    let client = aws_sdk_kinesis::Client::from_conf(config.build());
    let producer = Producer::builder(client, STREAM).build().expect("valid");
    let sent = enqueue(&producer, 0..10).await;
    delivered(sent).await;
    assert!(clock.now() >= up);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_the_service_refuses_does_not_take_its_neighbours_along() {
    let world = World::new(1).await;
    // The producer believes in a larger maximum than the stream has, and may not ask.
    world
        .faults
        .refuse("DescribeStreamSummary", "AccessDeniedException");
    let settings = Settings {
        max_user_record_size: Some(2 << 20),
        ..Settings::default()
    };
    let producer = world.producer(settings);
    let first = enqueue(&producer, 0..200).await;
    let oversize = kinesis_producer::UserRecord::new("k", vec![0; 3 << 19]);
    let oversize = producer.enqueue(oversize).await.expect("accepted");
    let second = enqueue(&producer, 200..400).await;
    let error = oversize.await.expect_err("refused by the service");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    let mut deliveries = delivered(first).await;
    deliveries.extend(delivered(second).await);
    let stream = world.read().await;
    assert_eq!(stream.records.len(), 400);
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
}

#[tokio::test(start_paused = true)]
async fn one_guilty_record_of_five_hundred_fails_alone_within_few_requests() {
    for (named, most) in [(Named::Yes, 3), (Named::No, 20)] {
        let world = World::new(1).await;
        world.faults.poison(named);
        let producer = world.producer(Settings {
            aggregation_enabled: false,
            ..Settings::default()
        });
        let mut outcomes = Vec::new();
        for number in 0..500 {
            let key = if number == 333 {
                POISON.to_owned()
            } else {
                format!("own-{number}")
            };
            let record = UserRecord::new(key, "x");
            // All at once, so that they share a request.
            outcomes.push(producer.try_send(record).expect("room"));
        }
        for (number, outcome) in outcomes.into_iter().enumerate() {
            match outcome.await {
                Ok(_) => assert_ne!(number, 333),
                Err(error) => {
                    assert_eq!((number, error.kind()), (333, ErrorKind::Rejected));
                    let record = error.into_record().expect("the record");
                    assert_eq!(&*record.partition_key, POISON);
                }
            }
        }
        assert_eq!(world.read().await.records.len(), 499, "once each");
        let requests = world.faults.requests();
        assert_eq!(requests[0], 500);
        assert!(requests.len() <= most, "{named:?}: {requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_fails_when_its_time_to_live_is_over() {
    let world = World::new(1).await;
    world
        .faults
        .always(Fault::Refuse(503, "ServiceUnavailable"));
    let ttl = std::time::Duration::from_secs(20);
    let producer = world.producer(Settings {
        record_ttl: Some(ttl),
        ..Settings::default()
    });
    let clock = kinesis_core::Clock::system();
    let start = clock.now();
    let error = producer.send(numbered(1)).await.expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Expired);
    assert!(error.attempts() > 3);
    let source = std::error::Error::source(&error)
        .expect("the last failure")
        .to_string();
    assert!(source.contains("ServiceUnavailable"), "{source}");
    assert!((clock.now() - start).abs_diff(ttl) < std::time::Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_record_tells_how_each_attempt_failed_and_when() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let throttled = "ProvisionedThroughputExceededException";
    world.faults.next([
        Fault::Refuse(503, "ServiceUnavailable"),
        Fault::Hang,
        Fault::RefuseHalf(throttled),
    ]);
    let delivery = producer.send(numbered(1)).await.expect("delivered");
    assert_eq!(delivery.attempts, 4);
    let attempts: Vec<_> = delivery.failed_attempts().collect();
    let expected = [
        (FailureClass::Unavailable, "ServiceUnavailable"),
        (FailureClass::Unavailable, "Timeout"),
        (FailureClass::Throttled, throttled),
    ];
    assert_eq!(
        attempts
            .iter()
            .map(|a| (a.class, a.code))
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(attempts[1].took, Settings::default().request_timeout);
    let mut ended = Duration::ZERO;
    for (sent_after, took) in attempts
        .iter()
        .map(|attempt| (attempt.sent_after, attempt.took))
        .chain([(delivery.sent_after, delivery.took)])
    {
        assert!(sent_after >= ended, "one after another");
        ended = sent_after + took;
    }
    assert!(ended >= Settings::default().request_timeout);

    world.faults.next([
        Fault::Refuse(503, "ServiceUnavailable"),
        Fault::Refuse(400, "AccessDeniedException"),
    ]);
    let error = producer.send(numbered(1)).await.expect_err("refused");
    let classes: Vec<_> = error
        .failed_attempts()
        .map(|attempt| attempt.class)
        .collect();
    assert_eq!(
        classes,
        [FailureClass::Unavailable, FailureClass::AccessDenied]
    );
    assert_eq!(error.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_record_comes_back_without_a_copy() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    world
        .faults
        .always(Fault::Refuse(400, "AccessDeniedException"));
    let data = bytes::Bytes::from(vec![7; 1000]);
    let records = ["a", "b"].map(|key| UserRecord::new(key, data.clone()));
    for outcome in producer.send_batch(records).await {
        let record = outcome
            .expect_err("refused")
            .into_record()
            .expect("the record");
        assert_eq!(record.data.as_ptr(), data.as_ptr());
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_record_fails_at_once_where_that_is_asked_for() {
    let world = World::new(1).await;
    let producer = world.producer(Settings {
        fail_if_throttled: true,
        ..Settings::default()
    });
    let throttled = "ProvisionedThroughputExceededException";
    world.faults.next([
        Fault::RefuseHalf(throttled),
        Fault::Refuse(400, throttled),
        Fault::Refuse(503, "ServiceUnavailable"),
    ]);
    for _ in 0..2 {
        let error = producer.send(numbered(1)).await.expect_err("throttled");
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Throttled, 1));
    }
    let delivery = producer.send(numbered(1)).await.expect("retried");
    assert_eq!(delivery.attempts, 2);
}
