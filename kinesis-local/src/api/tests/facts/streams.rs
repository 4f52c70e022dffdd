//! Creating, deleting, listing and describing streams.

use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stream_is_active_as_soon_as_it_is_created() {
    let kinesis = with_stream(2).await;
    let summary = ok(
        &kinesis,
        "DescribeStreamSummary",
        json!({"StreamName": "s"}),
    )
    .await;
    assert_eq!(
        summary,
        json!({"StreamDescriptionSummary": {
            "StreamName": "s",
            "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            "StreamCreationTimestamp": 1_795_399_200.0,
            "RetentionPeriodHours": 24,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE",
            "OpenShardCount": 2,
            "ConsumerCount": 0,
            "QueueCount": 0,
            "ChannelCount": 0,
            "MaxRecordSizeInKiB": 1024,
        }})
    );
}

#[tokio::test(start_paused = true)]
async fn a_configured_delay_keeps_a_stream_creating_and_deleting() {
    let delays = Delays {
        create: Duration::from_millis(500),
        delete: Duration::from_millis(300),
        update: Duration::ZERO,
    };
    let kinesis = Kinesis::open(KinesisOptions {
        delays,
        ..options()
    })
    .unwrap();
    let status = async || {
        let body = json!({"StreamName": "s"});
        let (_, answer) = answer(&kinesis, "DescribeStreamSummary", &body).await;
        answer["StreamDescriptionSummary"]["StreamStatus"]
            .as_str()
            .map(str::to_owned)
    };
    ok(
        &kinesis,
        "CreateStream",
        json!({"StreamName": "s", "ShardCount": 1}),
    )
    .await;
    assert_eq!(status().await.as_deref(), Some("CREATING"));
    assert_refused(
        &kinesis,
        "PutRecord",
        json!({"StreamName": "s", "PartitionKey": "k", "Data": ""}),
        "ResourceNotFoundException",
        "Stream s under account 000000000000 not found.",
    )
    .await;
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(status().await.as_deref(), Some("ACTIVE"));
    ok(&kinesis, "DeleteStream", json!({"StreamName": "s"})).await;
    assert_eq!(status().await.as_deref(), Some("DELETING"));
    assert_refused(
        &kinesis,
        "CreateStream",
        json!({"StreamName": "s", "ShardCount": 1}),
        "ResourceInUseException",
        "Stream s under account 000000000000 already exists.",
    )
    .await;
    tokio::time::advance(Duration::from_millis(300)).await;
    assert_eq!(status().await, None);
    ok(
        &kinesis,
        "CreateStream",
        json!({"StreamName": "s", "ShardCount": 1}),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_until_its_stream_is_deleted() {
    let kinesis = with_stream(1).await;
    let create = json!({"StreamName": "s", "ShardCount": 1});
    let exists = "Stream s under account 000000000000 already exists.";
    assert_refused(
        &kinesis,
        "CreateStream",
        create.clone(),
        "ResourceInUseException",
        exists,
    )
    .await;
    ok(&kinesis, "DeleteStream", json!({"StreamName": "s"})).await;
    let missing = "Stream s under account 000000000000 not found.";
    for operation in [
        "DescribeStream",
        "DescribeStreamSummary",
        "DeleteStream",
        "ListShards",
    ] {
        let by_name = json!({"StreamName": "s"});
        assert_refused(
            &kinesis,
            operation,
            by_name,
            "ResourceNotFoundException",
            missing,
        )
        .await;
    }
    ok(&kinesis, "CreateStream", create).await;
}

#[tokio::test(start_paused = true)]
async fn every_stream_operation_takes_the_arn_in_place_of_the_name() {
    let kinesis = with_stream(1).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let by_arn = json!({"StreamARN": arn});
    let described = ok(&kinesis, "DescribeStream", by_arn.clone()).await;
    assert_eq!(described["StreamDescription"]["StreamARN"], arn);
    ok(&kinesis, "DescribeStreamSummary", by_arn.clone()).await;
    ok(&kinesis, "ListShards", by_arn.clone()).await;
    let put = json!({"StreamARN": arn, "PartitionKey": "k", "Data": ""});
    ok(&kinesis, "PutRecord", put).await;
    let put = json!({"StreamARN": arn, "Records": [{"PartitionKey": "k", "Data": ""}]});
    ok(&kinesis, "PutRecords", put).await;
    let start = json!({"StreamARN": arn, "ShardId": "0", "ShardIteratorType": "LATEST"});
    let start = ok(&kinesis, "GetShardIterator", start).await;
    let read = json!({"StreamARN": arn, "ShardIterator": start["ShardIterator"]});
    ok(&kinesis, "GetRecords", read).await;
    let split = json!({"StreamARN": arn, "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    ok(&kinesis, "SplitShard", split).await;
    let merge = json!({"StreamARN": arn, "ShardToMerge": "1", "AdjacentShardToMerge": "2"});
    ok(&kinesis, "MergeShards", merge).await;
    ok(&kinesis, "DeleteStream", by_arn).await;
}

#[tokio::test(start_paused = true)]
async fn an_arn_of_elsewhere_and_a_missing_name_are_refused() {
    let kinesis = with_stream(1).await;
    for arn in [
        "arn:aws:kinesis:eu-west-1:000000000000:stream/s",
        "arn:aws:kinesis:us-east-1:000000000000:stream/other",
    ] {
        let (code, _) = refused(&kinesis, "DescribeStream", json!({"StreamARN": arn})).await;
        assert_eq!(code, "ResourceNotFoundException", "{arn}");
    }
    let both =
        json!({"StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/t", "StreamName": "s"});
    for body in [json!({}), both] {
        let (code, _) = refused(&kinesis, "DescribeStream", body).await;
        assert_eq!(code, "InvalidArgumentException");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_name_and_count_are_refused_together_in_the_models_order() {
    assert_refused(
        &kinesis(),
        "CreateStream",
        json!({"StreamName": "a b", "ShardCount": 0}),
        "ValidationException",
        "2 validation errors detected: Value 'a b' at 'streamName' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '0' at \
         'shardCount' failed to satisfy constraint: Member must have value greater than or equal \
         to 1",
    )
    .await;
    assert_refused(
        &kinesis(),
        "CreateStream",
        json!({}),
        "ValidationException",
        "1 validation error detected: Value null at 'streamName' failed to satisfy constraint: \
         Member must not be null",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn more_shards_than_the_account_may_have_are_refused() {
    assert_refused(
        &with_stream(3).await,
        "CreateStream",
        json!({"StreamName": "big", "ShardCount": 19_998}),
        "LimitExceededException",
        "This request would exceed the shard limit for the account 000000000000 in us-east-1. \
         Current shard count for the account: 3. Limit: 20000. Number of additional shards that \
         would have resulted from this request: 19998. Refer to the AWS Service Limits page \
         (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current \
         limits and how to request higher limits.",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_on_demand_stream_starts_with_four_shards_and_is_not_resharded_by_hand() {
    let kinesis = kinesis();
    let create = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    let summary = ok(
        &kinesis,
        "DescribeStreamSummary",
        json!({"StreamName": "s"}),
    )
    .await;
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!(summary["OpenShardCount"], 4);
    assert_eq!(summary["StreamModeDetails"]["StreamMode"], "ON_DEMAND");
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    let refused = "Request is invalid. Stream s under account 000000000000 is in On-Demand mode.";
    assert_refused(
        &kinesis,
        "SplitShard",
        split,
        "ValidationException",
        refused,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn streams_are_listed_by_name_page_after_page() {
    let kinesis = kinesis();
    for name in ["c", "a", "b"] {
        ok(
            &kinesis,
            "CreateStream",
            json!({"StreamName": name, "ShardCount": 1}),
        )
        .await;
    }
    let first = ok(&kinesis, "ListStreams", json!({"Limit": 2})).await;
    assert_eq!(first["StreamNames"], json!(["a", "b"]));
    assert_eq!(first["HasMoreStreams"], true);
    assert_eq!(first["StreamSummaries"][1]["StreamStatus"], "ACTIVE");
    let next = json!({"NextToken": first["NextToken"]});
    let second = ok(&kinesis, "ListStreams", next).await;
    assert_eq!(second["StreamNames"], json!(["c"]));
    assert_eq!(second["HasMoreStreams"], false);
    assert_eq!(second.get("NextToken"), None);
    let after = ok(
        &kinesis,
        "ListStreams",
        json!({"ExclusiveStartStreamName": "a"}),
    )
    .await;
    assert_eq!(after["StreamNames"], json!(["b", "c"]));
}

#[tokio::test(start_paused = true)]
async fn a_description_is_paged_by_shard() {
    let kinesis = with_stream(3).await;
    let first = ok(
        &kinesis,
        "DescribeStream",
        json!({"StreamName": "s", "Limit": 2}),
    )
    .await;
    let first = &first["StreamDescription"];
    assert_eq!(first["HasMoreShards"], true);
    assert_eq!(first["Shards"][1]["ShardId"], "shardId-000000000001");
    let next = json!({"StreamName": "s", "ExclusiveStartShardId": "shardId-000000000001"});
    let next = ok(&kinesis, "DescribeStream", next).await;
    let next = &next["StreamDescription"];
    assert_eq!(
        (
            &next["HasMoreShards"],
            next["Shards"].as_array().unwrap().len()
        ),
        (&json!(false), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_has_a_hundred_streams_or_shards_at_most() {
    let kinesis = with_stream(101).await;
    for limit in [None, Some(10_000)] {
        let describe = json!({"StreamName": "s", "Limit": limit});
        let described = ok(&kinesis, "DescribeStream", describe).await;
        let described = &described["StreamDescription"];
        assert_eq!(described["Shards"].as_array().unwrap().len(), 100);
        assert_eq!(described["HasMoreShards"], true);
    }
    for at in 0..100 {
        let create = json!({"StreamName": format!("a{at:02}"), "ShardCount": 1});
        ok(&kinesis, "CreateStream", create).await;
    }
    for limit in [None, Some(10_000)] {
        let listed = ok(&kinesis, "ListStreams", json!({"Limit": limit})).await;
        assert_eq!(listed["StreamNames"].as_array().unwrap().len(), 100);
        assert_eq!(listed["HasMoreStreams"], true);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_named_twice_if_it_is_the_same_and_else_refused() {
    let kinesis = with_stream(1).await;
    let both = json!({"StreamName": "s", "StreamARN": STREAM_ARN});
    ok(&kinesis, "DescribeStream", both).await;
    let none = "Either StreamName or StreamARN should be provided.";
    let code = "InvalidArgumentException";
    assert_refused(&kinesis, "DescribeStream", json!({}), code, none).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_stream_leaves_the_memory_when_its_delay_is_over() {
    let delays = Delays {
        delete: Duration::from_secs(1),
        ..Delays::default()
    };
    let kinesis = Kinesis::open(KinesisOptions {
        delays,
        ..options()
    })
    .unwrap();
    let catalog = &kinesis.sites.home.catalog;
    let delete = async |name: &str| {
        let create = json!({"StreamName": name, "ShardCount": 1});
        ok(&kinesis, "CreateStream", create).await;
        ok(&kinesis, "DeleteStream", json!({"StreamName": name})).await;
    };
    for n in 0..200 {
        delete(&format!("s{n}")).await;
        tokio::time::advance(delays.delete).await;
        let kept = catalog.read().len();
        assert!(kept <= 61, "{kept} streams are kept");
    }
    let create = json!({"StreamName": "there", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    delete("deleting").await;
    ok(&kinesis, "ListStreams", json!({})).await;
    let names: Vec<_> = catalog.read().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["deleting", "there"]);
}

#[tokio::test(start_paused = true)]
async fn an_arn_that_only_begins_with_a_streams_finds_none() {
    let kinesis = with_stream(1).await;
    let arn = format!("{STREAM_ARN}/extra");
    let text = "Stream s/extra under account 000000000000 not found.";
    for (operation, member) in [
        ("DescribeStreamSummary", "StreamARN"),
        ("ListShards", "StreamARN"),
        ("ListTagsForResource", "ResourceARN"),
        ("DeleteStream", "StreamARN"),
    ] {
        let body = json!({ member: arn });
        assert_refused(&kinesis, operation, body, "ResourceNotFoundException", text).await;
    }
    let register = json!({"StreamARN": STREAM_ARN, "ConsumerName": "c"});
    let consumer = ok(&kinesis, "RegisterStreamConsumer", register).await;
    let of_consumer = json!({"StreamARN": consumer["Consumer"]["ConsumerARN"]});
    let (code, _) = refused(&kinesis, "DescribeStreamSummary", of_consumer).await;
    assert_eq!(code, "ResourceNotFoundException");
    let both = json!({"StreamName": "s", "StreamARN": arn});
    let (code, _) = refused(&kinesis, "DescribeStreamSummary", both).await;
    assert_eq!(code, "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn a_restart_ends_the_deletion_of_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let clock = options().clock;
    let open = || {
        Kinesis::open(KinesisOptions {
            data_dir: Some(dir.path().to_owned()),
            clock: clock.clone(),
            delays: Delays {
                delete: Duration::from_secs(3600),
                ..Delays::default()
            },
            ..options()
        })
        .unwrap()
    };
    let create = json!({"StreamName": "s", "ShardCount": 1});
    let kinesis = open();
    ok(&kinesis, "CreateStream", create.clone()).await;
    put(&kinesis, "k", "text").await;
    ok(&kinesis, "DeleteStream", json!({"StreamName": "s"})).await;
    let summary = json!({"StreamName": "s"});
    let there = ok(&kinesis, "DescribeStreamSummary", summary.clone()).await;
    assert_eq!(
        there["StreamDescriptionSummary"]["StreamStatus"],
        "DELETING"
    );
    drop(kinesis);
    let kinesis = open();
    let (code, _) = refused(&kinesis, "DescribeStreamSummary", summary.clone()).await;
    assert_eq!(code, "ResourceNotFoundException");
    // The name is free, and stays the new one's.
    ok(&kinesis, "CreateStream", create).await;
    drop(kinesis);
    let there = ok(&open(), "DescribeStreamSummary", summary).await;
    assert_eq!(there["StreamDescriptionSummary"]["StreamStatus"], "ACTIVE");
}
