//! A test's requests and answers, which are written as JSON, in either encoding.

use std::sync::LazyLock;

use ciborium::Value as Cbor;
use http::header::HeaderValue;

use super::*;
use crate::wire::Format;

/// What the API model says about the request of each operation.
pub(super) static MODEL: LazyLock<serde_json::Map<String, Value>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../tests/fixtures/kinesis-model.json")).unwrap()
});

/// What the API model says about each operation's answer and its exceptions.
pub(super) static ANSWERS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../tests/fixtures/kinesis-answers.json")).unwrap()
});

/// The request in CBOR as the SDK for Java writes it: no lengths of structures and lists, blobs as
/// byte strings, timestamps as tag 1 and milliseconds. What is no blob or timestamp stays what it is.
pub(super) fn to_cbor(name: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Object(members) => {
            out.push(0xbf);
            for (name, value) in members {
                ciborium::into_writer(name, &mut out).unwrap();
                out.extend(to_cbor(name, value));
            }
            out.push(0xff);
        }
        Value::Array(items) => {
            out.push(0x9f);
            items
                .iter()
                .for_each(|item| out.extend(to_cbor(name, item)));
            out.push(0xff);
        }
        Value::String(text) if name == "Data" => {
            let value = match base64_simd::STANDARD.decode_to_vec(text) {
                Ok(bytes) => Cbor::Bytes(bytes),
                Err(_) => Cbor::Text(text.clone()),
            };
            ciborium::into_writer(&value, &mut out).unwrap();
        }
        Value::Number(seconds) if name.ends_with("Timestamp") => {
            let ms = (seconds.as_f64().unwrap() * 1000.0).round() as i64;
            let tagged = Cbor::Tag(1, Box::new(Cbor::Integer(ms.into())));
            ciborium::into_writer(&tagged, &mut out).unwrap();
        }
        other => ciborium::into_writer(other, &mut out).unwrap(),
    }
    out
}

/// The answer as it were in JSON. Checks what JSON cannot tell: the forms of blobs and timestamps.
pub(super) fn to_json(value: Cbor) -> Value {
    match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(bool) => bool.into(),
        Cbor::Integer(number) => i64::try_from(number).unwrap().into(),
        Cbor::Float(number) => number.into(),
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => base64_simd::STANDARD.encode_to_string(bytes).into(),
        Cbor::Tag(1, ms) => {
            let ms = u64::try_from(ms.into_integer().expect("integer milliseconds")).unwrap();
            assert!(ms > NOW_MS / 2, "{ms} is no time in milliseconds");
            (ms as f64 / 1000.0).into()
        }
        Cbor::Array(items) => items.into_iter().map(to_json).collect(),
        Cbor::Map(pairs) => pairs
            .into_iter()
            .map(|(name, value)| (name.into_text().unwrap(), to_json(value)))
            .collect(),
        other => panic!("an answer has no {other:?}"),
    }
}

/// A request whose body is these bytes, in the encoding that they are in.
pub(super) fn request_in(
    format: Format,
    operation: &str,
    body: impl Into<Bytes>,
) -> Request<Bytes> {
    let mut request = request(operation, body);
    let content_type = HeaderValue::from_static(format.content_type());
    request.headers_mut().insert("content-type", content_type);
    request
}

/// The request with these members.
pub(super) fn encoded(format: Format, operation: &str, body: &Value) -> Request<Bytes> {
    match format {
        Format::Json => request_in(format, operation, body.to_string()),
        Format::Cbor => request_in(format, operation, to_cbor("", body)),
    }
}

/// The status and body of the answer; a 200 has to be what the model says about `operation`.
pub(super) async fn decoded(
    format: Format,
    kinesis: &Kinesis,
    operation: &str,
    request: Request<Bytes>,
) -> (StatusCode, Value) {
    let (head, body) = kinesis.call(request).await.into_parts();
    let content_type = head.headers["content-type"].to_str().unwrap();
    if content_type == "application/vnd.amazon.eventstream" {
        return (head.status, Value::Null);
    }
    assert_eq!(content_type, format.content_type(), "{operation}");
    let bytes = body.collect().await.unwrap().to_bytes();
    let shape = &ANSWERS[operation]["answer"];
    if head.status != StatusCode::OK {
        return (head.status, whole(format, &bytes, &Value::Null));
    }
    assert_eq!(bytes.is_empty(), shape.is_null(), "{operation} has a body");
    if bytes.is_empty() {
        return (head.status, Value::Null);
    }
    let answer = whole(format, &bytes, shape);
    check(shape, &answer, operation);
    if operation == "GetRecords" {
        check_as_the_kcl("NextShardIterator", &answer);
    }
    (head.status, answer)
}

fn whole(format: Format, bytes: &[u8], shape: &Value) -> Value {
    match format {
        Format::Json => serde_json::from_slice(bytes).unwrap(),
        Format::Cbor => {
            let value: Cbor = ciborium::from_reader(bytes).unwrap();
            check_forms(shape, &value);
            to_json(value)
        }
    }
}

/// In CBOR a blob is a byte string and a timestamp has its tag; nothing else has.
fn check_forms(shape: &Value, value: &Cbor) {
    match value {
        Cbor::Map(pairs) => {
            for (name, value) in pairs {
                let member = &shape["members"][name.as_text().unwrap()];
                check_forms(member, value);
            }
        }
        Cbor::Array(items) => items
            .iter()
            .for_each(|item| check_forms(&shape["member"], item)),
        _ => {
            let kind = shape["type"].as_str().unwrap_or("string");
            assert_eq!(kind == "blob", value.is_bytes(), "{kind}: {value:?}");
            assert_eq!(kind == "timestamp", value.is_tag(), "{kind}: {value:?}");
        }
    }
}

/// Every member of the answer is one of the model, of its type and at most as large as it says, and
/// the required ones are there. The model's least sizes do not hold for answers: the service counts
/// 0 failed records and lists no metrics where it says at least one.
fn check(shape: &Value, value: &Value, path: &str) {
    let fits = |size: usize| {
        let max = shape["max"].as_u64();
        assert!(max.is_none_or(|max| size as u64 <= max), "{path}: {size}");
    };
    match (shape["type"].as_str(), value) {
        (Some("structure"), Value::Object(members)) => {
            for required in shape["required"].as_array().unwrap() {
                let name = required.as_str().unwrap();
                // The last event of a shard has none, although the model says that it has.
                let at_the_end = name == "ContinuationSequenceNumber";
                assert!(
                    members.contains_key(name) || at_the_end,
                    "{path} lacks {name}"
                );
            }
            for (name, value) in members {
                check(&shape["members"][name], value, &format!("{path}.{name}"));
            }
        }
        (Some("list"), Value::Array(items)) => {
            fits(items.len());
            for item in items {
                check(&shape["member"], item, &format!("{path}[]"));
            }
        }
        (Some("string"), Value::String(text)) => {
            fits(text.chars().count());
            if let Some(names) = shape["enum"].as_array() {
                assert!(names.contains(value), "{path}: {text} is none of {names:?}");
            }
        }
        (Some("blob"), Value::String(text)) => {
            let bytes = base64_simd::STANDARD.decode_to_vec(text).unwrap();
            fits(bytes.len());
        }
        (Some("integer" | "long"), Value::Number(number)) => {
            fits(number.as_u64().unwrap() as usize)
        }
        (Some("double"), Value::Number(number)) => assert!(number.as_f64().is_some()),
        (Some("timestamp"), Value::Number(seconds)) => {
            let seconds = seconds.as_f64().unwrap();
            assert!((1e9..1e10).contains(&seconds), "{path}: {seconds} s");
            assert_eq!((seconds * 1000.0).fract(), 0.0, "{path}: {seconds} s");
        }
        (Some("boolean"), Value::Bool(_)) => {}
        (kind, value) => panic!("{path} is {kind:?} in the model: {value}"),
    }
}

/// The payload of a frame of an event stream; an event has to be what the model says.
pub(super) fn event_payload(format: Format, kind: &str, payload: &[u8]) -> Value {
    let stream = &ANSWERS["SubscribeToShard"]["answer"]["members"]["EventStream"];
    let shape = &stream["members"][kind];
    let event = whole(format, payload, shape);
    if kind == "SubscribeToShardEvent" {
        check(shape, &event, kind);
        check_as_the_kcl("ContinuationSequenceNumber", &event);
    }
    event
}

/// The KCL takes what it reads in two forms only: a place to go on, or else children that name their
/// parents. Source: KCL 3.5 `DataRetrievalUtil`.
fn check_as_the_kcl(place: &str, answer: &Value) {
    let none = Vec::new();
    let children = answer["ChildShards"].as_array().unwrap_or(&none);
    assert_eq!(answer[place].is_string(), children.is_empty(), "{answer}");
    for child in children {
        assert_ne!(child["ParentShards"], json!([]), "{answer}");
    }
}
