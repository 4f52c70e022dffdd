//! Signatures that are checked: each way to be refused, in the service's words.

use super::*;
use crate::auth::{User, Users};
use crate::wire::sigv4::tests::{Signer, signed, signed_over};

const SIGNER: Signer = Signer {
    key: "AKIDANN",
    secret: "secret",
    time: "20261123T020000Z",
    region: "us-east-1",
    service: "kinesis",
};

fn kinesis() -> Kinesis {
    let users = Users::new([User::new("ann", "AKIDANN", "secret")]);
    let auth = Some(Arc::new(Auth::new(users).unwrap()));
    Kinesis::open(KinesisOptions { auth, ..options() }).unwrap()
}

fn list() -> Request<Bytes> {
    let mut request = request("ListStreams", &json!({}));
    request
        .headers_mut()
        .insert("host", http::HeaderValue::from_static("local"));
    request
}

async fn told(request: Request<Bytes>) -> (String, String) {
    let (status, fault) = decoded(FORMAT, &kinesis(), "ListStreams", request).await;
    if status == StatusCode::OK {
        return ("OK".to_owned(), String::new());
    }
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let part = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
    (part("__type"), part("message"))
}

#[tokio::test(start_paused = true)]
async fn a_right_signature_passes_and_a_changed_request_does_not() {
    assert_eq!(told(signed(list(), SIGNER, None)).await.0, "OK");
    assert_eq!(told(signed(list(), SIGNER, Some(60))).await.0, "OK");
    const MISMATCH: &str = "The request signature we calculated does not match the signature you \
                            provided. Check your AWS Secret Access Key and signing method. Consult \
                            the service documentation for details.";
    let mismatch = ("InvalidSignatureException".to_owned(), MISMATCH.to_owned());
    for expires in [None, Some(60)] {
        let mut body = signed(list(), SIGNER, expires);
        *body.body_mut() = request("ListStreams", &json!({"Limit": 1})).into_body();
        assert_eq!(told(body).await, mismatch);
        let mut host = signed(list(), SIGNER, expires);
        host.headers_mut()
            .insert("host", http::HeaderValue::from_static("other"));
        assert_eq!(told(host).await, mismatch);
        let guess = Signer {
            secret: "guess",
            ..SIGNER
        };
        assert_eq!(told(signed(list(), guess, expires)).await, mismatch);
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_of_another_time_place_or_user_is_told_so() {
    for (signer, expires, code, text) in [
        (
            Signer {
                time: "20261123T014459Z",
                ..SIGNER
            },
            None,
            "InvalidSignatureException",
            "Signature expired: 20261123T014459Z is now earlier than 20261123T014500Z \
             (20261123T020000Z - 15 min.)",
        ),
        (
            Signer {
                time: "20261123T021501Z",
                ..SIGNER
            },
            None,
            "InvalidSignatureException",
            "Signature not yet current: 20261123T021501Z is still later than 20261123T021500Z \
             (20261123T020000Z + 15 min.)",
        ),
        (
            Signer {
                time: "20261123T015859Z",
                ..SIGNER
            },
            Some(60),
            "InvalidSignatureException",
            "Signature expired: 20261123T015859Z is now earlier than 20261123T015900Z \
             (20261123T020000Z - 1 min.)",
        ),
        (
            SIGNER,
            Some(604_801),
            "InvalidSignatureException",
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires \
             must be less than 604800 seconds",
        ),
        (
            Signer {
                service: "dynamodb",
                ..SIGNER
            },
            None,
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'kinesis'. ",
        ),
        (
            Signer {
                key: "AKIDEVE",
                ..SIGNER
            },
            None,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        (
            Signer {
                time: "yesterday",
                ..SIGNER
            },
            None,
            "IncompleteSignatureException",
            "Date must be in ISO-8601 'basic format'. See http://en.wikipedia.org/wiki/ISO_8601",
        ),
    ] {
        let refused = told(signed(list(), signer, expires)).await;
        assert_eq!((&*refused.0, &*refused.1), (code, text));
    }
    // The edges themselves are taken.
    for time in ["20261123T014500Z", "20261123T021500Z"] {
        let signer = Signer { time, ..SIGNER };
        assert_eq!(told(signed(list(), signer, None)).await.0, "OK", "{time}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_leaves_out_the_host_or_its_parts_is_refused() {
    let header = |parameters: &str| {
        let mut request = list();
        let value = format!("AWS4-HMAC-SHA256 {parameters}");
        let value = http::HeaderValue::from_str(&value).unwrap();
        request.headers_mut().insert("authorization", value);
        request
    };
    let scope = "Credential=AKIDANN/20261123/us-east-1/kinesis/aws4_request";
    let (code, text) = told(header(&format!(
        "{scope}, SignedHeaders=x-amz-date, Signature=0"
    )))
    .await;
    assert_eq!(code, "InvalidSignatureException");
    assert_eq!(
        text,
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
    );
    for scope in ["AKIDANN", "AKIDANN/kinesis/aws4_request", "AKIDANN/a/b/c/d"] {
        let parameters = format!("Credential={scope}, SignedHeaders=host, Signature=0");
        let (code, _) = told(header(&parameters)).await;
        assert!(
            code == "IncompleteSignatureException" || code == "InvalidSignatureException",
            "{code}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_signature_of_another_algorithm_is_refused() {
    let mut request = signed(list(), SIGNER, None);
    let header = request.headers()["authorization"].to_str().unwrap();
    for other in ["FOO", "AWS4-HMAC-SHA1", ""] {
        let other = header.replace("AWS4-HMAC-SHA256", other);
        let mut request = request.clone();
        let other = http::HeaderValue::from_str(&other).unwrap();
        request.headers_mut().insert("authorization", other);
        assert_eq!(told(request).await.0, "IncompleteSignatureException");
    }
    request = signed(list(), SIGNER, Some(60));
    let uri = request.uri().to_string();
    *request.uri_mut() = uri.replace("AWS4-HMAC-SHA256", "FOO").parse().unwrap();
    assert_eq!(told(request).await.0, "IncompleteSignatureException");
}

#[tokio::test(start_paused = true)]
async fn a_signature_covers_the_operation_and_the_time() {
    for (expires_s, headers, left_out) in [
        (None, "host;x-amz-date", "x-amz-target"),
        (None, "host;x-amz-target", "x-amz-date"),
        (Some(60), "host", "x-amz-target"),
    ] {
        let (code, text) = told(signed_over(list(), SIGNER, expires_s, headers)).await;
        assert_eq!(code, "InvalidSignatureException");
        let expected = format!("'{left_out}' must be a 'SignedHeader' in the AWS Authorization.");
        assert_eq!(text, expected);
    }
}
