//! SplitShard and MergeShards.

use kinesis_core::{HashKey, ShardId};
use serde::Deserialize;

use super::get::could_not_find_shard;
use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::log::entry::Entry;
use crate::stream::lifecycle::Status;
use crate::stream::shard::parse_shard_index;
use crate::stream::{Mode, ReshardRefusal, Stream};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Text, decode};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct SplitShardRequest<'a> {
    stream_name: Option<Text<'a>>,
    shard_to_split: Option<Text<'a>>,
    new_starting_hash_key: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct MergeShardsRequest<'a> {
    stream_name: Option<Text<'a>>,
    shard_to_merge: Option<Text<'a>>,
    adjacent_shard_to_merge: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

impl Inner {
    pub(super) async fn split_shard(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: SplitShardRequest<'_> = decode(body)?;
        check_split_shard(&request)?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let shard = self.shard_index(request.shard_to_split.as_deref(), &cell)?;
        let asked = request.new_starting_hash_key.as_deref().unwrap_or_default();
        // A key beyond the key space lies outside every shard.
        let key = asked.parse().unwrap_or(HashKey::MAX);
        let ticket = {
            let streams = self.catalog.write(); // as in UpdateShardCount
            let open_shards = self.open_shards_of(&streams);
            let mut stream = cell.write();
            let refused = |refusal| self.reshard_refused(refusal, &cell, (shard, shard), asked);
            // In this order by the service. Source: kinesalite's suite.
            self.check_has_shard(&stream, &cell, shard)?;
            self.check_provisioned(&stream, &cell)?;
            self.check_shard_limit(open_shards, 1)?;
            stream.check_split(shard, key).map_err(refused)?;
            self.check_active(&stream, &cell)?;
            let at_ms = self.now_ms();
            stream.split(shard, key, at_ms).map_err(refused)?;
            self.log.submit(
                Entry::Split {
                    stream: cell.id,
                    shard,
                    key,
                    at_ms,
                },
                None,
                None,
            )
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    pub(super) async fn merge_shards(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: MergeShardsRequest<'_> = decode(body)?;
        check_merge_shards(&request)?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let shard = self.shard_index(request.shard_to_merge.as_deref(), &cell)?;
        let adjacent = self.shard_index(request.adjacent_shard_to_merge.as_deref(), &cell)?;
        let ticket = {
            let mut stream = cell.write();
            let refused = |refusal| self.reshard_refused(refusal, &cell, (shard, adjacent), "");
            self.check_has_shard(&stream, &cell, shard)?;
            self.check_has_shard(&stream, &cell, adjacent)?;
            stream.check_merge(shard, adjacent).map_err(refused)?;
            self.check_resharding(&stream, &cell)?;
            let at_ms = self.now_ms();
            stream.merge(shard, adjacent, at_ms).map_err(refused)?;
            self.log.submit(
                Entry::Merge {
                    stream: cell.id,
                    shard,
                    adjacent,
                    at_ms,
                },
                None,
                None,
            )
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    fn shard_index(&self, id: Option<&str>, cell: &StreamCell) -> Result<u32, Fault> {
        let id = id.unwrap_or_default();
        parse_shard_index(id).ok_or_else(|| could_not_find_shard(id, cell))
    }

    /// Whether there is the shard to be split or merged; a stream has none while it is CREATING.
    fn check_has_shard(&self, stream: &Stream, cell: &StreamCell, index: u32) -> Result<(), Fault> {
        let creating = stream.status(self.now_ms(), self.delays) == Status::Creating;
        if !creating && stream.shard(index).is_some() {
            return Ok(());
        }
        let id = ShardId::from_index(u64::from(index));
        Err(could_not_find_shard(id.as_str(), cell))
    }

    /// Whether the stream's mode and state allow a split or merge.
    pub(super) fn check_resharding(&self, stream: &Stream, cell: &StreamCell) -> Result<(), Fault> {
        self.check_provisioned(stream, cell)?;
        self.check_active(stream, cell)
    }

    fn check_provisioned(&self, stream: &Stream, cell: &StreamCell) -> Result<(), Fault> {
        if stream.mode == Mode::Provisioned {
            return Ok(());
        }
        Err(Fault::validation(format!(
            "Request is invalid. Stream {} under account {} is in On-Demand mode.",
            cell.name, cell.place.account
        )))
    }

    fn reshard_refused(
        &self,
        refusal: ReshardRefusal,
        cell: &StreamCell,
        (first, second): (u32, u32),
        key: &str,
    ) -> Fault {
        let id = |index: u32| ShardId::from_index(u64::from(index));
        let place = format!(
            "in stream {} under account {}",
            cell.name, cell.place.account
        );
        match refusal {
            ReshardRefusal::NoSuchShard(index) => could_not_find_shard(id(index).as_str(), cell),
            ReshardRefusal::AlreadyClosed(index) => Fault::invalid_argument(format!(
                "Shard {} {place} has already been merged or split, and thus is not eligible for \
                 merging or splitting.",
                id(index)
            )),
            ReshardRefusal::KeyOutsideShard(range) => Fault::invalid_argument(format!(
                "NewStartingHashKey {key} used in SplitShard() on shard {} {place} is not both \
                 greater than one plus the shard's StartingHashKey {} and less than the shard's \
                 EndingHashKey {}.",
                id(first),
                range.start(),
                range.end()
            )),
            ReshardRefusal::NotAdjacent => Fault::invalid_argument(format!(
                "Shards {} and {} {place} are not an adjacent pair of shards eligible for merging",
                id(first),
                id(second)
            )),
        }
    }
}

fn check_split_shard(request: &SplitShardRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        constraints.present(request.shard_to_split.is_some(), "shardToSplit");
        constraints.shard_id("shardToSplit", request.shard_to_split.as_deref());
        constraints.present(
            request.new_starting_hash_key.is_some(),
            "newStartingHashKey",
        );
        constraints.hash_key(
            "newStartingHashKey",
            request.new_starting_hash_key.as_deref(),
        );
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}

fn check_merge_shards(request: &MergeShardsRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        constraints.present(request.shard_to_merge.is_some(), "shardToMerge");
        constraints.shard_id("shardToMerge", request.shard_to_merge.as_deref());
        constraints.present(
            request.adjacent_shard_to_merge.is_some(),
            "adjacentShardToMerge",
        );
        constraints.shard_id(
            "adjacentShardToMerge",
            request.adjacent_shard_to_merge.as_deref(),
        );
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}
