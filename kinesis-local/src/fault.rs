//! Faults on purpose: what a plan's rules do to the calls that come in.
//!
//! ```text
//!            ┌ before: wait, or lose the request
//! call ─▶ decide ─▶ service ─▶ answer ─▶ wait, or lose the answer, or cut it ─▶ caller
//!                   └ instead: refuse it, or some entries of PutRecords
//! ```
//! Promises: what a rule refuses or loses before its effect is not carried out; what it loses after
//! its effect is. The order of the service's checks stays: a call that Kinesis cannot read, or that is
//! not signed as it has to be, is told so before an injected error is. Without a plan a call costs one look at a lock.
//!
//! Deliberately absent: faults of the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Response;
use http::request::Parts;
use kinesis_core::Clock;
use serde::Serialize;

use crate::body::ResponseBody;
use crate::error::Error;
use crate::route::Unanswered;
use crate::wire::Body;

mod answer;
mod call;
mod machine;
mod plan;
mod words;

pub(crate) use answer::CutBody;
pub(crate) use call::Wanted;
pub use machine::FaultCount;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
pub(crate) use machine::Refusal as Injected;
pub(crate) use machine::{Effects, EntryFaults};
pub use plan::{
    FAULT_LATENCY_MAX_MS, FAULT_RULES_MAX, FaultEffect, FaultPlan, FaultRule, FaultService,
};
pub(crate) use words::Told;

use call::Call;
use machine::Machine;

/// The faults of one instance; cheap to clone, all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    /// Whether there is a plan; told apart so that a call without one takes no lock.
    active: AtomicBool,
    machine: Mutex<Machine>,
}

/// The plan and how often its rules met a call, as `/_local/faults` shows them.
#[derive(Serialize)]
struct Report<'a> {
    plan: &'a FaultPlan,
    counts: Vec<FaultCount>,
}

impl Faults {
    pub(crate) fn new(plan: FaultPlan, clock: Clock) -> Self {
        let now = clock.now();
        Self {
            inner: Arc::new(Inner {
                clock,
                active: AtomicBool::new(!plan.rules.is_empty()),
                machine: Mutex::new(Machine::new(plan, now)),
            }),
        }
    }

    /// Replaces the plan; counters and chances begin anew.
    pub(crate) fn set(&self, plan: FaultPlan) -> Result<(), Error> {
        plan.validate()?;
        let active = !plan.rules.is_empty();
        let mut machine = self.machine();
        *machine = Machine::new(plan, self.inner.clock.now());
        self.inner.active.store(active, Ordering::Release);
        Ok(())
    }

    pub(crate) fn counts(&self) -> Vec<FaultCount> {
        self.machine().counts()
    }

    /// Plan and counts as JSON.
    pub(crate) fn report(&self) -> Result<Vec<u8>, serde_json::Error> {
        let machine = self.machine();
        serde_json::to_vec(&Report {
            plan: machine.plan(),
            counts: machine.counts(),
        })
    }

    /// What happens to a call. `body` is what was read of it; `find` answers what the call itself
    /// does not tell. `None`: nothing.
    pub(crate) fn decide(
        &self,
        service: FaultService,
        head: &Parts,
        body: &[u8],
        find: impl Fn(Wanted<'_>) -> Option<String>,
    ) -> Option<Arc<Effects>> {
        if !self.inner.active.load(Ordering::Acquire) {
            return None;
        }
        let mut call = Call::of(service, head);
        if self.machine().asks_for_bodies() {
            call.read(Body::new(call::format(&head.headers), body), find);
        }
        let now = self.inner.clock.now();
        Some(Arc::new(self.machine().decide(&call, now)))
    }

    /// Carries out `work` with its waits and losses. The refusal and the entries' are its own affair.
    pub(crate) async fn around(
        &self,
        effects: Option<&Effects>,
        work: impl Future<Output = Response<ResponseBody>>,
    ) -> Result<Response<ResponseBody>, Unanswered> {
        let Some(effects) = effects else {
            return Ok(work.await);
        };
        self.wait(effects.before).await;
        if effects.request_lost {
            return Err(Unanswered::Broken);
        }
        let answer = work.await;
        self.wait(effects.after).await;
        if effects.response_lost {
            return Err(Unanswered::Broken);
        }
        Ok(match effects.cut {
            Some(cut) => answer.map(|body| ResponseBody::Cut(Box::new(CutBody::new(body, cut)))),
            None => answer,
        })
    }

    async fn wait(&self, latency: Duration) {
        if !latency.is_zero() {
            self.inner.clock.sleep(latency).await;
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        let machine = self.inner.machine.lock();
        machine.unwrap_or_else(PoisonError::into_inner)
    }
}
