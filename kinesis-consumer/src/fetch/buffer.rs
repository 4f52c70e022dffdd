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
//! holds nothing always gets one), and only with bytes of the budget reserved: for polling what an
//! answer is expected to hold, or as much as there is for a shard that holds nothing and asks for less
//! then; for fan-out the length of the event. An answer that is larger after all, as it comes or once its
//! aggregates are opened, is let in when there is room for it ([`Slot::grow`]), so what is sent never is
//! more than was reserved.
//! Dropping either end drops what waits and gives everything back.

use std::sync::{Arc, Mutex, PoisonError};

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
    /// Waits for room for one answer of `GetRecords` of `wanted` bytes; `None` when nobody reads any
    /// more. The slot of a shard that holds nothing may be smaller: the answer has to be, too.
    pub(crate) async fn slot(&self, wanted: usize) -> Option<Slot<'_>> {
        let room = self.room().await?;
        let reservation = self.reserve_at_least(wanted, 0).await;
        Some(room.with(reservation))
    }

    /// Waits until the shard may read ahead, with nothing reserved of the budget yet; `None` when
    /// nobody reads any more. Cancel safe.
    pub(crate) async fn room(&self) -> Option<Room<'_>> {
        let permit = self.sender.reserve().await.ok()?;
        while !self.has_room() {
            self.held.freed.notified().await;
        }
        Some(Room {
            permit,
            held: &self.held,
        })
    }

    /// Waits until an event of `bytes` fits into the shard's share and the budget. Other than an
    /// answer of `GetRecords`, whose length nobody knows beforehand, it does not go over the share,
    /// unless it is all that the shard holds. Cancel safe.
    pub(crate) async fn reserve_event(&self, bytes: usize) -> Reservation {
        while !self.fits(bytes) {
            self.held.freed.notified().await;
        }
        self.reserve(bytes).await
    }

    /// Waits until `bytes` of the budget are free, or all of it if that is less. Cancel safe.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reservation {
        self.reserve_at_least(bytes, bytes).await
    }

    /// As [`Reservation::exchange`], for an event, which is the first of a shard that holds nothing any more.
    pub(crate) async fn exchange(&self, reservation: &mut Reservation, bytes: usize) -> bool {
        if !self.holds_nothing() {
            tokio::select! {
                biased;
                has_room = reservation.exchange(bytes, false) => return has_room,
                // What it held was processed while it waited behind those that are stuck.
                () = self.nothing_held() => {}
            }
        }
        reservation.exchange(bytes, true).await
    }

    /// For what takes no room.
    pub(crate) fn reserve_nothing(&self) -> Reservation {
        self.budget.reserve_nothing()
    }

    /// The same; `least` are enough for a shard that holds nothing.
    async fn reserve_at_least(&self, bytes: usize, least: usize) -> Reservation {
        let bytes = bytes.min(self.budget.largest());
        if !self.holds_nothing() {
            tokio::select! {
                biased;
                reservation = self.budget.reserve(bytes) => return reservation,
                // What it held was processed while it waited behind those that are stuck.
                () = self.nothing_held() => {}
            }
        }
        self.budget.reserve_first(bytes, least).await
    }

    async fn nothing_held(&self) {
        while !self.holds_nothing() {
            self.held.freed.notified().await;
        }
    }

    /// Whether nothing of the shard waits or is in hand.
    pub(crate) fn holds_nothing(&self) -> bool {
        self.held.now().0 == 0
    }

    /// Sends what is not a batch: the end of the shard, or of reading it.
    pub(crate) async fn finish(&self, last: Fetched) {
        // Nobody reads any more: then nobody needs to know.
        drop(self.sender.send(last).await);
    }

    fn has_room(&self) -> bool {
        let (bytes, records) = self.held.now();
        bytes == 0 || (bytes < self.most() && records < self.limits.records)
    }

    fn fits(&self, more: usize) -> bool {
        let (bytes, _) = self.held.now();
        bytes == 0 || bytes.saturating_add(more) <= self.most()
    }

    /// Bytes at which reading ahead stops.
    fn most(&self) -> usize {
        self.limits.bytes.min(self.budget.share())
    }
}

/// Leave to read ahead, as far as the shard's own limits are concerned.
pub(crate) struct Room<'a> {
    permit: mpsc::Permit<'a, Fetched>,
    held: &'a Arc<Held>,
}

impl<'a> Room<'a> {
    pub(crate) fn with(self, reservation: Reservation) -> Slot<'a> {
        Slot {
            permit: self.permit,
            reservation,
            held: self.held,
        }
    }
}

/// Room for one answer.
pub(crate) struct Slot<'a> {
    permit: mpsc::Permit<'a, Fetched>,
    reservation: Reservation,
    held: &'a Arc<Held>,
}

impl Slot<'_> {
    /// What an answer may hold.
    pub(crate) fn bytes(&self) -> usize {
        self.reservation.bytes()
    }

    /// Waits until there is room for an answer of `bytes`, which is larger than expected; `single` if
    /// it is of one record, so that no smaller one can be asked for. Returns whether there is: not if
    /// many such answers wait already. Cancel safe: then the slot is of no bytes.
    pub(crate) async fn grow(&mut self, bytes: usize, single: bool) -> bool {
        let first = single && self.held.now().0 == 0;
        self.reservation.exchange(bytes, first).await
    }

    /// Puts a batch of `records` user records and `bytes`, no more than the slot's, into the buffer; an
    /// answer without records only gives the room back.
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
        reservation.shrink(bytes);
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
