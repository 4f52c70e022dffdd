//! A stream in kinesis-local, a client with faults in front of it, and a reader.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;
use kinesis_core::{Clock, Deaggregated, HashKeyRange, Rand, ShardId, UserRecord, deaggregate};
use kinesis_local::{KinesisLocal, Limits};
use kinesis_producer::{Delivery, Producer, Settings};

use crate::faults::Faulty;

pub(crate) const STREAM: &str = "flights";

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) faults: Faulty,
    _local: KinesisLocal,
}

/// A user record as a KCL consumer reads it.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) shard_id: ShardId,
    pub(crate) sequence_number: String,
    pub(crate) sub_sequence: u64,
    /// The partition key of the Kinesis record.
    pub(crate) envelope: String,
    pub(crate) record: UserRecord,
}

/// What a reader finds in the stream.
pub(crate) struct Readable {
    pub(crate) records: Vec<Read>,
    pub(crate) kinesis_records: usize,
    /// Aggregates that a KCL reader drops whole.
    pub(crate) dropped: usize,
}

impl World {
    /// A stream of `shards` shards.
    pub(crate) async fn new(shards: i32) -> Self {
        let world = Self::without_stream().await;
        world.create_stream(shards).await;
        world
    }

    /// The same with the service's limits per shard.
    pub(crate) async fn with_limits(shards: i32) -> Self {
        let world = Self::start(Limits::Aws).await;
        world.create_stream(shards).await;
        world
    }

    pub(crate) async fn without_stream() -> Self {
        Self::start(Limits::Off).await
    }

    async fn start(limits: Limits) -> Self {
        let clock = Clock::starting_at(1_700_000_000_000);
        let mut settings = kinesis_local::Settings::default();
        settings.limits = limits;
        let local = KinesisLocal::builder()
            .clock(clock)
            .rand(Rand::seeded(7))
            .settings(settings)
            .start()
            .await;
        let local = local.expect("kinesis-local");
        let faults = Faulty::new(local.http_client());
        let config = local
            .sdk_config()
            .to_builder()
            .http_client(faults.clone())
            .build();
        Self {
            client: Client::new(&config),
            faults,
            _local: local,
        }
    }

    pub(crate) async fn create_stream(&self, shards: i32) {
        let create = self
            .client
            .create_stream()
            .stream_name(STREAM)
            .shard_count(shards);
        create.send().await.expect("a stream");
    }

    pub(crate) fn producer(&self, settings: Settings) -> Producer {
        let builder = Producer::builder(self.client.clone(), STREAM).settings(settings);
        builder
            .rand(Rand::seeded(11))
            .build()
            .expect("valid settings")
    }

    pub(crate) async fn split(&self, shard: &str) {
        let listed = self
            .client
            .list_shards()
            .stream_name(STREAM)
            .send()
            .await
            .expect("shards");
        let parent = listed
            .shards()
            .iter()
            .find(|s| s.shard_id() == shard)
            .expect("the parent");
        let range = parent.hash_key_range().expect("a range");
        let bound = |text: &str| text.parse().expect("a hash key");
        let range = HashKeyRange::new(
            bound(range.starting_hash_key()),
            bound(range.ending_hash_key()),
        );
        let middle = range.expect("a range").split_even(2)[1].start();
        let split = self
            .client
            .split_shard()
            .stream_name(STREAM)
            .shard_to_split(shard);
        split
            .new_starting_hash_key(middle.to_string())
            .send()
            .await
            .expect("a split");
    }

    pub(crate) async fn merge(&self, shard: &str, with: &str) {
        let merge = self
            .client
            .merge_shards()
            .stream_name(STREAM)
            .shard_to_merge(shard);
        merge
            .adjacent_shard_to_merge(with)
            .send()
            .await
            .expect("a merge");
    }

    /// Everything in the stream, by the rules of the KCL: an aggregate with a member that is not
    /// the shard's is dropped whole. Parents come before their children.
    pub(crate) async fn read(&self) -> Readable {
        self.read_by(|range| range).await
    }

    /// Everything in the stream, whatever shard it belongs to.
    pub(crate) async fn read_anywhere(&self) -> Readable {
        self.read_by(|_range| HashKeyRange::FULL).await
    }

    async fn read_by(&self, keeps: impl Fn(HashKeyRange) -> HashKeyRange) -> Readable {
        let mut found = Readable {
            records: Vec::new(),
            kinesis_records: 0,
            dropped: 0,
        };
        let listed = self
            .client
            .list_shards()
            .stream_name(STREAM)
            .send()
            .await
            .expect("shards");
        for shard in listed.shards() {
            let range = shard.hash_key_range().expect("a range");
            let bound = |text: &str| text.parse().expect("a hash key");
            let range = HashKeyRange::new(
                bound(range.starting_hash_key()),
                bound(range.ending_hash_key()),
            );
            self.read_shard(shard.shard_id(), keeps(range.expect("a range")), &mut found)
                .await;
        }
        found
    }

    async fn read_shard(&self, shard: &str, range: HashKeyRange, found: &mut Readable) {
        let iterator = self
            .client
            .get_shard_iterator()
            .stream_name(STREAM)
            .shard_id(shard);
        let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
        let mut iterator = iterator.send().await.expect("an iterator").shard_iterator;
        while let Some(from) = iterator.take() {
            // A shard hands out 2 MiB a second where it has limits; the time is virtual.
            let page = loop {
                let page = self.client.get_records().shard_iterator(&from).send().await;
                match page.map_err(|error| error.into_service_error()) {
                    Err(error) if error.is_provisioned_throughput_exceeded_exception() => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    page => break page.expect("records"),
                }
            };
            for record in page.records() {
                found.kinesis_records += 1;
                let data = Bytes::copy_from_slice(record.data().as_ref());
                let members = match deaggregate(&data) {
                    Deaggregated::Damaged { reason, .. } => panic!("a damaged aggregate: {reason}"),
                    Deaggregated::Raw(_) => vec![UserRecord::new(
                        record.partition_key().expect("a key"),
                        data,
                    )],
                    Deaggregated::Members(members)
                        if members
                            .iter()
                            .all(|member| range.contains(member.hash_key())) =>
                    {
                        members
                    }
                    Deaggregated::Members(_) => {
                        found.dropped += 1;
                        continue;
                    }
                };
                found
                    .records
                    .extend(
                        members
                            .into_iter()
                            .zip(0..)
                            .map(|(member, sub_sequence)| Read {
                                shard_id: shard.into(),
                                sequence_number: record.sequence_number().to_owned(),
                                sub_sequence,
                                envelope: record.partition_key().unwrap_or_default().to_owned(),
                                record: member,
                            }),
                    );
            }
            let at_the_tip = page.millis_behind_latest() == Some(0) && page.records().is_empty();
            iterator = page.next_shard_iterator.filter(|_| !at_the_tip);
        }
    }
}

impl Readable {
    /// Fails unless every one of these records stands where its delivery says.
    pub(crate) fn contains_all<'a>(
        &self,
        acknowledged: impl IntoIterator<Item = (&'a UserRecord, &'a Delivery)>,
    ) {
        let places: BTreeMap<_, _> = self
            .records
            .iter()
            .map(|r| {
                (
                    (
                        r.shard_id.clone(),
                        r.sequence_number.clone(),
                        r.sub_sequence,
                    ),
                    &r.record,
                )
            })
            .collect();
        for (record, delivery) in acknowledged {
            let Delivery {
                shard_id,
                sequence_number,
                sub_sequence,
                ..
            } = delivery;
            let place = (shard_id.clone(), sequence_number.to_string(), *sub_sequence);
            let found = places
                .get(&place)
                .unwrap_or_else(|| panic!("nothing readable at {place:?}"));
            assert_eq!(found.data, record.data, "another record at {place:?}");
        }
    }

    /// Fails unless the records of each key appear for the first time in the order of their
    /// numbers.
    pub(crate) fn is_ordered_by_key(&self) {
        let mut seen: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for Read { record, .. } in &self.records {
            let (number, numbers) = (
                number_of(record),
                seen.entry(&record.partition_key).or_default(),
            );
            if !numbers.contains(&number) {
                let newest = numbers.last().copied().unwrap_or(0);
                assert!(
                    numbers.is_empty() || newest < number,
                    "{number} behind {newest}"
                );
                numbers.push(number);
            }
        }
    }
}

/// A record with its number as payload, over 23 keys.
pub(crate) fn numbered(number: u64) -> UserRecord {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(8 + (number % 50) as usize, b'.');
    UserRecord::new(format!("airport-{}", number % 23), data)
}

pub(crate) fn number_of(record: &UserRecord) -> u64 {
    u64::from_be_bytes(record.data[..8].try_into().expect("eight bytes"))
}

/// Enqueues these numbers in order; the records with their outcomes to come.
pub(crate) async fn enqueue(
    producer: &Producer,
    numbers: std::ops::Range<u64>,
) -> Vec<(UserRecord, kinesis_producer::DeliveryFuture)> {
    let mut sent = Vec::new();
    for number in numbers {
        let record = numbered(number);
        sent.push((
            record.clone(),
            producer.enqueue(record).await.expect("accepted"),
        ));
    }
    sent
}

/// Waits for all outcomes; all must be deliveries.
pub(crate) async fn delivered(
    sent: Vec<(UserRecord, kinesis_producer::DeliveryFuture)>,
) -> Vec<(UserRecord, Delivery)> {
    let mut deliveries = Vec::new();
    for (record, outcome) in sent {
        deliveries.push((record, outcome.await.expect("delivered")));
    }
    deliveries
}

pub(crate) fn pairs(
    deliveries: &[(UserRecord, Delivery)],
) -> impl Iterator<Item = (&UserRecord, &Delivery)> {
    deliveries
        .iter()
        .map(|(record, delivery)| (record, delivery))
}
