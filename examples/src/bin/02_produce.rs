//! 2. The producer.
//!
//! What one learns: `send` takes a record and ends when the stream has it, with the place where it
//! is. Behind that, many records become few requests: those for one shard are packed into one
//! Kinesis record (a KPL aggregate), those for many shards into one request, and what the stream
//! refuses is sent again. `enqueue` waits only until the producer has taken the record, which is how
//! a program sends fast and in order.
//!
//! What one sees: a thousand flights in a handful of Kinesis records.
//!
//! `cargo run -p examples --bin 02_produce`

use std::collections::BTreeMap;

use aws_sdk_kinesis::Client;
use examples::flights;
use kinesis_consumer::BoxError;
use kinesis_local::KinesisLocal;
use kinesis_producer::{Producer, UserRecord};

const STREAM: &str = "flights";

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let local = KinesisLocal::builder().start().await?;
    let kinesis = Client::new(&local.sdk_config());
    kinesis
        .create_stream()
        .stream_name(STREAM)
        .shard_count(2)
        .send()
        .await?;

    let producer = Producer::builder(kinesis, STREAM).build()?;

    // One record, and where it went.
    let delivery = producer.send(UserRecord::new("JFK", "the first")).await?;
    println!(
        "one record is in {} at {}",
        delivery.shard_id, delivery.sequence_number
    );

    // Many records: hand them over in order, then look at the outcomes.
    let mut outcomes = Vec::new();
    for flight in flights::load().into_iter().take(1_000) {
        let data = serde_json::to_vec(&flight)?;
        outcomes.push(
            producer
                .enqueue(UserRecord::new(flight.origin, data))
                .await?,
        );
    }
    let mut flights_in = BTreeMap::<_, u32>::new();
    for outcome in outcomes {
        let delivery = outcome.await?;
        *flights_in
            .entry((delivery.shard_id, delivery.sequence_number))
            .or_default() += 1;
    }
    println!(
        "{} flights are in {} Kinesis records:",
        1_000,
        flights_in.len()
    );
    for ((shard, _), flights) in &flights_in {
        println!("  {shard}  {flights:>4} flights");
    }

    // A record that the stream could never take is refused at once, and given back.
    if let Err(error) = producer.send(UserRecord::new("", "no partition key")).await {
        println!("refused, {:?}: {error}", error.kind());
    }
    local.shutdown().await;
    Ok(())
}
