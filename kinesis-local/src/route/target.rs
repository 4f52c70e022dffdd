//! The routing rule of the [parent module](super), as a function of a request's head.

use http::Method;
use http::request::Parts;

use crate::wire::sigv4::Credential;

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
        let credential = Credential::of(&head.headers, head.uri.query());
        match credential.as_ref().and_then(Credential::service) {
            Some("s3") => Self::S3,
            Some("dynamodb") => Self::DynamoDb,
            Some(_) => Self::Kinesis,
            None if path == "/" && head.method == Method::POST => Self::Kinesis,
            None => Self::S3,
        }
    }
}

#[cfg(test)]
mod tests;
