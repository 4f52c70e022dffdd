//! What a worker does, apart from its leases, to be part of the fleet: it writes its row of worker
//! metrics, takes part in the election of the leader, and watches the states of the KCL's migrations.
//!
//! A task of its own, so that no long pass over the leases delays a beat of the lock. A beat comes
//! before all else that is due, and nothing else takes longer than a part of what the lock lasts: a
//! leader whose metrics or states nobody answers for leads on. The task's end is told by what it
//! returns; whether this worker leads, by [`View`].
//!
//! ```text
//!  start ─▶ metrics row ─▶ look at the lock ─▶ beat, report, look at states, each at its time
//!  leave: metrics row deleted (no more leases come), lock kept     gone: lock given back
//! ```

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::{Clock, Rand};
use metrics::counter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::gauges::{Labels, OwnGauge};
use super::lock::{Claim, LEADER, Leadership, Step};
use super::metrics as names;
use super::stats::WorkerStats;
use super::table::{LeaseTable, Locked};
use super::worker_metric::Meters;
use crate::error::{Error, ErrorKind};

/// How often the states of the KCL's migrations are looked at. Source: KCL, workers look every 60 s.
const STATES_INTERVAL: Duration = Duration::from_secs(60);

/// Pause before a report of the worker's metrics that failed is made again.
/// Source: none, reasonable default.
const REPORT_RETRY: Duration = Duration::from_secs(2);

/// What a report, its deletion, or a look at the states, may take of the duration of the leader's lock: two
/// attempts by default. A worker that starts waits as long for its report before it looks who leads, and a
/// beat that is due waits too, with a third of the lock left then. Source: none, derived from that.
const ERRANDS_PER_DURATION: u32 = 7;

/// What the rest of the worker is to know.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct View {
    /// Until when this worker leads, unless more is heard.
    leads_until: Option<Instant>,
    /// From when on another leader counts as silent.
    silent_from: Option<Instant>,
}

impl View {
    pub(crate) fn leads(&self, now: Instant) -> bool {
        self.leads_until.is_some_and(|until| now < until)
    }

    /// Whether no leader seems to be there.
    pub(crate) fn is_leaderless(&self, now: Instant) -> bool {
        !self.leads(now) && self.silent_from.is_some_and(|from| now >= from)
    }
}

/// How to tell the task to end, in two steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Farewell {
    /// No more leases are wanted.
    pub(crate) leave: CancellationToken,
    /// All leases are given back.
    pub(crate) gone: CancellationToken,
    /// This worker does not do well as a leader; another is to try.
    pub(crate) resign: Arc<tokio::sync::Notify>,
}

/// The task.
#[derive(Debug)]
pub(crate) struct Pulse {
    me: String,
    table: Arc<dyn LeaseTable>,
    lock: Leadership,
    lock_duration: Duration,
    /// A lock that nobody can claim, since it cannot be read, was reported.
    unreadable_reported: bool,
    stats: WorkerStats,
    /// When the row says that it was written: at the last report that was answered, or at one of those
    /// behind it, which may have arrived all the same.
    reported: Option<RangeInclusive<u64>>,
    report_interval: Duration,
    meters: Meters,
    next_report: Instant,
    next_states: Instant,
    view: watch::Sender<View>,
    is_leader: OwnGauge,
    farewell: Farewell,
    clock: Clock,
    rand: Rand,
}

/// What a beat may take of the duration of the lock: who waits longer for an answer is deposed by a single one
/// that does not come. Source: none; an answer that comes at all takes less, and four beats fit between the
/// time for one and the time until which a leader trusts itself.
const BEAT_PER_DURATION: u32 = 8;

/// What comes next.
enum Turn {
    Gone,
    Leave,
    Resign,
    Lock,
    Report,
    States,
}

impl Pulse {
    pub(crate) fn new(
        labels: &Labels,
        table: Arc<dyn LeaseTable>,
        settings: &super::LeaseSettings,
        meters: Meters,
        farewell: Farewell,
        clock: Clock,
        rand: Rand,
    ) -> (Self, watch::Receiver<View>) {
        let now = clock.now();
        let (view, seen) = watch::channel(View::default());
        let pulse = Self {
            me: labels.worker.to_string(),
            is_leader: OwnGauge::new(names::IS_LEADER, labels),
            table,
            lock: Leadership::new(&labels.worker, settings.leader_lock_duration, now),
            lock_duration: settings.leader_lock_duration,
            unreadable_reported: false,
            stats: WorkerStats::new(&labels.worker, 0),
            reported: None,
            report_interval: settings.worker_metrics_interval,
            meters,
            next_report: now,
            next_states: now + STATES_INTERVAL,
            view,
            farewell,
            clock,
            rand,
        };
        (pulse, seen)
    }

    /// Goes on until the farewell, or until a state forbids this worker to work.
    ///
    /// # Errors
    /// `InvalidInput` for a state that is not known here.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let mut staying = true;
        // Before the election, so that whoever leads sees this worker.
        self.report().await;
        loop {
            let turn = tokio::select! {
                biased;
                () = self.farewell.gone.cancelled() => Turn::Gone,
                () = self.farewell.leave.cancelled(), if staying => Turn::Leave,
                () = self.farewell.resign.notified() => Turn::Resign,
                () = sleep_until(self.lock.next()) => Turn::Lock,
                () = sleep_until(self.next_report), if staying => Turn::Report,
                () = sleep_until(self.next_states), if staying => Turn::States,
            };
            match turn {
                Turn::Lock => self.election().await,
                Turn::Report => self.report().await,
                Turn::States => self.states().await?,
                Turn::Resign => self.give_lock_back().await,
                Turn::Leave => {
                    staying = false;
                    self.delete_report().await;
                }
                Turn::Gone => {
                    self.give_lock_back().await;
                    // Where that failed before, too: a leader would give leases to who is gone.
                    self.delete_report().await;
                    return Ok(());
                }
            }
            self.publish();
        }
    }

    fn publish(&mut self) {
        let now = self.clock.now();
        let next = View {
            leads_until: self.lock.leads_until(),
            silent_from: self.lock.silent_from(now),
        };
        let leads = next.leads(now);
        self.view.send_if_modified(|view| {
            if leads != view.leads(now) {
                let verb = if leads { "leads" } else { "does not lead" };
                tracing::info!(worker = self.me, "this worker {verb} the fleet");
            }
            std::mem::replace(view, next) != next
        });
        self.is_leader.set(usize::from(leads));
    }

    async fn election(&mut self) {
        let lasts = self.lock_duration;
        let result = match self.lock.step(self.clock.now()) {
            Step::Beat(seen) => within(lasts / BEAT_PER_DURATION, self.beat(&seen)).await,
            // Who leaves does not begin to lead.
            Step::Look if self.farewell.leave.is_cancelled() => Ok(()),
            Step::Look => within(lasts, self.look()).await,
        };
        if let Err(error) = result {
            counter!(names::LOCK_FAILURES).increment(1);
            tracing::warn!(worker = self.me, "the leader's lock: {error}");
        }
    }

    async fn beat(&mut self, seen: &str) -> Result<(), Error> {
        let version = self.rand.uuid();
        self.lock.sending(&version, self.clock.now());
        let beat = self
            .table
            .beat_lock(&self.me, seen, &version, self.lock_duration);
        match beat.await? {
            Locked::Done => self.lock.made(),
            Locked::Refused(row) => {
                // Whatever could be claimed is claimed at the next look.
                self.lock.saw(row.as_ref(), self.clock.now());
            }
            Locked::Moved => drop(self.lock.saw(None, self.clock.now())),
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), Error> {
        let row = self.table.lock().await?;
        self.unreadable_reported &= row.is_none();
        let Some(claim) = self.lock.saw(row.as_ref(), self.clock.now()) else {
            return Ok(());
        };
        let version = self.rand.uuid();
        self.lock.sending(&version, self.clock.now());
        let claimed = self
            .table
            .claim_lock(&claim, &self.me, &version, self.lock_duration);
        match claimed.await? {
            Locked::Done => {
                self.lock.made();
                counter!(names::LEADERSHIPS).increment(1);
                if let (Claim::Expired(_), Some(row)) = (&claim, &row) {
                    let before = &row.owner;
                    tracing::warn!(before, "the leader was silent for too long and is replaced");
                }
            }
            Locked::Refused(row) => {
                let unreadable = claim == Claim::Absent && row.is_none();
                if unreadable && !std::mem::replace(&mut self.unreadable_reported, true) {
                    tracing::error!(
                        table = self.table.name(),
                        "the row {LEADER} of the leader's lock is there and cannot be read, so no worker \
                         leads: delete it"
                    );
                }
                self.lock.saw(row.as_ref(), self.clock.now());
            }
            // It is looked at there next.
            Locked::Moved => drop(self.lock.saw(None, self.clock.now())),
        }
        Ok(())
    }

    async fn give_lock_back(&mut self) {
        let Some(version) = self.lock.version().map(str::to_owned) else {
            return;
        };
        let release = self.table.release_lock(&self.me, &version);
        if let Err(error) = within(self.lock_duration, release).await {
            tracing::warn!(worker = self.me, "another leader has to wait: {error}");
        }
        self.lock.gave_back(self.clock.now());
    }

    /// Takes the readings and writes the row of this worker.
    async fn report(&mut self) {
        let now = self.clock.now();
        let limit = self.errand_limit();
        // Whoever is late with a reading leaves half of the time for the row.
        self.meters.capture(limit / 2, &mut self.stats).await;
        let limit = limit.saturating_sub(self.clock.now().duration_since(now));
        self.stats.updated_at = self.clock.epoch_millis() / 1_000;
        let at = self.stats.updated_at;
        match within(limit, self.table.put_stats(&self.stats)).await {
            Ok(()) => {
                self.reported = Some(at..=at);
                self.next_report = now + self.report_interval;
            }
            Err(error) => {
                counter!(names::REPORT_FAILURES).increment(1);
                tracing::warn!("the worker's metrics are written again: {error}");
                let from = self
                    .reported
                    .as_ref()
                    .map_or(at, |reported| *reported.start());
                self.reported = Some(from..=at);
                // From now on: the call may have taken longer than the pause is.
                self.next_report = self.clock.now() + REPORT_RETRY.min(self.report_interval);
            }
        }
    }

    async fn delete_report(&mut self) {
        let Some(reported) = self.reported.clone() else {
            return;
        };
        let delete = self.table.delete_stats(&self.me, reported);
        match within(self.errand_limit(), delete).await {
            Ok(_) => self.reported = None,
            Err(error) => tracing::warn!("the worker's metrics stay until they are old: {error}"),
        }
    }

    async fn states(&mut self) -> Result<(), Error> {
        self.next_states = self.clock.now() + STATES_INTERVAL;
        let limit = self.errand_limit();
        let found = async {
            if self.table.find_layout().await? {
                tracing::info!("the KCL moved its rows; they are used where they are now");
                self.lock = Leadership::new(&self.me, self.lock_duration, self.clock.now());
                self.next_report = self.clock.now();
            }
            self.table.client_version().await
        };
        match within(limit, found).await {
            Ok(Some(version)) => version.permit(self.table.name())?,
            Ok(None) => {}
            // A state that was read, and that this crate must not work with.
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(error),
            // Such as a credential that has expired: what else it stops tells of itself.
            Err(error) => {
                tracing::warn!("the states of the fleet are looked at later: {error}");
            }
        }
        Ok(())
    }

    /// By when an errand between two beats has to be back.
    fn errand_limit(&self) -> Duration {
        self.lock_duration / ERRANDS_PER_DURATION
    }
}

/// `work`, given up after `limit`.
async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = || {
        let what = format!("there was no answer within {limit:?}");
        Err(Error::new(ErrorKind::Unavailable, what))
    };
    timeout(limit, work).await.unwrap_or_else(|_| late())
}

#[cfg(test)]
mod tests;
