//! Bodies that nobody should send: each is answered, and the service lives on.

use proptest::prelude::*;

use super::cbor::blocking;
use super::encoding::{MODEL, request_in, to_cbor};
use super::*;
use crate::wire::Format;

/// A request with most members of the model, good enough to be taken apart.
fn sample() -> Value {
    let entry = json!({"Data": "YWJj", "PartitionKey": "k", "ExplicitHashKey": "7"});
    json!({
        "StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1.5,
        "ShardCount": 1, "Records": [entry, entry], "Data": "YWJj", "PartitionKey": "k",
        "ShardIterator": "x", "Limit": 10, "ConsumerARN": "c", "Tags": {"a": "b"},
        "StartingPosition": {"Type": "LATEST", "Timestamp": 3},
        "ShardFilter": {"Type": "AT_LATEST"}, "Unknown": [{"a": [1.5, null, true]}]
    })
}

/// Bytes of which some were changed, cut or doubled.
fn damaged(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 0..6);
    (changes, 0..=length, 0..=length).prop_map(move |(changes, from, to)| {
        let mut bytes = bytes.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let again = bytes[from.min(to)..].to_vec();
        bytes.truncate(to.max(1));
        bytes.extend(again);
        bytes
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        damaged(to_cbor("", &sample())),
        damaged(sample().to_string().into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_body_is_answered(bytes in any_bytes(), at in 0..MODEL.len()) {
        blocking(async {
            let kinesis = with_stream(1).await;
            let operation = MODEL.keys().nth(at).unwrap();
            for request in [
                request(operation, bytes.clone()),
                request_in(Format::Cbor, operation, bytes),
            ] {
                let status = kinesis.call(request).await.status();
                assert!([200, 400].contains(&status.as_u16()), "{}", status);
            }
            let (status, _) = answer(&kinesis, request("ListStreams", "{}")).await;
            assert_eq!(status, StatusCode::OK);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_nulls_or_of_lists_within_lists_is_refused() {
    let kinesis = with_stream(1).await;
    for fill in [
        &b"\xf6"[..],
        b"\x9f",
        b"\x81",
        b"\xbf\x61a",
        b"\xc1",
        b"\x60",
        b"\x5f",
    ] {
        for name in [&b"\x67Records"[..], b"\x67Unknown"] {
            let body = [&b"\xbf"[..], name, b"\x9f", &fill.repeat(2_000_000)].concat();
            let ended = [&body[..], b"\xff\xff"].concat();
            for body in [body, ended] {
                let status = kinesis
                    .call(request_in(Format::Cbor, "PutRecords", body))
                    .await
                    .status();
                assert_eq!(status, StatusCode::BAD_REQUEST);
            }
        }
    }
    let body = format!(r#"{{"Records":[{}null]}}"#, "null,".repeat(2_000_000));
    let (status, text) = answer(&kinesis, request("PutRecords", body)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.len() < 2_000_000, "{}", text.len());
}
