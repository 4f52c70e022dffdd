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
//! Deliberately absent: starting on the next batch while this one has records under way.

mod schedule;

use std::any::Any;
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
use tokio::time::sleep_until;

use super::{ProcessRecordsInput, ProcessorError, RecordProcessor, RecordProcessorFactory};
use crate::checkpoint::Checkpointer;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::record::Record;
use crate::stream::StreamId;
use schedule::Schedule;

/// Source: none, reasonable default: calls of one service under way for one shard.
const CONCURRENCY: usize = 16;

/// Source: none, reasonable default: what a crash repeats at most, at one write of the lease table.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// How [`for_each`] goes through the records of a shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForEach {
    /// Most records of a shard that are handled at once; at least 1 counts. Default: 16.
    pub concurrency: usize,
    /// Whether records of one partition key wait for each other. Records without a key, as a stream
    /// has them that distributes records by itself, wait for none. Default: yes.
    pub order_per_key: bool,
    /// How often the watermark is checkpointed while a batch is worked on; at the end of a batch it
    /// always is. Default: 5 s.
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
/// processor, at the last record up to which all are done. An error says what it says of a batch
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
    clock: Clock,
}

/// How far a batch got.
struct Progress {
    schedule: Schedule,
    /// The first record, in the order of the shard, that failed.
    failure: Option<(usize, Failure)>,
    stopping: bool,
}

/// How a record failed.
enum Failure {
    Error(ProcessorError),
    /// What the handler panicked with.
    Panic(Box<dyn Any + Send>),
}

impl Each {
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
            done: BTreeSet::new(),
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
        Progress {
            schedule,
            failure: None,
            stopping: false,
        }
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
    async fn work(&mut self, input: &ProcessRecordsInput) -> Progress {
        let records = &input.records;
        let mut progress = self.begin(records);
        let mut running = FuturesUnordered::new();
        // Polled beside the handlers, which a slow lease table does not hold up.
        let mut storing: Option<BoxFuture<'_, ()>> = None;
        let mut checkpoint_due = pin!(sleep_until(
            self.clock.now() + self.settings.checkpoint_interval
        ));
        let mut stop = pin!(input.stop.requested());
        loop {
            while progress.may_start() && running.len() < self.settings.concurrency.max(1) {
                let Some(index) = progress.schedule.start() else {
                    break;
                };
                running.push(self.handle(&records[index], index));
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
                    let next = self.clock.now() + self.settings.checkpoint_interval;
                    checkpoint_due.as_mut().reset(next);
                    storing = Some(Box::pin(store(progress.watermark(input), input)));
                }
                Some((index, result)) = running.next() => {
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

impl Progress {
    /// The position up to which everything is done.
    fn watermark(&self, input: &ProcessRecordsInput) -> Option<Position> {
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::WatermarkPassesUndone) {
            let index = self.schedule.last_finished()?;
            return Some(input.records[index].position());
        }
        let index = self.schedule.watermark()?;
        Some(input.records[index].position())
    }

    fn may_start(&self) -> bool {
        self.failure.is_none() && !self.stopping
    }

    fn settle(&mut self, index: usize, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.schedule.finish(index),
            Err(failure) => {
                let earlier = self
                    .failure
                    .as_ref()
                    .is_none_or(|(first, _)| index < *first);
                if earlier {
                    self.failure = Some((index, failure));
                }
            }
        }
    }
}

/// Checkpoints the watermark. A failure is tried again with the next one; a lost lease shows there.
async fn store(watermark: Option<Position>, input: &ProcessRecordsInput) {
    let Some(position) = watermark else {
        return;
    };
    if position <= input.checkpointer.last() {
        return;
    }
    if let Err(error) = input.checkpointer.checkpoint_at(&position).await {
        tracing::debug!(%error, "The watermark is not checkpointed now.");
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
        let progress = self.work(&input).await;
        if progress.schedule.is_done() {
            input.checkpointer.checkpoint().await?;
            if let Some(last) = input.records.last().map(Record::position) {
                // Those behind it belong to a part of the batch that is still to come.
                self.done.retain(|position| *position > last);
            }
            return Ok(());
        }
        store(progress.watermark(&input), &input).await;
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
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
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
