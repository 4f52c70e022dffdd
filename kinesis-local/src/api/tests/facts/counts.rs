//! How many of each there may be: each bound is met, told, and over when one is gone.

use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn slow() -> Kinesis {
    Kinesis::open(KinesisOptions {
        delays: Delays {
            create: 9 * SECOND,
            delete: 9 * SECOND,
            update: Duration::ZERO,
        },
        ..options()
    })
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn five_streams_are_created_or_deleted_at_once() {
    let kinesis = slow();
    let create = |name: &str| json!({"StreamName": name, "ShardCount": 1});
    for name in ["a", "b", "c", "d"] {
        ok(&kinesis, "CreateStream", create(name)).await;
    }
    tokio::time::advance(9 * SECOND).await;
    for name in ["a", "b"] {
        ok(&kinesis, "DeleteStream", json!({"StreamName": name})).await;
    }
    for name in ["e", "f", "g"] {
        ok(&kinesis, "CreateStream", create(name)).await;
    }
    let text = "This request would have exceed the limit on the number of streams that can \
        simultaneously be in CREATING or DELETING for the account 000000000000. Limit: 5.";
    let sixth = create("h");
    let code = "LimitExceededException";
    assert_refused(&kinesis, "CreateStream", sixth.clone(), code, text).await;
    // What is on its way counts; deleting is not refused for it.
    ok(&kinesis, "DeleteStream", json!({"StreamName": "c"})).await;
    tokio::time::advance(9 * SECOND).await;
    ok(&kinesis, "CreateStream", sixth).await;
}

#[tokio::test(start_paused = true)]
async fn five_consumers_of_a_stream_are_created_at_once() {
    let kinesis = slow();
    for name in ["s", "t"] {
        let create = json!({"StreamName": name, "ShardCount": 1});
        ok(&kinesis, "CreateStream", create).await;
    }
    tokio::time::advance(9 * SECOND).await;
    for at in 0..5 {
        register(&kinesis, &format!("c{at}")).await;
    }
    let text = "This request would have exceed the limit on the number of consumers that can \
        simultaneously be in CREATING for stream s under account 000000000000. Limit: 5.";
    let sixth = json!({"StreamARN": STREAM_ARN, "ConsumerName": "sixth"});
    let (operation, code) = ("RegisterStreamConsumer", "LimitExceededException");
    assert_refused(&kinesis, operation, sixth.clone(), code, text).await;
    let of_another = json!({"StreamARN": STREAM_ARN.replace("/s", "/t"), "ConsumerName": "c"});
    ok(&kinesis, operation, of_another).await;
    tokio::time::advance(9 * SECOND).await;
    ok(&kinesis, operation, sixth).await;
}

#[tokio::test(start_paused = true)]
async fn an_account_has_twenty_thousand_shards_and_fifty_on_demand_streams() {
    let kinesis = kinesis();
    let create = |name: &str, count: u32| json!({"StreamName": name, "ShardCount": count});
    let on_demand = |name: String| json!({"StreamName": name, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    for at in 0..50 {
        ok(&kinesis, "CreateStream", on_demand(format!("d{at}"))).await;
    }
    let (code, text) = refused(&kinesis, "CreateStream", on_demand("d50".into())).await;
    assert_eq!(code, "LimitExceededException");
    assert!(text.contains("limit of 50 on-demand streams"), "{text}");
    ok(&kinesis, "CreateStream", create("s", 1)).await;
    let mode = json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    let (code, _) = refused(&kinesis, "UpdateStreamMode", mode).await;
    assert_eq!(code, "LimitExceededException");

    // 201 are open: the shards of on-demand streams count too.
    ok(&kinesis, "CreateStream", create("rest", 19_798)).await;
    let text = |more: u32| {
        format!(
            "This request would exceed the shard limit for the account 000000000000 in us-east-1. \
             Current shard count for the account: 19999. Limit: 20000. Number of additional shards \
             that would have resulted from this request: {more}. Refer to the AWS Service Limits \
             page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for \
             current limits and how to request higher limits."
        )
    };
    let code = "LimitExceededException";
    let two = create("two", 2);
    assert_refused(&kinesis, "CreateStream", two, code, &text(2)).await;
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "7"});
    ok(&kinesis, "SplitShard", split).await;
    let split = json!({"StreamName": "s", "ShardToSplit": "1", "NewStartingHashKey": "3"});
    let full = text(1).replace("19999", "20000");
    assert_refused(&kinesis, "SplitShard", split, code, &full).await;
    let merge = json!({"StreamName": "s", "ShardToMerge": "1", "AdjacentShardToMerge": "2"});
    ok(&kinesis, "MergeShards", merge).await;
    ok(&kinesis, "CreateStream", create("one", 1)).await;
}
