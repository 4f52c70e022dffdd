//! Refusals that the model's exceptions do not tell apart: each in its words.

use super::*;

/// One request and what it has to be told.
type Case<'a> = (&'a str, Value, &'a str, &'a str);

async fn all_refused(world: &World, cases: Vec<Case<'_>>) {
    let mut reached = Reached::default();
    for (operation, more, code, text) in cases {
        let call = (operation, world.body_with(operation, more));
        reached
            .refused(HOME, &world.kinesis, call, (code, text))
            .await;
    }
    assert!(reached.wrong.is_empty(), "\n{}", reached.wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn streams_that_cannot_be_like_that() {
    let world = World::new().await;
    let kinesis = &world.kinesis;
    let on_demand = json!({"StreamMode": "ON_DEMAND"});
    let d = world.name("D_ARN").to_owned();
    let at_d = json!({ "StreamARN": d });
    account::commit(kinesis, "ENABLED").await;
    all_refused(&world, vec![
        ("CreateStream", json!({"ShardCount": null}), VALIDATION,
            "ShardCount is required for a stream in PROVISIONED mode."),
        ("CreateStream", json!({"StreamModeDetails": on_demand}), VALIDATION,
            "ShardCount cannot be given for a stream in ON_DEMAND mode."),
        ("ListShards", json!({"ShardFilter": {"Type": "AT_TIMESTAMP"}}), INVALID,
            "Timestamp must be provided for a shard filter of type AT_TIMESTAMP."),
        ("ListShards", json!({"ShardFilter": {"Type": "AFTER_SHARD_ID"}}), INVALID,
            "ShardId must be provided for a shard filter of type AFTER_SHARD_ID."),
        ("StartStreamEncryption", json!({"KeyId": "a"}), INVALID,
            "KeyId has to be the id of a key, alias/NAME, or the ARN of a key or alias."),
        ("UpdateStreamMode", json!({"StreamARN": d,
            "StreamModeDetails": {"StreamMode": "PROVISIONED"}}), IN_USE,
            "UpdateStreamMode can't change arn:aws:kinesis:us-east-1:000000000000:stream/d because \
             there are queues on this data stream. Delete them with DeleteQueue first."),
        ("DeleteStream", at_d.clone(), IN_USE,
            "DeleteStream can't change arn:aws:kinesis:us-east-1:000000000000:stream/d because \
             there are queues on this data stream. Delete them with DeleteQueue first."),
        ("UpdateStreamMode", json!({"StreamARN": d, "StreamModeDetails": on_demand,
            "WarmThroughputMiBps": 1}), INVALID,
            "WarmThroughputMiBps is only valid when the stream mode is being updated to ON_DEMAND. \
             Use UpdateStreamWarmThroughput."),
        ("UpdateStreamWarmThroughput", json!({"StreamARN": d, "WarmThroughputMiBps": 10_241}),
            LIMIT,
            "WarmThroughputMiBps cannot be greater than 10240 for account 000000000000. Requested: \
             10241."),
    ])
    .await;
    ok(kinesis, "DeleteQueue", world.body("DeleteQueue")).await;
    let auto = json!({"StreamARN": d, "RecordDistributionStrategy": "AUTO"});
    ok(kinesis, "UpdateStreamRecordDistributionStrategy", auto).await;
    all_refused(
        &world,
        vec![
            (
                "DeleteStream",
                at_d,
                IN_USE,
                "DeleteStream can't delete arn:aws:kinesis:us-east-1:000000000000:stream/d because \
             there are channels on this data stream. Delete them with DeleteChannel first.",
            ),
            (
                "PutRecord",
                json!({"StreamARN": d, "SequenceNumberForOrdering": "0"}),
                INVALID,
                "SequenceNumberForOrdering cannot be used on a stream with the record distribution \
             strategy AUTO.",
            ),
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn changes_that_were_made_too_often_in_a_day() {
    let world = World::new().await;
    let kinesis = &world.kinesis;
    for target in [4, 2].into_iter().cycle().take(10) {
        let scale = json!({"TargetShardCount": target});
        ok(
            kinesis,
            "UpdateShardCount",
            world.body_with("UpdateShardCount", scale),
        )
        .await;
    }
    for _ in 0..25 {
        for operation in ["StartStreamEncryption", "StopStreamEncryption"] {
            ok(kinesis, operation, world.body(operation)).await;
        }
    }
    for mode in ["ON_DEMAND", "PROVISIONED"] {
        let mode = json!({"StreamModeDetails": {"StreamMode": mode}});
        ok(
            kinesis,
            "UpdateStreamMode",
            world.body_with("UpdateStreamMode", mode),
        )
        .await;
    }
    all_refused(&world, vec![
        ("UpdateShardCount", json!({"TargetShardCount": 3}), LIMIT,
            "UpdateShardCount can be used at most 10 times in a rolling 24-hour period on stream s \
             under account 000000000000."),
        ("StartStreamEncryption", json!({}), LIMIT,
            "The encryption of stream s under account 000000000000 can be started at most 25 times \
             in a rolling 24-hour period."),
        ("UpdateStreamMode", json!({}), LIMIT,
            "The mode of stream s under account 000000000000 can be switched at most 2 times in a \
             rolling 24-hour period."),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn queues_that_cannot_be_like_that() {
    let world = World::new().await;
    let start = |start: Value| {
        json!({"QueueName": "new", "StreamConfigurationList": [
            {"StreamARN": world.name("D_ARN"), "StartingPosition": start}]})
    };
    let stream = json!({"StreamARN": world.name("D_ARN")});
    all_refused(&world, vec![
        ("CreateQueue", json!({"QueueName": "new", "StreamConfigurationList": [stream, stream]}),
            VALIDATION, "StreamConfigurationList must contain exactly one stream."),
        ("CreateQueue", start(json!({"Type": "AT_TIMESTAMP"})), VALIDATION,
            "A StartingPosition of the Type AT_TIMESTAMP needs a Timestamp."),
        ("CreateQueue", start(json!({"Type": "AT_TIMESTAMP", "Timestamp": NOW_MS / 1000 + 1})),
            VALIDATION, "The Timestamp of a StartingPosition cannot be in the future."),
        ("CreateQueue", start(json!({"Type": "LATEST", "Timestamp": 1})), VALIDATION,
            "Only a StartingPosition of the Type AT_TIMESTAMP can have a Timestamp."),
        ("UpdateQueue", json!({"QueueAttributes": {"DeadLetterConfiguration":
            {"TargetType": "BUILT_IN"}}}), VALIDATION,
            "MaxReceiveCount is required when the TargetType is BUILT_IN."),
        ("TagResource", json!({"ResourceARN": world.name("QUEUE"), "Tags": {"%": ""}}), INVALID,
            "Failed to add tags to queue of stream d under account 000000000000 because some tags \
             contained illegal characters. The allowed characters are Unicode letters, \
             white-spaces, '_',',','/','=','+','-','@',':'."),
        ("UntagResource", json!({"ResourceARN": world.name("CONSUMER"), "TagKeys": ["%"]}), INVALID,
            "Failed to remove tags from consumer of stream s under account 000000000000 because \
             some tags contained illegal characters. The allowed characters are Unicode letters, \
             white-spaces, '_',',','/','=','+','-','@',':'."),
        ("TagResource", json!({"ResourceARN": world.name("CHANNEL"), "Tags": {"%": ""}}), INVALID,
            "Failed to add tags to channel of stream d under account 000000000000 because some \
             tags contained illegal characters. The allowed characters are Unicode letters, \
             white-spaces, '_',',','/','=','+','-','@',':'."),
    ])
    .await;
    for at in 1..20 {
        let create = start(json!({"Type": "LATEST"}));
        let create = world.body_with("CreateQueue", create);
        let create = merged(create, json!({"QueueName": format!("q{at}")}));
        ok(&world.kinesis, "CreateQueue", create).await;
    }
    all_refused(
        &world,
        vec![(
            "CreateQueue",
            start(json!({"Type": "LATEST"})),
            LIMIT,
            "This request would exceed the limit of 20 consumers for stream d under account \
             000000000000.",
        )],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn channels_that_cannot_be_like_that() {
    let world = World::new().await;
    let create = world.body("CreateChannel");
    let of_s3 = |change: &dyn Fn(&mut Value)| {
        let mut s3 = create["S3DestinationConfiguration"].clone();
        change(&mut s3);
        json!({"ChannelName": "new", "S3DestinationConfiguration": s3})
    };
    let template = of_s3(&|s3| s3["StorageConfiguration"]["OutputKeyTemplate"] = json!("/a"));
    let fresh = of_s3(&|s3| s3["DataFreshnessInSeconds"] = json!(901));
    let stream = create["StreamConfigurationList"][0].clone();
    let mut gsr = stream.clone();
    gsr["RecordConfiguration"]["RecordFormatType"] = json!("GSR_JSON");
    let errors = json!({"BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000"});
    let tables = json!({"DeadLetterQueueS3Configuration": errors, "S3TablesConfigurationList": [{
        "TableBucketARN": "arn:aws:s3tables:us-east-1:000000000000:bucket/tables",
        "Namespace": "n", "TableName": "t", "CompressionType": "NONE"}]});
    let either = "Either S3DestinationConfiguration or S3TablesDestinationConfiguration must be \
                  specified, but not both.";
    all_refused(&world, vec![
        ("CreateChannel", template, VALIDATION,
            "OutputKeyTemplate is not valid: it must not begin or end with '/'."),
        ("CreateChannel", fresh, VALIDATION,
            "DataFreshnessInSeconds must be between 1 and 900, it is 901."),
        ("CreateChannel", json!({"ChannelName": "new",
            "StreamConfigurationList": [stream, stream]}), VALIDATION, "StreamConfigurationList must contain exactly one stream."),
        ("CreateChannel", json!({"ChannelName": "new", "StreamConfigurationList": [gsr]}),
            VALIDATION,
            "RecordFormatType GSR_JSON is supported only for S3TablesDestinationConfiguration."),
        ("CreateChannel", json!({"S3DestinationConfiguration": null}), VALIDATION, either),
        ("CreateChannel", json!({"S3TablesDestinationConfiguration": tables}), VALIDATION, either),
        ("CreateChannel", json!({"S3DestinationConfiguration": null,
            "S3TablesDestinationConfiguration": tables}), INVALID,
            "S3TablesDestinationConfiguration is not supported by kinesis-local; use \
             S3DestinationConfiguration."),
        ("CreateChannel", json!({"ChannelName": "new"}), LIMIT,
            "This request would exceed the limit of 1 channel to a general purpose bucket for \
             stream d under account 000000000000."),
        ("UpdateChannel", json!({"S3TablesDestinationConfiguration":
            {"DataFreshnessInSeconds": 600}}), VALIDATION,
            "S3TablesDestinationConfiguration is given for a channel that delivers to a bucket."),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn handles_that_are_not_what_they_are_used_for() {
    let world = World::new().await;
    let kinesis = &world.kinesis;
    let other = merged(world.body("CreateQueue"), json!({"QueueName": "other"}));
    let other = ok(kinesis, "CreateQueue", other).await;
    let dead_after_one = json!({"QueueAttributes": {"VisibilityTimeoutSeconds": 1,
        "DeadLetterConfiguration": {"TargetType": "BUILT_IN", "MaxReceiveCount": 2}}});
    ok(
        kinesis,
        "UpdateQueue",
        world.body_with("UpdateQueue", dead_after_one),
    )
    .await;
    let put = world.body_with("PutRecord", json!({"StreamARN": world.name("D_ARN")}));
    ok(kinesis, "PutRecord", put).await;
    let receive = async |operation: &str| {
        let received = ok(kinesis, operation, world.body(operation)).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        received["QueueRecords"][0]["ReceiptHandle"].clone()
    };
    let told = async |operation: &str, queue: Value, handle: &Value| {
        let body = merged(world.body(operation), queue);
        let body = merged(body, json!({"Entries": [{"ReceiptHandle": handle}]}));
        let failed = ok(kinesis, operation, body).await["Failed"][0].take();
        assert_eq!(failed["ReceiptHandle"], *handle);
        let part = |name: &str| failed[name].as_str().unwrap_or_default().to_owned();
        (part("ErrorCode"), part("ErrorMessage"))
    };
    let (acknowledge, restore) = ("AcknowledgeQueueRecords", "RestoreDeadLetterQueueRecords");
    let refusal = |code: &str, text: &str| (code.to_owned(), text.to_owned());
    let own = || json!({});
    let elsewhere = || json!({"QueueARN": other["QueueDescription"]["QueueARN"]});

    let unread = refusal(INVALID, "The receipt handle is not valid.");
    assert_eq!(told(acknowledge, own(), &json!("x")).await, unread);
    let first = receive("ReceiveQueueRecords").await;
    let foreign = refusal(INVALID, "The receipt handle is of another queue.");
    assert_eq!(told(acknowledge, elsewhere(), &first).await, foreign);
    let not_dead = "The receipt handle was not returned by ReceiveDeadLetterQueueRecords.";
    assert_eq!(
        told(restore, own(), &first).await,
        refusal(INVALID, not_dead)
    );
    let second = receive("ReceiveQueueRecords").await;
    let again = "The receipt handle has expired: the record was received again since.";
    assert_eq!(
        told(acknowledge, own(), &first).await,
        refusal(INVALID, again)
    );
    let became = "The record has become a dead-letter record since it was received.";
    assert_eq!(
        told(acknowledge, own(), &second).await,
        refusal(NOT_FOUND, became)
    );
    let dead = receive("ReceiveDeadLetterQueueRecords").await;
    let of_dead = "The receipt handle is of a dead-letter record, which has operations of its own.";
    assert_eq!(
        told(acknowledge, own(), &dead).await,
        refusal(INVALID, of_dead)
    );
    let entries = merged(
        world.body(restore),
        json!({"Entries": [{"ReceiptHandle": dead}]}),
    );
    ok(kinesis, restore, entries).await;
    let restored = "The record is not a dead-letter record any more.";
    assert_eq!(
        told(restore, own(), &dead).await,
        refusal(NOT_FOUND, restored)
    );
    let third = receive("ReceiveQueueRecords").await;
    let entries = merged(
        world.body(acknowledge),
        json!({"Entries": [{"ReceiptHandle": third}]}),
    );
    ok(kinesis, acknowledge, entries).await;
    let gone = "The record was acknowledged already, or is past the retention of its stream.";
    assert_eq!(
        told(acknowledge, own(), &third).await,
        refusal(NOT_FOUND, gone)
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_denied_and_what_is_not_active_yet() {
    let delays = Delays {
        create: Duration::from_secs(5),
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
    let told =
        "Stream s under account 000000000000 not ACTIVE or UPDATING, instead in state CREATING";
    let list = json!({"StreamName": "s"});
    assert_refused(&kinesis, "ListShards", list, IN_USE, told).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    let deny = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*",
        "Action": "kinesis:PutRecord", "Resource": STREAM_ARN}]});
    let deny = json!({"ResourceARN": STREAM_ARN, "Policy": deny.to_string()});
    ok(&kinesis, "PutResourcePolicy", deny).await;
    let mut reached = Reached::default();
    let put = json!({"StreamARN": STREAM_ARN, "PartitionKey": "k", "Data": ""});
    let text = "User: arn:aws:iam::111122223333:root is not authorized to perform: \
                kinesis:PutRecord on resource: arn:aws:kinesis:us-east-1:000000000000:stream/s \
                with an explicit deny in a resource-based policy";
    reached
        .refused(OTHER, &kinesis, ("PutRecord", put), (DENIED, text))
        .await;
    assert!(reached.wrong.is_empty(), "{:?}", reached.wrong);
    let arn = register(&kinesis, "c").await;
    let subscribe = json!({"ConsumerARN": arn, "ShardId": "0",
        "StartingPosition": {"Type": "LATEST"}});
    let text = "Consumer c with creation timestamp 1795399205 under stream: s , account \
                000000000000 is not in ACTIVE status.";
    assert_refused(&kinesis, "SubscribeToShard", subscribe, IN_USE, text).await;
}
