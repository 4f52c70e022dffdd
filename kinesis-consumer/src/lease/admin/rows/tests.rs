use super::*;

#[test]
fn only_a_condition_that_failed_says_that_a_row_was_changed() {
    assert_eq!(cancellation(&["ConditionalCheckFailed", "None"]), None);
    assert_eq!(
        cancellation(&["ThrottlingError", "ConditionalCheckFailed"]),
        None
    );
    for code in [
        "TransactionConflict",
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
    ] {
        assert_eq!(cancellation(&["None", code]), Some(ErrorKind::Throttled));
    }
    let invalid = Some(ErrorKind::InvalidInput);
    assert_eq!(cancellation(&["ValidationError", "None"]), invalid);
    assert_eq!(cancellation(&[]), Some(ErrorKind::Throttled));
}
