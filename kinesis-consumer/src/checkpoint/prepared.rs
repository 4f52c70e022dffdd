//! Checkpoints in two phases.
//!
//! ```text
//! prepare(position, state) ─▶ row: checkpoint = old, pendingCheckpoint = position, state
//!        │ crash here: the next owner's `initialize` is given position and state
//!        ▼
//! commit() ─────────────────▶ row: checkpoint = position, nothing pending
//! ```
//!
//! For side effects that are made in two steps: write the result under a temporary name, prepare
//! with that name as state, make it visible, commit. Whoever starts at a row with something pending
//! knows what may have been left half-way.
//!
//! The rules and attributes are those of the KCL (`PreparedCheckpointer`), so that either may
//! find what the other prepared. Only the newest prepared checkpoint of a shard is stored; any
//! checkpoint of the shard, also an earlier position's, removes it.

use std::fmt;

use bytes::Bytes;
use kinesis_core::Position;

use super::{Checkpointer, Move, Store};
use crate::error::{Error, ErrorKind};

/// Most bytes of state in a prepared checkpoint. Every worker reads the whole row with each scan of
/// the lease table. Source: none, reasonable default; DynamoDB takes 400 KB per row.
const STATE_BYTES_MAX: usize = 64 * 1024;

/// A checkpoint that was prepared and not committed, as the lease table holds it.
///
/// `Debug` prints the size of the state only.
#[derive(Clone, Eq, PartialEq)]
#[non_exhaustive]
pub struct PendingCheckpoint {
    /// Where the checkpoint was to go.
    pub position: Position,
    /// The bytes given to [`Checkpointer::prepare`]; empty when none were.
    pub state: Bytes,
}

impl PendingCheckpoint {
    /// A prepared checkpoint as `initialize` is given it; for tests of processors.
    pub fn new(position: Position, state: impl Into<Bytes>) -> Self {
        Self {
            position,
            state: state.into(),
        }
    }
}

impl fmt::Debug for PendingCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCheckpoint")
            .field("position", &self.position)
            .field("state_bytes", &self.state.len())
            .finish()
    }
}

/// A checkpoint that is prepared: the lease table holds its position and state beside the checkpoint
/// that still counts.
///
/// Dropping it leaves it prepared.
#[derive(Clone, Debug)]
#[must_use = "a prepared checkpoint counts only once it is committed"]
pub struct PreparedCheckpoint {
    checkpointer: Checkpointer,
    position: Position,
}

impl PreparedCheckpoint {
    /// Where [`commit`](Self::commit) moves the checkpoint.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Moves the checkpoint to the prepared position and removes what was prepared. May be called
    /// again after an error.
    ///
    /// # Errors
    /// As [`Checkpointer::checkpoint_at`]: also [`ErrorKind::InvalidInput`] when the batch that holds
    /// the position has failed since. Where another checkpoint went further meanwhile, nothing is left
    /// to do.
    pub async fn commit(&self) -> Result<(), Error> {
        self.checkpointer.checkpoint_at(&self.position).await
    }
}

impl Checkpointer {
    /// Prepares a checkpoint at `position`: stores it beside the one that counts, with `state` (at
    /// most 64 KiB), for the next owner of the lease to find if this one does not come to
    /// [`commit`](PreparedCheckpoint::commit). It takes the place of one prepared before, and the
    /// next checkpoint of the shard removes it.
    ///
    /// At or before the last checkpoint there is nothing to prepare: nothing is stored, `state`
    /// neither, and `commit` does nothing. In `shard_ended` the position may be [`Position::ShardEnd`].
    ///
    /// # Errors
    /// As [`checkpoint_at`](Self::checkpoint_at); [`ErrorKind::InvalidInput`] when `state` is too
    /// large.
    ///
    /// # Cancel safety
    /// A call that is dropped half-way may or may not have been carried out.
    pub async fn prepare(
        &self,
        position: &Position,
        state: impl Into<Bytes>,
    ) -> Result<PreparedCheckpoint, Error> {
        let state = state.into();
        if state.len() > STATE_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the state of a prepared checkpoint must be at most {STATE_BYTES_MAX} bytes, not {} (shard {})",
                    state.len(),
                    self.shared.shard_id
                ),
            ));
        }
        let _turn = self.shared.writing.lock().await;
        let step = self.step_to(position)?;
        if step != Move::Nothing
            && let Store::Lease(lease) = &self.shared.store
        {
            let position = position.clone();
            let pending = PendingCheckpoint { position, state };
            lease.upgrade()?.prepare(pending).await?;
        }
        Ok(PreparedCheckpoint {
            checkpointer: self.clone(),
            position: position.clone(),
        })
    }
}
