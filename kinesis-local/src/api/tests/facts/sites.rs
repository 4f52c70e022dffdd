//! Accounts and regions are kept apart.

use std::path::Path;

use http::header::HeaderValue;

use super::*;

/// A request signed by `access_key` for `region`.
fn from(access_key: &str, region: &str, operation: &str, body: &Value) -> Request<Bytes> {
    let mut request = request(operation, body);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={access_key}/20261123/{region}/kinesis/aws4_request, \
         SignedHeaders=host, Signature=abc"
    );
    let authorization = HeaderValue::from_str(&authorization).unwrap();
    request.headers_mut().insert("authorization", authorization);
    request
}

async fn call(kinesis: &Kinesis, who: (&str, &str), operation: &str, body: Value) -> Value {
    let request = from(who.0, who.1, operation, &body);
    let (status, mut value) = decoded(FORMAT, kinesis, operation, request).await;
    if status != StatusCode::OK {
        value["status"] = status.as_u16().into();
    }
    value
}

const PLACES: [(&str, &str); 4] = [
    ("AKID", "us-east-1"),
    ("AKID", "eu-west-1"),
    ("111122223333", "us-east-1"),
    ("111122223333", "eu-west-1"),
];

async fn arn(kinesis: &Kinesis, who: (&str, &str)) -> String {
    let described = call(kinesis, who, "DescribeStream", json!({"StreamName": "s"})).await;
    let arn = &described["StreamDescription"]["StreamARN"];
    arn.as_str().unwrap_or_default().to_owned()
}

fn open(dir: &Path, region: &str) -> Result<Kinesis, Error> {
    Kinesis::open(KinesisOptions {
        data_dir: Some(dir.to_owned()),
        region: region.to_owned(),
        ..options()
    })
}

#[tokio::test(start_paused = true)]
async fn the_same_name_is_another_stream_in_each_account_and_region() {
    let kinesis = kinesis();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    for (at, who) in PLACES.into_iter().enumerate() {
        let listed = call(&kinesis, who, "ListStreams", json!({})).await;
        assert_eq!(listed["StreamNames"], json!([]), "{who:?}");
        call(&kinesis, who, "CreateStream", create.clone()).await;
        let again = call(&kinesis, who, "CreateStream", create.clone()).await;
        assert_eq!(again["__type"], "ResourceInUseException");
        let data = base64_simd::STANDARD.encode_to_string(format!("record {at}"));
        let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": data});
        call(&kinesis, who, "PutRecord", put).await;
    }
    for (at, who) in PLACES.into_iter().enumerate() {
        let start = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
        let iterator = call(&kinesis, who, "GetShardIterator", start).await;
        let got = json!({"ShardIterator": iterator["ShardIterator"]});
        let got = call(&kinesis, who, "GetRecords", got).await;
        assert_eq!(texts(&got), [format!("record {at}")], "{who:?}");
        let account = if who.0 == "AKID" {
            "000000000000"
        } else {
            who.0
        };
        let expected = format!("arn:aws:kinesis:{}:{account}:stream/s", who.1);
        assert_eq!(arn(&kinesis, who).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_is_of_no_use_in_another_account_or_region() {
    let kinesis = kinesis();
    for who in PLACES {
        let create = json!({"StreamName": "s", "ShardCount": 1});
        call(&kinesis, who, "CreateStream", create).await;
    }
    let start = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "LATEST"});
    let iterator = call(&kinesis, PLACES[0], "GetShardIterator", start).await;
    let get = json!({"ShardIterator": iterator["ShardIterator"]});
    for (who, code) in [
        (PLACES[1], "ResourceNotFoundException"),
        (PLACES[2], "AccessDeniedException"),
    ] {
        let got = call(&kinesis, who, "GetRecords", get.clone()).await;
        assert_eq!(got["__type"], code, "{got}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_signature_leaves_open_is_as_in_the_settings() {
    let kinesis = with_stream(1).await;
    for odd in [
        ("12345678901", "us-east-1"),
        ("1234567890123", "us-east-1"),
        ("local", "US EAST"),
        ("local", "&?"),
        ("local", ""),
    ] {
        let expected = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
        assert_eq!(arn(&kinesis, odd).await, expected, "{odd:?}");
    }
    // In a presigned query too.
    let mut presigned = request("ListStreams", &json!({}));
    presigned.headers_mut().remove("authorization");
    *presigned.uri_mut() = "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=111122223333%2F\
                            20261123%2Fus-east-1%2Fkinesis%2Faws4_request&X-Amz-Date=d&\
                            X-Amz-SignedHeaders=host&X-Amz-Signature=a"
        .parse()
        .unwrap();
    let (status, told) = decoded(FORMAT, &kinesis, "ListStreams", presigned).await;
    assert_eq!(status, StatusCode::OK, "{told}");
    assert_eq!(told["StreamNames"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_account_needs_its_resource_policy() {
    let kinesis = with_stream(1).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let other = ("111122223333", "us-east-1");
    let put = json!({"StreamARN": arn, "PartitionKey": "k", "Data": "AAAA"});
    let refused = call(&kinesis, other, "PutRecord", put).await;
    assert_eq!(refused["__type"], "AccessDeniedException");
    assert_eq!(
        refused["message"],
        "User: arn:aws:iam::111122223333:root is not authorized to perform: kinesis:PutRecord on \
         resource: arn:aws:kinesis:us-east-1:000000000000:stream/s because no resource-based \
         policy allows the kinesis:PutRecord action"
    );
    // Whether the stream is there is not told.
    let there = json!({"StreamARN": arn});
    let absent = json!({"StreamARN": format!("{arn}-absent")});
    for summary in [there.clone(), absent] {
        let refused = call(&kinesis, other, "DescribeStreamSummary", summary).await;
        assert_eq!(refused["__type"], "AccessDeniedException");
    }
    // An endpoint knows the streams of its own region.
    let abroad = call(
        &kinesis,
        ("AKID", "eu-west-1"),
        "DescribeStreamSummary",
        there,
    )
    .await;
    assert_eq!(abroad["__type"], "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_resource_policy_lets_another_account_do_what_it_names_until_it_is_taken_away() {
    let kinesis = with_stream(1).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let other = ("111122223333", "us-east-1");
    let policy = |resource: &str, actions: &[&str]| {
        let policy = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
            "Principal": {"AWS": "111122223333"}, "Action": actions, "Resource": resource}});
        json!({"ResourceARN": resource, "Policy": policy.to_string()})
    };
    let reader = [
        "kinesis:PutRecord",
        "kinesis:GetShardIterator",
        "kinesis:GetRecords",
    ];
    ok(&kinesis, "PutResourcePolicy", policy(arn, &reader)).await;
    let put = json!({"StreamARN": arn, "PartitionKey": "k", "Data": "AAAA"});
    let placed = call(&kinesis, other, "PutRecord", put.clone()).await;
    assert_eq!(placed["ShardId"], "shardId-000000000000");
    let start = json!({"StreamARN": arn, "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
    let start = call(&kinesis, other, "GetShardIterator", start).await;
    let read = json!({"ShardIterator": start["ShardIterator"]});
    let got = call(&kinesis, other, "GetRecords", read.clone()).await;
    assert_eq!(got["Records"].as_array().unwrap().len(), 1);
    let list = call(&kinesis, other, "ListShards", json!({"StreamARN": arn})).await;
    assert_eq!(list["__type"], "AccessDeniedException");
    // A shard that is not there is told by the account that it would be in.
    for (shard, told) in [
        (
            "9",
            "Shard shardId-000000000009 in stream s under account 000000000000 does not exist",
        ),
        (
            "nine",
            "Could not find shard nine in stream s under account 000000000000.",
        ),
    ] {
        let start = json!({"StreamARN": arn, "ShardId": shard, "ShardIteratorType": "LATEST"});
        let refused = call(&kinesis, other, "GetShardIterator", start).await;
        assert_eq!(refused["message"], told);
    }
    let stranger = ("444455556666", "us-east-1");
    let refused = call(&kinesis, stranger, "PutRecord", put.clone()).await;
    assert_eq!(refused["__type"], "AccessDeniedException");
    // A consumer has a policy of its own: the stream's says nothing about it.
    let register = json!({"StreamARN": arn, "ConsumerName": "c"});
    let consumer = ok(&kinesis, "RegisterStreamConsumer", register).await;
    let consumer = consumer["Consumer"]["ConsumerARN"].as_str().unwrap();
    let describe = json!({"ConsumerARN": consumer});
    let refused = call(&kinesis, other, "DescribeStreamConsumer", describe.clone()).await;
    assert_eq!(refused["__type"], "AccessDeniedException");
    let allow = policy(consumer, &["kinesis:DescribeStreamConsumer"]);
    ok(&kinesis, "PutResourcePolicy", allow).await;
    let earlier = json!({"ConsumerARN": format!("{consumer}0")});
    let refused = call(&kinesis, other, "DescribeStreamConsumer", earlier).await;
    let told = format!("Consumer {consumer}0, account 000000000000 not found.");
    assert_eq!(refused["message"], *told);
    let described = call(&kinesis, other, "DescribeStreamConsumer", describe).await;
    assert_eq!(described["ConsumerDescription"]["ConsumerName"], "c");
    ok(
        &kinesis,
        "DeleteResourcePolicy",
        json!({"ResourceARN": arn}),
    )
    .await;
    for (operation, body) in [("PutRecord", put), ("GetRecords", read)] {
        let refused = call(&kinesis, other, operation, body).await;
        assert_eq!(refused["__type"], "AccessDeniedException", "{operation}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_patterns_lets_nobody_of_another_account_change_or_end_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path(), "us-east-1").unwrap();
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let other = ("111122223333", "us-east-1");
    let create = json!({"StreamName": "s", "ShardCount": 2});
    ok(&kinesis, "CreateStream", create.clone()).await;
    call(&kinesis, other, "CreateStream", create.clone()).await;
    let policy = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Principal": "*", "Action": "kinesis:*", "Resource": arn}});
    let policy = json!({"ResourceARN": arn, "Policy": policy.to_string()});
    ok(&kinesis, "PutResourcePolicy", policy).await;
    let listed = call(&kinesis, other, "ListShards", json!({"StreamARN": arn})).await;
    assert_eq!(listed["Shards"].as_array().map(Vec::len), Some(2));
    let queue = json!({"QueueName": "q", "StreamConfigurationList": [
        {"StreamARN": arn, "StartingPosition": {"Type": "TRIM_HORIZON"}}]});
    for (operation, body) in [
        ("DeleteStream", json!({"StreamARN": arn})),
        (
            "SplitShard",
            json!({"StreamARN": arn, "ShardToSplit": "0", "NewStartingHashKey": "5"}),
        ),
        (
            "UpdateShardCount",
            json!({"StreamARN": arn, "TargetShardCount": 3, "ScalingType": "UNIFORM_SCALING"}),
        ),
        (
            "RegisterStreamConsumer",
            json!({"StreamARN": arn, "ConsumerName": "c"}),
        ),
        ("CreateQueue", queue),
        (
            "TagResource",
            json!({"ResourceARN": arn, "Tags": {"a": "b"}}),
        ),
    ] {
        let refused = call(&kinesis, other, operation, body).await;
        assert_eq!(refused["__type"], "AccessDeniedException", "{operation}");
    }
    // Both are there, also after a restart.
    drop(kinesis);
    let kinesis = open(dir.path(), "us-east-1").unwrap();
    for (who, account) in [(("AKID", "us-east-1"), "000000000000"), (other, other.0)] {
        let expected = format!("arn:aws:kinesis:us-east-1:{account}:stream/s");
        assert_eq!(self::arn(&kinesis, who).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn reading_in_an_unknown_place_leaves_nothing_behind_and_places_are_bounded() {
    let kinesis = kinesis();
    for n in 0..1000 {
        let account = format!("{n:012}");
        call(&kinesis, (&account, "r"), "ListStreams", json!({})).await;
    }
    assert_eq!(kinesis.sites.all().len(), 1);
    let create = json!({"StreamName": "s", "ShardCount": 1});
    let invalid = json!({"StreamName": "s", "ShardCount": 0});
    // A creation that was refused keeps its site until the place is needed.
    for n in 0..1000 {
        let account = format!("{n:012}");
        call(&kinesis, (&account, "r"), "CreateStream", invalid.clone()).await;
    }
    let mut created = 0;
    let refused = loop {
        let account = format!("{created:012}");
        let answer = call(&kinesis, (&account, "r"), "CreateStream", create.clone()).await;
        if answer["status"] == 400 || created > 1000 {
            break answer;
        }
        created += 1;
    };
    assert_eq!(created, 256, "{refused}");
    assert_eq!(refused["__type"], "LimitExceededException");
    // The settings' own place is none of them.
    ok(&kinesis, "CreateStream", create).await;
}

#[tokio::test(start_paused = true)]
async fn every_place_comes_back_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path(), "us-east-1").unwrap();
    for who in PLACES {
        let create = json!({"StreamName": "s", "ShardCount": 1});
        call(&kinesis, who, "CreateStream", create).await;
    }
    let mut before = Vec::new();
    for who in PLACES {
        before.push(arn(&kinesis, who).await);
    }
    drop(kinesis);
    let kinesis = open(dir.path(), "us-east-1").unwrap();
    for (who, arn_before) in PLACES.into_iter().zip(before) {
        assert_eq!(arn(&kinesis, who).await, arn_before);
    }
}

#[tokio::test(start_paused = true)]
async fn the_settings_cannot_move_their_streams_over_others() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path(), "us-east-1").unwrap();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    for who in [("AKID", "us-east-1"), ("AKID", "eu-west-1")] {
        call(&kinesis, who, "CreateStream", create.clone()).await;
    }
    drop(kinesis);
    let error = open(dir.path(), "eu-west-1").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Settings);
    assert!(error.to_string().contains("eu-west-1"), "{error}");
    // Where no name is taken twice, they follow the settings.
    let moved = open(dir.path(), "ap-south-1").unwrap();
    let arn = arn(&moved, ("AKID", "ap-south-1")).await;
    assert_eq!(arn, "arn:aws:kinesis:ap-south-1:000000000000:stream/s");
}
