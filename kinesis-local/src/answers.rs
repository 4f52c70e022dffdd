//! The memory for answers that wait to be read by whoever is at the other end of a socket.
//!
//! ```text
//! an answer of more than 16 KiB ─▶ its share of the room, from when it is made to when its last byte is
//!                                  written; waits while others have the room, in a smaller one
//! an event of a subscription    ─▶ the same, but before it is made
//!                                     └ a second without 32 KiB read, and others wait: cut
//! ```
//! Promises: answers take [`ROOM_KIB`] together, those that wait for it [`WAITING_ROOM_KIB`], whatever
//! their readers do; who finds no room in either, or waits for too long, is told to come again. Who does
//! not read keeps what it has only while nobody else wants it, and a subscriber that is cut for that
//! subscribes again.
//!
//! A share belongs to the bytes and not to the answer, so it counts what HTTP has taken over and not
//! yet written, too.
//!
//! Deliberately absent: answers in process. They belong to the caller, which is this process.
//!
//! Times are of the machine and not of the instance's clock, as all time-outs of connections are.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kinesis_core::Clock;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What all answers may take, in KiB. Source: none, reasonable default: twelve of the largest, which
/// are 16 MiB (10 MiB of records as base64 in JSON).
pub(crate) const ROOM_KIB: usize = 192 * 1024;

/// What answers may take that wait for that, in KiB. Source: none, reasonable default: four of the largest.
pub(crate) const WAITING_ROOM_KIB: usize = 64 * 1024;

/// Answers up to this have no share, in bytes: most are shorter, and never wait. What they take is bounded
/// by the number of requests. Source: none.
pub(crate) const UNSHARED_BYTES: usize = 16 * 1024;

/// How much of an answer is handed over at once, in bytes: who has read none of it since the last look
/// does not read. Source: none; 32 KiB a second is what bodies have to keep, too.
pub(crate) const PIECE_BYTES: usize = 32 * 1024;

/// How often it is looked for answers that nobody reads while others wait. Source: none, reasonable
/// default: longer than a lost packet takes to be sent again.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long an answer that was made waits for room. Source: none, reasonable default: less than the
/// SDKs' read timeouts (30 s or more).
const WAIT_MAX: Duration = Duration::from_secs(20);

/// The memory for answers; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// KiB that are free.
    room: Arc<Semaphore>,
    waiting_room: Arc<Semaphore>,
    readers: Mutex<Readers>,
}

#[derive(Debug)]
struct Readers {
    by_number: HashMap<u64, Arc<Reading>>,
    next: u64,
    /// When it was last looked who reads.
    looked: Instant,
}

/// There is no room.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// A share of the room, until dropped.
#[derive(Debug)]
pub(crate) struct Share(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Answers {
    pub(crate) fn new() -> Self {
        Self::with(ROOM_KIB, WAITING_ROOM_KIB)
    }

    /// KiB for answers, and for those that wait.
    pub(crate) fn with(room: usize, waiting_room: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                room: Arc::new(Semaphore::new(room)),
                waiting_room: Arc::new(Semaphore::new(waiting_room)),
                readers: Mutex::new(Readers {
                    by_number: HashMap::new(),
                    next: 0,
                    looked: Clock::system().now(),
                }),
            }),
        }
    }

    /// The share of an answer of so many bytes that was made already. Cancel safe.
    pub(crate) async fn share_of_made(&self, bytes: usize) -> Result<Option<Share>, Full> {
        if bytes <= UNSHARED_BYTES {
            return Ok(None);
        }
        let kib = kib(bytes);
        if let Ok(share) = Arc::clone(&self.inner.room).try_acquire_many_owned(kib) {
            return Ok(Some(Share(share)));
        }
        let waiting_room = Arc::clone(&self.inner.waiting_room);
        let _waits = waiting_room.try_acquire_many_owned(kib).map_err(|_| Full)?;
        let waited = tokio::time::timeout(WAIT_MAX, self.share(bytes)).await;
        waited.map_err(|_| Full)?.map_err(|_| Full).map(Some)
    }

    /// Waits for the share of so many bytes that are not made yet, and cuts answers that nobody reads
    /// meanwhile. Cancel safe; first come, first served.
    pub(crate) async fn share(&self, bytes: usize) -> Result<Share, AcquireError> {
        let mut share = pin!(Arc::clone(&self.inner.room).acquire_many_owned(kib(bytes)));
        loop {
            tokio::select! {
                biased;
                share = share.as_mut() => return share.map(Share),
                () = tokio::time::sleep(LOOK_EVERY) => self.cut_the_unread(),
            }
        }
    }

    /// An answer of a connection which holds shares, or may come to do so.
    pub(crate) fn watch(&self, reading: &Arc<Reading>) -> Watched {
        let mut readers = self.readers();
        let number = readers.next;
        readers.next += 1;
        readers.by_number.insert(number, Arc::clone(reading));
        Watched {
            answers: self.clone(),
            number,
        }
    }

    fn cut_the_unread(&self) {
        let now = Clock::system().now();
        let mut readers = self.readers();
        if now < readers.looked + LOOK_EVERY {
            return; // another who waits has just looked
        }
        readers.looked = now;
        for reading in readers.by_number.values() {
            if reading
                .unread_since()
                .is_some_and(|since| since + LOOK_EVERY <= now)
            {
                tracing::debug!("an answer that nobody reads is cut: others wait for its memory");
                reading.cut();
            }
        }
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        let readers = self.inner.readers.lock();
        readers.unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        self.inner.room.available_permits()
    }
}

/// What a share of the room has to have for `bytes`; nothing is larger than the waiting room.
fn kib(bytes: usize) -> u32 {
    bytes.div_ceil(1024).min(WAITING_ROOM_KIB) as u32
}

impl Share {
    /// Bytes that keep the share until the last of them is dropped.
    pub(crate) fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held {
            bytes,
            _share: self,
        })
    }
}

struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer that may be cut for others, until dropped.
#[derive(Debug)]
pub(crate) struct Watched {
    answers: Answers,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.answers.readers().by_number.remove(&self.number);
    }
}

/// Whether an answer is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    progress: Mutex<Progress>,
    stream: CancellationToken,
    connection: CancellationToken,
}

#[derive(Debug)]
struct Progress {
    /// When something was last asked for or written.
    since: Instant,
    /// Buffers that were handed over and are not written to their end.
    unwritten: usize,
    /// All that there is so far was asked for: the reader is ahead of us.
    drained: bool,
}

impl Reading {
    /// An answer that begins now. `stream` is cancelled to cut it, and `connection` if it is still there
    /// the next time: what HTTP/2 has taken over to its end can no longer be cut alone.
    pub(crate) fn begin(stream: CancellationToken, connection: CancellationToken) -> Self {
        Self {
            progress: Mutex::new(Progress {
                since: Clock::system().now(),
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

    pub(crate) fn cut(&self) {
        if self.stream.is_cancelled() {
            self.connection.cancel();
        }
        self.stream.cancel();
    }

    /// A piece was taken.
    pub(crate) fn taken(&self) {
        self.note(|progress| progress.drained = false);
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

#[cfg(test)]
mod tests;
