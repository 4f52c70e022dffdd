//! What a rule can know of a call, read from its head and, if any rule asks for it, its body.

use http::HeaderMap;
use http::request::Parts;
use kinesis_core::{HashKey, ShardId};
use serde::Deserialize;

use super::plan::FaultService;
use crate::stream::iterator::ShardIterator;
use crate::wire::read::{Text, decode};
use crate::wire::{Body, Format};

/// A call as rules see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    pub(super) service: Option<FaultService>,
    pub(super) operation: String,
    /// The stream, table or bucket.
    pub(super) stream: Option<String>,
    pub(super) shard: Option<String>,
    /// The hash key of the one record that is put.
    pub(super) hash_key: Option<HashKey>,
    pub(super) access_key: Option<String>,
    pub(super) user_agents: Vec<String>,
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
    shard_id: Option<Text<'a>>,
    shard_to_split: Option<Text<'a>>,
    shard_to_merge: Option<Text<'a>>,
    shard_iterator: Option<Text<'a>>,
    partition_key: Option<Text<'a>>,
    explicit_hash_key: Option<Text<'a>>,
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
            stream,
            access_key: access_key(&head.headers, head.uri.query()),
            user_agents: agents.into_iter().flatten().map(str::to_owned).collect(),
            ..Self::default()
        }
    }

    /// What the body tells too; one that cannot be read tells nothing.
    pub(super) fn read(&mut self, body: Body<'_>) {
        match self.service {
            Some(FaultService::Kinesis) => self.read_kinesis(body),
            Some(FaultService::DynamoDb) => {
                let table: Option<Table> = serde_json::from_slice(body.bytes).ok();
                self.stream = table.and_then(|table| table.table_name);
            }
            Some(FaultService::S3) | None => {}
        }
    }

    fn read_kinesis(&mut self, body: Body<'_>) {
        let Ok(named) = decode::<Named<'_>>(body) else {
            return;
        };
        let arns = [named.stream_arn, named.consumer_arn, named.resource_arn];
        let in_arn = arns.iter().flatten().find_map(|arn| name_in_arn(arn));
        let name = named.stream_name.as_deref().or(in_arn);
        self.stream = name.map(str::to_owned);
        let shards = [named.shard_id, named.shard_to_split, named.shard_to_merge];
        self.shard = shards.into_iter().flatten().next().map(|id| id.to_string());
        if let Some(iterator) = named
            .shard_iterator
            .as_deref()
            .and_then(ShardIterator::read)
        {
            let id = ShardId::from_index(u64::from(iterator.shard_index));
            self.shard = Some(id.as_str().to_owned());
            self.stream = Some(iterator.stream);
        }
        let explicit = named.explicit_hash_key.and_then(|key| key.parse().ok());
        let key = named.partition_key.as_deref();
        self.hash_key = explicit.or(key.map(HashKey::of_partition_key));
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

    fn kinesis(operation: &str, body: &str) -> Call {
        let target = format!("Kinesis_20131202.{operation}");
        let mut call = call(
            FaultService::Kinesis,
            Request::post("/").header("x-amz-target", target),
        );
        call.read(Body::new(Format::Json, body.as_bytes()));
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
            (&*told.operation, told.stream.as_deref()),
            ("GET", Some("logs"))
        );
        assert_eq!(told.access_key.as_deref(), Some("AKID"));
    }

    #[test]
    fn the_body_tells_stream_and_shard_however_they_are_named() {
        let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
        let iterator = ShardIterator {
            account: "000000000000".to_owned(),
            stream: "s".to_owned(),
            stream_id: 1,
            shard_index: 3,
            position: 0,
            created_ms: 0,
        };
        let three = "shardId-000000000003";
        let cases = [
            ("DescribeStream", r#"{"StreamName":"s"}"#.to_owned(), None),
            ("ListShards", format!(r#"{{"StreamARN":"{arn}"}}"#), None),
            (
                "SubscribeToShard",
                format!(r#"{{"ConsumerARN":"{arn}/consumer/c:1","ShardId":"{three}"}}"#),
                Some(three),
            ),
            (
                "SplitShard",
                format!(r#"{{"StreamName":"s","ShardToSplit":"{three}"}}"#),
                Some(three),
            ),
            (
                "GetRecords",
                format!(r#"{{"ShardIterator":"{}"}}"#, iterator.seal(1)),
                Some(three),
            ),
        ];
        for (operation, body, shard) in cases {
            let call = kinesis(operation, &body);
            assert_eq!(call.stream.as_deref(), Some("s"), "{operation}");
            assert_eq!(call.shard.as_deref(), shard, "{operation}");
        }
        let put = kinesis("PutRecord", r#"{"StreamName":"s","PartitionKey":"k"}"#);
        assert_eq!(put.hash_key, Some(HashKey::of_partition_key("k")));
        assert_eq!(kinesis("PutRecord", "{broken").stream, None);
    }

    #[test]
    fn a_call_of_dynamodb_tells_its_table() {
        let target = "DynamoDB_20120810.UpdateItem";
        let mut call = call(
            FaultService::DynamoDb,
            Request::post("/").header("x-amz-target", target),
        );
        call.read(Body::new(
            Format::Json,
            br#"{"TableName":"leases","Key":{}}"#,
        ));
        assert_eq!(call.operation, "UpdateItem");
        assert_eq!(call.stream.as_deref(), Some("leases"));
    }
}
