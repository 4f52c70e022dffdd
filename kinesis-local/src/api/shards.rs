//! ListShards, and how a shard is told.

use std::sync::Arc;

use kinesis_core::limits::{LIST_SHARDS_MAX, NEXT_TOKEN_LIFETIME};
use kinesis_core::{HashKeyRange, ShardId};
use serde::Deserialize;

use super::get::could_not_find_shard;
use super::{Inner, Reply, no_stream};
use crate::catalog::StreamCell;
use crate::stream::change::Holder;
use crate::stream::filter::{FILTER_TYPES, ShardFilter};
use crate::stream::shard::{Shard, parse_shard_index};
use crate::stream::token::{Opened, Sealer};
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Integer, Structure, Text, Timestamp, decode};
use crate::wire::write::{Encode, Writer};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ListShardsRequest<'a> {
    stream_name: Option<Text<'a>>,
    next_token: Option<Text<'a>>,
    exclusive_start_shard_id: Option<Text<'a>>,
    max_results: Option<Integer>,
    stream_creation_timestamp: Option<Timestamp>,
    shard_filter: Option<Structure<ShardFilterRequest<'a>>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct ShardFilterRequest<'a> {
    r#type: Option<Text<'a>>,
    shard_id: Option<Text<'a>>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug)]
struct ListShardsAnswer {
    shards: Vec<ShardAnswer>,
    next_token: Option<String>,
}

impl Encode for ListShardsAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            if let Some(token) = &self.next_token {
                writer.key("NextToken");
                writer.plain(token);
            }
            writer.key("Shards");
            writer.list(&self.shards, |writer, shard| shard.encode(writer));
        });
    }
}

/// A shard as it is described.
#[derive(Debug)]
pub(super) struct ShardAnswer {
    id: ShardId,
    range: HashKeyRange,
    parent: Option<ShardId>,
    adjacent_parent: Option<ShardId>,
    starting: String,
    ending: Option<String>,
}

impl ShardAnswer {
    pub(super) fn of(shard: &Shard) -> Self {
        let identity = &shard.identity;
        let id = |index: u32| ShardId::from_index(u64::from(index));
        let ending = |closed_ms| identity.ending_sequence_number(closed_ms).to_string();
        Self {
            id: identity.id(),
            range: identity.range,
            parent: identity.parent.map(id),
            adjacent_parent: identity.adjacent_parent.map(id),
            starting: identity.starting_sequence_number().to_string(),
            ending: shard.closed_ms().map(ending),
        }
    }
}

impl Encode for ShardAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("ShardId");
            writer.plain(self.id.as_str());
            if let Some(parent) = &self.parent {
                writer.key("ParentShardId");
                writer.plain(parent.as_str());
            }
            if let Some(parent) = &self.adjacent_parent {
                writer.key("AdjacentParentShardId");
                writer.plain(parent.as_str());
            }
            encode_range(writer, self.range);
            writer.key("SequenceNumberRange");
            writer.structure(|writer| {
                writer.key("StartingSequenceNumber");
                writer.plain(&self.starting);
                if let Some(ending) = &self.ending {
                    writer.key("EndingSequenceNumber");
                    writer.plain(ending);
                }
            });
        });
    }
}

/// `"HashKeyRange":{…}`
pub(super) fn encode_range(writer: &mut Writer, range: HashKeyRange) {
    writer.key("HashKeyRange");
    writer.structure(|writer| {
        writer.key("StartingHashKey");
        writer.plain(&range.start().to_string());
        writer.key("EndingHashKey");
        writer.plain(&range.end().to_string());
    });
}

/// Where a page of ListShards goes on; the token carries it.
#[derive(Copy, Clone, Debug)]
struct Page {
    after: Option<u32>,
    filter: ShardFilter,
}

/// Tells ListShards' tokens from other sealed texts.
const TOKEN_KIND: u8 = 2;
/// Numbers in a token before the stream's name.
const NUMBERS_IN_TOKEN: usize = 5;

/// The name of the stream that a token of ListShards goes on in, however old it is.
pub(super) fn stream_in_token(token: &str) -> Option<String> {
    let mut opened = Opened::open(token, TOKEN_KIND)?;
    for _ in 0..NUMBERS_IN_TOKEN {
        opened.u64()?;
    }
    opened.text()
}

impl Inner {
    pub(super) async fn list_shards(&self, body: Body<'_>) -> Result<Reply, Fault> {
        let request: ListShardsRequest<'_> = decode(body)?;
        check_list_shards(&request)?;
        let (cell, page) = match &request.next_token {
            Some(token) => {
                if request.stream_name.is_some() || request.stream_arn.is_some() {
                    return Err(Fault::invalid_argument(
                        "NextToken and StreamName cannot be provided together.",
                    ));
                }
                let other = [
                    (
                        "ExclusiveStartShardId",
                        request.exclusive_start_shard_id.is_some(),
                    ),
                    (
                        "StreamCreationTimestamp",
                        request.stream_creation_timestamp.is_some(),
                    ),
                ];
                if let Some((other, _)) = other.iter().find(|(_, given)| *given) {
                    return Err(Fault::invalid_argument(format!(
                        "NextToken and {other} cannot be provided together.",
                    )));
                }
                self.open_token(token)?
            }
            None => self.first_page(&request)?,
        };
        self.check_there(&cell)?;
        let max = request
            .max_results
            .map(|max| max.0)
            .map_or(LIST_SHARDS_MAX, |max| {
                (max.max(1) as usize).min(LIST_SHARDS_MAX)
            });
        let answer = self.page(&cell, page, max);
        self.settled().await?;
        Ok(Reply::to(body, &answer))
    }

    fn first_page(
        &self,
        request: &ListShardsRequest<'_>,
    ) -> Result<(Arc<StreamCell>, Page), Fault> {
        if request.stream_name.is_none() && request.stream_arn.is_none() {
            return Err(Fault::invalid_argument(
                "Either NextToken or StreamName should be provided.",
            ));
        }
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let same = |asked: Timestamp| asked.0 / 1000 == cell.read().life.created_ms / 1000;
        if !request.stream_creation_timestamp.is_none_or(same) {
            return Err(no_stream(&cell.name, &cell.place.account));
        }
        let after = match request.exclusive_start_shard_id.as_deref() {
            None => None,
            Some(id) => Some(parse_shard_index(id).ok_or_else(|| could_not_find_shard(id, &cell))?),
        };
        let filter = match &request.shard_filter {
            None => ShardFilter::All,
            Some(Structure(filter)) => self.filter(filter, &cell)?,
        };
        Ok((cell, Page { after, filter }))
    }

    fn filter(
        &self,
        filter: &ShardFilterRequest<'_>,
        cell: &StreamCell,
    ) -> Result<ShardFilter, Fault> {
        let kind = filter.r#type.as_deref().unwrap_or_default();
        let missing = |what| {
            Fault::invalid_argument(format!(
                "{what} must be provided for a shard filter of type {kind}."
            ))
        };
        let at_ms = || {
            filter
                .timestamp
                .map(|at| at.0)
                .ok_or_else(|| missing("Timestamp"))
        };
        Ok(match kind {
            "AFTER_SHARD_ID" => {
                let id = filter
                    .shard_id
                    .as_deref()
                    .ok_or_else(|| missing("ShardId"))?;
                let index = parse_shard_index(id).ok_or_else(|| could_not_find_shard(id, cell))?;
                ShardFilter::After(index)
            }
            "AT_TRIM_HORIZON" => ShardFilter::AtTrimHorizon,
            "AT_LATEST" => ShardFilter::AtLatest,
            "AT_TIMESTAMP" => ShardFilter::At(at_ms()?),
            "FROM_TIMESTAMP" => ShardFilter::From(at_ms()?),
            _ => ShardFilter::All, // FROM_TRIM_HORIZON: all that are not expired
        })
    }

    fn page(&self, cell: &StreamCell, page: Page, max: usize) -> ListShardsAnswer {
        let now_ms = self.now_ms();
        let stream = cell.read();
        let from = page.after.map_or(0, |after| after as usize + 1);
        let mut listed = stream
            .shards()
            .get(from..)
            .unwrap_or_default()
            .iter()
            .filter(|shard| page.filter.lists(&stream, shard, now_ms))
            .peekable();
        let mut shards = Vec::new();
        let mut next_token = None;
        while let Some(shard) = listed.next() {
            shards.push(ShardAnswer::of(shard));
            if shards.len() == max {
                let more = listed.peek().is_some();
                let page = Page {
                    after: Some(shard.identity.index),
                    filter: page.filter,
                };
                next_token = more.then(|| seal_token(cell, page, now_ms));
                break;
            }
        }
        ListShardsAnswer { shards, next_token }
    }

    fn open_token(&self, token: &str) -> Result<(Arc<StreamCell>, Page), Fault> {
        let invalid = || Fault::invalid_argument("NextToken is invalid.");
        let mut opened = Opened::open(token, TOKEN_KIND).ok_or_else(invalid)?;
        let mut next = || opened.u64().ok_or_else(invalid);
        let (sealed_ms, id, after, kind, value) = (next()?, next()?, next()?, next()?, next()?);
        let mut text = || opened.text().ok_or_else(invalid);
        let (name, account) = (text()?, text()?);
        let age_ms = self.now_ms().saturating_sub(sealed_ms);
        if u128::from(age_ms) > NEXT_TOKEN_LIFETIME.as_millis() {
            return Err(Fault::new(
                "ExpiredNextTokenException",
                "NextToken has expired.",
            ));
        }
        let cell = self.stream_in(&account, &self.place.region, &name, &Holder::Stream)?;
        if cell.id != id {
            return Err(no_stream(&name, &account));
        }
        let filter = match kind {
            0 => ShardFilter::All,
            1 => ShardFilter::After(u32::try_from(value).map_err(|_| invalid())?),
            2 => ShardFilter::AtTrimHorizon,
            3 => ShardFilter::AtLatest,
            4 => ShardFilter::At(value),
            5 => ShardFilter::From(value),
            _ => return Err(invalid()),
        };
        let after = Some(u32::try_from(after).map_err(|_| invalid())?);
        Ok((cell, Page { after, filter }))
    }
}

fn seal_token(cell: &StreamCell, page: Page, now_ms: u64) -> String {
    let (kind, value) = match page.filter {
        ShardFilter::All => (0, 0),
        ShardFilter::After(index) => (1, u64::from(index)),
        ShardFilter::AtTrimHorizon => (2, 0),
        ShardFilter::AtLatest => (3, 0),
        ShardFilter::At(at_ms) => (4, at_ms),
        ShardFilter::From(at_ms) => (5, at_ms),
    };
    Sealer::new(TOKEN_KIND)
        .u64(now_ms)
        .u64(cell.id)
        .u64(page.after.map_or(0, u64::from))
        .u64(kind)
        .u64(value)
        .text(&cell.name)
        .text(&cell.place.account)
        .seal()
}

fn check_list_shards(request: &ListShardsRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        constraints.token(request.next_token.as_deref());
        constraints.shard_id(
            "exclusiveStartShardId",
            request.exclusive_start_shard_id.as_deref(),
        );
        constraints.range(
            "maxResults",
            request.max_results.map(|max| max.0),
            1,
            10_000,
        );
        if let Some(Structure(filter)) = &request.shard_filter {
            constraints.present(filter.r#type.is_some(), "shardFilter.type");
            constraints.one_of("shardFilter.type", filter.r#type.as_deref(), &FILTER_TYPES);
            constraints.shard_id("shardFilter.shardId", filter.shard_id.as_deref());
        }
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}
