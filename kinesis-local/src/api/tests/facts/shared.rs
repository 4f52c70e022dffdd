//! What another account may do with a queue, and on which conditions.

use super::*;

const OTHER: &str = "111122223333";

/// An answer to a request that another account signed; its code where it was refused.
async fn as_other(kinesis: &Kinesis, account: &str, operation: &str, body: Value) -> Value {
    let mut request = request(operation, &body);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={account}/20261123/us-east-1/kinesis/aws4_request, \
         SignedHeaders=host, Signature=abc"
    );
    let headers = request.headers_mut();
    headers.insert("authorization", authorization.parse().unwrap());
    decoded(FORMAT, kinesis, operation, request).await.1
}

fn policy(resource: &str, effect: &str, actions: &[&str], condition: Value) -> Value {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": OTHER}, "Action": "kinesis:*", "Resource": resource,
            "Condition": {"StringEquals": {"aws:PrincipalAccount": "000000000000"}}},
        {"Effect": effect, "Principal": "*", "Action": actions, "Resource": resource,
            "Condition": condition},
    ]});
    json!({"ResourceARN": resource, "Policy": policy.to_string()})
}

async fn with_queue() -> (Kinesis, String) {
    let kinesis = kinesis();
    let create = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    let create = json!({"QueueName": "q", "Tags": {"team": "air"}, "StreamConfigurationList": [
        {"StreamARN": STREAM_ARN, "StartingPosition": {"Type": "TRIM_HORIZON"}}]});
    let created = ok(&kinesis, "CreateQueue", create).await;
    let arn = created["QueueDescription"]["QueueARN"].as_str().unwrap();
    (kinesis, arn.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_another_account_needs_its_resource_policy() {
    let (kinesis, arn) = with_queue().await;
    put(&kinesis, "k", "job").await;
    let receive = json!({"QueueARN": arn, "WaitTimeSeconds": 1});
    let why = format!(
        "User: arn:aws:iam::{OTHER}:root is not authorized to perform: \
         kinesis:ReceiveQueueRecords on resource: {arn} because no resource-based policy allows \
         the kinesis:ReceiveQueueRecords action"
    );
    let refused = as_other(&kinesis, OTHER, "ReceiveQueueRecords", receive.clone()).await;
    assert_eq!(refused["__type"], "AccessDeniedException");
    assert_eq!(refused["message"], *why);
    // Whether there is a queue is not told.
    let absent = json!({"QueueARN": arn.replace("queue/0", "queue/1"), "WaitTimeSeconds": 1});
    let refused = as_other(&kinesis, OTHER, "ReceiveQueueRecords", absent).await;
    assert_eq!(refused["__type"], "AccessDeniedException");

    let actions = [
        "kinesis:ReceiveQueueRecords",
        "kinesis:AcknowledgeQueueRecords",
        "kinesis:DescribeQueue",
    ];
    let allow = policy(&arn, "Allow", &actions, json!({}));
    ok(&kinesis, "PutResourcePolicy", allow).await;
    let described = as_other(&kinesis, OTHER, "DescribeQueue", json!({"QueueARN": arn})).await;
    assert_eq!(described["QueueDescription"]["QueueARN"], *arn);
    let received = as_other(&kinesis, OTHER, "ReceiveQueueRecords", receive.clone()).await;
    assert_eq!(received["QueueRecords"].as_array().unwrap().len(), 1);
    let handle = &received["QueueRecords"][0]["ReceiptHandle"];
    let entries = json!({"QueueARN": arn, "Entries": [{"ReceiptHandle": handle}]});
    let done = as_other(&kinesis, OTHER, "AcknowledgeQueueRecords", entries).await;
    assert_eq!(done["Successful"].as_array().unwrap().len(), 1);
    for (operation, body) in [
        ("DeleteQueue", json!({"QueueARN": arn})),
        ("ReceiveDeadLetterQueueRecords", receive.clone()),
        ("ListTagsForResource", json!({"ResourceARN": arn})),
    ] {
        let refused = as_other(&kinesis, OTHER, operation, body).await;
        assert_eq!(refused["__type"], "AccessDeniedException", "{operation}");
    }
    // Acknowledged for the owner too.
    let left = ok(&kinesis, "ReceiveQueueRecords", receive).await;
    assert_eq!(left["QueueRecords"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn conditions_are_looked_at_and_what_cannot_be_told_keeps_the_safe_way() {
    let (kinesis, arn) = with_queue().await;
    let describe = json!({"QueueARN": arn});
    let told = async |effect: &str, condition: Value, account: &str| {
        let mut document = policy(&arn, effect, &["kinesis:DescribeQueue"], condition);
        if effect == "Deny" {
            // Something that would allow it.
            let text = document["Policy"].as_str().unwrap();
            document["Policy"] = text.replace("\"000000000000\"", "\"111122223333\"").into();
        }
        ok(&kinesis, "PutResourcePolicy", document).await;
        let answer = as_other(&kinesis, account, "DescribeQueue", describe.clone()).await;
        answer["QueueDescription"].is_object()
    };
    let account = json!({"StringEquals": {"aws:PrincipalAccount": OTHER}});
    assert!(told("Allow", account.clone(), OTHER).await);
    assert!(!told("Allow", account.clone(), "444455556666").await);
    assert!(!told("Deny", account, OTHER).await);
    let tag = |value| json!({"StringLike": {"aws:ResourceTag/team": value}});
    assert!(told("Allow", tag("a*"), OTHER).await);
    assert!(!told("Allow", tag("b*"), OTHER).await);
    assert!(told("Deny", tag("b*"), OTHER).await);
    let organization = json!({"StringEquals": {"aws:PrincipalOrgID": "o-1"}});
    assert!(!told("Allow", organization.clone(), OTHER).await);
    assert!(!told("Deny", organization, OTHER).await);
}
