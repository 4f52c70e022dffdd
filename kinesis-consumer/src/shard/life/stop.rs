//! By when a shard that was asked to stop does so.

use std::time::Duration;

use tokio::time::Instant;

/// The batch in hand may use this part of the time given to stop, `shutdown_requested` the rest.
/// Source: none, reasonable default.
const BATCH_SHARE_OF_SHUTDOWN: (u32, u32) = (2, 3);

/// What of the time for a handoff is left for releasing the lease: at most so long, and at most a tenth
/// of it. The lease is fenced when that time is over, whatever is under way.
/// Source: none, reasonable default: one write, and what the request took to be noticed.
const HANDOFF_MARGIN: Duration = Duration::from_secs(2);

/// How long a shard that is asked to stop may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StopTimes {
    /// When the worker stops.
    pub(super) shutdown: Duration,
    /// When the lease is to be handed over.
    pub(super) handoff: Duration,
}

impl StopTimes {
    /// Of a handoff the lease itself sets the end: it is fenced `handoff_timeout` after the request.
    pub(crate) fn new(shutdown_timeout: Duration, handoff_timeout: Duration) -> Self {
        let margin = HANDOFF_MARGIN.min(handoff_timeout / 10);
        Self {
            shutdown: shutdown_timeout,
            handoff: shutdown_timeout.min(handoff_timeout - margin),
        }
    }
}

/// The times by which a shard that was asked to stop does so.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopBy {
    pub(super) batch: Instant,
    pub(super) all: Instant,
    /// A handoff was asked for.
    pub(super) handoff: bool,
}

impl StopBy {
    pub(super) fn within(time: Duration, now: Instant) -> Self {
        let (part, whole) = BATCH_SHARE_OF_SHUTDOWN;
        Self {
            batch: now + time * part / whole,
            all: now + time,
            handoff: false,
        }
    }
}
