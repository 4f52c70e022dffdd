//! Registered consumers on the wire.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_consumer_may_be_named_twice_if_it_is_the_same() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    register(&kinesis, "d").await;
    let (code, text) = (
        "InvalidArgumentException",
        "ConsumerARN conflicts with StreamARN or ConsumerName.",
    );
    for operation in ["DescribeStreamConsumer", "DeregisterStreamConsumer"] {
        for conflict in [
            json!({"ConsumerARN": arn, "ConsumerName": "d", "StreamARN": STREAM_ARN}),
            json!({"ConsumerARN": arn, "ConsumerName": "d"}),
            json!({"ConsumerARN": arn, "StreamARN": format!("{STREAM_ARN}2")}),
        ] {
            assert_refused(&kinesis, operation, conflict, code, text).await;
        }
        let same = json!({"ConsumerARN": arn, "ConsumerName": "c", "StreamARN": STREAM_ARN});
        ok(&kinesis, operation, same).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_registered_described_and_deregistered() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    assert_eq!(arn, format!("{STREAM_ARN}/consumer/c:1795399200"));
    let expected = json!({"ConsumerDescription": {
        "ConsumerName": "c", "ConsumerARN": arn, "ConsumerStatus": "ACTIVE",
        "ConsumerCreationTimestamp": 1_795_399_200.0, "StreamARN": STREAM_ARN,
    }});
    let by_name = json!({"StreamARN": STREAM_ARN, "ConsumerName": "c"});
    for body in [by_name.clone(), json!({"ConsumerARN": arn})] {
        assert_eq!(ok(&kinesis, "DescribeStreamConsumer", body).await, expected);
    }
    let summary = ok(
        &kinesis,
        "DescribeStreamSummary",
        json!({"StreamName": "s"}),
    )
    .await;
    assert_eq!(summary["StreamDescriptionSummary"]["ConsumerCount"], 1);
    ok(
        &kinesis,
        "DeregisterStreamConsumer",
        json!({"ConsumerARN": arn}),
    )
    .await;
    let (code, _) = refused(&kinesis, "DescribeStreamConsumer", by_name).await;
    assert_eq!(code, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_consumers_name_is_taken_once_and_twenty_are_enough() {
    let kinesis = with_stream(1).await;
    for at in 0..20 {
        register(&kinesis, &format!("c{at:02}")).await;
    }
    let body = |name: &str| json!({"StreamARN": STREAM_ARN, "ConsumerName": name});
    let (code, _) = refused(&kinesis, "RegisterStreamConsumer", body("c00")).await;
    assert_eq!(code, "ResourceInUseException");
    let (code, _) = refused(&kinesis, "RegisterStreamConsumer", body("one-more")).await;
    assert_eq!(code, "LimitExceededException");
    let names = |answer: &Value| -> Vec<String> {
        let consumers = answer["Consumers"].as_array().unwrap().iter();
        consumers
            .map(|consumer| consumer["ConsumerName"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = json!({"StreamARN": STREAM_ARN, "MaxResults": 15});
    let first = ok(&kinesis, "ListStreamConsumers", page).await;
    assert_eq!(names(&first).len(), 15);
    let next = json!({"StreamARN": STREAM_ARN, "NextToken": first["NextToken"]});
    let second = ok(&kinesis, "ListStreamConsumers", next).await;
    assert_eq!(names(&second), ["c15", "c16", "c17", "c18", "c19"]);
    assert_eq!(second.get("NextToken"), None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_consumers_is_deleted_only_on_demand() {
    let kinesis = with_stream(1).await;
    register(&kinesis, "c").await;
    assert_refused(
        &kinesis,
        "DeleteStream",
        json!({"StreamName": "s"}),
        "ResourceInUseException",
        "DeleteStream can't delete arn:aws:kinesis:us-east-1:000000000000:stream/s because there \
         are consumers associated with this data stream. To delete s anyway, set the \
         EnforceConsumerDeletion parameter to true to force the deletion of all the consumers that \
         are associated with it.",
    )
    .await;
    let enforced = json!({"StreamName": "s", "EnforceConsumerDeletion": true});
    ok(&kinesis, "DeleteStream", enforced).await;
}

#[tokio::test(start_paused = true)]
async fn an_arn_of_an_earlier_registration_is_unknown() {
    let kinesis = with_stream(1).await;
    let arn = register(&kinesis, "c").await;
    let earlier = arn.replace(":1795399200", ":1795399100");
    let (code, _) = refused(
        &kinesis,
        "DescribeStreamConsumer",
        json!({"ConsumerARN": earlier}),
    )
    .await;
    assert_eq!(code, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_deregistered_consumer_is_deleting_for_its_time_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let minute = std::time::Duration::from_secs(60);
    let clock = Clock::starting_at(NOW_MS);
    let open = || {
        let options = KinesisOptions {
            clock: clock.clone(),
            data_dir: Some(dir.path().to_owned()),
            delays: Delays {
                delete: minute,
                ..Delays::default()
            },
            ..options()
        };
        Kinesis::open(options).unwrap()
    };
    let kinesis = open();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    let arn = register(&kinesis, "c").await;
    let deregister = json!({"ConsumerARN": arn});
    ok(&kinesis, "DeregisterStreamConsumer", deregister.clone()).await;
    drop(kinesis);
    let kinesis = open();
    ok(&kinesis, "DeregisterStreamConsumer", deregister.clone()).await;
    let told = ok(&kinesis, "DescribeStreamConsumer", deregister.clone()).await;
    assert_eq!(told["ConsumerDescription"]["ConsumerStatus"], "DELETING");
    let list = json!({"StreamARN": STREAM_ARN});
    let told = ok(&kinesis, "ListStreamConsumers", list.clone()).await;
    assert_eq!(told["Consumers"][0]["ConsumerStatus"], "DELETING");
    let subscribe = json!({"ConsumerARN": arn, "ShardId": "0",
        "StartingPosition": {"Type": "LATEST"}});
    let again = json!({"StreamARN": STREAM_ARN, "ConsumerName": "c"});
    for (operation, body) in [
        ("SubscribeToShard", subscribe),
        ("RegisterStreamConsumer", again),
    ] {
        let (code, _) = refused(&kinesis, operation, body).await;
        assert_eq!(code, "ResourceInUseException", "{operation}");
    }
    tokio::time::advance(minute).await;
    for operation in ["DescribeStreamConsumer", "DeregisterStreamConsumer"] {
        let (code, _) = refused(&kinesis, operation, deregister.clone()).await;
        assert_eq!(code, "ResourceNotFoundException", "{operation}");
    }
    let told = ok(&kinesis, "ListStreamConsumers", list).await;
    assert_eq!(told["Consumers"], json!([]));
    let summary = json!({"StreamName": "s"});
    let summary = ok(&kinesis, "DescribeStreamSummary", summary).await;
    assert_eq!(summary["StreamDescriptionSummary"]["ConsumerCount"], 0);
    assert_ne!(register(&kinesis, "c").await, arn);
    drop(kinesis);
    let told = json!({"StreamARN": STREAM_ARN, "ConsumerName": "c"});
    let told = ok(&open(), "DescribeStreamConsumer", told).await;
    assert_eq!(told["ConsumerDescription"]["ConsumerStatus"], "ACTIVE");
}
