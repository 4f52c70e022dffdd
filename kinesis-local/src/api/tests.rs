//! The service on the wire: raw requests in, codes and texts out.
//!
//! The texts are the service's own (kinesalite's suite, which ran against it, and recorded
//! answers), so these tests compare whole bodies.

use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;

mod auth;
mod cbor;
#[cfg(feature = "s3")]
mod channels;
mod consumers;
mod demand;
mod encryption;
mod front;
mod get;
mod hostile;
mod limits;
mod model;
mod monitoring;
mod policies;
mod put;
mod queues;
mod record_rules;
mod recovery;
mod retention;
mod scaling;
mod shards;
mod sites;
mod streams;
mod subscribe;
mod tags;

/// 2026-11-23 02:00 UTC.
const NOW_MS: u64 = 1_795_399_200_000;

fn options() -> KinesisOptions {
    KinesisOptions {
        clock: Clock::starting_at(NOW_MS),
        rand: Rand::seeded(7),
        data_dir: None,
        region: "us-east-1".to_owned(),
        account: "000000000000".to_owned(),
        limits: Limits::Off,
        auth: None,
        delays: Delays::default(),
        kms: KmsKeys::default(),
        buckets: Buckets::default(),
    }
}

fn kinesis() -> Kinesis {
    Kinesis::open(options()).unwrap()
}

impl Kinesis {
    fn clock(&self) -> Clock {
        self.sites.home.clock.clone()
    }

    fn stream_cell(&self, name: &str) -> Arc<StreamCell> {
        self.sites.home.catalog.get(name).unwrap()
    }
}

/// A request as an SDK signs it.
fn request(operation: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post("/")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .header("x-amz-date", "20261123T020000Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/kinesis/aws4_request, SignedHeaders=host, \
             Signature=abc",
        )
        .body(body.into())
        .unwrap()
}

async fn answer(kinesis: &Kinesis, request: Request<Bytes>) -> (StatusCode, String) {
    let response = kinesis.call(request).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The body of an answer that has to be 200.
async fn ok(kinesis: &Kinesis, operation: &str, body: Value) -> Value {
    let (status, text) = answer(kinesis, request(operation, body.to_string())).await;
    assert_eq!(status, StatusCode::OK, "{operation}: {text}");
    if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap()
    }
}

/// The code and text of an answer that has to be 400.
async fn refused(kinesis: &Kinesis, operation: &str, body: Value) -> (String, String) {
    let (status, text) = answer(kinesis, request(operation, body.to_string())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{operation}: {text}");
    let fault: Value = serde_json::from_str(&text).unwrap();
    let member = if fault["__type"] == "SerializationException" {
        "Message"
    } else {
        "message"
    };
    (
        fault["__type"].as_str().unwrap().to_owned(),
        fault[member].as_str().unwrap_or_default().to_owned(),
    )
}

async fn assert_refused(kinesis: &Kinesis, operation: &str, body: Value, code: &str, text: &str) {
    let refusal = refused(kinesis, operation, body.clone()).await;
    assert_eq!(
        (refusal.0.as_str(), refusal.1.as_str()),
        (code, text),
        "{operation} {body}"
    );
}

async fn with_stream(shards: u32) -> Kinesis {
    let kinesis = kinesis();
    ok(
        &kinesis,
        "CreateStream",
        json!({"StreamName": "s", "ShardCount": shards}),
    )
    .await;
    kinesis
}

/// Puts a record whose data is `text`; its sequence number.
async fn put(kinesis: &Kinesis, key: &str, text: &str) -> String {
    let data = base64_simd::STANDARD.encode_to_string(text);
    let body = json!({"StreamName": "s", "PartitionKey": key, "Data": data});
    let put = ok(kinesis, "PutRecord", body).await;
    put["SequenceNumber"].as_str().unwrap().to_owned()
}

async fn iterator(kinesis: &Kinesis, shard: &str, kind: &str) -> String {
    let body = json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": kind});
    let answer = ok(kinesis, "GetShardIterator", body).await;
    answer["ShardIterator"].as_str().unwrap().to_owned()
}

async fn get(kinesis: &Kinesis, iterator: &str) -> Value {
    ok(kinesis, "GetRecords", json!({"ShardIterator": iterator})).await
}

/// The data of the records in an answer, as text.
fn texts(answer: &Value) -> Vec<String> {
    let text = |record: &Value| {
        let data = base64_simd::STANDARD.decode_to_vec(record["Data"].as_str().unwrap());
        String::from_utf8(data.unwrap()).unwrap()
    };
    answer["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect()
}
