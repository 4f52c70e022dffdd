//! One byte budget over all shards of a worker.
//!
//! ```text
//! total ─┬─ common, five eighths: first come, first served
//!        ├─ pieces, a quarter: for shards that hold nothing, at most an even part each
//!        └─ whole, an eighth: for shards that hold nothing and cannot go on with less than a record
//!           or an event that is larger than such a part
//! ```
//!
//! Promise: a reservation is granted only while the sum of its pool stays within that, in the order
//! in which reservations were asked for, so that no shard starves. What turns out larger than was
//! reserved for it waits where it lies until its reservation is exchanged for a larger one
//! ([`Reservation::exchange`]); a few may wait at once. A holder may also correct its reservation to the true size at once; that
//! alone can take the sum above the total (what opening aggregates of tiny records adds, and a single
//! record that is larger than the pool it waits for), and the next reservation waits it out.
//!
//! Shards whose processors are stuck keep what they hold, for ever if they are stuck for ever, and
//! enough of them fill the common pool. The pieces are there for the others: a shard has at most one,
//! and they add up to no more than their pool, so there always is one for a shard that holds nothing.
//! It reads in small steps then. What cannot be had in small steps, a record or an event of fan-out
//! that is larger than a piece, has a pool of its own, so that it takes no piece from anybody; stuck
//! shards with such records can fill that one, and then others of the kind wait for the common pool.
//!
//! Waiting is cancel safe: a dropped wait gives up its turn and holds nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

/// The part of the budget that is handed out in pieces.
/// Source: none, reasonable default: 64 KiB each for a thousand shards at the default budget.
const PIECES_PART: usize = 4;

/// The part for what is larger than a piece and cannot be divided.
/// Source: none, reasonable default: 32 full events of fan-out at the default budget.
const WHOLE_PART: usize = 8;

/// Answers that may wait at once until there is more room for them than was reserved: until then they lie
/// in buffers of the transport, which nobody counts. Over HTTP/2 they share the window of the client's own
/// connection: a few that are larger than their streams' windows can close it, and then all other calls
/// over it stand still, each for as long as such an answer waits at most. Source: none, reasonable default.
const EXCHANGES_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct Budget {
    common: Pool,
    pieces: Pool,
    whole: Pool,
    members: AtomicUsize,
    exchanges: Semaphore,
}

/// Bytes that are handed out.
#[derive(Debug)]
struct Pool {
    total: usize,
    used: Mutex<usize>,
    /// Queue of those who wait; tokio's mutex is first come, first served.
    turn: AsyncMutex<()>,
    freed: Notify,
}

/// Which pool a reservation is of.
#[derive(Clone, Copy, Debug)]
enum Of {
    Common,
    Pieces,
    Whole,
}

impl Budget {
    pub(crate) fn new(total_bytes: usize) -> Arc<Self> {
        let (pieces, whole) = (total_bytes / PIECES_PART, total_bytes / WHOLE_PART);
        Arc::new(Self {
            common: Pool::new(total_bytes - pieces - whole),
            pieces: Pool::new(pieces),
            whole: Pool::new(whole),
            members: AtomicUsize::new(0),
            exchanges: Semaphore::new(EXCHANGES_MAX),
        })
    }

    /// Counts one more shard until the guard is dropped.
    pub(crate) fn join(self: &Arc<Self>) -> Member {
        self.members.fetch_add(1, Ordering::Relaxed);
        Member {
            budget: Arc::clone(self),
        }
    }

    /// An even part of the common pool for each shard: what one shard may read ahead.
    pub(crate) fn share(&self) -> usize {
        self.common.total / self.members()
    }

    /// Most bytes of one reservation.
    pub(crate) fn largest(&self) -> usize {
        self.common.total
    }

    /// Bytes reserved now.
    pub(crate) fn used(&self) -> usize {
        self.common.used() + self.pieces.used() + self.whole.used()
    }

    /// Waits until `bytes` fit. `bytes` must not be more than [`Self::largest`].
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Reservation {
        debug_assert!(bytes <= self.largest(), "would wait for ever");
        self.common.take(bytes).await;
        self.reserved(Of::Common, bytes)
    }

    /// The same for a shard that holds nothing, which need not wait for those that do: it gets a piece
    /// where `bytes` are not free at once or, if that is less than `least`, as many as are kept for what
    /// cannot be divided.
    pub(crate) async fn reserve_first(self: &Arc<Self>, bytes: usize, least: usize) -> Reservation {
        debug_assert!(bytes <= self.largest(), "would wait for ever");
        if self.common.take_now(bytes) {
            return self.reserved(Of::Common, bytes);
        }
        let piece = bytes.min(self.pieces.total / self.members());
        if piece < least {
            return self.reserve_whole(bytes).await;
        }
        tokio::select! {
            biased;
            () = self.common.take(bytes) => self.reserved(Of::Common, bytes),
            () = self.pieces.take(piece) => self.reserved(Of::Pieces, piece),
        }
    }

    /// For a shard that holds nothing and can do with no less than `bytes`.
    async fn reserve_whole(self: &Arc<Self>, bytes: usize) -> Reservation {
        let whole = bytes.min(self.whole.total);
        tokio::select! {
            biased;
            () = self.common.take(bytes) => self.reserved(Of::Common, bytes),
            () = self.whole.take(whole) => {
                let mut reservation = self.reserved(Of::Whole, whole);
                reservation.resize(bytes);
                reservation
            }
        }
    }

    fn reserved(self: &Arc<Self>, of: Of, bytes: usize) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            of,
            bytes,
        }
    }

    fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed).max(1)
    }

    fn pool(&self, of: Of) -> &Pool {
        match of {
            Of::Common => &self.common,
            Of::Pieces => &self.pieces,
            Of::Whole => &self.whole,
        }
    }
}

impl Pool {
    fn new(total: usize) -> Self {
        Self {
            total,
            used: Mutex::new(0),
            turn: AsyncMutex::new(()),
            freed: Notify::new(),
        }
    }

    fn used(&self) -> usize {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self, bytes: usize) {
        let _turn = self.turn.lock().await;
        while !self.try_take(bytes) {
            // Only the holder of the turn waits here, and a release before this line leaves a permit.
            self.freed.notified().await;
        }
    }

    /// Takes `bytes` if they are free and nobody waits.
    fn take_now(&self, bytes: usize) -> bool {
        self.turn.try_lock().is_ok_and(|_turn| self.try_take(bytes))
    }

    fn try_take(&self, bytes: usize) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = used.saturating_add(bytes) <= self.total;
        if fits {
            *used += bytes;
        }
        fits
    }

    fn change(&self, from: usize, to: usize) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_sub(from).saturating_add(to);
        drop(used);
        if to < from {
            self.freed.notify_one();
        }
    }
}

/// A shard that takes part in the budget.
#[derive(Debug)]
pub(crate) struct Member {
    budget: Arc<Budget>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.budget.members.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes held in the budget until dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    of: Of,
    bytes: usize,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Waits in line until `bytes` are free in its stead, and holds nothing meanwhile: whoever waited for
    /// more with something in hand could wait for somebody who does the same. `first` if it is all that
    /// the shard holds and cannot be had in smaller steps. Returns whether it is of so many bytes now: not
    /// if [`EXCHANGES_MAX`] others wait for the same. Cancel safe: then it is of no bytes.
    pub(crate) async fn exchange(&mut self, bytes: usize, first: bool) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        // A piece stays within its even part.
        let may_top_up = matches!(self.of, Of::Common);
        if may_top_up && self.budget.common.take_now(more) {
            self.bytes += more;
            return true;
        }
        let budget = Arc::clone(&self.budget);
        let Ok(_place) = budget.exchanges.try_acquire() else {
            return false;
        };
        self.resize(0);
        let most = bytes.min(budget.largest());
        *self = if first {
            budget.reserve_whole(most).await
        } else {
            budget.reserve(most).await
        };
        true
    }

    /// Corrects the reservation to the true size, up or down, without waiting.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.budget.pool(self.of).change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.pool(self.of).change(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests;
