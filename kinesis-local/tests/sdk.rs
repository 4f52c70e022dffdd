//! Every operation that the official SDK has, over a socket: what it sends is understood, and it
//! understands what comes back.
//!
//! Which operations the SDK has is not written down here: the modules of the very source that this
//! test is compiled with are compared with the requests that went out. An SDK with more operations
//! fails the test until they are called.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(feature = "s3")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    ChannelStatus, ChannelStreamConfiguration, EncryptionType, MetricsName,
    MinimumThroughputBillingCommitmentInput, MinimumThroughputBillingCommitmentInputStatus,
    MinimumThroughputBillingCommitmentOutputStatus, PutRecordsRequestEntry, RecordConfiguration,
    RecordDistributionStrategy, RecordFormatType, S3CompressionType, S3DestinationConfiguration,
    S3DestinationUpdateInput, S3StorageConfiguration, ScalingType, ShardIteratorType,
    StartingPosition, StreamMode, StreamModeDetails, SubscribeToShardEventStream,
};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use kinesis_local::{KinesisLocal, Limits};
use serde_json::Value;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const S: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
const D: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/d";

/// The operations whose requests were sent.
#[derive(Clone, Debug, Default)]
struct Sent(Arc<Mutex<BTreeSet<String>>>);

impl Intercept for Sent {
    fn name(&self) -> &'static str {
        "Sent"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target").unwrap();
        let (_, operation) = target.split_once('.').unwrap();
        self.0.lock().unwrap().insert(operation.to_owned());
        Ok(())
    }
}

/// The operations of the SDK that Cargo.lock names, from its source: `src/operation` has a module
/// for each.
fn operations_of_the_sdk() -> BTreeSet<String> {
    // For this host alone: Cargo need not have fetched what only others build.
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let metadata = cargo(&[
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        "--filter-platform",
        host.unwrap(),
    ]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let sdk = packages.find(|package| package["name"] == "aws-sdk-kinesis");
    let manifest = PathBuf::from(sdk.unwrap()["manifest_path"].as_str().unwrap());
    let modules = manifest.with_file_name("src").join("operation");
    let files = std::fs::read_dir(modules).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let names = names.filter_map(|name| Some(name.strip_suffix(".rs")?.to_owned()));
    names.map(|name| camel(&name)).collect()
}

/// What Cargo, the one that built this test, prints.
fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

/// `put_record` → `PutRecord`
fn camel(name: &str) -> String {
    let words = name.split('_');
    words
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect()
}

#[tokio::test]
async fn every_operation_of_the_sdk_is_answered_over_a_socket() {
    let local = KinesisLocal::builder().listen(LOOPBACK).limits(Limits::Off);
    let local = local.start().await.unwrap();
    let sent = Sent::default();
    let config = local.sdk_config().into_builder();
    let config = config
        .http_client(HttpClientBuilder::new().build_http())
        .build();
    let recorded = aws_sdk_kinesis::config::Builder::from(&config).interceptor(sent.clone());
    let client = Client::from_conf(recorded.build());

    streams(&client).await;
    records(&client).await;
    consumers(&client).await;
    settings(&client).await;
    tags_and_policies(&client).await;
    shards(&client).await;
    warmth(&client).await;
    let lake = aws_sdk_s3::Client::new(&config)
        .create_bucket()
        .bucket("lake");
    lake.send().await.unwrap();
    channels(&client).await;
    client
        .delete_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    let left = client.list_streams().send().await.unwrap();
    assert_eq!(left.stream_names(), ["d"]);

    let sent = sent.0.lock().unwrap().clone();
    assert_eq!(sent, operations_of_the_sdk());
    local.shutdown().await;
}

fn mode(mode: StreamMode) -> StreamModeDetails {
    StreamModeDetails::builder()
        .stream_mode(mode)
        .build()
        .unwrap()
}

async fn streams(client: &Client) {
    let create = client.create_stream().stream_name("s").shard_count(1);
    create.send().await.unwrap();
    let create = client.create_stream().stream_name("d");
    let create = create.stream_mode_details(mode(StreamMode::OnDemand));
    create.send().await.unwrap();
    let described = client
        .describe_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    let described = described.stream_description.unwrap();
    assert_eq!((described.stream_arn(), described.shards().len()), (S, 1));
    let summary = client
        .describe_stream_summary()
        .stream_arn(D)
        .send()
        .await
        .unwrap();
    let summary = summary.stream_description_summary.unwrap();
    assert_eq!(summary.open_shard_count(), 4);
    let limits = client.describe_limits().send().await.unwrap();
    assert_eq!(limits.open_shard_count(), 5);
    assert_eq!(limits.on_demand_stream_count(), 1);
}

async fn records(client: &Client) {
    let put = client.put_record().stream_name("s").partition_key("k");
    put.data(Blob::new("a")).send().await.unwrap();
    let entry = PutRecordsRequestEntry::builder()
        .partition_key("k")
        .data(Blob::new("b"));
    let put = client
        .put_records()
        .stream_arn(S)
        .records(entry.build().unwrap());
    assert_eq!(put.send().await.unwrap().failed_record_count(), Some(0));
    let start = client
        .get_shard_iterator()
        .stream_name("s")
        .shard_id("shardId-000000000000");
    let start = start.shard_iterator_type(ShardIteratorType::TrimHorizon);
    let start = start.send().await.unwrap().shard_iterator;
    let got = client
        .get_records()
        .set_shard_iterator(start)
        .send()
        .await
        .unwrap();
    let data: Vec<&[u8]> = got
        .records()
        .iter()
        .map(|record| record.data().as_ref())
        .collect();
    assert_eq!(data, [b"a", b"b"]);
}

async fn consumers(client: &Client) {
    let register = client
        .register_stream_consumer()
        .stream_arn(S)
        .consumer_name("c");
    let consumer = register.send().await.unwrap().consumer.unwrap();
    let arn = consumer.consumer_arn();
    let described = client
        .describe_stream_consumer()
        .consumer_arn(arn)
        .send()
        .await
        .unwrap();
    assert_eq!(described.consumer_description.unwrap().stream_arn(), S);
    let listed = client
        .list_stream_consumers()
        .stream_arn(S)
        .send()
        .await
        .unwrap();
    assert_eq!(listed.consumers()[0].consumer_name(), "c");
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    let subscribe = client.subscribe_to_shard().consumer_arn(arn);
    let subscribe = subscribe.shard_id("shardId-000000000000");
    let subscribe = subscribe.starting_position(start.build().unwrap());
    let mut events = subscribe.send().await.unwrap().event_stream;
    let event = events.recv().await.unwrap().unwrap();
    let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event else {
        panic!("{event:?}");
    };
    assert_eq!(event.records().len(), 2);
    client
        .deregister_stream_consumer()
        .consumer_arn(arn)
        .send()
        .await
        .unwrap();
    let end = events.recv().await.unwrap_err().into_service_error();
    assert!(end.is_resource_not_found_exception(), "{end:?}");
}

async fn settings(client: &Client) {
    let raise = client.increase_stream_retention_period().stream_name("s");
    raise.retention_period_hours(48).send().await.unwrap();
    let lower = client.decrease_stream_retention_period().stream_name("s");
    lower.retention_period_hours(24).send().await.unwrap();
    let start = client
        .start_stream_encryption()
        .stream_name("s")
        .key_id("alias/a");
    start
        .encryption_type(EncryptionType::Kms)
        .send()
        .await
        .unwrap();
    let stop = client
        .stop_stream_encryption()
        .stream_name("s")
        .key_id("alias/a");
    stop.encryption_type(EncryptionType::Kms)
        .send()
        .await
        .unwrap();
    let enable = client.enable_enhanced_monitoring().stream_name("s");
    let enabled = enable
        .shard_level_metrics(MetricsName::IncomingBytes)
        .send()
        .await
        .unwrap();
    assert_eq!(
        enabled.desired_shard_level_metrics(),
        [MetricsName::IncomingBytes]
    );
    let disable = client.disable_enhanced_monitoring().stream_name("s");
    let disabled = disable
        .shard_level_metrics(MetricsName::All)
        .send()
        .await
        .unwrap();
    assert!(disabled.desired_shard_level_metrics().is_empty());
    let size = client.update_max_record_size().stream_arn(S);
    size.max_record_size_in_kib(2048).send().await.unwrap();
    let auto = client
        .update_stream_record_distribution_strategy()
        .stream_arn(D);
    let auto = auto.record_distribution_strategy(RecordDistributionStrategy::Auto);
    auto.send().await.unwrap();
}

async fn tags_and_policies(client: &Client) {
    let add = client.add_tags_to_stream().stream_name("s").tags("a", "1");
    add.send().await.unwrap();
    client
        .tag_resource()
        .resource_arn(S)
        .tags("b", "2")
        .send()
        .await
        .unwrap();
    let tags = client
        .list_tags_for_stream()
        .stream_name("s")
        .send()
        .await
        .unwrap();
    assert_eq!(tags.tags().len(), 2);
    let remove = client
        .remove_tags_from_stream()
        .stream_name("s")
        .tag_keys("a");
    remove.send().await.unwrap();
    let tags = client
        .list_tags_for_resource()
        .resource_arn(S)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (tags.tags()[0].key(), tags.tags()[0].value()),
        ("b", Some("2"))
    );
    client
        .untag_resource()
        .resource_arn(S)
        .tag_keys("b")
        .send()
        .await
        .unwrap();
    let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Principal": {"AWS": "111122223333"}, "Action": "kinesis:PutRecord", "Resource": S}]});
    let policy = policy.to_string();
    let put = client.put_resource_policy().resource_arn(S).policy(&policy);
    put.send().await.unwrap();
    let got = client
        .get_resource_policy()
        .resource_arn(S)
        .send()
        .await
        .unwrap();
    assert_eq!(got.policy(), policy);
    client
        .delete_resource_policy()
        .resource_arn(S)
        .send()
        .await
        .unwrap();
}

async fn shards(client: &Client) {
    let split = client
        .split_shard()
        .stream_name("s")
        .shard_to_split("shardId-000000000000");
    split.new_starting_hash_key("100").send().await.unwrap();
    let merge = client
        .merge_shards()
        .stream_name("s")
        .shard_to_merge("shardId-000000000001");
    merge
        .adjacent_shard_to_merge("shardId-000000000002")
        .send()
        .await
        .unwrap();
    let scale = client
        .update_shard_count()
        .stream_name("s")
        .target_shard_count(2);
    let scaled = scale
        .scaling_type(ScalingType::UniformScaling)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (scaled.current_shard_count, scaled.target_shard_count),
        (Some(1), Some(2))
    );
    let listed = client.list_shards().stream_name("s").send().await.unwrap();
    assert_eq!(listed.shards().len(), 6);
}

async fn warmth(client: &Client) {
    let status = MinimumThroughputBillingCommitmentInputStatus::Enabled;
    let commitment = MinimumThroughputBillingCommitmentInput::builder().status(status);
    let update = client.update_account_settings();
    let update = update.minimum_throughput_billing_commitment(commitment.build().unwrap());
    update.send().await.unwrap();
    let settings = client.describe_account_settings().send().await.unwrap();
    let commitment = settings.minimum_throughput_billing_commitment.unwrap();
    let enabled = MinimumThroughputBillingCommitmentOutputStatus::Enabled;
    assert_eq!(commitment.status(), &enabled);
    let warm = client.update_stream_warm_throughput().stream_arn(D);
    let warm = warm.warm_throughput_mibps(8).send().await.unwrap();
    assert_eq!(warm.warm_throughput.unwrap().target_mibps(), Some(8));
    let switch = client.update_stream_mode().stream_arn(S);
    let switch = switch.stream_mode_details(mode(StreamMode::OnDemand));
    switch.send().await.unwrap();
}

async fn channels(client: &Client) {
    let format = RecordConfiguration::builder().record_format_type(RecordFormatType::Json);
    let stream = ChannelStreamConfiguration::builder().stream_arn(D);
    let stream = stream.record_configuration(format.build().unwrap());
    let storage = S3StorageConfiguration::builder()
        .bucket_arn("arn:aws:s3:::lake")
        .expected_bucket_owner("000000000000")
        .compression_type(S3CompressionType::None);
    let bucket = S3DestinationConfiguration::builder();
    let bucket = bucket.storage_configuration(storage.build().unwrap());
    let create = client.create_channel().channel_name("ch");
    let create = create.service_execution_role_arn("arn:aws:iam::000000000000:role/r");
    let create = create.stream_configuration_list(stream.build().unwrap());
    let create = create.s3_destination_configuration(bucket.build());
    let created = create.send().await.unwrap().channel_description.unwrap();
    assert_eq!(created.channel_status(), &ChannelStatus::Active);
    let arn = created.channel_arn();
    let fresher = S3DestinationUpdateInput::builder().data_freshness_in_seconds(600);
    let update = client.update_channel().channel_arn(arn);
    update
        .s3_destination_configuration(fresher.build().unwrap())
        .send()
        .await
        .unwrap();
    let described = client
        .describe_channel()
        .channel_arn(arn)
        .send()
        .await
        .unwrap();
    let bucket = described
        .channel_description
        .unwrap()
        .s3_destination_configuration
        .unwrap();
    assert_eq!(bucket.data_freshness_in_seconds(), 600);
    let listed = client.list_channels().send().await.unwrap();
    assert_eq!(listed.channel_summaries()[0].channel_name(), "ch");
    client
        .delete_channel()
        .channel_arn(arn)
        .send()
        .await
        .unwrap();
}
