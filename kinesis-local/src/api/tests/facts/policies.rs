//! PutResourcePolicy, GetResourcePolicy and DeleteResourcePolicy.

use super::*;

const ARN: &str = STREAM_ARN;

fn policy(arn: &str, action: &str) -> String {
    json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "a", "Effect": "Allow", "Principal": {"AWS": "111122223333"},
        "Action": [action], "Resource": arn,
    }]})
    .to_string()
}

fn attach(arn: &str, action: &str) -> Value {
    json!({"ResourceARN": arn, "Policy": policy(arn, action)})
}

async fn told(kinesis: &Kinesis, arn: &str) -> String {
    let policy = ok(kinesis, "GetResourcePolicy", json!({"ResourceARN": arn})).await;
    policy["Policy"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_stream_and_its_consumer_have_policies_of_their_own_that_survive_a_restart() {
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
    let register = json!({"StreamARN": ARN, "ConsumerName": "c"});
    let consumer = ok(&kinesis, "RegisterStreamConsumer", register).await;
    let consumer = consumer["Consumer"]["ConsumerARN"]
        .as_str()
        .unwrap()
        .to_owned();
    for (arn, action) in [
        (ARN, "kinesis:PutRecord"),
        (&consumer, "kinesis:SubscribeToShard"),
    ] {
        assert_eq!(told(&kinesis, arn).await, "{}");
        ok(&kinesis, "PutResourcePolicy", attach(arn, action)).await;
        assert_eq!(told(&kinesis, arn).await, policy(arn, action));
    }
    let replaced = attach(ARN, "kinesis:GetRecords");
    ok(&kinesis, "PutResourcePolicy", replaced).await;
    drop(kinesis);
    let kinesis = open();
    assert_eq!(told(&kinesis, ARN).await, policy(ARN, "kinesis:GetRecords"));
    let subscribe = policy(&consumer, "kinesis:SubscribeToShard");
    assert_eq!(told(&kinesis, &consumer).await, subscribe);
    for arn in [ARN, &consumer] {
        let arn = json!({"ResourceARN": arn});
        ok(&kinesis, "DeleteResourcePolicy", arn.clone()).await;
        let (code, _) = refused(&kinesis, "DeleteResourcePolicy", arn).await;
        assert_eq!(code, "ResourceNotFoundException");
    }
    assert_eq!(told(&kinesis, ARN).await, "{}");
}

#[tokio::test]
async fn the_account_is_checked_before_the_policy_and_the_policy_before_the_stream() {
    let kinesis = kinesis();
    let stranger = ARN.replace("000000000000", "999988887777");
    let no_json = |arn: &str| json!({"ResourceARN": arn, "Policy": "{"});
    let operation = "PutResourcePolicy";
    let code = "UnrecognizedClientException";
    let text = "No account found for the given parameters";
    assert_refused(&kinesis, operation, no_json(&stranger), code, text).await;
    let code = "InvalidArgumentException";
    let text = "Policy validation error: This policy contains invalid Json";
    assert_refused(&kinesis, operation, no_json(ARN), code, text).await;
    let code = "ResourceNotFoundException";
    let text = "Stream s under account 000000000000 not found.";
    let right = attach(ARN, "kinesis:PutRecord");
    assert_refused(&kinesis, operation, right, code, text).await;
    let none = json!({"ResourceARN": ARN});
    let kinesis = with_stream(1).await;
    let text = format!("No resource policy found for resource ARN {ARN}.");
    assert_refused(&kinesis, "DeleteResourcePolicy", none, code, &text).await;
}

#[tokio::test]
async fn a_policy_names_the_actions_of_its_kind_of_resource() {
    let kinesis = with_stream(1).await;
    let wrong = attach(ARN, "kinesis:SubscribeToShard");
    let (code, text) = refused(&kinesis, "PutResourcePolicy", wrong).await;
    assert_eq!(code, "InvalidArgumentException");
    let end = "The following action names are invalid: \"kinesis:SubscribeToShard\"";
    assert!(text.ends_with(end), "{text}");
}
