//! How fast a fleet of worker processes recovers, measured once for real: `kinesis-local` and `worker`
//! as processes, over sockets, by the clock on the wall.
//!
//! ```sh
//! cargo build --workspace --bin kinesis-local --bin worker --bin recovery
//! target/debug/recovery
//! ```
//!
//! Takes the other two programs from beside itself. `tests/tests/fleet.rs` asserts the same in virtual
//! time; `BENCHMARKS.md` has both. Every shard is given ten records a second; workers run at default
//! settings. A figure is the time until the last of the shards that lost their worker has a record
//! processed by another one. Ends with 1 if a figure misses its target, or after four minutes.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamStatus};
use kinesis_core::Clock;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error>;

/// The whole run.
const BOUND: Duration = Duration::from_secs(240);
/// The longest wait for any one thing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the workers' files: as exact as the figures are.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Between two records of a shard.
const PUT_EVERY: Duration = Duration::from_millis(100);
/// For how long a fleet is watched before it counts as settled.
const SETTLED: Duration = Duration::from_secs(4);
/// The KCL renews every 3,308 ms whatever else it writes. Source: KCL 3.5.1, `failoverTimeMillis` and
/// its epsilon.
const KCL_RENEWAL: Duration = Duration::from_millis(3_308);
/// How long writes are counted, and how far checkpoints are apart.
const WRITES_FOR: Duration = Duration::from_secs(45);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(3);

/// What the workers of all files did.
#[derive(Debug, Default)]
struct Log {
    /// The first record of each shard, by worker, since it was last forgotten.
    firsts: BTreeMap<(String, String), Instant>,
    /// Every record, and how often it was processed.
    records: BTreeMap<(String, String, u64), u64>,
    checkpoints: u64,
}

#[derive(Clone, Debug)]
struct Fleet {
    programs: PathBuf,
    directory: PathBuf,
    endpoint: String,
    kinesis: aws_sdk_kinesis::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    clock: Clock,
    log: Arc<Mutex<Log>>,
}

/// A worker process; killed when dropped.
#[derive(Debug)]
struct Worker {
    name: String,
    child: Child,
    reading: tokio::task::JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Fleet {
    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shards that `worker` read from since this was last forgotten.
    fn shards_of(&self, worker: &str) -> Vec<String> {
        let log = self.log();
        let of_worker = log.firsts.keys().filter(|(name, _)| name == worker);
        of_worker.map(|(_, shard)| shard.clone()).collect()
    }

    fn forget(&self) {
        self.log().firsts.clear();
    }

    /// Starts a worker of the application that is named as its stream.
    fn worker(&self, stream: &str, name: &str) -> Result<Worker, Failure> {
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

    async fn until(&self, what: &str, done: impl Fn() -> bool) -> Result<(), Failure> {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !done() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        let late = |_| format!("waited {PATIENCE:?} for {what}");
        Ok(waited.await.map_err(late)?)
    }

    /// Waits until each worker reads from `each` shards for a while.
    async fn settled(&self, workers: &[Worker], each: usize) -> Result<(), Failure> {
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

    async fn leader(&self, application: &str) -> Result<String, Failure> {
        let get = self.dynamodb.get_item().table_name(application);
        let key = AttributeValue::S("Leader".to_owned());
        let row = get.key("leaseKey", key).send().await?.item;
        let owner = row.as_ref().and_then(|row| row.get("ownerName"));
        let owner = owner.and_then(|owner| owner.as_s().ok());
        Ok(owner.ok_or("there is no leader")?.clone())
    }

    /// The sum of all lease counters: every write of a holder raises one.
    async fn counters(&self, application: &str) -> Result<u64, Failure> {
        let rows = self.dynamodb.scan().table_name(application).send().await?;
        let counter = |row: &std::collections::HashMap<String, AttributeValue>| {
            row.get("leaseCounter")?.as_n().ok()?.parse::<u64>().ok()
        };
        Ok(rows.items().iter().filter_map(counter).sum())
    }

    /// A stream of `shards` shards that is ACTIVE.
    async fn stream(&self, name: &str, shards: i32) -> Result<(), Failure> {
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
    async fn put(&self, stream: &str, shards: i32) -> Result<(), Failure> {
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
    fn trickle(&self, stream: &'static str, shards: i32) -> Abort {
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
    async fn lose(
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
struct Abort(tokio::task::JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks a process to end in order, and does not wait for it: a successor may be faster.
async fn terminate(child: &mut Child) -> Result<(), Failure> {
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

/// One line of the result; whether the target was met.
fn tell(what: &str, figure: f64, unit: &str, target: &str, met: bool) -> bool {
    let mark = if met { ' ' } else { '✗' };
    println!("{what:<52} {figure:>7.2} {unit:<2}  target {target} {mark}");
    met
}

async fn measure(fleet: &Fleet) -> Result<bool, Failure> {
    let mut good = true;
    fleet.stream("eight", 8).await?;
    let trickle = fleet.trickle("eight", 8);
    let mut names = (b'a'..=b'z').map(|letter| char::from(letter).to_string());
    let mut next = || names.next().ok_or("out of names");
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(fleet.worker("eight", &next()?)?);
    }
    let cases = [
        (
            "clean stop of a worker → its shards are read",
            false,
            true,
            3.0,
        ),
        (
            "clean stop of the leader → its shards are read",
            true,
            true,
            3.0,
        ),
        (
            "SIGKILL of a worker → its shards are read",
            false,
            false,
            15.0,
        ),
        (
            "SIGKILL of the leader → its shards are read",
            true,
            false,
            30.0,
        ),
    ];
    for (what, of_leader, clean, target) in cases {
        fleet.settled(&workers, 2).await?;
        fleet.log().records.clear();
        let took = fleet
            .lose(&mut workers, of_leader, clean)
            .await?
            .as_secs_f64();
        good &= tell(what, took, "s", &format!("≤ {target} s"), took <= target);
        if clean {
            // Whoever went is gone by now, and whatever came twice has come.
            tokio::time::sleep(SETTLED).await;
            let again: u64 = fleet.log().records.values().map(|times| times - 1).sum();
            good &= tell(
                "    records that came twice",
                again as f64,
                "",
                "0",
                again == 0,
            );
        }
        workers.push(fleet.worker("eight", &next()?)?);
    }
    drop((trickle, workers));

    fleet.stream("hundred", 100).await?;
    let trickle = fleet.trickle("hundred", 100);
    let mut before = fleet.worker("hundred", "before")?;
    let all = |name: &'static str| move || fleet.shards_of(name).len() == 100;
    fleet.until("all shards", all("before")).await?;
    terminate(&mut before.child).await?;
    before.child.wait().await?;
    let since = fleet.clock.now();
    let after = fleet.worker("hundred", "after")?;
    fleet.until("all shards", all("after")).await?;
    let of_after = |log: &Log| -> Vec<Instant> {
        let firsts = log.firsts.iter().filter(|((name, _), _)| name == "after");
        firsts.map(|(_, at)| *at).collect()
    };
    let times = of_after(&fleet.log());
    let first = times
        .iter()
        .min()
        .map_or(f64::NAN, |at| (*at - since).as_secs_f64());
    let last = times
        .iter()
        .max()
        .map_or(f64::NAN, |at| (*at - since).as_secs_f64());
    good &= tell(
        "start on a table of 100 leases: first record",
        first,
        "s",
        "≤ 5 s",
        first <= 5.0,
    );
    good &= tell(
        "    a record of every shard",
        last,
        "s",
        "≤ 5 s",
        last <= 5.0,
    );
    drop((trickle, after));

    fleet.stream("writes", 8).await?;
    fleet.put("writes", 8).await?;
    let writer = fleet.worker("writes", "writer")?;
    let all = || fleet.shards_of("writer").len() == 8;
    fleet.until("all shards", all).await?;
    fleet.log().checkpoints = 0;
    let (before, since) = (fleet.counters("writes").await?, fleet.clock.now());
    let mut pace = tokio::time::interval(CHECKPOINT_EVERY);
    while fleet.clock.now() - since < WRITES_FOR {
        pace.tick().await;
        fleet.put("writes", 8).await?;
    }
    let took = fleet.clock.now() - since;
    let writes = (fleet.counters("writes").await? - before) as f64;
    let checkpoints = fleet.log().checkpoints as f64;
    let of_kcl = checkpoints + 8.0 * took.as_secs_f64() / KCL_RENEWAL.as_secs_f64();
    let saved = (1.0 - writes / of_kcl) * 100.0;
    println!("    {writes} writes of 8 leases in {took:.1?}, {checkpoints} checkpoints");
    good &= tell(
        "lease writes less than by the KCL's rule",
        saved,
        "%",
        "≥ 30 %",
        saved >= 30.0,
    );
    drop(writer);
    Ok(good)
}

/// Starts kinesis-local and returns it with its address.
async fn local(programs: &Path) -> Result<(Child, String), Failure> {
    let mut child = Command::new(programs.join("kinesis-local"))
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("it is piped")?;
    let first = BufReader::new(stdout).lines().next_line().await?;
    let first = first.ok_or("kinesis-local did not start")?;
    let (_, url) = first.rsplit_once(' ').ok_or("no address")?;
    Ok((child, url.to_owned()))
}

async fn run() -> Result<bool, Failure> {
    let this = std::env::current_exe()?;
    let programs = this.parent().ok_or("no directory")?.to_owned();
    let (_local, endpoint) = local(&programs).await?;
    let config = aws_types::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(&endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "local", "local", None, None, "recovery",
        )))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let directory = tempfile::tempdir()?;
    let fleet = Fleet {
        programs,
        directory: directory.path().to_owned(),
        endpoint,
        kinesis: aws_sdk_kinesis::Client::new(&config),
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        clock: Clock::system(),
        log: Arc::default(),
    };
    tokio::time::timeout(BOUND, measure(&fleet)).await?
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
