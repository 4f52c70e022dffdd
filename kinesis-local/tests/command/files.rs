//! The files that arguments name, and what holds without them.

use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use aws_smithy_types::retry::RetryConfig;

use super::*;

/// Records of one request, to one shard, which meet its limits at one instant.
const RECORDS: usize = 8;

/// A client that tries once, and the one stream there is.
async fn kinesis(running: &Running) -> aws_sdk_kinesis::Client {
    let config = config(running).await.into_builder();
    let config = config.retry_config(RetryConfig::disabled()).build();
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    create_stream(&kinesis).await;
    kinesis
}

/// How many of the records were refused, all for the shard's limit.
async fn refused(kinesis: &aws_sdk_kinesis::Client, bytes: usize) -> usize {
    let entry = PutRecordsRequestEntry::builder().partition_key("k");
    let entry = entry.data(Blob::new(vec![1; bytes])).build().unwrap();
    let put = kinesis.put_records().stream_name("s");
    let put = put.set_records(Some(vec![entry; RECORDS]));
    let put = put.send().await.unwrap();
    let codes: Vec<_> = put
        .records()
        .iter()
        .filter_map(|it| it.error_code())
        .collect();
    assert_eq!(codes.len(), put.failed_record_count().unwrap() as usize);
    for code in &codes {
        assert_eq!(*code, "ProvisionedThroughputExceededException");
    }
    codes.len()
}

#[tokio::test]
async fn a_shard_takes_what_the_file_says_and_without_one_what_the_service_says() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("limits.toml", "shard_write_records_per_second = 3\n"),
        ("limits.json", r#"{"shard_write_records_per_second": 3}"#),
    ] {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let running = start_with(&["--limits", path.to_str().unwrap()]);
        let kinesis = kinesis(&running).await;
        assert_eq!(refused(&kinesis, 10).await, RECORDS - 3, "{name}");
    }
    for (arguments, large) in [
        (&[][..], RECORDS - 1),
        (&["--limits", "aws"], RECORDS - 1),
        (&["--limits", "off"], 0),
    ] {
        let running = start_with(arguments);
        let kinesis = kinesis(&running).await;
        assert_eq!(refused(&kinesis, 10).await, 0, "{arguments:?}");
        // The shard has a MiB, of which one such record leaves too little for another.
        assert_eq!(refused(&kinesis, 900_000).await, large, "{arguments:?}");
    }
}

#[tokio::test]
async fn faults_happen_as_the_file_says_and_without_one_none_do() {
    let directory = tempfile::tempdir().unwrap();
    let toml = "seed = 7\n\n[[rules]]\noperations = [\"DescribeStreamSummary\"]\ntimes = 1\n\
                effect = { error = { code = \"InternalFailure\", status = 500, message = \"planned\" } }\n";
    let json = r#"{"rules": [{"operations": ["DescribeStreamSummary"], "times": 1, "effect":
        {"error": {"code": "InternalFailure", "status": 500, "message": "planned"}}}]}"#;
    for (name, text) in [("faults.toml", toml), ("faults.json", json)] {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let running = start_with(&["--faults", path.to_str().unwrap()]);
        let kinesis = kinesis(&running).await;
        let describe = || kinesis.describe_stream_summary().stream_name("s").send();
        let failed = describe().await.unwrap_err();
        assert_eq!(failed.raw_response().unwrap().status().as_u16(), 500);
        assert_eq!(failed.code(), Some("InternalFailure"), "{name}");
        assert_eq!(failed.message(), Some("planned"), "{name}");
        describe().await.unwrap();
    }
    let running = start_with(&[]);
    let kinesis = kinesis(&running).await;
    assert_eq!(status(&kinesis).await, StreamStatus::Active);
}
