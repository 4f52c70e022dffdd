//! One held lease: the handle for whoever works on the shard, and the task that does its writes.
//!
//! ```text
//!  HeldLease ──checkpoint, release──▶ task: one write at a time ──▶ row
//!     ▲                                 │  renew every failover/3
//!     └── lost, handoff_requested ──────┘  fence when it cannot
//! ```
//!
//! All writes of one lease are made by its task, so renewals and checkpoints never race each other,
//! and a caller that stops polling its checkpoint delays nothing. A checkpoint is as good as a
//! renewal, and puts the next one off. Writes that fail are made again until the fence.
//!
//! The task ends when the lease is lost, released, or no handle is left (which releases it). `lost`
//! is cancelled in each case, and also when the task is dropped: after that nothing of this worker
//! may work on the shard.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use kinesis_core::{Backoff, Clock, Position, Rand, ShardId};
use metrics::counter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::metrics as names;
use super::table::{LeaseTable, Outcome};
use super::tenure::{Loss, Tenure, Verdict};
use super::write::Write;
use super::{ChildShard, Lease};
use crate::error::{Error, ErrorKind};

/// Requests to one lease's task that may wait. Source: none; checkpoints of one shard come one
/// after the other, and one release.
const COMMANDS_MAX: usize = 4;

/// Pauses between attempts of a write, on top of the SDK's own. Source: none, reasonable default.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Refusals in a row that leave the lease ours, after which something is wrong.
/// Source: none; two can happen (a lost answer, then a handoff).
const REFUSALS_MAX: u32 = 8;

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
    shard_id: ShardId,
    me: String,
    /// Where the leases of the shard's children start.
    descendants: Position,
    table: LeaseTable,
    rand: Rand,
    row: Mutex<Lease>,
    lost: CancellationToken,
    handoff: CancellationToken,
}

enum Command {
    Checkpoint {
        position: Position,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    Release {
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

impl HeldLease {
    pub(crate) fn shard_id(&self) -> &ShardId {
        &self.shared.shard_id
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

    /// Cancelled when another worker is to take over: drain, checkpoint, release. The lease is lost
    /// `handoff_timeout` later.
    pub(crate) fn handoff_requested(&self) -> &CancellationToken {
        &self.shared.handoff
    }

    /// Moves the checkpoint, forwards only; at the present position it does nothing. Transient
    /// failures are tried again until the lease is lost.
    ///
    /// # Errors
    /// `LeaseLost` when it is; `InvalidInput` when `position` lies before the checkpoint; `Denied`,
    /// `NotFound` or the like when the table cannot be written for good.
    ///
    /// # Cancel safety
    /// A call that is dropped may still be carried out.
    pub(crate) async fn checkpoint(&self, position: &Position) -> Result<(), Error> {
        let position = position.clone();
        self.ask(|reply| Command::Checkpoint { position, reply })
            .await
    }

    /// Marks the shard as finished: creates the leases of `children`, notes them on the row, then
    /// checkpoints `SHARD_END`. May be called again after an error.
    ///
    /// # Errors
    /// As [`Self::checkpoint`]; `Throttled` or `Unavailable` when the children's leases could not be
    /// created for `failover_time`.
    pub(crate) async fn end_shard(&self, children: &[ChildShard]) -> Result<(), Error> {
        let shared = &self.shared;
        if children.is_empty() {
            tracing::warn!(
                shard = %shared.shard_id,
                "the shard ends without children; the next shard sync looks for them"
            );
        } else {
            tokio::select! {
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
            .field("shard_id", &self.shared.shard_id)
            .field("lost", &self.shared.lost.is_cancelled())
            .finish_non_exhaustive()
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

    fn lease_lost(&self) -> Error {
        Error::new(
            ErrorKind::LeaseLost,
            format!(
                "worker {} does not hold the lease of shard {} any more; stop working on it",
                self.me, self.shard_id
            ),
        )
    }

    /// Creates a child's lease, unless the other parent of a merged shard has no row yet: then that
    /// parent's end creates it (see `discover::plan`). It cannot have been there and gone, since a
    /// finished row goes only after the rows of its children are there.
    async fn create_child(&self, child: &ChildShard) -> Result<(), Error> {
        for parent in child
            .parents
            .iter()
            .filter(|parent| **parent != self.shard_id)
        {
            if self.table.get(parent).await?.is_none() {
                tracing::info!(child = %child.id, %parent, "the shard's lease comes from its other parent");
                return Ok(());
            }
        }
        self.table
            .create(&child.lease(self.descendants.clone()))
            .await?;
        Ok(())
    }

    /// Creates the children's leases, then notes them on the row.
    async fn hand_down(&self, children: &[ChildShard]) -> Result<(), Error> {
        let ids: BTreeSet<ShardId> = children.iter().map(|child| child.id.clone()).collect();
        let attempt = || async {
            for child in children {
                self.create_child(child).await?;
            }
            match self
                .table
                .put_children(&self.shard_id, &ids, &self.me)
                .await?
            {
                Outcome::Done(_) => Ok(()),
                Outcome::Refused(_) => Err(self.lease_lost()),
            }
        };
        let pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_jitter_seed(self.rand.next_u64())
            .with_min_delay(RETRY.ceiling(0))
            .with_max_delay(RETRY.ceiling(u32::MAX))
            .with_max_times(REFUSALS_MAX as usize);
        attempt
            .retry(pauses)
            .sleep(tokio::time::sleep)
            .when(|error: &Error| error.kind().is_retryable())
            .await
    }
}

/// How a tenure ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    Released,
    Lost(Loss),
}

/// The task that does all writes of one lease.
#[derive(Debug)]
pub(super) struct HeldTask {
    shared: Arc<Shared>,
    tenure: Tenure,
    commands: mpsc::Receiver<Command>,
    /// Give the lease away now, whoever still uses it.
    abandon: CancellationToken,
    clock: Clock,
    _fence: DropGuard,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { position, .. } => write!(f, "Checkpoint({position})"),
            Self::Release { .. } => f.write_str("Release"),
        }
    }
}

/// Why a write was not made.
enum Failure {
    Lost(Loss),
    Error(Error),
}

/// What the task does next.
enum Turn {
    Abandon,
    Timer,
    Command(Option<Command>),
}

impl HeldTask {
    /// The handle and the task of a lease that was just taken.
    pub(super) fn new(
        me: &str,
        tenure: Tenure,
        table: LeaseTable,
        descendants: Position,
        abandon: CancellationToken,
        clock: Clock,
        rand: Rand,
    ) -> (HeldLease, Self) {
        let lost = CancellationToken::new();
        let shared = Arc::new(Shared {
            shard_id: tenure.lease().shard_id.clone(),
            me: me.to_owned(),
            descendants,
            table,
            rand,
            row: Mutex::new(tenure.lease().clone()),
            lost: lost.clone(),
            handoff: CancellationToken::new(),
        });
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let handle = HeldLease {
            shared: Arc::clone(&shared),
            commands: sender,
        };
        let fence = lost.drop_guard();
        (
            handle,
            Self {
                shared,
                tenure,
                commands,
                abandon,
                clock,
                _fence: fence,
            },
        )
    }

    /// Holds the lease until it is lost or given away.
    pub(super) async fn run(mut self) -> (ShardId, Ending) {
        let ending = loop {
            let wake = self.tenure.renew_at().min(self.tenure.fence_at());
            // The timer comes before commands: no flood of them puts a renewal off.
            let turn = tokio::select! {
                biased;
                () = self.abandon.cancelled() => Turn::Abandon,
                () = sleep_until(wake) => Turn::Timer,
                command = self.commands.recv() => Turn::Command(command),
            };
            let lost = match turn {
                Turn::Timer => self.renew().await.err(),
                Turn::Command(Some(Command::Checkpoint { position, reply })) => {
                    self.answer_checkpoint(&position, reply).await.err()
                }
                Turn::Command(Some(Command::Release { reply })) => {
                    let released = self.give_up().await;
                    // Whoever asked may have gone; the lease is given away all the same.
                    drop(reply.send(released));
                    break Ending::Released;
                }
                Turn::Command(None) | Turn::Abandon => {
                    if let Err(error) = self.give_up().await {
                        tracing::warn!(shard = %self.shared.shard_id, "not released: {error}");
                    }
                    break Ending::Released;
                }
            };
            if let Some(loss) = lost {
                break Ending::Lost(loss);
            }
        };
        self.shared.lost.cancel();
        match ending {
            Ending::Released => counter!(names::LEASES_RELEASED).increment(1),
            Ending::Lost(loss) => {
                counter!(names::LEASES_LOST).increment(1);
                let shard = &self.shared.shard_id;
                tracing::warn!(%shard, "lost the lease: {}", loss.text());
            }
        }
        (self.shared.shard_id.clone(), ending)
    }

    /// Renews, again and again until it is done or the lease is lost.
    async fn renew(&mut self) -> Result<(), Loss> {
        let before = self.tenure.lease().counter;
        let mut attempt = 0;
        loop {
            let renewed = self
                .write(
                    |tenure, me| Write::renew(tenure.lease(), me, tenure.acquisition()),
                    |row| row.counter > before,
                )
                .await;
            match renewed {
                Ok(()) => {
                    counter!(names::RENEWALS).increment(1);
                    return Ok(());
                }
                Err(Failure::Lost(loss)) => return Err(loss),
                // Even an error that looks final may be put right in time.
                Err(Failure::Error(error)) => self.pause(&mut attempt, &error).await,
            }
        }
    }

    async fn answer_checkpoint(
        &mut self,
        position: &Position,
        reply: oneshot::Sender<Result<(), Error>>,
    ) -> Result<(), Loss> {
        let (answer, lost) = match self.checkpoint(position).await {
            Ok(()) => (Ok(()), Ok(())),
            Err(Failure::Error(error)) => (Err(error), Ok(())),
            Err(Failure::Lost(loss)) => {
                // Fenced before the caller goes on.
                self.shared.lost.cancel();
                (Err(self.shared.lease_lost()), Err(loss))
            }
        };
        // Whoever asked may have gone; the checkpoint is stored all the same.
        drop(reply.send(answer));
        lost
    }

    async fn checkpoint(&mut self, position: &Position) -> Result<(), Failure> {
        let stored = &self.tenure.lease().checkpoint;
        if position == stored {
            return Ok(());
        }
        if position < stored {
            return Err(Failure::Error(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the checkpoint of shard {} is at {stored} and does not go back to {position}",
                    self.shared.shard_id
                ),
            )));
        }
        let mut attempt = 0;
        loop {
            let written = self
                .write(
                    |tenure, me| {
                        Write::checkpoint(tenure.lease(), me, tenure.acquisition(), position)
                    },
                    |row| row.checkpoint == *position,
                )
                .await;
            match written {
                Ok(()) => {
                    counter!(names::CHECKPOINTS).increment(1);
                    return Ok(());
                }
                Err(Failure::Error(error)) if error.kind().is_retryable() => {
                    self.pause(&mut attempt, &error).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Fences the handles and gives the lease away.
    async fn give_up(&mut self) -> Result<(), Error> {
        self.shared.lost.cancel();
        let me = self.shared.me.clone();
        let mut attempt = 0;
        loop {
            let given = self
                .write(
                    |tenure, _| Write::give_up(tenure.lease()),
                    |row| row.holder() != Some(&me),
                )
                .await;
            match given {
                // A lease that is not ours any more is as good as given away.
                Ok(()) | Err(Failure::Lost(Loss::Taken | Loss::Gone)) => return Ok(()),
                Err(Failure::Lost(Loss::NotRenewed | Loss::HandoffOverdue)) => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!(
                            "the lease of shard {} could not be given away in time; others take it \
                             by themselves when it expires",
                            self.shared.shard_id
                        ),
                    ));
                }
                Err(Failure::Error(error)) if error.kind().is_retryable() => {
                    self.pause(&mut attempt, &error).await;
                }
                Err(Failure::Error(error)) => return Err(error),
            }
        }
    }

    /// One write, whose outcome is settled: made (now, or by an attempt whose answer was lost),
    /// impossible, or failed for a reason that may pass.
    async fn write(
        &mut self,
        make: impl Fn(&Tenure, &str) -> Write,
        is_made: impl Fn(&Lease) -> bool,
    ) -> Result<(), Failure> {
        for _ in 0..REFUSALS_MAX {
            let sent = self.clock.now();
            let fence = self.tenure.fence_at();
            if sent >= fence {
                return Err(Failure::Lost(self.tenure.loss_at_fence()));
            }
            self.tenure.sending(sent);
            let write = make(&self.tenure, &self.shared.me);
            let table = &self.shared.table;
            let Ok(outcome) = timeout_at(fence, table.write(&write)).await else {
                return Err(Failure::Lost(self.tenure.loss_at_fence()));
            };
            match outcome.map_err(Failure::Error)? {
                Outcome::Done(row) => {
                    self.tenure.written(row, sent, self.clock.now());
                    self.publish();
                    return Ok(());
                }
                Outcome::Refused(row) => {
                    match self.tenure.refused(row, self.clock.now()) {
                        Verdict::Lost(loss) => return Err(Failure::Lost(loss)),
                        Verdict::Retry => self.publish(),
                    }
                    if is_made(self.tenure.lease()) {
                        return Ok(());
                    }
                }
            }
        }
        Err(Failure::Error(Error::new(
            ErrorKind::Unavailable,
            format!("the row of lease {} keeps changing", self.shared.shard_id),
        )))
    }

    /// Waits before another attempt, at most until the fence.
    async fn pause(&self, attempt: &mut u32, error: &Error) {
        counter!(names::RENEWAL_RETRIES).increment(1);
        tracing::warn!(shard = %self.shared.shard_id, attempt, "a write of the lease failed: {error}");
        let pause = RETRY.delay(*attempt, &self.shared.rand);
        *attempt = attempt.saturating_add(1);
        let until: Instant = (self.clock.now() + pause).min(self.tenure.fence_at());
        sleep_until(until).await;
    }

    fn publish(&self) {
        let mut row = self
            .shared
            .row
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *row = self.tenure.lease().clone();
        drop(row);
        if self.tenure.handoff_requested() && !self.shared.handoff.is_cancelled() {
            tracing::info!(shard = %self.shared.shard_id, "another worker is to take the lease over");
            self.shared.handoff.cancel();
        }
    }
}
