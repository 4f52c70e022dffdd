//! Decides what happens to each call: the rules' counters and chances, without I/O.
//!
//! Promises: same plan, same calls, same order: same effects. A rule's chances depend on nothing but
//! the plan's seed, its place in the plan and the calls that it matched.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use kinesis_core::Rand;
use serde::Serialize;
use tokio::time::Instant;

use super::call::{Call, whole_shard_id};
use super::plan::{FaultEffect, FaultPlan, FaultRule, usual_status};
use super::words::{self, Told};
use crate::wire::fault::Fault;

/// What happens to one call.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// How long it waits before it is carried out.
    pub(crate) before: Duration,
    /// How long its answer waits.
    pub(crate) after: Duration,
    /// It is not carried out and not answered.
    pub(crate) request_lost: bool,
    /// It is not answered.
    pub(crate) response_lost: bool,
    /// It is not carried out but answered with this.
    pub(crate) refusal: Option<Refusal>,
    /// Which entries of PutRecords are refused.
    pub(crate) entries: EntryFaults,
    /// Where the answer breaks.
    pub(crate) cut: Option<Cut>,
}

/// An error that a rule asks for.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The rule's name.
    pub(super) rule: String,
    pub(super) status: StatusCode,
    pub(super) code: String,
    /// The rule's text; `None`: what the service usually says.
    pub(super) message: Option<String>,
    pub(super) call: Call,
}

/// Where an answer breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cut {
    pub(crate) events: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) silent: bool,
}

/// The rules for entries that hold for one PutRecords.
#[derive(Debug, Default)]
pub(crate) struct EntryFaults(Vec<EntryFault>);

#[derive(Debug)]
struct EntryFault {
    rate: f64,
    shard: Option<String>,
    code: Cow<'static, str>,
    /// The rule's text; `None`: what the service usually says.
    message: Option<String>,
    rule: String,
    /// This call's own, so that another call's entries change nothing.
    rand: Rand,
    entries: Arc<AtomicU64>,
}

impl EntryFaults {
    /// By what the next entry is refused, if it is; it goes to this shard of a stream in an account.
    pub(crate) fn next(&self, shard: &str, stream: &str, account: &str) -> Option<Fault> {
        let mut refused = None;
        for fault in &self.0 {
            let here = fault.shard.as_deref().is_none_or(|wanted| wanted == shard);
            if here && fault.rand.unit() < fault.rate && refused.is_none() {
                fault.entries.fetch_add(1, Ordering::Relaxed);
                let told = Told {
                    operation: "PutRecords",
                    account,
                    stream: Some(stream),
                    shard: Some(shard),
                    ..Told::default()
                };
                let text = fault.message.clone();
                let text = text.or_else(|| words::of_kinesis(&fault.code, &told));
                let text = text.unwrap_or_else(|| on_purpose(&fault.rule));
                refused = Some(Fault::new(fault.code.clone(), text));
            }
        }
        refused
    }
}

/// How often a rule of the plan met a call.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FaultCount {
    /// The rule's name.
    pub name: String,
    /// Calls that were of the rule's kind while its time had come.
    pub matched: u64,
    /// Calls among them that it took.
    pub fired: u64,
    /// Entries of PutRecords that it refused.
    pub entries: u64,
}

/// A plan under way.
#[derive(Debug)]
pub(super) struct Machine {
    plan: FaultPlan,
    /// When the plan was given.
    since: Instant,
    rules: Vec<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    /// The rule's shard by its whole id.
    shard: Option<String>,
    rand: Rand,
    matched: u64,
    fired: u64,
    entries: Arc<AtomicU64>,
}

impl Machine {
    pub(super) fn new(plan: FaultPlan, now: Instant) -> Self {
        let rand = Rand::seeded(plan.seed);
        let state = |(at, rule): (usize, &FaultRule)| State {
            name: rule.name.clone().unwrap_or_else(|| format!("rule {at}")),
            shard: rule.shard.as_deref().map(whole_shard_id),
            rand: rand.fork(),
            matched: 0,
            fired: 0,
            entries: Arc::default(),
        };
        Self {
            rules: plan.rules.iter().enumerate().map(state).collect(),
            since: now,
            plan,
        }
    }

    pub(super) fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// Whether any rule has to know what is in a call's body.
    pub(super) fn asks_for_bodies(&self) -> bool {
        let asks = |rule: &FaultRule| {
            let words = match &rule.effect {
                FaultEffect::Error { message, .. } => message.is_none(),
                FaultEffect::ExpiredIterator => true,
                FaultEffect::Latency { .. }
                | FaultEffect::FailEntries { .. }
                | FaultEffect::DropRequest
                | FaultEffect::DropResponse
                | FaultEffect::Cut { .. } => false,
            };
            words || rule.stream.is_some() || rule.shard.is_some()
        };
        self.plan.rules.iter().any(asks)
    }

    pub(super) fn decide(&mut self, call: &Call, now: Instant) -> Effects {
        let at_ms = now.saturating_duration_since(self.since).as_millis();
        let mut effects = Effects::default();
        for (rule, state) in self.plan.rules.iter().zip(&mut self.rules) {
            if rule.matches(call, state.shard.as_deref(), at_ms) && state.takes(rule) {
                state.add(rule, call, &mut effects);
            }
        }
        effects
    }

    pub(super) fn counts(&self) -> Vec<FaultCount> {
        let count = |state: &State| FaultCount {
            name: state.name.clone(),
            matched: state.matched,
            fired: state.fired,
            entries: state.entries.load(Ordering::Relaxed),
        };
        self.rules.iter().map(count).collect()
    }
}

impl FaultRule {
    /// Whether the call is of this kind; `shard` is the rule's.
    fn matches(&self, call: &Call, shard: Option<&str>, at_ms: u128) -> bool {
        let among = |wanted: Option<&str>, found: &[String]| {
            wanted.is_none_or(|wanted| found.iter().any(|found| found == wanted))
        };
        let key = self.access_key.as_deref();
        let entries = matches!(self.effect, FaultEffect::FailEntries { .. });
        let only = match self.effect {
            FaultEffect::FailEntries { .. } => Some("PutRecords"),
            FaultEffect::ExpiredIterator => Some("GetRecords"),
            _ => None,
        };
        let agent = self.user_agent.as_deref();
        at_ms >= u128::from(self.from_ms)
            && self.until_ms.is_none_or(|until| at_ms < u128::from(until))
            && self
                .service
                .is_none_or(|wanted| call.service == Some(wanted))
            && only.is_none_or(|only| call.operation == only)
            && (self.operations.is_empty() || self.operations.contains(&call.operation))
            && among(self.stream.as_deref(), &call.streams)
            && (entries || among(shard, &call.shards))
            && key.is_none_or(|key| call.access_key.as_deref() == Some(key))
            && agent.is_none_or(|part| call.user_agents.iter().any(|agent| agent.contains(part)))
    }
}

impl State {
    fn takes(&mut self, rule: &FaultRule) -> bool {
        let number = self.matched;
        self.matched += 1;
        let in_turn = number >= rule.skip && (number - rule.skip).is_multiple_of(rule.every);
        if !in_turn || rule.times.is_some_and(|times| self.fired >= times) {
            return false;
        }
        let taken = self.rand.unit() < rule.rate;
        self.fired += u64::from(taken);
        taken
    }

    fn add(&self, rule: &FaultRule, call: &Call, effects: &mut Effects) {
        let refusal = |status, code: &str, message: Option<&str>| Refusal {
            rule: self.name.clone(),
            status,
            code: code.to_owned(),
            message: message.map(str::to_owned),
            call: call.clone(),
        };
        match &rule.effect {
            FaultEffect::Latency {
                min_ms,
                max_ms,
                before,
            } => {
                let more = self
                    .rand
                    .below(max_ms.saturating_sub(*min_ms).saturating_add(1));
                let latency = Duration::from_millis(min_ms + more);
                let slot = if *before {
                    &mut effects.before
                } else {
                    &mut effects.after
                };
                *slot += latency;
            }
            FaultEffect::Error {
                code,
                message,
                status,
            } => {
                let given = status.and_then(|status| StatusCode::from_u16(status).ok());
                let status = given.unwrap_or_else(|| usual_status(code));
                let refusal = || refusal(status, code, message.as_deref());
                effects.refusal.get_or_insert_with(refusal);
            }
            FaultEffect::ExpiredIterator => {
                let expired = "ExpiredIteratorException";
                let refusal = || refusal(StatusCode::BAD_REQUEST, expired, None);
                effects.refusal.get_or_insert_with(refusal);
            }
            FaultEffect::FailEntries {
                rate,
                code,
                message,
            } => effects.entries.0.push(EntryFault {
                rate: *rate,
                shard: self.shard.clone(),
                code: code.clone(),
                message: message.clone(),
                rule: self.name.clone(),
                rand: self.rand.fork(),
                entries: Arc::clone(&self.entries),
            }),
            FaultEffect::DropRequest => effects.request_lost = true,
            FaultEffect::DropResponse => effects.response_lost = true,
            FaultEffect::Cut {
                after_events,
                after_bytes,
                silent,
            } => {
                effects.cut.get_or_insert(Cut {
                    events: *after_events,
                    bytes: *after_bytes,
                    silent: *silent,
                });
            }
        }
    }
}

/// The text with a code that no service has.
pub(super) fn on_purpose(rule: &str) -> String {
    format!("A fault on purpose: {rule}.")
}

#[cfg(test)]
mod tests;
