//! Channels through the SDK: from a stream to a bucket of the same instance, over a restart.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(feature = "s3")]

use std::path::Path;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{
    ChannelStatus, ChannelStreamConfiguration, RecordConfiguration, RecordFormatType,
    S3CompressionType, S3DestinationConfiguration, S3StorageConfiguration, StreamMode,
    StreamModeDetails,
};
use kinesis_core::Clock;
use kinesis_local::KinesisLocal;

/// 2026-11-23 02:00 UTC.
const NOW_MS: u64 = 1_795_399_200_000;
const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

struct World {
    local: KinesisLocal,
    kinesis: aws_sdk_kinesis::Client,
    s3: aws_sdk_s3::Client,
}

async fn start(dir: &Path, clock: &Clock) -> World {
    let local = KinesisLocal::builder().data_dir(dir).clock(clock.clone());
    let local = local.start().await.unwrap();
    World {
        kinesis: aws_sdk_kinesis::Client::new(&local.sdk_config()),
        s3: aws_sdk_s3::Client::new(&local.sdk_config()),
        local,
    }
}

impl World {
    async fn create_channel(&self) -> String {
        let storage = S3StorageConfiguration::builder()
            .bucket_arn("arn:aws:s3:::lake")
            .expected_bucket_owner("000000000000")
            .output_key_template("o/!{channel-name}!{extension}")
            .compression_type(S3CompressionType::None);
        let record = RecordConfiguration::builder().record_format_type(RecordFormatType::String);
        let stream = ChannelStreamConfiguration::builder()
            .stream_arn(ARN)
            .record_configuration(record.build().unwrap());
        let destination =
            S3DestinationConfiguration::builder().storage_configuration(storage.build().unwrap());
        let created = self
            .kinesis
            .create_channel()
            .channel_name("c")
            .service_execution_role_arn("arn:aws:iam::000000000000:role/r")
            .stream_configuration_list(stream.build().unwrap())
            .s3_destination_configuration(destination.build())
            .send()
            .await
            .unwrap();
        let channel = created.channel_description.unwrap();
        assert_eq!(channel.channel_status, ChannelStatus::Active);
        channel.channel_arn
    }

    async fn put(&self, data: &str) {
        let put = self
            .kinesis
            .put_record()
            .stream_name("s")
            .partition_key("k");
        put.data(Blob::new(data)).send().await.unwrap();
    }

    /// All objects in the bucket, one after the other.
    async fn delivered(&self) -> String {
        let listed = self.s3.list_objects_v2().bucket("lake").prefix("o/");
        let mut all = String::new();
        for object in listed.send().await.unwrap().contents() {
            let get = self
                .s3
                .get_object()
                .bucket("lake")
                .key(object.key().unwrap());
            let body = get.send().await.unwrap().body.collect().await.unwrap();
            all.push_str(std::str::from_utf8(&body.into_bytes()).unwrap());
        }
        all
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_delivered_before_an_orderly_end_is_delivered_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::starting_at(NOW_MS);
    let world = start(dir.path(), &clock).await;
    world
        .s3
        .create_bucket()
        .bucket("lake")
        .send()
        .await
        .unwrap();
    let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand);
    let create = world.kinesis.create_stream().stream_name("s");
    let create = create.stream_mode_details(mode.build().unwrap());
    create.send().await.unwrap();
    let arn = world.create_channel().await;
    world.put("a").await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(world.delivered().await, "a\n");
    world.put("b").await;
    world.local.shutdown().await;
    let world = start(dir.path(), &clock).await;
    assert_eq!(world.delivered().await, "a\n");
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(world.delivered().await, "a\nb\n");
    let delete = world.kinesis.delete_channel().channel_arn(arn);
    delete.send().await.unwrap();
    let listed = world.kinesis.list_channels().send().await.unwrap();
    assert!(listed.channel_summaries.is_empty());
    world.local.shutdown().await;
}
