//! What is checked before a request reaches its operation.

use http::Method;
use http::header::HeaderValue;

use super::*;

const DENIED: &str = "<AccessDeniedException>\n  <Message>Unable to determine service/operation \
                      name to be authorized</Message>\n</AccessDeniedException>\n";

#[tokio::test]
async fn every_answer_has_its_request_ids() {
    let kinesis = kinesis();
    let one = kinesis.call(request("ListStreams", "{}")).await;
    let other = kinesis.call(request("Nonsense", "{}")).await;
    for response in [&one, &other] {
        assert_eq!(response.headers()["x-amzn-requestid"].len(), 36);
        let id_2 = response.headers()["x-amz-id-2"].as_bytes();
        let bytes = base64_simd::STANDARD.decode_to_vec(id_2).unwrap();
        assert!((64..=80).contains(&bytes.len()));
        assert_eq!(
            response.headers()["content-type"],
            "application/x-amz-json-1.1"
        );
    }
    assert_ne!(
        one.headers()["x-amzn-requestid"],
        other.headers()["x-amzn-requestid"]
    );
    assert_ne!(one.headers()["x-amz-id-2"], other.headers()["x-amz-id-2"]);
}

#[tokio::test]
async fn anything_but_post_is_denied_in_xml() {
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let mut request = request("ListStreams", "{}");
        *request.method_mut() = method;
        assert_eq!(
            answer(&kinesis(), request).await,
            (StatusCode::FORBIDDEN, DENIED.to_owned())
        );
    }
}

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn a_body_that_does_not_parse_is_told_before_anything_about_it() {
    for operation in ["ListStreams", "Nonsense"] {
        for body in ["hello", "[]", "{"] {
            let mut request = request(operation, body);
            request.headers_mut().remove("authorization");
            let (status, text) = answer(&kinesis(), request).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert_eq!(
                text, r#"{"__type":"SerializationException"}"#,
                "{operation} {body}"
            );
        }
    }
}

#[tokio::test]
async fn an_unknown_operation_has_no_text() {
    let (status, text) = answer(&kinesis(), request("Nonsense", "{}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(text, r#"{"__type":"UnknownOperationException"}"#);
}

#[tokio::test]
async fn a_request_without_a_signature_misses_its_token() {
    let mut unsigned = request("ListStreams", "{}");
    unsigned.headers_mut().remove("authorization");
    let (_, text) = answer(&kinesis(), unsigned).await;
    assert_eq!(
        text,
        r#"{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}"#
    );
}

#[tokio::test]
async fn an_incomplete_signature_is_told_what_it_lacks() {
    let mut bad = request("ListStreams", "{}");
    let header = HeaderValue::from_static("AWS4-HMAC-SHA256 Signature=b");
    bad.headers_mut().insert("authorization", header);
    bad.headers_mut().remove("x-amz-date");
    let (status, text) = answer(&kinesis(), bad).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let fault: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(fault["__type"], "IncompleteSignatureException");
    assert_eq!(
        fault["message"],
        "Authorization header requires 'Credential' parameter. Authorization header requires \
         'SignedHeaders' parameter. Authorization header requires existence of either a \
         'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256"
    );
}

#[tokio::test]
async fn two_signatures_are_one_too_many_and_a_presigned_one_needs_all_its_parts() {
    let mut both = request("ListStreams", "{}");
    *both.uri_mut() = "/?X-Amz-Algorithm=a".parse().unwrap();
    let (_, text) = answer(&kinesis(), both.clone()).await;
    assert!(text.contains("InvalidSignatureException"), "{text}");
    assert!(
        text.contains("Found both 'X-Amz-Algorithm' as a query-string param"),
        "{text}"
    );
    both.headers_mut().remove("authorization");
    let (_, text) = answer(&kinesis(), both.clone()).await;
    assert!(
        text.contains(
            "AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string \
             parameters must include 'X-Amz-Signature'."
        ) && text.contains("Re-examine the query-string parameters."),
        "{text}"
    );
    *both.uri_mut() = "/?X-Amz-Algorithm=a&X-Amz-Credential=b&X-Amz-Signature=c&\
                       X-Amz-SignedHeaders=d&X-Amz-Date=e"
        .parse()
        .unwrap();
    assert_eq!(answer(&kinesis(), both).await.0, StatusCode::OK);
}

#[tokio::test]
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
    let response = kinesis.call(asked).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-headers"], "x-amz-target");
    assert_eq!(headers["access-control-max-age"], "172800");
    assert!(!headers.contains_key("content-type") && !headers.contains_key("x-amz-id-2"));
}
