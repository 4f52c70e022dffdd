//! CreateStream, DeleteStream, ListStreams, DescribeStream and DescribeStreamSummary.

use std::sync::Arc;

use kinesis_core::limits::{
    KIB, ON_DEMAND_SHARDS_AT_START, RECORD_MAX_BYTES_DEFAULT, RETENTION_HOURS_DEFAULT,
};
use serde::Deserialize;

use super::shards::{ShardAnswer, parse_shard_index};
use super::tags::{Tagged, check_tags};
use super::{Inner, Reply, unwritable};
use crate::catalog::StreamCell;
use crate::log::entry::Entry;
use crate::stream::lifecycle::Status;
use crate::stream::token::{Opened, Sealer};
use crate::stream::{Mode, NewStream, Stream};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Boolean, Integer, Structure, Text, TextMap, decode};
use crate::wire::write::{Encode, Writer};

/// Open shards that an account may have. Source: service quota of the largest regions.
pub(super) const SHARDS_PER_ACCOUNT: usize = 20_000;

/// Streams or shards on a page that asks for no number. Source: API model.
const PAGE_DEFAULT: usize = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct CreateStreamRequest<'a> {
    stream_name: Option<Text<'a>>,
    shard_count: Option<Integer>,
    stream_mode_details: Option<Structure<StreamModeDetails<'a>>>,
    tags: Option<TextMap>,
    #[serde(rename = "WarmThroughputMiBps")]
    warm_throughput: Option<Integer>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<Integer>,
    record_distribution_strategy: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
pub(super) struct StreamModeDetails<'a> {
    stream_mode: Option<Text<'a>>,
}

impl StreamModeDetails<'_> {
    pub(super) fn mode(&self) -> Mode {
        match self.stream_mode.as_deref() {
            Some("ON_DEMAND") => Mode::OnDemand,
            _ => Mode::Provisioned,
        }
    }

    pub(super) fn check(&self, constraints: &mut Constraints) {
        let mode = self.stream_mode.as_deref();
        constraints.present(mode.is_some(), "streamModeDetails.streamMode");
        constraints.one_of(
            "streamModeDetails.streamMode",
            mode,
            &["PROVISIONED", "ON_DEMAND"],
        );
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct DeleteStreamRequest<'a> {
    stream_name: Option<Text<'a>>,
    enforce_consumer_deletion: Option<Boolean>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

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
                writer.list([(); 0], |_, ()| {});
            });
        });
        writer.key("EncryptionType");
        writer.plain("NONE");
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
    record_max_bytes: u32,
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
                writer.key("MaxRecordSizeInKiB");
                writer.integer(u64::from(self.record_max_bytes) / KIB as u64);
            });
        });
    }
}

/// Tells ListStreams' tokens from other sealed texts.
const TOKEN_KIND: u8 = 3;

impl Inner {
    pub(super) async fn create_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: CreateStreamRequest<'_> = decode(body)?;
        check_create_stream(&request)?;
        self.check_writable()?;
        check_warm_throughput(request.warm_throughput)?;
        if request.record_distribution_strategy.as_deref() == Some("AUTO") {
            return Err(Fault::invalid_argument(
                "kinesis-local does not implement the record distribution strategy AUTO.",
            ));
        }
        let new = self.new_stream(request)?;
        self.check_new_tags(&new.tags, 0, &Tagged::Stream(&new.name))?;
        let open_shards = self.open_shards();
        if new.mode == Mode::OnDemand {
            self.check_on_demand_limit(self.on_demand_streams())?;
        }
        let ticket = {
            let mut streams = self.catalog.write();
            let account = &self.account;
            let taken = streams.get(&new.name);
            if taken.is_some_and(|taken| self.status(taken) != Status::Gone) {
                return Err(Fault::in_use(format!(
                    "Stream {} under account {account} already exists.",
                    new.name
                )));
            }
            self.check_shard_limit(open_shards, new.shard_count as usize)?;
            streams.insert(Arc::clone(&new.name), Arc::new(StreamCell::new(&new)));
            self.log.submit(Entry::CreateStream(new), None, None)
        };
        ticket
            .stored()
            .await
            .map_err(|failure| unwritable(&failure))?;
        Ok(Reply::Empty)
    }

    fn new_stream(&self, request: CreateStreamRequest<'_>) -> Result<NewStream, Fault> {
        let details = request.stream_mode_details.as_ref();
        let mode = details.map_or(Mode::Provisioned, |details| details.0.mode());
        let shard_count = match (mode, request.shard_count) {
            (Mode::Provisioned, Some(count)) => count.0.max(1) as u32,
            (Mode::OnDemand, None) => ON_DEMAND_SHARDS_AT_START,
            (Mode::Provisioned, None) => {
                return Err(Fault::validation(
                    "ShardCount is required for a stream in PROVISIONED mode.",
                ));
            }
            (Mode::OnDemand, Some(_)) => {
                return Err(Fault::validation(
                    "ShardCount cannot be given for a stream in ON_DEMAND mode.",
                ));
            }
        };
        let record_max_kib = request
            .max_record_size_in_kib
            .map(|size| size.0.max(1) as u32);
        Ok(NewStream {
            id: self.next_stream_id(),
            name: request.stream_name.as_deref().unwrap_or_default().into(),
            created_ms: self.now_ms(),
            mode,
            shard_count,
            retention_hours: RETENTION_HOURS_DEFAULT,
            record_max_bytes: record_max_kib
                .map_or(RECORD_MAX_BYTES_DEFAULT as u32, |kib| kib * KIB as u32),
            tags: request.tags.map(|tags| tags.0).unwrap_or_default(),
        })
    }

    /// Open shards of all streams. Takes the locks of the catalog and of each stream.
    pub(super) fn open_shards(&self) -> usize {
        let streams = self.catalog.read();
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
        let (account, region) = (&self.account, &self.region);
        Err(Fault::limit_exceeded(format!(
            "This request would exceed the shard limit for the account {account} in {region}. \
             Current shard count for the account: {open}. Limit: {SHARDS_PER_ACCOUNT}. Number of \
             additional shards that would have resulted from this request: {more}. Refer to the \
             AWS Service Limits page \
             (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current \
             limits and how to request higher limits."
        )))
    }

    pub(super) async fn delete_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: DeleteStreamRequest<'_> = decode(body)?;
        check_names(
            request.stream_name.as_deref(),
            &request.stream_arn,
            &request.stream_id,
        )?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let enforced = request
            .enforce_consumer_deletion
            .is_some_and(|enforce| enforce.0);
        let at_ms = self.now_ms();
        let ticket = {
            let mut streams = self.catalog.write();
            let mut stream = cell.write();
            if stream.life.deleted_ms.is_some() {
                return Ok(Reply::Empty); // already on its way
            }
            let arn = self.stream_arn(&cell.name);
            if !enforced && !stream.consumers.is_empty() {
                return Err(Fault::in_use(format!(
                    "DeleteStream can't delete {arn} because there are consumers associated with \
                     this data stream. To delete {} anyway, set the EnforceConsumerDeletion \
                     parameter to true to force the deletion of all the consumers that are \
                     associated with it.",
                    cell.name
                )));
            }
            stream.life.deleted_ms = Some(at_ms);
            if stream.status(at_ms, self.delays) == Status::Gone {
                streams.remove(&cell.name);
            }
            cell.gone.cancel();
            self.log.submit(
                Entry::DeleteStream {
                    stream: cell.id,
                    at_ms,
                },
                None,
                None,
            )
        };
        ticket
            .stored()
            .await
            .map_err(|failure| unwritable(&failure))?;
        Ok(Reply::Empty)
    }

    pub(super) async fn list_streams(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ListStreamsRequest<'_> = decode(body)?;
        check_list_streams(&request)?;
        let after = match &request.next_token {
            None => request
                .exclusive_start_stream_name
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
            Some(token) => Opened::open(token, TOKEN_KIND)
                .and_then(|mut opened| opened.text())
                .ok_or_else(|| Fault::invalid_argument("NextToken is invalid."))?,
        };
        let max = request
            .limit
            .map_or(PAGE_DEFAULT, |limit| limit.0.max(1) as usize);
        let now_ms = self.now_ms();
        let mut streams: Vec<StreamFacts> = {
            let catalog = self.catalog.read();
            let facts = catalog
                .values()
                .map(|cell| self.facts(cell, &cell.read(), now_ms));
            facts
                .filter(|facts| facts.status != Status::Gone && *facts.name > *after)
                .take(max.saturating_add(1))
                .collect()
        };
        let has_more = streams.len() > max;
        streams.truncate(max);
        let last = streams.last().filter(|_| has_more);
        let next_token = last.map(|last| Sealer::new(TOKEN_KIND).text(&last.name).seal());
        self.settled().await?;
        Ok(Reply::to(
            body,
            &ListStreamsAnswer {
                streams,
                has_more,
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
                .ok_or_else(|| self.could_not_find_shard(id, &cell.name))?,
        };
        let max = request
            .limit
            .map_or(PAGE_DEFAULT, |limit| limit.0.max(1) as usize);
        let answer = {
            let stream = cell.read();
            let rest = stream.shards().get(from..).unwrap_or_default();
            let now_ms = self.now_ms();
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
        check_names(
            request.stream_name.as_deref(),
            &request.stream_arn,
            &request.stream_id,
        )?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let answer = {
            let stream = cell.read();
            DescribeStreamSummaryAnswer {
                facts: self.facts(&cell, &stream, self.now_ms()),
                open_shards: stream.open_count(),
                consumers: stream.consumers.len(),
                record_max_bytes: stream.record_max_bytes,
            }
        };
        self.settled().await?;
        Ok(Reply::to(body, &answer))
    }

    fn facts(&self, cell: &StreamCell, stream: &Stream, now_ms: u64) -> StreamFacts {
        StreamFacts {
            name: Arc::clone(&cell.name),
            arn: self.stream_arn(&cell.name),
            status: stream.status(now_ms, self.delays),
            mode: stream.mode,
            created_ms: stream.life.created_ms,
            retention_hours: stream.retention_hours,
        }
    }
}

/// Warm throughput needs the account's billing commitment, which it cannot have here.
pub(super) fn check_warm_throughput(asked: Option<Integer>) -> Result<(), Fault> {
    match asked {
        None => Ok(()),
        Some(_) => Err(Fault::invalid_argument(
            "WarmThroughputMiBps needs an account with MinimumThroughputBillingCommitment, which \
             kinesis-local does not implement.",
        )),
    }
}

fn check_create_stream(request: &CreateStreamRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(request.stream_name.is_some(), "streamName");
    constraints.stream_name(request.stream_name.as_deref());
    constraints.range(
        "shardCount",
        request.shard_count.map(|count| count.0),
        1,
        i32::MAX,
    );
    if let Some(Structure(details)) = &request.stream_mode_details {
        details.check(&mut constraints);
    }
    check_tags(&mut constraints, request.tags.as_ref());
    let warm = request.warm_throughput.map(|warm| warm.0);
    constraints.range("warmThroughputMiBps", warm, 0, i32::MAX);
    let size = request.max_record_size_in_kib.map(|size| size.0);
    constraints.range("maxRecordSizeInKiB", size, 1024, 10_240);
    let strategy = request.record_distribution_strategy.as_deref();
    constraints.one_of(
        "recordDistributionStrategy",
        strategy,
        &["AUTO", "USER_PARTITION_KEY"],
    );
    constraints.done()
}

fn check_list_streams(request: &ListStreamsRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.range("limit", request.limit.map(|limit| limit.0), 1, 10_000);
    constraints.exclusive_start_stream_name(request.exclusive_start_stream_name.as_deref());
    constraints.token(request.next_token.as_deref());
    constraints.done()
}

fn check_describe_stream(request: &DescribeStreamRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.stream_name(request.stream_name.as_deref());
    constraints.range("limit", request.limit.map(|limit| limit.0), 1, 10_000);
    constraints.shard_id(
        "exclusiveStartShardId",
        request.exclusive_start_shard_id.as_deref(),
    );
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    constraints.done()
}

fn check_names(
    name: Option<&str>,
    arn: &Option<Text<'_>>,
    id: &Option<Text<'_>>,
) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.stream_name(name);
    constraints.stream_arn(arn.as_deref());
    constraints.stream_id(id.as_deref());
    constraints.done()
}
