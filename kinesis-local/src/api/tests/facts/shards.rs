//! ListShards, SplitShard and MergeShards on the wire.

use std::time::Duration;

use super::*;

fn ids(answer: &Value) -> Vec<u64> {
    let index = |shard: &Value| {
        let id = shard["ShardId"].as_str().unwrap();
        id.strip_prefix("shardId-").unwrap().parse().unwrap()
    };
    answer["Shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(index)
        .collect()
}

async fn split(kinesis: &Kinesis, shard: &str, key: &str) {
    let body = json!({"StreamName": "s", "ShardToSplit": shard, "NewStartingHashKey": key});
    ok(kinesis, "SplitShard", body).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_listed_with_its_parents_ranges_and_numbers() {
    let kinesis = with_stream(1).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    split(&kinesis, "0", "100").await;
    let listed = ok(&kinesis, "ListShards", json!({"StreamName": "s"})).await;
    assert_eq!(ids(&listed), [0, 1, 2]);
    let parent = &listed["Shards"][0]["SequenceNumberRange"];
    let parse = |number: &Value| -> kinesis_core::SequenceParts {
        kinesis_core::SequenceNumber::try_from(number.as_str().unwrap())
            .unwrap()
            .parts()
            .unwrap()
    };
    let (starting, ending) = (
        parse(&parent["StartingSequenceNumber"]),
        parse(&parent["EndingSequenceNumber"]),
    );
    assert_eq!(
        (starting.counter, starting.shard_created_s),
        (0, NOW_MS / 1000)
    );
    assert_eq!(ending.counter, 0x7fff_ffff_ffff_ffff);
    assert_eq!(ending.written_s, NOW_MS / 1000 + 5);
    let mut child = listed["Shards"][2].clone();
    child["SequenceNumberRange"]["StartingSequenceNumber"].take();
    assert_eq!(
        child,
        json!({
            "ShardId": "shardId-000000000002",
            "ParentShardId": "shardId-000000000000",
            "HashKeyRange": {
                "StartingHashKey": "100",
                "EndingHashKey": "340282366920938463463374607431768211455",
            },
            "SequenceNumberRange": {"StartingSequenceNumber": null},
        })
    );
}

#[tokio::test(start_paused = true)]
async fn shards_are_listed_page_after_page_by_the_token_alone() {
    let kinesis = with_stream(5).await;
    let first = ok(
        &kinesis,
        "ListShards",
        json!({"StreamName": "s", "MaxResults": 2}),
    )
    .await;
    assert_eq!(ids(&first), [0, 1]);
    let token = first["NextToken"].clone();
    let second = json!({"NextToken": token, "MaxResults": 3});
    let second = ok(&kinesis, "ListShards", second).await;
    assert_eq!(ids(&second), [2, 3, 4]);
    assert_eq!(second.get("NextToken"), None);
    let after = json!({"StreamName": "s", "ExclusiveStartShardId": "shardId-3"});
    assert_eq!(ids(&ok(&kinesis, "ListShards", after).await), [4]);
}

#[tokio::test(start_paused = true)]
async fn a_token_keeps_its_filter_and_expires_after_five_minutes() {
    let kinesis = with_stream(3).await;
    split(&kinesis, "0", "100").await;
    let body = json!({"StreamName": "s", "MaxResults": 1, "ShardFilter": {"Type": "AT_LATEST"}});
    let first = ok(&kinesis, "ListShards", body).await;
    assert_eq!(ids(&first), [1]);
    let next = json!({"NextToken": first["NextToken"]});
    assert_eq!(
        ids(&ok(&kinesis, "ListShards", next.clone()).await),
        [2, 3, 4]
    );
    tokio::time::advance(Duration::from_secs(301)).await;
    let (code, _) = refused(&kinesis, "ListShards", next).await;
    assert_eq!(code, "ExpiredNextTokenException");
}

#[tokio::test(start_paused = true)]
async fn a_listing_needs_a_stream_or_a_token_and_not_both() {
    let kinesis = with_stream(1).await;
    let code = "InvalidArgumentException";
    let text = "Either NextToken or StreamName should be provided.";
    assert_refused(&kinesis, "ListShards", json!({}), code, text).await;
    let both = json!({"StreamName": "s", "NextToken": "x"});
    let text = "NextToken and StreamName cannot be provided together.";
    assert_refused(&kinesis, "ListShards", both, code, text).await;
    for (other, value) in [
        ("ExclusiveStartShardId", json!("0")),
        ("StreamCreationTimestamp", json!(NOW_MS / 1000)),
    ] {
        let both = json!({"NextToken": "x", other: value});
        let text = format!("NextToken and {other} cannot be provided together.");
        assert_refused(&kinesis, "ListShards", both, code, &text).await;
    }
    let both = json!({"NextToken": "x", "StreamARN": STREAM_ARN,
        "StreamCreationTimestamp": NOW_MS / 1000});
    let text = "NextToken and StreamCreationTimestamp cannot be provided together.";
    assert_refused(&kinesis, "ListStreamConsumers", both, code, text).await;
    let (code, _) = refused(&kinesis, "ListShards", json!({"NextToken": "rubbish"})).await;
    assert_eq!(code, "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn filters_tell_the_shards_of_their_time() {
    let kinesis = with_stream(1).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    split(&kinesis, "0", "100").await;
    let before = NOW_MS / 1000 + 5;
    for (filter, expected) in [
        (json!({"Type": "AT_LATEST"}), vec![1, 2]),
        (json!({"Type": "AT_TRIM_HORIZON"}), vec![0]),
        (json!({"Type": "FROM_TRIM_HORIZON"}), vec![0, 1, 2]),
        (
            json!({"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000001"}),
            vec![2],
        ),
        (
            json!({"Type": "AT_TIMESTAMP", "Timestamp": before}),
            vec![0],
        ),
        (
            json!({"Type": "AT_TIMESTAMP", "Timestamp": before + 5}),
            vec![0, 1, 2],
        ),
        (
            json!({"Type": "AT_TIMESTAMP", "Timestamp": before + 6}),
            vec![1, 2],
        ),
        (
            json!({"Type": "FROM_TIMESTAMP", "Timestamp": before}),
            vec![0, 1, 2],
        ),
        (
            json!({"Type": "FROM_TIMESTAMP", "Timestamp": before + 6}),
            vec![1, 2],
        ),
    ] {
        let body = json!({"StreamName": "s", "ShardFilter": filter});
        assert_eq!(
            ids(&ok(&kinesis, "ListShards", body).await),
            expected,
            "{filter}"
        );
    }
    let body = json!({"StreamName": "s", "ShardFilter": {"Type": "AT_TIMESTAMP"}});
    assert_eq!(
        refused(&kinesis, "ListShards", body).await.0,
        "InvalidArgumentException"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_outside_the_shard_does_not_split_it() {
    let kinesis = with_stream(2).await;
    for key in [
        "0",
        "1",
        "170141183460469231731687303715884105727",
        "340282366920938463463374607431768211455",
        "999999999999999999999999999999999999999",
    ] {
        let body =
            json!({"StreamName": "s", "ShardToSplit": "shardId-0", "NewStartingHashKey": key});
        let text = format!(
            "NewStartingHashKey {key} used in SplitShard() on shard shardId-000000000000 in stream \
             s under account 000000000000 is not both greater than one plus the shard's \
             StartingHashKey 0 and less than the shard's EndingHashKey \
             170141183460469231731687303715884105727."
        );
        assert_refused(
            &kinesis,
            "SplitShard",
            body,
            "InvalidArgumentException",
            &text,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_or_missing_shard_is_not_split() {
    let kinesis = with_stream(1).await;
    split(&kinesis, "0", "100").await;
    let body =
        |shard: &str| json!({"StreamName": "s", "ShardToSplit": shard, "NewStartingHashKey": "50"});
    let text = "Shard shardId-000000000000 in stream s under account 000000000000 has already been \
                merged or split, and thus is not eligible for merging or splitting.";
    assert_refused(
        &kinesis,
        "SplitShard",
        body("0"),
        "InvalidArgumentException",
        text,
    )
    .await;
    let text = "Could not find shard shardId-000000000009 in stream s under account 000000000000.";
    assert_refused(
        &kinesis,
        "SplitShard",
        body("9"),
        "ResourceNotFoundException",
        text,
    )
    .await;
    let text = "Could not find shard nine in stream s under account 000000000000.";
    assert_refused(
        &kinesis,
        "SplitShard",
        body("nine"),
        "ResourceNotFoundException",
        text,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_neighbours_in_order_are_merged() {
    let kinesis = with_stream(3).await;
    for (first, second) in [("1", "0"), ("0", "2"), ("0", "0")] {
        let body =
            json!({"StreamName": "s", "ShardToMerge": first, "AdjacentShardToMerge": second});
        let text = format!(
            "Shards shardId-00000000000{first} and shardId-00000000000{second} in stream s under \
             account 000000000000 are not an adjacent pair of shards eligible for merging"
        );
        assert_refused(
            &kinesis,
            "MergeShards",
            body,
            "InvalidArgumentException",
            &text,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn records_follow_their_keys_into_the_children() {
    let kinesis = with_stream(1).await;
    let put = async |key: &str| {
        let body =
            json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": key});
        ok(&kinesis, "PutRecord", body).await["ShardId"].clone()
    };
    assert_eq!(put("99").await, "shardId-000000000000");
    split(&kinesis, "0", "100").await;
    assert_eq!(put("99").await, "shardId-000000000001");
    assert_eq!(put("100").await, "shardId-000000000002");
}

#[tokio::test(start_paused = true)]
async fn a_page_has_a_thousand_shards_at_most() {
    let kinesis = with_stream(1001).await;
    for max in [None, Some(10_000)] {
        let body = json!({"StreamName": "s", "MaxResults": max});
        let first = ok(&kinesis, "ListShards", body).await;
        assert_eq!(ids(&first).len(), 1000, "{max:?}");
        let rest = json!({"NextToken": first["NextToken"]});
        assert_eq!(ids(&ok(&kinesis, "ListShards", rest).await), [1000]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_not_there_is_not_merged() {
    let kinesis = with_stream(2).await;
    let code = "ResourceNotFoundException";
    for (first, second, missing) in [
        ("0", "9", "shardId-000000000009"),
        ("9", "0", "shardId-000000000009"),
        ("0", "nine", "nine"),
    ] {
        let body =
            json!({"StreamName": "s", "ShardToMerge": first, "AdjacentShardToMerge": second});
        let text =
            format!("Could not find shard {missing} in stream s under account 000000000000.");
        assert_refused(&kinesis, "MergeShards", body, code, &text).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_without_room_for_a_shard_neither_splits_nor_scales() {
    let kinesis = with_stream(4).await;
    let rest = json!({"StreamName": "rest", "ShardCount": 20_000 - 4});
    ok(&kinesis, "CreateStream", rest).await;
    let scale = json!({"StreamName": "s", "TargetShardCount": 7, "ScalingType": "UNIFORM_SCALING"});
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    // The limit is looked at before the key, and the shard before the limit.
    let key = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "0"});
    for (operation, body, more) in [
        ("SplitShard", split, 1),
        ("SplitShard", key, 1),
        ("UpdateShardCount", scale, 3),
    ] {
        let text = format!(
            "This request would exceed the shard limit for the account 000000000000 in us-east-1. \
             Current shard count for the account: 20000. Limit: 20000. Number of additional shards \
             that would have resulted from this request: {more}. Refer to the AWS Service Limits \
             page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for \
             current limits and how to request higher limits."
        );
        assert_refused(&kinesis, operation, body, "LimitExceededException", &text).await;
    }
    let missing = json!({"StreamName": "s", "ShardToSplit": "4", "NewStartingHashKey": "1000"});
    let (code, _) = refused(&kinesis, "SplitShard", missing).await;
    assert_eq!(code, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_no_shards_while_it_is_creating() {
    let second = Duration::from_secs(1);
    let kinesis = Kinesis::open(KinesisOptions {
        delays: Delays {
            create: second,
            ..Delays::default()
        },
        ..options()
    })
    .unwrap();
    let create = json!({"StreamName": "s", "ShardCount": 2});
    ok(&kinesis, "CreateStream", create).await;
    let name = json!({"StreamName": "s"});
    let told = ok(&kinesis, "DescribeStream", name.clone()).await;
    let told = &told["StreamDescription"];
    assert_eq!(
        (&told["Shards"], &told["HasMoreShards"]),
        (&json!([]), &json!(false))
    );
    let summary = ok(&kinesis, "DescribeStreamSummary", name.clone()).await;
    assert_eq!(summary["StreamDescriptionSummary"]["OpenShardCount"], 0);
    let start = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "LATEST"});
    let text = "Shard shardId-000000000000 in stream s under account 000000000000 does not exist";
    let not_found = "ResourceNotFoundException";
    assert_refused(&kinesis, "GetShardIterator", start.clone(), not_found, text).await;
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "9"});
    let merge = json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"});
    let text = "Could not find shard shardId-000000000000 in stream s under account 000000000000.";
    for (operation, body) in [("SplitShard", split), ("MergeShards", merge)] {
        assert_refused(&kinesis, operation, body, not_found, text).await;
    }
    tokio::time::advance(second).await;
    let told = ok(&kinesis, "DescribeStream", name).await;
    let shards = told["StreamDescription"]["Shards"].as_array();
    assert_eq!(shards.map(Vec::len), Some(2));
    ok(&kinesis, "GetShardIterator", start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn splits_at_one_time_do_not_pass_the_account_s_limit_together() {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let kinesis = std::sync::Arc::new(kinesis());
    // One shard is left. Many streams take a while to count, so that the others count meanwhile.
    let many = (0..2_000).map(|n| (format!("rest{n}"), 1));
    let few = NAMES.map(|name| (name.to_owned(), 1)).into_iter();
    for (name, shards) in few.chain(many).chain([("rest".to_owned(), 17_995)]) {
        let create = json!({"StreamName": name, "ShardCount": shards});
        ok(&kinesis, "CreateStream", create).await;
    }
    let mut open = NAMES.map(|_| 0);
    for round in 0..50 {
        let start = std::sync::Arc::new(tokio::sync::Barrier::new(NAMES.len()));
        let splits = std::array::from_fn::<_, 4, _>(|n| {
            let (kinesis, start) = (
                std::sync::Arc::clone(&kinesis),
                std::sync::Arc::clone(&start),
            );
            let split = json!({"StreamName": NAMES[n], "ShardToSplit": format!("shardId-{:012}", open[n]),
                "NewStartingHashKey": (1u128 << 127).to_string()});
            tokio::spawn(async move {
                start.wait().await;
                answer(&kinesis, "SplitShard", &split).await.0.is_success()
            })
        });
        let mut done = Vec::new();
        for (n, split) in splits.into_iter().enumerate() {
            done.extend(split.await.unwrap().then_some(n));
        }
        assert_eq!(done.len(), 1, "round {round}: {done:?}");
        for n in done {
            let child = |by: usize| format!("shardId-{:012}", open[n] + by);
            let merge = json!({"StreamName": NAMES[n], "ShardToMerge": child(1),
                "AdjacentShardToMerge": child(2)});
            ok(&kinesis, "MergeShards", merge).await;
            open[n] += 3;
        }
    }
}
