//! Where changes are kept: in memory alone, or in a log file that survives a crash.
//!
//! Promises of the file: what was acknowledged is there after a kill or a power loss; changes come
//! back in the order in which they were made; a record becomes readable, and a change is
//! acknowledged, only after it is on the disk; concurrent changes share one sync. After a write or
//! sync that failed nothing more is taken: what the disk holds then is known again only after a
//! restart.
//!
//! ```text
//! DIR/changes.log
//!   head    16 bytes "kinesis-local-1\n"
//!   frame   u32 mark │ u32 length │ u32 crc32c(mark, length) │ u32 crc32c(payload) │ payload
//!   frame   …                                                 one frame per sync
//! payload   entry │ entry │ …                                 see `entry`; empty: closed in order
//! ```
//! All numbers are little-endian. Each frame is synced before the next is begun, so only the last
//! can be torn by a crash: it is cut off when the log is opened. A broken frame with a whole one
//! behind it was changed after it was written: the log is refused, with its name and the offset.
//!
//! ```text
//! request ─submit▶ queue ─take all▶ encode ─write, fdatasync▶ publish records ─▶ acknowledge
//!          (under the shard's lock,   └──────── one blocking task while there is work ────────┘
//!           so in the order of numbers)
//! ```
//! Deliberately absent: segments and compaction. The file grows with everything that was written;
//! deleted streams and expired records give their memory back, not their place in the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::catalog::StreamCell;
use crate::commitment::Commitment;
use crate::error::Error;
use crate::place::Place;
use crate::stream::shard::Shard;

pub(crate) mod entry;
mod frame;
mod recovery;

use entry::Entry;

/// The log's file in its directory.
const FILE_NAME: &str = "changes.log";

/// Bytes of records that may wait for the disk; requests beyond it wait to be taken. Source: none,
/// reasonable default: six of the largest requests.
const IN_FLIGHT_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In the order of their ids.
    pub(crate) streams: Vec<Arc<StreamCell>>,
    /// The highest id that a stream was given.
    pub(crate) last_stream_id: u64,
    pub(crate) commitments: Commitments,
    /// The highest time in it, in milliseconds since the Unix epoch; 0: there is none.
    pub(crate) latest_ms: u64,
}

/// The accounts' commitments, by account and region.
pub(crate) type Commitments = BTreeMap<Arc<Place>, Commitment>;

/// Where changes are kept. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// `None`: in memory only.
    file: Option<Arc<LogFile>>,
}

/// A change on its way to the disk.
#[derive(Debug)]
pub(crate) struct Ticket(Option<oneshot::Receiver<Result<(), LogFailure>>>);

/// Room among the bytes that wait for the disk; free again once they are on it.
pub(crate) type Room = Option<Arc<OwnedSemaphorePermit>>;

/// The log takes no change any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the store cannot be written ({reason}) and takes no change any more; free space or repair \
     {}, then restart kinesis-local",
    path.display()
)]
pub(crate) struct LogFailure {
    reason: Arc<str>,
    path: Arc<Path>,
}

#[derive(Debug)]
struct LogFile {
    path: Arc<Path>,
    room: Arc<Semaphore>,
    queue: Mutex<Queue>,
    /// Only the blocking task that drains the queue takes it.
    writer: Mutex<Writer>,
}

/// What waits for the disk.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// A blocking task is at work, or about to be.
    draining: bool,
    failed: Option<LogFailure>,
    /// It takes nothing more because it was asked not to.
    sealed: bool,
    /// Changes submitted, changes on the disk, and the last submitted that was not of records.
    submitted: u64,
    stored: u64,
    last_change_of_streams: u64,
}

#[derive(Debug)]
struct Waiting {
    what: What,
    publish: Option<Publish>,
    acknowledge: oneshot::Sender<Result<(), LogFailure>>,
    _room: Room,
}

/// A shard, and the end of its records that are stored with this change.
pub(crate) type Publish = (Arc<Shard>, u64);

#[derive(Debug)]
enum What {
    Change(Entry),
    /// Nothing of its own: acknowledged with what was submitted before it.
    Barrier,
    /// The mark of an orderly end.
    Close,
}

#[derive(Debug)]
struct Writer {
    file: File,
    buffer: Vec<u8>,
    /// Something was written since the last mark of an orderly end.
    open_ended: bool,
}

impl Log {
    /// Opens the log in `dir` and gives back what it holds; `None` keeps everything in memory. What
    /// names no place is of `home`. Records that are expired at `trim_until_ms`, or were at the time
    /// of the last change if that is earlier, may be left out. Blocks.
    pub(crate) fn open(
        dir: Option<&Path>,
        home: &Arc<Place>,
        trim_until_ms: u64,
    ) -> Result<(Self, Held), Error> {
        let Some(dir) = dir else {
            return Ok((Self { file: None }, Held::default()));
        };
        let path = dir.join(FILE_NAME);
        let recovered = recovery::open(&path, home, trim_until_ms)?;
        let writer = Writer {
            file: recovered.file,
            buffer: Vec::new(),
            open_ended: false,
        };
        let file = LogFile {
            path: path.into(),
            room: Arc::new(Semaphore::new(IN_FLIGHT_MAX_BYTES)),
            queue: Mutex::default(),
            writer: Mutex::new(writer),
        };
        Ok((
            Self {
                file: Some(Arc::new(file)),
            },
            recovered.held,
        ))
    }

    /// Whether changes have to reach a disk before they count.
    pub(crate) fn is_durable(&self) -> bool {
        self.file.is_some()
    }

    /// Waits for room for `bytes` of records.
    pub(crate) async fn admit(&self, bytes: usize) -> Result<Room, LogFailure> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        file.check()?;
        let permits = bytes.clamp(1, IN_FLIGHT_MAX_BYTES) as u32;
        let room = Arc::clone(&file.room).acquire_many_owned(permits).await;
        Ok(room.ok().map(Arc::new))
    }

    /// Puts a change in line. The caller holds the lock under which it made the change, so that
    /// the log has the order of the changes. Returns at once.
    pub(crate) fn submit(&self, entry: Entry, publish: Option<Publish>, room: Room) -> Ticket {
        match &self.file {
            None => Ticket(None),
            Some(file) => file.submit(What::Change(entry), publish, room, false),
        }
    }

    /// An error once the log takes no change any more.
    pub(crate) fn check(&self) -> Result<(), LogFailure> {
        self.file.as_ref().map_or(Ok(()), |file| file.check())
    }

    /// Waits until every change of streams made so far is on the disk, so that no answer shows one
    /// that a crash would take back. Records need no wait: they are readable only once stored.
    pub(crate) async fn settled(&self) -> Result<(), LogFailure> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let ticket = {
            let queue = file.queue();
            if queue.last_change_of_streams <= queue.stored {
                return Ok(());
            }
            drop(queue);
            file.submit(What::Barrier, None, None, false)
        };
        ticket.stored().await
    }

    /// Lets go of the file at once, as a crash would: what waits is not written. Blocks while a
    /// write is under way, so that nothing is written once this returns.
    pub(crate) fn abandon(&self) {
        let Some(file) = &self.file else { return };
        let failure = file.failure("it was dropped");
        let waiting = {
            let mut queue = file.queue();
            queue.failed.get_or_insert_with(|| failure.clone());
            std::mem::take(&mut queue.waiting)
        };
        for waiting in waiting {
            waiting.acknowledge(Err(failure.clone()));
        }
        drop(file.writer.lock());
    }

    /// Waits until everything is on the disk and marks the log as closed in order. Changes are
    /// still taken.
    pub(crate) async fn close(&self) {
        let Some(file) = &self.file else { return };
        let close = file.submit(What::Close, None, None, false);
        if let Err(error) = close.stored().await {
            tracing::error!(%error, "The log could not be closed in order.");
        }
    }

    /// Waits until everything that was submitted is on the disk, awaited or not, and takes nothing
    /// more from here on: once this returns nothing is written any more. Dropping the future leaves
    /// it so that nothing more is taken; a later call gives up what nobody waits for.
    pub(crate) async fn seal(&self) {
        let Some(file) = &self.file else { return };
        let close = file.submit(What::Close, None, None, true);
        if let Err(error) = close.stored().await
            && !file.is_sealed()
        {
            tracing::error!(%error, "The log could not be closed in order.");
        }
        self.abandon(); // a write that nobody waits for any more is under way at most
    }
}

impl Ticket {
    /// Waits until the change is on the disk. Dropping the future does not take the change back.
    pub(crate) async fn stored(self) -> Result<(), LogFailure> {
        match self.0 {
            None => Ok(()),
            Some(acknowledged) => acknowledged.await.unwrap_or_else(|_| {
                // The task went away with its runtime: the process is ending.
                Err(LogFailure {
                    reason: "it was shut down".into(),
                    path: PathBuf::new().into(),
                })
            }),
        }
    }
}

impl LogFile {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<(), LogFailure> {
        self.queue().failed.clone().map_or(Ok(()), Err)
    }

    fn failure(&self, reason: &str) -> LogFailure {
        LogFailure {
            reason: reason.into(),
            path: Arc::clone(&self.path),
        }
    }

    fn is_sealed(&self) -> bool {
        self.queue().sealed
    }

    /// Puts it in line; `last`: nothing is taken behind it.
    fn submit(
        self: &Arc<Self>,
        what: What,
        publish: Option<Publish>,
        room: Room,
        last: bool,
    ) -> Ticket {
        let (acknowledge, acknowledged) = oneshot::channel();
        let mut queue = self.queue();
        if let What::Change(entry) = &what {
            queue.submitted += 1;
            if !matches!(entry, Entry::Records { .. }) {
                queue.last_change_of_streams = queue.submitted;
            }
        }
        let waiting = Waiting {
            what,
            publish,
            acknowledge,
            _room: room,
        };
        match queue.failed.clone() {
            Some(failure) => waiting.acknowledge(Err(failure)),
            None => {
                queue.waiting.push(waiting);
                if last {
                    queue.failed = Some(self.failure("it was shut down"));
                    queue.sealed = true;
                }
            }
        }
        let start = !queue.draining && !queue.waiting.is_empty();
        queue.draining |= start;
        drop(queue);
        if start {
            // A blocking task and not a thread of our own: while it runs, a paused clock stands.
            let log = Arc::clone(self);
            tokio::task::spawn_blocking(move || log.drain());
        }
        Ticket(Some(acknowledged))
    }

    /// Writes what waits until nothing does.
    fn drain(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let group = {
                let mut queue = self.queue();
                queue.draining = !queue.waiting.is_empty();
                std::mem::take(&mut queue.waiting)
            };
            if group.is_empty() {
                return;
            }
            match writer.write(&group) {
                Ok(()) => self.stored(group),
                Err(error) => return self.fail(group, &error),
            }
        }
    }

    fn stored(&self, group: Vec<Waiting>) {
        let changes = group
            .iter()
            .filter(|waiting| matches!(waiting.what, What::Change(_)));
        self.queue().stored += changes.count() as u64;
        for mut waiting in group {
            if let Some((shard, end)) = waiting.publish.take() {
                shard.publish(end);
            }
            waiting.acknowledge(Ok(()));
        }
    }

    /// What is on the disk is unknown now: neither this group nor anything later counts.
    fn fail(&self, group: Vec<Waiting>, error: &io::Error) {
        tracing::error!(%error, path = %self.path.display(), "The log cannot be written; no change is taken any more.");
        let failure = self.failure(&error.to_string());
        let later = {
            let mut queue = self.queue();
            queue.failed = Some(failure.clone());
            queue.draining = false;
            std::mem::take(&mut queue.waiting)
        };
        for waiting in group.into_iter().chain(later) {
            waiting.acknowledge(Err(failure.clone()));
        }
    }
}

impl Waiting {
    fn acknowledge(self, result: Result<(), LogFailure>) {
        // Who asked may have gone away; the change stands all the same.
        drop(self.acknowledge.send(result));
    }
}

impl Writer {
    /// Writes the group as one frame and syncs it.
    fn write(&mut self, group: &[Waiting]) -> io::Result<()> {
        frame::begin(&mut self.buffer);
        let mut close = false;
        for waiting in group {
            match &waiting.what {
                What::Change(entry) => entry.encode(&mut self.buffer),
                What::Barrier => {}
                What::Close => close = true,
            }
        }
        if !frame::is_empty(&self.buffer) {
            self.store()?;
            self.open_ended = true;
        }
        if close && self.open_ended {
            frame::begin(&mut self.buffer);
            self.store()?;
            self.open_ended = false;
        }
        Ok(())
    }

    fn store(&mut self) -> io::Result<()> {
        frame::finish(&mut self.buffer)?;
        self.file.write_all(&self.buffer)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests;
