//! The Kinesis service through the official SDK, in process: no socket, no real time.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, Record, ShardIteratorType};
use kinesis_core::{Clock, Rand};
use kinesis_local::KinesisLocal;

/// 2026-11-23 02:00 UTC.
const NOW_MS: u64 = 1_795_399_200_000;

async fn client() -> Client {
    let local = KinesisLocal::builder()
        .clock(Clock::starting_at(NOW_MS))
        .rand(Rand::seeded(1))
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
