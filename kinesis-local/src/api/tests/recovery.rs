//! What operations changed is there after a crash.

use std::path::Path;

use super::*;

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

fn open(dir: &Path) -> Kinesis {
    Kinesis::open(KinesisOptions {
        data_dir: Some(dir.to_owned()),
        ..options()
    })
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn tags_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path());
    let create = json!({"StreamName": "s", "ShardCount": 1, "Tags": {"a": "1", "b": "2"}});
    ok(&kinesis, "CreateStream", create).await;
    let register = json!({"StreamARN": ARN, "ConsumerName": "c", "Tags": {"x": "1", "y": "2"}});
    let consumer = ok(&kinesis, "RegisterStreamConsumer", register).await;
    let consumer = consumer["Consumer"]["ConsumerARN"].clone();
    let tag = json!({"ResourceARN": ARN, "Tags": {"c": "3"}});
    ok(&kinesis, "TagResource", tag).await;
    let untag = json!({"ResourceARN": ARN, "TagKeys": ["a"]});
    ok(&kinesis, "UntagResource", untag).await;
    let untag = json!({"ResourceARN": consumer, "TagKeys": ["x"]});
    ok(&kinesis, "UntagResource", untag).await;
    drop(kinesis); // without a close: as in a crash
    let kinesis = open(dir.path());
    let tags = ok(&kinesis, "ListTagsForResource", json!({"ResourceARN": ARN})).await;
    let expected = json!([{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "3"}]);
    assert_eq!(tags["Tags"], expected);
    let tags = json!({"ResourceARN": consumer});
    let tags = ok(&kinesis, "ListTagsForResource", tags).await;
    assert_eq!(tags["Tags"], json!([{"Key": "y", "Value": "2"}]));
}

async fn open_shards(kinesis: &Kinesis) -> Value {
    let latest = json!({"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}});
    ok(kinesis, "ListShards", latest).await["Shards"].clone()
}

#[tokio::test(start_paused = true)]
async fn retention_scaling_and_mode_come_back_and_so_do_their_counts() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path());
    let create = json!({"StreamName": "s", "ShardCount": 2});
    ok(&kinesis, "CreateStream", create).await;
    let hours = json!({"StreamName": "s", "RetentionPeriodHours": 100});
    ok(&kinesis, "IncreaseStreamRetentionPeriod", hours).await;
    for target in [3, 2, 4] {
        let scale = json!({"StreamName": "s", "TargetShardCount": target,
            "ScalingType": "UNIFORM_SCALING"});
        ok(&kinesis, "UpdateShardCount", scale).await;
    }
    for mode in ["ON_DEMAND", "PROVISIONED"] {
        let mode = json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": mode}});
        ok(&kinesis, "UpdateStreamMode", mode).await;
    }
    let shards = open_shards(&kinesis).await;
    drop(kinesis);
    let kinesis = open(dir.path());
    assert_eq!(open_shards(&kinesis).await, shards);
    assert_eq!(shards.as_array().unwrap().len(), 4);
    let summary = json!({"StreamName": "s"});
    let summary = ok(&kinesis, "DescribeStreamSummary", summary).await;
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!(summary["RetentionPeriodHours"], 100);
    assert_eq!(summary["StreamModeDetails"]["StreamMode"], "PROVISIONED");
    let third = json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    let (code, _) = refused(&kinesis, "UpdateStreamMode", third).await;
    assert_eq!(code, "LimitExceededException");
}

#[tokio::test(start_paused = true)]
async fn what_a_shorter_retention_expired_stays_away_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path());
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    let hours = |hours: u32| json!({"StreamName": "s", "RetentionPeriodHours": hours});
    ok(&kinesis, "IncreaseStreamRetentionPeriod", hours(100)).await;
    put(&kinesis, "k", "expired").await;
    tokio::time::advance(std::time::Duration::from_secs(25 * 3600)).await;
    put(&kinesis, "k", "kept").await;
    ok(&kinesis, "DecreaseStreamRetentionPeriod", hours(24)).await;
    ok(&kinesis, "IncreaseStreamRetentionPeriod", hours(100)).await;
    let clock = kinesis.sites.home.clock.clone();
    drop(kinesis);
    let kinesis = Kinesis::open(KinesisOptions {
        data_dir: Some(dir.path().to_owned()),
        clock,
        ..options()
    })
    .unwrap();
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    assert_eq!(texts(&get(&kinesis, &start).await), ["kept"]);
}

#[tokio::test(start_paused = true)]
async fn time_that_was_advanced_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = |clock: &Clock| {
        Kinesis::open(KinesisOptions {
            data_dir: Some(dir.path().to_owned()),
            clock: clock.clone(),
            delays: Delays {
                create: std::time::Duration::from_secs(60),
                ..Delays::default()
            },
            ..options()
        })
        .unwrap()
    };
    let hour = std::time::Duration::from_secs(3600);
    let clock = Clock::starting_at(NOW_MS).advanceable();
    let kinesis = open(&clock);
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    clock.advance(hour).unwrap();
    put(&kinesis, "k", "expired").await;
    clock.advance(25 * hour).unwrap();
    put(&kinesis, "k", "kept").await;
    let create = json!({"StreamName": "late", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    drop(kinesis);
    let clock = Clock::starting_at(NOW_MS).advanceable();
    let kinesis = open(&clock);
    assert_eq!(clock.epoch_millis(), NOW_MS + 26 * 3_600_000);
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    assert_eq!(texts(&get(&kinesis, &start).await), ["kept"]);
    clock.advance(hour).unwrap();
    let summary = json!({"StreamName": "late"});
    let summary = ok(&kinesis, "DescribeStreamSummary", summary).await;
    let status = &summary["StreamDescriptionSummary"]["StreamStatus"];
    assert_eq!(status, "ACTIVE");
    drop(kinesis);
    // A clock that nobody may advance stays what it is, and nothing that it still keeps is lost.
    let clock = Clock::starting_at(NOW_MS + 3_600_000);
    let kinesis = open(&clock);
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    assert_eq!(texts(&get(&kinesis, &start).await), ["expired", "kept"]);
}
