//! On-demand streams that are kept warm.

use std::time::Duration;

use super::account::commit;
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

async fn create(kinesis: &Kinesis, warm: Option<u32>) {
    let mut body = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    if let Some(warm) = warm {
        body["WarmThroughputMiBps"] = warm.into();
    }
    ok(kinesis, "CreateStream", body).await;
}

async fn warm_to(kinesis: &Kinesis, mibps: u32) -> Value {
    let body = json!({"StreamName": "s", "WarmThroughputMiBps": mibps});
    ok(kinesis, "UpdateStreamWarmThroughput", body).await
}

async fn summary(kinesis: &Kinesis) -> Value {
    let mut answer = ok(kinesis, "DescribeStreamSummary", json!({"StreamName": "s"})).await;
    answer["StreamDescriptionSummary"].take()
}

/// The warm throughput as it is told, and the number of open shards.
async fn warm(kinesis: &Kinesis) -> (Value, u64) {
    let mut summary = summary(kinesis).await;
    let open = summary["OpenShardCount"].as_u64().unwrap();
    (summary["WarmThroughput"].take(), open)
}

fn target(target: u32, current: u32) -> Value {
    json!({"TargetMiBps": target, "CurrentMiBps": current})
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_scaled_to_its_warm_throughput_and_updating_meanwhile() {
    let kinesis = Kinesis::open(KinesisOptions {
        delays: Delays {
            update: Duration::from_secs(9),
            ..Delays::default()
        },
        ..options()
    })
    .unwrap();
    commit(&kinesis, "ENABLED").await;
    create(&kinesis, None).await;
    assert_eq!(warm(&kinesis).await, (json!({"CurrentMiBps": 4}), 4));
    let before = put(&kinesis, "k", "before").await;
    let answer = warm_to(&kinesis, 10).await;
    let expected = json!({"StreamARN": STREAM_ARN, "StreamName": "s",
        "WarmThroughput": target(10, 4)});
    assert_eq!(answer, expected);
    assert_eq!(summary(&kinesis).await["StreamStatus"], "UPDATING");
    let (code, _) = refused(
        &kinesis,
        "UpdateStreamWarmThroughput",
        json!({"StreamName": "s", "WarmThroughputMiBps": 11}),
    )
    .await;
    assert_eq!(code, "ResourceInUseException");
    let after = put(&kinesis, "k", "after").await;
    assert!(after > before, "{after} came after {before}");
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(summary(&kinesis).await["StreamStatus"], "ACTIVE");
    assert_eq!(warm(&kinesis).await, (target(10, 10), 10));
    let latest = json!({"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}});
    let shards = ok(&kinesis, "ListShards", latest).await;
    let parents = shards["Shards"].as_array().unwrap().iter();
    assert!(
        parents
            .map(|shard| &shard["ParentShardId"])
            .all(Value::is_string)
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_created_and_switched_to_on_demand_with_a_warm_throughput() {
    let kinesis = kinesis();
    commit(&kinesis, "ENABLED").await;
    create(&kinesis, Some(7)).await;
    assert_eq!(warm(&kinesis).await, (target(7, 7), 7));
    let switch = |mode: &str, warm: Option<u32>| {
        let mut body = json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": mode}});
        if let Some(warm) = warm {
            body["WarmThroughputMiBps"] = warm.into();
        }
        body
    };
    let again = switch("ON_DEMAND", Some(9));
    let (code, _) = refused(&kinesis, "UpdateStreamMode", again).await;
    assert_eq!(code, "InvalidArgumentException", "it is on-demand already");
    ok(&kinesis, "UpdateStreamMode", switch("PROVISIONED", None)).await;
    assert_eq!(warm(&kinesis).await, (Value::Null, 7));
    let (code, _) = refused(&kinesis, "UpdateStreamMode", switch("PROVISIONED", Some(9))).await;
    assert_eq!(code, "InvalidArgumentException");
    ok(&kinesis, "UpdateStreamMode", switch("ON_DEMAND", Some(14))).await;
    assert_eq!(warm(&kinesis).await, (target(14, 14), 14));
}

#[tokio::test(start_paused = true)]
async fn warm_throughput_is_for_on_demand_streams_of_accounts_with_a_commitment() {
    let kinesis = with_stream(1).await;
    let not_on_demand = "WarmThroughputMiBps is only supported for streams in ON_DEMAND mode.";
    let body = json!({"StreamName": "s", "WarmThroughputMiBps": 8});
    let code = "InvalidArgumentException";
    let operation = "UpdateStreamWarmThroughput";
    assert_refused(&kinesis, operation, body.clone(), code, not_on_demand).await;
    let mode = json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"},
        "WarmThroughputMiBps": 8});
    let uncommitted = "WarmThroughputMiBps is only supported for accounts that have \
        MinimumThroughputBillingCommitment enabled. It is not enabled for account 000000000000.";
    assert_refused(
        &kinesis,
        "UpdateStreamMode",
        mode.clone(),
        code,
        uncommitted,
    )
    .await;
    commit(&kinesis, "ENABLED").await;
    ok(&kinesis, "UpdateStreamMode", mode).await;
    let create = json!({"StreamName": "p", "ShardCount": 1, "WarmThroughputMiBps": 8});
    assert_refused(&kinesis, "CreateStream", create, code, not_on_demand).await;
    let much = json!({"StreamName": "s", "WarmThroughputMiBps": 10_241});
    let (code, text) = refused(&kinesis, operation, much).await;
    assert_eq!(code, "LimitExceededException", "{text}");
    let none = json!({"StreamName": "none", "WarmThroughputMiBps": 8});
    let (code, _) = refused(&kinesis, operation, none).await;
    assert_eq!(code, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_warm_stream_without_traffic_is_not_merged_while_the_commitment_lasts() {
    let kinesis = kinesis();
    commit(&kinesis, "ENABLED").await;
    create(&kinesis, Some(16)).await;
    tokio::time::advance(40 * DAY).await;
    put(&kinesis, "k", "text").await;
    assert_eq!(warm(&kinesis).await, (target(16, 16), 16));
    commit(&kinesis, "DISABLED").await;
    put(&kinesis, "k", "text").await;
    assert_eq!(warm(&kinesis).await, (Value::Null, 4));
    commit(&kinesis, "ENABLED").await;
    let nothing_kept = (json!({"CurrentMiBps": 4}), 4);
    assert_eq!(
        warm(&kinesis).await,
        nothing_kept,
        "it ended with the last one"
    );
}

#[tokio::test(start_paused = true)]
async fn asking_for_the_same_or_less_releases_what_is_not_needed() {
    let kinesis = kinesis();
    commit(&kinesis, "ENABLED").await;
    create(&kinesis, Some(32)).await;
    warm_to(&kinesis, 20).await;
    assert_eq!(warm(&kinesis).await, (target(20, 20), 20));
    // Below four there is nothing to release.
    warm_to(&kinesis, 0).await;
    assert_eq!(warm(&kinesis).await, (target(0, 4), 4));
}

#[tokio::test(start_paused = true)]
async fn what_the_last_hours_of_traffic_needed_is_not_released() {
    let kinesis = kinesis();
    commit(&kinesis, "ENABLED").await;
    create(&kinesis, Some(32)).await;
    // 5,000 records a second: as many as ten shards take at half of their limits.
    let observe = |clock: Clock| {
        let cell = kinesis.stream_cell("s");
        cell.read().observe(0, 0, 60 * 250, clock.epoch_millis());
        for shard in 1..20 {
            cell.read()
                .observe(shard, 0, 60 * 250, clock.epoch_millis());
        }
    };
    observe(kinesis.clock());
    tokio::time::advance(Duration::from_secs(60)).await;
    warm_to(&kinesis, 8).await;
    assert_eq!(warm(&kinesis).await, (target(8, 10), 10));
    tokio::time::advance(2 * HOUR).await;
    warm_to(&kinesis, 8).await;
    assert_eq!(warm(&kinesis).await, (target(8, 8), 8));
}

#[tokio::test(start_paused = true)]
async fn warm_throughput_comes_back_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let clock = options().clock;
    let open = || {
        Kinesis::open(KinesisOptions {
            data_dir: Some(dir.path().to_owned()),
            clock: clock.clone(),
            ..options()
        })
        .unwrap()
    };
    let kinesis = open();
    commit(&kinesis, "ENABLED").await;
    create(&kinesis, Some(6)).await;
    drop(kinesis);
    let kinesis = open();
    assert_eq!(warm(&kinesis).await, (target(6, 6), 6));
    warm_to(&kinesis, 9).await;
    let shards = ok(&kinesis, "ListShards", json!({"StreamName": "s"})).await;
    drop(kinesis);
    let kinesis = open();
    assert_eq!(warm(&kinesis).await, (target(9, 9), 9));
    assert_eq!(
        ok(&kinesis, "ListShards", json!({"StreamName": "s"})).await,
        shards
    );
    let mode = json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": "PROVISIONED"}});
    ok(&kinesis, "UpdateStreamMode", mode).await;
    let mode = json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"},
        "WarmThroughputMiBps": 12});
    ok(&kinesis, "UpdateStreamMode", mode).await;
    drop(kinesis);
    let kinesis = open();
    assert_eq!(warm(&kinesis).await, (target(12, 12), 12));
    // And with it what keeps it: nothing is merged for want of traffic.
    tokio::time::advance(40 * DAY).await;
    put(&kinesis, "k", "text").await;
    assert_eq!(warm(&kinesis).await.1, 12);
}

#[tokio::test(start_paused = true)]
async fn the_accounts_number_of_shards_does_not_bound_a_warm_throughput() {
    let kinesis = kinesis();
    commit(&kinesis, "ENABLED").await;
    create(&kinesis, None).await;
    // With the four there are it is all of the account's 20,000.
    let much = json!({"StreamName": "p", "ShardCount": 19_996});
    ok(&kinesis, "CreateStream", much).await;
    warm_to(&kinesis, 9).await;
    assert_eq!(warm(&kinesis).await, (target(9, 9), 9));
}
