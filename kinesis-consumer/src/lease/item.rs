//! Between a DynamoDB item and a [`Lease`].
//!
//! Promise: a row written by a KCL 2.x or 3.x, or by this crate, is read; what cannot be read is
//! named by attribute and never guessed. Required are `leaseKey`, `leaseCounter` and `checkpoint`;
//! everything else may be absent. A `pendingCheckpointState` that is a number is no state: the KCL
//! writes the sub-sequence number there when it creates a row.
//!
//! Rows are told apart by `entityType`: `LEASE` or none is a lease; any other is somebody else's
//! (`LEADER`, `STREAM`, …) and not read here, save for worker metrics.
//!
//! A lease of a multi-stream application has its stream in the key (`account:name:epoch:shardId-…`),
//! once more in `streamName`, and the shard in `shardId`; its parents and children are shards of the
//! same stream, written without it. In memory every [`Lease`] names shards by their keys.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use bytes::Bytes;
use kinesis_core::{HashKey, HashKeyRange, Position, ShardId};

use super::stats::{ENTITY_STATS, WorkerStats};
use super::{Lease, Throughput};
use crate::checkpoint::PendingCheckpoint;
use crate::stream::StreamId;

pub(crate) const LEASE_KEY: &str = "leaseKey";
pub(crate) const OWNER: &str = "leaseOwner";
pub(super) const COUNTER: &str = "leaseCounter";
pub(super) const OWNER_SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
pub(super) const CHECKPOINT: &str = "checkpoint";
pub(super) const SUB_SEQUENCE: &str = "checkpointSubSequenceNumber";
pub(super) const PENDING: &str = "pendingCheckpoint";
pub(super) const PENDING_SUB_SEQUENCE: &str = "pendingCheckpointSubSequenceNumber";
pub(super) const PENDING_STATE: &str = "pendingCheckpointState";
pub(super) const PARENTS: &str = "parentShardId";
pub(super) const CHILDREN: &str = "childShardIds";
pub(super) const RANGE_START: &str = "startingHashKey";
pub(super) const RANGE_END: &str = "endingHashKey";
pub(super) const CHECKPOINT_OWNER: &str = "checkpointOwner";
pub(super) const ENTITY_TYPE: &str = "entityType";
pub(super) const STREAM_NAME: &str = "streamName";
pub(super) const SHARD: &str = "shardId";
pub(super) const ACQUISITION: &str = "acquisitionId";
pub(super) const THROUGHPUT: &str = "throughputKBps";
pub(super) const STARTS_AT: &str = "startTimestampMillis";

pub(super) const ENTITY_LEASE: &str = "LEASE";

pub(crate) type Item = HashMap<String, AttributeValue>;

/// What a row of the table is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Row {
    Lease(Box<Lease>),
    /// Worker metrics.
    Stats(WorkerStats),
    /// A row that is neither.
    Other,
    Corrupt(CorruptRow),
}

/// Why a lease cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, thiserror::Error)]
#[error("lease {shard_id} cannot be read: attribute {attribute} {problem}")]
pub(crate) struct CorruptRow {
    pub(crate) shard_id: ShardId,
    pub(crate) attribute: &'static str,
    pub(crate) problem: &'static str,
}

/// Reads one row.
pub(crate) fn read(item: &Item) -> Row {
    match item.get(ENTITY_TYPE) {
        None => {}
        Some(AttributeValue::S(entity)) if entity == ENTITY_LEASE => {}
        Some(AttributeValue::S(entity)) if entity == ENTITY_STATS => {
            return WorkerStats::read(item, LEASE_KEY).map_or(Row::Other, Row::Stats);
        }
        Some(_) => return Row::Other,
    }
    let Some(AttributeValue::S(key)) = item.get(LEASE_KEY) else {
        return Row::Other;
    };
    let shard_id = ShardId::from(key.as_str());
    let stream = StreamId::of_key(&shard_id);
    let reader = Reader { item, stream };
    match reader.lease(shard_id.clone()) {
        Ok(lease) => Row::Lease(Box::new(lease)),
        Err((attribute, problem)) => Row::Corrupt(CorruptRow {
            shard_id,
            attribute,
            problem,
        }),
    }
}

type Problem = (&'static str, &'static str);

struct Reader<'a> {
    item: &'a Item,
    /// The stream in the key.
    stream: Option<StreamId>,
}

impl Reader<'_> {
    fn lease(&self, shard_id: ShardId) -> Result<Lease, Problem> {
        let named = self.text(STREAM_NAME)?;
        if named.is_some() && named != self.stream.as_ref().map(StreamId::as_str) {
            return Err((STREAM_NAME, "is not the stream of the key"));
        }
        let counter = self.number(COUNTER)?.ok_or((COUNTER, "is missing"))?;
        let checkpoint = self
            .position(CHECKPOINT, SUB_SEQUENCE)?
            .ok_or((CHECKPOINT, "is missing"))?;
        Ok(Lease {
            shard_id,
            owner: self.text(OWNER)?.map(str::to_owned),
            checkpoint_owner: self.text(CHECKPOINT_OWNER)?.map(str::to_owned),
            counter,
            checkpoint,
            pending_checkpoint: self.pending()?,
            owner_switches: self.number(OWNER_SWITCHES)?.unwrap_or(0),
            parents: self.shards(PARENTS)?,
            children: self.shards(CHILDREN)?,
            range: self.range()?,
            acquisition: self.text(ACQUISITION)?.map(str::to_owned),
            throughput: self.throughput(),
            starts_at_millis: self.number(STARTS_AT)?,
        })
    }

    fn text(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        match self.item.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) if text.is_empty() => Err((name, "is empty")),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err((name, "is not a string")),
        }
    }

    fn number(&self, name: &'static str) -> Result<Option<u64>, Problem> {
        match self.item.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(digits)) => {
                let number = digits
                    .parse()
                    .map_err(|_| (name, "is not a whole number from 0"))?;
                Ok(Some(number))
            }
            Some(_) => Err((name, "is not a number")),
        }
    }

    /// Only a hint: what cannot be read is not known.
    fn throughput(&self) -> Option<Throughput> {
        let kbps: f64 = self.item.get(THROUGHPUT)?.as_n().ok()?.parse().ok()?;
        Throughput::of_kbps(kbps)
    }

    fn position(
        &self,
        name: &'static str,
        sub_name: &'static str,
    ) -> Result<Option<Position>, Problem> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let sub_sequence = self.number(sub_name)?.unwrap_or(0);
        let position = Position::parse(text, sub_sequence)
            .map_err(|_| (name, "is neither a sequence number nor a known name"))?;
        Ok(Some(position))
    }

    fn pending(&self) -> Result<Option<PendingCheckpoint>, Problem> {
        let Some(position) = self.position(PENDING, PENDING_SUB_SEQUENCE)? else {
            return Ok(None);
        };
        let state = match self.item.get(PENDING_STATE) {
            Some(AttributeValue::B(state)) => Bytes::copy_from_slice(state.as_ref()),
            None | Some(AttributeValue::N(_)) => Bytes::new(),
            Some(_) => return Err((PENDING_STATE, "is not binary")),
        };
        Ok(Some(PendingCheckpoint { position, state }))
    }

    fn shards(&self, name: &'static str) -> Result<BTreeSet<ShardId>, Problem> {
        match self.item.get(name) {
            None => Ok(BTreeSet::new()),
            Some(AttributeValue::Ss(ids)) => {
                let ids = ids.iter().map(|id| ShardId::from(id.as_str()));
                Ok(match &self.stream {
                    Some(stream) => ids.map(|id| stream.key(&id)).collect(),
                    None => ids.collect(),
                })
            }
            Some(_) => Err((name, "is not a set of strings")),
        }
    }

    fn range(&self) -> Result<Option<HashKeyRange>, Problem> {
        let key = |name: &'static str| -> Result<Option<HashKey>, Problem> {
            let Some(text) = self.text(name)? else {
                return Ok(None);
            };
            Ok(Some(text.parse().map_err(|_| (name, "is not a hash key"))?))
        };
        match (key(RANGE_START)?, key(RANGE_END)?) {
            (None, None) => Ok(None),
            (Some(start), Some(end)) => {
                let range = HashKeyRange::new(start, end);
                Ok(Some(range.ok_or((RANGE_END, "is below startingHashKey"))?))
            }
            (None, Some(_)) => Err((RANGE_START, "is missing")),
            (Some(_), None) => Err((RANGE_END, "is missing")),
        }
    }
}

/// The whole item of a new lease.
pub(crate) fn new_item(lease: &Lease) -> Item {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let mut item = Item::from([
        (LEASE_KEY.to_owned(), text(lease.shard_id.as_str())),
        (COUNTER.to_owned(), number(lease.counter)),
        (OWNER_SWITCHES.to_owned(), number(lease.owner_switches)),
        (CHECKPOINT.to_owned(), text(lease.checkpoint.checkpoint())),
        (
            SUB_SEQUENCE.to_owned(),
            number(lease.checkpoint.sub_sequence()),
        ),
        (ENTITY_TYPE.to_owned(), text(ENTITY_LEASE)),
    ]);
    if let Some(stream) = StreamId::of_key(&lease.shard_id) {
        item.insert(STREAM_NAME.to_owned(), text(stream.as_str()));
        let shard_id = StreamId::shard_of_key(&lease.shard_id);
        item.insert(SHARD.to_owned(), text(shard_id.as_str()));
    }
    if let Some(owner) = &lease.owner {
        item.insert(OWNER.to_owned(), text(owner));
    }
    if let Some(millis) = lease.starts_at_millis {
        item.insert(STARTS_AT.to_owned(), number(millis));
    }
    // An empty set is not a value in DynamoDB.
    if !lease.parents.is_empty() {
        item.insert(PARENTS.to_owned(), shard_set(&lease.parents));
    }
    if let Some(range) = lease.range {
        item.insert(RANGE_START.to_owned(), text(&range.start().to_string()));
        item.insert(RANGE_END.to_owned(), text(&range.end().to_string()));
    }
    item
}

pub(super) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

pub(super) fn kbps(throughput: Throughput) -> AttributeValue {
    AttributeValue::N(format!("{:.6}", throughput.kbps()))
}

/// Shards given by the keys of their leases.
pub(super) fn shard_set(keys: &BTreeSet<ShardId>) -> AttributeValue {
    let ids = keys.iter().map(StreamId::shard_of_key);
    AttributeValue::Ss(ids.map(|id| id.as_str().to_owned()).collect())
}

#[cfg(test)]
mod tests;
