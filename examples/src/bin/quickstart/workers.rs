//! The workers: consumers of one application that share the stream's shards, each shard with an S3
//! sink that is watched.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use examples::flights::NumberedFlight;
use kinesis_consumer::sink::{S3Sink, S3SinkSettings};
use kinesis_consumer::{
    BoxError, Checkpointer, Consumer, Error, InitializeInput, LeaseSettings, ProcessRecordsInput,
    ProcessorError, RecordProcessor, RecordProcessorFactory, Settings, ShardId,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::LOOK_EVERY;
use crate::place::{BUCKET, Place, STREAM};
use crate::tally::Tally;

/// The application's name, which is also the lease table's.
const APPLICATION: &str = "quickstart";

/// Records of one object: small, so that there are objects to look at.
/// Source: none, reasonable default.
const OBJECT_RECORDS: usize = 2_000;

/// How long a record waits for its object. Source: none, short enough to watch.
const OBJECT_AGE: Duration = Duration::from_secs(1);

/// How long the workers get to share the shards before the flights begin; they go on sharing.
/// Source: none, a little more than the failover time, for leases that a killed run left behind.
const SHARED_WITHIN: Duration = Duration::from_secs(5);

/// The workers of this process.
#[derive(Debug)]
pub(crate) struct Workers {
    sink: S3Sink,
    running: JoinSet<Result<(), Error>>,
    shutdown: CancellationToken,
}

impl Workers {
    pub(crate) fn start(place: &Place, count: u32, tally: &Arc<Tally>) -> Result<Self, BoxError> {
        let settings = S3SinkSettings {
            max_batch_records: OBJECT_RECORDS,
            max_batch_age: OBJECT_AGE,
            ..S3SinkSettings::default()
        };
        let sink = S3Sink::builder(place.s3.clone(), BUCKET)
            .settings(settings)
            .build()?;
        let shutdown = CancellationToken::new();
        let mut running = JoinSet::new();
        for worker in 1..=count {
            let factory = WatchedSink {
                sink: sink.clone(),
                worker,
                tally: Arc::clone(tally),
            };
            let (kinesis, dynamodb) = (place.kinesis.clone(), place.dynamodb.clone());
            let consumer = Consumer::builder(APPLICATION, STREAM, kinesis, dynamodb, factory)
                .worker_id(format!("worker-{worker}"))
                .settings(quick())
                .build()?;
            running.spawn(consumer.run(shutdown.clone()));
        }
        Ok(Self {
            sink,
            running,
            shutdown,
        })
    }

    /// Waits until every worker has a share of the shards, at most a few seconds: on a stream that
    /// was there before, the first worker may take all leases and then hand some over.
    pub(crate) async fn share(&mut self, shards: usize, tally: &Tally) -> Result<(), BoxError> {
        let began = tally.now();
        let holders = self.running.len().min(shards);
        while tally.holders() < holders && tally.now() - began < SHARED_WITHIN {
            self.still_run().await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Records stored by this process so far.
    pub(crate) fn stored(&self) -> u64 {
        self.sink.stored().records
    }

    /// Fails if a worker has ended although nobody asked it to.
    pub(crate) async fn still_run(&mut self) -> Result<(), BoxError> {
        match self.running.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended??;
                Err("a worker ended before its time".into())
            }
        }
    }

    /// Ends all workers in order: buffers are stored, checkpoints written, leases released.
    pub(crate) async fn stop(&mut self) -> Result<(), BoxError> {
        self.shutdown.cancel();
        while let Some(ended) = self.running.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Settings for a stream in the same process, where a request costs nothing.
fn quick() -> Settings {
    Settings {
        idle_time_between_reads: Duration::from_millis(200),
        lease: LeaseSettings {
            failover_time: Duration::from_secs(3),
            lease_assignment_interval: Duration::from_millis(100),
            lease_discovery_interval: Duration::from_millis(100),
            ..LeaseSettings::default()
        },
        ..Settings::default()
    }
}

/// Makes the sink's processors, and watches them.
struct WatchedSink {
    sink: S3Sink,
    worker: u32,
    tally: Arc<Tally>,
}

impl RecordProcessorFactory for WatchedSink {
    fn create(&self, shard_id: &ShardId) -> Box<dyn RecordProcessor> {
        Box::new(Watched {
            processor: self.sink.create(shard_id),
            worker: self.worker,
            tally: Arc::clone(&self.tally),
        })
    }
}

/// A processor around another: it counts what comes and hands everything on.
struct Watched {
    processor: Box<dyn RecordProcessor>,
    worker: u32,
    tally: Arc<Tally>,
}

#[async_trait]
impl RecordProcessor for Watched {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        self.tally.hold(self.worker, 1);
        self.processor.initialize(input).await
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let flights: Result<Vec<NumberedFlight>, _> = input
            .records
            .iter()
            .map(|record| serde_json::from_slice(&record.data))
            .collect();
        self.tally
            .process(self.worker, &flights.map_err(ProcessorError::fatal)?);
        self.processor.process_records(input).await
    }

    async fn lease_lost(&mut self) {
        self.tally.hold(self.worker, -1);
        self.processor.lease_lost().await;
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        self.processor.shard_ended(checkpointer).await?;
        self.tally.hold(self.worker, -1);
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.processor.shutdown_requested(checkpointer).await?;
        self.tally.hold(self.worker, -1);
        Ok(())
    }
}
