//! What a rule can know of a call, read from its head and, if any rule asks for it, its body.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::request::Parts;
use kinesis_core::{HashKey, ShardId};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::plan::FaultService;
use crate::stream::iterator::ShardIterator;
use crate::stream::shard::parse_shard_index;
use crate::wire::read::{List, Structure, Text, decode};
use crate::wire::{Body, Format};

/// A call as rules see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub(super) service: Option<FaultService>,
    pub(super) operation: String,
    /// The streams, tables or the bucket that it is for: one, but in a list or a transaction.
    pub(super) streams: Vec<String>,
    /// The whole ids of its shards: one, but of MergeShards.
    pub(super) shards: Vec<String>,
    pub(super) consumer_arn: Option<String>,
    pub(super) iterator: Option<ShardIterator>,
    pub(super) access_key: Option<String>,
    pub(super) user_agents: Vec<String>,
}

/// What only the service can tell of a call.
#[derive(Debug)]
pub(crate) enum Wanted<'a> {
    /// The shard that takes a hash key, of the stream by its ARN or else of the caller's of that name.
    ShardOf {
        arn: Option<&'a str>,
        stream: &'a str,
        key: HashKey,
    },
    /// The stream that a queue or channel belongs to, by its ARN.
    StreamOf { arn: &'a str },
    /// The stream that a token of ListShards goes on in.
    StreamIn { token: &'a str },
}

/// The members by which requests of Kinesis say what they are for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct Named<'a> {
    stream_name: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    #[serde(rename = "ConsumerARN")]
    consumer_arn: Option<Text<'a>>,
    #[serde(rename = "ResourceARN")]
    resource_arn: Option<Text<'a>>,
    #[serde(rename = "QueueARN")]
    queue_arn: Option<Text<'a>>,
    #[serde(rename = "ChannelARN")]
    channel_arn: Option<Text<'a>>,
    stream_configuration_list: Option<List<Structure<Listed<'a>>>>,
    stream_filter: Option<List<Structure<Listed<'a>>>>,
    next_token: Option<Text<'a>>,
    shard_id: Option<Text<'a>>,
    shard_to_split: Option<Text<'a>>,
    shard_to_merge: Option<Text<'a>>,
    adjacent_shard_to_merge: Option<Text<'a>>,
    shard_iterator: Option<Text<'a>>,
    partition_key: Option<Text<'a>>,
    explicit_hash_key: Option<Text<'a>>,
}

/// A stream in a list of streams.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct Listed<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
}

/// The members by which requests of DynamoDB say what they are for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Tables {
    table_name: Option<String>,
    /// Of batches, by table.
    request_items: BTreeMap<String, IgnoredAny>,
    /// Of transactions, each by what is done.
    transact_items: Vec<BTreeMap<String, Table>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Table {
    table_name: Option<String>,
}

impl Call {
    /// What the head tells.
    pub(crate) fn of(service: FaultService, head: &Parts) -> Self {
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let target = text("x-amz-target").and_then(|target| target.rsplit('.').next());
        let (operation, stream) = match service {
            FaultService::S3 => (head.method.as_str(), bucket(head.uri.path())),
            FaultService::Kinesis | FaultService::DynamoDb => (target.unwrap_or_default(), None),
        };
        let agents = [text("user-agent"), text("x-amz-user-agent")];
        Self {
            service: Some(service),
            operation: operation.to_owned(),
            streams: stream.into_iter().collect(),
            access_key: access_key(&head.headers, head.uri.query()),
            user_agents: agents.into_iter().flatten().map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    /// What the body tells too, and what `find` finds by it; a body that cannot be read tells nothing.
    pub(super) fn read(&mut self, body: Body<'_>, find: impl Fn(Wanted<'_>) -> Option<String>) {
        match self.service {
            Some(FaultService::Kinesis) => self.read_kinesis(body, find),
            Some(FaultService::DynamoDb) => {
                let tables: Tables = serde_json::from_slice(body.bytes).unwrap_or_default();
                let done = tables.transact_items.into_iter().flatten();
                let done = done.filter_map(|(_, table)| table.table_name);
                let named = tables.table_name.into_iter().chain(done);
                let named = named.chain(tables.request_items.into_keys());
                // The name or the ARN of the table.
                let name = |table: String| match table.rsplit_once(":table/") {
                    Some((_, name)) => name.to_owned(),
                    None => table,
                };
                self.streams = named.map(name).collect();
            }
            Some(FaultService::S3) | None => {}
        }
    }

    fn read_kinesis(&mut self, body: Body<'_>, find: impl Fn(Wanted<'_>) -> Option<String>) {
        let Ok(named) = decode::<Named<'_>>(body) else {
            return;
        };
        let owned = |text: Option<Text<'_>>| text.map(|text| text.to_string());
        let listed = [named.stream_configuration_list, named.stream_filter];
        let listed = listed.into_iter().flatten().flat_map(|List(listed)| listed);
        let stream_arn = owned(named.stream_arn.clone());
        let arns = [
            named.stream_arn,
            named.consumer_arn.clone(),
            named.resource_arn,
            named.queue_arn,
            named.channel_arn,
        ];
        let arns = arns.into_iter().flatten();
        let arns = arns.chain(listed.filter_map(|Structure(stream)| stream.stream_arn));
        let by_arn = |arn: Text<'_>| match name_in_arn(&arn) {
            Some(name) => Some(name.to_owned()),
            None => find(Wanted::StreamOf { arn: &arn }),
        };
        self.streams = owned(named.stream_name)
            .into_iter()
            .chain(arns.filter_map(by_arn))
            .collect();
        if self.operation == "ListShards"
            && let Some(token) = &named.next_token
        {
            self.streams.extend(find(Wanted::StreamIn { token }));
        }
        let shards = [
            named.shard_id,
            named.shard_to_split,
            named.shard_to_merge,
            named.adjacent_shard_to_merge,
        ];
        self.shards = shards
            .iter()
            .flatten()
            .map(|id| whole_shard_id(id))
            .collect();
        self.consumer_arn = owned(named.consumer_arn);
        self.iterator = named
            .shard_iterator
            .as_deref()
            .and_then(ShardIterator::read);
        if let Some(iterator) = &self.iterator {
            let id = ShardId::from_index(u64::from(iterator.shard_index));
            self.shards.push(id.as_str().to_owned());
            self.streams.push(iterator.stream.clone());
        }
        let explicit = named.explicit_hash_key.and_then(|key| key.parse().ok());
        let key = named
            .partition_key
            .as_deref()
            .map(HashKey::of_partition_key);
        if let (Some(key), Some(stream)) = (explicit.or(key), self.streams.first()) {
            let arn = stream_arn.as_deref();
            self.shards
                .extend(find(Wanted::ShardOf { arn, stream, key }));
        }
    }
}

/// The id as the service tells it, in whichever of its forms it is given; what is none stays as it is.
pub(super) fn whole_shard_id(id: &str) -> String {
    match parse_shard_index(id) {
        Some(index) => ShardId::from_index(u64::from(index)).as_str().to_owned(),
        None => id.to_owned(),
    }
}

/// The encoding that the head announces; what is neither is read as JSON.
pub(crate) fn format(headers: &HeaderMap) -> Format {
    let kind = headers.get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with(Format::Cbor.content_type()) {
        Format::Cbor
    } else {
        Format::Json
    }
}

fn bucket(path: &str) -> Option<String> {
    let bucket = path.split('/').nth(1)?;
    (!bucket.is_empty()).then(|| bucket.to_owned())
}

/// `…:stream/NAME` or `…:stream/NAME/consumer/…`
fn name_in_arn<'a>(arn: &'a Text<'_>) -> Option<&'a str> {
    let (_, name) = arn.split_once(":stream/")?;
    name.split('/').next()
}

/// The first part of the credential that signs, by header or in the query.
fn access_key(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let header = headers.get(http::header::AUTHORIZATION);
    let header = header.and_then(|header| header.to_str().ok());
    let in_header = header.and_then(|header| header.split_once("Credential="));
    let in_query = query.and_then(|query| query.split_once("X-Amz-Credential="));
    let (_, credential) = in_header.or(in_query)?;
    let key = credential.split(['/', '%', ',', '&']).next()?;
    Some(key.to_owned())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn call(service: FaultService, request: http::request::Builder) -> Call {
        let (head, ()) = request.body(()).unwrap().into_parts();
        Call::of(service, &head)
    }

    /// A call of Kinesis, where shard 7 takes every key and every queue and token is of `q`.
    fn kinesis(operation: &str, body: &str) -> Call {
        let target = format!("Kinesis_20131202.{operation}");
        let mut call = call(
            FaultService::Kinesis,
            Request::post("/").header("x-amz-target", target),
        );
        call.read(
            Body::new(Format::Json, body.as_bytes()),
            |wanted| match wanted {
                Wanted::ShardOf { stream, key, .. } => {
                    let expected = key == HashKey::of_partition_key("k");
                    (stream == "s" && expected).then(|| "shardId-000000000007".to_owned())
                }
                Wanted::StreamOf { arn } => arn.contains(":queue/").then(|| "q".to_owned()),
                Wanted::StreamIn { token } => (token == "token").then(|| "q".to_owned()),
            },
        );
        call
    }

    #[test]
    fn the_head_tells_operation_and_client() {
        let scope = "AWS4-HMAC-SHA256 Credential=AKID/20261125/us-east-1/kinesis/aws4_request, \
                     SignedHeaders=host, Signature=0";
        let head = Request::post("/")
            .header("x-amz-target", "Kinesis_20131202.PutRecords")
            .header("authorization", scope)
            .header("user-agent", "aws-sdk-rust/1")
            .header("x-amz-user-agent", "app/worker");
        let told = call(FaultService::Kinesis, head);
        assert_eq!(told.operation, "PutRecords");
        assert_eq!(told.access_key.as_deref(), Some("AKID"));
        assert_eq!(told.user_agents, ["aws-sdk-rust/1", "app/worker"]);
        let presigned = Request::get("/logs/a?X-Amz-Credential=AKID%2F2026%2Fs3%2Faws4_request");
        let told = call(FaultService::S3, presigned);
        assert_eq!(
            (&*told.operation, &*told.streams),
            ("GET", &["logs".to_owned()][..])
        );
        assert_eq!(told.access_key.as_deref(), Some("AKID"));
    }

    #[test]
    fn the_body_tells_streams_and_shards_however_they_are_named() {
        let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
        let queue = "arn:aws:kinesis:us-east-1:000000000000:queue/1";
        let iterator = ShardIterator {
            account: "000000000000".to_owned(),
            stream: "s".to_owned(),
            stream_id: 1,
            shard_index: 3,
            position: 0,
            created_ms: 0,
        };
        let iterator = iterator.seal(1);
        let three = "shardId-000000000003";
        let of_s = format!(r#"[{{"StreamARN":"{arn}"}}]"#);
        let cases: [(&str, String, &[&str], &[&str]); 17] = [
            (
                "DescribeStream",
                r#"{"StreamName":"s"}"#.to_owned(),
                &["s"],
                &[],
            ),
            (
                "ListShards",
                format!(r#"{{"StreamARN":"{arn}"}}"#),
                &["s"],
                &[],
            ),
            (
                "ListShards",
                r#"{"NextToken":"token"}"#.to_owned(),
                &["q"],
                &[],
            ),
            (
                "ListQueues",
                r#"{"NextToken":"token"}"#.to_owned(),
                &[],
                &[],
            ),
            (
                "DescribeStreamConsumer",
                format!(r#"{{"ConsumerARN":"{arn}/consumer/c:1"}}"#),
                &["s"],
                &[],
            ),
            (
                "TagResource",
                format!(r#"{{"ResourceARN":"{arn}"}}"#),
                &["s"],
                &[],
            ),
            (
                "TagResource",
                format!(r#"{{"ResourceARN":"{queue}"}}"#),
                &["q"],
                &[],
            ),
            (
                "ReceiveQueueRecords",
                format!(r#"{{"QueueARN":"{queue}"}}"#),
                &["q"],
                &[],
            ),
            (
                "DescribeChannel",
                format!(r#"{{"ChannelARN":"{queue}"}}"#),
                &["q"],
                &[],
            ),
            (
                "CreateQueue",
                format!(r#"{{"StreamConfigurationList":{of_s}}}"#),
                &["s"],
                &[],
            ),
            (
                "ListChannels",
                format!(r#"{{"StreamFilter":{of_s}}}"#),
                &["s"],
                &[],
            ),
            (
                "SubscribeToShard",
                format!(r#"{{"ConsumerARN":"{arn}/consumer/c:1","ShardId":"3"}}"#),
                &["s"],
                &[three],
            ),
            (
                "SplitShard",
                r#"{"StreamName":"s","ShardToSplit":"shardId-3"}"#.to_owned(),
                &["s"],
                &[three],
            ),
            (
                "MergeShards",
                format!(
                    r#"{{"StreamName":"s","ShardToMerge":"{three}","AdjacentShardToMerge":"04"}}"#
                ),
                &["s"],
                &[three, "shardId-000000000004"],
            ),
            (
                "GetRecords",
                format!(r#"{{"ShardIterator":"{iterator}"}}"#),
                &["s"],
                &[three],
            ),
            (
                "PutRecord",
                r#"{"StreamName":"s","PartitionKey":"k"}"#.to_owned(),
                &["s"],
                &["shardId-000000000007"],
            ),
            ("PutRecord", "{broken".to_owned(), &[], &[]),
        ];
        for (operation, body, streams, shards) in cases {
            let call = kinesis(operation, &body);
            assert_eq!(call.streams, streams, "{operation} {body}");
            assert_eq!(call.shards, shards, "{operation} {body}");
        }
    }

    #[test]
    fn a_call_of_dynamodb_tells_its_tables() {
        for (operation, body, tables) in [
            (
                "UpdateItem",
                r#"{"TableName":"leases","Key":{}}"#,
                &["leases"][..],
            ),
            (
                "GetItem",
                r#"{"TableName":"arn:aws:dynamodb:us-east-1:000000000000:table/leases"}"#,
                &["leases"],
            ),
            (
                "BatchWriteItem",
                r#"{"RequestItems":{"a":[],"b":[]}}"#,
                &["a", "b"],
            ),
            (
                "TransactWriteItems",
                r#"{"TransactItems":[{"Put":{"TableName":"a","Item":{}}},{"Delete":{"TableName":"b"}}]}"#,
                &["a", "b"],
            ),
            ("ListTables", "{}", &[]),
        ] {
            let target = format!("DynamoDB_20120810.{operation}");
            let head = Request::post("/").header("x-amz-target", target);
            let mut call = call(FaultService::DynamoDb, head);
            call.read(Body::new(Format::Json, body.as_bytes()), |_| None);
            assert_eq!(call.operation, operation);
            assert_eq!(call.streams, tables, "{operation}");
        }
    }
}
