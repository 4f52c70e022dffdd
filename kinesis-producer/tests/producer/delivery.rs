//! What a producer does when nothing fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesis_core::{Clock, HashKey, UserRecord};
use kinesis_producer::{EnvelopeKey, ErrorKind, Producer, Settings};

use crate::faults::Fault;
use crate::world::{STREAM, World, delivered, enqueue, numbered, pairs};

#[tokio::test(start_paused = true)]
async fn every_record_is_readable_in_order_where_its_delivery_says() {
    let world = World::new(4).await;
    let producer = world.producer(Settings::default());
    let deliveries = delivered(enqueue(&producer, 0..3000).await).await;
    assert_eq!(producer.outstanding().records, 0);
    let stream = world.read().await;
    assert_eq!(stream.records.len(), 3000, "nothing twice");
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
    assert!(
        stream.kinesis_records < 300,
        "{} Kinesis records",
        stream.kinesis_records
    );
    assert!(
        deliveries
            .iter()
            .all(|(_, delivery)| delivery.attempts == 1)
    );
}

#[tokio::test(start_paused = true)]
async fn several_handles_share_one_stream_of_records() {
    let world = World::new(2).await;
    let producer = world.producer(Settings::default());
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let producer = producer.clone();
            tokio::spawn(async move {
                for number in 0..50 {
                    producer
                        .send(numbered(task * 1000 + number))
                        .await
                        .expect("delivered");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert_eq!(world.read().await.records.len(), 400);
}

#[tokio::test(start_paused = true)]
async fn an_explicit_hash_key_chooses_the_shard() {
    let world = World::new(4).await;
    let producer = world.producer(Settings::default());
    let mut waiting = Vec::new();
    for shard in 0..4u128 {
        for _ in 0..3 {
            let key = HashKey(shard * (u128::MAX / 4 + 1) + 5);
            let record = UserRecord::new("same-key", "x").with_explicit_hash_key(key);
            waiting.push((shard, producer.enqueue(record).await.expect("accepted")));
        }
    }
    for (shard, outcome) in waiting {
        let delivery = outcome.await.expect("delivered");
        assert_eq!(delivery.shard_id.index(), Some(shard as u64));
    }
    assert!(
        "340282366920938463463374607431768211456"
            .parse::<HashKey>()
            .is_err()
    );
    assert!("0x1".parse::<HashKey>().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_comes_back_and_its_neighbours_are_delivered() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let good = producer.enqueue(numbered(1)).await.expect("accepted");
    let largest = UserRecord::new("k", vec![1; 1024 * 1024 - 1]);
    let bad = [
        UserRecord::new("", "x"),
        UserRecord::new("k".repeat(257), "x"),
        UserRecord::new("kk", vec![1; 1024 * 1024 - 1]),
    ];
    for record in bad {
        let error = producer.send(record.clone()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidRecord);
        assert_eq!(error.attempts(), 0);
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(error.into_record(), Some(record));
    }
    good.await.expect("delivered");
    producer
        .send(largest)
        .await
        .expect("the largest record is delivered");
    assert_eq!(world.read().await.records.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_stream_fails_the_record_until_it_exists() {
    let world = World::without_stream().await;
    let producer = world.producer(Settings::default());
    let error = producer.send(numbered(1)).await.expect_err("no stream");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.into_record(), Some(numbered(1)));
    assert_eq!(producer.outstanding().bytes, 0);
    world.create_stream(1).await;
    producer.send(numbered(1)).await.expect("delivered");
    assert_eq!(world.read().await.records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_not_sent_more_than_its_quota_takes() {
    let world = World::new(1).await;
    let producer = world.producer(Settings::default());
    let clock = kinesis_core::Clock::system();
    let start = clock.now();
    let mut sent = Vec::new();
    for number in 0..60 {
        let record = UserRecord::new(format!("key-{number}"), vec![0; 100_000]);
        sent.push((
            record.clone(),
            producer.enqueue(record).await.expect("accepted"),
        ));
    }
    let deliveries = delivered(sent).await;
    let seconds = (clock.now() - start).as_secs_f64();
    assert!(
        (4.0..6.0).contains(&seconds),
        "6 MB at 1 MiB/s and a burst: {seconds} s"
    );
    assert!(
        deliveries
            .iter()
            .all(|(_, delivery)| delivery.attempts == 1),
        "nothing throttled"
    );
    world.read().await.contains_all(pairs(&deliveries));
}

#[tokio::test(start_paused = true)]
async fn the_intake_is_bounded_and_gives_a_record_back_when_it_is_full() {
    let world = World::new(1).await;
    world.faults.always(Fault::Hang);
    let settings = Settings {
        max_buffered_records: 3,
        ..Settings::default()
    };
    let producer = world.producer(settings);
    let sent = enqueue(&producer, 0..3).await;
    let error = producer.try_send(numbered(3)).expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Full);
    assert_eq!(error.into_record(), Some(numbered(3)));
    let wait = std::time::Duration::from_secs(1);
    let waiting = tokio::time::timeout(wait, producer.enqueue(numbered(3))).await;
    assert!(waiting.is_err(), "waits while it is full");
    assert_eq!(
        producer.outstanding().records,
        3,
        "a cancelled wait holds nothing"
    );
    world.faults.always(Fault::Pass);
    delivered(sent).await;
    producer
        .try_send(numbered(3))
        .expect("room again")
        .await
        .expect("delivered");
    assert_eq!(
        world.read().await.records.len(),
        4,
        "the cancelled one was not sent"
    );
}

#[tokio::test(start_paused = true)]
async fn without_aggregation_each_record_is_a_kinesis_record() {
    let world = World::new(2).await;
    let settings = Settings {
        aggregation_enabled: false,
        ..Settings::default()
    };
    let producer = world.producer(settings);
    let deliveries = delivered(enqueue(&producer, 0..500).await).await;
    let stream = world.read().await;
    assert_eq!(stream.kinesis_records, 500);
    stream.contains_all(pairs(&deliveries));
    stream.is_ordered_by_key();
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_more_shards_than_a_page_lists_is_known_whole() {
    let world = World::new(1003).await;
    let producer = world.producer(Settings::default());
    let last = |number: u64| {
        let key = HashKey(u128::MAX - u128::from(number));
        UserRecord::new("k", number.to_be_bytes().to_vec()).with_explicit_hash_key(key)
    };
    let mut outcomes = Vec::new();
    for number in 0..10 {
        outcomes.push(producer.enqueue(last(number)).await.expect("accepted"));
    }
    for outcome in outcomes {
        let delivery = outcome.await.expect("delivered");
        assert_eq!(delivery.shard_id.index(), Some(1002));
        assert_eq!(delivery.attempts, 1);
    }
    assert_eq!(
        world.faults.requests().iter().sum::<usize>(),
        1,
        "one aggregate"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_found_by_its_arn() {
    let world = World::new(2).await;
    let summary = world
        .client
        .describe_stream_summary()
        .stream_name(STREAM)
        .send();
    let summary = summary.await.expect("a stream").stream_description_summary;
    let arn = summary.expect("a summary").stream_arn;
    let producer = Producer::builder(world.client.clone(), arn.as_str());
    let producer = producer.build().expect("a producer");
    assert_eq!(producer.stream(), STREAM);
    let deliveries = delivered(enqueue(&producer, 0..100).await).await;
    world.read().await.contains_all(pairs(&deliveries));
    let error = Producer::builder(world.client.clone(), "arn:aws:sqs:us-east-1:1:flights");
    let error = error.build().expect_err("no stream");
    assert_eq!(error.kind(), ErrorKind::InvalidSettings);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_held_against_the_maximum_of_its_own_stream() {
    let world = World::without_stream().await;
    let create = world
        .client
        .create_stream()
        .stream_name(STREAM)
        .shard_count(1);
    create
        .max_record_size_in_kib(2048)
        .send()
        .await
        .expect("a stream");
    let sized = |bytes: usize| UserRecord::new("k", vec![0; bytes - 1]);
    let producer = world.producer(Settings::default());
    // The stream was not asked yet: accepted, and refused before it is sent.
    let early = producer.try_send(sized((2 << 20) + 1)).expect("room");
    let largest = producer.enqueue(sized(2 << 20)).await.expect("accepted");
    assert_eq!(
        early.await.expect_err("too large").kind(),
        ErrorKind::InvalidRecord
    );
    largest.await.expect("delivered");
    let error = producer
        .send(sized((2 << 20) + 1))
        .await
        .expect_err("too large");
    assert_eq!(
        (error.kind(), error.attempts()),
        (ErrorKind::InvalidRecord, 0)
    );
    let source = std::error::Error::source(&error)
        .expect("the bound")
        .to_string();
    assert!(source.contains("2097152"), "{source}");
    assert_eq!(error.into_record(), Some(sized((2 << 20) + 1)));
    assert_eq!(world.faults.requests(), [1], "none was sent in vain");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_places_records_itself_is_sent_full_aggregates_and_nothing_twice() {
    let world = World::new(4).await;
    world.faults.scatter();
    let producer = world.producer(Settings::default());
    let deliveries = delivered(enqueue(&producer, 0..20_000).await).await;
    assert!(
        deliveries
            .iter()
            .all(|(_, delivery)| delivery.attempts == 1)
    );
    let stream = world.read_anywhere().await;
    assert_eq!(stream.records.len(), 20_000, "nothing twice");
    stream.contains_all(pairs(&deliveries));
    let shards: BTreeSet<_> = stream.records.iter().map(|read| &read.shard_id).collect();
    assert_eq!(shards.len(), 4);
    assert!(stream.kinesis_records < 400, "{}", stream.kinesis_records);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_places_records_itself_is_sent_what_its_shards_take_together() {
    let world = World::new(4).await;
    world.faults.scatter();
    let producer = world.producer(Settings {
        rate_limit: 50,
        ..Settings::default()
    });
    let clock = Clock::system();
    let start = clock.now();
    let record = |number: u64| UserRecord::new(format!("key-{number}"), vec![0; 100_000]);
    for outcome in producer.send_batch((0..120).map(record)).await {
        outcome.expect("delivered");
    }
    let seconds = (clock.now() - start).as_secs_f64();
    assert!(
        (4.0..6.0).contains(&seconds),
        "12 MB at 2 MiB/s and a burst: {seconds} s"
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_shard_of_a_stream_that_places_records_itself_stops_none_for_the_others() {
    let world = World::new(4).await;
    world.faults.scatter();
    let producer = world.producer(Settings {
        aggregation_enabled: false,
        ..Settings::default()
    });
    producer.send(numbered(0)).await.expect("delivered");
    let clock = Clock::system();
    let start = clock.now();
    for round in 1..=5 {
        let code = "ProvisionedThroughputExceededException";
        world.faults.next([Fault::RefuseHalf(code)]);
        let deliveries = delivered(enqueue(&producer, round * 10..round * 10 + 10).await).await;
        let attempts = deliveries.iter().map(|(_, delivery)| delivery.attempts);
        assert_eq!(attempts.sum::<u32>(), 15);
    }
    let took = clock.now() - start;
    assert!(took < Duration::from_millis(10), "{took:?}");
}

/// Records of a MiB that wait for the shard's quota, and small ones behind them, ten milliseconds apart:
/// how long the slowest of each took.
async fn large_and_small(settings: Settings, small_bytes: usize) -> (Duration, Duration) {
    let world = World::new(1).await;
    let producer = world.producer(settings);
    let clock = Clock::system();
    let start = clock.now();
    let mut outcomes = Vec::new();
    let mut send = |key: &str, bytes: usize| {
        let outcome = producer.try_send(UserRecord::new(key, vec![0; bytes]));
        let (outcome, clock, sent_at) = (outcome.expect("room"), clock.clone(), clock.now());
        outcomes.push(tokio::spawn(async move {
            outcome.await.expect("delivered");
            clock.now() - sent_at
        }));
    };
    for _ in 0..2 {
        send("large", (1 << 20) - 5);
    }
    while clock.now() - start < Duration::from_secs(4) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        send("small", small_bytes);
    }
    let mut took = Vec::new();
    for outcome in outcomes {
        took.push(outcome.await.expect("no panic"));
    }
    let small = took.split_off(2);
    let slowest = |took: Vec<Duration>| took.into_iter().max().expect("some");
    (slowest(took), slowest(small))
}

#[tokio::test(start_paused = true)]
async fn small_records_pass_one_that_waits_for_its_quota_only_where_no_order_is_asked_for() {
    let unordered = Settings {
        ordered: false,
        ..Settings::default()
    };
    let (large, small) = large_and_small(unordered.clone(), 100).await;
    assert!(large < Duration::from_millis(2300), "{large:?}");
    assert!(small < Duration::from_millis(100), "{small:?}");
    let (_, behind) = large_and_small(Settings::default(), 100).await;
    assert!(behind > Duration::from_millis(900), "in order: {behind:?}");
    // Small records that take the whole quota: the large one waits for a second, and for it to fill.
    let (large, _) = large_and_small(unordered, 10_000).await;
    assert!(
        large < Duration::from_millis(2300),
        "not starved: {large:?}"
    );
}

/// The envelopes are what readers see that do not open aggregates, such as Lambda.
#[tokio::test(start_paused = true)]
async fn an_aggregate_goes_under_the_envelope_key_that_is_set() {
    for envelope_key in [
        EnvelopeKey::Constant,
        EnvelopeKey::FirstMember,
        EnvelopeKey::Common,
    ] {
        let world = World::new(2).await;
        let producer = world.producer(Settings {
            envelope_key,
            ..Settings::default()
        });
        let deliveries = delivered(enqueue(&producer, 0..1000).await).await;
        let stream = world.read().await;
        stream.contains_all(pairs(&deliveries));
        stream.is_ordered_by_key();
        let mut members: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for read in &stream.records {
            let key = read.record.partition_key.as_ref();
            members
                .entry((&read.sequence_number, &*read.envelope))
                .or_default()
                .push(key);
        }
        assert!(members.len() < 500, "{} Kinesis records", members.len());
        for ((_, envelope), keys) in members.into_iter().filter(|(_, keys)| keys.len() > 1) {
            match envelope_key {
                EnvelopeKey::FirstMember => assert_eq!(envelope, keys[0]),
                EnvelopeKey::Common => assert!(keys.iter().all(|key| *key == envelope)),
                _ => assert_eq!(envelope, "a"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_an_idle_producer_waits_for_nothing() {
    let world = World::new(2).await;
    let defaults = Settings::default();
    let zero = Settings {
        record_max_buffered_time: Duration::ZERO,
        ..Settings::default()
    };
    for settings in [defaults, zero] {
        let producer = world.producer(settings);
        let clock = Clock::system();
        for number in 0..5 {
            let began = clock.now();
            producer.send(numbered(number)).await.expect("delivered");
            let took = clock.now() - began;
            // Time is virtual: it is all waiting, and nothing of it is work.
            assert!(took < Duration::from_millis(2), "{number}: {took:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
