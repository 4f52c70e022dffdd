//! What an application writes: a record processor per shard, and a factory that makes one for each
//! lease this worker gains.
//!
//! ```text
//! initialize ─▶ process_records ─▶ process_records ─▶ … ─┬▶ lease_lost            another worker has the shard
//!                     ▲      │                           ├▶ shard_ended           split, merged: every record was processed
//!                     └──────┘ Err(Retry) or panic:      └▶ shutdown_requested    worker stops, or hands the lease over
//!                              the same batch again, and under OnFailure::DeadLetter
//!                              then parts of it, until the guilty record is found
//! ```
//!
//! Promise: the calls of one processor never overlap; batches come in the order of the shard; a
//! batch that failed comes again until it succeeds, and no later batch comes before that. Reading
//! ahead and keeping the lease alive run in tasks of their own, so a processor may take as long as
//! it needs.
//!
//! # Cancel safety
//!
//! A [`StopSignal`] tells a processor beforehand by when it has to be done.
//!
//! The future of any call is dropped, at its next await point, when the lease is lost: another
//! worker may already own the shard, so going on would only make duplicates. `process_records` is
//! dropped too when a shutdown or a handoff reaches its deadline. An implementation must therefore
//! leave `self` usable when one of its futures is dropped half-way: keep a buffer consistent across
//! every `.await`, and let work that must not be cut in two run in a task of its own. After a
//! panic the same holds: the same processor value gets the batch again.
//!
//! A future is dropped where it awaits. One that blocks its thread goes on until it awaits, also
//! after the lease is lost: give such work to `tokio::task::spawn_blocking`.

mod each;
mod stop;
mod stream;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kinesis_core::{Position, ShardId};

use crate::checkpoint::{Checkpointer, PendingCheckpoint};
use crate::error::BoxError;
use crate::record::Record;
use crate::shard::Flow;
use crate::stream::StreamId;
pub(crate) use each::{Failure, Source, Verdict};
pub use each::{ForEach, ShardRecord, for_each};
pub(crate) use stop::StopSender;
pub use stop::StopSignal;
pub use stream::{Delivery, RecordStream, record_stream};

/// Processes the records of one shard, for as long as this worker holds its lease.
#[async_trait]
pub trait RecordProcessor: Send {
    /// Called once, before the first batch. On `Err(Retry)` it is called again with backoff.
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        let InitializeInput { .. } = input;
        Ok(())
    }

    /// Processes one batch; never an empty one.
    ///
    /// `Ok` means that the batch is dealt with or safely taken over, not that it is checkpointed:
    /// that is done with the input's [`Checkpointer`], here or later. `Err(Retry)` and a panic
    /// bring the same batch again, with backoff, until it succeeds, the lease is lost or the worker
    /// stops, or until [`Settings::on_failure`](crate::Settings::on_failure) says otherwise. What an
    /// error leads to is told at [`ProcessorError`].
    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError>;

    /// Whether [`process_flow`](Self::process_flow) is called in place of `process_records`.
    #[doc(hidden)]
    fn takes_flow(&self) -> bool {
        false
    }

    /// Works on batches, and takes further ones while it does. `Ok` once all that it took is settled.
    #[doc(hidden)]
    async fn process_flow(&mut self, flow: Flow<'_>) -> Result<(), ProcessorError> {
        drop(flow);
        Err(ProcessorError::fatal("this processor takes batches"))
    }

    /// Another worker owns the shard. No checkpoint is possible any more; drop what is buffered.
    async fn lease_lost(&mut self) {}

    /// Every record of the shard was processed and the shard has no more: it was split or merged.
    ///
    /// Must store what is still buffered and end with `checkpointer.checkpoint().await?`, which
    /// marks the shard as finished and lets its children start. A processor that returns without
    /// it is asked again, with backoff and an ERROR log.
    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError>;

    /// The worker stops or hands the lease over: the last chance to store what is buffered and to
    /// checkpoint. What is not checkpointed here is delivered to the next owner again. The lease
    /// is released afterwards whatever this returns.
    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError>;
}

#[async_trait]
impl<P: RecordProcessor + ?Sized> RecordProcessor for Box<P> {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        (**self).initialize(input).await
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        (**self).process_records(input).await
    }

    fn takes_flow(&self) -> bool {
        (**self).takes_flow()
    }

    async fn process_flow(&mut self, flow: Flow<'_>) -> Result<(), ProcessorError> {
        (**self).process_flow(flow).await
    }

    async fn lease_lost(&mut self) {
        (**self).lease_lost().await;
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        (**self).shard_ended(checkpointer).await
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        (**self).shutdown_requested(checkpointer).await
    }
}

/// Makes a processor for each lease the worker gains. Any `Fn(&ShardId) -> impl RecordProcessor`
/// is one.
pub trait RecordProcessorFactory: Send + Sync {
    /// A fresh processor for `shard_id`. Called again when a lease comes back to this worker.
    fn create(&self, shard_id: &ShardId) -> Box<dyn RecordProcessor>;

    /// The same where the consumer reads several streams, whose shards may have the same ids.
    /// [`per_stream`] makes a factory of a closure that takes both.
    fn create_for(&self, stream: &StreamId, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        let _of_any_stream = stream;
        self.create(shard_id)
    }
}

/// The factory of a consumer of several streams: calls `create` with stream and shard. (In a consumer
/// of one stream, whose lease keys do without its id, account and name are empty.)
///
/// ```
/// use kinesis_consumer::{ShardId, StreamId, per_stream};
/// # use kinesis_consumer::*;
/// # struct Board(String);
/// # #[async_trait::async_trait]
/// # impl RecordProcessor for Board {
/// #     async fn process_records(&mut self, _: ProcessRecordsInput) -> Result<(), ProcessorError> { Ok(()) }
/// #     async fn shard_ended(&mut self, _: Checkpointer) -> Result<(), ProcessorError> { Ok(()) }
/// #     async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> { Ok(()) }
/// # }
/// let factory = per_stream(|stream: &StreamId, _: &ShardId| Board(stream.name().to_owned()));
/// ```
pub fn per_stream<F, P>(create: F) -> impl RecordProcessorFactory
where
    F: Fn(&StreamId, &ShardId) -> P + Send + Sync,
    P: RecordProcessor + 'static,
{
    PerStream(create)
}

struct PerStream<F>(F);

impl<F, P> RecordProcessorFactory for PerStream<F>
where
    F: Fn(&StreamId, &ShardId) -> P + Send + Sync,
    P: RecordProcessor + 'static,
{
    fn create(&self, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        self.create_for(&StreamId::unknown(), shard_id)
    }

    fn create_for(&self, stream: &StreamId, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        Box::new((self.0)(stream, shard_id))
    }
}

impl<F, P> RecordProcessorFactory for F
where
    F: Fn(&ShardId) -> P + Send + Sync,
    P: RecordProcessor + 'static,
{
    fn create(&self, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        Box::new(self(shard_id))
    }
}

/// What a processor learns before its first batch.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct InitializeInput {
    /// The shard whose lease was gained.
    pub shard_id: ShardId,
    /// The last checkpoint: reading starts right behind it. `TrimHorizon`, `Latest` or
    /// `AtTimestamp` when nothing was ever checkpointed.
    pub position: Position,
    /// A checkpoint that was prepared and not committed, by this or an earlier owner of the lease
    /// (see [`Checkpointer::prepare`]). Records behind `position` are delivered all the same, those
    /// up to the prepared position too: what its state says about them is for the processor to use.
    /// It stays stored until the next checkpoint of the shard.
    pub pending: Option<PendingCheckpoint>,
}

impl InitializeInput {
    /// The input for `shard_id`, of which everything up to `position` was processed.
    pub fn new(shard_id: ShardId, position: Position) -> Self {
        Self {
            shard_id,
            position,
            pending: None,
        }
    }

    /// The same with a checkpoint that was prepared and not committed.
    #[must_use]
    pub fn with_pending(mut self, pending: PendingCheckpoint) -> Self {
        self.pending = Some(pending);
        self
    }
}

/// One batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProcessRecordsInput {
    /// The records, in order; at least one. A clone of the `Arc` may be kept, but memory held that
    /// way is not counted against the consumer's byte budget.
    pub records: Arc<[Record]>,
    /// Checkpoints this shard. May be kept and used later; it then leaves out what a later call has in
    /// hand (see [`Checkpointer`]).
    pub checkpointer: Checkpointer,
    /// How far the batch's end was from the tip of the shard when it was read, in milliseconds.
    pub millis_behind_latest: u64,
    /// The shard.
    pub shard_id: ShardId,
    /// Tells by when the call has to return.
    pub stop: StopSignal,
}

impl ProcessRecordsInput {
    /// A batch at the tip of the shard that `checkpointer` belongs to; for tests of processors.
    pub fn new(records: impl Into<Arc<[Record]>>, checkpointer: Checkpointer) -> Self {
        Self {
            records: records.into(),
            millis_behind_latest: 0,
            shard_id: checkpointer.shard_id().clone(),
            stop: checkpointer.stop_signal().clone(),
            checkpointer,
        }
    }
}

/// Why a call of a processor failed, which is also what happens next.
///
/// | `process_records` returns | [`OnFailure::Retry`] | [`OnFailure::DeadLetter`] | [`OnFailure::Stop`] |
/// |---|---|---|---|
/// | `Retry`, or panics | again, for ever | again; after `attempts` the batch is halved until the guilty record is alone, which then is a dead letter | again; after `attempts` the shard stops |
/// | `Poison` | as `Retry`, with an ERROR | the batch is halved at once; a record alone is a dead letter at once | the shard stops at once |
/// | `PoisonAt` | as `Retry`, with an ERROR | the records before it are delivered again, then it is a dead letter, then those behind it come | the shard stops at once |
/// | `Fatal` | the consumer stops | the consumer stops | the consumer stops |
///
/// From the other calls `Poison` and `PoisonAt` mean what `Retry` does.
///
/// [`OnFailure::Retry`]: crate::OnFailure::Retry
/// [`OnFailure::DeadLetter`]: crate::OnFailure::DeadLetter
/// [`OnFailure::Stop`]: crate::OnFailure::Stop
#[non_exhaustive]
pub enum ProcessorError {
    /// Deliver the same batch again, with backoff. What `?` makes of any `std::error::Error`.
    Retry(BoxError),
    /// A record of the batch can never be processed, and which one is not known.
    Poison(BoxError),
    /// The record at `position` can never be processed. The records before it may have been
    /// processed or not; they are delivered again. A position that is not in the batch names nobody.
    PoisonAt {
        /// Of the record; see [`Record::position`].
        position: Position,
        /// Why.
        cause: BoxError,
    },
    /// This cannot be mended by trying again: the shard stops on this worker without being
    /// checkpointed any further, its lease is released, the other shards are shut down in good
    /// order, and `Consumer::run` returns an error of kind [`ErrorKind::Processor`](crate::ErrorKind::Processor).
    Fatal(BoxError),
}

impl ProcessorError {
    /// A [`ProcessorError::Fatal`] of any error or text.
    pub fn fatal(cause: impl Into<BoxError>) -> Self {
        Self::Fatal(cause.into())
    }

    /// A [`ProcessorError::Retry`] of any error or text.
    pub fn retry(cause: impl Into<BoxError>) -> Self {
        Self::Retry(cause.into())
    }

    /// A [`ProcessorError::Poison`] of any error or text.
    pub fn poison(cause: impl Into<BoxError>) -> Self {
        Self::Poison(cause.into())
    }

    /// A [`ProcessorError::PoisonAt`] the record at `position`, of any error or text.
    pub fn poison_at(position: Position, cause: impl Into<BoxError>) -> Self {
        let cause = cause.into();
        Self::PoisonAt { position, cause }
    }
}

impl fmt::Debug for ProcessorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(cause) => f.debug_tuple("Retry").field(cause).finish(),
            Self::Poison(cause) => f.debug_tuple("Poison").field(cause).finish(),
            Self::PoisonAt { position, cause } => f
                .debug_struct("PoisonAt")
                .field("position", position)
                .field("cause", cause)
                .finish(),
            Self::Fatal(cause) => f.debug_tuple("Fatal").field(cause).finish(),
        }
    }
}

impl fmt::Display for ProcessorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(cause) => write!(f, "to be retried: {cause}"),
            Self::Poison(cause) => write!(f, "poison: {cause}"),
            Self::PoisonAt { position, cause } => write!(f, "poison at {position}: {cause}"),
            Self::Fatal(cause) => write!(f, "fatal: {cause}"),
        }
    }
}

// Not an `std::error::Error` itself: that would overlap with the conversion that makes `?` work.
impl<E> From<E> for ProcessorError
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn from(cause: E) -> Self {
        Self::Retry(Box::new(cause))
    }
}
