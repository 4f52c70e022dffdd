//! UpdateShardCount and UpdateStreamMode: how much a stream holds.
//!
//! Promises: UpdateShardCount leads to equal shards, at most twice and at least half as many as
//! are open, ten times in a rolling day; a stream's mode changes at most twice in a rolling day and
//! keeps its shards.

use std::sync::Arc;

use serde::Deserialize;

use super::streams::StreamModeDetails;
use super::warm::constrain_warm_throughput;
use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::stream::change::{Change, Warming};
use crate::stream::scale::more_shards;
use crate::stream::warm::warm_shards;
use crate::stream::{Mode, Stream};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, Structure, Text, decode};
use crate::wire::write::{Encode, Writer};

/// Shards that UpdateShardCount leads to or from. Source: API model.
const SCALED_SHARDS_MAX: u32 = 10_000;
/// Uses of UpdateShardCount on a stream in a rolling day. Source: API model.
const SCALINGS_PER_DAY_MAX: usize = 10;
/// Switches of a stream's mode in a rolling day. Source: developer guide.
const MODE_SWITCHES_PER_DAY_MAX: usize = 2;
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct UpdateShardCountRequest<'a> {
    stream_name: Option<Text<'a>>,
    target_shard_count: Option<Integer>,
    scaling_type: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct UpdateStreamModeRequest<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    stream_mode_details: Option<Structure<StreamModeDetails<'a>>>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput: Option<Integer>,
}

#[derive(Debug)]
struct UpdateShardCountAnswer {
    name: Arc<str>,
    arn: String,
    current: usize,
    target: u32,
}

impl Encode for UpdateShardCountAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("StreamName");
            writer.plain(&self.name);
            writer.key("CurrentShardCount");
            writer.integer(self.current as u64);
            writer.key("TargetShardCount");
            writer.integer(u64::from(self.target));
            writer.key("StreamARN");
            writer.plain(&self.arn);
        });
    }
}

impl Inner {
    pub(super) async fn update_shard_count(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: UpdateShardCountRequest<'_> = decode(body)?;
        check_update_shard_count(&request)?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let target = request
            .target_shard_count
            .map_or(1, |target| target.0.max(1) as u32);
        let (ticket, current) = {
            // Held to the end: what another request adds meanwhile would not be counted.
            let streams = self.catalog.write();
            let account_shards = self.open_shards_of(&streams);
            let mut stream = cell.write();
            let current = stream.open_count();
            self.check_resharding(&stream, &cell)?;
            self.check_scaling(&stream, &cell, target)?;
            self.check_shard_limit(account_shards, (target as usize).saturating_sub(current))?;
            let steps = stream.steps_to(target);
            let ticket = self.change(&cell, &mut stream, Change::Scale { steps })?;
            (ticket, current)
        };
        self.stored(ticket).await?;
        let answer = UpdateShardCountAnswer {
            name: Arc::clone(&cell.name),
            arn: cell.arn(),
            current,
            target,
        };
        Ok(Reply::to(body, &answer))
    }

    fn check_scaling(&self, stream: &Stream, cell: &StreamCell, target: u32) -> Result<(), Fault> {
        let open = stream.open_count();
        let counts = format!("Current open shard count: {open}, Target shard count: {target}");
        let target = target as usize;
        let refusal = if target > SCALED_SHARDS_MAX as usize {
            format!(
                "Target shard count or number of open shards cannot be greater than \
                 {SCALED_SHARDS_MAX}."
            )
        } else if target > open * 2 {
            "UpdateShardCount cannot scale up over double your current open shard count.".to_owned()
        } else if target * 2 < open {
            "UpdateShardCount cannot scale down below half your current open shard count."
                .to_owned()
        } else if stream.scaled.count(self.now_ms()) >= SCALINGS_PER_DAY_MAX {
            return Err(Fault::limit_exceeded(format!(
                "UpdateShardCount can be used at most {SCALINGS_PER_DAY_MAX} times in a rolling \
                 24-hour period on stream {} under account {}.",
                cell.name, cell.place.account
            )));
        } else {
            return Ok(());
        };
        Err(Fault::limit_exceeded(format!("{refusal} {counts}")))
    }

    pub(super) async fn update_stream_mode(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: UpdateStreamModeRequest<'_> = decode(body)?;
        check_update_stream_mode(&request)?;
        self.check_writable()?;
        let cell = self.stream(None, request.stream_arn.as_ref())?;
        let Structure(details) = request.stream_mode_details.unwrap_or_default();
        let mode = details.mode();
        let warm_mibps = self.warm_throughput(request.warm_throughput, mode)?;
        let ticket = {
            let streams = self.catalog.write(); // as in UpdateShardCount
            let on_demand_streams = self.on_demand_streams_of(&streams);
            let account_shards = self.open_shards_of(&streams);
            let mut stream = cell.write();
            self.check_active(&stream, &cell)?;
            if stream.mode == mode {
                if warm_mibps.is_some() {
                    return Err(Fault::invalid_argument(
                        "WarmThroughputMiBps is only valid when the stream mode is being updated \
                         to ON_DEMAND. Use UpdateStreamWarmThroughput.",
                    ));
                }
                return Ok(Reply::Empty); // nothing to switch, nothing to count
            }
            if stream.mode_switched.count(self.now_ms()) >= MODE_SWITCHES_PER_DAY_MAX {
                return Err(Fault::limit_exceeded(format!(
                    "The mode of stream {} under account {} can be switched at most \
                     {MODE_SWITCHES_PER_DAY_MAX} times in a rolling 24-hour period.",
                    cell.name, cell.place.account
                )));
            }
            if mode == Mode::Provisioned {
                self.check_has_no_queues(&stream, &cell, "UpdateStreamMode")?;
            }
            if mode == Mode::OnDemand {
                self.check_on_demand_limit(on_demand_streams)?;
            }
            let warm = warm_mibps.map(|mibps| Warming {
                target_mibps: mibps,
                steps: stream.steps_to_at_least(warm_shards(mibps)),
            });
            if let Some(warm) = &warm {
                self.check_shard_limit(account_shards, more_shards(&warm.steps))?;
            }
            self.change(&cell, &mut stream, Change::Mode { mode, warm })?
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }
}

fn check_update_shard_count(request: &UpdateShardCountRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        let target = request.target_shard_count.map(|target| target.0);
        constraints.present(target.is_some(), "targetShardCount");
        constraints.range("targetShardCount", target, 1, i32::MAX);
        let kind = request.scaling_type.as_deref();
        constraints.present(kind.is_some(), "scalingType");
        constraints.one_of("scalingType", kind, &["UNIFORM_SCALING"]);
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}

fn check_update_stream_mode(request: &UpdateStreamModeRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(request.stream_arn.is_some(), "streamARN");
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    let details = request.stream_mode_details.as_ref();
    constraints.present(details.is_some(), "streamModeDetails");
    if let Some(Structure(details)) = details {
        details.check(&mut constraints);
    }
    constrain_warm_throughput(&mut constraints, request.warm_throughput);
    constraints.done()
}
