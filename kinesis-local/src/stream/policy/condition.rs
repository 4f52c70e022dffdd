//! The conditions of a statement.
//!
//! ```text
//! "Condition": {"StringLike": {"aws:PrincipalArn": ["arn:aws:iam::1111…:user/b*"]}, "Bool": {…}}
//!               operator        key                 one of these values            all have to hold
//! ```
//! Promises: a condition holds, does not hold, or cannot be told here, which is not the same as not
//! holding: the statement's effect decides what becomes of that. A key that a request does not have
//! fails an operator, unless that is a negated one, ends with `IfExists` or is `Null`.
//!
//! Deliberately absent, so that they cannot be told: keys about organizations, networks and
//! sessions (`aws:PrincipalOrgID`, `aws:SourceIp`, `aws:SourceVpce`, …), because nothing here knows
//! them; numeric, date and IP address operators; sets (`ForAnyValue`, `ForAllValues`); variables in
//! values (`${aws:username}`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{OneOrMany, Request, matches_exactly};

/// The conditions of a statement: operators, keys, values.
#[derive(Debug, Deserialize)]
pub(super) struct Conditions(BTreeMap<String, BTreeMap<String, OneOrMany<Scalar>>>);

/// A value, which JSON may write in three ways.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Flag(bool),
    Number(serde_json::Number),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Whether conditions hold.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Holds {
    Yes,
    No,
    /// It is about something that is not known here.
    Unknown,
}

impl Conditions {
    /// Whether all of them hold.
    pub(super) fn hold(&self, request: &Request<'_>) -> Holds {
        let mut all = Holds::Yes;
        for (operator, keys) in &self.0 {
            for (key, values) in keys {
                match holds(operator, key, &values.0, request) {
                    Holds::Yes => {}
                    Holds::No => return Holds::No,
                    Holds::Unknown => all = Holds::Unknown,
                }
            }
        }
        all
    }
}

/// What a request has under a key.
#[derive(Debug, Eq, PartialEq)]
enum Found {
    Value(String),
    /// It certainly has none.
    Absent,
    Unknown,
}

/// The value of a global condition key. Their case does not matter, but that of a tag's key does.
fn find(key: &str, request: &Request<'_>) -> Found {
    let value = |text: &str| Found::Value(text.to_owned());
    let optional = |text: Option<&str>| text.map_or(Found::Absent, value);
    if let Some((prefix, tag)) = key.split_once('/') {
        return if prefix.eq_ignore_ascii_case("aws:ResourceTag") {
            optional(request.tags.get(tag).map(String::as_str))
        } else {
            Found::Unknown
        };
    }
    match key.to_ascii_lowercase().as_str() {
        "aws:principalarn" => value(request.principal),
        "aws:principalaccount" => value(request.account),
        "aws:principaltype" => value(match request.user {
            Some(_) => "User",
            None => "Account",
        }),
        "aws:username" => optional(request.user),
        "aws:requestedregion" => value(request.region),
        // Whoever calls here is no service of AWS.
        "aws:principalisawsservice" | "aws:viaawsservice" => value("false"),
        "aws:principalservicename" | "aws:sourcearn" | "aws:sourceaccount" => Found::Absent,
        _ => Found::Unknown,
    }
}

/// How an operator compares: whether one of its values is the one found, or whether none is.
#[derive(Copy, Clone, Debug)]
struct Operator {
    negated: bool,
    same: fn(&str, &str) -> bool,
}

fn operator(name: &str) -> Option<Operator> {
    fn equals(wanted: &str, found: &str) -> bool {
        wanted == found
    }
    fn equals_ignoring_case(wanted: &str, found: &str) -> bool {
        wanted.eq_ignore_ascii_case(found)
    }
    let (negated, same): (bool, fn(&str, &str) -> bool) = match name {
        "StringEquals" => (false, equals),
        "StringNotEquals" => (true, equals),
        "StringEqualsIgnoreCase" | "Bool" => (false, equals_ignoring_case),
        "StringNotEqualsIgnoreCase" => (true, equals_ignoring_case),
        "StringLike" => (false, matches_exactly),
        "StringNotLike" => (true, matches_exactly),
        "ArnEquals" | "ArnLike" => (false, arns_match),
        "ArnNotEquals" | "ArnNotLike" => (true, arns_match),
        _ => return None,
    };
    Some(Operator { negated, same })
}

fn holds(name: &str, key: &str, values: &[Scalar], request: &Request<'_>) -> Holds {
    let found = find(key, request);
    let told = |yes| if yes { Holds::Yes } else { Holds::No };
    if name == "Null" {
        let wanted = values.iter().any(|value| value.text() == "true");
        return match found {
            Found::Value(_) => told(!wanted),
            Found::Absent => told(wanted),
            Found::Unknown => Holds::Unknown,
        };
    }
    let (name, if_exists) = match name.strip_suffix("IfExists") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let Some(operator) = operator(name) else {
        return Holds::Unknown;
    };
    let values: Vec<String> = values.iter().map(Scalar::text).collect();
    if values.iter().any(|value| value.contains("${")) {
        return Holds::Unknown;
    }
    match found {
        Found::Value(found) => {
            let one = values.iter().any(|value| (operator.same)(value, &found));
            told(one != operator.negated)
        }
        Found::Absent => told(if_exists || operator.negated),
        Found::Unknown => Holds::Unknown,
    }
}

/// Whether an ARN is as wanted, each of its six parts for itself.
fn arns_match(wanted: &str, found: &str) -> bool {
    let parts = |arn: &str| arn.splitn(6, ':').map(str::to_owned).collect::<Vec<_>>();
    let (wanted, found) = (parts(wanted), parts(found));
    let same = |(wanted, found): (&String, &String)| matches_exactly(wanted, found);
    wanted.len() == 6 && found.len() == 6 && wanted.iter().zip(&found).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::change::Tags;

    const BOB: &str = "arn:aws:iam::111122223333:user/bob";

    fn told(conditions: &str) -> Holds {
        let tags = Tags::from([("team".to_owned(), "air".to_owned())]);
        let request = Request {
            account: "111122223333",
            principal: BOB,
            user: Some("bob"),
            region: "us-east-1",
            tags: &tags,
        };
        let conditions: Conditions = serde_json::from_str(conditions).unwrap();
        conditions.hold(&request)
    }

    fn assert_told(holds: Holds, conditions: &[&str]) {
        for conditions in conditions {
            assert_eq!(told(conditions), holds, "{conditions}");
        }
    }

    #[test]
    fn one_of_the_values_has_to_be_the_one_that_the_request_has() {
        assert_told(
            Holds::Yes,
            &[
                r#"{"StringEquals":{"aws:PrincipalAccount":"111122223333"}}"#,
                r#"{"StringEquals":{"AWS:principalaccount":["1","111122223333"]}}"#,
                r#"{"StringEquals":{"aws:PrincipalAccount":111122223333}}"#,
                r#"{"StringEqualsIgnoreCase":{"aws:username":"BOB"}}"#,
                r#"{"StringLike":{"aws:username":["a*","b?b"]}}"#,
                r#"{"StringNotEquals":{"aws:username":["alice","carol"]}}"#,
                r#"{"StringNotLike":{"aws:username":"a*"}}"#,
                r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/b*"}}"#,
                r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/bob"}}"#,
                r#"{"Bool":{"aws:ViaAWSService":"false"}}"#,
                r#"{"Bool":{"aws:PrincipalIsAWSService":false}}"#,
                r#"{"StringEquals":{"aws:ResourceTag/team":"air"}}"#,
                r#"{"StringEquals":{"aws:RequestedRegion":"us-east-1","aws:PrincipalType":"User"}}"#,
                "{}",
            ],
        );
        assert_told(
            Holds::No,
            &[
                r#"{"StringEquals":{"aws:PrincipalAccount":"111122223334"}}"#,
                r#"{"StringEquals":{"aws:username":"BOB"}}"#,
                r#"{"StringEquals":{"aws:username":"b*"}}"#,
                r#"{"StringLike":{"aws:username":"B*"}}"#,
                r#"{"StringNotEquals":{"aws:username":["alice","bob"]}}"#,
                r#"{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*"}}"#,
                r#"{"ArnNotLike":{"aws:PrincipalArn":"arn:*:iam::*:user/bob"}}"#,
                r#"{"Bool":{"aws:ViaAWSService":"true"}}"#,
                r#"{"StringEquals":{"aws:ResourceTag/Team":"air"}}"#,
                r#"{"StringEquals":{"aws:username":[]}}"#,
            ],
        );
    }

    #[test]
    fn a_key_that_the_request_has_not_fails_all_but_negations() {
        assert_told(
            Holds::Yes,
            &[
                r#"{"StringNotEquals":{"aws:SourceAccount":"111122223333"}}"#,
                r#"{"StringEqualsIfExists":{"aws:ResourceTag/cost":"7"}}"#,
                r#"{"Null":{"aws:SourceArn":"true"}}"#,
                r#"{"Null":{"aws:username":"false"}}"#,
            ],
        );
        assert_told(
            Holds::No,
            &[
                r#"{"StringEquals":{"aws:SourceAccount":"111122223333"}}"#,
                r#"{"StringEqualsIfExists":{"aws:ResourceTag/team":"sea"}}"#,
                r#"{"Null":{"aws:SourceArn":"false"}}"#,
            ],
        );
    }

    #[test]
    fn what_is_not_known_here_cannot_be_told_unless_another_condition_fails() {
        assert_told(
            Holds::Unknown,
            &[
                r#"{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}"#,
                r#"{"StringNotEquals":{"aws:PrincipalOrgID":"o-1"}}"#,
                r#"{"Null":{"aws:SourceVpce":"true"}}"#,
                r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#,
                r#"{"DateLessThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"}}"#,
                r#"{"ForAnyValue:StringEquals":{"aws:username":"bob"}}"#,
                r#"{"StringEquals":{"aws:username":"${aws:username}"}}"#,
                r#"{"NotBool":{"aws:ViaAWSService":"true"}}"#,
                r#"{"StringEquals":{"aws:username":"bob"},"StringLike":{"aws:PrincipalOrgID":"*"}}"#,
            ],
        );
        assert_told(
            Holds::No,
            &[r#"{"StringEquals":{"aws:username":"alice"},"Null":{"aws:SourceVpc":"true"}}"#],
        );
    }
}
