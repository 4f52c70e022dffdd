//! Records one by one in place of batches: several keys of a shard at once, each key in order.
//!
//! ```text
//!             batch ───────▶ batch ──▶ batch
//! records     a1 b1 a2 c1   b2 a3     d1         concurrency 3
//! running     a1 b1    c1                        a2 starts when a1 is done, b2 when b1 is
//! done        ●  ●  ·  ●    ·  ·      ·          the next batch is taken when nothing that is here may start
//! watermark      ▲                               everything up to here is done: this may be checkpointed
//! ```
//!
//! Promise: a record is handled after all earlier ones of its partition key were; a checkpoint never
//! passes a record that is not done. Records of several batches are under way at once; a batch counts
//! against the limits of what a shard reads ahead until all up to its end is done.
//!
//! A record that failed, or whose handler panicked, is tried again by itself
//! ([`Settings::on_failure`](crate::Settings::on_failure); `shard/flow` says how). During the pause
//! before that nothing starts, and what is under way goes on; then it comes with others beside it, so that
//! whoever waits for a number of records gets them. Given up, it is a dead letter, or the shard stops. What
//! was done is not handled again by the same owner of the lease.
//!
//! A checkpoint costs a write of the lease table, so there is at most one per `checkpoint_interval`: while
//! records are worked on, once all are done, or, where no others come, by a task of its own behind them. A call
//! without a watermark, because its first record hangs, stores by the interval what the calls before it owe,
//! and before its failure is told, since a fatal one is the last call. When the shard is to stop, the
//! watermark is stored whenever it moves, since a handler that hangs may be cut off.
//!
//! A call goes through a `Flow`, which batches join while it lasts (`each/run`, over either `each/source`).
//! Where somebody stands between this processor and the shard's task it goes through one batch, as any other
//! processor does, and its failures are that batch's.

mod owed;
mod progress;
mod run;
mod schedule;
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use kinesis_core::{Position, ShardId};

use super::{ProcessRecordsInput, ProcessorError, RecordProcessor, RecordProcessorFactory};
use crate::checkpoint::Checkpointer;
use crate::record::Record;
use crate::shard::Flow;
use crate::stream::StreamId;
pub(crate) use progress::Failure;
use run::Runner;
use source::Single;
pub(crate) use source::{Source, Verdict};

/// Source: none, reasonable default: calls of one service under way for one shard.
const CONCURRENCY: usize = 16;

/// Source: none, reasonable default: what a crash repeats at most, at one write of the lease table.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Source: none, reasonable default: ten writes a second of one row.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Source: none, reasonable default, as of every duration of the settings.
const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How [`for_each`] goes through the records of a shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForEach {
    /// Most records of a shard that are handled at once, of as many batches as it takes; at least 1
    /// counts. What is read, and not done up to there, is bounded by
    /// [`max_records_count`](crate::Settings::max_records_count) and in bytes by the lesser of
    /// [`max_byte_size`](crate::Settings::max_byte_size) and the shard's share of
    /// [`max_buffered_bytes`](crate::Settings::max_buffered_bytes), which is ⅝ of that divided by the shards
    /// that the worker holds. A record that waits to be stored as a dead letter is none of them. Default: 16.
    pub concurrency: usize,
    /// Whether records of one partition key wait for each other. Records without a key, as a stream
    /// has them that distributes records by itself, wait for none. Default: yes.
    pub order_per_key: bool,
    /// How often the watermark is checkpointed at most, and what a crash repeats at most besides what is
    /// behind a record that is not done, 100 ms to 24 h; outside of that the nearer bound counts. When the worker stops, the lease is handed over or
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
/// - **Order**: within a partition key that of the shard; none between keys. A record waits for all earlier
///   ones of its key, until they are done or stored as dead letters, and for no other key: a slow record
///   holds up its key and the checkpoint, until what is read behind it reaches the limits of a shard.
/// - **Checkpoints** are made by the processor, at the last record up to which all are done, once per
///   [`checkpoint_interval`](ForEach::checkpoint_interval).
/// - **Failures**: an error says what it says of a batch ([`ProcessorError`]), of this record alone, and
///   [`Settings::on_failure`](crate::Settings::on_failure) counts its attempts alone: it is tried again after
///   a pause in which nothing else starts, and a poison record is a dead letter without a search. Of records
///   that fail together, as when a database is away, one at a time has its attempts counted.
/// - **A handler that hangs** leaves its record under way; with none done for one to two minutes there is a
///   WARN.
/// - **Wrapped**: a processor of yours that passes its calls on to one of these has it go through batch by
///   batch, each done or failed as a whole.
///
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
    runner: Runner,
    /// Records of a batch that failed or was cut off, and that were done all the same.
    done: BTreeSet<Position>,
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
        let settings = ForEach {
            checkpoint_interval,
            ..settings
        };
        Self {
            runner: Runner::new(settings, stream, shard_id, handler),
            done: BTreeSet::new(),
        }
    }
}

#[async_trait]
impl RecordProcessor for Each {
    /// A batch and no more, which fails as a whole: for whoever stands between this and the shard's task.
    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let mut batch = Single::new(&input, &mut self.done);
        self.runner.run(&mut batch).await?;
        if let Some(last) = input.records.last().map(Record::position) {
            // Those behind it belong to a part of the batch that is still to come.
            self.done.retain(|position| *position > last);
        }
        Ok(())
    }

    fn takes_flow(&self) -> bool {
        true
    }

    async fn process_flow(&mut self, mut flow: Flow<'_>) -> Result<(), ProcessorError> {
        self.runner.run(&mut flow).await
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        self.runner.forestall_late();
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
        self.runner.forestall_late();
        Ok(checkpointer.checkpoint().await?)
    }
}

impl fmt::Debug for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Each")
            .field("shard_id", &self.runner.shard_id)
            .field("settings", &self.runner.settings)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
