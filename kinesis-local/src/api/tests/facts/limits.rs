//! The service's limits per second: each is reached, told in its words, and over a second later.

use std::time::Duration;

use super::*;
use crate::limits::Quotas;

const ARN: &str = STREAM_ARN;

async fn limited(limits: Limits) -> Kinesis {
    let options = KinesisOptions {
        limits,
        ..options()
    };
    let kinesis = Kinesis::open(options).unwrap();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    kinesis
}

/// Calls until the limit is met: it has to be `calls`, and to be over after a second.
async fn assert_limited(
    kinesis: &Kinesis,
    operation: &str,
    body: Value,
    calls: u32,
    (code, text): (&str, &str),
) {
    // What it refuses for other reasons counts as well.
    for n in 0..calls {
        let told = answer(kinesis, operation, &body).await.1.to_string();
        assert!(!told.contains("Rate exceeded"), "{operation} {n}: {told}");
    }
    assert_refused(kinesis, operation, body.clone(), code, text).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let told = answer(kinesis, operation, &body).await.1.to_string();
    assert!(!told.contains("Rate exceeded"), "{operation}: {told}");
}

#[tokio::test(start_paused = true)]
async fn each_operation_has_the_services_calls_a_second() {
    let kinesis = limited(Limits::Aws).await;
    let named = json!({"StreamName": "s"});
    let by_arn = json!({"StreamARN": ARN});
    let of_stream = "Rate exceeded for stream s under account 000000000000.";
    let of_account = "Rate exceeded for account 000000000000.";
    let split = json!({"StreamName": "s", "ShardToSplit": "9", "NewStartingHashKey": "7"});
    let merge = json!({"StreamName": "s", "ShardToMerge": "8", "AdjacentShardToMerge": "9"});
    let tag = json!({"StreamName": "s", "Tags": {"a": "b"}});
    let untag = json!({"StreamName": "s", "TagKeys": ["a"]});
    let count = json!({"StreamName": "s", "TargetShardCount": 9, "ScalingType": "UNIFORM_SCALING"});
    let consumer = json!({"StreamARN": ARN, "ConsumerName": "c"});
    let warm = json!({"StreamName": "s", "WarmThroughputMiBps": 1});
    for (operation, body, calls, text) in [
        (
            "CreateStream",
            json!({"StreamName": "s", "ShardCount": 1}),
            5,
            of_account,
        ),
        ("ListStreams", json!({}), 5, of_account),
        ("DescribeLimits", json!({}), 1, of_account),
        ("DescribeStream", named.clone(), 10, of_stream),
        ("DescribeStreamSummary", named.clone(), 20, of_stream),
        ("ListTagsForStream", named.clone(), 5, of_stream),
        ("AddTagsToStream", tag, 5, of_stream),
        ("RemoveTagsFromStream", untag, 5, of_stream),
        ("SplitShard", split, 5, of_stream),
        ("MergeShards", merge, 5, of_stream),
        ("UpdateShardCount", count, 10, of_stream),
        ("RegisterStreamConsumer", consumer.clone(), 5, of_stream),
        ("DescribeStreamConsumer", consumer.clone(), 20, of_stream),
        ("ListStreamConsumers", by_arn, 5, of_stream),
        // Refused for the consumer that is there; the count is of the account.
        ("DeleteStream", named.clone(), 5, of_stream),
        ("DeregisterStreamConsumer", consumer, 5, of_stream),
        ("ListShards", named, 1000, of_stream),
        ("ListChannels", json!({}), 5, of_account),
        ("DescribeAccountSettings", json!({}), 5, of_account),
        ("UpdateStreamWarmThroughput", warm, 5, of_stream),
    ] {
        let refusal = ("LimitExceededException", text);
        assert_limited(&kinesis, operation, body, calls, refusal).await;
    }
    let delete = json!({"StreamName": "s"});
    for _ in 0..5 {
        ok(&kinesis, "DeleteStream", delete.clone()).await;
        let create = json!({"StreamName": "s", "ShardCount": 1});
        tokio::time::advance(Duration::from_millis(250)).await;
        ok(&kinesis, "CreateStream", create).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_for_each_account_region_and_stream_by_itself() {
    let kinesis = limited(Limits::Aws).await;
    let other = json!({"StreamName": "other", "ShardCount": 1});
    ok(&kinesis, "CreateStream", other).await;
    let consumers =
        |name: &str| json!({"StreamARN": ARN.replace("stream/s", &format!("stream/{name}"))});
    for _ in 0..5 {
        ok(&kinesis, "ListStreamConsumers", consumers("s")).await;
        ok(&kinesis, "ListStreams", json!({})).await;
    }
    let (code, _) = refused(&kinesis, "ListStreamConsumers", consumers("s")).await;
    assert_eq!(code, "LimitExceededException");
    ok(&kinesis, "ListStreamConsumers", consumers("other")).await;
    let mut elsewhere = request("ListStreams", &json!({}));
    let signature = "AWS4-HMAC-SHA256 Credential=a/20261123/eu-west-1/kinesis/aws4_request, \
                     SignedHeaders=host, Signature=abc";
    let signature = http::HeaderValue::from_static(signature);
    elsewhere.headers_mut().insert("authorization", signature);
    assert_eq!(kinesis.call(elsewhere).await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_shard_hands_out_five_iterators_a_second() {
    let kinesis = limited(Limits::Aws).await;
    let start = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "LATEST"});
    let text =
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.";
    let refusal = ("ProvisionedThroughputExceededException", text);
    assert_limited(&kinesis, "GetShardIterator", start, 5, refusal).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_asks_for_a_shard_once_a_second() {
    let kinesis = limited(Limits::Aws).await;
    let register = json!({"StreamARN": ARN, "ConsumerName": "c"});
    let consumer = ok(&kinesis, "RegisterStreamConsumer", register).await;
    let arn = consumer["Consumer"]["ConsumerARN"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({"ConsumerARN": arn, "ShardId": "0", "StartingPosition": {"Type": "LATEST"}});
    let subscribe = || kinesis.call(request("SubscribeToShard", &body));
    let first = subscribe().await;
    assert_eq!(first.status(), StatusCode::OK);
    tokio::time::advance(Duration::from_millis(4500)).await;
    let (code, _) = refused(&kinesis, "SubscribeToShard", body.clone()).await;
    assert_eq!(code, "ResourceInUseException", "taken less than 5 s ago");
    tokio::time::advance(Duration::from_millis(600)).await;
    let text = format!("Rate exceeded for consumer {arn} and shard shardId-000000000000.");
    assert_refused(
        &kinesis,
        "SubscribeToShard",
        body.clone(),
        "LimitExceededException",
        &text,
    )
    .await;
    // Who asks again and again gets in, since what came too fast does not count.
    tokio::time::advance(Duration::from_millis(600)).await;
    assert_eq!(subscribe().await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn any_number_can_be_given_and_nothing_is_limited_when_off() {
    let mut quotas = Quotas {
        shard_write_records_per_second: 2,
        ..Quotas::default()
    };
    quotas.calls_per_second.insert("ListStreams".to_owned(), 0);
    quotas.calls_per_second.insert("TagResource".to_owned(), 3);
    let kinesis = limited(Limits::Given(Box::new(quotas))).await;
    for _ in 0..100 {
        ok(&kinesis, "ListStreams", json!({})).await;
    }
    let text = "Rate exceeded for stream s under account 000000000000.";
    let tag = json!({"ResourceARN": ARN, "Tags": {"a": "b"}});
    let refusal = ("LimitExceededException", text);
    assert_limited(&kinesis, "TagResource", tag, 3, refusal).await;
    let record = json!({"Data": "AAAA", "PartitionKey": "k"});
    let batch = json!({"StreamName": "s", "Records": vec![record; 5]});
    let put = ok(&kinesis, "PutRecords", batch.clone()).await;
    assert_eq!(put["FailedRecordCount"], 3);
    let off = limited(Limits::Off).await;
    for _ in 0..100 {
        ok(&off, "DescribeLimits", json!({})).await;
    }
    for _ in 0..300 {
        assert_eq!(
            ok(&off, "PutRecords", batch.clone()).await["FailedRecordCount"],
            0
        );
    }
}

#[test]
fn a_quota_for_an_operation_that_is_not_there_is_refused_by_name() {
    let mut quotas = Quotas::default();
    quotas.calls_per_second.insert("ListStream".to_owned(), 1);
    let settings = crate::Settings {
        limits: Limits::Given(Box::new(quotas)),
        ..crate::Settings::default()
    };
    let error = settings.validate().unwrap_err();
    assert!(
        error
            .to_string()
            .contains(r#"limits.calls_per_second names "ListStream""#),
        "{error}"
    );
}
