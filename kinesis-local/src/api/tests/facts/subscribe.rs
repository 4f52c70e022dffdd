//! SubscribeToShard on the wire, under virtual time.

use std::time::Duration;

use aws_smithy_eventstream::frame::read_message_from;
use http_body_util::BodyExt as _;
use tokio::time::{advance, timeout};

use super::super::super::encoding::ANSWERS;
use super::*;
use crate::wire::Format;

/// One frame: its event or exception type, and its payload.
async fn frame(body: &mut ResponseBody) -> Option<(String, Value)> {
    let frame = body.frame().await?.unwrap().into_data().unwrap();
    let message = read_message_from(frame).unwrap();
    let header = |names: &[&str]| {
        let mut headers = message.headers().iter();
        let header = headers.find(|header| names.contains(&header.name().as_str()));
        let value = header.unwrap().value().as_string().unwrap();
        value.as_str().to_owned()
    };
    let kind = header(&[":event-type", ":exception-type"]);
    let message_type = header(&[":message-type"]);
    let is_event = ["initial-response", "SubscribeToShardEvent"].contains(&&*kind);
    assert_eq!(message_type, if is_event { "event" } else { "exception" });
    let members = &ANSWERS["SubscribeToShard"]["answer"]["members"]["EventStream"]["members"];
    assert!(
        kind == "initial-response" || members.get(&kind).is_some(),
        "{kind}"
    );
    let content_type = match FORMAT {
        Format::Json if kind != "initial-response" => "application/json",
        Format::Json | Format::Cbor => FORMAT.content_type(),
    };
    assert_eq!(header(&[":content-type"]), content_type);
    let payload = event_payload(FORMAT, &kind, message.payload());
    Some((kind, payload))
}

async fn event(body: &mut ResponseBody) -> Value {
    let (kind, payload) = frame(body).await.expect("an event");
    assert_eq!(kind, "SubscribeToShardEvent", "{payload}");
    payload
}

fn position(arn: &str, shard: &str, start: Value) -> Value {
    json!({"ConsumerARN": arn, "ShardId": shard, "StartingPosition": start})
}

/// A subscription whose first frame was read.
async fn subscribe(kinesis: &Kinesis, arn: &str, shard: &str, start: Value) -> ResponseBody {
    let request = request("SubscribeToShard", &position(arn, shard, start));
    let response = kinesis.call(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.amazon.eventstream"
    );
    let mut body = response.into_body();
    assert_eq!(
        frame(&mut body).await.unwrap(),
        ("initial-response".to_owned(), json!({}))
    );
    body
}

fn trim_horizon() -> Value {
    json!({"Type": "TRIM_HORIZON"})
}

#[tokio::test(start_paused = true)]
async fn a_record_is_pushed_as_soon_as_it_is_written() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    let mut body = subscribe(&kinesis, &arn, "0", json!({"Type": "LATEST"})).await;
    let number = put(&kinesis, "k", "a").await;
    // No time passes: a timer would let it.
    let event = timeout(Duration::from_millis(1), event(&mut body))
        .await
        .unwrap();
    assert_eq!(texts(&event), ["a"]);
    assert_eq!(event["ContinuationSequenceNumber"], number);
    assert_eq!(event["MillisBehindLatest"], 0);
    assert_eq!(event.get("ChildShards"), None);
}

#[tokio::test(start_paused = true)]
async fn an_idle_subscription_gets_an_event_every_five_seconds_and_ends_after_five_minutes() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    let began = kinesis.sites.home.clock.now();
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    let mut numbers = Vec::new();
    while let Some((kind, event)) = frame(&mut body).await {
        assert_eq!(kind, "SubscribeToShardEvent");
        assert_eq!(event["Records"], json!([]));
        numbers.push(
            event["ContinuationSequenceNumber"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let lasted = kinesis
        .sites
        .home
        .clock
        .now()
        .duration_since(began)
        .as_secs();
    assert_eq!(lasted, 300);
    assert!((59..=60).contains(&numbers.len()), "{}", numbers.len());
    assert!(numbers.is_sorted_by(|a, b| a < b), "the numbers move");
}

#[tokio::test(start_paused = true)]
async fn a_continuation_number_goes_on_without_a_gap_or_a_repeat() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    put(&kinesis, "k", "a").await;
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    assert_eq!(texts(&event(&mut body).await), ["a"]);
    let idle = event(&mut body).await; // five seconds later
    drop(body);
    put(&kinesis, "k", "b").await;
    let number = &idle["ContinuationSequenceNumber"];
    for kind in ["AFTER_SEQUENCE_NUMBER", "AT_SEQUENCE_NUMBER"] {
        advance(Duration::from_secs(6)).await;
        let start = json!({"Type": kind, "SequenceNumber": number});
        let mut body = subscribe(&kinesis, &arn, "0", start).await;
        assert_eq!(texts(&event(&mut body).await), ["b"], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_split_ends_the_subscription_with_the_children() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    put(&kinesis, "k", "a").await;
    assert_eq!(texts(&event(&mut body).await), ["a"]);
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    ok(&kinesis, "SplitShard", split).await;
    let end = timeout(Duration::from_millis(1), event(&mut body))
        .await
        .unwrap();
    assert_eq!(end.get("ContinuationSequenceNumber"), None);
    let children = end["ChildShards"].as_array().unwrap();
    let ids: Vec<&Value> = children.iter().map(|child| &child["ShardId"]).collect();
    assert_eq!(ids, ["shardId-000000000001", "shardId-000000000002"]);
    for child in children {
        assert_eq!(child["ParentShards"], json!(["shardId-000000000000"]));
    }
    assert_eq!(frame(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_merged_shard_names_both_parents_to_both_readers() {
    let kinesis = with_stream(2).await;
    let arn = register(&kinesis, "c").await;
    let mut bodies = Vec::new();
    for shard in ["0", "1"] {
        bodies.push(subscribe(&kinesis, &arn, shard, trim_horizon()).await);
    }
    let merge = json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"});
    ok(&kinesis, "MergeShards", merge).await;
    for mut body in bodies {
        let end = event(&mut body).await;
        assert_eq!(
            end["ChildShards"][0]["ParentShards"],
            json!(["shardId-000000000000", "shardId-000000000001"])
        );
        assert_eq!(frame(&mut body).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_is_read_to_its_end_at_once() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    put(&kinesis, "k", "a").await;
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    ok(&kinesis, "SplitShard", split).await;
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    let end = timeout(Duration::from_millis(1), event(&mut body))
        .await
        .unwrap();
    assert_eq!(texts(&end), ["a"]);
    assert_eq!(end["ChildShards"].as_array().unwrap().len(), 2);
    assert_eq!(frame(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_second_subscription_is_refused_for_five_seconds_and_then_takes_over() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    let mut first = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    let text = format!("Another active subscription exists for this consumer: {arn}");
    let body = position(&arn, "0", trim_horizon());
    assert_refused(
        &kinesis,
        "SubscribeToShard",
        body,
        "ResourceInUseException",
        &text,
    )
    .await;
    advance(Duration::from_secs(5)).await;
    let mut second = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    let end = loop {
        let (kind, payload) = frame(&mut first).await.unwrap();
        if kind != "SubscribeToShardEvent" {
            break (kind, payload);
        }
    };
    assert_eq!(
        end,
        (
            "ResourceInUseException".to_owned(),
            json!({"message": text})
        )
    );
    assert_eq!(frame(&mut first).await, None);
    put(&kinesis, "k", "a").await;
    assert_eq!(texts(&event(&mut second).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn consumers_and_shards_do_not_take_each_others_place() {
    let kinesis = with_stream(2).await;
    let (one, other) = (register(&kinesis, "c").await, register(&kinesis, "d").await);
    let mut bodies = Vec::new();
    for (arn, shard) in [(&one, "0"), (&one, "1"), (&other, "0"), (&other, "1")] {
        bodies.push(subscribe(&kinesis, arn, shard, trim_horizon()).await);
    }
    let body =
        json!({"StreamName": "s", "PartitionKey": "k", "Data": "YQ==", "ExplicitHashKey": "0"});
    ok(&kinesis, "PutRecord", body).await;
    assert_eq!(texts(&event(&mut bodies[0]).await), ["a"]);
    assert_eq!(texts(&event(&mut bodies[2]).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_up_nobody_and_loses_nothing() {
    let kinesis = with_stream(1).await;
    let (slow, fast) = (
        register(&kinesis, "slow").await,
        register(&kinesis, "fast").await,
    );
    let mut slow = subscribe(&kinesis, &slow, "0", trim_horizon()).await;
    let mut fast = subscribe(&kinesis, &fast, "0", trim_horizon()).await;
    let expected: Vec<String> = (0..100).map(|at| format!("{at:03}")).collect();
    for text in &expected {
        put(&kinesis, "k", text).await;
        assert_eq!(texts(&event(&mut fast).await), [text.as_str()]);
    }
    let mut read = Vec::new();
    while read.len() < expected.len() {
        read.extend(texts(&event(&mut slow).await));
    }
    assert_eq!(read, expected);
}

#[tokio::test(start_paused = true)]
async fn deregistering_and_deleting_end_the_subscriptions() {
    let kinesis = with_stream(1).await;
    let (one, other) = (register(&kinesis, "c").await, register(&kinesis, "d").await);
    let mut first = subscribe(&kinesis, &one, "0", trim_horizon()).await;
    let mut second = subscribe(&kinesis, &other, "0", trim_horizon()).await;
    ok(
        &kinesis,
        "DeregisterStreamConsumer",
        json!({"ConsumerARN": one}),
    )
    .await;
    assert_eq!(
        frame(&mut first).await.unwrap().0,
        "ResourceNotFoundException"
    );
    assert_eq!(frame(&mut first).await, None);
    let delete = json!({"StreamName": "s", "EnforceConsumerDeletion": true});
    ok(&kinesis, "DeleteStream", delete).await;
    assert_eq!(
        frame(&mut second).await.unwrap().0,
        "ResourceNotFoundException"
    );
    assert_eq!(frame(&mut second).await, None);
}

#[tokio::test(start_paused = true)]
async fn who_subscribes_while_the_consumer_is_deregistered_keeps_no_subscription() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = Kinesis::open(KinesisOptions {
        data_dir: Some(dir.path().to_owned()),
        ..options()
    })
    .unwrap();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    let arn = register(&kinesis, "c").await;
    let tags = json!({"StreamName": "s", "Tags": {"a": "b"}});
    let start = position(&arn, "0", trim_horizon());
    let deregister = json!({"ConsumerARN": arn});
    let subscribe = async || kinesis.call(request("SubscribeToShard", &start)).await;
    // Each is begun before any is polled again: the subscription waits until the tags are stored, if
    // they are not yet.
    let (tagged, subscribed, gone) = tokio::join!(
        answer(&kinesis, "AddTagsToStream", &tags),
        subscribe(),
        answer(&kinesis, "DeregisterStreamConsumer", &deregister),
    );
    assert_eq!((tagged.0, gone.0), (StatusCode::OK, StatusCode::OK));
    let code = "ResourceNotFoundException";
    if subscribed.status() == StatusCode::OK {
        let mut body = subscribed.into_body();
        let mut first = frame(&mut body).await.unwrap().0;
        if first == "initial-response" {
            first = frame(&mut body).await.unwrap().0;
        }
        assert_eq!(first, code);
    } else {
        let told = subscribed.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&told).contains(code), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_does_not_work_ends_the_subscription_by_its_exception() {
    for (state, code, text) in KEY_STATES {
        let kinesis = with_stream(1).await;
        let arn = register(&kinesis, "c").await;
        put(&kinesis, "k", "plain").await;
        let encrypt = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/a"});
        ok(&kinesis, "StartStreamEncryption", encrypt).await;
        let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
        assert_eq!(texts(&event(&mut body).await), ["plain"]);
        put(&kinesis, "k", "secret").await;
        kinesis.kms().set("alias/a", state);
        let end = (code.to_owned(), json!({ "message": text }));
        assert_eq!(frame(&mut body).await, Some(end));
        assert_eq!(frame(&mut body).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_the_service_ends_the_subscriptions_in_order() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    kinesis.close().await;
    assert_eq!(frame(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn only_a_registered_consumer_can_subscribe() {
    let kinesis = with_stream(1).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1";
    let (code, _) = refused(
        &kinesis,
        "SubscribeToShard",
        position(arn, "0", trim_horizon()),
    )
    .await;
    assert_eq!(code, "ResourceNotFoundException");
    assert_refused(
        &kinesis,
        "SubscribeToShard",
        json!({"ConsumerARN": arn, "StartingPosition": {}}),
        "ValidationException",
        "2 validation errors detected: Value null at 'shardId' failed to satisfy constraint: \
         Member must not be null; Value null at 'startingPosition.type' failed to satisfy \
         constraint: Member must not be null",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn with_the_services_limits_a_consumer_gets_two_mebibytes_a_second() {
    let kinesis = stream_of(
        KinesisOptions {
            limits: Limits::Aws,
            ..options()
        },
        1,
    )
    .await;
    for _ in 0..8 {
        put(&kinesis, "k", &"x".repeat(1000 * 1000)).await;
        advance(Duration::from_secs(1)).await;
    }
    let arn = register(&kinesis, "c").await;
    let began = kinesis.sites.home.clock.now();
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    for _ in 0..8 {
        assert_eq!(texts(&event(&mut body).await).len(), 1);
    }
    let took = kinesis.sites.home.clock.now().duration_since(began);
    assert!((2..5).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_ends_the_subscription_with_an_event_of_its_own() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    let key = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/a"});
    ok(&kinesis, "StartStreamEncryption", key).await;
    put(&kinesis, "k", "secret").await;
    for (state, code, _) in KEY_STATES {
        kinesis.kms().set("alias/a", state);
        advance(Duration::from_secs(5)).await; // behind the one before
        let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
        let (kind, payload) = frame(&mut body).await.unwrap();
        assert_eq!(kind, code);
        assert!(!payload["message"].as_str().unwrap().is_empty(), "{code}");
        assert_eq!(frame(&mut body).await, None, "{code}");
    }
    kinesis.kms().set("alias/a", KmsKeyState::Enabled);
    advance(Duration::from_secs(5)).await;
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    assert_eq!(texts(&event(&mut body).await), ["secret"]);
    // One that runs ends too, once it comes to a record of a key that is lost meanwhile.
    let other = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/b"});
    ok(&kinesis, "StartStreamEncryption", other).await;
    {
        let cell = kinesis.stream_cell("s");
        let stream = cell.read();
        let shard = stream.shard(0).unwrap();
        let mut log = shard.log();
        let key = Some("alias/b".into());
        log.append("k".into(), Bytes::from_static(b"lost"), key, NOW_MS);
        let end = log.taken_end();
        drop(log);
        kinesis.kms().set("alias/b", KmsKeyState::Disabled);
        shard.publish(end);
    }
    let (kind, _) = frame(&mut body).await.unwrap();
    assert_eq!(kind, "KMSDisabledException");
    assert_eq!(frame(&mut body).await, None);
}

#[tokio::test(start_paused = true)]
async fn after_the_clock_was_set_back_no_record_comes_twice() {
    let dir = tempfile::tempdir().unwrap();
    let open = |at_ms| {
        let options = KinesisOptions {
            clock: Clock::starting_at(at_ms),
            data_dir: Some(dir.path().to_owned()),
            ..options()
        };
        Kinesis::open(options).unwrap()
    };
    let kinesis = open(NOW_MS);
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    let arn = register(&kinesis, "c").await;
    put(&kinesis, "k", "a").await;
    drop(kinesis);
    let kinesis = open(NOW_MS - 60_000);
    let mut body = subscribe(&kinesis, &arn, "0", json!({"Type": "LATEST"})).await;
    let idle = event(&mut body).await;
    assert_eq!(idle["Records"], json!([]));
    drop(body);
    advance(Duration::from_secs(5)).await;
    let number = &idle["ContinuationSequenceNumber"];
    let after = json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number});
    let mut body = subscribe(&kinesis, &arn, "0", after).await;
    put(&kinesis, "k", "b").await;
    assert_eq!(texts(&event(&mut body).await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_read_on_while_it_is_being_deleted() {
    let minute = Duration::from_secs(60);
    let kinesis = Kinesis::open(KinesisOptions {
        delays: Delays {
            delete: minute,
            ..Delays::default()
        },
        ..options()
    })
    .unwrap();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    let arn = register(&kinesis, "c").await;
    put(&kinesis, "k", "a").await;
    let mut body = subscribe(&kinesis, &arn, "0", trim_horizon()).await;
    let began = kinesis.clock().now();
    let delete = json!({"StreamName": "s", "EnforceConsumerDeletion": true});
    ok(&kinesis, "DeleteStream", delete).await;
    assert_eq!(texts(&event(&mut body).await), ["a"]);
    let fault = loop {
        let (kind, payload) = frame(&mut body).await.expect("an end that is told");
        if kind != "SubscribeToShardEvent" {
            break (kind, payload["message"].clone());
        }
    };
    let text = "Stream s under account 000000000000 not found.";
    assert_eq!(fault, ("ResourceNotFoundException".to_owned(), json!(text)));
    assert_eq!(kinesis.clock().now() - began, minute);
}

/// A durable stream and a subscription that is at its end; its log fails from now on.
async fn with_a_broken_log(dir: &std::path::Path) -> (Kinesis, ResponseBody) {
    let kinesis = Kinesis::open(KinesisOptions {
        data_dir: Some(dir.to_owned()),
        ..options()
    })
    .unwrap();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    let arn = register(&kinesis, "c").await;
    let mut body = subscribe(&kinesis, &arn, "0", json!({"Type": "LATEST"})).await;
    put(&kinesis, "k", "stored").await;
    let stored = event(&mut body).await;
    assert_eq!(stored["Records"].as_array().unwrap().len(), 1);
    kinesis.sites.home.log.lose_disk(dir);
    (kinesis, body)
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_not_shown_a_record_that_could_not_be_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (kinesis, mut body) = with_a_broken_log(dir.path()).await;
    let lost = json!({"StreamName": "s", "PartitionKey": "k", "Data": "bG9zdA=="});
    let (status, told) = answer(&kinesis, "PutRecord", &lost).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{told}");
    // What is stored can still be read: the subscription goes on, with nothing new.
    for _ in 0..3 {
        let heartbeat = event(&mut body).await;
        assert_eq!(heartbeat["Records"], json!([]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_told_when_the_end_of_its_shard_could_not_be_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (kinesis, mut body) = with_a_broken_log(dir.path()).await;
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    let (status, told) = answer(&kinesis, "SplitShard", &split).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{told}");
    // Neither the children, which may be gone after a restart, nor an orderly end.
    let (kind, payload) = frame(&mut body).await.unwrap();
    assert_eq!(kind, "InternalFailureException");
    assert_eq!(payload["message"], "The store failed.");
    assert_eq!(frame(&mut body).await, None);
}
