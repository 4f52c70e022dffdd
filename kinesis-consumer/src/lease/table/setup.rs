//! Making sure the lease table is there.
//!
//! Any number of workers may do this at the same time: whoever is late finds the table. A table that
//! exists is taken as it is, whatever its billing, indexes or streams, if its key is ours.

use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
    TableDescription, TableStatus,
};
use backon::{ExponentialBuilder, Retryable};

use super::LeaseTable;
use crate::error::{Error, ErrorKind, aws_kind};
use crate::lease::item::LEASE_KEY;

/// First pause between two looks at a table that is being made; doubles, with jitter.
/// Source: none; an on-demand table is ACTIVE within a few seconds, an emulated one at once.
const WAIT_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause. Source: none; the KCL polls every 10 s.
const WAIT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long to wait for the table. Source: KCL, 600 s.
const WAIT: Duration = Duration::from_secs(600);

impl LeaseTable {
    /// Creates the table unless it exists, and waits until it can be used.
    pub(crate) async fn ensure(&self) -> Result<(), Error> {
        let pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_jitter_seed(self.rand.next_u64())
            .with_min_delay(WAIT_PAUSE)
            .with_max_delay(WAIT_PAUSE_MAX)
            .with_total_delay(Some(WAIT))
            .without_max_times();
        (|| self.look())
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
    async fn look(&self) -> Result<(), Error> {
        let request = self.reads.describe_table().table_name(self.name());
        match Box::pin(request.send()).await {
            Ok(answer) => self.judge(answer.table()),
            Err(error) if aws_kind(&error) == ErrorKind::NotFound => {
                self.create_table().await?;
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

    async fn create_table(&self) -> Result<(), Error> {
        let incomplete = |error| {
            Error::new(
                ErrorKind::Internal,
                "a request to create a table is incomplete",
            )
            .with_source(error)
        };
        let attribute = AttributeDefinition::builder()
            .attribute_name(LEASE_KEY)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .map_err(incomplete)?;
        let key = KeySchemaElement::builder()
            .attribute_name(LEASE_KEY)
            .key_type(KeyType::Hash)
            .build()
            .map_err(incomplete)?;
        let request = self
            .reads
            .create_table()
            .table_name(self.name())
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute)
            .key_schema(key);
        match Box::pin(request.send()).await {
            Ok(_) => {
                tracing::info!(table = self.name(), "created the lease table");
                Ok(())
            }
            Err(error) => match error.as_service_error() {
                // Another worker, or an attempt of ours whose answer was lost.
                Some(refusal) if refusal.is_resource_in_use_exception() => Ok(()),
                _ => Err(Error::aws(
                    format_args!("creating lease table {}", self.name()),
                    error,
                )),
            },
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
