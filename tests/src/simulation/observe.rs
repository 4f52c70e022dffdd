//! What calls make of the lease table, read off requests and answers.

use std::sync::Arc;

use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::base64;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use kinesis_core::{Position, ShardId};
use serde_json::Value;

use super::log::{Event, Log, Pending, Row};
use super::operator::is_operator;

/// Source: KCL 3.5.1, `DynamoDBLeaseSerializer`.
const KEY: &str = "leaseKey";

/// Key of the leader's lock. Source: KCL 3.5.1, `LeaderLock.LEADER_HASH_KEY`.
const LEADER: &str = "Leader";

/// The operation of a request, without the version of its service.
pub(super) fn operation(request: &HttpRequest) -> String {
    let target = request.headers().get("x-amz-target").unwrap_or("?");
    target.replace("_20131202", "").replace("_20120810", "")
}

/// Whether a request reads or writes the row of the leader's lock.
pub(super) fn is_of_lock(request: &HttpRequest) -> bool {
    let body = request.body().bytes();
    let body = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
    body.is_some_and(|body| text(&body["Key"], KEY).as_deref() == Some(LEADER))
}

/// The request, so that the answer has the row as it is after it, where it updates one: what an operator
/// sends does not ask for that.
pub(super) fn asking_for_the_row(operation: &str, mut request: HttpRequest) -> HttpRequest {
    if operation != "DynamoDB.UpdateItem" {
        return request;
    }
    let body = request.body().bytes();
    let body = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
    if let Some(mut body) = body.filter(|body| body.get("ReturnValues").is_none()) {
        body["ReturnValues"] = "ALL_NEW".into();
        let body = body.to_string();
        let length = body.len().to_string();
        *request.body_mut() = SdkBody::from(body);
        request.headers_mut().insert("content-length", length);
    }
    request
}

/// A write of one row of the table.
pub(super) enum Written {
    /// The answer has the row.
    Updated {
        key: String,
        leader: Option<String>,
        /// It sets the checkpoint as an operator does.
        resets: bool,
    },
    /// The request has it.
    Put(Value),
    Deleted {
        key: String,
    },
}

impl Written {
    /// What a request writes, if it writes.
    pub(super) fn of(operation: &str, request: &HttpRequest) -> Option<Self> {
        let (_, operation) = operation.split_once('.')?;
        if !matches!(operation, "UpdateItem" | "PutItem" | "DeleteItem") {
            return None;
        }
        let body: Value = serde_json::from_slice(request.body().bytes()?).ok()?;
        let key = || text(&body["Key"], KEY);
        match operation {
            "PutItem" => Some(Self::Put(body["Item"].clone())),
            "DeleteItem" => Some(Self::Deleted { key: key()? }),
            _ => Some(Self::Updated {
                key: key()?,
                leader: text(&body["ExpressionAttributeValues"], ":me"),
                resets: body["ExpressionAttributeNames"]["#checkpoint"].is_string(),
            }),
        }
    }

    /// Tells the log what a worker wrote, if the answer says that it did.
    pub(super) async fn observe(
        self,
        answer: HttpResponse,
        worker: &Arc<str>,
        log: &Log,
    ) -> HttpResponse {
        if !answer.status().is_success() {
            return answer;
        }
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = ByteStream::new(answer.into_body()).collect().await;
        let body = body.expect("kinesis-local answers whole").into_bytes();
        match self {
            Self::Updated {
                key,
                leader: Some(worker),
                ..
            } if key == LEADER => log.push(Event::Led { worker }),
            Self::Updated { key, resets, .. } => {
                if resets && is_shard(&key) && is_operator(worker) {
                    let (lease, deed) = (ShardId::from(key.as_str()), Arc::clone(worker));
                    log.push(Event::Reset { lease, deed });
                }
                let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
                lease(&answer["Attributes"], log);
            }
            Self::Put(item) => lease(&item, log),
            Self::Deleted { key } if is_shard(&key) => {
                let lease = ShardId::from(key.as_str());
                let by_hand = is_operator(worker);
                log.push(Event::RowDeleted { lease, by_hand });
            }
            Self::Deleted { key } if key == LEADER => log.push(Event::GaveBack {
                worker: Arc::clone(worker),
            }),
            Self::Deleted { .. } => {}
        }
        let mut answer = HttpResponse::new(status, SdkBody::from(body));
        *answer.headers_mut() = headers;
        answer
    }
}

fn lease(item: &Value, log: &Log) {
    let Some(key) = text(item, KEY).filter(|key| is_shard(key)) else {
        return;
    };
    let number = |name: &str| item[name]["N"].as_str()?.parse::<u64>().ok();
    let checkpoint = text(item, "checkpoint").expect("a lease has a checkpoint");
    let sub_sequence = number("checkpointSubSequenceNumber").unwrap_or(0);
    log.push(Event::Row {
        lease: ShardId::from(key.as_str()),
        row: Row {
            owner: text(item, "leaseOwner"),
            checkpoint_owner: text(item, "checkpointOwner"),
            counter: number("leaseCounter").unwrap_or(0),
            checkpoint: Position::parse(&checkpoint, sub_sequence).expect("a checkpoint"),
            pending: pending(item),
            starts_at: number("startTimestampMillis"),
        },
    });
}

fn pending(item: &Value) -> Option<Pending> {
    let position = text(item, "pendingCheckpoint")?;
    let sub_sequence = item["pendingCheckpointSubSequenceNumber"]["N"].as_str();
    let sub_sequence = sub_sequence.and_then(|digits| digits.parse().ok());
    let state = item["pendingCheckpointState"]["B"].as_str().unwrap_or("");
    let state = base64::decode(state).expect("bytes");
    Some(Pending {
        position: Position::parse(&position, sub_sequence.unwrap_or(0)).expect("a checkpoint"),
        state: String::from_utf8_lossy(&state).into_owned(),
    })
}

fn is_shard(key: &str) -> bool {
    // Behind its stream, where an application reads several.
    let shard = key.rsplit_once(':').map_or(key, |(_, shard)| shard);
    shard.starts_with("shardId-")
}

fn text(item: &Value, name: &str) -> Option<String> {
    item[name]["S"].as_str().map(str::to_owned)
}
