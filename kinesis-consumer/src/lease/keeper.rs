//! The service that keeps this worker's leases and, when it leads, everybody's.
//!
//! ```text
//!  table, states ─▶ ┬─ every lease_discovery_interval: what was given to me? ─▶ take ─▶ HeldTask (renews)
//!                   ├─ leading, every lease_assignment_interval: scan ─▶ assign ─▶ hand over ─▶ clean up
//!                   ├─ without a leader, as often: scan ─▶ take what stays free
//!                   ├─ Survey: which streams, which of their shards lack leases, is there an index
//!                   └─ Pulse: worker metrics, the leader's lock, states
//!  shutdown: worker metrics deleted; leases go on until each is released or lost, and are given to
//!            others as they become free (leave); then the lock is given back
//! ```
//!
//! The tasks of held leases, and the pulse, run apart from the scans, so that a slow scan delays no
//! renewal and no beat. What is asked of Kinesis runs apart from both (`survey`): while the service does
//! not list or describe streams, leases are given and taken all the same.
//! Dropping [`LeaseKeeper::run`] drops them too: all handles are fenced, and other workers take the
//! leases after `failover_time`, as after a crash.
//!
//! After a lease was given back, this worker leaves it to others for `failover_time`; after it was lost or
//! handed over, until nobody here uses its handle any more, at most for `failover_time`. A checkpointer that
//! a processor kept is no such use.

mod adopt;
pub(super) mod by_key;
mod clean;
mod lead;
mod leave;
mod start;
mod streams;
mod survey;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kinesis_core::{Clock, Rand, ShardId};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::gauges::{FleetGauges, Labels, OwnGauge};
use super::held::{Ending, Trace};
use super::item::CorruptRow;
use super::layout::TableNames;
use super::observe::Observer;
use super::pulse::{Farewell, View};
use super::roster::Roster;
use super::table::{Index, LeaseTable};
use super::tenure::Timing;
use super::worker_metric::Meters;
use super::{HeldLease, LeaseSettings, LeaseStore, metrics as names};
use crate::error::{Error, ErrorKind};
use crate::events::{Announcer, EventKind};
use crate::settings::{InitialPosition, Settings};
use crate::stream::{Source, Sources, StreamId, StreamSource};
use by_key::ByKey;
use lead::Failing;
use streams::{Stream, Unknown};
use survey::Survey;

/// How often a worker without the index looks whether it is there. Source: KCL, 10 s.
const INDEX_INTERVAL: Duration = Duration::from_secs(10);

/// The lease keeper of one worker.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    kinesis: aws_sdk_kinesis::Client,
    table: Arc<dyn LeaseTable>,
    names: TableNames,
    sources: Sources,
    me: String,
    labels: Labels,
    settings: LeaseSettings,
    initial: InitialPosition,
    shutdown_timeout: Duration,
    /// Until the pulse takes them over.
    meters: Meters,
    clock: Clock,
    rand: Rand,
    events: Announcer,
}

impl LeaseKeeper {
    /// A keeper for `worker_id`'s share of the leases of `application`.
    #[expect(
        clippy::too_many_arguments,
        reason = "components and names of one service"
    )]
    pub(crate) fn new(
        kinesis: aws_sdk_kinesis::Client,
        leases: &LeaseStore,
        application: &str,
        sources: impl Into<Sources>,
        worker_id: impl Into<String>,
        settings: &Settings,
        clock: Clock,
        rand: Rand,
    ) -> Self {
        let failover = settings.lease.failover_time;
        let names = settings.lease.table.names(application);
        let me = worker_id.into();
        Self {
            kinesis,
            table: leases.table(&names, failover, rand.clone()),
            names,
            sources: sources.into(),
            labels: Labels::new(application, &me),
            me,
            settings: settings.lease.clone(),
            initial: settings.initial_position,
            shutdown_timeout: settings.shutdown_timeout,
            meters: Meters::default(),
            clock,
            rand,
            events: Announcer::default(),
        }
    }

    /// Tells the leader what `meters` show. Without, this worker says only that it lives.
    pub(crate) fn measuring(mut self, meters: Meters) -> Self {
        self.meters = meters;
        self
    }

    /// Tells `events` what happens to the leases.
    pub(crate) fn announcing(mut self, events: Announcer) -> Self {
        self.events = events;
        self
    }

    /// Keeps the leases until `shutdown`; each lease taken is sent to `gained`.
    ///
    /// After `shutdown`, or when `gained` is closed, nothing is taken any more; held leases are renewed until they are released or
    /// lost. What is still held a little after `shutdown_timeout` is fenced and given away. An error
    /// cancels `shutdown` too.
    ///
    /// # Errors
    /// When the table or the stream cannot be used as they are at the start, or the table is deleted
    /// later. What can mend itself is tried again.
    pub(crate) async fn run(
        self,
        gained: mpsc::Sender<HeldLease>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let mut service = Service::new(self, gained, shutdown.clone());
        let started = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            started = service.start_patiently() => started,
        };
        let outcome = match started {
            Ok(()) => service.keep().await,
            Err(error) => Err(error),
        };
        // Also after an error: the processors still have to stop and checkpoint.
        shutdown.cancel();
        service.drain().await;
        outcome
    }
}

/// A running keeper.
struct Service {
    keeper: LeaseKeeper,
    gained: mpsc::Sender<HeldLease>,
    shutdown: CancellationToken,
    /// Fences and gives away whatever is still held.
    abandon: CancellationToken,
    /// This worker's name and process, with which every `acquisitionId` of it begins.
    process: String,
    observer: Observer,
    roster: Roster,
    held: BTreeMap<ShardId, Holding>,
    tasks: JoinSet<Ending>,
    resting: BTreeMap<ShardId, Rest>,
    farewell: Farewell,
    leases_held: OwnGauge,
    fleet: FleetGauges,
    /// The pulse, once it beats.
    pulse: Option<AbortOnDropHandle<Result<(), Error>>>,
    view: watch::Receiver<View>,
    index: Index,
    /// Absent while that is being looked at.
    next_index: Option<Instant>,
    survey: Survey,
    /// An answer of the survey that changes what a look at the leases finds.
    news: bool,
    /// The survey wrote rows that no pass has seen yet.
    rows_written: bool,
    next_discovery: Instant,
    next_pass: Instant,
    /// Passes as the leader, and how the last ones failed.
    passes: u64,
    failing: Failing,
    /// Unreadable rows that were reported.
    reported: Vec<CorruptRow>,
    /// The index refused this worker, which was reported.
    index_reported: bool,
    /// Leases of the other kind were reported.
    others_reported: bool,
    next_cleanup: Instant,
    /// Rows of no more use are being deleted.
    deleting: bool,
    streams: Vec<Stream>,
    by_key: ByKey,
    /// Tells when the application's list of streams changes.
    list: Option<watch::Receiver<Vec<StreamSource>>>,
    /// Streams that are not looked up yet.
    unknown: BTreeMap<String, Unknown>,
}

/// A lease that this worker holds.
#[derive(Debug)]
struct Holding {
    trace: Trace,
    task: tokio::task::Id,
    source: Arc<Source>,
}

/// A lease that this worker held until a moment ago.
#[derive(Debug)]
struct Rest {
    until: Instant,
    /// For a lease that was lost or handed over: rest only as long as this is in use.
    while_used: Option<Trace>,
}

impl Rest {
    fn is_over(&self, now: Instant) -> bool {
        let unused = self
            .while_used
            .as_ref()
            .is_some_and(|trace| !trace.is_in_use());
        now >= self.until || unused
    }
}

impl Service {
    fn new(
        keeper: LeaseKeeper,
        gained: mpsc::Sender<HeldLease>,
        shutdown: CancellationToken,
    ) -> Self {
        let process = format!("{}/{}/", keeper.me, keeper.rand.uuid());
        let now = keeper.clock.now();
        let settings = &keeper.settings;
        let survey = Survey::new(&keeper);
        let list = keeper.sources.changes();
        let one = match &keeper.sources {
            Sources::One(address) => Some(Source {
                id: None,
                address: address.clone(),
                initial: keeper.initial,
                consumer_arn: None,
                stop: shutdown.child_token(),
                events: keeper.events.clone(),
                doubted: AtomicBool::new(false),
            }),
            Sources::Many(_) => None,
        };
        let mut service = Self {
            leases_held: OwnGauge::new(names::LEASES_HELD, &keeper.labels),
            fleet: FleetGauges::new(&keeper.labels),
            observer: Observer::new(Timing::of(settings), settings.failover_of_kcl()),
            roster: Roster::new(settings.worker_metrics_interval, settings.failover_time),
            next_cleanup: now + settings.lease_cleanup_interval,
            deleting: false,
            process,
            keeper,
            gained,
            shutdown,
            abandon: CancellationToken::new(),
            held: BTreeMap::new(),
            tasks: JoinSet::new(),
            resting: BTreeMap::new(),
            farewell: Farewell::default(),
            pulse: None,
            view: watch::channel(View::default()).1,
            index: Index::NotYet,
            next_index: Some(now),
            next_discovery: now,
            next_pass: now,
            passes: 0,
            failing: Failing::default(),
            survey,
            news: false,
            rows_written: false,
            reported: Vec::new(),
            index_reported: false,
            others_reported: false,
            streams: Vec::new(),
            by_key: ByKey::default(),
            list,
            unknown: BTreeMap::new(),
        };
        if let Some(source) = one {
            service.read(source);
        }
        service
    }

    /// Leads or follows, and takes what it is given, until shutdown.
    async fn keep(&mut self) -> Result<(), Error> {
        loop {
            if self.shutdown.is_cancelled() || self.gained.is_closed() {
                return Ok(());
            }
            let now = self.keeper.clock.now();
            self.leases_held.set(self.held.len());
            self.resting.retain(|_, rest| !rest.is_over(now));
            if now >= self.next_pass {
                // At a steady pace: what was seen at one pass expires at a certain later one.
                let interval = self.keeper.settings.lease_assignment_interval;
                self.next_pass = (self.next_pass + interval).max(now);
                let led = self.lead_or_follow(now).await;
                self.judge(led)?;
            }
            let looks = self.index == Index::NotYet;
            if looks && self.next_index.take_if(|at| now >= *at).is_some() {
                self.survey.look_at_index();
            }
            // A leader finds what it was given by its scans.
            let leads = self.view.borrow().leads(self.keeper.clock.now());
            if !leads && self.keeper.clock.now() >= self.next_discovery {
                let discovered = self.discover().await;
                self.judge(discovered)?;
                let pause = self.keeper.settings.lease_discovery_interval;
                let part = 0.9 + 0.1 * self.keeper.rand.unit();
                self.next_discovery = self.keeper.clock.now() + pause.mul_f64(part);
            }
            let next = if leads {
                self.next_pass
            } else {
                self.next_pass.min(self.next_discovery)
            };
            if !self.wait_until(next).await? {
                return Ok(());
            }
        }
    }

    /// What an error of a look at the table means: nothing for now, or the end.
    fn judge(&self, outcome: Result<(), Error>) -> Result<(), Error> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
            Err(error) => {
                metrics::counter!(names::SCAN_FAILURES).increment(1);
                if error.kind().is_retryable() {
                    tracing::warn!("the leases could not be looked through: {error}");
                } else {
                    tracing::error!("the leases cannot be looked through: {error}");
                }
                Ok(())
            }
        }
    }

    /// Puts the next look at the leases, of either kind, first.
    fn look_now(&mut self) {
        let now = self.keeper.clock.now();
        self.news = false;
        self.next_discovery = now;
        if self.view.borrow().leads(now) {
            self.next_pass = now;
        }
    }

    /// Waits, taking in what the survey found and what the application changes in its list of streams, and
    /// forgetting leases that end meanwhile; `false` if the shutdown comes first.
    async fn wait_until(&mut self, until: Instant) -> Result<bool, Error> {
        let leads = self.view.borrow_and_update().leads(self.keeper.clock.now());
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(false),
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                ended = pulse_ended(&mut self.pulse) => {
                    self.pulse = None;
                    ended?;
                }
                Some(found) = self.survey.next() => {
                    self.news |= self.take_in(found)?;
                    // What is answered at the same time is looked at together, and what hangs is not
                    // waited for.
                    if self.news && self.survey.is_idle() {
                        self.look_now();
                        return Ok(true);
                    }
                }
                () = changed(&mut self.list) => self.find_streams(),
                Ok(()) = self.view.changed() => {
                    let now = self.keeper.clock.now();
                    if self.view.borrow_and_update().leads(now) && !leads {
                        self.next_pass = now;
                        return Ok(true);
                    }
                }
                () = sleep_until(until) => return Ok(true),
            }
        }
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, Ending), tokio::task::JoinError>) {
        let (task, ending) = match ended {
            Ok((task, ending)) => (task, Some(ending)),
            Err(error) => {
                tracing::error!("the task of a lease failed; the lease is fenced: {error}");
                (error.id(), None)
            }
        };
        let ended = self.held.extract_if(.., |_, held| held.task == task).next();
        let Some((shard_id, held)) = ended else {
            return;
        };
        self.leases_held.set(self.held.len());
        let kind = match ending {
            Some(Ending::Released | Ending::HandedOver) => EventKind::LeaseReleased,
            Some(Ending::Lost(_)) | None => EventKind::LeaseLost,
        };
        held.source
            .announce(StreamId::shard_of_key(&shard_id), kind);
        let rest = Rest {
            until: self.keeper.clock.now() + self.keeper.settings.failover_time,
            while_used: match ending {
                Some(Ending::Lost(_) | Ending::HandedOver) => Some(held.trace),
                Some(Ending::Released) | None => None,
            },
        };
        self.resting.insert(shard_id, rest);
    }
}

/// Waits until the list of streams changes, for ever if there is none.
async fn changed(list: &mut Option<watch::Receiver<Vec<StreamSource>>>) {
    if let Some(list) = list
        && list.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Waits for the end of the pulse, for ever if there is none.
async fn pulse_ended(
    pulse: &mut Option<AbortOnDropHandle<Result<(), Error>>>,
) -> Result<(), Error> {
    let ended: Result<Result<(), Error>, JoinError> = match pulse {
        Some(pulse) => pulse.await,
        None => std::future::pending().await,
    };
    match ended {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(
            ErrorKind::Internal,
            "being part of the fleet stopped by a defect of this crate",
        )
        .with_source(error)),
    }
}

#[cfg(test)]
mod tests;
