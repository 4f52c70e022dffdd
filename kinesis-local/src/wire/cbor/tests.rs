//! CBOR as the SDK for Java sends it, as others may, and as nobody should.

use std::collections::BTreeMap;

use ciborium::Value;
use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;
use crate::wire::read::{
    Blob, Boolean, Integer, List, Structure, Text, TextMap, Timestamp, decode,
};
use crate::wire::{Body, Format, fault::Fault};

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, bound(deserialize = "\'de: \'a"))]
struct Every<'a> {
    text: Option<Text<'a>>,
    integer: Option<Integer>,
    boolean: Option<Boolean>,
    timestamp: Option<Timestamp>,
    blob: Option<Blob>,
    list: Option<List<Text<'a>>>,
    structure: Option<Structure<Inner>>,
    map: Option<TextMap>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Inner {
    integer: Option<Integer>,
}

fn read(bytes: &[u8]) -> Result<Every<'_>, Fault> {
    decode(Body::new(Format::Cbor, bytes))
}

/// A map without a length that holds one member.
fn member(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xbf, 0x60 + name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(value);
    bytes.push(BREAK);
    bytes
}

/// The text of a refusal; `None`: a bare one.
fn refusal(bytes: &[u8]) -> Option<String> {
    let fault = read(bytes).unwrap_err();
    assert_eq!(fault.code, "SerializationException");
    fault.message
}

#[test]
fn a_timestamp_is_an_integer_of_milliseconds_tagged_or_not() {
    let tagged = *b"\xc1\x1b\x00\x00\x01\xa0\x13\xac\xcc\x38";
    let expected = 0x01a0_13ac_cc38;
    for (value, expected) in [
        (&tagged[..], expected),
        (&tagged[1..], expected),
        (b"\xc1\x1a\x00\x00\x00\x07", 7),
        (b"\x07", 7),
        (b"\x26", 0), // before 1970
        (b"\xc1\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00", 1500),
        (b"\xf9\x3e\x00", 1500),
    ] {
        let bytes = member("timestamp", value);
        let at = read(&bytes).unwrap().timestamp.unwrap();
        assert_eq!(at.0, expected, "{value:02x?}");
    }
}

#[test]
fn a_blob_is_a_byte_string_whole_or_in_chunks() {
    for value in [
        &b"\x43abc"[..],
        b"\x58\x03abc",
        b"\x5f\x43abc\xff",
        b"\x5f\x41a\x40\x42bc\xff",
    ] {
        let bytes = member("blob", value);
        assert_eq!(read(&bytes).unwrap().blob.unwrap().0, "abc", "{value:02x?}");
    }
    for empty in [&b"\x40"[..], b"\x5f\xff"] {
        let bytes = member("blob", empty);
        assert_eq!(read(&bytes).unwrap().blob.unwrap().0, "");
    }
}

#[test]
fn texts_and_lists_are_read_in_both_forms() {
    let bytes = member("text", b"\x7f\x61a\x62bc\xff");
    assert_eq!(&*read(&bytes).unwrap().text.unwrap(), "abc");
    for value in [&b"\x82\x61a\x61b"[..], b"\x9f\x61a\x61b\xff"] {
        let bytes = member("list", value);
        let list = read(&bytes).unwrap().list.unwrap();
        assert_eq!(
            list.0.iter().map(|text| &**text).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }
    for value in [&b"\xa1\x61k\x61v"[..], b"\xbf\x61k\x61v\xff"] {
        let bytes = member("map", value);
        assert_eq!(read(&bytes).unwrap().map.unwrap().0["k"], "v");
    }
    let definite = b"\xa2\x64text\x61a\x67integer\x18\x2a";
    let every = read(definite).unwrap();
    assert_eq!((&*every.text.unwrap(), every.integer.unwrap().0), ("a", 42));
}

#[test]
fn numbers_of_every_width_are_integers_that_are_clamped() {
    for (value, expected) in [
        (&b"\x17"[..], 23),
        (b"\x18\xff", 255),
        (b"\x19\x01\x00", 256),
        (b"\x1a\x7f\xff\xff\xff", i32::MAX),
        (b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", i32::MAX),
        (b"\x20", -1),
        (b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", i32::MIN),
        (b"\xf9\x3e\x00", 1),        // 1.5
        (b"\xf9\xfc\x00", i32::MIN), // below everything
        (b"\xfa\x41\x20\x00\x00", 10),
        (b"\xfb\x40\x24\x00\x00\x00\x00\x00\x00", 10),
        (b"\xd8\x20\x05", 5), // a tag is passed over
    ] {
        let bytes = member("integer", value);
        assert_eq!(
            read(&bytes).unwrap().integer.unwrap().0,
            expected,
            "{value:02x?}"
        );
    }
}

#[test]
fn null_is_absence_and_unknown_members_are_dropped() {
    let mut bytes = vec![0xbf];
    for (name, value) in [
        ("text", &b"\xf6"[..]),
        ("list", b"\xf7"),
        ("structure", b"\xf6"),
        (
            "other",
            b"\x9f\xbf\x61a\xa1\x01\x02\xff\xc1\x00\x5f\x41a\xff\xf9\x00\x00\xe0\xff",
        ),
        ("boolean", b"\xf5"),
    ] {
        let one = member(name, value);
        bytes.extend_from_slice(&one[1..one.len() - 1]);
    }
    bytes.push(BREAK);
    let every = read(&bytes).unwrap();
    assert!(every.text.is_none() && every.list.is_none() && every.structure.is_none());
    assert!(every.boolean.unwrap().0);
}

#[test]
fn a_wrong_type_is_named_as_in_json() {
    const BIG: &str =
        "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to ";
    let cases: [(&str, &[u8], Option<String>); 11] = [
        (
            "text",
            b"\xf5",
            Some("class java.lang.Boolean can not be converted to an String".into()),
        ),
        ("text", b"\x17", Some(format!("{BIG}an String"))),
        ("text", b"\xf9\x3e\x00", Some(format!("{BIG}an String"))),
        (
            "text",
            b"\x80",
            Some("Start of list found where not expected".into()),
        ),
        (
            "text",
            b"\xbf\xff",
            Some("Start of structure or map found where not expected.".into()),
        ),
        (
            "integer",
            b"\x61a",
            Some("class java.lang.String can not be converted to an Integer".into()),
        ),
        ("list", b"\x61a", Some("Expected list or null".into())),
        ("structure", b"\x01", Some("Expected null".into())),
        // What JSON cannot hold has no words of its own.
        ("text", b"\x41a", None),
        ("integer", b"\x41a", None),
        ("blob", b"\x64eA==", None),
    ];
    for (name, value, expected) in cases {
        assert_eq!(
            refusal(&member(name, value)),
            expected,
            "{name} {value:02x?}"
        );
    }
}

#[test]
fn what_is_not_one_whole_map_is_refused_without_a_text() {
    for bytes in [
        &b""[..],
        b"\xff",
        b"\xf6",
        b"\x80",
        b"\x61a",
        b"{}",
        b"\xbf",                              // no end
        b"\xa1\x61a",                         // a key without its value
        b"\xbf\x61a\xff",                     // the same, with a break
        b"\xa1\x61a\xbf\x61b\xff",            // the same, within
        b"\xa0\x00",                          // something after it
        b"\xa1\x01\x02",                      // a key that is no text
        b"\xa1\x64text\x61\xff",              // no UTF-8
        b"\xa1\x64text\x7f\x41a\xff",         // a chunk of the other kind
        b"\xa1\x64text\x7f\x7f\x61a\xff\xff", // a chunk in chunks
        b"\xa1\x61a\x1c",                     // a length that is not defined
        b"\xa1\x61a\x1f",                     // a number without a length
        b"\xa1\x61a\xf8\x18",                 // a simple value in two bytes
        b"\xa1\x64text\xff",                  // a break as a value
        b"\xa2\x64text\x61a\x64text\x61b",    // a member twice, as in JSON
        b"\xa2\x64text\x01\x61b",             // a wrong type, then no end
    ] {
        assert_eq!(refusal(bytes), None, "{bytes:02x?}");
    }
    assert!(read(b"\xd9\xd9\xf7\xbf\xff").is_ok(), "tagged as CBOR");
}

#[test]
fn a_length_that_is_only_claimed_takes_no_memory() {
    const HUGE: [u8; 8] = [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for major in [0x5b, 0x7b, 0x9b, 0xbb] {
        for name in ["blob", "text", "list", "map", "other"] {
            let mut value = vec![major];
            value.extend_from_slice(&HUGE);
            value.extend_from_slice(b"aaa");
            read(&member(name, &value)).unwrap_err();
        }
    }
}

#[test]
fn nesting_is_bounded_and_takes_no_stack() {
    for open in [&b"\x81"[..], b"\x9f", b"\xa1\x61a", b"\xbf\x61a", b"\xc1"] {
        let deep = member("other", &open.repeat(1_000_000));
        assert_eq!(refusal(&deep), None);
        let deep = member("text", &open.repeat(1_000_000));
        read(&deep).unwrap_err();
    }
    let mut fits = b"\x81".repeat(NESTING_MAX - 1);
    fits.push(0x80);
    assert!(read(&member("other", &fits)).is_ok());
}

#[test]
fn a_list_of_nulls_is_cut_where_no_list_of_the_model_reaches() {
    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(default)]
    struct Long {
        list: List<Structure<Inner>>,
    }
    let mut value = vec![0x9f];
    value.resize(1_000_001, 0xf6);
    value.push(BREAK);
    let bytes = member("list", &value);
    let long: Long = decode(Body::new(Format::Cbor, &bytes)).unwrap();
    assert_eq!(long.list.0.len(), 10_001);
}

#[test]
fn texts_are_borrowed_even_in_one_chunk() {
    for value in [&b"\x63abc"[..], b"\x7f\x63abc\xff"] {
        let mut reader = Reader { rest: value };
        let head = reader.head().unwrap();
        assert!(matches!(reader.text(head), Ok(Cow::Borrowed("abc"))));
        assert!(reader.rest.is_empty());
    }
}

/// Any value that JSON and CBOR both know, and byte strings.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Integer(number.into())),
        any::<u64>().prop_map(|number| Value::Integer(number.into())),
        any::<f32>()
            .prop_filter("equal to itself", |number| !number.is_nan())
            .prop_map(|number| Value::Float(number.into())),
        (-2048i16..2048).prop_map(|number| Value::Float(f64::from(number) / 64.0)),
        any::<Vec<u8>>().prop_map(Value::Bytes),
        ".{0,20}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let map = prop::collection::btree_map(".{0,4}", inner.clone(), 0..8);
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Value::Array),
            map.prop_map(map_value),
        ]
    })
}

fn map_value(members: BTreeMap<String, Value>) -> Value {
    let member = |(name, value)| (Value::Text(name), value);
    Value::Map(members.into_iter().map(member).collect())
}

fn a_structure() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(".{0,4}", any_value(), 0..8).prop_map(map_value)
}

/// The value without lengths, its strings in chunks of at most four characters.
fn in_chunks(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(0x9f);
            items.iter().for_each(|item| in_chunks(item, out));
            out.push(BREAK);
        }
        Value::Map(pairs) => {
            out.push(0xbf);
            for (name, value) in pairs {
                in_chunks(name, out);
                in_chunks(value, out);
            }
            out.push(BREAK);
        }
        Value::Bytes(bytes) => {
            out.push(0x5f);
            for chunk in bytes.chunks(4) {
                ciborium::into_writer(&Value::Bytes(chunk.into()), &mut *out).unwrap();
            }
            out.push(BREAK);
        }
        Value::Text(text) => {
            out.push(0x7f);
            for chunk in text.chars().collect::<Vec<_>>().chunks(4) {
                let chunk = Value::Text(chunk.iter().collect());
                ciborium::into_writer(&chunk, &mut *out).unwrap();
            }
            out.push(BREAK);
        }
        other => ciborium::into_writer(other, out).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_reads_what_another_reader_reads(value in a_structure()) {
        let mut with_lengths = Vec::new();
        ciborium::into_writer(&value, &mut with_lengths).unwrap();
        let mut without = Vec::new();
        in_chunks(&value, &mut without);
        for bytes in [with_lengths, without] {
            prop_assert_eq!(&Reader::whole::<Value>(&bytes).unwrap(), &value);
            prop_assert_eq!(&ciborium::from_reader::<Value, _>(&bytes[..]).unwrap(), &value);
            prop_assert!(Reader::is_well_formed(&bytes));
            for end in 0..bytes.len() {
                prop_assert!(Reader::whole::<Value>(&bytes[..end]).is_err());
                prop_assert!(!Reader::is_well_formed(&bytes[..end]));
            }
        }
    }

    #[test]
    fn what_it_reads_is_well_formed(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        // Most bytes are no map: one is put before them.
        for bytes in [bytes.clone(), [&[0xbf, 0x61, b'a'][..], &bytes].concat()] {
            if Reader::whole::<BTreeMap<String, IgnoredAny>>(&bytes).is_ok() {
                prop_assert!(Reader::is_well_formed(&bytes));
            }
        }
    }
}
