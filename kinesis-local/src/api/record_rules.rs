//! UpdateMaxRecordSize and UpdateStreamRecordDistributionStrategy: which records a stream takes, and
//! which of its shards they go to. Both hold for every record that is written from then on.

use kinesis_core::limits::KIB;
use serde::Deserialize;

use super::{Inner, Reply};
use crate::stream::Mode;
use crate::stream::change::Change;
use crate::stream::distribution::{DISTRIBUTIONS, Distribution};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, Text, decode};

/// The bounds of a stream's largest record, in KiB. Source: API model.
const RECORD_MAX_KIB: (i32, i32) = (1024, 10_240);

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct MaxRecordSizeRequest<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<Integer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct DistributionRequest<'a> {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    record_distribution_strategy: Option<Text<'a>>,
}

impl Inner {
    pub(super) async fn update_max_record_size(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: MaxRecordSizeRequest<'_> = decode(body)?;
        let asked = request.max_record_size_in_kib;
        let mut constraints = Constraints::default();
        constraints.stream_arn(request.stream_arn.as_deref());
        constraints.stream_id(request.stream_id.as_deref());
        constraints.present(asked.is_some(), "maxRecordSizeInKiB");
        check_max_record_size(&mut constraints, asked);
        constraints.done()?;
        self.check_writable()?;
        let cell = self.stream(None, request.stream_arn.as_ref())?;
        let max_bytes = asked.map_or(0, |kib| kib.0.max(0) as u32 * KIB as u32);
        let ticket = {
            let mut stream = cell.write();
            self.check_active(&stream, &cell)?;
            self.change(&cell, &mut stream, Change::RecordSize { max_bytes })?
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    pub(super) async fn update_stream_record_distribution_strategy(
        &self,
        body: Body<'_>,
    ) -> Result<Reply, Fault> {
        let request: DistributionRequest<'_> = decode(body)?;
        let strategy = request.record_distribution_strategy.as_deref();
        let mut constraints = Constraints::default();
        constraints.present(request.stream_arn.is_some(), "streamARN");
        constraints.stream_arn(request.stream_arn.as_deref());
        constraints.stream_id(request.stream_id.as_deref());
        constraints.present(strategy.is_some(), "recordDistributionStrategy");
        constraints.one_of("recordDistributionStrategy", strategy, &DISTRIBUTIONS);
        constraints.done()?;
        self.check_writable()?;
        let cell = self.stream(None, request.stream_arn.as_ref())?;
        let distribution = strategy.map(Distribution::named).unwrap_or_default();
        let ticket = {
            let mut stream = cell.write();
            check_distribution(distribution, stream.mode)?;
            self.check_active(&stream, &cell)?;
            self.change(&cell, &mut stream, Change::Distribution(distribution))?
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }
}

/// The bounds of MaxRecordSizeInKiB.
pub(super) fn check_max_record_size(constraints: &mut Constraints, asked: Option<Integer>) {
    let (min, max) = RECORD_MAX_KIB;
    let asked = asked.map(|asked| asked.0);
    constraints.range("maxRecordSizeInKiB", asked, min, max);
}

/// Whether a stream in this mode can have its records spread like this.
pub(super) fn check_distribution(distribution: Distribution, mode: Mode) -> Result<(), Fault> {
    match (distribution, mode) {
        (Distribution::Auto, Mode::Provisioned) => Err(Fault::invalid_argument(
            "The record distribution strategy AUTO is only supported for streams in ON_DEMAND mode.",
        )),
        (Distribution::Auto, Mode::OnDemand) | (Distribution::UserPartitionKey, _) => Ok(()),
    }
}
