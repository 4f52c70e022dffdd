//! What happens to the fleet in a run: chosen by the seed, step by step.
//!
//! ```text
//! start ─▶ trouble: workers come, stop, crash, are cut off; the network is bad; shards split and merge;
//!          an operator releases leases, sets them anew, deletes their rows
//!       ─▶ calm: nothing fails any more ─▶ at rest within a bound ─▶ over
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kinesis_consumer::{
    FanOutSettings, LeaseAssignment, LeaseSettings, OnFailure, Retrieval, Settings, ShardId,
};
use kinesis_core::{Clock, Deaggregated, Position, Rand, deaggregate};
use kinesis_local::testing::{START_MS, TestStream};
use kinesis_local::{KinesisLocal, Limits};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::log::{Event, Log};
use super::network::Doom;
use super::operator::Operator;
use super::processor::Temper;
use super::rules::{Checker, Truth};
use super::worker::Worker;
use crate::world::STREAM;
use writer::Writer;

mod acts;
mod looked_after;
pub mod sweep;
mod writer;

/// Things that happen before the calm. Source: none; about a minute and a half.
const STEPS: u64 = 18;

/// How long the fleet may take, after the last fault, until everything is in order: a leader is
/// replaced (10 s and a look), sees for `handoff_timeout` and `failover_time` a handoff whose parties
/// are dead, gives the leases away, and parents that are behind are read to their ends before their
/// children, batches being slow. Source: the defaults of the settings, and [`Temper::slow`].
const REST_WITHIN: Duration = Duration::from_secs(180);

/// The same in quiet, where the worst is that a leader dies. Source: as above, without the handoff that
/// nobody ends.
const QUIET_REST_WITHIN: Duration = Duration::from_secs(120);

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
    Release,
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
    operator: Operator,
    /// What the operator is at.
    deeds: JoinSet<()>,
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
        let operator = Operator::new(&local, clock.clone(), log.clone(), rand.fork());
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
            operator,
            deeds: JoinSet::new(),
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

    /// Nothing fails from here on, and there are two workers at least.
    async fn calm(&mut self) {
        while self.deeds.join_next().await.is_some() {}
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
    /// shard is split, a lease is released. Each in turn, and the fleet comes to rest between.
    async fn quiet(&mut self) {
        let mut acts = [Act::Grow, Act::Leave, Act::Die, Act::Split, Act::Release];
        self.rand.shuffle(&mut acts);
        for act in acts {
            self.workers.retain(|worker| !worker.is_gone());
            match act {
                Act::Grow => self.start_worker(false),
                Act::Split => self.split().await,
                Act::Release => self.release().await,
                Act::Leave | Act::Die if self.staying() < 2 => continue,
                Act::Leave => {
                    if let Some(worker) = self.any() {
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
