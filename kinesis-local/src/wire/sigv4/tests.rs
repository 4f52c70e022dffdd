use http::{HeaderValue, Request};
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::date::epoch_seconds;

fn header(credential: &str) -> HeaderMap {
    let value =
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00ff");
    let value = HeaderValue::from_str(&value).unwrap();
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

#[test]
fn a_credential_is_read_from_the_header_and_from_the_query() {
    let headers = header("AKID/20261123/eu-west-1/kinesis/aws4_request");
    let none = HeaderMap::new();
    let in_header = Credential::of(&headers, None).unwrap();
    for query in [
        "a=b&X-Amz-Credential=AKID%2F20261123%2Feu-west-1%2Fkinesis%2Faws4_request&c=d",
        "X-Amz-Credential=AKID/20261123/eu-west-1/kinesis/aws4_request",
    ] {
        assert_eq!(Credential::of(&none, Some(query)).unwrap(), in_header);
    }
    assert_eq!(in_header.access_key(), "AKID");
    assert_eq!(in_header.date(), Some("20261123"));
    assert_eq!(in_header.region(), Some("eu-west-1"));
    assert_eq!(in_header.service(), Some("kinesis"));
    assert_eq!(in_header.scope(), "20261123/eu-west-1/kinesis/aws4_request");
}

#[test]
fn an_odd_credential_gives_what_it_has() {
    let headers = header("a/b/20261123/eu-west-1/kinesis/aws4_request");
    assert_eq!(Credential::of(&headers, None).unwrap().access_key(), "a/b");
    let headers = header("kinesis/aws4_request");
    let short = Credential::of(&headers, None).unwrap();
    assert_eq!((short.access_key(), short.region()), ("", None));
    assert_eq!(Credential::of(&header("AKID"), None), None);
    assert_eq!(Credential::of(&HeaderMap::new(), Some("a=b")), None);
}

/// One request of AWS's suite.
#[derive(Debug, Deserialize)]
struct Vector {
    name: String,
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    body: String,
    as_sent: bool,
}

const SUITE: &str = include_str!("../../../tests/fixtures/sigv4.json");
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

impl Vector {
    fn head(&self) -> Parts {
        let mut request = Request::builder().method(&*self.method).uri(&self.uri);
        for (name, value) in &self.headers {
            request = request.header(name, HeaderValue::from_str(value).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn path(&self) -> Path {
        if self.as_sent {
            Path::AsSent
        } else {
            Path::Normalized
        }
    }
}

#[test]
fn every_signature_of_awss_suite_is_right_and_no_other_is() {
    let suite: Vec<Vector> = serde_json::from_str(SUITE).unwrap();
    assert!(suite.len() > 60);
    for vector in suite {
        let mut head = vector.head();
        let claim = Claim::of(&head).unwrap_or_else(|| panic!("{}", vector.name));
        let hash = payload_hash(vector.body.as_bytes());
        let signed = claim.is_signed_by(SECRET, &head, vector.path(), &hash);
        assert!(signed, "{}", vector.name);
        assert!(!claim.is_signed_by("other", &head, vector.path(), &hash));
        let other = payload_hash(b"other");
        let other = claim.is_signed_by(SECRET, &head, vector.path(), &other);
        assert!(!other, "{}", vector.name);
        assert_eq!(
            epoch_seconds(&claim.time),
            Some(1_440_938_160),
            "{}",
            claim.time
        );
        head.method = http::Method::DELETE;
        let claim = Claim::of(&head).unwrap();
        assert!(!claim.is_signed_by(SECRET, &head, vector.path(), &hash));
    }
}

#[test]
fn a_path_is_encoded_once_more_than_it_is_sent_but_not_for_s3() {
    // From AWS's suite: `double-url-encode`.
    let sent = "/2015-03-31/functions/arn%3Aaws%3Alambda/invocations";
    let head = Request::get(sent).body(()).unwrap().into_parts().0;
    let line = |path| {
        let text = canonical::request(&head, path, "host", "");
        text.lines().nth(1).unwrap().to_owned()
    };
    let twice = "/2015-03-31/functions/arn%253Aaws%253Alambda/invocations";
    assert_eq!(line(Path::Normalized), twice);
    assert_eq!(line(Path::AsSent), sent);
}

#[test]
fn a_signature_over_endless_headers_is_not_read() {
    let signed = "host;".repeat(101);
    let value = format!(
        "AWS4-HMAC-SHA256 Credential=a/20261123/r/kinesis/aws4_request, \
         SignedHeaders={signed}, Signature=00"
    );
    let request = Request::get("/").header("x-amz-date", "20261123T000000Z");
    let head = request.header("authorization", value).body(()).unwrap();
    assert!(Claim::of(&head.into_parts().0).is_none());
}

proptest! {
    #[test]
    fn nothing_that_a_client_sends_ends_in_a_panic(
        authorization in "[ -~]{0,200}",
        uri in "/[a-zA-Z0-9%./=&?-]{0,100}",
        date in "[ -~]{0,20}",
    ) {
        let request = Request::get(uri).header("x-amz-date", date);
        if let Ok(request) = request.header("authorization", authorization).body(()) {
            let head = request.into_parts().0;
            if let Some(claim) = Claim::of(&head) {
                prop_assert!(!claim.is_signed_by("secret", &head, Path::Normalized, ""));
            }
        }
    }
}

/// Who signs a request of a test.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Signer {
    pub(crate) key: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) time: &'static str,
    pub(crate) region: &'static str,
    pub(crate) service: &'static str,
}

/// The request, signed in its header, or in its query for so many seconds.
pub(crate) fn signed(
    request: Request<bytes::Bytes>,
    signer: Signer,
    expires_s: Option<u64>,
) -> Request<bytes::Bytes> {
    let headers = match expires_s {
        None => "host;x-amz-date;x-amz-target",
        Some(_) => "host;x-amz-target",
    };
    signed_over(request, signer, expires_s, headers)
}

/// The same, with a signature over these headers.
pub(crate) fn signed_over(
    mut request: Request<bytes::Bytes>,
    signer: Signer,
    expires_s: Option<u64>,
    headers: &str,
) -> Request<bytes::Bytes> {
    let Signer {
        key,
        time,
        region,
        service,
        ..
    } = signer;
    let day = time.get(..8).unwrap();
    let scope = format!("{key}/{day}/{region}/{service}/aws4_request");
    let value = |text: String| HeaderValue::from_str(&text).unwrap();
    let mut sign = |signature: &str| {
        if let Some(expires_s) = expires_s {
            request.headers_mut().remove("authorization");
            *request.uri_mut() = format!(
                "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={time}&\
                 X-Amz-Expires={expires_s}&X-Amz-SignedHeaders={}&X-Amz-Signature={signature}",
                scope.replace('/', "%2F"),
                headers.replace(';', "%3B")
            )
            .parse()
            .unwrap();
        } else {
            let text = format!(
                "{ALGORITHM} Credential={scope}, SignedHeaders={headers}, Signature={signature}"
            );
            request
                .headers_mut()
                .insert("x-amz-date", value(time.to_owned()));
            request.headers_mut().insert("authorization", value(text));
        }
        let (head, body) = request.clone().into_parts();
        let claim = Claim::of(&head).unwrap();
        let canonical = canonical::request(&head, Path::Normalized, headers, &payload_hash(&body));
        claim.signature_of(signer.secret, &canonical)
    };
    let signature = sign("0");
    assert_eq!(sign(&signature), signature);
    request
}
