//! What is under way on a connection: since when nothing is, and since when an answer is not read.
//!
//! A request is under way from its head to the last byte of its answer that was written; a subscription
//! is, as long as it is pushed to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinesis_core::Clock;
use tokio::time::Instant;

use crate::answers::Reading;

/// The requests of one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    under_way: usize,
    /// Requests so far, which gives each its number.
    begun: u64,
    /// The answers of those that have one, by the request's number.
    answers: HashMap<u64, Arc<Reading>>,
    /// When the last ended, or the connection began.
    idle_since: Instant,
}

impl Activity {
    /// Of a connection that begins now.
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new(State {
            under_way: 0,
            begun: 0,
            answers: HashMap::new(),
            idle_since: Clock::system().now(),
        })))
    }

    /// A request that is under way until what this gives is dropped.
    pub(super) fn request(&self) -> UnderWay {
        let number = self.change(|state| {
            state.under_way += 1;
            state.begun += 1;
            state.begun
        });
        UnderWay {
            activity: self.clone(),
            number,
        }
    }

    pub(super) fn has_seen_a_request(&self) -> bool {
        self.change(|state| state.begun > 0)
    }

    /// Since when nothing is under way; `None`: something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.change(|state| (state.under_way == 0).then_some(state.idle_since))
    }

    /// Cuts the answers of which nothing could be written for `timeout`. Gives when the next one has to
    /// be looked at, if any waits to be written.
    pub(super) fn cut_the_unread(&self, timeout: Duration, now: Instant) -> Option<Instant> {
        self.change(|state| {
            let mut next: Option<Instant> = None;
            for answer in state.answers.values() {
                let Some(since) = answer.unread_since() else {
                    continue;
                };
                let mut until = since + timeout;
                if until <= now {
                    answer.cut();
                    until = now + timeout; // by then it is gone, or its connection has to
                }
                next = Some(next.map_or(until, |next| next.min(until)));
            }
            next
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Activity,
    number: u64,
}

impl UnderWay {
    /// It has an answer.
    pub(super) fn is_answered_by(&self, reading: &Arc<Reading>) {
        self.activity.change(|state| {
            state.answers.insert(self.number, Arc::clone(reading));
        });
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.change(|state| {
            state.under_way -= 1;
            state.answers.remove(&self.number);
            state.idle_since = Clock::system().now();
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(7);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_since_the_end_of_the_last_answer() {
        let activity = Activity::begin();
        let began = activity.idle_since().unwrap();
        assert!(!activity.has_seen_a_request());
        let (one, other) = (activity.request(), activity.request());
        assert!(activity.has_seen_a_request());
        drop(one);
        tokio::time::advance(TIMEOUT).await;
        assert_eq!(activity.idle_since(), None);
        drop(other);
        tokio::time::advance(TIMEOUT).await;
        let idle_since = activity.idle_since().unwrap();
        assert_eq!(idle_since - began, TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_cut_when_nothing_of_it_was_written_for_the_timeout() {
        let activity = Activity::begin();
        let clock = Clock::system();
        let answer = || {
            let (request, cuts) = (
                activity.request(),
                [(); 2].map(|()| CancellationToken::new()),
            );
            let reading = Arc::new(Reading::begin(None, cuts[0].clone(), cuts[1].clone()));
            request.is_answered_by(&reading);
            (request, reading, cuts)
        };
        let (_unread, _one, [cut, connection]) = answer();
        // One that has nothing to say, and was asked.
        let (_quiet, quiet, quiet_cuts) = answer();
        quiet.drained();
        tokio::time::advance(TIMEOUT / 2).await;
        let (read, reading, read_cuts) = answer();
        let piece = reading.hand_over(Bytes::from_static(b"piece"), ());
        let first = activity.cut_the_unread(TIMEOUT, clock.now()).unwrap();
        assert_eq!(first - clock.now(), TIMEOUT / 2);
        tokio::time::advance(TIMEOUT / 2).await;
        let second = activity.cut_the_unread(TIMEOUT, clock.now()).unwrap();
        assert!(cut.is_cancelled() && !connection.is_cancelled());
        assert_eq!(
            second - clock.now(),
            TIMEOUT / 2,
            "the one that began later"
        );
        drop(piece);
        tokio::time::advance(TIMEOUT).await;
        activity.cut_the_unread(TIMEOUT, clock.now());
        assert!(connection.is_cancelled(), "it was not gone by then");
        assert!(read_cuts[0].is_cancelled());
        drop(read);
        tokio::time::advance(TIMEOUT * 9).await;
        activity.cut_the_unread(TIMEOUT, clock.now());
        assert!(quiet_cuts.iter().all(|cut| !cut.is_cancelled()));
    }
}
