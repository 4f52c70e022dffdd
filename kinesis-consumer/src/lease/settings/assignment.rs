//! How the leader shares the leases out.

use serde::{Deserialize, Serialize};

use super::refuse;
use crate::error::Error;

/// How the leader shares the leases out. Workers of one application need the same: any of them may
/// lead. Where a KCL worker leads, its own setting counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LeaseAssignment {
    /// The same number for each worker, within one. The default, unlike in the KCL: it settles at
    /// once and stays so, and is right as long as shards and machines are alike. KCL users asked
    /// for it back (its issues 1589 and 1670).
    #[default]
    LeaseCount,
    /// By what each worker's [metrics](crate::WorkerMetric) show, the CPU by default, and each shard
    /// delivers, as the KCL's `WORKER_UTILIZATION_AWARE` does. By count where no worker has a reading.
    ///
    /// Each worker is to be as busy as the average, or as its
    /// [`max_utilization`](crate::WorkerMetric::max_utilization) lets it, the others taking the rest. One
    /// without readings counts as if its machine were as those of the others are on average; one whose last
    /// reading failed keeps what it has and gets nothing.
    ///
    /// How near to each other the workers come depends on how much one lease is: with fewer than ten a worker
    /// they may rest further apart than the threshold.
    WorkerUtilization(UtilizationSettings),
}

/// Rules of [`LeaseAssignment::WorkerUtilization`]. Names and defaults are those of the KCL's
/// `WorkerUtilizationAwareAssignmentConfig`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UtilizationSettings {
    /// How far from the average of all workers one may be before leases move, in percent of it, 1
    /// to 100.
    pub rebalance_threshold_percentage: u8,
    /// Which part of what a worker has too much is moved at a time, in percent, 1 to 100.
    pub dampening_percentage: u8,
    /// The weight of a newer value of a metric against those before it, in percent, 1 to 100: the
    /// KCL's `workerMetricsEMAAlpha`, which is a part of 1.
    pub worker_metrics_ema_alpha_percentage: u8,
    /// Whether to move the least lease of a worker that has too much when each is more than is to
    /// be moved.
    pub allow_throughput_overshoot: bool,
    /// Most that all shards of one worker together may deliver, in KB a second, at least 1. Leases that no
    /// worker has room for are left alone.
    pub max_throughput_per_host_kbps: u64,
    /// Balancing is done in every so many passes of the leader, at least 1; what a move changes
    /// takes a while to show in the metrics. 35 passes are about a minute, as in the KCL.
    pub variance_balancing_frequency: u32,
}

impl Default for UtilizationSettings {
    fn default() -> Self {
        Self {
            rebalance_threshold_percentage: 10,
            dampening_percentage: 60,
            worker_metrics_ema_alpha_percentage: 50,
            allow_throughput_overshoot: true,
            max_throughput_per_host_kbps: u64::MAX,
            variance_balancing_frequency: 35,
        }
    }
}

impl LeaseAssignment {
    pub(super) fn validate(&self) -> Result<(), Error> {
        let Self::WorkerUtilization(rules) = self else {
            return Ok(());
        };
        for (field, percent) in [
            (
                "assignment.rebalance_threshold_percentage",
                rules.rebalance_threshold_percentage,
            ),
            (
                "assignment.dampening_percentage",
                rules.dampening_percentage,
            ),
            (
                "assignment.worker_metrics_ema_alpha_percentage",
                rules.worker_metrics_ema_alpha_percentage,
            ),
        ] {
            if !(1..=100).contains(&percent) {
                return Err(refuse(field, "1 to 100", &percent.to_string()));
            }
        }
        if rules.max_throughput_per_host_kbps == 0 {
            let field = "assignment.max_throughput_per_host_kbps";
            return Err(refuse(field, "at least 1", "0"));
        }
        if rules.variance_balancing_frequency == 0 {
            let field = "assignment.variance_balancing_frequency";
            return Err(refuse(field, "at least 1", "0"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_out_of_bounds_are_refused_by_name() {
        let default = UtilizationSettings::default;
        let cases = [
            (
                "rebalance_threshold_percentage",
                UtilizationSettings {
                    rebalance_threshold_percentage: 0,
                    ..default()
                },
            ),
            (
                "dampening_percentage",
                UtilizationSettings {
                    dampening_percentage: 101,
                    ..default()
                },
            ),
            (
                "worker_metrics_ema_alpha_percentage",
                UtilizationSettings {
                    worker_metrics_ema_alpha_percentage: 0,
                    ..default()
                },
            ),
            (
                "max_throughput_per_host_kbps",
                UtilizationSettings {
                    max_throughput_per_host_kbps: 0,
                    ..default()
                },
            ),
            (
                "variance_balancing_frequency",
                UtilizationSettings {
                    variance_balancing_frequency: 0,
                    ..default()
                },
            ),
        ];
        for (field, rules) in cases {
            let refused = LeaseAssignment::WorkerUtilization(rules).validate();
            let error = refused.expect_err(field);
            assert!(error.to_string().contains(field), "{error}");
        }
        let defaults = LeaseAssignment::WorkerUtilization(default());
        defaults.validate().expect("the defaults are valid");
    }
}
