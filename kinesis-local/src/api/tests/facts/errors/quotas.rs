//! Too often, too late, too much, only a check, or with a key that does not work.

use super::*;

/// One call a second is allowed; the second is too many.
pub(super) async fn too_often(reached: &mut Reached) {
    const THROTTLING: &str = "ThrottlingException";
    let mut quotas = Quotas::default();
    let pairs: Vec<(&str, &str)> = listed(LIMIT)
        .map(|operation| (operation, LIMIT))
        .chain(listed(THROTTLING).map(|operation| (operation, THROTTLING)))
        .collect();
    for (operation, _) in &pairs {
        quotas.calls_per_second.insert((*operation).to_owned(), 1);
    }
    let limits = Limits::Given(Box::new(quotas));
    // What is deleted is there for all the calls that follow.
    let delays = Delays {
        delete: Duration::from_secs(3600),
        ..Delays::default()
    };
    let world = World::with(KinesisOptions {
        limits,
        delays,
        ..options()
    })
    .await;
    for (operation, code) in pairs {
        let body = world.body(operation);
        let on = match operation {
            "CreateStream"
            | "ListStreams"
            | "DescribeLimits"
            | "DescribeAccountSettings"
            | "UpdateAccountSettings"
            | "ListQueues"
            | "ListChannels" => "account 000000000000.".to_owned(),
            _ if body.get("StreamARN").is_some()
                || body.get("ResourceARN").is_some()
                || body.get("ConsumerARN").is_some() =>
            {
                "stream s under account 000000000000.".to_owned()
            }
            _ => "stream d under account 000000000000.".to_owned(),
        };
        let request = signed_by(HOME, operation, &body);
        drop(world.kinesis.call(request).await);
        let text = format!("Rate exceeded for {on}");
        reached
            .refused(HOME, &world.kinesis, (operation, body), (code, &text))
            .await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

/// Each state of a key, to whoever needs the key.
pub(super) async fn keys_that_do_not_work(reached: &mut Reached) {
    let world = World::new().await;
    let kinesis = &world.kinesis;
    for stream in ["s", "d"] {
        let encrypt = json!({"StreamName": stream, "EncryptionType": "KMS", "KeyId": "alias/a"});
        ok(kinesis, "StartStreamEncryption", encrypt).await;
        let put =
            json!({"StreamName": stream, "PartitionKey": "k", "Data": "", "ExplicitHashKey": "0"});
        ok(kinesis, "PutRecord", put).await;
    }
    // Letters are dead once they were received as often as they may be.
    let once = json!({"QueueAttributes": {"VisibilityTimeoutSeconds": 0,
        "DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 1}}});
    let dead = World::new().await;
    let encrypt = dead.body_with(
        "StartStreamEncryption",
        json!({"StreamARN": dead.name("D_ARN")}),
    );
    ok(&dead.kinesis, "StartStreamEncryption", encrypt).await;
    let put = dead.body_with("PutRecord", json!({"StreamARN": dead.name("D_ARN")}));
    ok(&dead.kinesis, "PutRecord", put).await;
    ok(
        &dead.kinesis,
        "UpdateQueue",
        dead.body_with("UpdateQueue", once),
    )
    .await;
    ok(
        &dead.kinesis,
        "ReceiveQueueRecords",
        dead.body("ReceiveQueueRecords"),
    )
    .await;
    for (state, code, text) in KEY_STATES {
        for operation in listed(code) {
            let world = if operation == "ReceiveDeadLetterQueueRecords" {
                &dead
            } else {
                &world
            };
            world.kinesis.kms().set("alias/a", state);
            let more = match operation {
                "CreateChannel" => json!({"ChannelName": "new", "EncryptionConfiguration":
                    {"EncryptionType": "KMS", "KeyId": "alias/a"}}),
                _ => json!({}),
            };
            let call = (operation, world.body_with(operation, more));
            reached
                .refused(HOME, &world.kinesis, call, (code, text))
                .await;
        }
    }
}

/// What is only a check, what came too late, and a shard that gave or took enough.
pub(super) async fn of_records_and_pages(reached: &mut Reached) {
    let world = World::new().await;
    let kinesis = &world.kinesis;
    for operation in listed("DryRunOperationException") {
        let call = (
            operation,
            world.body_with(operation, json!({"DryRun": true})),
        );
        let text = "Request would have succeeded, but DryRun flag is set.";
        let told = ("DryRunOperationException", text);
        reached.refused(HOME, kinesis, call, told).await;
    }
    // A second of everything, so that there is a second page.
    let second =
        json!({"StreamConfigurationList": [{"StreamARN": world.name("D_ARN")}], "QueueName": "q2"});
    ok(kinesis, "CreateQueue", second).await;
    ok(
        kinesis,
        "RegisterStreamConsumer",
        json!({"StreamARN": STREAM_ARN, "ConsumerName": "c2"}),
    )
    .await;
    let mode = json!({"StreamMode": "ON_DEMAND"});
    ok(
        kinesis,
        "CreateStream",
        json!({"StreamName": "e", "StreamModeDetails": mode}),
    )
    .await;
    let mut list = world.body("CreateChannel")["StreamConfigurationList"].clone();
    list[0]["StreamARN"] = json!(STREAM_ARN.replace("stream/s", "stream/e"));
    let more = json!({"ChannelName": "ch2", "StreamConfigurationList": list});
    ok(
        kinesis,
        "CreateChannel",
        world.body_with("CreateChannel", more),
    )
    .await;
    let mut tokens = Vec::new();
    for operation in listed(EXPIRED_TOKEN) {
        let limit = if operation == "ListStreams" {
            "Limit"
        } else {
            "MaxResults"
        };
        let page = ok(
            kinesis,
            operation,
            world.body_with(operation, json!({limit: 1})),
        )
        .await;
        let mut next = json!({"NextToken": page["NextToken"]});
        if operation == "ListStreamConsumers" {
            next["StreamARN"] = json!(STREAM_ARN);
        }
        tokens.push((operation, next));
    }
    tokio::time::advance(Duration::from_secs(300)).await;
    for (operation, next) in &tokens {
        ok(kinesis, operation, next.clone()).await;
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    for (operation, next) in tokens {
        let told = (EXPIRED_TOKEN, "NextToken has expired.");
        reached
            .refused(HOME, kinesis, (operation, next), told)
            .await;
    }
    let text = "Iterator expired. The iterator was created at time Mon Nov 23 02:00:00 UTC 2026 while \
                right now it is Mon Nov 23 02:05:01 UTC 2026 which is further in the future than the \
                tolerated delay of 300000 milliseconds.";
    let call = ("GetRecords", world.body("GetRecords"));
    reached
        .refused(HOME, kinesis, call, ("ExpiredIteratorException", text))
        .await;

    let world = World::with(KinesisOptions {
        limits: Limits::Aws,
        ..options()
    })
    .await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let text =
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.";
    for (operation, calls) in [
        ("GetShardIterator", 5),
        ("GetRecords", 5),
        ("PutRecord", 1000),
    ] {
        let body = world.body_with(
            operation,
            match operation {
                "PutRecord" => json!({"ExplicitHashKey": "0"}),
                _ => json!({}),
            },
        );
        for _ in 0..calls {
            ok(&world.kinesis, operation, body.clone()).await;
        }
        reached
            .refused(HOME, &world.kinesis, (operation, body), (THROTTLED, text))
            .await;
    }
}
