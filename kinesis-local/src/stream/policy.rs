//! Who of other accounts may do what with a stream, consumer or queue: resource policies.
//!
//! ```text
//! {"Version": "2012-10-17",
//!  "Statement": [{"Effect": "Allow",                                 or Deny, which wins
//!                 "Principal": {"AWS": ["111122223333", ARN, "*"]},   or "*"
//!                 "Action": ["kinesis:GetRecords", "kinesis:List*"],
//!                 "Resource": ARN}]}                                  the one it is attached to
//! ```
//! Promises: a document that was taken has only members that are looked at here, names only actions
//! that the kind of resource has, and only the resource that it is attached to; what no statement
//! allows is not allowed. A pattern is about the actions of the kind of resource and nothing else:
//! `kinesis:*` lets nobody delete or reshard a stream.
//!
//! A `Condition` is looked at by [`condition`]. One that cannot be told keeps the safe way: its
//! statement does not allow, and denies as if the condition were met.

use condition::{Conditions, Holds};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::change::Tags;

mod condition;

/// Longest document, in bytes. Source: none, reasonable bound; IAM's documents have at most 20 KiB.
pub(crate) const POLICY_MAX_BYTES: usize = 20 * 1024;

/// Actions that a stream's policy may name. Source: recorded answers of the service.
const STREAM_ACTIONS: [&str; 7] = [
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
    "kinesis:PutRecord",
    "kinesis:PutRecords",
];

/// Actions that a consumer's policy may name. Source: recorded answers of the service.
const CONSUMER_ACTIONS: [&str; 2] = ["kinesis:DescribeStreamConsumer", "kinesis:SubscribeToShard"];

/// Actions that a queue's policy may name. Source: the API model's operations on one queue, apart
/// from those that only its owner needs.
const QUEUE_ACTIONS: [&str; 8] = [
    "kinesis:AcknowledgeDeadLetterQueueRecords",
    "kinesis:AcknowledgeQueueRecords",
    "kinesis:DescribeQueue",
    "kinesis:ReceiveDeadLetterQueueRecords",
    "kinesis:ReceiveQueueRecords",
    "kinesis:RestoreDeadLetterQueueRecords",
    "kinesis:UpdateDeadLetterQueueRecordsVisibility",
    "kinesis:UpdateQueueRecordsVisibility",
];

/// What a policy says about a request.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    Allowed,
    /// By a statement that denies it.
    Denied,
    /// No statement is about it: so it is not allowed either.
    NotMentioned,
}

/// What a document is attached to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Stream,
    Consumer,
    Queue,
}

impl Kind {
    fn actions(self) -> &'static [&'static str] {
        match self {
            Self::Stream => &STREAM_ACTIONS,
            Self::Consumer => &CONSUMER_ACTIONS,
            Self::Queue => &QUEUE_ACTIONS,
        }
    }
}

/// A document that was read. What it says beside this would be taken and not be followed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<String>,
    #[serde(default)]
    statement: OneOrMany<Statement>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct Statement {
    #[serde(rename = "Sid")]
    _sid: Option<String>,
    effect: String,
    principal: Option<Principal>,
    action: OneOrMany<String>,
    resource: OneOrMany<String>,
    condition: Option<Conditions>,
}

/// Whom a statement is about, by the names that AWS knows them by.
#[derive(Debug, Default)]
struct Principal(Vec<String>);

/// A value, or a list of such.
#[derive(Debug)]
struct OneOrMany<T>(Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Many(Vec<T>),
            One(T),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Many(many) => many,
            Either::One(one) => vec![one],
        }))
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Named {
            #[serde(rename = "AWS", default)]
            aws: OneOrMany<String>,
            /// Services of AWS do not call here.
            #[serde(rename = "Service", default)]
            _service: OneOrMany<String>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Everybody(String),
            Named(Named),
        }
        match Either::deserialize(deserializer)? {
            Either::Everybody(all) if all == "*" => Ok(Self(vec![all])),
            Either::Everybody(_) => Err(D::Error::custom("only * stands alone")),
            Either::Named(named) => Ok(Self(named.aws.0)),
        }
    }
}

/// Whether `document` may be attached to `resource`; the error is the service's text.
pub(crate) fn check(document: &str, kind: Kind, resource: &str) -> Result<(), String> {
    let refused = |text: String| Err(format!("Policy validation error: {text}"));
    if document.len() > POLICY_MAX_BYTES {
        return refused(format!(
            "The policy is longer than {POLICY_MAX_BYTES} bytes"
        ));
    }
    let Ok(read) = serde_json::from_str::<Document>(document) else {
        return refused("This policy contains invalid Json".to_owned());
    };
    if read.version.is_none() {
        return refused("Missing required field Version".to_owned());
    }
    if read.statement.0.is_empty() {
        return refused("Missing required field Statement".to_owned());
    }
    for (at, statement) in read.statement.0.iter().enumerate() {
        if let Err(text) = statement.check(kind, resource) {
            let (line, column) = place_of_statement(document, at);
            return refused(format!(
                "Resource policy contains invalid statement at line {line}, column {column}: {text}"
            ));
        }
    }
    Ok(())
}

/// What is known of a request that a policy decides about.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Request<'a> {
    /// The caller's account.
    pub(crate) account: &'a str,
    /// The caller's ARN.
    pub(crate) principal: &'a str,
    /// The caller's name; `None`: the account itself calls.
    pub(crate) user: Option<&'a str>,
    pub(crate) region: &'a str,
    /// The tags of the resource that the policy is attached to.
    pub(crate) tags: &'a Tags,
}

/// What `document` says about the request's `action` (as in `kinesis:GetRecords`) on the resource
/// of this kind that it is attached to.
pub(crate) fn allows(document: &str, kind: Kind, request: &Request<'_>, action: &str) -> Decision {
    // What a policy cannot name it does not grant by a pattern either.
    if !kind.actions().contains(&action) {
        return Decision::NotMentioned;
    }
    // A document is checked before it is kept, so an unreadable one is not there.
    let Ok(document) = serde_json::from_str::<Document>(document) else {
        return Decision::NotMentioned;
    };
    let mut decision = Decision::NotMentioned;
    for statement in &document.statement.0 {
        if !statement.is_about(request, action) {
            continue;
        }
        let conditions = statement.condition.as_ref();
        let holds = conditions.map_or(Holds::Yes, |conditions| conditions.hold(request));
        match (statement.effect == "Deny", holds) {
            (_, Holds::No) | (false, Holds::Unknown) => {}
            (true, Holds::Yes | Holds::Unknown) => return Decision::Denied,
            (false, Holds::Yes) => decision = Decision::Allowed,
        }
    }
    decision
}

impl Statement {
    fn check(&self, kind: Kind, resource: &str) -> Result<(), String> {
        if self.effect != "Allow" && self.effect != "Deny" {
            return Err("The effect must be Allow or Deny.".to_owned());
        }
        if self.principal.as_ref().is_none_or(|all| all.0.is_empty()) {
            return Err("Missing required field Principal".to_owned());
        }
        if self.action.0.is_empty() {
            return Err("Missing required field Action".to_owned());
        }
        let known = |named: &&String| kind.actions().iter().any(|action| matches(named, action));
        let unknown = self.action.0.iter().filter(|named| !known(named));
        let unknown: Vec<String> = unknown.map(|named| format!("\"{named}\"")).collect();
        if !unknown.is_empty() {
            let names = unknown.join(", ");
            return Err(format!("The following action names are invalid: {names}"));
        }
        let same = |named: &String| named == resource;
        if self.resource.0.is_empty() || !self.resource.0.iter().all(same) {
            let text = "The resource policy's resource must be the same as the resource ARN.";
            return Err(text.to_owned());
        }
        Ok(())
    }

    fn is_about(&self, request: &Request<'_>, action: &str) -> bool {
        let (account, principal) = (request.account, request.principal);
        let root = format!(":iam::{account}:root");
        let whom = |named: &String| {
            named == "*" || named == account || named == principal || named.ends_with(&root)
        };
        let principals = self.principal.as_ref().map_or(&[][..], |all| &all.0);
        principals.iter().any(whom) && self.action.0.iter().any(|named| matches(named, action))
    }
}

/// Whether `pattern`, where `*` is any text and `?` any character, is about `action`. The case of
/// action names does not matter.
fn matches(pattern: &str, action: &str) -> bool {
    matches_exactly(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase())
}

/// Whether `pattern`, where `*` is any text and `?` any byte, is about `text`.
fn matches_exactly(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                // The star takes one more.
                Some((behind, taken)) => {
                    *taken += 1;
                    (p, t) = (*behind, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Line and column, from one, of the statement `at` in a document that can be read.
fn place_of_statement(document: &str, at: usize) -> (usize, usize) {
    let offset = statement_starts(document).nth(at).unwrap_or_default();
    let before = &document[..offset];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// Where the statements of a readable document begin: the structures that lie directly in the
/// outermost one's `Statement`.
fn statement_starts(document: &str) -> impl Iterator<Item = usize> {
    let key = document.find("\"Statement\"").unwrap_or_default();
    let mut depth = 0;
    let mut in_text = false;
    let mut escaped = false;
    document[key..]
        .char_indices()
        .skip_while(|(_, c)| *c != ':')
        .filter_map(move |(offset, c)| {
            match (in_text, c) {
                (true, _) if escaped => escaped = false,
                (true, '\\') => escaped = true,
                (_, '"') => in_text = !in_text,
                (false, '{') => {
                    depth += 1;
                    return (depth == 1).then_some(key + offset);
                }
                (false, '}') => depth -= 1,
                _ => {}
            }
            None
        })
}

#[cfg(test)]
mod tests;
