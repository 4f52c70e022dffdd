//! The task that does all writes of one lease.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinesis_core::{Clock, Position, Rand};
use metrics::{counter, gauge, histogram};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::meter::Meter;
use super::{COMMANDS_MAX, Command, HeldLease, RETRY, Shared};
use crate::checkpoint::PendingCheckpoint;
use crate::error::{Error, ErrorKind};
use crate::events::EventKind;
use crate::lease::Lease;
use crate::lease::gauges::Labels;
use crate::lease::metrics as names;
use crate::lease::table::{LeaseTable, Outcome};
use crate::lease::tenure::{Loss, Tenure, Verdict};
use crate::lease::write::Write;
use crate::metrics as consumer_names;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::stream::{Source, StreamId};

/// Refusals in a row that leave the lease ours, after which something is wrong.
/// Source: none; two can happen (a lost answer, then a handoff).
const REFUSALS_MAX: u32 = 8;

/// How a tenure ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::lease) enum Ending {
    Released,
    /// Released to the worker that waited for it, or, where that left, kept for this one
    /// if it goes on.
    HandedOver,
    Lost(Loss),
}

/// The task that does all writes of one lease.
#[derive(Debug)]
pub(in crate::lease) struct HeldTask {
    shared: Arc<Shared>,
    tenure: Tenure,
    meter: Meter,
    commands: mpsc::Receiver<Command>,
    /// Give the lease away now, whoever still uses it.
    abandon: CancellationToken,
    clock: Clock,
    /// Since when the lease is held, or its checkpoint last moved.
    checkpointed_at: Instant,
    /// When another worker asked for the lease.
    asked_at: Option<Instant>,
    /// Whether the gauge has the age of its checkpoint.
    is_age_told: bool,
    /// Whose gauge it is.
    application: Arc<str>,
    _fence: DropGuard,
}

impl Drop for HeldTask {
    /// A lease that is not held here any more has no age.
    fn drop(&mut self) {
        if self.is_age_told {
            self.tell_checkpoint_age(Duration::ZERO);
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
    /// The lease was over before this task noticed.
    Overdue,
    Timer,
    Command(Option<Command>),
}

impl HeldTask {
    /// The handle and the task of a lease that was just taken.
    pub(in crate::lease) fn new(
        labels: &Labels,
        tenure: Tenure,
        table: Arc<dyn LeaseTable>,
        source: Arc<Source>,
        abandon: CancellationToken,
        clock: Clock,
        rand: Rand,
    ) -> (HeldLease, Self) {
        let lost = CancellationToken::new();
        let shared = Arc::new(Shared {
            key: tenure.lease().shard_id.clone(),
            shard_id: StreamId::shard_of_key(&tenure.lease().shard_id),
            me: labels.worker.to_string(),
            source,
            table,
            rand,
            row: Mutex::new(tenure.lease().clone()),
            clock: clock.clone(),
            fence_at: Mutex::new(tenure.fence_at()),
            overdue: CancellationToken::new(),
            delivered: AtomicU64::new(0),
            lost: lost.clone(),
            handoff: CancellationToken::new(),
            #[cfg(feature = "mutations")]
            processor: tokio::sync::Mutex::default(),
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
                meter: Meter::new(tenure.lease().throughput, clock.now()),
                tenure,
                commands,
                abandon,
                checkpointed_at: clock.now(),
                asked_at: None,
                is_age_told: false,
                application: Arc::clone(&labels.application),
                clock,
                _fence: fence,
            },
        )
    }

    /// Holds the lease until it is lost or given away.
    pub(in crate::lease) async fn run(mut self) -> Ending {
        let ending = loop {
            let wake = self.tenure.renew_at().min(self.tenure.fence_at());
            // The timer comes before commands: no flood of them puts a renewal off.
            let turn = tokio::select! {
                biased;
                () = self.abandon.cancelled() => Turn::Abandon,
                () = self.shared.overdue.cancelled() => Turn::Overdue,
                () = sleep_until(wake) => Turn::Timer,
                command = self.commands.recv() => Turn::Command(command),
            };
            let lost = match turn {
                Turn::Overdue => Some(self.tenure.loss_at_fence()),
                Turn::Timer => self.renew().await.err(),
                Turn::Command(Some(Command::Checkpoint { position, reply })) => {
                    let done = self.checkpoint(&position).await;
                    self.answer(done, reply).err()
                }
                Turn::Command(Some(Command::Prepare { pending, reply })) => {
                    let done = self.prepare(&pending).await;
                    self.answer(done, reply).err()
                }
                Turn::Command(Some(Command::Release { reply })) => {
                    let released = self.give_up().await;
                    let ending = self.released(&released);
                    // Whoever asked may have gone; the lease is given away all the same.
                    drop(reply.send(released));
                    break ending;
                }
                Turn::Command(None) | Turn::Abandon => {
                    let released = self.give_up().await;
                    if let Err(error) = &released {
                        tracing::warn!(shard = %self.shared.key, "not released: {error}");
                    }
                    break self.released(&released);
                }
            };
            if let Some(loss) = lost {
                break Ending::Lost(loss);
            }
        };
        self.shared.lost.cancel();
        match ending {
            Ending::Released | Ending::HandedOver => {
                counter!(names::LEASES_RELEASED).increment(1);
                if let Some(asked_at) = self.asked_at {
                    let took = self.clock.now().duration_since(asked_at);
                    histogram!(consumer_names::HANDOFF_SECONDS).record(took.as_secs_f64());
                }
            }
            Ending::Lost(loss) => {
                counter!(names::LEASES_LOST).increment(1);
                let shard = &self.shared.key;
                tracing::warn!(%shard, "lost the lease: {}", loss.text());
            }
        }
        ending
    }

    /// A lease that could not be given away expires, as one that was lost.
    fn released(&self, given_up: &Result<(), Error>) -> Ending {
        if given_up.is_err() {
            Ending::Lost(Loss::NotRenewed)
        } else if self.tenure.handoff_requested() {
            Ending::HandedOver
        } else {
            Ending::Released
        }
    }

    /// Renews, again and again until it is done or the lease is lost.
    async fn renew(&mut self) -> Result<(), Loss> {
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::RenewalWaitsForProcessor) {
            let idle = self.shared.processor.lock();
            drop(timeout_at(self.tenure.fence_at(), idle).await);
        }
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
                    self.measure_checkpoint_age();
                    return Ok(());
                }
                Err(Failure::Lost(loss)) => return Err(loss),
                // Even an error that looks final may be put right in time.
                Err(Failure::Error(error)) => self.pause(&mut attempt, &error).await,
            }
        }
    }

    fn answer(
        &mut self,
        done: Result<(), Failure>,
        reply: oneshot::Sender<Result<(), Error>>,
    ) -> Result<(), Loss> {
        let (answer, lost) = match done {
            Ok(()) => (Ok(()), Ok(())),
            Err(Failure::Error(error)) => (Err(error), Ok(())),
            Err(Failure::Lost(loss)) => {
                // Fenced before the caller goes on.
                self.shared.lost.cancel();
                (Err(self.shared.lease_lost()), Err(loss))
            }
        };
        // Whoever asked may have gone; what was asked for is stored all the same.
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
                    self.shared.key
                ),
            )));
        }
        self.write_until_done(
            |tenure, me| Write::checkpoint(tenure.lease(), me, tenure.acquisition(), position),
            |row| row.checkpoint == *position,
        )
        .await?;
        counter!(names::CHECKPOINTS).increment(1);
        self.checkpointed_at = self.clock.now();
        self.measure_checkpoint_age();
        Ok(())
    }

    fn measure_checkpoint_age(&mut self) {
        self.is_age_told = true;
        self.tell_checkpoint_age(self.clock.now().duration_since(self.checkpointed_at));
    }

    fn tell_checkpoint_age(&self, age: Duration) {
        let (stream, shard) = (self.shared.source.label(), self.shared.shard_id.to_string());
        let application = Arc::clone(&self.application);
        gauge!(consumer_names::CHECKPOINT_AGE_SECONDS, "application" => application, "stream" => stream, "shard" => shard)
            .set(age.as_secs_f64());
    }

    async fn prepare(&mut self, pending: &PendingCheckpoint) -> Result<(), Failure> {
        // A checkpoint that nobody waited for any more went further. What would be pending behind it could
        // never be committed.
        if pending.position <= self.tenure.lease().checkpoint {
            return Ok(());
        }
        self.write_until_done(
            |tenure, me| Write::prepare(tenure.lease(), me, tenure.acquisition(), pending),
            |row| row.pending_checkpoint.as_ref() == Some(pending),
        )
        .await
    }

    /// One write of the holder's, again and again until it is made or cannot be. As with a renewal, even
    /// an error that looks final, such as of a credential that has expired, may be put right in time;
    /// given to the processor it would count as a failure of the records. Only what is wrong with the
    /// request itself stays so.
    async fn write_until_done(
        &mut self,
        make: impl Fn(&Tenure, &str) -> Write,
        is_made: impl Fn(&Lease) -> bool,
    ) -> Result<(), Failure> {
        let mut attempt = 0;
        loop {
            match self.write(&make, &is_made).await {
                Err(Failure::Error(error)) if error.kind().may_be_put_right() => {
                    self.pause(&mut attempt, &error).await;
                }
                settled => return settled,
            }
        }
    }

    /// Fences the handles and gives the lease away.
    async fn give_up(&mut self) -> Result<(), Error> {
        self.shared.lost.cancel();
        let me = self.shared.me.clone();
        // Cancelled also by the end of the whole worker.
        let (stop, abandon) = (self.shared.source.stop.clone(), self.abandon.clone());
        let goes_on = || !stop.is_cancelled() && !abandon.is_cancelled();
        let mut attempt = 0;
        loop {
            let given = self
                .write(
                    |tenure, _| tenure.give_up(goes_on()),
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
                            self.shared.key
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
            let delivered = self.shared.delivered.swap(0, Ordering::Relaxed);
            let throughput = self.meter.add(delivered, sent);
            let write = make(&self.tenure, &self.shared.me).with_throughput(throughput);
            let table = &self.shared.table;
            let answer = timeout_at(fence, table.write(&write)).await;
            let took = self.clock.now().duration_since(sent);
            histogram!(names::LEASE_WRITE_SECONDS).record(took.as_secs_f64());
            let Ok(outcome) = answer else {
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
            format!("the row of lease {} keeps changing", self.shared.key),
        )))
    }

    /// Waits before another attempt, at most until the fence.
    async fn pause(&self, attempt: &mut u32, error: &Error) {
        counter!(names::WRITE_RETRIES).increment(1);
        let shard = &self.shared.key;
        if *attempt == 0 {
            tracing::warn!(%shard, "a write of the lease failed and is tried again: {error}");
        } else {
            tracing::debug!(%shard, attempt, "a write of the lease failed again: {error}");
        }
        let pause = RETRY.delay(*attempt, &self.shared.rand);
        *attempt = attempt.saturating_add(1);
        let until: Instant = (self.clock.now() + pause).min(self.tenure.fence_at());
        sleep_until(until).await;
    }

    fn publish(&mut self) {
        let mut row = self
            .shared
            .row
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *row = self.tenure.lease().clone();
        drop(row);
        *self.shared.fence_at() = self.tenure.fence_at();
        if self.tenure.handoff_requested() && !self.shared.handoff.is_cancelled() {
            tracing::info!(shard = %self.shared.key, "another worker is to take the lease over");
            self.shared.handoff.cancel();
            self.asked_at = Some(self.clock.now());
            let to = self.tenure.lease().owner.clone().unwrap_or_default();
            let shard_id = self.shared.shard_id.clone();
            let kind = EventKind::HandoffRequested { to };
            self.shared.source.announce(shard_id, kind);
        }
    }
}
