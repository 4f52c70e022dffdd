//! PutRecord and PutRecords on the wire.

use kinesis_core::SequenceParts;
use kinesis_core::limits::MIB;

use super::*;

fn entry(key: &str, bytes: usize) -> Value {
    json!({"PartitionKey": key, "Data": base64_simd::STANDARD.encode_to_string(vec![b'x'; bytes])})
}

#[tokio::test(start_paused = true)]
async fn the_answer_names_shard_and_number_and_no_encryption() {
    let kinesis = with_stream(1).await;
    let body = json!({"StreamName": "s", "PartitionKey": "k", "Data": "eA=="});
    let put = ok(&kinesis, "PutRecord", body).await;
    assert_eq!(put["ShardId"], "shardId-000000000000");
    assert_eq!(put["SequenceNumber"].as_str().unwrap().len(), 56);
    assert_eq!(put.as_object().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_checked_and_ends_there() {
    let kinesis = with_stream(1).await;
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": "eA==", "DryRun": true});
    let entry = json!({"PartitionKey": "k", "Data": "eA=="});
    let many = json!({"StreamName": "s", "Records": [entry], "DryRun": true});
    let text = "Request would have succeeded, but DryRun flag is set.";
    for (operation, body) in [("PutRecord", put), ("PutRecords", many)] {
        assert_refused(&kinesis, operation, body, "DryRunOperationException", text).await;
    }
    let position = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "TRIM_HORIZON"});
    let mut dry = position.clone();
    dry["DryRun"] = true.into();
    assert_refused(
        &kinesis,
        "GetShardIterator",
        dry,
        "DryRunOperationException",
        text,
    )
    .await;
    let iterator = ok(&kinesis, "GetShardIterator", position).await["ShardIterator"].clone();
    let dry = json!({"ShardIterator": iterator, "DryRun": true});
    assert_refused(
        &kinesis,
        "GetRecords",
        dry,
        "DryRunOperationException",
        text,
    )
    .await;
    let got = ok(&kinesis, "GetRecords", json!({"ShardIterator": iterator})).await;
    assert_eq!(got["Records"], json!([]), "nothing was written");
    let unknown = json!({"StreamName": "no", "PartitionKey": "k", "Data": "", "DryRun": true});
    let text = "Stream no under account 000000000000 not found.";
    assert_refused(
        &kinesis,
        "PutRecord",
        unknown,
        "ResourceNotFoundException",
        text,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_explicit_hash_key_rules_over_the_partition_key() {
    let kinesis = with_stream(4).await;
    for (key, shard) in [
        ("0", "shardId-000000000000"),
        (
            "85070591730234615865843651857942052863",
            "shardId-000000000000",
        ),
        (
            "85070591730234615865843651857942052864",
            "shardId-000000000001",
        ),
        (
            "340282366920938463463374607431768211455",
            "shardId-000000000003",
        ),
    ] {
        let body =
            json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": key});
        assert_eq!(
            ok(&kinesis, "PutRecord", body).await["ShardId"],
            shard,
            "{key}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_hash_key_beyond_the_key_space_is_refused() {
    let kinesis = with_stream(1).await;
    let key = "340282366920938463463374607431768211456";
    let text = format!(
        "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified \
         value was {key}"
    );
    let one = json!({"PartitionKey": "k", "Data": "", "ExplicitHashKey": key});
    let many = json!({"StreamName": "s", "Records": [one]});
    assert_refused(
        &kinesis,
        "PutRecords",
        many,
        "InvalidArgumentException",
        &text,
    )
    .await;
    let one = json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": key});
    assert_refused(
        &kinesis,
        "PutRecord",
        one,
        "InvalidArgumentException",
        &text,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn missing_and_bad_members_are_told_in_the_models_order() {
    assert_refused(
        &kinesis(),
        "PutRecord",
        json!({"StreamName": "s", "PartitionKey": "", "ExplicitHashKey": "01"}),
        "ValidationException",
        "3 validation errors detected: Value null at 'data' failed to satisfy constraint: Member \
         must not be null; Value '' at 'partitionKey' failed to satisfy constraint: Member must \
         have length greater than or equal to 1; Value '01' at 'explicitHashKey' failed to satisfy \
         constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_named_by_its_place_counted_from_one() {
    let records = json!([
        {"PartitionKey": "k", "Data": ""},
        {"PartitionKey": "я".repeat(257), "Data": ""},
    ]);
    assert_refused(
        &kinesis(),
        "PutRecords",
        json!({"StreamName": "s", "Records": records}),
        "ValidationException",
        &format!(
            "1 validation error detected: Value '{}' at 'records.2.member.partitionKey' failed to \
             satisfy constraint: Member must have length less than or equal to 256",
            "я".repeat(257)
        ),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_has_one_to_500_records() {
    let shown = "com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310";
    assert_refused(
        &kinesis(),
        "PutRecords",
        json!({"StreamName": "s", "Records": vec![entry("k", 0); 501]}),
        "ValidationException",
        &format!(
            "1 validation error detected: Value '[{}]' at 'records' failed to satisfy constraint: \
             Member must have length less than or equal to 500",
            vec![shown; 501].join(", ")
        ),
    )
    .await;
    assert_refused(
        &kinesis(),
        "PutRecords",
        json!({"StreamName": "s", "Records": []}),
        "ValidationException",
        "1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: \
         Member must have length greater than or equal to 1",
    )
    .await;
    let full = json!({"StreamName": "s", "Records": vec![entry("k", 0); 500]});
    let put = ok(&with_stream(1).await, "PutRecords", full).await;
    assert_eq!(put["Records"].as_array().unwrap().len(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_record_counts_its_data_and_its_key() {
    let kinesis = with_stream(1).await;
    let put = |key: &str, bytes: usize| {
        let mut body = entry(key, bytes);
        body["StreamName"] = json!("s");
        body
    };
    ok(&kinesis, "PutRecord", put("key", MIB - 3)).await;
    for (bytes, max) in [(MIB - 2, MIB - 3), (MIB + 1, MIB)] {
        let text = format!(
            "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim={bytes} \
             cap={bytes}]' at 'data' failed to satisfy constraint: Member must have length less \
             than or equal to {max}"
        );
        assert_refused(
            &kinesis,
            "PutRecord",
            put("key", bytes),
            "ValidationException",
            &text,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_has_at_most_ten_mebibytes() {
    let kinesis = with_stream(1).await;
    let records = |count| json!({"StreamName": "s", "Records": vec![entry("k", MIB - 1); count]});
    ok(&kinesis, "PutRecords", records(10)).await;
    let text = "Records size exceeds 10 MB limit";
    assert_refused(
        &kinesis,
        "PutRecords",
        records(11),
        "InvalidArgumentException",
        text,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_made_for_larger_records_takes_them() {
    let kinesis = kinesis();
    let create = json!({"StreamName": "s", "ShardCount": 1, "MaxRecordSizeInKiB": 2048});
    ok(&kinesis, "CreateStream", create).await;
    let mut body = entry("k", 2 * MIB - 1);
    body["StreamName"] = json!("s");
    ok(&kinesis, "PutRecord", body).await;
}

#[tokio::test(start_paused = true)]
async fn a_number_for_ordering_has_to_be_of_the_past() {
    let kinesis = with_stream(1).await;
    let number = put(&kinesis, "k", "a").await;
    let body = |number: &str| json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "SequenceNumberForOrdering": number});
    // Of this stream, and of each version that the service ever gave out.
    let later = SequenceParts {
        shard_created_s: NOW_MS / 1000,
        shard_index: 0,
        counter: 0,
        written_s: NOW_MS / 1000 + 2,
    };
    const VERSION_1: &str = "49039857307708443467467104868809893875799651909875269633";
    const VERSION_2: &str = "49039857307708443467467104868809893875799651909875269634";
    for number in [&*number, "0", VERSION_1, VERSION_2] {
        ok(&kinesis, "PutRecord", body(number)).await;
    }
    for number in [
        later.encode().as_str(),
        "26227199374822427428162556223570313216", // version 0 with a year of 2477
        "49039857307708443467467104868809893875799651909875269636", // version 4
        "49039857307719593840066370180380661734935976090628259842", // a counter too high
        "49039857307708443467467104868809893875799651944235008002", // a shard too high
    ] {
        let text = format!(
            "ExclusiveMinimumSequenceNumber {number} used in PutRecord on stream s under account \
             000000000000 is invalid."
        );
        let code = "InvalidArgumentException";
        assert_refused(&kinesis, "PutRecord", body(number), code, &text).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_for_ordering_of_version_3_makes_the_service_fail() {
    let kinesis = with_stream(1).await;
    const VERSION_3: &str = "49039857307708443467467104868809893875799651909875269635";
    let body = json!({"StreamName": "s", "PartitionKey": "k", "Data": "",
        "SequenceNumberForOrdering": VERSION_3});
    let (status, told) = answer(&kinesis, "PutRecord", &body).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(told, json!({"__type": "InternalFailure"}));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_record_fails_alone_and_names_its_shard() {
    let kinesis = stream_of(
        KinesisOptions {
            limits: Limits::Aws,
            ..options()
        },
        2,
    )
    .await;
    let on = |hash_key: &str, bytes: usize| {
        let mut entry = entry("k", bytes);
        entry["ExplicitHashKey"] = json!(hash_key);
        entry
    };
    let high = "340282366920938463463374607431768211455";
    let records = json!([on("0", MIB - 1), on("0", 1000), on(high, 1000)]);
    let answer = ok(
        &kinesis,
        "PutRecords",
        json!({"StreamName": "s", "Records": records}),
    )
    .await;
    assert_eq!(answer["FailedRecordCount"], 1);
    let text =
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.";
    assert_eq!(
        answer["Records"][1],
        json!({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": text})
    );
    assert_eq!(answer["Records"][2]["ShardId"], "shardId-000000000001");
    let mut one = on("0", 1000);
    one["StreamName"] = json!("s");
    let code = "ProvisionedThroughputExceededException";
    assert_refused(&kinesis, "PutRecord", one.clone(), code, text).await;
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    ok(&kinesis, "PutRecord", one).await;
}

#[tokio::test(start_paused = true)]
async fn a_large_record_is_taken_at_once_and_paid_for_by_the_seconds_that_follow() {
    let limits = Limits::Aws;
    let kinesis = Kinesis::open(KinesisOptions {
        limits,
        ..options()
    })
    .unwrap();
    let create = json!({"StreamName": "s", "ShardCount": 1, "MaxRecordSizeInKiB": 10_240});
    ok(&kinesis, "CreateStream", create).await;
    let put = |bytes: usize| {
        let mut body = entry("k", bytes);
        body["StreamName"] = json!("s");
        body
    };
    ok(&kinesis, "PutRecord", put(3 * MIB)).await;
    tokio::time::advance(std::time::Duration::from_millis(1900)).await;
    let text =
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.";
    let code = "ProvisionedThroughputExceededException";
    assert_refused(&kinesis, "PutRecord", put(10), code, text).await;
    tokio::time::advance(std::time::Duration::from_millis(1100)).await;
    ok(&kinesis, "PutRecord", put(10)).await;
}

#[tokio::test(start_paused = true)]
async fn keys_of_any_characters_come_back_as_they_were() {
    let kinesis = with_stream(1).await;
    let key = "quote\" back\\slash \u{1} ключ 🗝";
    put(&kinesis, key, "a").await;
    let read = get(&kinesis, &iterator(&kinesis, "0", "TRIM_HORIZON").await).await;
    assert_eq!(read["Records"][0]["PartitionKey"], key);
}

#[tokio::test(start_paused = true)]
async fn wrong_types_are_told_before_constraints() {
    assert_refused(
        &kinesis(),
        "PutRecords",
        json!({"StreamName": "", "Records": [{"PartitionKey": 1}]}),
        "SerializationException",
        "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an \
         String",
    )
    .await;
}
