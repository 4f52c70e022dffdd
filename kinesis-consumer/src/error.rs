//! One error type for the whole crate: what the caller should do about it, what happened to what,
//! and the cause.
//!
//! Promise: the text never holds record payloads, partition keys or credentials; it names the
//! stream, shard, lease or table and what to do. [`ErrorKind`] is the decision; `source()` is the
//! detail. `Display` prints one level only, as `std::error::Error` asks for; print the chain with
//! `aws_smithy_types::error::display::DisplayErrorContext` or a reporter of your own.

use std::error::Error as StdError;
use std::fmt;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

/// Boxed cause of an error; processors give theirs in the same shape.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What the caller should do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Fix: a setting, a name or an argument is outside its bounds, such as a checkpoint outside of what was
    /// delivered. Nothing was attempted.
    InvalidInput,
    /// Retry later: the service refused because of its limits.
    Throttled,
    /// Retry: the service could not be reached, did not answer in time or failed inside.
    Unavailable,
    /// Fix: the stream, shard or table does not exist.
    NotFound,
    /// Fix: credentials are missing, expired or not allowed to do this.
    Denied,
    /// Give up on this shard: another worker owns it now, and no checkpoint is possible any more.
    LeaseLost,
    /// Fix: a stored value that cannot be read.
    Corrupt,
    /// Fix: a record processor gave up with [`ProcessorError::Fatal`](crate::ProcessorError::Fatal).
    Processor,
    /// Look into it: stopping took longer than it may, and what was left was dropped. Nothing is lost by that:
    /// the leases that were left are free after `failover_time`, and what was not checkpointed comes again.
    StopTimedOut,
    /// Report: a state that this crate rules out.
    Internal,
}

impl ErrorKind {
    /// The kind as a metric label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::LeaseLost => "lease_lost",
            Self::Corrupt => "corrupt",
            Self::Processor => "processor",
            Self::StopTimedOut => "stop_timed_out",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed later, also where somebody has to change something outside: not
    /// one that the service finds wrong, or that cannot be built at all.
    pub(crate) fn may_be_put_right(self) -> bool {
        !matches!(self, Self::InvalidInput | Self::Internal)
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }
}

/// The error of this crate.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

impl Error {
    /// An error without a cause. `message` says what happened to which stream, shard or lease.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its cause.
    #[must_use]
    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The error of a failed SDK call; the kind follows from the service's error code, or from how
    /// the call failed when there was no answer. `what` reads like "listing the shards of stream x".
    pub(crate) fn aws<E, R>(what: impl fmt::Display, error: SdkError<E, R>) -> Self
    where
        E: StdError + Send + Sync + ProvideErrorMetadata + 'static,
        R: fmt::Debug + Send + Sync + 'static,
    {
        let kind = aws_kind(&error);
        let code = error.code().unwrap_or("no answer from the service");
        let failed = Self::new(kind, format!("{what} failed: {code}"));
        // Without the raw answer, which would show up in `Debug` and may hold records.
        match error.into_source() {
            Ok(source) => failed.with_source(source),
            Err(error) => failed.with_source(error),
        }
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// What the caller of an SDK operation should do about its failure.
pub(crate) fn aws_kind<E, R>(error: &SdkError<E, R>) -> ErrorKind
where
    E: ProvideErrorMetadata,
{
    match error {
        SdkError::ServiceError(answer) => match answer.err().code() {
            Some(code) => code_kind(code),
            None => ErrorKind::Unavailable,
        },
        SdkError::ConstructionFailure(_) => ErrorKind::InvalidInput,
        _ => ErrorKind::Unavailable,
    }
}

/// Source: the error lists of Kinesis API 2013-12-02 and DynamoDB API 2012-08-10, the common errors of both,
/// and the error responses of the S3 API reference.
pub(crate) fn code_kind(code: &str) -> ErrorKind {
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "Throttling"
        | "KMSThrottlingException"
        | "TransactionInProgressException"
        | "ResourceInUseException"
        | "SlowDown" => ErrorKind::Throttled,
        "ResourceNotFoundException" | "TableNotFoundException" | "NoSuchBucket" => {
            ErrorKind::NotFound
        }
        "AccessDenied" | "ExpiredToken" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
            ErrorKind::Denied
        }
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "OptInRequired"
        | "NotAuthorized"
        | "KMSAccessDeniedException"
        | "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired" => ErrorKind::Denied,
        "InvalidArgumentException" | "ValidationException" | "SerializationException" => {
            ErrorKind::InvalidInput
        }
        _ => ErrorKind::Unavailable,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| {
            let source: &(dyn StdError + 'static) = source.as_ref();
            source
        })
    }
}

#[cfg(test)]
mod tests;
