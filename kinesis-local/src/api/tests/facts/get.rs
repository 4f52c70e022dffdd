//! GetShardIterator and GetRecords on the wire.

use std::time::Duration;

use super::*;
use crate::wire::Format;

#[tokio::test(start_paused = true)]
async fn the_five_kinds_of_iterator_begin_where_they_say() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "a").await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let number = put(&kinesis, "k", "b").await;
    put(&kinesis, "k", "c").await;
    let cases = [
        (
            json!({"ShardIteratorType": "TRIM_HORIZON"}),
            vec!["a", "b", "c"],
        ),
        (json!({"ShardIteratorType": "LATEST"}), vec![]),
        (
            json!({"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": number}),
            vec!["b", "c"],
        ),
        (
            json!({"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": number}),
            vec!["c"],
        ),
        (
            json!({"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": NOW_MS / 1000 + 5}),
            vec!["b", "c"],
        ),
    ];
    for (mut body, expected) in cases {
        body["StreamName"] = json!("s");
        body["ShardId"] = json!("shardId-000000000000");
        let start = ok(&kinesis, "GetShardIterator", body.clone()).await;
        let read = get(&kinesis, start["ShardIterator"].as_str().unwrap()).await;
        assert_eq!(texts(&read), expected, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_can_be_used_again_and_each_answer_has_a_new_one() {
    let kinesis = with_stream(1).await;
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    put(&kinesis, "k", "a").await;
    let one = get(&kinesis, &start).await;
    let again = get(&kinesis, &format!("\"{start}\"")).await;
    assert_eq!(texts(&one), texts(&again));
    assert_ne!(one["NextShardIterator"], again["NextShardIterator"]);
    assert!(one["NextShardIterator"].as_str().unwrap().len() <= 512);
}

#[tokio::test(start_paused = true)]
async fn an_iterator_expires_after_five_minutes_in_the_services_words() {
    let kinesis = with_stream(1).await;
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    tokio::time::advance(Duration::from_secs(300)).await;
    get(&kinesis, &start).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_refused(
        &kinesis,
        "GetRecords",
        json!({"ShardIterator": start}),
        "ExpiredIteratorException",
        "Iterator expired. The iterator was created at time Mon Nov 23 02:00:00 UTC 2026 while \
         right now it is Mon Nov 23 02:05:01 UTC 2026 which is further in the future than the \
         tolerated delay of 300000 milliseconds.",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_text_that_is_no_iterator_is_refused() {
    let kinesis = with_stream(1).await;
    for text in ["AAAA", "not base64", "AAAAAAAAAAFzb21ldGhpbmc="] {
        let body = json!({"ShardIterator": text});
        let invalid = "Invalid ShardIterator.";
        assert_refused(
            &kinesis,
            "GetRecords",
            body,
            "InvalidArgumentException",
            invalid,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_of_a_deleted_stream_is_not_taken_for_its_successor() {
    let kinesis = with_stream(1).await;
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    ok(&kinesis, "DeleteStream", json!({"StreamName": "s"})).await;
    let text = "Shard shardId-000000000000 in stream s under account 000000000000 does not exist";
    let body = json!({"ShardIterator": start});
    assert_refused(
        &kinesis,
        "GetRecords",
        body.clone(),
        "ResourceNotFoundException",
        text,
    )
    .await;
    ok(
        &kinesis,
        "CreateStream",
        json!({"StreamName": "s", "ShardCount": 1}),
    )
    .await;
    assert_refused(
        &kinesis,
        "GetRecords",
        body,
        "ResourceNotFoundException",
        text,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn shards_and_streams_that_do_not_exist_are_told_apart() {
    let kinesis = with_stream(1).await;
    let body = |stream: &str, shard: &str| json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": "LATEST"});
    let code = "ResourceNotFoundException";
    let cases = [
        (
            "s",
            "shardId-5",
            "Shard shardId-000000000005 in stream s under account 000000000000 does not exist",
        ),
        (
            "t",
            "0",
            "Shard shardId-000000000000 in stream t under account 000000000000 does not exist",
        ),
        (
            "s",
            "shard",
            "Could not find shard shard in stream s under account 000000000000.",
        ),
        (
            "s",
            "shardId-2147483648",
            "Could not find shard shardId-2147483648 in stream s under account 000000000000.",
        ),
    ];
    for (stream, shard, text) in cases {
        assert_refused(
            &kinesis,
            "GetShardIterator",
            body(stream, shard),
            code,
            text,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn kind_and_number_have_to_match() {
    let kinesis = with_stream(1).await;
    let must = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and \
                StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no \
                StartingSequenceNumber. Request specified ";
    let number = put(&kinesis, "k", "a").await;
    for (kind, number, rest) in [
        (
            "LATEST",
            Some(&number),
            "LATEST and also a StartingSequenceNumber.",
        ),
        (
            "TRIM_HORIZON",
            Some(&number),
            "TRIM_HORIZON and also a StartingSequenceNumber.",
        ),
        (
            "AT_SEQUENCE_NUMBER",
            None,
            "AT_SEQUENCE_NUMBER and no StartingSequenceNumber.",
        ),
        (
            "AFTER_SEQUENCE_NUMBER",
            None,
            "AFTER_SEQUENCE_NUMBER and no StartingSequenceNumber.",
        ),
    ] {
        let body = json!({
            "StreamName": "s", "ShardId": "0", "ShardIteratorType": kind,
            "StartingSequenceNumber": number,
        });
        let text = format!("{must}{rest}");
        assert_refused(
            &kinesis,
            "GetShardIterator",
            body,
            "InvalidArgumentException",
            &text,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_of_another_shard_or_stream_is_refused() {
    let kinesis = with_stream(2).await;
    let body = |shard: &str, number: &str| {
        json!({
            "StreamName": "s", "ShardId": shard, "ShardIteratorType": "AT_SEQUENCE_NUMBER",
            "StartingSequenceNumber": number,
        })
    };
    let one = json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": "0"});
    let number = ok(&kinesis, "PutRecord", one).await["SequenceNumber"].clone();
    let number = number.as_str().unwrap();
    let code = "InvalidArgumentException";
    let text = "Invalid StartingSequenceNumber. It encodes shardId-000000000000, while it was \
                used in a call to a shard with shardId-000000000001";
    assert_refused(&kinesis, "GetShardIterator", body("1", number), code, text).await;
    let used = |number: &str| {
        format!(
            "StartingSequenceNumber {number} used in GetShardIterator on shard \
             shardId-000000000000 in stream s under account 000000000000 is invalid"
        )
    };
    // Versions that the service gave out before, and what it never did.
    const SMALL: &str = "21267647932558653966460912964485513216";
    const LARGE_DATE: &str = "26227199374822427428162556223570313216";
    const COUNTER_8: &str = "49039857307719593840066370180380661734935976090628259842";
    const SHARD_8: &str = "49039857307708443467467104868809893875799651944235008002";
    const VERSION_1: &str = "49039857307708443467467104868809893875799651909875269633";
    let foreign = " because it did not come from this stream.";
    for (number, text) in [
        ("0", format!("{}{foreign}", used(SMALL))),
        (LARGE_DATE, format!("{}.", used(LARGE_DATE))),
        (COUNTER_8, format!("{}.", used(COUNTER_8))),
        (SHARD_8, format!("{}.", used(SHARD_8))),
        (VERSION_1, format!("{}{foreign}", used(VERSION_1))),
        (
            "5",
            "Invalid StartingSequenceNumber. It encodes shardId-000000000005, while it was used in \
             a call to a shard with shardId-000000000000"
                .to_owned(),
        ),
    ] {
        assert_refused(&kinesis, "GetShardIterator", body("0", number), code, &text).await;
    }
    let parts = kinesis_core::SequenceParts {
        shard_created_s: 1_700_000_000,
        shard_index: 0,
        counter: 1,
        written_s: 1_700_000_000,
    };
    let foreign = parts.encode().to_string();
    let text = format!(
        "{} because it did not come from this stream.",
        used(&foreign)
    );
    assert_refused(
        &kinesis,
        "GetShardIterator",
        body("0", &foreign),
        code,
        &text,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_time_has_to_be_given_and_not_to_lie_ahead() {
    let kinesis = with_stream(1).await;
    let mut body = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP"});
    let code = "InvalidArgumentException";
    let text = "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. \
                Current request has no timestamp parameter.";
    assert_refused(&kinesis, "GetShardIterator", body.clone(), code, text).await;
    body["Timestamp"] = json!(1_999_999_999.5);
    let (_, text) = refused(&kinesis, "GetShardIterator", body).await;
    assert!(
        text.starts_with(
            "The timestampInMillis parameter cannot be greater than the \
             currentTimestampInMillis. timestampInMillis: 1999999999500, currentTimestampInMillis: \
             17953992"
        ),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_kind_is_answered_with_the_known_ones() {
    assert_refused(
        &kinesis(),
        "GetShardIterator",
        json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "MIDDLE"}),
        "ValidationException",
        "1 validation error detected: Value 'MIDDLE' at 'shardIteratorType' failed to satisfy \
         constraint: Member must satisfy enum value set: [AT_SEQUENCE_NUMBER, \
         AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AT_TIMESTAMP]",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_cuts_the_answer_and_the_next_goes_on() {
    let kinesis = with_stream(1).await;
    for text in ["a", "b", "c"] {
        put(&kinesis, "k", text).await;
    }
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let body = json!({"ShardIterator": start, "Limit": 2});
    let first = ok(&kinesis, "GetRecords", body).await;
    assert_eq!(texts(&first), ["a", "b"]);
    let rest = get(&kinesis, first["NextShardIterator"].as_str().unwrap()).await;
    assert_eq!(texts(&rest), ["c"]);
    let (code, _) = refused(
        &kinesis,
        "GetRecords",
        json!({"ShardIterator": start, "Limit": 10_001}),
    )
    .await;
    assert_eq!(code, "ValidationException");
}

#[tokio::test(start_paused = true)]
async fn the_answer_has_the_services_members_and_no_others() {
    let kinesis = with_stream(1).await;
    let number = put(&kinesis, "k", "a").await;
    let mut read = get(&kinesis, &iterator(&kinesis, "0", "TRIM_HORIZON").await).await;
    let arrival = read["Records"][0]["ApproximateArrivalTimestamp"].take();
    assert!(arrival.as_f64().unwrap() >= 1_795_399_200.0);
    read["NextShardIterator"].take();
    assert_eq!(
        read,
        json!({
            "NextShardIterator": null,
            "MillisBehindLatest": 0,
            "Records": [{
                "SequenceNumber": number, "ApproximateArrivalTimestamp": null, "Data": "YQ==",
                "PartitionKey": "k",
            }],
        })
    );
}

#[tokio::test(start_paused = true)]
async fn at_a_shards_end_there_are_children_in_place_of_an_iterator() {
    let kinesis = with_stream(2).await;
    let body =
        json!({"StreamName": "s", "PartitionKey": "k", "Data": "YQ==", "ExplicitHashKey": "0"});
    ok(&kinesis, "PutRecord", body).await;
    let waiting = iterator(&kinesis, "0", "LATEST").await;
    let merge = json!({"StreamName": "s", "ShardToMerge": "0", "AdjacentShardToMerge": "1"});
    ok(&kinesis, "MergeShards", merge).await;
    let merged = json!([{
        "ShardId": "shardId-000000000002",
        "ParentShards": ["shardId-000000000000", "shardId-000000000001"],
        "HashKeyRange": {
            "StartingHashKey": "0", "EndingHashKey": "340282366920938463463374607431768211455",
        },
    }]);
    for (start, expected) in [
        (waiting, vec![]),
        (iterator(&kinesis, "0", "TRIM_HORIZON").await, vec!["a"]),
        (iterator(&kinesis, "0", "LATEST").await, vec![]),
        (iterator(&kinesis, "1", "TRIM_HORIZON").await, vec![]),
    ] {
        let end = get(&kinesis, &start).await;
        assert_eq!(texts(&end), expected);
        assert_eq!(end.get("NextShardIterator"), None);
        assert_eq!(end["ChildShards"], merged);
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_with_records_left_still_has_an_iterator_and_no_children() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "a").await;
    put(&kinesis, "k", "b").await;
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let split = json!({"StreamName": "s", "ShardToSplit": "0", "NewStartingHashKey": "1000"});
    ok(&kinesis, "SplitShard", split).await;
    let first = ok(
        &kinesis,
        "GetRecords",
        json!({"ShardIterator": start, "Limit": 1}),
    )
    .await;
    assert_eq!(first.get("ChildShards"), None);
    let end = get(&kinesis, first["NextShardIterator"].as_str().unwrap()).await;
    assert_eq!(texts(&end), ["b"]);
    assert_eq!(end["ChildShards"].as_array().unwrap().len(), 2);
    assert_eq!(
        end["ChildShards"][1]["ParentShards"],
        json!(["shardId-000000000000"])
    );
}

#[tokio::test(start_paused = true)]
async fn millis_behind_latest_is_the_age_of_what_is_left() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "a").await;
    tokio::time::advance(Duration::from_secs(2)).await;
    put(&kinesis, "k", "b").await;
    tokio::time::advance(Duration::from_secs(3)).await;
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    let first = ok(
        &kinesis,
        "GetRecords",
        json!({"ShardIterator": start, "Limit": 1}),
    )
    .await;
    assert_eq!(first["MillisBehindLatest"], 3000);
    let rest = get(&kinesis, first["NextShardIterator"].as_str().unwrap()).await;
    assert_eq!(rest["MillisBehindLatest"], 0);
}

#[tokio::test(start_paused = true)]
async fn records_past_their_retention_are_gone() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "old").await;
    tokio::time::advance(Duration::from_secs(24 * 3600)).await;
    put(&kinesis, "k", "new").await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let read = get(&kinesis, &iterator(&kinesis, "0", "TRIM_HORIZON").await).await;
    assert_eq!(texts(&read), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn with_the_services_limits_a_shard_is_read_five_times_a_second() {
    let kinesis = stream_of(
        KinesisOptions {
            limits: Limits::Aws,
            ..options()
        },
        1,
    )
    .await;
    let start = iterator(&kinesis, "0", "TRIM_HORIZON").await;
    for _ in 0..5 {
        get(&kinesis, &start).await;
    }
    assert_refused(
        &kinesis,
        "GetRecords",
        json!({"ShardIterator": start}),
        "ProvisionedThroughputExceededException",
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.",
    )
    .await;
    tokio::time::advance(Duration::from_millis(250)).await;
    get(&kinesis, &start).await;
}

#[tokio::test(start_paused = true)]
async fn an_iterator_is_base64_of_a_version_and_whole_blocks() {
    let kinesis = with_stream(1).await;
    let text = iterator(&kinesis, "0", "LATEST").await;
    let bytes = base64_simd::STANDARD.decode_to_vec(&text).unwrap();
    let (version, blocks) = bytes.split_at(8);
    assert_eq!(version, [0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(blocks.len() % 16, 0);
    assert!(text.len() <= 512);
}

#[tokio::test(start_paused = true)]
async fn times_have_milliseconds_in_requests_and_answers() {
    let kinesis = with_stream(1).await;
    put(&kinesis, "k", "a").await;
    tokio::time::advance(Duration::from_millis(554)).await;
    put(&kinesis, "k", "b").await;
    for (ms, expected) in [(553, vec!["b"]), (554, vec!["b"]), (0, vec!["a", "b"])] {
        let at = (NOW_MS + ms) as f64 / 1000.0;
        let start = json!({"StreamName": "s", "ShardId": "0", "ShardIteratorType": "AT_TIMESTAMP",
            "Timestamp": at});
        let start = ok(&kinesis, "GetShardIterator", start).await;
        let read = get(&kinesis, start["ShardIterator"].as_str().unwrap()).await;
        assert_eq!(texts(&read), expected, "{ms}");
        let last = read["Records"].as_array().unwrap().last().unwrap();
        assert_eq!(last["ApproximateArrivalTimestamp"], 1_795_399_200.554);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_gives_ten_thousand_records_at_most() {
    let kinesis = with_stream(1).await;
    let entry = json!({"PartitionKey": "k", "Data": ""});
    let batch = json!({"StreamName": "s", "Records": vec![entry; 500]});
    for _ in 0..21 {
        ok(&kinesis, "PutRecords", batch.clone()).await;
    }
    let first = get(&kinesis, &iterator(&kinesis, "0", "TRIM_HORIZON").await).await;
    assert_eq!(first["Records"].as_array().unwrap().len(), 10_000);
    let rest = get(&kinesis, first["NextShardIterator"].as_str().unwrap()).await;
    assert_eq!(rest["Records"].as_array().unwrap().len(), 500);
}

#[tokio::test(start_paused = true)]
async fn a_read_gives_ten_mebibytes_at_most_and_the_next_has_to_wait_for_five_seconds() {
    let limits = Limits::Aws;
    let kinesis = stream_of(
        KinesisOptions {
            limits,
            ..options()
        },
        1,
    )
    .await;
    // Written in CBOR in any case: JSON of this size is slow without optimisation.
    let data = base64_simd::STANDARD.encode_to_string(vec![b'x'; (1 << 20) - 1]);
    let large = json!({"StreamName": "s", "PartitionKey": "k", "Data": data});
    let large = encoded(Format::Cbor, "PutRecord", &large);
    for _ in 0..11 {
        assert_eq!(kinesis.call(large.clone()).await.status(), StatusCode::OK);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let first = get(&kinesis, &iterator(&kinesis, "0", "TRIM_HORIZON").await).await;
    assert_eq!(first["Records"].as_array().unwrap().len(), 10);
    let next = json!({"ShardIterator": first["NextShardIterator"]});
    let text =
        "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.";
    let code = "ProvisionedThroughputExceededException";
    tokio::time::advance(Duration::from_millis(4900)).await;
    assert_refused(&kinesis, "GetRecords", next.clone(), code, text).await;
    tokio::time::advance(Duration::from_millis(100)).await;
    let rest = ok(&kinesis, "GetRecords", next).await;
    assert_eq!(rest["Records"].as_array().unwrap().len(), 1);
}
