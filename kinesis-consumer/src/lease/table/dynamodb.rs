//! The lease table in DynamoDB: each write of [`write`](crate::lease::write) as one conditional `UpdateItem`.
//!
//! What this module promises beyond what every table does:
//! - An existing row is only ever updated, so that attributes unknown here stay.
//! - Requests are retried by the SDK (three attempts), each bounded in time; what fails after that is
//!   an [`Error`] whose kind says whether to go on trying. What the SDK spends on retries it counts for
//!   each table alone: by itself it counts for all clients of a process together, and stops to retry
//!   for all of them where one fails a lot.
//!
//! Names of attributes always go through placeholders: several are reserved words.

mod expression;
mod index;
mod lock;
mod setup;
mod states;
mod stats;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, ReturnConsumedCapacity, ReturnValue,
    ReturnValuesOnConditionCheckFailure as OnRefusal,
};
use kinesis_core::{HashKeyRange, Position, Rand, ShardId};

use super::{Created, Index, LeaseTable, Locked, Outcome, Rows};
use crate::error::{Error, ErrorKind};
use crate::lease::item::{self, Item, LEASE_KEY, Row};
use crate::lease::layout::{Layout, TableNames};
use crate::lease::metrics as names;
use crate::lease::write::Write;
use crate::lease::{Lease, LeaseTableSettings};
use expression::Expression;

/// Time for one attempt of a write, as a part of `failover_time`: three attempts and their pauses
/// fit between a renewal and the fence. Source: none, derived from those two.
const WRITES_PER_FAILOVER: u32 = 8;

/// Time for one attempt of a scan page or of a table operation. Source: none, reasonable default
/// (a page is at most 1 MB).
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts of one request. Source: the SDK's standard mode.
const ATTEMPTS: u32 = 3;

/// First pause between attempts; doubles, with jitter. Source: none; the SDK's second would let a
/// single throttle use up a third of the time between renewals.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Longest pause between attempts. Source: none, reasonable default.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Pages of one scan. Source: none; 1 GB of leases, two million of them.
const SCAN_PAGES_MAX: usize = 1_024;

/// One lease table. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct DynamoDbTable {
    /// For what must not wait: writes that race against the fence, single rows, what was given to whom.
    prompt: Client,
    /// For scans and table operations.
    reads: Client,
    names: Arc<TableNames>,
    layout: Arc<Mutex<Layout>>,
    /// That it may not look for other tables was reported.
    denial_reported: Arc<AtomicBool>,
    rand: Rand,
}

impl DynamoDbTable {
    /// The table of `names`. Time-outs and retries of `client` are replaced by those that fit
    /// `failover_time`; everything else of it is kept.
    pub(crate) fn new(
        client: &Client,
        names: &TableNames,
        failover_time: Duration,
        rand: Rand,
    ) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(RETRY_PAUSE)
            .with_max_backoff(RETRY_PAUSE_MAX);
        let with_timeout = |timeout: Duration| {
            let timeouts = TimeoutConfig::builder()
                .operation_attempt_timeout(timeout)
                .build();
            let config = client.config().to_builder();
            let config = config
                .retry_config(retries.clone())
                .retry_partition(RetryPartition::custom("leases").build())
                .timeout_config(timeouts);
            Client::from_conf(config.build())
        };
        Self {
            prompt: with_timeout(failover_time / WRITES_PER_FAILOVER),
            reads: with_timeout(READ_TIMEOUT),
            names: Arc::new(names.clone()),
            layout: Arc::new(Mutex::new(Layout::single(&names.leases))),
            denial_reported: Arc::default(),
            rand,
        }
    }

    async fn update(&self, shard_id: &ShardId, expression: Expression) -> Result<Outcome, Error> {
        let request = self
            .prompt
            .update_item()
            .table_name(self.name())
            .key(LEASE_KEY, key(shard_id))
            .condition_expression(expression.condition)
            .update_expression(expression.update)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(OnRefusal::AllOld)
            .return_consumed_capacity(UNITS);
        let answer = Box::pin(request.send()).await;
        if let Ok(answer) = &answer {
            count_units("update", Some(shard_id), answer.consumed_capacity());
        }
        match answer {
            Ok(answer) => match answer.attributes().map(item::read) {
                Some(Row::Lease(lease)) => Ok(Outcome::Done(*lease)),
                _ => Ok(Outcome::Refused(None)),
            },
            Err(error) => match refused_row(&error) {
                Some(row) => Ok(Outcome::Refused(row)),
                None => Err(Error::aws(format_args!("updating lease {shard_id}"), error)),
            },
        }
    }
}

#[async_trait]
impl LeaseTable for DynamoDbTable {
    fn name(&self) -> &str {
        &self.names.leases
    }

    async fn prepare(&self, wanted: &LeaseTableSettings) -> Result<(), Error> {
        self.ensure(wanted).await?;
        self.look_for_legacy_tables().await
    }

    async fn scan(&self, consistent: bool) -> Result<Rows, Error> {
        let mut rows = Rows::default();
        let scan = scan(
            &self.reads,
            self.name(),
            consistent,
            |item| match item::read(&item) {
                Row::Lease(lease) => rows.leases.push(*lease),
                Row::Corrupt(row) => rows.corrupt.push(row),
                Row::Stats(stats) => rows.stats.push(stats),
                Row::Other => {}
            },
        );
        scan.await?;
        Ok(rows)
    }

    async fn get(&self, shard_id: &ShardId) -> Result<Option<Row>, Error> {
        let request = self
            .prompt
            .get_item()
            .table_name(self.name())
            .key(LEASE_KEY, key(shard_id))
            .return_consumed_capacity(UNITS)
            .consistent_read(true);
        let answer = Box::pin(request.send())
            .await
            .map_err(|error| Error::aws(format_args!("reading lease {shard_id}"), error))?;
        count_units("get", None, answer.consumed_capacity());
        Ok(answer.item().map(item::read))
    }

    async fn create(&self, lease: &Lease) -> Result<Created, Error> {
        let request = self
            .prompt
            .put_item()
            .table_name(self.name())
            .set_item(Some(item::new_item(lease)))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", LEASE_KEY);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(Created::New),
            Err(error) => match error.as_service_error() {
                Some(refusal) if refusal.is_conditional_check_failed_exception() => {
                    Ok(Created::Existed)
                }
                _ => Err(Error::aws(
                    format_args!("creating lease {}", lease.shard_id),
                    error,
                )),
            },
        }
    }

    async fn write(&self, write: &Write) -> Result<Outcome, Error> {
        self.update(&write.shard_id, Expression::of(write)).await
    }

    async fn put_children(
        &self,
        shard_id: &ShardId,
        children: &BTreeSet<ShardId>,
        me: &str,
    ) -> Result<Outcome, Error> {
        self.update(shard_id, Expression::children(children, me))
            .await
    }

    async fn put_range(&self, shard_id: &ShardId, range: HashKeyRange) -> Result<Outcome, Error> {
        self.update(shard_id, Expression::range(range)).await
    }

    async fn delete_ended(&self, seen: &Lease) -> Result<bool, Error> {
        let request = self
            .prompt
            .delete_item()
            .table_name(self.name())
            .key(LEASE_KEY, key(&seen.shard_id))
            .condition_expression("#counter = :counter AND #checkpoint = :end")
            .expression_attribute_names("#counter", item::COUNTER)
            .expression_attribute_names("#checkpoint", item::CHECKPOINT)
            .expression_attribute_values(":counter", item::number(seen.counter))
            .expression_attribute_values(
                ":end",
                AttributeValue::S(Position::ShardEnd.checkpoint().to_owned()),
            );
        match Box::pin(request.send()).await {
            Ok(_) => Ok(true),
            Err(error) => match error.as_service_error() {
                Some(refusal) if refusal.is_conditional_check_failed_exception() => Ok(false),
                _ => Err(Error::aws(
                    format_args!("deleting lease {}", seen.shard_id),
                    error,
                )),
            },
        }
    }

    async fn index(&self) -> Result<Index, Error> {
        self.look_at_index().await
    }

    async fn owned_by(&self, owner: &str) -> Result<Vec<ShardId>, Error> {
        self.ask_index(owner).await
    }
}

/// Reads a lease table page by page, and gives each row to `take`.
///
/// # Errors
/// `InvalidInput` for one of more than [`SCAN_PAGES_MAX`] pages.
pub(in crate::lease) async fn scan(
    client: &Client,
    table: &str,
    consistent: bool,
    mut take: impl FnMut(Item) + Send,
) -> Result<(), Error> {
    let mut start: Option<Item> = None;
    for _ in 0..SCAN_PAGES_MAX {
        let request = client
            .scan()
            .table_name(table)
            .consistent_read(consistent)
            .return_consumed_capacity(UNITS)
            .set_exclusive_start_key(start);
        let page = Box::pin(request.send())
            .await
            .map_err(|error| Error::aws(format_args!("scanning lease table {table}"), error))?;
        count_units("scan", None, page.consumed_capacity());
        page.items
            .unwrap_or_default()
            .into_iter()
            .for_each(&mut take);
        start = page.last_evaluated_key;
        if start.is_none() {
            return Ok(());
        }
    }
    Err(Error::new(
        ErrorKind::InvalidInput,
        format!(
            "lease table {table} has more than {SCAN_PAGES_MAX} pages of rows; delete those that are \
             not leases of this application"
        ),
    ))
}

/// What every request of the steady state asks for.
const UNITS: ReturnConsumedCapacity = ReturnConsumedCapacity::Total;

/// Counts what a request cost: the units that DynamoDB says, by operation and, for writes of a lease,
/// by shard.
fn count_units(operation: &'static str, shard: Option<&ShardId>, cost: Option<&ConsumedCapacity>) {
    let Some(units) = cost.and_then(ConsumedCapacity::capacity_units) else {
        return;
    };
    let shard = shard.map_or_else(String::new, ToString::to_string);
    metrics::histogram!(names::TABLE_UNITS, "operation" => operation, "shard" => shard)
        .record(units);
}

fn key(shard_id: &ShardId) -> AttributeValue {
    AttributeValue::S(shard_id.as_str().to_owned())
}

/// The row that refused an update; `None` if the update failed for another reason.
fn refused_row(
    error: &aws_sdk_dynamodb::error::SdkError<
        aws_sdk_dynamodb::operation::update_item::UpdateItemError,
    >,
) -> Option<Option<Lease>> {
    use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
            Some(match refusal.item().map(item::read) {
                Some(Row::Lease(lease)) => Some(*lease),
                _ => None,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
