//! Every constraint of the service's API model, on every operation.
//!
//! The model's facts are in `tests/fixtures/kinesis-model.json`. Each required member is left out,
//! each length, range, pattern and enum is met on its edge and broken just behind it, one at a time;
//! what breaks one has to be told the place and the constraint in the service's words, what meets it
//! must not be. What the patterns take and what not is asked by [`patterns`].

use std::collections::BTreeSet;

use super::super::super::encoding::MODEL;
use super::*;
use crate::api::operation::Operation;

mod patterns;

/// A request and a failure, which it has to be told or must not be told.
struct Case {
    body: Value,
    failure: String,
    told: bool,
}

/// Puts a member into a request.
type Wrap<'a> = &'a dyn Fn(Value) -> Value;

/// Shows each member of a structure at `path`, and of the structures in it, with its path and how it
/// gets into a request.
fn members(
    shape: &Value,
    path: &str,
    wrap: Wrap<'_>,
    visit: &mut dyn FnMut(&Value, &str, Wrap<'_>),
) {
    visit(shape, path, wrap);
    for (name, member) in shape["members"].as_object().unwrap() {
        let path = member_path(path, name);
        let wrap: Wrap<'_> = &|inner| wrap(json!({ name: inner }));
        let item = &member["member"];
        match member["type"].as_str().unwrap() {
            "structure" => members(member, &path, wrap, visit),
            "list" if item["type"] == "structure" => {
                visit(member, &path, wrap);
                let path = format!("{path}.1.member");
                members(item, &path, &|inner| wrap(json!([inner])), visit);
            }
            _ => visit(member, &path, wrap),
        }
    }
}

/// The cases of one shape.
fn edges(shape: &Value, path: &str, wrap: Wrap<'_>, cases: &mut Vec<Case>) {
    let mut case = |inner: Value, text: &str, told: bool| {
        let failure = failure(path, text);
        let body = wrap(inner);
        cases.push(Case {
            body,
            failure,
            told,
        });
    };
    let (min, max) = (shape["min"].as_i64(), shape["max"].as_i64());
    // What is at its bounds, of which it is made by a size, and what is just beyond.
    let mut sizes = |what: &str, make: &dyn Fn(i64) -> Value| {
        if let Some(min) = min {
            let text = format!("Member must have {what} greater than or equal to {min}");
            case(make(min), &text, false);
            if min > 0 || what == "value" {
                case(make(min - 1), &text, true);
            }
        }
        if let Some(max) = max {
            let text = format!("Member must have {what} less than or equal to {max}");
            case(make(max), &text, false);
            case(make(max + 1), &text, true);
        }
    };
    match shape["type"].as_str().unwrap() {
        "string" => {
            sizes("length", &|chars| json!("a".repeat(chars as usize)));
            sizes("length", &|chars| json!("я".repeat(chars as usize)));
            if let Some(names) = shape["enum"].as_array() {
                let text = format!("Member must satisfy enum value set: {}", all(names));
                for name in names {
                    case(name.clone(), &text, false);
                    let name = name.as_str().unwrap();
                    for broken in [
                        name.to_lowercase(),
                        format!("{name} "),
                        name[1..].to_owned(),
                    ] {
                        case(json!(broken), &text, true);
                    }
                }
                case(json!(""), &text, true);
            }
        }
        "integer" => sizes("value", &|value| json!(value)),
        "blob" => sizes("length", &|bytes| {
            json!(base64_simd::STANDARD.encode_to_string(vec![0; bytes as usize]))
        }),
        "list" => {
            let of_structures = shape["member"]["type"] == "structure";
            let item = || if of_structures { json!({}) } else { json!("a") };
            sizes("length", &|items| (0..items).map(|_| item()).collect());
            if !of_structures {
                let member = &shape["member"];
                let text = format!("Member must satisfy constraint: [{}]", inside(member));
                for (inner, told) in insides(member) {
                    case(json!([inner]), &text, told);
                }
            }
        }
        "map" => {
            sizes("length", &|entries| {
                let entries = (0..entries).map(|at| (format!("k{at}"), json!("")));
                Value::Object(entries.collect())
            });
            let text = inside(&shape["key"]);
            let text = format!("Map keys must satisfy constraint: [{text}]");
            for (key, told) in insides(&shape["key"]) {
                case(json!({ key: "" }), &text, told);
            }
            let text = inside(&shape["value"]);
            let text = format!("Map value must satisfy constraint: [{text}]");
            for (value, told) in insides(&shape["value"]) {
                case(json!({ "a": value }), &text, told);
            }
        }
        "structure" => {
            for required in shape["required"].as_array().unwrap() {
                let path = member_path(path, required.as_str().unwrap());
                let failure = failure(&path, "Member must not be null");
                let body = wrap(json!({}));
                cases.push(Case {
                    body,
                    failure,
                    told: true,
                });
            }
        }
        "boolean" | "timestamp" => {}
        other => panic!("{other} at {path}: the test does not know this type"),
    }
}

/// The constraints of a list's or map's texts, which are told together.
fn inside(shape: &Value) -> String {
    if let Some(names) = shape["enum"].as_array() {
        return format!("Member must satisfy enum value set: {}", all(names));
    }
    format!(
        "Member must have length less than or equal to {}, Member must have length greater than or \
         equal to {}",
        shape["max"], shape["min"]
    )
}

/// Texts for a list or map, and whether each breaks a constraint.
fn insides(shape: &Value) -> Vec<(String, bool)> {
    if let Some(names) = shape["enum"].as_array() {
        let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
        let broken = ["", "NONE_OF_THEM"].map(|name| (name.to_owned(), true));
        return names.map(|name| (name, false)).chain(broken).collect();
    }
    let bound = |name: &str| shape[name].as_u64().unwrap() as usize;
    let (min, max) = (bound("min"), bound("max"));
    let mut texts = Vec::new();
    for letter in ["a", "я"] {
        texts.push((letter.repeat(min), false));
        texts.push((letter.repeat(max), false));
        texts.push((letter.repeat(max + 1), true));
    }
    if min > 0 {
        texts.push((String::new(), true));
    }
    texts
}

fn all(names: &[Value]) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
    format!("[{}]", names.join(", "))
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

/// A request, and in the deepest one so much beside that fewer than ten failures are told.
fn rooted(mut body: Value) -> Value {
    if body.get("S3TablesDestinationConfiguration").is_some() {
        body["ChannelName"] = json!("c");
        body["ServiceExecutionRoleARN"] = json!("arn:aws:iam::000000000000:role/r");
    }
    body
}

/// What the service says of the request's constraints; nothing where it says something else.
async fn told(kinesis: &Kinesis, operation: &str, body: &Value) -> String {
    let (_, answer) = answer(kinesis, operation, body).await;
    match &answer["__type"] {
        Value::String(code) if code == "ValidationException" => {
            answer["message"].as_str().unwrap().to_owned()
        }
        _ => String::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_checks_every_constraint_of_the_model() {
    let mut wrong = BTreeSet::new();
    let mut driven = 0;
    for (name, shape) in MODEL.iter() {
        // Its own, so that what it takes costs the others nothing.
        let kinesis = kinesis();
        let operation = Operation::from_target(&format!("Kinesis_20131202.{name}"));
        assert!(operation.is_some(), "{name} is not known");
        let mut cases = Vec::new();
        members(shape, "", &rooted, &mut |shape, path, wrap| {
            edges(shape, path, wrap, &mut cases);
        });
        for case in cases {
            driven += 1;
            let message = told(&kinesis, name, &case.body).await;
            // No more than ten failures are told: those behind them may be among the rest.
            let place = case.failure.split("' failed to").next().unwrap();
            let full = message.starts_with("10 validation errors");
            let found = message.contains(&case.failure);
            let as_it_should = match case.told {
                true => found || full && message.contains(place),
                // Failures of a list come before those of its members.
                false => !found && (!full || message.contains(&format!("{place}.1.member"))),
            };
            if !as_it_should {
                let not = if case.told { "" } else { "not " };
                wrong.insert(format!(
                    "{name}: {not}expected{}: {:.300}",
                    case.failure, message
                ));
            }
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "of {driven}:\n{}", wrong.join("\n"));
    assert!(driven > 1500, "{driven} cases driven");
    assert_eq!(MODEL.len(), 57);
}
