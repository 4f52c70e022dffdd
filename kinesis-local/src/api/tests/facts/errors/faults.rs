//! What a plan of faults answers in the place of an operation, and how a failure of ours is told.

use super::*;
use crate::api::operation::Operation;

/// By a plan of faults: with the exception's own status and text, before the operation has an effect.
pub(super) async fn planned(reached: &mut Reached) {
    let world = World::new().await;
    let internal = listed(INTERNAL).map(|operation| (operation, INTERNAL));
    for (operation, code) in planned_pairs().chain(internal) {
        let text = match code {
            INTERNAL => "Internal service failure.".to_owned(),
            INVALID => {
                "A specified parameter exceeds its restrictions, is not supported, or can't \
                        be used."
                    .to_owned()
            }
            THROTTLED => "Rate exceeded for stream s under account 000000000000.".to_owned(),
            DENIED => format!(
                "User: arn:aws:iam::000000000000:root is not authorized to perform: \
                 kinesis:{operation} because no identity-based policy allows the \
                 kinesis:{operation} action"
            ),
            other => panic!("{other} is not planned"),
        };
        let status = if code == INTERNAL { 500 } else { 400 };
        let request = refused_by_plan(&world, operation, world.body(operation), code);
        let told = (status, code, &*text);
        reached.told(&world.kinesis, request, operation, told).await;
    }
}

/// The request, which a plan lets end with this code.
fn refused_by_plan(world: &World, operation: &str, body: Value, code: &str) -> Request<Bytes> {
    let rule = FaultRule::new(FaultEffect::error(code)).operation(operation);
    let faults = Faults::new(FaultPlan::seeded(1).rule(rule), world.kinesis.clock());
    let (head, body) = request(operation, &body).into_parts();
    let effects = faults.decide(FaultService::Kinesis, &head, &body, |wanted| {
        world.kinesis.find(&head, wanted)
    });
    let mut request = Request::from_parts(head, body);
    request.extensions_mut().insert(effects.unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn an_error_on_purpose_has_the_text_of_the_real_one() {
    let world = World::new().await;
    let mut reached = Reached::default();
    let consumer = world.name("CONSUMER").to_owned();
    for (operation, code, text) in [
        (
            "DescribeQueue",
            NOT_FOUND,
            "Stream d under account 000000000000 not found.",
        ),
        (
            "DescribeStream",
            NOT_FOUND,
            "Stream s under account 000000000000 not found.",
        ),
        (
            "ListStreams",
            NOT_FOUND,
            "The requested resource could not be found. The stream might \
            not be specified correctly.",
        ),
        (
            "DeleteStream",
            IN_USE,
            "Stream s under account 000000000000 not ACTIVE, instead in state \
            UPDATING",
        ),
        (
            "SubscribeToShard",
            IN_USE,
            &format!("Another active subscription exists for this consumer: {consumer}"),
        ),
        (
            "ListStreams",
            LIMIT,
            "Rate exceeded for account 000000000000.",
        ),
        (
            "DescribeStream",
            LIMIT,
            "Rate exceeded for stream s under account 000000000000.",
        ),
        (
            "PutRecord",
            THROTTLED,
            "Rate exceeded for shard shardId-000000000001 in stream s under \
            account 000000000000.",
        ),
        (
            "GetRecords",
            THROTTLED,
            "Rate exceeded for shard shardId-000000000000 in stream s under \
            account 000000000000.",
        ),
        (
            "GetRecords",
            "ExpiredIteratorException",
            "Iterator expired. The iterator was created at \
            time Mon Nov 23 02:00:00 UTC 2026 while right now it is Mon Nov 23 02:00:00 UTC 2026 \
            which is further in the future than the tolerated delay of 300000 milliseconds.",
        ),
        ("ListShards", EXPIRED_TOKEN, "NextToken has expired."),
        (
            "PutRecord",
            "DryRunOperationException",
            "Request would have succeeded, but DryRun flag is set.",
        ),
        (
            "PutRecord",
            "KMSDisabledException",
            "alias/aws/kinesis is disabled.",
        ),
        ("PutRecord", "KMSThrottlingException", "Rate exceeded"),
        (
            "DescribeStream",
            VALIDATION,
            "The request failed validation.",
        ),
        ("DescribeStream", "Unheard", "A fault on purpose: rule 0."),
    ] {
        let request = refused_by_plan(&world, operation, world.body(operation), code);
        let answer = world.kinesis.call(request.clone()).await;
        assert_eq!(
            answer.headers()["x-kinesis-local-fault"],
            "rule 0",
            "{operation}"
        );
        reached
            .told(&world.kinesis, request, operation, (400, code, text))
            .await;
    }
    assert!(reached.wrong.is_empty(), "\n{}", reached.wrong.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_token_of_listshards_leads_to_its_stream() {
    let world = World::new().await;
    let first = json!({"StreamName": "s", "MaxResults": 1});
    let first = ok(&world.kinesis, "ListShards", first).await;
    let next = json!({"NextToken": first["NextToken"]});
    let request = refused_by_plan(&world, "ListShards", next, NOT_FOUND);
    let (_, told) = decoded(FORMAT, &world.kinesis, "ListShards", request).await;
    assert_eq!(
        told["message"],
        "Stream s under account 000000000000 not found."
    );
}

#[tokio::test(start_paused = true)]
async fn every_exception_of_the_model_has_a_text_of_the_service() {
    let world = World::new().await;
    for (operation, facts) in ANSWERS.as_object().unwrap() {
        for code in facts["errors"].as_array().unwrap() {
            let code = code.as_str().unwrap();
            let body = world.body(operation);
            let request = refused_by_plan(&world, operation, body, code);
            let (_, told) = decoded(FORMAT, &world.kinesis, operation, request).await;
            assert_eq!(told["__type"], code, "{operation}");
            let text = told["message"].as_str().unwrap();
            assert!(!text.contains("on purpose"), "{operation} {code}: {text}");
        }
    }
}

#[test]
fn the_model_says_whether_a_failure_of_the_service_is_an_exception_or_the_common_error() {
    for (name, facts) in ANSWERS.as_object().unwrap() {
        let operation = Operation::from_target(&format!("Kinesis_20131202.{name}")).unwrap();
        let errors = facts["errors"].as_array().unwrap();
        let lists = errors.iter().any(|error| error == INTERNAL);
        assert_eq!(operation.lists_internal_failure(), lists, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_told_as_the_operation_s_model_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = stream_of(
        KinesisOptions {
            data_dir: Some(dir.path().to_owned()),
            ..options()
        },
        1,
    )
    .await;
    kinesis.sites.home.log.lose_disk(dir.path());
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": ""});
    let tag = json!({"StreamName": "s", "Tags": {"a": "b"}});
    let tag_by_arn = json!({"ResourceARN": STREAM_ARN, "Tags": {"a": "b"}});
    let again = json!({"StreamName": "t", "ShardCount": 1});
    for (operation, body, code) in [
        ("PutRecord", put, INTERNAL),
        ("TagResource", tag_by_arn, INTERNAL),
        ("AddTagsToStream", tag, "InternalFailure"),
        ("CreateStream", again, "InternalFailure"),
    ] {
        let (status, told) = answer(&kinesis, operation, &body).await;
        assert_eq!(
            status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{operation}: {told}"
        );
        assert_eq!(told["__type"], code, "{operation}: {told}");
        assert!(
            told["message"].as_str().unwrap().contains("changes.log"),
            "{told}"
        );
    }
}
