//! The way in: room for what is outstanding, the entry of one record, and what a flush waits for.
//!
//! ```text
//! send ─▶ Room (records, then memory; first come, first served) ─▶ Entry ─▶ service task
//!                ▲                                                  │
//!                └──────── given back when the entry settles ◀──────┘
//! ```
//!
//! Invariants: an [`Entry`] settles exactly once, and gives its room back before its outcome is
//! seen; one that is dropped unsettled (the runtime shut down, a panic) settles with
//! `Undelivered` and the record. So no record and no room can be lost by leaving a path out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kinesis_core::{HashKey, UserRecord};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError, oneshot};
use tokio::time::Instant;

use super::outcome::{Place, Settler, Slots, Stored};
use super::search::Search;
use crate::attempts::{History, micros};
use crate::error::Reason;
use crate::{DeliveryFuture, Error};

/// How often data and key of a record may be in memory at one time: the record itself, and its
/// request. There base64 makes 4/3 of it, in a buffer of the SDK's that grows by doubling: 8/3.
/// Source: aws-smithy-json; held by `tests/footprint.rs`.
const COPIES: usize = 4;
/// What a record takes beside data and key: entry, outcome, allocations.
/// Source: measured; held by `tests/footprint.rs`.
const RECORD_OVERHEAD_BYTES: usize = 512;

/// The memory that a record of `bytes` of data and key may take from acceptance to outcome.
pub(crate) const fn memory_of(records: usize, bytes: usize) -> usize {
    bytes
        .saturating_mul(COPIES)
        .saturating_add(records.saturating_mul(RECORD_OVERHEAD_BYTES))
}

/// Data and key of the largest record that fits into `memory`.
pub(crate) const fn record_that_fits(memory: usize) -> usize {
    memory.saturating_sub(RECORD_OVERHEAD_BYTES) / COPIES
}

/// What is accepted and not yet resolved, bounded in records and in memory.
///
/// The place of a record in a request is paid for when the record is accepted. Were it paid for when
/// the request is made, records that wait could take all the memory that their requests need.
#[derive(Debug)]
pub(crate) struct Room {
    stream: Arc<str>,
    records: Semaphore,
    memory: Semaphore,
    /// Of those that have their room; one that waits for memory has a permit of `records` too.
    count: AtomicU64,
    /// Their data and keys.
    bytes: AtomicU64,
}

impl Room {
    pub(crate) fn new(stream: Arc<str>, max_records: usize, max_memory: usize) -> Self {
        Self {
            stream,
            records: Semaphore::new(max_records),
            memory: Semaphore::new(max_memory),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Waits for room for a record of `bytes`. Both queues are first come, first served. `false`
    /// once the room is closed. Cancel safe: a dropped wait holds nothing.
    pub(crate) async fn take(&self, bytes: usize) -> bool {
        let Ok(record) = self.records.acquire().await else {
            return false;
        };
        let Ok(memory) = self.memory.acquire_many(permits(bytes)).await else {
            return false;
        };
        self.taken(record, memory, bytes);
        true
    }

    /// Takes room only if there is some now and nobody waits for it.
    pub(crate) fn try_take(&self, bytes: usize) -> Result<(), TryAcquireError> {
        let record = self.records.try_acquire()?;
        let memory = self.memory.try_acquire_many(permits(bytes))?;
        self.taken(record, memory, bytes);
        Ok(())
    }

    fn taken(&self, record: SemaphorePermit<'_>, memory: SemaphorePermit<'_>, bytes: usize) {
        record.forget();
        memory.forget();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Of `records` with `bytes` together.
    fn give_back(&self, records: usize, bytes: usize) {
        self.count.fetch_sub(records as u64, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.memory.add_permits(memory_of(records, bytes));
        self.records.add_permits(records);
    }

    /// Refuses everybody from now on, those who wait included.
    pub(crate) fn close(&self) {
        self.records.close();
        self.memory.close();
    }

    /// Records that have their room, and their bytes of data and keys.
    pub(crate) fn outstanding(&self) -> (u64, u64) {
        (
            self.count.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn stream(&self) -> &Arc<str> {
        &self.stream
    }
}

/// A record is at most 10 MiB, so what it takes is a permit count.
fn permits(bytes: usize) -> u32 {
    u32::try_from(memory_of(1, bytes)).unwrap_or(u32::MAX)
}

/// What travels from the handles to the service task.
#[derive(Debug)]
pub(crate) enum Message {
    Record(Entry),
    Flush {
        done: oneshot::Sender<()>,
        _slot: OwnedSemaphorePermit,
    },
}

/// One accepted record until its outcome is known.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The order of acceptance; queues are sorted by it.
    pub(crate) id: u64,
    /// Which flush waits for it.
    pub(crate) epoch: u64,
    pub(crate) record: UserRecord,
    pub(crate) hash_key: HashKey,
    /// When it came to the service task; the clock is read once for many.
    pub(crate) accepted_at: Instant,
    /// Requests that carried it so far.
    pub(crate) attempts: u32,
    /// Most members of a Kinesis record that has it: less with each aggregate that the service
    /// refused for a member, and 1 once an aggregate landed where readers drop it.
    pub(crate) company: u32,
    /// The search that looks through it, if an aggregate that had it was refused.
    pub(crate) search: Option<Arc<Search>>,
    pub(crate) history: History,
    /// Taken when it settles.
    settler: Option<Settler>,
}

impl Entry {
    /// An entry for a record that has its room; its number, epoch and time are given on arrival.
    pub(crate) fn new(
        record: UserRecord,
        slots: &Slots,
        before: Instant,
    ) -> (Self, DeliveryFuture) {
        let (settler, awaiter) = slots.take();
        let hash_key = record.hash_key();
        let entry = Self {
            id: 0,
            epoch: 0,
            record,
            hash_key,
            accepted_at: before,
            attempts: 0,
            company: u32::MAX,
            search: None,
            history: History::default(),
            settler: Some(settler),
        };
        (entry, DeliveryFuture::new(awaiter))
    }

    /// Settles the members of one Kinesis record, which was stored at `place`.
    ///
    /// Their room is given back at once: the lock behind it is paid for once, not for each.
    pub(crate) fn deliver_all(mut members: Vec<Self>, place: Place) {
        let (sent_at, place) = (place.trip.sent_at, Arc::new(place));
        if let Some(settler) = members.first().and_then(|first| first.settler.as_ref()) {
            let bytes = members.iter().map(|member| member.record.size()).sum();
            settler.room().give_back(members.len(), bytes);
        }
        // An aggregate of more members than fit into 32 bits would not fit into memory.
        for (member, sub_sequence) in members.iter_mut().zip(0..) {
            if let Some(settler) = member.settler.take() {
                settler.settle(Ok(Stored {
                    place: Arc::clone(&place),
                    sub_sequence,
                    attempts: member.attempts,
                    sent_after_micros: micros(
                        sent_at.saturating_duration_since(member.accepted_at),
                    ),
                    history: std::mem::take(&mut member.history),
                }));
            }
        }
    }

    pub(crate) fn fail(mut self, reason: Reason) {
        self.fail_with(reason);
    }

    /// Not accepted after all: the error instead of an outcome.
    pub(crate) fn take_back(mut self, reason: Reason) -> Error {
        let record = self.record.clone();
        if let Some(settler) = self.settler.take() {
            settler.room().give_back(1, record.size());
        }
        Error::new(reason).about(record, 0)
    }

    fn fail_with(&mut self, reason: Reason) {
        if let Some(settler) = self.settler.take() {
            settler.room().give_back(1, self.record.size());
            // A clone of reference counts; the payload stays where it is.
            let error = Error::new(reason)
                .about(self.record.clone(), self.attempts)
                .after(std::mem::take(&mut self.history));
            settler.settle(Err(error));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(settler) = &self.settler {
            let stream = Arc::clone(settler.room().stream());
            let source = self.history.last();
            self.fail_with(Reason::Undelivered { stream, source });
        }
    }
}

/// What each flush still waits for.
///
/// A flush ends the current epoch; it is done when every entry of its epoch and of those before is
/// settled. Entries settle in any order, so each epoch counts its own.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// Never empty, in order of their numbers; the last one is current. One between that and the
    /// first has unsettled entries: without any it has ended with the one before.
    open: VecDeque<Epoch>,
}

#[derive(Debug, Default)]
struct Epoch {
    number: u64,
    accepted: usize,
    unsettled: usize,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Epochs {
    pub(crate) fn new() -> Self {
        Self {
            open: VecDeque::from([Epoch::default()]),
        }
    }

    /// The epoch that new entries belong to. Entries of earlier ones are not to linger.
    pub(crate) fn current(&self) -> u64 {
        self.open.back().map_or(0, |epoch| epoch.number)
    }

    pub(crate) fn accepted(&mut self) {
        if let Some(epoch) = self.open.back_mut() {
            epoch.accepted += 1;
            epoch.unsettled += 1;
        }
    }

    /// So many entries of an epoch settled; their outcomes are to be seen before.
    pub(crate) fn settled(&mut self, epoch: u64, count: usize) {
        if let Ok(at) = self.open.binary_search_by_key(&epoch, |open| open.number)
            && let Some(epoch) = self.open.get_mut(at)
        {
            epoch.unsettled -= count;
            if epoch.unsettled == 0 {
                self.merge(at);
            }
        }
        self.finish();
    }

    /// Has whoever waits for an epoch with nothing unsettled wait for the one before it.
    fn merge(&mut self, at: usize) {
        let has_neighbours = at > 0 && at + 1 < self.open.len();
        if let Some(Epoch { waiting, .. }) = has_neighbours.then(|| self.open.remove(at)).flatten()
            && let Some(before) = self.open.get_mut(at - 1)
        {
            waiting.into_iter().for_each(|done| before.wait(done));
        }
    }

    pub(crate) fn flush(&mut self, done: oneshot::Sender<()>) {
        // Nothing was accepted since the last flush: this one waits for the same.
        let unused = self.open.back().is_some_and(|epoch| epoch.accepted == 0);
        let joins = unused && self.open.len() > 1;
        let at = self.open.len().saturating_sub(if joins { 2 } else { 1 });
        if let Some(epoch) = self.open.get_mut(at) {
            epoch.wait(done);
        }
        if !joins {
            let number = self.current() + 1;
            self.open.push_back(Epoch {
                number,
                ..Epoch::default()
            });
            // Settled before it ended.
            if self.open.get(at).is_some_and(|epoch| epoch.unsettled == 0) {
                self.merge(at);
            }
        }
        self.finish();
    }

    fn finish(&mut self) {
        while self.open.len() > 1 && self.open.front().is_some_and(|epoch| epoch.unsettled == 0) {
            for done in self
                .open
                .pop_front()
                .into_iter()
                .flat_map(|epoch| epoch.waiting)
            {
                // Whoever flushed may have gone.
                done.send(()).ok();
            }
        }
    }
}

impl Epoch {
    fn wait(&mut self, done: oneshot::Sender<()>) {
        // Before it grows: whoever flushes with a timeout again and again has gone.
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|done| !done.is_closed());
        }
        self.waiting.push(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Arc<Room> {
        Arc::new(Room::new("stream".into(), 2, memory_of(2, 100)))
    }

    #[tokio::test]
    async fn an_entry_that_is_dropped_gives_its_record_and_room_back() {
        let room = room();
        assert!(room.take(3).await);
        let now = kinesis_core::Clock::system().now();
        let slots = Slots::new(Arc::clone(&room));
        let (entry, outcome) = Entry::new(UserRecord::new("k", "xx"), &slots, now);
        assert_eq!(room.outstanding(), (1, 3));
        drop(entry);
        assert_eq!(room.outstanding(), (0, 0));
        let error = outcome.await.expect_err("undelivered");
        assert_eq!(error.kind(), crate::ErrorKind::Undelivered);
        assert_eq!(error.into_record(), Some(UserRecord::new("k", "xx")));
    }

    #[tokio::test]
    async fn room_is_bounded_in_records_and_in_memory_and_a_refusal_takes_nothing() {
        let room = room();
        assert!(room.take(60).await);
        assert!(room.try_take(41).is_err(), "memory");
        assert!(room.try_take(40).is_ok());
        assert!(room.try_take(0).is_err(), "records");
        room.give_back(1, 60);
        assert!(room.try_take(60).is_ok(), "the refusals took nothing");
        room.close();
        assert!(!room.take(1).await);
    }

    #[tokio::test]
    async fn a_record_that_waits_for_memory_is_not_outstanding() {
        let room = room();
        assert!(room.take(90).await);
        let waiting = room.take(90);
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(room.outstanding(), (1, 90));
        room.give_back(1, 90);
        assert!(waiting.await);
        assert_eq!(room.outstanding(), (1, 90));
    }

    #[test]
    fn a_flush_is_done_when_its_epoch_and_all_before_are_settled() {
        let mut epochs = Epochs::new();
        let (mut receivers, mut of) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            epochs.accepted();
            of.push(epochs.current());
            let (done, waiting) = oneshot::channel();
            epochs.flush(done);
            receivers.push(waiting);
        }
        epochs.accepted();
        let later = epochs.current();
        epochs.settled(of[1], 1);
        assert!(
            receivers[1].try_recv().is_err(),
            "the epoch before is unsettled"
        );
        epochs.settled(of[0], 1);
        assert!(receivers[0].try_recv().is_ok() && receivers[1].try_recv().is_ok());
        assert!(receivers[2].try_recv().is_err());
        epochs.settled(later, 1);
        assert!(
            receivers[2].try_recv().is_err(),
            "a later record does not count"
        );
        epochs.settled(of[2], 1);
        assert!(receivers[2].try_recv().is_ok());
        let (done, mut waiting) = oneshot::channel();
        epochs.flush(done);
        assert!(
            waiting.try_recv().is_ok(),
            "nothing outstanding: done at once"
        );
    }

    #[test]
    fn flushes_behind_one_record_that_does_not_settle_take_no_room_of_their_own() {
        let mut epochs = Epochs::new();
        epochs.accepted();
        let stuck = epochs.current();
        let mut waiting = Vec::new();
        for round in 0..10_000_u32 {
            let (done, flushed) = oneshot::channel();
            // Some settle after the flush that waits for them, and some before.
            epochs.accepted();
            let of = epochs.current();
            if round % 2 == 0 {
                epochs.settled(of, 1);
            }
            epochs.flush(done);
            if round % 2 == 1 {
                epochs.settled(of, 1);
            }
            if round % 1000 == 0 {
                waiting.push(flushed);
            }
            assert!(epochs.open.len() <= 3, "{} epochs", epochs.open.len());
        }
        let kept: usize = epochs.open.iter().map(|epoch| epoch.waiting.len()).sum();
        assert!(kept < 100, "{kept} flushes");
        assert!(
            waiting
                .iter_mut()
                .all(|flushed| flushed.try_recv().is_err())
        );
        epochs.settled(stuck, 1);
        assert!(waiting.iter_mut().all(|flushed| flushed.try_recv().is_ok()));
    }

    #[test]
    fn flushes_that_nobody_waits_for_any_more_take_no_room() {
        let mut epochs = Epochs::new();
        epochs.accepted();
        let of = epochs.current();
        let (done, mut first) = oneshot::channel();
        epochs.flush(done);
        for _ in 0..10_000 {
            epochs.flush(oneshot::channel().0);
        }
        let (done, mut last) = oneshot::channel();
        epochs.flush(done);
        assert!(epochs.open.len() <= 2, "{} epochs", epochs.open.len());
        let waiting: usize = epochs.open.iter().map(|epoch| epoch.waiting.len()).sum();
        assert!(waiting < 100, "{waiting} flushes");
        assert!(first.try_recv().is_err() && last.try_recv().is_err());
        epochs.settled(of, 1);
        assert!(first.try_recv().is_ok() && last.try_recv().is_ok());
    }
}
