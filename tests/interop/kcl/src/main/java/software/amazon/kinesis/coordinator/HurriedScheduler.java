package software.amazon.kinesis.coordinator;

import software.amazon.kinesis.checkpoint.CheckpointConfig;
import software.amazon.kinesis.leases.LeaseManagementConfig;
import software.amazon.kinesis.lifecycle.LifecycleConfig;
import software.amazon.kinesis.metrics.MetricsConfig;
import software.amazon.kinesis.processor.ProcessorConfig;
import software.amazon.kinesis.retrieval.RetrievalConfig;

/**
 * The KCL's scheduler without the wait of up to half a minute, by chance, for others to fill an empty lease
 * table. That cannot be set; here it can be left out, being in the scheduler's package. No two workers of a test
 * come upon an empty table.
 */
public final class HurriedScheduler extends Scheduler {
    public HurriedScheduler(
            CheckpointConfig checkpoint,
            CoordinatorConfig coordinator,
            LeaseManagementConfig leases,
            LifecycleConfig lifecycle,
            MetricsConfig metrics,
            ProcessorConfig processor,
            RetrievalConfig retrieval) {
        super(checkpoint, coordinator, leases, lifecycle, metrics, processor, retrieval);
    }

    @Override
    boolean shouldInitiateLeaseSync() {
        try {
            return leaseRefresher().isLeaseTableEmpty();
        } catch (Exception failed) {
            throw new IllegalStateException(failed);
        }
    }
}
