//! Sinks: record processors that store what they are given.
//!
//! [`S3Sink`] writes the records of each shard as NDJSON objects:
//!
//! ```text
//! shard ─▶ record ─▶ line ─▶ batch ──(bytes · records · age · end)──▶ object in S3 ─▶ checkpoint
//!                    format  batch                                    s3              processor
//! ```
//!
//! Promises:
//! - A record is checkpointed only after the object that holds it is stored, so every record is in
//!   an object, whatever crashes: **at least once**.
//! - The records of a shard are in its objects in their order, and the objects' names sort in it.
//! - What a shard holds in memory is bounded by the settings.
//! - Records wait at most [`max_batch_age`](S3SinkSettings::max_batch_age), on a quiet shard too,
//!   plus the time of the write.
//!
//! What is **not** promised is exactly once. When a worker dies between storing an object and
//! checkpointing it, the next worker starts at the older checkpoint. If it cuts the same edges it
//! replaces the same object; but age cuts elsewhere, so it may store some of the records a second
//! time, in an object with another name. A reader that needs each record once has to take
//! `(shard_id, sequence_number, sub_sequence)` from [`LineFormat::Envelope`] as the record's identity.
//!
//! The sink itself gives nothing up; what becomes of a batch that fails is for
//! [`Settings::on_failure`](crate::Settings::on_failure) to say, and it cannot tell a bucket that is away from
//! a record that is at fault. Under `Retry` records wait for the bucket. Under `DeadLetter` an outage that
//! outlasts the `attempts` and their pauses buries records, one after the other, until the bucket is back;
//! those that were in a batch already are in an object too then. Under `Stop` it stops shards until the
//! worker is started again. So choose `Retry`: a record as such never fails here.
//!
//! Absent: other stores, compression, columnar formats, dead letters of its own.

mod batch;
mod format;
pub mod metrics;
mod processor;
mod s3;
mod settings;

use kinesis_core::{Clock, Rand, ShardId};

use crate::error::Error;
use crate::processor::{RecordProcessor, RecordProcessorFactory};
use crate::stream::StreamId;
use batch::Batcher;
pub use format::LineFormat;
pub use metrics::Stored;
use metrics::Tally;
use processor::ShardSink;
use s3::Objects;
pub use settings::S3SinkSettings;

/// Stores the records of every shard this worker holds as NDJSON objects in an S3 bucket. Hand it
/// to [`Consumer::builder`](crate::Consumer::builder) as the factory. Cheap to clone.
///
/// The objects are named `<prefix><shard id>/<first>-<last>.ndjson` after the positions of their
/// first and last record. The shard's name alone does not tell two streams apart: give each
/// stream a prefix of its own in a shared bucket.
///
/// A failed write is tried a few times with backoff and then returned as
/// [`ProcessorError::Retry`](crate::ProcessorError::Retry), so the consumer brings the records
/// again until the bucket takes them or the lease is lost. That nothing is skipped holds under
/// [`OnFailure::Retry`](crate::OnFailure::Retry), the default: an outage that outlasts the attempts of
/// `DeadLetter` makes dead letters of records, and under `Stop` it stops shards.
///
/// Has to run inside a tokio runtime: each shard has a task that sees to the age of its batch.
#[derive(Clone, Debug)]
pub struct S3Sink {
    settings: S3SinkSettings,
    objects: Objects,
    clock: Clock,
}

impl S3Sink {
    /// A sink that writes into `bucket`, which has to exist, through `client`.
    pub fn builder(client: aws_sdk_s3::Client, bucket: impl Into<String>) -> S3SinkBuilder {
        S3SinkBuilder {
            client,
            bucket: bucket.into(),
            settings: S3SinkSettings::default(),
            clock: Clock::system(),
            rand: None,
        }
    }

    /// What this sink and its clones have stored so far, on all shards.
    #[must_use]
    pub fn stored(&self) -> Stored {
        self.objects.tally.read()
    }
}

impl RecordProcessorFactory for S3Sink {
    fn create(&self, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        self.of_shard(shard_id, self.objects.clone())
    }

    /// Shards of different streams may have the same id: the objects' names tell them apart.
    fn create_for(&self, stream: &StreamId, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        let mut objects = self.objects.clone();
        objects.prefix = format!("{}{stream}/", objects.prefix);
        self.of_shard(shard_id, objects)
    }
}

impl S3Sink {
    fn of_shard(&self, shard_id: &ShardId, objects: Objects) -> Box<dyn RecordProcessor> {
        Box::new(ShardSink::new(
            shard_id.clone(),
            objects,
            self.settings.format,
            Batcher::new(self.settings.limits()),
            self.clock.clone(),
        ))
    }
}

/// Makes an [`S3Sink`].
#[derive(Clone, Debug)]
#[must_use]
pub struct S3SinkBuilder {
    client: aws_sdk_s3::Client,
    bucket: String,
    settings: S3SinkSettings,
    clock: Clock,
    rand: Option<Rand>,
}

impl S3SinkBuilder {
    /// The settings; the defaults otherwise.
    pub fn settings(mut self, settings: S3SinkSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Where time comes from; the system otherwise.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where the jitter of retries comes from; the machine's entropy otherwise.
    pub fn rand(mut self, rand: Rand) -> Self {
        self.rand = Some(rand);
        self
    }

    /// Checks the settings. Nothing is sent yet: whether the bucket exists shows at the first write.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), naming the field and its bound.
    pub fn build(self) -> Result<S3Sink, Error> {
        self.settings.validate(&self.bucket)?;
        Ok(S3Sink {
            objects: Objects {
                client: self.client,
                bucket: self.bucket,
                prefix: self.settings.prefix.clone(),
                rand: self.rand.unwrap_or_else(Rand::from_entropy),
                tally: Tally::default(),
            },
            settings: self.settings,
            clock: self.clock,
        })
    }
}

#[cfg(test)]
mod tests;
