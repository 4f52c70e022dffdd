//! From the stream's shards to rows of the lease table.
//!
//! Promise: after a sync every shard whose records the application has to read either has a lease,
//! or gets one from the worker that finishes its parent. Any number of workers may sync at once:
//! each creates rows only where there are none, parents before children.
//!
//! A sync happens when a worker starts, and while the leases do not cover the key space. Otherwise
//! the leases of new shards come from the end of their parents. A lease that is missing among others is
//! nobody's for `failover_time` after it was made: its row may have been deleted while a worker had it.
//!
//! Deliberately absent: shard filters (`AT_LATEST` and the like); the whole listing is read, and
//! [`plan`] picks from it, so that a first start and a repair follow one rule.

mod plan;

use std::time::Duration;

use aws_sdk_kinesis::Client;
use kinesis_core::{HashKeyRange, Shard, ShardMap};

use crate::error::{Error, ErrorKind};
use crate::service_time::ServiceTime;
use crate::stream::{Address, StreamId};

pub(crate) use plan::{Known, Start, covers_key_space, missing_leases};

/// Time for one attempt of one page. Source: none, reasonable default.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Pages of one listing. Source: none; a million shards at the service's page size.
const LIST_PAGES_MAX: usize = 1_000;

/// The id of a stream in a multi-stream lease table.
///
/// # Errors
/// As the lookup failed; `Corrupt` if the answer names no account or instant of creation.
pub(crate) async fn identify(client: &Client, stream: &Address) -> Result<StreamId, Error> {
    let request = client
        .describe_stream_summary()
        .set_stream_name(stream.name())
        .set_stream_arn(stream.arn());
    let answer = tokio::time::timeout(LIST_TIMEOUT, Box::pin(request.send()))
        .await
        .map_err(|_| not_yet(stream, "could not be described in time"))?
        .map_err(|error| Error::aws(format_args!("describing stream {stream}"), error))?;
    let id = answer.stream_description_summary.and_then(|summary| {
        let account = summary.stream_arn.split(':').nth(4)?;
        let created = u64::try_from(summary.stream_creation_timestamp.secs()).ok()?;
        StreamId::new(account, &summary.stream_name, created).ok()
    });
    id.ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            format!("stream {stream} is described without its account or its creation"),
        )
    })
}

/// The shards of a stream as the service listed them.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) shards: ShardMap,
    /// When it did, by its own clock; absent if it did not say.
    pub(crate) service_millis: Option<u64>,
}

/// Lists all shards of `stream`, open and closed, in one attempt. The open ones cover the whole key
/// space, or it is an error.
///
/// # Errors
/// `NotFound` if there is no such stream; `Unavailable` or `Throttled` if it could not be listed now, or
/// is being created or resharded.
pub(crate) async fn list_once(client: &Client, stream: &Address) -> Result<Listing, Error> {
    let time = ServiceTime::default();
    let mut service_millis = None;
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..LIST_PAGES_MAX {
        // A page after the first is asked for by its token alone.
        let request = match token.take() {
            Some(token) => client.list_shards().next_token(token),
            None => client
                .list_shards()
                .set_stream_name(stream.name())
                .set_stream_arn(stream.arn()),
        };
        let request = request.customize().interceptor(time.clone());
        let answer = tokio::time::timeout(LIST_TIMEOUT, Box::pin(request.send()))
            .await
            .map_err(|_| not_yet(stream, "could not be listed in time"))?
            .map_err(|error| match error.as_service_error() {
                Some(refusal) if refusal.is_expired_next_token_exception() => {
                    not_yet(stream, "took too long to list")
                }
                _ => Error::aws(format_args!("listing the shards of stream {stream}"), error),
            })?;
        // Of the first page: nothing that came while the others were read is older.
        service_millis = service_millis.or(time.epoch_millis());
        for shard in answer.shards() {
            shards.push(read(shard).ok_or_else(|| {
                Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "shard {} of stream {stream} is described in a way that cannot be read",
                        shard.shard_id()
                    ),
                )
            })?);
        }
        token = answer.next_token().map(str::to_owned);
        if token.is_none() {
            let shards = ShardMap::new(shards);
            return match shards.hole() {
                None => Ok(Listing {
                    shards,
                    service_millis,
                }),
                Some(_) => Err(not_yet(
                    stream,
                    "has no open shard for a part of its keys yet",
                )),
            };
        }
    }
    Err(Error::new(
        ErrorKind::Internal,
        format!("stream {stream} has more than {LIST_PAGES_MAX} pages of shards"),
    ))
}

fn not_yet(stream: &Address, what: &str) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        format!("stream {stream} {what}; try again later"),
    )
}

fn read(shard: &aws_sdk_kinesis::types::Shard) -> Option<Shard> {
    let range = shard.hash_key_range()?;
    let numbers = shard.sequence_number_range()?;
    let ending = match numbers.ending_sequence_number() {
        Some(number) => Some(number.parse().ok()?),
        None => None,
    };
    Some(Shard {
        id: shard.shard_id().into(),
        range: HashKeyRange::new(
            range.starting_hash_key().parse().ok()?,
            range.ending_hash_key().parse().ok()?,
        )?,
        parent: shard.parent_shard_id().map(Into::into),
        adjacent_parent: shard.adjacent_parent_shard_id().map(Into::into),
        starting_sequence_number: numbers.starting_sequence_number().parse().ok()?,
        ending_sequence_number: ending,
    })
}
