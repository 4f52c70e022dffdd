//! ListStreams, DescribeStream and DescribeStreamSummary: what is told of a stream.

use std::sync::Arc;

use kinesis_core::limits::KIB;
use serde::Deserialize;

use super::attached::{open_page, page};
use super::get::could_not_find_shard;
use super::shards::ShardAnswer;
use super::warm::WarmAnswer;
use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::stream::distribution::Distribution;
use crate::stream::encryption::Key;
use crate::stream::lifecycle::Status;
use crate::stream::monitoring::Metrics;
use crate::stream::shard::{Shard, parse_shard_index};
use crate::stream::{Mode, Stream};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, Text, decode};
use crate::wire::write::{Encode, Writer};

/// Streams or shards on a page, also if more are asked for. Source: API model.
const PAGE_MAX: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ListStreamsRequest<'a> {
    limit: Option<Integer>,
    exclusive_start_stream_name: Option<Text<'a>>,
    next_token: Option<Text<'a>>,
}

/// DescribeStream and DescribeStreamSummary.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct DescribeStreamRequest<'a> {
    stream_name: Option<Text<'a>>,
    limit: Option<Integer>,
    exclusive_start_shard_id: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

/// What all descriptions of a stream tell.
#[derive(Debug)]
struct StreamFacts {
    name: Arc<str>,
    arn: String,
    status: Status,
    mode: Mode,
    created_ms: u64,
    retention_hours: u32,
    metrics: Metrics,
    key: Key,
}

impl StreamFacts {
    fn encode_members(&self, writer: &mut Writer) {
        writer.key("StreamName");
        writer.plain(&self.name);
        writer.key("StreamARN");
        writer.plain(&self.arn);
        writer.key("StreamStatus");
        writer.plain(self.status.name());
        writer.key("StreamModeDetails");
        writer.structure(|writer| {
            writer.key("StreamMode");
            writer.plain(self.mode.name());
        });
        writer.key("StreamCreationTimestamp");
        writer.timestamp(self.created_ms);
    }

    fn encode_settings(&self, writer: &mut Writer) {
        writer.key("RetentionPeriodHours");
        writer.integer(u64::from(self.retention_hours));
        writer.key("EnhancedMonitoring");
        writer.list([()], |writer, ()| {
            writer.structure(|writer| {
                writer.key("ShardLevelMetrics");
                writer.list(self.metrics.names(), Writer::plain);
            });
        });
        writer.key("EncryptionType");
        writer.plain(if self.key.is_some() { "KMS" } else { "NONE" });
        if let Some(key) = &self.key {
            writer.key("KeyId");
            writer.plain(key);
        }
    }
}

#[derive(Debug)]
struct ListStreamsAnswer {
    streams: Vec<StreamFacts>,
    has_more: bool,
    next_token: Option<String>,
}

impl Encode for ListStreamsAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("StreamNames");
            writer.list(&self.streams, |writer, stream| writer.plain(&stream.name));
            writer.key("HasMoreStreams");
            writer.boolean(self.has_more);
            if let Some(token) = &self.next_token {
                writer.key("NextToken");
                writer.plain(token);
            }
            writer.key("StreamSummaries");
            writer.list(&self.streams, |writer, stream| {
                writer.structure(|writer| stream.encode_members(writer));
            });
        });
    }
}

#[derive(Debug)]
struct DescribeStreamAnswer {
    facts: StreamFacts,
    shards: Vec<ShardAnswer>,
    has_more: bool,
}

impl Encode for DescribeStreamAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("StreamDescription");
            writer.structure(|writer| {
                self.facts.encode_members(writer);
                writer.key("Shards");
                writer.list(&self.shards, |writer, shard| shard.encode(writer));
                writer.key("HasMoreShards");
                writer.boolean(self.has_more);
                self.facts.encode_settings(writer);
            });
        });
    }
}

#[derive(Debug)]
struct DescribeStreamSummaryAnswer {
    facts: StreamFacts,
    open_shards: usize,
    consumers: usize,
    queues: usize,
    channels: usize,
    /// Only of On-demand Advantage streams.
    warm: Option<WarmAnswer>,
    record_max_bytes: u32,
    /// Only of on-demand streams.
    distribution: Option<Distribution>,
}

impl Encode for DescribeStreamSummaryAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("StreamDescriptionSummary");
            writer.structure(|writer| {
                self.facts.encode_members(writer);
                self.facts.encode_settings(writer);
                writer.key("OpenShardCount");
                writer.integer(self.open_shards as u64);
                writer.key("ConsumerCount");
                writer.integer(self.consumers as u64);
                writer.key("QueueCount");
                writer.integer(self.queues as u64);
                writer.key("ChannelCount");
                writer.integer(self.channels as u64);
                if let Some(warm) = &self.warm {
                    writer.key("WarmThroughput");
                    warm.encode(writer);
                }
                writer.key("MaxRecordSizeInKiB");
                writer.integer(u64::from(self.record_max_bytes) / KIB as u64);
                if let Some(distribution) = self.distribution {
                    writer.key("RecordDistributionStrategy");
                    writer.plain(distribution.name());
                }
            });
        });
    }
}

/// Tells ListStreams' tokens from other sealed texts.
const TOKEN_KIND: u8 = 3;

impl Inner {
    pub(super) async fn list_streams(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ListStreamsRequest<'_> = decode(body)?;
        check_list_streams(&request)?;
        self.check_pace()?;
        let now_ms = self.now_ms();
        let after = match &request.next_token {
            None => request
                .exclusive_start_stream_name
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
            token @ Some(_) => open_page(token.as_ref(), TOKEN_KIND, now_ms)?,
        };
        let max = request
            .limit
            .map_or(PAGE_MAX, |limit| (limit.0.max(1) as usize).min(PAGE_MAX));
        let streams: Vec<StreamFacts> = {
            let catalog = self.catalog.read();
            let facts = catalog
                .values()
                .map(|cell| self.facts(cell, &cell.read(), now_ms));
            facts
                .filter(|facts| facts.status != Status::Gone && *facts.name > *after)
                .take(max.saturating_add(1))
                .collect()
        };
        let (streams, next_token) = page(streams, max, |facts| &facts.name, TOKEN_KIND, now_ms);
        self.settled().await?;
        Ok(Reply::to(
            body,
            &ListStreamsAnswer {
                streams,
                has_more: next_token.is_some(),
                next_token,
            },
        ))
    }

    pub(super) async fn describe_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: DescribeStreamRequest<'_> = decode(body)?;
        check_describe_stream(&request)?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let from = match request.exclusive_start_shard_id.as_deref() {
            None => 0,
            Some(id) => parse_shard_index(id)
                .map(|index| index as usize + 1)
                .ok_or_else(|| could_not_find_shard(id, &cell))?,
        };
        let max = request
            .limit
            .map_or(PAGE_MAX, |limit| (limit.0.max(1) as usize).min(PAGE_MAX));
        let answer = {
            let stream = cell.read();
            let now_ms = self.now_ms();
            let rest = self.shards_told(&stream, now_ms);
            let rest = rest.get(from..).unwrap_or_default();
            let mut rest = rest
                .iter()
                .filter(|shard| !stream.is_expired(shard, now_ms));
            DescribeStreamAnswer {
                facts: self.facts(&cell, &stream, now_ms),
                shards: rest
                    .by_ref()
                    .take(max)
                    .map(|shard| ShardAnswer::of(shard))
                    .collect(),
                has_more: rest.next().is_some(),
            }
        };
        self.settled().await?;
        Ok(Reply::to(body, &answer))
    }

    pub(super) async fn describe_stream_summary(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: DescribeStreamRequest<'_> = decode(body)?;
        let (name, arn) = (&request.stream_name, &request.stream_arn);
        Constraints::of_stream(name, |_| {}, arn, &request.stream_id)?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let commitment = self.commitment_of(&cell);
        let answer = {
            let stream = cell.read();
            let now_ms = self.now_ms();
            DescribeStreamSummaryAnswer {
                facts: self.facts(&cell, &stream, now_ms),
                open_shards: match self.shards_told(&stream, now_ms) {
                    [] => 0,
                    _ => stream.open_count(),
                },
                consumers: stream.consumer_count(now_ms, self.delays),
                queues: stream.queue_count(now_ms, self.delays),
                channels: stream.channel_count(now_ms, self.delays),
                warm: stream
                    .is_advantage(&commitment, now_ms)
                    .then(|| WarmAnswer {
                        target_mibps: stream.warm_mibps(&commitment, now_ms),
                        current_mibps: stream.current_mibps(),
                    }),
                record_max_bytes: stream.record_max_bytes,
                distribution: (stream.mode == Mode::OnDemand).then_some(stream.distribution),
            }
        };
        self.settled().await?;
        Ok(Reply::to(body, &answer))
    }

    /// The shards that a description tells of: none while the stream is CREATING. Source: kinesalite's
    /// suite.
    fn shards_told<'s>(&self, stream: &'s Stream, now_ms: u64) -> &'s [Arc<Shard>] {
        match stream.status(now_ms, self.delays) {
            Status::Creating => &[],
            Status::Active | Status::Updating | Status::Deleting | Status::Gone => stream.shards(),
        }
    }

    fn facts(&self, cell: &StreamCell, stream: &Stream, now_ms: u64) -> StreamFacts {
        StreamFacts {
            name: Arc::clone(&cell.name),
            arn: cell.arn(),
            status: stream.status(now_ms, self.delays),
            mode: stream.mode,
            created_ms: stream.life.created_ms,
            retention_hours: stream.retention_hours,
            metrics: stream.metrics,
            key: stream
                .encryption
                .in_force(now_ms, self.delays.update)
                .clone(),
        }
    }
}

fn check_list_streams(request: &ListStreamsRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.range("limit", request.limit.map(|limit| limit.0), 1, 10_000);
    constraints.exclusive_start_stream_name(request.exclusive_start_stream_name.as_deref());
    constraints.token(request.next_token.as_deref());
    constraints.done()
}

fn check_describe_stream(request: &DescribeStreamRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        constraints.range("limit", request.limit.map(|limit| limit.0), 1, 10_000);
        constraints.shard_id(
            "exclusiveStartShardId",
            request.exclusive_start_shard_id.as_deref(),
        );
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}
