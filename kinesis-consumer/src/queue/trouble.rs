//! What keeps the queue from being told of records: how long to wait, what to say and when to give up,
//! without any I/O.
//!
//! Acknowledging and hiding are counted apart, since a policy may allow one and deny the other: what goes
//! well with one says nothing of the other. So are entries that are refused alone, each by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::book::Tell;
use crate::error::ErrorKind;

/// While telling fails, how often that is said. Source: none, reasonable default.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How long telling is tried while it is denied. Source: none, reasonable default: longer than a receive
/// is, since what was handled by then is handled again.
const DENIED_PATIENCE: Duration = Duration::from_secs(900);

/// Refusals of one handle, alone and in a row, after which it is given up.
/// Source: none, reasonable default; 20 s to 40 s with the pauses between them.
const REFUSALS_MAX: u32 = 10;

/// What fails of what the queue is told.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    acknowledging: Option<Failing>,
    hiding: Option<Failing>,
    /// How often each handle was refused alone, in a row.
    refusals: BTreeMap<String, u32>,
}

/// Requests of one operation that fail in a row.
#[derive(Debug)]
struct Failing {
    failures: u32,
    kind: ErrorKind,
    /// Since when they fail so.
    since: Instant,
    say_at: Instant,
}

/// What to do about a request that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Failed {
    /// Failures before it, in a row.
    pub(super) failures: u32,
    /// For how long requests have failed so.
    pub(super) lasts: Duration,
    /// Whether somebody should hear of it.
    pub(super) say: bool,
    /// Whether it was tried long enough.
    pub(super) give_up: bool,
}

impl Trouble {
    fn of(&mut self, tell: &Tell) -> &mut Option<Failing> {
        match tell {
            Tell::Acknowledge(_) => &mut self.acknowledging,
            Tell::Extend(_) | Tell::Hide(_) => &mut self.hiding,
        }
    }

    /// A request failed as a whole.
    pub(super) fn failed(&mut self, tell: &Tell, kind: ErrorKind, now: Instant) -> Failed {
        let failing = self.of(tell).get_or_insert(Failing {
            failures: 0,
            kind,
            since: now,
            say_at: now,
        });
        if failing.kind != kind {
            failing.kind = kind;
            failing.since = now;
            failing.say_at = now;
        }
        let say = now >= failing.say_at;
        if say {
            failing.say_at = now + SAY_EVERY;
        }
        let failures = failing.failures;
        failing.failures = failures.saturating_add(1);
        let lasts = now - failing.since;
        Failed {
            failures,
            lasts,
            say,
            give_up: kind == ErrorKind::Denied && lasts >= DENIED_PATIENCE,
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, tell: &Tell) {
        *self.of(tell) = None;
    }

    /// The queue refused this handle and did what else the request said. How often before, in a row;
    /// `None` if it is to be given up.
    pub(super) fn refused(&mut self, handle: &str) -> Option<u32> {
        let refusals = self.refusals.entry(handle.to_owned()).or_default();
        let before = *refusals;
        *refusals += 1;
        if *refusals < REFUSALS_MAX {
            return Some(before);
        }
        self.settled(handle);
        None
    }

    /// Nothing is to be told again of this handle.
    pub(super) fn settled(&mut self, handle: &str) {
        self.refusals.remove(handle);
    }
}

#[cfg(test)]
mod tests {
    use kinesis_core::Clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn acknowledge() -> Tell {
        Tell::Acknowledge(vec!["a".into()])
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_said_when_it_begins_when_its_kind_changes_and_every_minute() {
        let (mut trouble, begun) = (Trouble::default(), Clock::default().now());
        let mut said = |kind, seconds: u32| {
            let now = begun + SECOND * seconds;
            trouble.failed(&acknowledge(), kind, now).say
        };
        assert!(said(ErrorKind::Unavailable, 0));
        assert!(!said(ErrorKind::Unavailable, 1));
        assert!(said(ErrorKind::Denied, 2));
        assert!(!said(ErrorKind::Denied, 61));
        assert!(said(ErrorKind::Denied, 62));
        assert!(!said(ErrorKind::Denied, 63));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_denied_is_given_up_after_its_patience_and_what_is_unavailable_is_not() {
        let begun = Clock::default().now();
        for (kind, gives_up) in [(ErrorKind::Denied, true), (ErrorKind::Unavailable, false)] {
            let mut trouble = Trouble::default();
            let mut failed = |now| trouble.failed(&acknowledge(), kind, now);
            assert!(!failed(begun).give_up);
            assert!(!failed(begun + DENIED_PATIENCE - SECOND).give_up);
            let last = failed(begun + DENIED_PATIENCE);
            assert_eq!((last.failures, last.lasts), (2, DENIED_PATIENCE));
            assert_eq!(last.give_up, gives_up);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_well_with_extensions_says_nothing_of_acknowledgements() {
        let (mut trouble, begun) = (Trouble::default(), Clock::default().now());
        let extend = Tell::Extend(vec![("a".into(), 30)]);
        trouble.failed(&acknowledge(), ErrorKind::Denied, begun);
        trouble.answered(&extend);
        let late = begun + DENIED_PATIENCE;
        let failed = trouble.failed(&acknowledge(), ErrorKind::Denied, late);
        assert!(failed.give_up);
        trouble.answered(&acknowledge());
        let failed = trouble.failed(&acknowledge(), ErrorKind::Denied, late);
        assert_eq!((failed.failures, failed.give_up), (0, false));
    }

    #[test]
    fn a_handle_is_given_up_once_it_was_refused_alone_too_often_in_a_row() {
        let mut trouble = Trouble::default();
        for before in 0..REFUSALS_MAX - 1 {
            assert_eq!(trouble.refused("a"), Some(before));
        }
        assert_eq!(trouble.refused("b"), Some(0), "each by itself");
        assert_eq!(trouble.refused("a"), None);
        assert_eq!(trouble.refused("b"), Some(1));
        trouble.settled("b");
        assert_eq!(trouble.refused("b"), Some(0));
        trouble.settled("b");
        assert!(trouble.refusals.is_empty());
    }
}
