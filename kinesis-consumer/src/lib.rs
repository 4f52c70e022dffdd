//! The last leg of a record's journey: out of the stream, into your code, exactly where it stopped.
//!
//! ```text
//! ListShards     DynamoDB          GetRecords       KPL aggregates           your code        DynamoDB
//! discover ───▶ lease ──────────▶ fetch ─────────▶ de-aggregate ─────────▶ process ───────▶ checkpoint
//!               one worker per    ahead of you,    user records, each      RecordProcessor, fenced by
//!               shard; renewed    within a byte    with its position       or the S3 sink   the lease
//!               by its own task   budget
//! ```
//!
//! Any number of workers with the same application name share the shards of a stream through a
//! lease table in DynamoDB that has the attributes of the KCL 3.5. A [`Consumer`] is one such
//! worker. It gives each shard it holds a [`RecordProcessor`] of yours. Where nothing is to outlive the
//! process, [`LeaseStore::in_memory`] takes the place of the table.
//!
//! # Example
//!
//! The whole path in one process, against kinesis-local; on AWS only the clients are made
//! differently.
//!
//! ```
//! use kinesis_consumer::{
//!     Checkpointer, Consumer, ProcessRecordsInput, ProcessorError, RecordProcessor, ShardId,
//! };
//! use tokio_util::sync::CancellationToken;
//!
//! struct Printer {
//!     seen: tokio::sync::mpsc::Sender<String>,
//! }
//!
//! #[async_trait::async_trait]
//! impl RecordProcessor for Printer {
//!     async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
//!         for record in input.records.iter() {
//!             let text = String::from_utf8_lossy(&record.data).into_owned();
//!             self.seen.send(text).await?; // an error here brings the batch again
//!         }
//!         input.checkpointer.checkpoint().await?; // done with everything up to here
//!         Ok(())
//!     }
//!     async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
//!         Ok(checkpointer.checkpoint().await?) // lets the shard's children start
//!     }
//!     async fn shutdown_requested(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
//!         Ok(checkpointer.checkpoint().await?)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let local = kinesis_local::KinesisLocal::builder().start().await?;
//! let kinesis = aws_sdk_kinesis::Client::new(&local.sdk_config());
//! let dynamodb = aws_sdk_dynamodb::Client::new(&local.sdk_config());
//! kinesis.create_stream().stream_name("flights").shard_count(2).send().await?;
//! # loop {
//! #     let summary = kinesis.describe_stream_summary().stream_name("flights").send().await?;
//! #     let summary = summary.stream_description_summary.ok_or("no summary")?;
//! #     if summary.stream_status.as_str() == "ACTIVE" { break; }
//! #     tokio::time::sleep(std::time::Duration::from_millis(10)).await;
//! # }
//! let data = aws_sdk_kinesis::primitives::Blob::new("JFK to LAX");
//! kinesis.put_record().stream_name("flights").partition_key("JFK").data(data).send().await?;
//!
//! let (seen, mut records) = tokio::sync::mpsc::channel(100);
//! let factory = move |_shard: &ShardId| Printer { seen: seen.clone() };
//! let consumer = Consumer::builder("arrivals", "flights", kinesis, dynamodb, factory).build()?;
//!
//! let shutdown = CancellationToken::new();
//! let running = tokio::spawn(consumer.run(shutdown.clone()));
//! assert_eq!(records.recv().await.as_deref(), Some("JFK to LAX"));
//! shutdown.cancel(); // finish, checkpoint, hand the leases over
//! running.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! - **At least once.** A record counts as done only when its processor checkpointed it or a later
//!   one of its shard. A batch that fails or panics comes again, with backoff, until it succeeds:
//!   nothing is skipped, and no checkpoint passes a batch that failed. With
//!   [`OnFailure::DeadLetter`] the guilty record is found and stored elsewhere, and passed only after
//!   that ([`dead_letter`]). The one exception to "every record" is retention: what the stream trims
//!   before it was read is gone, which is logged and counted ([`metrics::TRIMMED_CHECKPOINTS`]).
//! - **Order.** Records of a shard come in the order of the stream, one batch at a time, and so do
//!   records of a partition key: a shard's children start only when the shard was processed to its
//!   end and that is stored.
//! - **One owner.** Leases are renewed by a task of their own; neither a slow processor nor a full
//!   buffer delays that. A worker that cannot renew stops *before* another may take over: the
//!   processor's future is dropped and no checkpoint of it is accepted any more.
//! - **A clean stop costs nothing.** Cancelling the token passed to [`Consumer::run`] lets each
//!   processor finish and checkpoint, then gives each lease away at once.
//!
//! # What may come twice
//!
//! - After a crash, or a lease lost: what was processed and not yet checkpointed.
//! - After a batch failed half-way: its first half, to the same processor.
//! - A dead letter whose record was not checkpointed when the worker died or lost the lease.
//! - What the producer wrote twice, as two records with two positions: after a lost answer, or when
//!   an aggregate met a split on its way. kinesis-producer then sends every member again, because
//!   a KCL reader drops such an aggregate whole; this crate has delivered those that belong to the
//!   shard already, and of an on-demand stream the others too, out of the order of their keys.
//!
//! The first three are told by (shard, [`Record::position`]), which never changes for a record; the
//! last needs an identity inside of the payload.
//!
//! # Who gets which shard
//!
//! One worker leads, and gives each the same number of shards; that is [`LeaseAssignment::LeaseCount`]. Where
//! machines or shards are unlike, [`LeaseAssignment::WorkerUtilization`] shares by how busy each worker says
//! that it is, as the KCL 3 does. It says so by its CPU, read from its container or machine
//! ([`CpuMetric`]), or by what the application measures instead or besides, such as memory, network or a pool of
//! connections: a [`WorkerMetric`] given to [`ConsumerBuilder::worker_metrics`]. Any worker may come to lead,
//! so all are to have the same settings.
//!
//! # Polling or enhanced fan-out
//!
//! By default shards are polled. [`Settings::retrieval`] chooses enhanced fan-out instead, which is
//! faster, does not share a shard's throughput with other applications, and costs extra, from the
//! day the consumer is registered until somebody deregisters it; [`Retrieval`] has the comparison.
//! All guarantees are the same. What one sees of it:
//!
//! - The first worker registers a consumer with the application's name and waits for it, some ten
//!   seconds on AWS. A subscription lasts five minutes and is renewed behind the last event.
//! - Events are taken only while there is room for them ([`Settings::max_buffered_bytes`]). A shard
//!   whose processor does not keep up lets its subscription go and makes a new one when there is.
//! - A worker that takes a shard over from one that died finds its subscription in use for up to
//!   five seconds.
//! - A subscription without a sign of life for 30 s is made anew. Where that, or anything else,
//!   fails again and again, or no consumer can be registered, the shard is polled, with a WARN and
//!   a count ([`metrics::FAN_OUT_FALL_BACKS`]), and fan-out is tried again after five minutes.
//!
//! # Aggregates
//!
//! KPL aggregates are opened; each member has the stream record's sequence number and its own
//! sub-sequence number, and a checkpoint may lie between two members. A record that claims to be
//! an aggregate and cannot be opened is delivered as it is, with a WARN and a count. A member whose
//! hash key is outside of the shard's range is dropped and counted only where its producer sends it
//! again: if the stream is provisioned, and one ancestor of the shard had all of the aggregate. The
//! producer then aggregated it by a shard map of before a reshard, sees that from the answer, and
//! sends it to the shard that owns it now. Everywhere else it is delivered and counted: an on-demand
//! stream may have placed it itself (record distribution AUTO, now or when the record was written), and
//! nobody sends it again. What is left to chance is a stream with AUTO that was made provisioned: of its
//! unread aggregates, one whose members all have keys of one ancestor of their shard looks as if by an
//! older map. Read all of such a stream before making it provisioned. The KCL drops the whole aggregate, which loses the members that
//! belong to the shard when the
//! producer, as the KPL since 0.15.11, sends only the others again.
//!
//! A member that cannot be read is dropped and counted, and its neighbours are delivered.
//!
//! # Queues
//!
//! [`queue`] consumes Kinesis queues: records one at a time and in no order, each acknowledged by
//! itself, without leases or checkpoints.
//!
//! # Watching it
//!
//! [`Consumer::events`] tells what happens to leases and shards as it happens: gained (and by what:
//! a failover, a handoff), asked for, lost, started, ended. [`metrics`] has counters, gauges and
//! histograms under the KCL's names where it has them. Spans `consumer` and `shard` carry every log.
//!
//! # When something is wrong
//!
//! | What | What happens |
//! |---|---|
//! | a processor returns `Retry`, an error by `?`, or panics | the batch comes again, with backoff; [`Settings::on_failure`] says for how long |
//! | a processor returns `Poison` or `PoisonAt` | as `on_failure` says: the record becomes a dead letter, the shard stops, or (by default) the batch comes again for ever; a table is at [`ProcessorError`] |
//! | the destination of dead letters is away | the shard waits and tries again for ever; nothing passes |
//! | a processor returns [`ProcessorError::Fatal`] | the lease is released, the other shards stop cleanly, `run` returns the error |
//! | a call hangs | renewal goes on and the shard waits; a stop or handoff drops the call at its deadline |
//! | a subscription is cut, stalls, or is in use by somebody else | a new one, behind the last event taken, after a pause |
//! | fan-out cannot be used | the shard is polled; without `fall_back_to_polling` it waits, with an ERROR |
//! | Kinesis throttles, fails or is away | reading is retried for ever, at most 10 s apart, with a WARN |
//! | DynamoDB is away | renewals are retried until the lease must be given up, before anybody else takes it |
//! | retention took a closed shard before it was read to its end | ERROR, [`EventKind::ShardExpired`]; the shard is marked as ended, so that its children start |
//! | the stream is deleted | ERROR, [`EventKind::StreamNotFound`]; its shards stop and are never marked as ended |
//!
//! # Permissions
//!
//! | For | Kinesis | DynamoDB |
//! |---|---|---|
//! | any consumer | `ListShards`, `GetShardIterator`, `GetRecords`, `DescribeStreamSummary` on the stream | on the table, which is called as the application: `DescribeTable`, `Scan`, `GetItem`, `PutItem`, `UpdateItem`, `DeleteItem`; on its index: `Query`; on `APPLICATION-CoordinatorState`, be it there or not: `DescribeTable` |
//! | the first start | | `CreateTable`, or `UpdateTable` where the table is there without the index; with [`LeaseTableSettings`] of that kind also `TagResource`, `UpdateContinuousBackups` and, at every start, `DescribeContinuousBackups` |
//! | an application that a KCL 3.0 to 3.4 ran | | the same on its tables `APPLICATION-CoordinatorState` and `APPLICATION-WorkerMetricStats` |
//! | an operator ([`admin`]) | `DescribeStreamSummary`; for the lag `GetShardIterator` and `GetRecords` | `Scan`, `UpdateItem`; to convert `PutItem` and `DeleteItem`; to release, or to reset to an instant, `GetItem`, and `DescribeTable` on `APPLICATION-CoordinatorState` |
//! | fan-out ([`Retrieval`]) | `DescribeStreamConsumer`, `RegisterStreamConsumer` on the stream, `SubscribeToShard` on the consumer | |
//! | a queue | `ReceiveQueueRecords`, `AcknowledgeQueueRecords`, `UpdateQueueRecordsVisibility` on the queue; for its dead letters those that [`queue::QueueClient`] names | |
//!
//! The tables may be called otherwise ([`LeaseTableSettings::name`]). Without `DescribeTable` on
//! `APPLICATION-CoordinatorState` a worker takes it that there is none, with one WARN. Without `Query` on the
//! index it scans the table instead, with a WARN. Without
//! `DescribeStreamSummary` a single stream is read all the same, and of aggregates all members are delivered.
//!
//! # Several streams
//!
//! [`Consumer::multi_stream`] reads several [`Streams`], by names or ARNs, on one lease table with
//! the keys of a multi-stream KCL. Streams are added and removed while it runs, and each may have an
//! initial position of its own. Workers take their even share of all streams' shards together.
//!
//! # Records in place of batches
//!
//! | You write | by | Order | Checkpoints |
//! |---|---|---|---|
//! | a [`RecordProcessor`] | batch | that of the shard | yours |
//! | an async closure for [`for_each`] | record, several keys at once | that of the shard within a key | at the last record up to which all are done |
//! | a loop over [`record_stream`] | record, acknowledged | that of the shard | at the last record up to which all are acknowledged |
//!
//! In the latter two, records of several batches are under way, or not acknowledged, at once: as many as you
//! allow, within what a shard may read ahead. A record that fails is tried again, and given up, by itself.
//!
//! In each, [`Record::decode`] makes a typed value of the payload by the producer's codec; one that
//! cannot be decoded is poison, and names itself.

#[doc(hidden)]
pub mod bench;
mod checkpoint;
pub mod coming_from_the_kcl;
mod consumer;
pub mod dead_letter;
mod discover;
mod error;
mod events;
mod fetch;
mod lease;
pub mod metrics;
#[cfg(feature = "mutations")]
#[doc(hidden)]
pub mod mutation;
mod processor;
pub mod queue;
mod record;
mod service_time;
mod settings;
mod shard;
#[cfg(feature = "sink-s3")]
pub mod sink;
mod stream;
#[cfg(test)]
mod written;

pub use checkpoint::{Checkpointer, PendingCheckpoint, PreparedCheckpoint};
pub use consumer::{Consumer, ConsumerBuilder};
pub use dead_letter::{DeadLetter, DeadLetters};
pub use error::{BoxError, Error, ErrorKind};
pub use events::{Event, EventKind, Events, Gain, Missed};
pub use lease::{CpuMetric, LeaseStore, WorkerMetric, admin};
pub use processor::{
    Delivery, ForEach, InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor,
    RecordProcessorFactory, RecordStream, ShardRecord, StopSignal, for_each, per_stream,
    record_stream,
};
pub use record::Record;
pub use settings::{
    BillingMode, FanOutSettings, InitialPosition, LeaseAssignment, LeaseSettings,
    LeaseTableSettings, OnFailure, Retrieval, Settings, UtilizationSettings,
};
#[doc(hidden)]
pub use shard::Flow;
pub use stream::{StreamId, StreamSource, Streams};

/// How a typed value becomes a payload and a value again, the same as the producer's; see
/// [`Record::decode`].
pub use kinesis_core::codec;
/// What a record, a shard and a position in it are, as all crates of the toolkit agree on.
pub use kinesis_core::{HashKey, HashKeyRange, Position, SequenceNumber, ShardId};
