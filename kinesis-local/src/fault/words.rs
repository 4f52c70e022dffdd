//! What each service usually says with a code: the text of an injected error that a rule gives none.
//!
//! Source: for Kinesis the texts that its own refusals have here, else the sentence of the API model
//! about the exception; for DynamoDB and S3 their lists of errors in the AWS documentation.

use crate::stream::encryption::KmsKeyState;
use crate::stream::iterator::ShardIterator;
use crate::wire::fault::{DRY_RUN, DRY_RUN_TEXT, INTERNAL, INTERNAL_COMMON, THROTTLED};

use super::plan::FaultService;

/// What a text of Kinesis may name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told<'a> {
    pub(crate) operation: &'a str,
    /// The caller's account and who the caller is in it.
    pub(crate) account: &'a str,
    pub(crate) principal: &'a str,
    pub(crate) now_ms: u64,
    pub(crate) stream: Option<&'a str>,
    pub(crate) shard: Option<&'a str>,
    pub(crate) consumer_arn: Option<&'a str>,
    pub(crate) iterator: Option<&'a ShardIterator>,
}

/// The key that the texts about keys name. Source: the service's own, which encrypts most streams.
const KEY: &str = "alias/aws/kinesis";

/// The states of a key by which it is refused.
const KEY_STATES: [KmsKeyState; 6] = [
    KmsKeyState::Disabled,
    KmsKeyState::PendingDeletion,
    KmsKeyState::AccessDenied,
    KmsKeyState::NotFound,
    KmsKeyState::OptInRequired,
    KmsKeyState::Throttling,
];

/// What Kinesis says; `None`: it has no such code.
pub(super) fn of_kinesis(code: &str, told: &Told<'_>) -> Option<String> {
    let account = told.account;
    // Whoever names a stream is told of it.
    let of_stream = |text: &dyn Fn(&str) -> String, without: &str| {
        told.stream.map_or_else(|| without.to_owned(), text)
    };
    let rate = || {
        of_stream(
            &|stream| format!("Rate exceeded for stream {stream} under account {account}."),
            &format!("Rate exceeded for account {account}."),
        )
    };
    Some(match code {
        THROTTLED => match (told.stream, told.shard) {
            (Some(stream), Some(shard)) => format!(
                "Rate exceeded for shard {shard} in stream {stream} under account {account}."
            ),
            (_, _) => rate(),
        },
        "LimitExceededException" | "ThrottlingException" => rate(),
        INTERNAL | INTERNAL_COMMON => "Internal service failure.".to_owned(),
        "ServiceUnavailable" => {
            "The request has failed due to a temporary failure of the server.".to_owned()
        }
        "ResourceNotFoundException" => of_stream(
            &|stream| format!("Stream {stream} under account {account} not found."),
            "The requested resource could not be found. The stream might not be specified correctly.",
        ),
        "ResourceInUseException" => match told.consumer_arn {
            Some(arn) if told.operation == "SubscribeToShard" => {
                format!("Another active subscription exists for this consumer: {arn}")
            }
            Some(_) | None => of_stream(
                &|stream| {
                    format!(
                        "Stream {stream} under account {account} not ACTIVE, instead in state \
                         UPDATING"
                    )
                },
                "The resource is not available for this operation. For successful operation, the \
                 resource must be in the ACTIVE state.",
            ),
        },
        "ExpiredIteratorException" => told.iterator.map_or_else(
            || "The provided iterator exceeds the maximum age allowed.".to_owned(),
            |iterator| iterator.expired_text(told.now_ms),
        ),
        "ExpiredNextTokenException" => "NextToken has expired.".to_owned(),
        "AccessDeniedException" => {
            let (principal, action) = (told.principal, format!("kinesis:{}", told.operation));
            format!(
                "User: {principal} is not authorized to perform: {action} because no \
                 identity-based policy allows the {action} action"
            )
        }
        DRY_RUN => DRY_RUN_TEXT.to_owned(),
        "InvalidArgumentException" => "A specified parameter exceeds its restrictions, is not \
                                       supported, or can't be used."
            .to_owned(),
        "ValidationException" => "The request failed validation.".to_owned(),
        _ => {
            let mut refusals = KEY_STATES.iter().filter_map(|state| state.refusal(KEY));
            let (_, text) = refusals.find(|(of, _)| *of == code)?;
            text
        }
    })
}

/// What DynamoDB or S3 says; `None`: another code.
pub(super) fn of_store(service: FaultService, code: &str) -> Option<&'static str> {
    match service {
        FaultService::DynamoDb => of_dynamodb(code),
        FaultService::S3 => of_s3(code),
        FaultService::Kinesis => None,
    }
}

/// Source: Amazon DynamoDB developer guide, error messages and codes.
fn of_dynamodb(code: &str) -> Option<&'static str> {
    let (_, bare) = code.rsplit_once('#').unwrap_or(("", code));
    Some(match bare {
        "ProvisionedThroughputExceededException" => {
            "The level of configured provisioned throughput for the table was exceeded. Consider \
             increasing your provisioning level with the UpdateTable API."
        }
        "ThrottlingException" => "Rate of requests exceeds the allowed throughput.",
        "RequestLimitExceeded" => {
            "Throughput exceeds the current throughput limit for your account."
        }
        "ConditionalCheckFailedException" => "The conditional request failed",
        "ResourceNotFoundException" => "Requested resource not found",
        "InternalServerError" => {
            "The server encountered an internal error trying to fulfill the request."
        }
        "ServiceUnavailable" => "Service Unavailable. Please try again later.",
        _ => return None,
    })
}

/// Source: Amazon S3 API reference, error responses.
fn of_s3(code: &str) -> Option<&'static str> {
    Some(match code {
        "SlowDown" | "ServiceUnavailable" => "Please reduce your request rate.",
        "InternalError" => "We encountered an internal error. Please try again.",
        "AccessDenied" => "Access Denied",
        "NoSuchBucket" => "The specified bucket does not exist",
        "NoSuchKey" => "The specified key does not exist.",
        "RequestTimeout" => {
            "Your socket connection to the server was not read from or written to within the \
             timeout period."
        }
        "PreconditionFailed" => "At least one of the preconditions you specified did not hold.",
        _ => return None,
    })
}
