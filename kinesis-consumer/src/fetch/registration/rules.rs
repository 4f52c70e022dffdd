//! How a worker gets a registered consumer that can be used: the rules, without any I/O.
//!
//! ```text
//!   Describe ── ACTIVE ─────────────────────────────────────────────▶ Ready
//!     ▲  │ CREATING, DELETING: pause
//!     ├──┘ none ──▶ Register ── created, or another worker was first: pause ─┐
//!     └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants: pauses are bounded and jittered, so that workers that start together spread; what is
//! not ready after [`PATIENCE`] is late, which leads to polling, and is begun anew by whoever asks next.

use std::time::Duration;

use kinesis_core::{Backoff, Rand};
use tokio::time::Instant;

use crate::fetch::fan_out::Reason;

/// Longest time from the first description to a consumer that is ACTIVE; on AWS it takes some ten
/// seconds. Source: none, reasonable default; the KCL makes ten tries, 1 s apart.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Least pause between two calls. Source: KCL `FanOutConfig.retryBackoffMillis`.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What the pause grows to, before jitter. Source: none, reasonable default.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// `LimitExceededException` in a row that are taken for the number of consumers of a stream; the
/// same code tells that more than five registrations a second were tried.
/// Source: none, reasonable default.
const LIMIT_TRIES: u32 = 3;

/// What a call told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    Active,
    /// It is there, but being created or deleted.
    NotReady,
    Absent,
    Registered,
    /// `ResourceInUseException`: another worker was first, or the stream is being changed.
    InUse,
    LimitExceeded,
    Denied,
    /// Any other failure.
    Failed,
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    Ready,
    Register,
    /// Describe after this pause.
    DescribeIn(Duration),
    Refused(Reason),
    /// It takes too long.
    Late,
}

/// One try to get a consumer.
#[derive(Debug)]
pub(crate) struct Rules {
    may_register: bool,
    deadline: Instant,
    pauses: u32,
    limits: u32,
    backoff: Backoff,
    rand: Rand,
}

impl Rules {
    pub(crate) fn new(may_register: bool, rand: Rand, now: Instant) -> Self {
        Self {
            may_register,
            deadline: now + PATIENCE,
            pauses: 0,
            limits: 0,
            backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            rand,
        }
    }

    pub(crate) fn on(&mut self, told: Told, now: Instant) -> Next {
        match told {
            Told::Active => Next::Ready,
            Told::Absent if self.may_register => Next::Register,
            Told::Absent => Next::Refused(Reason::NoConsumer),
            Told::Denied => Next::Refused(Reason::Denied),
            Told::LimitExceeded => {
                self.limits += 1;
                if self.limits >= LIMIT_TRIES {
                    return Next::Refused(Reason::Limit);
                }
                self.pause(now)
            }
            Told::NotReady | Told::Registered | Told::InUse | Told::Failed => self.pause(now),
        }
    }

    fn pause(&mut self, now: Instant) -> Next {
        let pause = PAUSE_MIN + self.backoff.delay(self.pauses, &self.rand);
        self.pauses = self.pauses.saturating_add(1);
        if now + pause > self.deadline {
            return Next::Late;
        }
        Next::DescribeIn(pause)
    }
}

#[cfg(test)]
mod tests;
