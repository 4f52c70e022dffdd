//! The toolkit against the Kinesis Producer Library: it writes through kinesis-local over TLS, our
//! consumer reads what it wrote, and our encoder writes the same bytes.
//!
//! Needs `java` and `mvn`: see `interop/README.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use kinesis_core::aggregate::MAGIC;
use kinesis_core::{
    Aggregate, Deaggregated, HashKey, Position, SequenceNumber, ShardId, UserRecord, deaggregate,
};
use tests::history::{Event, History};
use tests::world::{STREAM, wait_until};
use tests::{World, maven};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A small heap, and the collector that needs least.
const FRUGAL: [&str; 2] = ["-Xmx256m", "-XX:+UseSerialGC"];

/// The longest wait for the KPL. Source: measured, times ten.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the KPL says it stored a record.
type Stored = (ShardId, SequenceNumber);

/// A record as the program reads it, and as the golden files list members.
fn line(record: &UserRecord) -> String {
    let hash_key = record.explicit_hash_key.map(|key| key.to_string());
    let data = std::str::from_utf8(&record.data).expect("text");
    format!(
        "{}\t{}\t{data}\n",
        record.partition_key,
        hash_key.unwrap_or_default()
    )
}

/// Sends `records` by the KPL; where each is, in their order.
async fn send_by_kpl(world: &World, records: &[UserRecord]) -> Vec<Stored> {
    let built = maven::built("kpl", env!("CARGO_TARGET_TMPDIR")).await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, world.local.tls_ca_pem().expect("it speaks TLS")).expect("written");
    let url = world.local.endpoint_url();
    let (_, port) = url.rsplit_once(':').expect("a port");
    // Outside of `dir`: the KPL keeps its native part there for the next time.
    let native = built.join("tmp");
    std::fs::create_dir_all(&native).expect("target can be written");
    let mut kpl = Command::new("java")
        .args(FRUGAL)
        .arg(format!("-Djava.io.tmpdir={}", native.display()))
        .args(["-classpath", &maven::class_path(&built)])
        .args(["KplProducer", "localhost", port])
        .arg(&ca)
        .args([STREAM, "lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("java starts");
    let mut stdin = kpl.stdin.take().expect("it is piped");
    let lines: String = records.iter().map(line).collect();
    let giving = tokio::spawn(async move { stdin.write_all(lines.as_bytes()).await });
    let output = tokio::time::timeout(PATIENCE, kpl.wait_with_output()).await;
    let output = output
        .expect("it ends in time")
        .expect("it can be waited for");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the KPL failed: {log}");
    giving.await.expect("no panic").expect("it read everything");
    let answers = String::from_utf8(output.stdout).expect("text");
    let stored = |line: &str| match line.split('\t').collect::<Vec<_>>()[..] {
        ["stored", shard, number] => {
            let number = number.parse().expect("a sequence number");
            (ShardId::from(shard), number)
        }
        _ => panic!("the KPL said {line:?}: {log}"),
    };
    let stored: Vec<_> = answers.lines().map(stored).collect();
    assert_eq!(stored.len(), records.len(), "{log}");
    stored
}

/// The first `count` flights as JSON, keyed by the airport they leave.
fn flights(count: usize) -> Vec<UserRecord> {
    let record = |flight: examples::flights::NumberedFlight| {
        let json = serde_json::to_string(&flight).expect("JSON");
        UserRecord::new(flight.flight.origin, json)
    };
    let flights = examples::flights::numbered(1, count).into_iter();
    flights.map(record).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_kpl_writes_over_tls_our_consumer_reads_every_record_of() {
    let world = World::listening_with_tls(3).await;
    let flights = flights(20_000);
    let history = History::default();
    let worker = world.worker("ours", &history);
    let stored = send_by_kpl(&world, &flights).await;
    let all = async || history.payloads().len() == flights.len();
    let waited = tokio::time::timeout(PATIENCE, wait_until("all flights", all));
    waited.await.expect("our consumer reads everything in time");
    worker.stop().await.expect("an orderly end");

    history.assert_nothing_lost(&flights);
    let payloads = flights.iter().map(|flight| &flight.data[..]);
    let places: BTreeMap<_, _> = payloads.zip(&stored).collect();
    let mut in_aggregates = 0;
    for event in history.events() {
        let Event::Delivered {
            shard,
            position,
            payload,
            ..
        } = event
        else {
            continue;
        };
        let (stored_in, number) = places[payload.as_bytes()];
        assert_eq!(&shard, stored_in, "{payload}");
        let at = Position::at(number.clone(), position.sub_sequence());
        assert_eq!(position, at, "{payload}");
        in_aggregates += usize::from(position.sub_sequence() > 0);
    }
    assert!(
        in_aggregates > flights.len() * 9 / 10,
        "only {in_aggregates} of {} records came in aggregates",
        flights.len()
    );
}

/// Records with keys of many kinds, with and without hash keys, all different.
fn mixed() -> Vec<UserRecord> {
    let record = |n: usize| {
        let key = match n % 5 {
            0 => "ключ".to_owned(),
            1 => "x".repeat(127 + n % 3),
            _ => format!("key-{}", n % 7),
        };
        let data = match n {
            7 => String::new(),
            _ => format!("{n}:{}", "d".repeat(n)),
        };
        let record = UserRecord::new(key, data);
        match n % 4 {
            0 => record.with_explicit_hash_key(HashKey(n as u128 % 3)),
            1 => record.with_explicit_hash_key(HashKey::MAX),
            _ => record,
        }
    };
    (0..150).map(record).collect()
}

/// The data of all Kinesis records of the only shard.
async fn kinesis_records(world: &World) -> Vec<bytes::Bytes> {
    let iterator = world.kinesis.get_shard_iterator().stream_name(STREAM);
    let iterator = iterator
        .shard_id("shardId-000000000000")
        .shard_iterator_type(ShardIteratorType::TrimHorizon);
    let iterator = iterator.send().await.expect("an iterator").shard_iterator;
    let read = world.kinesis.get_records().set_shard_iterator(iterator);
    let read = read.send().await.expect("records");
    let data = |record: aws_sdk_kinesis::types::Record| record.data.into_inner().into();
    read.records.into_iter().map(data).collect()
}

/// The aggregates that the KPL makes of `records` are the bytes that we make of the same records.
/// Each is kept with its members beside the build, for the golden files of `kinesis-core`.
async fn assert_same_aggregates(name: &str, records: &[UserRecord]) {
    let world = World::listening_with_tls(1).await;
    send_by_kpl(&world, records).await;
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kpl");
    std::fs::create_dir_all(&kept).expect("target can be written");
    let data = kinesis_records(&world).await;
    let aggregates = data.iter().filter(|data| data.starts_with(&MAGIC));
    let mut unseen: Vec<_> = records.iter().collect();
    let mut most = 0;
    for written in aggregates {
        let Deaggregated::Members(members) = deaggregate(written) else {
            panic!("it cannot be read");
        };
        let (mut ours, mut listed) = (Aggregate::new(), String::new());
        for member in &members {
            let sent = unseen.iter().position(|record| *record == member);
            let sent = unseen.remove(sent.expect("it was sent, and came once"));
            write!(listed, "{}", line(sent)).expect("text");
            ours.push(sent.clone());
        }
        assert_eq!(ours.encode(), written, "{} members", members.len());
        if members.len() > most {
            most = members.len();
            std::fs::write(kept.join(format!("{name}.bin")), written).expect("kept");
            std::fs::write(kept.join(format!("{name}.members")), listed).expect("kept");
        }
    }
    // How many it takes together is a matter of its timers.
    assert!(most >= 10, "the largest has {most} members");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_same_flights_the_kpl_and_we_make_the_same_aggregates() {
    assert_same_aggregates("flights", &flights(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_same_keys_and_hash_keys_the_kpl_and_we_make_the_same_aggregates() {
    assert_same_aggregates("mixed", &mixed()).await;
}
