//! One held lease: the handle for whoever works on the shard, and the task that does its writes.
//!
//! ```text
//!  HeldLease ──checkpoint, release──▶ task: one write at a time ──▶ row
//!     ▲                                 │  renew every 40 % of failover_time
//!     └── lost, handoff_requested ──────┘  fence when it cannot
//! ```
//!
//! All writes of one lease are made by its task, so renewals and checkpoints never race each other,
//! and a caller that stops polling its checkpoint delays nothing. A checkpoint is as good as a
//! renewal, and puts the next one off. Writes that fail are made again until the fence.
//!
//! The task ends when the lease is lost, released, or no handle is left (which releases it). `lost`
//! is cancelled in each case, and also when the task is dropped: after that nothing of this worker
//! may work on the shard. A process that stood still may go on with whoever works on it before this
//! task: so the instant of the fence is shared, and [`HeldLease::fenced`] looks at the clock itself.

mod meter;
mod task;

use std::collections::BTreeSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use kinesis_core::{Backoff, Clock, Position, Rand, ShardId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::item::Row;
use super::table::{LeaseTable, Outcome};
use super::{ChildShard, Lease};
use crate::checkpoint::PendingCheckpoint;
use crate::discover::Start;
use crate::error::{Error, ErrorKind};
use crate::stream::Source;

pub(super) use task::{Ending, HeldTask};

/// Requests to one lease's task that may wait. Source: none; checkpoints of one shard come one
/// after the other, and one release.
const COMMANDS_MAX: usize = 4;

/// Pauses between attempts of a write, on top of the SDK's own. Source: none, reasonable default.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Attempts of handing a shard down, before its caller is told. Source: none, reasonable default.
const ATTEMPTS_MAX: usize = 8;

/// One lease that this worker holds. Cheap to clone. Renewed by its own task, whatever the processor
/// does. When the last clone is dropped the lease is released.
#[derive(Clone)]
pub(crate) struct HeldLease {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

/// What handles and task share.
#[derive(Debug)]
struct Shared {
    /// The key of the lease.
    key: ShardId,
    /// The shard itself.
    shard_id: ShardId,
    me: String,
    source: Arc<Source>,
    table: Arc<dyn LeaseTable>,
    rand: Rand,
    row: Mutex<Lease>,
    clock: Clock,
    /// From when on nobody here may work on the shard, as far as it is known.
    fence_at: Mutex<Instant>,
    /// Somebody found that instant to be over before the task did.
    overdue: CancellationToken,
    /// Bytes that were delivered since they were last counted.
    delivered: AtomicU64,
    lost: CancellationToken,
    handoff: CancellationToken,
    /// Held while the processor is in a call.
    #[cfg(feature = "mutations")]
    processor: tokio::sync::Mutex<()>,
}

enum Command {
    Checkpoint {
        position: Position,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Prepare {
        pending: PendingCheckpoint,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Release {
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { position, .. } => write!(f, "Checkpoint({position})"),
            Self::Prepare { pending, .. } => write!(f, "Prepare({})", pending.position),
            Self::Release { .. } => f.write_str("Release"),
        }
    }
}

impl HeldLease {
    /// The shard, without its stream.
    pub(crate) fn shard_id(&self) -> &ShardId {
        &self.shared.shard_id
    }

    /// The stream of the shard.
    pub(crate) fn source(&self) -> &Arc<Source> {
        &self.shared.source
    }

    /// What all work on the shard is logged in.
    pub(crate) fn span(&self) -> tracing::Span {
        let Shared {
            source, shard_id, ..
        } = &*self.shared;
        tracing::info_span!("shard", stream = &*source.label(), shard = %shard_id)
    }

    /// The row as last written or read.
    pub(crate) fn lease(&self) -> Lease {
        self.shared.row()
    }

    /// Cancelled when this worker must not work on the shard any more: a write was refused, the
    /// lease could not be renewed in time, or it was released.
    pub(crate) fn lost(&self) -> &CancellationToken {
        &self.shared.lost
    }

    /// Returns when [`Self::lost`] is cancelled, or the time of the lease is over: each poll compares it
    /// with the clock, so whoever polls this before its work enters none too late, however long the
    /// process stood still and whichever of its tasks goes on first.
    pub(crate) async fn fenced(&self) {
        let shared = &self.shared;
        let mut lost = pin!(shared.lost.cancelled());
        poll_fn(|context| {
            if !shared.lost.is_cancelled() && shared.clock.now() >= *shared.fence_at() {
                shared.overdue.cancel();
                shared.lost.cancel();
                return Poll::Ready(());
            }
            lost.as_mut().poll(context)
        })
        .await;
    }

    /// Cancelled when another worker is to take over: drain, checkpoint, release. The lease is lost
    /// `handoff_timeout` later.
    pub(crate) fn handoff_requested(&self) -> &CancellationToken {
        &self.shared.handoff
    }

    /// Until it is dropped the processor is in a call.
    #[cfg(feature = "mutations")]
    pub(crate) async fn occupy(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.processor.lock().await
    }

    /// Counts data that was delivered, for the throughput in the row.
    pub(crate) fn delivered(&self, bytes: u64) {
        self.shared.delivered.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Moves the checkpoint, forwards only; at the present position it does nothing. Failures
    /// are tried again until the lease is lost.
    ///
    /// # Errors
    /// `LeaseLost` when it is; `InvalidInput` when `position` lies before the checkpoint, or the
    /// service finds the request to be wrong.
    ///
    /// # Cancel safety
    /// A call that is dropped may still be carried out.
    pub(crate) async fn checkpoint(&self, position: &Position) -> Result<(), Error> {
        let position = position.clone();
        self.ask(|reply| Command::Checkpoint { position, reply })
            .await
    }

    /// Notes a checkpoint that is to be made later. The next checkpoint removes it; at or behind the
    /// present one nothing is noted.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    ///
    /// # Cancel safety
    /// A call that is dropped may still be carried out.
    pub(crate) async fn prepare(&self, pending: PendingCheckpoint) -> Result<(), Error> {
        self.ask(|reply| Command::Prepare { pending, reply }).await
    }

    /// Marks the shard as finished: creates the leases of `children`, notes them on the row, then
    /// checkpoints `SHARD_END`. May be called again after an error.
    ///
    /// # Errors
    /// As [`Self::checkpoint`]; `Throttled` or `Unavailable` when the children's leases could not be
    /// created in eight attempts.
    pub(crate) async fn end_shard(&self, children: &[ChildShard]) -> Result<(), Error> {
        let shared = &self.shared;
        if children.is_empty() {
            tracing::warn!(
                shard = %shared.key,
                "the shard ends without children; the next shard sync looks for them"
            );
        } else {
            tokio::select! {
                biased;
                () = shared.lost.cancelled() => return Err(shared.lease_lost()),
                done = shared.hand_down(children) => done?,
            }
        }
        self.checkpoint(&Position::ShardEnd).await
    }

    /// Gives the lease away at once: to the worker that waits for it, or to whoever takes it. Fences
    /// all clones first. The lease counts as given away even if it was lost before.
    ///
    /// # Errors
    /// When the row could not be written; others take the lease after `failover_time`.
    pub(crate) async fn release(&self) -> Result<(), Error> {
        self.shared.lost.cancel();
        let (reply, answer) = oneshot::channel();
        if self
            .commands
            .send(Command::Release { reply })
            .await
            .is_err()
        {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Command,
    ) -> Result<(), Error> {
        if self.shared.lost.is_cancelled() {
            return Err(self.shared.lease_lost());
        }
        let (reply, answer) = oneshot::channel();
        if self.commands.send(command(reply)).await.is_err() {
            return Err(self.shared.lease_lost());
        }
        answer
            .await
            .unwrap_or_else(|_| Err(self.shared.lease_lost()))
    }

    /// A handle that does not count as one: for what may outlive the work on the shard.
    pub(crate) fn downgrade(&self) -> WeakLease {
        WeakLease {
            shared: Arc::clone(&self.shared),
            commands: self.commands.downgrade(),
        }
    }

    /// Something that tells whether any handle is still there.
    pub(super) fn trace(&self) -> Trace {
        Trace {
            handles: self.commands.downgrade(),
            shared: Arc::downgrade(&self.shared),
        }
    }
}

impl fmt::Debug for HeldLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldLease")
            .field("shard_id", &self.shared.key)
            .field("lost", &self.shared.lost.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// A handle that neither keeps the lease from being released nor counts as work on the shard.
#[derive(Clone)]
pub(crate) struct WeakLease {
    shared: Arc<Shared>,
    commands: mpsc::WeakSender<Command>,
}

impl WeakLease {
    /// A handle, for one request.
    ///
    /// # Errors
    /// `LeaseLost` when nobody has one any more.
    pub(crate) fn upgrade(&self) -> Result<HeldLease, Error> {
        let commands = self.commands.upgrade();
        let commands = commands.ok_or_else(|| self.shared.lease_lost())?;
        Ok(HeldLease {
            shared: Arc::clone(&self.shared),
            commands,
        })
    }
}

/// What the keeper remembers of a lease without keeping it.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    handles: mpsc::WeakSender<Command>,
    shared: Weak<Shared>,
}

impl Trace {
    /// The row, as long as the task or a handle is there.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.shared.upgrade().map(|shared| shared.row())
    }

    /// Whether somebody still has a handle.
    pub(super) fn is_in_use(&self) -> bool {
        self.handles.upgrade().is_some()
    }
}

impl Shared {
    fn row(&self) -> Lease {
        // A row is replaced whole, so a panic elsewhere cannot leave half of one.
        self.row
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn fence_at(&self) -> MutexGuard<'_, Instant> {
        self.fence_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease_lost(&self) -> Error {
        Error::new(
            ErrorKind::LeaseLost,
            format!(
                "worker {} does not hold the lease of shard {} any more; stop working on it",
                self.me, self.key
            ),
        )
    }

    /// Creates a child's lease, unless the other parent of a merged shard has no row yet: then that
    /// parent's end creates it (see `discover::plan`). It cannot have been there and gone, since a
    /// finished row goes only after the rows of its children are there.
    async fn create_child(&self, child: &ChildShard) -> Result<(), Error> {
        let mut parents = vec![self.row()];
        for parent in child.parents.iter().filter(|parent| **parent != self.key) {
            match self.table.get(parent).await? {
                Some(Row::Lease(row)) => parents.push(*row),
                // Nothing is known of where it was read to.
                Some(_) => parents.push(Lease::new(parent.clone(), Position::TrimHorizon)),
                None => {
                    tracing::info!(child = %child.id, %parent, "the shard's lease comes from its other parent");
                    return Ok(());
                }
            }
        }
        let start = Start::of_child(&parents, self.source.initial);
        self.table.create(&child.lease(start)).await?;
        Ok(())
    }

    /// Creates the children's leases, then notes them on the row.
    async fn hand_down(&self, children: &[ChildShard]) -> Result<(), Error> {
        let keyed = children.iter().map(|child| self.source.keyed_child(child));
        let children: Vec<ChildShard> = keyed.collect();
        let ids: BTreeSet<ShardId> = children.iter().map(|child| child.id.clone()).collect();
        let attempt = || async {
            for child in &children {
                self.create_child(child).await?;
            }
            match self.table.put_children(&self.key, &ids, &self.me).await? {
                Outcome::Done(_) => Ok(()),
                Outcome::Refused(_) => Err(self.lease_lost()),
            }
        };
        let pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_jitter_seed(self.rand.next_u64())
            .with_min_delay(RETRY.ceiling(0))
            .with_max_delay(RETRY.ceiling(u32::MAX))
            .with_max_times(ATTEMPTS_MAX);
        attempt
            .retry(pauses)
            .sleep(tokio::time::sleep)
            .when(|error: &Error| error.kind().is_retryable())
            .await
    }
}

#[cfg(test)]
impl HeldLease {
    /// A lease that was just taken, what keeps it, and for how long others leave it alone.
    pub(crate) fn of_a_test() -> (Self, impl Future<Output = ()>, Duration) {
        use super::layout::TableNames;

        let settings = super::LeaseSettings::default();
        let (clock, rand) = (Clock::system(), Rand::seeded(1));
        let source = Source {
            id: None,
            address: "orders".into(),
            initial: crate::settings::InitialPosition::TrimHorizon,
            consumer_arn: None,
            stop: CancellationToken::new(),
            events: crate::events::Announcer::default(),
            doubted: std::sync::atomic::AtomicBool::new(false),
        };
        let tenure = super::tenure::Tenure::new(
            "a",
            "a/process/take",
            Lease::new(ShardId::from_index(0), Position::TrimHorizon),
            super::tenure::Timing::of(&settings),
            clock.now(),
        );
        let store = super::LeaseStore::in_memory();
        let (lease, task) = HeldTask::new(
            &crate::lease::gauges::Labels::new("billing", "a"),
            tenure,
            store.table(
                &TableNames::of("billing"),
                settings.failover_time,
                rand.fork(),
            ),
            Arc::new(source),
            CancellationToken::new(),
            clock,
            rand,
        );
        let kept = async {
            task.run().await;
        };
        (lease, kept, settings.failover_time)
    }
}
