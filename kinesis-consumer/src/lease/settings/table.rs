//! What the tables are called, and how the lease table is made when there is none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::refuse;
use crate::error::Error;
use crate::lease::layout::TableNames;

/// Source: DynamoDB's limit for table names.
pub(crate) const TABLE_NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=255;

/// Source: DynamoDB, tags per resource.
const TAGS_MAX: usize = 50;

/// What the lease table is called, and how it is made. A table that exists stays as it is made, but
/// for the index of owners, which is added where it is missing. Part of [`LeaseSettings`](crate::LeaseSettings).
///
/// The names matter where a KCL has, or had, tables by other names than the application's. All workers of
/// an application need the same, and so does [`LeaseAdmin`](crate::admin::LeaseAdmin::table).
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseTableSettings {
    /// The lease table: the KCL's `tableName`. Default: the application's name. 3 to 255 letters, digits,
    /// `_`, `.` or `-`, as the other two. No two of the three may be the same.
    pub name: Option<String>,
    /// The table that a KCL 3.0 to 3.4 has for its lock and states: the name in its
    /// `coordinatorStateTableConfig`. Default, as the KCL's: the application's name, whatever the lease table
    /// is called, and `-CoordinatorState`. By this table an application of such a KCL is known: where it is
    /// looked for by the wrong name, a KCL that runs is refused as if it were a 2.x, and one that was stopped
    /// and comes again leads beside ours. It is never made here.
    pub coordinator_state_table: Option<String>,
    /// The table that a KCL 3.0 to 3.4 has for worker metrics: the name in its `workerMetricsTableConfig`.
    /// Default, as the KCL's: the application's name and `-WorkerMetricStats`. Never made here either.
    pub worker_metrics_table: Option<String>,
    /// What is paid for.
    pub billing_mode: BillingMode,
    /// Whether the table can be put back to any second of the last 35 days. The KCL's
    /// `leaseTablePitrEnabled`. Needs the permission `dynamodb:UpdateContinuousBackups`. A table that
    /// is found without it is reported by a warning, for which `dynamodb:DescribeContinuousBackups` is
    /// needed.
    pub point_in_time_recovery: bool,
    /// Whether the table has to be unlocked before it can be deleted. The KCL's
    /// `leaseTableDeletionProtectionEnabled`.
    pub deletion_protection: bool,
    /// Tags of the table, at most 50. Needs the permission `dynamodb:TagResource` if there are any.
    pub tags: BTreeMap<String, String>,
}

/// What is paid for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BillingMode {
    /// Each request. The default, as in the KCL.
    #[default]
    PayPerRequest,
    /// Units per second, of the table and of its index each, whether they are used or not.
    Provisioned {
        /// Read units, at least 1.
        read_capacity: u32,
        /// Write units, at least 1. The leases of `n` shards need `n / 3.5` at the defaults.
        write_capacity: u32,
    },
}

impl LeaseTableSettings {
    /// What the tables of `application` are called.
    pub(crate) fn names(&self, application: &str) -> TableNames {
        let default = TableNames::of(application);
        let or = |name: &Option<String>, default| name.clone().unwrap_or(default);
        TableNames {
            leases: or(&self.name, default.leases),
            coordinator_state: or(&self.coordinator_state_table, default.coordinator_state),
            worker_metrics: or(&self.worker_metrics_table, default.worker_metrics),
        }
    }

    /// Refuses a table that is to be two at once: its key would be of the wrong name for one of them. The
    /// defaults count, which only the application's name tells.
    pub(crate) fn check_apart(&self, application: &str) -> Result<(), Error> {
        let names = self.names(application);
        let fields = [
            ("table.name", &names.leases),
            ("table.coordinator_state_table", &names.coordinator_state),
            ("table.worker_metrics_table", &names.worker_metrics),
        ];
        for (index, (field, name)) in fields.iter().enumerate() {
            if let Some((other, _)) = fields[..index].iter().find(|(_, before)| before == name) {
                let bound = format!("another table than lease.{other}");
                return Err(refuse(field, &bound, &format!("{name:?}")));
            }
        }
        Ok(())
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        for (field, name) in [
            ("table.name", &self.name),
            (
                "table.coordinator_state_table",
                &self.coordinator_state_table,
            ),
            ("table.worker_metrics_table", &self.worker_metrics_table),
        ] {
            if let Some(name) = name {
                crate::settings::check_name(
                    &format!("setting lease.{field}"),
                    name,
                    TABLE_NAME_CHARS,
                )?;
            }
        }
        if let BillingMode::Provisioned {
            read_capacity,
            write_capacity,
        } = self.billing_mode
        {
            for (field, units) in [
                ("table.billing_mode.read_capacity", read_capacity),
                ("table.billing_mode.write_capacity", write_capacity),
            ] {
                if units == 0 {
                    return Err(refuse(field, "at least 1", "0"));
                }
            }
        }
        if self.tags.len() > TAGS_MAX {
            let count = self.tags.len().to_string();
            return Err(refuse("table.tags", "at most 50 tags", &count));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kcls_other_tables_are_called_by_the_application_and_not_by_the_lease_table() {
        let of = |settings: LeaseTableSettings| settings.names("billing");
        assert_eq!(of(LeaseTableSettings::default()), TableNames::of("billing"));
        let named = of(LeaseTableSettings {
            name: Some("leases".to_owned()),
            ..LeaseTableSettings::default()
        });
        assert_eq!(named.leases, "leases");
        assert_eq!(named.coordinator_state, "billing-CoordinatorState");
        assert_eq!(named.worker_metrics, "billing-WorkerMetricStats");
    }

    #[test]
    fn a_table_that_is_to_be_two_is_refused_by_both_settings() {
        let of = |name: Option<&str>, states: Option<&str>, metrics: Option<&str>| {
            let settings = LeaseTableSettings {
                name: name.map(str::to_owned),
                coordinator_state_table: states.map(str::to_owned),
                worker_metrics_table: metrics.map(str::to_owned),
                ..LeaseTableSettings::default()
            };
            settings.check_apart("billing")
        };
        of(None, None, None).expect("the defaults are apart");
        of(Some("one"), Some("two"), Some("billing")).expect("all of other names");
        let (name, states, metrics) = ("name", "coordinator_state_table", "worker_metrics_table");
        let cases = [
            (of(Some("one"), Some("one"), None), name, states),
            (of(Some("one"), None, Some("one")), name, metrics),
            (of(None, Some("one"), Some("one")), states, metrics),
            // As the defaults of the others are.
            (of(None, Some("billing"), None), name, states),
            (
                of(Some("billing-CoordinatorState"), None, None),
                name,
                states,
            ),
            (
                of(None, Some("billing-WorkerMetricStats"), None),
                states,
                metrics,
            ),
        ];
        for (checked, first, second) in cases {
            let error = checked.expect_err(second);
            assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
            let error = error.to_string();
            for field in [first, second] {
                let field = format!("lease.table.{field}");
                assert!(error.contains(&field), "{field}: {error}");
            }
        }
    }

    #[test]
    fn a_name_that_no_table_can_have_is_refused_by_name_and_bound() {
        let some = |name: &str| Some(name.to_owned());
        for name in ["", "ab", "a table", &"x".repeat(256)] {
            let cases = [
                (
                    "table.name",
                    LeaseTableSettings {
                        name: some(name),
                        ..LeaseTableSettings::default()
                    },
                ),
                (
                    "coordinator_state_table",
                    LeaseTableSettings {
                        coordinator_state_table: some(name),
                        ..LeaseTableSettings::default()
                    },
                ),
                (
                    "worker_metrics_table",
                    LeaseTableSettings {
                        worker_metrics_table: some(name),
                        ..LeaseTableSettings::default()
                    },
                ),
            ];
            for (field, settings) in cases {
                let error = settings.validate().expect_err(field).to_string();
                assert!(
                    error.contains(field) && error.contains("3 to 255"),
                    "{error}"
                );
            }
        }
    }
}
