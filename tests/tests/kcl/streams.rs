//! What an application reads: the world's stream, or that and another one on one lease table.
//!
//! Where there are two, the history knows a shard by the key of its lease, `account:name:epoch:shard`: of the
//! KCL's workers as the KCL says its stream identifiers itself, of ours by [`StreamId`].

use std::collections::BTreeMap;

use kinesis_consumer::{
    ConsumerBuilder, RecordProcessor, Settings, StreamId, StreamSource, Streams, per_stream,
};
use kinesis_core::{ShardId, UserRecord};
use kinesis_local::testing::{TestStream, range};
use kinesis_producer::Producer;
use tests::World;
use tests::history::Event;
use tests::world::STREAM;

use crate::reading::Ranges;

/// The other stream.
pub(super) const ARRIVALS: &str = "arrivals";

/// Which streams a worker reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reads {
    /// The world's, which the keys of the leases do not name.
    One,
    /// Two.
    Two,
}

impl Reads {
    pub(super) fn streams(self) -> &'static [&'static str] {
        match self {
            Self::One => &[STREAM],
            Self::Two => &[STREAM, ARRIVALS],
        }
    }

    /// A worker of ours that reads them. `make` makes a processor for a shard, of this stream if there are two.
    pub(super) fn ours<P: RecordProcessor + 'static>(
        self,
        world: &World,
        application: &str,
        name: &str,
        settings: Settings,
        make: impl Fn(Option<&StreamId>, &ShardId) -> P + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        match self {
            Self::One => {
                let factory = move |shard: &ShardId| make(None, shard);
                world.builder(application, name, settings, factory)
            }
            Self::Two => {
                let sources = self.streams().iter().map(StreamSource::new);
                let streams = Streams::new(sources).expect("two streams");
                let factory =
                    per_stream(move |stream: &StreamId, shard: &ShardId| make(Some(stream), shard));
                world.builder_of_several(application, &streams, name, settings, factory)
            }
        }
    }
}

/// How the history knows a shard of `stream`, if there are several.
pub(super) fn key(stream: Option<&StreamId>, shard: &ShardId) -> ShardId {
    stream.map_or_else(|| shard.clone(), |stream| in_stream(stream.as_str(), shard))
}

fn in_stream(identifier: &str, shard: &ShardId) -> ShardId {
    format!("{identifier}:{shard}").into()
}

/// The streams by what a multi-stream KCL is to be told of them: account, name and second of creation.
pub(super) type Identifiers = BTreeMap<&'static str, String>;

pub(super) async fn identifiers(world: &World, reads: Reads) -> Identifiers {
    let mut identifiers = Identifiers::new();
    for name in reads.streams() {
        let stream = TestStream::named(&world.local, name).summary().await;
        let account = stream.stream_arn().split(':').nth(4).expect("an account");
        let second = stream.stream_creation_timestamp().secs();
        identifiers.insert(name, format!("{account}:{name}:{second}"));
    }
    identifiers
}

/// What a worker of one stream saw, as one of several would tell it.
pub(super) fn keyed(mut event: Event, identifier: &str) -> Event {
    let (Event::Started { shard, .. }
    | Event::Delivered { shard, .. }
    | Event::Checkpointed { shard, .. }
    | Event::Ended { shard }
    | Event::LeaseLost { shard, .. }) = &mut event;
    if !shard.as_str().contains(':') {
        *shard = in_stream(identifier, shard);
    }
    event
}

/// The parents of every shard, as the history knows them: by these identifiers, or by themselves.
pub(super) async fn parents(
    world: &World,
    identifiers: Option<&Identifiers>,
) -> BTreeMap<ShardId, Vec<ShardId>> {
    let Some(identifiers) = identifiers else {
        return world.parents().await;
    };
    let mut parents = BTreeMap::new();
    for (name, identifier) in identifiers {
        let shards = TestStream::named(&world.local, name).shards().await;
        parents.extend(shards.iter().map(|shard| {
            let of = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            let of = of
                .into_iter()
                .flatten()
                .map(|id| in_stream(identifier, &id.into()));
            (
                in_stream(identifier, &shard.shard_id().into()),
                of.collect(),
            )
        }));
    }
    parents
}

/// A producer on one of the streams.
pub(super) fn producer(world: &World, stream: &str) -> Producer {
    let producer = Producer::builder(world.kinesis.clone(), stream);
    producer.build().expect("default settings are valid")
}

/// A numbered record for one of the streams: those of each have keys of their own.
pub(super) fn of_stream(stream: &str, record: UserRecord) -> UserRecord {
    if stream == STREAM {
        return record;
    }
    let text = String::from_utf8_lossy(&record.data);
    let key = format!("{stream}-{}", record.partition_key);
    UserRecord::new(key, format!("{stream}-{text}"))
}

/// The hash keys of every shard, as the history knows them.
pub(super) async fn ranges(world: &World, reads: Reads) -> Ranges {
    let identifiers = identifiers(world, reads).await;
    let mut ranges = Ranges::new();
    for (name, identifier) in &identifiers {
        for shard in TestStream::named(&world.local, name).shards().await {
            let id = ShardId::from(shard.shard_id());
            let id = match reads {
                Reads::One => id,
                Reads::Two => in_stream(identifier, &id),
            };
            ranges.insert(id, range(&shard));
        }
    }
    ranges
}
