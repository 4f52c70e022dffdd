//! The way in without a socket: virtual time, callers that go away, instances side by side.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "dynamodb", feature = "s3"))]

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::http::HttpConnector as _;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use futures::FutureExt as _;
use kinesis_core::Clock;
use kinesis_local::KinesisLocal;

struct Clients {
    kinesis: aws_sdk_kinesis::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    s3: aws_sdk_s3::Client,
}

/// Clients with a stream, a table and a bucket, all named `name`.
async fn clients(config: &SdkConfig, name: &str) -> Clients {
    let clients = Clients {
        kinesis: aws_sdk_kinesis::Client::new(config),
        dynamodb: aws_sdk_dynamodb::Client::new(config),
        s3: aws_sdk_s3::Client::new(config),
    };
    let (kinesis, s3) = (&clients.kinesis, &clients.s3);
    kinesis
        .create_stream()
        .stream_name(name)
        .shard_count(1)
        .send()
        .await
        .unwrap();
    s3.create_bucket().bucket(name).send().await.unwrap();
    let key = KeySchemaElement::builder()
        .attribute_name("k")
        .key_type(KeyType::Hash);
    let attribute = AttributeDefinition::builder()
        .attribute_name("k")
        .attribute_type(ScalarAttributeType::S);
    clients
        .dynamodb
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.build().unwrap())
        .send()
        .await
        .unwrap();
    clients
}

#[tokio::test(start_paused = true)]
async fn virtual_time_stands_still_while_a_call_is_carried_out() {
    let local = KinesisLocal::builder().start().await.unwrap();
    // Shorter than any call takes in real time: it passes only if the clock jumps.
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_micros(1));
    let config = local
        .sdk_config()
        .into_builder()
        .timeout_config(timeouts.build())
        .build();
    let before = Clock::system().now();
    let clients = clients(&config, "name").await;
    let calls: Vec<_> = (0..32)
        .map(|n: u32| {
            let put = clients.dynamodb.put_item().table_name("name");
            let put = put.item("k", AttributeValue::S(n.to_string())).send();
            let object = clients.s3.put_object().bucket("name").key(n.to_string());
            let object = object.body(ByteStream::from(vec![0; 1000])).send();
            let record = clients
                .kinesis
                .put_record()
                .stream_name("name")
                .partition_key("p");
            let record = record.data(Blob::new("x")).send();
            tokio::spawn(async move {
                put.await.unwrap();
                object.await.unwrap();
                record.await.unwrap();
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(Clock::system().now(), before);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_carried_out_although_its_caller_went_away() {
    let local = KinesisLocal::builder().start().await.unwrap();
    let clients = clients(&local.sdk_config(), "name").await;
    let mut request = HttpRequest::new(r#"{"TableName":"name","Item":{"k":{"S":"1"}}}"#.into());
    request.set_method("POST").unwrap();
    request
        .headers_mut()
        .insert("x-amz-target", "DynamoDB_20120810.PutItem");
    let mut call = local.http_client().call(request);
    assert!(
        (&mut call).now_or_never().is_none(),
        "a call takes more than one poll"
    );
    drop(call);
    loop {
        let scan = clients
            .dynamodb
            .scan()
            .table_name("name")
            .send()
            .await
            .unwrap();
        if scan.count() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn instances_in_one_process_share_nothing() {
    let first = KinesisLocal::builder()
        .region("eu-west-1")
        .start()
        .await
        .unwrap();
    let second = KinesisLocal::builder()
        .account("123456789012")
        .start()
        .await
        .unwrap();
    clients(&first.sdk_config(), "name").await;
    // Would be refused if anything of the first were here.
    let clients = clients(&second.sdk_config(), "name").await;
    assert_ne!(first.s3_dir(), second.s3_dir());
    let described = clients
        .kinesis
        .describe_stream_summary()
        .stream_name("name")
        .send();
    let summary = described.await.unwrap().stream_description_summary.unwrap();
    assert_eq!(
        summary.stream_arn(),
        "arn:aws:kinesis:us-east-1:123456789012:stream/name"
    );
    first.shutdown().await;
    clients.kinesis.list_streams().send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_shutdown_calls_fail_as_they_do_without_a_server() {
    let local = KinesisLocal::builder().start().await.unwrap();
    let kinesis = aws_sdk_kinesis::Client::new(&local.sdk_config());
    local.shutdown().await;
    let error = kinesis.list_streams().send().await.unwrap_err();
    let aws_sdk_kinesis::error::SdkError::DispatchFailure(failure) = error else {
        panic!("{error:?}")
    };
    assert!(failure.is_io());
}

#[tokio::test]
async fn a_client_outlives_the_handle_that_made_it() {
    let config = KinesisLocal::builder().start().await.unwrap().sdk_config();
    clients(&config, "name").await;
    assert_eq!(config.endpoint_url(), Some("http://127.0.0.1:0"));
}
