//! Point-in-time recovery: whether each table has it switched on. Nothing is ever backed up.
//!
//! The state belongs to a table's id, so a table that is deleted and created again starts without
//! it. A durable instance keeps it in one JSON file, replaced as a whole:
//!
//! ```text
//! { "<table name>": { "table_id": "…", "enabled_at_s": 1700000000, "recovery_days": 35 }, … }
//! ```

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use dynoxide::{Database, DynoxideError};
use kinesis_core::Clock;
use serde::{Deserialize, Serialize};

use super::{Answer, Refusal, dispatch};
use crate::error::{Error, ErrorKind};

/// Days that the service keeps when none are named, and the most. Source: DynamoDB API,
/// `RecoveryPeriodInDays`.
const RECOVERY_DAYS_MAX: u32 = 35;

/// The tables that have point-in-time recovery.
pub(super) struct Backups {
    enabled: Mutex<BTreeMap<String, Enabled>>,
    file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Enabled {
    table_id: String,
    enabled_at_s: u64,
    recovery_days: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DescribeInput {
    table_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateInput {
    table_name: String,
    point_in_time_recovery_specification: Specification,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Specification {
    point_in_time_recovery_enabled: bool,
    recovery_period_in_days: Option<u32>,
}

impl Backups {
    pub(super) fn in_memory() -> Self {
        Self {
            enabled: Mutex::default(),
            file: None,
        }
    }

    /// Reads the state of a durable instance; a missing file is an empty state.
    pub(super) fn open(file: PathBuf) -> Result<Self, Error> {
        let unreadable = |kind| {
            Error::new(
                kind,
                format!(
                    "{} cannot be read; move it aside to start without it",
                    file.display()
                ),
            )
        };
        let enabled = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| unreadable(ErrorKind::Corrupt).with_source(error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(unreadable(ErrorKind::Storage).with_source(error)),
        };
        Ok(Self {
            enabled: Mutex::new(enabled),
            file: Some(file),
        })
    }

    pub(super) fn describe(&self, database: &Database, clock: &Clock, body: &[u8]) -> Answer {
        let input: DescribeInput = read(body)?;
        let table_id = table_id(database, &input.table_name)?;
        let enabled = self.enabled.lock().unwrap_or_else(PoisonError::into_inner);
        let enabled = enabled.get(&input.table_name);
        Ok(description(
            enabled.filter(|enabled| enabled.table_id == table_id),
            clock,
        ))
    }

    pub(super) fn update(&self, database: &Database, clock: &Clock, body: &[u8]) -> Answer {
        let input: UpdateInput = read(body)?;
        let table_id = table_id(database, &input.table_name)?;
        let wanted = input.point_in_time_recovery_specification;
        let recovery_days = wanted.recovery_period_in_days.unwrap_or(RECOVERY_DAYS_MAX);
        if !(1..=RECOVERY_DAYS_MAX).contains(&recovery_days) {
            return Err(DynoxideError::ValidationException(format!(
                "RecoveryPeriodInDays must be between 1 and {RECOVERY_DAYS_MAX}"
            ))
            .into());
        }
        let mut current = self.enabled.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = current.clone();
        let before = next.remove(&input.table_name);
        if wanted.point_in_time_recovery_enabled {
            let since = before.filter(|before| before.table_id == table_id);
            let enabled_at_s =
                since.map_or(clock.epoch_millis() / 1000, |since| since.enabled_at_s);
            next.insert(
                input.table_name.clone(),
                Enabled {
                    table_id,
                    enabled_at_s,
                    recovery_days,
                },
            );
        }
        self.store(&next)?;
        *current = next;
        Ok(description(current.get(&input.table_name), clock))
    }

    fn store(&self, enabled: &BTreeMap<String, Enabled>) -> Result<(), Refusal> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let next = file.with_extension("json.next");
        let write = || {
            let mut out = std::fs::File::create(&next)?;
            out.write_all(&serde_json::to_vec_pretty(enabled)?)?;
            out.sync_all()?;
            std::fs::rename(&next, file)
        };
        write().map_err(|error| {
            tracing::error!(%error, "the state of table backups cannot be written");
            Refusal::internal("the state of table backups cannot be written")
        })
    }
}

fn read<I: serde::de::DeserializeOwned>(body: &[u8]) -> Result<I, Refusal> {
    serde_json::from_slice(body).map_err(|error| dispatch::malformed(&error).into())
}

/// The id of a table, or the error of these two operations for a missing one.
fn table_id(database: &Database, name: &str) -> Result<String, Refusal> {
    let request = serde_json::from_value(serde_json::json!({ "TableName": name }))
        .map_err(|error| Refusal::from(dispatch::malformed(&error)))?;
    match database.describe_table(request) {
        Ok(found) => Ok(found.table.table_id.unwrap_or_default()),
        Err(DynoxideError::ResourceNotFoundException(_)) => Err(Refusal::new(
            "com.amazonaws.dynamodb.v20120810#TableNotFoundException",
            &format!("Table not found: {name}"),
        )),
        Err(error) => Err(error.into()),
    }
}

fn description(enabled: Option<&Enabled>, clock: &Clock) -> String {
    let recovery = match enabled {
        None => serde_json::json!({ "PointInTimeRecoveryStatus": "DISABLED" }),
        Some(enabled) => serde_json::json!({
            "PointInTimeRecoveryStatus": "ENABLED",
            "EarliestRestorableDateTime": enabled.enabled_at_s,
            "LatestRestorableDateTime": (clock.epoch_millis() / 1000).max(enabled.enabled_at_s),
            "RecoveryPeriodInDays": enabled.recovery_days,
        }),
    };
    serde_json::json!({
        "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": recovery,
        }
    })
    .to_string()
}
