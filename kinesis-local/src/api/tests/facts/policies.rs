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

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
async fn the_account_is_checked_before_the_policy_and_the_policy_before_the_stream() {
    let kinesis = kinesis();
    let stranger = ARN.replace("000000000000", "999988887777");
    let no_json = |arn: &str| json!({"ResourceARN": arn, "Policy": "{"});
    let operation = "PutResourcePolicy";
    let abroad = stranger.replace("us-east-1", "eu-west-1");
    let (code, _) = refused(&kinesis, operation, no_json(&abroad)).await;
    assert_eq!(code, "ResourceNotFoundException", "the region comes first");
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

#[tokio::test(start_paused = true)]
async fn a_policy_names_the_actions_of_its_kind_of_resource() {
    let kinesis = with_stream(1).await;
    let wrong = attach(ARN, "kinesis:SubscribeToShard");
    let (code, text) = refused(&kinesis, "PutResourcePolicy", wrong).await;
    assert_eq!(code, "InvalidArgumentException");
    let end = "The following action names are invalid: \"kinesis:SubscribeToShard\"";
    assert!(text.ends_with(end), "{text}");
}

#[tokio::test(start_paused = true)]
async fn all_that_a_resource_may_allow_is_taken() {
    let kinesis = with_stream(1).await;
    let consumer = register(&kinesis, "c").await;
    let of_stream = [
        "DescribeStream",
        "DescribeStreamSummary",
        "GetRecords",
        "GetShardIterator",
        "ListShards",
        "PutRecord",
        "PutRecords",
    ];
    let of_consumer = ["DescribeStreamConsumer", "SubscribeToShard"];
    for (arn, actions) in [(ARN, &of_stream[..]), (&consumer, &of_consumer[..])] {
        for action in actions {
            let allow = attach(arn, &format!("kinesis:{action}"));
            ok(&kinesis, "PutResourcePolicy", allow).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_be_kept_is_told_why() {
    let kinesis = with_stream(1).await;
    let actions = json!(["kinesis:CreateStream", "kinesis:PutRecord", "s3:GetObject"]);
    let mut statement = json!({"Effect": "Allow", "Principal": {"AWS": "111122223333"},
        "Action": actions, "Resource": ARN});
    let actions_too_many = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    statement["Action"] = json!("kinesis:PutRecord");
    statement["Resource"] = json!(format!("{ARN}2"));
    let of_another = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    let place = "Resource policy contains invalid statement at line 1, column ";
    for (policy, before, after) in [
        (
            "nonsense".to_owned(),
            "This policy contains invalid Json",
            "",
        ),
        (
            r#"{"Statement":[]}"#.to_owned(),
            "Missing required field Version",
            "",
        ),
        (
            actions_too_many,
            place,
            r#": The following action names are invalid: "kinesis:CreateStream", "s3:GetObject""#,
        ),
        (
            of_another,
            place,
            ": The resource policy's resource must be the same as the resource ARN.",
        ),
    ] {
        let put = json!({"ResourceARN": ARN, "Policy": policy});
        let (code, text) = refused(&kinesis, "PutResourcePolicy", put).await;
        assert_eq!(code, "InvalidArgumentException");
        let told = text.strip_prefix("Policy validation error: ").unwrap();
        let told = told
            .strip_prefix(before)
            .unwrap_or_else(|| panic!("{text}"));
        let column = told.strip_suffix(after).unwrap_or_else(|| panic!("{text}"));
        assert!(column.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
        assert_eq!(column.is_empty(), after.is_empty(), "{text}");
    }
}
