//! Faults on purpose, as clients meet them.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "dynamodb", feature = "s3"))]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_kinesis::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    PutRecordsRequestEntry, RecordDistributionStrategy, ShardIteratorType, StartingPosition,
    StreamMode, StreamModeDetails, SubscribeToShardEventStream,
};
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::retry::RetryConfig;
use kinesis_core::Clock;
use kinesis_local::testing::{Stored, TestStream};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule, FaultService, KinesisLocal};
use serde_json::{Value, json};

const STREAM: &str = "stream";
const SHARDS: [&str; 2] = ["shardId-000000000000", "shardId-000000000001"];
/// Explicit hash keys that go to those shards.
const KEYS: [&str; 2] = ["0", "340282366920938463463374607431768211455"];

/// A stream of two shards, and a client of it that does not try again.
async fn world(plan: FaultPlan) -> (TestStream, Client) {
    let stream = TestStream::start(2).await;
    stream.local().set_faults(plan).unwrap();
    let client = client(stream.local());
    (stream, client)
}

fn client(local: &KinesisLocal) -> Client {
    let config = local.sdk_config().into_builder();
    Client::new(&config.retry_config(RetryConfig::disabled()).build())
}

fn plan(effect: FaultEffect, operation: &str) -> FaultPlan {
    FaultPlan::seeded(1).rule(FaultRule::new(effect).operation(operation))
}

async fn put(client: &Client, shard: usize) -> Result<String, String> {
    let put = client.put_record().stream_name(STREAM).partition_key("k");
    let put = put.explicit_hash_key(KEYS[shard]).data(Blob::new("x"));
    match put.send().await {
        Ok(put) => Ok(put.sequence_number),
        Err(SdkError::DispatchFailure(_)) => Err("broken".to_owned()),
        Err(error) => Err(error.code().unwrap_or("?").to_owned()),
    }
}

async fn iterator(client: &Client, shard: usize) -> String {
    let iterator = client.get_shard_iterator().stream_name(STREAM);
    let iterator = iterator
        .shard_id(SHARDS[shard])
        .shard_iterator_type(ShardIteratorType::TrimHorizon);
    iterator.send().await.unwrap().shard_iterator.unwrap()
}

/// Partition keys of the records in a shard.
async fn stored(stream: &TestStream, shard: usize) -> Vec<String> {
    let records = stream.read_shard(SHARDS[shard]).await;
    let key = |record: Stored| record.partition_key;
    records.into_iter().map(key).collect()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_lost_has_no_effect_and_an_answer_that_is_lost_has_had_it() {
    let (stream, client) = world(plan(FaultEffect::DropRequest, "PutRecord")).await;
    assert_eq!(put(&client, 0).await.unwrap_err(), "broken");
    assert_eq!(stored(&stream, 0).await.len(), 0);
    stream
        .local()
        .set_faults(plan(FaultEffect::DropResponse, "PutRecord"))
        .unwrap();
    assert_eq!(put(&client, 0).await.unwrap_err(), "broken");
    assert_eq!(stored(&stream, 0).await.len(), 1);
    stream.local().set_faults(FaultPlan::default()).unwrap();
    put(&client, 0).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_error_has_its_code_status_and_text_and_no_effect() {
    let rule = |code: &str| {
        FaultRule::new(FaultEffect::error(code))
            .operation("PutRecord")
            .times(1)
    };
    let codes = [
        (
            "ProvisionedThroughputExceededException",
            400,
            "Rate exceeded for shard ",
        ),
        ("KMSThrottlingException", 400, "Rate exceeded"),
        ("InternalFailure", 500, "Internal service failure."),
        (
            "ServiceUnavailable",
            503,
            "The request has failed due to a temporary failure",
        ),
        ("MadeUp", 400, "A fault on purpose: rule 4."),
    ];
    let mut errors = FaultPlan::default();
    for (number, (code, _, _)) in codes.iter().enumerate() {
        // Each takes one call; a call is told the first error only.
        errors = errors.rule(rule(code).skip(number as u64));
    }
    let (stream, client) = world(errors).await;
    for (at, (code, status, text)) in codes.into_iter().enumerate() {
        let put = client.put_record().stream_name(STREAM).partition_key("k");
        let error = put.data(Blob::new("x")).send().await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        assert!(error.message().unwrap().starts_with(text), "{error:?}");
        let headers = error.raw_response().unwrap().headers();
        assert!(headers.get("x-amzn-requestid").is_some());
        let rule = format!("rule {at}");
        assert_eq!(headers.get("x-kinesis-local-fault"), Some(&*rule));
    }
    put(&client, 0).await.unwrap();
    assert_eq!(stored(&stream, 0).await.len(), 1);
    assert!(
        stream
            .local()
            .fault_counts()
            .iter()
            .all(|count| count.fired == 1)
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_entries_that_fail_are_not_stored_and_the_same_seed_fails_the_same() {
    let run = async |shard: Option<&str>| {
        let failing = FaultEffect::fail_entries(0.5, "InternalFailure");
        let mut rule = FaultRule::new(failing);
        rule.shard = shard.map(str::to_owned);
        let (stream, client) = world(FaultPlan::seeded(5).rule(rule)).await;
        let entry = |number: usize| {
            let entry = PutRecordsRequestEntry::builder().partition_key(number.to_string());
            let entry = entry.explicit_hash_key(KEYS[number % 2]);
            entry.data(Blob::new("x")).build().unwrap()
        };
        let entries = (0..100).map(entry).collect();
        let put = client.put_records().stream_name(STREAM);
        let answer = put.set_records(Some(entries)).send().await.unwrap();
        let mut kept = [Vec::new(), Vec::new()];
        for (number, entry) in answer.records().iter().enumerate() {
            match entry.error_code() {
                None => kept[number % 2].push(number.to_string()),
                Some(code) => {
                    assert_eq!((code, entry.sequence_number()), ("InternalFailure", None))
                }
            }
        }
        assert_eq!(stored(&stream, 0).await, kept[0]);
        assert_eq!(stored(&stream, 1).await, kept[1]);
        let failed = 100 - kept[0].len() - kept[1].len();
        assert_eq!(answer.failed_record_count(), Some(failed as i32));
        assert_eq!(stream.local().fault_counts()[0].entries, failed as u64);
        kept
    };
    let all = run(None).await;
    assert_eq!(all, run(None).await);
    assert!(
        all.iter().all(|kept| (10..40).contains(&kept.len())),
        "{all:?}"
    );
    let second = run(Some(SHARDS[1])).await;
    assert!(second[0].len() == 50 && second[1].len() < 40, "{second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_a_shard_takes_what_goes_to_it_and_nothing_else() {
    let throttled = FaultEffect::error("ProvisionedThroughputExceededException");
    let rule = FaultRule::new(throttled).stream(STREAM).shard(SHARDS[1]);
    let (stream, client) = world(FaultPlan::default().rule(rule)).await;
    put(&client, 0).await.unwrap();
    put(&client, 1).await.unwrap_err();
    stored(&stream, 0).await;
    stream.local().set_faults(FaultPlan::default()).unwrap();
    let second = iterator(&client, 1).await;
    let reads = FaultRule::new(FaultEffect::error("InternalFailure")).shard(SHARDS[1]);
    stream
        .local()
        .set_faults(FaultPlan::default().rule(reads))
        .unwrap();
    client
        .get_records()
        .shard_iterator(second)
        .send()
        .await
        .unwrap_err();
    stored(&stream, 0).await;
    client.list_streams().send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_a_shard_leaves_a_record_alone_whose_key_does_not_choose_it() {
    let throttled = FaultEffect::error("ProvisionedThroughputExceededException");
    let rules = SHARDS.map(|shard| {
        FaultRule::new(throttled.clone())
            .stream("auto")
            .shard(shard)
    });
    let plan = rules
        .into_iter()
        .fold(FaultPlan::default(), FaultPlan::rule);
    let (stream, client) = world(plan).await;
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand);
    let create = client.create_stream().stream_name("auto");
    let create = create.stream_mode_details(mode.build().unwrap());
    create.send().await.unwrap();
    let auto = TestStream::named(stream.local(), "auto");
    auto.until_active().await;
    let spread = client
        .update_stream_record_distribution_strategy()
        .stream_arn(auto.arn().await)
        .record_distribution_strategy(RecordDistributionStrategy::Auto);
    spread.send().await.unwrap();
    auto.until_active().await;
    for key in 0..20 {
        let put = client.put_record().stream_name("auto").data(Blob::new("x"));
        put.partition_key(key.to_string()).send().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_for_a_shard_takes_what_another_account_sends_to_it() {
    const OTHER: &str = "111122223333";
    let throttled = FaultEffect::error("ProvisionedThroughputExceededException");
    let rule = FaultRule::new(throttled).stream(STREAM).shard(SHARDS[1]);
    let (stream, client) = world(FaultPlan::default().rule(rule)).await;
    let arn = stream.arn().await;
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": OTHER}, "Action": "kinesis:PutRecord", "Resource": arn}]});
    let policy = client.put_resource_policy().policy(policy.to_string());
    policy.resource_arn(&arn).send().await.unwrap();
    let config = stream.local().sdk_config().into_builder();
    let config = config
        .retry_config(RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            OTHER, "secret", None, None, "test",
        )));
    let other = Client::new(&config.build());
    // Of the same name, and all keys are its first shard's.
    let own = other.create_stream().stream_name(STREAM).shard_count(1);
    own.send().await.unwrap();
    let put = async |shard: usize| {
        let put = other.put_record().stream_arn(&arn).partition_key("k");
        let put = put.explicit_hash_key(KEYS[shard]).data(Blob::new("x"));
        let put = put.send().await;
        put.map_err(|error| error.code().unwrap_or("?").to_owned())
    };
    put(0).await.unwrap();
    let code = put(1).await.unwrap_err();
    assert_eq!(code, "ProvisionedThroughputExceededException");
}

#[tokio::test(start_paused = true)]
async fn an_iterator_expires_on_purpose_in_the_services_words() {
    let (_stream, client) = world(plan(FaultEffect::ExpiredIterator, "GetRecords")).await;
    let iterator = iterator(&client, 0).await;
    let error = client
        .get_records()
        .shard_iterator(iterator)
        .send()
        .await
        .unwrap_err();
    let error = error.into_service_error();
    assert!(error.is_expired_iterator_exception());
    let text = error.message().unwrap();
    assert!(
        text.starts_with("Iterator expired. The iterator was created at time "),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn latency_passes_on_the_clock_before_or_after_the_effect() {
    let clock = Clock::system();
    let late = FaultRule::new(FaultEffect::latency_between_ms(200, 300)).operation("PutRecord");
    let (stream, client) = world(FaultPlan::seeded(3).rule(late)).await;
    for _ in 0..5 {
        let before = clock.now();
        put(&client, 0).await.unwrap();
        let took = (clock.now() - before).as_millis();
        assert!((200..=301).contains(&took), "{took}");
    }
    let early = FaultRule::new(FaultEffect::latency_before_ms(500)).operation("PutRecord");
    stream
        .local()
        .set_faults(FaultPlan::default().rule(early))
        .unwrap();
    let later = tokio::spawn({
        let client = client.clone();
        async move { put(&client, 0).await }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(stored(&stream, 0).await.len(), 5);
    later.await.unwrap().unwrap();
    assert_eq!(stored(&stream, 0).await.len(), 6);
}

/// The events that come until the stream breaks, and whether it breaks.
async fn events(stream: &TestStream, client: &Client) -> (usize, bool) {
    // A name of its own: a consumer's subscription is not replaced within five seconds.
    let listed = client
        .list_stream_consumers()
        .stream_arn(stream.arn().await)
        .send();
    let listed = listed.await.unwrap().consumers.unwrap_or_default();
    let consumer = stream
        .register_consumer(&format!("c{}", listed.len()))
        .await;
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    let subscribe = client.subscribe_to_shard().consumer_arn(consumer);
    let subscribe = subscribe
        .shard_id(SHARDS[0])
        .starting_position(start.build().unwrap());
    let Ok(mut stream) = subscribe.send().await else {
        return (0, true);
    };
    let mut events = 0;
    loop {
        match stream.event_stream.recv().await {
            Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(_))) => events += 1,
            Ok(Some(other)) => panic!("{other:?}"),
            Ok(None) => return (events, false),
            Err(_) => return (events, true),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_breaks_between_events_or_in_the_middle_of_one() {
    let (stream, client) = world(FaultPlan::default()).await;
    put(&client, 0).await.unwrap();
    for (cut, whole) in [
        (FaultEffect::cut_after_events(2, 0), 2),
        (FaultEffect::cut_after_events(3, 10), 3),
        (FaultEffect::cut_after_bytes(40), 0),
    ] {
        stream
            .local()
            .set_faults(plan(cut, "SubscribeToShard"))
            .unwrap();
        assert_eq!(events(&stream, &client).await, (whole, true));
    }
    stream
        .local()
        .set_faults(plan(
            FaultEffect::silent_after_events(1),
            "SubscribeToShard",
        ))
        .unwrap();
    let patience = Duration::from_secs(3600);
    assert!(
        tokio::time::timeout(patience, events(&stream, &client))
            .await
            .is_err()
    );
    stream.local().set_faults(FaultPlan::default()).unwrap();
    assert!(
        !events(&stream, &client).await.1,
        "a whole stream ends in order"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_of_dynamodb_and_s3_meet_faults_too() {
    let rule = |effect, service| FaultRule::new(effect).service(service);
    let throttled = FaultEffect::error("ThrottlingException");
    let plan = FaultPlan::default()
        .rule(
            rule(throttled, FaultService::DynamoDb)
                .operation("Scan")
                .stream("leases"),
        )
        .rule(
            rule(FaultEffect::error("SlowDown"), FaultService::S3)
                .operation("PUT")
                .stream("bad"),
        );
    let (stream, kinesis) = world(plan).await;
    let config = stream.local().sdk_config().into_builder();
    let config = config.retry_config(RetryConfig::disabled()).build();
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    let error = dynamodb
        .scan()
        .table_name("leases")
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("ThrottlingException"));
    let error = dynamodb
        .scan()
        .table_name("other")
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("ResourceNotFoundException"));
    let s3 = aws_sdk_s3::Client::new(&config);
    let error = s3.create_bucket().bucket("bad").send().await.unwrap_err();
    assert_eq!(error.code(), Some("SlowDown"));
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 503);
    s3.create_bucket().bucket("good").send().await.unwrap();
    kinesis.list_streams().send().await.unwrap();
    let fired: Vec<_> = stream
        .local()
        .fault_counts()
        .iter()
        .map(|count| count.fired)
        .collect();
    assert_eq!(fired, [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_can_mean_one_client_of_several() {
    let rule = FaultRule::new(FaultEffect::DropRequest).user_agent("app/unlucky");
    let (stream, client) = world(FaultPlan::default().rule(rule)).await;
    let name = aws_types::app_name::AppName::new("unlucky").unwrap();
    let config = stream.local().sdk_config().into_builder().app_name(name);
    let unlucky = Client::new(&config.retry_config(RetryConfig::disabled()).build());
    assert_eq!(put(&unlucky, 0).await.unwrap_err(), "broken");
    put(&client, 0).await.unwrap();
}

#[tokio::test]
async fn over_a_socket_it_is_the_connection_that_breaks() {
    let local = KinesisLocal::builder()
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .start()
        .await
        .unwrap();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = local.sdk_config().into_builder().http_client(http);
    let client = Client::new(&config.retry_config(RetryConfig::disabled()).build());
    let stream = TestStream::create(&local, STREAM, 2).await;
    let once = FaultRule::new(FaultEffect::DropResponse).times(1);
    local.set_faults(FaultPlan::default().rule(once)).unwrap();
    assert_eq!(put(&client, 0).await.unwrap_err(), "broken");
    put(&client, 0).await.unwrap();
    assert_eq!(stored(&stream, 0).await.len(), 2);
    let cut = FaultEffect::cut_after_events(0, 10);
    stream
        .local()
        .set_faults(plan(cut, "SubscribeToShard"))
        .unwrap();
    assert_eq!(events(&stream, &client).await, (0, true));
    stream
        .local()
        .set_faults(FaultPlan::default().rule(FaultRule::new(FaultEffect::DropResponse)))
        .unwrap();
    let stream = tokio::net::TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    let (mut http2, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(local.endpoint_url())
        .body(String::from("{}"))
        .unwrap();
    assert!(http2.send_request(request).await.is_err());
    drop(http2);
    connection.await.unwrap().unwrap();
    local.shutdown().await;
}

/// The status and body of a page.
async fn page(local: &KinesisLocal, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut request = HttpRequest::new(body.to_owned().into());
    request.set_method(method).unwrap();
    request.set_uri(path).unwrap();
    let answer = local.http_client().call(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = ByteStream::new(answer.into_body()).collect().await.unwrap();
    let json = serde_json::from_slice(&body.into_bytes());
    (status, json.unwrap_or(Value::Null))
}

#[tokio::test(start_paused = true)]
async fn the_page_shows_replaces_and_removes_the_plan() {
    let (stream, client) = world(FaultPlan::default()).await;
    let given = json!({"seed": 3, "rules": [
        {"name": "lost", "operations": ["PutRecord"], "times": 1, "effect": "drop_request"},
    ]});
    let (status, shown) = page(stream.local(), "PUT", "/_local/faults", &given.to_string()).await;
    assert_eq!((status, &shown["plan"]), (200, &given));
    put(&client, 0).await.unwrap_err();
    put(&client, 0).await.unwrap();
    let (_, shown) = page(stream.local(), "GET", "/_local/faults", "").await;
    let counted = json!([{"name": "lost", "matched": 2, "fired": 1, "entries": 0}]);
    assert_eq!(shown["counts"], counted);
    let wrong = json!({"rules": [{"effect": "drop_request", "rate": 7}]}).to_string();
    let (status, refused) = page(stream.local(), "PUT", "/_local/faults", &wrong).await;
    assert_eq!(status, 400);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("rules[0].rate"),
        "{refused}"
    );
    let (_, shown) = page(stream.local(), "GET", "/_local/faults", "").await;
    assert_eq!(
        shown["counts"], counted,
        "a plan that is refused changes nothing"
    );
    let (status, shown) = page(stream.local(), "DELETE", "/_local/faults", "").await;
    assert_eq!((status, &shown["plan"]["rules"]), (200, &json!([])));
    assert_eq!(
        page(stream.local(), "POST", "/_local/faults", "").await.0,
        405
    );
}
