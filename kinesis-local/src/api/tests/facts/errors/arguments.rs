//! Requests that are well-formed and still wrong, and requests that are not.

use super::*;

/// Arguments that are well-formed and still wrong.
pub(super) async fn invalid_arguments(reached: &mut Reached) {
    let delays = Delays {
        delete: Duration::from_secs(3600),
        ..Delays::default()
    };
    let world = World::with(KinesisOptions {
        delays,
        ..options()
    })
    .await;
    let differ = "StreamName and StreamARN name different streams.";
    let both = json!({"StreamName": "other"});
    let token = json!({"NextToken": "x"});
    let no_token = "NextToken is invalid.";
    let characters = "Some tags contain invalid characters. Valid characters: Unicode letters, \
                      digits, white space, _ . / = + - % @ :.";
    let tags = json!({"Tags": {"a;b": ""}});
    let tag_keys = json!({"TagKeys": ["a;b"]});
    let short = "Minimum allowed retention period is 24 hours. Requested retention period (1 hours) \
                 is too short.";
    let hour = json!({"RetentionPeriodHours": 1});
    let auto = "The record distribution strategy AUTO is only supported for streams in ON_DEMAND \
                mode.";
    let no_number = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and \
                     StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no \
                     StartingSequenceNumber. Request specified AT_SEQUENCE_NUMBER and no \
                     StartingSequenceNumber.";
    let hash_key = "999999999999999999999999999999999999999";
    let no_hash_key = format!(
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified \
         value was {hash_key}"
    );
    let no_one = "Either ConsumerARN or both StreamARN and ConsumerName should be provided.";
    let none = "EncryptionType has to be KMS: it is the only valid value of this request.";
    let no_commitment = "WarmThroughputMiBps is only supported for accounts that have \
                         MinimumThroughputBillingCommitment enabled. It is not enabled for account \
                         000000000000.";
    let no_policy = "A channel cannot have a resource policy.";
    let of_channel = json!({"ResourceARN": world.name("CHANNEL")});
    let record = json!({"PartitionKey": "k", "Data": "AAAA", "ExplicitHashKey": hash_key});
    for (operation, more, text) in [
        (
            "CreateStream",
            json!({"RecordDistributionStrategy": "AUTO"}),
            auto,
        ),
        ("ListStreams", token.clone(), no_token),
        ("DeleteStream", both.clone(), differ),
        ("DescribeStream", both.clone(), differ),
        ("DescribeStreamSummary", both.clone(), differ),
        ("ListTagsForStream", both.clone(), differ),
        ("UpdateShardCount", both.clone(), differ),
        (
            "UpdateStreamMode",
            json!({"StreamModeDetails": {"StreamMode": "ON_DEMAND"},
            "WarmThroughputMiBps": 10}),
            no_commitment,
        ),
        (
            "UpdateStreamWarmThroughput",
            json!({}),
            "WarmThroughputMiBps is only supported for streams in ON_DEMAND mode.",
        ),
        ("EnableEnhancedMonitoring", both.clone(), differ),
        ("DisableEnhancedMonitoring", both.clone(), differ),
        (
            "ListShards",
            json!({"StreamARN": null}),
            "Either NextToken or StreamName should be provided.",
        ),
        (
            "ListShards",
            token.clone(),
            "NextToken and StreamName cannot be provided together.",
        ),
        ("ListStreamConsumers", token.clone(), no_token),
        ("ListQueues", token.clone(), no_token),
        ("ListChannels", token.clone(), no_token),
        ("AddTagsToStream", tags.clone(), characters),
        ("RemoveTagsFromStream", tag_keys.clone(), characters),
        ("TagResource", tags.clone(), characters),
        ("UntagResource", tag_keys, characters),
        (
            "RegisterStreamConsumer",
            json!({"ConsumerName": "new", "Tags": tags["Tags"]}),
            characters,
        ),
        (
            "CreateQueue",
            json!({"QueueName": "new", "Tags": tags["Tags"]}),
            characters,
        ),
        ("IncreaseStreamRetentionPeriod", hour.clone(), short),
        ("DecreaseStreamRetentionPeriod", hour, short),
        (
            "UpdateStreamRecordDistributionStrategy",
            json!({"RecordDistributionStrategy": "AUTO"}),
            auto,
        ),
        (
            "GetShardIterator",
            json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER"}),
            no_number,
        ),
        (
            "SubscribeToShard",
            json!({"StartingPosition": {"Type": "AT_SEQUENCE_NUMBER"}}),
            no_number,
        ),
        (
            "GetRecords",
            json!({"ShardIterator": "AAAA"}),
            "Invalid ShardIterator.",
        ),
        (
            "PutRecord",
            json!({"ExplicitHashKey": hash_key}),
            &no_hash_key,
        ),
        ("PutRecords", json!({"Records": [record]}), &no_hash_key),
        (
            "DescribeStreamConsumer",
            json!({"ConsumerARN": null}),
            no_one,
        ),
        (
            "DeregisterStreamConsumer",
            json!({"ConsumerARN": null}),
            no_one,
        ),
        (
            "StartStreamEncryption",
            json!({"EncryptionType": "NONE"}),
            none,
        ),
        (
            "StopStreamEncryption",
            json!({"EncryptionType": "NONE"}),
            none,
        ),
        (
            "PutResourcePolicy",
            json!({"Policy": "{"}),
            "Policy validation error: This policy contains invalid Json",
        ),
        ("GetResourcePolicy", of_channel.clone(), no_policy),
        ("DeleteResourcePolicy", of_channel, no_policy),
        (
            "SplitShard",
            json!({"NewStartingHashKey": "0"}),
            "NewStartingHashKey 0 used in SplitShard() on shard shardId-000000000000 in stream s \
             under account 000000000000 is not both greater than one plus the shard's \
             StartingHashKey 0 and less than the shard's EndingHashKey \
             170141183460469231731687303715884105727.",
        ),
        (
            "MergeShards",
            json!({"ShardToMerge": "1", "AdjacentShardToMerge": "0"}),
            "Shards shardId-000000000001 and shardId-000000000000 in stream s under account \
             000000000000 are not an adjacent pair of shards eligible for merging",
        ),
        (
            "CreateChannel",
            json!({"ChannelName": "new", "EncryptionConfiguration":
                {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}}),
            "The service's own key alias/aws/kinesis cannot encrypt what a channel delivers.",
        ),
    ] {
        let call = (operation, world.body_with(operation, more));
        reached
            .refused(HOME, &world.kinesis, call, (INVALID, text))
            .await;
    }
    // The model: "the queue is not ACTIVE".
    ok(&world.kinesis, "DeleteQueue", world.body("DeleteQueue")).await;
    let text = format!(
        "Queue {} under account 000000000000 not ACTIVE, instead in state DELETING",
        world.name("QUEUE")
    );
    for operation in listed("ThrottlingException") {
        let call = (operation, world.body(operation));
        reached
            .refused(HOME, &world.kinesis, call, (INVALID, &text))
            .await;
    }
}

/// One broken constraint each (`model` breaks all), and modes that an operation cannot work in.
pub(super) async fn not_valid(reached: &mut Reached) {
    let world = World::new().await;
    let one = |value: &str, path: &str, text: &str| {
        format!(
            "1 validation error detected: Value '{value}' at '{path}' failed to satisfy \
             constraint: Member must {text}"
        )
    };
    for operation in listed(VALIDATION) {
        let body = world.body(operation);
        let (more, text) = match operation {
            "CreateStream" => (
                json!({"ShardCount": 0}),
                one("0", "shardCount", "have value greater than or equal to 1"),
            ),
            "UpdateAccountSettings" => (
                json!({"MinimumThroughputBillingCommitment": {"Status": "x"}}),
                one(
                    "x",
                    "minimumThroughputBillingCommitment.status",
                    "satisfy enum value set: [ENABLED, DISABLED]",
                ),
            ),
            "ListQueues" | "ListChannels" => (
                json!({"MaxResults": 0}),
                one("0", "maxResults", "have value greater than or equal to 1"),
            ),
            "CreateQueue" | "CreateChannel" => {
                let kind = operation.trim_start_matches("Create");
                let mut list = body["StreamConfigurationList"].clone();
                list[0]["StreamARN"] = json!(STREAM_ARN);
                let text = format!(
                    "{kind}s are supported only on streams in ON_DEMAND mode. Stream s under \
                     account 000000000000 is in PROVISIONED mode."
                );
                let name = format!("{kind}Name");
                (json!({name: "new", "StreamConfigurationList": list}), text)
            }
            "SplitShard" | "MergeShards" | "UpdateShardCount" => (
                json!({"StreamARN": world.name("D_ARN")}),
                "Request is invalid. Stream d under account 000000000000 is in On-Demand mode."
                    .to_owned(),
            ),
            _ => {
                let members = ["QueueARN", "ChannelARN"];
                let arn = members
                    .into_iter()
                    .find(|member| body.get(*member).is_some());
                match arn {
                    Some(member) => {
                        let kind = member.trim_end_matches("ARN").to_lowercase();
                        let pattern = format!(
                            "satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{{12}}:{kind}/\\S+"
                        );
                        (
                            json!({member: "x"}),
                            one("x", &format!("{kind}ARN"), &pattern),
                        )
                    }
                    None => (
                        json!({"StreamId": "x"}),
                        one(
                            "x",
                            "streamId",
                            "satisfy regular expression pattern: [a-z0-9]{20}-[a-z0-9]{3}",
                        ),
                    ),
                }
            }
        };
        let call = (operation, world.body_with(operation, more));
        reached
            .refused(HOME, &world.kinesis, call, (VALIDATION, &text))
            .await;
    }
}
