//! 3. The consumer.
//!
//! What one learns: a record processor is what an application writes: it gets the records of one
//! shard, in order, one by one whether they came in aggregates or not, and says with a checkpoint
//! how far it is. Leases in a DynamoDB table say which worker has which shard. A worker that comes
//! later, or after a crash, goes on from the checkpoints.
//!
//! What one sees: a first worker that processes a thousand flights, and a second that begins where
//! the first one stopped.
//!
//! `cargo run -p examples --bin 03_consume`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_types::SdkConfig;
use examples::flights::{self, Flight};
use kinesis_consumer::{
    BoxError, Checkpointer, Consumer, InitializeInput, ProcessRecordsInput, ProcessorError,
    RecordProcessor, Settings, ShardId,
};
use kinesis_local::KinesisLocal;
use kinesis_producer::{Producer, UserRecord};
use tokio_util::sync::CancellationToken;

const STREAM: &str = "flights";

/// Counts flights. There is one processor for each shard; they share the count.
struct Counter {
    flights: Arc<AtomicUsize>,
}

#[async_trait]
impl RecordProcessor for Counter {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        let from = match input.position.is_sentinel() {
            true => "the beginning",
            false => "its checkpoint",
        };
        println!("  {} from {from}", input.shard_id);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        self.flights
            .fetch_add(input.records.len(), Ordering::Relaxed);
        // What is not checkpointed is delivered again after a crash; what is, never.
        input.checkpointer.checkpoint().await?;
        Ok(())
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        Ok(()) // Every batch was checkpointed when it came.
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let local = KinesisLocal::builder().start().await?;
    let config = local.sdk_config();
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    kinesis
        .create_stream()
        .stream_name(STREAM)
        .shard_count(2)
        .send()
        .await?;
    let producer = Producer::builder(kinesis, STREAM).build()?;

    let flights = flights::load();
    for (worker, batch) in flights.chunks(1_000).take(2).enumerate() {
        send(&producer, batch).await?;
        println!("worker {} starts", worker + 1);
        let processed = work_until(&config, batch.len()).await?;
        println!(
            "worker {} has processed {processed} flights and stops",
            worker + 1
        );
    }
    local.shutdown().await;
    Ok(())
}

async fn send(producer: &Producer, flights: &[Flight]) -> Result<(), BoxError> {
    for flight in flights {
        let record = UserRecord::new(flight.origin.as_str(), serde_json::to_vec(flight)?);
        drop(producer.enqueue(record).await?);
    }
    producer.flush().await;
    Ok(())
}

/// Runs a worker until it has processed so many flights.
async fn work_until(config: &SdkConfig, enough: usize) -> Result<usize, BoxError> {
    let flights = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&flights);
    let consumer = Consumer::builder(
        "counter", // The application: workers with this name share the stream.
        STREAM,
        aws_sdk_kinesis::Client::new(config),
        aws_sdk_dynamodb::Client::new(config),
        move |_: &ShardId| Counter {
            flights: Arc::clone(&counter),
        },
    )
    .settings(Settings {
        idle_time_between_reads: Duration::from_millis(200),
        ..Settings::default()
    })
    .build()?;

    let shutdown = CancellationToken::new();
    let worker = tokio::spawn(consumer.run(shutdown.clone()));
    while flights.load(Ordering::Relaxed) < enough && !worker.is_finished() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    worker.await??;
    Ok(flights.load(Ordering::Relaxed))
}
