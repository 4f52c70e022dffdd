//! Checkpoints: how a processor says "everything up to here is done".
//!
//! ```text
//!        last checkpoint                 largest delivered
//! ───────────●────────────────────────────────●──────────────▶ positions of the shard
//!            └── a checkpoint may be moved ───┘
//!                to any record in here, forwards only
//! ```
//!
//! Promise: when a checkpoint call returns `Ok`, the position is in the lease table and the next
//! owner starts right behind it. A checkpoint never goes backwards, never passes what was
//! delivered, and never passes a batch that failed: while a batch waits to be delivered again,
//! "largest delivered" is the end of the batch before it. A position in the middle of an aggregate
//! is as good as any other.
//!
//! The position is written under the lease's fence: after the lease is lost every call fails with
//! [`ErrorKind::LeaseLost`](crate::ErrorKind::LeaseLost).
//!
//! A checkpoint can be made in two phases: [`Checkpointer::prepare`] stores where it is to go,
//! together with bytes of the application's, and [`PreparedCheckpoint::commit`] moves it there. An
//! owner that comes in between is told both in `initialize` and can finish or undo what the bytes
//! describe.

mod prepared;
mod window;

use std::fmt;
use std::sync::Arc;

use kinesis_core::{Position, ShardId};
use tokio::sync::Mutex as AsyncMutex;

use crate::error::{Error, ErrorKind};
use crate::lease::{ChildShard, HeldLease, WeakLease};
use crate::processor::StopSignal;
pub use prepared::{PendingCheckpoint, PreparedCheckpoint};
use window::{Move, NO_DELIVERY, Window};

/// Moves the checkpoint of one shard. Cheap to clone; all clones are the same checkpoint, and may
/// be used outside of the processor's calls and after they returned.
///
/// Each call of a processor is given one that knows the batch of that call. Kept for later, as by a
/// task that checkpoints by the clock, it still goes as far as batches were processed since
/// ([`checkpoint`](Self::checkpoint)), but never into a batch that a later call has in hand, nor to the
/// end of the shard: those are for the checkpointer of that call.
///
/// # Cancel safety
///
/// A checkpoint future that is dropped half-way may or may not have been written; the next call
/// on the same shard finds out. The checkpoint never goes backwards because of it.
#[derive(Clone)]
pub struct Checkpointer {
    shared: Arc<Shared>,
    /// The delivery that this one was handed out with.
    delivery: u64,
}

struct Shared {
    shard_id: ShardId,
    window: std::sync::Mutex<Window>,
    /// One write at a time: the order of two checkpoints is the order in which they were asked for.
    writing: AsyncMutex<()>,
    store: Store,
    stop: StopSignal,
}

/// Where checkpoints go.
enum Store {
    /// A processor may keep its checkpointer for as long as it likes; that keeps no lease.
    Lease(WeakLease),
    Memory,
}

impl Checkpointer {
    /// The checkpointer of a lease this worker has just gained.
    pub(crate) fn of_lease(lease: &HeldLease, stop: StopSignal) -> Self {
        let start = lease.lease().checkpoint;
        Self::new(
            lease.shard_id().clone(),
            Window::new(start),
            Store::Lease(lease.downgrade()),
            stop,
        )
    }

    /// A checkpointer that keeps its position in memory, under the same rules; for tests of
    /// processors. `last` is the last checkpoint, `delivered` the largest position delivered.
    pub fn in_memory(shard_id: ShardId, last: Position, delivered: Position) -> Self {
        let mut window = Window::new(last);
        window.deliver(delivered);
        Self::new(shard_id, window, Store::Memory, StopSignal::never())
    }

    /// Checkpoints wait as long as this is kept, as they do for a lease table that does not answer.
    #[cfg(test)]
    pub(crate) async fn hold_up(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.writing.lock().await
    }

    fn new(shard_id: ShardId, window: Window, store: Store, stop: StopSignal) -> Self {
        Self {
            delivery: window.delivery(),
            shared: Arc::new(Shared {
                shard_id,
                window: std::sync::Mutex::new(window),
                writing: AsyncMutex::new(()),
                store,
                stop,
            }),
        }
    }

    /// The one for the call of the processor that is made now.
    pub(crate) fn of_delivery(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            delivery: self.with_window(|window| window.delivery()),
        }
    }

    /// One that goes as far as all is processed, and not into what is in hand.
    pub(crate) fn of_settled(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            delivery: NO_DELIVERY,
        }
    }

    /// The shard this checkpoints.
    pub fn shard_id(&self) -> &ShardId {
        &self.shared.shard_id
    }

    /// Tells by when the present call of the processor has to return; of use in `shard_ended` and
    /// `shutdown_requested`.
    pub fn stop_signal(&self) -> &StopSignal {
        &self.shared.stop
    }

    /// The last checkpoint that is known to be stored.
    pub fn last(&self) -> Position {
        self.with_window(|window| window.last().clone())
    }

    /// Checkpoints everything delivered so far, including the batch that is being processed by the call
    /// that was given this one; in `shard_ended`, the end of the shard. One that was given to an earlier
    /// call goes to the end of the last batch that was processed, and not into the one in hand. With
    /// nothing new it does nothing. A lease table that cannot
    /// be written, also for want of a credential, is tried again for as long as the lease is held: its
    /// troubles are no failure of the records.
    ///
    /// # Errors
    /// [`ErrorKind::LeaseLost`] when another worker owns the shard, or may own it because the lease
    /// table could not be written for so long. In `shard_ended` also [`ErrorKind::Throttled`],
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Denied`] when the leases of the shard's children
    /// could not be made (try again).
    pub async fn checkpoint(&self) -> Result<(), Error> {
        let _turn = self.shared.writing.lock().await;
        let step = self.with_window(|window| window.everything(self.delivery));
        self.write(step).await
    }

    /// Checkpoints up to and including the record at `position` (see
    /// [`Record::position`](crate::Record::position)). For a record at or before the last checkpoint
    /// it does nothing, because that is stored: a batch that failed comes again from its first record,
    /// also where a checkpoint lies in the middle of it. (A KCL refuses such a position.)
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint); [`ErrorKind::InvalidInput`] when `position` is beyond
    /// the largest position delivered, or is not a record's.
    pub async fn checkpoint_at(&self, position: &Position) -> Result<(), Error> {
        let _turn = self.shared.writing.lock().await;
        let step = self.step_to(position)?;
        self.write(step).await
    }

    /// The furthest that [`checkpoint`](Self::checkpoint) goes now: the end of what is delivered and has
    /// not failed; where a later call than the one that was given this has a batch in hand, the end of
    /// the batch before. At least the last checkpoint. Not the end of the shard, also in `shard_ended`.
    ///
    /// For a processor that holds records for longer than a call: after a batch failed, its records may
    /// come again in smaller parts than they were taken in, and a checkpoint follows what is stored only
    /// as far as they are delivered, at `checkpointer.delivered().min(stored)`.
    pub fn delivered(&self) -> Position {
        self.with_window(|window| window.furthest(self.delivery).clone())
    }

    /// What a checkpoint at `position` has to write.
    fn step_to(&self, position: &Position) -> Result<Move, Error> {
        self.with_window(|window| window.up_to(position))
            .map_err(|out_of_bounds| {
                Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "the checkpoint of shard {} cannot be moved to {}: {out_of_bounds}",
                        self.shared.shard_id, position
                    ),
                )
            })
    }

    /// Writes one step; the caller holds the turn.
    async fn write(&self, step: Move) -> Result<(), Error> {
        match step {
            Move::Nothing => return Ok(()),
            Move::To(position) => {
                let stored = self.store(position).await?;
                self.with_window(|window| window.stored(stored));
            }
            Move::End(children) => {
                if let Store::Lease(lease) = &self.shared.store {
                    lease.upgrade()?.end_shard(&children).await?;
                }
                self.with_window(|window| window.stored(Position::ShardEnd));
            }
        }
        Ok(())
    }

    /// Stores a position; what the table holds then.
    async fn store(&self, position: Position) -> Result<Position, Error> {
        let Store::Lease(lease) = &self.shared.store else {
            return Ok(position);
        };
        let lease = lease.upgrade()?;
        match lease.checkpoint(&position).await {
            Ok(()) => Ok(position),
            // An earlier call that was dropped half-way was carried out after all, and went further.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                let stored = lease.lease().checkpoint;
                if stored >= position {
                    Ok(stored)
                } else {
                    Err(error)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// A batch that ends at `position` is being handed to the processor.
    pub(crate) fn deliver(&self, position: Position) {
        self.with_window(|window| window.deliver(position));
    }

    /// Up to where all was processed.
    pub(crate) fn settled(&self) -> Position {
        self.with_window(|window| window.furthest(NO_DELIVERY).clone())
    }

    /// Everything up to `position` was processed, of what is in hand.
    pub(crate) fn settle_to(&self, position: &Position) {
        self.with_window(|window| window.settle_to(position));
    }

    /// The batch in hand was processed.
    pub(crate) fn settle(&self) {
        self.with_window(Window::settle);
    }

    /// The batch in hand failed: it must not be checkpointed until it is delivered again.
    pub(crate) fn withdraw(&self) {
        self.with_window(Window::withdraw);
    }

    /// The shard has no more records: `checkpoint` now marks its end.
    pub(crate) fn end(&self, children: Vec<ChildShard>) {
        self.with_window(|window| window.end(children));
    }

    /// Whether the end of the shard is stored.
    pub(crate) fn has_ended(&self) -> bool {
        self.with_window(|window| *window.last() == Position::ShardEnd)
    }

    fn with_window<T>(&self, f: impl FnOnce(&mut Window) -> T) -> T {
        // The window has no invariant that a panic in these few lines could break.
        let mut window = self
            .shared
            .window
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        f(&mut window)
    }
}

impl fmt::Debug for Checkpointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointer")
            .field("shard_id", &self.shared.shard_id)
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
