//! Which records a queue delivers, how often, and to its dead letters.

use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_record_that_is_not_acknowledged_comes_again_after_its_timeout_with_another_handle() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({"VisibilityTimeoutSeconds": 10})).await;
    put(&kinesis, "k", "a").await;
    let first = receive(&kinesis, RECEIVE, &arn).await;
    assert_eq!(data(&first), ["a"]);
    let record = &first[0];
    assert_eq!(record["PartitionKey"], "k");
    assert_eq!(record["ApproximateArrivalTimestamp"], 1_795_399_200.0);
    assert_eq!(record["FirstReceiveTimestamp"], 1_795_399_200.0);
    assert_eq!(record["ReceiveCount"], 1);
    assert!(
        receive(&kinesis, RECEIVE, &arn).await.is_empty(),
        "it is in flight"
    );
    tokio::time::advance(Duration::from_secs(10)).await;
    let second = receive(&kinesis, RECEIVE, &arn).await;
    assert_eq!(second[0]["RecordId"], record["RecordId"]);
    assert_eq!(second[0]["ReceiveCount"], 2);
    assert_eq!(second[0]["FirstReceiveTimestamp"], 1_795_399_200.0);
    let (done, failed) = hand(&kinesis, ACKNOWLEDGE, &arn, entries(&first)).await;
    assert_eq!((done, failed.len()), (0, 1));
    assert_eq!(failed[0]["ErrorCode"], "InvalidArgumentException");
    assert_eq!(failed[0]["ReceiptHandle"], record["ReceiptHandle"]);
    let (done, _) = hand(&kinesis, ACKNOWLEDGE, &arn, entries(&second)).await;
    assert_eq!(done, 1);
    let (_, failed) = hand(&kinesis, ACKNOWLEDGE, &arn, entries(&second)).await;
    assert_eq!(failed[0]["ErrorCode"], "ResourceNotFoundException");
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(receive(&kinesis, RECEIVE, &arn).await.is_empty());
    assert_eq!(
        texts(&get(&kinesis, &iterator_of_all(&kinesis).await).await).len(),
        1,
        "the stream keeps it"
    );
}

/// An iterator over the shard that has records.
async fn iterator_of_all(kinesis: &Kinesis) -> String {
    for shard in ["0", "1", "2", "3"] {
        let start = iterator(kinesis, shard, "TRIM_HORIZON").await;
        if !texts(&get(kinesis, &start).await).is_empty() {
            return start;
        }
    }
    panic!("no shard has a record");
}

#[tokio::test(start_paused = true)]
async fn a_record_received_too_often_is_a_dead_letter_until_it_is_restored_or_acknowledged() {
    let kinesis = kinesis();
    let attributes = json!({"VisibilityTimeoutSeconds": 1, "DeadLetterConfiguration":
        {"TargetType": "BUILT_IN", "MaxReceiveCount": 2}});
    let arn = with_queue(&kinesis, attributes).await;
    put(&kinesis, "k", "a").await;
    let mut last = Vec::new();
    for count in 1..=2 {
        last = receive(&kinesis, RECEIVE, &arn).await;
        assert_eq!(last[0]["ReceiveCount"], count);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert!(receive(&kinesis, RECEIVE, &arn).await.is_empty());
    let (_, failed) = hand(&kinesis, ACKNOWLEDGE, &arn, entries(&last)).await;
    assert_eq!(failed[0]["ErrorCode"], "ResourceNotFoundException");
    let dead = receive(&kinesis, RECEIVE_DEAD, &arn).await;
    assert_eq!(data(&dead), ["a"]);
    assert_eq!(dead[0]["RecordId"], last[0]["RecordId"]);
    let (_, failed) = hand(&kinesis, ACKNOWLEDGE, &arn, entries(&dead)).await;
    assert_eq!(failed[0]["ErrorCode"], "InvalidArgumentException");
    let mut hide = entries(&dead);
    hide[0]["VisibilityTimeoutSeconds"] = json!(100);
    let hidden = "UpdateDeadLetterQueueRecordsVisibility";
    assert_eq!(hand(&kinesis, hidden, &arn, hide).await.0, 1);
    tokio::time::advance(Duration::from_secs(50)).await;
    assert!(receive(&kinesis, RECEIVE_DEAD, &arn).await.is_empty());
    let restore = "RestoreDeadLetterQueueRecords";
    assert_eq!(hand(&kinesis, restore, &arn, entries(&dead)).await.0, 1);
    let (_, failed) = hand(&kinesis, restore, &arn, entries(&dead)).await;
    assert_eq!(failed[0]["ErrorCode"], "ResourceNotFoundException");
    for count in 1..=2 {
        let again = receive(&kinesis, RECEIVE, &arn).await;
        assert_eq!(again[0]["ReceiveCount"], count, "it starts again");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let dead = receive(&kinesis, RECEIVE_DEAD, &arn).await;
    let acknowledge = "AcknowledgeDeadLetterQueueRecords";
    assert_eq!(hand(&kinesis, acknowledge, &arn, entries(&dead)).await.0, 1);
    tokio::time::advance(Duration::from_secs(100)).await;
    for operation in [RECEIVE, RECEIVE_DEAD] {
        assert!(receive(&kinesis, operation, &arn).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn two_queues_deliver_a_record_under_the_same_id_and_each_at_its_own_pace() {
    let kinesis = kinesis();
    let one = with_queue(&kinesis, json!({})).await;
    let other = queue(&kinesis, "other", "LATEST", json!({})).await;
    put(&kinesis, "k", "a").await;
    let of_one = receive(&kinesis, RECEIVE, &one).await;
    hand(&kinesis, ACKNOWLEDGE, &one, entries(&of_one)).await;
    let of_other = receive(&kinesis, RECEIVE, &other).await;
    assert_eq!(of_one[0]["RecordId"], of_other[0]["RecordId"]);
    let id = of_one[0]["RecordId"].as_str().unwrap();
    assert!(id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let (_, failed) = hand(&kinesis, ACKNOWLEDGE, &one, entries(&of_other)).await;
    assert_eq!(failed[0]["ErrorCode"], "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn records_before_and_after_a_split_all_come() {
    let kinesis = kinesis();
    let create = json!({"StreamName": "s", "ShardCount": 1});
    ok(&kinesis, "CreateStream", create).await;
    let mode =
        |mode: &str| json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": mode}});
    ok(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await;
    let arn = queue(&kinesis, "q", "LATEST", json!({})).await;
    let mut written = Vec::new();
    for at in 0..9 {
        if at == 5 {
            split_first(&kinesis);
        }
        put(&kinesis, &format!("key {at}"), &format!("{at}")).await;
        written.push(format!("{at}"));
    }
    let mut read = Vec::new();
    while let received = receive(&kinesis, RECEIVE, &arn).await
        && !received.is_empty()
    {
        read.extend(data(&received));
        hand(&kinesis, ACKNOWLEDGE, &arn, entries(&received)).await;
    }
    read.sort();
    assert_eq!(read, written);
}

/// As a stream on demand does it by itself.
fn split_first(kinesis: &Kinesis) {
    let cell = kinesis.stream_cell("s");
    let now_ms = kinesis.clock().epoch_millis();
    cell.write()
        .split(0, kinesis_core::HashKey(1 << 127), now_ms)
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_outlives_the_streams_retention() {
    let kinesis = kinesis();
    let attributes = json!({"VisibilityTimeoutSeconds": 0, "DeadLetterConfiguration":
        {"TargetType": "BUILT_IN", "MaxReceiveCount": 1}});
    let arn = with_queue(&kinesis, attributes).await;
    put(&kinesis, "k", "dead").await;
    receive(&kinesis, RECEIVE, &arn).await;
    put(&kinesis, "k", "held").await;
    let body = json!({"QueueARN": arn, "VisibilityTimeoutSeconds": 43200});
    let held = ok(&kinesis, RECEIVE, body).await;
    put(&kinesis, "k", "unread").await;
    tokio::time::advance(Duration::from_secs(24 * 3600 + 1)).await;
    for operation in [RECEIVE, RECEIVE_DEAD] {
        assert!(receive(&kinesis, operation, &arn).await.is_empty());
    }
    let held = entries(held["QueueRecords"].as_array().unwrap());
    let (_, failed) = hand(&kinesis, ACKNOWLEDGE, &arn, held).await;
    assert_eq!(failed[0]["ErrorCode"], "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_used_refuses_a_receive_which_then_took_nothing() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    let start = json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/a"});
    ok(&kinesis, "StartStreamEncryption", start).await;
    put(&kinesis, "k", "a").await;
    kinesis.kms().set("alias/a", crate::KmsKeyState::Disabled);
    let (code, _) = refused(&kinesis, RECEIVE, json!({"QueueARN": arn})).await;
    assert_eq!(code, "KMSDisabledException");
    kinesis.kms().set("alias/a", crate::KmsKeyState::Enabled);
    let received = receive(&kinesis, RECEIVE, &arn).await;
    assert_eq!(received[0]["ReceiveCount"], 1);
}
