//! On-demand streams that follow their traffic.

use std::time::Duration;

use super::*;
use crate::wire::Format;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn on_demand(options: KinesisOptions) -> Kinesis {
    let kinesis = Kinesis::open(options).unwrap();
    let create = json!({"StreamName": "s", "MaxRecordSizeInKiB": 10_240,
        "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    kinesis
}

async fn open_shards(kinesis: &Kinesis) -> Vec<Value> {
    let latest = json!({"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}});
    let mut listed = ok(kinesis, "ListShards", latest).await;
    match listed["Shards"].take() {
        Value::Array(shards) => shards,
        other => panic!("{other}"),
    }
}

/// Writes `mib` MiB to each open shard.
async fn write_to_all(kinesis: &Kinesis, mib: usize) {
    for shard in open_shards(kinesis).await {
        write_to(kinesis, &shard, mib).await;
    }
}

/// Writes `mib` MiB to the shard, in records of at most 8 MiB.
async fn write_to(kinesis: &Kinesis, shard: &Value, mut mib: usize) {
    let key = shard["HashKeyRange"]["StartingHashKey"].as_str().unwrap();
    while mib > 0 {
        let size = mib.min(8);
        mib -= size;
        assert_eq!(put_large(kinesis, &[key], (size << 20) - 1).await, 1);
    }
}

/// Puts a record of `bytes` with each of the hash keys; how many were taken. In CBOR, because JSON
/// without optimisation is slow.
async fn put_large(kinesis: &Kinesis, keys: &[&str], bytes: usize) -> usize {
    let data = vec![0; bytes];
    let mut writer = Writer::new(Format::Cbor);
    writer.structure(|writer| {
        writer.key("StreamName");
        writer.plain("s");
        writer.key("Records");
        writer.list(keys, |writer, key| {
            writer.structure(|writer| {
                writer.key("PartitionKey");
                writer.plain("k");
                writer.key("ExplicitHashKey");
                writer.plain(key);
                writer.key("Data");
                writer.blob(&data);
            });
        });
    });
    let response = kinesis
        .call(request_in(Format::Cbor, "PutRecords", writer.into_bytes()))
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = ciborium::from_reader(&*body).unwrap();
    keys.len() - answer["FailedRecordCount"].as_u64().unwrap() as usize
}

async fn put_small(kinesis: &Kinesis) {
    put(kinesis, "k", "small").await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_doubles_its_shards_when_they_take_more_than_half() {
    let kinesis = on_demand(options()).await;
    write_to_all(&kinesis, 30).await;
    tokio::time::advance(MINUTE).await;
    put_small(&kinesis).await;
    assert_eq!(open_shards(&kinesis).await.len(), 4, "half is not more");
    write_to_all(&kinesis, 31).await;
    tokio::time::advance(MINUTE).await;
    put_small(&kinesis).await;
    let open = open_shards(&kinesis).await;
    assert_eq!(open.len(), 8);
    for (at, shard) in open.iter().enumerate() {
        assert_eq!(shard["ParentShardId"], format!("shardId-{:012}", at / 2));
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_full_of_shards_does_not_hold_back_a_stream_in_demand() {
    let kinesis = on_demand(options()).await;
    let rest = json!({"StreamName": "rest", "ShardCount": 20_000 - 4});
    ok(&kinesis, "CreateStream", rest).await;
    write_to_all(&kinesis, 31).await;
    tokio::time::advance(MINUTE).await;
    put_small(&kinesis).await;
    assert_eq!(open_shards(&kinesis).await.len(), 8);
    // What somebody asks for has no room.
    let more = json!({"StreamName": "more", "ShardCount": 1});
    let (code, text) = refused(&kinesis, "CreateStream", more).await;
    assert_eq!(code, "LimitExceededException");
    assert!(
        text.contains("Current shard count for the account: 20004."),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_also_sees_a_scaling_that_nobody_wrote_after() {
    let kinesis = on_demand(options()).await;
    let shards = open_shards(&kinesis).await;
    write_to(&kinesis, &shards[2], 40).await;
    let mut next = iterator(&kinesis, "2", "LATEST").await;
    let key = shards[2]["HashKeyRange"]["StartingHashKey"]
        .as_str()
        .unwrap();
    put_large(&kinesis, &[key, key], 1).await;
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(
        open_shards(&kinesis).await.len(),
        5,
        "the hot shard alone is split"
    );
    let mut read = 0;
    let children = loop {
        let got = get(&kinesis, &next).await;
        read += got["Records"].as_array().unwrap().len();
        match got["NextShardIterator"].as_str() {
            Some(iterator) => next = iterator.to_owned(),
            None => break got["ChildShards"].clone(),
        }
    };
    assert_eq!(read, 2);
    let parent = json!(["shardId-000000000002"]);
    assert_eq!(children[0]["ParentShards"], parent);
    assert_eq!(children[1]["ParentShards"], parent);
    assert_eq!(children[1]["ShardId"], "shardId-000000000005");
}

#[tokio::test(start_paused = true)]
async fn thirty_quiet_days_merge_the_shards_again() {
    let kinesis = on_demand(options()).await;
    write_to_all(&kinesis, 31).await;
    tokio::time::advance(MINUTE).await;
    put_small(&kinesis).await;
    assert_eq!(open_shards(&kinesis).await.len(), 8);
    for _ in 0..29 {
        tokio::time::advance(DAY).await;
        put_small(&kinesis).await;
    }
    assert_eq!(open_shards(&kinesis).await.len(), 8);
    tokio::time::advance(2 * DAY).await;
    let open = open_shards(&kinesis).await;
    assert_eq!(open.len(), 4);
    assert!(
        open.iter()
            .all(|shard| shard["AdjacentParentShardId"].is_string())
    );
}

#[tokio::test(start_paused = true)]
async fn traffic_that_more_than_doubles_within_fifteen_minutes_is_throttled() {
    let kinesis = on_demand(KinesisOptions {
        limits: Limits::Aws,
        ..options()
    })
    .await;
    let second = Duration::from_secs(1);
    let keys: Vec<String> = (0..8u128).map(|at| (at << 125).to_string()).collect();
    // How many records that spread evenly, 500 KiB each, were taken.
    let taken = async |times: usize| {
        let keys = keys.iter().map(String::as_str).cycle();
        let keys: Vec<&str> = keys.take(8 * times).collect();
        put_large(&kinesis, &keys, 500 << 10).await
    };
    for _ in 0..61 {
        tokio::time::advance(second).await;
        assert_eq!(
            taken(1).await,
            8,
            "1,000 KiB a second fit into each of four shards"
        );
    }
    assert_eq!(open_shards(&kinesis).await.len(), 8);
    tokio::time::advance(second).await;
    assert_eq!(taken(2).await, 16, "there is room for the double");
    tokio::time::advance(second).await;
    assert!(taken(2).await < 17);
    tokio::time::advance(second).await;
    assert_eq!(taken(2).await, 16);
    // More than the double at once: the new shards are hot, and too young to be split.
    assert!(taken(2).await < 16);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_the_shards_and_with_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let clock = options().clock;
    let options = || KinesisOptions {
        data_dir: Some(dir.path().to_owned()),
        clock: clock.clone(),
        ..options()
    };
    let kinesis = on_demand(options()).await;
    write_to_all(&kinesis, 31).await;
    drop(kinesis);
    // The minute was not over: what the log holds of it decides now.
    let kinesis = Kinesis::open(options()).unwrap();
    tokio::time::advance(MINUTE).await;
    put_small(&kinesis).await;
    let open = open_shards(&kinesis).await;
    assert_eq!(open.len(), 8);
    drop(kinesis);
    let kinesis = Kinesis::open(options()).unwrap();
    assert_eq!(open_shards(&kinesis).await, open);
    tokio::time::advance(31 * DAY).await;
    assert_eq!(open_shards(&kinesis).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_restart_remembers_what_a_scaling_was_for_that_nobody_wrote_after() {
    let dir = tempfile::tempdir().unwrap();
    let clock = options().clock;
    let options = || KinesisOptions {
        data_dir: Some(dir.path().to_owned()),
        clock: clock.clone(),
        ..options()
    };
    let kinesis = on_demand(options()).await;
    write_to_all(&kinesis, 31).await;
    tokio::time::advance(MINUTE).await;
    assert_eq!(open_shards(&kinesis).await.len(), 8);
    drop(kinesis);
    let kinesis = Kinesis::open(options()).unwrap();
    for _ in 0..29 {
        tokio::time::advance(DAY).await;
        assert_eq!(open_shards(&kinesis).await.len(), 8);
    }
    tokio::time::advance(2 * DAY).await;
    assert_eq!(open_shards(&kinesis).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_provisioned_stream_keeps_its_shards_and_starts_counting_when_it_becomes_on_demand() {
    let kinesis = with_stream(2).await;
    let size = json!({"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
        "MaxRecordSizeInKiB": 10_240});
    ok(&kinesis, "UpdateMaxRecordSize", size).await;
    write_to_all(&kinesis, 40).await;
    tokio::time::advance(MINUTE).await;
    put_small(&kinesis).await;
    let mode = json!({"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
        "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "UpdateStreamMode", mode).await;
    tokio::time::advance(2 * MINUTE).await;
    assert_eq!(open_shards(&kinesis).await.len(), 2);
    write_to_all(&kinesis, 40).await;
    tokio::time::advance(MINUTE).await;
    put_small(&kinesis).await;
    assert_eq!(open_shards(&kinesis).await.len(), 4);
}
