//! What happens to the fleet in a run: chosen by the seed, step by step.
//!
//! ```text
//! start ─▶ trouble: workers come, stop, crash, are cut off; the network is bad; shards split and merge;
//!          an operator releases leases, sets them anew, deletes their rows
//!       ─▶ calm: nothing fails any more ─▶ at rest within a bound ─▶ over
//!                    └ where shards stop at what fails: at rest but for those, then mended ┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kinesis_consumer::admin::Which;
use kinesis_consumer::{OnFailure, Settings};
use kinesis_core::{Clock, Rand};
use kinesis_local::testing::START_MS;
use kinesis_local::{KinesisLocal, Limits};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::log::{Event, Log};
use super::network::Doom;
use super::operator::{Deed, Operator};
use super::processor::{Mood, Temper, Way};
use super::rules::{Checker, Truth};
use super::worker::Worker;
use looked_after::STOPS_WITHIN;
use streams::Source;
use writer::Writer;

mod acts;
mod looked_after;
mod settings;
mod streams;
pub mod sweep;
mod truth;
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

/// By when it shows in all readings that nothing is written any more, and the leases that cost a worker
/// nothing then are moved off it, one a pass. Source: ten reports are kept; six leases, every 21 s. By number
/// it is how long the dead may count as workers, whatever the clocks are.
const SHOWS_WITHIN: Duration = Duration::from_secs(240);

/// How long nothing may be moved then. Source: none; several passes.
const STILL: Duration = Duration::from_secs(120);

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

/// Chance for what came later than most: so that other things are chosen as they were before.
const MORE: u64 = 0x006d_6f72_6500;

/// A run under way.
pub(super) struct Scenario {
    rand: Rand,
    /// For what has no part in [`Self::rand`], see [`MORE`].
    more: Rand,
    local: KinesisLocal,
    sources: Vec<Source>,
    /// Whether workers are to read the first stream alone.
    takes_one: bool,
    clock: Clock,
    log: Log,
    settings: Settings,
    way: Way,
    temper: Temper,
    mood: Mood,
    /// One read of so many is late; 0: none.
    late_every: u64,
    /// How long the stream is written to before the first worker comes.
    ahead: Duration,
    fault_every: u64,
    /// Whether workers only come, before the calm.
    nobody_goes: bool,
    sound: Arc<AtomicBool>,
    mended: Arc<AtomicBool>,
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
    /// A stream without workers, or two.
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
        let operator = Operator::new(&local, clock.clone(), log.clone(), rand.fork());
        // A second one of a size of its own, for some.
        let second = Some(1 + rand.below(3) as i32).filter(|_| rand.below(4) == 0);
        let shards: Vec<i32> = [shards].into_iter().chain(second).collect();
        let sources = streams::create(&local, &shards).await;
        let more = Rand::seeded(seed ^ MORE);
        let mut settings = settings::settings(&rand);
        settings.on_failure = settings::stops(&more, settings.on_failure);
        let mood = settings::mood(&more);
        let late_every = settings::late_every(&more);
        let temper = settings::temper(&rand);
        let way = settings::way(&rand);
        let ahead = settings::ahead(&rand, &settings);
        let fault_every = [0, 8, 20, 60][rand.below(4) as usize];
        log.step(format!(
            "seed {seed}: {shards:?} shards, {:?}, {:?}, {:?}, {:?}, one fault in {fault_every} calls, \
             one late read in {late_every}, {way:?}, {temper:?}, {mood:?}",
            settings.initial_position, settings.retrieval, settings.on_failure, settings.lease.assignment
        ));
        Self {
            local,
            sources,
            takes_one: false,
            clock,
            log,
            settings,
            way,
            temper,
            mood,
            late_every,
            ahead,
            fault_every,
            nobody_goes: rand.below(3) == 0,
            sound: Arc::default(),
            mended: Arc::default(),
            instances: Arc::default(),
            workers: Vec::new(),
            operator,
            deeds: JoinSet::new(),
            crashed: Vec::new(),
            started: 0,
            more,
            rand,
        }
    }

    /// Plays it to its end; the log, and what the stream holds in the end.
    pub(super) async fn play(mut self) -> (Log, Truth) {
        let enough = CancellationToken::new();
        let mut writing = self.writers(&enough);
        self.stream_goes_ahead().await;
        for _ in 0..=self.rand.below(2) {
            self.start_worker(true);
        }
        for _ in 0..STEPS {
            self.pause(9_000).await;
            self.step().await;
        }
        self.calm().await;
        if self.is_mended_in_time().await && self.rests(REST_WITHIN).await {
            tokio::time::sleep(LAST_OF_TROUBLE).await;
            self.log.push(Event::Quiet);
            self.quiet().await;
        }
        enough.cancel();
        while let Some(over) = writing.join_next().await {
            over.expect("the writer does not panic");
        }
        if self.rests(QUIET_REST_WITHIN).await {
            tokio::time::sleep(SHOWS_WITHIN).await;
            self.log.push(Event::Still);
            tokio::time::sleep(STILL).await;
        }
        let truth = self.truth().await;
        self.log.push(Event::Over);
        for worker in &self.workers {
            worker.stop();
        }
        let over = async || self.workers.iter().all(Worker::is_gone);
        within(Duration::from_secs(120), over).await;
        (self.log, truth)
    }

    /// Writes into each stream until it is enough.
    fn writers(&self, enough: &CancellationToken) -> JoinSet<()> {
        let writer = |source: &Source| Writer {
            stream: source.stream.clone(),
            rand: self.rand.fork(),
            poison_every: match self.settings.on_failure {
                OnFailure::DeadLetter { .. } => 60,
                // One of them is enough for a shard.
                OnFailure::Stop { .. } => 400,
                OnFailure::Retry => 0,
            },
            enough: enough.clone(),
        };
        let writers = self.sources.iter().map(writer);
        writers.map(Writer::run).collect()
    }

    /// The stream is written to, and at times resharded, before there is a worker.
    async fn stream_goes_ahead(&self) {
        if self.ahead.is_zero() {
            return;
        }
        tokio::time::sleep(self.ahead / 2).await;
        match self.rand.below(4) {
            0 => self.split().await,
            1 => self.merge().await,
            _ => {}
        }
        tokio::time::sleep(self.ahead / 2).await;
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
        self.all_streams();
        while self.staying() < 2 {
            self.start_worker(false);
        }
    }

    /// Where shards stop at what fails: all others come to rest, the processors are mended, and what stopped
    /// is let go on, as README says: the workers start again, or a lease that is released goes to a next owner.
    /// Whether the fleet came to rest before.
    async fn is_mended_in_time(&mut self) -> bool {
        if !matches!(self.settings.on_failure, OnFailure::Stop { .. }) {
            return true;
        }
        let rests = self.rests(REST_WITHIN).await;
        self.mended.store(true, Ordering::Relaxed);
        self.log.push(Event::Mended);
        if self.is_looked_after() && self.more.below(2) == 0 {
            self.operator.does(Deed::Release(Which::All)).await;
            return rests;
        }
        for at in 0..self.workers.len() {
            let worker = &self.workers[at];
            worker.stop();
            within(STOPS_WITHIN, async || worker.is_gone()).await;
            self.start_worker(false);
        }
        rests
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
