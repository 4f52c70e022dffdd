//! The account's settings: the minimum throughput billing commitment and what it lets streams do.

use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const NOW_S: f64 = (NOW_MS / 1000) as f64;

pub(super) async fn commit(kinesis: &Kinesis, status: &str) -> Value {
    let body = json!({"MinimumThroughputBillingCommitment": {"Status": status}});
    let mut answer = ok(kinesis, "UpdateAccountSettings", body).await;
    answer["MinimumThroughputBillingCommitment"].take()
}

async fn commitment(kinesis: &Kinesis) -> Value {
    let mut answer = ok(kinesis, "DescribeAccountSettings", json!({})).await;
    answer["MinimumThroughputBillingCommitment"].take()
}

#[tokio::test(start_paused = true)]
async fn an_account_commits_itself_for_a_day_at_least() {
    let kinesis = kinesis();
    assert_eq!(commitment(&kinesis).await, json!({"Status": "DISABLED"}));
    let enabled = json!({"Status": "ENABLED", "StartedAt": NOW_S,
        "EarliestAllowedEndAt": NOW_S + 86_400.0});
    assert_eq!(commit(&kinesis, "ENABLED").await, enabled);
    tokio::time::advance(HOUR).await;
    assert_eq!(
        commit(&kinesis, "ENABLED").await,
        enabled,
        "asked for again"
    );

    let mut ending = enabled.clone();
    ending["Status"] = json!("ENABLED_UNTIL_EARLIEST_ALLOWED_END");
    assert_eq!(commit(&kinesis, "DISABLED").await, ending);
    assert_eq!(commit(&kinesis, "ENABLED").await, enabled, "called off");
    assert_eq!(commit(&kinesis, "DISABLED").await, ending);
    tokio::time::advance(23 * HOUR).await;
    let ended = json!({"Status": "DISABLED", "StartedAt": NOW_S, "EndedAt": NOW_S + 86_400.0});
    assert_eq!(commitment(&kinesis).await, ended);

    let again = commit(&kinesis, "ENABLED").await;
    assert_eq!(again["StartedAt"], json!(NOW_S + 86_400.0));
    tokio::time::advance(25 * HOUR).await;
    let ended = commit(&kinesis, "DISABLED").await;
    assert_eq!(ended["Status"], "DISABLED");
    assert_eq!(ended["EndedAt"], json!(NOW_S + 49.0 * 3600.0), "at once");
}

#[tokio::test(start_paused = true)]
async fn a_commitment_survives_a_crash_also_in_an_account_without_streams() {
    let dir = tempfile::tempdir().unwrap();
    let clock = options().clock;
    let open = |account: &str| {
        Kinesis::open(KinesisOptions {
            data_dir: Some(dir.path().to_owned()),
            clock: clock.clone(),
            account: account.to_owned(),
            ..options()
        })
        .unwrap()
    };
    let kinesis = open("000000000000");
    let enabled = commit(&kinesis, "ENABLED").await;
    tokio::time::advance(HOUR).await;
    update_from(&kinesis, "111122223333", "ENABLED").await;
    drop(kinesis);

    let kinesis = open("000000000000");
    assert_eq!(commitment(&kinesis).await, enabled);
    commit(&kinesis, "DISABLED").await;
    drop(kinesis);

    let kinesis = open("444455556666");
    let status = commitment(&kinesis).await["Status"].take();
    assert_eq!(
        status, "ENABLED_UNTIL_EARLIEST_ALLOWED_END",
        "what was not of a named account follows the settings"
    );
    drop(kinesis);
    let kinesis = open("111122223333");
    assert_eq!(
        commitment(&kinesis).await["Status"],
        "ENABLED_UNTIL_EARLIEST_ALLOWED_END",
        "the last that was asked for, in the order of the log"
    );
}

/// Signs the request by another account.
fn sign(request: &mut Request<Bytes>, account: &str) {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={account}/20261123/us-east-1/kinesis/aws4_request, \
         SignedHeaders=host, Signature=abc"
    );
    let headers = request.headers_mut();
    headers.insert("authorization", authorization.parse().unwrap());
}

/// UpdateAccountSettings, signed by another account; the status that is answered.
async fn update_from(kinesis: &Kinesis, account: &str, status: &str) -> Value {
    let operation = "UpdateAccountSettings";
    let body = json!({"MinimumThroughputBillingCommitment": {"Status": status}});
    let mut request = request(operation, &body);
    sign(&mut request, account);
    let (_, mut answer) = decoded(FORMAT, kinesis, operation, request).await;
    answer["MinimumThroughputBillingCommitment"]["Status"].take()
}

#[tokio::test(start_paused = true)]
async fn each_account_commits_itself() {
    let kinesis = kinesis();
    let status = update_from(&kinesis, "111122223333", "ENABLED").await;
    assert_eq!(status, "ENABLED");
    assert_eq!(commitment(&kinesis).await, json!({"Status": "DISABLED"}));
    commit(&kinesis, "ENABLED").await;
    let status = update_from(&kinesis, "444455556666", "DISABLED").await;
    assert_eq!(status, "DISABLED");
    assert_eq!(commitment(&kinesis).await["Status"], "ENABLED");
}

#[tokio::test(start_paused = true)]
async fn an_advantage_stream_has_fifty_consumers_and_queues() {
    let kinesis = kinesis();
    let create = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    let provisioned = json!({"StreamName": "p", "ShardCount": 1});
    ok(&kinesis, "CreateStream", provisioned).await;
    for at in 0..19 {
        register(&kinesis, &format!("c{at}")).await;
    }
    let queue = json!({"QueueName": "q",
        "StreamConfigurationList": [{"StreamARN": STREAM_ARN}]});
    ok(&kinesis, "CreateQueue", queue).await;
    let more = json!({"StreamARN": STREAM_ARN, "ConsumerName": "more"});
    let (code, text) = refused(&kinesis, "RegisterStreamConsumer", more.clone()).await;
    assert_eq!(code, "LimitExceededException");
    assert!(text.contains("limit of 20 consumers"), "{text}");

    commit(&kinesis, "ENABLED").await;
    for at in 20..50 {
        register(&kinesis, &format!("c{at}")).await;
    }
    let (code, text) = refused(&kinesis, "RegisterStreamConsumer", more.clone()).await;
    assert_eq!(code, "LimitExceededException");
    assert!(text.contains("limit of 50 consumers"), "{text}");
    let of_provisioned = STREAM_ARN.replace("/s", "/p");
    for at in 0..20 {
        let body = json!({"StreamARN": of_provisioned, "ConsumerName": format!("c{at}")});
        ok(&kinesis, "RegisterStreamConsumer", body).await;
    }
    let body = json!({"StreamARN": of_provisioned, "ConsumerName": "more"});
    let (code, _) = refused(&kinesis, "RegisterStreamConsumer", body).await;
    assert_eq!(code, "LimitExceededException", "it is not on-demand");

    // Those that are there stay when the commitment ends, and none is added.
    tokio::time::advance(24 * HOUR).await;
    commit(&kinesis, "DISABLED").await;
    let leave = json!({"StreamARN": STREAM_ARN, "ConsumerName": "c20"});
    ok(&kinesis, "DeregisterStreamConsumer", leave).await;
    let (code, _) = refused(&kinesis, "RegisterStreamConsumer", more).await;
    assert_eq!(code, "LimitExceededException");
}

#[tokio::test(start_paused = true)]
async fn the_accounts_operations_are_called_five_times_a_second() {
    let kinesis = Kinesis::open(KinesisOptions {
        limits: Limits::Aws,
        ..options()
    })
    .unwrap();
    let enable = json!({"MinimumThroughputBillingCommitment": {"Status": "ENABLED"}});
    let create = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    let warm = json!({"StreamName": "s", "WarmThroughputMiBps": 4});
    let of_account = "Rate exceeded for account 000000000000.";
    let of_stream = "Rate exceeded for stream s under account 000000000000.";
    for (operation, body, text) in [
        ("DescribeAccountSettings", json!({}), of_account),
        ("UpdateAccountSettings", enable, of_account),
        ("UpdateStreamWarmThroughput", warm, of_stream),
    ] {
        for _ in 0..5 {
            ok(&kinesis, operation, body.clone()).await;
        }
        assert_refused(&kinesis, operation, body, "LimitExceededException", text).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_commitment_keeps_its_place_where_places_are_scarce() {
    let kinesis = kinesis();
    assert_eq!(
        update_from(&kinesis, "999999999999", "ENABLED").await,
        "ENABLED"
    );
    let create = json!({"StreamName": "s", "ShardCount": 1});
    for account in 0..300 {
        let mut request = request("CreateStream", &create);
        sign(&mut request, &format!("{account:012}"));
        decoded(FORMAT, &kinesis, "CreateStream", request).await;
    }
    let body = json!({});
    let mut request = request("DescribeAccountSettings", &body);
    sign(&mut request, "999999999999");
    let (_, told) = decoded(FORMAT, &kinesis, "DescribeAccountSettings", request).await;
    let status = &told["MinimumThroughputBillingCommitment"]["Status"];
    assert_eq!(status, "ENABLED");
}

#[tokio::test(start_paused = true)]
async fn who_is_shown_a_stream_of_another_account_sees_its_warm_throughput() {
    let kinesis = kinesis();
    commit(&kinesis, "ENABLED").await;
    let create = json!({"StreamName": "s", "WarmThroughputMiBps": 5,
        "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    ok(&kinesis, "CreateStream", create).await;
    let policy = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow",
        "Principal": {"AWS": "111122223333"}, "Action": "kinesis:DescribeStreamSummary",
        "Resource": STREAM_ARN}});
    let policy = json!({"ResourceARN": STREAM_ARN, "Policy": policy.to_string()});
    ok(&kinesis, "PutResourcePolicy", policy).await;
    let operation = "DescribeStreamSummary";
    let mut request = request(operation, &json!({"StreamARN": STREAM_ARN}));
    sign(&mut request, "111122223333");
    let (_, told) = decoded(FORMAT, &kinesis, operation, request).await;
    let warm = &told["StreamDescriptionSummary"]["WarmThroughput"];
    assert_eq!(*warm, json!({"TargetMiBps": 5, "CurrentMiBps": 5}));
}
