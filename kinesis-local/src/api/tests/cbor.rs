//! CBOR on the wire: the same service as in JSON.

use std::collections::HashMap;

use aws_smithy_eventstream::frame::read_message_from;
use ciborium::Value as Cbor;
use http::header::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::wire::Format;

/// The request in CBOR as the SDK for Java writes it: no lengths of structures and lists, blobs as
/// byte strings, timestamps as tag 1 and milliseconds.
pub(super) fn to_cbor(name: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Object(members) => {
            out.push(0xbf);
            for (name, value) in members {
                ciborium::into_writer(name, &mut out).unwrap();
                out.extend(to_cbor(name, value));
            }
            out.push(0xff);
        }
        Value::Array(items) => {
            out.push(0x9f);
            items
                .iter()
                .for_each(|item| out.extend(to_cbor(name, item)));
            out.push(0xff);
        }
        Value::String(text) if name == "Data" => {
            let bytes = base64_simd::STANDARD.decode_to_vec(text).unwrap();
            ciborium::into_writer(&Cbor::Bytes(bytes), &mut out).unwrap();
        }
        Value::Number(seconds) if name.ends_with("Timestamp") => {
            let ms = (seconds.as_f64().unwrap() * 1000.0).round() as u64;
            let tagged = Cbor::Tag(1, Box::new(Cbor::Integer(ms.into())));
            ciborium::into_writer(&tagged, &mut out).unwrap();
        }
        other => ciborium::into_writer(other, &mut out).unwrap(),
    }
    out
}

/// The answer as it were in JSON. Checks what JSON cannot tell: the forms of blobs and timestamps.
pub(super) fn to_json(value: Cbor) -> Value {
    match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(bool) => bool.into(),
        Cbor::Integer(number) => i64::try_from(number).unwrap().into(),
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => base64_simd::STANDARD.encode_to_string(bytes).into(),
        Cbor::Tag(1, ms) => {
            let ms = u64::try_from(ms.into_integer().expect("integer milliseconds")).unwrap();
            assert!(ms > NOW_MS / 2, "{ms} is no time in milliseconds");
            (ms as f64 / 1000.0).into()
        }
        Cbor::Array(items) => items.into_iter().map(to_json).collect(),
        Cbor::Map(pairs) => pairs
            .into_iter()
            .map(|(name, value)| (name.into_text().unwrap(), to_json(value)))
            .collect(),
        other => panic!("an answer has no {other:?}"),
    }
}

pub(super) fn cbor_request(operation: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    let mut request = request(operation, body);
    let content_type = HeaderValue::from_static(Format::Cbor.content_type());
    request.headers_mut().insert("content-type", content_type);
    request
}

async fn raw(kinesis: &Kinesis, request: Request<Bytes>) -> (StatusCode, String, Bytes) {
    let response = kinesis.call(request).await;
    let (head, body) = response.into_parts();
    let content_type = head.headers["content-type"].to_str().unwrap().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, content_type, body)
}

/// The status and body of an answer in CBOR, as JSON.
async fn in_cbor(kinesis: &Kinesis, operation: &str, body: &Value) -> (StatusCode, Value) {
    let request = cbor_request(operation, to_cbor("", body));
    let (status, content_type, body) = raw(kinesis, request).await;
    assert_eq!(content_type, "application/x-amz-cbor-1.1");
    if body.is_empty() {
        return (status, Value::Null);
    }
    (status, to_json(ciborium::from_reader(&body[..]).unwrap()))
}

async fn in_json(kinesis: &Kinesis, operation: &str, body: &Value) -> (StatusCode, Value) {
    let request = request(operation, body.to_string());
    let (status, content_type, body) = raw(kinesis, request).await;
    assert_eq!(content_type, "application/x-amz-json-1.1");
    if body.is_empty() {
        return (status, Value::Null);
    }
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_what_the_sdk_for_java_reads() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "abc").await;
    let iterator = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let body = to_cbor("", &json!({"ShardIterator": iterator}));
    let (status, _, answer) = raw(&kinesis, cbor_request("GetRecords", body)).await;
    assert_eq!(status, StatusCode::OK);
    let has = |bytes: &[u8]| answer.windows(bytes.len()).any(|window| window == bytes);
    assert_eq!((answer[0], answer.last()), (0xbf, Some(&0xff)));
    assert!(has(b"\x67Records\x9f\xbf"));
    assert!(has(b"\x64Data\x43abc"));
    // 1,795,399,200,000 ms
    assert!(has(
        b"\x78\x1bApproximateArrivalTimestamp\xc1\x1b\x00\x00\x01\xa2\x06\x21\xad\x00"
    ));
    assert!(has(b"\x72MillisBehindLatest\x00"));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_in_cbor_too() {
    let (status, answer) = in_cbor(&kinesis(), "DescribeStream", &json!({"StreamName": "x"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer,
        json!({
            "__type": "ResourceNotFoundException",
            "message": "Stream x under account 000000000000 not found."
        })
    );
    let (_, answer) = in_cbor(&kinesis(), "DescribeStream", &json!({"StreamName": 1})).await;
    assert_eq!(
        answer,
        json!({
            "__type": "SerializationException",
            "Message": "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be \
                        converted to an String"
        })
    );
}

#[tokio::test]
async fn the_checks_come_in_the_same_order_as_for_json() {
    let kinesis = kinesis();
    let bare = |code: &str| json!({ "__type": code });
    let (serialization, unknown) = ("SerializationException", "UnknownOperationException");
    let cases = [
        ("ListStreams", &b""[..], bare(serialization)),
        ("Nonsense", b"", bare(unknown)),
        ("Nonsense", b"\xbf\xff", bare(unknown)),
        ("Nonsense", b"\xbf", bare(serialization)),
        ("ListStreams", b"{}", bare(serialization)),
        ("ListStreams", b"\x80", bare(serialization)),
    ];
    for (operation, body, expected) in cases {
        let (status, content_type, answer) = raw(&kinesis, cbor_request(operation, body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(content_type, "application/x-amz-cbor-1.1");
        let answer = to_json(ciborium::from_reader(&answer[..]).unwrap());
        assert_eq!(answer, expected, "{operation} {body:02x?}");
    }
    for (body, code) in [
        (&b"\xbf\xff"[..], "MissingAuthenticationTokenException"),
        (b"\xbf", serialization),
    ] {
        let mut unsigned = cbor_request("ListStreams", body);
        unsigned.headers_mut().remove("authorization");
        let (_, _, answer) = raw(&kinesis, unsigned).await;
        let answer = to_json(ciborium::from_reader(&answer[..]).unwrap());
        assert_eq!(answer["__type"], code);
    }
    let (status, _, answer) = raw(&kinesis, request("ListStreams", &b"\xbf\xff"[..])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer, r#"{"__type":"SerializationException"}"#);
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_members_has_no_body() {
    let create = json!({"StreamName": "s", "ShardCount": 1});
    let (status, answer) = in_cbor(&kinesis(), "CreateStream", &create).await;
    assert_eq!((status, answer), (StatusCode::OK, Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_by_cbor_has_events_in_cbor() {
    let kinesis = with_stream(1).await;
    let arn = consumers::register(&kinesis, "c").await;
    put(&kinesis, "k", "abc").await;
    let start = json!({"Type": "AT_TIMESTAMP", "Timestamp": NOW_MS as f64 / 1000.0});
    let subscribe = json!({"ConsumerARN": arn, "ShardId": "0", "StartingPosition": start});
    let request = cbor_request("SubscribeToShard", to_cbor("", &subscribe));
    let response = kinesis.call(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.amazon.eventstream"
    );
    let mut body = response.into_body();
    let mut frame = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let message = read_message_from(frame).unwrap();
        let headers: HashMap<String, String> = message
            .headers()
            .iter()
            .map(|header| {
                let value = header.value().as_string().unwrap().as_str().to_owned();
                (header.name().as_str().to_owned(), value)
            })
            .collect();
        assert_eq!(headers[":content-type"], "application/x-amz-cbor-1.1");
        (headers, message.payload().clone())
    };
    let (headers, payload) = frame().await;
    assert_eq!(headers[":event-type"], "initial-response");
    assert_eq!(payload, &b"\xbf\xff"[..]);
    let (headers, payload) = frame().await;
    assert_eq!(headers[":event-type"], "SubscribeToShardEvent");
    let event = to_json(ciborium::from_reader(&payload[..]).unwrap());
    assert_eq!(texts(&event), ["abc"]);
    ok(
        &kinesis,
        "DeleteStream",
        json!({"StreamName": "s", "EnforceConsumerDeletion": true}),
    )
    .await;
    let (headers, payload) = frame().await;
    assert_eq!(headers[":message-type"], "exception");
    assert_eq!(headers[":exception-type"], "ResourceNotFoundException");
    let refusal = to_json(ciborium::from_reader(&payload[..]).unwrap());
    assert!(refusal["message"].as_str().unwrap().contains("not found"));
}

#[tokio::test(start_paused = true)]
async fn a_queue_by_cbor_is_the_queue_by_json() {
    let kinesis = kinesis();
    let mode = json!({"StreamMode": "ON_DEMAND"});
    let create = json!({"StreamName": "s", "StreamModeDetails": mode});
    ok(&kinesis, "CreateStream", create).await;
    let start = json!({"Type": "AT_TIMESTAMP", "Timestamp": NOW_MS as f64 / 1000.0});
    let stream = json!({"StreamARN": consumers::STREAM_ARN, "StartingPosition": start});
    let create = json!({"QueueName": "q", "StreamConfigurationList": [stream.clone()]});
    let (status, created) = in_cbor(&kinesis, "CreateQueue", &create).await;
    assert_eq!(status, StatusCode::OK, "{created}");
    let arn = &created["QueueDescription"]["QueueARN"];
    let by_arn = json!({"QueueARN": arn});
    assert_eq!(
        created["QueueDescription"]["StreamConfigurationList"][0],
        stream
    );
    let described = ok(&kinesis, "DescribeQueue", by_arn.clone()).await;
    assert_eq!(described, created);
    put(&kinesis, "k", "abc").await;
    let now = json!({"QueueARN": arn, "VisibilityTimeoutSeconds": 0});
    let (_, in_cbor_records) = in_cbor(&kinesis, "ReceiveQueueRecords", &now).await;
    let (_, in_json_records) = in_json(&kinesis, "ReceiveQueueRecords", &now).await;
    let bare = |answer: &Value| {
        let mut record = answer["QueueRecords"][0].clone();
        record["ReceiptHandle"].take();
        record["ReceiveCount"].take();
        record
    };
    assert_eq!(bare(&in_cbor_records), bare(&in_json_records));
    assert_eq!(bare(&in_cbor_records)["Data"], "YWJj");
    let handle = &in_json_records["QueueRecords"][0]["ReceiptHandle"];
    let stale = &in_cbor_records["QueueRecords"][0]["ReceiptHandle"];
    let entries = json!([{"ReceiptHandle": handle}, {"ReceiptHandle": stale}]);
    let acknowledge = json!({"QueueARN": arn, "Entries": entries});
    let (_, answer) = in_cbor(&kinesis, "AcknowledgeQueueRecords", &acknowledge).await;
    assert_eq!(answer["Successful"], json!([{"ReceiptHandle": handle}]));
    assert_eq!(answer["Failed"][0]["ErrorCode"], "InvalidArgumentException");
}

/// One request; `ITERATOR` and `ARN` in it stand for the last that was answered.
#[derive(Clone, Debug)]
struct Step {
    operation: &'static str,
    body: Value,
}

fn step(operation: &'static str, body: Value) -> BoxedStrategy<Step> {
    Just(Step { operation, body }).boxed()
}

fn a_shard() -> impl Strategy<Value = String> {
    (0..5u32).prop_map(|index| format!("shardId-{index:012}"))
}

fn a_put() -> impl Strategy<Value = Value> {
    ("[a-z]{0,3}", any::<Vec<u8>>()).prop_map(|(key, data)| {
        let data = base64_simd::STANDARD.encode_to_string(data);
        json!({"PartitionKey": key, "Data": data})
    })
}

fn an_iterator() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        Just(json!({"ShardIteratorType": "TRIM_HORIZON"})),
        Just(json!({"ShardIteratorType": "LATEST"})),
        Just(json!({"ShardIteratorType": "AT_TIMESTAMP"})),
        Just(json!({"ShardIteratorType": "WRONG"})),
        (0..2000u64).prop_map(|ms| json!({
            "ShardIteratorType": "AT_TIMESTAMP",
            "Timestamp": (NOW_MS - 1000 + ms) as f64 / 1000.0
        })),
    ];
    (a_shard(), kind).prop_map(|(shard, mut body)| {
        body["ShardId"] = shard.into();
        body["StreamName"] = "s".into();
        Step {
            operation: "GetShardIterator",
            body,
        }
    })
}

fn a_write() -> impl Strategy<Value = Step> {
    let records = prop::collection::vec(a_put(), 0..5);
    prop_oneof![
        a_put().prop_map(|mut body| {
            body["StreamName"] = "s".into();
            Step {
                operation: "PutRecord",
                body,
            }
        }),
        records.prop_map(|records| Step {
            operation: "PutRecords",
            body: json!({"StreamName": "s", "Records": records}),
        }),
    ]
}

fn a_change() -> impl Strategy<Value = Step> {
    let split = (a_shard(), "[1-9][0-9]{0,39}").prop_map(|(shard, key)| Step {
        operation: "SplitShard",
        body: json!({"StreamName": "s", "ShardToSplit": shard, "NewStartingHashKey": key}),
    });
    let merge = (a_shard(), a_shard()).prop_map(|(one, other)| Step {
        operation: "MergeShards",
        body: json!({"StreamName": "s", "ShardToMerge": one, "AdjacentShardToMerge": other}),
    });
    prop_oneof![
        4 => split,
        4 => merge,
        1 => step("DeleteStream", json!({"StreamName": "s"})),
        1 => step("CreateStream", json!({"StreamName": "s", "ShardCount": 2})),
    ]
}

/// A request with a member of any type, right or wrong.
fn an_odd_one() -> impl Strategy<Value = Step> {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([1])),
        Just(json!({"a": "b"})),
    ];
    let member = prop_oneof![
        Just(("ListShards", "MaxResults")),
        Just(("ListShards", "StreamName")),
        Just(("ListShards", "ShardFilter")),
        Just(("PutRecords", "Records")),
        Just(("CreateStream", "ShardCount")),
        Just(("CreateStream", "Tags")),
        Just(("CreateStream", "StreamModeDetails")),
        Just(("DeleteStream", "EnforceConsumerDeletion")),
        Just(("ListStreams", "Limit")),
        Just(("ListStreams", "Unknown")),
    ];
    (member, value).prop_map(|((operation, name), value)| Step {
        operation,
        body: json!({ name: value }),
    })
}

fn a_read() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => an_iterator(),
        4 => step("GetRecords", json!({"ShardIterator": "ITERATOR"})),
        1 => step("GetRecords", json!({"ShardIterator": "ITERATOR", "Limit": 1})),
        1 => step("DescribeStream", json!({"StreamName": "s"})),
        1 => step("DescribeStreamSummary", json!({"StreamName": "s"})),
        1 => step("ListShards", json!({"StreamName": "s"})),
        1 => step("ListStreams", json!({})),
        1 => step("RegisterStreamConsumer", json!({"StreamARN": ARN, "ConsumerName": "c"})),
        1 => step("ListStreamConsumers", json!({"StreamARN": ARN})),
        1 => step("DescribeStreamConsumer", json!({"StreamARN": ARN, "ConsumerName": "c"})),
    ]
}

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = prop_oneof![
        4 => a_write(),
        6 => a_read(),
        2 => a_change(),
        2 => an_odd_one(),
    ];
    prop::collection::vec(any, 1..40)
}

/// Runs the steps in both encodings, each on its own service; all answers have to be alike.
async fn run_both(steps: Vec<Step>) {
    let (one, other) = (with_stream(2).await, with_stream(2).await);
    let mut iterator = Value::from("none");
    for Step {
        operation,
        mut body,
    } in steps
    {
        if body["ShardIterator"] == "ITERATOR" {
            body["ShardIterator"] = iterator.clone();
        }
        let json = in_json(&one, operation, &body).await;
        let cbor = in_cbor(&other, operation, &body).await;
        assert_eq!(json, cbor, "{operation} {body}");
        for member in ["ShardIterator", "NextShardIterator"] {
            if let Some(next) = json.1.get(member) {
                iterator = next.clone();
            }
        }
    }
}

/// Runs on a runtime of its own, whose time stands still.
pub(super) fn blocking(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn json_and_cbor_are_answered_alike(steps in steps()) {
        blocking(run_both(steps));
    }
}
