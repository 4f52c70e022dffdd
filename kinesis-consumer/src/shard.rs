//! One held lease, from gaining it to giving it up: the task around [`life::Life`].
//!
//! ```text
//! HeldLease ─▶ initialize ─▶ Fetching (own task) ─▶ process_records ─▶ … ─▶ shard_ended ─▶ SHARD_END
//!                                                        │                  shutdown_requested ─▶ release
//!                                                        └ lost / handoff / stop are watched all the while
//! ```
//!
//! A batch that fails is delivered in parts, and what is guilty of it becomes a dead letter, as
//! [`isolate`] decides.
//!
//! Promise: what `Life` says is done; a call of the processor is dropped the moment it is no longer
//! what is to be done. This task never touches the lease while the processor works: renewing has a
//! task of its own, and so has fetching.

mod bury;
mod call;
mod flow;
mod hand;
mod isolate;
mod judge;
mod life;
mod settle;

use std::sync::Arc;

use futures::FutureExt;
use kinesis_core::{Backoff, Position, Rand};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, warn};

use crate::checkpoint::Checkpointer;
use crate::dead_letter::DeadLetters;
use crate::error::{Error, ErrorKind};
use crate::events::EventKind;
use crate::fetch::{Counted, FetchContext, Fetched, Fetching, Lag, TellsTotals};
use crate::lease::{ChildShard, HeldLease};
use crate::metrics;
use crate::processor::{RecordProcessor, StopSender};
use call::{CallResult, Input, make};
#[doc(hidden)]
pub use flow::Flow;
use flow::{Early, Out};
use hand::Hand;
use judge::Judged;
use life::{Call, Doing, End, Event, Fetch, Life, Returned, StopTimes};

/// What the consumer hears of a shard that is over.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended, moved or was released: all is well.
    Over,
    /// The consumer has to stop.
    Failed(Error),
}

/// The task of one shard.
pub(crate) struct ShardTask {
    lease: HeldLease,
    processor: Box<dyn RecordProcessor>,
    checkpointer: Checkpointer,
    fetch: FetchContext,
    stop: CancellationToken,
    deadline: StopSender,
    life: Life,
    fetching: Option<Fetching>,
    /// Of a shard that was read: also where it stands still, for as long as its lease is held.
    lag: Option<Arc<Lag>>,
    in_hand: Option<Hand>,
    /// In place of it where the processor takes batches while it works on others.
    out: Out,
    /// What such a processor found behind the last batch.
    early: Option<Early>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    /// Children of a shard that has expired.
    expired: Vec<ChildShard>,
    failure: Option<Error>,
    _tells: TellsTotals,
}

impl ShardTask {
    pub(crate) fn new(
        lease: HeldLease,
        processor: Box<dyn RecordProcessor>,
        fetch: FetchContext,
        dead_letters: Option<Arc<dyn DeadLetters>>,
        stop: CancellationToken,
    ) -> Self {
        let settings = Arc::clone(&fetch.settings);
        let backoff = Backoff::new(settings.task_backoff, settings.task_backoff_max);
        let rand: Rand = fetch.rand.fork();
        let times = StopTimes::new(settings.shutdown_timeout, settings.lease.handoff_timeout);
        let deadline = StopSender::new(lease.lost().clone());
        let tells = TellsTotals(Arc::clone(&fetch.totals));
        Self {
            checkpointer: Checkpointer::of_lease(&lease, deadline.signal()),
            deadline,
            lease,
            processor,
            fetch,
            stop,
            life: Life::new(times, backoff, rand),
            fetching: None,
            lag: None,
            in_hand: None,
            out: Out::default(),
            early: None,
            dead_letters,
            expired: Vec::new(),
            failure: None,
            _tells: tells,
        }
    }

    /// Runs until the lease is lost, released or its shard has ended.
    pub(crate) async fn run(self) -> Outcome {
        let span = tracing::info_span!("shard", stream = &*self.fetch.stream, shard = %self.lease.shard_id());
        self.live().instrument(span).await
    }

    async fn live(mut self) -> Outcome {
        info!(
            checkpoint = self.checkpointer.last().checkpoint(),
            "Processing of the shard begins."
        );
        let _counted = Counted::new(&self.fetch.totals);
        let checkpoint = self.checkpointer.last();
        self.announce(EventKind::ShardStarted { checkpoint });
        let end = loop {
            match self.life.doing() {
                Doing::Call(call) => self.call(call).await,
                Doing::Pause(until) => self.watch(sleep_until(until).map(|()| Event::Rested)).await,
                Doing::Fetch => self.fetch().await,
                Doing::Bury => self.bury().await,
                Doing::Retire => self.retire().await,
                Doing::Release => self.release().await,
                Doing::Park => self.watch(std::future::pending()).await,
                Doing::Done(end) => break end,
            }
            self.tidy();
        };
        info!(
            ?end,
            checkpoint = self.checkpointer.last().checkpoint(),
            "Processing of the shard is over."
        );
        match (end, self.failure) {
            // Also where the lease was lost before it could be released.
            (End::Failed | End::Lost, Some(failure)) => Outcome::Failed(failure),
            (End::Failed, None) => Outcome::Failed(Error::new(
                ErrorKind::Internal,
                "a shard failed without a cause",
            )),
            (End::Lost | End::Ended | End::Released | End::Abandoned, _) => Outcome::Over,
        }
    }

    /// Drops what the next step has no use for, so that its memory serves other shards.
    fn tidy(&mut self) {
        let doing = self.life.doing();
        let keeps_batch = matches!(
            doing,
            Doing::Call(Call::Process) | Doing::Bury | Doing::Pause(_)
        );
        if !keeps_batch && (self.in_hand.take().is_some() | self.out.drop_all()) {
            // Not processed: nothing may checkpoint past it.
            self.checkpointer.withdraw();
            self.fetch.totals.tell();
        }
        if matches!(
            doing,
            Doing::Call(Call::LeaseLost | Call::ShutdownRequested)
                | Doing::Retire
                | Doing::Release
                | Doing::Park
                | Doing::Done(_)
        ) {
            self.fetching = None;
            self.early = None;
        }
        if matches!(
            doing,
            Doing::Call(Call::LeaseLost) | Doing::Release | Doing::Done(_)
        ) {
            self.lag = None;
        }
    }

    /// Awaits `work`, or what interrupts it, and tells `Life`.
    async fn watch(&mut self, work: impl Future<Output = Event>) {
        let event = interruptible(&self.life, &self.lease, &self.stop, work).await;
        self.life.on(event, self.now());
    }

    async fn fetch(&mut self) {
        let fetching = self.fetching.get_or_insert_with(|| {
            let lease = self.lease.lease();
            let fetching = self.fetch.start(&lease);
            self.lag = Some(fetching.lag());
            fetching
        });
        let mut fetched = None;
        let early = &mut self.early;
        let next = async {
            match early.take() {
                Some(early) => early,
                None => fetching.next().await,
            }
        };
        let next = next.map(|next| {
            let event = Event::Fetched(match &next {
                Some(Fetched::Batch(_)) => Fetch::Batch,
                Some(Fetched::End(_)) => Fetch::End,
                Some(Fetched::Expired { .. }) => Fetch::Expired,
                Some(Fetched::NotFound(_)) => Fetch::NotFound,
                None => Fetch::Broken,
            });
            fetched = next;
            event
        });
        let event = interruptible(&self.life, &self.lease, &self.stop, next).await;
        if let Event::Fetched(what) = event {
            self.take(what, fetched);
        }
        self.life.on(event, self.now());
    }

    fn take(&mut self, what: Fetch, fetched: Option<Fetched>) {
        match (what, fetched) {
            (_, Some(Fetched::Batch(batch))) if self.processor.takes_flow() => {
                self.out.push(batch);
            }
            (_, Some(Fetched::Batch(batch))) => {
                let on_failure = self.fetch.settings.on_failure;
                self.in_hand = Some(Hand::new(batch, on_failure));
            }
            (_, Some(Fetched::End(children))) => self.take_end(children),
            (_, Some(Fetched::Expired { error, children })) => {
                self.count_not_found();
                self.lease.source().doubt();
                self.expired = children;
                let checkpoint = self.checkpointer.last();
                self.announce(EventKind::ShardExpired { checkpoint });
                error!(
                    %error,
                    checkpoint = self.checkpointer.last().checkpoint(),
                    "The stream no longer has this shard: retention took it before it was read to its end. What it held beyond the checkpoint is lost. The shard is marked as ended so that its children start."
                );
            }
            (_, Some(Fetched::NotFound(error))) => {
                self.count_not_found();
                self.lease.source().doubt();
                self.announce(EventKind::StreamNotFound);
                error!(
                    %error,
                    "There is no such stream any more. The shard is not marked as ended; its lease is kept, idle, until it is deleted, the worker stops, or, where several streams are read, another stream is found under the name."
                );
            }
            (_, None) => {
                error!("The task that reads the shard broke down.");
                let text = format!(
                    "reading shard {} stopped by a defect of this crate",
                    self.lease.shard_id()
                );
                self.failure = Some(Error::new(ErrorKind::Internal, text));
            }
        }
    }

    fn take_end(&mut self, children: Vec<ChildShard>) {
        info!(
            children = children.len(),
            "Every record of the shard was processed; it has no more."
        );
        self.checkpointer.end(children);
    }

    fn count_not_found(&self) {
        ::metrics::counter!(metrics::SHARDS_NOT_FOUND, "stream" => Arc::clone(&self.fetch.stream))
            .increment(1);
    }

    /// Ends a shard that has expired, without its processor.
    async fn retire(&mut self) {
        self.checkpointer.end(self.expired.clone());
        let checkpointer = self.checkpointer.clone();
        let retire = async move {
            match checkpointer.checkpoint_at(&Position::ShardEnd).await {
                Ok(()) => Event::Retired(true),
                Err(error) => {
                    warn!(%error, "Ending the expired shard failed and is tried again.");
                    Event::Retired(false)
                }
            }
        };
        self.watch(retire).await;
        if self.checkpointer.has_ended() {
            self.has_ended();
        }
    }

    async fn release(&mut self) {
        let lease = self.lease.clone();
        let release = async move {
            match lease.release().await {
                Ok(()) => Event::Released(true),
                Err(error) if error.kind() == ErrorKind::LeaseLost => Event::Lost,
                Err(error) => {
                    warn!(%error, "Releasing the lease failed and is tried again.");
                    Event::Released(false)
                }
            }
        };
        self.watch(release).await;
    }

    /// Makes one call of the processor, or drops it when it is no longer what is to be done.
    async fn call(&mut self, call: Call) {
        let begun = self.now();
        self.deadline.set(self.life.deadline());
        if call == Call::Process
            && let Some(end) = self.in_hand.as_mut().and_then(Hand::delivering)
        {
            self.checkpointer.deliver(end.position);
            ::metrics::counter!(metrics::RECORDS_REDELIVERED, "stream" => Arc::clone(&self.fetch.stream))
                .increment(end.again);
        }
        let result = self.attempt(call).await;
        match result {
            Some(result) => self.returned(call, result, begun),
            None => warn!(
                ?call,
                "A call of the processor was dropped: the lease is lost or the time to stop is over."
            ),
        }
    }

    /// Polls one call until it returns; `None` when it is no longer what is to be done.
    async fn attempt(&mut self, call: Call) -> Option<CallResult> {
        #[cfg(feature = "mutations")]
        let _occupied = self.lease.occupy().await;
        self.out.begin();
        let takes_flow = call == Call::Process && !self.out.is_empty();
        let flow = takes_flow.then(|| Flow {
            out: &mut self.out,
            fetching: self.fetching.as_mut(),
            early: &mut self.early,
            checkpointer: self.checkpointer.clone(),
            fetch: &self.fetch,
            lease: &self.lease,
            dead_letters: self.dead_letters.as_ref(),
            observer: None,
        });
        let input = Input {
            lease: &self.lease,
            checkpointer: &self.checkpointer,
            hand: self.in_hand.as_ref(),
            flow,
        };
        let mut work = std::pin::pin!(make(&mut *self.processor, call, input));
        loop {
            let mut returned = None;
            let watched = (&mut work).map(|result| {
                returned = Some(result);
                Event::Returned(Returned::Ok)
            });
            let event = interruptible(&self.life, &self.lease, &self.stop, watched).await;
            if let Some(result) = returned {
                return Some(result);
            }
            self.life.on(event, self.fetch.clock.now());
            self.deadline.set(self.life.deadline());
            if self.life.doing() != Doing::Call(call) {
                return None;
            }
        }
    }

    fn returned(&mut self, call: Call, result: CallResult, begun: Instant) {
        let attempts = self.life.attempts() + 1;
        let returned = match self.judge(call, attempts, result) {
            Judged::Ok if call == Call::Process => self.processed(begun),
            Judged::Ok => Returned::Ok,
            // It comes to the next owner, whoever was guilty.
            Judged::Failed(..) if call == Call::Process && self.life.is_stopping() => {
                self.checkpointer.withdraw();
                Returned::Again
            }
            Judged::Failed(blame, named) if call == Call::Process => {
                self.failed(blame, named.as_ref())
            }
            Judged::Failed(..) => Returned::Again,
            Judged::Fatal => {
                self.checkpointer.withdraw();
                Returned::Fatal
            }
        };
        let returned = match call {
            Call::ShardEnded => self.judge_end(attempts, returned),
            _ => returned,
        };
        self.life.on(Event::Returned(returned), self.now());
        if call == Call::Process && returned == Returned::Again && self.life.attempts() > 0 {
            self.count(metrics::BATCHES_RETRIED);
        }
    }

    /// The end of the shard is stored.
    fn has_ended(&self) {
        self.count(metrics::SHARDS_ENDED);
        self.announce(EventKind::ShardEnded);
    }

    fn announce(&self, kind: EventKind) {
        let source = self.lease.source();
        source.announce(self.lease.shard_id().clone(), kind);
    }

    fn count(&self, counter: &'static str) {
        ::metrics::counter!(counter, "stream" => Arc::clone(&self.fetch.stream)).increment(1);
    }

    fn now(&self) -> Instant {
        self.fetch.clock.now()
    }
}

/// `work`, unless the lease is lost, a stop is requested or the deadline passes first. Loss comes
/// before all else: once it is known, nothing that was done since counts.
async fn interruptible(
    life: &Life,
    lease: &HeldLease,
    stop: &CancellationToken,
    work: impl Future<Output = Event>,
) -> Event {
    let deadline = life.deadline();
    tokio::select! {
        biased;
        () = lease.fenced(), if life.minds_loss() => Event::Lost,
        () = stop.cancelled(), if life.minds_stop() => Event::StopRequested,
        () = lease.handoff_requested().cancelled(), if life.minds_handoff() => Event::HandoffRequested,
        event = work => event,
        () = async { if let Some(at) = deadline { sleep_until(at).await } }, if deadline.is_some() => Event::Deadline,
    }
}

#[cfg(test)]
mod tests;
