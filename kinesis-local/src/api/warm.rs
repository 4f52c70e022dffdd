//! UpdateStreamWarmThroughput, and the warm throughput that other operations ask for.
//!
//! Promises: it is for on-demand streams of accounts with a minimum throughput billing commitment.
//! What the stream is warmed to is there when it is answered, as a split by readers; a call that asks
//! for no more than the stream has releases what neither it nor the traffic of this hour and the last
//! needs. It ends with the commitment, and with the stream's on-demand mode. The account's number of
//! shards does not bound it: that is for provisioned streams (developer guide, "Quotas and limits").

use std::sync::Arc;

use serde::Deserialize;

use super::{Inner, Reply};
use crate::stream::Mode;
use crate::stream::change::{Change, Warming};
use crate::stream::warm::WARM_MIBPS_MAX;
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, Text, decode};
use crate::wire::write::{Encode, Writer};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct UpdateStreamWarmThroughputRequest<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_name: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput: Option<Integer>,
}

/// A stream's warm throughput, in MiB a second.
#[derive(Debug)]
pub(super) struct WarmAnswer {
    /// `None`: none was asked for.
    pub(super) target_mibps: Option<u32>,
    pub(super) current_mibps: u32,
}

impl Encode for WarmAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            if let Some(target) = self.target_mibps {
                writer.key("TargetMiBps");
                writer.integer(u64::from(target));
            }
            writer.key("CurrentMiBps");
            writer.integer(u64::from(self.current_mibps));
        });
    }
}

#[derive(Debug)]
struct UpdateStreamWarmThroughputAnswer {
    name: Arc<str>,
    arn: String,
    warm: WarmAnswer,
}

impl Encode for UpdateStreamWarmThroughputAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("StreamARN");
            writer.plain(&self.arn);
            writer.key("StreamName");
            writer.plain(&self.name);
            writer.key("WarmThroughput");
            self.warm.encode(writer);
        });
    }
}

impl Inner {
    pub(super) async fn update_stream_warm_throughput(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        let request: UpdateStreamWarmThroughputRequest<'_> = decode(body)?;
        check(&request)?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let (ticket, target_mibps, current_mibps) = {
            let mut stream = cell.write();
            let target_mibps = self.warm_throughput(request.warm_throughput, stream.mode)?;
            let target_mibps = target_mibps.unwrap_or_default();
            self.check_active(&stream, &cell)?;
            let current_mibps = stream.current_mibps();
            let steps = stream.steps_to_warm(target_mibps, self.now_ms());
            let change = Change::Warm(Warming {
                target_mibps,
                steps,
            });
            let ticket = self.change(&cell, &mut stream, change)?;
            (ticket, target_mibps, current_mibps)
        };
        self.stored(ticket).await?;
        let answer = UpdateStreamWarmThroughputAnswer {
            name: Arc::clone(&cell.name),
            arn: cell.arn(),
            warm: WarmAnswer {
                target_mibps: Some(target_mibps),
                current_mibps,
            },
        };
        Ok(Reply::to(body, &answer))
    }

    /// The warm throughput that a request asks for, for a stream that is or is to be in this mode.
    pub(super) fn warm_throughput(
        &self,
        asked: Option<Integer>,
        mode: Mode,
    ) -> Result<Option<u32>, Fault> {
        let Some(Integer(asked)) = asked else {
            return Ok(None);
        };
        if mode != Mode::OnDemand {
            return Err(Fault::invalid_argument(
                "WarmThroughputMiBps is only supported for streams in ON_DEMAND mode.",
            ));
        }
        let account = &self.place.account;
        if !self.commitment().holds(self.now_ms()) {
            return Err(Fault::invalid_argument(format!(
                "WarmThroughputMiBps is only supported for accounts that have \
                 MinimumThroughputBillingCommitment enabled. It is not enabled for account {account}."
            )));
        }
        match u32::try_from(asked) {
            Ok(asked) if asked <= WARM_MIBPS_MAX => Ok(Some(asked)),
            _ => Err(Fault::limit_exceeded(format!(
                "WarmThroughputMiBps cannot be greater than {WARM_MIBPS_MAX} for account \
                 {account}. Requested: {asked}."
            ))),
        }
    }
}

fn check(request: &UpdateStreamWarmThroughputRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.stream_name(request.stream_name.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    constraints.present(request.warm_throughput.is_some(), "warmThroughputMiBps");
    constrain_warm_throughput(&mut constraints, request.warm_throughput);
    constraints.done()
}

/// The bounds of WarmThroughputMiBps.
pub(super) fn constrain_warm_throughput(constraints: &mut Constraints, asked: Option<Integer>) {
    let asked = asked.map(|asked| asked.0);
    constraints.range("warmThroughputMiBps", asked, 0, i32::MAX);
}
