//! What one shard has fetched and not yet processed.
//!
//! ```text
//! fetch task ── slot() ─▶ GetRecords ─▶ slot.send(batch) ─▶ [b][b][b] ─▶ next() ── in hand ─▶ dropped
//!               waits for room                               ≤ 4 batches
//!               └───────────── bytes and records count from send until the batch is dropped ──────┘
//! ```
//!
//! Promise: at most [`PENDING_BATCHES_MAX`] batches wait; a slot is given only while the shard is
//! below its limits of bytes and records and below its share of the worker's budget (a shard that
//! holds nothing always gets one), and only with a full answer's worth of the budget reserved.
//! Dropping either end drops what waits and gives everything back.

use std::sync::{Arc, Mutex, PoisonError};

use kinesis_core::limits;
use tokio::sync::{Notify, mpsc};

use crate::fetch::budget::{Budget, Member, Reservation};
use crate::fetch::{Batch, Fetched};

/// Source: KCL `PollingConfig.maxPendingProcessRecordsInput`.
pub(crate) const PENDING_BATCHES_MAX: usize = 4;

/// The limits of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferLimits {
    pub(crate) bytes: usize,
    pub(crate) records: usize,
}

/// Makes the two ends.
pub(crate) fn buffer(
    limits: BufferLimits,
    budget: &Arc<Budget>,
) -> (Filler, mpsc::Receiver<Fetched>) {
    let (sender, receiver) = mpsc::channel(PENDING_BATCHES_MAX);
    let filler = Filler {
        sender,
        held: Arc::new(Held::default()),
        limits,
        budget: Arc::clone(budget),
        _member: budget.join(),
    };
    (filler, receiver)
}

/// The end of the fetch task.
pub(crate) struct Filler {
    sender: mpsc::Sender<Fetched>,
    held: Arc<Held>,
    limits: BufferLimits,
    budget: Arc<Budget>,
    _member: Member,
}

impl Filler {
    /// Waits for room for one answer of `GetRecords`; `None` when nobody reads any more.
    pub(crate) async fn slot(&self) -> Option<Slot<'_>> {
        let permit = self.sender.reserve().await.ok()?;
        while !self.has_room() {
            self.held.freed.notified().await;
        }
        let reservation = self.budget.reserve(limits::GET_RECORDS_MAX_BYTES).await;
        Some(Slot {
            permit,
            reservation,
            held: &self.held,
        })
    }

    /// Sends what is not a batch: the end of the shard, or of reading it.
    pub(crate) async fn finish(&self, last: Fetched) {
        // Nobody reads any more: then nobody needs to know.
        drop(self.sender.send(last).await);
    }

    fn has_room(&self) -> bool {
        let (bytes, records) = self.held.now();
        let most = self.limits.bytes.min(self.budget.share());
        bytes == 0 || (bytes < most && records < self.limits.records)
    }
}

/// Room for one answer.
pub(crate) struct Slot<'a> {
    permit: mpsc::Permit<'a, Fetched>,
    reservation: Reservation,
    held: &'a Arc<Held>,
}

impl Slot<'_> {
    /// Puts a batch of `records` user records and `bytes` into the buffer; an answer without
    /// records only gives the room back.
    pub(crate) fn send(
        self,
        bytes: usize,
        records: usize,
        batch: impl FnOnce(Hold) -> Option<Batch>,
    ) {
        let Self {
            permit,
            mut reservation,
            held,
        } = self;
        reservation.resize(bytes);
        let hold = Hold::new(held, bytes, records, reservation);
        if let Some(batch) = batch(hold) {
            permit.send(Fetched::Batch(batch));
        }
    }
}

/// What the shard holds now, waiting or in hand.
#[derive(Debug, Default)]
struct Held {
    bytes_records: Mutex<(usize, usize)>,
    freed: Notify,
}

impl Held {
    fn now(&self) -> (usize, usize) {
        *self
            .bytes_records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, f: impl FnOnce(&mut (usize, usize))) {
        f(&mut self
            .bytes_records
            .lock()
            .unwrap_or_else(PoisonError::into_inner));
    }
}

/// The room a batch takes, given back when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Arc<Held>,
    bytes: usize,
    records: usize,
    _reservation: Reservation,
}

impl Hold {
    fn new(held: &Arc<Held>, bytes: usize, records: usize, reservation: Reservation) -> Self {
        held.change(|now| {
            now.0 += bytes;
            now.1 += records;
        });
        Self {
            held: Arc::clone(held),
            bytes,
            records,
            _reservation: reservation,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.change(|now| {
            now.0 -= self.bytes;
            now.1 -= self.records;
        });
        self.held.freed.notify_one();
    }
}

#[cfg(test)]
mod tests;
