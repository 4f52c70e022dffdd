//! A worker process that is killed with SIGKILL in the middle of the flights is replaced by
//! another: nothing is lost, every airport keeps its order, and only what the dead worker had not
//! checkpointed comes again. Everything goes over a socket through the official SDK.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use examples::flights;
use kinesis_core::{Position, UserRecord};
use kinesis_local::KinesisLocal;
use kinesis_producer::Producer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Child;

#[path = "process/worker.rs"]
mod worker;

use worker::{PATIENCE, STREAM};

/// How many of the flights are sent; enough for many batches, few enough for a debug build.
const FLIGHTS: usize = 6_000;

fn start(endpoint: &str, id: &str, out: &Path) -> Child {
    worker::command(endpoint, id)
        .args(["--failover-ms", "3000", "--max-records", "5"])
        .args(["--work-ms", "20", "--out"])
        .arg(out)
        .spawn()
        .expect("the worker starts")
}

/// The events a worker has written so far; a line that is still being written is left out.
fn events(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

fn is(event: &Value, kind: &str) -> bool {
    event["event"] == kind
}

/// The `airport:number` that each payload begins with.
fn ids(events: &[Value]) -> BTreeSet<String> {
    let records = events.iter().filter(|event| is(event, "record"));
    let id = |event: &Value| {
        let data = event["data"].as_str().expect("flights are text");
        data.split(' ').next().expect("an id").to_owned()
    };
    records.map(id).collect()
}

fn position(event: &Value) -> Position {
    let number = event["sequence_number"]
        .as_str()
        .expect("a number")
        .parse()
        .expect("a number");
    Position::at(number, event["sub_sequence"].as_u64().expect("an index"))
}

async fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited {PATIENCE:?} for: {what}");
}

/// The flights as records: keyed by origin, the payload beginning with the flight's number there.
fn records() -> Vec<UserRecord> {
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    let flights = flights::load().into_iter().take(FLIGHTS);
    let record = |flight: flights::Flight| {
        let number = numbers.entry(flight.origin.clone()).or_default();
        let json = serde_json::to_string(&flight).expect("a flight is JSON");
        let payload = format!("{}:{number} {json}", flight.origin);
        *number += 1;
        UserRecord::new(flight.origin, payload)
    };
    flights.map(record).collect()
}

/// Fails unless, within each stay of a worker on a shard, every airport's flights came in order
/// and without a gap.
fn assert_order(events: &[Value]) {
    let mut next: BTreeMap<(String, String), u64> = BTreeMap::new();
    for event in events {
        let shard = event["shard"].as_str().expect("a shard").to_owned();
        if is(event, "started") {
            next.retain(|(of, _), _| *of != shard);
        } else if is(event, "record") {
            let data = event["data"].as_str().expect("text");
            let (airport, number) = data
                .split(' ')
                .next()
                .and_then(|id| id.split_once(':'))
                .expect("an id");
            let number: u64 = number.parse().expect("a number");
            let next = next.entry((shard, airport.to_owned())).or_insert(number);
            assert_eq!(number, *next, "{airport} is out of order");
            *next += 1;
        }
    }
}

/// Fails if a record that the dead worker had checkpointed was delivered to the survivor again.
fn assert_only_unsettled_came_again(dead: &[Value], survivor: &[Value]) {
    let mut checkpoints: BTreeMap<&str, Position> = BTreeMap::new();
    for event in dead.iter().filter(|event| is(event, "checkpoint")) {
        checkpoints.insert(event["shard"].as_str().expect("a shard"), position(event));
    }
    let known = ids(dead);
    for event in survivor.iter().filter(|event| is(event, "record")) {
        let id = event["data"]
            .as_str()
            .and_then(|data| data.split(' ').next())
            .expect("an id");
        let shard = event["shard"].as_str().expect("a shard");
        if let (true, Some(last)) = (known.contains(id), checkpoints.get(shard)) {
            assert!(
                position(event) > *last,
                "{id} came again though {shard} was at {last}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_process_is_replaced_and_nothing_is_lost() {
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    let local = KinesisLocal::builder()
        .listen(loopback)
        .start()
        .await
        .expect("it listens");
    let endpoint = local.endpoint_url();
    let config = aws_config::defaults(BehaviorVersion::latest())
        .endpoint_url(&endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .load()
        .await;
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    let created = kinesis
        .create_stream()
        .stream_name(STREAM)
        .shard_count(4)
        .send()
        .await;
    created.expect("the stream is created");

    let directory = TempDir::new().expect("a directory");
    let (out_dead, out_survivor) = (
        directory.path().join("dead"),
        directory.path().join("survivor"),
    );
    let mut dead = start(&endpoint, "dead", &out_dead);
    let survivor = start(&endpoint, "survivor", &out_survivor);

    let records = records();
    let producer = Producer::builder(kinesis, STREAM)
        .build()
        .expect("valid settings");
    let sending = tokio::spawn({
        let (producer, records) = (producer.clone(), records.clone());
        async move {
            for chunk in records.chunks(50) {
                for record in chunk {
                    let delivery = producer.enqueue(record.clone()).await.expect("accepted");
                    drop(delivery);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            producer.flush().await;
        }
    });

    wait_until("both workers to be in the middle of their work", || {
        let settled = |out| {
            events(out)
                .iter()
                .filter(|event| is(event, "checkpoint"))
                .count()
                >= 5
        };
        settled(&out_dead) && settled(&out_survivor)
    })
    .await;
    dead.kill().await.expect("SIGKILL");
    let seen_by_dead = ids(&events(&out_dead)).len();
    assert!(seen_by_dead < FLIGHTS, "killed too late to prove anything");

    sending.await.expect("everything is sent");
    wait_until("all flights", || {
        let mut seen = ids(&events(&out_dead));
        seen.extend(ids(&events(&out_survivor)));
        seen.len() == FLIGHTS
    })
    .await;

    worker::terminate(survivor).await;

    let (dead, survivor) = (events(&out_dead), events(&out_survivor));
    assert_order(&dead);
    assert_order(&survivor);
    assert_only_unsettled_came_again(&dead, &survivor);
    local.shutdown().await;
}
