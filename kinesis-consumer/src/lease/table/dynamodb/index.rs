//! The index by which a worker finds its leases without reading the table: the KCL's
//! `LeaseOwnerToLeaseKeyIndex`.
//!
//! A new table is made with it. On an older one it is added, which takes DynamoDB minutes; until it
//! is ACTIVE, and where it may not be added, workers find their leases by scanning.

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    CreateGlobalSecondaryIndexAction, GlobalSecondaryIndex, GlobalSecondaryIndexUpdate,
    IndexStatus, KeySchemaElement, KeyType, Projection, ProjectionType, ProvisionedThroughput,
    TableStatus,
};
use kinesis_core::ShardId;

use super::setup::{key_part, text_attribute};
use super::{DynamoDbTable, Index, LeaseTable, SCAN_PAGES_MAX, UNITS, count_units};
use crate::error::{Error, ErrorKind, aws_kind};
use crate::lease::item::{Item, LEASE_KEY, OWNER};
use crate::lease::lock::text;

/// Source: KCL 3.5.1, `DynamoDBLeaseRefresher`.
const INDEX: &str = "LeaseOwnerToLeaseKeyIndex";

impl DynamoDbTable {
    /// Whether the index is there; it is ordered if it is missing.
    pub(super) async fn look_at_index(&self) -> Result<Index, Error> {
        let request = self.reads.describe_table().table_name(self.name());
        let answer = Box::pin(request.send()).await.map_err(|error| {
            Error::aws(
                format_args!("looking at lease table {}", self.name()),
                error,
            )
        })?;
        let Some(table) = answer.table() else {
            return Ok(Index::NotYet);
        };
        let mut indexes = table.global_secondary_indexes().iter();
        match indexes.find(|index| index.index_name() == Some(INDEX)) {
            Some(index) if index.index_status() == Some(&IndexStatus::Active) => Ok(Index::Active),
            Some(_) => Ok(Index::NotYet),
            // One change of a table at a time.
            None if table.table_status() != Some(&TableStatus::Active) => Ok(Index::NotYet),
            None => {
                let units = table.provisioned_throughput();
                let read = units.and_then(|units| units.read_capacity_units());
                let write = units.and_then(|units| units.write_capacity_units());
                self.order_index(read.zip(write).filter(|units| *units != (0, 0)))
                    .await
            }
        }
    }

    async fn order_index(&self, units: Option<(i64, i64)>) -> Result<Index, Error> {
        let incomplete = |error: BuildError| {
            Error::new(ErrorKind::Internal, "a request for an index is incomplete")
                .with_source(error)
        };
        let throughput = match units {
            None => None,
            Some((read, write)) => Some(
                ProvisionedThroughput::builder()
                    .read_capacity_units(read)
                    .write_capacity_units(write)
                    .build()
                    .map_err(incomplete)?,
            ),
        };
        let action = CreateGlobalSecondaryIndexAction::builder()
            .index_name(INDEX)
            .set_key_schema(Some(keys().map_err(incomplete)?))
            .projection(keys_only())
            .set_provisioned_throughput(throughput)
            .build()
            .map_err(incomplete)?;
        let request = self
            .reads
            .update_table()
            .table_name(self.name())
            .attribute_definitions(text_attribute(LEASE_KEY).map_err(incomplete)?)
            .attribute_definitions(text_attribute(OWNER).map_err(incomplete)?)
            .global_secondary_index_updates(
                GlobalSecondaryIndexUpdate::builder().create(action).build(),
            );
        match Box::pin(request.send()).await {
            Ok(_) => {
                tracing::info!(table = self.name(), index = INDEX, "ordered the index");
                Ok(Index::NotYet)
            }
            Err(error) if aws_kind(&error) == ErrorKind::Denied => {
                tracing::warn!(
                    table = self.name(),
                    index = INDEX,
                    "may not add the index; leases are found by scanning, which costs more"
                );
                Ok(Index::Denied)
            }
            // Another worker ordered it, or the table is being changed.
            Err(error) => {
                let table = self.name();
                tracing::debug!(
                    table,
                    index = INDEX,
                    "the index could not be ordered: {error}"
                );
                Ok(Index::NotYet)
            }
        }
    }

    /// The leases whose owner, or next owner, is `owner`. Bounded as short as a write is: a lease that
    /// was given waits for the answer, and the next look is two seconds away.
    pub(super) async fn ask_index(&self, owner: &str) -> Result<Vec<ShardId>, Error> {
        let mut keys = Vec::new();
        let mut start: Option<Item> = None;
        for _ in 0..SCAN_PAGES_MAX {
            let request = self
                .prompt
                .query()
                .table_name(self.name())
                .index_name(INDEX)
                .key_condition_expression("#owner = :owner")
                .expression_attribute_names("#owner", OWNER)
                .expression_attribute_values(":owner", text(owner))
                .return_consumed_capacity(UNITS)
                .set_exclusive_start_key(start);
            let page = Box::pin(request.send()).await.map_err(|error| {
                let table = self.name();
                Error::aws(format_args!("asking {INDEX} of table {table}"), error)
            })?;
            count_units("query", None, page.consumed_capacity());
            let key = |item: &Item| Some(ShardId::from(item.get(LEASE_KEY)?.as_s().ok()?.as_str()));
            keys.extend(page.items().iter().filter_map(key));
            start = page.last_evaluated_key().cloned();
            if start.is_none() {
                break;
            }
        }
        Ok(keys)
    }
}

/// The index as part of a new table.
pub(super) fn with_table(
    throughput: Option<ProvisionedThroughput>,
) -> Result<GlobalSecondaryIndex, BuildError> {
    GlobalSecondaryIndex::builder()
        .index_name(INDEX)
        .set_key_schema(Some(keys()?))
        .projection(keys_only())
        .set_provisioned_throughput(throughput)
        .build()
}

fn keys() -> Result<Vec<KeySchemaElement>, BuildError> {
    Ok(vec![
        key_part(OWNER, KeyType::Hash)?,
        key_part(LEASE_KEY, KeyType::Range)?,
    ])
}

fn keys_only() -> Projection {
    Projection::builder()
        .projection_type(ProjectionType::KeysOnly)
        .build()
}
