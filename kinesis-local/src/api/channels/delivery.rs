//! What carries a stream's records to a channel's bucket: one task per channel.
//!
//! ```text
//! wait until the oldest record is as old as the data may be ─▶ everything that is there, shard by
//! shard, object by object: read ─▶ format, compress ─▶ put, confirmed ─▶ cursor in the log
//! ```
//! Promises: no object is begun before the one before it is confirmed and its cursor is stored, so
//! there is one in memory at a time and a crash repeats at most one, under the same name; a bucket
//! that does not take it is asked again, forever, and nothing is passed over meanwhile. The task
//! ends with its channel, its stream and the service; an object under way is finished first.

use std::sync::Arc;
use std::time::Duration;

use kinesis_core::Clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::buckets::{BucketError, Buckets, Object};
use crate::api::encryption::check_reading;
use crate::catalog::StreamCell;
use crate::log::Log;
use crate::log::entry::Entry;
use crate::stream::change::Change;
use crate::stream::channel::change::{ChannelChange, NewChannel};
use crate::stream::channel::object::{Compression, Contents, Naming};
use crate::stream::channel::{Batch, Due};
use crate::stream::encryption::KmsKeys;
use crate::stream::shard::{Identity, Shard, Start};

/// How long a bucket that did not take an object is left alone. Source: none, reasonable default.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What delivers for one channel.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) clock: Clock,
    pub(super) log: Log,
    pub(super) kms: KmsKeys,
    pub(super) buckets: Buckets,
    pub(super) cell: Arc<StreamCell>,
    /// The part of the channel's id that is its own.
    pub(super) id: u64,
    /// Told when the channel was changed.
    pub(super) changed: Arc<Notify>,
    /// Cancelled when the service closes.
    pub(super) ended: CancellationToken,
}

/// Why a delivery stops before everything is delivered.
#[derive(Debug)]
enum Stop {
    /// There is nothing to do any more.
    Over,
    /// It is tried again.
    Trouble { reason: String, is_failure: bool },
}

impl From<BucketError> for Stop {
    fn from(error: BucketError) -> Self {
        Self::Trouble {
            reason: error.to_string(),
            is_failure: matches!(error, BucketError::Missing(_)),
        }
    }
}

impl Delivery {
    pub(super) async fn run(self) {
        let mut news = self.cell.read().watch();
        loop {
            news.mark_unchanged(); // before looking: nothing that comes later is missed
            let Some(due) = self.due() else { return };
            let at_ms = match due {
                Due::Now => match self.deliver().await {
                    Ok(()) => {
                        self.note_trouble(None);
                        continue;
                    }
                    Err(Stop::Over) => return,
                    Err(Stop::Trouble { reason, is_failure }) => {
                        tracing::warn!(stream = %self.cell.name, reason, "A channel cannot deliver; it tries again.");
                        self.note_trouble(is_failure.then_some(reason));
                        Some(self.clock.epoch_millis() + RETRY_AFTER.as_millis() as u64)
                    }
                },
                Due::At(at_ms) => Some(at_ms),
                Due::Never => None,
            };
            let now_ms = self.clock.epoch_millis();
            let wait =
                at_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)));
            tokio::select! {
                biased;
                // What is written later is not due earlier.
                _ = news.changed(), if wait.is_none() => {}
                () = self.clock.sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                () = self.changed.notified() => {}
                () = self.cell.gone.cancelled() => return,
                () = self.ended.cancelled() => return,
            }
        }
    }

    /// When to deliver; `None`: never again.
    fn due(&self) -> Option<Due> {
        let stream = self.cell.read();
        let mut channel = stream.channel(self.id)?;
        if channel.is_over() || self.ended.is_cancelled() {
            return None;
        }
        Some(channel.due(&stream, self.clock.epoch_millis()))
    }

    /// Delivers everything that is there now.
    async fn deliver(&self) -> Result<(), Stop> {
        let shards: Vec<(u32, u64, Identity)> = {
            let stream = self.cell.read();
            let mut channel = stream.channel(self.id).ok_or(Stop::Over)?;
            let shards = channel.shards(&stream);
            let with_end = |(index, shard): (u32, Arc<Shard>)| {
                let end = shard.log().seek(Start::Latest);
                (index, end, shard.identity.clone())
            };
            shards.map(with_end).collect()
        };
        for (index, end, identity) in shards {
            while let Some((batch, settings)) = self.next(index, end)? {
                check_reading(&self.kms, &batch.records).map_err(|fault| Stop::Trouble {
                    reason: fault.message.unwrap_or_default(),
                    is_failure: false,
                })?;
                self.put(&identity, &batch, &settings).await?;
                self.confirm(&batch).await?;
            }
        }
        Ok(())
    }

    /// The next object of the shard, and the settings that are in force.
    fn next(&self, index: u32, end: u64) -> Result<Option<(Batch, NewChannel)>, Stop> {
        let stream = self.cell.read();
        let mut channel = stream.channel(self.id).ok_or(Stop::Over)?;
        if channel.is_over() || self.ended.is_cancelled() {
            return Err(Stop::Over);
        }
        let batch = channel.next(&stream, index, end, self.clock.epoch_millis());
        Ok(batch.map(|batch| (batch, channel.settings.clone())))
    }

    async fn put(
        &self,
        shard: &Identity,
        batch: &Batch,
        settings: &NewChannel,
    ) -> Result<(), Stop> {
        let Some(first) = batch.records.first() else {
            return Ok(());
        };
        let id = settings.id.to_string();
        let naming = Naming {
            channel: &settings.name,
            id: &id,
            format: settings.format,
            compression: settings.compression,
        };
        let contents = Contents::of(settings.format, shard, &batch.records);
        if !contents.errors.is_empty() {
            let object = Object {
                bucket: settings.errors.name(),
                key: &naming.error_key(&settings.error_prefix, shard, first),
                storage_class: "STANDARD",
                compression: Compression::None,
                contents: contents.errors,
            };
            self.buckets.put(object).await?;
        }
        if !contents.body.is_empty() {
            let object = Object {
                bucket: settings.bucket.name(),
                key: &naming.key(&settings.key_template, shard, first),
                storage_class: &settings.storage_class,
                compression: settings.compression,
                contents: contents.body,
            };
            self.buckets.put(object).await?;
        }
        Ok(())
    }

    /// Moves the cursor behind what the bucket has, and waits until that is stored.
    async fn confirm(&self, batch: &Batch) -> Result<(), Stop> {
        let ticket = {
            let stream = self.cell.read();
            let mut channel = stream.channel(self.id).ok_or(Stop::Over)?;
            if channel.is_over() {
                return Err(Stop::Over);
            }
            let at_ms = self.clock.epoch_millis();
            let change = ChannelChange::Delivered {
                shard: batch.shard,
                next: batch.next,
            };
            channel.apply(&change, at_ms);
            let entry = Entry::Change {
                stream: self.cell.id,
                at_ms,
                change: Change::Channel {
                    id: self.id,
                    change,
                },
            };
            self.log.submit(entry, None, None)
        };
        // A store that takes nothing any more takes no cursor either.
        ticket.stored().await.map_err(|_| Stop::Over)
    }

    fn note_trouble(&self, reason: Option<String>) {
        let stream = self.cell.read();
        if let Some(mut channel) = stream.channel(self.id) {
            channel.trouble = reason;
        }
    }
}
