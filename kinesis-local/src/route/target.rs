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
mod tests;
