//! The routing rule of the [parent module](super), as a function of a request's head.

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, Method};

/// The service that answers a request.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Admin,
    DynamoDb,
    DynamoDbStreams,
    S3,
    Kinesis,
}

impl Target {
    /// The name of the service in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Admin => "local",
            Self::DynamoDb | Self::DynamoDbStreams => "dynamodb",
            Self::S3 => "s3",
            Self::Kinesis => "kinesis",
        }
    }

    pub(super) fn of(head: &Parts) -> Self {
        let path = head.uri.path();
        if path == "/_local" || path.starts_with("/_local/") {
            return Self::Admin;
        }
        if let Some(target) = head.headers.get("x-amz-target") {
            return match target.as_bytes() {
                target if target.starts_with(b"DynamoDB_20120810.") => Self::DynamoDb,
                target if target.starts_with(b"DynamoDBStreams_20120810.") => Self::DynamoDbStreams,
                _ => Self::Kinesis,
            };
        }
        match signed_for(&head.headers, head.uri.query()) {
            Some("s3") => Self::S3,
            Some("dynamodb") => Self::DynamoDb,
            Some(_) => Self::Kinesis,
            None if path == "/" && head.method == Method::POST => Self::Kinesis,
            None => Self::S3,
        }
    }
}

/// The service that a signature names: the part of its credential scope before `aws4_request`.
///
/// `None` for an unsigned request, and for one signed with version 2, which names no service.
fn signed_for<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<&'a str> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if let Some(header) = header {
        let (_, credential) = header.split_once("Credential=")?;
        let scope = credential.split([',', ' ']).next()?;
        return service_of_scope(scope.rsplit('/'));
    }
    let credential = query?
        .split('&')
        .find_map(|parameter| parameter.strip_prefix("X-Amz-Credential="))?;
    if credential.contains('/') {
        service_of_scope(credential.rsplit('/'))
    } else if credential.contains("%2F") {
        service_of_scope(credential.rsplit("%2F"))
    } else {
        service_of_scope(credential.rsplit("%2f"))
    }
}

fn service_of_scope<'a>(mut parts_from_the_end: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    match parts_from_the_end.next() {
        Some("aws4_request") => parts_from_the_end.next(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn target(method: &str, uri: &str, headers: &[(&str, &str)]) -> Target {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Target::of(&request.body(()).unwrap().into_parts().0)
    }

    fn signed(service: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKID/20260102/us-east-1/{service}/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=abc"
        )
    }

    #[test]
    fn the_target_header_decides_first() {
        let cases = [
            ("DynamoDB_20120810.PutItem", Target::DynamoDb),
            (
                "DynamoDBStreams_20120810.ListStreams",
                Target::DynamoDbStreams,
            ),
            ("Kinesis_20131202.PutRecord", Target::Kinesis),
            ("Kinesis_20131202.", Target::Kinesis),
            ("", Target::Kinesis),
            (
                "GraniteServiceVersion20100801.PutMetricData",
                Target::Kinesis,
            ),
        ];
        for (header, expected) in cases {
            let s3 = signed("s3");
            assert_eq!(
                target(
                    "POST",
                    "/",
                    &[("x-amz-target", header), ("authorization", &s3)]
                ),
                expected,
                "{header}"
            );
        }
    }

    #[test]
    fn a_kinesis_request_never_reaches_s3() {
        let kinesis = signed("kinesis");
        for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
            for uri in [
                "/",
                "/?x=1",
                "/bucket/key",
                "/service/Kinesis_20131202/operation/PutRecord",
            ] {
                let by_target = [("x-amz-target", "Kinesis_20131202.PutRecord")];
                assert_eq!(target(method, uri, &by_target), Target::Kinesis);
                let by_signature = [("authorization", kinesis.as_str())];
                assert_eq!(target(method, uri, &by_signature), Target::Kinesis);
            }
        }
        assert_eq!(target("POST", "/", &[]), Target::Kinesis);
    }

    #[test]
    fn s3_is_known_by_its_signature_in_either_place_or_by_having_none() {
        let s3 = signed("s3");
        assert_eq!(target("GET", "/", &[("authorization", &s3)]), Target::S3);
        let presigned = "/b/k?X-Amz-Algorithm=A&X-Amz-Credential=AKID%2F20260102%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=0";
        assert_eq!(target("PUT", presigned, &[]), Target::S3);
        assert_eq!(target("GET", "/bucket/key", &[]), Target::S3);
        assert_eq!(target("POST", "/bucket?delete", &[]), Target::S3);
        assert_eq!(
            target("GET", "/b/k", &[("authorization", "AWS AKID:signature")]),
            Target::S3
        );
    }

    #[test]
    fn our_own_pages_are_apart_from_buckets() {
        assert_eq!(target("GET", "/_local/health", &[]), Target::Admin);
        assert_eq!(target("GET", "/_localbucket", &[]), Target::S3);
    }
}
