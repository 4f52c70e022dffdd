//! A stream and workers on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::config::{AppName, Credentials};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamMode, StreamModeDetails, StreamStatus};
use kinesis_consumer::{
    Consumer, ConsumerBuilder, Error, Event, EventKind, Events, LeaseStore, OnFailure, Settings,
    ShardId,
};
use kinesis_core::{Clock, Rand};
use kinesis_local::testing::{START_MS, TestStream};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule, InProcessClient, KinesisLocal, Limits};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::faulty::Faulty;
use crate::ledger::{Behaviour, Ledger, Letters, Recorder, Seen};

pub(crate) const STREAM: &str = "flights";
pub(crate) const APPLICATION: &str = "arrivals";
/// Virtual time after which a test has failed.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

pub(crate) struct World {
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    /// Where dead letters of workers go, if their settings want any.
    pub(crate) letters: Letters,
    /// What workers reach the services by, if not in process at once.
    pub(crate) network: Option<Faulty>,
    /// The clock of workers, if it is not that of the service.
    pub(crate) clock_of_workers: Option<Clock>,
    /// Where workers keep their leases, if not in DynamoDB.
    pub(crate) leases: Option<LeaseStore>,
    pub(crate) stream: TestStream,
    local: KinesisLocal,
}

impl World {
    /// A stream of `shards` shards.
    pub(crate) async fn new(shards: i32) -> Self {
        let clock = Clock::starting_at(START_MS);
        let local = KinesisLocal::builder()
            .clock(clock.clone())
            .rand(Rand::seeded(1))
            .limits(Limits::Off)
            .start()
            .await
            .expect("kinesis-local starts");
        let config = local.sdk_config();
        let ledger = Ledger::default();
        let world = Self {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            clock,
            letters: Letters {
                ledger: ledger.clone(),
                ..Letters::default()
            },
            ledger,
            network: None,
            clock_of_workers: None,
            leases: None,
            stream: TestStream::named(&local, STREAM),
            local,
        };
        world.create_stream(shards).await;
        world
    }

    /// A stream of two shards, the halves of the key space, made from one by a split.
    pub(crate) async fn halves() -> Self {
        let world = Self::new(1).await;
        world.stream.split("shardId-000000000000").await;
        world
    }

    pub(crate) async fn create_stream(&self, shards: i32) {
        TestStream::create(&self.local, STREAM, shards).await;
    }

    /// Switches the stream to on-demand mode; its record distribution goes by keys.
    pub(crate) async fn make_on_demand(&self) {
        let of = self.kinesis.describe_stream_summary().stream_name(STREAM);
        let of = of
            .send()
            .await
            .expect("a stream")
            .stream_description_summary;
        let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand);
        self.kinesis
            .update_stream_mode()
            .stream_arn(of.expect("a summary").stream_arn)
            .stream_mode_details(mode.build().expect("a mode"))
            .send()
            .await
            .expect("on demand");
        until("the stream is active", async || {
            let of = self.kinesis.describe_stream_summary().stream_name(STREAM);
            let of = of
                .send()
                .await
                .expect("a stream")
                .stream_description_summary;
            of.expect("a summary").stream_status == StreamStatus::Active
        })
        .await;
    }

    pub(crate) async fn delete_stream(&self) {
        let delete = self.kinesis.delete_stream().stream_name(STREAM);
        delete.send().await.expect("the stream is deleted");
        until("the stream is gone", async || {
            let answer = self
                .kinesis
                .describe_stream_summary()
                .stream_name(STREAM)
                .send()
                .await;
            answer.is_err()
        })
        .await;
    }

    /// Puts `key-<n % keys>` → `n` for each `n`, in order per key.
    pub(crate) async fn put_numbers(&self, numbers: std::ops::Range<usize>, keys: usize) {
        for number in numbers {
            self.put(&format!("key-{}", number % keys), number.to_string())
                .await;
        }
    }

    pub(crate) async fn put(&self, key: &str, data: impl Into<Vec<u8>>) {
        let entry = PutRecordsRequestEntry::builder()
            .partition_key(key)
            .data(Blob::new(data));
        let entry = entry.build().expect("complete");
        until("the record is taken", async || {
            let answer = self
                .kinesis
                .put_records()
                .stream_name(STREAM)
                .records(entry.clone())
                .send()
                .await;
            answer.expect("put").failed_record_count == Some(0)
        })
        .await;
    }

    /// Puts one stream record into the shard that owns `hash_key`.
    pub(crate) async fn put_at(&self, hash_key: kinesis_core::HashKey, data: impl Into<Vec<u8>>) {
        self.kinesis
            .put_record()
            .stream_name(STREAM)
            .partition_key("a")
            .explicit_hash_key(hash_key.to_string())
            .data(Blob::new(data))
            .send()
            .await
            .expect("put");
    }

    pub(crate) fn worker(
        &self,
        name: &'static str,
        behave: impl Fn(&Seen) -> Behaviour + Send + Sync + 'static,
    ) -> Worker {
        self.worker_with(name, Settings::default(), behave)
    }

    pub(crate) fn worker_with(
        &self,
        name: &'static str,
        settings: Settings,
        behave: impl Fn(&Seen) -> Behaviour + Send + Sync + 'static,
    ) -> Worker {
        Worker::of(self.builder(name, settings, behave).build().expect("valid"))
    }

    /// The builder of a worker, for what else is to be said of it.
    pub(crate) fn builder(
        &self,
        name: &'static str,
        settings: Settings,
        behave: impl Fn(&Seen) -> Behaviour + Send + Sync + 'static,
    ) -> ConsumerBuilder {
        let ledger = self.ledger.clone();
        let behave: Arc<dyn Fn(&Seen) -> Behaviour + Send + Sync> = Arc::new(behave);
        let factory = move |shard_id: &ShardId| Recorder {
            worker: name,
            shard_id: shard_id.clone(),
            ledger: ledger.clone(),
            behave: Arc::clone(&behave),
        };
        let (kinesis, dynamodb) = self.clients_of_workers(name);
        let leases = self.leases.clone().unwrap_or_else(|| dynamodb.into());
        let mut builder = Consumer::builder(APPLICATION, STREAM, kinesis, leases, factory);
        if let OnFailure::DeadLetter { .. } = settings.on_failure {
            builder = builder.dead_letters(self.letters.clone());
        }
        let clock = self.clock_of_workers.as_ref().unwrap_or(&self.clock);
        builder
            .worker_id(name)
            .settings(settings)
            .clock(clock.clone())
            .rand(Rand::seeded(name.len() as u64))
    }

    /// The way to the services without a fault.
    pub(crate) fn http_client(&self) -> InProcessClient {
        self.local.http_client()
    }

    /// What its workers meet from now on.
    pub(crate) fn faults(&self, plan: FaultPlan) {
        self.local.set_faults(plan).expect("a plan");
    }

    /// How many calls met each rule of the plan.
    pub(crate) fn hits(&self) -> Vec<u64> {
        let counts = self.local.fault_counts();
        counts.iter().map(|count| count.fired).collect()
    }

    /// Clients that say by their user agent whose they are, so that faults are theirs alone.
    fn clients_of_workers(
        &self,
        name: &str,
    ) -> (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client) {
        let name = AppName::new(name.to_owned()).expect("a name");
        let mut config = self.local.sdk_config().into_builder().app_name(name);
        if let Some(network) = &self.network {
            config = config.http_client(network.clone());
        }
        let config = config.build();
        (
            aws_sdk_kinesis::Client::new(&config),
            aws_sdk_dynamodb::Client::new(&config),
        )
    }

    /// A client of another account, which has streams of its own.
    pub(crate) fn kinesis_of(&self, account: &str) -> aws_sdk_kinesis::Client {
        let credentials = Credentials::new(account, "secret", None, None, "test");
        let config = aws_sdk_kinesis::Config::from(&self.local.sdk_config());
        let config = config.to_builder().credentials_provider(credentials);
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    /// The lease row of a shard, as strings; empty if there is none.
    pub(crate) async fn lease_row(&self, shard_id: &str) -> BTreeMap<String, String> {
        use aws_sdk_dynamodb::types::AttributeValue;
        let answer = self
            .dynamodb
            .get_item()
            .table_name(APPLICATION)
            .key("leaseKey", AttributeValue::S(shard_id.to_owned()))
            .consistent_read(true)
            .send()
            .await;
        // Before the first worker starts there is no table.
        let Ok(answer) = answer else {
            return BTreeMap::new();
        };
        let text = |value: AttributeValue| match value {
            AttributeValue::S(text) | AttributeValue::N(text) => text,
            other => format!("{other:?}"),
        };
        answer
            .item
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect()
    }
}

/// This effect for calls of workers, and not for the test's own.
pub(crate) fn for_workers(effect: FaultEffect) -> FaultRule {
    FaultRule::new(effect).user_agent(" app/")
}

/// A running consumer.
pub(crate) struct Worker {
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), Error>>,
    pub(crate) events: Events,
}

impl Worker {
    pub(crate) fn of(consumer: Consumer) -> Self {
        let shutdown = CancellationToken::new();
        let events = consumer.events();
        let task = tokio::spawn(consumer.run(shutdown.clone()));
        Self {
            shutdown,
            task,
            events,
        }
    }

    /// The first event from here on that matches.
    pub(crate) async fn until_event(
        &mut self,
        what: &str,
        matches: impl Fn(&EventKind) -> bool,
    ) -> Event {
        let heard = async {
            loop {
                let event = self.events.next().await.expect("it runs").expect("kept");
                if matches(&event.kind) {
                    return event;
                }
            }
        };
        let heard = tokio::time::timeout(PATIENCE, heard).await;
        heard.unwrap_or_else(|_| panic!("never came: {what}"))
    }

    /// A clean stop.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.ended().await
    }

    pub(crate) async fn ended(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .expect("no panic")
    }

    /// As a crash: dropped at its next await point.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("aborted").is_cancelled());
    }
}

/// Waits, in virtual time, until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(deadline);
    while !condition().await {
        assert!(!deadline.is_elapsed(), "never came: {what}");
        tokio::select! {
            () = &mut deadline => {}
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}
