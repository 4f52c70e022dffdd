//! How slowly a client may send: each [`PIECE_BYTES`] of an upload may keep us waiting for
//! [`PIECE_WAIT`] in all.
//!
//! So an upload of `n` bytes is over after `n / 32 KiB + 30` seconds of waiting at most, and one that
//! stops, after 30. Only the time in which nothing lies there to be read counts: a slow disk of ours is
//! not the client's fault.
//!
//! Time is of the machine and not of the instance's clock, as all time-outs of connections are.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use kinesis_core::Clock;
use tokio::time::{Instant, Sleep};

/// Bytes that have to come in [`PIECE_WAIT`]. Source: none, reasonable default: 32 KiB a second, a
/// quarter of a megabit, as for the other bodies that others wait for.
pub(super) const PIECE_BYTES: usize = 30 * 32 * 1024;

/// How long they may take. Source: none, reasonable default.
pub(super) const PIECE_WAIT: Duration = Duration::from_secs(30);

/// The pace of one upload.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes of the present piece that came.
    came: usize,
    /// How long it was waited for, before `waits_since`.
    waited: Duration,
    waits_since: Option<Instant>,
    over: Pin<Box<Sleep>>,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self {
            came: 0,
            waited: Duration::ZERO,
            waits_since: None,
            over: Box::pin(tokio::time::sleep(PIECE_WAIT)),
        }
    }

    /// Bytes came.
    pub(super) fn came(&mut self, bytes: usize) {
        if let Some(since) = self.waits_since.take() {
            self.waited += Clock::system().now() - since;
        }
        self.came += bytes;
        if self.came >= PIECE_BYTES {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
    }

    /// There is nothing to read: ready, when that was so for too long.
    pub(super) fn poll_too_slow(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.waits_since.is_none() {
            let now = Clock::system().now();
            self.waits_since = Some(now);
            let left = PIECE_WAIT.saturating_sub(self.waited);
            self.over.as_mut().reset(now + left);
        }
        self.over.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Whether a client that sends `bytes` every `every` gets `pieces` of them through.
    async fn keeps_pace(bytes: usize, every: Duration, pieces: usize) -> bool {
        let mut pace = Pace::begin();
        for _ in 0..pieces {
            let waits = poll_fn(|context| pace.poll_too_slow(context));
            if tokio::time::timeout(every, waits).await.is_ok() {
                return false;
            }
            pace.came(bytes);
        }
        true
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_client_is_waited_for_and_a_dripping_one_is_not() {
        let second = Duration::from_secs(1);
        assert!(keeps_pace(34 * 1024, second, 3600).await);
        assert!(!keeps_pace(31 * 1024, second, 3600).await);
        assert!(!keeps_pace(1, second, 31).await);
        assert!(!keeps_pace(0, PIECE_WAIT + second, 1).await);
        assert!(keeps_pace(PIECE_BYTES, PIECE_WAIT - second, 100).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_we_do_not_ask_is_not_the_clients() {
        let mut pace = Pace::begin();
        for _ in 0..10 {
            tokio::time::advance(PIECE_WAIT * 2).await; // the disk
            let waits = poll_fn(|context| pace.poll_too_slow(context));
            let waited = tokio::time::timeout(Duration::from_secs(1), waits).await;
            assert!(waited.is_err());
            pace.came(1);
        }
    }
}
