//! One call: records start, finish, fail and rest until all are done, one is given up, or a stop comes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kinesis_core::{Clock, ShardId};
use tokio::time::{Instant, sleep_until};

use super::owed::{Late, is_owed, store};
use super::progress::{Failure, Progress};
use super::source::{Source, Verdict};
use super::{ForEach, Handler, ShardRecord};
use crate::checkpoint::Checkpointer;
use crate::error::Error;
use crate::processor::ProcessorError;
use crate::record::Record;
use crate::stream::StreamId;

/// With records under way and none done for so long, and for twice that at most, there is a WARN.
/// Source: none, reasonable default: longer than calls of most services take with their retries.
const STALL_WARNING: Duration = Duration::from_secs(60);

/// Handles the records of one shard, call by call.
pub(super) struct Runner {
    pub(super) settings: ForEach,
    stream: Option<StreamId>,
    pub(super) shard_id: ShardId,
    handler: Handler,
    /// When there was something to checkpoint last, and that was done.
    stored_at: Option<Instant>,
    /// Checkpoints behind the last call, if no other comes before.
    late: Option<Late>,
    pub(super) clock: Clock,
}

impl Runner {
    pub(super) fn new(
        settings: ForEach,
        stream: Option<StreamId>,
        shard_id: ShardId,
        handler: Handler,
    ) -> Self {
        Self {
            settings,
            stream,
            shard_id,
            handler,
            stored_at: None,
            late: None,
            clock: Clock::default(),
        }
    }

    /// One call: works through all that the source has now, and sees to its checkpoint.
    pub(super) async fn run(&mut self, source: &mut impl Source) -> Result<(), ProcessorError> {
        self.forestall_late();
        let progress = self.work(source).await;
        let checkpointer = source.checkpointer().clone();
        if progress.is_done() {
            return Ok(self.checkpoint_by_interval(checkpointer).await?);
        }
        store(progress.watermark(), checkpointer.clone()).await;
        // A dead letter may be all that comes of this. It does not go to the end of what failed, also as
        // long as the failure is not known to the checkpointer.
        let due = self.clock.now() + self.settings.checkpoint_interval;
        self.checkpoint_late(due, checkpointer.of_settled());
        Err(match progress.into_failure() {
            // It has a culprit, and it is known.
            Some((position, Failure::Error(ProcessorError::Poison(cause)))) => {
                ProcessorError::poison_at(position, cause)
            }
            Some((_, Failure::Error(error))) => error,
            // On to whoever called, as if it had come through here at once.
            Some((_, Failure::Panic(panic))) => resume_unwind(panic),
            None => ProcessorError::retry("the worker stops, or the lease is handed over"),
        })
    }

    /// At the end of a call: checkpoints if the interval is over, else leaves it to the next one, or,
    /// where none comes, to the time when it is.
    async fn checkpoint_by_interval(&mut self, checkpointer: Checkpointer) -> Result<(), Error> {
        let now = self.clock.now();
        let due = self
            .stored_at
            .map(|at| at + self.settings.checkpoint_interval);
        let Some(due) = due.filter(|due| *due > now) else {
            checkpointer.checkpoint().await?;
            self.stored_at = Some(now);
            return Ok(());
        };
        // It does not pass what a later call has in hand.
        self.checkpoint_late(due, checkpointer);
        Ok(())
    }

    fn checkpoint_late(&mut self, due: Instant, checkpointer: Checkpointer) {
        let interval = self.settings.checkpoint_interval;
        self.late = Some(Late::at(due, interval, checkpointer));
    }

    /// Whoever calls sees to the checkpoint now.
    pub(super) fn forestall_late(&mut self) {
        if let Some(at) = self.late.take().and_then(|late| late.stored_at()) {
            self.stored_at = Some(at);
        }
    }

    /// Calls the handler now. A panic is its record's: those beside it go on.
    fn handle(
        &self,
        record: Record,
        number: u64,
    ) -> impl Future<Output = (u64, Result<(), Failure>)> + Send + use<> {
        let record = ShardRecord {
            stream: self.stream.clone(),
            shard_id: self.shard_id.clone(),
            record,
        };
        let called = catch_unwind(AssertUnwindSafe(|| (self.handler)(record)));
        async move {
            let handled = match called {
                Ok(handled) => AssertUnwindSafe(handled).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            let handled = handled.map_err(Failure::Panic);
            let handled = handled.and_then(|done| done.map_err(Failure::Error));
            (number, handled)
        }
    }

    /// Works until all that the source has now is done, the call gives up, or a stop is requested.
    async fn work(&mut self, source: &mut impl Source) -> Progress {
        let mut progress = Progress::new(self.settings.order_per_key);
        while let Some(records) = source.first() {
            progress.take(&records, source);
        }
        let mut has_more = true;
        let mut running = FuturesUnordered::new();
        // They take no place of a handler: what is read ahead bounds them.
        let mut burials = FuturesUnordered::new();
        // Polled beside the handlers, which a slow lease table does not hold up.
        let mut storing: Option<BoxFuture<'static, ()>> = None;
        let begun = self.clock.now();
        let interval = self.settings.checkpoint_interval;
        let due = (self.stored_at.unwrap_or(begun) + interval).max(begun);
        let mut checkpoint_due = pin!(sleep_until(due));
        let mut stall_due = pin!(sleep_until(begun + STALL_WARNING));
        let mut stalled = false;
        let stop = source.stop();
        let mut stop = pin!(stop.requested());
        loop {
            while progress.may_start() && running.len() < self.settings.concurrency.max(1) {
                let Some((number, record)) = progress.start() else {
                    break;
                };
                running.push(self.handle(record, number));
            }
            // Nothing that is here may start, and there is room for more.
            let wants_more = has_more
                && progress.may_start()
                && running.len() < self.settings.concurrency.max(1);
            if progress.stopping && storing.is_none() && progress.moves() {
                let stores = store(progress.watermark(), source.checkpointer().clone());
                storing = Some(Box::pin(stores));
            }
            if running.is_empty()
                && burials.is_empty()
                && (progress.is_done() || progress.is_ending())
            {
                if let Some(storing) = storing {
                    storing.await;
                }
                return progress;
            }
            // The handlers last: there is always one that is done where none ever waits.
            tokio::select! {
                biased;
                () = &mut stop, if !progress.stopping => progress.stopping = true,
                () = stored(&mut storing) => storing = None,
                () = &mut checkpoint_due, if storing.is_none() => {
                    let now = self.clock.now();
                    checkpoint_due.as_mut().reset(now + interval);
                    let (watermark, checkpointer) = (progress.watermark(), source.checkpointer());
                    if is_owed(watermark.as_ref(), checkpointer) {
                        self.stored_at = Some(now);
                    }
                    storing = Some(Box::pin(store(watermark, checkpointer.clone())));
                }
                () = &mut stall_due => {
                    stall_due.as_mut().reset(self.clock.now() + STALL_WARNING);
                    if std::mem::replace(&mut stalled, true) {
                        progress.warn(running.len() + burials.len());
                    }
                }
                () = until(progress.ends_by()) => return progress,
                () = until(progress.rests_until()), if !progress.is_ending() => progress.rested(),
                more = source.next(), if wants_more => match more {
                    Some(records) => progress.take(&records, source),
                    None => has_more = false,
                },
                Some((number, is_stored)) = burials.next() => {
                    // Else a stop was requested before: it is the next owner's.
                    if is_stored {
                        stalled = false;
                        is_buried(number, &mut progress, source);
                    }
                }
                Some((number, handled)) = running.next() => {
                    // One that fails is not done.
                    stalled &= handled.is_err();
                    if let Some(bury) = self.is_over(number, handled, &mut progress, source) {
                        burials.push(bury.map(move |is_stored| (number, is_stored)));
                    }
                    // A lost lease, a handoff and a stop are seen by whoever polls this.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl Runner {
    /// What comes of a record that was handled; its burial, if it is to be a dead letter.
    fn is_over(
        &self,
        number: u64,
        handled: Result<(), Failure>,
        progress: &mut Progress,
        source: &mut impl Source,
    ) -> Option<BoxFuture<'static, bool>> {
        let record = progress.record(number)?.clone();
        let Err(failure) = handled else {
            source.done(&record);
            finish(number, progress, source);
            return None;
        };
        if progress.stopping {
            // Whoever stops is told, and there is no other attempt.
            progress.give_up(number, failure, None);
            return None;
        }
        let now = self.clock.now();
        let beside = progress.rests_until().is_some();
        match source.failed(&record, failure, beside) {
            Verdict::Again(pause) => progress.rest(number, now + pause),
            Verdict::Bury(bury) => return Some(bury),
            Verdict::GiveUp(failure) => {
                let patience = source.patience();
                progress.give_up(number, failure, patience.map(|patience| now + patience));
            }
        }
        None
    }
}

/// The dead letter of a record is stored.
fn is_buried(number: u64, progress: &mut Progress, source: &mut impl Source) {
    if let Some(record) = progress.record(number) {
        source.buried(record);
    }
    finish(number, progress, source);
}

/// A record is done, whichever way.
fn finish(number: u64, progress: &mut Progress, source: &mut impl Source) {
    if progress.finish(number)
        && let Some(watermark) = progress.settled()
    {
        source.settled(watermark);
    }
}

/// That instant; never without one.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The end of the checkpoint under way; never without one.
async fn stored(storing: &mut Option<BoxFuture<'static, ()>>) {
    match storing {
        Some(storing) => storing.await,
        None => std::future::pending().await,
    }
}
