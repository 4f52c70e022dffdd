//! Whether anything is under way on a connection, and since when nothing is.
//!
//! A request is under way from its head to the last byte of its answer that was taken from us; a
//! subscription is, as long as it is pushed to.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use kinesis_core::Clock;
use tokio::time::Instant;

use crate::body::{BoxError, ResponseBody};

/// The requests of one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    under_way: usize,
    /// There ever was a request.
    seen: bool,
    /// When the last ended, or the connection began.
    idle_since: Instant,
}

impl Activity {
    /// Of a connection that begins now.
    pub(super) fn begin() -> Self {
        Self(Arc::new(Mutex::new(State {
            under_way: 0,
            seen: false,
            idle_since: Clock::system().now(),
        })))
    }

    /// A request that is under way until what this gives is dropped.
    pub(super) fn request(&self) -> UnderWay {
        self.change(|state| {
            state.under_way += 1;
            state.seen = true;
        });
        UnderWay(self.clone())
    }

    pub(super) fn has_seen_a_request(&self) -> bool {
        self.change(|state| state.seen)
    }

    /// Since when nothing is under way; `None`: something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.change(|state| (state.under_way == 0).then_some(state.idle_since))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay(Activity);

impl UnderWay {
    /// The body of its answer: with that it ends.
    pub(super) fn until_the_end_of(self, body: ResponseBody) -> Answering {
        Answering {
            body,
            _under_way: self,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.under_way -= 1;
            state.idle_since = Clock::system().now();
        });
    }
}

/// The body of an answer that is under way.
#[derive(Debug)]
pub(super) struct Answering {
    body: ResponseBody,
    _under_way: UnderWay,
}

impl Body for Answering {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_since_the_end_of_the_last_answer() {
        let activity = Activity::begin();
        let began = activity.idle_since().unwrap();
        assert!(!activity.has_seen_a_request());
        let (one, other) = (activity.request(), activity.request());
        assert!(activity.has_seen_a_request());
        drop(one);
        let answer = other.until_the_end_of(ResponseBody::full("answer"));
        assert_eq!(answer.size_hint().exact(), Some(6));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(activity.idle_since(), None);
        drop(answer);
        tokio::time::advance(Duration::from_secs(7)).await;
        let idle_since = activity.idle_since().unwrap();
        assert_eq!(idle_since - began, Duration::from_secs(7));
    }
}
