//! Records that the service refuses among others that it takes, and requests that it refuses for
//! other reasons than their records.

use std::time::Duration;

use kinesis_core::UserRecord;
use kinesis_producer::{Delivery, Error, ErrorKind, Producer, Settings};

use crate::faults::{Fault, Named, POISON};
use crate::world::{World, numbered};

/// So many records at once, that with this number poisoned; their outcomes.
async fn send(producer: &Producer, count: usize, poisoned: usize) -> Vec<Result<Delivery, Error>> {
    let mut outcomes = Vec::new();
    for number in 0..count {
        let key = if number == poisoned { POISON } else { "key" };
        let record = UserRecord::new(key, vec![b'x'; 20]);
        let record = record.with_explicit_hash_key(kinesis_core::HashKey(number as u128));
        outcomes.push(producer.try_send(record).expect("room"));
    }
    futures::future::join_all(outcomes).await
}

#[tokio::test(start_paused = true)]
async fn one_guilty_record_in_an_aggregate_fails_alone_within_few_requests() {
    for (named, poisoned) in [(Named::No, 0), (Named::No, 333), (Named::Yes, 499)] {
        let world = World::new(1).await;
        world.faults.poison_inside(named);
        let producer = world.producer(Settings::default());
        let outcomes = send(&producer, 500, poisoned).await;
        for (number, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(_) => assert_ne!(number, poisoned),
                Err(error) => {
                    assert_eq!((number, error.kind()), (poisoned, ErrorKind::Rejected));
                }
            }
        }
        assert_eq!(world.read().await.records.len(), 499, "once each");
        let requests = world.faults.bytes().len();
        assert!(
            requests <= 20,
            "{named:?}, number {poisoned}: {requests} requests"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_whatever_is_in_it_is_not_cut_up_for_ever() {
    let world = World::new(1).await;
    world
        .faults
        .always(Fault::Refuse(400, "ValidationException"));
    // One request either way, of an aggregate of 500 or of 500 records.
    for aggregation_enabled in [true, false] {
        let before = world.faults.bytes().len();
        let producer = world.producer(Settings {
            aggregation_enabled,
            ..Settings::default()
        });
        for outcome in send(&producer, 500, usize::MAX).await {
            assert_eq!(outcome.expect_err("refused").kind(), ErrorKind::Rejected);
        }
        let requests = world.faults.bytes().len() - before;
        assert!(requests < 100, "{requests} requests");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_not_about_the_records_fails_them_with_one_request() {
    let world = World::new(1).await;
    let producer = world.producer(Settings {
        aggregation_enabled: false,
        ..Settings::default()
    });
    producer.send(numbered(0)).await.expect("delivered");
    for (status, kind) in [
        (400, ErrorKind::Rejected),
        (404, ErrorKind::Rejected),
        (401, ErrorKind::AccessDenied),
        (403, ErrorKind::AccessDenied),
        (407, ErrorKind::AccessDenied),
    ] {
        world.faults.always(Fault::Refuse(status, "Whatever"));
        let before = world.faults.bytes().len();
        let records = (0..50).map(|number| UserRecord::new(format!("own-{number}"), "x"));
        let outcomes: Vec<_> = records
            .map(|record| producer.try_send(record).expect("room"))
            .collect();
        for outcome in futures::future::join_all(outcomes).await {
            assert_eq!(outcome.expect_err("refused").kind(), kind, "{status}");
        }
        let requests = world.faults.bytes().len() - before;
        assert_eq!(requests, 1, "{status}");
    }
}

const MINUTE: Duration = Duration::from_secs(60);

const EXPIRED: Fault = Fault::RefuseSaying(
    400,
    "InvalidSignatureException",
    "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z",
);

#[tokio::test(start_paused = true)]
async fn a_signature_that_grew_old_in_a_freeze_is_made_again() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    for fault in [EXPIRED, Fault::Refuse(403, "RequestTimeTooSkewed")] {
        world.faults.next([fault]);
        let delivery = producer.send(numbered(1)).await.expect("delivered");
        assert_eq!(delivery.attempts, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_fails_records_after_a_few_signatures() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    producer.send(numbered(0)).await.expect("delivered");
    // What else goes wrong does not use up the attempts.
    world
        .faults
        .next([Fault::Refuse(503, "ServiceUnavailable")]);
    world.faults.always(EXPIRED);
    let clock = kinesis_core::Clock::system();
    let start = clock.now();
    let error = producer.send(numbered(1)).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    let took = clock.now() - start;
    assert!((MINUTE..MINUTE * 5 / 4).contains(&took), "{took:?}");
    assert!(error.attempts() > 5, "{}", error.attempts());
    // The same while the shards are not known.
    let world = World::new(1).await;
    world.faults.refuse("ListShards", "RequestExpired");
    world.faults.always(EXPIRED);
    let producer = world.producer(Settings::default());
    let start = clock.now();
    let error = producer.send(numbered(1)).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    let took = clock.now() - start;
    assert!((MINUTE..MINUTE * 3 / 2).contains(&took), "{took:?}");
}

/// The SDK renews credentials shortly before they expire, by the machine's clock.
#[tokio::test(start_paused = true)]
async fn credentials_that_a_late_clock_renews_too_late_fail_no_record() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    producer.send(numbered(0)).await.expect("delivered");
    world
        .faults
        .always(Fault::Refuse(400, "ExpiredTokenException"));
    let outcome = producer.enqueue(numbered(1)).await.expect("accepted");
    tokio::time::sleep(MINUTE * 5 / 6).await;
    world.faults.always(Fault::Pass);
    outcome.await.expect("delivered with the new credentials");
}

#[tokio::test(start_paused = true)]
async fn the_text_of_an_error_has_nothing_of_the_credentials() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let secret = "The Canonical String should have been 'x-amz-security-token:SECRET'";
    for code in ["InvalidSignatureException", "UnrecognizedClientException"] {
        world.faults.next([Fault::RefuseSaying(403, code, secret)]);
        let error = producer.send(numbered(1)).await.expect_err("refused");
        let source = std::error::Error::source(&error).expect("a source");
        let text = format!("{error} {error:?} {source} {source:?}");
        assert!(text.contains(code) && !text.contains("SECRET"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_waits_past_its_time_to_live_is_not_sent() {
    let world = World::new(1).await;
    let ttl = Duration::from_secs(10);
    let producer = world.producer(Settings {
        aggregation_enabled: false,
        record_ttl: Some(ttl),
        max_in_flight: 1,
        request_timeout: ttl * 2,
        ..Settings::default()
    });
    producer.send(numbered(0)).await.expect("delivered");
    // Cut in two; the second half waits for the first, which hangs.
    world
        .faults
        .next([Fault::Refuse(400, "ValidationException"), Fault::Hang]);
    let records = ["a", "b"].map(|key| UserRecord::new(key, "x"));
    let outcomes = records.map(|record| producer.try_send(record).expect("room"));
    for outcome in outcomes {
        let error = outcome.await.expect_err("expired");
        assert_eq!(error.kind(), ErrorKind::Expired);
    }
    assert_eq!(
        world.read().await.records.len(),
        1,
        "neither was sent later"
    );
}
