//! The minimum throughput billing commitment of an account: what makes its on-demand streams
//! "On-demand Advantage" streams.
//!
//! ```text
//! DISABLED ──enable──▶ ENABLED ──disable, 24 h after the start or later──▶ DISABLED
//!                       │   ▲
//!               disable │   │ enable
//!                before ▼   │
//!              ENABLED_UNTIL_EARLIEST_ALLOWED_END ──24 h after the start──▶ DISABLED
//! ```
//! Promises: no timer: a status is a function of what was asked for and of the time now. What is
//! asked for twice is as asked for once. Source: API model (`MinimumThroughputBillingCommitment…`).

use crate::stream::daily::DAY_MS;

/// How long a commitment lasts at least. Source: API model.
const SHORTEST_MS: u64 = DAY_MS;

/// What an account committed itself to in a region.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Commitment {
    /// When the last commitment started.
    pub(crate) started_ms: Option<u64>,
    /// When it ended, or will.
    ends_ms: Option<u64>,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum CommitmentStatus {
    Enabled,
    Disabled,
    EnabledUntilEarliestAllowedEnd,
}

impl CommitmentStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::EnabledUntilEarliestAllowedEnd => "ENABLED_UNTIL_EARLIEST_ALLOWED_END",
        }
    }
}

impl Commitment {
    pub(crate) fn status(&self, now_ms: u64) -> CommitmentStatus {
        match (self.started_ms, self.ends_ms) {
            (None, _) => CommitmentStatus::Disabled,
            (Some(_), None) => CommitmentStatus::Enabled,
            (Some(_), Some(ends_ms)) if now_ms < ends_ms => {
                CommitmentStatus::EnabledUntilEarliestAllowedEnd
            }
            (Some(_), Some(_)) => CommitmentStatus::Disabled,
        }
    }

    /// Whether it holds now, also if its end is already asked for.
    pub(crate) fn holds(&self, now_ms: u64) -> bool {
        self.status(now_ms) != CommitmentStatus::Disabled
    }

    /// Whether it holds now and did when something was set at `since_ms`.
    pub(crate) fn has_held_since(&self, since_ms: u64, now_ms: u64) -> bool {
        self.holds(now_ms) && self.started_ms.is_some_and(|started| started <= since_ms)
    }

    /// When it can end at the earliest; `None`: there is none that could.
    pub(crate) fn earliest_end_ms(&self, now_ms: u64) -> Option<u64> {
        let started_ms = self.started_ms.filter(|_| self.holds(now_ms))?;
        Some(started_ms + SHORTEST_MS)
    }

    /// When the last one ended; `None`: there is one, or there never was.
    pub(crate) fn ended_ms(&self, now_ms: u64) -> Option<u64> {
        self.ends_ms.filter(|_| !self.holds(now_ms))
    }

    /// What becomes of it by UpdateAccountSettings.
    pub(crate) fn update(&mut self, enable: bool, now_ms: u64) {
        match (self.status(now_ms), enable) {
            (CommitmentStatus::Enabled, true)
            | (
                CommitmentStatus::Disabled | CommitmentStatus::EnabledUntilEarliestAllowedEnd,
                false,
            ) => {}
            (CommitmentStatus::Enabled, false) => {
                let earliest_ms = self.earliest_end_ms(now_ms).unwrap_or_default();
                self.ends_ms = Some(earliest_ms.max(now_ms));
            }
            (CommitmentStatus::EnabledUntilEarliestAllowedEnd, true) => self.ends_ms = None,
            (CommitmentStatus::Disabled, true) => {
                *self = Self {
                    started_ms: Some(now_ms),
                    ends_ms: None,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CommitmentStatus::{Disabled, Enabled, EnabledUntilEarliestAllowedEnd};
    use super::*;

    const NOW_MS: u64 = 1_795_399_200_000;
    const LATER_MS: u64 = NOW_MS + SHORTEST_MS;

    fn enabled() -> Commitment {
        let mut commitment = Commitment::default();
        commitment.update(true, NOW_MS);
        commitment
    }

    #[test]
    fn an_account_has_no_commitment_at_first() {
        let mut none = Commitment::default();
        none.update(false, NOW_MS);
        assert_eq!(none, Commitment::default());
        assert_eq!(none.status(NOW_MS), Disabled);
        assert_eq!(none.ended_ms(NOW_MS), None);
        assert_eq!(none.earliest_end_ms(NOW_MS), None);
    }

    #[test]
    fn a_commitment_that_is_disabled_within_a_day_ends_after_the_day() {
        let mut commitment = enabled();
        commitment.update(false, NOW_MS + 5);
        commitment.update(false, NOW_MS + 6);
        let last_ms = LATER_MS - 1;
        assert_eq!(commitment.status(last_ms), EnabledUntilEarliestAllowedEnd);
        assert_eq!(commitment.earliest_end_ms(last_ms), Some(LATER_MS));
        assert!(commitment.holds(last_ms));
        assert_eq!(commitment.status(LATER_MS), Disabled);
        assert_eq!(commitment.ended_ms(LATER_MS + 7), Some(LATER_MS));
        assert_eq!(commitment.earliest_end_ms(LATER_MS), None);
    }

    #[test]
    fn an_end_that_is_to_come_is_called_off_by_enabling_again() {
        let mut commitment = enabled();
        commitment.update(false, NOW_MS + 5);
        commitment.update(true, LATER_MS - 1);
        assert_eq!(commitment, enabled());
        assert_eq!(commitment.status(LATER_MS), Enabled);
    }

    #[test]
    fn a_commitment_that_is_older_than_a_day_ends_at_once() {
        let mut commitment = enabled();
        commitment.update(true, LATER_MS);
        assert_eq!(commitment.earliest_end_ms(LATER_MS), Some(LATER_MS));
        commitment.update(false, LATER_MS + 5);
        assert_eq!(commitment.status(LATER_MS + 5), Disabled);
        assert_eq!(commitment.ended_ms(LATER_MS + 5), Some(LATER_MS + 5));
    }

    #[test]
    fn the_next_commitment_begins_anew_and_keeps_nothing_of_the_last() {
        let mut commitment = enabled();
        commitment.update(false, LATER_MS);
        assert!(!commitment.has_held_since(NOW_MS, LATER_MS));
        commitment.update(true, LATER_MS + 5);
        assert_eq!(commitment.started_ms, Some(LATER_MS + 5));
        assert_eq!(commitment.ended_ms(LATER_MS + 6), None);
        assert!(!commitment.has_held_since(LATER_MS, LATER_MS + 6));
        assert!(commitment.has_held_since(LATER_MS + 5, LATER_MS + 6));
    }
}
