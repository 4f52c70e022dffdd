//! One byte budget over all shards of a worker.
//!
//! Promise: a reservation is granted only while the sum stays within the total, in the order in
//! which reservations were asked for, so that no shard starves. A holder may then correct its
//! reservation to the true size at once; that alone can take the sum above the total (what opening
//! aggregates of tiny records adds), and the next reservation waits it out.
//!
//! Waiting is cancel safe: a dropped wait gives up its turn and holds nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, Notify};

#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    used: Mutex<usize>,
    members: AtomicUsize,
    /// Queue of those who wait; tokio's mutex is first come, first served.
    turn: AsyncMutex<()>,
    freed: Notify,
}

impl Budget {
    pub(crate) fn new(total_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            total: total_bytes,
            used: Mutex::new(0),
            members: AtomicUsize::new(0),
            turn: AsyncMutex::new(()),
            freed: Notify::new(),
        })
    }

    /// Counts one more shard until the guard is dropped.
    pub(crate) fn join(self: &Arc<Self>) -> Member {
        self.members.fetch_add(1, Ordering::Relaxed);
        Member {
            budget: Arc::clone(self),
        }
    }

    /// An even part of the total for each shard: what one shard may read ahead. Without it a few
    /// shards whose processors are stuck would fill the budget and stop all the others.
    pub(crate) fn share(&self) -> usize {
        self.total / self.members.load(Ordering::Relaxed).max(1)
    }

    /// Most bytes that may be reserved.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Bytes reserved now.
    pub(crate) fn used(&self) -> usize {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` fit. `bytes` must not be more than the total.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Reservation {
        debug_assert!(bytes <= self.total, "would wait for ever");
        let _turn = self.turn.lock().await;
        while !self.try_take(bytes) {
            // Only the holder of the turn waits here, and a release before this line leaves a permit.
            self.freed.notified().await;
        }
        Reservation {
            budget: Arc::clone(self),
            bytes,
        }
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
    bytes: usize,
}

impl Reservation {
    /// Corrects the reservation to the true size, up or down, without waiting.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.budget.change(self.bytes, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.change(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests;
