//! The processor of one shard: records into batches, batches into objects, then the checkpoint.
//!
//! ```text
//!  process_records ──▶ Batcher ──sealed──▶ PutObject ──stored──▶ checkpoint_at(last of the batch)
//!                        ▲ │
//!                        │ └─ due ──▶ flusher (a task of its own: age counts on a quiet shard too)
//!                        └─── one async mutex: either of the two writes, never both
//! ```
//!
//! `process_records` is called when there are records, so it cannot see to the age of a batch on a
//! shard that went quiet. A task per shard sleeps until the open batch is due, then does what
//! `process_records` does with a sealed batch: it stores the object and checkpoints through the
//! checkpointer that came with the last records. The mutex keeps the order (the objects of a shard
//! are written one after the other) and is the back-pressure: while an object is being written,
//! records wait where they are.
//!
//! Invariants:
//! - A checkpoint names a record only after the object that holds it is stored.
//! - A sealed batch stays until it is stored. An error on the way loses nothing: the batch is written
//!   again, under the same name, by whoever comes first.
//! - The checkpoint that a stored batch is owed is remembered and follows as far as records are
//!   delivered: after an error they may come again in smaller parts than they were taken in, and what
//!   of a part is stored already is no reason to fail it.
//! - After `lease_lost`, and after a drop, nothing is written any more: a write in flight is
//!   dropped, which at worst leaves an object whose records the next worker stores once more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kinesis_core::{Backoff, Clock, Position, ShardId};
use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

use super::batch::{Batcher, Pushed};
use super::format::LineFormat;
use super::s3::{Objects, StoreError};
use crate::checkpoint::Checkpointer;
use crate::processor::{InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor};
use crate::record::Record;

/// Wait of the flusher before it tries a failed batch again.
/// Source: none, reasonable default; the write has had its own retries before.
const FLUSH_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// One shard of a sink; see the module.
pub(super) struct ShardSink {
    shard: Arc<Shard>,
    /// Ends the flusher and any write in flight when the processor is dropped.
    _stop: DropGuard,
}

struct Shard {
    id: ShardId,
    objects: Objects,
    format: LineFormat,
    clock: Clock,
    buffer: Mutex<Buffer>,
    /// A batch was opened: the flusher has a new time to wait for.
    opened: Notify,
    stop: CancellationToken,
}

/// Bytes of line buffer that are kept from one record to the next.
/// Source: none, reasonable default; most lines are far smaller.
const LINE_BUFFER_BYTES_KEPT: usize = 64 * 1024;

struct Buffer {
    batcher: Batcher,
    /// Everything up to here is stored, and the checkpoint is not yet there.
    unchecked: Option<Position>,
    /// The one that came last with records.
    checkpointer: Option<Checkpointer>,
}

impl ShardSink {
    pub(super) fn new(
        id: ShardId,
        objects: Objects,
        format: LineFormat,
        batcher: Batcher,
        clock: Clock,
    ) -> Self {
        let stop = CancellationToken::new();
        Self {
            _stop: stop.clone().drop_guard(),
            shard: Arc::new(Shard {
                id,
                objects,
                format,
                clock,
                buffer: Mutex::new(Buffer {
                    batcher,
                    unchecked: None,
                    checkpointer: None,
                }),
                opened: Notify::new(),
                stop,
            }),
        }
    }
}

#[async_trait]
impl RecordProcessor for ShardSink {
    async fn initialize(&mut self, _: InitializeInput) -> Result<(), ProcessorError> {
        tokio::spawn(flush_when_due(Arc::clone(&self.shard)).in_current_span());
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let mut buffer = self.shard.buffer.lock().await;
        buffer.checkpointer = Some(input.checkpointer);
        let taken = self.shard.take(&mut buffer, &input.records).await;
        self.shard.opened.notify_one();
        taken
    }

    async fn lease_lost(&mut self) {
        self.shard.stop.cancel();
        let mut buffer = self.shard.buffer.lock().await;
        buffer.batcher.discard();
        buffer.unchecked = None;
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        self.shard.finish(&checkpointer).await?;
        checkpointer.checkpoint().await?;
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.shard.finish(&checkpointer).await?;
        // All that was taken is stored; behind it may be records that are dead letters.
        checkpointer.checkpoint().await?;
        Ok(())
    }
}

impl Shard {
    /// Puts the records into batches and stores each batch that they complete. After an error the
    /// same records may come again: those that are in a batch already are passed over.
    async fn take(&self, buffer: &mut Buffer, records: &[Record]) -> Result<(), ProcessorError> {
        let mut line = Vec::new();
        for record in records {
            let position = record.position();
            if buffer.batcher.has_taken(&position) {
                continue;
            }
            line.clear();
            self.format.write_line(&self.id, record, &mut line)?;
            while buffer.batcher.push(&position, &line, self.clock.now()) == Pushed::Full {
                self.store_sealed(buffer).await?;
            }
            if line.capacity() > LINE_BUFFER_BYTES_KEPT {
                line = Vec::new();
            }
        }
        self.store_sealed(buffer).await
    }

    /// Stores everything that is held.
    async fn finish(&self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        let mut buffer = self.buffer.lock().await;
        buffer.checkpointer = Some(checkpointer.clone());
        self.store_sealed(&mut buffer).await?;
        buffer.batcher.seal();
        self.store_sealed(&mut buffer).await
    }

    /// Waits for the open batch to become due; false when the processor is gone.
    async fn wait_until_due(&self) -> bool {
        loop {
            let due = self.buffer.lock().await.batcher.due();
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                () = self.opened.notified() => {}
                () = due => return true,
            }
        }
    }

    /// Stores the sealed batch, if there is one, and then moves the checkpoint to its end.
    async fn store_sealed(&self, buffer: &mut Buffer) -> Result<(), ProcessorError> {
        if let Some(batch) = buffer.batcher.sealed() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(StoreError::Stopped.into()),
                stored = self.objects.store(&self.id, batch) => stored?,
            }
            tracing::debug!(
                shard_id = %self.id, records = batch.records, bytes = batch.body.len(), "an object was stored"
            );
            buffer.unchecked = Some(batch.last.clone());
            buffer.batcher.stored();
        }
        self.checkpoint(buffer).await
    }

    /// Moves the checkpoint to the end of what is stored, or of what of it is delivered: the rest comes
    /// again, and is passed over then.
    async fn checkpoint(&self, buffer: &mut Buffer) -> Result<(), ProcessorError> {
        let (Some(stored), Some(checkpointer)) = (&buffer.unchecked, &buffer.checkpointer) else {
            return Ok(());
        };
        let reached = checkpointer.delivered().min(stored.clone());
        if reached > checkpointer.last() {
            checkpointer.checkpoint_at(&reached).await?;
        }
        if reached == *stored {
            buffer.unchecked = None;
        }
        Ok(())
    }
}

/// Seals and stores each batch that becomes due, until the processor is gone.
async fn flush_when_due(shard: Arc<Shard>) {
    while shard.wait_until_due().await {
        for failures in 0.. {
            let mut buffer = shard.buffer.lock().await;
            buffer.batcher.seal_due(shard.clock.now());
            let stored = shard.store_sealed(&mut buffer).await;
            drop(buffer);
            let Err(error) = stored else { break };
            if shard.stop.is_cancelled() {
                return;
            }
            let wait = FLUSH_BACKOFF.delay(failures, &shard.objects.rand);
            tracing::warn!(
                shard_id = %shard.id, %error, wait_ms = wait.as_millis(),
                "a batch that is due was not stored, trying again"
            );
            if timeout(wait, shard.stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }
}
