//! Whether the signatures or credentials of requests are of the past for good.
//!
//! One minute is waited for all records together: whatever caused it is the client's, not a record's,
//! and what waits in a lane would else serve its minute behind every other's.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Cause, Class, STALE_TIME_MIN};

/// Refusals in a row for the time of a signature or credentials, over all requests of the stream.
#[derive(Debug, Default)]
pub(super) struct Staleness {
    row: Option<Row>,
}

#[derive(Debug)]
struct Row {
    answers: u32,
    /// When the first and the latest of its requests were sent.
    since: Instant,
    latest: Instant,
}

impl Staleness {
    /// A request was taken at least in part: what it was signed with is good.
    pub(super) fn passed(&mut self) {
        self.row = None;
    }

    /// A request that was sent at `sent_at` failed; whether for the time of its signature or
    /// credentials, as all others have for so long that it is no use to send again.
    pub(super) fn failed(&mut self, cause: &Cause, sent_at: Instant) -> bool {
        if !cause.stale {
            // A throttle or a refusal tells that the signature was good; no answer tells nothing.
            if cause.class != Class::Unavailable {
                self.row = None;
            }
            return false;
        }
        // Of the time in which nothing was sent nothing is known.
        let goes_on = |row: &Row| sent_at < row.latest + STALE_TIME_MIN;
        let row = match self.row.take().filter(goes_on) {
            Some(row) => Row {
                answers: row.answers.saturating_add(1),
                latest: row.latest.max(sent_at),
                ..row
            },
            None => Row {
                answers: 1,
                since: sent_at,
                latest: sent_at,
            },
        };
        let time: Duration = row.latest.saturating_duration_since(row.since);
        let for_good = !cause.is_transient_after(row.answers, time);
        self.row = Some(row);
        for_good
    }
}

#[cfg(test)]
mod tests {
    use kinesis_core::Clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stale() -> Cause {
        Cause::new("PutRecords", Class::AccessDenied, "ExpiredTokenException").stale(true)
    }

    #[test]
    fn a_minute_of_refusals_in_a_row_is_for_good() {
        let (start, mut staleness) = (Clock::system().now(), Staleness::default());
        for second in 0..60 {
            assert!(!staleness.failed(&stale(), start + SECOND * second));
        }
        assert!(staleness.failed(&stale(), start + SECOND * 60));
    }

    #[test]
    fn whatever_shows_a_good_signature_ends_the_row_and_no_answer_does_not() {
        let throttled = Cause::new("PutRecords", Class::Throttled, "Test");
        let timeout = Cause::new("PutRecords", Class::Unavailable, "Timeout");
        for (between, for_good) in [
            (Some(throttled), false),
            (Some(timeout), true),
            (None, false),
        ] {
            let (start, mut staleness) = (Clock::system().now(), Staleness::default());
            for second in 0..59 {
                assert!(!staleness.failed(&stale(), start + SECOND * second));
            }
            match &between {
                Some(cause) => assert!(!staleness.failed(cause, start + SECOND * 59)),
                None => staleness.passed(),
            }
            let last = staleness.failed(&stale(), start + SECOND * 61);
            assert_eq!(last, for_good, "{between:?}");
        }
    }

    #[test]
    fn few_refusals_far_apart_are_not_for_good() {
        let (start, mut staleness) = (Clock::system().now(), Staleness::default());
        for at in [0, 50, 100] {
            assert!(!staleness.failed(&stale(), start + SECOND * at), "too few");
        }
        for at in [160, 3_600, 7_200, 10_800, 14_400] {
            assert!(!staleness.failed(&stale(), start + SECOND * at), "a pause");
        }
    }
}
