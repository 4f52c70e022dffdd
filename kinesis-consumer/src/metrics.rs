//! Names of what the consumer measures, through the `metrics` facade.
//!
//! Names and meanings are the KCL's where it has them (`RecordsProcessed` is
//! `kinesis_consumer_records_processed`), plus what the KCL does not tell: batches that were
//! delivered again, records skipped and why, broken aggregates, dead letters, end-to-end latency,
//! handoff times, checkpoint age, bytes buffered. Records are counted as processed by the call: once
//! `process_records` returned `Ok` for a batch or a part of one. So every user record is processed, skipped,
//! taken by retention before it was read, or in a call that did not return `Ok` and had checkpointed it all
//! the same, as a worker that stops in the middle of a batch has: the next owner begins behind it, and
//! nobody counts it.
//! Labels are `stream` and, where a shard is worth a series of its own, `shard`. Everything is
//! counted per batch or per call, never per record.
//!
//! [`BUFFERED_BYTES`] and [`CURRENT_SHARDS`] are of one consumer, labelled with its `application` and
//! `worker`; the sum over the workers is that of the process. They are told whenever they change and every
//! 15 s besides, so that a recorder that is installed late, or that forgets what rests (an exporter's idle
//! time-out), has them right soon. The gauges of leases have the same labels and are told as often as the
//! worker looks at them, every few seconds: `leases_held` and `is_leader` of every worker, and
//! of the one that leads `leases_open`, `workers`, `workers_with_failing_metric`, `lease_rows_corrupt`,
//! `lease_spillover`, `streams` and `streams_with_holes`, which are 0 elsewhere; so the sum, and the maximum, over the workers is the fleet's.
//! [`MILLIS_BEHIND_LATEST`] and [`CHECKPOINT_AGE_SECONDS`] have an `application` besides stream and shard:
//! applications of one process may read the same stream.
//!
//! # From the KCL's names to these
//! All begin with `kinesis_consumer_`. Where the KCL has a `Success` of zero or one for each call, here
//! failures are counted; where it has the `Time` of a step that does not leave the process, there is none.
//!
//! | KCL operation | KCL name | here |
//! |---|---|---|
//! | ProcessTask | `RecordsProcessed` | `records_processed` |
//! | ProcessTask | `DataBytesProcessed` | `data_bytes_processed` |
//! | ProcessTask | `MillisBehindLatest` | `millis_behind_latest` |
//! | ProcessTask | `RecordProcessor.processRecords.Time` | `process_records_seconds` |
//! | ProcessTask | `ExpiredIterator` | `expired_iterators` |
//! | ProcessTask | `Success` | `batches_retried` |
//! | ProcessTask | `Time` | `end_to_end_seconds` |
//! | ProcessTask | `KinesisDataFetcher.getRecords.Success` | `fetch_failures` |
//! | ProcessTask | `KinesisDataFetcher.getRecords.Time` | `get_records_seconds` |
//! | ProcessTask | `KinesisDataFetcher.getShardIterator.Success` | `fetch_failures` |
//! | ProcessTask | `KinesisDataFetcher.getShardIterator.Time` | none: one call for each shard and failure |
//! | ProcessTask | `UpdateLease.Success` | `checkpoints_total` |
//! | ProcessTask | `UpdateLease.Time` | `lease_write_seconds` |
//! | ApplicationTracker | `MillisBehindLatest` | `millis_behind_latest` |
//! | RenewAllLeases | `CurrentLeases` | `current_shards` |
//! | RenewAllLeases | `LostLeases` | `leases_lost_total` |
//! | RenewAllLeases | `Success` | `lease_write_retries_total` |
//! | RenewAllLeases | `RenewLease.Success` | `lease_renewals_total` |
//! | LeaseDiscovery | `NewLeasesDiscovered` | `leases_taken_total` |
//! | LeaseDiscovery | `OwnerMismatch` | none: a write on a condition finds it |
//! | TakeLeases | `TakenLeases` | `leases_taken_total` |
//! | TakeLeases | `ExpiredLeases` | `leases_taken_total` |
//! | LeaderDecider | `IsLeader` | `is_leader` |
//! | LeaseAssignmentManager | `Success` | `lease_scan_failures_total` |
//! | LeaseAssignmentManager | `Time` | `lease_scan_seconds` |
//! | LeaseAssignmentManager | `ExpiredLeases` | `leases_taken_total` |
//! | LeaseAssignmentManager | `LeaseSpillover` | `lease_spillover` |
//! | LeaseAssignmentManager | `NumOfLeasesReassignment` | `handoffs_started_total` |
//! | LeaseAssignmentManager | `TotalLeases` | `leases_open` |
//! | LeaseAssignmentManager | `NumWorkers` | `workers` |
//! | LeaseAssignmentManager | `NumWorkersWithFailingWorkerMetric` | `workers_with_failing_metric` |
//! | LeaseAssignmentManager | `NumWorkersWithInvalidEntry` | none: told by a WARN |
//! | LeaseAssignmentManager | `LeaseDeserializationFailureCount` | `lease_rows_corrupt` |
//! | LeaseAssignmentManager | `ForceLeaderRelease` | `leaderships_total` |
//! | LeaseAssignmentManager | `LeaseAndWorkerMetricsLoad.Time` | `lease_scan_seconds` |
//! | LeaseAssignmentManager | `ParallelyAssignLeases.Success` | `leases_assigned_total` |
//! | LeaseAssignmentManager | `BalanceWorkerVariance.Time` | none: it does not leave the process |
//! | WorkerMetricStatsReporter | `Success` | `worker_metrics_failures_total` |
//! | WorkerMetricStatsReporter | `InMemoryMetricStatsReporterFailure` | `worker_metric_failures_total` |
//! | WorkerMetrics | `FleetMinSupportCode` | none: of a migration that a KCL leads |
//! | Migration | `CurrentState:3xWorker` | none: a migration is obeyed, and led by a KCL |
//! | TableMigration | `StatusOrdinal` | none: a migration is obeyed, and led by a KCL |
//! | ShardSyncTask | `CreateLease.Success` | `leases_created_total` |
//! | PeriodicShardSyncManager | `NumStreamsToSync` | `leases_created_total` |
//! | PeriodicShardSyncManager | `NumStreamsWithPartialLeases` | `streams_with_holes` |
//! | MultiStreamTracker | `ActiveStreams.Count` | `streams` |
//! | MultiStreamTracker | `DeletedStreams.Count` | `shards_not_found` |
//! | InitializeTask | `RecordProcessor.initialize.Time` | none: it is the application's own |
//! | ShutdownTask | `RecordProcessor.shutdown.Time` | none: it is the application's own |

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// User records processed; dead letters are not among them. KCL: `RecordsProcessed`.
pub const RECORDS_PROCESSED: &str = "kinesis_consumer_records_processed";
/// User records that reading goes on behind without a processor having accepted them, by `cause`:
/// `foreign_member`, `corrupt_member`, `dead_letter`. The sum of [`FOREIGN_MEMBERS_DROPPED`],
/// [`CORRUPT_MEMBERS_DROPPED`] and [`DEAD_LETTERS`].
pub const RECORDS_SKIPPED: &str = "kinesis_consumer_records_skipped";
/// Payload bytes of the user records processed. KCL: `DataBytesProcessed`.
pub const DATA_BYTES_PROCESSED: &str = "kinesis_consumer_data_bytes_processed";
/// How far the newest answer was from the tip of the shard; 0 once its lease is not held here any more,
/// or its end is stored. It stays where nothing is asked for, as behind a processor that is stuck, and of
/// a shard that stands still ([`SHARDS_STOPPED`], [`SHARDS_NOT_FOUND`]), where
/// [`CHECKPOINT_AGE_SECONDS`] grows. KCL: `MillisBehindLatest`.
pub const MILLIS_BEHIND_LATEST: &str = "kinesis_consumer_millis_behind_latest";
/// Duration of a call of `process_records`; where records are handled one by one, from when a batch is begun
/// until all up to its end is done. KCL: `RecordProcessor.processRecords.Time`.
pub const PROCESS_RECORDS_SECONDS: &str = "kinesis_consumer_process_records_seconds";
/// Duration of a `GetRecords` call. KCL: `KinesisDataFetcher.getRecords.Time`.
pub const GET_RECORDS_SECONDS: &str = "kinesis_consumer_get_records_seconds";
/// Failed calls of Kinesis, by `kind`.
pub const FETCH_FAILURES: &str = "kinesis_consumer_fetch_failures";
/// Iterators that expired before they were used. KCL: `ExpiredIterator`.
pub const EXPIRED_ITERATORS: &str = "kinesis_consumer_expired_iterators";
/// Subscriptions to shards made by enhanced fan-out; about one every five minutes for each shard.
pub const SUBSCRIPTIONS: &str = "kinesis_consumer_subscriptions";
/// Subscriptions given up because nothing came over them, not even a sign of life.
pub const SUBSCRIPTIONS_STALLED: &str = "kinesis_consumer_subscriptions_stalled";
/// Subscriptions refused or ended because somebody else has one to the same shard with the same
/// consumer.
pub const SUBSCRIPTIONS_IN_USE: &str = "kinesis_consumer_subscriptions_in_use";
/// Times a shard went over to polling because fan-out could not be used, by `reason`.
pub const FAN_OUT_FALL_BACKS: &str = "kinesis_consumer_fan_out_fall_backs";
/// Batches delivered again after an error or a panic of the processor. Where records are handled one by one
/// it stays 0, as only the records that failed come again: [`RECORDS_REDELIVERED`] counts these.
pub const BATCHES_RETRIED: &str = "kinesis_consumer_batches_retried";
/// Times a failed batch, or a part of one, was divided to find the guilty record.
pub const BATCHES_BISECTED: &str = "kinesis_consumer_batches_bisected";
/// Records stored as dead letters, by `cause`.
pub const DEAD_LETTERS: &str = "kinesis_consumer_dead_letters";
/// Attempts to store a dead letter that failed.
pub const DEAD_LETTER_FAILURES: &str = "kinesis_consumer_dead_letter_failures";
/// Records delivered again to the same processor, after a batch, a part of it or the record itself failed.
///
/// What comes twice because a worker died is not in here: its successor sees the checkpoint, and not what
/// was delivered behind it. `kinesis_consumer_leases_taken_total` with the reasons `failover` and `forced`
/// counts how often that may have been, and [`CHECKPOINT_AGE_SECONDS`] of the dead one how much.
pub const RECORDS_REDELIVERED: &str = "kinesis_consumer_records_redelivered";
/// Shards stopped because a batch failed for good (`OnFailure::Stop`).
pub const SHARDS_STOPPED: &str = "kinesis_consumer_shards_stopped";
/// Panics of a processor, or of the handler of a record.
pub const PROCESSOR_PANICS: &str = "kinesis_consumer_processor_panics";
/// Members of aggregates dropped because their hash key belongs to another shard, a reshard explains
/// how they came here, and the stream is provisioned, so that their producer sends them again.
pub const FOREIGN_MEMBERS_DROPPED: &str = "kinesis_consumer_foreign_members_dropped";
/// Members of aggregates delivered although their hash key belongs to another shard, because it is
/// not certain that their producer sends them again: the stream is on-demand, cannot be described, or
/// no reshard explains how they came here.
pub const FOREIGN_MEMBERS_DELIVERED: &str = "kinesis_consumer_foreign_members_delivered";
/// Members of aggregates that cannot be read, dropped; the other members of theirs were delivered.
pub const CORRUPT_MEMBERS_DROPPED: &str = "kinesis_consumer_corrupt_members_dropped";
/// Stream records with the aggregate's magic that could not be opened and were delivered raw.
pub const CORRUPT_AGGREGATES: &str = "kinesis_consumer_corrupt_aggregates";
/// Checkpointed records that had been trimmed when reading resumed: a gap in the data.
pub const TRIMMED_CHECKPOINTS: &str = "kinesis_consumer_trimmed_checkpoints";
/// From when another worker asked for a lease until this one released it.
pub const HANDOFF_SECONDS: &str = "kinesis_consumer_handoff_seconds";
/// Time since a shard was last checkpointed by this worker, or taken by it; updated with every
/// renewal, and 0 once this worker does not hold the lease any more.
pub const CHECKPOINT_AGE_SECONDS: &str = "kinesis_consumer_checkpoint_age_seconds";
/// Arrival of a batch's oldest record at the service until the batch was processed.
pub const END_TO_END_SECONDS: &str = "kinesis_consumer_end_to_end_seconds";
/// Bytes fetched and not yet processed, all shards of one consumer, by `application` and `worker`.
pub const BUFFERED_BYTES: &str = "kinesis_consumer_buffered_bytes";
/// Answers and events that found no room for 15 s and were left unread, to be asked for again, by
/// `retrieval`: `polling` or `fan_out`. Where [`BUFFERED_BYTES`] is near
/// [`max_buffered_bytes`](crate::Settings::max_buffered_bytes), that budget is too small for the shards of
/// this worker and their records; else the shard's own processor does not keep up with it.
pub const FETCHES_WITHOUT_ROOM: &str = "kinesis_consumer_fetches_without_room";
/// Shards that a worker is processing, by `application` and `worker`. KCL: `CurrentLeases`, which has the
/// worker for a dimension too.
pub const CURRENT_SHARDS: &str = "kinesis_consumer_current_shards";
/// Shards whose end was checkpointed by this worker.
pub const SHARDS_ENDED: &str = "kinesis_consumer_shards_ended";
/// Shards that stopped because the stream no longer has them.
pub const SHARDS_NOT_FOUND: &str = "kinesis_consumer_shards_not_found";

/// Records received from queues, by `queue`, which is its ARN, as all of a queue.
pub const QUEUE_RECORDS_RECEIVED: &str = "kinesis_consumer_queue_records_received";
/// How long the handler of a queue took for one record, in seconds.
pub const QUEUE_HANDLER_SECONDS: &str = "kinesis_consumer_queue_handler_seconds";
/// Records of queues that were acknowledged.
pub const QUEUE_RECORDS_ACKNOWLEDGED: &str = "kinesis_consumer_queue_records_acknowledged";
/// Records of queues that were given back, by `cause`.
pub const QUEUE_RECORDS_RETURNED: &str = "kinesis_consumer_queue_records_returned";
/// Members of aggregates in queues that cannot be read and that
/// [`members`](crate::queue::QueueRecord::members) left out; each time it is called, and of all queues.
pub const QUEUE_CORRUPT_MEMBERS_DROPPED: &str = "kinesis_consumer_queue_corrupt_members_dropped";
/// Records of queues with the aggregate's magic that it could not open; likewise.
pub const QUEUE_CORRUPT_AGGREGATES: &str = "kinesis_consumer_queue_corrupt_aggregates";

/// Counts records that are passed without having been processed.
pub(crate) fn skipped(stream: std::sync::Arc<str>, cause: &'static str, records: u64) {
    metrics::counter!(RECORDS_SKIPPED, "stream" => stream, "cause" => cause).increment(records);
}

/// Tells the installed recorder what each metric of this crate means, those of the leases and sinks
/// included. Call it once, after installing a recorder.
pub fn describe() {
    crate::lease::metrics::describe();
    #[cfg(feature = "sink-s3")]
    crate::sink::metrics::describe();
    describe_counter!(RECORDS_PROCESSED, Unit::Count, "User records processed.");
    describe_counter!(
        RECORDS_SKIPPED,
        Unit::Count,
        "User records passed without having been processed, by cause."
    );
    describe_counter!(
        DATA_BYTES_PROCESSED,
        Unit::Bytes,
        "Payload of the user records processed."
    );
    describe_gauge!(
        MILLIS_BEHIND_LATEST,
        Unit::Milliseconds,
        "Distance of the newest answer from the tip."
    );
    describe_histogram!(
        PROCESS_RECORDS_SECONDS,
        Unit::Seconds,
        "Duration of process_records."
    );
    describe_histogram!(
        GET_RECORDS_SECONDS,
        Unit::Seconds,
        "Duration of GetRecords."
    );
    describe_counter!(FETCH_FAILURES, Unit::Count, "Failed calls of Kinesis.");
    describe_counter!(
        EXPIRED_ITERATORS,
        Unit::Count,
        "Iterators that expired before use."
    );
    describe_counter!(SUBSCRIPTIONS, Unit::Count, "Subscriptions to shards made.");
    describe_counter!(
        SUBSCRIPTIONS_STALLED,
        Unit::Count,
        "Subscriptions without a sign of life."
    );
    describe_counter!(
        SUBSCRIPTIONS_IN_USE,
        Unit::Count,
        "Subscriptions somebody else has."
    );
    describe_counter!(
        FAN_OUT_FALL_BACKS,
        Unit::Count,
        "Shards that went from fan-out to polling."
    );
    describe_counter!(
        BATCHES_RETRIED,
        Unit::Count,
        "Batches delivered again after a failure."
    );
    describe_counter!(
        BATCHES_BISECTED,
        Unit::Count,
        "Failed batches divided to find the guilty record."
    );
    describe_counter!(
        RECORDS_REDELIVERED,
        Unit::Count,
        "Records delivered again after a failure."
    );
    describe_counter!(
        CORRUPT_MEMBERS_DROPPED,
        Unit::Count,
        "Aggregate members that cannot be read."
    );
    describe_histogram!(
        HANDOFF_SECONDS,
        Unit::Seconds,
        "Asked to give a lease away until it was released."
    );
    describe_gauge!(
        CHECKPOINT_AGE_SECONDS,
        Unit::Seconds,
        "Time since the last checkpoint."
    );
    describe_counter!(DEAD_LETTERS, Unit::Count, "Records stored as dead letters.");
    describe_counter!(
        DEAD_LETTER_FAILURES,
        Unit::Count,
        "Failed attempts to store a dead letter."
    );
    describe_counter!(
        SHARDS_STOPPED,
        Unit::Count,
        "Shards stopped by a batch that fails."
    );
    describe_counter!(PROCESSOR_PANICS, Unit::Count, "Panics of a processor.");
    describe_counter!(
        FOREIGN_MEMBERS_DROPPED,
        Unit::Count,
        "Aggregate members of another shard, dropped."
    );
    describe_counter!(
        FOREIGN_MEMBERS_DELIVERED,
        Unit::Count,
        "Aggregate members of another shard, delivered."
    );
    describe_counter!(
        CORRUPT_AGGREGATES,
        Unit::Count,
        "Broken aggregates delivered raw."
    );
    describe_counter!(
        TRIMMED_CHECKPOINTS,
        Unit::Count,
        "Checkpoints that retention overtook."
    );
    describe_histogram!(
        END_TO_END_SECONDS,
        Unit::Seconds,
        "Arrival at the service until processed."
    );
    describe_gauge!(
        BUFFERED_BYTES,
        Unit::Bytes,
        "Bytes fetched and not yet processed."
    );
    describe_counter!(
        FETCHES_WITHOUT_ROOM,
        Unit::Count,
        "Answers and events left unread for want of room."
    );
    describe_counter!(
        QUEUE_RECORDS_RECEIVED,
        Unit::Count,
        "Records received from queues."
    );
    describe_histogram!(
        QUEUE_HANDLER_SECONDS,
        Unit::Seconds,
        "Time of the handler for one record of a queue."
    );
    describe_counter!(
        QUEUE_RECORDS_ACKNOWLEDGED,
        Unit::Count,
        "Records of queues acknowledged."
    );
    describe_counter!(
        QUEUE_RECORDS_RETURNED,
        Unit::Count,
        "Records of queues given back."
    );
    describe_counter!(
        QUEUE_CORRUPT_MEMBERS_DROPPED,
        Unit::Count,
        "Aggregate members of queues that cannot be read."
    );
    describe_counter!(
        QUEUE_CORRUPT_AGGREGATES,
        Unit::Count,
        "Broken aggregates in queues, taken as they are."
    );
    describe_gauge!(CURRENT_SHARDS, Unit::Count, "Shards being processed.");
    describe_counter!(
        SHARDS_ENDED,
        Unit::Count,
        "Shards whose end was checkpointed."
    );
    describe_counter!(
        SHARDS_NOT_FOUND,
        Unit::Count,
        "Shards the stream no longer has."
    );
}
