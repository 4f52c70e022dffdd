//! The calls of Kinesis that reading a shard by polling takes, with a deadline each, in our own
//! types; what fan-out shares with them.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_shard_iterator::builders::GetShardIteratorFluentBuilder;
use aws_sdk_kinesis::types::{
    ChildShard as SdkChild, HashKeyRange as SdkRange, Record as SdkRecord, ShardIteratorType,
    StreamMode,
};
use aws_smithy_types::DateTime;
use bytes::Bytes;
use kinesis_core::{Clock, HashKey, HashKeyRange, SequenceNumber, ShardId, ShardMap};
use tokio::time::timeout;

use crate::discover;
use crate::error::{Error, ErrorKind};
use crate::fetch::buffer::Slot;
use crate::fetch::fan_out::UNREAD_PATIENCE;
use crate::fetch::gate::Gate;
use crate::fetch::gate::answer::Doorkeeper;
use crate::fetch::poll::{StartAt, Trouble};
use crate::fetch::unpack::StreamRecord;
use crate::fetch::{Connections, FetchContext};
use crate::lease::ChildShard;
use crate::service_time::ServiceTime;
use crate::stream::Address;

/// Most pages of `ListShards` that are read to find one shard and its children: 100,000
/// shards.
/// Source: none, reasonable default, far above the largest stream.
const LIST_PAGES_MAX: usize = 100;

/// A failed call: the error to tell, and what it means for the rules of who called.
#[derive(Debug)]
pub(crate) struct Failure<T = Trouble> {
    pub(crate) error: Error,
    pub(crate) trouble: T,
}

impl Failure {
    pub(crate) fn other(error: Error) -> Self {
        Self {
            error,
            trouble: Trouble::Other,
        }
    }
}

/// An answer of `GetRecords`.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<StreamRecord>,
    pub(crate) next_iterator: Option<String>,
    pub(crate) children: Vec<ChildShard>,
    pub(crate) millis_behind_latest: u64,
    pub(crate) bytes: u64,
}

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum Unread {
    Failed(Failure),
    /// There was no room for an answer of so many bytes, none of which was read.
    NoRoom {
        bytes: u64,
    },
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the listed shards tell about one of them.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Whether it is listed itself.
    pub(crate) listed: bool,
    pub(crate) children: Vec<ChildShard>,
}

/// Calls Kinesis for one shard.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(super) kinesis: aws_sdk_kinesis::Client,
    kinesis_once: aws_sdk_kinesis::Client,
    pub(super) stream: Arc<str>,
    address: Address,
    pub(super) shard_id: ShardId,
    pub(super) timeout: Duration,
    pub(super) clock: Clock,
    pub(super) connections: Arc<Connections>,
}

impl Reader {
    pub(crate) fn new(context: &FetchContext, shard_id: &ShardId) -> Self {
        Self {
            kinesis: context.kinesis.clone(),
            kinesis_once: context.kinesis_once.clone(),
            stream: Arc::clone(&context.stream),
            address: context.source.address.clone(),
            shard_id: shard_id.clone(),
            timeout: context.settings.kinesis_request_timeout,
            clock: context.clock.clone(),
            connections: Arc::clone(&context.connections),
        }
    }

    pub(crate) async fn iterator(&self, start_at: &StartAt) -> Result<String, Failure> {
        let request = self
            .kinesis
            .get_shard_iterator()
            .set_stream_name(self.address.name())
            .set_stream_arn(self.address.arn())
            .shard_id(self.shard_id.as_str());
        let request = start_at.ask(request);
        // No iterator is at fault here: a position that is refused stays refused until mended.
        let answer = self
            .within("getting an iterator", request.send())
            .await
            .map_err(|failure| Failure {
                trouble: match failure.trouble {
                    Trouble::Iterator | Trouble::Other => Trouble::Other,
                    Trouble::NotFound => Trouble::NotFound,
                },
                ..failure
            })?;
        answer
            .shard_iterator
            .ok_or_else(|| self.malformed("the answer of GetShardIterator has no iterator"))
    }

    /// What time it is by the service's clock, which any answer to a request for an iterator tells, a
    /// refusal too. `None` if it does not.
    pub(crate) async fn service_millis(&self) -> Result<Option<u64>, Failure> {
        let time = ServiceTime::default();
        let request = self
            .kinesis
            .get_shard_iterator()
            .set_stream_name(self.address.name())
            .set_stream_arn(self.address.arn())
            .shard_id(self.shard_id.as_str());
        let request = StartAt::Latest.ask(request).customize();
        let request = request.interceptor(time.clone());
        // On the heap: the future of an SDK call is large, and there is one per shard.
        let answer = Box::pin(self.within("asking for the time", request.send())).await;
        match (time.epoch_millis(), answer) {
            (None, Err(failure)) => Err(failure),
            (told, _) => Ok(told),
        }
    }

    /// Asks for at most `limit` records; an answer that is larger than `slot` waits until that has
    /// grown.
    pub(crate) async fn records(
        &self,
        iterator: &str,
        limit: u32,
        slot: &mut Slot<'_>,
    ) -> Result<Page, Unread> {
        let gate = Arc::new(Gate::default());
        let door = Doorkeeper {
            gate: Arc::clone(&gate),
            room: slot.bytes(),
        };
        let request = self
            .kinesis_once
            .get_records()
            .shard_iterator(iterator)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .customize()
            .interceptor(door);
        // On the heap: the future of an SDK call is large, and there is one per shard.
        let mut call = Box::pin(self.within("reading records", request.send()));
        // Within the deadline of the call.
        let patience = UNREAD_PATIENCE.min(self.timeout / 2);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut call => break answer?,
                bytes = gate.asked() => {
                    let room = timeout(patience, slot.grow(bytes, limit == 1)).await;
                    if room != Ok(true) {
                        return Err(Unread::NoRoom { bytes: bytes as u64 });
                    }
                    gate.open();
                }
            }
        };
        let bytes = answer.records.iter().map(sdk_record_bytes).sum();
        let records = self.in_our_types(answer.records)?;
        let children = self.children(answer.child_shards)?;
        Ok(Page {
            records,
            next_iterator: answer.next_shard_iterator,
            children,
            millis_behind_latest: answer
                .millis_behind_latest
                .and_then(|millis| u64::try_from(millis).ok())
                .unwrap_or(0),
            bytes,
        })
    }

    /// Whether the stream's mode is PROVISIONED.
    pub(crate) async fn is_provisioned(&self) -> Result<bool, Failure> {
        let request = self
            .kinesis
            .describe_stream_summary()
            .set_stream_name(self.address.name())
            .set_stream_arn(self.address.arn());
        let answer = self.within("describing the stream of", request.send());
        let summary = answer.await?.stream_description_summary;
        let details = summary.and_then(|summary| summary.stream_mode_details);
        Ok(details.is_some_and(|details| details.stream_mode == StreamMode::Provisioned))
    }

    /// All shards of the stream, as `ListShards` has them now.
    pub(crate) async fn shards(&self) -> Result<ShardMap, Error> {
        let listing = discover::list_once(&self.kinesis, &self.address).await;
        Ok(listing?.shards)
    }

    /// What `ListShards` says about the shard and its children.
    pub(crate) async fn survey(&self) -> Result<Survey, Failure> {
        let mut survey = Survey::default();
        let mut token: Option<String> = None;
        for _page in 0..LIST_PAGES_MAX {
            let request = match token.take() {
                Some(token) => self.kinesis.list_shards().next_token(token),
                None => self
                    .kinesis
                    .list_shards()
                    .set_stream_name(self.address.name())
                    .set_stream_arn(self.address.arn()),
            };
            let answer = self
                .within("listing the shards around", request.send())
                .await?;
            for shard in answer.shards.unwrap_or_default() {
                survey.listed |= shard.shard_id == self.shard_id.as_str();
                let parents: Vec<ShardId> =
                    [&shard.parent_shard_id, &shard.adjacent_parent_shard_id]
                        .into_iter()
                        .flatten()
                        .map(|id| ShardId::from(id.as_str()))
                        .collect();
                if parents.contains(&self.shard_id) {
                    let range = self.range(shard.hash_key_range)?;
                    let id = ShardId::from(shard.shard_id);
                    survey.children.push(ChildShard { id, parents, range });
                }
            }
            token = answer.next_token;
            if token.is_none() {
                return Ok(survey);
            }
        }
        Err(self.malformed("ListShards has more pages than any stream"))
    }

    /// Awaits a call, at most as long as the settings allow.
    async fn within<T, E, R>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, SdkError<E, R>>>,
    ) -> Result<T, Failure>
    where
        E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let of = format_args!(
            "{what} of shard {} of stream {}",
            self.shard_id, self.stream
        )
        .to_string();
        match timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let trouble = trouble(error.code());
                let error = Error::aws(of, error);
                Err(Failure { error, trouble })
            }
            Err(elapsed) => Err(Failure::other(
                Error::new(
                    ErrorKind::Unavailable,
                    format!("{of} took longer than {:?}", self.timeout),
                )
                .with_source(elapsed),
            )),
        }
    }

    pub(super) fn in_our_types(
        &self,
        records: Vec<SdkRecord>,
    ) -> Result<Vec<StreamRecord>, Failure> {
        let records = records.into_iter();
        records.map(|record| self.record(record)).collect()
    }

    pub(super) fn children(
        &self,
        children: Option<Vec<SdkChild>>,
    ) -> Result<Vec<ChildShard>, Failure> {
        let children = children.unwrap_or_default().into_iter();
        children.map(|child| self.child(child)).collect()
    }

    fn record(&self, record: SdkRecord) -> Result<StreamRecord, Failure> {
        let sequence_number = SequenceNumber::try_from(record.sequence_number)
            .map_err(|_| self.malformed("a record has no valid sequence number"))?;
        let arrival = record
            .approximate_arrival_timestamp
            .and_then(|at| at.to_millis().ok());
        Ok(StreamRecord {
            sequence_number,
            // Absent where the stream distributes records by itself and the producer gave none.
            partition_key: record.partition_key.unwrap_or_default().into(),
            data: Bytes::from(record.data.into_inner()),
            approximate_arrival_millis: arrival.and_then(|millis| u64::try_from(millis).ok()),
        })
    }

    fn child(&self, child: SdkChild) -> Result<ChildShard, Failure> {
        Ok(ChildShard {
            range: self.range(child.hash_key_range)?,
            id: ShardId::from(child.shard_id),
            parents: child.parent_shards.into_iter().map(ShardId::from).collect(),
        })
    }

    fn range(&self, range: Option<SdkRange>) -> Result<HashKeyRange, Failure> {
        range
            .and_then(|range| {
                let start: HashKey = range.starting_hash_key.parse().ok()?;
                let end: HashKey = range.ending_hash_key.parse().ok()?;
                HashKeyRange::new(start, end)
            })
            .ok_or_else(|| self.malformed("a child shard has no valid hash key range"))
    }

    /// An answer that cannot be right is asked for again.
    pub(super) fn malformed(&self, what: &str) -> Failure {
        let text = format!(
            "reading shard {} of stream {} failed: {what}",
            self.shard_id, self.stream
        );
        Failure::other(Error::new(ErrorKind::Unavailable, text))
    }
}

impl StartAt {
    /// Asks for an iterator that starts here.
    pub(crate) fn ask(
        &self,
        request: GetShardIteratorFluentBuilder,
    ) -> GetShardIteratorFluentBuilder {
        match self {
            Self::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Self::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
            Self::Timestamp { epoch_millis } => request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_millis(
                    i64::try_from(*epoch_millis).unwrap_or(i64::MAX),
                )),
            Self::AtSequence(sequence_number) => request
                .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
                .starting_sequence_number(sequence_number.as_str()),
            Self::AfterSequence(sequence_number) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(sequence_number.as_str()),
        }
    }

    /// The same, behind a record that was processed.
    pub(crate) fn behind(self) -> Self {
        match self {
            Self::AtSequence(sequence_number) => Self::AfterSequence(sequence_number),
            other => other,
        }
    }
}

/// Payload and key, as the service counts them.
fn sdk_record_bytes(record: &SdkRecord) -> u64 {
    let key = record.partition_key.as_ref().map_or(0, String::len);
    (record.data.as_ref().len() + key) as u64
}

/// Source: error lists of GetRecords and GetShardIterator, Kinesis API 2013-12-02.
fn trouble(code: Option<&str>) -> Trouble {
    match code {
        Some("ExpiredIteratorException" | "InvalidArgumentException") => Trouble::Iterator,
        Some("ResourceNotFoundException") => Trouble::NotFound,
        _ => Trouble::Other,
    }
}
