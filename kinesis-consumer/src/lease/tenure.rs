//! The rules of one lease while this worker holds it: when to renew, when to stop, and what a write
//! that was refused means. Without I/O.
//!
//! ```text
//!  sent                                    renew_at                            fence_at
//!  ──●───────────────────────────────────────●────────────────────────────────────●────────┬──▶
//!    │◀────── 40 % of failover_time ────────▶│        retries of the renewal      │ margin │
//!    │◀─────────────────────────────── failover_time ──────────────────────────────────────┘
//!    the last write known to be made was sent            others may take the lease from here on
//! ```
//!
//! Invariants:
//! - Time counts from when the last successful write was *sent*: another worker cannot have seen
//!   its counter before, and so cannot take the lease before `fence_at` plus the margin.
//! - When the answer of a write was lost, several attempts may have made it; time then counts from
//!   the first of them.
//! - In a handoff the tenure ends `handoff_timeout` after the request was noticed, which is less
//!   than `failover_time` after it was made; the next owner waits for the sum of both. It ends also
//!   where the next owner withdrew meanwhile; then this worker takes the lease again, if it goes on.

use std::time::Duration;

use tokio::time::Instant;

use super::write::Write;
use super::{Lease, LeaseSettings};

/// From one renewal to the next, in percent of `failover_time`. Source: the KCL has a third, less 25 ms.
/// What is saved by being a little slower pays for looking more often (`tests::cost`). A renewal that
/// fails is made again at once, so that half of `failover_time` is left for attempts: more than three of
/// an eighth each and their pauses take.
const RENEWAL_PERCENT: u32 = 40;

/// The margin as a part of `failover_time`: what clocks of two machines may drift apart in that time
/// and what a processor may take to notice that it is fenced. Source: none, reasonable default.
const MARGINS_PER_FAILOVER: u32 = 10;

/// The durations that rule a tenure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) failover: Duration,
    pub(crate) handoff: Duration,
}

impl Timing {
    pub(crate) fn of(settings: &LeaseSettings) -> Self {
        Self {
            failover: settings.failover_time,
            handoff: settings.handoff_timeout,
        }
    }

    fn renewal_interval(&self) -> Duration {
        self.failover * RENEWAL_PERCENT / 100
    }

    fn trusted(&self) -> Duration {
        self.failover - self.failover / MARGINS_PER_FAILOVER
    }
}

/// One lease while this worker holds it.
#[derive(Clone, Debug)]
pub(crate) struct Tenure {
    me: String,
    /// Which take of the lease this is; unlike any other.
    acquisition: String,
    lease: Lease,
    timing: Timing,
    /// When the write that made `lease.counter` was sent, or earlier.
    renewed_at: Instant,
    /// When the first write on `lease.counter` was sent, if one was and its outcome is not known.
    unsettled_since: Option<Instant>,
    /// When a handoff has to be over.
    handoff_until: Option<Instant>,
    /// How much earlier than later ones the first renewal is made.
    head_start: Duration,
}

/// What the holder learns from the answer to a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// The lease is still ours; the row was not as thought and is now known. Try the write again,
    /// unless it is what the row already shows.
    Retry,
    Lost(Loss),
}

/// Why a lease is not ours any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Loss {
    /// Another worker took it, or another process with the same worker id.
    Taken,
    /// The row is gone or cannot be read.
    Gone,
    /// It could not be renewed in time.
    NotRenewed,
    /// It was not handed over in time.
    HandoffOverdue,
}

impl Loss {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Taken => "another worker owns it now",
            Self::Gone => "its row is gone or cannot be read",
            Self::NotRenewed => "it could not be renewed in time",
            Self::HandoffOverdue => "it was not handed over in time",
        }
    }
}

impl Tenure {
    /// The tenure that begins with a take that was sent at `sent`. `lease` is the row after it.
    pub(crate) fn new(
        me: &str,
        acquisition: &str,
        lease: Lease,
        timing: Timing,
        sent: Instant,
    ) -> Self {
        Self {
            me: me.to_owned(),
            acquisition: acquisition.to_owned(),
            lease,
            timing,
            renewed_at: sent,
            unsettled_since: None,
            handoff_until: None,
            head_start: Duration::ZERO,
        }
    }

    /// The same tenure with its first renewal earlier by `part` (0 to 1) of the interval, so that
    /// leases that are taken together are not renewed together ever after.
    pub(crate) fn with_head_start(mut self, part: f64) -> Self {
        self.head_start = self.timing.renewal_interval().mul_f64(part.clamp(0.0, 1.0));
        self
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn acquisition(&self) -> &str {
        &self.acquisition
    }

    /// When the next renewal is due, if no other write is made before.
    pub(crate) fn renew_at(&self) -> Instant {
        self.renewed_at + self.timing.renewal_interval() - self.head_start
    }

    /// From when on this worker must not work on the shard.
    pub(crate) fn fence_at(&self) -> Instant {
        let trusted = self.renewed_at + self.timing.trusted();
        self.handoff_until
            .map_or(trusted, |until| until.min(trusted))
    }

    /// Why the tenure ends at [`Self::fence_at`].
    pub(crate) fn loss_at_fence(&self) -> Loss {
        match self.handoff_until {
            Some(until) if until == self.fence_at() => Loss::HandoffOverdue,
            _ => Loss::NotRenewed,
        }
    }

    /// Another worker waits for the lease.
    pub(crate) fn handoff_requested(&self) -> bool {
        self.handoff_until.is_some()
    }

    /// The write that ends the tenure: the lease goes to the worker that waits for it, or to whoever takes it.
    /// If the one that waited does not any more, this worker is to have it again, if it `goes_on` with the
    /// shard's stream; else nobody would take the lease before it expires.
    pub(crate) fn give_up(&self, goes_on: bool) -> Write {
        if goes_on && self.handoff_requested() && !self.lease.is_in_handoff() {
            Write::keep(&self.lease)
        } else {
            Write::give_up(&self.lease)
        }
    }

    /// A write on the present counter is being sent.
    pub(crate) fn sending(&mut self, now: Instant) {
        self.unsettled_since.get_or_insert(now);
    }

    /// A write that was sent at `sent` was made; `row` is the row after it.
    pub(crate) fn written(&mut self, row: Lease, sent: Instant, now: Instant) {
        self.renewed_at = sent;
        self.adopt(row, now);
    }

    /// A write was refused; `row` is the row that refused it.
    pub(crate) fn refused(&mut self, row: Option<Lease>, now: Instant) -> Verdict {
        let Some(row) = row else {
            return Verdict::Lost(Loss::Gone);
        };
        let ours =
            row.holder() == Some(&self.me) && row.acquisition.as_deref() == Some(&self.acquisition);
        if !ours {
            return Verdict::Lost(Loss::Taken);
        }
        if row.counter == self.lease.counter {
            self.adopt(row, now);
            return Verdict::Retry;
        }
        match self.unsettled_since {
            Some(since) if row.counter == self.lease.counter + 1 => {
                self.renewed_at = since;
                self.adopt(row, now);
                Verdict::Retry
            }
            _ => Verdict::Lost(Loss::Taken),
        }
    }

    fn adopt(&mut self, row: Lease, now: Instant) {
        if row.counter != self.lease.counter {
            self.unsettled_since = None;
            self.head_start = Duration::ZERO;
        }
        if row.is_in_handoff() {
            self.handoff_until.get_or_insert(now + self.timing.handoff);
        }
        self.lease = row;
    }
}

#[cfg(test)]
mod tests;
