//! Time on purpose: what an advance of the clock does to what waits and what expires.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    PutRecordsRequestEntry, ShardIteratorType, StartingPosition, StreamMode, StreamModeDetails,
    StreamStatus, SubscribeToShardEventStream,
};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::retry::RetryConfig;
use kinesis_core::Clock;
use kinesis_local::{ErrorKind, FaultEffect, FaultPlan, FaultRule, KinesisLocal, Limits, Settings};
use serde_json::{Value, json};

const SHARD: &str = "shardId-000000000000";
/// Half of the hash keys, 2^127.
const MIDDLE: &str = "170141183460469231731687303715884105728";
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// An instance on the system's clock, with delays of a minute and a stream that is ACTIVE.
async fn world() -> (KinesisLocal, Client) {
    let mut settings = Settings::default();
    settings.create_delay_ms = 60_000;
    settings.update_delay_ms = 60_000;
    settings.virtual_time = true;
    let local = KinesisLocal::builder()
        .settings(settings)
        .limits(Limits::Off)
        .start()
        .await
        .unwrap();
    let config = local.sdk_config().into_builder();
    let client = Client::new(&config.retry_config(RetryConfig::disabled()).build());
    let create = client.create_stream().stream_name("s").shard_count(1);
    create.send().await.unwrap();
    assert_eq!(status(&client).await, StreamStatus::Creating);
    local.advance(60 * SECOND).unwrap();
    (local, client)
}

async fn status(client: &Client) -> StreamStatus {
    let described = client
        .describe_stream_summary()
        .stream_name("s")
        .send()
        .await;
    described
        .unwrap()
        .stream_description_summary
        .unwrap()
        .stream_status
}

async fn put(client: &Client, key: &str) {
    let put = client.put_record().stream_name("s").partition_key(key);
    put.data(Blob::new("x")).send().await.unwrap();
}

async fn iterator(client: &Client) -> String {
    let iterator = client.get_shard_iterator().stream_name("s").shard_id(SHARD);
    let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
    iterator.send().await.unwrap().shard_iterator.unwrap()
}

async fn keys(client: &Client) -> Vec<String> {
    let got = client.get_records().shard_iterator(iterator(client).await);
    let records = got.send().await.unwrap().records;
    records
        .into_iter()
        .filter_map(|record| record.partition_key)
        .collect()
}

// Each runs on the real clock: what an advance does not do, it would wait for for minutes or days.

#[tokio::test]
async fn streams_pass_through_creating_and_updating() {
    let (local, client) = world().await;
    assert_eq!(status(&client).await, StreamStatus::Active);
    let split = client.split_shard().stream_name("s").shard_to_split(SHARD);
    split.new_starting_hash_key(MIDDLE).send().await.unwrap();
    assert_eq!(status(&client).await, StreamStatus::Updating);
    local.advance(60 * SECOND).unwrap();
    assert_eq!(status(&client).await, StreamStatus::Active);
}

#[tokio::test]
async fn records_are_trimmed_and_iterators_expire() {
    let (local, client) = world().await;
    put(&client, "old").await;
    let old = iterator(&client).await;
    local.advance(301 * SECOND).unwrap();
    let got = client.get_records().shard_iterator(old).send().await;
    assert!(
        got.unwrap_err()
            .into_service_error()
            .is_expired_iterator_exception()
    );
    local.advance(23 * HOUR).unwrap();
    put(&client, "new").await;
    assert_eq!(keys(&client).await, ["old", "new"]);
    local.advance(HOUR).unwrap();
    assert_eq!(keys(&client).await, ["new"]);
}

#[tokio::test]
async fn a_quota_of_24_hours_begins_anew() {
    let (local, client) = world().await;
    let switch = async |mode| {
        let mode = StreamModeDetails::builder()
            .stream_mode(mode)
            .build()
            .unwrap();
        let update = client.update_stream_mode().stream_arn(ARN);
        let updated = update.stream_mode_details(mode).send().await;
        local.advance(60 * SECOND).unwrap();
        updated.map_err(|error| error.code().map(str::to_owned))
    };
    switch(StreamMode::OnDemand).await.unwrap();
    switch(StreamMode::Provisioned).await.unwrap();
    let refused = switch(StreamMode::OnDemand).await.unwrap_err();
    assert_eq!(refused.as_deref(), Some("LimitExceededException"));
    local.advance(24 * HOUR).unwrap();
    switch(StreamMode::OnDemand).await.unwrap();
}

#[tokio::test]
async fn a_subscription_beats_every_five_seconds_and_ends_after_five_minutes() {
    let (local, client) = world().await;
    let register = client.register_stream_consumer().stream_arn(ARN);
    let registered = register.consumer_name("c").send().await.unwrap();
    local.advance(60 * SECOND).unwrap();
    let start = StartingPosition::builder().r#type(ShardIteratorType::Latest);
    let subscribe = client.subscribe_to_shard().shard_id(SHARD);
    let subscribe = subscribe
        .consumer_arn(registered.consumer.unwrap().consumer_arn)
        .starting_position(start.build().unwrap());
    let mut subscription = subscribe.send().await.unwrap().event_stream;
    let mut beats = 0;
    loop {
        // The subscription is asleep before time passes, or not: it sees it either way.
        tokio::task::yield_now().await;
        local.advance(5 * SECOND).unwrap();
        match subscription.recv().await.unwrap() {
            Some(SubscribeToShardEventStream::SubscribeToShardEvent(event)) => {
                assert!(event.records().is_empty());
                beats += 1;
            }
            Some(other) => panic!("{other:?}"),
            None => break,
        }
    }
    assert!((55..=60).contains(&beats), "{beats}");
}

/// A request that the SDK has no operation for, as it would sign it; the answer.
async fn call(local: &KinesisLocal, operation: &str, body: Value) -> Value {
    let mut request = HttpRequest::new(body.to_string().into());
    request.set_method("POST").unwrap();
    let headers = [
        ("content-type", "application/x-amz-json-1.1".to_owned()),
        ("x-amz-target", format!("Kinesis_20131202.{operation}")),
        ("x-amz-date", "20261125T000000Z".to_owned()),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=local/20261125/us-east-1/kinesis/aws4_request, \
             SignedHeaders=host, Signature=00"
                .to_owned(),
        ),
    ];
    for (name, value) in headers {
        request.headers_mut().insert(name, value);
    }
    let answer = local.http_client().call(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = ByteStream::new(answer.into_body()).collect().await.unwrap();
    let body = body.into_bytes();
    assert_eq!(
        status,
        200,
        "{operation}: {}",
        String::from_utf8_lossy(&body)
    );
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn a_long_wait_at_a_queue_is_over_when_its_time_has_passed() {
    let (local, client) = world().await;
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand);
    let update = client.update_stream_mode().stream_arn(ARN);
    let update = update.stream_mode_details(mode.build().unwrap());
    update.send().await.unwrap();
    local.advance(60 * SECOND).unwrap();
    let start = json!({"Type": "TRIM_HORIZON"});
    let streams = json!([{"StreamARN": ARN, "StartingPosition": start}]);
    let create = json!({"QueueName": "q", "StreamConfigurationList": streams});
    let created = call(&local, "CreateQueue", create).await;
    local.advance(60 * SECOND).unwrap();
    let arn = created["QueueDescription"]["QueueARN"].clone();
    let waiting = tokio::spawn({
        let local = local.clone();
        let receive = json!({"QueueARN": arn, "WaitTimeSeconds": 20});
        async move { call(&local, "ReceiveQueueRecords", receive).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    local.advance(20 * SECOND).unwrap();
    assert_eq!(waiting.await.unwrap()["QueueRecords"], json!([]));
}

#[tokio::test]
async fn latency_on_purpose_is_over_when_its_time_has_passed() {
    let (local, client) = world().await;
    let late = FaultRule::new(FaultEffect::latency_ms(3_600_000)).operation("PutRecord");
    local.set_faults(FaultPlan::default().rule(late)).unwrap();
    let late = tokio::spawn({
        let client = client.clone();
        async move { put(&client, "late").await }
    });
    while keys(&client).await.is_empty() {}
    assert!(!late.is_finished());
    local.advance(HOUR).unwrap();
    late.await.unwrap();
}

#[tokio::test]
async fn a_busy_on_demand_stream_scales_when_a_minute_has_passed() {
    // Where a minute begins, so that all records are of one.
    let builder = KinesisLocal::builder()
        .clock(Clock::starting_at(29_923_320 * 60_000))
        .virtual_time(true)
        .limits(Limits::Off);
    let local = builder.start().await.unwrap();
    let client = Client::new(&local.sdk_config());
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand);
    let create = client.create_stream().stream_name("s");
    let create = create.stream_mode_details(mode.build().unwrap());
    create.send().await.unwrap();
    let open = async || {
        let summary = client.describe_stream_summary().stream_name("s");
        let summary = summary.send().await.unwrap().stream_description_summary;
        summary.unwrap().open_shard_count
    };
    // One shard gets more records than half of what it can take in a minute: 61 times 500.
    let entry = PutRecordsRequestEntry::builder()
        .partition_key("k")
        .explicit_hash_key("0")
        .data(Blob::new("x"))
        .build()
        .unwrap();
    for _ in 0..61 {
        let put = client.put_records().stream_name("s");
        let put = put.set_records(Some(vec![entry.clone(); 500]));
        assert_eq!(put.send().await.unwrap().failed_record_count, Some(0));
    }
    assert_eq!(open().await, 4, "the minute is not over");
    let (status, _) = time(&local, "POST", json!({"advance_ms": 60_000})).await;
    assert_eq!(status, 200);
    assert_eq!(open().await, 5);
    let listed = client.list_shards().stream_name("s").send().await.unwrap();
    let children = listed.shards().iter();
    let children = children.filter(|shard| shard.parent_shard_id() == Some(SHARD));
    assert_eq!(children.count(), 2);
    let days = json!({"advance_ms": 31 * 24 * 3_600_000_u64});
    assert_eq!(time(&local, "POST", days).await.0, 200);
    assert_eq!(
        open().await,
        5,
        "half of them are not enough: four are the least"
    );
}

/// The status and body of `/_local/time`.
async fn time(local: &KinesisLocal, method: &str, body: Value) -> (u16, Value) {
    let mut request = HttpRequest::new(body.to_string().into());
    request.set_method(method).unwrap();
    request.set_uri("/_local/time").unwrap();
    let answer = local.http_client().call(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = ByteStream::new(answer.into_body()).collect().await.unwrap();
    (status, serde_json::from_slice(&body.into_bytes()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_the_date_of_the_instances_clock_whichever_service_it_is_of() {
    let builder = KinesisLocal::builder().clock(Clock::starting_at(0));
    let local = builder.virtual_time(true).start().await.unwrap();
    local.advance(HOUR).unwrap();
    for (method, uri, target) in [
        ("POST", "/", "Kinesis_20131202.ListStreams"),
        ("POST", "/", "DynamoDB_20120810.ListTables"),
        ("GET", "/bucket", ""),
        ("GET", "/_local/health", ""),
    ] {
        let mut request = HttpRequest::new("{}".into());
        request.set_method(method).unwrap();
        request.set_uri(uri).unwrap();
        request.headers_mut().insert("x-amz-target", target);
        let answer = local.http_client().call(request).await.unwrap();
        let date = answer.headers().get("date");
        assert_eq!(
            date,
            Some("Thu, 01 Jan 1970 01:00:00 GMT"),
            "{uri} {target}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_tells_the_time_and_lets_it_pass() {
    let builder = KinesisLocal::builder().clock(Clock::starting_at(5_000));
    let local = builder.virtual_time(true).start().await.unwrap();
    let at = |epoch_ms: u64| json!({"epoch_ms": epoch_ms, "ahead_ms": epoch_ms - 5_000, "virtual": true});
    assert_eq!(time(&local, "GET", json!({})).await, (200, at(5_000)));
    let passed = time(&local, "POST", json!({"advance_ms": 1_500})).await;
    assert_eq!(passed, (200, at(6_500)));
    let passed = time(&local, "POST", json!({"to_epoch_ms": 9_000})).await;
    assert_eq!(passed, (200, at(9_000)));
    let cases = [
        (json!({"to_epoch_ms": 8_999}), "backward"),
        (json!({"advance_ms": u64::MAX}), "hundred years"),
        (json!({"advance_ms": -1}), "advance_ms"),
        (json!({"hours": 1}), "to_epoch_ms"),
        (json!({}), "to_epoch_ms"),
    ];
    for (body, named) in cases {
        let (status, refused) = time(&local, "POST", body.clone()).await;
        let text = refused["message"].as_str().unwrap();
        assert!(status == 400 && text.contains(named), "{body}: {text}");
    }
    assert_eq!(time(&local, "GET", json!({})).await, (200, at(9_000)));
    assert_eq!(time(&local, "PUT", json!({})).await.0, 405);
}

#[tokio::test(start_paused = true)]
async fn without_virtual_time_the_clock_stays_and_the_answer_says_what_to_do() {
    let builder = KinesisLocal::builder().clock(Clock::starting_at(5_000));
    let local = builder.start().await.unwrap();
    let (status, refused) = time(&local, "POST", json!({"advance_ms": 1})).await;
    assert_eq!(status, 400);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("--virtual-time"),
        "{refused}"
    );
    let (_, told) = time(&local, "GET", json!({})).await;
    assert_eq!(
        told,
        json!({"epoch_ms": 5_000, "ahead_ms": 0, "virtual": false})
    );
    let error = local.advance(SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.to_string().contains("virtual_time(true)"), "{error}");
}
