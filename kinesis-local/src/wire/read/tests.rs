//! The service's words for values of the wrong type.

use serde::Deserialize;

use super::*;

fn decode<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, Fault> {
    super::decode(Body::new(Format::Json, body))
}

fn is_object(body: &[u8]) -> bool {
    super::is_object(Body::new(Format::Json, body))
}

#[derive(Debug, Default, Deserialize)]
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

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inner {
    integer: Option<Integer>,
}

fn message(body: &str) -> Option<String> {
    let fault = decode::<Every<'_>>(body.as_bytes()).unwrap_err();
    assert_eq!(fault.code, "SerializationException");
    fault.message
}

#[test]
fn each_wrong_type_is_named_in_the_services_words() {
    const BIG: &str =
        "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to ";
    const BOOL: &str = "class java.lang.Boolean can not be converted to ";
    const STRING: &str = "class java.lang.String can not be converted to ";
    let cases = [
        ("text", "true", format!("{BOOL}an String")),
        ("text", "23", format!("{BIG}an String")),
        ("text", "-34.56", format!("{BIG}an String")),
        ("text", "[]", LIST.to_owned()),
        ("text", "{}", MAP.to_owned()),
        ("integer", "\"23\"", format!("{STRING}an Integer")),
        ("integer", "true", format!("{BOOL}an Integer")),
        ("integer", "[]", LIST.to_owned()),
        ("integer", "{}", MAP.to_owned()),
        ("boolean", "23", format!("{BIG}an Boolean")),
        (
            "boolean",
            "\"text\"",
            "'TEXT' can not be converted to an Boolean".to_owned(),
        ),
        ("boolean", "[]", LIST.to_owned()),
        (
            "timestamp",
            "\"x\"",
            format!("{STRING}milliseconds since epoch"),
        ),
        ("blob", "true", format!("{BOOL}a Blob")),
        ("blob", "23", format!("{BIG}a Blob")),
        ("list", "\"23\"", "Expected list or null".to_owned()),
        ("list", "true", "Expected list or null".to_owned()),
        ("list", "34.56", "Expected list or null".to_owned()),
        ("list", "{}", MAP.to_owned()),
        ("list", "[1]", format!("{BIG}an String")),
        ("structure", "23", "Expected null".to_owned()),
        ("structure", "[]", LIST.to_owned()),
        (
            "structure",
            r#"{"integer":"x"}"#,
            format!("{STRING}an Integer"),
        ),
        ("map", "1", "Expected map or null".to_owned()),
        ("map", "[]", LIST.to_owned()),
    ];
    for (field, value, expected) in cases {
        let body = format!(r#"{{"{field}":{value}}}"#);
        assert_eq!(message(&body).unwrap(), expected, "{body}");
    }
}

#[test]
fn bad_base64_is_told_apart_by_its_fault() {
    let cases = [
        (
            "23456",
            "Base64 encoded length is expected a multiple of 4 bytes but found: 5",
        ),
        ("=+/=", "Invalid Base64 character: '='"),
        ("+/+=", "Invalid last non-pad Base64 character dectected"),
    ];
    for (value, expected) in cases {
        let text = message(&format!(r#"{{"blob":"{value}"}}"#)).unwrap();
        assert_eq!(
            text,
            format!("'{value}' can not be converted to a Blob: {expected}")
        );
    }
}

#[test]
fn a_long_bad_blob_is_not_repeated_in_the_answer() {
    let text = message(&format!(r#"{{"blob":"{}?"}}"#, "secret00".repeat(8))).unwrap();
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn null_is_absence_and_unknown_members_are_dropped() {
    let every: Every<'_> =
        decode(br#" {"text":null,"integer":null,"list":null,"structure":null,"other":[{}]}"#)
            .unwrap();
    assert!(every.text.is_none() && every.integer.is_none() && every.list.is_none());
    assert!(every.structure.is_none());
}

#[test]
fn integers_beyond_32_bits_are_clamped() {
    for (value, expected) in [
        ("2147483648", i32::MAX),
        ("-2147483649", i32::MIN),
        ("1e300", i32::MAX),
        ("1.9", 1),
    ] {
        let body = format!(r#"{{"integer":{value}}}"#);
        let every: Every<'_> = decode(body.as_bytes()).unwrap();
        assert_eq!(every.integer.unwrap().0, expected);
    }
}

#[test]
fn timestamps_keep_their_milliseconds() {
    let every: Every<'_> = decode(br#"{"timestamp":1795387481.554}"#).unwrap();
    assert_eq!(every.timestamp.unwrap().0, 1_795_387_481_554);
    let every: Every<'_> = decode(br#"{"timestamp":1795387481}"#).unwrap();
    assert_eq!(every.timestamp.unwrap().0, 1_795_387_481_000);
}

#[test]
fn a_body_that_is_no_object_or_does_not_parse_has_no_text() {
    for body in [
        "",
        "hello",
        "[]",
        "\"a\"",
        "{",
        r#"{"text":1"#,
        r#"{"integer":"x",}"#,
    ] {
        assert_eq!(message(body), None, "{body}");
        assert!(!is_object(body.as_bytes()));
    }
    assert!(is_object(br#"{"anything":[1,{"a":null}]}"#));
}

#[test]
fn texts_are_borrowed_unless_escaped() {
    let every: Every<'_> = decode(br#"{"text":"plain","list":["a\nb"]}"#).unwrap();
    assert!(matches!(every.text.unwrap().0, Cow::Borrowed("plain")));
    assert_eq!(&*every.list.unwrap().0[0], "a\nb");
}

#[test]
fn maps_and_nested_structures_are_read() {
    let every: Every<'_> =
        decode(br#"{"map":{"k":"v"},"structure":{"integer":3},"boolean":true,"blob":"eA=="}"#)
            .unwrap();
    assert_eq!(every.map.unwrap().0["k"], "v");
    assert_eq!(every.structure.unwrap().0.integer.unwrap().0, 3);
    assert!(every.boolean.unwrap().0);
    assert_eq!(every.blob.unwrap().0, "x");
}
