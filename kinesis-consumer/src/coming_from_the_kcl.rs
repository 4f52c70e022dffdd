//! Coming from the KCL for Java: what its interfaces, options and defaults are here, and which are absent.
//!
//! Taking over an application of a KCL, or working beside one, needs no more than its application name and
//! [`Checkpointer::checkpoint`](crate::Checkpointer::checkpoint) where it checkpoints: the table is the
//! KCL's. Four settings are to be looked at first:
//!
//! | The KCL has | Then |
//! |---|---|
//! | a `tableName` | [`LeaseTableSettings::name`](crate::LeaseTableSettings::name); the names of its other tables, if it sets them, beside it |
//! | `failoverTimeMillis` other than 10 s | [`LeaseSettings::kcl_failover_time`](crate::LeaseSettings::kcl_failover_time) no shorter, [`failover_time`](crate::LeaseSettings::failover_time) no longer |
//! | several streams (`MultiStreamTracker`) | [`Consumer::multi_stream`](crate::Consumer::multi_stream) |
//! | fan-out, its default | [`Settings::retrieval`](crate::Settings::retrieval): here the default is polling |
//!
//! What happens beside a live one is told in the README, under "What survives what"; what its metrics are
//! called here, in [`metrics`](crate::metrics).
//!
//! # What you write
//!
//! | KCL | here |
//! |---|---|
//! | `ConfigsBuilder`, `Scheduler` | [`Consumer::builder`](crate::Consumer::builder), [`Consumer::run`](crate::Consumer::run) |
//! | `Scheduler.startGracefulShutdown` | cancelling the token given to `run` |
//! | `ShardRecordProcessorFactory` | [`RecordProcessorFactory`](crate::RecordProcessorFactory), or a closure |
//! | `ShardRecordProcessor` | [`RecordProcessor`](crate::RecordProcessor) |
//! | `processRecords` that throws: the batch is skipped | an error, or a panic, brings the batch again; [`OnFailure`](crate::OnFailure) |
//! | `prepareCheckpoint` | [`Checkpointer::prepare`](crate::Checkpointer::prepare) |
//! | `SingleStreamTracker`, `MultiStreamTracker` | a name or ARN, [`Streams`](crate::Streams), of which each has an initial position of its own |
//! | `WorkerStateChangeListener`, `TaskExecutionListener` | [`Consumer::events`](crate::Consumer::events) |
//! | MultiLangDaemon | none |
//! | DynamoDB Streams adapter | none |
//!
//! # Defaults that differ
//!
//! | What | KCL 3.5 | here | Why |
//! |---|---|---|---|
//! | where to start | `LATEST` (`StreamTracker`) | [`TrimHorizon`](crate::InitialPosition::TrimHorizon) | the only one that cannot miss a record |
//! | how to read | fan-out | polling | costs nothing; [`Retrieval`](crate::Retrieval) compares |
//! | pause at the tip | `idleTimeBetweenReadsInMillis` 1.5 s | 1 s | half of it is what a record waits on average |
//! | who gets what | `WORKER_UTILIZATION_AWARE` | [`LeaseCount`](crate::LeaseAssignment::LeaseCount) | settles at once, and stays so |
//! | the leader looks | every 20 s (2 × `failoverTimeMillis`) | every 1.75 s | a dead worker's shards go on within 15 s |
//! | a worker looks what it was given | every 10 s | every 2 s | the same |
//! | a lease is renewed | every third of the failover time | every 40 % | pays for looking more often |
//! | the leader's lock | 120 s, a beat in 30 s | 18 s, a beat in 40 % of it | a dead leader is replaced within half a minute |
//! | handoffs to a worker at once | `maxLeasesToStealAtOneTime` 1 (2.x) | 8 | a handoff costs no re-delivery |
//! | finished leases are looked for | every 5 min | every minute | |
//! | a hole in the leases is looked for | every 2 min, and seen three times | by each look of the leader; listed at most every 30 s | |
//! | what shards buffer | 8 MiB or 30,000 records each | the same, and 256 MiB in all | a bound of the process |
//! | a worker that stops | its leases stay until they expire | it gives them to the others at once | |
//! | new tables | one; two more before 3.5 | one | |
//!
//! # Every option
//!
//! Those of 3.5.1, by the class that has them. The last column is empty where meaning and default are the
//! same.
//!
//! | Option | here | |
//! |---|---|---|
//! | **`ConfigsBuilder`** | | |
//! | `applicationName` | [`Consumer::builder`](crate::Consumer::builder) | |
//! | `tableName` | [`LeaseTableSettings::name`](crate::LeaseTableSettings::name) | |
//! | `namespace` | none | metrics go where the recorder sends them |
//! | `workerIdentifier` | [`ConsumerBuilder::worker_id`](crate::ConsumerBuilder::worker_id) | default: a random UUID |
//! | **`CheckpointConfig`** | | |
//! | `checkpointFactory` | none | checkpoints lie in the lease |
//! | **`CoordinatorConfig`** | | |
//! | `maxInitializationAttempts`, `schedulerInitializationBackoffTimeMillis` | none | what can mend itself is tried for ever |
//! | `parentShardPollIntervalMillis` | none | a child's lease is given away once its parents are done |
//! | `skipShardSyncAtWorkerInitializationIfLeasesExist` | none | shards are only listed where leases are missing |
//! | `shardConsumerDispatchPollIntervalMillis` | none | nothing is polled for |
//! | `shardPrioritization` | none | |
//! | `workerStateChangeListener` | [`Consumer::events`](crate::Consumer::events) | |
//! | `gracefulShutdownCoordinator`, `coordinatorFactory` | none | |
//! | `clientVersionConfig` | none | always as a 3.x; a fleet that works as 2.x is refused |
//! | `migrateAllEntitiesToLeaseTable`, `tableMigrationCompleteBakeTimeSeconds` | none | the move is followed; only a KCL that leads takes its steps |
//! | `coordinatorStateTableConfig` | [`coordinator_state_table`](crate::LeaseTableSettings::coordinator_state_table) | its name; never made here |
//! | **`LeaseManagementConfig`** | | |
//! | `failoverTimeMillis` | [`failover_time`](crate::LeaseSettings::failover_time), and [`kcl_failover_time`](crate::LeaseSettings::kcl_failover_time) for a KCL's leases | |
//! | `epsilonMillis` | none | |
//! | `leaseAssignmentIntervalMillis` | [`lease_assignment_interval`](crate::LeaseSettings::lease_assignment_interval) | 1.75 s |
//! | `shardSyncIntervalMillis`, `leasesRecoveryAuditorExecutionFrequencyMillis`, `leasesRecoveryAuditorInconsistencyConfidenceThreshold` | [`shard_sync_interval`](crate::LeaseSettings::shard_sync_interval) | 30 s |
//! | `dynamoDbRequestTimeout` | none | an eighth of `failover_time` for what must be in time, 10 s for scans |
//! | `leaseCleanupConfig` | [`lease_cleanup_interval`](crate::LeaseSettings::lease_cleanup_interval) | one for all, 60 s |
//! | `cleanupLeasesUponShardCompletion` | none | always: a finished lease goes when all its children are under way |
//! | `listShardsBackoffTimeInMillis`, `maxListShardsRetryAttempts`, `listShardsCacheAllowedAgeInSeconds`, `maxCacheMissesBeforeReload`, `cacheMissWarningModulus` | none | a listing that fails is made again, with backoff |
//! | `dynamoDbLockBasedLeaderLeaseDurationInMillis`, `dynamoDbLockBasedLeaderHeartbeatPeriodInMillis` | [`leader_lock_duration`](crate::LeaseSettings::leader_lock_duration) | 18 s, a beat in 40 % of it |
//! | `maxLeasesForWorker` | [`max_leases_for_worker`](crate::LeaseSettings::max_leases_for_worker) | |
//! | `maxLeasesToStealAtOneTime` | [`max_handoffs_at_once`](crate::LeaseSettings::max_handoffs_at_once) | 8 |
//! | `maxLeaseRenewalThreads` | none | a task for each lease, no threads |
//! | `leaseTableScanTotalSegments` | none | pages one after the other |
//! | `enablePriorityLeaseAssignment` | none | |
//! | `billingMode`, `initialLeaseTableReadCapacity`, `initialLeaseTableWriteCapacity` | [`LeaseTableSettings::billing_mode`](crate::LeaseTableSettings::billing_mode) | |
//! | `leaseTableDeletionProtectionEnabled` | [`deletion_protection`](crate::LeaseTableSettings::deletion_protection) | |
//! | `leaseTablePitrEnabled` | [`point_in_time_recovery`](crate::LeaseTableSettings::point_in_time_recovery) | |
//! | `tags` | [`LeaseTableSettings::tags`](crate::LeaseTableSettings::tags) | |
//! | `tableCreatorCallback` | none | |
//! | `consistentReads` | none | where it matters they are |
//! | `ignoreUnexpectedChildShards` | none | for the DynamoDB Streams adapter |
//! | `initialPositionInStream` | [`Settings::initial_position`](crate::Settings::initial_position) | `TRIM_HORIZON`; the instant is stored with the lease |
//! | `leaseAssignmentStrategy` | [`LeaseSettings::assignment`](crate::LeaseSettings::assignment) | by number |
//! | `streamInfoMode`, `streamIdOnboardingState` | none | |
//! | `customShardDetectorProvider`, `hierarchicalShardSyncer`, `leaseManagementFactory`, `consumerTaskFactory`, `executorService` | none | |
//! | **`GracefulLeaseHandoffConfig`** | | |
//! | `isGracefulLeaseHandoffEnabled` | none | always |
//! | `gracefulLeaseHandoffTimeoutMillis` | [`handoff_timeout`](crate::LeaseSettings::handoff_timeout) | a processor that is not done by then is stopped; the KCL lets it go on beside the next owner |
//! | **`WorkerUtilizationAwareAssignmentConfig`** | | |
//! | `inMemoryWorkerMetricsCaptureFrequencyMillis` | none | a reading for each report |
//! | `workerMetricsReporterFreqInMillis` | [`worker_metrics_interval`](crate::LeaseSettings::worker_metrics_interval) | |
//! | `noOfPersistedMetricsPerWorkerMetrics`, `staleWorkerMetricsEntryCleanupDuration` | none | as the KCL's defaults, 10 and a day |
//! | `disableWorkerMetrics` | [`disable_worker_metrics`](crate::LeaseSettings::disable_worker_metrics) | |
//! | `workerMetricList` | [`ConsumerBuilder::worker_metrics`](crate::ConsumerBuilder::worker_metrics) | |
//! | `maxThroughputPerHostKBps` | [`max_throughput_per_host_kbps`](crate::UtilizationSettings::max_throughput_per_host_kbps) | |
//! | `dampeningPercentage` | [`dampening_percentage`](crate::UtilizationSettings::dampening_percentage) | |
//! | `reBalanceThresholdPercentage` | [`rebalance_threshold_percentage`](crate::UtilizationSettings::rebalance_threshold_percentage) | |
//! | `allowThroughputOvershoot` | [`allow_throughput_overshoot`](crate::UtilizationSettings::allow_throughput_overshoot) | |
//! | `varianceBalancingFrequency` | [`variance_balancing_frequency`](crate::UtilizationSettings::variance_balancing_frequency) | 35 passes, a minute as the KCL's 3 |
//! | `workerMetricsEMAAlpha` | [`worker_metrics_ema_alpha_percentage`](crate::UtilizationSettings::worker_metrics_ema_alpha_percentage) | in percent |
//! | `workerMetricsTableConfig` | [`worker_metrics_table`](crate::LeaseTableSettings::worker_metrics_table) | its name; never made here |
//! | **`LifecycleConfig`** | | |
//! | `logWarningForTaskAfterMillis` | none | `for_each` and `record_stream` warn by themselves of records that get no further; a `process_records` that hangs shows by [`CHECKPOINT_AGE_SECONDS`](crate::metrics::CHECKPOINT_AGE_SECONDS) alone |
//! | `taskBackoffTimeMillis` | [`task_backoff`](crate::Settings::task_backoff), [`task_backoff_max`](crate::Settings::task_backoff_max) | grows, with jitter |
//! | `readTimeoutsToIgnoreBeforeWarning` | none | |
//! | `aggregatorUtil` | none | |
//! | `taskExecutionListener` | [`Consumer::events`](crate::Consumer::events) | |
//! | **`MetricsConfig`** | | |
//! | `metricsBufferTimeMillis`, `metricsMaxQueueSize`, `metricsLevel`, `metricsEnabledDimensions`, `publisherFlushBuffer`, `metricsBackend`, `metricsFactory` | none | the recorder that the process installs for the `metrics` crate; [`metrics`](crate::metrics) |
//! | **`ProcessorConfig`** | | |
//! | `callProcessRecordsEvenForEmptyRecordList` | none | never: a processor that has something to do while nothing comes has a timer of its own; its [`Checkpointer`](crate::Checkpointer) may be kept |
//! | **`RetrievalConfig`** | | |
//! | `retrievalSpecificConfig` | [`Settings::retrieval`](crate::Settings::retrieval) | polling |
//! | `glueSchemaRegistryDeserializer` | none | [`Record::decode`](crate::Record::decode) by a codec |
//! | `streamArnConstructor`, `retrievalFactory` | none | |
//! | **`PollingConfig`** | | |
//! | `maxRecords` | [`Settings::max_records`](crate::Settings::max_records) | |
//! | `idleTimeBetweenReadsInMillis`, `usePollingConfigIdleTimeValue` | [`idle_time_between_reads`](crate::Settings::idle_time_between_reads) | 1 s |
//! | `maxPendingProcessRecordsInput` | none | as many as there is room for |
//! | `maxByteSize`, `maxRecordsCount` (`recordsFetcherFactory`) | [`max_byte_size`](crate::Settings::max_byte_size), [`max_records_count`](crate::Settings::max_records_count) | beside them [`max_buffered_bytes`](crate::Settings::max_buffered_bytes) for all shards |
//! | `kinesisRequestTimeout` | [`kinesis_request_timeout`](crate::Settings::kinesis_request_timeout) | |
//! | `retryGetRecordsInSeconds`, `maxGetRecordsThreadPool` | none | |
//! | `millisBehindLatestThresholdForReducedTps` | none | |
//! | `sleepTimeController`, `dataFetcherProvider` | none | |
//! | **`FanOutConfig`** | | |
//! | `consumerArn` | [`consumer_arn`](crate::FanOutSettings::consumer_arn), of several streams [`StreamSource::consumer_arn`](crate::StreamSource::consumer_arn) | |
//! | `consumerName` | [`consumer_name`](crate::FanOutSettings::consumer_name) | |
//! | `maxDescribeStreamSummaryRetries`, `maxDescribeStreamConsumerRetries`, `registerStreamConsumerRetries`, `retryBackoffMillis` | none | for a minute, then [`fall_back_to_polling`](crate::FanOutSettings::fall_back_to_polling) |
//! | **`MultiStreamTracker`** | | |
//! | `streamConfigList` | [`Streams`](crate::Streams) | changed by the process, not asked for |
//! | `formerStreamsLeasesDeletionStrategy` | none | leases of a stream that is removed stay, with their checkpoints |
//! | `orphanedStreamInitialPositionInStream` | none | a stream that is not in the list is not read |

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{InitialPosition, LeaseAssignment, Retrieval, Settings, UtilizationSettings};

    const PAGE: &str = include_str!("coming_from_the_kcl.rs");

    /// Source: KCL 3.5.1, the fields of its `…Config` classes that can be set.
    const OPTIONS: &str = "applicationName tableName namespace workerIdentifier checkpointFactory \
        maxInitializationAttempts schedulerInitializationBackoffTimeMillis parentShardPollIntervalMillis \
        skipShardSyncAtWorkerInitializationIfLeasesExist shardConsumerDispatchPollIntervalMillis \
        shardPrioritization workerStateChangeListener gracefulShutdownCoordinator coordinatorFactory \
        clientVersionConfig migrateAllEntitiesToLeaseTable tableMigrationCompleteBakeTimeSeconds \
        coordinatorStateTableConfig failoverTimeMillis epsilonMillis leaseAssignmentIntervalMillis \
        shardSyncIntervalMillis leasesRecoveryAuditorExecutionFrequencyMillis \
        leasesRecoveryAuditorInconsistencyConfidenceThreshold dynamoDbRequestTimeout leaseCleanupConfig \
        cleanupLeasesUponShardCompletion listShardsBackoffTimeInMillis maxListShardsRetryAttempts \
        listShardsCacheAllowedAgeInSeconds maxCacheMissesBeforeReload cacheMissWarningModulus \
        dynamoDbLockBasedLeaderLeaseDurationInMillis dynamoDbLockBasedLeaderHeartbeatPeriodInMillis \
        maxLeasesForWorker maxLeasesToStealAtOneTime maxLeaseRenewalThreads leaseTableScanTotalSegments \
        enablePriorityLeaseAssignment billingMode initialLeaseTableReadCapacity \
        initialLeaseTableWriteCapacity leaseTableDeletionProtectionEnabled leaseTablePitrEnabled tags \
        tableCreatorCallback consistentReads ignoreUnexpectedChildShards initialPositionInStream \
        leaseAssignmentStrategy streamInfoMode streamIdOnboardingState customShardDetectorProvider \
        hierarchicalShardSyncer leaseManagementFactory consumerTaskFactory executorService \
        isGracefulLeaseHandoffEnabled gracefulLeaseHandoffTimeoutMillis \
        inMemoryWorkerMetricsCaptureFrequencyMillis workerMetricsReporterFreqInMillis \
        noOfPersistedMetricsPerWorkerMetrics staleWorkerMetricsEntryCleanupDuration disableWorkerMetrics \
        workerMetricList maxThroughputPerHostKBps dampeningPercentage reBalanceThresholdPercentage \
        allowThroughputOvershoot varianceBalancingFrequency workerMetricsEMAAlpha workerMetricsTableConfig \
        logWarningForTaskAfterMillis taskBackoffTimeMillis readTimeoutsToIgnoreBeforeWarning aggregatorUtil \
        taskExecutionListener metricsBufferTimeMillis metricsMaxQueueSize metricsLevel \
        metricsEnabledDimensions publisherFlushBuffer metricsBackend metricsFactory \
        callProcessRecordsEvenForEmptyRecordList retrievalSpecificConfig glueSchemaRegistryDeserializer \
        streamArnConstructor retrievalFactory maxRecords idleTimeBetweenReadsInMillis \
        usePollingConfigIdleTimeValue maxPendingProcessRecordsInput maxByteSize maxRecordsCount \
        recordsFetcherFactory kinesisRequestTimeout retryGetRecordsInSeconds maxGetRecordsThreadPool \
        millisBehindLatestThresholdForReducedTps sleepTimeController dataFetcherProvider consumerArn \
        consumerName maxDescribeStreamSummaryRetries maxDescribeStreamConsumerRetries \
        registerStreamConsumerRetries retryBackoffMillis";

    /// The part of the page under a heading.
    fn section(heading: &str) -> impl Iterator<Item = &'static str> {
        let lines = PAGE.lines().take_while(|line| line.starts_with("//!"));
        let mut inside = false;
        let heading = format!("//! # {heading}");
        lines.filter(move |line| {
            if line.starts_with("//! # ") {
                inside = **line == heading;
            }
            inside
        })
    }

    #[test]
    fn every_option_of_the_kcl_has_a_row() {
        let rows: Vec<_> = section("Every option").collect();
        for option in OPTIONS.split_whitespace() {
            let named = format!("`{option}`");
            let first = |row: &&str| {
                row.split('|')
                    .nth(1)
                    .is_some_and(|cell| cell.contains(&named))
            };
            assert!(rows.iter().any(first), "{option} is in no row");
        }
    }

    #[test]
    fn the_defaults_are_as_they_are_told() {
        let Settings {
            initial_position,
            retrieval,
            idle_time_between_reads,
            max_byte_size,
            max_records_count,
            max_buffered_bytes,
            lease,
            ..
        } = Settings::default();
        assert_eq!(initial_position, InitialPosition::TrimHorizon);
        assert_eq!(retrieval, Retrieval::Polling);
        assert_eq!(lease.assignment, LeaseAssignment::LeaseCount);
        let seconds = |time: Duration| format!("{} s", time.as_secs_f64());
        let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
        let told = [
            ("pause at the tip", seconds(idle_time_between_reads)),
            ("the leader looks", seconds(lease.lease_assignment_interval)),
            ("a worker looks", seconds(lease.lease_discovery_interval)),
            ("the leader's lock", seconds(lease.leader_lock_duration)),
            (
                "handoffs to a worker",
                lease.max_handoffs_at_once.to_string(),
            ),
            ("a hole", seconds(lease.shard_sync_interval)),
            ("what shards buffer", mib(max_buffered_bytes)),
            ("what shards buffer", mib(max_byte_size)),
        ];
        let rows: Vec<_> = section("Defaults that differ").collect();
        for (what, value) in told {
            let of = |row: &&str| row.starts_with(&format!("//! | {what}")) && row.contains(&value);
            assert!(rows.iter().any(of), "{what}: {value}");
        }
        assert_eq!(
            (lease.lease_cleanup_interval.as_secs(), max_records_count),
            (60, 30_000)
        );
        assert_eq!(
            UtilizationSettings::default().variance_balancing_frequency,
            35
        );
    }
}
