//! JSON by serde.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CodecError, Decode, Encode};

const FORMAT: &str = "JSON";

/// Values as JSON, by their serde implementations; compact, UTF-8, one value per record.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Json;

/// Where and in which way a text is not the expected JSON. `serde_json`'s own message may quote it.
#[derive(Debug, thiserror::Error)]
#[error("{category} at line {line}, column {column}")]
struct Place {
    category: &'static str,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for Place {
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let category = match error.classify() {
            Category::Io => "not writable",
            Category::Syntax => "not JSON",
            Category::Data => "not the expected fields and types",
            Category::Eof => "cut off",
        };
        Self {
            category,
            line: error.line(),
            column: error.column(),
        }
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Json {
    fn encode(&self, value: &T) -> Result<Bytes, CodecError> {
        serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|error| CodecError::encode(FORMAT, Place::from(error)))
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&self, data: &Bytes) -> Result<T, CodecError> {
        serde_json::from_slice(data).map_err(|error| CodecError::decode(FORMAT, Place::from(error)))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_text_that_is_not_the_type_is_described_without_quoting_it() {
        let texts = [r#"{"delay":"secret"}"#, "secret", r#"{"delay":"#, ""];
        for text in texts {
            let error = Decode::<std::collections::BTreeMap<String, i32>>::decode(
                &Json,
                &Bytes::from_static(text.as_bytes()),
            );
            let error = error.expect_err("no map of numbers");
            let source = error.source().expect("a place").to_string();
            assert!(source.contains("line"), "{source}");
            assert!(!format!("{error} {source} {error:?}").contains("secret"));
        }
    }

    #[test]
    fn a_value_without_a_form_in_json_is_refused() {
        let keys_of_two = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = Json.encode(&keys_of_two).expect_err("no text key");
        assert!(matches!(error, CodecError::Encode { .. }), "{error}");
    }
}
