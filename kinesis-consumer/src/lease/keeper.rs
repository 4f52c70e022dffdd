//! The service that keeps this worker's share of the leases.
//!
//! ```text
//!  ensure table ─▶ shard sync ─▶ every lease_scan_interval: scan ─▶ take ─▶ ask for handoffs ─▶ clean up
//!                                                                    └──▶ HeldTask per lease (renews)
//!  shutdown: no more scans; tasks go on until every lease is released or lost, or time is up
//! ```
//!
//! The tasks of held leases run apart from the scans, so that a slow scan delays no renewal.
//! Dropping [`LeaseKeeper::run`] drops them too: all handles are fenced, and other workers take the
//! leases after `failover_time`, as after a crash.
//!
//! After a lease was given back, this worker leaves it to others for `failover_time`; after it was
//! lost, until nobody here uses its handle any more, at most for `failover_time`.

mod round;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::{Backoff, Clock, Rand, ShardId};
use metrics::gauge;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::held::{Ending, Trace};
use super::item::CorruptRow;
use super::observe::Observer;
use super::table::LeaseTable;
use super::tenure::Timing;
use super::{HeldLease, LeaseSettings, metrics as names};
use crate::discover;
use crate::error::{Error, ErrorKind};
use crate::events::{Announcer, EventKind};
use crate::settings::{InitialPosition, Settings};
use crate::stream::{Source, Sources, StreamId};
use streams::Stream;

/// How much longer than `shutdown_timeout` the keeper waits for leases to be released, so that
/// whoever releases them at the last moment still finds it. Source: none, reasonable default.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Longest wait before the first new try to start; doubles. Source: none, reasonable default.
const START_BACKOFF: Duration = Duration::from_secs(1);

/// Longest wait before any new try to start. Source: none, reasonable default.
const START_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Takes under way at once. Small, so that a worker that starts beside others learns of them before
/// it has taken everything. Source: none, reasonable default.
const TAKES_AT_ONCE: usize = 8;

/// The lease keeper of one worker.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    kinesis: aws_sdk_kinesis::Client,
    table: LeaseTable,
    sources: Sources,
    me: String,
    settings: LeaseSettings,
    initial: InitialPosition,
    shutdown_timeout: Duration,
    clock: Clock,
    rand: Rand,
    events: Announcer,
}

impl LeaseKeeper {
    /// A keeper for `worker_id`'s share of the leases in table `table_name`.
    #[expect(
        clippy::too_many_arguments,
        reason = "components and names of one service"
    )]
    pub(crate) fn new(
        kinesis: aws_sdk_kinesis::Client,
        dynamodb: aws_sdk_dynamodb::Client,
        table_name: impl Into<String>,
        sources: impl Into<Sources>,
        worker_id: impl Into<String>,
        settings: &Settings,
        clock: Clock,
        rand: Rand,
    ) -> Self {
        let failover = settings.lease.failover_time;
        Self {
            kinesis,
            table: LeaseTable::new(&dynamodb, &table_name.into(), failover, rand.clone()),
            sources: sources.into(),
            me: worker_id.into(),
            settings: settings.lease.clone(),
            initial: settings.initial_position,
            shutdown_timeout: settings.shutdown_timeout,
            clock,
            rand,
            events: Announcer::default(),
        }
    }

    /// Tells `events` what happens to the leases.
    pub(crate) fn announcing(mut self, events: Announcer) -> Self {
        self.events = events;
        self
    }

    /// Keeps the leases until `shutdown`; each lease taken is sent to `gained`.
    ///
    /// After `shutdown`, or when `gained` is closed, nothing is taken any more; held leases are renewed until they are released or
    /// lost. What is still held a little after `shutdown_timeout` is fenced and given away.
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
            () = shutdown.cancelled() => return Ok(()),
            started = service.start_patiently() => started,
        };
        let outcome = match started {
            Ok(()) => service.keep().await,
            Err(error) => Err(error),
        };
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
    /// What every `acquisitionId` of this process begins with.
    process: String,
    observer: Observer,
    held: BTreeMap<ShardId, Holding>,
    tasks: JoinSet<Ending>,
    resting: BTreeMap<ShardId, Rest>,
    /// Unreadable rows that were reported.
    reported: Vec<CorruptRow>,
    /// Leases of the other kind were reported.
    others_reported: bool,
    next_cleanup: Instant,
    streams: Vec<Stream>,
    /// Streams that could not be looked up, and when to try again.
    unknown: BTreeMap<String, Instant>,
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
    /// For a lost lease: rest only as long as this is in use.
    while_used: Option<Trace>,
}

impl Rest {
    fn is_over(&self, now: Instant) -> bool {
        let lost_and_unused = self
            .while_used
            .as_ref()
            .is_some_and(|trace| !trace.is_in_use());
        now >= self.until || lost_and_unused
    }

    /// Whether somebody here may still be about to notice that the lease was lost.
    fn is_winding_down(&self) -> bool {
        self.while_used.as_ref().is_some_and(Trace::is_in_use)
    }
}

impl Service {
    fn new(
        keeper: LeaseKeeper,
        gained: mpsc::Sender<HeldLease>,
        shutdown: CancellationToken,
    ) -> Self {
        let process = format!("{}/", keeper.rand.uuid());
        let now = keeper.clock.now();
        let timing = Timing::of(&keeper.settings);
        Self {
            observer: Observer::new(&keeper.me, &process, timing),
            next_cleanup: now + keeper.settings.lease_cleanup_interval,
            process,
            keeper,
            gained,
            shutdown,
            abandon: CancellationToken::new(),
            held: BTreeMap::new(),
            tasks: JoinSet::new(),
            resting: BTreeMap::new(),
            reported: Vec::new(),
            others_reported: false,
            streams: Vec::new(),
            unknown: BTreeMap::new(),
        }
    }

    /// Starts, again and again while what is in the way can mend itself.
    async fn start_patiently(&mut self) -> Result<(), Error> {
        let backoff = Backoff::new(START_BACKOFF, START_BACKOFF_MAX);
        for attempt in 0.. {
            match self.start().await {
                Err(error) if error.kind().is_retryable() => {
                    metrics::counter!(names::SCAN_FAILURES).increment(1);
                    tracing::warn!("the leases could not be set up and are tried again: {error}");
                    tokio::time::sleep(backoff.delay(attempt, &self.keeper.rand)).await;
                }
                settled => return settled,
            }
        }
        Ok(())
    }

    /// The table, and the leases of the shards there are.
    async fn start(&mut self) -> Result<(), Error> {
        let keeper = &self.keeper;
        keeper.table.ensure(&keeper.settings.table).await?;
        self.find_streams().await?;
        let rows = self.keeper.table.scan().await?;
        let rows = self.own(rows);
        let unreadable: Vec<ShardId> = rows
            .corrupt
            .iter()
            .map(|row| row.shard_id.clone())
            .collect();
        self.sync_new(&rows.leases, &unreadable, discover::PATIENCE_AT_START)
            .await
    }

    /// Scans until shutdown.
    async fn keep(&mut self) -> Result<(), Error> {
        loop {
            if self.shutdown.is_cancelled() || self.gained.is_closed() {
                return Ok(());
            }
            match self.round().await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
                Err(error) if error.kind().is_retryable() => {
                    metrics::counter!(names::SCAN_FAILURES).increment(1);
                    tracing::warn!("the leases could not be looked through: {error}");
                }
                Err(error) => {
                    metrics::counter!(names::SCAN_FAILURES).increment(1);
                    tracing::error!("the leases cannot be looked through: {error}");
                }
            }
            let pause = self.keeper.settings.lease_scan_interval;
            let next =
                self.keeper.clock.now() + pause.mul_f64(0.75 + 0.25 * self.keeper.rand.unit());
            if !self.wait_until(next).await {
                return Ok(());
            }
        }
    }

    /// Waits, forgetting leases that end meanwhile; `false` if the shutdown comes first.
    async fn wait_until(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return false,
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                () = sleep_until(until) => return true,
            }
        }
    }

    /// Waits until every lease is released or lost.
    async fn drain(&mut self) {
        let mut deadline = self.keeper.clock.now() + self.keeper.shutdown_timeout + SHUTDOWN_GRACE;
        loop {
            tokio::select! {
                ended = self.tasks.join_next_with_id() => match ended {
                    Some(ended) => self.ended(ended),
                    None => return,
                },
                () = sleep_until(deadline) => {
                    if self.abandon.is_cancelled() {
                        return;
                    }
                    let left = self.tasks.len();
                    tracing::warn!(left, "leases were not released in time and are given away");
                    self.abandon.cancel();
                    deadline = self.keeper.clock.now() + self.keeper.settings.failover_time;
                }
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
        let kind = match ending {
            Some(Ending::Released) => EventKind::LeaseReleased,
            Some(Ending::Lost(_)) | None => EventKind::LeaseLost,
        };
        held.source
            .announce(StreamId::shard_of_key(&shard_id), kind);
        let rest = Rest {
            until: self.keeper.clock.now() + self.keeper.settings.failover_time,
            while_used: match ending {
                Some(Ending::Lost(_)) => Some(held.trace),
                Some(Ending::Released) | None => None,
            },
        };
        self.resting.insert(shard_id, rest);
        gauge!(names::LEASES_HELD).set(self.held.len() as f64);
    }
}

#[cfg(test)]
mod tests;
