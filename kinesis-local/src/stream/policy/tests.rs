//! Documents that are taken and refused, and what they allow.

use super::*;

const STREAM: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
const BOB: &str = "arn:aws:iam::111122223333:user/bob";

fn document(statements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":{statements}}}"#)
}

fn statement(effect: &str, principal: &str, action: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{principal},"Action":{action},"Resource":"{STREAM}"}}"#
    )
}

fn checked(document: &str) -> Result<(), String> {
    check(document, Kind::Stream, STREAM)
}

fn decided(document: &str, action: &str) -> Decision {
    checked(document).unwrap();
    let request = Request {
        account: "111122223333",
        principal: BOB,
        user: Some("bob"),
        region: "us-east-1",
        tags: &Tags::new(),
    };
    allows(document, Kind::Stream, &request, action)
}

#[test]
fn a_document_that_cannot_be_kept_is_refused_in_the_services_words() {
    let invalid = "Policy validation error: This policy contains invalid Json";
    for bad in ["", "{", "[]", r#"{"Version":1}"#] {
        assert_eq!(checked(bad).unwrap_err(), invalid, "{bad}");
    }
    assert_eq!(
        checked(r#"{"Statement":[]}"#).unwrap_err(),
        "Policy validation error: Missing required field Version"
    );
    assert_eq!(
        checked(r#"{"Version":"2012-10-17"}"#).unwrap_err(),
        "Policy validation error: Missing required field Statement"
    );
    let long = format!("{}{}", document("[]"), " ".repeat(POLICY_MAX_BYTES));
    assert!(
        checked(&long)
            .unwrap_err()
            .contains("longer than 20480 bytes")
    );
}

#[test]
fn a_refused_statement_is_told_by_its_place() {
    let actions = r#"["kinesis:CreateStream","kinesis:PutRecord","s3:GetObject"]"#;
    let wrong = statement("Allow", r#"{"AWS":"*"}"#, actions);
    let right = statement("Allow", r#""*""#, r#""kinesis:PutRecord""#);
    assert_eq!(
        checked(&document(&wrong)).unwrap_err(),
        "Policy validation error: Resource policy contains invalid statement at line 1, column 37: \
         The following action names are invalid: \"kinesis:CreateStream\", \"s3:GetObject\""
    );
    let both = document(&format!("[\n  {right},\n  {wrong}]"));
    assert!(
        checked(&both)
            .unwrap_err()
            .contains("at line 3, column 3: ")
    );
    let elsewhere = wrong
        .replace(actions, r#""kinesis:*""#)
        .replace("stream/s", "stream/t");
    assert!(
        checked(&document(&elsewhere))
            .unwrap_err()
            .ends_with("The resource policy's resource must be the same as the resource ARN.")
    );
    for (field, text) in [
        (r#""Principal":"*","#, "Missing required field Principal"),
        (
            r#""Action":"kinesis:PutRecord","#,
            "Missing required field Action",
        ),
        (r#""Effect":"Allow","#, "The effect must be Allow or Deny."),
    ] {
        let without = right.replace(field, "");
        assert!(checked(&document(&without)).unwrap_err().ends_with(text));
    }
}

#[test]
fn streams_and_consumers_have_actions_of_their_own() {
    for (kind, right, wrong) in [
        (
            Kind::Stream,
            "kinesis:ListShards",
            "kinesis:SubscribeToShard",
        ),
        (
            Kind::Consumer,
            "kinesis:SubscribeToShard",
            "kinesis:ListShards",
        ),
    ] {
        let with = |action: &str| document(&statement("Allow", r#""*""#, &format!("{action:?}")));
        assert_eq!(check(&with(right), kind, STREAM), Ok(()));
        assert!(check(&with(wrong), kind, STREAM).is_err());
    }
}

#[test]
fn a_principal_is_named_by_account_by_its_root_by_itself_or_as_everybody() {
    for principal in [
        r#""*""#,
        r#"{"AWS":"*"}"#,
        r#"{"AWS":"111122223333"}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:root"}"#,
        r#"{"AWS":["444455556666","arn:aws:iam::111122223333:user/bob"]}"#,
    ] {
        let document = document(&statement("Allow", principal, r#""kinesis:PutRecord""#));
        assert_eq!(
            decided(&document, "kinesis:PutRecord"),
            Decision::Allowed,
            "{principal}"
        );
        assert_eq!(
            decided(&document, "kinesis:GetRecords"),
            Decision::NotMentioned
        );
    }
    for principal in [
        r#"{"AWS":"444455556666"}"#,
        r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#,
    ] {
        let document = document(&statement("Allow", principal, r#""kinesis:PutRecord""#));
        assert_eq!(
            decided(&document, "kinesis:PutRecord"),
            Decision::NotMentioned
        );
    }
}

#[test]
fn a_denial_wins_whatever_its_place() {
    let allow = statement("Allow", r#""*""#, r#""kinesis:*""#);
    let deny = statement("Deny", r#"{"AWS":"111122223333"}"#, r#""kinesis:Put*""#);
    for both in [format!("[{allow},{deny}]"), format!("[{deny},{allow}]")] {
        let document = document(&both);
        assert_eq!(decided(&document, "kinesis:PutRecords"), Decision::Denied);
        assert_eq!(decided(&document, "kinesis:GetRecords"), Decision::Allowed);
    }
}

#[test]
fn a_pattern_allows_no_more_than_could_be_named() {
    let request = Request {
        account: "111122223333",
        principal: BOB,
        user: Some("bob"),
        region: "us-east-1",
        tags: &Tags::new(),
    };
    let model = include_str!("../../../tests/fixtures/kinesis-model.json");
    let model: serde_json::Value = serde_json::from_str(model).unwrap();
    for pattern in [r#""*""#, r#""kinesis:*""#, r#"["kinesis:?*"]"#] {
        let document = document(&statement("Allow", r#""*""#, pattern));
        for kind in [Kind::Stream, Kind::Consumer, Kind::Queue] {
            assert_eq!(check(&document, kind, STREAM), Ok(()));
            let mut allowed = Vec::new();
            for operation in model.as_object().unwrap().keys() {
                let action = format!("kinesis:{operation}");
                if allows(&document, kind, &request, &action) == Decision::Allowed {
                    allowed.push(action);
                }
            }
            allowed.sort_unstable();
            assert_eq!(allowed, kind.actions(), "{kind:?}");
        }
    }
}

#[test]
fn a_member_that_is_not_known_makes_no_policy() {
    let right = statement("Allow", r#"{"AWS":"*"}"#, r#""kinesis:PutRecord""#);
    let with = |member: &str| document(&right.replacen('{', &format!("{{{member},"), 1));
    for known in [r#""Sid":"writer""#, r#""Condition":{}"#] {
        assert_eq!(checked(&with(known)), Ok(()), "{known}");
    }
    let id = document(&right).replacen('{', r#"{"Id":"writers","#, 1);
    assert_eq!(checked(&id), Ok(()));
    let service = right.replace(r#"{"AWS""#, r#"{"Service":"lambda.amazonaws.com","AWS""#);
    assert_eq!(checked(&document(&service)), Ok(()));
    let misspelled = document(&right).replacen('{', r#"{"Statements":[],"#, 1);
    let federated = right.replace(r#"{"AWS""#, r#"{"Federate":"a","AWS""#);
    for refused in [
        with(r#""Conditon":{"StringEquals":{"aws:username":"alice"}}"#),
        with(r#""NotPrincipal":{"AWS":"111122223333"}"#),
        with(r#""NotAction":"kinesis:PutRecord""#),
        with(r#""NotResource":"*""#),
        document(&federated),
        misspelled,
    ] {
        let text = "Policy validation error: This policy contains invalid Json";
        assert_eq!(checked(&refused).unwrap_err(), text, "{refused}");
    }
}

#[test]
fn a_condition_that_holds_lets_its_statement_count_and_one_that_cannot_be_told_denies_only() {
    use Decision::{Allowed, Denied, NotMentioned};
    for (key, value, allow, deny) in [
        ("aws:username", "bob", Allowed, Denied),
        ("aws:username", "alice", NotMentioned, NotMentioned),
        ("aws:PrincipalOrgID", "o-1", NotMentioned, Denied),
    ] {
        let with = |effect| {
            let statement = statement(effect, r#""*""#, r#""kinesis:PutRecord""#);
            let condition = format!(r#"{{"Condition":{{"StringEquals":{{"{key}":"{value}"}}}},"#);
            document(&statement.replacen('{', &condition, 1))
        };
        assert_eq!(decided(&with("Allow"), "kinesis:PutRecord"), allow, "{key}");
        assert_eq!(decided(&with("Deny"), "kinesis:PutRecord"), deny, "{key}");
    }
}

#[test]
fn a_condition_of_another_shape_is_no_policy() {
    let statement = statement("Allow", r#""*""#, r#""kinesis:PutRecord""#);
    for wrong in [r#""Bool""#, r#"{"Bool":"true"}"#, r#"{"Bool":{"a":{}}}"#] {
        let condition = format!(r#"{{"Condition":{wrong},"#);
        let refused = checked(&document(&statement.replacen('{', &condition, 1)));
        let text = "Policy validation error: This policy contains invalid Json";
        assert_eq!(refused.unwrap_err(), text, "{wrong}");
    }
}

#[test]
fn patterns_match_as_iam_does() {
    for (pattern, action, expected) in [
        ("*", "kinesis:PutRecord", true),
        ("kinesis:*", "kinesis:PutRecord", true),
        ("KINESIS:putrecord", "kinesis:PutRecord", true),
        ("kinesis:Put*", "kinesis:PutRecords", true),
        ("kinesis:*Record", "kinesis:PutRecord", true),
        ("kinesis:*Record", "kinesis:PutRecords", false),
        ("kinesis:Put?ecord", "kinesis:PutRecord", true),
        ("kinesis:P*c*d", "kinesis:PutRecord", true),
        ("kinesis:PutRecord", "kinesis:PutRecords", false),
        ("", "kinesis:PutRecord", false),
    ] {
        assert_eq!(matches(pattern, action), expected, "{pattern} {action}");
    }
}

#[test]
fn a_policy_that_is_too_long_is_told_how_long_it_may_be() {
    let long = document(&" ".repeat(POLICY_MAX_BYTES));
    let text =
        format!("Policy validation error: The policy is longer than {POLICY_MAX_BYTES} bytes");
    assert_eq!(checked(&long).unwrap_err(), text);
}
