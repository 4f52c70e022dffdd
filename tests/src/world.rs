//! A stream in this process, and workers on it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::FutureExt;
use kinesis_consumer::{
    Consumer, ConsumerBuilder, Event, Events, RecordProcessorFactory, Settings, ShardId, Streams,
};
use kinesis_core::{Clock, Rand};
use kinesis_local::testing::{START_MS, TestStream};
use kinesis_local::{KinesisLocal, Limits, Tls};
use kinesis_producer::Producer;
use tokio::task::{JoinHandle, unconstrained};
use tokio_util::sync::CancellationToken;

use crate::History;

/// The stream every world has.
pub const STREAM: &str = "flights";
/// The application that every worker belongs to, and so the lease table's name.
pub const APPLICATION: &str = "board";

/// A kinesis-local of its own with one stream, and the SDK clients to reach it.
#[derive(Debug)]
pub struct World {
    /// The services.
    pub local: KinesisLocal,
    /// Kinesis.
    pub kinesis: aws_sdk_kinesis::Client,
    /// DynamoDB.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// S3.
    pub s3: aws_sdk_s3::Client,
    /// The stream.
    pub stream: TestStream,
    /// The clock of everything in it.
    clock: Clock,
}

impl World {
    /// A world whose stream has `shards` shards, in memory, in process, from a fixed seed. Its
    /// wall clock follows tokio's, so it obeys paused time.
    pub async fn start(shards: i32) -> Self {
        let clock = Clock::starting_at(START_MS);
        let local = KinesisLocal::builder()
            .clock(clock.clone())
            .rand(Rand::seeded(1))
            .limits(Limits::Off)
            .start()
            .await
            .expect("kinesis-local starts");
        Self::with_stream(local, clock, shards).await
    }

    /// A world that also listens on a socket of this machine and goes by the system's clock, for
    /// readers in processes of their own.
    pub async fn listening(shards: i32) -> Self {
        let local = KinesisLocal::builder()
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .rand(Rand::seeded(1))
            .limits(Limits::Off)
            .start()
            .await
            .expect("kinesis-local starts");
        Self::with_stream(local, Clock::system(), shards).await
    }

    /// As [`World::listening`], with TLS beside plain HTTP, by a certificate of its own.
    pub async fn listening_with_tls(shards: i32) -> Self {
        let local = KinesisLocal::builder()
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .tls(Tls::Own)
            .rand(Rand::seeded(1))
            .limits(Limits::Off)
            .start()
            .await
            .expect("kinesis-local starts");
        Self::with_stream(local, Clock::system(), shards).await
    }

    async fn with_stream(local: KinesisLocal, clock: Clock, shards: i32) -> Self {
        let config = local.sdk_config();
        Self {
            stream: TestStream::create(&local, STREAM, shards).await,
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            s3: aws_sdk_s3::Client::new(&config),
            local,
            clock,
        }
    }

    /// The parents of every shard of the stream.
    pub async fn parents(&self) -> BTreeMap<ShardId, Vec<ShardId>> {
        let of = |shard: &aws_sdk_kinesis::types::Shard| {
            let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            let parents = parents.into_iter().flatten().map(ShardId::from).collect();
            (ShardId::from(shard.shard_id()), parents)
        };
        self.stream.shards().await.iter().map(of).collect()
    }

    /// A producer on the stream, with default settings.
    pub fn producer(&self) -> Producer {
        Producer::builder(self.kinesis.clone(), STREAM)
            .build()
            .expect("default settings are valid")
    }

    /// Starts a worker that writes what it sees into `history`.
    pub fn worker(&self, name: &str, history: &History) -> Worker {
        let (worker, history) = (name.to_owned(), history.clone());
        self.worker_with(name, Settings::default(), move |_: &ShardId| {
            history.processor(&worker)
        })
    }

    /// Starts a worker with settings and processors of its own.
    pub fn worker_with(
        &self,
        name: &str,
        settings: Settings,
        factory: impl RecordProcessorFactory + 'static,
    ) -> Worker {
        self.worker_of(APPLICATION, name, settings, factory)
    }

    /// Starts a worker of any application.
    pub fn worker_of(
        &self,
        application: &str,
        name: &str,
        settings: Settings,
        factory: impl RecordProcessorFactory + 'static,
    ) -> Worker {
        Worker::start(self.builder(application, name, settings, factory))
    }

    /// The builder of a worker, for what else is to be said of it; [`Worker::start`] starts it.
    pub fn builder(
        &self,
        application: &str,
        name: &str,
        settings: Settings,
        factory: impl RecordProcessorFactory + 'static,
    ) -> ConsumerBuilder {
        let clients = (self.kinesis.clone(), self.dynamodb.clone());
        let worker = Consumer::builder(application, STREAM, clients.0, clients.1, factory);
        self.completed(worker, name, settings)
    }

    /// The same for a worker of several streams.
    pub fn builder_of_several(
        &self,
        application: &str,
        streams: &Streams,
        name: &str,
        settings: Settings,
        factory: impl RecordProcessorFactory + 'static,
    ) -> ConsumerBuilder {
        let clients = (self.kinesis.clone(), self.dynamodb.clone());
        let worker = Consumer::multi_stream(application, streams, clients.0, clients.1, factory);
        self.completed(worker, name, settings)
    }

    fn completed(
        &self,
        worker: ConsumerBuilder,
        name: &str,
        settings: Settings,
    ) -> ConsumerBuilder {
        worker
            .worker_id(name)
            .settings(settings)
            .clock(self.clock.clone())
            .rand(Rand::seeded(seed_of(name)))
    }
}

/// A seed of its own for each worker: two processes never share their chance.
fn seed_of(worker: &str) -> u64 {
    worker
        .bytes()
        .fold(7, |seed, byte| seed * 31 + u64::from(byte))
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    stop: CancellationToken,
    events: Events,
    task: JoinHandle<Result<(), kinesis_consumer::Error>>,
}

impl Worker {
    /// Starts what was described.
    ///
    /// # Panics
    /// If it is not valid.
    pub fn start(worker: ConsumerBuilder) -> Self {
        let consumer = worker.build().expect("the settings are valid");
        let stop = CancellationToken::new();
        let token = stop.clone();
        Self {
            stop,
            events: consumer.events(),
            task: tokio::spawn(async move { consumer.run(token).await }),
        }
    }

    /// What the worker told of its leases and shards since it was asked last.
    ///
    /// # Panics
    /// If that is more than is kept: 1,024 events.
    pub fn told(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        // Whatever else the task that asks has done already.
        while let Some(Some(event)) = unconstrained(self.events.next()).now_or_never() {
            told.push(event.expect("not so many events"));
        }
        told
    }

    /// Shuts the worker down in order and waits until it is gone.
    pub async fn stop(self) -> Result<(), kinesis_consumer::Error> {
        self.stop.cancel();
        self.task.await.expect("the worker does not panic")
    }

    /// Waits until the worker ends by itself.
    pub async fn ended(self) -> Result<(), kinesis_consumer::Error> {
        self.task.await.expect("the worker does not panic")
    }

    /// Drops the worker where it stands, as a crash would: nothing is checkpointed or released.
    pub async fn kill(self) {
        self.task.abort();
        let ended = self.task.await;
        assert!(
            ended.is_err_and(|error| error.is_cancelled()),
            "the worker ended before"
        );
    }
}

/// Waits until `done`, looking every 100 ms.
///
/// # Panics
/// After an hour of (usually virtual) time, saying what it waited for.
pub async fn wait_until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(3600), async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited an hour for: {what}");
}
