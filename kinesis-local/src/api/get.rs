//! GetShardIterator and GetRecords: reading a shard by polling.
//!
//! Promises: every answer of GetRecords has either a new `NextShardIterator` and no `ChildShards`,
//! or, once everything in a closed shard was read, no iterator and its `ChildShards` with their
//! parents. That is the one form that KCL 2 and 3 accept.

use std::sync::Arc;

use kinesis_core::limits::{GET_RECORDS_MAX_BYTES, GET_RECORDS_MAX_RECORDS, ITERATOR_MAX_CHARS};
use kinesis_core::{HashKeyRange, SequenceNumber, ShardId};
use serde::Deserialize;

use super::encryption::check_reading;
use super::put::{encode_encryption, rate_exceeded};
use super::shards::encode_range;
use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::place::StreamArn;
use crate::stream::Stream;
use crate::stream::change::Holder;
use crate::stream::iterator::{IteratorRefusal, ShardIterator};
use crate::stream::lifecycle::Status;
use crate::stream::shard::{Batch, Identity, Record, Shard, Start, parse_shard_index};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Boolean, Integer, Text, Timestamp, decode};
use crate::wire::write::{Encode, Writer};

/// Where reading can begin, as the model names and orders them.
pub(super) const ITERATOR_TYPES: [&str; 5] = [
    "AT_SEQUENCE_NUMBER",
    "AFTER_SEQUENCE_NUMBER",
    "TRIM_HORIZON",
    "LATEST",
    "AT_TIMESTAMP",
];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct GetShardIteratorRequest<'a> {
    stream_name: Option<Text<'a>>,
    shard_id: Option<Text<'a>>,
    shard_iterator_type: Option<Text<'a>>,
    starting_sequence_number: Option<Text<'a>>,
    timestamp: Option<Timestamp>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    dry_run: Option<Boolean>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct GetRecordsRequest<'a> {
    shard_iterator: Option<Text<'a>>,
    limit: Option<Integer>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
    dry_run: Option<Boolean>,
}

#[derive(Debug)]
struct GetShardIteratorAnswer {
    shard_iterator: String,
}

impl Encode for GetShardIteratorAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("ShardIterator");
            writer.plain(&self.shard_iterator);
        });
    }
}

#[derive(Debug)]
struct GetRecordsAnswer<'a> {
    shard: &'a Identity,
    batch: Batch,
    /// `None` once the shard's end was read.
    next_shard_iterator: Option<String>,
    child_shards: Vec<ChildShard>,
}

impl Encode for GetRecordsAnswer<'_> {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            if let Some(iterator) = &self.next_shard_iterator {
                writer.key("NextShardIterator");
                writer.plain(iterator);
            }
            writer.key("MillisBehindLatest");
            writer.integer(self.batch.behind_ms);
            encode_records(writer, self.shard, &self.batch.records);
            encode_child_shards(writer, &self.child_shards);
        });
    }
}

/// A shard that was opened by the end of the one that is read.
#[derive(Clone, Debug)]
pub(super) struct ChildShard {
    id: ShardId,
    parents: Vec<ShardId>,
    range: HashKeyRange,
}

/// The shards that opened when `shard` closed.
pub(super) fn child_shards(stream: &Stream, shard: &Shard) -> Vec<ChildShard> {
    let child = |child: &Arc<Shard>| ChildShard {
        id: child.identity.id(),
        parents: child
            .identity
            .parents()
            .map(|at| ShardId::from_index(u64::from(at)))
            .collect(),
        range: child.identity.range,
    };
    stream.children(shard.identity.index).map(child).collect()
}

/// `"Records":[…]`
pub(super) fn encode_records(writer: &mut Writer, shard: &Identity, records: &[Record]) {
    writer.key("Records");
    writer.list(records, |writer, record| {
        let number = shard.sequence_number(record.counter, record.arrival_ms);
        writer.structure(|writer| {
            writer.key("SequenceNumber");
            writer.plain(number.as_str());
            writer.key("ApproximateArrivalTimestamp");
            writer.timestamp(record.arrival_ms);
            writer.key("Data");
            writer.blob(&record.data);
            if !record.partition_key.is_empty() {
                writer.key("PartitionKey");
                writer.text(&record.partition_key);
            }
            encode_encryption(writer, record.key.is_some());
        });
    });
}

/// `"ChildShards":[…]`, or nothing while the shard has not ended.
pub(super) fn encode_child_shards(writer: &mut Writer, children: &[ChildShard]) {
    if children.is_empty() {
        return;
    }
    writer.key("ChildShards");
    writer.list(children, |writer, child| {
        writer.structure(|writer| {
            writer.key("ShardId");
            writer.plain(child.id.as_str());
            writer.key("ParentShards");
            writer.list(&child.parents, |writer, parent| {
                writer.plain(parent.as_str())
            });
            encode_range(writer, child.range);
        });
    });
}

/// Room for the records' text: base64 takes 4 bytes for 3, the rest of a record about 200.
pub(super) fn encoded_bytes(records: &[Record]) -> usize {
    512 + records
        .iter()
        .map(|record| record.size() * 4 / 3 + 200)
        .sum::<usize>()
}

impl Inner {
    pub(super) async fn get_shard_iterator(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: GetShardIteratorRequest<'_> = decode(body)?;
        check_get_shard_iterator(&request)?;
        let shard_id = request.shard_id.as_deref().unwrap_or_default();
        let (name, arn) = (request.stream_name.as_ref(), request.stream_arn.as_ref());
        let (cell, shard) = self.shard_to_read(name, arn, shard_id)?;
        let start = self.start(
            StartRequest {
                kind: request.shard_iterator_type.as_deref().unwrap_or_default(),
                sequence_number: request.starting_sequence_number.as_deref(),
                timestamp: request.timestamp,
            },
            &cell,
            &shard,
        )?;
        Fault::unless_dry_run(request.dry_run)?;
        let horizon_ms = cell.read().horizon_ms(self.now_ms());
        let position = {
            let mut log = shard.log();
            let now = self.clock.now();
            if !log.limits.take_iterator(self.quotas.as_deref(), now) {
                return Err(rate_exceeded(&shard.identity.id(), &cell));
            }
            log.trim(horizon_ms);
            log.seek(start)
        };
        self.settled().await?;
        let shard_iterator = self.iterator(&cell, &shard, position);
        Ok(Reply::to(body, &GetShardIteratorAnswer { shard_iterator }))
    }

    pub(super) async fn get_records(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: GetRecordsRequest<'_> = decode(body)?;
        check_get_records(&request)?;
        let now_ms = self.now_ms();
        let iterator = request.shard_iterator.as_deref().unwrap_or_default();
        let iterator = ShardIterator::open(iterator, now_ms).map_err(|refusal| match refusal {
            IteratorRefusal::Invalid => Fault::invalid_argument("Invalid ShardIterator."),
            IteratorRefusal::Expired(text) => Fault::new("ExpiredIteratorException", text),
        })?;
        let (cell, shard) = self.shard_of_iterator(&iterator)?;
        Fault::unless_dry_run(request.dry_run)?;
        let limit = request.limit.map(|limit| limit.0);
        let limit = limit.map_or(GET_RECORDS_MAX_RECORDS, |limit| limit.max(1) as usize);
        let horizon_ms = cell.read().horizon_ms(now_ms);
        let batch = {
            let mut log = shard.log();
            log.trim(horizon_ms);
            let batch = log.read(iterator.position, limit, GET_RECORDS_MAX_BYTES, now_ms);
            check_reading(&self.kms, &batch.records)?;
            let bytes = batch.records.iter().map(Record::size).sum();
            if !log
                .limits
                .take_read(self.quotas.as_deref(), bytes, self.clock.now())
            {
                return Err(rate_exceeded(&shard.identity.id(), &cell));
            }
            batch
        };
        let (next_shard_iterator, child_shards) = if batch.ended {
            self.settled().await?;
            (None, child_shards(&cell.read(), &shard))
        } else {
            (Some(self.iterator(&cell, &shard, batch.next)), Vec::new())
        };
        let mut writer = Writer::with_capacity(body.format, encoded_bytes(&batch.records));
        GetRecordsAnswer {
            shard: &shard.identity,
            batch,
            next_shard_iterator,
            child_shards,
        }
        .encode(&mut writer);
        Ok(Reply::Answer(writer.into_bytes()))
    }

    fn iterator(&self, cell: &StreamCell, shard: &Shard, position: u64) -> String {
        let iterator = ShardIterator {
            account: cell.place.account.to_string(),
            stream: cell.name.to_string(),
            stream_id: cell.id,
            shard_index: shard.identity.index,
            position,
            created_ms: self.now_ms(),
        };
        iterator.seal(self.rand.next_u64())
    }

    fn shard_of_iterator(
        &self,
        iterator: &ShardIterator,
    ) -> Result<(Arc<StreamCell>, Arc<Shard>), Fault> {
        let id = ShardId::from_index(u64::from(iterator.shard_index));
        let missing = || no_shard(id.as_str(), &iterator.stream, &iterator.account);
        let cell = self
            .stream_in(
                &iterator.account,
                &self.place.region,
                &iterator.stream,
                &Holder::Stream,
            )
            .map_err(|fault| if_not_found(fault, missing))?;
        if cell.id != iterator.stream_id {
            return Err(missing());
        }
        let shard = cell
            .read()
            .shard(iterator.shard_index)
            .cloned()
            .ok_or_else(missing)?;
        Ok((cell, shard))
    }

    /// The shard that a reader names: it may be given short and is told in full.
    pub(super) fn shard_to_read(
        &self,
        name: Option<&Text<'_>>,
        arn: Option<&Text<'_>>,
        shard_id: &str,
    ) -> Result<(Arc<StreamCell>, Arc<Shard>), Fault> {
        let index = parse_shard_index(shard_id);
        let (stream, account) = match (name, arn) {
            (None, Some(arn)) => {
                let arn = StreamArn::read_whole(arn);
                (arn.stream, arn.account)
            }
            (name, _) => (name.map_or("", |name| name), &*self.place.account),
        };
        let Some(index) = index else {
            return Err(not_found_shard(shard_id, stream, account));
        };
        let id = ShardId::from_index(u64::from(index));
        let missing = || no_shard(id.as_str(), stream, account);
        let cell = self.stream(name, arn);
        let cell = cell.map_err(|fault| if_not_found(fault, missing))?;
        let shard = self.readable_shard(&cell, index)?;
        Ok((cell, shard))
    }

    /// A shard of the stream that has or had something to read. A stream has none while it is
    /// CREATING. Source: kinesalite's suite.
    pub(super) fn readable_shard(
        &self,
        cell: &StreamCell,
        index: u32,
    ) -> Result<Arc<Shard>, Fault> {
        let stream = cell.read();
        let shard = stream.shard(index);
        let now_ms = self.now_ms();
        let is_there = stream.status(now_ms, self.delays) != Status::Creating;
        let shard = shard.filter(|shard| is_there && !stream.is_expired(shard, now_ms));
        shard.cloned().ok_or_else(|| {
            let id = ShardId::from_index(u64::from(index));
            no_shard(id.as_str(), &cell.name, &cell.place.account)
        })
    }

    /// What a starting position stands for, checked against the shard it is used on.
    pub(super) fn start(
        &self,
        request: StartRequest<'_>,
        cell: &StreamCell,
        shard: &Shard,
    ) -> Result<Start, Fault> {
        match (request.kind, request.sequence_number) {
            ("TRIM_HORIZON", None) => Ok(Start::TrimHorizon),
            ("LATEST", None) => Ok(Start::Latest),
            ("AT_TIMESTAMP", None) => self.start_at_time(request.timestamp),
            ("AT_SEQUENCE_NUMBER", Some(number)) => {
                let (counter, written_s) = self.number_of_shard(number, cell, shard)?;
                Ok(Start::At(counter, written_s))
            }
            ("AFTER_SEQUENCE_NUMBER", Some(number)) => {
                let (counter, written_s) = self.number_of_shard(number, cell, shard)?;
                Ok(Start::After(counter, written_s))
            }
            (kind, number) => Err(Fault::invalid_argument(format!(
                "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and \
                 StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no \
                 StartingSequenceNumber. Request specified {kind} and {} StartingSequenceNumber.",
                if number.is_some() { "also a" } else { "no" }
            ))),
        }
    }

    fn start_at_time(&self, timestamp: Option<Timestamp>) -> Result<Start, Fault> {
        let now_ms = self.now_ms();
        match timestamp {
            None => Err(Fault::invalid_argument(
                "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. \
                 Current request has no timestamp parameter.",
            )),
            Some(Timestamp(at_ms)) if at_ms > now_ms => Err(Fault::invalid_argument(format!(
                "The timestampInMillis parameter cannot be greater than the \
                 currentTimestampInMillis. timestampInMillis: {at_ms}, currentTimestampInMillis: \
                 {now_ms}"
            ))),
            Some(Timestamp(at_ms)) => Ok(Start::Timestamp(at_ms)),
        }
    }

    /// The counter and second in a number that has to come from this shard.
    fn number_of_shard(
        &self,
        number: &str,
        cell: &StreamCell,
        shard: &Shard,
    ) -> Result<(u64, u64), Fault> {
        let id = shard.identity.id();
        let (stream, account) = (&cell.name, &cell.place.account);
        let used = |number: &str, why: &str| {
            format!(
                "StartingSequenceNumber {number} used in GetShardIterator on shard {id} in stream \
                 {stream} under account {account} is invalid{why}"
            )
        };
        let given = SequenceNumber::try_from(number).ok();
        let origin = given.as_ref().and_then(SequenceNumber::origin);
        let Some(origin) = origin else {
            return Err(Fault::invalid_argument(used(number, ".")));
        };
        if origin.shard_index != shard.identity.index {
            let encoded = ShardId::from_index(u64::from(origin.shard_index));
            return Err(Fault::invalid_argument(format!(
                "Invalid StartingSequenceNumber. It encodes {encoded}, while it was used in a \
                 call to a shard with {id}"
            )));
        }
        let parts = given.and_then(|number| number.parts());
        match parts.filter(|parts| parts.shard_created_s == shard.identity.created_s) {
            Some(parts) => Ok((parts.counter, parts.written_s)),
            None => Err(Fault::invalid_argument(used(
                origin.number.as_str(),
                " because it did not come from this stream.",
            ))),
        }
    }
}

/// A starting position as it was asked for.
#[derive(Copy, Clone, Debug)]
pub(super) struct StartRequest<'a> {
    pub(super) kind: &'a str,
    pub(super) sequence_number: Option<&'a str>,
    pub(super) timestamp: Option<Timestamp>,
}

fn no_shard(id: &str, stream: &str, account: &str) -> Fault {
    Fault::not_found(format!(
        "Shard {id} in stream {stream} under account {account} does not exist"
    ))
}

pub(super) fn could_not_find_shard(id: &str, cell: &StreamCell) -> Fault {
    not_found_shard(id, &cell.name, &cell.place.account)
}

fn not_found_shard(id: &str, stream: &str, account: &str) -> Fault {
    Fault::not_found(format!(
        "Could not find shard {id} in stream {stream} under account {account}."
    ))
}

/// A stream that is not there is told as a shard that is not there.
fn if_not_found(fault: Fault, other: impl FnOnce() -> Fault) -> Fault {
    match &*fault.code {
        "ResourceNotFoundException" => other(),
        _ => fault,
    }
}

fn check_get_shard_iterator(request: &GetShardIteratorRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        constraints.present(request.shard_id.is_some(), "shardId");
        constraints.shard_id("shardId", request.shard_id.as_deref());
        constraints.present(request.shard_iterator_type.is_some(), "shardIteratorType");
        constraints.one_of(
            "shardIteratorType",
            request.shard_iterator_type.as_deref(),
            &ITERATOR_TYPES,
        );
        constraints.sequence_number(
            "startingSequenceNumber",
            request.starting_sequence_number.as_deref(),
        );
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}

fn check_get_records(request: &GetRecordsRequest<'_>) -> Result<(), Fault> {
    let mut constraints = Constraints::default();
    constraints.present(request.shard_iterator.is_some(), "shardIterator");
    if let Some(iterator) = request.shard_iterator.as_deref() {
        constraints.length("shardIterator", iterator, 1, ITERATOR_MAX_CHARS);
    }
    let limit = request.limit.map(|limit| limit.0);
    constraints.range("limit", limit, 1, GET_RECORDS_MAX_RECORDS as i32);
    constraints.stream_arn(request.stream_arn.as_deref());
    constraints.stream_id(request.stream_id.as_deref());
    constraints.done()
}
