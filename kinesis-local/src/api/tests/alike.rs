//! JSON and CBOR are answered alike: random requests for every operation, right and wrong, go to two
//! services of the same seed and clock, one in each encoding. Status and body have to be equal.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesis_core::Rand;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::encoding::{MODEL, decoded, encoded};
use super::in_json::facts::STREAM_ARN;
use super::in_json::facts::errors::world::{OTHER, World};
use super::*;
use crate::wire::Format;

/// The answers' members that later requests may refer to.
const REMEMBERED: [&str; 6] = [
    "ShardIterator",
    "NextShardIterator",
    "NextToken",
    "ReceiptHandle",
    "SequenceNumber",
    "ConsumerARN",
];

/// Makes requests out of the model's shapes.
struct Requests {
    rand: Rand,
    /// What the last answers had of [`REMEMBERED`].
    seen: BTreeMap<String, Value>,
}

impl Requests {
    fn one_in(&self, chances: u64) -> bool {
        self.rand.below(chances) == 0
    }

    fn pick<T: Clone>(&self, from: &[T]) -> T {
        from[self.rand.below(from.len() as u64) as usize].clone()
    }

    /// An operation and what is asked of it: what it takes, or anything of its shape, with changes.
    fn next(&self, world: &World) -> (String, Value) {
        let names: Vec<&String> = MODEL.keys().collect();
        let operation = self.pick(&names).clone();
        let shape = &MODEL[&operation];
        let mut body = if self.one_in(4) {
            self.structure(shape)
        } else {
            world.body(&operation)
        };
        if body.get("StreamARN").is_some() && self.one_in(3) {
            body["StreamARN"] = json!(D_ARN);
        }
        let members = shape["members"].as_object().unwrap();
        for (name, member) in members {
            if self.one_in(6) {
                body[name] = self.value(name, member);
            }
        }
        if self.one_in(20) {
            body["Unknown"] = self.wrong("Unknown");
        }
        (operation, body)
    }

    fn structure(&self, shape: &Value) -> Value {
        let required = shape["required"].as_array().unwrap();
        let members = shape["members"].as_object().unwrap().iter();
        let wanted = members.filter(|(name, _)| {
            let needed = required.iter().any(|required| required == *name);
            if needed {
                !self.one_in(30)
            } else {
                self.one_in(3)
            }
        });
        let value = |(name, member): (&String, &Value)| (name.clone(), self.value(name, member));
        Value::Object(wanted.map(value).collect())
    }

    fn value(&self, name: &str, shape: &Value) -> Value {
        if self.one_in(12) {
            return self.wrong(name);
        }
        let min = shape["min"].as_u64().unwrap_or_default();
        match shape["type"].as_str().unwrap() {
            "structure" => self.structure(shape),
            "list" => {
                let few = min + self.rand.below(3);
                (0..few)
                    .map(|_| self.value(name, &shape["member"]))
                    .collect()
            }
            "map" => json!({"a": "b"}),
            "boolean" => self.one_in(2).into(),
            "timestamp" => ((NOW_MS - 1500 + self.rand.below(3000)) as f64 / 1000.0).into(),
            "blob" => self.pick(&["", "AAAA", "AQ==", "/+8="]).into(),
            "integer" => {
                let max = shape["max"].as_u64().unwrap_or(min + 4);
                let from = if name == "RetentionPeriodHours" {
                    24
                } else {
                    min
                };
                (from + self.rand.below((max - min + 1).min(6))).into()
            }
            _ if shape["enum"].is_array() => self.pick(shape["enum"].as_array().unwrap()),
            _ => self.text(name),
        }
    }

    /// A text that could be meant where this member stands.
    fn text(&self, name: &str) -> Value {
        let remembered = |name: &str| self.seen.get(name).cloned().unwrap_or(json!("x"));
        let missing = json!(format!("{STREAM_ARN}-missing"));
        let foreign = json!(STREAM_ARN.replace("000000000000", OTHER));
        let streams = [json!(STREAM_ARN), json!(D_ARN), missing, foreign];
        let of = |texts: &[&str]| json!(self.pick(texts));
        match name {
            "StreamARN" | "ResourceARN" => self.pick(&streams),
            "StreamName" | "ExclusiveStartStreamName" => of(&["s", "d", "new", "missing"]),
            "ShardIterator" => match self.one_in(2) {
                true => remembered("ShardIterator"),
                false => remembered("NextShardIterator"),
            },
            "NextToken" | "ReceiptHandle" | "ConsumerARN" => remembered(name),
            name if name.contains("SequenceNumber") => remembered("SequenceNumber"),
            name if name.contains("HashKey") => of(&["0", "1", "1000", HASH_KEY_MAX]),
            name if name.contains("Shard") => of(&["0", "1", "shardId-000000000002", "5", "x"]),
            "ConsumerName" | "QueueName" | "ChannelName" => of(&["c", "q", "ch", "other"]),
            "KeyId" => of(&["alias/a", "alias/aws/kinesis", "x"]),
            "StreamId" => of(&["00000000000000000000-000", "x"]),
            _ => of(&["a", "k", "ключ", "quote\"", ""]),
        }
    }

    /// Something that is hardly ever right. A blob is no text but its base64: another text is wrong in
    /// JSON alone.
    fn wrong(&self, name: &str) -> Value {
        let text = if name == "Data" {
            String::new()
        } else {
            "é".repeat(self.rand.below(150) as usize)
        };
        self.pick(&[
            Value::Null,
            json!(true),
            json!(0),
            json!(-1),
            json!(i64::MAX),
            json!(1.5),
            json!(text),
            json!([]),
            json!([1]),
            json!({}),
            json!({"a": "b"}),
        ])
    }

    fn remember(&mut self, answer: &Value) {
        match answer {
            Value::Object(members) => {
                for (name, value) in members {
                    if REMEMBERED.contains(&name.as_str()) && value.is_string() {
                        self.seen.insert(name.clone(), value.clone());
                    }
                    self.remember(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.remember(item)),
            _ => {}
        }
    }
}

const D_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/d";
const HASH_KEY_MAX: &str = "340282366920938463463374607431768211455";

/// The operations that were answered, and those that were refused.
#[derive(Default)]
struct Tally {
    answered: BTreeSet<String>,
    refused: BTreeSet<String>,
}

async fn send(format: Format, world: &World, operation: &str, body: &Value) -> (StatusCode, Value) {
    let request = encoded(format, operation, body);
    decoded(format, &world.kinesis, operation, request).await
}

/// Sends that many requests in both encodings.
async fn run_both(seed: u64, steps: usize, tally: &RefCell<Tally>) {
    let clock = options().clock;
    let limits = if seed.is_multiple_of(2) {
        Limits::Off
    } else {
        Limits::Aws
    };
    let options = || KinesisOptions {
        clock: clock.clone(),
        limits: limits.clone(),
        ..options()
    };
    let json = World::with(options()).await;
    let cbor = World::with(options()).await;
    let mut requests = Requests {
        rand: Rand::seeded(seed),
        seen: BTreeMap::new(),
    };
    for _ in 0..steps {
        if requests.one_in(8) {
            let ms = requests.pick(&[1, 999, 6000, 301_000]);
            tokio::time::advance(Duration::from_millis(ms)).await;
        }
        let (operation, body) = requests.next(&json);
        // At once: what waits has the same time to wait in both.
        let (in_json, in_cbor) = tokio::join!(
            send(Format::Json, &json, &operation, &body),
            send(Format::Cbor, &cbor, &operation, &body)
        );
        assert_eq!(in_json, in_cbor, "{operation} {body}");
        let (status, answer) = in_json;
        let mut tally = tally.borrow_mut();
        match status {
            StatusCode::OK => tally.answered.insert(operation),
            _ => tally.refused.insert(operation),
        };
        requests.remember(&answer);
    }
}

#[test]
fn json_and_cbor_are_answered_alike() {
    let tally = RefCell::new(Tally::default());
    let cases = ProptestConfig::with_cases(64);
    // What fails is told by its seed and the number of its steps.
    let mut runner = TestRunner::new(cases);
    let outcome = runner.run(&(any::<u64>(), 1..80usize), |(seed, steps)| {
        cbor::blocking(run_both(seed, steps, &tally));
        Ok(())
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    let Tally { answered, refused } = tally.into_inner();
    // By far most are right and wrong at some time, so this says something.
    assert!(answered.len() >= 45, "only {answered:?} were ever right");
    assert!(refused.len() >= 45, "only {refused:?} were ever wrong");
}

/// Does what has to have been done for `operation` to take [`taken`].
async fn ready_for(world: &World, operation: &str) {
    let before = match operation {
        "DeleteResourcePolicy" => "PutResourcePolicy",
        "UpdateStreamWarmThroughput" => "UpdateAccountSettings",
        "CreateChannel" => "DeleteChannel", // a stream has one at most
        _ => return,
    };
    let (status, told) = send(Format::Json, world, before, &world.body(before)).await;
    assert_eq!(status, StatusCode::OK, "{before}: {told}");
}

/// A request that is answered by 200.
fn taken(world: &World, operation: &str) -> Value {
    let more = match operation {
        "RegisterStreamConsumer" => json!({"ConsumerName": "new"}),
        "CreateQueue" => json!({"QueueName": "new"}),
        "DeleteStream" => json!({"EnforceConsumerDeletion": true}),
        "UpdateStreamWarmThroughput" => json!({"StreamARN": D_ARN}),
        _ => json!({}),
    };
    world.body_with(operation, more)
}

#[tokio::test(start_paused = true)]
async fn every_operation_answers_what_it_takes_alike() {
    for operation in MODEL.keys() {
        let clock = options().clock;
        let options = || KinesisOptions {
            clock: clock.clone(),
            ..options()
        };
        let (json, cbor) = (World::with(options()).await, World::with(options()).await);
        for world in [&json, &cbor] {
            ready_for(world, operation).await;
        }
        let body = taken(&json, operation);
        let in_json = send(Format::Json, &json, operation, &body);
        let in_cbor = send(Format::Cbor, &cbor, operation, &body);
        let (in_json, in_cbor) = tokio::join!(in_json, in_cbor);
        assert_eq!(in_json.0, StatusCode::OK, "{operation}: {}", in_json.1);
        assert_eq!(in_json, in_cbor, "{operation}");
    }
}
