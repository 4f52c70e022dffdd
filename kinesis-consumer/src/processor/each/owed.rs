//! What is owed to the lease table: it was processed, and is not checkpointed yet.

use std::time::Duration;

use kinesis_core::Position;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::checkpoint::Checkpointer;

/// Checkpoints the watermark of the call; where there is none, what the calls before it owe. A failure is
/// tried again with the next one; a lost lease shows there.
pub(super) async fn store(watermark: Option<Position>, checkpointer: Checkpointer) {
    let stored = match watermark {
        Some(position) if position > checkpointer.last() => {
            checkpointer.checkpoint_at(&position).await
        }
        Some(_) => return,
        None => checkpointer.of_settled().checkpoint().await,
    };
    if let Err(error) = stored {
        tracing::debug!(%error, "The watermark is not checkpointed now.");
    }
}

/// Whether [`store`] has something to write.
pub(super) fn is_owed(watermark: Option<&Position>, checkpointer: &Checkpointer) -> bool {
    let last = checkpointer.last();
    match watermark {
        Some(position) => *position > last,
        None => checkpointer.settled() > last,
    }
}

/// Checkpoints between two calls of the processor, until it is dropped.
pub(super) struct Late {
    stored_at: watch::Receiver<Option<Instant>>,
    _task: AbortOnDropHandle<()>,
}

impl Late {
    /// From `due` on, once per `interval`, if there is something new: dead letters behind a batch are
    /// stored without a call of the processor, and long after it where their destination is away.
    pub(super) fn at(due: Instant, interval: Duration, checkpointer: Checkpointer) -> Self {
        let (stored, stored_at) = watch::channel(None);
        let late = async move {
            let mut ticks = interval_at(due, interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let now = ticks.tick().await;
                if checkpointer.delivered() <= checkpointer.last() {
                    continue;
                }
                if let Err(error) = checkpointer.checkpoint().await {
                    tracing::debug!(%error, "What was processed is not checkpointed any more.");
                    return;
                }
                stored.send_replace(Some(now));
            }
        };
        Self {
            stored_at,
            _task: AbortOnDropHandle::new(tokio::spawn(late.in_current_span())),
        }
    }

    /// When it checkpointed last; `None` if it did not yet.
    pub(super) fn stored_at(&self) -> Option<Instant> {
        *self.stored_at.borrow()
    }
}
