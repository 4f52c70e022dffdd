//! When a request may leave that is not full: how the linger adapts.
//!
//! ```text
//! requests      ├── a ─────────────────────────┤
//! under way           ├── b ─────────────────────────┤
//!               │←───→│←───→│ a quarter of a round trip: who comes meanwhile, leaves together
//! ```
//!
//! While nothing is under way a record leaves at once. Otherwise a request leaves a quarter of a round
//! trip after the one before it, with all that has gathered in the lanes that are free. So a slot is
//! free whenever a record comes, but for that quarter; a request that is late, or never answered, holds
//! up nobody else; and a load that would not fill requests makes four of them in a round trip, not
//! one for each shard. What is full, is sent again, or is flushed does not wait for this, nor does it
//! count.

use std::time::Duration;

use tokio::time::Instant;

/// Requests that are not full leave so many times in a round trip. Source: measured, see
/// BENCHMARKS.md; more of them gain an eighth of a round trip at most.
const DEPARTURES_PER_ROUND_TRIP: u32 = 4;

/// A new round trip counts for this part in what is known of them. Source: RFC 6298, alpha.
const ROUND_TRIP_WEIGHT: u32 = 8;

/// When the last request left that was not full, and how long the answers take.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    last: Option<Instant>,
    /// Smoothed; `None` before the first answer.
    round_trip: Option<Duration>,
}

impl Departures {
    /// A request leaves that nothing asked for.
    pub(crate) fn left(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.round_trip = Some(self.round_trip.map_or(took, |known| {
            (known * (ROUND_TRIP_WEIGHT - 1) + took) / ROUND_TRIP_WEIGHT
        }));
    }

    /// When the next one may leave beside others; `None` = at once.
    pub(crate) fn next(&self) -> Option<Instant> {
        Some(self.last? + self.round_trip? / DEPARTURES_PER_ROUND_TRIP)
    }
}
