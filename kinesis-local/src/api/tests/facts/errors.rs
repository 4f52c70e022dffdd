//! Every exception that the API model lists for an operation, in the service's words.
//!
//! Each part reaches some of the pairs of operation and exception, and notes which. The test fails
//! where a pair of the model was reached by none, or with another status, code or text.

use std::collections::BTreeSet;
use std::time::Duration;

use http::header::HeaderValue;

use super::super::super::encoding::ANSWERS;
use super::*;
use crate::fault::{FaultEffect, FaultPlan, FaultRule, FaultService, Faults};
use crate::limits::Quotas;

mod arguments;
mod faults;
mod quotas;
mod states;
mod words;
pub(crate) mod world;

use world::{HOME, OTHER, World, merged};

const NOT_FOUND: &str = "ResourceNotFoundException";
const IN_USE: &str = "ResourceInUseException";
const INVALID: &str = "InvalidArgumentException";
const VALIDATION: &str = "ValidationException";
const LIMIT: &str = "LimitExceededException";
const DENIED: &str = "AccessDeniedException";
const THROTTLED: &str = "ProvisionedThroughputExceededException";
const EXPIRED_TOKEN: &str = "ExpiredNextTokenException";
const INTERNAL: &str = "InternalFailureException";

const T_ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/t";

/// Pairs that no request of a client alone can reach, and why; a plan of faults reaches them.
const PLANNED: [(&str, &[&str], &str); 4] = [
    (
        DENIED,
        &["ListChannels", "ListQueues"],
        "They name no resource, so only a policy of the user could deny them; there are none here.",
    ),
    (
        DENIED,
        &[
            "PutResourcePolicy",
            "GetResourcePolicy",
            "DeleteResourcePolicy",
        ],
        "They are the owner's; another account is told UnrecognizedClientException.",
    ),
    (
        INVALID,
        &[
            "DescribeQueue",
            "UpdateQueue",
            "DeleteQueue",
            "DescribeChannel",
            "UpdateChannel",
            "DeleteChannel",
            "ListTagsForResource",
            "UpdateMaxRecordSize",
            "UpdateAccountSettings",
        ],
        "A request that passes the model's constraints has nothing in it that could be wrong.",
    ),
    (
        THROTTLED,
        &["PutRecords"],
        "The records that a shard has no room for are told one by one, in an answer of 200.",
    ),
];

fn planned_pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    PLANNED.iter().flat_map(|(code, operations, why)| {
        assert!(!why.is_empty());
        operations.iter().map(|operation| (*operation, *code))
    })
}

/// The pairs that were reached, and what was answered otherwise than expected.
#[derive(Default)]
struct Reached {
    pairs: BTreeSet<(String, String)>,
    wrong: Vec<String>,
}

impl Reached {
    /// Calls as `caller`, who has to be told this.
    async fn refused(
        &mut self,
        caller: &str,
        kinesis: &Kinesis,
        (operation, body): (&str, Value),
        (code, text): (&str, &str),
    ) {
        self.told(
            kinesis,
            signed_by(caller, operation, &body),
            operation,
            (400, code, text),
        )
        .await;
    }

    async fn told(
        &mut self,
        kinesis: &Kinesis,
        request: Request<Bytes>,
        operation: &str,
        (status, code, text): (u16, &str, &str),
    ) {
        let (answered, fault) = decoded(FORMAT, kinesis, operation, request).await;
        let expected = json!({"__type": code, "message": text});
        if answered.as_u16() == status && fault == expected {
            self.pairs.insert((operation.to_owned(), code.to_owned()));
        } else {
            self.wrong
                .push(format!("{operation}: {answered} {fault}, not {expected}"));
        }
    }
}

fn signed_by(caller: &str, operation: &str, body: &Value) -> Request<Bytes> {
    let mut request = request(operation, body);
    let signature = format!(
        "AWS4-HMAC-SHA256 Credential={caller}/20261123/us-east-1/kinesis/aws4_request, \
         SignedHeaders=host, Signature=abc"
    );
    let signature = HeaderValue::from_str(&signature).unwrap();
    request.headers_mut().insert("authorization", signature);
    request
}

/// The operations that the model lists the exception for.
fn listed(code: &str) -> impl Iterator<Item = &'static str> {
    let all = ANSWERS.as_object().unwrap().iter();
    all.filter(move |(_, operation)| {
        let errors = operation["errors"].as_array().unwrap();
        errors.iter().any(|error| error == code)
    })
    .map(|(name, _)| name.as_str())
}

#[tokio::test(start_paused = true)]
async fn every_exception_that_the_model_lists_is_reached_in_the_services_words() {
    let mut reached = Reached::default();
    states::not_found(&mut reached).await;
    states::denied(&mut reached).await;
    quotas::too_often(&mut reached).await;
    states::in_use(&mut reached).await;
    arguments::invalid_arguments(&mut reached).await;
    arguments::not_valid(&mut reached).await;
    quotas::keys_that_do_not_work(&mut reached).await;
    quotas::of_records_and_pages(&mut reached).await;
    let by_clients = reached.pairs.clone();
    faults::planned(&mut reached).await;
    for (operation, code) in planned_pairs() {
        let pair = (operation.to_owned(), code.to_owned());
        assert!(
            !by_clients.contains(&pair),
            "{operation} {code} needs no plan"
        );
    }
    let model = ANSWERS.as_object().unwrap().iter();
    for (operation, facts) in model {
        for code in facts["errors"].as_array().unwrap() {
            let pair = (operation.clone(), code.as_str().unwrap().to_owned());
            if !reached.pairs.contains(&pair) {
                reached
                    .wrong
                    .push(format!("{operation}: nothing reaches {code}"));
            }
        }
    }
    assert!(reached.wrong.is_empty(), "\n{}", reached.wrong.join("\n"));
}
