//! What errors say, and what they never say.

use aws_sdk_kinesis::error::ErrorMetadata;
use aws_sdk_kinesis::operation::get_records::GetRecordsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::body::SdkBody;

use super::*;

fn raw() -> HttpResponse {
    HttpResponse::new(
        400.try_into().expect("a status"),
        SdkBody::from("the payload"),
    )
}

fn refused(code: &str) -> Error {
    let error = GetRecordsError::generic(ErrorMetadata::builder().code(code).build());
    Error::aws(
        "reading records of shard s of stream x",
        SdkError::service_error(error, raw()),
    )
}

#[test]
fn the_services_answer_tells_what_to_do() {
    let cases = [
        (
            "ProvisionedThroughputExceededException",
            ErrorKind::Throttled,
        ),
        ("ThrottlingException", ErrorKind::Throttled),
        ("ResourceNotFoundException", ErrorKind::NotFound),
        ("AccessDeniedException", ErrorKind::Denied),
        ("InvalidArgumentException", ErrorKind::InvalidInput),
        ("InternalFailure", ErrorKind::Unavailable),
    ];
    for (code, kind) in cases {
        let error = refused(code);
        assert_eq!(error.kind(), kind, "{code}");
        assert!(error.to_string().contains(code) && error.to_string().contains("stream x"));
    }
}

#[test]
fn no_answer_means_try_again() {
    let error: SdkError<GetRecordsError, HttpResponse> = SdkError::timeout_error("late");
    let error = Error::aws("reading", error);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.kind().is_retryable() && error.source().is_some());
}

#[test]
fn the_raw_answer_is_never_shown() {
    let unreadable: SdkError<GetRecordsError, HttpResponse> =
        SdkError::response_error("not JSON", raw());
    for error in [
        Error::aws("reading", unreadable),
        refused("InternalFailure"),
    ] {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("the payload"), "{text}");
    }
}

#[test]
fn what_the_service_finds_wrong_or_cannot_be_built_is_put_right_by_nothing_outside() {
    assert!(!ErrorKind::Internal.may_be_put_right());
    assert!(!ErrorKind::InvalidInput.may_be_put_right());
    for kind in [
        ErrorKind::Denied,
        ErrorKind::Throttled,
        ErrorKind::Unavailable,
    ] {
        assert!(kind.may_be_put_right(), "{kind:?}");
    }
}
