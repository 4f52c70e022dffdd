//! CBOR on the wire: its bytes and its order of checks.

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

/// Runs on a runtime of its own, whose time stands still.
pub(super) fn blocking(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test);
}
