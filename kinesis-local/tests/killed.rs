//! The `kinesis-local` command is killed with SIGKILL while clients write, again and again on one
//! data directory: what it acknowledged is there, in the order of its sequence numbers, and no
//! number is used twice.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "cli", feature = "dynamodb", unix))]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use kinesis_core::SequenceNumber;
use kinesis_local::KinesisLocal;

const STREAM: &str = "flights";
const WRITERS: usize = 4;
/// How often the command is killed.
const KILLS: usize = 4;
/// Acknowledged requests after which each kill comes; different each time, so that it meets the
/// log in different states.
const REQUESTS_BEFORE_KILL: [usize; KILLS] = [7, 50, 111, 180];

/// A running command; killed when dropped.
struct Running {
    process: Child,
    endpoint: String,
}

impl Running {
    fn start(data_dir: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_kinesis-local"))
            .args(["--port", "0", "--data-dir"])
            .arg(data_dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        let endpoint = first
            .trim()
            .strip_prefix("kinesis-local listening on ")
            .unwrap()
            .to_owned();
        Self { process, endpoint }
    }

    /// A client over the socket that tries once: a retry would blur what was acknowledged.
    async fn client(&self) -> Client {
        let config = KinesisLocal::builder().start().await.unwrap().sdk_config();
        let config = config
            .into_builder()
            .endpoint_url(&self.endpoint)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_timeout(Duration::from_secs(20))
                    .build(),
            )
            .build();
        Client::new(&config)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What was acknowledged: shard and sequence number to payload.
type Acknowledged = Arc<Mutex<BTreeMap<(String, SequenceNumber), String>>>;

fn acknowledge(known: &Acknowledged, shard: &str, number: &str, payload: String) {
    let key = (shard.to_owned(), number.parse().unwrap());
    let twice = known.lock().unwrap().insert(key, payload);
    assert_eq!(
        twice, None,
        "the sequence number {number} of {shard} was given twice"
    );
}

/// Writes until the server is gone, single records and batches in turn.
async fn write(
    client: Client,
    writer: usize,
    round: usize,
    known: Acknowledged,
    count: Arc<AtomicUsize>,
) {
    for n in 0.. {
        let payload = |part: usize| format!("{round}/{writer}/{n}/{part}");
        let key = |part: usize| format!("key-{writer}-{n}-{part}");
        if n % 2 == 0 {
            let put = client
                .put_record()
                .stream_name(STREAM)
                .partition_key(key(0));
            let Ok(put) = put.data(Blob::new(payload(0))).send().await else {
                return;
            };
            acknowledge(&known, put.shard_id(), put.sequence_number(), payload(0));
        } else {
            let entry = |part| {
                let entry = PutRecordsRequestEntry::builder().partition_key(key(part));
                entry.data(Blob::new(payload(part))).build().unwrap()
            };
            let entries = (0..20).map(entry).collect();
            let put = client
                .put_records()
                .stream_name(STREAM)
                .set_records(Some(entries));
            let Ok(put) = put.send().await else { return };
            for (part, result) in put.records().iter().enumerate() {
                let (shard, number) = (
                    result.shard_id().unwrap(),
                    result.sequence_number().unwrap(),
                );
                acknowledge(&known, shard, number, payload(part));
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Every record of the stream, each shard in the order it is read.
async fn read(client: &Client) -> BTreeMap<(String, SequenceNumber), String> {
    let mut records = BTreeMap::new();
    let shards = client
        .list_shards()
        .stream_name(STREAM)
        .send()
        .await
        .unwrap();
    for shard in shards.shards() {
        let iterator = client
            .get_shard_iterator()
            .stream_name(STREAM)
            .shard_id(shard.shard_id());
        let iterator = iterator
            .shard_iterator_type(ShardIteratorType::TrimHorizon)
            .send()
            .await;
        let mut iterator = iterator.unwrap().shard_iterator;
        let mut last = None;
        while let Some(from) = iterator {
            let got = client
                .get_records()
                .shard_iterator(from)
                .limit(1000)
                .send()
                .await
                .unwrap();
            for record in got.records() {
                let number: SequenceNumber = record.sequence_number().parse().unwrap();
                assert!(last < Some(number.clone()), "{last:?} before {number}");
                last = Some(number.clone());
                let payload = String::from_utf8(record.data().as_ref().to_vec()).unwrap();
                records.insert((shard.shard_id().to_owned(), number), payload);
            }
            let at_tip = got.records().is_empty() && got.millis_behind_latest() == Some(0);
            iterator = got.next_shard_iterator.filter(|_| !at_tip);
        }
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_every_kill_and_no_number_comes_twice() {
    let directory = tempfile::tempdir().unwrap();
    let known = Acknowledged::default();
    for (round, requests) in REQUESTS_BEFORE_KILL.into_iter().enumerate() {
        let running = Running::start(directory.path());
        let client = running.client().await;
        if round == 0 {
            client
                .create_stream()
                .stream_name(STREAM)
                .shard_count(2)
                .send()
                .await
                .unwrap();
        }
        let count = Arc::new(AtomicUsize::new(0));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (known, count) = (Arc::clone(&known), Arc::clone(&count));
                tokio::spawn(write(client.clone(), writer, round, known, count))
            })
            .collect();
        while count.load(Ordering::Relaxed) < requests {
            assert!(
                !writers.iter().all(|writer| writer.is_finished()),
                "the server ended early"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(running);
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let running = Running::start(directory.path());
    let stored = read(&running.client().await).await;
    let known = known.lock().unwrap();
    for (place, payload) in &*known {
        assert_eq!(
            stored.get(place),
            Some(payload),
            "{place:?} was acknowledged"
        );
    }
    assert!(
        known.len() > KILLS * WRITERS,
        "only {} records were written",
        known.len()
    );
    // More than was acknowledged may be there: requests that the kill cut off before their answer.
    assert!(stored.len() >= known.len());
}
