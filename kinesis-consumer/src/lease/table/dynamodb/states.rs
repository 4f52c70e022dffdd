//! The states of the KCL's migrations, and where rows lie because of them.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use aws_sdk_dynamodb::types::{TableDescription, TableStatus};

use super::{DynamoDbTable, LeaseTable};
use crate::error::{Error, ErrorKind, aws_kind};
use crate::lease::item::{Item, LEASE_KEY};
use crate::lease::layout::{Layout, Place};
use crate::lease::lock::text;
use crate::lease::migration::{
    CLIENT_VERSION_KEY, ClientVersion, TABLE_MIGRATION_KEY, TableMigration,
};

impl DynamoDbTable {
    /// Where rows lie, as last found out.
    pub(super) fn layout(&self) -> Layout {
        let layout = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        layout.clone()
    }

    /// Finds out where rows lie: whether there are tables of KCL 3.0 to 3.4, and whether they have
    /// been moved.
    ///
    /// # Errors
    /// `InvalidInput` for a state of the migration that is not known here; `Unavailable` while one is
    /// being made.
    pub(super) async fn look_for_legacy_tables(&self) -> Result<(), Error> {
        let name = &self.names.coordinator_state;
        let request = self.reads.describe_table().table_name(name);
        let layout = match Box::pin(request.send()).await {
            Ok(answer) => match answer.table().and_then(TableDescription::table_status) {
                // By a KCL that starts now. Whatever is done before it is there would be done elsewhere.
                Some(TableStatus::Creating) => return Err(not_there(name, "is being made")),
                Some(TableStatus::Deleting) => Layout::single(self.name()),
                _ => {
                    let coordinator = Layout::legacy(&self.names, TableMigration::NotBegun);
                    let row = self.state(&coordinator.lock, TABLE_MIGRATION_KEY).await?;
                    let migration = TableMigration::read(row.as_ref(), name)?;
                    Layout::legacy(&self.names, migration)
                }
            },
            Err(error) => match aws_kind(&error) {
                ErrorKind::NotFound => Layout::single(self.name()),
                // Without the permission there is no knowing; an application that never had a KCL
                // 3.0 to 3.4 needs none. One that was found out before stays.
                ErrorKind::Denied if self.denial_reported.swap(true, Ordering::Relaxed) => {
                    return Ok(());
                }
                ErrorKind::Denied => {
                    tracing::warn!(
                        table = name,
                        "may not look whether there is a table of KCL 3.0 to 3.4; it is taken for as \
                         it was found before, at first for none. If there is one, allow \
                         dynamodb:DescribeTable on it: otherwise a KCL 3.4 that runs is refused as if it \
                         were a KCL 2.x, and one that was stopped cannot read the rows that are written \
                         into the lease table"
                    );
                    return Ok(());
                }
                _ => return Err(Error::aws(format_args!("looking for table {name}"), error)),
            },
        };
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = layout;
        Ok(())
    }

    /// The protocol of the fleet, by a consistent read; `None` if nobody wrote it down.
    pub(super) async fn read_client_version(&self) -> Result<Option<ClientVersion>, Error> {
        for place in &self.layout().states {
            if let Some(row) = self.state(place, CLIENT_VERSION_KEY).await? {
                return Ok(Some(ClientVersion::read(&row)));
            }
        }
        Ok(None)
    }

    /// Writes down the protocol of KCL 3, unless one was written down.
    pub(super) async fn write_client_version(
        &self,
        me: &str,
        now_millis: u64,
    ) -> Result<(), Error> {
        let Some(place) = self.layout().states.into_iter().next() else {
            return Ok(());
        };
        let request = self
            .prompt
            .put_item()
            .table_name(place.table)
            .set_item(Some(ClientVersion::new_row(place.key, me, now_millis)))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", place.key);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                Some(refusal) if refusal.is_conditional_check_failed_exception() => Ok(()),
                _ => Err(Error::aws(
                    format_args!("writing {CLIENT_VERSION_KEY} of table {}", self.name()),
                    error,
                )),
            },
        }
    }

    async fn state(&self, place: &Place, key: &str) -> Result<Option<Item>, Error> {
        let request = self
            .prompt
            .get_item()
            .table_name(&place.table)
            .key(place.key, text(key))
            .consistent_read(true);
        let answer = Box::pin(request.send()).await;
        let answer = answer.map_err(|error| {
            // One that is being made or deleted is described before, or after, it can be read. The next look
            // tells which.
            if place.key != LEASE_KEY && aws_kind(&error) == ErrorKind::NotFound {
                return not_there(&place.table, "cannot be read yet, or any more");
            }
            let what = format_args!("reading {key} of table {}", place.table);
            Error::aws(what, error)
        })?;
        Ok(answer.item)
    }
}

/// The error of a table of KCL 3.0 to 3.4 that may be there, or be gone, soon.
fn not_there(table: &str, state: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("table {table} of KCL 3.0 to 3.4 {state}; try again later"),
    )
}
