//! What operations on queues did is there after a crash.

use super::*;

fn open(dir: &std::path::Path, clock: Option<Clock>) -> Kinesis {
    let options = KinesisOptions {
        data_dir: Some(dir.to_owned()),
        ..options()
    };
    let clock = clock.unwrap_or(options.clock.clone());
    Kinesis::open(KinesisOptions { clock, ..options }).unwrap()
}

/// Ends it as in a crash and opens it again at the same time.
fn crash(kinesis: Kinesis, dir: &std::path::Path) -> Kinesis {
    let clock = kinesis.clock();
    drop(kinesis);
    open(dir, Some(clock))
}

#[tokio::test(start_paused = true)]
async fn deliveries_acknowledgements_and_dead_letters_outlive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path(), None);
    let attributes = json!({"VisibilityTimeoutSeconds": 10, "DeadLetterConfiguration":
        {"TargetType": "BUILT_IN", "MaxReceiveCount": 2}});
    let arn = with_queue(&kinesis, attributes).await;
    for text in ["done", "held", "dead"] {
        put(&kinesis, text, text).await;
    }
    let first = receive(&kinesis, RECEIVE, &arn).await;
    let named = |records: &[Value], name: &str| -> Vec<Value> {
        let of_name = records
            .iter()
            .filter(|record| record["PartitionKey"] == name);
        of_name.cloned().collect()
    };
    let done = entries(&named(&first, "done"));
    assert_eq!(hand(&kinesis, ACKNOWLEDGE, &arn, done).await.0, 1);
    let mut hide = entries(&named(&first, "held"));
    hide[0]["VisibilityTimeoutSeconds"] = json!(100);
    let hidden = hand(&kinesis, "UpdateQueueRecordsVisibility", &arn, hide).await;
    assert_eq!(hidden.0, 1);
    let kinesis = crash(kinesis, dir.path());
    assert!(
        receive(&kinesis, RECEIVE, &arn).await.is_empty(),
        "still in flight"
    );
    tokio::time::advance(Duration::from_secs(10)).await;
    let second = receive(&kinesis, RECEIVE, &arn).await;
    assert_eq!(data(&second), ["dead"]);
    assert_eq!(second[0]["ReceiveCount"], 2);
    tokio::time::advance(Duration::from_secs(10)).await;
    let kinesis = crash(kinesis, dir.path());
    let dead = receive(&kinesis, RECEIVE_DEAD, &arn).await;
    assert_eq!(data(&dead), ["dead"]);
    let kinesis = crash(kinesis, dir.path());
    let restored = hand(
        &kinesis,
        "RestoreDeadLetterQueueRecords",
        &arn,
        entries(&dead),
    )
    .await;
    assert_eq!(restored.0, 1, "a handle outlives a crash");
    let held = entries(&named(&first, "held"));
    assert_eq!(hand(&kinesis, ACKNOWLEDGE, &arn, held).await.0, 1);
    let kinesis = crash(kinesis, dir.path());
    let third = receive(&kinesis, RECEIVE, &arn).await;
    assert_eq!(
        (data(&third), &third[0]["ReceiveCount"]),
        (vec!["dead".to_owned()], &json!(1))
    );
}

#[tokio::test(start_paused = true)]
async fn queues_their_settings_and_their_deletion_outlive_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path(), None);
    let arn = with_queue(&kinesis, json!({})).await;
    let gone = queue(&kinesis, "gone", "LATEST", json!({})).await;
    ok(&kinesis, "DeleteQueue", json!({"QueueARN": gone})).await;
    let update = json!({"QueueARN": arn, "QueueAttributes": {"VisibilityTimeoutSeconds": 7}});
    ok(&kinesis, "UpdateQueue", update).await;
    let tag = json!({"ResourceARN": arn, "Tags": {"c": "3"}});
    ok(&kinesis, "TagResource", tag).await;
    let by_arn = json!({"QueueARN": arn});
    let before = ok(&kinesis, "DescribeQueue", by_arn.clone()).await;
    let kinesis = crash(kinesis, dir.path());
    assert_eq!(ok(&kinesis, "DescribeQueue", by_arn).await, before);
    let listed = ok(&kinesis, "ListQueues", json!({})).await;
    assert_eq!(listed["QueueSummaries"].as_array().unwrap().len(), 1);
    let tags = json!({"ResourceARN": arn});
    let tags = ok(&kinesis, "ListTagsForResource", tags).await;
    assert_eq!(tags["Tags"][0]["Key"], "c");
    queue(&kinesis, "gone", "LATEST", json!({})).await;
}
