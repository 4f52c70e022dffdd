//! Rows of worker metrics in DynamoDB. The states beside them are in [`states`](super::states).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use async_trait::async_trait;

use super::{DynamoDbTable, SCAN_PAGES_MAX, UNITS, count_units};
use crate::error::{Error, ErrorKind, aws_kind};
use crate::lease::item::{ENTITY_TYPE, Item, LEASE_KEY, number};
use crate::lease::lock::text;
use crate::lease::migration::ClientVersion;
use crate::lease::stats::{
    ENTITY_STATS, OURS, RANGES, SUPPORT, SUPPORT_UPDATED_AT, SUPPORTS_SINGLE_TABLE, UPDATED_AT,
    VALUES, WRITER, WorkerStats,
};
use crate::lease::table::Fleet;

#[async_trait]
impl Fleet for DynamoDbTable {
    async fn put_stats(&self, stats: &WorkerStats) -> Result<(), Error> {
        let Some(place) = self.layout().stats.into_iter().next() else {
            return Ok(());
        };
        let (values, ranges) = stats.maps();
        let request = self
            .prompt
            .update_item()
            .table_name(place.table)
            .key(place.key, text(&stats.worker))
            .update_expression(
                "SET #at = :at, #values = :values, #ranges = :ranges, #entity = :entity, \
                 #support = :support, #support_at = :at, #writer = :writer",
            )
            .expression_attribute_names("#at", UPDATED_AT)
            .expression_attribute_names("#values", VALUES)
            .expression_attribute_names("#ranges", RANGES)
            .expression_attribute_names("#entity", ENTITY_TYPE)
            .expression_attribute_names("#support", SUPPORT)
            .expression_attribute_names("#support_at", SUPPORT_UPDATED_AT)
            .expression_attribute_names("#writer", WRITER)
            .expression_attribute_values(":at", number(stats.updated_at))
            .expression_attribute_values(":values", values)
            .expression_attribute_values(":ranges", ranges)
            .expression_attribute_values(":entity", text(ENTITY_STATS))
            .expression_attribute_values(":support", number(SUPPORTS_SINGLE_TABLE))
            .expression_attribute_values(":writer", text(OURS))
            .return_consumed_capacity(UNITS);
        match Box::pin(request.send()).await {
            Ok(answer) => {
                count_units("report", None, answer.consumed_capacity());
                Ok(())
            }
            Err(error) => Err(Error::aws(
                format_args!("writing the metrics of worker {}", stats.worker),
                error,
            )),
        }
    }

    async fn delete_stats(
        &self,
        worker: &str,
        updated_at: RangeInclusive<u64>,
    ) -> Result<(), Error> {
        for place in self.layout().stats {
            let request = self
                .prompt
                .delete_item()
                .table_name(place.table)
                .key(place.key, text(worker))
                .condition_expression("attribute_exists(#key) AND #at BETWEEN :from AND :to")
                .expression_attribute_names("#key", place.key)
                .expression_attribute_names("#at", UPDATED_AT)
                .expression_attribute_values(":from", number(*updated_at.start()))
                .expression_attribute_values(":to", number(*updated_at.end()));
            match Box::pin(request.send()).await {
                Ok(_) => {}
                Err(error) => match error.as_service_error() {
                    Some(refusal) if refusal.is_conditional_check_failed_exception() => {}
                    // Of KCL 3.0 to 3.4, which is just making its tables, or it was deleted.
                    Some(refusal) if refusal.is_resource_not_found_exception() => {}
                    _ => {
                        let what = format_args!("deleting the metrics of worker {worker}");
                        return Err(Error::aws(what, error));
                    }
                },
            }
        }
        Ok(())
    }

    async fn all_stats(&self, scanned: Vec<WorkerStats>) -> Result<Vec<WorkerStats>, Error> {
        let mut newest: BTreeMap<String, WorkerStats> = BTreeMap::new();
        let mut scanned = Some(scanned);
        for place in self.layout().stats {
            let rows = if place.key == LEASE_KEY {
                scanned.take().unwrap_or_default()
            } else {
                self.scan_stats(&place.table, place.key).await?
            };
            for row in rows {
                // A worker that came back with another version left its old row elsewhere.
                let known = newest.get(&row.worker);
                if known.is_none_or(|known| known.updated_at < row.updated_at) {
                    newest.insert(row.worker.clone(), row);
                }
            }
        }
        Ok(newest.into_values().collect())
    }

    async fn find_layout(&self) -> Result<bool, Error> {
        let before = self.layout();
        self.look_for_legacy_tables().await?;
        Ok(self.layout() != before)
    }

    async fn client_version(&self) -> Result<Option<ClientVersion>, Error> {
        self.read_client_version().await
    }

    async fn put_client_version(&self, me: &str, now_millis: u64) -> Result<(), Error> {
        self.write_client_version(me, now_millis).await
    }
}

impl DynamoDbTable {
    async fn scan_stats(&self, table: &str, key: &str) -> Result<Vec<WorkerStats>, Error> {
        let mut rows = Vec::new();
        let mut start: Option<Item> = None;
        for _ in 0..SCAN_PAGES_MAX {
            let request = self
                .reads
                .scan()
                .table_name(table)
                .set_exclusive_start_key(start);
            let page = match Box::pin(request.send()).await {
                Ok(page) => page,
                // A KCL 3.0 to 3.4 is just making its tables, or this one was deleted; not the leases.
                Err(error) if aws_kind(&error) == ErrorKind::NotFound => break,
                Err(error) => {
                    return Err(Error::aws(format_args!("scanning table {table}"), error));
                }
            };
            rows.extend(
                page.items()
                    .iter()
                    .filter_map(|item| WorkerStats::read(item, key)),
            );
            start = page.last_evaluated_key().cloned();
            if start.is_none() {
                break;
            }
        }
        Ok(rows)
    }
}
