//! Every constraint of the service's API model, on every operation.
//!
//! The model's facts are in `tests/fixtures/kinesis-model.json`. Each required member is left out,
//! each length, range, pattern and enum is broken, one at a time; the answer has to name the place
//! and the constraint in the service's words.

use super::super::super::encoding::MODEL;
use super::*;
use crate::api::operation::Operation;

/// A request that breaks one constraint, and what the answer has to say.
struct Case {
    body: Value,
    expected: String,
}

type Wrap<'a> = &'a dyn Fn(Value) -> Value;

/// The cases of a structure at `path`; `wrap` puts it into a request.
fn structure(shape: &Value, path: &str, wrap: Wrap<'_>, cases: &mut Vec<Case>) {
    for required in shape["required"].as_array().unwrap() {
        let path = member_path(path, required.as_str().unwrap());
        let expected = failure(&path, "Member must not be null");
        let body = wrap(json!({}));
        cases.push(Case { body, expected });
    }
    for (name, member) in shape["members"].as_object().unwrap() {
        let path = member_path(path, name);
        value(member, &path, &|inner| wrap(json!({ name: inner })), cases);
    }
}

fn value(shape: &Value, path: &str, wrap: Wrap<'_>, cases: &mut Vec<Case>) {
    let mut case = |inner: Value, text: String| {
        let expected = failure(path, &text);
        let body = wrap(inner);
        cases.push(Case { body, expected });
    };
    let (min, max) = (shape["min"].as_i64(), shape["max"].as_i64());
    let length =
        |side: &str, bound: i64| format!("Member must have length {side} than or equal to {bound}");
    let range =
        |side: &str, bound: i64| format!("Member must have value {side} than or equal to {bound}");
    match shape["type"].as_str().unwrap() {
        "string" => {
            if let Some(pattern) = shape["pattern"].as_str() {
                let text = "Member must satisfy regular expression pattern: ";
                // A blank is in no pattern but the one that says what is not allowed.
                let broken = if pattern.starts_with("[^:") { ":" } else { " " };
                case(json!(broken), format!("{text}{}", as_told(pattern)));
            }
            if shape["enum"].is_array() {
                let text = format!("Member must satisfy enum value set: {}", names(shape));
                case(json!("NONE_OF_THEM"), text);
            }
            if let Some(min) = min.filter(|min| *min > 0) {
                case(json!(""), length("greater", min));
            }
            if let Some(max) = max {
                case(json!("a".repeat(max as usize + 1)), length("less", max));
            }
        }
        "integer" => {
            if let Some(min) = min {
                case(json!(min - 1), range("greater", min));
            }
            if let Some(max) = max {
                case(json!(max + 1), range("less", max));
            }
        }
        "blob" => {
            let max = max.unwrap();
            let data = base64_simd::STANDARD.encode_to_string(vec![0; max as usize + 1]);
            case(json!(data), length("less", max));
        }
        "list" => {
            let of_structures = shape["member"]["type"] == "structure";
            let item = || if of_structures { json!({}) } else { json!("a") };
            let max = max.unwrap();
            let long: Vec<Value> = (0..=max).map(|_| item()).collect();
            case(json!([]), length("greater", min.unwrap()));
            case(json!(long), length("less", max));
            let member = &shape["member"];
            if of_structures {
                let path = format!("{path}.1.member");
                structure(member, &path, &|inner| wrap(json!([inner])), cases);
            } else {
                let inner = inside(member);
                let text = format!("Member must satisfy constraint: [{inner}]");
                case(json!(["z".repeat(200)]), text);
            }
        }
        "map" => {
            let entries = |count: i64| -> Value {
                let entries = (0..count).map(|at| (format!("k{at}"), json!("")));
                Value::Object(entries.collect())
            };
            case(json!({}), length("greater", min.unwrap()));
            case(entries(max.unwrap() + 1), length("less", max.unwrap()));
            let keys = format!(
                "Map keys must satisfy constraint: [{}]",
                inside(&shape["key"])
            );
            case(json!({"a".repeat(129): ""}), keys.clone());
            case(json!({"": ""}), keys);
            let values = inside(&shape["value"]);
            let values = format!("Map value must satisfy constraint: [{values}]");
            case(json!({"a": "a".repeat(257)}), values);
        }
        "structure" => structure(shape, path, wrap, cases),
        "boolean" | "timestamp" => {}
        other => panic!("{other} at {path}: the test does not know this type"),
    }
}

/// The constraints of a list's or map's texts, which are told together.
fn inside(shape: &Value) -> String {
    if shape["enum"].is_array() {
        return format!("Member must satisfy enum value set: {}", names(shape));
    }
    format!(
        "Member must have length less than or equal to {}, Member must have length greater than or \
         equal to {}",
        shape["max"], shape["min"]
    )
}

fn names(shape: &Value) -> String {
    let names = shape["enum"].as_array().unwrap().iter();
    let names: Vec<&str> = names.map(|name| name.as_str().unwrap()).collect();
    format!("[{}]", names.join(", "))
}

/// The service tells the decimals' patterns without the model's anchors and outer brackets.
fn as_told(pattern: &str) -> &str {
    let bare = pattern.strip_prefix("^(0|");
    match bare.and_then(|_| pattern[2..].strip_suffix(")$")) {
        Some(bare) => bare,
        None => pattern,
    }
}

fn member_path(path: &str, name: &str) -> String {
    let lower = name[..1].to_lowercase() + &name[1..];
    if path.is_empty() {
        lower
    } else {
        format!("{path}.{lower}")
    }
}

fn failure(path: &str, text: &str) -> String {
    format!(" at '{path}' failed to satisfy constraint: {text}")
}

#[tokio::test]
async fn every_operation_checks_every_constraint_of_the_model() {
    let kinesis = kinesis();
    let mut broken = Vec::new();
    let mut driven = 0;
    for (name, shape) in MODEL.iter() {
        let operation = Operation::from_target(&format!("Kinesis_20131202.{name}"));
        assert!(operation.is_some(), "{name} is not known");
        let mut cases = Vec::new();
        structure(shape, "", &|body| body, &mut cases);
        for Case { body, expected } in cases {
            driven += 1;
            let (_, text) = answer(&kinesis, name, &body).await;
            let message = text["message"].as_str().unwrap_or_default();
            // No more than ten failures are told: the last may be another one of the same place.
            let place = expected.split(" failed to").next().unwrap();
            let told = message.contains(&expected)
                || message.starts_with("10 validation errors") && message.contains(place);
            if text["__type"] != "ValidationException" || !told {
                broken.push(format!("{name}: expected{expected}"));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "{} of {driven}:\n{}",
        broken.len(),
        broken.join("\n")
    );
    assert!(driven > 200, "{driven} constraints driven");
    assert_eq!(MODEL.len(), 57);
}
