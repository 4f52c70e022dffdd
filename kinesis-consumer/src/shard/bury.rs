//! Storing a dead letter: one attempt, or as many as it takes.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kinesis_core::{Backoff, Clock, Rand};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::call::{chain, panic_text};
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::events::EventKind;
use crate::lease::HeldLease;
use crate::metrics;
use crate::processor::StopSignal;

/// How long a destination may take for one letter before it is asked again.
/// Source: none, reasonable default: a letter of 10 MiB at 200 KiB/s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Stores a letter; the text of what went wrong if that failed, panicked or took too long.
pub(super) async fn bury(destination: &dyn DeadLetters, letter: &DeadLetter) -> Result<(), String> {
    let write = AssertUnwindSafe(destination.write(letter)).catch_unwind();
    match timeout(WRITE_TIMEOUT, write).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(chain(&error)),
        Ok(Err(panic)) => Err(panicked(&*panic)),
        Err(_) => Err(format!("no answer within {} s", WRITE_TIMEOUT.as_secs())),
    }
}

/// The letter is stored, and the shard goes on.
pub(super) fn tell_stored(letter: &DeadLetter, lease: &HeldLease) {
    let stream = || Arc::clone(&letter.stream);
    ::metrics::counter!(metrics::DEAD_LETTERS, "stream" => stream(), "cause" => letter.cause.as_str())
        .increment(1);
    metrics::skipped(stream(), "dead_letter", 1);
    let position = letter.position();
    warn!(
        %position,
        attempts = letter.attempts,
        cause = letter.cause.as_str(),
        "A record that cannot be processed is stored as a dead letter, and the shard goes on."
    );
    let kind = EventKind::DeadLettered { position };
    lease.source().announce(lease.shard_id().clone(), kind);
}

/// An attempt failed.
pub(super) fn tell_not_stored(letter: &DeadLetter, attempts: u32, error: &str) {
    let stream = Arc::clone(&letter.stream);
    ::metrics::counter!(metrics::DEAD_LETTER_FAILURES, "stream" => stream).increment(1);
    warn!(
        position = %letter.position(), attempts, error,
        "A dead letter was not stored and is tried again; until then no checkpoint of the shard passes its record."
    );
}

/// What storing a letter beside other work takes.
pub(super) struct Burial {
    pub(super) destination: Arc<dyn DeadLetters>,
    /// One letter of a shard at a time.
    pub(super) turn: Arc<AsyncMutex<()>>,
    pub(super) lease: HeldLease,
    pub(super) clock: Clock,
    pub(super) backoff: Backoff,
    pub(super) rand: Rand,
    pub(super) stop: StopSignal,
}

impl Burial {
    /// Tries until the letter is stored. False if a stop was requested before: an attempt under way is
    /// finished then, and there is no other.
    pub(super) async fn until_stored(self, mut letter: DeadLetter) -> bool {
        let mut attempts = 0;
        loop {
            let turn = tokio::select! {
                biased;
                () = self.stop.requested() => return false,
                turn = self.turn.lock() => turn,
            };
            letter.given_up_at_millis = self.clock.epoch_millis();
            let written = bury(&*self.destination, &letter).await;
            drop(turn);
            let Err(error) = written else {
                tell_stored(&letter, &self.lease);
                return true;
            };
            tell_not_stored(&letter, attempts + 1, &error);
            let pause = self.backoff.delay(attempts, &self.rand);
            attempts = attempts.saturating_add(1);
            tokio::select! {
                biased;
                () = self.stop.requested() => return false,
                () = sleep(pause) => {}
            }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    format!("the destination panicked: {}", panic_text(panic))
}
