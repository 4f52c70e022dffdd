//! What tests on a stream have in common: one that is ready, records in it, waiting, reading all back.
//!
//! ```
//! use kinesis_local::testing::TestStream;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let stream = TestStream::start(1).await;
//! let sent = stream.seed(100, 7).await;
//! stream.split("shardId-000000000000").await;
//! stream.put("JFK", "after the split").await;
//!
//! let stored = stream.read_all().await;
//! assert_eq!(stored.len(), 101);
//! assert_eq!(stored[0].data, sent[0].data);
//! assert_eq!(stored[100].partition_key, "JFK");
//! # }
//! ```
//!
//! Promises: the same calls give the same records, keys and shards; whatever waits gives up after
//! [`ATTEMPTS`] looks, [`PAUSE`] apart on the instance's clock, and says what it waited for. Works
//! under paused time and on the system's clock.
//!
//! Everything here panics where a test would: it is made for tests and nothing else. Feature
//! `testing`.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::{Blob, DateTime};
use aws_sdk_kinesis::types::{
    ConsumerStatus, PutRecordsRequestEntry, Shard, ShardIteratorType, StreamDescriptionSummary,
    StreamStatus,
};
use bytes::Bytes;
use kinesis_core::limits::PUT_RECORDS_MAX_RECORDS;
use kinesis_core::{Clock, HashKeyRange, Rand, SequenceNumber, ShardId};

use crate::limits::Limits;
use crate::local::KinesisLocal;

/// Wall time at the start of an instance that is made here: 2026-01-01T00:00:00Z, in milliseconds
/// since the Unix epoch.
pub const START_MS: u64 = 1_767_225_600_000;

/// How often a wait looks before it gives up: with the pause, an hour of (usually virtual) time.
/// Source: none, longer than any delay that can be set.
pub const ATTEMPTS: u32 = 36_000;

/// Between two looks.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Partition keys of seeded records. Source: none; enough for every shard of a small stream.
const SEED_KEYS: u64 = 23;

/// Longest payload of a seeded record, in bytes. Source: none, small.
const SEED_DATA_MAX_BYTES: u64 = 100;

/// A stream that is ACTIVE, and a client for it.
#[derive(Clone, Debug)]
pub struct TestStream {
    local: KinesisLocal,
    client: Client,
    name: String,
}

/// A record as it was put.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// Its partition key.
    pub partition_key: String,
    /// Its payload.
    pub data: Bytes,
}

/// A record as it stands in a shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The shard it is in.
    pub shard_id: ShardId,
    /// Its number there.
    pub sequence_number: SequenceNumber,
    /// Its partition key.
    pub partition_key: String,
    /// Its payload.
    pub data: Bytes,
    /// When the service took it: milliseconds since the Unix epoch.
    pub arrived_millis: u64,
}

/// Looks at a stream until something has come.
struct Looks<'a> {
    stream: &'a TestStream,
    what: &'a str,
    left: u32,
}

impl Looks<'_> {
    /// Until the next look.
    async fn pause(&mut self) {
        let (what, name) = (self.what, &self.stream.name);
        assert!(
            self.left > 0,
            "{ATTEMPTS} looks at the stream {name}, and never: {what}"
        );
        self.left -= 1;
        self.stream.local.clock().sleep(PAUSE).await;
    }
}

impl TestStream {
    /// A stream named `stream` in an instance of its own: in memory, in process, from a fixed seed,
    /// its wall clock at [`START_MS`] and following tokio's, and nothing limited per second.
    pub async fn start(shards: i32) -> Self {
        let builder = KinesisLocal::builder()
            .clock(Clock::starting_at(START_MS))
            .rand(Rand::seeded(1))
            .limits(Limits::Off);
        let local = builder.start().await.expect("kinesis-local starts");
        Self::create(&local, "stream", shards).await
    }

    /// A new stream in an instance that runs.
    pub async fn create(local: &KinesisLocal, name: &str, shards: i32) -> Self {
        let stream = Self::named(local, name);
        let create = stream.client.create_stream().stream_name(name);
        let created = create.shard_count(shards).send().await;
        created.expect("the stream is created");
        stream.until_active().await;
        stream
    }

    /// A stream that is there already, or will be.
    #[must_use]
    pub fn named(local: &KinesisLocal, name: &str) -> Self {
        Self {
            local: local.clone(),
            client: Client::new(&local.sdk_config()),
            name: name.to_owned(),
        }
    }

    /// The instance.
    #[must_use]
    pub fn local(&self) -> &KinesisLocal {
        &self.local
    }

    /// An SDK client for it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The stream's ARN.
    pub async fn arn(&self) -> String {
        self.summary().await.stream_arn
    }

    /// What DescribeStreamSummary tells.
    pub async fn summary(&self) -> StreamDescriptionSummary {
        let describe = self.client.describe_stream_summary();
        let described = describe.stream_name(&self.name).send().await;
        let summary = described.expect("the stream is there");
        summary.stream_description_summary.expect("a summary")
    }

    /// Puts one record; its number.
    pub async fn put(&self, partition_key: &str, data: impl Into<Vec<u8>>) -> SequenceNumber {
        let put = self.client.put_record().stream_name(&self.name);
        let put = put.partition_key(partition_key).data(Blob::new(data));
        let number = put
            .send()
            .await
            .expect("the record is taken")
            .sequence_number;
        SequenceNumber::try_from(&*number).expect("a number")
    }

    /// Puts so many records over 23 keys, the same for the same seed; those of a key in their order
    /// unless some are throttled, which are put again.
    pub async fn seed(&self, records: usize, seed: u64) -> Vec<Sent> {
        let rand = Rand::seeded(seed);
        let sent: Vec<Sent> = (0..records).map(|_| seeded(&rand)).collect();
        for batch in sent.chunks(PUT_RECORDS_MAX_RECORDS) {
            self.put_all(batch).await;
        }
        sent
    }

    /// Puts these records, at most 500.
    async fn put_all(&self, records: &[Sent]) {
        let mut left: Vec<&Sent> = records.iter().collect();
        let entry = |sent: &&Sent| {
            let entry = PutRecordsRequestEntry::builder().partition_key(&sent.partition_key);
            let entry = entry.data(Blob::new(&sent.data[..]));
            entry.build().expect("a whole entry")
        };
        let mut looks = self.looks("every record is taken");
        loop {
            let put = self.client.put_records().stream_name(&self.name);
            let put = put.set_records(Some(left.iter().map(entry).collect()));
            let answer = put.send().await.expect("the records are taken");
            let mut entries = answer.records().iter();
            left.retain(|_| {
                entries
                    .next()
                    .is_none_or(|entry| entry.error_code.is_some())
            });
            if left.is_empty() {
                return;
            }
            looks.pause().await;
        }
    }

    /// All shards, open and closed, parents before their children.
    pub async fn shards(&self) -> Vec<Shard> {
        let mut shards = Vec::new();
        let mut next = None;
        loop {
            let list = self.client.list_shards();
            let list = match next {
                Some(token) => list.next_token(token),
                None => list.stream_name(&self.name),
            };
            let listed = list.send().await.expect("the shards are listed");
            shards.extend(listed.shards.unwrap_or_default());
            next = listed.next_token;
            if next.is_none() {
                return shards;
            }
        }
    }

    /// The shards that take records, in the order of their hash keys.
    pub async fn open_shards(&self) -> Vec<Shard> {
        let mut shards = self.shards().await;
        shards.retain(|shard| !is_closed(shard));
        shards.sort_by_key(|shard| range(shard).start());
        shards
    }

    /// Splits a shard in the middle and waits until the stream is ACTIVE.
    pub async fn split(&self, shard_id: &str) {
        let shards = self.shards().await;
        let shard = shards.iter().find(|shard| shard.shard_id == shard_id);
        let middle = range(shard.expect("the shard is there")).split_even(2)[1].start();
        let split = self.client.split_shard().stream_name(&self.name);
        let split = split
            .shard_to_split(shard_id)
            .new_starting_hash_key(middle.to_string());
        split.send().await.expect("the shard is split");
        self.until_active().await;
    }

    /// Merges a shard with an adjacent one and waits until the stream is ACTIVE.
    pub async fn merge(&self, shard_id: &str, adjacent: &str) {
        let merge = self.client.merge_shards().stream_name(&self.name);
        let merge = merge
            .shard_to_merge(shard_id)
            .adjacent_shard_to_merge(adjacent);
        merge.send().await.expect("the shards are merged");
        self.until_active().await;
    }

    /// Registers a consumer for fan-out and waits until it is ACTIVE; its ARN.
    pub async fn register_consumer(&self, name: &str) -> String {
        let register = self.client.register_stream_consumer();
        let register = register.stream_arn(self.arn().await).consumer_name(name);
        let registered = register.send().await.expect("the consumer is registered");
        let arn = registered.consumer.expect("a consumer").consumer_arn;
        self.until_consumer_active(&arn).await;
        arn
    }

    /// Waits until the stream is ACTIVE.
    pub async fn until_active(&self) {
        let mut looks = self.looks("the stream is ACTIVE");
        while self.summary().await.stream_status != StreamStatus::Active {
            looks.pause().await;
        }
    }

    /// Waits until a consumer is ACTIVE.
    pub async fn until_consumer_active(&self, consumer_arn: &str) {
        let mut looks = self.looks("the consumer is ACTIVE");
        loop {
            let describe = self.client.describe_stream_consumer();
            let described = describe.consumer_arn(consumer_arn).send().await;
            let described = described.expect("the consumer is there");
            let description = described.consumer_description.expect("a description");
            if description.consumer_status == ConsumerStatus::Active {
                return;
            }
            looks.pause().await;
        }
    }

    /// Waits until a shard takes no more records: a split or merge closed it.
    pub async fn until_closed(&self, shard_id: &str) {
        let mut looks = self.looks("the shard is closed");
        let closed = |shard: &Shard| shard.shard_id == shard_id && is_closed(shard);
        while !self.shards().await.iter().any(closed) {
            looks.pause().await;
        }
    }

    /// Waits until so many records can be read, and gives all there are.
    pub async fn until_records(&self, records: usize) -> Vec<Stored> {
        let mut looks = self.looks("as many records can be read");
        loop {
            let stored = self.read_all().await;
            if stored.len() >= records {
                return stored;
            }
            looks.pause().await;
        }
    }

    /// Waits until `done`.
    ///
    /// # Panics
    /// After [`ATTEMPTS`] looks, saying `what` did not come.
    pub async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        let mut looks = self.looks(what);
        while !done().await {
            looks.pause().await;
        }
    }

    fn looks<'a>(&'a self, what: &'a str) -> Looks<'a> {
        Looks {
            stream: self,
            what,
            left: ATTEMPTS,
        }
    }

    /// Every record that is in the stream now: those of a shard in their order, and of parents
    /// before those of their children.
    pub async fn read_all(&self) -> Vec<Stored> {
        let mut stored = Vec::new();
        for shard in self.shards().await {
            stored.extend(self.read_shard(&shard.shard_id).await);
        }
        stored
    }

    /// Every record that is in a shard now, in its order.
    pub async fn read_shard(&self, shard_id: &str) -> Vec<Stored> {
        let iterator = self.client.get_shard_iterator().stream_name(&self.name);
        let iterator = iterator
            .shard_id(shard_id)
            .shard_iterator_type(ShardIteratorType::TrimHorizon);
        let mut next = iterator.send().await.expect("an iterator").shard_iterator;
        let mut stored = Vec::new();
        while let Some(iterator) = next.take() {
            let get = self.client.get_records().shard_iterator(iterator);
            let got = get.send().await.expect("the shard is read");
            let tip = got.records.is_empty() && got.millis_behind_latest == Some(0);
            next = got.next_shard_iterator.filter(|_| !tip);
            stored.extend(got.records.into_iter().map(|record| Stored {
                shard_id: ShardId::from(shard_id),
                sequence_number:
                    SequenceNumber::try_from(&*record.sequence_number).expect("a number"),
                partition_key: record.partition_key.unwrap_or_default(),
                data: record.data.into_inner().into(),
                arrived_millis: arrival(record.approximate_arrival_timestamp),
            }));
        }
        stored
    }
}

fn arrival(told: Option<DateTime>) -> u64 {
    let millis = told.expect("a time of arrival").to_millis();
    let millis = millis.expect("a time of this age");
    millis.try_into().expect("a time since 1970")
}

fn is_closed(shard: &Shard) -> bool {
    let numbers = shard.sequence_number_range.as_ref();
    numbers.is_some_and(|numbers| numbers.ending_sequence_number.is_some())
}

/// The hash keys of a shard.
///
/// # Panics
/// It has none.
#[must_use]
pub fn range(shard: &Shard) -> HashKeyRange {
    let keys = shard.hash_key_range().expect("a shard has a range");
    let bound = |text: &str| text.parse().expect("a hash key");
    HashKeyRange::new(
        bound(keys.starting_hash_key()),
        bound(keys.ending_hash_key()),
    )
    .expect("a range")
}

fn seeded(rand: &Rand) -> Sent {
    let length = 1 + rand.below(SEED_DATA_MAX_BYTES);
    Sent {
        partition_key: format!("key-{}", rand.below(SEED_KEYS)),
        data: (0..length).map(|_| rand.below(256) as u8).collect(),
    }
}
