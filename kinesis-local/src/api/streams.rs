//! CreateStream and DeleteStream: a stream's beginning and end.

use std::sync::Arc;

use kinesis_core::limits::{
    KIB, ON_DEMAND_SHARDS_AT_START, RECORD_MAX_BYTES_DEFAULT, RETENTION_HOURS_DEFAULT,
};
use serde::Deserialize;

use super::attached::is_passing;
use super::record_rules::{check_distribution, check_max_record_size};
use super::tags::{Tagged, check_tags};
use super::warm::constrain_warm_throughput;
use super::{Inner, Reply};
use crate::catalog::{StreamCell, Streams};
use crate::log::entry::Entry;
use crate::stream::distribution::{DISTRIBUTIONS, Distribution};
use crate::stream::lifecycle::Status;
use crate::stream::warm::warm_shards;
use crate::stream::{Mode, NewStream};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Boolean, Integer, Structure, Text, TextMap, decode};

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

impl Inner {
    pub(super) async fn create_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: CreateStreamRequest<'_> = decode(body)?;
        check_create_stream(&request)?;
        self.check_pace()?;
        self.check_writable()?;
        let new = self.new_stream(request)?;
        self.check_new_tags(&new.tags, 0, &Tagged::Stream(&new.name))?;
        let ticket = {
            let mut streams = self.catalog.write();
            let account = &self.place.account;
            let taken = streams.get(&new.name);
            if taken.is_some_and(|taken| self.status(taken) != Status::Gone) {
                return Err(Fault::in_use(format!(
                    "Stream {} under account {account} already exists.",
                    new.name
                )));
            }
            self.check_room(&streams, &new)?;
            streams.insert(
                Arc::clone(&new.name),
                Arc::new(StreamCell::new(&new, &self.place)),
            );
            self.log.submit(Entry::CreateStream(new), None, None)
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    /// Whether the account may have this stream beside its others.
    fn check_room(&self, streams: &Streams, new: &NewStream) -> Result<(), Fault> {
        let passing = |cell: &&Arc<StreamCell>| is_passing(self.status(cell));
        self.check_passing(streams.values().filter(passing).count(), "streams")?;
        if new.mode == Mode::OnDemand {
            self.check_on_demand_limit(self.on_demand_streams_of(streams))?;
        }
        self.check_shard_limit(self.open_shards_of(streams), new.shard_count as usize)
    }

    fn new_stream(&self, request: CreateStreamRequest<'_>) -> Result<NewStream, Fault> {
        let details = request.stream_mode_details.as_ref();
        let mode = details.map_or(Mode::Provisioned, |details| details.0.mode());
        let warm_mibps = self.warm_throughput(request.warm_throughput, mode)?;
        let shard_count = match (mode, request.shard_count) {
            (Mode::Provisioned, Some(count)) => count.0.max(1) as u32,
            (Mode::OnDemand, None) => warm_mibps.map_or(ON_DEMAND_SHARDS_AT_START, warm_shards),
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
        let strategy = request.record_distribution_strategy.as_deref();
        let distribution = strategy.map(Distribution::named).unwrap_or_default();
        check_distribution(distribution, mode)?;
        let record_max_kib = request
            .max_record_size_in_kib
            .map(|size| size.0.max(1) as u32);
        Ok(NewStream {
            id: self.next_stream_id(),
            name: request.stream_name.as_deref().unwrap_or_default().into(),
            place: self.place_to_keep(),
            created_ms: self.now_ms(),
            mode,
            shard_count,
            retention_hours: RETENTION_HOURS_DEFAULT,
            record_max_bytes: record_max_kib
                .map_or(RECORD_MAX_BYTES_DEFAULT as u32, |kib| kib * KIB as u32),
            distribution,
            warm_mibps,
            tags: request.tags.map(|tags| tags.0).unwrap_or_default(),
        })
    }

    pub(super) async fn delete_stream(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: DeleteStreamRequest<'_> = decode(body)?;
        let (name, arn) = (&request.stream_name, &request.stream_arn);
        Constraints::of_stream(name, |_| {}, arn, &request.stream_id)?;
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
            self.check_has_no_queues(&stream, &cell, "DeleteStream")?;
            self.check_has_no_channels(&stream, &cell)?;
            let arn = cell.arn();
            let mut consumers = stream.consumers.values();
            if !enforced && consumers.any(|consumer| consumer.life.deleted_ms.is_none()) {
                return Err(Fault::in_use(format!(
                    "DeleteStream can't delete {arn} because there are consumers associated with \
                     this data stream. To delete {} anyway, set the EnforceConsumerDeletion \
                     parameter to true to force the deletion of all the consumers that are \
                     associated with it.",
                    cell.name
                )));
            }
            stream.life.deleted_ms = Some(at_ms);
            // The name may lead to another stream by now.
            let named = streams.get(&cell.name);
            let same = named.is_some_and(|named| Arc::ptr_eq(named, &cell));
            if same && stream.status(at_ms, self.delays) == Status::Gone {
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
        self.stored(ticket).await?;
        Ok(Reply::Empty)
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
    constrain_warm_throughput(&mut constraints, request.warm_throughput);
    check_max_record_size(&mut constraints, request.max_record_size_in_kib);
    let strategy = request.record_distribution_strategy.as_deref();
    constraints.one_of("recordDistributionStrategy", strategy, &DISTRIBUTIONS);
    constraints.done()
}
