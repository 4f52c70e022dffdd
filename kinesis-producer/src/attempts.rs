//! What became of the requests that carried a record and did not store it.
//!
//! A record that is stored at the first attempt costs a null pointer here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Cause;
pub use crate::error::Class as FailureClass;

/// Failed attempts that are kept of a record: the first and the latest ones. Source: none,
/// reasonable default; the memory of records in an outage is bounded by it, 24 bytes each.
const KEPT_MAX: usize = 8;

/// A PutRecords request that carried a record and did not store it, or not where readers find it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct FailedAttempt<'a> {
    /// How it failed.
    pub class: FailureClass,
    /// The service's error code, or a word for what happened on the way, such as `Timeout`.
    pub code: &'a str,
    /// From the record's acceptance to the request.
    pub sent_after: Duration,
    /// From the request to its answer, or to when it was given up.
    pub took: Duration,
}

/// When a request was sent, and how long until its answer.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Trip {
    pub(crate) sent_at: Instant,
    pub(crate) took: Duration,
}

/// The failed attempts of one record.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    kept: Option<Box<Kept>>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    failed: Vec<Failed>,
}

#[derive(Clone, Debug)]
struct Failed {
    cause: Arc<Cause>,
    sent_after_micros: u64,
    took_micros: u64,
}

impl History {
    pub(crate) fn push(&mut self, cause: Arc<Cause>, accepted_at: Instant, trip: Trip) {
        let Kept { failed } = &mut **self.kept.get_or_insert_default();
        let sent_after_micros = micros(trip.sent_at.saturating_duration_since(accepted_at));
        if failed.len() == KEPT_MAX {
            failed.remove(1);
        }
        failed.push(Failed {
            cause,
            sent_after_micros,
            took_micros: micros(trip.took),
        });
    }

    /// Why the latest attempt failed.
    pub(crate) fn last(&self) -> Option<Arc<Cause>> {
        let latest = self.kept.as_ref()?.failed.last()?;
        Some(Arc::clone(&latest.cause))
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = FailedAttempt<'_>> {
        let failed = self.kept.as_ref().map_or(&[][..], |kept| &kept.failed);
        failed.iter().map(|failed| FailedAttempt {
            class: failed.cause.class,
            code: &failed.cause.code,
            sent_after: Duration::from_micros(failed.sent_after_micros),
            took: Duration::from_micros(failed.took_micros),
        })
    }
}

impl PartialEq for History {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for History {}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for FailedAttempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            code,
            sent_after,
            took,
        } = self;
        write!(
            f,
            "{code} ({class:?}) after {took:?}, sent {sent_after:?} after acceptance"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_attempts_the_first_and_the_latest_are_kept() {
        let start = kinesis_core::Clock::system().now();
        let mut history = History::default();
        assert_eq!((history.iter().len(), history.last().is_none()), (0, true));
        for number in 0..100 {
            let cause = Cause::new("PutRecords", FailureClass::Unavailable, number.to_string());
            let sent_at = start + Duration::from_secs(number);
            let took = Duration::from_millis(number);
            history.push(Arc::new(cause), start, Trip { sent_at, took });
        }
        let seconds = history.iter().map(|attempt| attempt.sent_after.as_secs());
        assert_eq!(seconds.collect::<Vec<_>>(), [0, 93, 94, 95, 96, 97, 98, 99]);
        let last = history.iter().last().expect("kept");
        assert_eq!((last.code, last.took), ("99", Duration::from_millis(99)));
        assert!(size_of::<History>() == size_of::<usize>());
    }
}
