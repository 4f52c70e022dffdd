//! The traffic: every flight into the stream, keyed by the airport it leaves, and a split of the
//! busiest shard when half of them are on their way.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use aws_sdk_kinesis::types::Shard;
use examples::flights::NumberedFlight;
use futures::{StreamExt, stream};
use kinesis_consumer::BoxError;
use kinesis_core::{HashKey, HashKeyRange, SequenceNumber, ShardId};
use kinesis_producer::{DeliveryFuture, Producer, UserRecord};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::place::{Place, STREAM};
use crate::tally::Tally;

/// Flights on their way whose outcome is waited for, and as many that wait for their turn.
/// Source: none, reasonable default; the producer has its own bounds.
const OUTCOMES_MAX: usize = 50_000;

/// What the stream took.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Kinesis records that held more than one flight.
    pub(crate) aggregates: usize,
    /// Flights that the producer sent more than once, because an answer or a split said so.
    pub(crate) sent_again: u64,
    /// The shard that was split.
    pub(crate) split: Option<ShardId>,
}

/// Begins to send. The handle ends when every flight has an outcome.
pub(crate) fn start(
    place: &Place,
    flights: &[NumberedFlight],
    tally: &Arc<Tally>,
) -> Result<JoinHandle<Result<Traffic, BoxError>>, BoxError> {
    let sender = Sender {
        producer: Producer::builder(place.kinesis.clone(), STREAM).build()?,
        kinesis: place.kinesis.clone(),
        flights: flights.to_vec(),
        tally: Arc::clone(tally),
    };
    let tally = Arc::clone(tally);
    let (outcomes, arrived) = mpsc::channel(OUTCOMES_MAX);
    Ok(tokio::spawn(async move {
        let (split, mut traffic) = tokio::join!(sender.send(outcomes), collect(arrived, &tally));
        traffic.split = Some(split?);
        Ok(traffic)
    }))
}

/// Puts the flights into the stream.
struct Sender {
    producer: Producer,
    kinesis: aws_sdk_kinesis::Client,
    flights: Vec<NumberedFlight>,
    tally: Arc<Tally>,
}

impl Sender {
    /// Hands every flight to the producer, in order: records of one key keep the order of these
    /// calls, through the split too. Returns the shard that was split.
    async fn send(self, outcomes: mpsc::Sender<DeliveryFuture>) -> Result<ShardId, BoxError> {
        let (first, second) = self.flights.split_at(self.flights.len() / 2);
        self.send_all(first, &outcomes).await?;
        // The producer learns of it from the answers to the flights that are on their way.
        let split = self.split_busiest().await?;
        self.send_all(second, &outcomes).await?;
        self.producer.flush().await;
        Ok(split)
    }

    async fn send_all(
        &self,
        flights: &[NumberedFlight],
        outcomes: &mpsc::Sender<DeliveryFuture>,
    ) -> Result<(), BoxError> {
        for flight in flights {
            let record =
                UserRecord::new(flight.flight.origin.as_str(), serde_json::to_vec(flight)?);
            self.tally.send(flight);
            outcomes.send(self.producer.enqueue(record).await?).await?;
        }
        Ok(())
    }

    /// Splits the shard that most flights go to in the middle of its keys.
    async fn split_busiest(&self) -> Result<ShardId, BoxError> {
        let flights_by_key = count_by_key(&self.flights);
        let listed = self
            .kinesis
            .list_shards()
            .stream_name(STREAM)
            .send()
            .await?;
        let busiest = listed
            .shards()
            .iter()
            .filter(|shard| is_open(shard))
            .filter_map(|shard| Some((range(shard)?, shard)))
            .max_by_key(|(range, _)| {
                let keys = flights_by_key
                    .iter()
                    .filter(|(key, _)| range.contains(**key));
                keys.map(|(_, flights)| flights).sum::<u64>()
            });
        let (range, shard) = busiest.ok_or("the stream has no open shard")?;
        let middle = HashKey(range.start().0 + (range.end().0 - range.start().0) / 2 + 1);
        self.kinesis
            .split_shard()
            .stream_name(STREAM)
            .shard_to_split(shard.shard_id())
            .new_starting_hash_key(middle.to_string())
            .send()
            .await?;
        Ok(ShardId::from(shard.shard_id()))
    }
}

/// Looks at the outcome of every flight, in the order in which they come.
async fn collect(arrived: mpsc::Receiver<DeliveryFuture>, tally: &Tally) -> Traffic {
    let mut traffic = Traffic::default();
    let mut members = HashMap::<(ShardId, SequenceNumber), u64>::new();
    let outcomes = stream::unfold(arrived, async |mut arrived| {
        let outcome = arrived.recv().await?;
        Some((outcome, arrived))
    });
    let mut outcomes = pin!(outcomes.buffer_unordered(OUTCOMES_MAX));
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(delivery) => {
                traffic.sent_again += u64::from(delivery.attempts > 1);
                *members
                    .entry((delivery.shard_id, delivery.sequence_number))
                    .or_default() += 1;
                tally.deliver();
            }
            Err(error) => {
                tracing::error!(%error, "a flight is not in the stream");
                tally.fail();
            }
        }
    }
    traffic.aggregates = members.values().filter(|members| **members > 1).count();
    traffic
}

pub(crate) fn is_open(shard: &Shard) -> bool {
    shard
        .sequence_number_range()
        .is_some_and(|range| range.ending_sequence_number().is_none())
}

fn range(shard: &Shard) -> Option<HashKeyRange> {
    let range = shard.hash_key_range()?;
    let start = range.starting_hash_key().parse().ok()?;
    HashKeyRange::new(start, range.ending_hash_key().parse().ok()?)
}

fn count_by_key(flights: &[NumberedFlight]) -> HashMap<HashKey, u64> {
    let mut flights_by_key = HashMap::new();
    for flight in flights {
        let key = HashKey::of_partition_key(&flight.flight.origin);
        *flights_by_key.entry(key).or_default() += 1;
    }
    flights_by_key
}
