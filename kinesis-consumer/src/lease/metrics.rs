//! Names of the metrics of the lease table and its workers. Gauges have the labels `application` and `worker`,
//! and are 0 once the worker leads no more, where a leader sets them, or is gone.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Gauge: leases this worker holds.
pub(crate) const LEASES_HELD: &str = "kinesis_consumer_leases_held";
/// Gauge: leases in the table that are not at `SHARD_END`.
pub(crate) const LEASES_OPEN: &str = "kinesis_consumer_leases_open";
/// Gauge: workers that may get leases, as the leader sees it. KCL: `NumWorkers`.
pub(crate) const WORKERS: &str = "kinesis_consumer_workers";
/// Gauge: workers whose last reading of a metric failed, as the leader sees it. KCL:
/// `NumWorkersWithFailingWorkerMetric`.
pub(crate) const WORKERS_FAILING: &str = "kinesis_consumer_workers_with_failing_metric";
/// Counter, label `reason` (`unowned`, `assigned`, `failover`, `handoff`, `forced`): leases taken.
pub(crate) const LEASES_TAKEN: &str = "kinesis_consumer_leases_taken_total";
/// Counter: leases lost without having been released.
pub(crate) const LEASES_LOST: &str = "kinesis_consumer_leases_lost_total";
/// Counter: leases released by this worker.
pub(crate) const LEASES_RELEASED: &str = "kinesis_consumer_leases_released_total";
/// Counter: renewals written.
pub(crate) const RENEWALS: &str = "kinesis_consumer_lease_renewals_total";
/// Counter: renewals, checkpoints and releases that failed and were tried again.
pub(crate) const WRITE_RETRIES: &str = "kinesis_consumer_lease_write_retries_total";
/// Counter: checkpoints written.
pub(crate) const CHECKPOINTS: &str = "kinesis_consumer_checkpoints_total";
/// Counter: handoffs this worker started as the leader. KCL: `NumOfLeasesReassignment`.
pub(crate) const HANDOFFS_STARTED: &str = "kinesis_consumer_handoffs_started_total";
/// Gauge: rows of the table that cannot be read.
pub(crate) const CORRUPT_ROWS: &str = "kinesis_consumer_lease_rows_corrupt";
/// Counter: leases created.
pub(crate) const LEASES_CREATED: &str = "kinesis_consumer_leases_created_total";
/// Counter: leases of finished shards deleted.
pub(crate) const LEASES_DELETED: &str = "kinesis_consumer_leases_deleted_total";
/// Gauge: 1 while this worker leads. KCL: `IsLeader`.
pub(crate) const IS_LEADER: &str = "kinesis_consumer_is_leader";
/// Counter: times this worker became the leader.
pub(crate) const LEADERSHIPS: &str = "kinesis_consumer_leaderships_total";
/// Counter: looks at the leader's lock, and beats of it, that failed.
pub(crate) const LOCK_FAILURES: &str = "kinesis_consumer_leader_lock_failures_total";
/// Counter: reports of the worker's metrics that failed.
pub(crate) const REPORT_FAILURES: &str = "kinesis_consumer_worker_metrics_failures_total";
/// Counter: readings of worker metrics that failed. KCL: `InMemoryMetricStatsReporterFailure`.
pub(crate) const METRIC_FAILURES: &str = "kinesis_consumer_worker_metric_failures_total";
/// Counter: leases this worker, as the leader, gave to workers. KCL: `ParallelyAssignLeases`.
pub(crate) const LEASES_ASSIGNED: &str = "kinesis_consumer_leases_assigned_total";
/// Gauge: leases that no worker has room for, as the leader sees it. KCL: `LeaseSpillover`.
pub(crate) const LEASE_SPILLOVER: &str = "kinesis_consumer_lease_spillover";
/// Gauge: streams that are read, as the leader sees it. KCL: `ActiveStreams.Count`.
pub(crate) const STREAMS: &str = "kinesis_consumer_streams";
/// Gauge: streams of whose keys a part has no lease, so that nobody reads it, as the leader saw it at its last
/// look; one that stays is an alarm. KCL: `NumStreamsWithPartialLeases`.
pub(crate) const STREAMS_WITH_HOLES: &str = "kinesis_consumer_streams_with_holes";
/// Histogram: time of one write of a held lease, whatever came of it. KCL: `UpdateLease.Time`.
pub(crate) const LEASE_WRITE_SECONDS: &str = "kinesis_consumer_lease_write_seconds";
/// Histogram: time of one scan of the table.
pub(crate) const SCAN_SECONDS: &str = "kinesis_consumer_lease_scan_seconds";
/// Histogram, labels `operation` (`scan`, `query`, `get`, `update`, `lock`, `beat`, `report`) and, of
/// updates, `shard`: units that DynamoDB counted for one request. Its sum is what is paid for.
pub(crate) const TABLE_UNITS: &str = "kinesis_consumer_lease_table_units";
/// Counter: scans that failed.
pub(crate) const SCAN_FAILURES: &str = "kinesis_consumer_lease_scan_failures_total";

/// Describes them to the installed recorder.
pub(crate) fn describe() {
    describe_gauge!(LEASES_HELD, Unit::Count, "Leases this worker holds");
    describe_gauge!(STREAMS, Unit::Count, "Streams that are read");
    describe_gauge!(
        STREAMS_WITH_HOLES,
        Unit::Count,
        "Streams of whose keys a part has no lease"
    );
    describe_histogram!(
        LEASE_WRITE_SECONDS,
        Unit::Seconds,
        "Time of one write of a held lease"
    );
    describe_gauge!(LEASES_OPEN, Unit::Count, "Leases that are not at SHARD_END");
    describe_gauge!(WORKERS, Unit::Count, "Workers that may get leases");
    describe_gauge!(
        WORKERS_FAILING,
        Unit::Count,
        "Workers whose last reading of a metric failed"
    );
    describe_counter!(LEASES_TAKEN, Unit::Count, "Leases taken, by reason");
    describe_counter!(LEASES_LOST, Unit::Count, "Leases lost");
    describe_counter!(LEASES_RELEASED, Unit::Count, "Leases released");
    describe_counter!(RENEWALS, Unit::Count, "Lease renewals written");
    describe_counter!(
        WRITE_RETRIES,
        Unit::Count,
        "Lease writes that failed and were tried again"
    );
    describe_counter!(CHECKPOINTS, Unit::Count, "Checkpoints written");
    describe_counter!(HANDOFFS_STARTED, Unit::Count, "Handoffs asked for");
    describe_gauge!(CORRUPT_ROWS, Unit::Count, "Lease rows that cannot be read");
    describe_counter!(LEASES_CREATED, Unit::Count, "Leases created");
    describe_counter!(
        LEASES_DELETED,
        Unit::Count,
        "Leases of finished shards deleted"
    );
    describe_gauge!(IS_LEADER, Unit::Count, "1 while this worker leads");
    describe_counter!(
        LEADERSHIPS,
        Unit::Count,
        "Times this worker became the leader"
    );
    describe_counter!(
        LOCK_FAILURES,
        Unit::Count,
        "Requests for the leader's lock that failed"
    );
    describe_counter!(
        REPORT_FAILURES,
        Unit::Count,
        "Reports of the worker's metrics that failed"
    );
    describe_counter!(
        METRIC_FAILURES,
        Unit::Count,
        "Readings of this worker's metrics that failed"
    );
    describe_counter!(
        LEASES_ASSIGNED,
        Unit::Count,
        "Leases given to workers by this leader"
    );
    describe_gauge!(
        LEASE_SPILLOVER,
        Unit::Count,
        "Leases that no worker has room for"
    );
    describe_histogram!(
        SCAN_SECONDS,
        Unit::Seconds,
        "Time of one scan of the leases"
    );
    describe_histogram!(
        TABLE_UNITS,
        Unit::Count,
        "DynamoDB units of one request, by operation"
    );
    describe_counter!(
        SCAN_FAILURES,
        Unit::Count,
        "Scans of the leases that failed"
    );
}
