//! The memory for answers that wait to be read by whoever is at the other end of a socket.
//!
//! ```text
//! an answer of more than 16 KiB ─▶ its share of the room, from when it is made to when its last byte is
//!                                  written; waits while others have the room, in a smaller one
//! one that tells of an effect   ─▶ the same, but before the effect: PutRecords and receives
//! an event of a subscription    ─▶ the same, but before it is made
//!                                     └ not read fast enough, and others wait: cut (see `reading`)
//! ```
//! Promises: answers take [`ROOM_KIB`] together, those that wait for it [`WAITING_ROOM_KIB`], whatever
//! their readers do; who finds no room in either, or waits for too long, is told to come again. Who does
//! not read, or not at the pace of an answer of that length, keeps what it has only while nobody else wants
//! it, and a subscriber that is cut for that subscribes again.
//!
//! A share belongs to the bytes and not to the answer, so it counts what HTTP has taken over and not
//! yet written, too.
//!
//! Deliberately absent: answers in process. They belong to the caller, which is this process.
//!
//! Times are of the machine and not of the instance's clock, as all time-outs of connections are.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

mod reading;

pub(crate) use reading::{LOOK_EVERY, Readers, Reading, Watched};

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
    /// Those that hold a share, or may come to do so.
    readers: Readers,
}

/// There is no room.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// A share of the room, until dropped.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

/// What a response has in its extensions whose bytes hold a share already.
#[derive(Copy, Clone, Debug)]
pub(crate) struct HoldsShare;

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
                readers: Readers::new(),
            }),
        }
    }

    /// The share of an answer of so many bytes that was made already, or is as soon as there is room.
    /// Cancel safe.
    pub(crate) async fn share_in_time(&self, bytes: usize) -> Result<Option<Share>, Full> {
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

    /// Waits for the share of so many bytes that are not made yet, and cuts answers that are not
    /// read meanwhile. Cancel safe; first come, first served.
    pub(crate) async fn share(&self, bytes: usize) -> Result<Share, AcquireError> {
        let mut share = pin!(Arc::clone(&self.inner.room).acquire_many_owned(kib(bytes)));
        loop {
            tokio::select! {
                biased;
                share = share.as_mut() => return share.map(Share),
                () = tokio::time::sleep(LOOK_EVERY) => self.inner.readers.cut_the_slow(),
            }
        }
    }

    /// An answer of a connection which holds shares, or may come to do so.
    pub(crate) fn watch(&self, reading: &Arc<Reading>) -> Watched {
        self.inner.readers.watch(reading)
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
    /// Gives back what is more than so many bytes take.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let too_much = self.0.num_permits().saturating_sub(kib(bytes) as usize);
        drop(self.0.split(too_much));
    }

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

#[cfg(test)]
mod tests;
