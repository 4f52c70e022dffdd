//! Where each kind of row lies.
//!
//! | Application | leases | lock | states | worker metrics |
//! | --- | --- | --- | --- | --- |
//! | new, KCL 2.x, KCL 3.5 | lease table | lease table | lease table | lease table |
//! | KCL 3.0 to 3.4 | lease table | `-CoordinatorState` | `-CoordinatorState` | `-WorkerMetricStats` |
//! | … being moved by KCL 3.5 | lease table | `-CoordinatorState` | lease table | lease table |
//! | … and moved | lease table | lease table | lease table | lease table |
//!
//! That is where they are written. States and metrics are read from both places until they are moved,
//! because a KCL that is upgraded, or goes back, leaves rows in either.
//!
//! The table of the leases is called as the application, the other two as that and their suffix, unless
//! the settings say otherwise ([`TableNames`]).
//!
//! The tables of 3.0 to 3.4 are used where they are; this crate never makes, moves or deletes them. So
//! a move goes on only while a worker of the KCL leads.

use super::item::LEASE_KEY;
use super::migration::TableMigration;

/// Key attribute of `<application>-CoordinatorState`. Source: KCL 3.5.1.
const COORDINATOR_KEY: &str = "key";
/// Key attribute of `<application>-WorkerMetricStats`. Source: KCL 3.5.1.
const METRICS_KEY: &str = "wid";

/// What the tables of an application are called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TableNames {
    pub(crate) leases: String,
    /// Where KCL 3.0 to 3.4 have the lock and the states. Its name tells such an application.
    pub(crate) coordinator_state: String,
    /// Where KCL 3.0 to 3.4 have worker metrics.
    pub(crate) worker_metrics: String,
}

impl TableNames {
    /// As they are called if nothing else is said. Source: KCL 3.5.1, `LeaseManagementConfig.tableName`,
    /// `CoordinatorConfig`, `WorkerMetricsTableConfig`, each by the name of the application.
    pub(crate) fn of(application: &str) -> Self {
        Self {
            leases: application.to_owned(),
            coordinator_state: format!("{application}-CoordinatorState"),
            worker_metrics: format!("{application}-WorkerMetricStats"),
        }
    }
}

/// A table and the attribute that is its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) table: String,
    pub(crate) key: &'static str,
}

/// Where each kind of row lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Layout {
    pub(crate) lock: Place,
    /// The first is written, and counts when rows differ.
    pub(crate) states: Vec<Place>,
    /// The first is written; of rows that differ the newest counts.
    pub(crate) stats: Vec<Place>,
}

impl Layout {
    /// All in the lease table.
    pub(crate) fn single(lease_table: &str) -> Self {
        let place = Place {
            table: lease_table.to_owned(),
            key: LEASE_KEY,
        };
        Self {
            lock: place.clone(),
            states: vec![place.clone()],
            stats: vec![place],
        }
    }

    /// The layout of an application that has the tables of KCL 3.0 to 3.4.
    pub(crate) fn legacy(names: &TableNames, migration: TableMigration) -> Self {
        let single = Self::single(&names.leases);
        let coordinator = Place {
            table: names.coordinator_state.clone(),
            key: COORDINATOR_KEY,
        };
        let metrics = Place {
            table: names.worker_metrics.clone(),
            key: METRICS_KEY,
        };
        match migration {
            TableMigration::Complete => single,
            TableMigration::NotBegun => Self {
                lock: coordinator.clone(),
                states: [vec![coordinator], single.states].concat(),
                stats: [vec![metrics], single.stats].concat(),
            },
            TableMigration::Moving => Self {
                lock: coordinator.clone(),
                states: [single.states, vec![coordinator]].concat(),
                stats: [single.stats, vec![metrics]].concat(),
            },
        }
    }
}
