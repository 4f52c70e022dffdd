//! Reads a request into its typed struct.
//!
//! Promises: unknown members are dropped and `null` is absence; a value of the wrong type is
//! answered in the service's words, which name its types and not ours; texts and numbers are never
//! turned into one another. Integers beyond 32 bits are clamped, as the service does.
//!
//! The field types: [`Text`], [`Integer`], [`Boolean`], [`Timestamp`], [`Blob`], [`List`],
//! [`Structure`], [`TextMap`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use super::cbor::{self, Reader};
use super::fault::{Fault, SERIALIZATION};
use super::{Body, Format};

/// Elements of a list or map that are kept; more are read and dropped. Source: none; over any
/// length that the model allows, so that the checks still refuse it, and far below what a body of
/// nulls would take in memory.
const ELEMENTS_MAX: usize = 10_001;

/// The request in `body`, which has to be one structure.
pub(crate) fn decode<'de, T: Deserialize<'de>>(body: Body<'de>) -> Result<T, Fault> {
    match body.format {
        Format::Json => decode_json(body.bytes),
        Format::Cbor => decode_cbor(body.bytes),
    }
}

/// Whether the body is one structure, whatever its members.
pub(crate) fn is_object(body: Body<'_>) -> bool {
    #[derive(Deserialize)]
    struct Anything {}
    decode::<Anything>(body).is_ok()
}

fn decode_json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Fault> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Fault::bare(SERIALIZATION));
    }
    serde_json::from_slice(body).map_err(|error| {
        // A type error met before a syntax error still is a body that does not parse.
        if !error.is_data() || serde_json::from_slice::<IgnoredAny>(body).is_err() {
            return Fault::bare(SERIALIZATION);
        }
        let text = error.to_string();
        let end = text.rfind(" at line ").unwrap_or(text.len());
        mistyped(&text[..end])
    })
}

fn decode_cbor<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Fault> {
    Reader::whole(body).map_err(|error| match error {
        cbor::Error::Worded(text) if Reader::is_well_formed(body) => mistyped(&text),
        _ => Fault::bare(SERIALIZATION),
    })
}

/// The refusal of a value; only the service's own words are passed on.
fn mistyped(text: &str) -> Fault {
    if text.starts_with("duplicate field") || text.starts_with("invalid type") {
        return Fault::bare(SERIALIZATION);
    }
    Fault::serialization(text)
}

const NUMBER: &str = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber";
const LIST: &str = "Start of list found where not expected";
const MAP: &str = "Start of structure or map found where not expected.";

/// The visitor methods that refuse a JSON type with the service's text.
macro_rules! refuse {
    (number $text:expr) => {
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
    };
    (boolean $text:expr) => {
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
    };
    (text $text:expr) => {
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Err(E::custom($text))
        }
    };
    (list) => {
        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(A::Error::custom(LIST))
        }
    };
    (map) => {
        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(A::Error::custom(MAP))
        }
    };
    (expecting $what:literal) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($what)
        }
    };
}

/// A text, borrowed from the request where it has no escapes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            refuse!(expecting "a text");
            refuse!(number format_args!("{NUMBER} can not be converted to an String"));
            refuse!(boolean "class java.lang.Boolean can not be converted to an String");
            refuse!(list);
            refuse!(map);
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// A 32-bit integer; what does not fit is clamped, fractions are cut.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Integer(pub(crate) i32);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IntegerVisitor;
        impl<'de> Visitor<'de> for IntegerVisitor {
            type Value = Integer;
            refuse!(expecting "an integer");
            refuse!(boolean "class java.lang.Boolean can not be converted to an Integer");
            refuse!(text "class java.lang.String can not be converted to an Integer");
            refuse!(list);
            refuse!(map);
            fn visit_u64<E: Error>(self, value: u64) -> Result<Integer, E> {
                Ok(Integer(i32::try_from(value).unwrap_or(i32::MAX)))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Integer, E> {
                Ok(Integer(i32::try_from(value).unwrap_or(i32::MIN)))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Integer, E> {
                Ok(Integer(value.floor() as i32))
            }
        }
        deserializer.deserialize_any(IntegerVisitor)
    }
}

/// True or false.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Boolean(pub(crate) bool);

impl<'de> Deserialize<'de> for Boolean {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BooleanVisitor;
        impl<'de> Visitor<'de> for BooleanVisitor {
            type Value = Boolean;
            refuse!(expecting "a boolean");
            refuse!(number format_args!("{NUMBER} can not be converted to an Boolean"));
            refuse!(list);
            refuse!(map);
            fn visit_bool<E: Error>(self, value: bool) -> Result<Boolean, E> {
                Ok(Boolean(value))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Boolean, E> {
                let upper = text.to_uppercase();
                Err(E::custom(format_args!(
                    "'{upper}' can not be converted to an Boolean"
                )))
            }
        }
        deserializer.deserialize_any(BooleanVisitor)
    }
}

/// A point in time, in milliseconds since the Unix epoch. On the wire: in JSON a number of seconds;
/// in CBOR an integer of milliseconds, tagged or not, while a float still counts seconds (RFC 8949;
/// no client of the service is known to send one).
#[derive(Copy, Clone, Debug)]
pub(crate) struct Timestamp(pub(crate) u64);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimestampVisitor {
            integer_ms: u64,
        }
        impl<'de> Visitor<'de> for TimestampVisitor {
            type Value = Timestamp;
            refuse!(expecting "a timestamp");
            refuse!(boolean "class java.lang.Boolean can not be converted to milliseconds since epoch");
            refuse!(text "class java.lang.String can not be converted to milliseconds since epoch");
            refuse!(list);
            refuse!(map);
            fn visit_u64<E: Error>(self, integer: u64) -> Result<Timestamp, E> {
                Ok(Timestamp(integer.saturating_mul(self.integer_ms)))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<Timestamp, E> {
                Ok(Timestamp(0)) // before 1970: nothing of ours is older
            }
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Timestamp, E> {
                Ok(Timestamp((seconds * 1000.0).round() as u64))
            }
        }
        let integer_ms = if deserializer.is_human_readable() {
            1000
        } else {
            1
        };
        deserializer.deserialize_any(TimestampVisitor { integer_ms })
    }
}

/// Bytes. On the wire: base64 in JSON, a byte string in CBOR, copied once.
#[derive(Clone, Debug)]
pub(crate) struct Blob(pub(crate) Bytes);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor {
            is_base64: bool,
        }
        impl<'de> Visitor<'de> for BlobVisitor {
            type Value = Blob;
            refuse!(expecting "a blob");
            refuse!(number format_args!("{NUMBER} can not be converted to a Blob"));
            refuse!(boolean "class java.lang.Boolean can not be converted to a Blob");
            refuse!(list);
            refuse!(map);
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Blob, E> {
                if !self.is_base64 {
                    return Err(E::invalid_type(Unexpected::Other("a text"), &self));
                }
                match base64_simd::STANDARD.decode_to_vec(text) {
                    Ok(bytes) => Ok(Blob(bytes.into())),
                    Err(_) => Err(E::custom(bad_base64(text))),
                }
            }
        }
        let is_base64 = deserializer.is_human_readable();
        deserializer.deserialize_any(BlobVisitor { is_base64 })
    }
}

/// Why a text is not base64, in the service's words (including its misspelling).
fn bad_base64(text: &str) -> String {
    let why = if !text.len().is_multiple_of(4) {
        let length = text.chars().count();
        format!("Base64 encoded length is expected a multiple of 4 bytes but found: {length}")
    } else if let Some(bad) = bad_base64_char(text) {
        format!("Invalid Base64 character: '{bad}'")
    } else {
        "Invalid last non-pad Base64 character dectected".to_owned()
    };
    // The value itself is a payload: a long one is not repeated.
    let shown = if text.len() <= SHOWN_BASE64_MAX {
        text
    } else {
        "…"
    };
    format!("'{shown}' can not be converted to a Blob: {why}")
}

/// Longest refused base64 text that the answer repeats, in bytes. Source: none; enough for the
/// service's own texts in tests, too little for a payload to travel on in an error.
const SHOWN_BASE64_MAX: usize = 16;

fn bad_base64_char(text: &str) -> Option<char> {
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    let known = |c: &char| c.is_ascii_alphanumeric() || "+/".contains(*c);
    body.chars()
        .find(|c| !known(c))
        .or((padding > 2).then_some('='))
}

/// A list.
#[derive(Clone, Debug, Default)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            refuse!(expecting "a list");
            refuse!(number "Expected list or null");
            refuse!(boolean "Expected list or null");
            refuse!(text "Expected list or null");
            refuse!(map);
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while list.len() < ELEMENTS_MAX
                    && let Some(item) = items.next_element()?
                {
                    list.push(item);
                }
                while let Some(IgnoredAny) = items.next_element()? {}
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

/// A structure inside a request; `null` reads as one without members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Structure<T>(pub(crate) T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Structure<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StructureVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for StructureVisitor<T> {
            type Value = Structure<T>;
            refuse!(expecting "a structure");
            refuse!(number "Expected null");
            refuse!(boolean "Expected null");
            refuse!(text "Expected null");
            refuse!(list);
            fn visit_unit<E: Error>(self) -> Result<Structure<T>, E> {
                Ok(Structure(T::default()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Structure<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Structure)
            }
        }
        deserializer.deserialize_any(StructureVisitor(PhantomData))
    }
}

/// A map of texts, such as tags.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextMap(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextMapVisitor;
        impl<'de> Visitor<'de> for TextMapVisitor {
            type Value = TextMap;
            refuse!(expecting "a map");
            refuse!(number "Expected map or null");
            refuse!(boolean "Expected map or null");
            refuse!(text "Expected map or null");
            refuse!(list);
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextMap, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Option<Text<'de>>>()? {
                    if texts.len() < ELEMENTS_MAX {
                        texts.insert(key, value.unwrap_or_default().to_string());
                    }
                }
                Ok(TextMap(texts))
            }
        }
        deserializer.deserialize_any(TextMapVisitor)
    }
}

#[cfg(test)]
mod tests;
