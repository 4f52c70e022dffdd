//! When to subscribe to a shard and from where, when a subscription is dead, and when to poll in its
//! stead: the rules of enhanced fan-out for one shard, without any I/O.
//!
//! ```text
//!             ┌── ended after five minutes: at once, behind the last event ────────────┐
//!             │   cut, stalled: after a pause, and not within 5 s of the last success  │
//!             ▼                                                                        │
//!   Subscribe(start at …) ──▶ Listen ── event ──▶ Listen ── … ─────────────────────────┴──▶ shard's end
//!      │  ▲        │ in use, throttled, failed                                         │
//!      │  └─ pause ┘                                                                   │
//!      └── refused, stalled or failed so often, no room for an event ──▶ FallBack: poll for a while
//! ```
//!
//! Invariants: a new subscription starts right behind the last event that was taken, or at the
//! checkpoint when none was; at most one call a second, and none within
//! [`SUBSCRIPTION_TAKEOVER_AFTER`] of one that succeeded, which the service would refuse. Failures
//! are never given up, except a stream or shard that stays unknown for [`NOT_FOUND_PATIENCE`].

use std::time::Duration;

use kinesis_core::limits::SUBSCRIPTION_TAKEOVER_AFTER;
use kinesis_core::{Backoff, Rand, SequenceNumber};
use tokio::time::Instant;

use crate::fetch::poll::{FETCH_BACKOFF_MAX, NOT_FOUND_PATIENCE, StartAt};

/// A subscription without an event for so long is dead. The service sends one about every 5 s; only
/// time in which this side was ready to read counts.
/// Source: six intervals of the service; the KCL has 60 s, and had 35 s, which was too short because
/// it counts the time its own queue is full (awslabs/amazon-kinesis-client 399, 653).
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(30);

/// A subscription that is not read for so long, because there is no room, is let go and made anew
/// later: what it left unread takes from the window of a connection that other shards share.
/// Shorter than [`STALLED_AFTER`], so that a neighbour held up by it is not taken for dead.
/// Source: none, reasonable default.
pub(crate) const UNREAD_PATIENCE: Duration = Duration::from_secs(15);

/// How long a shard is polled before fan-out is tried again. Source: none, reasonable default: the
/// life of a subscription.
pub(crate) const FAN_OUT_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Stalls in a row that lead to polling. Source: none, reasonable default: 90 s without an event.
pub(crate) const STALLS_BEFORE_FALL_BACK: u32 = 3;

/// Failures, or subscriptions lost to somebody else, in a row that lead to polling.
/// Source: none, reasonable default: about a minute.
pub(crate) const FAILURES_BEFORE_FALL_BACK: u32 = 8;

/// Least pause between two calls. Source: `SubscribeToShard`, one call a second for each consumer
/// and shard.
const SUBSCRIBE_INTERVAL: Duration = Duration::from_secs(1);

const _: () = assert!(UNREAD_PATIENCE.as_millis() < STALLED_AFTER.as_millis());

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    Wait(Instant),
    Subscribe(StartAt),
    Listen,
}

/// Why a subscription could not be made, or is over before its time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// Somebody else has the subscription, or the consumer is not ready yet.
    InUse,
    /// The stream, the shard or the consumer is unknown.
    NotFound,
    /// The position is not accepted.
    Position,
    /// There is no consumer to be used, and a moment more will not change that.
    Refused(Reason),
    /// No event for [`STALLED_AFTER`].
    Stalled,
    /// Anything else: wait and try again.
    Other,
}

/// Why fan-out cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// The stream has as many registered consumers as it may.
    Limit,
    /// Credentials do not allow it.
    Denied,
    /// The consumer that the settings name does not exist.
    NoConsumer,
    /// The consumer that the settings name is another stream's.
    OtherStream,
    /// Looking for the consumer, or registering it, has failed or hung for a minute.
    Late,
    Stalls,
    Failures,
    /// Somebody else subscribes to the same shard with the same consumer, again and again.
    Takeovers,
    /// Shards whose processors are stuck leave no room for an event, which cannot be asked for in
    /// smaller steps.
    NoRoom,
}

impl Reason {
    /// The reason as a metric label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::NoConsumer => "no_consumer",
            Self::OtherStream => "other_stream",
            Self::Late => "late",
            Self::Stalls => "stalls",
            Self::Failures => "failures",
            Self::Takeovers => "takeovers",
            Self::NoRoom => "no_room",
        }
    }
}

/// What comes of a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Again, after `pause`; `attempts` have failed in a row.
    Again { pause: Duration, attempts: u32 },
    /// The stream or shard has been unknown for too long.
    GiveUp,
    /// Poll, and try again at `until`.
    FallBack { reason: Reason, until: Instant },
}

/// What an event tells about going on.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Where the next subscription goes on; absent at the shard's end.
    pub(crate) continuation: Option<SequenceNumber>,
    /// The last record of the event.
    pub(crate) last: Option<SequenceNumber>,
}

/// The subscriptions to one shard.
#[derive(Debug)]
pub(crate) struct FanOut {
    /// Where the next subscription starts.
    start: StartAt,
    /// Behind the last record taken; what polling goes on from, as its calls are not promised to
    /// understand the number of an event without records.
    record: StartAt,
    listening: bool,
    /// Whether the running subscription brought an event yet.
    heard: bool,
    subscribed_at: Option<Instant>,
    not_before: Instant,
    failures: u32,
    stalls: u32,
    takeovers: u32,
    unknown_since: Option<Instant>,
    may_fall_back: bool,
    backoff: Backoff,
    rand: Rand,
}

impl FanOut {
    pub(crate) fn new(start: StartAt, may_fall_back: bool, rand: Rand, now: Instant) -> Self {
        Self {
            record: start.clone(),
            start,
            listening: false,
            heard: false,
            subscribed_at: None,
            not_before: now,
            failures: 0,
            stalls: 0,
            takeovers: 0,
            unknown_since: None,
            may_fall_back,
            backoff: Backoff::new(SUBSCRIBE_INTERVAL, FETCH_BACKOFF_MAX),
            rand,
        }
    }

    /// What to do now.
    pub(crate) fn next(&self, now: Instant) -> Ask {
        if self.listening {
            return Ask::Listen;
        }
        let earliest = self.subscribed_at.map_or(self.not_before, |at| {
            self.not_before.max(at + SUBSCRIPTION_TAKEOVER_AFTER)
        });
        if now < earliest {
            return Ask::Wait(earliest);
        }
        Ask::Subscribe(self.start.clone())
    }

    /// Nothing was read yet, and reading begins here.
    pub(crate) fn begin(&mut self, start: StartAt) {
        self.record = start.clone();
        self.start = start;
    }

    /// Where polling goes on.
    pub(crate) fn position(&self) -> StartAt {
        self.record.clone()
    }

    /// A subscription was made.
    pub(crate) fn on_subscribed(&mut self, now: Instant) {
        self.listening = true;
        self.heard = false;
        self.subscribed_at = Some(now);
        self.unknown_since = None;
    }

    /// An event was taken. Returns whether the shard has ended.
    pub(crate) fn on_event(&mut self, event: Heard) -> bool {
        self.heard = true;
        self.failures = 0;
        self.stalls = 0;
        if let Some(last) = event.last {
            self.record = StartAt::AfterSequence(last.clone());
            self.start = StartAt::AfterSequence(last);
        }
        let Some(continuation) = event.continuation else {
            self.listening = false;
            return true;
        };
        self.start = StartAt::AfterSequence(continuation);
        false
    }

    /// The subscription ended as it does after five minutes. `None`: all is well; otherwise it had
    /// brought nothing, which is a failure.
    pub(crate) fn on_end(&mut self, now: Instant) -> Option<Verdict> {
        self.listening = false;
        if self.heard {
            self.takeovers = 0;
            self.not_before = now;
            return None;
        }
        Some(self.on_trouble(Trouble::Other, now))
    }

    /// The subscription was let go, because there is no room.
    pub(crate) fn on_let_go(&mut self) {
        self.listening = false;
    }

    /// The subscription was let go by a shard that holds nothing: others leave no room for its next
    /// event. Polling does with less.
    pub(crate) fn on_no_room(&mut self, now: Instant) -> Option<Verdict> {
        self.listening = false;
        self.may_fall_back.then(|| Verdict::FallBack {
            reason: Reason::NoRoom,
            until: now + FAN_OUT_RETRY_AFTER,
        })
    }

    /// The shard is listed after all.
    pub(crate) fn on_found(&mut self) {
        self.unknown_since = None;
    }

    /// A call failed, or a subscription is over before its time.
    pub(crate) fn on_trouble(&mut self, trouble: Trouble, now: Instant) -> Verdict {
        let was_listening = std::mem::take(&mut self.listening);
        self.failures = self.failures.saturating_add(1);
        let attempts = self.failures;
        let mut pause = SUBSCRIBE_INTERVAL + self.backoff.delay(attempts - 1, &self.rand);
        match trouble {
            Trouble::Stalled => self.stalls = self.stalls.saturating_add(1),
            // Whoever took it over holds it for at least as long.
            Trouble::InUse if was_listening => {
                self.takeovers = self.takeovers.saturating_add(1);
                pause += SUBSCRIPTION_TAKEOVER_AFTER;
            }
            Trouble::Position => self.start = self.record.clone(),
            Trouble::InUse | Trouble::NotFound | Trouble::Refused(_) | Trouble::Other => {}
        }
        self.not_before = now + pause;
        if trouble == Trouble::NotFound {
            let since = *self.unknown_since.get_or_insert(now);
            if now.duration_since(since) >= NOT_FOUND_PATIENCE {
                return Verdict::GiveUp;
            }
        } else if let Some(reason) = self.reason_to_fall_back(trouble) {
            let until = now + FAN_OUT_RETRY_AFTER;
            return Verdict::FallBack { reason, until };
        }
        Verdict::Again { pause, attempts }
    }

    fn reason_to_fall_back(&self, trouble: Trouble) -> Option<Reason> {
        if !self.may_fall_back {
            return None;
        }
        match trouble {
            Trouble::Refused(reason) => Some(reason),
            _ if self.stalls >= STALLS_BEFORE_FALL_BACK => Some(Reason::Stalls),
            _ if self.takeovers >= FAILURES_BEFORE_FALL_BACK => Some(Reason::Takeovers),
            _ if self.failures >= FAILURES_BEFORE_FALL_BACK => Some(Reason::Failures),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
