//! UpdateMaxRecordSize, UpdateStreamRecordDistributionStrategy, and what they change for records.

use std::collections::BTreeMap;

use super::*;

const ARN: &str = STREAM_ARN;

fn strategy(strategy: &str) -> Value {
    json!({"StreamARN": ARN, "RecordDistributionStrategy": strategy})
}

fn size(kib: u32) -> Value {
    json!({"StreamARN": ARN, "MaxRecordSizeInKiB": kib})
}

async fn summary(kinesis: &Kinesis) -> Value {
    let name = json!({"StreamName": "s"});
    ok(kinesis, "DescribeStreamSummary", name).await["StreamDescriptionSummary"].take()
}

async fn on_demand(more: Value) -> Kinesis {
    let kinesis = kinesis();
    let mut create = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    create
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    ok(&kinesis, "CreateStream", create).await;
    kinesis
}

#[tokio::test(start_paused = true)]
async fn a_larger_record_is_taken_as_soon_as_it_is_allowed_and_no_longer_once_it_is_not() {
    let kinesis = with_stream(1).await;
    let data = base64_simd::STANDARD.encode_to_string(vec![0; 3 << 20]);
    let large = json!({"StreamName": "s", "PartitionKey": "k", "Data": data});
    let (code, _) = refused(&kinesis, "PutRecord", large.clone()).await;
    assert_eq!(code, "ValidationException");
    ok(&kinesis, "UpdateMaxRecordSize", size(4096)).await;
    ok(&kinesis, "PutRecord", large.clone()).await;
    assert_eq!(summary(&kinesis).await["MaxRecordSizeInKiB"], 4096);
    ok(&kinesis, "UpdateMaxRecordSize", size(1024)).await;
    refused(&kinesis, "PutRecord", large).await;
}

#[tokio::test(start_paused = true)]
async fn auto_spreads_records_evenly_whatever_their_keys() {
    let kinesis = on_demand(json!({})).await;
    assert_eq!(
        summary(&kinesis).await["RecordDistributionStrategy"],
        "USER_PARTITION_KEY"
    );
    ok(
        &kinesis,
        "UpdateStreamRecordDistributionStrategy",
        strategy("AUTO"),
    )
    .await;
    assert_eq!(
        summary(&kinesis).await["RecordDistributionStrategy"],
        "AUTO"
    );
    let mut shards = BTreeMap::new();
    for at in 0..40 {
        let put = match at % 3 {
            0 => json!({"StreamName": "s", "Data": ""}),
            1 => json!({"StreamName": "s", "Data": "", "PartitionKey": "same"}),
            _ => json!({"StreamName": "s", "Data": "", "ExplicitHashKey": "0"}),
        };
        let put = ok(&kinesis, "PutRecord", put).await;
        *shards.entry(put["ShardId"].to_string()).or_insert(0) += 1;
    }
    assert!(shards.values().eq(&[10; 4]), "{shards:?}");
    let records: Vec<Value> = (0..8).map(|_| json!({"Data": ""})).collect();
    let put = json!({"StreamName": "s", "Records": records});
    let put = ok(&kinesis, "PutRecords", put).await;
    assert_eq!(put["FailedRecordCount"], 0);
}

#[tokio::test(start_paused = true)]
async fn auto_gives_the_key_back_that_a_record_had_and_none_where_it_had_none() {
    let kinesis = on_demand(json!({"RecordDistributionStrategy": "AUTO"})).await;
    for put in [
        json!({"StreamName": "s", "Data": ""}),
        json!({"StreamName": "s", "Data": "", "PartitionKey": "k"}),
    ] {
        ok(&kinesis, "PutRecord", put).await;
    }
    let mut keys = Vec::new();
    for shard in ["0", "1"] {
        let start = iterator(&kinesis, shard, "TRIM_HORIZON").await;
        let got = get(&kinesis, &start).await;
        keys.push(got["Records"][0].get("PartitionKey").cloned());
    }
    assert_eq!(keys, [None, Some(json!("k"))]);
}

#[tokio::test(start_paused = true)]
async fn auto_has_no_order_and_only_on_demand_streams_have_auto() {
    let kinesis = on_demand(json!({"RecordDistributionStrategy": "AUTO"})).await;
    let ordered = json!({"StreamName": "s", "Data": "", "PartitionKey": "k",
        "SequenceNumberForOrdering": "1"});
    let (code, _) = refused(&kinesis, "PutRecord", ordered).await;
    assert_eq!(code, "InvalidArgumentException");
    let kinesis = with_stream(1).await;
    let auto = refused(
        &kinesis,
        "UpdateStreamRecordDistributionStrategy",
        strategy("AUTO"),
    )
    .await;
    assert_eq!(auto.0, "InvalidArgumentException");
    let create = json!({"StreamName": "t", "ShardCount": 1, "RecordDistributionStrategy": "AUTO"});
    let (code, _) = refused(&kinesis, "CreateStream", create).await;
    assert_eq!(code, "InvalidArgumentException");
    ok(
        &kinesis,
        "UpdateStreamRecordDistributionStrategy",
        strategy("USER_PARTITION_KEY"),
    )
    .await;
    assert_eq!(
        summary(&kinesis).await.get("RecordDistributionStrategy"),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn without_auto_a_partition_key_is_required_in_the_words_of_the_constraint() {
    let kinesis = with_stream(1).await;
    let put = json!({"StreamName": "s", "Data": ""});
    let code = "ValidationException";
    let text = "1 validation error detected: Value null at 'partitionKey' failed to satisfy \
                constraint: Member must not be null";
    assert_refused(&kinesis, "PutRecord", put, code, text).await;
    let records = json!([{"Data": "", "PartitionKey": "k"}, {"Data": ""}]);
    let put = json!({"StreamName": "s", "Records": records});
    let text = "1 validation error detected: Value null at 'records.2.member.partitionKey' failed \
                to satisfy constraint: Member must not be null";
    assert_refused(&kinesis, "PutRecords", put, code, text).await;
}

#[tokio::test(start_paused = true)]
async fn back_in_provisioned_mode_records_go_by_their_keys_again() {
    let kinesis = on_demand(json!({"RecordDistributionStrategy": "AUTO"})).await;
    let provisioned = json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": "PROVISIONED"}});
    ok(&kinesis, "UpdateStreamMode", provisioned).await;
    let (code, _) = refused(
        &kinesis,
        "PutRecord",
        json!({"StreamName": "s", "Data": ""}),
    )
    .await;
    assert_eq!(code, "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn sizes_strategies_and_metrics_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = KinesisOptions {
            data_dir: Some(dir.path().to_owned()),
            ..options()
        };
        Kinesis::open(options).unwrap()
    };
    let kinesis = open();
    let create = json!({"StreamName": "s", "RecordDistributionStrategy": "AUTO",
        "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    ok(&kinesis, "UpdateMaxRecordSize", size(2048)).await;
    let metrics = json!({"StreamName": "s", "ShardLevelMetrics": ["IncomingBytes"]});
    ok(&kinesis, "EnableEnhancedMonitoring", metrics).await;
    ok(
        &kinesis,
        "PutRecord",
        json!({"StreamName": "s", "Data": ""}),
    )
    .await;
    let before = summary(&kinesis).await;
    assert_eq!(before["RecordDistributionStrategy"], "AUTO");
    drop(kinesis);
    let kinesis = open();
    assert_eq!(summary(&kinesis).await, before);
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let got = get(&kinesis, &start).await;
    assert_eq!(got["Records"][0].get("PartitionKey"), None);
}
