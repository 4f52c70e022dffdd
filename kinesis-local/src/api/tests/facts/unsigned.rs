//! The shape of a signature, which is looked at also where no signature is checked.

use super::*;

fn list() -> Request<Bytes> {
    request("ListStreams", &json!({}))
}

async fn told(request: Request<Bytes>) -> (StatusCode, String, String) {
    let (status, fault) = decoded(FORMAT, &kinesis(), "ListStreams", request).await;
    let part = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
    (status, part("__type"), part("message"))
}

fn refusal(code: &str, text: &str) -> (StatusCode, String, String) {
    (StatusCode::BAD_REQUEST, code.to_owned(), text.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_signature_misses_its_token() {
    let mut unsigned = list();
    unsigned.headers_mut().remove("authorization");
    let missing = "MissingAuthenticationTokenException";
    let expected = refusal(missing, "Missing Authentication Token");
    assert_eq!(told(unsigned).await, expected);
    // It is told before what is wrong with the members.
    let mut unsigned = request("DescribeStream", &json!({"StreamName": 1}));
    unsigned.headers_mut().remove("authorization");
    assert_eq!(told(unsigned).await, expected);
}

#[tokio::test(start_paused = true)]
async fn an_incomplete_signature_is_told_each_part_that_it_lacks() {
    let needs = |part: &str| format!("Authorization header requires '{part}' parameter. ");
    let (credential, signature) = (needs("Credential"), needs("Signature"));
    let headers = needs("SignedHeaders");
    let date = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' \
                header. ";
    let whole = "AWS4-HMAC-SHA256 Credential=a, Signature=b, SignedHeaders=c";
    for (header, dated, lacks) in [
        (
            "AWS4-HMAC-SHA256 Signature=b",
            false,
            format!("{credential}{headers}{date}"),
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a",
            true,
            format!("{signature}{headers}"),
        ),
        (
            "AWS4-HMAC-SHA256",
            true,
            format!("{credential}{signature}{headers}"),
        ),
        (whole, false, date.to_owned()),
    ] {
        let mut incomplete = list();
        let value = http::HeaderValue::from_static(header);
        incomplete.headers_mut().insert("authorization", value);
        if !dated {
            incomplete.headers_mut().remove("x-amz-date");
        }
        // The service repeats the whole header; here credentials stay out of answers.
        let text = format!("{lacks}Authorization=AWS4-HMAC-SHA256");
        let expected = refusal("IncompleteSignatureException", &text);
        assert_eq!(told(incomplete).await, expected, "{header}");
    }
    let mut dated = list();
    dated.headers_mut().remove("x-amz-date");
    let date = http::HeaderValue::from_static("Mon, 23 Nov 2026 02:00:00 GMT");
    dated.headers_mut().insert("date", date);
    assert_eq!(told(dated).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn two_signatures_are_one_too_many_and_a_presigned_one_needs_all_its_parts() {
    let mut both = list();
    *both.uri_mut() = "/?X-Amz-Algorithm=a".parse().unwrap();
    let text = "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP \
                header.";
    let expected = refusal("InvalidSignatureException", text);
    assert_eq!(told(both.clone()).await, expected);
    let mut presigned = both;
    presigned.headers_mut().remove("authorization");
    let include = |part: &str| format!("AWS query-string parameters must include '{part}'. ");
    let parts = [
        "X-Amz-Credential",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "X-Amz-Date",
    ];
    let text = parts.map(include).concat() + "Re-examine the query-string parameters.";
    let expected = refusal("IncompleteSignatureException", &text);
    assert_eq!(told(presigned.clone()).await, expected);
    let query = parts.map(|part| format!("&{part}=a")).concat();
    *presigned.uri_mut() = format!("/?X-Amz-Algorithm=a{query}").parse().unwrap();
    assert_eq!(told(presigned).await.0, StatusCode::OK);
}
