//! CBOR on the wire: its bytes, its order of checks, and that it says nothing that JSON does not.

use proptest::prelude::*;

use super::encoding::{request_in, to_cbor, to_json};
use super::*;
use crate::wire::Format;

fn cbor_request(operation: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    request_in(Format::Cbor, operation, body)
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
