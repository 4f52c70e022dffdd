//! One PutRecords call: the request out, an answer per record back.
//!
//! The caller's SDK client is used as it is, except that its own retries are off for this call:
//! the SDK would send a whole request again where only some records failed, and would not know
//! which shard to leave alone. A call ends after `request_timeout` at the latest.
//!
//! Payloads are moved into the request, where the SDK writes them as base64 once: the only copy of a
//! payload is the one into its aggregate. The SDK does not give a request back, so what is to go again
//! is made again from its records.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use aws_smithy_runtime_api::http::Response;
use kinesis_core::{HashKey, SequenceNumber, ShardId};

use super::aggregate::{Data, KinesisRecord};
use super::retry::Answer;
use crate::error::{Cause, Class};
use crate::stream::StreamRef;

const OPERATION: &str = "PutRecords";

/// One record of a request.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    pub(super) data: Vec<u8>,
    pub(super) partition_key: Arc<str>,
    pub(super) explicit_hash_key: Option<HashKey>,
    predicted: Option<ShardId>,
}

impl Put {
    /// Takes the data out of each record.
    pub(crate) fn of_each(records: &mut [KinesisRecord]) -> Vec<Self> {
        let data = records.iter_mut().map(KinesisRecord::take_data).collect();
        let data = Data::seal_each(data).into_iter();
        records
            .iter()
            .zip(data)
            .map(|(record, data)| Self::of(record, data))
            .collect()
    }

    fn of(record: &KinesisRecord, data: Vec<u8>) -> Self {
        Self {
            data,
            partition_key: Arc::clone(&record.partition_key),
            explicit_hash_key: record.explicit_hash_key,
            predicted: record.predicted.clone(),
        }
    }

    /// The shard it was cut for.
    pub(crate) fn predicted(&self) -> Option<ShardId> {
        self.predicted.clone()
    }
}

/// Sends one request. As many answers as records, in their order; or why there are none.
pub(crate) async fn put_records(
    client: Client,
    stream: &StreamRef,
    records: Vec<Put>,
    timeout: Duration,
) -> Result<Vec<Answer>, Cause> {
    let count = records.len();
    let mut request = client
        .put_records()
        .set_stream_name(stream.name_field())
        .set_stream_arn(stream.arn_field());
    for put in records {
        let entry = PutRecordsRequestEntry::builder()
            .data(Blob::new(put.data))
            .partition_key(&*put.partition_key)
            .set_explicit_hash_key(put.explicit_hash_key.map(|key| key.to_string()))
            .build()
            .map_err(|_missing| {
                Cause::new(OPERATION, Class::Rejected, "InvalidEntry").of_content(true)
            })?;
        request = request.records(entry);
    }
    let no_retries =
        aws_sdk_kinesis::config::Config::builder().retry_config(RetryConfig::disabled());
    let call = request.customize().config_override(no_retries).send();
    // tokio's own timeout, because the SDK's needs a sleep implementation in the caller's client.
    let output = match tokio::time::timeout(timeout, call).await {
        Err(_elapsed) => return Err(Cause::new(OPERATION, Class::Unavailable, "Timeout")),
        Ok(Err(error)) => return Err(cause_of(OPERATION, &error)),
        Ok(Ok(output)) => output,
    };
    if output.records.len() != count {
        let detail = format!("{} answers to {count} records", output.records.len());
        let cause = Cause::new(OPERATION, Class::Unavailable, "RecordCountMismatch");
        return Err(cause.with_detail(Some(detail)));
    }
    Ok(output.records.iter().map(answer).collect())
}

fn answer(entry: &PutRecordsResultEntry) -> Answer {
    if let Some(code) = entry.error_code() {
        let class = class_of_code(code).unwrap_or(Class::Unavailable);
        let detail = quotable(class, code, entry.error_message());
        let cause = Cause::new(OPERATION, class, code).with_detail(detail);
        return Answer::Failed(Arc::new(cause.of_content(is_of_content(code))));
    }
    let number = entry.sequence_number().map(SequenceNumber::try_from);
    match (entry.shard_id(), number) {
        (Some(shard_id), Some(Ok(sequence_number))) => Answer::Stored {
            shard_id: ShardId::from(shard_id),
            sequence_number,
        },
        _ => Answer::Failed(Arc::new(Cause::new(
            OPERATION,
            Class::Unavailable,
            "MalformedAnswer",
        ))),
    }
}

/// What an SDK error means for us.
pub(crate) fn cause_of<E: ProvideErrorMetadata + std::error::Error + 'static>(
    operation: &'static str,
    error: &SdkError<E, Response>,
) -> Cause {
    match error {
        SdkError::ServiceError(answer) => {
            let metadata = answer.err();
            let status = answer.raw().status().as_u16();
            let class = metadata
                .code()
                .and_then(class_of_code)
                .unwrap_or(match status {
                    429 => Class::Throttled,
                    // Of the service, or of a proxy on the way.
                    401 | 403 | 407 => Class::AccessDenied,
                    400..=499 if status != 408 => Class::Rejected,
                    _ => Class::Unavailable,
                });
            let code = metadata
                .code()
                .map_or_else(|| format!("Http{status}"), str::to_owned);
            let detail = quotable(class, &code, metadata.message());
            let guilty = guilty(class, metadata.message());
            let of_content = status == 413 || is_of_content(&code);
            let stale = is_stale(&code, metadata.message());
            Cause::new(operation, class, code)
                .with_detail(detail)
                .with_guilty(guilty)
                .of_content(of_content)
                .stale(stale)
        }
        SdkError::TimeoutError(_) => Cause::new(operation, Class::Unavailable, "Timeout"),
        SdkError::ConstructionFailure(_) => {
            Cause::new(operation, Class::Client, "ConstructionFailure").with_detail(chain(error))
        }
        SdkError::DispatchFailure(failure) => {
            let class = match failure.as_connector_error() {
                Some(error) if failure.is_user() || lacks_credentials(error) => Class::Client,
                _ => Class::Unavailable,
            };
            let code = if failure.is_timeout() {
                "Timeout"
            } else {
                "DispatchFailure"
            };
            let detail = chain(error);
            let stale = class == Class::Client && detail.as_deref().is_some_and(lacks_their_source);
            Cause::new(operation, class, code)
                .with_detail(detail)
                .stale(stale)
        }
        _ => Cause::new(operation, Class::Unavailable, "ResponseError").with_detail(chain(error)),
    }
}

/// The service's own error codes; `None` for one that is not known.
/// Source: API reference of PutRecords and ListShards, "Common Error Types"; the codes that the
/// AWS SDK for Rust retries.
fn class_of_code(code: &str) -> Option<Class> {
    Some(match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "BandwidthLimitExceeded"
        | "SlowDown"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => Class::Throttled,
        "InternalFailure"
        | "InternalFailureException"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "PriorRequestNotComplete"
        | "RequestAbortedException"
        | "RequestTimeout"
        | "RequestTimeoutException"
        | "ResourceInUseException" => Class::Unavailable,
        "ResourceNotFoundException" => Class::NotFound,
        "AccessDenied"
        | "AccessDeniedException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired"
        // Signed too long ago, or the machine's clock is wrong; see `is_stale`.
        | "RequestExpired"
        | "RequestInTheFuture"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Class::AccessDenied,
        "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired" => Class::Encryption,
        "InvalidArgumentException" | "ValidationException" | "SerializationException" => {
            Class::Rejected
        }
        _ => return None,
    })
}

/// The service's message, unless it may quote the request: a validation message holds the value
/// that it refuses, and that may be a key or payload; one about a signature holds what was to be
/// signed, with the session's token. What a policy denies is said without either.
fn quotable(class: Class, code: &str, message: Option<&str>) -> Option<String> {
    let of_policy = matches!(
        code,
        "AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "OptInRequired"
    );
    let quoting = match class {
        Class::Rejected => true,
        Class::AccessDenied => !of_policy,
        Class::Throttled
        | Class::Unavailable
        | Class::WrongShard
        | Class::NotFound
        | Class::Encryption
        | Class::Client => false,
    };
    message.filter(|_| !quoting).map(str::to_owned)
}

/// Whether a code says that the request's content is wrong, so that a part of it may pass.
fn is_of_content(code: &str) -> bool {
    matches!(
        code,
        "InvalidArgumentException" | "ValidationException" | "SerializationException"
    )
}

/// Whether the request was signed too long ago, or for a time to come, or by credentials of the past:
/// so after the process stood still, or where its clock is late when they are renewed; and again after
/// each new signature if the machine's clock is wrong.
/// Source: the messages of Signature Version 4, "Signature expired: … is now earlier than …" and
/// "Signature not yet current: … is still later than …"; the codes that the AWS SDKs take for skew.
fn is_stale(code: &str, message: Option<&str>) -> bool {
    let of_time = ["Signature expired", "Signature not yet current"];
    match code {
        "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "RequestInTheFuture" => true,
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            let message = message.unwrap_or_default();
            of_time.iter().any(|text| message.contains(text))
        }
        _ => false,
    }
}

/// The records, from 0, that a validation message names, as in
/// `Value '…' at 'records.3.member.data' failed to satisfy constraint`. A value that it quotes may
/// look the same, so these are suspects. Source: wire of PutRecords; the service counts from 1.
fn guilty(class: Class, message: Option<&str>) -> Vec<usize> {
    let message = message
        .filter(|_| class == Class::Rejected)
        .unwrap_or_default();
    let mut guilty: Vec<usize> = message
        .split("at 'records.")
        .skip(1)
        .filter_map(|text| {
            text.split_once(".member.")?
                .0
                .parse::<usize>()
                .ok()?
                .checked_sub(1)
        })
        .collect();
    guilty.sort_unstable();
    guilty.dedup();
    guilty
}

/// Whether the SDK could not sign because nobody gave it credentials: waiting does not bring any.
/// A provider that failed or timed out is another matter.
fn lacks_credentials(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        match error.downcast_ref::<CredentialsError>() {
            Some(error) => matches!(
                error,
                CredentialsError::CredentialsNotLoaded(_)
                    | CredentialsError::InvalidConfiguration(_)
            ),
            // A client without any provider. The error's type is private to the SDK.
            None => error
                .to_string()
                .starts_with("failed to select an auth scheme"),
        }
    })
}

/// Whether there are no credentials because the instance metadata service did not answer: so on an
/// instance whose network is not up yet, and on every machine that is none. The error of a chain of
/// providers has the errors of its providers in its text only.
/// Source: aws-config 1.13, `imds::credentials`.
fn lacks_their_source(detail: &str) -> bool {
    detail.contains("could not communicate with IMDS")
}

/// The texts of an error that never reached the service, from outside in.
fn chain(error: &dyn std::error::Error) -> Option<String> {
    let texts = std::iter::successors(error.source(), |error| error.source());
    let texts: Vec<_> = texts.map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_place_or_with_an_unknown_code_is_retried() {
        let class = |entry: PutRecordsResultEntry| match answer(&entry) {
            Answer::Failed(cause) => cause.class,
            Answer::Stored { .. } => panic!("not stored"),
        };
        let entry = PutRecordsResultEntry::builder;
        assert_eq!(class(entry().build()), Class::Unavailable);
        assert_eq!(
            class(entry().error_code("NewFailure").build()),
            Class::Unavailable
        );
        let throttled = entry()
            .error_code("ProvisionedThroughputExceededException")
            .build();
        assert_eq!(class(throttled), Class::Throttled);
        let key = entry().error_code("KMSDisabledException").build();
        assert_eq!(class(key), Class::Encryption);
        for (code, expected) in [
            ("RequestAbortedException", Class::Unavailable),
            ("SlowDown", Class::Throttled),
            ("RequestExpired", Class::AccessDenied),
        ] {
            assert_eq!(class(entry().error_code(code).build()), expected, "{code}");
        }
    }

    #[test]
    fn a_validation_message_names_the_guilty_records() {
        let message = "3 validation errors detected: Value 'at 'records.x' at \
            'records.500.member.data' failed to satisfy constraint: Member must have length less \
            than or equal to 1048576; Value '' at 'records.2.member.partitionKey' failed to \
            satisfy constraint: Member must have length greater than or equal to 1; Value '' at \
            'records.2.member.explicitHashKey' failed to satisfy constraint";
        assert_eq!(guilty(Class::Rejected, Some(message)), [1, 499]);
        for message in [
            "at 'records.0.member.data'",
            "at 'records'",
            "1 record at 'data'",
        ] {
            assert!(guilty(Class::Rejected, Some(message)).is_empty());
        }
        assert!(guilty(Class::Unavailable, Some(message)).is_empty());
    }

    #[test]
    fn a_message_that_may_quote_the_request_is_left_out() {
        let message = Some("Value 'secret' at 'records.1.member.partitionKey' is too long");
        let validation = "ValidationException";
        assert_eq!(quotable(Class::Rejected, validation, message), None);
        let message = Some("The Canonical String should have been 'x-amz-security-token:secret'");
        for code in [
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
            "ExpiredTokenException",
        ] {
            assert_eq!(quotable(Class::AccessDenied, code, message), None, "{code}");
        }
        let message = Some("User is not authorized");
        let denied = quotable(Class::AccessDenied, "AccessDeniedException", message);
        assert!(denied.is_some());
    }

    #[test]
    fn a_signature_of_another_time_is_told_from_a_wrong_one() {
        let expired = "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z";
        let early = "Signature not yet current: 20260101T000500Z is still later than";
        for (code, message, stale) in [
            ("InvalidSignatureException", expired, true),
            ("InvalidSignatureException", early, true),
            ("RequestTimeTooSkewed", "", true),
            ("RequestExpired", "", true),
            ("ExpiredTokenException", "", true),
            ("InvalidSignatureException", "The request signature", false),
            ("AccessDeniedException", expired, false),
        ] {
            assert_eq!(is_stale(code, Some(message)), stale, "{code}: {message}");
        }
    }
}
