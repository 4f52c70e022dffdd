//! One match from operation names to dynoxide's typed methods, and its errors as the wire has them.
//!
//! dynoxide keeps its own dispatch private to its server. This one differs from it only in the texts
//! of some refusals of malformed requests (wrong JSON types inside a request).

use dynoxide::{Database, DynoxideError};
use http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Answer, Refusal};

/// Carries out `operation` with the JSON text of its input. Blocks.
pub(super) fn run(database: &Database, operation: &str, body: &[u8]) -> Answer {
    match operation {
        "CreateTable" => call(body, |input| database.create_table(input)),
        "DescribeTable" => call(body, |input| database.describe_table(input)),
        "UpdateTable" => call(body, |input| database.update_table(input)),
        "DeleteTable" => call(body, |input| database.delete_table(input)),
        "ListTables" => call(body, |input| database.list_tables(input)),
        "TagResource" => call(body, |input| database.tag_resource(input)),
        "UntagResource" => call(body, |input| database.untag_resource(input)),
        "ListTagsOfResource" => call(body, |input| database.list_tags_of_resource(input)),
        "UpdateTimeToLive" => call(body, |input| database.update_time_to_live(input)),
        "DescribeTimeToLive" => call(body, |input| database.describe_time_to_live(input)),
        "PutItem" => call(body, |input| database.put_item(input)),
        "GetItem" => call(body, |input| database.get_item(input)),
        "UpdateItem" => call(body, |input| database.update_item(input)),
        "DeleteItem" => call(body, |input| database.delete_item(input)),
        "Query" => call(body, |input| database.query(input)),
        "Scan" => call(body, |input| database.scan(input)),
        "SearchVectors" => call(body, |input| database.search_vectors(input)),
        "BatchGetItem" => call(body, |input| database.batch_get_item(input)),
        "BatchWriteItem" => call(body, |input| database.batch_write_item(input)),
        "TransactGetItems" => call(body, |input| database.transact_get_items(input)),
        "TransactWriteItems" => call(body, |input| database.transact_write_items(input)),
        "ExecuteStatement" => call(body, |input| database.execute_statement(input)),
        "ExecuteTransaction" => call(body, |input| database.execute_transaction(input)),
        "BatchExecuteStatement" => call(body, |input| database.batch_execute_statement(input)),
        _ => Err(Refusal::unknown_operation()),
    }
}

/// Reads the input, calls, writes the output.
fn call<I, O>(body: &[u8], method: impl FnOnce(I) -> Result<O, DynoxideError>) -> Answer
where
    I: DeserializeOwned,
    O: Serialize,
{
    let input = serde_json::from_slice(body).map_err(|error| Refusal::from(malformed(&error)))?;
    let output = method(input).map_err(Refusal::from)?;
    serde_json::to_string(&output)
        .map_err(|_| Refusal::internal("the answer cannot be written as JSON"))
}

impl From<DynoxideError> for Refusal {
    fn from(error: DynoxideError) -> Self {
        Self {
            status: StatusCode::from_u16(error.status_code()).unwrap_or(StatusCode::BAD_REQUEST),
            body: error.to_json(),
        }
    }
}

/// Makes one of DynamoDB's exceptions from its message.
type Exception = fn(String) -> DynoxideError;

/// How dynoxide's types mark, at the start of a serde message, which of DynamoDB's exceptions a
/// refused value is. The longer of two marks that begin alike comes first.
const MARKS: [(&str, Exception); 5] = [
    (
        "SERIALIZATION_AS_READ:",
        DynoxideError::SerializationException,
    ),
    ("SERIALIZATION:", DynoxideError::SerializationException),
    ("VALIDATION_AS_READ:", DynoxideError::ValidationException),
    ("VALIDATION_REQUEST:", DynoxideError::ValidationException),
    ("VALIDATION:", DynoxideError::ValidationException),
];

/// DynamoDB's name for a request that is not the operation's input: a missing or unknown member is
/// a `ValidationException`, a wrong JSON type a `SerializationException`.
pub(super) fn malformed(error: &serde_json::Error) -> DynoxideError {
    let message = error.to_string();
    let message = match message.rfind(" at line ") {
        Some(position) => &message[..position],
        None => &message,
    };
    for (mark, exception) in MARKS {
        if let Some(message) = message.strip_prefix(mark) {
            return exception(message.to_owned());
        }
    }
    let invalid = [
        "missing field",
        "unknown variant",
        "invalid type: null",
        "Supplied AttributeValue",
    ];
    if message.contains("empty AttributeValue") {
        DynoxideError::ValidationException(
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"
                .to_owned(),
        )
    } else if invalid.iter().any(|part| message.contains(part)) {
        DynoxideError::ValidationException(message.to_owned())
    } else {
        DynoxideError::SerializationException(message.to_owned())
    }
}
