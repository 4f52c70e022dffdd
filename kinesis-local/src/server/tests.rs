//! Connections without a socket, in paused time.

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use kinesis_core::Rand;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::answers::LOOK_EVERY;
use crate::body::ResponseBody;
use crate::fault::{FaultPlan, Faults};
use crate::services::Services;
use crate::settings::Settings;

const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// What lies between the two ends of a connection, in bytes.
const BETWEEN: usize = 16 * 1024;

const CONSUMER: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:";

type Body = Full<bytes::Bytes>;

/// A service with the stream `s`, which has one shard with a record of 1 MiB and a consumer.
struct World {
    shared: Arc<Shared>,
    consumer: String,
    iterator: String,
}

impl World {
    async fn new(answers: Answers, requests: usize) -> Self {
        let clock = Clock::system();
        let (settings, rand) = (Settings::default(), Rand::seeded(1));
        let services = Services::open(&settings, None, clock.clone(), rand, false).unwrap();
        let faults = Faults::new(FaultPlan::default(), clock.clone());
        let service = Service::new(services, faults, clock, Duration::from_secs(60));
        told(
            &service,
            "CreateStream",
            json!({"StreamName": "s", "ShardCount": 1}),
        )
        .await;
        let data = base64_simd::STANDARD.encode_to_string(vec![1; 1_000_000]);
        let record = json!({"StreamName": "s", "PartitionKey": "k", "Data": data});
        told(&service, "PutRecord", record).await;
        let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
        let consumer = json!({"StreamARN": arn, "ConsumerName": "c"});
        let consumer = told(&service, "RegisterStreamConsumer", consumer).await;
        let consumer = consumer["Consumer"]["ConsumerARN"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(consumer.starts_with(CONSUMER));
        let from = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
        let iterator = told(&service, "GetShardIterator", from).await;
        let shared = Arc::new(Shared {
            service,
            identity: None,
            head_timeout: HEAD_TIMEOUT,
            answers,
            requests: Places::new(requests),
            local_requests: Places::new(LOCAL_REQUESTS_MAX),
            wide_windows: Arc::new(Semaphore::new(1)),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        });
        Self {
            shared,
            consumer,
            iterator: iterator["ShardIterator"].as_str().unwrap().to_owned(),
        }
    }

    /// A connection, and what ends when the server has given it up.
    fn connect(&self) -> (TokioIo<tokio::io::DuplexStream>, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(BETWEEN);
        let shared = Arc::clone(&self.shared);
        let served = tokio::spawn(async move { converse(theirs, &shared).await });
        (TokioIo::new(ours), served)
    }

    async fn http1(&self) -> (http1::SendRequest<Body>, JoinHandle<()>) {
        let (stream, served) = self.connect();
        let (sender, connection) = http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        (sender, served)
    }

    async fn http2(&self, window: u32) -> (http2::SendRequest<Body>, JoinHandle<()>) {
        let (stream, served) = self.connect();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        (sender, served)
    }

    /// An answer of 1.3 MB.
    fn get_records(&self) -> Request<Body> {
        request("GetRecords", json!({"ShardIterator": self.iterator}))
    }

    fn subscribe(&self, from: &str) -> Request<Body> {
        let from = json!({"Type": from});
        request(
            "SubscribeToShard",
            json!({"ConsumerARN": self.consumer, "ShardId": "0", "StartingPosition": from}),
        )
    }
}

fn request(operation: &str, body: Value) -> Request<Body> {
    Request::post("http://localhost/")
        .header("host", "localhost")
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .header("content-type", "application/x-amz-json-1.1")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=a/20260102/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=00ff")
        .header("x-amz-date", "20260102T030405Z")
        .body(Full::from(body.to_string()))
        .unwrap()
}

async fn told(service: &Service, operation: &str, body: Value) -> Value {
    let answer = service.call(request(operation, body)).await.unwrap();
    assert!(answer.status().is_success(), "{operation}");
    let body: ResponseBody = answer.into_body();
    let body = body.collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap_or_default()
}

fn now() -> tokio::time::Instant {
    Clock::system().now()
}

async fn ample() -> World {
    World::new(Answers::new(), REQUESTS_MAX).await
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_its_http1_connection() {
    let world = ample().await;
    let (mut sender, served) = world.http1().await;
    let began = now();
    let unread = sender.send_request(world.get_records()).await.unwrap();
    assert!(unread.status().is_success());
    served.await.unwrap();
    let took = now() - began;
    assert!((HEAD_TIMEOUT..2 * HEAD_TIMEOUT).contains(&took), "{took:?}");
    assert!(unread.into_body().collect().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_slowly_arrives_whole() {
    let world = ample().await;
    let (mut sender, _served) = world.http1().await;
    let answer = sender.send_request(world.get_records()).await.unwrap();
    let mut body = answer.into_body();
    let (mut length, began) = (0, now());
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    assert!(length > 1_300_000);
    let took = now() - began;
    assert!(took > 5 * HEAD_TIMEOUT, "{took:?}: it was not slow");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_its_http2_stream_alone() {
    let world = ample().await;
    let (mut sender, served) = world.http2(65_535).await;
    let unread = sender.send_request(world.get_records()).await.unwrap();
    let subscribed = sender
        .send_request(world.subscribe("LATEST"))
        .await
        .unwrap();
    let began = now();
    let mut events = subscribed.into_body();
    while let Some(event) = events.frame().await {
        event.unwrap(); // it is hurt by nothing
    }
    // Its whole life, which is longer than two of the time-outs.
    assert_eq!(now() - began, Duration::from_secs(300));
    assert!(!served.is_finished());
    let error = unread.into_body().collect().await.unwrap_err();
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    let after = sender.send_request(world.get_records()).await.unwrap();
    assert!(after.into_body().collect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_http2_stream_without_a_window_is_cut() {
    let world = ample().await;
    for subscribe in [false, true] {
        let (mut sender, _served) = world.http2(0).await;
        let request = match subscribe {
            true => world.subscribe("LATEST"),
            false => request("ListStreams", json!({})),
        };
        let began = now();
        let unread = sender.send_request(request).await.unwrap();
        assert!(unread.into_body().collect().await.is_err());
        let took = now() - began;
        assert!(
            (HEAD_TIMEOUT..=2 * HEAD_TIMEOUT).contains(&took),
            "{took:?}"
        );
    }
    assert_eq!(world.shared.requests.free(), REQUESTS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_with_nothing_to_push_lives_its_life_on_http1_too() {
    let world = ample().await;
    let (mut sender, _served) = world.http1().await;
    let subscribed = sender
        .send_request(world.subscribe("LATEST"))
        .await
        .unwrap();
    let began = now();
    let mut events = subscribed.into_body();
    let mut heartbeats = 0;
    while let Some(event) = events.frame().await {
        event.unwrap();
        heartbeats += 1;
    }
    assert_eq!(now() - began, Duration::from_secs(300));
    assert!((60..=62).contains(&heartbeats), "{heartbeats}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_gives_up_its_memory_to_who_waits_for_it() {
    // Room for one of the answers.
    let world = World::new(Answers::with(1536, 64 * 1024), REQUESTS_MAX).await;
    let mut connections = Vec::new();
    let mut deaf: Option<Response<Incoming>> = None;
    for subscribe in [false, true, false] {
        let (mut sender, served) = world.http2(65_535).await;
        let request = match subscribe {
            true => world.subscribe("TRIM_HORIZON"),
            false => world.get_records(),
        };
        let began = now();
        // A subscription is accepted at once, and waits for its first record's memory.
        let unread = sender.send_request(request).await.unwrap();
        assert!(unread.status().is_success());
        let took = now() - began;
        assert!(took <= 2 * LOOK_EVERY, "{took:?}");
        tokio::time::sleep(3 * LOOK_EVERY).await;
        assert!(
            world.shared.answers.free_kib() < 1024,
            "the next one has it"
        );
        if let Some(cut) = deaf.replace(unread) {
            assert!(cut.into_body().collect().await.is_err());
        }
        connections.push((sender, served));
    }
    let (mut sender, _served) = world.http1().await;
    let read = sender.send_request(world.get_records()).await.unwrap();
    assert!(read.into_body().collect().await.is_ok());
    drop((connections, deaf));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_a_small_answer_gives_up_its_place_to_who_waits_for_it() {
    let world = World::new(Answers::new(), 1).await;
    let list = || request("ListStreams", json!({}));
    // Over HTTP/1.1 what lies between the two holds it: a window of nothing does not.
    let (mut sender, served) = world.http2(0).await;
    let unread = sender.send_request(list()).await.unwrap();
    tokio::time::sleep(9 * LOOK_EVERY).await;
    assert_eq!(world.shared.requests.free(), 0, "nobody else wants it");
    let (mut reader, _served) = world.http1().await;
    let began = now();
    let read = reader.send_request(list()).await.unwrap();
    assert!(read.status().is_success(), "{}", read.status());
    assert!(now() - began <= 3 * LOOK_EVERY, "{:?}", now() - began);
    assert!(read.into_body().collect().await.is_ok());
    assert!(unread.into_body().collect().await.is_err());
    drop((sender, served));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_holds_little_of_what_is_not_read() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = listener(address.parse().unwrap()) else {
            assert!(address.starts_with('['), "there may be no IPv6");
            continue;
        };
        let to = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(listener.accept(), to);
        let stream = ours.unwrap().0.into_std().unwrap();
        let held = TcpSocket::from_std_stream(stream).send_buffer_size();
        assert_eq!(held.unwrap(), 2 * SEND_BUFFER_BYTES);
        drop(theirs);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_told_to_come_again_for_want_of_memory_has_changed_nothing() {
    // Room for what a receive of the record takes, and for no more than that to wait.
    let world = World::new(Answers::with(200, 0), REQUESTS_MAX).await;
    let service = &world.shared.service;
    let mode = json!({"StreamMode": "ON_DEMAND"});
    let create = json!({"StreamName": "q", "StreamModeDetails": mode});
    told(service, "CreateStream", create).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/q";
    let from = json!({"StreamARN": arn, "StartingPosition": {"Type": "TRIM_HORIZON"}});
    let queue = json!({"QueueName": "q", "StreamConfigurationList": [from]});
    let queue = told(service, "CreateQueue", queue).await;
    let data = base64_simd::STANDARD.encode_to_string(vec![1; 100_000]);
    let record = json!({"StreamName": "q", "PartitionKey": "k", "Data": data});
    told(service, "PutRecord", record).await;
    let receive = json!({"QueueARN": queue["QueueDescription"]["QueueARN"], "Limit": 1,
        "VisibilityTimeoutSeconds": 0});
    let entry = json!({"PartitionKey": "k", "Data": "eA=="});
    let put = json!({"StreamName": "s", "Records": vec![entry; 500]});
    let (mut sender, _served) = world.http1().await;
    let room = world.shared.answers.share(150 * 1024).await.unwrap();
    for (operation, body) in [("PutRecords", &put), ("ReceiveQueueRecords", &receive)] {
        let request = request(operation, body.clone());
        let refused = sender.send_request(request).await.unwrap();
        assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        let text = refused.into_body().collect().await.unwrap().to_bytes();
        assert!(
            text.starts_with(br#"{"__type":"ServiceUnavailable""#),
            "{text:?}"
        );
    }
    drop(room);
    let from = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
    let iterator = told(service, "GetShardIterator", from).await;
    let read = json!({"ShardIterator": iterator["ShardIterator"]});
    let there = told(service, "GetRecords", read).await;
    assert_eq!(
        there["Records"].as_array().unwrap().len(),
        1,
        "the one of before"
    );
    let received = sender
        .send_request(request("ReceiveQueueRecords", receive))
        .await;
    let received = received
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let received: Value = serde_json::from_slice(&received).unwrap();
    assert_eq!(received["QueueRecords"][0]["ReceiveCount"], 1);
    let put = sender
        .send_request(request("PutRecords", put))
        .await
        .unwrap();
    assert!(put.status().is_success());
    drop(put.into_body().collect().await.unwrap());
    while world.shared.answers.free_kib() < 200 {
        tokio::task::yield_now().await; // until the connection has let go of what it wrote
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_bound_are_told_to_come_again() {
    let world = World::new(Answers::new(), 1).await;
    let (mut sender, _served) = world.http2(65_535).await;
    let subscribed = sender
        .send_request(world.subscribe("LATEST"))
        .await
        .unwrap();
    assert!(subscribed.status().is_success());
    let refused = sender.send_request(world.get_records()).await.unwrap();
    assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    let text = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(
        text.starts_with(br#"{"__type":"ServiceUnavailable""#),
        "{text:?}"
    );
    drop(subscribed);
    while world.shared.requests.free() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = sender.send_request(world.get_records()).await.unwrap();
    assert!(answer.status().is_success());
}

#[tokio::test(start_paused = true)]
async fn only_http2_connections_keep_a_place_for_wide_windows() {
    let world = ample().await;
    let free = || world.shared.wide_windows.available_permits();
    let list = || request("ListStreams", json!({}));
    let (mut sender, _served) = world.http1().await;
    assert!(
        sender
            .send_request(list())
            .await
            .unwrap()
            .status()
            .is_success()
    );
    assert_eq!(free(), 1);
    let (mut sender, served) = world.http2(65_535).await;
    assert!(
        sender
            .send_request(list())
            .await
            .unwrap()
            .status()
            .is_success()
    );
    assert_eq!(free(), 0);
    // One without is served too, if in smaller steps.
    let (mut narrow, _served) = world.http2(65_535).await;
    let padded = json!({"ExclusiveStartStreamName": "s", "NextToken": "x".repeat(300_000)});
    let answer = narrow
        .send_request(request("ListStreams", padded))
        .await
        .unwrap();
    assert_eq!(answer.status(), http::StatusCode::BAD_REQUEST);
    drop(sender);
    served.await.unwrap();
    assert_eq!(free(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_reset_keeps_its_place_until_it_was_carried_out() {
    use crate::fault::{FaultEffect, FaultRule};
    const LATENCY: Duration = Duration::from_secs(9);
    let world = World::new(Answers::new(), 1).await;
    let late = FaultEffect::Latency {
        min_ms: LATENCY.as_millis() as u64,
        max_ms: LATENCY.as_millis() as u64,
        before: true,
    };
    let late = FaultRule::new(late).operation("ListStreams");
    let plan = FaultPlan::seeded(1).rule(late);
    world.shared.service.faults().set(plan).unwrap();
    let (mut sender, _served) = world.http2(65_535).await;
    let reset = sender.send_request(request("ListStreams", json!({})));
    let gave_up = tokio::time::timeout(LOOK_EVERY, reset).await;
    assert!(gave_up.is_err());
    let refused = sender.send_request(world.get_records()).await.unwrap();
    assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    tokio::time::sleep(LATENCY).await;
    let answer = sender.send_request(world.get_records()).await.unwrap();
    assert!(answer.status().is_success());
}

mod hostile;
