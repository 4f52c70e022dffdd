//! The worker binary stores what it processes in S3, over a socket, and ends in order on SIGTERM.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use examples::bucket;
use examples::flights::{self, NumberedFlight};
use kinesis_local::KinesisLocal;
use kinesis_producer::{Producer, UserRecord};
use tokio::process::Child;

#[path = "process/worker.rs"]
mod worker;

use worker::{PATIENCE, STREAM, terminate};

const BUCKET: &str = "flights";
const FLIGHTS: usize = 2_000;

fn start(endpoint: &str, id: &str, batch_age_ms: &str) -> Child {
    worker::command(endpoint, id)
        .args(["--bucket", BUCKET, "--prefix", "board/"])
        .args(["--batch-records", "300", "--batch-age-ms", batch_age_ms])
        .spawn()
        .expect("the worker starts")
}

/// The flights that are in the bucket, each with every repetition.
async fn stored(s3: &aws_sdk_s3::Client) -> Vec<u32> {
    let objects = bucket::read(s3, BUCKET, "board/")
        .await
        .expect("the bucket can be read");
    let id = |line: &str| {
        serde_json::from_str::<NumberedFlight>(line)
            .expect("a flight")
            .id
    };
    objects
        .iter()
        .flat_map(|object| object.content.lines())
        .map(id)
        .collect()
}

/// Waits until so many different flights are stored.
async fn wait_until(s3: &aws_sdk_s3::Client, flights: usize) {
    let waiting = async {
        while stored(s3).await.iter().collect::<BTreeSet<_>>().len() < flights {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.expect("the flights are stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stores_every_record_and_ends_in_order_on_sigterm() {
    let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
    let local = KinesisLocal::builder()
        .listen(loopback)
        .start()
        .await
        .expect("it listens");
    let config = local.sdk_config();
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    let s3 = aws_sdk_s3::Client::new(&config);
    let created = kinesis
        .create_stream()
        .stream_name(STREAM)
        .shard_count(2)
        .send()
        .await;
    created.expect("the stream is created");
    s3.create_bucket()
        .bucket(BUCKET)
        .send()
        .await
        .expect("the bucket is created");
    let producer = Producer::builder(kinesis, STREAM)
        .build()
        .expect("valid settings");

    for flight in flights::numbered(1, FLIGHTS) {
        let data = serde_json::to_vec(&flight).expect("a flight is JSON");
        let record = UserRecord::new(flight.flight.origin, data);
        drop(producer.enqueue(record).await.expect("accepted"));
    }
    producer.flush().await;

    // The first worker stores full objects as they come, and the rest when it is asked to end.
    let first = start(&local.endpoint_url(), "first", "60000");
    wait_until(&s3, FLIGHTS / 2).await;
    terminate(first).await;

    // The second goes on where it ended.
    let second = start(&local.endpoint_url(), "second", "500");
    wait_until(&s3, FLIGHTS).await;
    terminate(second).await;
    let stored = stored(&s3).await;
    assert_eq!(stored.len(), FLIGHTS, "once each");
    assert_eq!(stored.iter().collect::<BTreeSet<_>>().len(), FLIGHTS);
    local.shutdown().await;
}
