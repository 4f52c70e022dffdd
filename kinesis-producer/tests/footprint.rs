//! What a producer costs its process: no thread, and no more memory than it was given.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Region, SharedCredentialsProvider};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use kinesis_core::{HashKey, HashKeyRange};
use kinesis_producer::{Producer, Settings, UserRecord};

/// One test at a time: both look at the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// A stream that takes every request and never answers PutRecords.
#[derive(Clone, Debug)]
struct Stalled {
    shards: u32,
    credentials: Arc<Mutex<std::collections::BTreeSet<String>>>,
    /// The body of PutRecords, if it is to be kept.
    body: Option<Arc<Mutex<Vec<u8>>>>,
}

impl HttpConnector for Stalled {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let header = |name| request.headers().get(name).unwrap_or_default().to_owned();
        let authorization = header("authorization");
        let key = authorization.split(['=', '/']).nth(1).unwrap_or_default();
        let mut credentials = self.credentials.lock().expect("not poisoned");
        credentials.insert(key.to_owned());
        if header("x-amz-target").ends_with(".PutRecords") {
            if let Some(kept) = &self.body {
                let body = request.body().bytes().expect("in memory");
                *kept.lock().expect("not poisoned") = body.to_vec();
            }
            return HttpConnectorFuture::new(async move {
                let _held = request;
                std::future::pending().await
            });
        }
        let ranges = HashKeyRange::FULL.split_even(self.shards).into_iter();
        let shards: Vec<_> = ranges
            .zip(0..)
            .map(|(range, index): (_, u32)| {
                let (start, end) = (range.start(), range.end());
                format!(
                    r#"{{"ShardId":"shardId-{index:012}","HashKeyRange":{{"StartingHashKey":"{start}",
                    "EndingHashKey":"{end}"}},"SequenceNumberRange":{{"StartingSequenceNumber":"1"}}}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"Shards":[{}]}}"#, shards.join(","));
        let status = 200.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
    }
}

impl HttpClient for Stalled {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl Stalled {
    fn with_shards(shards: u32) -> Self {
        Self {
            shards,
            credentials: Arc::default(),
            body: None,
        }
    }

    fn client(&self, access_key: String) -> Client {
        let credentials = Credentials::from_keys(access_key, "secret", None);
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(self.clone());
        Client::from_conf(config.build())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// Lets the producers do what they can do now.
async fn settle() {
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
}

/// How the names of the other tests here begin, of which threads have the first fifteen letters.
#[cfg(target_os = "linux")]
const OTHERS: [&str; 2] = ["a_stalled", "a_payload"];

/// The threads of this process but those of other tests, which have their names, or still the name of the
/// thread that starts them.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    let starts_them = std::fs::read_to_string("/proc/self/comm").expect("the first thread");
    let name = |thread: std::io::Result<std::fs::DirEntry>| {
        let path = thread.expect("a thread").path().join("comm");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads");
    let threads = threads.map(name);
    threads
        .filter(|name| !name.is_empty() && *name != starts_them)
        .filter(|name| !OTHERS.iter().any(|other| name.starts_with(other)))
        .count()
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_streams_and_credential_sets_share_one_thread() {
    let _alone = ALONE.lock();
    let service = Stalled::with_shards(4);
    runtime().block_on(async {
        let before = threads();
        let mut outcomes = Vec::new();
        let producers: Vec<_> = (0..100)
            .map(|number| {
                let client = service.client(format!("KEY{number}"));
                Producer::builder(client, format!("stream-{number}"))
                    .build()
                    .expect("a producer")
            })
            .collect();
        for producer in &producers {
            outcomes.push(producer.try_send(UserRecord::new("k", "x")).expect("room"));
        }
        settle().await;
        assert!(
            threads() <= before,
            "{} threads, {before} before",
            threads()
        );
        assert_eq!(service.credentials.lock().expect("not poisoned").len(), 100);
    });
}

/// Fills a producer of a stalled stream to its bound; the peak of this process's allocations, and
/// the bytes of data and keys that it held.
fn stall(shards: u32, budget: usize, record_bytes: usize) -> (usize, usize) {
    let mut outstanding = 0;
    let measured = allocation_counter::measure(|| {
        outstanding = runtime().block_on(async {
            let service = Stalled::with_shards(shards);
            let producer = Producer::builder(service.client("KEY".to_owned()), "flights");
            let producer = producer.settings(Settings {
                max_buffered_bytes: budget,
                max_buffered_records: 1_000_000,
                ..Settings::default()
            });
            let producer = producer.build().expect("a producer");
            // Each sender has one record in hand while it waits for room.
            let senders: Vec<_> = (0..50)
                .map(|sender| {
                    let producer = producer.clone();
                    tokio::spawn(async move {
                        for number in 0.. {
                            let key = format!("key-{sender}-{}", number % 100);
                            let record = UserRecord::new(key, vec![0; record_bytes]);
                            drop(producer.enqueue(record).await);
                        }
                    })
                })
                .collect();
            settle().await;
            settle().await;
            senders.iter().for_each(tokio::task::JoinHandle::abort);
            producer.outstanding().bytes as usize
        });
    });
    (measured.bytes_max as usize, outstanding)
}

#[test]
fn a_stalled_stream_holds_no_more_memory_than_the_budget_and_a_constant() {
    let _alone = ALONE.lock();
    const CONSTANT: usize = 4 << 20;
    for shards in [4, 64, 1_000] {
        for (budget, record_bytes) in [(8 << 20, 1_000), (16 << 20, 20), (64 << 20, 60_000)] {
            let (peak, outstanding) = stall(shards, budget, record_bytes);
            println!(
                "{shards} shards, {record_bytes} bytes a record: {peak} bytes at a budget of {budget}, \
                 {outstanding} of payload"
            );
            assert!(
                peak < budget + CONSTANT,
                "{peak} bytes at a budget of {budget}, {shards} shards"
            );
            // The budget was used, and every record has its place in it.
            let record = record_bytes + "key-49-99".len();
            assert!(outstanding * 4 + outstanding / record * 512 > budget - (1 << 20));
        }
    }
}

/// Gives a producer all of `records` at once and waits until their request is on its way.
fn produce(service: &Stalled, records: &[UserRecord]) {
    runtime().block_on(async {
        let producer = Producer::builder(service.client("KEY".to_owned()), "flights");
        let producer = producer.settings(Settings {
            ordered: false,
            ..Settings::default()
        });
        let producer = producer.build().expect("a producer");
        for record in records {
            drop(producer.try_send(record.clone()).expect("room"));
        }
        settle().await;
    });
}

/// Makes the same request as `body` by the SDK alone, from data that is given to it by move.
fn put(service: &Stalled, body: &serde_json::Value) {
    runtime().block_on(async {
        let client = service.client("KEY".to_owned());
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        let entries = body["Records"].as_array().expect("records");
        let mut request = client.put_records().stream_name("flights");
        for entry in entries {
            let data = entry["Data"].as_str().expect("text");
            let data = aws_smithy_types::base64::decode(data).expect("base64");
            let entry = PutRecordsRequestEntry::builder()
                .data(Blob::new(data))
                .partition_key(text(&entry["PartitionKey"]))
                .explicit_hash_key(text(&entry["ExplicitHashKey"]))
                .build()
                .expect("an entry");
            request = request.records(entry);
        }
        let sent = tokio::time::timeout(std::time::Duration::from_secs(1), request.send());
        sent.await.expect_err("it is never answered");
    });
}

#[test]
fn a_payload_is_copied_once_before_the_sdk_encodes_it() {
    let _alone = ALONE.lock();
    const RECORD_BYTES: usize = 10_000;
    const RECORDS: usize = 320;
    let data = bytes::Bytes::from(vec![7; RECORD_BYTES]);
    let record = |number| {
        // As many in each shard: none has to wait for its quota, and one request has all.
        let hash_key = HashKey(u128::MAX / 4 * (number as u128 % 4) + 4);
        UserRecord::new(format!("key-{}", number % 10), data.clone())
            .with_explicit_hash_key(hash_key)
    };
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let keeping = Stalled {
        body: Some(Arc::default()),
        ..Stalled::with_shards(4)
    };
    produce(&keeping, &records);
    let body = keeping.body.expect("it is kept");
    let body = body.lock().expect("not poisoned");
    let payload = RECORDS * RECORD_BYTES;
    assert!(
        body.len() > payload * 4 / 3,
        "one request has them all: {} bytes",
        body.len()
    );
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");

    let service = Stalled::with_shards(4);
    let ours = allocation_counter::measure(|| produce(&service, &records)).bytes_total as usize;
    // Its one copy is what `base64::decode` returns.
    let alone = allocation_counter::measure(|| put(&service, &body)).bytes_total as usize;
    println!("{ours} bytes allocated, {alone} by the SDK alone, for {payload} of payload");
    assert!(alone > payload * 2, "the SDK encodes it: {alone}");
    // The rest is the producer's own, and its questions for the stream's shards and traits.
    assert!(
        ours < alone + payload / 2,
        "{ours} bytes allocated, {alone} by the SDK alone, for {payload} of payload"
    );
}
