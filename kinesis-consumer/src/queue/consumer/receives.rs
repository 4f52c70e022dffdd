//! The receives under way: how many at once, and what they asked for together, without any I/O but theirs.
//!
//! One is enough while nothing comes, or little: it waits at the queue. Each answer that is full has one
//! more be made at once, so that within a few round trips there are as many as there is room for; each that
//! is not halves them. A further one is made only where there is room for all that it may bring: ten
//! records each, and not a receive for every record that a handler is done with.

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use crate::error::Error;
use crate::queue::QueueRecord;
use crate::queue::book::ENTRIES_MAX;

/// Receives under way at once. Source: none; as requests that tell the queue what was done, which hold
/// ten records each, too.
pub(super) const RECEIVES_AT_ONCE: usize = super::telling::TELLS_AT_ONCE;

/// An answer.
pub(super) struct Received {
    /// When it was asked for.
    pub(super) asked: Instant,
    /// How many records at most.
    pub(super) limit: usize,
    pub(super) answer: Result<Vec<QueueRecord>, Error>,
}

/// The receives under way.
pub(super) struct Receives {
    calls: FuturesUnordered<BoxFuture<'static, Received>>,
    /// Records that they may bring.
    asked: usize,
    at_once: usize,
}

impl Receives {
    pub(super) fn new() -> Self {
        Self {
            calls: FuturesUnordered::new(),
            asked: 0,
            at_once: 1,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Records that may come without being asked for.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// How many records the next receive asks for, where there is room for so many beyond those that were
    /// asked for; `None` if there is none to be made now.
    pub(super) fn next(&self, room: usize) -> Option<usize> {
        let least = if self.calls.is_empty() {
            1
        } else {
            ENTRIES_MAX
        };
        let may = room >= least && self.calls.len() < self.at_once;
        may.then(|| room.min(ENTRIES_MAX))
    }

    pub(super) fn begin(
        &mut self,
        asked: Instant,
        limit: usize,
        call: impl Future<Output = Result<Vec<QueueRecord>, Error>> + Send + 'static,
    ) {
        self.asked += limit;
        self.calls.push(Box::pin(async move {
            let answer = call.await;
            Received {
                asked,
                limit,
                answer,
            }
        }));
    }

    /// The next answer; `None` if there is none to come. Cancel safe.
    pub(super) async fn answer(&mut self) -> Option<Received> {
        let received = self.calls.next().await?;
        let came = received.answer.as_ref().map_or(0, Vec::len);
        self.answered(received.limit, came);
        Some(received)
    }

    fn answered(&mut self, limit: usize, came: usize) {
        self.asked -= limit;
        if came < limit {
            self.at_once = (self.at_once / 2).max(1);
        } else if limit == ENTRIES_MAX {
            self.at_once = (self.at_once + 1).min(RECEIVES_AT_ONCE);
        }
    }

    /// Gives up those under way.
    pub(super) fn drop_all(&mut self) {
        self.calls.clear();
        self.asked = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kinesis_core::Clock;

    /// Begins all that may be made with so much room for records not asked for; how many each asks for.
    fn begin_all(receives: &mut Receives, room: usize) -> Vec<usize> {
        let now = Clock::system().now();
        let before = receives.asked();
        let mut limits = Vec::new();
        while let Some(limit) = receives.next(room - (receives.asked() - before)) {
            receives.begin(now, limit, std::future::pending());
            limits.push(limit);
        }
        limits
    }

    /// All that are under way are answered with so many records each.
    fn answer_all(receives: &mut Receives, limits: &[usize], came: usize) {
        receives.calls.clear();
        for limit in limits {
            receives.answered(*limit, came.min(*limit));
        }
        assert_eq!(receives.asked(), 0);
    }

    #[test]
    fn a_full_queue_is_received_from_several_times_at_once_and_an_empty_one_once() {
        let mut receives = Receives::new();
        let mut at_once = Vec::new();
        for came in [10, 10, 10, 10, 10, 0, 0, 3, 10] {
            let limits = begin_all(&mut receives, 1_000);
            assert!(limits.iter().all(|limit| *limit == ENTRIES_MAX));
            at_once.push(limits.len());
            answer_all(&mut receives, &limits, came);
        }
        assert_eq!(at_once, [1, 2, 4, 8, 8, 8, 1, 1, 1]);
    }

    #[test]
    fn no_more_is_asked_for_than_there_is_room_for_and_a_further_receive_asks_for_ten() {
        let mut receives = Receives::new();
        for _ in 0..4 {
            let limits = begin_all(&mut receives, 1_000);
            answer_all(&mut receives, &limits, ENTRIES_MAX);
        }
        for (room, expected) in [
            (0, vec![]),
            (3, vec![3]),
            (10, vec![10]),
            (19, vec![10]),
            (35, vec![10, 10, 10]),
        ] {
            let limits = begin_all(&mut receives, room);
            assert_eq!(limits, expected, "room for {room}");
            receives.drop_all();
        }
    }
}
