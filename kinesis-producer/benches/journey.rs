//! Records per second of one thread's processor time, from hand-over to acknowledgement.
//!
//! `pipeline/*` is everything of ours on one thread, without the SDK: checks, room, channel,
//! hashing, lanes, aggregates, outcomes. `producer/*` is the public handle over an SDK client whose
//! HTTP client answers at once, on a runtime of one thread: JSON, base64 and signing come on top.

mod records;

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kinesis_core::{Clock, UserRecord};
use kinesis_producer::bench::Journey;
use kinesis_producer::{Producer, Settings};
use serde_json::json;

use crate::records::{RECORDS, records};

/// How long this thread has run on a processor, so that other programs on the machine do not count
/// as ours; the time since the first call where Linux does not tell.
fn on_cpu() -> Duration {
    static START: LazyLock<(Clock, tokio::time::Instant)> = LazyLock::new(|| {
        let clock = Clock::system();
        let now = clock.now();
        (clock, now)
    });
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = stat.and_then(|stat| stat.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.0.now() - START.1, Duration::from_nanos)
}

fn pipeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipeline");
    group.sample_size(50);
    group.throughput(Throughput::Elements(RECORDS as u64));
    for (shards, keys) in [(1, 100), (16, 1_000), (16, RECORDS), (1_000, 1_000)] {
        let records = records(keys);
        let mut journey = Journey::new(shards);
        assert_eq!(journey.run(&records).records, RECORDS);
        group.bench_function(format!("{shards} shards, {keys} keys"), |bencher| {
            bencher.iter_custom(|times| {
                let before = on_cpu();
                for _ in 0..times {
                    black_box(journey.run(black_box(&records)));
                }
                on_cpu() - before
            });
        });
    }
}

/// Answers PutRecords and ListShards at once, for a stream of one shard.
#[derive(Clone, Debug)]
struct Instant;

impl HttpConnector for Instant {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let shard = "shardId-000000000000";
        let body = if target.ends_with("ListShards") {
            let last = u128::MAX.to_string();
            json!({ "Shards": [{
                "ShardId": shard,
                "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": last },
                "SequenceNumberRange": { "StartingSequenceNumber": "1" },
            }]})
        } else {
            // An object per record, one around them; keys and base64 have no braces.
            let body = request.body().bytes().expect("a whole body");
            let count = body.iter().filter(|byte| **byte == b'{').count() - 1;
            json!({
                "FailedRecordCount": 0,
                "Records": vec![json!({ "ShardId": shard, "SequenceNumber": "1" }); count],
            })
        };
        let response = HttpResponse::new(
            200.try_into().expect("a status"),
            SdkBody::from(body.to_string()),
        );
        HttpConnectorFuture::ready(Ok(response))
    }
}

impl HttpClient for Instant {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Hands all records over, waits until they are settled, and looks at the outcomes.
async fn send_all(producer: &Producer, records: &[UserRecord]) {
    let mut outcomes = Vec::with_capacity(RECORDS);
    for record in records {
        outcomes.push(producer.enqueue(record.clone()).await.expect("accepted"));
    }
    producer.flush().await;
    for outcome in outcomes {
        outcome.await.expect("delivered");
    }
}

fn producer(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::from_keys("bench", "bench", None))
        .http_client(Instant)
        .build();
    let settings = Settings {
        rate_limit: 1_000_000,
        ordered: false,
        ..Settings::default()
    };
    let producer = runtime.block_on(async {
        Producer::builder(Client::from_conf(config), "stream")
            .settings(settings)
            .build()
    });
    let producer = producer.expect("valid settings");
    let records = records(1_000);
    let mut group = criterion.benchmark_group("producer");
    group
        .throughput(Throughput::Elements(RECORDS as u64))
        .sample_size(20);
    group.bench_function("1 shard, 1000 keys", |bencher| {
        bencher.iter_custom(|times| {
            let before = on_cpu();
            for _ in 0..times {
                runtime.block_on(send_all(&producer, &records));
            }
            on_cpu() - before
        });
    });
    drop(group);
    runtime
        .block_on(producer.close(Duration::from_secs(10)))
        .expect("drained");
}

criterion_group!(benches, pipeline, producer);
criterion_main!(benches);
