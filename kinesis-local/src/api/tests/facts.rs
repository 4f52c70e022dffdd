//! What the service answers, fact by fact.
//!
//! This module is compiled once for each encoding: every request in it is sent in `FORMAT`, every
//! answer is decoded from it and compared as JSON, so a fact that is held here is held in both.

use super::super::encoding::{decoded, encoded, event_payload, request_in};
use super::super::*;
use super::FORMAT;
use crate::stream::encryption::KmsKeyState;

mod account;
mod auth;
#[cfg(feature = "s3")]
mod channels;
mod consumers;
mod counts;
mod demand;
mod edge;
mod encryption;
#[cfg(feature = "s3")] // channels need buckets
pub(crate) mod errors;
mod get;
mod limits;
mod model;
mod monitoring;
mod policies;
mod put;
mod queues;
mod record_rules;
mod retention;
mod scaling;
mod shards;
mod shared;
mod sites;
mod streams;
mod subscribe;
mod tags;
mod types;
mod unsigned;
mod warm;

pub(crate) const STREAM_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

/// A request as an SDK signs it.
pub(crate) fn request(operation: &str, body: &Value) -> Request<Bytes> {
    encoded(FORMAT, operation, body)
}

/// Status and body of an answer.
pub(crate) async fn answer(
    kinesis: &Kinesis,
    operation: &str,
    body: &Value,
) -> (StatusCode, Value) {
    decoded(FORMAT, kinesis, operation, request(operation, body)).await
}

/// The body of an answer that has to be 200.
pub(crate) async fn ok(kinesis: &Kinesis, operation: &str, body: Value) -> Value {
    let (status, answer) = answer(kinesis, operation, &body).await;
    assert_eq!(status, StatusCode::OK, "{operation}: {answer}");
    answer
}

/// The code and text of an answer that has to be 400.
pub(crate) async fn refused(kinesis: &Kinesis, operation: &str, body: Value) -> (String, String) {
    let (status, fault) = answer(kinesis, operation, &body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{operation}: {fault}");
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

pub(crate) async fn assert_refused(
    kinesis: &Kinesis,
    operation: &str,
    body: Value,
    code: &str,
    text: &str,
) {
    let refusal = refused(kinesis, operation, body.clone()).await;
    assert_eq!(
        (refusal.0.as_str(), refusal.1.as_str()),
        (code, text),
        "{operation} {body}"
    );
}

pub(crate) async fn with_stream(shards: u32) -> Kinesis {
    stream_of(options(), shards).await
}

/// A service of these options that has a stream.
pub(crate) async fn stream_of(options: KinesisOptions, shards: u32) -> Kinesis {
    let kinesis = Kinesis::open(options).unwrap();
    let create = json!({"StreamName": "s", "ShardCount": shards});
    ok(&kinesis, "CreateStream", create).await;
    kinesis
}

/// The states by which the key `alias/a` is refused, each with its code and text.
pub(crate) const KEY_STATES: [(KmsKeyState, &str, &str); 6] = [
    (
        KmsKeyState::Disabled,
        "KMSDisabledException",
        "alias/a is disabled.",
    ),
    (
        KmsKeyState::PendingDeletion,
        "KMSInvalidStateException",
        "alias/a is pending deletion.",
    ),
    (
        KmsKeyState::AccessDenied,
        "KMSAccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in \
         this region, or you are not allowed to access.",
    ),
    (
        KmsKeyState::NotFound,
        "KMSNotFoundException",
        "Key 'alias/a' does not exist",
    ),
    (
        KmsKeyState::OptInRequired,
        "KMSOptInRequired",
        "The AWS Access Key Id needs a subscription for the service",
    ),
    (
        KmsKeyState::Throttling,
        "KMSThrottlingException",
        "Rate exceeded",
    ),
];

/// Puts a record whose data is `text`; its sequence number.
pub(crate) async fn put(kinesis: &Kinesis, key: &str, text: &str) -> String {
    let data = base64_simd::STANDARD.encode_to_string(text);
    let body = json!({"StreamName": "s", "PartitionKey": key, "Data": data});
    let put = ok(kinesis, "PutRecord", body).await;
    put["SequenceNumber"].as_str().unwrap().to_owned()
}

pub(crate) async fn iterator(kinesis: &Kinesis, shard: &str, kind: &str) -> String {
    let body = json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": kind});
    let answer = ok(kinesis, "GetShardIterator", body).await;
    answer["ShardIterator"].as_str().unwrap().to_owned()
}

pub(crate) async fn get(kinesis: &Kinesis, iterator: &str) -> Value {
    ok(kinesis, "GetRecords", json!({"ShardIterator": iterator})).await
}

/// Registers a consumer; its ARN.
pub(crate) async fn register(kinesis: &Kinesis, name: &str) -> String {
    let body = json!({"StreamARN": STREAM_ARN, "ConsumerName": name});
    let answer = ok(kinesis, "RegisterStreamConsumer", body).await;
    answer["Consumer"]["ConsumerARN"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The data of the records in an answer, as text.
pub(crate) fn texts(answer: &Value) -> Vec<String> {
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
