//! What is checked before a request reaches its operation, and what every answer has.

use http::Method;
use http::header::HeaderValue;

use super::super::super::encoding::to_cbor;
use super::*;
use crate::wire::Format;

/// What is told in the request's encoding: a code, and no text.
fn bare(code: &str) -> Vec<u8> {
    match FORMAT {
        Format::Json => format!(r#"{{"__type":"{code}"}}"#).into(),
        Format::Cbor => to_cbor("", &json!({ "__type": code })),
    }
}

fn empty_structure() -> &'static [u8] {
    match FORMAT {
        Format::Json => b"{}",
        Format::Cbor => b"\xbf\xff",
    }
}

async fn told(request: Request<Bytes>) -> (http::response::Parts, Bytes) {
    let (head, body) = kinesis().call(request).await.into_parts();
    (head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test(start_paused = true)]
async fn every_answer_says_which_it_is_how_long_and_in_which_encoding() {
    let kinesis = kinesis();
    let mut ids = Vec::new();
    for (operation, body) in [
        ("ListStreams", json!({})),
        ("CreateStream", json!({"StreamName": "s", "ShardCount": 1})),
        ("DescribeStream", json!({"StreamName": "none"})),
        ("DescribeStream", json!({"StreamName": ""})),
        ("Nonsense", json!({})),
    ] {
        let request = encoded(FORMAT, operation, &body);
        let (head, body) = kinesis.call(request).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name: &str| head.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), FORMAT.content_type(), "{operation}");
        assert_eq!(
            header("content-length"),
            body.len().to_string(),
            "{operation}"
        );
        assert_eq!(header("x-amzn-requestid").len(), 36);
        let id_2 = base64_simd::STANDARD
            .decode_to_vec(header("x-amz-id-2"))
            .unwrap();
        assert!((64..=80).contains(&id_2.len()));
        ids.extend([header("x-amzn-requestid"), header("x-amz-id-2")]);
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "each is another");
}

#[tokio::test(start_paused = true)]
async fn neither_the_path_nor_what_follows_the_encoding_is_looked_at() {
    let mut odd = request_in(FORMAT, "ListStreams", empty_structure());
    *odd.uri_mut() = "/some/path?and=query".parse().unwrap();
    let kind = format!(" {} ; charset=utf-8", FORMAT.content_type());
    let kind = HeaderValue::from_str(&kind).unwrap();
    odd.headers_mut().insert("content-type", kind);
    assert_eq!(told(odd).await.0.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn anything_but_post_is_denied_in_xml_whatever_its_encoding() {
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let mut request = request_in(FORMAT, "ListStreams", empty_structure());
        *request.method_mut() = method;
        let (head, body) = told(request).await;
        assert_eq!(head.status, StatusCode::FORBIDDEN);
        assert!(!head.headers.contains_key("content-type"));
        assert!(body.starts_with(b"<AccessDeniedException>"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_or_broken_body_and_an_unknown_operation_are_told_in_the_encoding_without_a_text()
{
    let broken: &[&[u8]] = match FORMAT {
        Format::Json => &[b"hello", b"[]", b"{"],
        Format::Cbor => &[b"\xff", b"\x80", b"\xbf"],
    };
    let mut cases = vec![
        ("ListStreams", &b""[..], "SerializationException"),
        ("Nonsense", b"", "UnknownOperationException"),
        ("Nonsense", empty_structure(), "UnknownOperationException"),
    ];
    for body in broken {
        cases.push(("ListStreams", body, "SerializationException"));
        cases.push(("Nonsense", body, "SerializationException"));
    }
    for (operation, body, code) in cases {
        // Before anything is said of a signature that is missing.
        let mut request = request_in(FORMAT, operation, body);
        request.headers_mut().remove("authorization");
        let (head, told) = told(request).await;
        assert_eq!(head.status, StatusCode::BAD_REQUEST, "{operation} {body:?}");
        assert_eq!(head.headers["content-type"], FORMAT.content_type());
        assert_eq!(told, bare(code), "{operation} {body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_browser_may_ask_in_either_encoding() {
    let mut asked = request_in(FORMAT, "ListStreams", empty_structure());
    let origin = HeaderValue::from_static("http://x");
    asked.headers_mut().insert("origin", origin);
    let (head, _) = told(asked.clone()).await;
    assert_eq!(head.headers["access-control-allow-origin"], "*");
    let exposed = &head.headers["access-control-expose-headers"];
    assert!(exposed.to_str().unwrap().starts_with("x-amzn-RequestId,"));
    *asked.method_mut() = Method::OPTIONS;
    let (head, body) = told(asked).await;
    assert_eq!((head.status, &*body), (StatusCode::OK, &b""[..]));
    assert_eq!(head.headers["access-control-max-age"], "172800");
    assert!(!head.headers.contains_key("content-type"));
    assert!(!head.headers.contains_key("x-amz-id-2"));
}
