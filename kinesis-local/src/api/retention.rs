//! IncreaseStreamRetentionPeriod and DecreaseStreamRetentionPeriod, and what they rule: when the
//! memory of expired records is given back.
//!
//! Promises: a record past the retention is never read, whoever asks first; raising the retention
//! does not bring it back; its memory is given back when its shard is used, at the latest with the
//! first request a minute later, and so is that of a stream that was deleted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kinesis_core::limits::{RETENTION_HOURS_MAX, RETENTION_HOURS_MIN};
use serde::Deserialize;

use super::site::Sites;
use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::stream::change::Change;
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, Text, decode};

/// How long expired records of a shard that nobody uses may keep their memory, in milliseconds.
/// Source: none, reasonable default.
const TRIM_EVERY_MS: u64 = 60_000;

/// IncreaseStreamRetentionPeriod and DecreaseStreamRetentionPeriod.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct RetentionRequest<'a> {
    stream_name: Option<Text<'a>>,
    retention_period_hours: Option<Integer>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

impl Inner {
    pub(super) async fn increase_stream_retention_period(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        let wrong = |asked, now| (asked < now).then_some(("shorter", "Decrease"));
        self.set_retention(body, wrong).await
    }

    pub(super) async fn decrease_stream_retention_period(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        let wrong = |asked, now| (asked > now).then_some(("longer", "Increase"));
        self.set_retention(body, wrong).await
    }

    /// `wrong` tells how the hours that are asked for lie on the wrong side of those there are, and
    /// whose operation would be right.
    async fn set_retention(
        &self,
        body: Body<'_>,
        wrong: impl Fn(u32, u32) -> Option<(&'static str, &'static str)>,
    ) -> Result<Reply, Fault> {
        let request: RetentionRequest<'_> = decode(body)?;
        let asked = request.retention_period_hours;
        let own = |constraints: &mut Constraints| {
            constraints.present(asked.is_some(), "retentionPeriodHours");
        };
        let (name, arn) = (&request.stream_name, &request.stream_arn);
        Constraints::of_stream(name, own, arn, &request.stream_id)?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let hours = in_range(asked.map_or(0, |asked| asked.0))?;
        let ticket = {
            let mut stream = cell.write();
            let existing = stream.retention_hours;
            if let Some((side, right)) = wrong(hours, existing) {
                return Err(Fault::invalid_argument(format!(
                    "Requested retention period ({hours} hours) for stream {} can not be {side} \
                     than existing retention period ({existing} hours). Use {right}RetentionPeriod \
                     API.",
                    cell.name
                )));
            }
            self.check_active(&stream, &cell)?;
            let ticket = self.change(&cell, &mut stream, Change::Retention { hours })?;
            stream.trim(self.now_ms());
            ticket
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }
}

impl Sites {
    /// Gives the memory of expired records back, in all shards, and of streams that are gone, and
    /// scales the on-demand streams that nobody writes to, if that was not done lately.
    pub(super) fn trim_if_due(&self) {
        let now_ms = self.home.clock.epoch_millis();
        let last_ms = self.trimmed_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(last_ms) < TRIM_EVERY_MS {
            return;
        }
        let mine =
            self.trimmed_ms
                .compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_err() {
            return; // another request does it
        }
        for site in self.all() {
            let cells: Vec<Arc<StreamCell>> = site.catalog.read().values().cloned().collect();
            let is_gone = |cell: &StreamCell| cell.read().is_gone(now_ms, site.delays);
            if cells.iter().any(|cell| is_gone(cell)) {
                // By what is there now: a name may have been used again.
                site.catalog.write().retain(|_, cell| !is_gone(cell));
            }
            for cell in cells {
                cell.read().trim(now_ms);
                site.scale_if_due(&cell);
            }
        }
    }
}

fn in_range(hours: i32) -> Result<u32, Fault> {
    let too = |extreme, limit, what| {
        Fault::invalid_argument(format!(
            "{extreme} allowed retention period is {limit} hours. Requested retention period \
             ({hours} hours) is too {what}."
        ))
    };
    match u32::try_from(hours) {
        Ok(hours) if hours > RETENTION_HOURS_MAX => {
            Err(too("Maximum", RETENTION_HOURS_MAX, "long"))
        }
        Ok(hours) if hours >= RETENTION_HOURS_MIN => Ok(hours),
        _ => Err(too("Minimum", RETENTION_HOURS_MIN, "short")),
    }
}
