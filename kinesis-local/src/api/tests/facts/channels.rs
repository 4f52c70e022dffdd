//! Channels on the wire, and what they put into buckets.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::limits::Quotas;
use crate::s3::S3;

/// A service with an S3 of its own, which has the bucket `lake`.
struct Local {
    kinesis: Kinesis,
    s3: S3,
}

impl Local {
    fn open(options: KinesisOptions) -> Self {
        let s3 = S3::open(None).unwrap();
        let kinesis = Self::beside(&s3, options);
        let local = Self { kinesis, s3 };
        local.make_bucket("lake");
        local
    }

    fn beside(s3: &S3, options: KinesisOptions) -> Kinesis {
        let buckets = Buckets::of(s3.clone());
        Kinesis::open(KinesisOptions { buckets, ..options }).unwrap()
    }

    fn make_bucket(&self, name: &str) {
        std::fs::create_dir(self.s3.directory().join(name)).unwrap();
    }

    /// The objects of a bucket, by key.
    fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.s3.directory().join(bucket);
        let mut objects = BTreeMap::new();
        walk(&root, &root, &mut objects);
        objects
    }

    /// All lines of all objects of `lake`, in the order of the keys.
    fn lines(&self) -> Vec<String> {
        let objects = self.objects("lake").into_values();
        let texts = objects.map(|bytes| String::from_utf8(bytes).unwrap());
        texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }
}

fn walk(root: &Path, folder: &Path, objects: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, objects);
        } else {
            let key = path.strip_prefix(root).unwrap().to_str().unwrap();
            objects.insert(key.to_owned(), std::fs::read(&path).unwrap());
        }
    }
}

fn creation(format: &str, storage: Value) -> Value {
    let mut s3 = json!({"BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000",
        "CompressionType": "NONE"});
    s3.as_object_mut()
        .unwrap()
        .extend(storage.as_object().unwrap().clone());
    json!({"ChannelName": "c", "ServiceExecutionRoleARN": "arn:aws:iam::000000000000:role/r",
        "StreamConfigurationList": [{"StreamARN": STREAM_ARN,
            "RecordConfiguration": {"RecordFormatType": format}}],
        "S3DestinationConfiguration": {"StorageConfiguration": s3}})
}

/// An on-demand stream of one shard.
async fn stream(kinesis: &Kinesis) {
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(kinesis, "CreateStream", create).await;
    let mode = json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(kinesis, "UpdateStreamMode", mode).await;
}

/// The stream with a channel; the channel's ARN.
async fn channel(kinesis: &Kinesis, format: &str, storage: Value) -> String {
    stream(kinesis).await;
    let created = ok(kinesis, "CreateChannel", creation(format, storage)).await;
    let arn = created["ChannelDescription"]["ChannelARN"].as_str();
    arn.unwrap().to_owned()
}

async fn describe(kinesis: &Kinesis, arn: &str) -> Value {
    let described = ok(kinesis, "DescribeChannel", json!({"ChannelARN": arn})).await;
    described["ChannelDescription"].clone()
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_created_described_updated_listed_and_deleted() {
    let local = Local::open(options());
    let kinesis = &local.kinesis;
    let arn = channel(kinesis, "JSON", json!({})).await;
    let (_, id) = arn.split_once(":channel/").unwrap();
    let stream = json!({"StreamARN": STREAM_ARN, "StreamCreationTimestamp": 1_795_399_200.0});
    let mut record = stream.clone();
    record["RecordConfiguration"] = json!({"RecordFormatType": "JSON"});
    let lake = json!({"BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000"});
    let mut storage = lake.clone();
    storage["CompressionType"] = json!("NONE");
    storage["StorageClass"] = json!("STANDARD");
    storage["OutputKeyTemplate"] = json!(
        "kinesis-channel/!{channel-name}/!{channel-id}/!{yyyy}/!{MM}/!{dd}/!{HH}/\
         !{channel-name}-!{channel-id}-!{yyyy}-!{MM}-!{dd}-!{HH}-!{mm}!{extension}"
    );
    let mut errors = lake;
    errors["ErrorOutputPrefix"] = json!(format!("kinesis-channel/errors/c/{id}/"));
    let expected = json!({
        "ChannelName": "c", "ChannelARN": arn, "ChannelId": id, "ChannelStatus": "ACTIVE",
        "ChannelCreationTimestamp": 1_795_399_200.0,
        "ServiceExecutionRoleARN": "arn:aws:iam::000000000000:role/r",
        "StreamConfigurationList": [record],
        "S3DestinationConfiguration": {"DataFreshnessInSeconds": 300,
            "DeadLetterQueueS3Configuration": errors, "StorageConfiguration": storage},
        "LoggingConfiguration": {"CloudWatchLogs": {"Enabled": false}},
    });
    assert_eq!(describe(kinesis, &arn).await, expected);
    let update = json!({"ChannelARN": arn,
        "S3DestinationConfiguration": {"DataFreshnessInSeconds": 600},
        "LoggingConfiguration": {"CloudWatchLogs": {"Enabled": true}}});
    let updated = ok(kinesis, "UpdateChannel", update).await;
    let updated = &updated["ChannelDescription"];
    assert_eq!(
        updated["S3DestinationConfiguration"]["DataFreshnessInSeconds"],
        600
    );
    let logs = json!({"CloudWatchLogs": {"Enabled": true,
        "LogGroupName": format!("/aws/kinesis/c/{id}"), "LogStreamName": "DestinationDelivery"}});
    assert_eq!(updated["LoggingConfiguration"], logs);
    let listed = json!({"ChannelSummaries": [{
        "ChannelName": "c", "ChannelARN": arn, "ChannelId": id, "ChannelStatus": "ACTIVE",
        "ChannelCreationTimestamp": 1_795_399_200.0, "ChannelDestinationType": "S3",
        "Streams": [stream],
    }]});
    let filter = json!({"StreamFilter": [{"StreamARN": STREAM_ARN}]});
    assert_eq!(ok(kinesis, "ListChannels", filter).await, listed);
    let summary = json!({"StreamName": "s"});
    let summary = ok(kinesis, "DescribeStreamSummary", summary.clone()).await;
    assert_eq!(summary["StreamDescriptionSummary"]["ChannelCount"], 1);
    let limits = ok(kinesis, "DescribeLimits", json!({})).await;
    assert_eq!(limits["ChannelCount"], 1);
    let delete = json!({"StreamName": "s"});
    let (code, _) = refused(kinesis, "DeleteStream", delete.clone()).await;
    assert_eq!(code, "ResourceInUseException");
    let tag = json!({"ResourceARN": arn, "Tags": {"a": "1"}});
    ok(kinesis, "TagResource", tag).await;
    let tags = json!({"ResourceARN": arn});
    let tags = ok(kinesis, "ListTagsForResource", tags).await;
    assert_eq!(tags["Tags"], json!([{"Key": "a", "Value": "1"}]));
    let policy = json!({"ResourceARN": arn});
    let (code, _) = refused(kinesis, "GetResourcePolicy", policy).await;
    assert_eq!(code, "InvalidArgumentException", "channels have none");
    let by_arn = json!({"ChannelARN": arn});
    ok(kinesis, "DeleteChannel", by_arn.clone()).await;
    let (code, _) = refused(kinesis, "DescribeChannel", by_arn).await;
    assert_eq!(code, "ResourceNotFoundException");
    ok(kinesis, "DeleteStream", delete).await;
}

#[tokio::test(start_paused = true)]
async fn records_are_in_the_bucket_when_the_oldest_is_as_old_as_data_may_be() {
    let local = Local::open(options());
    let arn = channel(&local.kinesis, "JSON", json!({})).await;
    pass(60).await;
    put(&local.kinesis, "k", r#"{"at":1}"#).await;
    pass(200).await;
    put(&local.kinesis, "k", r#"{"at":2}"#).await;
    pass(99).await;
    assert!(local.objects("lake").is_empty(), "299 s are not too old");
    pass(2).await;
    let (_, id) = arn.split_once(":channel/").unwrap();
    let key = format!(
        "kinesis-channel/c/{id}/2026/11/23/02/\
         c-{id}-2026-11-23-02-01-000000000000-00000000000000000001.json"
    );
    let expected = BTreeMap::from([(key, b"{\"at\":1}\n{\"at\":2}\n".to_vec())]);
    assert_eq!(local.objects("lake"), expected);
    pass(10_000).await;
    assert_eq!(
        local.objects("lake"),
        expected,
        "nothing is delivered twice"
    );
    put(&local.kinesis, "k", r#"{"at":3}"#).await;
    pass(301).await;
    assert_eq!(local.objects("lake").len(), 2);
    assert_eq!(local.lines().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_fresher_channel_delivers_sooner_also_what_waits_already() {
    let local = Local::open(options());
    let arn = channel(&local.kinesis, "STRING", json!({})).await;
    put(&local.kinesis, "k", "a").await;
    pass(100).await;
    let update = json!({"ChannelARN": arn,
        "S3DestinationConfiguration": {"DataFreshnessInSeconds": 110}});
    ok(&local.kinesis, "UpdateChannel", update).await;
    pass(9).await;
    assert!(local.lines().is_empty());
    pass(2).await;
    assert_eq!(local.lines(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_the_channel_is_not_delivered() {
    let local = Local::open(options());
    stream(&local.kinesis).await;
    put(&local.kinesis, "k", "before").await;
    pass(1).await;
    ok(
        &local.kinesis,
        "CreateChannel",
        creation("STRING", json!({})),
    )
    .await;
    put(&local.kinesis, "k", "after").await;
    pass(301).await;
    assert_eq!(local.lines(), ["after"]);
}

#[tokio::test(start_paused = true)]
async fn records_before_and_after_a_split_are_all_delivered_and_of_each_key_in_order() {
    let local = Local::open(options());
    channel(&local.kinesis, "STRING", json!({"OutputKeyTemplate": "o"})).await;
    for at in 0..40 {
        if at == 20 {
            let cell = local.kinesis.stream_cell("s");
            let now_ms = local.kinesis.clock().epoch_millis();
            let middle = kinesis_core::HashKey(1 << 127);
            cell.write().split(0, middle, now_ms).unwrap();
        }
        put(
            &local.kinesis,
            &format!("key {}", at % 4),
            &format!("{}-{at:02}", at % 4),
        )
        .await;
        pass(30).await;
    }
    pass(301).await;
    let lines = local.lines();
    for key in 0..4 {
        let prefix = format!("{key}-");
        let of_key = lines.iter().filter(|line| line.starts_with(&prefix));
        let expected: Vec<String> = (0..10)
            .map(|at| format!("{key}-{:02}", at * 4 + key))
            .collect();
        assert_eq!(of_key.cloned().collect::<Vec<_>>(), expected);
    }
    assert_eq!(lines.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn objects_are_compressed_as_they_are_asked_to_be() {
    for (compression, extension) in [("GZIP", ".txt.gz"), ("ZSTD", ".txt.zst")] {
        let local = Local::open(options());
        let storage = json!({"CompressionType": compression, "StorageClass": "GLACIER_IR",
            "OutputKeyTemplate": "a b=c/!{dd}!{extension}".replace(' ', "(")});
        channel(&local.kinesis, "STRING", storage).await;
        put(&local.kinesis, "k", "text").await;
        pass(301).await;
        let objects = local.objects("lake");
        let (key, object) = objects.first_key_value().unwrap();
        assert!(
            key.starts_with("a(b=c/23-") && key.ends_with(extension),
            "{key}"
        );
        let mut text = String::new();
        match compression {
            "GZIP" => {
                let mut decoder = flate2::read::GzDecoder::new(&object[..]);
                decoder.read_to_string(&mut text).unwrap();
            }
            _ => text = String::from_utf8(zstd::decode_all(&object[..]).unwrap()).unwrap(),
        }
        assert_eq!(text, "text\n");
    }
}

#[tokio::test(start_paused = true)]
async fn records_of_another_format_are_told_under_the_prefix_of_errors() {
    let local = Local::open(options());
    local.make_bucket("broken");
    stream(&local.kinesis).await;
    let mut create = creation("JSON", json!({}));
    create["S3DestinationConfiguration"]["DeadLetterQueueS3Configuration"] = json!({
        "BucketARN": "arn:aws:s3:::broken", "ExpectedBucketOwner": "000000000000",
        "ErrorOutputPrefix": "e/"});
    let created = ok(&local.kinesis, "CreateChannel", create).await;
    let id = created["ChannelDescription"]["ChannelId"].as_str().unwrap();
    put(&local.kinesis, "k", "{}").await;
    let number = put(&local.kinesis, "k", "no json").await;
    pass(301).await;
    assert_eq!(local.lines(), ["{}"]);
    let errors = local.objects("broken");
    let (key, error) = errors.first_key_value().unwrap();
    assert_eq!(
        key,
        &format!("e/{id}-000000000000-00000000000000000001.json")
    );
    let error: Value = serde_json::from_slice(error).unwrap();
    assert_eq!(error["sequenceNumber"], number);
    assert_eq!(error["errorCode"], "InvalidJson");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_made_again_replaces_no_object_of_the_first() {
    let local = Local::open(options());
    let storage = json!({"OutputKeyTemplate": "all"});
    for name in ["first", "second"] {
        let mut create = creation("JSON", storage.clone());
        create["S3DestinationConfiguration"]["DeadLetterQueueS3Configuration"] = json!({
            "BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000",
            "ErrorOutputPrefix": "e/"});
        stream(&local.kinesis).await;
        let created = ok(&local.kinesis, "CreateChannel", create).await;
        put(&local.kinesis, "k", &format!("\"{name}\"")).await;
        put(&local.kinesis, "k", "no json").await;
        pass(301).await;
        let arn = &created["ChannelDescription"]["ChannelARN"];
        ok(&local.kinesis, "DeleteChannel", json!({"ChannelARN": arn})).await;
        ok(&local.kinesis, "DeleteStream", json!({"StreamName": "s"})).await;
    }
    let mut lines = local.lines();
    let errors = lines.extract_if(.., |line| line.contains("InvalidJson"));
    assert_eq!(errors.count(), 2);
    lines.sort();
    assert_eq!(lines, ["\"first\"", "\"second\""]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_without_its_bucket_has_failed_for_good() {
    let local = Local::open(options());
    let storage = json!({"BucketARN": "arn:aws:s3:::missing"});
    let arn = channel(&local.kinesis, "STRING", storage).await;
    let described = describe(&local.kinesis, &arn).await;
    assert_eq!(described["ChannelStatus"], "FAILED");
    let reason = "The bucket missing does not exist.";
    assert_eq!(described["ChannelStatusReason"], reason);
    local.make_bucket("missing");
    put(&local.kinesis, "k", "a").await;
    pass(1000).await;
    assert_eq!(
        describe(&local.kinesis, &arn).await["ChannelStatus"],
        "FAILED"
    );
    assert!(local.objects("missing").is_empty());
    let update = json!({"ChannelARN": arn});
    let (code, _) = refused(&local.kinesis, "UpdateChannel", update).await;
    assert_eq!(code, "ResourceInUseException");
    ok(&local.kinesis, "DeleteChannel", json!({"ChannelARN": arn})).await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_loses_its_bucket_fails_until_it_is_back_and_loses_no_record() {
    let local = Local::open(options());
    let arn = channel(&local.kinesis, "STRING", json!({})).await;
    std::fs::remove_dir(local.s3.directory().join("lake")).unwrap();
    put(&local.kinesis, "k", "a").await;
    pass(301).await;
    let described = describe(&local.kinesis, &arn).await;
    assert_eq!(described["ChannelStatus"], "FAILED");
    assert_eq!(
        described["ChannelStatusReason"],
        "The bucket lake does not exist."
    );
    put(&local.kinesis, "k", "b").await;
    pass(100).await;
    local.make_bucket("lake");
    pass(11).await;
    assert_eq!(local.lines(), ["a", "b"]);
    assert_eq!(
        describe(&local.kinesis, &arn).await["ChannelStatus"],
        "ACTIVE"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_channel_cannot_be_is_refused() {
    // The service's bounds, but not its pace: this creates more often than it would take.
    let mut quotas = Quotas::default();
    quotas
        .calls_per_second
        .insert("CreateChannel".to_owned(), 0);
    let limits = KinesisOptions {
        limits: Limits::Given(Box::new(quotas)),
        ..options()
    };
    let local = Local::open(limits);
    let kinesis = &local.kinesis;
    ok(
        kinesis,
        "CreateStream",
        json!({"StreamName": "s", "ShardCount": 1}),
    )
    .await;
    let plain = || creation("JSON", json!({}));
    let invalid = "ValidationException";
    let (code, _) = refused(kinesis, "CreateChannel", plain()).await;
    assert_eq!(code, invalid, "a provisioned stream");
    let mode = json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(kinesis, "UpdateStreamMode", mode).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = plain();
        change(&mut body);
        body
    };
    let errors = json!({"BucketARN": "arn:aws:s3:::lake", "ExpectedBucketOwner": "000000000000"});
    let table = json!({"TableBucketARN": "arn:aws:s3tables:us-east-1:000000000000:bucket/tables",
        "Namespace": "n", "TableName": "t", "CompressionType": "NONE"});
    let tables = json!({"DeadLetterQueueS3Configuration": errors,
        "S3TablesConfigurationList": [table]});
    let freshness = |seconds: i32| {
        with(&|body| {
            body["S3DestinationConfiguration"]["DataFreshnessInSeconds"] = json!(seconds);
        })
    };
    let storage = |member: &str, value: &str| {
        with(&|body| {
            body["S3DestinationConfiguration"]["StorageConfiguration"][member] = json!(value);
        })
    };
    for (body, expected) in [
        (
            with(&|body| body["S3TablesDestinationConfiguration"] = tables.clone()),
            invalid,
        ),
        (
            with(&|body| {
                body.as_object_mut()
                    .unwrap()
                    .remove("S3DestinationConfiguration");
            }),
            invalid,
        ),
        (
            with(&|body| {
                body.as_object_mut()
                    .unwrap()
                    .remove("S3DestinationConfiguration");
                body["S3TablesDestinationConfiguration"] = tables.clone();
            }),
            "InvalidArgumentException",
        ),
        (creation("GSR_JSON", json!({})), invalid),
        (freshness(299), invalid),
        (freshness(901), invalid),
        (storage("OutputKeyTemplate", "!{nonsense}"), invalid),
        (storage("OutputKeyTemplate", "/a"), invalid),
        (
            with(&|body| {
                body["EncryptionConfiguration"] =
                    json!({"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"});
            }),
            "InvalidArgumentException",
        ),
        (
            with(&|body| {
                body["StreamConfigurationList"][0]["StreamARN"] = json!(format!("{STREAM_ARN}2"))
            }),
            "ResourceNotFoundException",
        ),
    ] {
        let (code, text) = refused(kinesis, "CreateChannel", body.clone()).await;
        assert_eq!(code, expected, "{text}: {body}");
        assert!(!text.contains("validation error"), "{text}");
    }
    ok(kinesis, "CreateChannel", plain()).await;
    let (code, _) = refused(kinesis, "CreateChannel", plain()).await;
    assert_eq!(code, "ResourceInUseException", "the name is taken");
    let second = with(&|body| body["ChannelName"] = json!("second"));
    let (code, _) = refused(kinesis, "CreateChannel", second).await;
    assert_eq!(code, "LimitExceededException");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_closes_delivers_nothing_more() {
    let local = Local::open(options());
    channel(&local.kinesis, "STRING", json!({})).await;
    put(&local.kinesis, "k", "a").await;
    pass(1).await;
    local.kinesis.close().await;
    pass(1000).await;
    assert!(local.lines().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_no_record_and_what_is_delivered_again_replaces_itself() {
    let dir = tempfile::tempdir().unwrap();
    let durable = |clock: Clock| KinesisOptions {
        data_dir: Some(dir.path().to_owned()),
        clock,
        ..options()
    };
    let clock = options().clock;
    let mut local = Local::open(durable(clock.clone()));
    let arn = channel(&local.kinesis, "STRING", json!({})).await;
    put(&local.kinesis, "k", "a").await;
    pass(301).await;
    put(&local.kinesis, "k", "b").await;
    put(&local.kinesis, "k", "c").await;
    let log = dir.path().join("changes.log");
    let before = std::fs::read(&log).unwrap();
    pass(301).await;
    assert_eq!(local.lines(), ["a", "b", "c"]);
    // As if the second object had been written and nothing after it.
    drop(local.kinesis);
    std::fs::write(&log, before).unwrap();
    local.kinesis = Local::beside(&local.s3, durable(clock.clone()));
    assert_eq!(
        describe(&local.kinesis, &arn).await["ChannelStatus"],
        "ACTIVE"
    );
    pass(1).await;
    assert_eq!(local.objects("lake").len(), 2, "the same object again");
    put(&local.kinesis, "k", "d").await;
    drop(local.kinesis);
    local.kinesis = Local::beside(&local.s3, durable(clock));
    pass(1000).await;
    assert_eq!(local.objects("lake").len(), 3, "the cursor was kept");
    assert_eq!(local.lines(), ["a", "b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_asked_five_times_a_second() {
    let limits = KinesisOptions {
        limits: Limits::Aws,
        ..options()
    };
    let local = Local::open(limits);
    let arn = channel(&local.kinesis, "JSON", json!({})).await;
    let by_arn = json!({"ChannelARN": arn});
    for _ in 0..5 {
        ok(&local.kinesis, "DescribeChannel", by_arn.clone()).await;
    }
    let text = "Rate exceeded for stream s under account 000000000000.";
    let code = "LimitExceededException";
    assert_refused(
        &local.kinesis,
        "DescribeChannel",
        by_arn.clone(),
        code,
        text,
    )
    .await;
    pass(1).await;
    ok(&local.kinesis, "DescribeChannel", by_arn).await;
}
