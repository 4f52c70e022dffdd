//! Queues on the wire: their life, and what they have in common.

use std::time::Duration;

use super::*;

mod delivery;
mod durable;
mod waiting;

const RECEIVE: &str = "ReceiveQueueRecords";
const RECEIVE_DEAD: &str = "ReceiveDeadLetterQueueRecords";
const ACKNOWLEDGE: &str = "AcknowledgeQueueRecords";

/// An on-demand stream with a queue from its beginning on; the queue's ARN.
async fn with_queue(kinesis: &Kinesis, attributes: Value) -> String {
    on_demand(kinesis).await;
    queue(kinesis, "q", "TRIM_HORIZON", attributes).await
}

async fn on_demand(kinesis: &Kinesis) {
    let mode = json!({"StreamMode": "ON_DEMAND"});
    let create = json!({"StreamName": "s", "StreamModeDetails": mode});
    ok(kinesis, "CreateStream", create).await;
}

fn creation(name: &str, start: &str, attributes: Value) -> Value {
    json!({"QueueName": name, "QueueAttributes": attributes, "StreamConfigurationList": [
        {"StreamARN": STREAM_ARN, "StartingPosition": {"Type": start}}
    ]})
}

async fn queue(kinesis: &Kinesis, name: &str, start: &str, attributes: Value) -> String {
    let created = ok(kinesis, "CreateQueue", creation(name, start, attributes)).await;
    let arn = created["QueueDescription"]["QueueARN"].as_str();
    arn.unwrap().to_owned()
}

/// What a receive gives that waits as short as it can.
async fn receive(kinesis: &Kinesis, operation: &str, arn: &str) -> Vec<Value> {
    let body = json!({"QueueARN": arn, "WaitTimeSeconds": 1});
    let received = ok(kinesis, operation, body).await;
    received["QueueRecords"].as_array().unwrap().clone()
}

fn data(records: &[Value]) -> Vec<String> {
    let mut data = texts(&json!({"Records": records}));
    data.sort();
    data
}

fn entries(records: &[Value]) -> Vec<Value> {
    let handle = |record: &Value| json!({"ReceiptHandle": record["ReceiptHandle"]});
    records.iter().map(handle).collect()
}

/// The numbers of successful and failed entries.
async fn hand(
    kinesis: &Kinesis,
    operation: &str,
    arn: &str,
    entries: Vec<Value>,
) -> (usize, Vec<Value>) {
    let body = json!({"QueueARN": arn, "Entries": entries});
    let answer = ok(kinesis, operation, body).await;
    let failed = answer["Failed"].as_array().unwrap().clone();
    (answer["Successful"].as_array().unwrap().len(), failed)
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_created_described_updated_listed_and_deleted() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    assert!(arn.starts_with("arn:aws:kinesis:us-east-1:000000000000:queue/"));
    assert!(!arn.ends_with("/q"), "its id is not its name");
    let described = json!({"QueueDescription": {
        "QueueName": "q", "QueueARN": arn, "QueueStatus": "ACTIVE",
        "QueueCreationTimestamp": 1_795_399_200.0,
        "StreamConfigurationList": [{"StreamARN": STREAM_ARN, "StartingPosition":
            {"Type": "TRIM_HORIZON", "Timestamp": 1_795_399_200.0}}],
        "QueueAttributes": {"VisibilityTimeoutSeconds": 30, "DeadLetterConfiguration":
            {"TargetType": "BUILT_IN", "MaxReceiveCount": 6}},
    }});
    let by_arn = json!({"QueueARN": arn});
    assert_eq!(
        ok(&kinesis, "DescribeQueue", by_arn.clone()).await,
        described
    );
    let update = json!({"QueueARN": arn, "QueueAttributes": {"VisibilityTimeoutSeconds": 5,
        "DeadLetterConfiguration": {"TargetType": "NONE"}}});
    let updated = ok(&kinesis, "UpdateQueue", update).await;
    let attributes = json!({"VisibilityTimeoutSeconds": 5, "DeadLetterConfiguration":
        {"TargetType": "NONE"}});
    assert_eq!(updated["QueueDescription"]["QueueAttributes"], attributes);
    let stream = json!({"StreamARN": STREAM_ARN, "StreamCreationTimestamp": 1_795_399_200.0});
    let listed = json!({"QueueSummaries": [{
        "QueueName": "q", "QueueARN": arn, "QueueStatus": "ACTIVE",
        "QueueCreationTimestamp": 1_795_399_200.0, "Streams": [stream],
    }]});
    assert_eq!(ok(&kinesis, "ListQueues", json!({})).await, listed);
    let filtered = json!({"StreamFilter": [stream]});
    assert_eq!(ok(&kinesis, "ListQueues", filtered).await, listed);
    let other = json!({"StreamFilter": [{"StreamARN": format!("{STREAM_ARN}2")}]});
    let other = ok(&kinesis, "ListQueues", other).await;
    assert_eq!(other, json!({"QueueSummaries": []}));
    let summary = json!({"StreamName": "s"});
    let summary = ok(&kinesis, "DescribeStreamSummary", summary).await;
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!(
        (&summary["QueueCount"], &summary["ConsumerCount"]),
        (&json!(1), &json!(0))
    );
    ok(&kinesis, "DeleteQueue", by_arn.clone()).await;
    let missing = format!("Queue {arn} under account 000000000000 not found.");
    let code = "ResourceNotFoundException";
    assert_refused(&kinesis, "DescribeQueue", by_arn, code, &missing).await;
}

#[tokio::test(start_paused = true)]
async fn queues_are_listed_page_after_page_and_a_token_dies_after_five_minutes() {
    let kinesis = kinesis();
    on_demand(&kinesis).await;
    for name in ["c", "a", "b"] {
        queue(&kinesis, name, "LATEST", json!({})).await;
    }
    let names = |listed: &Value| -> Vec<String> {
        let queues = listed["QueueSummaries"].as_array().unwrap().iter();
        queues
            .map(|queue| queue["QueueName"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = ok(&kinesis, "ListQueues", json!({"MaxResults": 2})).await;
    assert_eq!(names(&first), ["a", "b"]);
    let next = json!({"NextToken": first["NextToken"]});
    let second = ok(&kinesis, "ListQueues", next.clone()).await;
    assert_eq!(
        (names(&second), second.get("NextToken")),
        (vec!["c".to_owned()], None)
    );
    tokio::time::advance(Duration::from_secs(301)).await;
    let (code, _) = refused(&kinesis, "ListQueues", next).await;
    assert_eq!(code, "ExpiredNextTokenException");
    let (code, _) = refused(&kinesis, "ListQueues", json!({"NextToken": "x"})).await;
    assert_eq!(code, "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn a_queue_needs_a_stream_on_demand_which_then_stays_and_stays_so() {
    let kinesis = with_stream(1).await;
    let (code, _) = refused(&kinesis, "CreateQueue", creation("q", "LATEST", json!({}))).await;
    assert_eq!(code, "ValidationException");
    let mode =
        |mode: &str| json!({"StreamARN": STREAM_ARN, "StreamModeDetails": {"StreamMode": mode}});
    ok(&kinesis, "UpdateStreamMode", mode("ON_DEMAND")).await;
    let arn = queue(&kinesis, "q", "LATEST", json!({})).await;
    let (code, _) = refused(&kinesis, "UpdateStreamMode", mode("PROVISIONED")).await;
    assert_eq!(code, "ResourceInUseException");
    let delete = json!({"StreamName": "s", "EnforceConsumerDeletion": true});
    let (code, _) = refused(&kinesis, "DeleteStream", delete.clone()).await;
    assert_eq!(code, "ResourceInUseException");
    ok(&kinesis, "DeleteQueue", json!({"QueueARN": arn})).await;
    ok(&kinesis, "DeleteStream", delete).await;
    let (code, _) = refused(&kinesis, "CreateQueue", creation("q", "LATEST", json!({}))).await;
    assert_eq!(code, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn queues_count_with_the_consumers_and_a_name_is_taken_once() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    let (code, _) = refused(&kinesis, "CreateQueue", creation("q", "LATEST", json!({}))).await;
    assert_eq!(code, "ResourceInUseException");
    for at in 0..10 {
        queue(&kinesis, &format!("q{at}"), "LATEST", json!({})).await;
    }
    for at in 0..9 {
        register(&kinesis, &format!("c{at}")).await;
    }
    let (code, _) = refused(
        &kinesis,
        "CreateQueue",
        creation("one", "LATEST", json!({})),
    )
    .await;
    assert_eq!(code, "LimitExceededException");
    let register = json!({"StreamARN": STREAM_ARN, "ConsumerName": "one"});
    let (code, _) = refused(&kinesis, "RegisterStreamConsumer", register).await;
    assert_eq!(code, "LimitExceededException");
    ok(&kinesis, "DeleteQueue", json!({"QueueARN": arn})).await;
    queue(&kinesis, "q", "LATEST", json!({})).await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_passes_through_its_states_and_five_may_do_so_at_once() {
    let second = Duration::from_secs(1);
    let delays = Delays {
        create: second,
        delete: second,
        update: second,
    };
    let options = KinesisOptions {
        delays,
        ..options()
    };
    let kinesis = Kinesis::open(options).unwrap();
    on_demand(&kinesis).await;
    tokio::time::advance(second).await;
    let latest = creation("q", "LATEST", json!({}));
    let created = ok(&kinesis, "CreateQueue", latest).await;
    let created = &created["QueueDescription"];
    assert_eq!(created["QueueStatus"], "CREATING");
    let start = json!({"Type": "LATEST"});
    assert_eq!(
        created["StreamConfigurationList"][0]["StartingPosition"],
        start
    );
    let arn = created["QueueARN"].as_str().unwrap().to_owned();
    let by_arn = json!({"QueueARN": arn});
    let not_yet =
        format!("Queue {arn} under account 000000000000 not ACTIVE, instead in state CREATING");
    let code = "InvalidArgumentException";
    assert_refused(&kinesis, RECEIVE, by_arn.clone(), code, &not_yet).await;
    for at in 0..4 {
        queue(&kinesis, &format!("q{at}"), "LATEST", json!({})).await;
    }
    let (code, _) = refused(&kinesis, "CreateQueue", creation("q9", "LATEST", json!({}))).await;
    assert_eq!(code, "LimitExceededException");
    tokio::time::advance(second).await;
    let update = json!({"QueueARN": arn, "QueueAttributes": {"VisibilityTimeoutSeconds": 7}});
    let updated = ok(&kinesis, "UpdateQueue", update.clone()).await;
    assert_eq!(updated["QueueDescription"]["QueueStatus"], "UPDATING");
    let (code, _) = refused(&kinesis, "UpdateQueue", update).await;
    assert_eq!(code, "ResourceInUseException");
    put(&kinesis, "k", "a").await;
    assert_eq!(receive(&kinesis, RECEIVE, &arn).await.len(), 1);
    tokio::time::advance(second).await;
    ok(&kinesis, "DeleteQueue", by_arn.clone()).await;
    let described = ok(&kinesis, "DescribeQueue", by_arn.clone()).await;
    assert_eq!(described["QueueDescription"]["QueueStatus"], "DELETING");
    tokio::time::advance(second).await;
    let (code, _) = refused(&kinesis, "DescribeQueue", by_arn).await;
    assert_eq!(code, "ResourceNotFoundException");
}

#[tokio::test(start_paused = true)]
async fn combinations_that_the_model_cannot_tell_are_refused() {
    let kinesis = kinesis();
    on_demand(&kinesis).await;
    let with = |start: Value, attributes: Value| {
        json!({"QueueName": "q", "QueueAttributes": attributes, "StreamConfigurationList":
            [{"StreamARN": STREAM_ARN, "StartingPosition": start}]})
    };
    let two = json!({"QueueName": "q", "StreamConfigurationList":
        [{"StreamARN": STREAM_ARN}, {"StreamARN": STREAM_ARN}]});
    let built_in = json!({"DeadLetterConfiguration": {"TargetType": "BUILT_IN"}});
    for body in [
        two,
        with(json!({"Type": "AT_TIMESTAMP"}), json!({})),
        with(
            json!({"Type": "AT_TIMESTAMP", "Timestamp": 1_999_999_999}),
            json!({}),
        ),
        with(
            json!({"Type": "LATEST", "Timestamp": 1_795_399_200}),
            json!({}),
        ),
        with(json!({"Type": "LATEST"}), built_in),
    ] {
        let (code, text) = refused(&kinesis, "CreateQueue", body.clone()).await;
        assert_eq!(code, "ValidationException", "{body}");
        assert!(!text.contains("validation error"), "{text}");
    }
    let malformed = json!([{"ReceiptHandle": "nonsense"}]);
    let arn = queue(&kinesis, "q", "LATEST", json!({})).await;
    let malformed = malformed.as_array().unwrap().clone();
    let (_, failed) = hand(&kinesis, ACKNOWLEDGE, &arn, malformed).await;
    assert_eq!(failed[0]["ErrorCode"], "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn a_queue_has_tags() {
    let kinesis = kinesis();
    on_demand(&kinesis).await;
    let mut create = creation("q", "LATEST", json!({}));
    create["Tags"] = json!({"a": "1", "b": "2"});
    let created = ok(&kinesis, "CreateQueue", create).await;
    let arn = &created["QueueDescription"]["QueueARN"];
    let tag = json!({"ResourceARN": arn, "Tags": {"c": "3"}});
    ok(&kinesis, "TagResource", tag).await;
    let untag = json!({"ResourceARN": arn, "TagKeys": ["a"]});
    ok(&kinesis, "UntagResource", untag).await;
    let tags = json!({"ResourceARN": arn});
    let tags = ok(&kinesis, "ListTagsForResource", tags).await;
    let expected = json!([{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "3"}]);
    assert_eq!(tags["Tags"], expected);
}
