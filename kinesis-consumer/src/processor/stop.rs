//! How a processor learns that its time is limited, before its future is dropped.

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Tells the calls of a processor by when they have to return.
///
/// A call whose deadline passes is dropped at its next await point, and so is every call when the
/// lease is lost. Work that takes long can look here and stop at a good place: store what it has,
/// checkpoint up to there, and return. Cheap to clone; may be taken into tasks and threads of the
/// processor's own.
///
/// ```
/// # use kinesis_consumer::*;
/// # async fn handle(_: &Record) -> Result<(), ProcessorError> { Ok(()) }
/// # async fn process_records(input: ProcessRecordsInput) -> Result<(), ProcessorError> {
/// for record in input.records.iter() {
///     if input.stop.is_requested() {
///         return Err(ProcessorError::retry("stopped in the middle"));
///     }
///     handle(record).await?;
///     input.checkpointer.checkpoint_at(&record.position()).await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// A call that returns early has to return an error, as here: `Ok` says that the whole batch is done,
/// and a later checkpoint would pass it. Once a stop is requested an error leads to no retry and to
/// no dead letter: `shutdown_requested` comes next, and what was not checkpointed goes to the next
/// owner.
#[derive(Clone, Debug)]
pub struct StopSignal {
    deadline: watch::Receiver<Option<Instant>>,
    lost: CancellationToken,
}

impl StopSignal {
    /// A signal that is never given; for tests of processors.
    pub fn never() -> Self {
        StopSender::new(CancellationToken::new()).signal()
    }

    /// A signal that was given: the call has until `deadline`; for tests of processors.
    pub fn requested_until(deadline: Instant) -> Self {
        let mut sender = StopSender::new(CancellationToken::new());
        sender.set(Some(deadline));
        sender.signal()
    }

    /// Whether the worker stops, or the lease is to be handed over.
    pub fn is_requested(&self) -> bool {
        self.deadline().is_some() || self.is_lease_lost()
    }

    /// When the present call is dropped, on tokio's clock; `None` as long as nobody asked to stop.
    /// `shutdown_requested`, which comes after it, has a later one.
    pub fn deadline(&self) -> Option<Instant> {
        *self.deadline.borrow()
    }

    /// Whether the lease is lost: another worker may process the shard by now.
    pub fn is_lease_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until a stop is requested or the lease is lost. Never returns before. Cancel safe.
    pub async fn requested(&self) {
        let mut deadline = self.deadline.clone();
        let set = async {
            let gone = deadline.wait_for(Option::is_some).await.is_err();
            if gone {
                // The shard's task is gone, and its lease with it: that cancels `lost`.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = self.lost.cancelled() => {}
            () = set => {}
        }
    }
}

/// The shard's task's end of it.
#[derive(Debug)]
pub(crate) struct StopSender {
    deadline: watch::Sender<Option<Instant>>,
    lost: CancellationToken,
}

impl StopSender {
    pub(crate) fn new(lost: CancellationToken) -> Self {
        Self {
            deadline: watch::Sender::new(None),
            lost,
        }
    }

    pub(crate) fn signal(&self) -> StopSignal {
        StopSignal {
            deadline: self.deadline.subscribe(),
            lost: self.lost.clone(),
        }
    }

    pub(crate) fn set(&mut self, deadline: Option<Instant>) {
        self.deadline.send_if_modified(|known| {
            let changed = *known != deadline;
            *known = deadline;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_is_seen_with_its_deadline_and_a_lost_lease_without() {
        let lost = CancellationToken::new();
        let mut sender = StopSender::new(lost.clone());
        let signal = sender.signal();
        assert!(!signal.is_requested());
        assert_eq!(signal.requested().now_or_never(), None);
        let deadline = kinesis_core::Clock::default().now() + Duration::from_secs(20);
        sender.set(Some(deadline));
        signal.requested().await;
        assert_eq!(signal.deadline(), Some(deadline));

        sender.set(None);
        drop(sender);
        assert_eq!(signal.requested().now_or_never(), None);
        lost.cancel();
        signal.requested().await;
        assert!(signal.is_requested() && signal.is_lease_lost());
        assert_eq!(signal.deadline(), None);
    }
}
