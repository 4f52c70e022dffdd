//! What happens to the fleet in a run: chosen by the seed, step by step.
//!
//! ```text
//! start ─▶ trouble: workers come, stop, crash, are cut off; the network is bad; shards split and merge
//!       ─▶ calm: nothing fails any more ─▶ at rest within a bound ─▶ over
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ScalingType};
use kinesis_consumer::{
    FanOutSettings, LeaseAssignment, LeaseSettings, OnFailure, Retrieval, Settings, ShardId,
};
use kinesis_core::{Aggregate, Clock, Deaggregated, Position, Rand, UserRecord, deaggregate};
use kinesis_local::testing::{START_MS, TestStream};
use kinesis_local::{KinesisLocal, Limits};
use tokio_util::sync::CancellationToken;

use super::log::{Event, Log};
use super::network::{Cut, Doom, Network};
use super::processor::{POISON, Processors, Temper};
use super::rules::{Checker, Truth};
use super::worker::{Parts, Worker};
use crate::world::STREAM;

pub mod sweep;

/// Things that happen before the calm. Source: none; about a minute and a half.
const STEPS: u64 = 18;

/// Most workers at a time. Source: none, small.
const WORKERS_MAX: usize = 4;

/// How long the fleet may take, after the last fault, until everything is in order: a leader is
/// replaced (10 s and a look), sees for `handoff_timeout` and `failover_time` a handoff whose parties
/// are dead, gives the leases away, and parents that are behind are read to their ends before their
/// children, batches being slow. Source: the defaults of the settings, and [`Temper::slow`].
const REST_WITHIN: Duration = Duration::from_secs(180);

/// The same in quiet, where the worst is that a leader dies. Source: as above, without the handoff that
/// nobody ends.
const QUIET_REST_WITHIN: Duration = Duration::from_secs(120);

/// The most by which a worker's wall clock is wrong, either way, in milliseconds.
/// Source: none; a machine without NTP.
const SKEW_MILLIS_MAX: u64 = 90_000;

/// How long a request may be out whose answer was lost just before the calm. Source: the consumer's
/// time-out of a scan of the lease table, and a little.
const LAST_OF_TROUBLE: Duration = Duration::from_secs(11);

/// What happens in quiet.
#[derive(Clone, Copy, Debug)]
enum Act {
    Grow,
    Leave,
    Die,
    Split,
}

/// A run under way.
pub(super) struct Scenario {
    rand: Rand,
    local: KinesisLocal,
    stream: TestStream,
    clock: Clock,
    log: Log,
    settings: Settings,
    temper: Temper,
    fault_every: u64,
    /// Whether workers only come, before the calm.
    nobody_goes: bool,
    sound: Arc<AtomicBool>,
    instances: Arc<AtomicUsize>,
    workers: Vec<Worker>,
    /// Names of workers that crashed, which may come back.
    crashed: Vec<Arc<str>>,
    started: usize,
}

impl Scenario {
    /// A stream without workers.
    pub(super) async fn start(seed: u64) -> Self {
        let rand = Rand::seeded(seed);
        let local = rand.fork();
        let shards = 1 + rand.below(4) as i32;
        Self::start_with(seed, rand, local, shards).await
    }

    async fn start_with(seed: u64, rand: Rand, of_local: Rand, shards: i32) -> Self {
        let clock = Clock::starting_at(START_MS);
        let log = Log::new(clock.clone());
        let local = KinesisLocal::builder()
            .clock(clock.clone())
            .rand(of_local)
            .limits(Limits::Off)
            .single_threaded(true)
            .start()
            .await
            .expect("kinesis-local starts");
        let stream = TestStream::create(&local, STREAM, shards).await;
        let settings = settings(&rand);
        let temper = Temper {
            slow: Duration::from_secs(1 + rand.below(14)),
            slow_every: [0, 8, 30][rand.below(3) as usize],
            fails_every: [0, 12, 40][rand.below(3) as usize],
        };
        let fault_every = [0, 8, 20, 60][rand.below(4) as usize];
        log.step(format!(
            "seed {seed}: {shards} shards, {:?}, {:?}, {:?}, one fault in {fault_every} calls, {temper:?}",
            settings.retrieval, settings.on_failure, settings.lease.assignment
        ));
        Self {
            local,
            stream,
            clock,
            log,
            settings,
            temper,
            fault_every,
            nobody_goes: rand.below(3) == 0,
            sound: Arc::default(),
            instances: Arc::default(),
            workers: Vec::new(),
            crashed: Vec::new(),
            started: 0,
            rand,
        }
    }

    /// Plays it to its end; the log, and what the stream holds in the end.
    pub(super) async fn play(mut self) -> (Log, Truth) {
        let enough = CancellationToken::new();
        let writer = Writer {
            stream: self.stream.clone(),
            rand: self.rand.fork(),
            poison: matches!(self.settings.on_failure, OnFailure::DeadLetter { .. }),
            enough: enough.clone(),
        };
        let writing = tokio::spawn(writer.run());
        for _ in 0..=self.rand.below(2) {
            self.start_worker(true);
        }
        for _ in 0..STEPS {
            self.pause(9_000).await;
            self.step().await;
        }
        self.calm().await;
        if self.rests(REST_WITHIN).await {
            tokio::time::sleep(LAST_OF_TROUBLE).await;
            self.log.push(Event::Quiet);
            self.quiet().await;
        }
        enough.cancel();
        writing.await.expect("the writer does not panic");
        self.rests(QUIET_REST_WITHIN).await;
        let truth = self.truth().await;
        self.log.push(Event::Over);
        for worker in &self.workers {
            worker.stop();
        }
        let over = async || self.workers.iter().all(Worker::is_gone);
        within(Duration::from_secs(120), over).await;
        (self.log, truth)
    }

    async fn pause(&self, millis_max: u64) {
        tokio::time::sleep(Duration::from_millis(self.rand.below(millis_max))).await;
    }

    /// Something happens.
    async fn step(&mut self) {
        self.workers.retain(|worker| !worker.is_gone());
        match self.rand.below(16) {
            0..=3 if self.workers.len() < WORKERS_MAX => self.start_worker(true),
            4..=7 if self.nobody_goes => {}
            4 => {
                if let Some(worker) = self.any() {
                    self.log.step(format!("{} is asked to stop", worker.name));
                    worker.stop();
                }
            }
            5 | 6 => {
                if let Some(worker) = self.any() {
                    worker.network.kill();
                    self.crashed.push(Arc::clone(&worker.name));
                }
            }
            7 => {
                if let Some(leader) = self.leader() {
                    self.log.step("the leader is killed");
                    leader.network.kill();
                    self.crashed.push(Arc::clone(&leader.name));
                }
            }
            8..=10 => self.cut(),
            11 => self.split().await,
            12 => self.merge().await,
            13 => self.scale().await,
            _ => {}
        }
    }

    fn any(&self) -> Option<&Worker> {
        if self.workers.is_empty() {
            return None;
        }
        let at = self.rand.below(self.workers.len() as u64) as usize;
        self.workers.get(at)
    }

    fn leader(&self) -> Option<&Worker> {
        let leads = self.log.with(|entries| {
            entries.iter().rev().find_map(|entry| match &entry.event {
                Event::Led { worker } => Some(worker.clone()),
                _ => None,
            })
        });
        self.workers
            .iter()
            .find(|worker| Some(&*worker.name) == leads.as_deref())
    }

    fn start_worker(&mut self, in_trouble: bool) {
        self.started += 1;
        let again = self.rand.below(3) == 0;
        let name = match self.crashed.pop().filter(|_| again) {
            // A crashed worker may come back under its name, before its leases expire.
            Some(name) if self.workers.iter().all(|worker| worker.name != name) => name,
            _ => format!("w{}", self.started).into(),
        };
        let doomed = in_trouble && !self.nobody_goes && self.rand.below(3) == 0;
        let doom = doomed.then(|| Doom::AtCall {
            after_calls: self.rand.below(250),
            carried_out: self.rand.below(2) == 0,
        });
        self.start_named(name, doom, if in_trouble { self.fault_every } else { 0 });
    }

    /// Starts a worker that dies there, if it does, behind a network that fails so often.
    fn start_named(&mut self, name: Arc<str>, doom: Option<Doom>, fault_every: u64) {
        let client = self.local.http_client();
        let rand = self.rand.fork();
        let network = Network::new(Arc::clone(&name), client, self.log.clone(), rand, doom);
        network.fault_every(fault_every);
        let skew = self.rand.below(2 * SKEW_MILLIS_MAX);
        let now = self.clock.epoch_millis() + skew - SKEW_MILLIS_MAX;
        self.workers.push(Worker::start(Parts {
            local: self.local.clone(),
            network,
            settings: self.settings.clone(),
            processors: Processors {
                worker: name,
                log: self.log.clone(),
                instances: Arc::clone(&self.instances),
                rand: self.rand.fork(),
                temper: self.temper,
                sound: Arc::clone(&self.sound),
            },
            clock: Clock::starting_at(now),
            rand: self.rand.fork(),
            log: self.log.clone(),
        }));
    }

    /// Cuts a worker off for a while: from everything, from one service alone, or, for longer, one
    /// operation alone.
    fn cut(&self) {
        let Some(worker) = self.any() else { return };
        let one_of = |cuts: &[Cut]| cuts[self.rand.below(cuts.len() as u64) as usize];
        let (cut, seconds_max) = match self.rand.below(3) {
            0 => (Cut::Everything, 40),
            1 => (one_of(&Cut::SERVICES), 40),
            _ => (one_of(&Cut::OPERATIONS), 120),
        };
        let seconds = 1 + self.rand.below(seconds_max);
        let name = Arc::clone(&worker.name);
        self.log
            .step(format!("{name} is cut off from {cut} for {seconds} s"));
        worker.network.cut(Some(cut));
        let (network, log) = (worker.network.clone(), self.log.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if !network.is_dead() {
                log.step(format!("{name} is let in again"));
                network.cut(None);
            }
        });
    }

    async fn split(&self) {
        let open = self.stream.open_shards().await;
        if open.len() < 6 {
            let shard = &open[self.rand.below(open.len() as u64) as usize];
            self.log.step(format!("{} is split", shard.shard_id()));
            self.stream.split(shard.shard_id()).await;
        }
    }

    async fn merge(&self) {
        let open = self.stream.open_shards().await;
        if open.len() >= 2 {
            let at = self.rand.below(open.len() as u64 - 1) as usize;
            let (shard, next) = (open[at].shard_id(), open[at + 1].shard_id());
            self.log.step(format!("{shard} and {next} are merged"));
            self.stream.merge(shard, next).await;
        }
    }

    async fn scale(&self) {
        let open = self.stream.open_shards().await.len();
        // Within what the service takes: half to double.
        let least = open.div_ceil(2);
        let target = (least + self.rand.below((2 * open - least) as u64 + 1) as usize).min(6);
        if target == open || target < least {
            return;
        }
        self.log.step(format!("{open} shards are made {target}"));
        let update = self.stream.client().update_shard_count();
        let update = update
            .stream_name(STREAM)
            .target_shard_count(target as i32)
            .scaling_type(ScalingType::UniformScaling);
        update.send().await.expect("the shards are updated");
        self.stream.until_active().await;
    }

    /// Nothing fails from here on, and there are two workers at least.
    async fn calm(&mut self) {
        self.log.push(Event::Calm);
        self.sound.store(true, Ordering::Relaxed);
        self.workers.retain(|worker| !worker.is_gone());
        for worker in &self.workers {
            worker.network.calm();
        }
        while self.staying() < 2 {
            self.start_worker(false);
        }
    }

    /// What happens to a fleet that nothing is wrong with: it grows, somebody leaves, somebody dies, a
    /// shard is split. Each in turn, and the fleet comes to rest between.
    async fn quiet(&mut self) {
        let mut acts = [Act::Grow, Act::Leave, Act::Die, Act::Split];
        self.rand.shuffle(&mut acts);
        for act in acts {
            self.workers.retain(|worker| !worker.is_gone());
            match act {
                Act::Grow => self.start_worker(false),
                Act::Split => self.split().await,
                Act::Leave | Act::Die if self.staying() < 2 => continue,
                Act::Leave => {
                    if let Some(worker) = self.any() {
                        self.log.step(format!("{} is asked to stop", worker.name));
                        worker.stop();
                    }
                }
                Act::Die => {
                    if let Some(worker) = self.any() {
                        worker.network.kill();
                    }
                }
            }
            if !self.rests(QUIET_REST_WITHIN).await {
                return;
            }
        }
    }

    fn staying(&self) -> usize {
        self.workers
            .iter()
            .filter(|worker| !worker.is_gone() && !worker.leaves())
            .count()
    }

    /// What the stream holds.
    async fn truth(&self) -> Truth {
        let ids = |shards: &[aws_sdk_kinesis::types::Shard]| {
            let id = |shard: &aws_sdk_kinesis::types::Shard| ShardId::from(shard.shard_id());
            shards.iter().map(id).collect()
        };
        let shards = self.stream.shards().await;
        let parents = |shard: &aws_sdk_kinesis::types::Shard| {
            let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            let parents = parents.into_iter().flatten().map(ShardId::from).collect();
            (ShardId::from(shard.shard_id()), parents)
        };
        let mut records = Vec::new();
        for stored in self.stream.read_all().await {
            let members = match deaggregate(&stored.data) {
                Deaggregated::Members(members) => members.len() as u64,
                Deaggregated::Raw(_) | Deaggregated::Damaged { .. } => 1,
            };
            let at = |sub| Position::at(stored.sequence_number.clone(), sub);
            records.extend((0..members).map(|sub| (stored.shard_id.clone(), at(sub))));
        }
        Truth {
            records,
            parents: shards.iter().map(parents).collect(),
            open: ids(&self.stream.open_shards().await),
            by_number: self.settings.lease.assignment == LeaseAssignment::LeaseCount,
        }
    }

    /// Waits until everything is in order, what was written until now being dealt with; whether that
    /// came in time.
    async fn rests(&self, in_time: Duration) -> bool {
        let mut watch = Watch::new(self.truth().await);
        within(in_time, async || watch.unrest(&self.log).is_none()).await;
        watch.rests(&self.log)
    }
}

/// Sees when the fleet is at rest.
struct Watch {
    checker: Checker,
    seen: usize,
}

impl Watch {
    fn new(truth: Truth) -> Self {
        Self {
            checker: Checker::new(truth),
            seen: 0,
        }
    }

    /// What is not in order.
    fn unrest(&mut self, log: &Log) -> Option<String> {
        log.with(|entries| {
            let new = entries[self.seen..].iter();
            new.for_each(|entry| self.checker.see(entry));
            self.seen = entries.len();
        });
        self.checker.unrest()
    }

    /// Whether all is, which the log is told if not.
    fn rests(&mut self, log: &Log) -> bool {
        let unrest = self.unrest(log);
        let rests = unrest.is_none();
        if let Some(what) = unrest {
            log.push(Event::Unrest { what });
        }
        rests
    }
}

fn settings(rand: &Rand) -> Settings {
    let retrieval = match rand.below(3) {
        0 => Retrieval::FanOut(FanOutSettings::default()),
        _ => Retrieval::Polling,
    };
    let on_failure = match rand.below(2) {
        0 => OnFailure::DeadLetter { attempts: 3 },
        _ => OnFailure::Retry,
    };
    let assignment = match rand.below(2) {
        0 => LeaseAssignment::LeaseCount,
        _ => LeaseAssignment::default(),
    };
    Settings {
        retrieval,
        on_failure,
        // As many as keep up with the writer, slow batches and all.
        max_records: 5 + rand.below(20) as u32,
        shutdown_timeout: Duration::from_secs(1 + rand.below(20)),
        lease: LeaseSettings {
            // The use of this machine's CPU is not the seed's.
            disable_worker_metrics: true,
            assignment,
            ..LeaseSettings::default()
        },
        ..Settings::default()
    }
}

/// Waits until `done`, looking every half a second, for this long at most.
async fn within(long: Duration, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    // Whether it was done is told by the log.
    drop(tokio::time::timeout(long, wait).await);
}

/// Puts records, each key's in order, until it is enough.
struct Writer {
    stream: TestStream,
    rand: Rand,
    poison: bool,
    enough: CancellationToken,
}

impl Writer {
    async fn run(self) {
        let mut number = 0_u64;
        while !self.enough.is_cancelled() {
            for _ in 0..=self.rand.below(3) {
                self.put(&mut number).await;
            }
            tokio::time::sleep(Duration::from_millis(self.rand.below(1_500))).await;
        }
    }

    /// One record, or several of one key in an aggregate.
    async fn put(&self, number: &mut u64) {
        let key = format!("k{}", self.rand.below(7));
        let mut payload = || {
            *number += 1;
            let poison = self.poison && self.rand.below(60) == 0;
            format!("{key}:{number}{}", if poison { POISON } else { "" })
        };
        let members = self.rand.below(4);
        let data = if members == 0 {
            payload().into_bytes()
        } else {
            let mut aggregate = Aggregate::new();
            for _ in 0..members {
                aggregate.push(UserRecord::new(key.as_str(), payload()));
            }
            aggregate.encode().to_vec()
        };
        let entry = PutRecordsRequestEntry::builder()
            .partition_key(&key)
            .data(Blob::new(data))
            .build()
            .expect("complete");
        let put = self.stream.client().put_records().stream_name(STREAM);
        let answer = put
            .records(entry)
            .send()
            .await
            .expect("the record is taken");
        assert_eq!(answer.failed_record_count, Some(0));
    }
}
