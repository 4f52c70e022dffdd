//! Names of what a `kinesis-local` measures at its edge, through the `metrics` facade.
//!
//! Without a recorder they cost next to nothing. Counted per request, never per record.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Requests answered, by `service` (`kinesis`, `dynamodb`, `s3`, `local`) and HTTP `status`.
pub const REQUESTS: &str = "kinesis_local_requests";
/// From a request's head to its answer's head, by `service`. For a subscription: until it starts.
pub const REQUEST_SECONDS: &str = "kinesis_local_request_seconds";
/// Open connections of the socket.
pub const CONNECTIONS: &str = "kinesis_local_connections";

/// Gives the recorder the meaning and unit of every name. Call it after the recorder is installed.
pub fn describe() {
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests answered, by service and status"
    );
    describe_histogram!(
        REQUEST_SECONDS,
        Unit::Seconds,
        "From a request's head to its answer's head, by service"
    );
    describe_gauge!(CONNECTIONS, Unit::Count, "Open connections of the socket");
}
