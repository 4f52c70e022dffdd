//! How long records are kept, on the virtual clock.

use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

async fn set(kinesis: &Kinesis, which: &str, hours: u32) {
    let operation = format!("{which}StreamRetentionPeriod");
    let body = json!({"StreamName": "s", "RetentionPeriodHours": hours});
    ok(kinesis, &operation, body).await;
}

async fn read_all(kinesis: &Kinesis) -> Vec<String> {
    let start = iterator(kinesis, "shardId-0", "TRIM_HORIZON").await;
    texts(&get(kinesis, &start).await)
}

fn in_memory(kinesis: &Kinesis, shard: u32) -> usize {
    let cell = kinesis.sites.home.catalog.get("s").unwrap();
    let shard = std::sync::Arc::clone(cell.read().shard(shard).unwrap());
    let log = shard.log();
    log.len()
}

#[tokio::test(start_paused = true)]
async fn the_trim_horizon_moves_with_the_retention() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "old").await;
    tokio::time::advance(12 * HOUR).await;
    put(&kinesis, "k", "young").await;
    assert_eq!(read_all(&kinesis).await, ["old", "young"]);
    tokio::time::advance(12 * HOUR + Duration::from_millis(1)).await;
    assert_eq!(read_all(&kinesis).await, ["young"]);
    tokio::time::advance(12 * HOUR).await;
    assert!(read_all(&kinesis).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn reading_at_a_trimmed_record_goes_on_with_the_first_that_is_kept() {
    let kinesis = with_stream(1).await;
    let old = put(&kinesis, "k", "old").await;
    tokio::time::advance(23 * HOUR).await;
    put(&kinesis, "k", "young").await;
    tokio::time::advance(2 * HOUR).await;
    for kind in ["AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"] {
        let start = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": kind,
            "StartingSequenceNumber": old});
        let start = ok(&kinesis, "GetShardIterator", start).await;
        let read = get(&kinesis, start["ShardIterator"].as_str().unwrap()).await;
        assert_eq!(texts(&read), ["young"], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_longer_retention_keeps_what_is_there_and_does_not_bring_back_what_expired() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "expired").await;
    tokio::time::advance(20 * HOUR).await;
    put(&kinesis, "k", "kept").await;
    tokio::time::advance(5 * HOUR).await;
    set(&kinesis, "Increase", 8760).await;
    assert_eq!(read_all(&kinesis).await, ["kept"]);
    tokio::time::advance(8000 * HOUR).await;
    assert_eq!(read_all(&kinesis).await, ["kept"]);
    // Shortened for a moment: what that expired stays away.
    set(&kinesis, "Decrease", 24).await;
    set(&kinesis, "Increase", 8760).await;
    assert!(read_all(&kinesis).await.is_empty());
    let summary = json!({"StreamName": "s"});
    let summary = ok(&kinesis, "DescribeStreamSummary", summary).await;
    assert_eq!(
        summary["StreamDescriptionSummary"]["RetentionPeriodHours"],
        8760
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_whose_records_all_expired_is_gone() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "data").await;
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    ok(&kinesis, "SplitShard", split).await;
    let listed = async || {
        let shards = ok(&kinesis, "ListShards", json!({"StreamName": "s"})).await;
        let described = ok(&kinesis, "DescribeStream", json!({"StreamName": "s"})).await;
        let described = &described["StreamDescription"]["Shards"];
        assert_eq!(&shards["Shards"], described);
        shards["Shards"].as_array().unwrap().len()
    };
    assert_eq!(listed().await, 3);
    tokio::time::advance(24 * HOUR + Duration::from_millis(1)).await;
    assert_eq!(listed().await, 2);
    assert_refused(
        &kinesis,
        "GetShardIterator",
        json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"}),
        "ResourceNotFoundException",
        "Shard shardId-000000000000 in stream s under account 000000000000 does not exist",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_expired_records_is_given_back_by_whatever_request_comes() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "data").await;
    assert_eq!(in_memory(&kinesis, 0), 1);
    tokio::time::advance(25 * HOUR).await;
    ok(&kinesis, "ListStreams", json!({})).await;
    assert_eq!(in_memory(&kinesis, 0), 0);
}

#[tokio::test(start_paused = true)]
async fn a_retention_out_of_bounds_or_on_the_wrong_side_is_refused() {
    let kinesis = with_stream(1).await;
    let ask = |hours: i64| json!({"StreamName": "s", "RetentionPeriodHours": hours});
    let (increase, decrease) = (
        "IncreaseStreamRetentionPeriod",
        "DecreaseStreamRetentionPeriod",
    );
    let code = "InvalidArgumentException";
    let short = "Minimum allowed retention period is 24 hours. Requested retention period (23 \
                 hours) is too short.";
    let long = "Maximum allowed retention period is 8760 hours. Requested retention period (8761 \
                hours) is too long.";
    for operation in [increase, decrease] {
        assert_refused(&kinesis, operation, ask(23), code, short).await;
        assert_refused(&kinesis, operation, ask(8761), code, long).await;
        ok(&kinesis, operation, ask(24)).await;
    }
    let longer = "Requested retention period (25 hours) for stream s can not be longer than \
                  existing retention period (24 hours). Use IncreaseRetentionPeriod API.";
    assert_refused(&kinesis, decrease, ask(25), code, longer).await;
    ok(&kinesis, increase, ask(48)).await;
    let shorter = "Requested retention period (25 hours) for stream s can not be shorter than \
                   existing retention period (48 hours). Use DecreaseRetentionPeriod API.";
    assert_refused(&kinesis, increase, ask(25), code, shorter).await;
    assert_refused(
        &kinesis,
        increase,
        json!({"StreamName": "s"}),
        "ValidationException",
        "1 validation error detected: Value null at 'retentionPeriodHours' failed to satisfy \
         constraint: Member must not be null",
    )
    .await;
}
