//! The Kinesis service through the official SDK, in process: no socket, no real time.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    PutRecordsRequestEntry, Record, ShardIteratorType, StartingPosition, SubscribeToShardEvent,
    SubscribeToShardEventStream,
};
use kinesis_core::{Clock, Rand};
use kinesis_local::{KinesisLocal, Limits};

/// 2026-11-23 02:00 UTC.
const NOW_MS: u64 = 1_795_399_200_000;

async fn client() -> Client {
    let local = KinesisLocal::builder()
        .clock(Clock::starting_at(NOW_MS))
        .rand(Rand::seeded(1))
        .limits(Limits::Off)
        .start()
        .await
        .unwrap();
    Client::new(&local.sdk_config())
}

async fn create(client: &Client, name: &str, shards: i32) {
    client
        .create_stream()
        .stream_name(name)
        .shard_count(shards)
        .send()
        .await
        .unwrap();
}

async fn put(client: &Client, stream: &str, key: &str, data: &str) -> String {
    let put = client.put_record().stream_name(stream).partition_key(key);
    put.data(Blob::new(data))
        .send()
        .await
        .unwrap()
        .sequence_number
}

async fn iterator(client: &Client, stream: &str, shard: &str, kind: ShardIteratorType) -> String {
    let iterator = client
        .get_shard_iterator()
        .stream_name(stream)
        .shard_id(shard);
    let iterator = iterator.shard_iterator_type(kind).send().await.unwrap();
    iterator.shard_iterator.unwrap()
}

fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| String::from_utf8(record.data.as_ref().to_vec()).unwrap();
    records.iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_put_is_read_back() {
    let client = client().await;
    create(&client, "orders", 1).await;
    let number = put(&client, "orders", "key", "hello").await;
    let start = iterator(
        &client,
        "orders",
        "shardId-0",
        ShardIteratorType::TrimHorizon,
    )
    .await;
    let read = client
        .get_records()
        .shard_iterator(&start)
        .send()
        .await
        .unwrap();
    assert_eq!(texts(&read.records), ["hello"]);
    assert_eq!(read.records[0].sequence_number, number);
    assert_eq!(read.records[0].partition_key.as_deref(), Some("key"));
    assert_eq!(read.millis_behind_latest, Some(0));
    let arrival = read.records[0].approximate_arrival_timestamp.unwrap();
    assert_eq!(arrival.to_millis().unwrap(), NOW_MS as i64);
    let next = read.next_shard_iterator.unwrap();
    assert_ne!(next, start);
    let read = client
        .get_records()
        .shard_iterator(next)
        .send()
        .await
        .unwrap();
    assert!(read.records.is_empty() && read.child_shards.is_none());
}

#[tokio::test(start_paused = true)]
async fn records_go_to_the_shard_of_their_key_in_the_order_of_the_request() {
    let client = client().await;
    create(&client, "orders", 4).await;
    let entry = |at: usize| {
        let entry = PutRecordsRequestEntry::builder().partition_key(format!("key-{}", at % 7));
        entry.data(Blob::new(format!("{at:03}"))).build().unwrap()
    };
    let put = client.put_records().stream_name("orders");
    let put = put
        .set_records(Some((0..200).map(entry).collect()))
        .send()
        .await
        .unwrap();
    assert_eq!(put.failed_record_count, Some(0));
    assert_eq!(put.records.len(), 200);
    let mut read_back = 0;
    for shard in ["shardId-000000000000", "1", "2", "3"] {
        let start = iterator(&client, "orders", shard, ShardIteratorType::TrimHorizon).await;
        let read = client
            .get_records()
            .shard_iterator(start)
            .send()
            .await
            .unwrap();
        let texts = texts(&read.records);
        assert!(texts.is_sorted(), "{texts:?}");
        for (text, record) in texts.iter().zip(&read.records) {
            let answer = &put.records[text.parse::<usize>().unwrap()];
            assert_eq!(
                answer.sequence_number.as_deref(),
                Some(&*record.sequence_number)
            );
        }
        read_back += texts.len();
    }
    assert_eq!(read_back, 200);
}

/// Splits the only shard of a stream in the middle.
async fn split(client: &Client, stream: &str) {
    let split = client
        .split_shard()
        .stream_name(stream)
        .shard_to_split("shardId-000000000000");
    let middle = (1_u128 << 127).to_string();
    split.new_starting_hash_key(middle).send().await.unwrap();
}

async fn register(client: &Client, stream: &str) -> String {
    let summary = client
        .describe_stream_summary()
        .stream_name(stream)
        .send()
        .await
        .unwrap();
    let arn = summary.stream_description_summary.unwrap().stream_arn;
    let register = client
        .register_stream_consumer()
        .stream_arn(arn)
        .consumer_name("fan-out");
    register
        .send()
        .await
        .unwrap()
        .consumer
        .unwrap()
        .consumer_arn
}

/// All events of a subscription from the oldest record on.
async fn events(client: &Client, consumer: &str, shard: &str) -> Vec<SubscribeToShardEvent> {
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    let subscribe = client
        .subscribe_to_shard()
        .consumer_arn(consumer)
        .shard_id(shard);
    let subscribe = subscribe
        .starting_position(start.build().unwrap())
        .send()
        .await
        .unwrap();
    let mut stream = subscribe.event_stream;
    let mut events = Vec::new();
    while let Some(event) = stream.recv().await.unwrap() {
        match event {
            SubscribeToShardEventStream::SubscribeToShardEvent(event) => events.push(event),
            other => panic!("{other:?}"),
        }
    }
    events
}

#[tokio::test(start_paused = true)]
async fn refusals_reach_the_caller_as_their_types() {
    let client = client().await;
    let error = client
        .describe_stream()
        .stream_name("none")
        .send()
        .await
        .unwrap_err();
    let error = error.into_service_error();
    assert!(error.is_resource_not_found_exception());
    let text = "Stream none under account 000000000000 not found.";
    assert_eq!(error.meta().message(), Some(text));
    create(&client, "orders", 1).await;
    let again = client
        .create_stream()
        .stream_name("orders")
        .shard_count(1)
        .send()
        .await;
    assert!(
        again
            .unwrap_err()
            .into_service_error()
            .is_resource_in_use_exception()
    );
    let bad = client
        .get_records()
        .shard_iterator("AAAA")
        .send()
        .await
        .unwrap_err();
    assert!(bad.into_service_error().is_invalid_argument_exception());
    let large = client.put_record().stream_name("orders").partition_key("k");
    let large = large
        .data(Blob::new(vec![0; 1024 * 1024]))
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        large.into_service_error().meta().code(),
        Some("ValidationException")
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_crosses_a_split_and_a_merge_without_loss_or_repeat() {
    let client = client().await;
    create(&client, "orders", 1).await;
    let consumer = register(&client, "orders").await;
    let mut expected: Vec<String> = Vec::new();
    for phase in 0..3 {
        for at in 0..20 {
            let text = format!("{phase}-{at}");
            put(&client, "orders", &format!("key-{at}"), &text).await;
            expected.push(text);
        }
        match phase {
            0 => split(&client, "orders").await,
            1 => {
                let merge = client
                    .merge_shards()
                    .stream_name("orders")
                    .shard_to_merge("1");
                merge.adjacent_shard_to_merge("2").send().await.unwrap();
            }
            _ => {}
        }
    }
    let mut read = Vec::new();
    let mut shards = vec!["shardId-000000000000".to_owned()];
    let mut seen = shards.clone();
    while let Some(shard) = shards.pop() {
        let events = events(&client, &consumer, &shard).await;
        for event in &events {
            read.extend(texts(&event.records));
            let ended = event
                .child_shards
                .as_ref()
                .is_some_and(|children| !children.is_empty());
            // What KCL 2 and 3 demand: exactly one of the two.
            assert_ne!(ended, !event.continuation_sequence_number.is_empty());
        }
        for child in events.last().unwrap().child_shards() {
            assert!(!child.parent_shards.is_empty());
            if !seen.contains(&child.shard_id) {
                seen.push(child.shard_id.clone());
                shards.push(child.shard_id.clone());
            }
        }
    }
    assert_eq!(seen.len(), 4);
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
}

async fn durable(dir: &std::path::Path) -> KinesisLocal {
    KinesisLocal::builder()
        .data_dir(dir)
        .rand(Rand::seeded(3))
        .limits(Limits::Off)
        .start()
        .await
        .unwrap()
}

/// Everything readable in a shard, oldest first.
async fn read_all(client: &Client, stream: &str, shard: &str) -> Vec<Record> {
    let mut next = Some(iterator(client, stream, shard, ShardIteratorType::TrimHorizon).await);
    let mut records = Vec::new();
    while let Some(start) = next {
        let read = client
            .get_records()
            .shard_iterator(start)
            .send()
            .await
            .unwrap();
        let at_tip = read.records.is_empty();
        records.extend(read.records);
        next = read.next_shard_iterator.filter(|_| !at_tip);
    }
    records
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_an_orderly_end_and_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = String::new();
    let mut expected = Vec::new();
    for run in 0..3 {
        let local = durable(dir.path()).await;
        let client = Client::new(&local.sdk_config());
        if run == 0 {
            create(&client, "orders", 1).await;
            register(&client, "orders").await;
        }
        let known = read_all(&client, "orders", "0").await;
        assert_eq!(texts(&known), expected, "run {run}");
        for at in 0..10 {
            let text = format!("{run}-{at}");
            let number = put(&client, "orders", "key", &text).await;
            assert!(number > last, "a number is never given again");
            last = number;
            expected.push(text);
        }
        match run {
            0 => local.shutdown().await,
            _ => drop((client, local)), // as in a crash: nothing is closed
        }
    }
}

#[tokio::test]
async fn shards_and_consumers_are_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let local = durable(dir.path()).await;
    let client = Client::new(&local.sdk_config());
    create(&client, "orders", 1).await;
    create(&client, "gone", 1).await;
    let consumer = register(&client, "orders").await;
    put(&client, "orders", "key", "before").await;
    split(&client, "orders").await;
    client
        .delete_stream()
        .stream_name("gone")
        .send()
        .await
        .unwrap();
    let shards = client
        .list_shards()
        .stream_name("orders")
        .send()
        .await
        .unwrap()
        .shards;
    drop((client, local));

    let local = durable(dir.path()).await;
    let client = Client::new(&local.sdk_config());
    let again = client
        .list_shards()
        .stream_name("orders")
        .send()
        .await
        .unwrap()
        .shards;
    assert_eq!(again, shards);
    let streams = client.list_streams().send().await.unwrap();
    assert_eq!(streams.stream_names, ["orders"]);
    let events = events(&client, &consumer, "shardId-000000000000").await;
    assert_eq!(texts(&events[0].records), ["before"]);
    assert_eq!(events[0].child_shards().len(), 2);
}

/// Writers and tailing readers together: nothing is skipped, repeated or reordered.
async fn write_and_tail(client: &Client) {
    const WRITERS: usize = 16;
    const EACH: usize = 50;
    const READERS: usize = 4;
    create(client, "orders", 1).await;
    let tail = |client: Client| async move {
        let mut next = iterator(&client, "orders", "0", ShardIteratorType::TrimHorizon).await;
        let mut numbers = Vec::new();
        while numbers.len() < WRITERS * EACH {
            let read = client
                .get_records()
                .shard_iterator(next)
                .send()
                .await
                .unwrap();
            numbers.extend(
                read.records
                    .into_iter()
                    .map(|record| record.sequence_number),
            );
            next = read.next_shard_iterator.unwrap();
            tokio::task::yield_now().await;
        }
        numbers
    };
    let readers: Vec<_> = (0..READERS)
        .map(|_| tokio::spawn(tail(client.clone())))
        .collect();
    let write = |client: Client, writer: usize| async move {
        let mut numbers = Vec::new();
        for at in 0..EACH {
            numbers.push(put(&client, "orders", &format!("w{writer}"), &format!("{at}")).await);
        }
        numbers
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(client.clone(), writer)))
        .collect();
    let mut written = Vec::new();
    for writer in writers {
        let numbers = writer.await.unwrap();
        assert!(numbers.is_sorted(), "a writer's numbers grow");
        written.extend(numbers);
    }
    written.sort();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_and_tailing_readers_see_one_order() {
    let builder = KinesisLocal::builder().limits(Limits::Off);
    let local = builder.start().await.unwrap();
    write_and_tail(&Client::new(&local.sdk_config())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_and_tailing_readers_see_one_order_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let local = durable(dir.path()).await;
    write_and_tail(&Client::new(&local.sdk_config())).await;
    drop(local);
    let local = durable(dir.path()).await;
    let client = Client::new(&local.sdk_config());
    assert_eq!(read_all(&client, "orders", "0").await.len(), 16 * 50);
}
