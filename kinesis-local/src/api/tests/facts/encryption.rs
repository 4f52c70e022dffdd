//! StartStreamEncryption, StopStreamEncryption, and keys that are not usable.

use std::time::Duration;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn with_key(key: &str) -> Value {
    json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": key})
}

async fn start(kinesis: &Kinesis, key: &str) {
    ok(kinesis, "StartStreamEncryption", with_key(key)).await;
}

async fn stop(kinesis: &Kinesis, key: &str) {
    ok(kinesis, "StopStreamEncryption", with_key(key)).await;
}

async fn described(kinesis: &Kinesis) -> (Value, Value) {
    let name = json!({"StreamName": "s"});
    let stream = ok(kinesis, "DescribeStream", name.clone()).await;
    let summary = ok(kinesis, "DescribeStreamSummary", name).await;
    let of = |described: &Value| {
        (
            described["EncryptionType"].clone(),
            described["KeyId"].clone(),
        )
    };
    let found = of(&stream["StreamDescription"]);
    assert_eq!(found, of(&summary["StreamDescriptionSummary"]));
    found
}

fn record(data: &str) -> Value {
    let data = base64_simd::STANDARD.encode_to_string(data);
    json!({"PartitionKey": "k", "Data": data})
}

async fn put_record(kinesis: &Kinesis) -> Value {
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": ""});
    ok(kinesis, "PutRecord", put).await
}

#[tokio::test(start_paused = true)]
async fn every_answer_tells_the_encryption_and_a_record_keeps_the_one_it_was_written_under() {
    let kinesis = with_stream(1).await;
    assert_eq!(described(&kinesis).await, (json!("NONE"), Value::Null));
    assert_eq!(put_record(&kinesis).await.get("EncryptionType"), None);
    start(&kinesis, "alias/a").await;
    assert_eq!(described(&kinesis).await, (json!("KMS"), json!("alias/a")));
    assert_eq!(put_record(&kinesis).await["EncryptionType"], "KMS");
    let two = json!({"StreamName": "s", "Records": [record("a"), record("b")]});
    let two = ok(&kinesis, "PutRecords", two).await;
    assert_eq!(two["EncryptionType"], "KMS");
    assert_eq!(two["Records"][0].get("EncryptionType"), None);
    stop(&kinesis, "alias/a").await;
    assert_eq!(described(&kinesis).await, (json!("NONE"), Value::Null));
    put_record(&kinesis).await;
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let got = get(&kinesis, &start).await;
    let kinds: Vec<Option<&str>> = got["Records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            record
                .get("EncryptionType")
                .map(|kind| kind.as_str().unwrap())
        })
        .collect();
    assert_eq!(kinds, [None, Some("KMS"), Some("KMS"), Some("KMS"), None]);
}

#[tokio::test(start_paused = true)]
async fn a_key_comes_into_force_when_the_stream_is_active_again() {
    let delays = Delays {
        update: Duration::from_millis(500),
        ..Delays::default()
    };
    let kinesis = stream_of(
        KinesisOptions {
            delays,
            ..options()
        },
        1,
    )
    .await;
    start(&kinesis, "alias/a").await;
    let busy = "Stream s under account 000000000000 not ACTIVE, instead in state UPDATING";
    let stop = with_key("alias/a");
    let code = "ResourceInUseException";
    assert_refused(&kinesis, "StopStreamEncryption", stop, code, busy).await;
    assert_eq!(put_record(&kinesis).await.get("EncryptionType"), None);
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(put_record(&kinesis).await["EncryptionType"], "KMS");
}

#[tokio::test(start_paused = true)]
async fn twenty_five_starts_and_stops_fit_in_a_rolling_day() {
    let kinesis = with_stream(1).await;
    for _ in 0..25 {
        start(&kinesis, "alias/a").await;
        start(&kinesis, "alias/a").await; // as it is: does not count
        stop(&kinesis, "alias/a").await;
        stop(&kinesis, "alias/a").await;
    }
    let again = with_key("alias/a");
    let (code, _) = refused(&kinesis, "StartStreamEncryption", again).await;
    assert_eq!(code, "LimitExceededException");
    tokio::time::advance(DAY).await;
    for at in 0..25 {
        start(&kinesis, &format!("alias/{at}")).await;
    }
    let (code, _) = refused(&kinesis, "StartStreamEncryption", with_key("alias/a")).await;
    assert_eq!(code, "LimitExceededException");
    stop(&kinesis, "alias/24").await;
}

#[tokio::test(start_paused = true)]
async fn only_kms_and_the_forms_of_a_key_are_taken() {
    let kinesis = with_stream(1).await;
    let none = json!({"StreamName": "s", "EncryptionType": "NONE", "KeyId": "alias/a"});
    for operation in ["StartStreamEncryption", "StopStreamEncryption"] {
        for wrong in [none.clone(), with_key("a"), with_key("alias/")] {
            let (code, _) = refused(&kinesis, operation, wrong).await;
            assert_eq!(code, "InvalidArgumentException");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_refuses_starts_writes_and_reads_of_its_records() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "plain").await;
    start(&kinesis, "alias/a").await;
    put(&kinesis, "k", "secret").await;
    let all = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let plain = json!({"ShardIterator": all, "Limit": 1});
    for (state, code, _) in KEY_STATES {
        kinesis.kms().set("alias/a", state);
        kinesis.kms().set("alias/b", state);
        let one = json!({"StreamName": "s", "PartitionKey": "k", "Data": ""});
        let some = json!({"StreamName": "s", "Records": [record("a")]});
        let read = json!({"ShardIterator": all});
        for (operation, body) in [
            ("StartStreamEncryption", with_key("alias/b")),
            ("PutRecord", one),
            ("PutRecords", some),
            ("GetRecords", read),
        ] {
            assert_eq!(
                refused(&kinesis, operation, body).await.0,
                code,
                "{operation}"
            );
        }
        // What was written without a key is read without one.
        let got = ok(&kinesis, "GetRecords", plain.clone()).await;
        assert_eq!(texts(&got), ["plain"]);
    }
    kinesis.kms().set("alias/a", KmsKeyState::Enabled);
    assert_eq!(texts(&get(&kinesis, &all).await), ["plain", "secret"]);
    let disabled = "alias/b is disabled.";
    kinesis.kms().set("alias/b", KmsKeyState::Disabled);
    let code = "KMSDisabledException";
    assert_refused(
        &kinesis,
        "StartStreamEncryption",
        with_key("alias/b"),
        code,
        disabled,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_encryption_and_that_of_the_records_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let options = KinesisOptions {
            data_dir: Some(dir.path().to_owned()),
            ..options()
        };
        Kinesis::open(options).unwrap()
    };
    let kinesis = open();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    put(&kinesis, "k", "plain").await;
    start(&kinesis, "alias/a").await;
    put(&kinesis, "k", "secret").await;
    drop(kinesis);
    let kinesis = open();
    assert_eq!(described(&kinesis).await, (json!("KMS"), json!("alias/a")));
    kinesis.kms().set("alias/a", KmsKeyState::Disabled);
    let all = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let (code, _) = refused(&kinesis, "GetRecords", json!({"ShardIterator": all})).await;
    assert_eq!(code, "KMSDisabledException");
}
