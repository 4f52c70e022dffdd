//! What is checked before a request reaches its operation, where the encoding is not that of an operation;
//! `facts/edge` has the rest, in both.

use http::Method;
use http::header::HeaderValue;

use super::*;

const DENIED: &str = "<AccessDeniedException>\n  <Message>Unable to determine service/operation \
                      name to be authorized</Message>\n</AccessDeniedException>\n";

#[tokio::test(start_paused = true)]
async fn every_refusal_has_its_request_ids_too() {
    let kinesis = kinesis();
    let with = |name: &'static str, value: &'static str| {
        let mut request = request("ListStreams", "{}");
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
        request
    };
    let mut get = request("ListStreams", "");
    *get.method_mut() = Method::GET;
    for refused in [
        get,
        request("ListStreams", ""),
        request("ListStreams", "{"),
        request("DescribeStream", "{}"),
        with("content-type", "text/plain"),
        with("content-type", "application/json"),
        with("content-type", "application/x-amz-cbor-1.1"),
        with("authorization", ""),
    ] {
        let response = kinesis.call(refused).await;
        assert_ne!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-amzn-requestid"].len(), 36);
        assert!(response.headers().contains_key("x-amz-id-2"));
    }
}

#[tokio::test(start_paused = true)]
async fn anything_but_post_is_denied_in_xml() {
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let mut request = request("ListStreams", "{}");
        *request.method_mut() = method;
        let response = kinesis().call(request.clone()).await;
        assert!(!response.headers().contains_key("content-type"));
        assert_eq!(
            answer(&kinesis(), request).await,
            (StatusCode::FORBIDDEN, DENIED.to_owned())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_told_before_its_content_type() {
    let (status, text) = answer(&kinesis(), request("ListStreams", "")).await;
    assert_eq!(
        (status, &*text),
        (
            StatusCode::BAD_REQUEST,
            r#"{"__type":"SerializationException"}"#
        )
    );
    let (_, text) = answer(&kinesis(), request("Nonsense", "")).await;
    assert_eq!(text, r#"{"__type":"UnknownOperationException"}"#);
    // In CBOR to everyone who does not ask for JSON of this version.
    for content_type in [None, Some("text/plain"), Some("application/json")] {
        let mut other = request("ListStreams", "");
        other.headers_mut().remove("content-type");
        if let Some(content_type) = content_type {
            let content_type = HeaderValue::from_static(content_type);
            other.headers_mut().insert("content-type", content_type);
        }
        let response = kinesis().call(other).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            response.headers()["content-type"],
            "application/x-amz-cbor-1.1"
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, &b"\xbf\x66__type\x76SerializationException\xff"[..]);
    }
}

#[tokio::test(start_paused = true)]
async fn another_content_type_is_no_operation() {
    let mut other = request("ListStreams", "{}");
    other
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("text/plain"));
    let (status, text) = answer(&kinesis(), other.clone()).await;
    assert_eq!(
        (status, &*text),
        (StatusCode::NOT_FOUND, "<UnknownOperationException/>\n")
    );
    other.headers_mut().remove("x-amz-target");
    assert_eq!(
        answer(&kinesis(), other).await,
        (StatusCode::FORBIDDEN, DENIED.to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn plain_json_is_answered_in_its_envelope() {
    let mut plain = request("ListStreams", "{}");
    let content_type = HeaderValue::from_static("application/json; charset=utf-8");
    plain.headers_mut().insert("content-type", content_type);
    let (status, text) = answer(&kinesis(), plain.clone()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        text,
        r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#
    );
    *plain.body_mut() = Bytes::from("[]");
    let (status, text) = answer(&kinesis(), plain).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        text,
        r#"{"Output":{"__type":"com.amazon.coral.service#SerializationException"},"Version":"1.0"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn a_browser_may_ask_from_anywhere() {
    let kinesis = kinesis();
    let mut asked = request("ListStreams", "{}");
    asked
        .headers_mut()
        .insert("origin", HeaderValue::from_static("http://x"));
    let response = kinesis.call(asked.clone()).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    assert_eq!(
        response.headers()["access-control-expose-headers"],
        "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date"
    );
    *asked.method_mut() = Method::OPTIONS;
    let wanted = HeaderValue::from_static("x-amz-target");
    asked
        .headers_mut()
        .insert("access-control-request-headers", wanted);
    let wanted = HeaderValue::from_static("POST");
    asked
        .headers_mut()
        .insert("access-control-request-method", wanted);
    let response = kinesis.call(asked).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["access-control-allow-headers"], "x-amz-target");
    assert_eq!(headers["access-control-allow-methods"], "POST");
    assert_eq!(headers["access-control-max-age"], "172800");
    assert!(!headers.contains_key("content-type") && !headers.contains_key("x-amz-id-2"));
}
