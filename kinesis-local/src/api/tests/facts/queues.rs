//! Queues on the wire.

use std::time::Duration;

use super::*;

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

const RECEIVE: &str = "ReceiveQueueRecords";
const RECEIVE_DEAD: &str = "ReceiveDeadLetterQueueRecords";
const ACKNOWLEDGE: &str = "AcknowledgeQueueRecords";

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
async fn a_receive_waits_until_a_record_is_written() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    let began = kinesis.clock().now();
    let waiting = tokio::spawn({
        let (kinesis, arn) = (kinesis.clone(), arn.clone());
        async move {
            let body = json!({"QueueARN": arn, "WaitTimeSeconds": 20});
            ok(&kinesis, RECEIVE, body).await
        }
    });
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!waiting.is_finished());
    put(&kinesis, "k", "a").await;
    let received = waiting.await.unwrap();
    assert_eq!(data(received["QueueRecords"].as_array().unwrap()), ["a"]);
    assert_eq!(kinesis.clock().now() - began, Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_receive_waits_until_a_timeout_ends_or_its_time_is_over() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({"VisibilityTimeoutSeconds": 5})).await;
    put(&kinesis, "k", "a").await;
    receive(&kinesis, RECEIVE, &arn).await;
    let began = kinesis.clock().now();
    let body = json!({"QueueARN": arn, "WaitTimeSeconds": 20, "VisibilityTimeoutSeconds": 60});
    let received = ok(&kinesis, RECEIVE, body).await;
    assert_eq!(received["QueueRecords"].as_array().unwrap().len(), 1);
    assert_eq!(kinesis.clock().now() - began, Duration::from_secs(5));
    let nothing = ok(&kinesis, RECEIVE, json!({"QueueARN": arn})).await;
    assert_eq!(nothing, json!({"QueueRecords": []}));
    let waited = kinesis.clock().now() - began;
    assert_eq!(waited, Duration::from_secs(5 + 9), "9 s by default");
}

#[tokio::test(start_paused = true)]
async fn a_record_made_visible_by_its_receiver_wakes_who_waits() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    put(&kinesis, "k", "a").await;
    let first = receive(&kinesis, RECEIVE, &arn).await;
    let waiting = tokio::spawn({
        let (kinesis, arn) = (kinesis.clone(), arn.clone());
        async move { receive(&kinesis, RECEIVE, &arn).await }
    });
    tokio::task::yield_now().await;
    let mut entries = entries(&first);
    entries[0]["VisibilityTimeoutSeconds"] = json!(0);
    let (done, _) = hand(&kinesis, "UpdateQueueRecordsVisibility", &arn, entries).await;
    assert_eq!(done, 1);
    let began = kinesis.clock().now();
    assert_eq!(data(&waiting.await.unwrap()), ["a"]);
    assert_eq!(kinesis.clock().now(), began);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_that_went_away_had_taken_comes_again() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({"VisibilityTimeoutSeconds": 3})).await;
    let waiting = tokio::spawn({
        let (kinesis, arn) = (kinesis.clone(), arn.clone());
        async move { receive(&kinesis, RECEIVE, &arn).await }
    });
    tokio::task::yield_now().await;
    waiting.abort();
    put(&kinesis, "k", "a").await;
    assert!(waiting.await.unwrap_err().is_cancelled());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(data(&receive(&kinesis, RECEIVE, &arn).await), ["a"]);
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

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_queue_that_is_deleted_or_at_a_service_that_closes_is_told() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    let other = queue(&kinesis, "other", "LATEST", json!({})).await;
    let wait = |arn: &str| {
        let (kinesis, body) = (kinesis.clone(), json!({"QueueARN": arn}));
        tokio::spawn(async move { answer(&kinesis, RECEIVE, &body).await })
    };
    let (at_deleted, at_closed) = (wait(&arn), wait(&other));
    tokio::task::yield_now().await;
    let began = kinesis.clock().now();
    ok(&kinesis, "DeleteQueue", json!({"QueueARN": arn})).await;
    let (status, told) = at_deleted.await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(told["__type"], "ResourceNotFoundException");
    kinesis.close().await;
    let told = at_closed.await.unwrap();
    assert_eq!(told, (StatusCode::OK, json!({"QueueRecords": []})));
    assert_eq!(kinesis.clock().now(), began);
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

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_when_the_clock_is_advanced() {
    let clock = Clock::starting_at(NOW_MS).advanceable();
    let options = KinesisOptions {
        clock: clock.clone(),
        ..options()
    };
    let kinesis = Kinesis::open(options).unwrap();
    let arn = with_queue(&kinesis, json!({})).await;
    put(&kinesis, "k", "a").await;
    receive(&kinesis, RECEIVE, &arn).await;
    let waiting = tokio::spawn({
        let (kinesis, body) = (
            kinesis.clone(),
            json!({"QueueARN": arn, "WaitTimeSeconds": 20}),
        );
        async move { ok(&kinesis, RECEIVE, body).await }
    });
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(30)).unwrap();
    let began = clock.now();
    let received = waiting.await.unwrap();
    assert_eq!(data(received["QueueRecords"].as_array().unwrap()), ["a"]);
    assert_eq!(clock.now(), began);
}

mod durable {
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
}
