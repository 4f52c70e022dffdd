//! One byte budget over all shards of a worker.
//!
//! ```text
//! total ─┬─ common, five eighths: first come, first served
//!        ├─ pieces, a quarter: for shards that hold nothing, at most an even part each
//!        └─ whole, an eighth: for shards that hold nothing and cannot go on with less than a record
//!           or an event that is larger than such a part
//! ```
//!
//! Promise: what is reserved stays within the total and a constant. A reservation is granted only while
//! the sum of its pool stays within that, in the order in which reservations were asked for, so that no
//! shard starves. Nothing is held that is not reserved: what turns out larger waits where it lies, unread
//! or unopened, until its reservation is exchanged for a larger one ([`Reservation::exchange`]), or is
//! dropped and asked for in smaller steps.
//!
//! Shards whose processors are stuck keep what they hold, for ever if they are stuck for ever, and
//! enough of them fill the common pool. The pieces are there for the others: a shard has at most one,
//! and those of shards that came together add up to no more than their pool. Where stuck shards have
//! taken it all when they were fewer, a shard that holds nothing gets [`PIECE_MIN`] above the total, so
//! there always is a piece for it. It reads in small steps then. What cannot be had in small steps, a
//! record or an event of fan-out that is larger than a piece, has a pool of its own, so that it takes no
//! piece from anybody; stuck shards with such records can fill that one, and then others of the kind wait
//! for the common pool.
//!
//! The constant: [`PIECE_MIN`] for each shard; what waits for an exchange, [`EXCHANGES_MAX`] answers of
//! 2 MiB as a rule and 10 MiB at most; and in each of the pools common and whole one record that takes
//! more than that pool, when it is alone there.
//!
//! Waiting is cancel safe: a dropped wait gives up its turn and holds nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kinesis_core::limits;
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

/// The part of the budget that is handed out in pieces.
/// Source: none, reasonable default: 64 KiB each for a thousand shards at the default budget.
const PIECES_PART: usize = 4;

/// The part for what is larger than a piece and cannot be divided.
/// Source: none, reasonable default: 32 full events of fan-out at the default budget.
const WHOLE_PART: usize = 8;

/// What a shard that holds nothing gets in any case, above the budget if there are no pieces left.
/// Source: none, reasonable default: a quarter of what a shard takes besides.
pub(crate) const PIECE_MIN: usize = 16 * limits::KIB;

/// Answers that may wait at once until there is more room for them than was reserved: until then they lie
/// in buffers of the transport, or read and unopened, which nobody counts. Over HTTP/2 they share the window of the client's own
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

    /// The same for a shard that holds nothing, which need not wait for those that do: where `bytes` are
    /// not free at once it gets a piece or, if that is less than `least`, as many as are kept for what
    /// cannot be divided.
    pub(crate) async fn reserve_first(self: &Arc<Self>, bytes: usize, least: usize) -> Reservation {
        debug_assert!(bytes <= self.largest(), "would wait for ever");
        if self.common.take_now(bytes) {
            return self.reserved(Of::Common, bytes);
        }
        let even = PIECE_MIN.max(self.pieces.total / self.members());
        let piece = bytes.min(even);
        if piece >= least && self.pieces.take_now(piece) {
            return self.reserved(Of::Pieces, piece);
        }
        let piece = bytes.min(PIECE_MIN);
        if piece >= least {
            self.pieces.change(0, piece);
            return self.reserved(Of::Pieces, piece);
        }
        self.reserve_whole(bytes).await
    }

    /// For a shard that holds nothing and can do with no less than `bytes`, which may be more than a pool
    /// has if nobody else is in that.
    async fn reserve_whole(self: &Arc<Self>, bytes: usize) -> Reservation {
        let common = bytes.min(self.common.total);
        let whole = bytes.min(self.whole.total);
        let mut reservation = tokio::select! {
            biased;
            () = self.common.take(common) => self.reserved(Of::Common, common),
            () = self.whole.take(whole) => self.reserved(Of::Whole, whole),
        };
        reservation.resize(bytes);
        reservation
    }

    /// Of nothing, which nobody waits for.
    pub(crate) fn reserve_nothing(self: &Arc<Self>) -> Reservation {
        self.reserved(Of::Common, 0)
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
    /// if [`EXCHANGES_MAX`] others wait for the same, or if that is more than there is and not `first`.
    /// Cancel safe: then it is of no bytes.
    pub(crate) async fn exchange(&mut self, bytes: usize, first: bool) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        // A piece stays within its even part.
        let may_top_up = matches!(self.of, Of::Common);
        if may_top_up && self.budget.common.take_now(more) {
            self.bytes += more;
            return true;
        }
        let budget = Arc::clone(&self.budget);
        if first && budget.whole.take_now(bytes) {
            *self = budget.reserved(Of::Whole, bytes);
            return true;
        }
        let Ok(_place) = budget.exchanges.try_acquire() else {
            return false;
        };
        if !first && bytes > budget.largest() {
            return false;
        }
        self.resize(0);
        *self = if first {
            budget.reserve_whole(bytes).await
        } else {
            budget.reserve(bytes).await
        };
        true
    }

    /// Gives back what is more than the true size.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        debug_assert!(
            bytes <= self.bytes,
            "{bytes} bytes, reserved {}",
            self.bytes
        );
        self.resize(bytes);
    }

    fn resize(&mut self, bytes: usize) {
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
