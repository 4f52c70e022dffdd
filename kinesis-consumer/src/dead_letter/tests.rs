//! What every destination has to do, and each of them doing it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use kinesis_core::HashKey;
use serde_json::Value;

use super::*;

/// A destination whose letters can be read back.
#[async_trait]
pub(crate) trait Readable: DeadLetters + Sized {
    /// Every letter it holds, with parts put together.
    async fn letters(&self) -> Vec<Value>;
}

fn letter(sequence_number: u64, sub_sequence: u64, data: impl Into<Bytes>) -> DeadLetter {
    let sequence_number = sequence_number.to_string().parse().expect("digits");
    let mut record = Record::new("key \"ü\"", data, sequence_number);
    record.sub_sequence = sub_sequence;
    record.aggregated = sub_sequence > 0;
    record.explicit_hash_key = Some(HashKey(7));
    record.approximate_arrival_millis = Some(1_767_225_600_000);
    let shard_id = ShardId::from_index(3);
    let error = "it said \"no\"\nand: ü";
    DeadLetter {
        attempts: 4,
        given_up_at_millis: 1_767_225_601_234,
        ..DeadLetter::new("flights", shard_id, record, FailureCause::Poison, error)
    }
}

fn data_of(letter: &Value) -> Vec<u8> {
    let text = letter["data_base64"].as_str().expect("a string");
    aws_smithy_types::base64::decode(text).expect("base64")
}

fn identity(letter: &Value) -> (String, u64) {
    let sequence_number = letter["sequence_number"].as_str().expect("a string");
    let sub_sequence = letter["sub_sequence"].as_u64().expect("a number");
    (sequence_number.to_owned(), sub_sequence)
}

/// Puts letters that came in parts together.
fn joined(records: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let mut whole: Vec<Value> = Vec::new();
    for record in records {
        match whole.last_mut() {
            Some(last) if record["part"] != 0 => {
                let mut data = data_of(last);
                data.extend(data_of(&record));
                last["data_base64"] = aws_smithy_types::base64::encode(data).into();
            }
            _ => whole.push(record),
        }
    }
    whole
}

/// What the consumer relies on.
pub(crate) async fn conforms(destination: &impl Readable) {
    // Whatever the payload is, it comes back whole.
    let large: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    let payloads = [
        Bytes::new(),
        Bytes::from_static(b"\xff\x00 not UTF-8 \n"),
        Bytes::from_static(br#"{"is":"JSON"}"#),
        large.into(),
    ];
    let written: Vec<DeadLetter> = (0..)
        .zip(payloads)
        .map(|(index, data)| letter(100 + index, index, data))
        .collect();
    for letter in &written {
        destination.write(letter).await.expect("stored");
        let stored = destination.letters().await;
        let last = stored.iter().max_by_key(|letter| identity(letter));
        let last = last.expect("`Ok` means stored");
        assert_eq!(data_of(last), letter.record.data);
        assert_eq!(
            last["sequence_number"],
            letter.record.sequence_number.as_str()
        );
        assert_eq!(last["sub_sequence"], letter.record.sub_sequence);
        for (member, value) in [
            ("stream", Value::from("flights")),
            ("shard_id", "shardId-000000000003".into()),
            ("partition_key", "key \"ü\"".into()),
            ("explicit_hash_key", "7".into()),
            ("approximate_arrival_millis", 1_767_225_600_000_u64.into()),
            ("cause", "poison".into()),
            ("error", "it said \"no\"\nand: ü".into()),
            ("attempts", 4.into()),
            ("given_up_at_millis", 1_767_225_601_234_u64.into()),
        ] {
            assert_eq!(last[member], value, "{member}");
        }
    }
    // So does a key that no stream would take: streams that distribute by themselves have records
    // without one, and an aggregate holds what its producer put into it.
    for (index, key) in (200..).zip([String::new(), "ü".repeat(300), "k".repeat(100_000)]) {
        let mut letter = letter(index, 0, "data");
        letter.record.partition_key = key.as_str().into();
        destination.write(&letter).await.expect("stored");
        let stored = destination.letters().await;
        let last = stored.iter().max_by_key(|letter| identity(letter));
        let last = last.expect("`Ok` means stored");
        assert_eq!(data_of(last), letter.record.data);
        let stored = last["partition_key"].as_str().expect("a string");
        assert_eq!(stored, &key[..stored.len()]);
        assert!(stored.len() >= key.len().min(8 * 1024), "{}", stored.len());
    }
    // A letter may be written again, and letters of other shards beside it.
    let again = written.iter().map(|letter| destination.write(letter));
    for repeated in futures::future::join_all(again).await {
        repeated.expect("stored again");
    }
    let mut kinds: BTreeMap<(String, u64), Vec<Value>> = BTreeMap::new();
    for letter in destination.letters().await {
        kinds.entry(identity(&letter)).or_default().push(letter);
    }
    assert_eq!(kinds.len(), written.len() + 3);
    for repeats in kinds.values() {
        assert!(repeats.iter().all(|letter| letter == &repeats[0]));
    }
}

#[async_trait]
impl Readable for FileDeadLetters {
    async fn letters(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path()).expect("a file");
        let lines = text.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

fn file(directory: &tempfile::TempDir) -> (FileDeadLetters, PathBuf) {
    let path = directory.path().join("letters.ndjson");
    (FileDeadLetters::new(path.clone()), path)
}

#[tokio::test]
async fn a_file_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    conforms(&file(&directory).0).await;
}

#[tokio::test]
async fn what_a_crash_left_of_a_line_does_not_swallow_the_next_letter() {
    let directory = tempfile::tempdir().expect("a directory");
    let (destination, path) = file(&directory);
    std::fs::write(&path, r#"{"stream":"fli"#).expect("written");
    destination.write(&letter(1, 0, "x")).await.expect("stored");
    destination.write(&letter(2, 0, "y")).await.expect("stored");
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(text.lines().next(), Some(r#"{"stream":"fli"#));
    assert_eq!(destination.letters().await.len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_an_error_that_names_it_and_no_payload() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("missing/letters.ndjson");
    let destination = FileDeadLetters::new(path.clone());
    let error = destination.write(&letter(1, 0, "payload")).await;
    let error = error.expect_err("no directory");
    assert!(error.to_string().contains(&path.display().to_string()));
    assert!(!format!("{error:?}").contains("payload"));
}

#[test]
fn writes_that_were_given_up_while_the_file_was_locked_append_nothing_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let (destination, path) = file(&directory);
    let holder = std::fs::File::create(&path).expect("a file");
    holder.lock().expect("locked");
    let letter = letter(1, 0, "x");
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().expect("a runtime");
    runtime.block_on(async {
        for _ in 0..3 {
            let write = destination.write(&letter);
            let given_up = tokio::time::timeout(std::time::Duration::from_millis(100), write);
            assert!(given_up.await.is_err(), "it is locked");
        }
        drop(holder);
        destination.write(&letter).await.expect("stored");
    });
    // Waits for whatever is still at work.
    drop(runtime);
    let text = std::fs::read_to_string(&path).expect("a file");
    assert_eq!(text.lines().count(), 1);
}

struct Stream {
    destination: KinesisDeadLetters,
    client: aws_sdk_kinesis::Client,
    _local: kinesis_local::KinesisLocal,
}

#[async_trait]
impl DeadLetters for Stream {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        self.destination.write(letter).await
    }
}

#[async_trait]
impl Readable for Stream {
    async fn letters(&self) -> Vec<Value> {
        let client = &self.client;
        let iterator = client
            .get_shard_iterator()
            .stream_name("letters")
            .shard_id("shardId-000000000000")
            .shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon);
        let iterator = iterator.send().await.expect("an iterator");
        let mut next = iterator.shard_iterator;
        let mut records = Vec::new();
        loop {
            let request = client.get_records().set_shard_iterator(next);
            let answer = Box::pin(request.send()).await.expect("records");
            for record in &answer.records {
                records.push(serde_json::from_slice(record.data.as_ref()).expect("JSON"));
            }
            if answer.millis_behind_latest == Some(0) {
                return joined(records);
            }
            next = answer.next_shard_iterator;
        }
    }
}

async fn stream() -> Stream {
    let clock = kinesis_core::Clock::starting_at(1_767_225_600_000);
    let local = kinesis_local::KinesisLocal::builder()
        .clock(clock)
        .limits(kinesis_local::Limits::Off)
        .start()
        .await
        .expect("kinesis-local");
    let client = aws_sdk_kinesis::Client::new(&local.sdk_config());
    let create = client.create_stream().stream_name("letters").shard_count(1);
    create.send().await.expect("created");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    Stream {
        destination: KinesisDeadLetters::new(client.clone(), "letters"),
        client,
        _local: local,
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_conforms() {
    conforms(&stream().await).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_named_by_its_arn_conforms() {
    let stream = stream().await;
    let describe = stream.client.describe_stream_summary();
    let answer = describe.stream_name("letters").send().await;
    let summary = answer.expect("described").stream_description_summary;
    let arn = summary.expect("a summary").stream_arn;
    let destination = KinesisDeadLetters::new(stream.client.clone(), arn);
    conforms(&Stream {
        destination,
        ..stream
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_there_is_an_error_that_names_it_and_no_payload() {
    let stream = stream().await;
    let missing = KinesisDeadLetters::new(stream.client.clone(), "missing");
    let error = missing.write(&letter(1, 0, "payload")).await;
    let error = error.expect_err("no stream");
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(!format!("{error:?}").contains("payload"), "{error:?}");
}

#[cfg(feature = "sink-s3")]
mod in_s3 {
    use super::*;

    struct Bucket {
        destination: S3DeadLetters,
        client: aws_sdk_s3::Client,
        _local: kinesis_local::KinesisLocal,
    }

    async fn bucket() -> Bucket {
        let local = kinesis_local::KinesisLocal::builder().start().await;
        let local = local.expect("kinesis-local");
        let config = local.sdk_config();
        let config = aws_sdk_s3::config::Builder::from(&config).force_path_style(true);
        let client = aws_sdk_s3::Client::from_conf(config.build());
        let create = client.create_bucket().bucket("letters");
        create.send().await.expect("created");
        Bucket {
            destination: S3DeadLetters::new(client.clone(), "letters", "dead/"),
            client,
            _local: local,
        }
    }

    impl Bucket {
        async fn names(&self) -> Vec<String> {
            let list = self.client.list_objects_v2().bucket("letters");
            let objects = list.send().await.expect("listed").contents;
            let names = objects.unwrap_or_default().into_iter();
            names.filter_map(|object| object.key).collect()
        }
    }

    #[async_trait]
    impl DeadLetters for Bucket {
        async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
            self.destination.write(letter).await
        }
    }

    #[async_trait]
    impl Readable for Bucket {
        async fn letters(&self) -> Vec<Value> {
            let mut letters = Vec::new();
            for name in self.names().await {
                let get = self.client.get_object().bucket("letters").key(name);
                let body = get.send().await.expect("an object").body;
                let body = body.collect().await.expect("a body").into_bytes();
                letters.push(serde_json::from_slice(&body).expect("JSON"));
            }
            letters
        }
    }

    #[tokio::test]
    async fn a_bucket_conforms() {
        conforms(&bucket().await).await;
    }

    #[tokio::test]
    async fn a_letter_that_is_written_again_replaces_itself_and_names_sort_as_records_do() {
        let bucket = bucket().await;
        for (sequence_number, sub_sequence) in [(9, 0), (10, 2), (10, 11), (9, 0)] {
            let letter = letter(sequence_number, sub_sequence, "x");
            bucket.write(&letter).await.expect("stored");
        }
        let folder = "dead/flights/shardId-000000000003";
        let name = |sequence: &str, sub: &str| format!("{folder}/{sequence:0>56}.{sub}.json");
        let expected = [
            name("9", "0000000"),
            name("10", "0000002"),
            name("10", "0000011"),
        ];
        assert_eq!(bucket.names().await, expected);
    }

    #[tokio::test]
    async fn a_bucket_that_is_not_there_is_an_error_that_names_it_and_no_payload() {
        let bucket = bucket().await;
        let missing = S3DeadLetters::new(bucket.client.clone(), "missing", "");
        let error = missing.write(&letter(1, 0, "payload")).await;
        let error = error.expect_err("no bucket");
        assert!(error.to_string().contains("missing"), "{error}");
        assert!(!format!("{error:?}").contains("payload"), "{error:?}");
    }

    #[tokio::test]
    async fn a_bucket_that_refuses_for_a_while_is_an_error_that_says_why_and_then_has_the_letter() {
        use crate::error::{Error, ErrorKind};
        use kinesis_local::{FaultEffect, FaultPlan, FaultRule, FaultService};

        for code in ["ExpiredToken", "AccessDenied"] {
            let bucket = bucket().await;
            let refused = FaultRule::new(FaultEffect::error(code)).operation("PUT");
            let refused = refused.service(FaultService::S3).times(2);
            let plan = FaultPlan::default().rule(refused);
            bucket._local.set_faults(plan).expect("a plan");
            let letter = letter(1, 0, "payload");
            for _ in 0..2 {
                let error = bucket.write(&letter).await.expect_err("refused");
                assert!(error.to_string().contains(code), "{error}");
                assert!(!format!("{error:?}").contains("payload"), "{error:?}");
                let error = error.downcast::<Error>().expect("of this crate");
                assert_eq!(error.kind(), ErrorKind::Denied, "{code}");
            }
            assert!(bucket.names().await.is_empty(), "{code}");
            bucket.write(&letter).await.expect("stored");
            assert_eq!(bucket.names().await.len(), 1, "{code}");
        }
    }
}

#[test]
fn a_letter_prints_neither_payload_nor_key_nor_what_the_processor_said() {
    let text = format!("{:?}", letter(1, 0, "payload"));
    for secret in ["payload", "key", "it said"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn a_long_error_is_cut_at_a_character() {
    let record = letter(1, 0, "").record;
    let error = "ü".repeat(3000) + "x";
    let shard_id = ShardId::from_index(0);
    let letter = DeadLetter::new("s", shard_id, record, FailureCause::Retry, error);
    assert_eq!(letter.error.len(), 4096);
}
