//! Our aggregates, taken apart by the KCL's own `AggregatorUtil`: the same members in the same order,
//! and what it takes for an ordinary record so do we.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use kinesis_core::aggregate::MAGIC;
use kinesis_core::{
    Aggregate, Deaggregated, HashKey, Position, Rand, ShardId, UserRecord, deaggregate,
};
use tests::{World, maven};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::worker::FRUGAL;

/// The longest wait for the program. Source: measured, times fifty.
const PATIENCE: Duration = Duration::from_secs(150);

/// Random aggregates that are held against the KCL. Source: none, a second's work.
const CASES: usize = 300;

/// A Kinesis record as far as the KCL looks at it here.
struct Kinesis {
    partition_key: String,
    data: Bytes,
}

/// What the KCL makes of a Kinesis record; keys and data as they are.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Found {
    /// A user record of this sub-sequence number.
    Member(u64, UserRecord),
    /// An ordinary record.
    Raw(UserRecord),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text");
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn record(key: &str, hash_key: &str, data: &str) -> UserRecord {
    let key = String::from_utf8(bytes(key)).expect("UTF-8");
    let record = UserRecord::new(key, bytes(data));
    match hash_key {
        "" => record,
        decimal => record.with_explicit_hash_key(decimal.parse().expect("a hash key")),
    }
}

/// What the KCL's `AggregatorUtil` finds in each of `records`.
async fn opened_by_kcl(records: &[Kinesis]) -> Vec<Vec<Found>> {
    let built = maven::built("kcl", env!("CARGO_TARGET_TMPDIR")).await;
    let mut kcl = Command::new("java")
        .args(FRUGAL)
        .args(["-classpath", &maven::class_path(&built), "KclAggregates"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("java starts");
    let line = |r: &Kinesis| format!("{}\t{}\n", hex(&r.data), hex(r.partition_key.as_bytes()));
    let lines: String = records.iter().map(line).collect();
    let mut stdin = kcl.stdin.take().expect("it is piped");
    let giving = tokio::spawn(async move { stdin.write_all(lines.as_bytes()).await });
    let output = tokio::time::timeout(PATIENCE, kcl.wait_with_output()).await;
    let output = output.expect("it ends in time").expect("it is waited for");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the KCL failed: {log}");
    giving.await.expect("no panic").expect("it read everything");

    let mut opened = vec![Vec::new()];
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let found = opened.last_mut().expect("never empty");
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["member", sub, key, hash_key, data] => {
                let sub = sub.parse().expect("a number");
                found.push(Found::Member(sub, record(key, hash_key, data)));
            }
            ["raw", key, data] => found.push(Found::Raw(record(key, "", data))),
            ["end"] => opened.push(Vec::new()),
            _ => panic!("the program said {line:?}"),
        }
    }
    assert!(
        opened.pop().is_some_and(|rest| rest.is_empty()),
        "it ended inside of a record"
    );
    assert_eq!(opened.len(), records.len(), "{log}");
    opened
}

/// `records` as members, in their order.
fn members(records: &[UserRecord]) -> Vec<Found> {
    let member = |(sub, record): (u64, &UserRecord)| Found::Member(sub, record.clone());
    (0..).zip(records).map(member).collect()
}

fn aggregate(records: &[UserRecord]) -> Bytes {
    let mut aggregate = Aggregate::new();
    for record in records {
        aggregate.push(record.clone());
    }
    aggregate.encode()
}

/// A record of any kind that an aggregate may hold: keys of one letter to the longest, of several
/// alphabets, that come again or not; data that is empty, long, or begins as an aggregate does.
fn any_record(rand: &Rand) -> UserRecord {
    let key = match rand.below(6) {
        0 => "ключ".to_owned(),
        1 => "🛫".repeat(1 + rand.below(256) as usize),
        2 => "\u{0}".to_owned(),
        3 => format!("{}", rand.next_u64()),
        _ => format!("key-{}", rand.below(4)),
    };
    let length = match rand.below(8) {
        0 => 0,
        1 => 128 + rand.below(20_000),
        _ => rand.below(130),
    };
    let mut data: Vec<_> = (0..length).map(|_| rand.below(256) as u8).collect();
    if rand.below(10) == 0 {
        data.splice(..0, MAGIC);
    }
    let record = UserRecord::new(key, data);
    match rand.below(5) {
        0 => record.with_explicit_hash_key(HashKey(0)),
        1 => record.with_explicit_hash_key(HashKey::MAX),
        2 => record.with_explicit_hash_key(HashKey(u128::from(rand.next_u64()) << 64 | 7)),
        _ => record,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kcl_finds_the_members_that_our_encoder_was_given_in_their_order() {
    let seed = Rand::from_entropy().next_u64();
    println!("seed {seed}");
    let rand = Rand::seeded(seed);
    let given: Vec<Vec<_>> = (0..CASES)
        .map(|_| (0..=rand.below(40)).map(|_| any_record(&rand)).collect())
        .collect();
    let kinesis = |records: &Vec<UserRecord>| Kinesis {
        partition_key: "a".to_owned(),
        data: aggregate(records),
    };
    let records: Vec<_> = given.iter().map(kinesis).collect();
    let opened = opened_by_kcl(&records).await;
    for (case, (given, opened)) in given.iter().zip(opened).enumerate() {
        assert!(opened == members(given), "case {case} of seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_whole_aggregate_is_an_ordinary_record_to_the_kcl_and_to_us() {
    let rand = Rand::seeded(7);
    let whole = aggregate(&[any_record(&rand), any_record(&rand)]);
    let changed = |at: usize| {
        let mut data = whole.to_vec();
        data[at] ^= 1;
        Bytes::from(data)
    };
    let cases = [
        ("a digest that is wrong", changed(whole.len() - 1)),
        ("a content that is not the digest's", changed(MAGIC.len())),
        ("another beginning", changed(0)),
        ("a cut end", whole.slice(..whole.len() - 1)),
        ("nothing behind the beginning", Bytes::from_static(&MAGIC)),
        ("a digest of nothing", whole.slice(..MAGIC.len() + 16)),
        ("part of the beginning", whole.slice(..3)),
        ("nothing", Bytes::new()),
        ("text", Bytes::from_static(b"JFK")),
    ];
    let kinesis = |(_, data): &(_, Bytes)| Kinesis {
        partition_key: "ключ".to_owned(),
        data: data.clone(),
    };
    let records: Vec<_> = cases.iter().map(kinesis).collect();
    let opened = opened_by_kcl(&records).await;
    for ((what, data), opened) in cases.iter().zip(opened) {
        let raw = UserRecord::new("ключ", data.clone());
        assert!(opened == [Found::Raw(raw)], "the KCL, of {what}");
        let ours = deaggregate(data);
        assert!(matches!(ours, Deaggregated::Raw(_)), "we, of {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kcl_finds_every_record_where_our_producer_says_it_stored_it() {
    let world = World::start(3).await;
    let seed = Rand::from_entropy().next_u64();
    println!("seed {seed}");
    let rand = Rand::seeded(seed);
    let records: Vec<_> = (0..2_000).map(|_| any_record(&rand)).collect();
    let producer = world.producer();
    let mut deliveries = Vec::new();
    for record in &records {
        deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
    }
    let mut places: BTreeMap<(ShardId, Position), &UserRecord> = BTreeMap::new();
    for (record, delivery) in records.iter().zip(deliveries) {
        let delivery = delivery.await.expect("delivered");
        let place = (delivery.shard_id.clone(), delivery.position());
        assert!(places.insert(place, record).is_none(), "a place of its own");
    }

    let stored = world.stream.read_all().await;
    let kinesis = |stored: &kinesis_local::testing::Stored| Kinesis {
        partition_key: stored.partition_key.clone(),
        data: stored.data.clone(),
    };
    let opened = opened_by_kcl(&stored.iter().map(kinesis).collect::<Vec<_>>()).await;
    let mut in_aggregates = 0;
    for (stored, opened) in stored.iter().zip(opened) {
        for found in opened {
            let sub = match found {
                Found::Member(sub, _) => sub,
                Found::Raw(_) => 0,
            };
            let at = Position::at(stored.sequence_number.clone(), sub);
            let sent = places.remove(&(stored.shard_id.clone(), at.clone()));
            let sent = sent.unwrap_or_else(|| panic!("nothing was sent to {at}"));
            let as_sent = match found {
                Found::Member(_, read) => read == *sent,
                // The service tells no reader the explicit hash key of a record by itself.
                Found::Raw(read) => {
                    read.partition_key == sent.partition_key && read.data == sent.data
                }
            };
            assert!(as_sent, "the record at {at}, seed {seed}");
            in_aggregates += usize::from(sub > 0);
        }
    }
    assert!(places.is_empty(), "{} were not found", places.len());
    assert!(in_aggregates > 1_500, "{in_aggregates} came in aggregates");
}
