//! One story told again and again, and each time a worker dies at another point of it.
//!
//! ```text
//! first starts, and leads ─▶ second starts: it is handed shards over ─▶ a shard is split ─▶ two are merged
//!   ─▶ third starts: both hand over ─▶ first stops, another leads ─▶ second stops
//! ```
//! Nothing else fails, so from the first rest on the promises to a fleet in quiet hold too. The story goes
//! on without the dead worker; nothing is waited for but that the fleet is at rest.
//!
//! The points are all those at which a crash leaves something else behind: before each call of a service, and
//! behind it, its answer being lost; and each time that the main task of the process is polled. What any task
//! does between two calls nobody sees but its processor, and that dies with it.

use super::{
    Arc, Doom, Duration, Event, Log, Mood, OnFailure, QUIET_REST_WITHIN, Rand, Scenario, Temper,
    Truth, Watch, Worker, within,
};
use kinesis_consumer::LeaseAssignment;
use tokio_util::sync::CancellationToken;

/// Which worker dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The one that leads from the start, and hands shards over.
    First,
    /// The one that is given shards, and leads in the end.
    Second,
}

/// Where it dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Crash {
    /// Who.
    pub role: Role,
    /// At which point of its life.
    pub at: Doom,
}

/// How often one of the two called a service, and how often its process was polled, until its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lived {
    /// Calls.
    pub calls: u64,
    /// Polls.
    pub polls: u64,
}

impl Lived {
    /// All points at which it may die; of each kind every so many of them.
    pub fn crashes(self, role: Role, every: usize) -> Vec<Crash> {
        let at_calls = |carried_out| {
            (0..self.calls).map(move |after_calls| Doom::AtCall {
                after_calls,
                carried_out,
            })
        };
        let points = at_calls(false).step_by(every);
        let points = points.chain(at_calls(true).step_by(every));
        let points = points.chain((0..self.polls).map(Doom::AtPoll).step_by(every));
        points.map(|at| Crash { role, at }).collect()
    }
}

/// Enough for three workers to have one each, and one of them two. Source: none, small.
const SHARDS: i32 = 4;

const NAMES: [&str; 3] = ["first", "second", "third"];

impl Scenario {
    /// The stream of the story, without workers; how they read and where dead letters go is the seed's.
    pub(in super::super) async fn start_sweep(seed: u64) -> Self {
        let rand = Rand::seeded(seed);
        let local = rand.fork();
        let mut scenario = Self::start_with(seed, rand, local, SHARDS).await;
        scenario.fault_every = 0;
        scenario.late_every = 0;
        scenario.mood = Mood::default();
        if let OnFailure::Stop { .. } = scenario.settings.on_failure {
            scenario.settings.on_failure = OnFailure::Retry;
        }
        scenario.temper = Temper {
            slow: Duration::ZERO,
            slow_every: 0,
            fails_every: 0,
        };
        // So that a worker that comes is given its share, whatever shards have to carry.
        scenario.settings.lease.assignment = LeaseAssignment::LeaseCount;
        scenario
    }

    /// Tells the story; the log, what the stream holds in the end, and how long first and second lived.
    pub(in super::super) async fn sweep(
        mut self,
        crash: Option<Crash>,
    ) -> (Log, Truth, [Lived; 2]) {
        let dies = crash.map_or_else(|| "nobody dies".to_owned(), |crash| format!("{crash:?}"));
        self.log.step(format!(
            "a sweep: leases by number, no fault, no slow or failing batch; {dies}"
        ));
        let enough = CancellationToken::new();
        let mut writing = self.writers(&enough);
        let doom = |role| {
            crash
                .filter(|crash| crash.role == role)
                .map(|crash| crash.at)
        };
        let dooms = [doom(Role::First), doom(Role::Second), None];

        self.stream_goes_ahead().await;
        self.start_next(dooms);
        let mut rests = self.settles(dooms).await;
        self.log.push(Event::Quiet);
        for act in 0..6 {
            if !rests {
                break;
            }
            match act {
                0 | 3 => self.start_next(dooms),
                1 => self.split().await,
                2 => self.merge().await,
                4 => self.leaves(NAMES[0]).await,
                _ => self.leaves(NAMES[1]).await,
            }
            rests = self.settles(dooms).await;
        }
        enough.cancel();
        while let Some(over) = writing.join_next().await {
            over.expect("the writer does not panic");
        }
        self.settles(dooms).await;
        let truth = self.truth().await;
        self.log.push(Event::Over);
        self.workers.iter().for_each(Worker::stop);
        let over = async || self.workers.iter().all(Worker::is_gone);
        within(Duration::from_secs(120), over).await;
        let lived = |index: usize| {
            let lived = self.workers.get(index).map(|worker| worker.network.lived());
            let (calls, polls) = lived.unwrap_or_default();
            Lived { calls, polls }
        };
        let lived = [lived(0), lived(1)];
        (self.log, truth, lived)
    }

    /// Starts the next worker, if there is one to come.
    fn start_next(&mut self, dooms: [Option<Doom>; 3]) {
        let next = self.workers.len();
        if let (Some(name), Some(doom)) = (NAMES.get(next), dooms.get(next)) {
            self.start_named(Arc::from(*name), *doom, 0);
        }
    }

    /// Lets a worker stop in order, if it lives, others do too.
    async fn leaves(&mut self, name: &str) {
        let worker = self.workers.iter().find(|worker| *worker.name == *name);
        let Some(worker) = worker.filter(|worker| !worker.is_gone()) else {
            return;
        };
        if self.staying() < 2 {
            return;
        }
        worker.stop();
        within(QUIET_REST_WITHIN, async || worker.is_gone()).await;
    }

    /// Waits until everything is in order; whether that came in time. Where nobody lives, the next worker
    /// comes.
    async fn settles(&mut self, dooms: [Option<Doom>; 3]) -> bool {
        let mut watch = Watch::new(self.truth().await);
        let deadline = self.clock.now() + QUIET_REST_WITHIN;
        while watch.unrest(&self.log).is_some() && self.clock.now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.staying() == 0 {
                self.start_next(dooms);
            }
        }
        watch.rests(&self.log)
    }
}
