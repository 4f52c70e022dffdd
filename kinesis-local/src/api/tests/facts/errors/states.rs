//! What is not there, what is another account's, and what is not in the state for it.

use super::*;

/// What is not there is told with its kind, its name and the account.
pub(super) async fn not_found(reached: &mut Reached) {
    let world = World::new().await;
    let kinesis = &world.kinesis;
    let create = json!({"StreamName": "t", "ShardCount": 1});
    ok(kinesis, "CreateStream", create).await;
    let start = json!({"StreamName": "t", "ShardId": "0", "ShardIteratorType": "LATEST"});
    let of_t = ok(kinesis, "GetShardIterator", start).await["ShardIterator"].take();
    ok(kinesis, "DeleteStream", json!({"StreamName": "t"})).await;
    let no_t = "Stream t under account 000000000000 not found.";
    let no_shard =
        "Shard shardId-000000000000 in stream t under account 000000000000 does not exist";
    let no_consumer =
        format!("Consumer {STREAM_ARN}/consumer/c:1, account 000000000000 not found.");
    let no_policy = format!("No resource policy found for resource ARN {STREAM_ARN}.");
    for operation in listed(NOT_FOUND) {
        let mut body = world.body(operation);
        let mut told = no_t.to_owned();
        // What addresses the resource: that of another one is put into its place.
        for (member, of_another, text) in [
            ("ShardIterator", of_t.clone(), no_shard.to_owned()),
            (
                "ConsumerARN",
                json!(format!("{STREAM_ARN}/consumer/c:1")),
                no_consumer.clone(),
            ),
            (
                "QueueARN",
                json!(format!("{}x", world.name("QUEUE"))),
                String::new(),
            ),
            (
                "ChannelARN",
                json!(format!("{}x", world.name("CHANNEL"))),
                String::new(),
            ),
            ("StreamARN", json!(T_ARN), no_t.to_owned()),
            ("ResourceARN", json!(T_ARN), no_t.to_owned()),
        ] {
            if body.get(member).is_none() {
                continue;
            }
            let kind = member.strip_suffix("ARN").unwrap_or_default();
            told = match kind {
                "Queue" | "Channel" => {
                    let arn = of_another.as_str().unwrap();
                    format!("{kind} {arn} under account 000000000000 not found.")
                }
                _ => text,
            };
            body[member] = of_another;
        }
        match operation {
            "GetShardIterator" => no_shard.clone_into(&mut told),
            "DeleteResourcePolicy" => {
                body["ResourceARN"] = json!(STREAM_ARN);
                told.clone_from(&no_policy);
            }
            "PutResourcePolicy" => {
                let policy = body["Policy"]
                    .as_str()
                    .unwrap()
                    .replace("stream/s", "stream/t");
                body["Policy"] = json!(policy);
            }
            "CreateQueue" | "CreateChannel" => {
                body["StreamConfigurationList"][0]["StreamARN"] = json!(T_ARN);
            }
            _ => {}
        }
        reached
            .refused(HOME, kinesis, (operation, body), (NOT_FOUND, &told))
            .await;
    }
}

/// Another account, which no resource policy lets in.
pub(super) async fn denied(reached: &mut Reached) {
    let world = World::new().await;
    for operation in
        listed(DENIED).filter(|name| !planned_pairs().any(|pair| pair == (name, DENIED)))
    {
        let body = world.body(operation);
        let of_channel = body.get("ChannelARN").or(body.get("QueueARN"));
        let resource = match operation {
            "CreateQueue" | "CreateChannel" => world.name("D_ARN"),
            _ => of_channel.map_or(STREAM_ARN, |arn| arn.as_str().unwrap()),
        };
        let text = format!(
            "User: arn:aws:iam::{OTHER}:root is not authorized to perform: kinesis:{operation} on \
             resource: {resource} because no resource-based policy allows the \
             kinesis:{operation} action"
        );
        reached
            .refused(OTHER, &world.kinesis, (operation, body), (DENIED, &text))
            .await;
    }
}

/// Three states in which a stream is not what an operation needs, and names that are taken.
pub(super) async fn in_use(reached: &mut Reached) {
    let hour = Duration::from_secs(3600);
    let delays = Delays {
        update: hour,
        delete: hour,
        ..Delays::default()
    };
    let world = World::with(KinesisOptions {
        delays,
        ..options()
    })
    .await;
    let kinesis = &world.kinesis;
    for (operation, text) in [
        (
            "CreateQueue",
            "Queue q under account 000000000000 already exists.",
        ),
        (
            "CreateChannel",
            "Channel ch under account 000000000000 already exists.",
        ),
        (
            "RegisterStreamConsumer",
            "Consumer c under stream s already exists for account 000000000000.",
        ),
        (
            "DeleteStream",
            "DeleteStream can't delete arn:aws:kinesis:us-east-1:000000000000:stream/s because there \
             are consumers associated with this data stream. To delete s anyway, set the \
             EnforceConsumerDeletion parameter to true to force the deletion of all the consumers \
             that are associated with it.",
        ),
    ] {
        let call = (operation, world.body(operation));
        reached.refused(HOME, kinesis, call, (IN_USE, text)).await;
    }
    let create = ("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    let text = "Stream s under account 000000000000 already exists.";
    reached.refused(HOME, kinesis, create, (IN_USE, text)).await;
    let subscribe = world.body("SubscribeToShard");
    let subscription = kinesis.call(request("SubscribeToShard", &subscribe)).await;
    let text = format!(
        "Another active subscription exists for this consumer: {}",
        world.name("CONSUMER")
    );
    reached
        .refused(
            HOME,
            kinesis,
            ("SubscribeToShard", subscribe),
            (IN_USE, &text),
        )
        .await;
    drop(subscription);
    ok(kinesis, "UpdateShardCount", world.body("UpdateShardCount")).await;
    let text = "Stream s under account 000000000000 not ACTIVE, instead in state UPDATING";
    for (operation, more) in [
        ("SplitShard", json!({"ShardToSplit": "2"})),
        (
            "MergeShards",
            json!({"ShardToMerge": "2", "AdjacentShardToMerge": "3"}),
        ),
    ] {
        let call = (operation, world.body_with(operation, more));
        reached.refused(HOME, kinesis, call, (IN_USE, text)).await;
    }
    for operation in [
        "UpdateShardCount",
        "UpdateStreamMode",
        "UpdateMaxRecordSize",
        "UpdateStreamRecordDistributionStrategy",
        "IncreaseStreamRetentionPeriod",
        "DecreaseStreamRetentionPeriod",
        "StartStreamEncryption",
        "StopStreamEncryption",
        "EnableEnhancedMonitoring",
        "DisableEnhancedMonitoring",
    ] {
        let call = (operation, world.body(operation));
        reached.refused(HOME, kinesis, call, (IN_USE, text)).await;
    }
    account::commit(kinesis, "ENABLED").await;
    let of_d = json!({"StreamARN": world.name("D_ARN")});
    let encrypt = world.body_with("StartStreamEncryption", of_d.clone());
    ok(kinesis, "StartStreamEncryption", encrypt).await;
    let operation = "UpdateStreamWarmThroughput";
    let call = (operation, world.body_with(operation, of_d));
    let text = "Stream d under account 000000000000 not ACTIVE, instead in state UPDATING";
    reached.refused(HOME, kinesis, call, (IN_USE, text)).await;
    for kind in ["Queue", "Channel"] {
        ok(
            kinesis,
            &format!("Delete{kind}"),
            world.body(&format!("Delete{kind}")),
        )
        .await;
        let operation = format!("Update{kind}");
        let text = format!(
            "{kind} {} under account 000000000000 not ACTIVE, instead in state DELETING",
            world.name(&kind.to_uppercase())
        );
        let call = (&*operation, world.body(&operation));
        reached.refused(HOME, kinesis, call, (IN_USE, &text)).await;
    }
    let delete = world.body_with("DeleteStream", json!({"EnforceConsumerDeletion": true}));
    ok(kinesis, "DeleteStream", delete).await;
    let text =
        "Stream s under account 000000000000 not ACTIVE or UPDATING, instead in state DELETING";
    for operation in [
        "ListShards",
        "ListStreamConsumers",
        "RegisterStreamConsumer",
        "AddTagsToStream",
        "RemoveTagsFromStream",
        "TagResource",
        "UntagResource",
        "ListTagsForResource",
        "PutResourcePolicy",
        "GetResourcePolicy",
        "DeleteResourcePolicy",
    ] {
        let call = (operation, world.body(operation));
        reached.refused(HOME, kinesis, call, (IN_USE, text)).await;
    }
}
