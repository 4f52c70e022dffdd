//! Which streams a consumer reads: one, or several on one lease table.
//!
//! ```text
//! StreamSource  what an application names: a stream's name or ARN, where to start, whose fan-out consumer
//!      │ DescribeStreamSummary, once
//!      ▼
//! StreamId      123456789012:flights:1767225600   account : name : second of creation
//!      │
//!      ▼
//! lease key     123456789012:flights:1767225600:shardId-000000000003
//! ```
//!
//! The keys are those of a multi-stream KCL, so that either may take over from the other. A stream
//! that was deleted and made anew under its old name is a new stream: its leases have other keys.
//!
//! A consumer of one stream has the shard's id alone as key, as a KCL has; [`admin`](crate::admin)
//! converts a table from one kind to the other and keeps the checkpoints.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kinesis_core::{Shard, ShardId, ShardMap};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};
use crate::events::{Announcer, EventKind};
use crate::lease::ChildShard;
use crate::settings::InitialPosition;

/// Source: Kinesis API 2013-12-02, `StreamName`.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 1..=128;

/// Separates the parts of a stream's id and of a lease's key. Source: KCL `StreamIdentifier`.
const SEPARATOR: char = ':';

/// A stream as the lease keys of a multi-stream application name it: `account:name:epoch`.
///
/// `Display` and `FromStr` are the KCL's serialised `StreamIdentifier`.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// The stream `name` of AWS account `account`, made in second `creation_epoch` since the Unix
    /// epoch.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when `account` is not twelve digits or `name` not a stream's.
    pub fn new(account: &str, name: &str, creation_epoch: u64) -> Result<Self, Error> {
        format!("{account}{SEPARATOR}{name}{SEPARATOR}{creation_epoch}").parse()
    }

    /// What stands for the stream where a consumer reads only one, whose keys do without.
    pub(crate) fn unknown() -> Self {
        Self(format!("{0}{0}", SEPARATOR).into())
    }

    /// The AWS account, twelve digits.
    pub fn account(&self) -> &str {
        self.part(0)
    }

    /// The stream's name.
    pub fn name(&self) -> &str {
        self.part(1)
    }

    /// The id as the lease table has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn part(&self, index: usize) -> &str {
        self.0.split(SEPARATOR).nth(index).unwrap_or_default()
    }

    /// The key of a shard's lease.
    pub(crate) fn key(&self, shard_id: &ShardId) -> ShardId {
        format!("{self}{SEPARATOR}{shard_id}").into()
    }

    /// The stream of a lease's key, unless that is a shard's id alone.
    pub(crate) fn of_key(key: &ShardId) -> Option<Self> {
        let stream = Self::text_of_key(key);
        (!stream.is_empty()).then(|| Self(stream.into()))
    }

    /// The same as text; empty for a shard's id alone.
    pub(crate) fn text_of_key(key: &ShardId) -> &str {
        let parts = key.as_str().rsplit_once(SEPARATOR);
        parts.map_or("", |(stream, _)| stream)
    }

    /// What the keys of all leases of the stream begin with, and no others.
    pub(crate) fn key_prefix(&self) -> String {
        format!("{self}{SEPARATOR}")
    }

    /// The shard of a lease's key.
    pub(crate) fn shard_of_key(key: &ShardId) -> ShardId {
        match key.as_str().rsplit_once(SEPARATOR) {
            Some((_, shard_id)) => shard_id.into(),
            None => key.clone(),
        }
    }
}

impl FromStr for StreamId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split(SEPARATOR).collect();
        let digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match parts[..] {
            [account, name, epoch]
                if account.len() == 12 && digits(account) && is_name(name) && digits(epoch) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a stream id is account:name:epoch, as 123456789012:flights:1767225600, not {text:?}"
                ),
            )),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Source: the alphabet of stream names in the same API: letters, digits, `_`, `.` and `-`.
fn is_name(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    NAME_CHARS.contains(&text.len()) && text.chars().all(known)
}

/// The stream's part of a registered consumer's ARN, `<stream's ARN>/consumer/<name>:<seconds>`.
pub(crate) fn stream_of_consumer(consumer_arn: &str) -> Option<&str> {
    let (stream_arn, _) = consumer_arn.split_once("/consumer/")?;
    stream_arn.starts_with("arn:").then_some(stream_arn)
}

/// A stream's name or ARN, as requests take it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address(Arc<str>);

impl Address {
    /// As the application gave it.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn name(&self) -> Option<String> {
        (!self.is_arn()).then(|| self.0.to_string())
    }

    pub(crate) fn arn(&self) -> Option<String> {
        self.is_arn().then(|| self.0.to_string())
    }

    /// Whether a registered consumer with this ARN can be this stream's. Of a stream given by its name
    /// the account and region are not known here.
    pub(crate) fn can_have_consumer(&self, consumer_arn: &str) -> bool {
        let Some(stream_arn) = stream_of_consumer(consumer_arn) else {
            return false;
        };
        match stream_arn.split_once(":stream/") {
            Some((_, name)) => *self.0 == *stream_arn || *self.0 == *name,
            None => false,
        }
    }

    fn is_arn(&self) -> bool {
        self.0.starts_with("arn:")
    }

    /// # Errors
    /// `InvalidInput` when it is neither.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let name = match self.0.strip_prefix("arn:") {
            // arn:partition:kinesis:region:account:stream/name
            Some(arn) => arn.split_once(":stream/").map_or("", |(_, name)| name),
            None => &self.0,
        };
        if is_name(name) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "stream must be a name of {} to {} letters, digits, '_', '.' or '-', or the ARN of a stream, not {:?}",
                NAME_CHARS.start(),
                NAME_CHARS.end(),
                self.0
            ),
        ))
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One of the streams of a consumer that reads several.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamSource {
    pub(crate) address: Address,
    pub(crate) initial_position: Option<InitialPosition>,
    pub(crate) consumer_arn: Option<String>,
}

impl StreamSource {
    /// The stream with this name, in the account and region of the consumer's client; or with this
    /// ARN, which may be another account's, whose resource policy has to allow reading.
    pub fn new(stream: impl AsRef<str>) -> Self {
        Self {
            address: stream.as_ref().into(),
            initial_position: None,
            consumer_arn: None,
        }
    }

    /// Where to start in this stream's shards; otherwise as `Settings::initial_position` says.
    #[must_use]
    pub fn initial_position(mut self, position: InitialPosition) -> Self {
        self.initial_position = Some(position);
        self
    }

    /// The registered consumer that this stream's shards are subscribed with, where they are read by
    /// enhanced fan-out: needed for a stream of another account. Otherwise one is registered.
    #[must_use]
    pub fn consumer_arn(mut self, arn: impl Into<String>) -> Self {
        self.consumer_arn = Some(arn.into());
        self
    }

    /// The name or ARN.
    pub fn stream(&self) -> &str {
        &self.address.0
    }
}

impl From<&str> for StreamSource {
    fn from(stream: &str) -> Self {
        Self::new(stream)
    }
}

/// The streams of one or more consumers, which may be changed while they run. Cheap to clone; all
/// clones are the same list.
///
/// A stream that is added is looked up at once, and its shards are given to workers as soon as their leases
/// are there. One that is removed is let go at once: its processors get `shutdown_requested`, and its leases are
/// released and stay in the table with their checkpoints, for when the stream is added again. A stream
/// that is deleted and created anew under its name is another stream, read from its initial position
/// as soon as a worker finds its shards gone.
///
/// The list belongs to one process: change it in every worker of the application. While the lists
/// differ, a stream that the leader does not have is given to nobody, and leases of one that only some
/// have may go round: a worker that is given one and does not have the stream leaves it alone, and it
/// waits `failover_time` for the next, unread meanwhile (nothing is lost; the leader logs it).
#[derive(Clone, Debug)]
pub struct Streams {
    list: Arc<watch::Sender<Vec<StreamSource>>>,
}

impl Streams {
    /// These streams; none is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] that names a stream whose name or ARN cannot be one, that is there
    /// twice, or whose `consumer_arn` is not that of a consumer of this stream.
    pub fn new(streams: impl IntoIterator<Item = StreamSource>) -> Result<Self, Error> {
        let list = Self {
            list: Arc::new(watch::Sender::new(Vec::new())),
        };
        for stream in streams {
            list.add(stream)?;
        }
        Ok(list)
    }

    /// Adds a stream.
    ///
    /// # Errors
    /// As [`new`](Self::new); the list is as it was.
    pub fn add(&self, stream: StreamSource) -> Result<(), Error> {
        stream.address.validate()?;
        if let Some(arn) = &stream.consumer_arn
            && !stream.address.can_have_consumer(arn)
        {
            return Err(foreign_consumer(&stream.address, "consumer_arn", arn));
        }
        let mut added = false;
        self.list.send_if_modified(|list| {
            added = list.iter().all(|known| known.address != stream.address);
            if added {
                list.push(stream.clone());
            }
            added
        });
        if added {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!("stream {} is read already", stream.address),
        ))
    }

    /// Removes the stream that was added by this name or ARN; whether it was there.
    pub fn remove(&self, stream: &str) -> bool {
        self.list.send_if_modified(|list| {
            let before = list.len();
            list.retain(|known| known.stream() != stream);
            list.len() < before
        })
    }

    /// Tells of every change from now on.
    fn changes(&self) -> watch::Receiver<Vec<StreamSource>> {
        self.list.subscribe()
    }

    /// The streams, in the order in which they were added.
    pub fn list(&self) -> Vec<StreamSource> {
        self.list.borrow().clone()
    }
}

/// A consumer's ARN that is no ARN, or another stream's: what came by it would be another stream's
/// records.
pub(crate) fn foreign_consumer(stream: impl fmt::Display, field: &str, arn: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        format!(
            "{field} of stream {stream} must be that of a consumer registered with this stream, \
             arn:…:stream/<stream>/consumer/<name>:<seconds>, not {arn:?}"
        ),
    )
}

/// What a worker was asked to read.
#[derive(Clone, Debug)]
pub(crate) enum Sources {
    One(Address),
    Many(Streams),
}

impl Sources {
    /// Tells of every change from now on; there is none where the application reads one stream.
    pub(crate) fn changes(&self) -> Option<watch::Receiver<Vec<StreamSource>>> {
        match self {
            Self::One(_) => None,
            Self::Many(streams) => Some(streams.changes()),
        }
    }
}

impl From<&str> for Sources {
    fn from(stream: &str) -> Self {
        Self::One(stream.into())
    }
}

/// A stream that a worker reads, as the keys of its leases and requests need it.
#[derive(Debug)]
pub(crate) struct Source {
    /// Absent where the application reads one stream: its keys do without.
    pub(crate) id: Option<StreamId>,
    pub(crate) address: Address,
    pub(crate) initial: InitialPosition,
    pub(crate) consumer_arn: Option<String>,
    /// Cancelled when the worker stops, or is not to read this stream any more.
    pub(crate) stop: CancellationToken,
    pub(crate) events: Announcer,
    /// It was not found where it was read: it may be gone, or another stream may have its name.
    pub(crate) doubted: AtomicBool,
}

impl Source {
    /// Has the keeper look whether the stream is still the one that it was.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Tells whoever listens what happened to a shard of this stream.
    pub(crate) fn announce(&self, shard_id: ShardId, kind: EventKind) {
        self.events.announce(self.label(), shard_id, kind);
    }

    /// What logs and metrics call the stream.
    pub(crate) fn label(&self) -> Arc<str> {
        self.id
            .as_ref()
            .map_or_else(|| Arc::clone(&self.address.0), |id| Arc::clone(&id.0))
    }

    /// The stream's id, as [`StreamId::text_of_key`] has it.
    pub(crate) fn id_text(&self) -> Arc<str> {
        self.id
            .as_ref()
            .map_or_else(|| Arc::from(""), |id| Arc::clone(&id.0))
    }

    /// One that nobody asks for anything, for tests and benches.
    pub(crate) fn named(id: Option<StreamId>) -> Self {
        Self {
            address: id.as_ref().map_or("orders", |id| id.name()).into(),
            id,
            initial: InitialPosition::default(),
            consumer_arn: None,
            stop: CancellationToken::new(),
            events: Announcer::default(),
            doubted: AtomicBool::new(false),
        }
    }

    /// The key of a shard's lease.
    pub(crate) fn key(&self, shard_id: &ShardId) -> ShardId {
        match &self.id {
            Some(id) => id.key(shard_id),
            None => shard_id.clone(),
        }
    }

    /// The same shards under the keys of their leases.
    pub(crate) fn keyed(&self, shards: &ShardMap) -> ShardMap {
        let keyed = |shard: &Shard| Shard {
            id: self.key(&shard.id),
            parent: shard.parent.as_ref().map(|id| self.key(id)),
            adjacent_parent: shard.adjacent_parent.as_ref().map(|id| self.key(id)),
            ..shard.clone()
        };
        ShardMap::new(shards.shards().map(keyed))
    }

    /// A child under the key of its lease.
    pub(crate) fn keyed_child(&self, child: &ChildShard) -> ChildShard {
        ChildShard {
            id: self.key(&child.id),
            parents: child.parents.iter().map(|id| self.key(id)).collect(),
            range: child.range,
        }
    }
}

#[cfg(test)]
mod tests;
