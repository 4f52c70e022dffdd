//! Settings of the lease table and of the workers that share it.

mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
pub use table::{BillingMode, LeaseTableSettings};

/// Source: KCL `LeaseManagementConfig.failoverTimeMillis`.
const FAILOVER_TIME_DEFAULT: Duration = Duration::from_secs(10);

/// Shorter ones would not leave room for three renewals over a slow network.
/// Source: none, reasonable bound.
const FAILOVER_TIME_MIN: Duration = Duration::from_millis(500);

/// Source: none, reasonable bound.
const FAILOVER_TIME_MAX: Duration = Duration::from_secs(60 * 60);

/// So that a lease released at a random moment has a new owner within three seconds. The KCL looks
/// every 20 s. Source: none, reasonable default; the cost is in the module doc of `lease`.
const LEASE_SCAN_INTERVAL_DEFAULT: Duration = Duration::from_secs(2);

/// Source: none, reasonable bound: twenty scans a second.
const LEASE_SCAN_INTERVAL_MIN: Duration = Duration::from_millis(50);

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
/// on is what the other keeps to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseSettings {
    /// How long a lease is left to a worker that does not renew it, 500 ms to 1 h. Renewals are
    /// made every third of it.
    #[serde(rename = "failover_time_millis", with = "crate::settings::millis")]
    pub failover_time: Duration,
    /// How often the table is read to find leases to take, 50 ms to `failover_time`. The pauses are
    /// jittered down to three quarters.
    #[serde(
        rename = "lease_scan_interval_millis",
        with = "crate::settings::millis"
    )]
    pub lease_scan_interval: Duration,
    /// How long the old owner of a lease has to finish and checkpoint when a lease is to be handed
    /// over, 100 ms to 24 h. It is fenced after that.
    #[serde(rename = "handoff_timeout_millis", with = "crate::settings::millis")]
    pub handoff_timeout: Duration,
    /// Most leases this worker holds, at least 1. The default is no limit. When all workers
    /// together allow fewer than there are shards, the rest is not read.
    pub max_leases_for_worker: u32,
    /// Most handoffs to this worker that may be under way at the same time, at least 1.
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
            lease_scan_interval: LEASE_SCAN_INTERVAL_DEFAULT,
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
                "lease_scan_interval",
                self.lease_scan_interval,
                LEASE_SCAN_INTERVAL_MIN,
                self.failover_time,
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
                "lease_scan_interval",
                LeaseSettings {
                    lease_scan_interval: Duration::from_secs(11),
                    ..default()
                },
                "10000 ms",
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
