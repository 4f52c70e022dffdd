//! Settings of the lease table and of the workers that share it.

mod assignment;
mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
pub use assignment::{LeaseAssignment, UtilizationSettings};
pub(crate) use table::TABLE_NAME_CHARS;
pub use table::{BillingMode, LeaseTableSettings};

/// Source: KCL `LeaseManagementConfig.failoverTimeMillis`.
const FAILOVER_TIME_DEFAULT: Duration = Duration::from_secs(10);

/// Source: none, a bound for what is usual; the KCL's own default is 10 s, and what is set for slow
/// processors or networks is rarely more than a minute.
pub(super) const KCL_FAILOVER_TIME_DEFAULT: Duration = Duration::from_secs(60);

/// Shorter ones would not leave room for the attempts of a renewal over a slow network.
/// Source: none, reasonable bound.
const FAILOVER_TIME_MIN: Duration = Duration::from_millis(500);

/// Source: none, reasonable bound.
const FAILOVER_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// So that a lease that is given back has a new owner within three seconds, and that one whose holder
/// died is found within one more look of its expiry (six of these are a little more than the default
/// `failover_time`). The KCL's leader looks every 20 s. Source: none; the cost is in the module doc of
/// `lease`.
const LEASE_ASSIGNMENT_INTERVAL_DEFAULT: Duration = Duration::from_millis(1_750);

/// So that a lease of a worker that died is found within 15 s, by who it was given to: 1.75 s until the
/// leader sees its last renewal, 10.5 s until the pass that finds it expired, and this; and within 3 s one
/// that a worker gave back when it stopped. The KCL asks every 10 s. Source: none, derived from those; the
/// cost is in the module doc of `lease`.
const LEASE_DISCOVERY_INTERVAL_DEFAULT: Duration = Duration::from_secs(2);

/// Source: none, reasonable bound: twenty looks a second.
const LEASE_LOOK_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// So that the leases of a leader that died have new owners within half a minute: its silence is seen within
/// 84 % of this (`lock`), then its leases expire and are given away as any others. The KCL's
/// `dynamoDbLockBasedLeaderLeaseDurationInMillis` is 120 s. Source: none, derived from that.
const LEADER_LOCK_DURATION_DEFAULT: Duration = Duration::from_secs(18);

/// Source: none, reasonable bound.
const LEADER_LOCK_DURATION_MIN: Duration = Duration::from_millis(500);

/// Source: KCL `workerMetricsReporterFreqInMillis`. A row is fresh for twice as long.
const WORKER_METRICS_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);

/// Source: KCL `GracefulLeaseHandoffConfig.gracefulLeaseHandoffTimeoutMillis`.
const HANDOFF_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The KCL's `maxLeasesToStealAtOneTime` is 1; a graceful handoff costs no re-delivery, so that more
/// at once do no harm and a new worker has its share sooner. Source: none, reasonable default.
const MAX_HANDOFFS_AT_ONCE_DEFAULT: u32 = 8;

/// Source: none, reasonable default; the KCL checks completed leases every 5 min.
const LEASE_CLEANUP_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

/// Source: none, reasonable default; the KCL's auditor runs every 2 min.
const SHARD_SYNC_INTERVAL_DEFAULT: Duration = Duration::from_secs(30);

/// Source: none, reasonable bound for all other durations here.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How this worker shares the lease table. Part of [`Settings`](crate::Settings).
///
/// Workers of one application need the same `failover_time` and `handoff_timeout`: what one counts
/// on is what the other keeps to. Beside workers of a KCL, `failover_time` is to be no longer than their
/// `failoverTimeMillis`, by which their leader judges ours, and [`kcl_failover_time`](Self::kcl_failover_time)
/// no shorter than it, by which our leader judges theirs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSettings {
    /// How long a lease is left to a worker that does not renew it, 500 ms to 1 h. Renewals are
    /// made every 40 % of it.
    #[serde(rename = "failover_time_millis", with = "crate::settings::millis")]
    pub failover_time: Duration,
    /// How long a lease is left to a worker of a KCL that does not renew it, 500 ms to 1 h: at least the
    /// longest `failoverTimeMillis` of the KCL workers that share the table, each of which renews once in a
    /// third of it. With less, leases are taken from workers that are well, and two work on a shard until the
    /// next renewal of the first. The default, 60 s, is for a KCL of unknown settings; with that of the KCL,
    /// 10 s, the leases of a KCL worker that died have a new owner as soon as those of ours. No less than
    /// `failover_time` counts. Until a lease of it expires, a KCL worker that died may still be given leases
    /// that are free meanwhile, those of new shards or of a worker that stopped: each waits for this time again,
    /// so that nobody reads its shard for up to twice as long. For as long, too, a worker that finds leases of a KCL 2.x watches whether they
    /// are renewed before it takes over; that is once in the life of a table.
    #[serde(rename = "kcl_failover_time_millis", with = "crate::settings::millis")]
    pub kcl_failover_time: Duration,
    /// How often the leader reads the table and shares the leases out, 50 ms to `failover_time`.
    #[serde(
        rename = "lease_assignment_interval_millis",
        with = "crate::settings::millis"
    )]
    pub lease_assignment_interval: Duration,
    /// How often a worker looks which leases were given to it, 50 ms to `failover_time`. The pauses
    /// are jittered down to nine tenths.
    #[serde(
        rename = "lease_discovery_interval_millis",
        with = "crate::settings::millis"
    )]
    pub lease_discovery_interval: Duration,
    /// For how long the leader's lock is trusted without a beat, 500 ms to 1 h. A leader that died
    /// is replaced after it; it beats every 40 % of it.
    #[serde(
        rename = "leader_lock_duration_millis",
        with = "crate::settings::millis"
    )]
    pub leader_lock_duration: Duration,
    /// How often this worker takes a reading of each of its
    /// [metrics](crate::ConsumerBuilder::worker_metrics) and writes its row of them, 1 s to 1 h. A leader
    /// gives no leases to a worker whose row is older than twice this.
    #[serde(
        rename = "worker_metrics_interval_millis",
        with = "crate::settings::millis"
    )]
    pub worker_metrics_interval: Duration,
    /// Leaves all readings out of that row, the use of the CPU too, so that it says only that the worker
    /// lives. All workers of a fleet are to do the same: where none has readings, our leader shares by number
    /// and a KCL's by throughput. Beside workers that have some, our leader weighs it as [`LeaseAssignment`]
    /// says; a KCL's weighs each kind of measure by itself, and does not balance workers of one against the
    /// other.
    pub disable_worker_metrics: bool,
    /// How the leader shares the leases out.
    pub assignment: LeaseAssignment,
    /// How long the old owner of a lease has to finish and checkpoint when a lease is to be handed
    /// over, 100 ms to 24 h. It is fenced after that.
    #[serde(rename = "handoff_timeout_millis", with = "crate::settings::millis")]
    pub handoff_timeout: Duration,
    /// Most leases a worker holds, at least 1. The default is no limit. When all workers together
    /// allow fewer than there are shards, the rest is not read. The leader's setting counts for the whole
    /// fleet, as with the KCL: a worker takes what it is given, also beyond a lower limit of its own, and
    /// logs that. A worker that stops gives its leases to others by its own setting. So give all workers the same.
    pub max_leases_for_worker: u32,
    /// Most handoffs to one worker that may be under way at the same time, at least 1.
    pub max_handoffs_at_once: u32,
    /// How often the leases of finished shards are looked for and deleted, 1 s to 24 h.
    #[serde(
        rename = "lease_cleanup_interval_millis",
        with = "crate::settings::millis"
    )]
    pub lease_cleanup_interval: Duration,
    /// How often the shards are listed while the leases do not cover the key space, 1 s to 24 h.
    #[serde(
        rename = "shard_sync_interval_millis",
        with = "crate::settings::millis"
    )]
    pub shard_sync_interval: Duration,
    /// How the lease table is made when there is none.
    pub table: LeaseTableSettings,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self {
            failover_time: FAILOVER_TIME_DEFAULT,
            kcl_failover_time: KCL_FAILOVER_TIME_DEFAULT,
            lease_assignment_interval: LEASE_ASSIGNMENT_INTERVAL_DEFAULT,
            lease_discovery_interval: LEASE_DISCOVERY_INTERVAL_DEFAULT,
            leader_lock_duration: LEADER_LOCK_DURATION_DEFAULT,
            worker_metrics_interval: WORKER_METRICS_INTERVAL_DEFAULT,
            disable_worker_metrics: false,
            assignment: LeaseAssignment::default(),
            handoff_timeout: HANDOFF_TIMEOUT_DEFAULT,
            max_leases_for_worker: u32::MAX,
            max_handoffs_at_once: MAX_HANDOFFS_AT_ONCE_DEFAULT,
            lease_cleanup_interval: LEASE_CLEANUP_INTERVAL_DEFAULT,
            shard_sync_interval: SHARD_SYNC_INTERVAL_DEFAULT,
            table: LeaseTableSettings::default(),
        }
    }
}

impl LeaseSettings {
    /// For how long the counter of a KCL's lease has to stand still until nobody holds it.
    pub(crate) fn failover_of_kcl(&self) -> Duration {
        self.kcl_failover_time.max(self.failover_time)
    }

    /// Checks every field; the error names the first one out of bounds, and the bound.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let second = Duration::from_secs(1);
        let durations = [
            (
                "failover_time",
                self.failover_time,
                FAILOVER_TIME_MIN,
                FAILOVER_TIME_MAX,
            ),
            (
                "kcl_failover_time",
                self.kcl_failover_time,
                FAILOVER_TIME_MIN,
                FAILOVER_TIME_MAX,
            ),
            (
                "lease_assignment_interval",
                self.lease_assignment_interval,
                LEASE_LOOK_INTERVAL_MIN,
                self.failover_time,
            ),
            (
                "lease_discovery_interval",
                self.lease_discovery_interval,
                LEASE_LOOK_INTERVAL_MIN,
                self.failover_time,
            ),
            (
                "leader_lock_duration",
                self.leader_lock_duration,
                LEADER_LOCK_DURATION_MIN,
                FAILOVER_TIME_MAX,
            ),
            (
                "worker_metrics_interval",
                self.worker_metrics_interval,
                second,
                FAILOVER_TIME_MAX,
            ),
            (
                "handoff_timeout",
                self.handoff_timeout,
                Duration::from_millis(100),
                DURATION_MAX,
            ),
            (
                "lease_cleanup_interval",
                self.lease_cleanup_interval,
                second,
                DURATION_MAX,
            ),
            (
                "shard_sync_interval",
                self.shard_sync_interval,
                second,
                DURATION_MAX,
            ),
        ];
        for (field, value, least, most) in durations {
            if value < least || value > most {
                let (least, most) = (least.as_millis(), most.as_millis());
                return Err(refuse(
                    field,
                    &format!("{least} ms to {most} ms"),
                    &format!("{value:?}"),
                ));
            }
        }
        for (field, value) in [
            ("max_leases_for_worker", self.max_leases_for_worker),
            ("max_handoffs_at_once", self.max_handoffs_at_once),
        ] {
            if value == 0 {
                return Err(refuse(field, "at least 1", "0"));
            }
        }
        self.assignment.validate()?;
        self.table.validate()
    }
}

fn refuse(field: &str, bound: &str, value: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!("setting lease.{field} must be {bound}, not {value}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_their_bounds() {
        LeaseSettings::default().validate().expect("valid");
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_by_name_and_bound() {
        let zero = Duration::ZERO;
        let default = LeaseSettings::default;
        let cases = [
            (
                "failover_time",
                LeaseSettings {
                    failover_time: zero,
                    ..default()
                },
                "500 ms",
            ),
            (
                "kcl_failover_time",
                LeaseSettings {
                    kcl_failover_time: Duration::from_secs(3_601),
                    ..default()
                },
                "3600000 ms",
            ),
            (
                "lease_assignment_interval",
                LeaseSettings {
                    lease_assignment_interval: Duration::from_secs(11),
                    ..default()
                },
                "10000 ms",
            ),
            (
                "lease_discovery_interval",
                LeaseSettings {
                    lease_discovery_interval: zero,
                    ..default()
                },
                "50 ms",
            ),
            (
                "leader_lock_duration",
                LeaseSettings {
                    leader_lock_duration: zero,
                    ..default()
                },
                "500 ms",
            ),
            (
                "worker_metrics_interval",
                LeaseSettings {
                    worker_metrics_interval: zero,
                    ..default()
                },
                "1000 ms",
            ),
            (
                "handoff_timeout",
                LeaseSettings {
                    handoff_timeout: zero,
                    ..default()
                },
                "100 ms",
            ),
            (
                "lease_cleanup_interval",
                LeaseSettings {
                    lease_cleanup_interval: zero,
                    ..default()
                },
                "1000 ms",
            ),
            (
                "shard_sync_interval",
                LeaseSettings {
                    shard_sync_interval: zero,
                    ..default()
                },
                "1000 ms",
            ),
            (
                "max_leases_for_worker",
                LeaseSettings {
                    max_leases_for_worker: 0,
                    ..default()
                },
                "at least 1",
            ),
            (
                "max_handoffs_at_once",
                LeaseSettings {
                    max_handoffs_at_once: 0,
                    ..default()
                },
                "at least 1",
            ),
        ];
        for (field, settings, bound) in cases {
            let error = settings.validate().expect_err(field);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            assert!(text.contains(field) && text.contains(bound), "{text}");
        }
    }
}
