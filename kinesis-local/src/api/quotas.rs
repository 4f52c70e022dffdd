//! DescribeLimits, and how many shards and streams the account may have.

use std::sync::Arc;

use serde::Deserialize;

use super::{Inner, Reply};
use crate::catalog::{StreamCell, Streams};
use crate::stream::Mode;
use crate::stream::lifecycle::Status;
use crate::wire::Body;
use crate::wire::fault::Fault;
use crate::wire::read::decode;
use crate::wire::write::{Encode, Writer};

/// Open shards that an account may have. Source: service quota of the largest regions.
const SHARDS_PER_ACCOUNT: usize = 20_000;

/// On-demand streams that an account may have. Source: service quota.
const ON_DEMAND_STREAMS_MAX: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DescribeLimitsRequest {}

#[derive(Debug)]
struct DescribeLimitsAnswer {
    open_shards: usize,
    on_demand_streams: usize,
    channels: usize,
}

impl Encode for DescribeLimitsAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("ShardLimit");
            writer.integer(SHARDS_PER_ACCOUNT as u64);
            writer.key("OpenShardCount");
            writer.integer(self.open_shards as u64);
            writer.key("OnDemandStreamCount");
            writer.integer(self.on_demand_streams as u64);
            writer.key("OnDemandStreamCountLimit");
            writer.integer(ON_DEMAND_STREAMS_MAX as u64);
            // AWS publishes no quota of channels, so there is no ChannelCountLimit to tell.
            writer.key("ChannelCount");
            writer.integer(self.channels as u64);
        });
    }
}

impl Inner {
    pub(super) async fn describe_limits(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let DescribeLimitsRequest {} = decode(body)?;
        self.check_pace()?;
        let answer = DescribeLimitsAnswer {
            open_shards: self.open_shards(),
            on_demand_streams: self.on_demand_streams(),
            channels: self.channel_count(),
        };
        self.settled().await?;
        Ok(Reply::to(body, &answer))
    }

    /// Open shards of all streams. Takes the locks of the catalog and of each stream.
    pub(super) fn open_shards(&self) -> usize {
        self.open_shards_of(&self.catalog.read())
    }

    /// The same for who holds the lock of the catalog.
    pub(super) fn open_shards_of(&self, streams: &Streams) -> usize {
        let now_ms = self.now_ms();
        let open = |cell: &Arc<StreamCell>| {
            let stream = cell.read();
            match stream.status(now_ms, self.delays) {
                Status::Gone => 0,
                Status::Creating | Status::Active | Status::Updating | Status::Deleting => {
                    stream.open_count()
                }
            }
        };
        streams.values().map(open).sum()
    }

    pub(super) fn check_shard_limit(&self, open: usize, more: usize) -> Result<(), Fault> {
        if open.saturating_add(more) <= SHARDS_PER_ACCOUNT {
            return Ok(());
        }
        let (account, region) = (&self.place.account, &self.place.region);
        Err(Fault::limit_exceeded(format!(
            "This request would exceed the shard limit for the account {account} in {region}. \
             Current shard count for the account: {open}. Limit: {SHARDS_PER_ACCOUNT}. Number of \
             additional shards that would have resulted from this request: {more}. Refer to the \
             AWS Service Limits page \
             (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current \
             limits and how to request higher limits."
        )))
    }

    /// Streams in on-demand mode. Takes the locks of the catalog and of each stream.
    pub(super) fn on_demand_streams(&self) -> usize {
        self.on_demand_streams_of(&self.catalog.read())
    }

    /// The same for who holds the lock of the catalog.
    pub(super) fn on_demand_streams_of(&self, streams: &Streams) -> usize {
        let now_ms = self.now_ms();
        let on_demand = |cell: &&Arc<StreamCell>| {
            let stream = cell.read();
            stream.mode == Mode::OnDemand && stream.status(now_ms, self.delays) != Status::Gone
        };
        streams.values().filter(on_demand).count()
    }

    /// Channels of all streams. Takes the locks of the catalog and of each stream.
    fn channel_count(&self) -> usize {
        let now_ms = self.now_ms();
        let streams = self.catalog.read();
        let count = |cell: &Arc<StreamCell>| cell.read().channel_count(now_ms, self.delays);
        streams.values().map(count).sum()
    }

    pub(super) fn check_on_demand_limit(&self, there: usize) -> Result<(), Fault> {
        if there < ON_DEMAND_STREAMS_MAX {
            return Ok(());
        }
        Err(Fault::limit_exceeded(format!(
            "This request would exceed the limit of {ON_DEMAND_STREAMS_MAX} on-demand streams for \
             the account {} in {}.",
            self.place.account, self.place.region
        )))
    }
}
