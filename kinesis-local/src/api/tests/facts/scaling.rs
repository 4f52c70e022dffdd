//! UpdateShardCount, UpdateStreamMode and DescribeLimits.

use std::time::Duration;

use super::*;

const ARN: &str = STREAM_ARN;
const DAY: Duration = Duration::from_secs(24 * 3600);

fn to(target: u32) -> Value {
    json!({"StreamName": "s", "TargetShardCount": target, "ScalingType": "UNIFORM_SCALING"})
}

fn mode(mode: &str) -> Value {
    json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": mode}})
}

async fn summary(kinesis: &Kinesis) -> Value {
    let summary = json!({"StreamName": "s"});
    let mut summary = ok(kinesis, "DescribeStreamSummary", summary).await;
    summary["StreamDescriptionSummary"].take()
}

#[tokio::test(start_paused = true)]
async fn the_shard_count_goes_to_equal_shards_with_their_lineage() {
    let kinesis = with_stream(2).await;
    put(&kinesis, "k", "before").await;
    let answer = ok(&kinesis, "UpdateShardCount", to(4)).await;
    assert_eq!(
        answer,
        json!({"StreamName": "s", "CurrentShardCount": 2, "TargetShardCount": 4, "StreamARN": ARN})
    );
    let latest = json!({"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}});
    let open = ok(&kinesis, "ListShards", latest.clone()).await;
    let open = open["Shards"].as_array().unwrap();
    let quarter = 1u128 << 126;
    for (at, shard) in open.iter().enumerate() {
        let start = (quarter * at as u128).to_string();
        assert_eq!(shard["HashKeyRange"]["StartingHashKey"], start);
        let parent = format!("shardId-{:012}", at / 2);
        assert_eq!(shard["ParentShardId"], parent);
    }
    assert_eq!(open.len(), 4);
    ok(&kinesis, "UpdateShardCount", to(3)).await;
    let open = ok(&kinesis, "ListShards", latest).await;
    assert_eq!(open["Shards"].as_array().unwrap().len(), 3);
    put(&kinesis, "k", "after").await;
}

#[tokio::test(start_paused = true)]
async fn more_than_double_and_less_than_half_are_refused() {
    let kinesis = with_stream(4).await;
    let code = "LimitExceededException";
    let up = "UpdateShardCount cannot scale up over double your current open shard count. Current \
              open shard count: 4, Target shard count: 9";
    assert_refused(&kinesis, "UpdateShardCount", to(9), code, up).await;
    let down = "UpdateShardCount cannot scale down below half your current open shard count. \
                Current open shard count: 4, Target shard count: 1";
    assert_refused(&kinesis, "UpdateShardCount", to(1), code, down).await;
    let most = "Target shard count or number of open shards cannot be greater than 10000. Current \
                open shard count: 4, Target shard count: 10001";
    assert_refused(&kinesis, "UpdateShardCount", to(10_001), code, most).await;
    ok(&kinesis, "UpdateShardCount", to(8)).await;
    ok(&kinesis, "UpdateShardCount", to(4)).await;
}

#[tokio::test(start_paused = true)]
async fn ten_scalings_fit_in_a_rolling_day() {
    let kinesis = with_stream(1).await;
    for at in 0..10 {
        ok(&kinesis, "UpdateShardCount", to(2 - at % 2)).await;
    }
    let (code, _) = refused(&kinesis, "UpdateShardCount", to(2)).await;
    assert_eq!(code, "LimitExceededException");
    tokio::time::advance(DAY).await;
    ok(&kinesis, "UpdateShardCount", to(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_updating_for_the_configured_time_and_takes_records_meanwhile() {
    let delays = Delays {
        update: Duration::from_millis(500),
        ..Delays::default()
    };
    let kinesis = stream_of(
        KinesisOptions {
            delays,
            ..options()
        },
        1,
    )
    .await;
    ok(&kinesis, "UpdateShardCount", to(2)).await;
    assert_eq!(summary(&kinesis).await["StreamStatus"], "UPDATING");
    put(&kinesis, "k", "data").await;
    let busy = "Stream s under account 000000000000 not ACTIVE, instead in state UPDATING";
    let code = "ResourceInUseException";
    assert_refused(&kinesis, "UpdateShardCount", to(2), code, busy).await;
    assert_refused(&kinesis, "UpdateStreamMode", mode("ON_DEMAND"), code, busy).await;
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(summary(&kinesis).await["StreamStatus"], "ACTIVE");
    ok(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await;
    assert_eq!(summary(&kinesis).await["StreamStatus"], "UPDATING");
}

#[tokio::test(start_paused = true)]
async fn the_mode_switches_twice_a_day_and_keeps_the_shards() {
    let kinesis = with_stream(3).await;
    ok(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await;
    let described = summary(&kinesis).await;
    assert_eq!(described["StreamModeDetails"]["StreamMode"], "ON_DEMAND");
    assert_eq!(described["OpenShardCount"], 3);
    let on_demand = "Request is invalid. Stream s under account 000000000000 is in On-Demand mode.";
    let merge = json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"});
    let code = "ValidationException";
    assert_refused(&kinesis, "UpdateShardCount", to(2), code, on_demand).await;
    assert_refused(&kinesis, "MergeShards", merge, code, on_demand).await;
    ok(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await; // as it is: does not count
    ok(&kinesis, "UpdateStreamMode", mode("PROVISIONED")).await;
    let (code, _) = refused(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await;
    assert_eq!(code, "LimitExceededException");
    tokio::time::advance(DAY).await;
    ok(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await;
}

#[tokio::test(start_paused = true)]
async fn the_limits_tell_what_is_there() {
    let kinesis = with_stream(3).await;
    let create = json!({"StreamName": "d", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    assert_eq!(
        ok(&kinesis, "DescribeLimits", json!({})).await,
        json!({"ShardLimit": 20_000, "OpenShardCount": 7, "OnDemandStreamCount": 1,
            "OnDemandStreamCountLimit": 50, "ChannelCount": 0})
    );
}

#[tokio::test(start_paused = true)]
async fn the_fifty_first_on_demand_stream_is_refused() {
    let kinesis = with_stream(1).await;
    for at in 0..50 {
        let name = format!("d{at}");
        let create = json!({"StreamName": name, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
        ok(&kinesis, "CreateStream", create).await;
    }
    let (code, _) = refused(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await;
    assert_eq!(code, "LimitExceededException");
}
