//! What may go wrong, to whom and when: the plan that a test, a file or `/_local/faults` gives.

use std::borrow::Cow;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Most rules of a plan. Source: none, reasonable bound (every request looks at all of them).
pub const FAULT_RULES_MAX: usize = 256;

/// Longest latency, in milliseconds: an hour. Source: none, longer than any caller waits.
pub const FAULT_LATENCY_MAX_MS: u64 = 3_600_000;

/// Longest name, code, message or matched text, in bytes. Source: none, reasonable bound.
const TEXT_MAX_BYTES: usize = 1024;

/// Faults to inject, repeatable: the same plan and the same calls in the same order have the same
/// effects.
///
/// Every call is held against every rule, in order, and the effects of all that fire add up:
/// latencies are added, of several errors the first counts. Each rule draws its chances from a
/// generator of its own, so a rule that is added at the end leaves the others' choices alone.
///
/// ```
/// use kinesis_local::{FaultEffect, FaultPlan, FaultRule, KinesisLocal};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let throttled = FaultEffect::error("ProvisionedThroughputExceededException");
/// let plan = FaultPlan::seeded(7)
///     .rule(FaultRule::new(throttled).operation("GetRecords").rate(0.1))
///     .rule(FaultRule::new(FaultEffect::DropResponse).operation("PutRecords").times(3));
/// let local = KinesisLocal::builder().faults(plan).start().await?;
/// # local.shutdown().await;
/// # Ok(())
/// # }
/// ```
///
/// The same in a file for `kinesis-local --faults`, here as TOML:
///
/// ```toml
/// seed = 7
///
/// [[rules]]
/// operations = ["GetRecords"]
/// rate = 0.1
/// effect = { error = { code = "ProvisionedThroughputExceededException" } }
///
/// [[rules]]
/// operations = ["PutRecords"]
/// times = 3
/// effect = "drop_response"
/// ```
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FaultPlan {
    /// Where all chance comes from.
    pub seed: u64,
    /// At most [`FAULT_RULES_MAX`] rules.
    pub rules: Vec<FaultRule>,
}

impl FaultPlan {
    /// A plan without a rule.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            rules: Vec::new(),
        }
    }

    /// Adds a rule behind the others.
    #[must_use]
    pub fn rule(mut self, rule: FaultRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Checks every field against its bound; the error names the rule and the field.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.rules.len() > FAULT_RULES_MAX {
            return Err(invalid(format!(
                "faults: rules must be at most {FAULT_RULES_MAX}, they are {}",
                self.rules.len()
            )));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            rule.check()
                .map_err(|why| invalid(format!("faults: rules[{at}].{why}")))?;
        }
        Ok(())
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Settings, message)
}

/// Which calls meet which effect. What is not given matches every call.
///
/// ```text
/// call ─▶ service, operation, stream, shard, client ─▶ window ─▶ skip ─▶ every ─▶ rate ─▶ times ─▶ effect
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FaultRule {
    /// What the counters and the header `x-kinesis-local-fault` of injected errors call it. Default:
    /// `rule N`, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The service that is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<FaultService>,
    /// Names of operations, `PutRecords` for example. A call of S3 goes by its HTTP method: `PUT`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<String>,
    /// The stream's name, whether a call gives it, an ARN of it, of its consumer, queue or channel,
    /// an iterator or a token of ListShards in it, or a list with it. For DynamoDB the table, also in
    /// a batch or transaction; for S3 the bucket.
    #[serde(
        default,
        alias = "table",
        alias = "bucket",
        skip_serializing_if = "Option::is_none"
    )]
    pub stream: Option<String>,
    /// The shard's id, whole or short (`shardId-000000000001`, `shardId-1`, `1`), whether a call gives
    /// it, in either form, an iterator in it or the key of one record; MergeShards gives two. Of
    /// PutRecords, and of PutRecord where the distribution strategy is AUTO, only
    /// [`FaultEffect::FailEntries`] knows the shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The access key id that the call is signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// A part of the caller's `User-Agent` or `X-Amz-User-Agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// From when on, in milliseconds after the plan was given.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from_ms: u64,
    /// Until when, in milliseconds after the plan was given. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// How many calls pass before the first that is taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: u64,
    /// Every how manieth call is taken, the first of them first; at least 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub every: u64,
    /// The probability with which a call is taken; 0 to 1.
    #[serde(default = "always", skip_serializing_if = "is_always")]
    pub rate: f64,
    /// How many calls are taken at most. Default: no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// What happens to a call that is taken.
    pub effect: FaultEffect,
}

/// The service that a call is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultService {
    /// Kinesis.
    Kinesis,
    /// DynamoDB, where consumers keep their leases.
    DynamoDb,
    /// S3, where sinks write.
    S3,
}

/// What happens to a call.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum FaultEffect {
    /// The answer is late, by a time between the two, or the call is carried out late.
    #[non_exhaustive]
    Latency {
        /// The least, in milliseconds.
        min_ms: u64,
        /// The most, in milliseconds; at most [`FAULT_LATENCY_MAX_MS`].
        max_ms: u64,
        /// Whether the call waits before it is carried out, in place of its answer.
        #[serde(default)]
        before: bool,
    },
    /// The call is refused and not carried out.
    #[non_exhaustive]
    Error {
        /// The code, as SDKs name the error: letters, digits, `.`, `_` and `#`.
        ///
        /// It is answered as it is given. A failure of the service is `InternalFailureException` for
        /// the operations whose API model lists that, which typed clients match on, and
        /// `InternalFailure` for the others; kinesis-local tells its own failures so.
        code: String,
        /// The text. Default: what the service usually says with this code, with the call's stream
        /// and shard in it; for a code that it does not have, one that names the rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// The HTTP status, 400 to 599. Default: 500 or 503 for the codes by which services say
        /// that it is their fault, else 400.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// Some entries of a PutRecords are refused and not stored; the others are.
    #[non_exhaustive]
    FailEntries {
        /// The probability with which an entry (of the rule's shard, if it has one) is refused;
        /// 0 to 1.
        rate: f64,
        /// The entry's `ErrorCode`. Default: `ProvisionedThroughputExceededException`.
        #[serde(default = "throttled")]
        code: Cow<'static, str>,
        /// The entry's `ErrorMessage`. Default: what the service usually says with this code; for a
        /// code that it does not have, one that names the rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// The call is not carried out and the connection breaks.
    DropRequest,
    /// The call is carried out and the connection breaks before the answer.
    DropResponse,
    /// The connection breaks (or falls silent) in the middle of the answer, an event stream for
    /// example.
    #[non_exhaustive]
    Cut {
        /// How many events of an event stream pass; the initial response is not counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_events: Option<u64>,
        /// How many bytes pass: of the whole answer, or of what follows those events. So 10 is in
        /// the middle of a frame.
        #[serde(default, skip_serializing_if = "is_zero")]
        after_bytes: u64,
        /// Whether nothing comes any more, in place of an error.
        #[serde(default)]
        silent: bool,
    },
    /// A GetRecords is told that its iterator has expired.
    ExpiredIterator,
}

impl FaultEffect {
    /// The answer is late by this much.
    #[must_use]
    pub fn latency_ms(ms: u64) -> Self {
        Self::latency_between_ms(ms, ms)
    }

    /// The answer is late by a time between the two.
    #[must_use]
    pub fn latency_between_ms(min_ms: u64, max_ms: u64) -> Self {
        Self::Latency {
            min_ms,
            max_ms,
            before: false,
        }
    }

    /// The call is carried out late by this much.
    #[must_use]
    pub fn latency_before_ms(ms: u64) -> Self {
        Self::Latency {
            min_ms: ms,
            max_ms: ms,
            before: true,
        }
    }

    /// An error of this code, with its usual status and text.
    #[must_use]
    pub fn error(code: impl Into<String>) -> Self {
        Self::Error {
            code: code.into(),
            message: None,
            status: None,
        }
    }

    /// Entries of PutRecords fail with this probability and code.
    #[must_use]
    pub fn fail_entries(rate: f64, code: impl Into<Cow<'static, str>>) -> Self {
        Self::FailEntries {
            rate,
            code: code.into(),
            message: None,
        }
    }

    /// The connection breaks after so many bytes of the answer.
    #[must_use]
    pub fn cut_after_bytes(bytes: u64) -> Self {
        Self::Cut {
            after_events: None,
            after_bytes: bytes,
            silent: false,
        }
    }

    /// The connection breaks after so many events, and so many bytes of the one behind them.
    #[must_use]
    pub fn cut_after_events(events: u64, bytes: u64) -> Self {
        Self::Cut {
            after_events: Some(events),
            after_bytes: bytes,
            silent: false,
        }
    }

    /// Nothing comes any more after so many events.
    #[must_use]
    pub fn silent_after_events(events: u64) -> Self {
        Self::Cut {
            after_events: Some(events),
            after_bytes: 0,
            silent: true,
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Latency { min_ms, max_ms, .. } => {
                if min_ms > max_ms || *max_ms > FAULT_LATENCY_MAX_MS {
                    return Err(format!(
                        "effect.latency must have min_ms <= max_ms <= {FAULT_LATENCY_MAX_MS}, they \
                         are {min_ms} and {max_ms}"
                    ));
                }
            }
            Self::Error {
                code,
                message,
                status,
            } => {
                check_code("effect.error.code", code)?;
                check_text("effect.error.message", message.as_deref())?;
                if status.is_some_and(|status| !(400..=599).contains(&status)) {
                    return Err("effect.error.status must be 400 to 599".to_owned());
                }
            }
            Self::FailEntries {
                rate,
                code,
                message,
            } => {
                check_rate("effect.fail_entries.rate", *rate)?;
                check_code("effect.fail_entries.code", code)?;
                check_text("effect.fail_entries.message", message.as_deref())?;
            }
            Self::DropRequest | Self::DropResponse | Self::Cut { .. } | Self::ExpiredIterator => {}
        }
        Ok(())
    }
}

impl FaultRule {
    /// This effect for every call.
    #[must_use]
    pub fn new(effect: FaultEffect) -> Self {
        Self {
            name: None,
            service: None,
            operations: Vec::new(),
            stream: None,
            shard: None,
            access_key: None,
            user_agent: None,
            from_ms: 0,
            until_ms: None,
            skip: 0,
            every: one(),
            rate: always(),
            times: None,
            effect,
        }
    }

    /// Names the rule.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only calls for this service.
    #[must_use]
    pub fn service(mut self, service: FaultService) -> Self {
        self.service = Some(service);
        self
    }

    /// Only calls of this operation, and of those given before.
    #[must_use]
    pub fn operation(mut self, operation: impl Into<String>) -> Self {
        self.operations.push(operation.into());
        self
    }

    /// Only calls for this stream, table or bucket.
    #[must_use]
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.stream = Some(stream.into());
        self
    }

    /// Only calls for this shard.
    #[must_use]
    pub fn shard(mut self, shard: impl Into<String>) -> Self {
        self.shard = Some(shard.into());
        self
    }

    /// Only calls that are signed with this access key id.
    #[must_use]
    pub fn access_key(mut self, access_key: impl Into<String>) -> Self {
        self.access_key = Some(access_key.into());
        self
    }

    /// Only callers whose user agent contains this.
    #[must_use]
    pub fn user_agent(mut self, part: impl Into<String>) -> Self {
        self.user_agent = Some(part.into());
        self
    }

    /// Only between these times, in milliseconds after the plan was given.
    #[must_use]
    pub fn between_ms(mut self, from_ms: u64, until_ms: u64) -> Self {
        (self.from_ms, self.until_ms) = (from_ms, Some(until_ms));
        self
    }

    /// The first `calls` pass.
    #[must_use]
    pub fn skip(mut self, calls: u64) -> Self {
        self.skip = calls;
        self
    }

    /// Only every `calls`th, the first of them first.
    #[must_use]
    pub fn every(mut self, calls: u64) -> Self {
        self.every = calls;
        self
    }

    /// Each call with this probability.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = rate;
        self
    }

    /// At most so many calls.
    #[must_use]
    pub fn times(mut self, calls: u64) -> Self {
        self.times = Some(calls);
        self
    }

    fn check(&self) -> Result<(), String> {
        let texts = [
            ("name", &self.name),
            ("stream", &self.stream),
            ("shard", &self.shard),
            ("access_key", &self.access_key),
            ("user_agent", &self.user_agent),
        ];
        for (field, text) in texts {
            check_text(field, text.as_deref())?;
        }
        for operation in &self.operations {
            check_text("operations", Some(operation))?;
        }
        if self.until_ms.is_some_and(|until| until < self.from_ms) {
            return Err("until_ms must not lie before from_ms".to_owned());
        }
        if self.every == 0 {
            return Err("every must be at least 1".to_owned());
        }
        check_rate("rate", self.rate)?;
        self.effect.check()
    }
}

fn check_rate(field: &str, rate: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&rate) {
        return Ok(());
    }
    Err(format!("{field} must be 0 to 1, it is {rate}"))
}

fn check_text(field: &str, text: Option<&str>) -> Result<(), String> {
    match text.map(str::len) {
        Some(bytes) if bytes > TEXT_MAX_BYTES => Err(format!(
            "{field} must be at most {TEXT_MAX_BYTES} bytes, it is {bytes}"
        )),
        _ => Ok(()),
    }
}

fn check_code(field: &str, code: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'#');
    if code.is_empty() || !code.bytes().all(plain) {
        return Err(format!(
            "{field} must be letters, digits, '.', '_' and '#', it is {code:?}"
        ));
    }
    check_text(field, Some(code))
}

/// The status that services send with a code.
pub(super) fn usual_status(code: &str) -> StatusCode {
    match code {
        "InternalFailure"
        | "InternalFailureException"
        | "InternalServerError"
        | "InternalError" => StatusCode::INTERNAL_SERVER_ERROR,
        "ServiceUnavailable" | "SlowDown" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn throttled() -> Cow<'static, str> {
    Cow::Borrowed(crate::wire::fault::THROTTLED)
}

fn one() -> u64 {
    1
}

fn always() -> f64 {
    1.0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_one(number: &u64) -> bool {
    *number == 1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_always(rate: &f64) -> bool {
    *rate >= 1.0
}

#[cfg(test)]
mod tests;
