//! A stream, workers on it, and a ledger of everything that processors saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kinesis_consumer::{
    Checkpointer, Consumer, Error, InitializeInput, ProcessRecordsInput, ProcessorError, Record,
    RecordProcessor, Settings, ShardId,
};
use kinesis_core::{Clock, HashKeyRange, Rand};
use kinesis_local::{InProcessClient, KinesisLocal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::faulty::Faulty;

pub(crate) const STREAM: &str = "flights";
pub(crate) const APPLICATION: &str = "arrivals";
/// 2026-01-01, so that virtual time looks like time.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;
/// Virtual time after which a test has failed.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

pub(crate) struct World {
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    /// What workers reach the services by, if not by a perfect network.
    pub(crate) network: Option<Faulty>,
    local: KinesisLocal,
}

impl World {
    /// A stream of `shards` shards.
    pub(crate) async fn new(shards: i32) -> Self {
        let clock = Clock::starting_at(EPOCH_MILLIS);
        let local = KinesisLocal::builder()
            .clock(clock.clone())
            .rand(Rand::seeded(1))
            .start()
            .await
            .expect("kinesis-local starts");
        let config = local.sdk_config();
        let world = Self {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            clock,
            ledger: Ledger::default(),
            network: None,
            local,
        };
        world.create_stream(shards).await;
        world
    }

    pub(crate) async fn create_stream(&self, shards: i32) {
        let create = self.kinesis.create_stream().stream_name(STREAM);
        create
            .shard_count(shards)
            .send()
            .await
            .expect("the stream is created");
        self.until_active().await;
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

    pub(crate) async fn until_active(&self) {
        until("the stream is active", async || {
            let answer = self
                .kinesis
                .describe_stream_summary()
                .stream_name(STREAM)
                .send()
                .await;
            let summary = answer.expect("described").stream_description_summary;
            summary.is_some_and(|summary| summary.stream_status.as_str() == "ACTIVE")
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
        let ledger = self.ledger.clone();
        let behave: Arc<dyn Fn(&Seen) -> Behaviour + Send + Sync> = Arc::new(behave);
        let factory = move |shard_id: &ShardId| Recorder {
            worker: name,
            shard_id: shard_id.clone(),
            ledger: ledger.clone(),
            behave: Arc::clone(&behave),
        };
        let (kinesis, dynamodb) = self.clients_of_workers();
        let consumer = Consumer::builder(APPLICATION, STREAM, kinesis, dynamodb, factory)
            .worker_id(name)
            .settings(settings)
            .clock(self.clock.clone())
            .rand(Rand::seeded(name.len() as u64))
            .build()
            .expect("valid");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(consumer.run(shutdown.clone()));
        Worker { shutdown, task }
    }

    /// The way to the services without a fault.
    pub(crate) fn http_client(&self) -> InProcessClient {
        self.local.http_client()
    }

    fn clients_of_workers(&self) -> (aws_sdk_kinesis::Client, aws_sdk_dynamodb::Client) {
        let Some(network) = &self.network else {
            return (self.kinesis.clone(), self.dynamodb.clone());
        };
        let config = self
            .local
            .sdk_config()
            .into_builder()
            .http_client(network.clone())
            .build();
        (
            aws_sdk_kinesis::Client::new(&config),
            aws_sdk_dynamodb::Client::new(&config),
        )
    }

    /// Splits a shard with this range in its middle.
    pub(crate) async fn split(&self, shard_id: &str, range: HashKeyRange) {
        let middle = range.split_even(2)[1].start();
        let split = self
            .kinesis
            .split_shard()
            .stream_name(STREAM)
            .shard_to_split(shard_id);
        split
            .new_starting_hash_key(middle.to_string())
            .send()
            .await
            .expect("split");
        self.until_active().await;
    }

    pub(crate) async fn merge(&self, shard_id: &str, adjacent: &str) {
        let merge = self
            .kinesis
            .merge_shards()
            .stream_name(STREAM)
            .shard_to_merge(shard_id);
        merge
            .adjacent_shard_to_merge(adjacent)
            .send()
            .await
            .expect("merged");
        self.until_active().await;
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

/// A running consumer.
pub(crate) struct Worker {
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), Error>>,
}

impl Worker {
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

/// What a processor is to do with a record, before it is noted as processed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Behaviour {
    Process,
    /// Process it and checkpoint exactly here.
    ProcessAndCheckpoint,
    Fail,
    Panic,
    Fatal,
    /// Await for ever.
    Hang,
    /// Take this long, then process.
    Slow(Duration),
}

/// One record as a processor saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) worker: &'static str,
    pub(crate) shard_id: ShardId,
    pub(crate) record: Record,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.record.data).into_owned()
    }
}

/// What happened to processors, in order.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Initialized(&'static str, ShardId),
    Tried(Seen),
    Processed(Seen),
    LeaseLost(&'static str),
    Ended(ShardId),
    Shutdown,
    /// A `process_records` was dropped before it returned.
    Dropped(&'static str),
}

#[derive(Clone, Default)]
pub(crate) struct Ledger {
    notes: Arc<Mutex<Vec<Note>>>,
    checkpointers: Arc<Mutex<BTreeMap<ShardId, Checkpointer>>>,
}

impl Ledger {
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.notes.lock().expect("no panic under the lock").clone()
    }

    pub(crate) fn note(&self, note: Note) {
        self.notes
            .lock()
            .expect("no panic under the lock")
            .push(note);
    }

    /// The newest checkpointer handed out for a shard.
    pub(crate) fn checkpointer(&self, shard_id: &ShardId) -> Checkpointer {
        self.checkpointers.lock().expect("no panic under the lock")[shard_id].clone()
    }

    pub(crate) fn processed(&self) -> Vec<Seen> {
        let processed = |note| match note {
            Note::Processed(seen) => Some(seen),
            _ => None,
        };
        self.notes().into_iter().filter_map(processed).collect()
    }

    /// Texts of the processed records, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.processed().iter().map(Seen::text).collect()
    }

    /// How many different texts were processed.
    pub(crate) fn numbers(&self) -> usize {
        self.texts().into_iter().collect::<BTreeSet<_>>().len()
    }

    pub(crate) async fn until_processed(&self, count: usize) {
        until(&format!("{count} records processed"), async || {
            self.processed().len() >= count
        })
        .await;
    }

    pub(crate) async fn until_note(&self, what: &str, matches: impl Fn(&Note) -> bool) {
        until(what, async || self.notes().iter().any(&matches)).await;
    }

    /// Each number once, and in order within its key.
    pub(crate) fn assert_each_once(&self, numbers: std::ops::Range<usize>) {
        let mut seen: Vec<usize> = self
            .texts()
            .iter()
            .map(|text| text.parse().expect("a number"))
            .collect();
        self.assert_order_per_key();
        seen.sort_unstable();
        assert_eq!(seen, numbers.collect::<Vec<_>>());
    }

    /// Each number at least once, and first deliveries in order within their key.
    pub(crate) fn assert_each_at_least_once(&self, numbers: std::ops::Range<usize>) {
        let mut firsts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for seen in self.processed() {
            let number: usize = seen.text().parse().expect("a number");
            let key = firsts
                .entry(seen.record.partition_key.to_string())
                .or_default();
            if !key.contains(&number) {
                key.push(number);
            }
        }
        assert!(
            firsts.values().all(|numbers| numbers.is_sorted()),
            "out of order: {firsts:?}"
        );
        let mut all: Vec<usize> = firsts.into_values().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, numbers.collect::<Vec<_>>());
    }

    fn assert_order_per_key(&self) {
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        for seen in self.processed() {
            let number = seen.text().parse().expect("a number");
            let before = last.insert(seen.record.partition_key.to_string(), number);
            assert!(
                before.is_none_or(|before| before < number),
                "{before:?} before {number}"
            );
        }
    }
}

/// Notes every record and checkpoints after every batch.
struct Recorder {
    worker: &'static str,
    shard_id: ShardId,
    ledger: Ledger,
    behave: Arc<dyn Fn(&Seen) -> Behaviour + Send + Sync>,
}

/// Notes that the call it lives in was dropped.
struct Unfinished<'a>(&'a Ledger, &'static str);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.note(Note::Dropped(self.1));
    }
}

#[async_trait::async_trait]
impl RecordProcessor for Recorder {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        self.ledger
            .note(Note::Initialized(self.worker, input.shard_id));
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        assert!(!input.records.is_empty(), "never an empty batch");
        self.ledger
            .checkpointers
            .lock()
            .expect("no panic under the lock")
            .insert(self.shard_id.clone(), input.checkpointer.clone());
        let unfinished = Unfinished(&self.ledger, self.worker);
        for record in input.records.iter() {
            let seen = Seen {
                worker: self.worker,
                shard_id: self.shard_id.clone(),
                record: record.clone(),
            };
            self.ledger.note(Note::Tried(seen.clone()));
            let behaviour = (self.behave)(&seen);
            match behaviour {
                Behaviour::Fail => {
                    std::mem::forget(unfinished);
                    return Err(ProcessorError::retry("asked to fail"));
                }
                Behaviour::Fatal => {
                    std::mem::forget(unfinished);
                    return Err(ProcessorError::fatal("asked to give up"));
                }
                Behaviour::Panic => {
                    std::mem::forget(unfinished);
                    panic!("asked to panic");
                }
                Behaviour::Hang => std::future::pending().await,
                Behaviour::Slow(time) => tokio::time::sleep(time).await,
                Behaviour::Process | Behaviour::ProcessAndCheckpoint => {}
            }
            self.ledger.note(Note::Processed(seen));
            if behaviour == Behaviour::ProcessAndCheckpoint {
                input.checkpointer.checkpoint_at(&record.position()).await?;
            }
        }
        input.checkpointer.checkpoint().await?;
        std::mem::forget(unfinished);
        Ok(())
    }

    async fn lease_lost(&mut self) {
        self.ledger.note(Note::LeaseLost(self.worker));
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        self.ledger.note(Note::Ended(self.shard_id.clone()));
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.ledger.note(Note::Shutdown);
        checkpointer.checkpoint().await?;
        Ok(())
    }
}
