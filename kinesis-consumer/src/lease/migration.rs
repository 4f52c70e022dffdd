//! The states that the KCL keeps of its own migrations, and what they mean for a worker of ours.
//! Without I/O.
//!
//! `Migration3.0` (`cv`: which protocol the fleet speaks) decides whether to work at all:
//!
//! | `cv` | meaning | here |
//! | --- | --- | --- |
//! | no row | a new application, or one of KCL 2.x | set to 3X, if no KCL 2.x worker is alive |
//! | `CLIENT_VERSION_3X` | a leader assigns the leases | work |
//! | `CLIENT_VERSION_3X_WITH_ROLLBACK` | the same, with a way back | work, and look at the row again |
//! | `CLIENT_VERSION_UPGRADE_FROM_2X`, `CLIENT_VERSION_2X` | workers take leases from each other | refuse |
//!
//! `TableMigration3.5` (`tm`) decides where rows lie; see [`layout`](super::layout).

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{Item, number};
use super::layout::TableNames;
use crate::error::{Error, ErrorKind};

/// Source: KCL 3.5.1, `MigrationState`.
pub(super) const CLIENT_VERSION_KEY: &str = "Migration3.0";
pub(super) const CLIENT_VERSION: &str = "cv";
pub(super) const ENTITY_CLIENT_VERSION: &str = "CLIENT_VERSION_MIGRATION";
pub(super) const MODIFIED_BY: &str = "mb";
pub(super) const MODIFIED_AT: &str = "mts";
/// Source: KCL 3.5.1, `TableMigrationState`.
pub(super) const TABLE_MIGRATION_KEY: &str = "TableMigration3.5";
const TABLE_MIGRATION: &str = "tm";

/// The protocol of the fleet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ClientVersion {
    /// `CLIENT_VERSION_3X`, with or without a way back.
    Three,
    /// Anything else, by its name.
    Other(String),
}

impl ClientVersion {
    pub(crate) fn read(item: &Item) -> Self {
        match item.get(CLIENT_VERSION).and_then(|cv| cv.as_s().ok()) {
            Some(cv) if cv == "CLIENT_VERSION_3X" => Self::Three,
            Some(cv) if cv == "CLIENT_VERSION_3X_WITH_ROLLBACK" => Self::Three,
            Some(cv) => Self::Other(cv.clone()),
            None => Self::Other("nothing that can be read".to_owned()),
        }
    }

    /// Whether a worker of ours may work beside it.
    ///
    /// # Errors
    /// `InvalidInput` that says what to do, if it may not.
    pub(crate) fn permit(&self, table: &str) -> Result<(), Error> {
        match self {
            Self::Three => Ok(()),
            Self::Other(version) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the workers of the application with lease table {table} share leases by the \
                     rules of KCL 2.x ({CLIENT_VERSION_KEY} says {version}), which this worker does \
                     not know: let the upgrade to KCL 3 complete (CLIENT_VERSION_3X), or stop all \
                     KCL workers and delete the row {CLIENT_VERSION_KEY}"
                ),
            )),
        }
    }

    /// The row of an application that starts with the protocol of KCL 3.
    pub(crate) fn new_row(key: &str, me: &str, now_millis: u64) -> Item {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        Item::from([
            (key.to_owned(), text(CLIENT_VERSION_KEY)),
            (CLIENT_VERSION.to_owned(), text("CLIENT_VERSION_3X")),
            (MODIFIED_BY.to_owned(), text(me)),
            (MODIFIED_AT.to_owned(), number(now_millis)),
            (
                super::item::ENTITY_TYPE.to_owned(),
                text(ENTITY_CLIENT_VERSION),
            ),
        ])
    }
}

/// The refusal of a table on which a KCL 2.x works right now.
pub(crate) fn live_kcl_2(names: &TableNames, owner: &str) -> Error {
    let (table, states) = (&names.leases, &names.coordinator_state);
    Error::new(
        ErrorKind::InvalidInput,
        format!(
            "worker {owner} renews leases in table {table} by the rules of KCL 2.x (there is no row \
             {CLIENT_VERSION_KEY}): stop the KCL 2.x workers first, and this one takes over where they \
             stopped; or upgrade them to KCL 3, beside which it works. If they are of KCL 3.0 to 3.4, \
             their table of states was not found: either it is not called {states}, then say how it is \
             called (lease.table.coordinator_state_table), or this worker may not look at it, then allow \
             dynamodb:DescribeTable"
        ),
    )
}

/// How far the KCL is with moving its rows into the lease table. Only a leader of the KCL takes the
/// next step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TableMigration {
    /// `INIT`, or no row: workers of KCL 3.4, which know only the old tables, may be there.
    NotBegun,
    /// `DEPLOYED` and `PENDING`: all read both, and write to the lease table; the lock stays.
    ///
    /// At `DEPLOYED` the KCL does so once it is told to (`migrateAllEntitiesToLeaseTable`). A worker
    /// of ours does so at once: its leader goes on to `PENDING` only when nobody's metrics come to the
    /// old table any more, and moves the states before it says `PENDING`.
    Moving,
    /// `COMPLETE`: all is there.
    Complete,
}

impl TableMigration {
    /// Reads the row, if there is one.
    ///
    /// # Errors
    /// `InvalidInput` for a state of a later KCL.
    pub(crate) fn read(item: Option<&Item>, table: &str) -> Result<Self, Error> {
        let Some(item) = item else {
            return Ok(Self::NotBegun);
        };
        let status = item.get(TABLE_MIGRATION).and_then(|tm| tm.as_s().ok());
        match status.map(String::as_str) {
            Some("TABLE_MIGRATION_STATUS_INIT") => Ok(Self::NotBegun),
            Some("TABLE_MIGRATION_STATUS_DEPLOYED" | "TABLE_MIGRATION_STATUS_PENDING") => {
                Ok(Self::Moving)
            }
            Some("TABLE_MIGRATION_STATUS_COMPLETE") => Ok(Self::Complete),
            other => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the state {TABLE_MIGRATION_KEY} in table {table} is {}, which this version does \
                     not know; let the KCL's migration complete (TABLE_MIGRATION_STATUS_COMPLETE), or \
                     use a later version",
                    other.unwrap_or("missing")
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: &str) -> Item {
        Item::from([(name.to_owned(), AttributeValue::S(value.to_owned()))])
    }

    #[test]
    fn only_the_protocol_of_kcl_3_is_worked_with_and_the_refusal_says_what_to_do() {
        for version in ["CLIENT_VERSION_3X", "CLIENT_VERSION_3X_WITH_ROLLBACK"] {
            let read = ClientVersion::read(&row("cv", version));
            read.permit("billing").expect("permitted");
        }
        for version in [
            "CLIENT_VERSION_2X",
            "CLIENT_VERSION_UPGRADE_FROM_2X",
            "CLIENT_VERSION_9X",
        ] {
            let read = ClientVersion::read(&row("cv", version));
            let error = read.permit("billing").expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let text = error.to_string();
            for part in [version, "billing", "CLIENT_VERSION_3X", "stop all KCL"] {
                assert!(text.contains(part), "{text}");
            }
        }
        let unreadable = ClientVersion::read(&Item::new());
        unreadable.permit("billing").expect_err("refused");
    }

    #[test]
    fn a_table_migration_is_known_in_each_state_and_a_later_one_is_refused() {
        let read = |status: &str| TableMigration::read(Some(&row("tm", status)), "billing");
        let known = [
            ("TABLE_MIGRATION_STATUS_INIT", TableMigration::NotBegun),
            ("TABLE_MIGRATION_STATUS_DEPLOYED", TableMigration::Moving),
            ("TABLE_MIGRATION_STATUS_PENDING", TableMigration::Moving),
            ("TABLE_MIGRATION_STATUS_COMPLETE", TableMigration::Complete),
        ];
        for (status, state) in known {
            assert_eq!(read(status).expect("known"), state);
        }
        let none = TableMigration::read(None, "billing").expect("known");
        assert_eq!(none, TableMigration::NotBegun);
        let error = read("TABLE_MIGRATION_STATUS_BAKED").expect_err("unknown");
        assert!(error.to_string().contains("BAKED"), "{error}");
    }
}
