//! Making sure the lease table is there.
//!
//! Any number of workers may do this at the same time: whoever is late finds the table. A table that
//! exists is taken as it is, whatever its billing or streams, if its key is ours.
//!
//! Point-in-time recovery cannot be asked for with the table. Whoever saw it being made, by whatever
//! worker, turns it on; where a table is found without what the settings ask for, that is reported. Only
//! who made the table has to be able to turn it on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    self, AttributeDefinition, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    PointInTimeRecoveryStatus, ProvisionedThroughput, ScalarAttributeType, TableDescription,
    TableStatus, Tag,
};
use backon::{ExponentialBuilder, Retryable};

use super::{DynamoDbTable, LeaseTable, index};
use crate::error::{Error, ErrorKind, aws_kind};
use crate::lease::item::{LEASE_KEY, OWNER};
use crate::lease::{BillingMode, LeaseTableSettings};

/// First pause between two looks at a table that is being made; doubles, with jitter.
/// Source: none; an on-demand table is ACTIVE within a few seconds, an emulated one at once.
const WAIT_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause. Source: none; the KCL polls every 10 s.
const WAIT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long to wait for the table. Source: KCL, 600 s.
const WAIT: Duration = Duration::from_secs(600);

/// What the looks so far tell of how the table came to be.
#[derive(Debug, Default)]
struct Birth {
    /// It was missing, or being made.
    seen: AtomicBool,
    /// A call of this process made it, and was answered.
    ours: AtomicBool,
}

impl DynamoDbTable {
    /// Creates the table as `wanted` unless it exists, and waits until it can be used.
    pub(super) async fn ensure(&self, wanted: &LeaseTableSettings) -> Result<(), Error> {
        let birth = Birth::default();
        let pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_jitter_seed(self.rand.next_u64())
            .with_min_delay(WAIT_PAUSE)
            .with_max_delay(WAIT_PAUSE_MAX)
            .with_total_delay(Some(WAIT))
            .without_max_times();
        (|| self.look(wanted, &birth))
            .retry(pauses)
            .sleep(tokio::time::sleep)
            .when(|error: &Error| error.kind().is_retryable())
            .notify(|error: &Error, pause| {
                tracing::debug!(
                    table = self.name(),
                    ?pause,
                    "waiting for the lease table: {error}"
                );
            })
            .await
    }

    /// One look: fine, or not yet (a retryable error), or never.
    async fn look(&self, wanted: &LeaseTableSettings, birth: &Birth) -> Result<(), Error> {
        let request = self.reads.describe_table().table_name(self.name());
        match Box::pin(request.send()).await {
            Ok(answer) => {
                let status = answer.table().and_then(TableDescription::table_status);
                if status == Some(&TableStatus::Creating) {
                    birth.seen.store(true, Ordering::Relaxed);
                }
                self.judge(answer.table())?;
                match wanted.point_in_time_recovery {
                    true if birth.seen.load(Ordering::Relaxed) => {
                        let kept = self.keep_its_past().await;
                        self.judge_its_past(kept, birth)
                    }
                    true => {
                        self.report_a_lost_past().await;
                        Ok(())
                    }
                    false => Ok(()),
                }
            }
            Err(error) if aws_kind(&error) == ErrorKind::NotFound => {
                // Before the call: it may be made though the call fails.
                birth.seen.store(true, Ordering::Relaxed);
                if self.create_table(wanted).await? {
                    birth.ours.store(true, Ordering::Relaxed);
                }
                Err(self.not_yet("is being created"))
            }
            Err(error) => Err(Error::aws(
                format_args!("looking at lease table {}", self.name()),
                error,
            )),
        }
    }

    fn judge(&self, table: Option<&TableDescription>) -> Result<(), Error> {
        let Some(table) = table else {
            return Err(self.not_yet("was not described"));
        };
        if !has_our_key(table) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "table {} is not a lease table: its key must be the string attribute \
                     {LEASE_KEY} alone; choose another application or table name",
                    self.name()
                ),
            ));
        }
        match table.table_status() {
            Some(TableStatus::Active | TableStatus::Updating) => Ok(()),
            Some(status) => Err(self.not_yet(&format!("is {}", status.as_str()))),
            None => Err(self.not_yet("has no status")),
        }
    }

    /// Makes the table, unless it is being made; whether it is this call that made it.
    async fn create_table(&self, wanted: &LeaseTableSettings) -> Result<bool, Error> {
        let throughput = throughput_of(wanted.billing_mode).map_err(incomplete)?;
        let tags: Result<Vec<Tag>, _> = wanted
            .tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .collect();
        let tags = Some(tags.map_err(incomplete)?).filter(|tags| !tags.is_empty());
        let request = self
            .reads
            .create_table()
            .table_name(self.name())
            .billing_mode(match wanted.billing_mode {
                BillingMode::PayPerRequest => types::BillingMode::PayPerRequest,
                BillingMode::Provisioned { .. } => types::BillingMode::Provisioned,
            })
            .set_provisioned_throughput(throughput.clone())
            .attribute_definitions(text_attribute(LEASE_KEY).map_err(incomplete)?)
            .attribute_definitions(text_attribute(OWNER).map_err(incomplete)?)
            .global_secondary_indexes(index::with_table(throughput).map_err(incomplete)?)
            .key_schema(key_part(LEASE_KEY, KeyType::Hash).map_err(incomplete)?)
            .deletion_protection_enabled(wanted.deletion_protection)
            .set_tags(tags);
        match Box::pin(request.send()).await {
            Ok(_) => {
                tracing::info!(table = self.name(), "created the lease table");
                Ok(true)
            }
            Err(error) => match error.as_service_error() {
                // Another worker, or an attempt of ours whose answer was lost.
                Some(refusal) if refusal.is_resource_in_use_exception() => Ok(false),
                _ => Err(Error::aws(
                    format_args!("creating lease table {}", self.name()),
                    error,
                )),
            },
        }
    }

    /// Turns point-in-time recovery on.
    async fn keep_its_past(&self) -> Result<(), Error> {
        let on = PointInTimeRecoverySpecification::builder()
            .point_in_time_recovery_enabled(true)
            .build()
            .map_err(incomplete)?;
        let request = self
            .reads
            .update_continuous_backups()
            .table_name(self.name())
            .point_in_time_recovery_specification(on);
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::aws(
                format_args!(
                    "turning on point-in-time recovery of lease table {}",
                    self.name()
                ),
                error,
            )),
        }
    }

    /// What it means that its past is `kept` or not. A worker that did not make the table may lack the
    /// permission that its maker has, and starts all the same.
    fn judge_its_past(&self, kept: Result<(), Error>, birth: &Birth) -> Result<(), Error> {
        match kept {
            Err(error) if !error.kind().is_retryable() && !birth.ours.load(Ordering::Relaxed) => {
                tracing::warn!(
                    table = self.name(),
                    "whether the lease table has point-in-time recovery is up to who made it: {error}"
                );
                Ok(())
            }
            kept => kept,
        }
    }

    /// Reports a table that was found without point-in-time recovery: whoever made it did not ask for it,
    /// or died before it was turned on. Whether to turn it on is not for a worker to say.
    async fn report_a_lost_past(&self) {
        let table = self.name();
        let request = self.reads.describe_continuous_backups().table_name(table);
        let status = match Box::pin(request.send()).await {
            Ok(answer) => answer
                .continuous_backups_description
                .and_then(|backups| backups.point_in_time_recovery_description)
                .and_then(|recovery| recovery.point_in_time_recovery_status),
            Err(error) => {
                let error = Error::aws("describing its continuous backups", error);
                return tracing::warn!(
                    table,
                    "nobody knows whether the lease table has point-in-time recovery: {error}"
                );
            }
        };
        if status != Some(PointInTimeRecoveryStatus::Enabled) {
            tracing::warn!(
                table,
                "the lease table has no point-in-time recovery, which the settings ask for; turn it on"
            );
        }
    }

    fn not_yet(&self, state: &str) -> Error {
        let name = self.name();
        Error::new(
            ErrorKind::Unavailable,
            format!("lease table {name} {state}; try again later"),
        )
    }
}

fn incomplete(error: BuildError) -> Error {
    Error::new(
        ErrorKind::Internal,
        "a request to create a table is incomplete",
    )
    .with_source(error)
}

pub(super) fn text_attribute(name: &str) -> Result<AttributeDefinition, BuildError> {
    AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(ScalarAttributeType::S)
        .build()
}

pub(super) fn key_part(name: &str, kind: KeyType) -> Result<KeySchemaElement, BuildError> {
    KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(kind)
        .build()
}

/// What a table or index asks for; `None` for what is paid by the request.
pub(super) fn throughput_of(
    mode: BillingMode,
) -> Result<Option<ProvisionedThroughput>, BuildError> {
    match mode {
        BillingMode::PayPerRequest => Ok(None),
        BillingMode::Provisioned {
            read_capacity,
            write_capacity,
        } => ProvisionedThroughput::builder()
            .read_capacity_units(read_capacity.into())
            .write_capacity_units(write_capacity.into())
            .build()
            .map(Some),
    }
}

fn has_our_key(table: &TableDescription) -> bool {
    let [key] = table.key_schema() else {
        return false;
    };
    let is_text = table.attribute_definitions().iter().any(|attribute| {
        attribute.attribute_name() == LEASE_KEY
            && *attribute.attribute_type() == ScalarAttributeType::S
    });
    key.attribute_name() == LEASE_KEY && *key.key_type() == KeyType::Hash && is_text
}
