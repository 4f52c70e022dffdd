//! The rows of a lease table, read consistently, and conditional writes on them.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, CancellationReason, Delete, Put, TransactWriteItem};
use backon::{ExponentialBuilder, Retryable};
use kinesis_core::{Rand, ShardId};

use super::FAILOVER_TIME;
use crate::error::{Error, ErrorKind};
use crate::lease::Lease;
use crate::lease::item::{self, CorruptRow, Item, Row};
use crate::lease::layout::TableNames;
use crate::lease::stats::WorkerStats;
use crate::lease::table::dynamodb::{self, DynamoDbTable};

/// Pause before a lease is moved again whose transaction met another one or a limit; doubles.
/// Source: none, reasonable default.
const REKEY_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause. Source: none, reasonable default.
const REKEY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Attempts after the first: about half a minute in all. Source: none, reasonable default.
const REKEY_RETRIES: usize = 10;

/// A lease with all attributes of its row, those unknown here included.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) lease: Lease,
    pub(super) item: Item,
}

impl Found {
    /// The lease's key.
    pub(super) fn key(&self) -> &ShardId {
        &self.lease.shard_id
    }
}

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// In the order of their keys.
    pub(super) leases: Vec<Found>,
    pub(super) corrupt: Vec<CorruptRow>,
    /// The workers that have a row in the lease table.
    pub(super) stats: Vec<WorkerStats>,
}

/// The table.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    client: Client,
    names: TableNames,
}

impl Rows {
    pub(super) fn new(client: Client, names: TableNames) -> Self {
        Self { client, names }
    }

    /// The same, of other tables.
    pub(super) fn of(self, names: TableNames) -> Self {
        Self { names, ..self }
    }

    pub(super) fn table(&self) -> &str {
        &self.names.leases
    }

    /// What the workers see of each other, wherever a KCL keeps it. Nothing of it is by chance here.
    pub(super) fn fleet(&self) -> DynamoDbTable {
        DynamoDbTable::new(&self.client, &self.names, FAILOVER_TIME, Rand::seeded(0))
    }

    pub(super) async fn scan(&self) -> Result<Scan, Error> {
        let mut scan = Scan::default();
        dynamodb::scan(&self.client, self.table(), true, |item| {
            match item::read(&item) {
                Row::Lease(lease) => scan.leases.push(Found {
                    lease: *lease,
                    item,
                }),
                Row::Corrupt(row) => scan.corrupt.push(row),
                Row::Stats(stats) => scan.stats.push(stats),
                Row::Other => {}
            }
        })
        .await?;
        scan.leases.sort_by(|a, b| a.key().cmp(b.key()));
        Ok(scan)
    }

    /// Scans, watches for `time`, scans again: the rows of the last scan, and the keys of those whose
    /// counter moved. If it did not for a lease that `is_slow`, it is watched for `slow_time` in all.
    pub(super) async fn watch(
        &self,
        time: Duration,
        slow_time: Duration,
        is_slow: impl Fn(&Lease) -> bool,
    ) -> Result<(Scan, BTreeSet<ShardId>), Error> {
        let before = self.scan().await?;
        tokio::time::sleep(time).await;
        let mut after = self.scan().await?;
        let counter = |key: &ShardId| {
            let found = before.leases.iter().find(|found| found.key() == key)?;
            Some(found.lease.counter)
        };
        let has_moved = |found: &Found| counter(found.key()) != Some(found.lease.counter);
        let more = slow_time.saturating_sub(time);
        let is_unclear = |found: &Found| is_slow(&found.lease) && !has_moved(found);
        if !more.is_zero() && after.leases.iter().any(is_unclear) {
            tracing::info!(?slow_time, "a KCL may have a lease, and renews more seldom");
            tokio::time::sleep(more).await;
            after = self.scan().await?;
        }
        let moved = after.leases.iter().filter(|found| has_moved(found));
        let held = moved.map(|found| found.key().clone()).collect();
        Ok((after, held))
    }

    /// Updates a row if its counter and owners are as `seen`, and raises the counter; whether it was
    /// done.
    pub(super) async fn update(
        &self,
        seen: &Lease,
        set: &[(&str, AttributeValue)],
        remove: &[&str],
    ) -> Result<bool, Error> {
        let mut request = self
            .client
            .update_item()
            .table_name(self.table())
            .key(
                item::LEASE_KEY,
                AttributeValue::S(seen.shard_id.to_string()),
            )
            .expression_attribute_names("#counter", item::COUNTER)
            .expression_attribute_values(":seen", item::number(seen.counter))
            .expression_attribute_values(":next", item::number(seen.counter.saturating_add(1)));
        let mut condition = vec!["#counter = :seen".to_owned()];
        for (name, value) in [
            (item::OWNER, &seen.owner),
            (item::CHECKPOINT_OWNER, &seen.checkpoint_owner),
        ] {
            request = request.expression_attribute_names(format!("#{name}"), name);
            condition.push(match value {
                Some(owner) => {
                    let value = AttributeValue::S(owner.clone());
                    request = request.expression_attribute_values(format!(":{name}"), value);
                    format!("#{name} = :{name}")
                }
                None => format!("attribute_not_exists(#{name})"),
            });
        }
        let mut update = "SET #counter = :next".to_owned();
        for (name, value) in set {
            request = request
                .expression_attribute_names(format!("#{name}"), *name)
                .expression_attribute_values(format!(":new_{name}"), value.clone());
            update.push_str(&format!(", #{name} = :new_{name}"));
        }
        for (index, name) in remove.iter().enumerate() {
            request = request.expression_attribute_names(format!("#{name}"), *name);
            update.push_str(if index == 0 { " REMOVE " } else { ", " });
            update.push_str(&format!("#{name}"));
        }
        let request = request
            .condition_expression(condition.join(" AND "))
            .update_expression(update);
        settled(
            Box::pin(request.send()).await,
            format_args!("updating lease {}", seen.shard_id),
        )
    }

    /// Starts a handoff from `holder` to `next`, as a leader of the KCL does: the counter, which the
    /// holder goes on raising, is neither demanded nor raised. Whether it was done.
    pub(super) async fn ask_for_handoff(
        &self,
        key: &ShardId,
        holder: &str,
        next: AttributeValue,
    ) -> Result<bool, Error> {
        let holder = AttributeValue::S(holder.to_owned());
        let request = self
            .client
            .update_item()
            .table_name(self.table())
            .key(item::LEASE_KEY, AttributeValue::S(key.to_string()))
            .expression_attribute_names("#owner", item::OWNER)
            .expression_attribute_names("#old", item::CHECKPOINT_OWNER)
            .expression_attribute_values(":holder", holder)
            .expression_attribute_values(":next", next)
            .condition_expression("#owner = :holder AND attribute_not_exists(#old)")
            .update_expression("SET #owner = :next, #old = :holder");
        settled(
            Box::pin(request.send()).await,
            format_args!("asking for lease {key}"),
        )
    }

    /// Puts `item` in the place of the row `seen`, under another key, in one transaction; whether it
    /// was done. Not done if the row has changed, or there is a row under the new key.
    ///
    /// # Errors
    /// When the transaction was not carried out for another reason: `Throttled` where it was not in
    /// several attempts, and may be later.
    pub(super) async fn rekey(&self, seen: &Lease, item: &Item) -> Result<bool, Error> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(REKEY_PAUSE)
            .with_max_delay(REKEY_PAUSE_MAX)
            .with_max_times(REKEY_RETRIES);
        (|| self.rekey_once(seen, item.clone()))
            .retry(pauses)
            .sleep(tokio::time::sleep)
            // Nothing was done then; of others it is not known.
            .when(|error: &Error| error.kind() == ErrorKind::Throttled)
            .notify(|error: &Error, pause| {
                tracing::warn!(?pause, "a lease is moved again: {error}");
            })
            .await
    }

    async fn rekey_once(&self, seen: &Lease, item: Item) -> Result<bool, Error> {
        let incomplete = |_| Error::new(ErrorKind::Internal, "a write lacks a part");
        let put = Put::builder()
            .table_name(self.table())
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", item::LEASE_KEY)
            .build()
            .map_err(incomplete)?;
        let delete = Delete::builder()
            .table_name(self.table())
            .key(
                item::LEASE_KEY,
                AttributeValue::S(seen.shard_id.to_string()),
            )
            .condition_expression("#counter = :seen")
            .expression_attribute_names("#counter", item::COUNTER)
            .expression_attribute_values(":seen", item::number(seen.counter))
            .build()
            .map_err(incomplete)?;
        let request = self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(put).build())
            .transact_items(TransactWriteItem::builder().delete(delete).build());
        let what = format!("moving lease {}", seen.shard_id);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    let reasons = cancelled.cancellation_reasons().iter();
                    let codes: Vec<_> = reasons.filter_map(CancellationReason::code).collect();
                    match cancellation(&codes) {
                        None => Ok(false),
                        Some(kind) => {
                            let codes = codes.join(", ");
                            let text = format!("{what} failed: cancelled because of {codes}");
                            Err(Error::new(kind, text).with_source(error.into_service_error()))
                        }
                    }
                }
                _ => Err(Error::aws(what, error)),
            },
        }
    }
}

/// What a cancelled transaction means, by the reasons of its parts; `None`: a row was not as seen, so
/// it was changed meanwhile.
///
/// Source: DynamoDB API 2012-08-10, `TransactWriteItems`, `TransactionCanceledException`.
fn cancellation(codes: &[&str]) -> Option<ErrorKind> {
    let is = |code: &str| codes.contains(&code);
    if is("ConditionalCheckFailed") {
        return None;
    }
    Some(
        if is("ValidationError") || is("ItemCollectionSizeLimitExceeded") {
            ErrorKind::InvalidInput
        } else if is("AccessDenied") {
            ErrorKind::Denied
        } else {
            // TransactionConflict, ThrottlingError, ProvisionedThroughputExceeded.
            ErrorKind::Throttled
        },
    )
}

/// Whether a conditional write was done.
fn settled<T, E, R>(
    answer: Result<T, SdkError<E, R>>,
    what: impl std::fmt::Display,
) -> Result<bool, Error>
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match answer {
        Ok(_) => Ok(true),
        Err(error) => match error.code() {
            Some("ConditionalCheckFailedException") => Ok(false),
            _ => Err(Error::aws(what, error)),
        },
    }
}

#[cfg(test)]
mod tests;
