//! Worker processes on streams, and what they write into their files.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamStatus};
use kinesis_core::Clock;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::Failure;

/// The longest wait for any one thing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the workers' files: as exact as the figures are.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Between two records of a shard.
const PUT_EVERY: Duration = Duration::from_millis(100);
/// For how long a fleet is watched before it counts as settled.
pub(crate) const SETTLED: Duration = Duration::from_secs(4);

/// What the workers of all files did.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The first record of each shard, by worker, since it was last forgotten.
    pub(crate) firsts: BTreeMap<(String, String), Instant>,
    /// Every record, and how often it was processed.
    pub(crate) records: BTreeMap<(String, String, u64), u64>,
    pub(crate) checkpoints: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(crate) programs: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) endpoint: String,
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) clock: Clock,
    pub(crate) log: Arc<Mutex<Log>>,
}

/// A worker process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) child: Child,
    pub(crate) reading: tokio::task::JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Fleet {
    pub(crate) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards that `worker` read from since this was last forgotten.
    pub(crate) fn shards_of(&self, worker: &str) -> Vec<String> {
        let log = self.log();
        let of_worker = log.firsts.keys().filter(|(name, _)| name == worker);
        of_worker.map(|(_, shard)| shard.clone()).collect()
    }

    pub(crate) fn forget(&self) {
        self.log().firsts.clear();
    }

    /// Starts a worker of the application that is named as its stream.
    pub(crate) fn worker(&self, stream: &str, name: &str) -> Result<Worker, Failure> {
        let out = self.directory.join(format!("{name}.ndjson"));
        let child = Command::new(self.programs.join("worker"))
            .args(["--stream", stream, "--application", stream])
            .args(["--worker-id", name, "--endpoint-url", &self.endpoint])
            .arg("--out")
            .arg(&out)
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let reading = tokio::spawn(follow(self.clone(), name.to_owned(), out));
        Ok(Worker {
            name: name.to_owned(),
            child,
            reading,
        })
    }

    pub(crate) async fn until(&self, what: &str, done: impl Fn() -> bool) -> Result<(), Failure> {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !done() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        let late = |_| format!("waited {PATIENCE:?} for {what}");
        Ok(waited.await.map_err(late)?)
    }

    /// Waits until each worker reads from `each` shards for a while.
    pub(crate) async fn settled(&self, workers: &[Worker], each: usize) -> Result<(), Failure> {
        let began = self.clock.now();
        loop {
            self.forget();
            tokio::time::sleep(SETTLED).await;
            let even = |worker: &Worker| self.shards_of(&worker.name).len() == each;
            if workers.iter().all(even) {
                return Ok(());
            }
            if self.clock.now() - began > PATIENCE {
                let has = |w: &Worker| format!("{} {:?}", w.name, self.shards_of(&w.name));
                let has: Vec<_> = workers.iter().map(has).collect();
                return Err(format!("the fleet does not settle: {}", has.join(", ")).into());
            }
        }
    }

    pub(crate) async fn leader(&self, application: &str) -> Result<String, Failure> {
        let get = self.dynamodb.get_item().table_name(application);
        let key = AttributeValue::S("Leader".to_owned());
        let row = get.key("leaseKey", key).send().await?.item;
        let owner = row.as_ref().and_then(|row| row.get("ownerName"));
        let owner = owner.and_then(|owner| owner.as_s().ok());
        Ok(owner.ok_or("there is no leader")?.clone())
    }

    /// The sum of all lease counters: every write of a holder raises one.
    pub(crate) async fn counters(&self, application: &str) -> Result<u64, Failure> {
        let rows = self.dynamodb.scan().table_name(application).send().await?;
        let counter = |row: &std::collections::HashMap<String, AttributeValue>| {
            row.get("leaseCounter")?.as_n().ok()?.parse::<u64>().ok()
        };
        Ok(rows.items().iter().filter_map(counter).sum())
    }

    /// A stream of `shards` shards that is ACTIVE.
    pub(crate) async fn stream(&self, name: &str, shards: i32) -> Result<(), Failure> {
        let create = self.kinesis.create_stream().stream_name(name);
        create.shard_count(shards).send().await?;
        loop {
            let summary = self.kinesis.describe_stream_summary().stream_name(name);
            let summary = summary.send().await?.stream_description_summary;
            if summary.is_some_and(|summary| summary.stream_status == StreamStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Puts one record into each shard.
    pub(crate) async fn put(&self, stream: &str, shards: i32) -> Result<(), Failure> {
        let entry = |shard: u128| {
            let part = u128::MAX / shards as u128;
            PutRecordsRequestEntry::builder()
                .data(Blob::new("record"))
                .partition_key("key")
                .explicit_hash_key((part * shard + part / 2).to_string())
                .build()
        };
        let entries = (0..shards as u128).map(entry);
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let put = self.kinesis.put_records().stream_name(stream);
        let put = put.set_records(Some(entries)).send().await?;
        match put.failed_record_count() {
            None | Some(0) => Ok(()),
            Some(failed) => Err(format!("{failed} records were refused").into()),
        }
    }

    /// Puts a record into each shard ten times a second, until dropped.
    pub(crate) fn trickle(&self, stream: &'static str, shards: i32) -> Abort {
        let fleet = self.clone();
        Abort(tokio::spawn(async move {
            let mut pace = tokio::time::interval(PUT_EVERY);
            loop {
                pace.tick().await;
                if let Err(error) = fleet.put(stream, shards).await {
                    eprintln!("a put failed: {error}");
                }
            }
        }))
    }

    /// Lets one of `workers` go, the leader or another, and waits until others read its shards.
    pub(crate) async fn lose(
        &self,
        workers: &mut Vec<Worker>,
        of_leader: bool,
        clean: bool,
    ) -> Result<Duration, Failure> {
        let leader = self.leader("eight").await?;
        let goes = workers
            .iter()
            .position(|worker| (worker.name == leader) == of_leader)
            .ok_or("no such worker")?;
        let mut goes = workers.remove(goes);
        let lost = self.shards_of(&goes.name);
        self.forget();
        let since = self.clock.now();
        if clean {
            terminate(&mut goes.child).await?;
        } else {
            goes.child.kill().await?;
        }
        let has_reader = |log: &Log, shard: &String| {
            let mut readers = log.firsts.keys();
            readers.any(|(name, of)| *name != goes.name && of == shard)
        };
        let all = || lost.iter().all(|shard| has_reader(&self.log(), shard));
        self.until("every shard to have a reader", all).await?;
        Ok(self.clock.now() - since)
    }
}

/// A task that ends with its handle.
pub(crate) struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks a process to end in order, and does not wait for it: a successor may be faster.
pub(crate) async fn terminate(child: &mut Child) -> Result<(), Failure> {
    let pid = child.id().ok_or("it has ended already")?.to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().await?;
    sent.success().then_some(()).ok_or("kill failed".into())
}

/// Takes in what a worker writes into its file.
async fn follow(fleet: Fleet, worker: String, out: PathBuf) {
    let (mut at, mut rest) = (0, Vec::new());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(mut file) = std::fs::File::open(&out) else {
            continue;
        };
        let sought = file.seek(SeekFrom::Start(at));
        at += sought
            .and_then(|_| file.read_to_end(&mut rest))
            .expect("the file can be read") as u64;
        let now = fleet.clock.now();
        let whole = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let mut log = fleet.log();
        for line in rest[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let event: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            match &*text("event") {
                "record" => {
                    let shard = text("shard");
                    let sub = event["sub_sequence"].as_u64().unwrap_or_default();
                    let place = (shard.clone(), text("sequence_number"), sub);
                    *log.records.entry(place).or_default() += 1;
                    log.firsts.entry((worker.clone(), shard)).or_insert(now);
                }
                "checkpoint" => log.checkpoints += 1,
                _ => {}
            }
        }
        drop(log);
        rest.drain(..whole);
    }
}
