//! Records one by one in place of batches: several keys of a shard at once, each key in order.
//!
//! ```text
//! batch       a1 b1 a2 c1 b2 a3      concurrency 3
//! running     a1 b1    c1            a2 starts when a1 is done, b2 when b1 is
//! done        ●  ●  ·  ●  ·  ·
//! watermark      ▲                   everything up to here is done: this may be checkpointed
//! ```
//!
//! Promise: a record is handled after all earlier ones of its partition key were; a checkpoint never
//! passes a record that is not done. A record that failed, or whose handler panicked, stops new ones
//! from starting, those under way finish, and the failure goes the way of every failed batch
//! ([`Settings::on_failure`](crate::Settings::on_failure)); what was done is not handled again by the
//! same owner of the lease.
//!
//! A checkpoint costs a write of the lease table, so there is at most one per `checkpoint_interval`: while
//! a batch is worked on, at its end, or, where no other batch comes, by a task of its own behind it. As long as
//! a batch has no watermark, because its first record hangs, it is what the batches before it owe that is
//! stored: by the interval, and before the batch's failure is told, since a fatal one is the last call. When
//! the shard is to stop, the watermark is stored whenever it moves, since a handler that hangs may be cut off.
//!
//! Deliberately absent: starting on the next batch while this one has records under way. A record that is
//! never done therefore holds up its shard at the end of its batch, however few are under way, which a WARN
//! tells after a while.

mod owed;
mod progress;
mod schedule;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kinesis_core::{Clock, Position, ShardId};
use tokio::time::{Instant, sleep_until};

use super::{ProcessRecordsInput, ProcessorError, RecordProcessor, RecordProcessorFactory};
use crate::checkpoint::Checkpointer;
use crate::error::Error;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::record::Record;
use crate::stream::StreamId;
use owed::{Late, is_owed, store};
use progress::{Failure, Progress};
use schedule::Schedule;

/// Source: none, reasonable default: calls of one service under way for one shard.
const CONCURRENCY: usize = 16;

/// Source: none, reasonable default: what a crash repeats at most, at one write of the lease table.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Source: none, reasonable default: ten writes a second of one row.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Source: none, reasonable default, as of every duration of the settings.
const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// With records under way and none done for so long, and for twice that at most, there is a WARN.
/// Source: none, reasonable default: longer than calls of most services take with their retries.
const STALL_WARNING: Duration = Duration::from_secs(60);

/// How [`for_each`] goes through the records of a shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForEach {
    /// Most records of a shard that are handled at once; at least 1 counts. They are of one batch: the
    /// next one begins when all of this one is done. Default: 16.
    pub concurrency: usize,
    /// Whether records of one partition key wait for each other. Records without a key, as a stream
    /// has them that distributes records by itself, wait for none. Default: yes.
    pub order_per_key: bool,
    /// How often the watermark is checkpointed at most, and what a crash repeats at most, 100 ms to
    /// 24 h; outside of that the nearer bound counts. When the worker stops, the lease is handed over or
    /// the shard ends it is checkpointed in any case. Default: 5 s.
    pub checkpoint_interval: Duration,
}

impl Default for ForEach {
    fn default() -> Self {
        Self {
            concurrency: CONCURRENCY,
            order_per_key: true,
            checkpoint_interval: CHECKPOINT_INTERVAL,
        }
    }
}

/// A record, and where it came from.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ShardRecord {
    /// The stream, where the consumer reads several.
    pub stream: Option<StreamId>,
    /// The shard.
    pub shard_id: ShardId,
    /// The record.
    pub record: Record,
}

/// The factory of processors that hand each record to `handler`, several keys at once.
///
/// ```
/// use kinesis_consumer::{ForEach, ProcessorError, ShardRecord, for_each};
///
/// let factory = for_each(ForEach::default(), async |handled: ShardRecord| {
///     println!("{} {}", handled.record.partition_key, handled.record.data.len());
///     Ok::<(), ProcessorError>(())
/// });
/// # drop(factory);
/// ```
///
/// Order: within a partition key that of the shard; none between keys. Checkpoints are made by the
/// processor, at the last record up to which all are done, once per
/// [`checkpoint_interval`](ForEach::checkpoint_interval). The records under way are of one batch at a time: a
/// handler that hangs holds up its shard once the rest of its batch is done, with a WARN. An error says what it says of a batch
/// ([`ProcessorError`]), of this record alone: a poison record is a dead letter without a search.
/// The handler's futures run in the task of the shard and are dropped when the lease is lost; give
/// work that blocks or computes for long to a task or thread of its own.
pub fn for_each<F, Fut>(settings: ForEach, handler: F) -> impl RecordProcessorFactory
where
    F: Fn(ShardRecord) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), ProcessorError>> + Send + 'static,
{
    let handler: Handler = Arc::new(move |record| Box::pin(handler(record)));
    Factory { settings, handler }
}

type Handler =
    Arc<dyn Fn(ShardRecord) -> BoxFuture<'static, Result<(), ProcessorError>> + Send + Sync>;

struct Factory {
    settings: ForEach,
    handler: Handler,
}

impl Factory {
    fn of(&self, stream: Option<StreamId>, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        let handler = Arc::clone(&self.handler);
        Box::new(Each::new(
            self.settings.clone(),
            stream,
            shard_id.clone(),
            handler,
        ))
    }
}

impl RecordProcessorFactory for Factory {
    fn create(&self, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        self.of(None, shard_id)
    }

    fn create_for(&self, stream: &StreamId, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        self.of(Some(stream.clone()), shard_id)
    }
}

/// Handles the records of one shard one by one.
pub(super) struct Each {
    settings: ForEach,
    stream: Option<StreamId>,
    shard_id: ShardId,
    handler: Handler,
    /// Records of a batch that failed or was cut off, and that were done all the same.
    done: BTreeSet<Position>,
    /// When there was something to checkpoint last, and that was done.
    stored_at: Option<Instant>,
    /// Of the newest call before this one. It goes to the end of what was processed, and no further.
    behind: Option<Checkpointer>,
    /// Checkpoints behind the last batch, if no other call comes before.
    late: Option<Late>,
    clock: Clock,
}

impl Each {
    pub(super) fn new(
        settings: ForEach,
        stream: Option<StreamId>,
        shard_id: ShardId,
        handler: Handler,
    ) -> Self {
        let interval = settings.checkpoint_interval;
        let checkpoint_interval = interval.clamp(CHECKPOINT_INTERVAL_MIN, CHECKPOINT_INTERVAL_MAX);
        Self {
            settings: ForEach {
                checkpoint_interval,
                ..settings
            },
            stream,
            shard_id,
            handler,
            done: BTreeSet::new(),
            stored_at: None,
            behind: None,
            late: None,
            clock: Clock::default(),
        }
    }

    fn begin(&self, records: &[Record]) -> Progress {
        let keys = records.iter().map(|record| &*record.partition_key);
        let order_per_key = self.settings.order_per_key;
        #[cfg(feature = "mutations")]
        let order_per_key = order_per_key && !mutation::is(Mutation::KeysOutOfOrder);
        let mut schedule = match order_per_key {
            true => Schedule::per_key(keys),
            false => Schedule::unordered(records.len()),
        };
        for (index, record) in records.iter().enumerate() {
            if self.done.contains(&record.position()) {
                schedule.skip(index);
            }
        }
        Progress::new(schedule)
    }

    /// Calls the handler now. A panic is its record's: those beside it go on.
    fn handle(
        &self,
        record: &Record,
        index: usize,
    ) -> impl Future<Output = (usize, Result<(), Failure>)> + use<> {
        let record = ShardRecord {
            stream: self.stream.clone(),
            shard_id: self.shard_id.clone(),
            record: record.clone(),
        };
        let called = catch_unwind(AssertUnwindSafe(|| (self.handler)(record)));
        async move {
            let handled = match called {
                Ok(handled) => AssertUnwindSafe(handled).catch_unwind().await,
                Err(panic) => Err(panic),
            };
            let handled = handled.map_err(Failure::Panic);
            (index, handled.and_then(|done| done.map_err(Failure::Error)))
        }
    }

    /// Works through the batch until it is done, a record failed, or a stop is requested.
    async fn work(
        &mut self,
        input: &ProcessRecordsInput,
        behind: Option<&Checkpointer>,
    ) -> Progress {
        let records = &input.records;
        let mut progress = self.begin(records);
        let mut running = FuturesUnordered::new();
        // Polled beside the handlers, which a slow lease table does not hold up.
        let mut storing: Option<BoxFuture<'_, ()>> = None;
        let begun = self.clock.now();
        let interval = self.settings.checkpoint_interval;
        let due = (self.stored_at.unwrap_or(begun) + interval).max(begun);
        let mut checkpoint_due = pin!(sleep_until(due));
        let mut stall_due = pin!(sleep_until(begun + STALL_WARNING));
        let mut stalled = false;
        let mut stop = pin!(input.stop.requested());
        loop {
            while progress.may_start() && running.len() < self.settings.concurrency.max(1) {
                let Some(index) = progress.schedule.start() else {
                    break;
                };
                running.push(self.handle(&records[index], index));
            }
            if progress.stopping && storing.is_none() && progress.moves() {
                storing = Some(Box::pin(store(progress.watermark(input), behind, input)));
            }
            if running.is_empty() {
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
                    let watermark = progress.watermark(input);
                    if is_owed(watermark.as_ref(), behind, input) {
                        self.stored_at = Some(now);
                    }
                    storing = Some(Box::pin(store(watermark, behind, input)));
                }
                () = &mut stall_due => {
                    stall_due.as_mut().reset(self.clock.now() + STALL_WARNING);
                    if std::mem::replace(&mut stalled, true) {
                        progress.warn(running.len(), records);
                    }
                }
                Some((index, result)) = running.next() => {
                    stalled = false;
                    if result.is_ok() {
                        self.done.insert(records[index].position());
                    }
                    progress.settle(index, result);
                    // A lost lease, a handoff and a stop are seen by whoever polls this.
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

impl Each {
    /// At the end of a batch: checkpoints if the interval is over, else leaves it to the next batch, or,
    /// where none comes, to the time when it is.
    async fn checkpoint_by_interval(&mut self, checkpointer: &Checkpointer) -> Result<(), Error> {
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
        self.checkpoint_late(due, checkpointer.clone());
        Ok(())
    }

    fn checkpoint_late(&mut self, due: Instant, checkpointer: Checkpointer) {
        let interval = self.settings.checkpoint_interval;
        self.late = Some(Late::at(due, interval, checkpointer));
    }

    /// Whoever calls sees to the checkpoint now.
    fn forestall_late(&mut self) {
        if let Some(at) = self.late.take().and_then(|late| late.stored_at()) {
            self.stored_at = Some(at);
        }
    }
}

/// The end of the checkpoint under way; never without one.
async fn stored(storing: &mut Option<BoxFuture<'_, ()>>) {
    match storing {
        Some(storing) => storing.await,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl RecordProcessor for Each {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        self.forestall_late();
        let behind = self.behind.replace(input.checkpointer.clone());
        let progress = self.work(&input, behind.as_ref()).await;
        if progress.schedule.is_done() {
            self.checkpoint_by_interval(&input.checkpointer).await?;
            if let Some(last) = input.records.last().map(Record::position) {
                // Those behind it belong to a part of the batch that is still to come.
                self.done.retain(|position| *position > last);
            }
            return Ok(());
        }
        store(progress.watermark(&input), behind.as_ref(), &input).await;
        // A dead letter may be all that comes of this. The checkpointer of this call would not do: it goes
        // to the end of the failed batch until the failure is known to it.
        if let Some(behind) = behind {
            let due = self.clock.now() + self.settings.checkpoint_interval;
            self.checkpoint_late(due, behind);
        }
        Err(match progress.failure {
            // The batch has a culprit, and it is known.
            Some((index, Failure::Error(ProcessorError::Poison(cause)))) => {
                ProcessorError::poison_at(input.records[index].position(), cause)
            }
            Some((_, Failure::Error(error))) => error,
            // On to whoever called, as if it had come through here at once.
            Some((_, Failure::Panic(panic))) => resume_unwind(panic),
            None => ProcessorError::retry("the worker stops, or the lease is handed over"),
        })
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        self.forestall_late();
        // The end waits for the rows of the shard's children, and a stop does not wait for these: the next
        // owner must not begin before what was processed.
        let processed = checkpointer.delivered();
        if processed > checkpointer.last()
            && let Err(error) = checkpointer.checkpoint_at(&processed).await
        {
            tracing::debug!(%error, "What was processed is not checkpointed before the end of the shard.");
        }
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.forestall_late();
        Ok(checkpointer.checkpoint().await?)
    }
}

impl fmt::Debug for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Each")
            .field("shard_id", &self.shard_id)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
