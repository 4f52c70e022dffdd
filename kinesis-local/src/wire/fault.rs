//! A refusal: the status, code and text that the service answers with.
//!
//! Promises: the body is `{"__type":CODE,"message":TEXT}`, in the encoding of the request, with a bare
//! code, as SDKs read it; only
//! `SerializationException` spells its text `Message`, because the service does. No text carries a
//! payload or a credential.

use std::borrow::Cow;

use http::StatusCode;

use super::Format;
use super::read::Boolean;
use super::write::Writer;

/// The code of a refusal for want of room, and its text.
pub(crate) const BUSY: &str = "ServiceUnavailable";
pub(crate) const BUSY_TEXT: &str = "kinesis-local has too much to do at once; try again";

/// Why a request is refused, in the service's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: Option<String>,
}

impl Fault {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: code.into(),
            message: Some(message.into()),
        }
    }

    pub(crate) fn bare(code: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            code: Cow::Borrowed(code),
            message: None,
        }
    }

    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::new(SERIALIZATION, message)
    }

    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new("InvalidArgumentException", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new("ResourceNotFoundException", message)
    }

    pub(crate) fn in_use(message: impl Into<String>) -> Self {
        Self::new("ResourceInUseException", message)
    }

    pub(crate) fn limit_exceeded(message: impl Into<String>) -> Self {
        Self::new("LimitExceededException", message)
    }

    pub(crate) fn throttled(message: impl Into<String>) -> Self {
        Self::new(THROTTLED, message)
    }

    /// There is too much to do at once; nothing was done. Source: the service's common errors; the SDKs try
    /// again.
    pub(crate) fn busy() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            ..Self::new(BUSY, BUSY_TEXT)
        }
    }

    /// A request that was only to be checked passed every check. Ends it there if it says so.
    pub(crate) fn unless_dry_run(dry_run: Option<Boolean>) -> Result<(), Self> {
        match dry_run {
            Some(Boolean(true)) => Err(Self::new(DRY_RUN, DRY_RUN_TEXT)),
            Some(Boolean(false)) | None => Ok(()),
        }
    }

    /// The service itself failed: SDKs try again. Whose model lists no such exception is told the
    /// failure that all services have in common ([`common`](Self::common)).
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: Cow::Borrowed(INTERNAL),
            message: Some(message.into()),
        }
    }

    /// The same failure to an operation whose model does not list the exception; any other fault
    /// stays what it is.
    pub(crate) fn common(mut self) -> Self {
        if self.code == INTERNAL {
            self.code = Cow::Borrowed(INTERNAL_COMMON);
        }
        self
    }

    /// The service failed without a word.
    pub(crate) fn wordless() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::bare(INTERNAL_COMMON)
        }
    }

    /// The body of the answer.
    pub(crate) fn body(&self, format: Format) -> Vec<u8> {
        let mut writer = Writer::new(format);
        writer.structure(|writer| {
            writer.key("__type");
            writer.plain(&self.code);
            if let Some(message) = &self.message {
                writer.key(if self.code == SERIALIZATION {
                    "Message"
                } else {
                    "message"
                });
                writer.text(message);
            }
        });
        writer.into_bytes()
    }
}

/// The code of a request that could not be read.
pub(crate) const SERIALIZATION: &str = "SerializationException";

/// The code of a failure of the service, as the API model of some operations has it.
pub(crate) const INTERNAL: &str = "InternalFailureException";

/// The same as all services have it, and as entries of PutRecords are told.
pub(crate) const INTERNAL_COMMON: &str = "InternalFailure";

/// The code and text of a request that was only to be checked and is good.
pub(crate) const DRY_RUN: &str = "DryRunOperationException";
pub(crate) const DRY_RUN_TEXT: &str = "Request would have succeeded, but DryRun flag is set.";

/// The code of a shard whose throughput is used up; also in the entries of PutRecords.
pub(crate) const THROTTLED: &str = "ProvisionedThroughputExceededException";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serialization_fault_alone_spells_its_text_with_a_capital() {
        let fault = Fault::serialization("Expected list or null");
        assert_eq!(
            fault.body(Format::Json),
            br#"{"__type":"SerializationException","Message":"Expected list or null"}"#
        );
        let fault = Fault::in_use("Stream a under account 0 already exists.");
        assert_eq!(
            fault.body(Format::Json),
            br#"{"__type":"ResourceInUseException","message":"Stream a under account 0 already exists."}"#
        );
    }

    #[test]
    fn a_fault_without_a_text_has_a_code_alone() {
        assert_eq!(
            Fault::bare("UnknownOperationException").body(Format::Json),
            br#"{"__type":"UnknownOperationException"}"#
        );
    }
}
