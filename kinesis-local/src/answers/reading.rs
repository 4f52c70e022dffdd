//! Who reads an answer, and how fast: whose answer may be cut while others wait for what it holds.
//!
//! ```text
//! an answer ─▶ given out in pieces, each counted ─▶ its last byte is written
//!                └ others wait, and for a second nothing could be written,
//!                  or less was given out than is due by now: cut
//! ```
//! **What is due** grows with the answer's length: all of it in a minute, or of those that are longer than
//! the largest of Kinesis, 16 MiB in each; none in its first second. So who waits for the memory of the
//! largest answers waits for readers of at least 280 KiB a second, and not for as long as somebody takes
//! 32 KiB of them now and then. Of a subscription nothing is due: it is made as it is read.
//!
//! What the kernel holds to be sent counts as written. That is bounded (see
//! [`SEND_BUFFER_BYTES`](crate::server)), so that somebody who reads is seen to. Not promised: that a steady
//! reader is seen to each second. Stacks take in steps, HTTP/1.1 here of about 100 KiB, some clients of HTTP/2
//! of half a window of 1 MiB; who needs more than a second for a step may be cut while others wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kinesis_core::Clock;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often it is looked for answers that nobody reads while others wait. Source: none, reasonable
/// default: longer than a lost packet takes to be sent again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest answer of Kinesis, in bytes: 10 MiB of records as base64 in JSON, and what is around them.
const LARGEST_BYTES: u64 = 16 * 1024 * 1024;

/// How long it may take to be read while others wait. Source: none; the default of what a body of that length
/// may take to arrive.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// Answers that hold something which others may wait for. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Readers(Arc<Mutex<Watching>>);

#[derive(Debug)]
struct Watching {
    by_number: HashMap<u64, Arc<Reading>>,
    next: u64,
    /// When it was last looked who reads.
    looked: Instant,
}

impl Readers {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Watching {
            by_number: HashMap::new(),
            next: 0,
            looked: Clock::system().now(),
        })))
    }

    /// One of them, until what this gives is dropped.
    pub(crate) fn watch(&self, reading: &Arc<Reading>) -> Watched {
        let mut watching = self.lock();
        let number = watching.next;
        watching.next += 1;
        watching.by_number.insert(number, Arc::clone(reading));
        Watched {
            readers: self.clone(),
            number,
        }
    }

    /// For somebody who waits for what they hold.
    pub(crate) fn cut_the_slow(&self) {
        let now = Clock::system().now();
        let mut watching = self.lock();
        if now < watching.looked + LOOK_EVERY {
            return; // another who waits has just looked
        }
        watching.looked = now;
        for reading in watching.by_number.values() {
            if reading.is_slow(now) {
                tracing::debug!("an answer that is not read is cut: others wait for what it holds");
                reading.cut();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Watching> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that may be cut for others, until dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    readers: Readers,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.readers.lock().by_number.remove(&self.number);
    }
}

/// Whether an answer is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    progress: Mutex<Progress>,
    /// Bytes of the whole; `None`: nobody knows, as it is made while it is read.
    length: Option<u64>,
    began: Instant,
    stream: CancellationToken,
    connection: CancellationToken,
}

#[derive(Debug)]
struct Progress {
    /// When something was last asked for or written.
    since: Instant,
    /// Bytes that were given out to be written.
    taken: u64,
    /// Buffers that were handed over and are not written to their end.
    unwritten: usize,
    /// All that there is so far was asked for: the reader is ahead of us.
    drained: bool,
}

impl Reading {
    /// An answer that begins now. `stream` is cancelled to cut it, and `connection` if it is still there
    /// the next time: what HTTP/2 has taken over to its end can no longer be cut alone.
    pub(crate) fn begin(
        length: Option<u64>,
        stream: CancellationToken,
        connection: CancellationToken,
    ) -> Self {
        let now = Clock::system().now();
        Self {
            length,
            began: now,
            progress: Mutex::new(Progress {
                since: now,
                taken: 0,
                unwritten: 0,
                drained: false,
            }),
            stream,
            connection,
        }
    }

    /// Since when nothing more of it could be written; `None`: there is nothing to be written.
    pub(crate) fn unread_since(&self) -> Option<Instant> {
        let progress = self.progress();
        (progress.unwritten > 0 || !progress.drained).then_some(progress.since)
    }

    /// Whether others need not wait for it.
    fn is_slow(&self, now: Instant) -> bool {
        let stopped = self
            .unread_since()
            .is_some_and(|since| since + LOOK_EVERY <= now);
        stopped || self.is_behind(now)
    }

    /// Whether less of it was given out than is due.
    fn is_behind(&self, now: Instant) -> bool {
        let Some(length) = self.length else {
            return false;
        };
        let took = now.saturating_duration_since(self.began);
        if took < LOOK_EVERY {
            return false;
        }
        let a_minutes_worth = u128::from(length.min(LARGEST_BYTES));
        let due = a_minutes_worth * took.as_millis() / READ_WITHIN.as_millis();
        u128::from(self.progress().taken) < due.min(length.into())
    }

    pub(crate) fn cut(&self) {
        if self.stream.is_cancelled() {
            self.connection.cancel();
        }
        self.stream.cancel();
    }

    /// A piece of so many bytes was taken.
    pub(crate) fn taken(&self, bytes: usize) {
        self.note(|progress| {
            progress.taken += bytes as u64;
            progress.drained = false;
        });
    }

    /// More was asked for than there is.
    pub(crate) fn drained(&self) {
        self.note(|progress| progress.drained = true);
    }

    /// A buffer, which counts as unwritten until it is dropped.
    pub(crate) fn hand_over<T>(self: &Arc<Self>, bytes: Bytes, until_written: T) -> Bytes
    where
        T: Send + 'static,
    {
        self.note(|progress| progress.unwritten += 1);
        Bytes::from_owner(Unwritten {
            bytes,
            reading: Arc::clone(self),
            _until_written: until_written,
        })
    }

    fn note(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress();
        change(&mut progress);
        progress.since = Clock::system().now();
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Unwritten<T> {
    bytes: Bytes,
    reading: Arc<Reading>,
    _until_written: T,
}

impl<T> AsRef<[u8]> for Unwritten<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T> Drop for Unwritten<T> {
    fn drop(&mut self) {
        self.reading.note(|progress| progress.unwritten -= 1);
    }
}
