//! A service that has one of everything, and for each operation a request that it takes.

use std::collections::BTreeMap;

use super::*;
use crate::s3::S3;

/// Who signs: the account of the settings, and another one.
pub(crate) const HOME: &str = "AKID";
pub(crate) const OTHER: &str = "111122223333";

/// `s` is provisioned and has a consumer, `d` is on-demand and has a queue and a channel.
pub(crate) struct World {
    pub(crate) kinesis: Kinesis,
    /// What stands for each placeholder of a request.
    names: BTreeMap<&'static str, Value>,
}

const D_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/d";

impl World {
    /// With no limits and no delays.
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: KinesisOptions) -> Self {
        let s3 = S3::open(None).unwrap();
        std::fs::create_dir(s3.directory().join("lake")).unwrap();
        let buckets = Buckets::of(s3);
        // Where one call a second is allowed, it is allowed again for each of these.
        let pause = match options.limits {
            Limits::Given(_) => Duration::from_secs(1),
            Limits::Aws | Limits::Off => Duration::ZERO,
        };
        let kinesis = Kinesis::open(KinesisOptions { buckets, ..options }).unwrap();
        let create = json!({"StreamName": "s", "ShardCount": 2});
        ok(&kinesis, "CreateStream", create).await;
        tokio::time::advance(pause).await;
        let mode = json!({"StreamMode": "ON_DEMAND"});
        let create = json!({"StreamName": "d", "StreamModeDetails": mode});
        ok(&kinesis, "CreateStream", create).await;
        let mut world = Self {
            kinesis,
            names: BTreeMap::from([("ARN", json!(STREAM_ARN)), ("D_ARN", json!(D_ARN))]),
        };
        for (name, operation, path) in [
            (
                "CONSUMER",
                "RegisterStreamConsumer",
                "/Consumer/ConsumerARN",
            ),
            ("QUEUE", "CreateQueue", "/QueueDescription/QueueARN"),
            ("CHANNEL", "CreateChannel", "/ChannelDescription/ChannelARN"),
            ("ITERATOR", "GetShardIterator", "/ShardIterator"),
        ] {
            let made = ok(&world.kinesis, operation, world.body(operation)).await;
            world
                .names
                .insert(name, made.pointer(path).unwrap().clone());
            tokio::time::advance(pause).await;
        }
        world
    }

    pub(crate) fn name(&self, name: &str) -> &str {
        self.names[name].as_str().unwrap()
    }

    /// What `operation` takes, with the members of `more` over it.
    pub(crate) fn body_with(&self, operation: &str, more: Value) -> Value {
        let mut body = self.body(operation);
        for (name, value) in more.as_object().unwrap() {
            match value {
                Value::Null => body.as_object_mut().unwrap().remove(name),
                _ => body
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        body
    }

    /// A request that `operation` takes in this world, if names and places are free.
    pub(crate) fn body(&self, operation: &str) -> Value {
        let stream = |more: Value| merged(json!({"StreamARN": "ARN"}), more);
        let resource = |more: Value| merged(json!({"ResourceARN": "ARN"}), more);
        let queue = |more: Value| merged(json!({"QueueARN": "QUEUE"}), more);
        let handed = || queue(json!({"Entries": [{"ReceiptHandle": "h"}]}));
        let hidden =
            || queue(json!({"Entries": [{"ReceiptHandle": "h", "VisibilityTimeoutSeconds": 1}]}));
        let body = match operation {
            "CreateStream" => json!({"StreamName": "new", "ShardCount": 1}),
            "ListStreams"
            | "DescribeLimits"
            | "DescribeAccountSettings"
            | "ListQueues"
            | "ListChannels" => json!({}),
            "DeleteStream"
            | "DescribeStream"
            | "DescribeStreamSummary"
            | "ListShards"
            | "ListTagsForStream"
            | "ListStreamConsumers" => stream(json!({})),
            "PutRecord" => stream(json!({"PartitionKey": "k", "Data": "AAAA"})),
            "PutRecords" => stream(json!({"Records": [{"PartitionKey": "k", "Data": "AAAA"}]})),
            "GetRecords" => json!({"ShardIterator": "ITERATOR"}),
            "GetShardIterator" => {
                stream(json!({"ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"}))
            }
            "SubscribeToShard" => json!({"ConsumerARN": "CONSUMER", "ShardId": "0",
                "StartingPosition": {"Type": "LATEST"}}),
            "SplitShard" => stream(json!({"ShardToSplit": "0", "NewStartingHashKey": "1000"})),
            "MergeShards" => stream(json!({"ShardToMerge": "0", "AdjacentShardToMerge": "1"})),
            "UpdateShardCount" => {
                stream(json!({"TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"}))
            }
            "RegisterStreamConsumer" => stream(json!({"ConsumerName": "c"})),
            "DescribeStreamConsumer" | "DeregisterStreamConsumer" => {
                json!({"ConsumerARN": "CONSUMER"})
            }
            "AddTagsToStream" => stream(json!({"Tags": {"a": "b"}})),
            "RemoveTagsFromStream" => stream(json!({"TagKeys": ["a"]})),
            "TagResource" => resource(json!({"Tags": {"a": "b"}})),
            "UntagResource" => resource(json!({"TagKeys": ["a"]})),
            "ListTagsForResource" | "GetResourcePolicy" | "DeleteResourcePolicy" => {
                resource(json!({}))
            }
            "PutResourcePolicy" => resource(json!({"Policy": json!({
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Principal": {"AWS": OTHER},
                    "Action": "kinesis:PutRecord", "Resource": STREAM_ARN}],
            }).to_string()})),
            "IncreaseStreamRetentionPeriod" | "DecreaseStreamRetentionPeriod" => {
                stream(json!({"RetentionPeriodHours": 24}))
            }
            "StartStreamEncryption" | "StopStreamEncryption" => {
                stream(json!({"EncryptionType": "KMS", "KeyId": "alias/a"}))
            }
            "EnableEnhancedMonitoring" | "DisableEnhancedMonitoring" => {
                stream(json!({"ShardLevelMetrics": ["ALL"]}))
            }
            "UpdateStreamMode" => stream(json!({"StreamModeDetails": {"StreamMode": "ON_DEMAND"}})),
            "UpdateAccountSettings" => {
                json!({"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}})
            }
            "UpdateStreamWarmThroughput" => stream(json!({"WarmThroughputMiBps": 10})),
            "UpdateMaxRecordSize" => stream(json!({"MaxRecordSizeInKiB": 2048})),
            "UpdateStreamRecordDistributionStrategy" => {
                stream(json!({"RecordDistributionStrategy": "USER_PARTITION_KEY"}))
            }
            "CreateQueue" => json!({"QueueName": "q",
                "StreamConfigurationList": [{"StreamARN": "D_ARN"}]}),
            "DescribeQueue" | "DeleteQueue" => queue(json!({})),
            "UpdateQueue" => queue(json!({"QueueAttributes": {"VisibilityTimeoutSeconds": 5}})),
            "ReceiveQueueRecords" | "ReceiveDeadLetterQueueRecords" => {
                queue(json!({"WaitTimeSeconds": 1}))
            }
            "AcknowledgeQueueRecords"
            | "AcknowledgeDeadLetterQueueRecords"
            | "RestoreDeadLetterQueueRecords" => handed(),
            "UpdateQueueRecordsVisibility" | "UpdateDeadLetterQueueRecordsVisibility" => hidden(),
            "CreateChannel" => json!({"ChannelName": "ch",
                "ServiceExecutionRoleARN": "arn:aws:iam::000000000000:role/r",
                "StreamConfigurationList": [{"StreamARN": "D_ARN",
                    "RecordConfiguration": {"RecordFormatType": "JSON"}}],
                "S3DestinationConfiguration": {"StorageConfiguration": {
                    "BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000",
                    "CompressionType": "NONE"}}}),
            "DescribeChannel" | "DeleteChannel" | "UpdateChannel" => {
                json!({"ChannelARN": "CHANNEL"})
            }
            other => panic!("{other}: the world has no request for it"),
        };
        self.filled(body)
    }

    fn filled(&self, body: Value) -> Value {
        match body {
            Value::String(text) => self.names.get(&*text).cloned().unwrap_or(text.into()),
            Value::Array(items) => items.into_iter().map(|item| self.filled(item)).collect(),
            Value::Object(members) => members
                .into_iter()
                .map(|(name, value)| (name, self.filled(value)))
                .collect(),
            other => other,
        }
    }
}

pub(crate) fn merged(mut body: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}
