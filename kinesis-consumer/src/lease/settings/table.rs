//! How the lease table is made when there is none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::refuse;
use crate::error::Error;

/// Source: DynamoDB, tags per resource.
const TAGS_MAX: usize = 50;

/// How the lease table is made. A table that exists is taken as it is: none of this is changed on it.
/// Part of [`LeaseSettings`](crate::LeaseSettings).
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeaseTableSettings {
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
    pub(super) fn validate(&self) -> Result<(), Error> {
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
