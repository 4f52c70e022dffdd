//! What the leader does, and what any worker does while there is none.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use kinesis_core::ShardId;
use metrics::{counter, histogram};
use tokio::time::{Instant, timeout};

use super::by_key::of_stream;
use super::{Service, names};
use crate::error::{Error, ErrorKind};
use crate::events::{EventKind, Gain};
use crate::lease::assign::{self, Candidate, Plan, Rules};
use crate::lease::item::CorruptRow;
use crate::lease::lineage::Lineage;
use crate::lease::observe::{Standing, is_untaken};
use crate::lease::stats::WorkerStats;
use crate::lease::table::{Outcome, Rows};
use crate::lease::write::Write;
use crate::lease::{FORMER_OWNER, Lease, LeaseAssignment};
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::stream::{Source, Sources, StreamId};

/// Assignments under way at once. Source: none; the KCL has a pool of CPUs × 2 threads.
const ASSIGNS_AT_ONCE: usize = 32;

/// Passes that may fail one after the other, for one `failover_time` at least, before another leader is to
/// try: a table that throttles for some seconds does so for the next leader too.
/// Source: KCL 3.5.1, `DEFAULT_FAILURE_COUNT_TO_SWITCH_LEADER`, whose passes are 20 s apart.
const FAILED_PASSES_MAX: u32 = 3;

/// For how many `failover_time`s passes may fail before another leader is to try, however few they are:
/// one over a table that does not answer takes half a minute.
/// Source: none; a little more than the failover of a worker takes.
const FAILING_FAILOVERS: u32 = 2;

/// How the last passes of a leader failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failing {
    passes: u32,
    since: Option<Instant>,
}

impl Failing {
    /// Whether another is to lead, after a pass that began at `began` and ended at `now`.
    pub(super) fn after(
        &mut self,
        good: bool,
        began: Instant,
        now: Instant,
        failover: Duration,
    ) -> bool {
        if good {
            *self = Self::default();
            return false;
        }
        self.passes += 1;
        let since = *self.since.get_or_insert(began);
        let failing = now.duration_since(since);
        let enough = failing >= failover * FAILING_FAILOVERS
            || failing >= failover && self.passes >= FAILED_PASSES_MAX;
        #[cfg(feature = "mutations")]
        let enough = enough || mutation::is(Mutation::ResignsAtOnce);
        if enough {
            *self = Self::default();
        }
        enough
    }
}

/// The table during one pass.
pub(super) struct Board {
    /// Those of streams that are read, in the order of their keys.
    pub(super) leases: Vec<Lease>,
    pub(super) unreadable: Vec<ShardId>,
    pub(super) stats: Vec<WorkerStats>,
}

impl Board {
    /// Whether workers of a KCL share the table, or did within the last day.
    pub(super) fn has_kcl(&self) -> bool {
        self.stats.iter().any(|row| !row.is_ours)
    }

    /// The leases of a stream that is read.
    pub(super) fn of(&self, source: &Source) -> &[Lease] {
        of_stream(&self.leases, source)
    }

    pub(super) fn get(&self, shard_id: &ShardId) -> Option<&Lease> {
        let found = self
            .leases
            .binary_search_by(|lease| lease.shard_id.cmp(shard_id));
        found.ok().and_then(|at| self.leases.get(at))
    }
}

/// How one write went.
enum Moved {
    Done(Lease),
    /// The row as it is.
    Refused(Option<Lease>),
}

impl Service {
    /// One pass, as what this worker is right now.
    pub(super) async fn lead_or_follow(&mut self, began: Instant) -> Result<(), Error> {
        let view = *self.view.borrow();
        if view.leads(began) {
            let passed = self.pass().await;
            let failover = self.keeper.settings.failover_time;
            let now = self.keeper.clock.now();
            if self.failing.after(passed.is_ok(), began, now, failover) {
                tracing::error!("this worker does not do well as the leader; another is to try");
                self.farewell.resign.notify_one();
                // Not the next one before the lock is given back.
                self.next_pass = now + self.keeper.settings.lease_assignment_interval;
            }
            return passed;
        }
        self.failing = Failing::default();
        self.fleet.clear();
        self.forget_syncs();
        self.passes = 0;
        if view.is_leaderless(began) {
            return self.help_itself().await;
        }
        Ok(())
    }

    /// Scans, has missing leases created, assigns, hands over, cleans up.
    async fn pass(&mut self) -> Result<(), Error> {
        // Rows that were just written are certain to be seen.
        let board = self.look(self.rows_written).await?;
        self.rows_written = false;
        self.sync_streams(&board);
        let plan = self.plan(&board, false);
        self.passes += 1;
        // A row that cannot be written keeps nobody from the others.
        let assigned = self.assign(&board, &plan).await;
        let handed_over = self.hand_over(&board, &plan).await;
        let leases = board.leases.iter();
        let mine = leases.filter(|lease| lease.owner.as_ref() == Some(&self.keeper.me));
        let taken = self.take_given(mine.cloned().collect()).await;
        assigned.and(handed_over).and(taken)?;
        self.clean_up(&board);
        Ok(())
    }

    /// While there is no leader: takes what has been free for so long that nobody gives it away.
    async fn help_itself(&mut self) -> Result<(), Error> {
        // A longer one, by a follower, would keep it from what a new leader gives it.
        let limit = self.keeper.settings.failover_time;
        let board = timeout(limit, self.look(false)).await.unwrap_or_else(|_| {
            let what = format!("there was no answer to a scan within {limit:?}");
            Err(Error::new(ErrorKind::Unavailable, what))
        })?;
        let now = self.keeper.clock.now();
        let lineage = Lineage::new(&board.leases, &board.unreadable);
        let unwanted = board.leases.iter().filter(|lease| {
            !lease.is_ended()
                && !lineage.is_blocked(lease)
                && self.is_free_for_me(&lease.shard_id)
                && self.observer.standing(lease, now).is_free()
                && self.observer.is_unwanted(lease, now)
        });
        let mut unwanted: Vec<_> = unwanted
            .map(|lease| (lease.clone(), gain(self.observer.standing(lease, now))))
            .collect();
        // In an order of chance, so that workers do not race for the same.
        self.keeper.rand.shuffle(&mut unwanted);
        unwanted.truncate(self.room());
        self.take_all(unwanted).await
    }

    pub(super) async fn look(&mut self, consistent: bool) -> Result<Board, Error> {
        let started = self.keeper.clock.now();
        self.find_streams();
        let rows = self.keeper.table.scan(consistent).await?;
        let rows = self.own(rows);
        let now = self.keeper.clock.now();
        histogram!(names::SCAN_SECONDS).record(now.duration_since(started).as_secs_f64());
        self.report(&rows);
        self.observer.scanned(&rows.leases, now);
        let stats = self.keeper.table.all_stats(rows.stats).await?;
        self.observer.told(&stats);
        let mut leases = rows.leases;
        // What this worker knows of its own leases is newer.
        for lease in &mut leases {
            let held = self.held.get(&lease.shard_id);
            if let Some(row) = held.and_then(|held| held.trace.lease()) {
                *lease = row;
            }
        }
        leases.sort_unstable_by(|a, b| a.shard_id.cmp(&b.shard_id));
        Ok(Board {
            leases,
            unreadable: rows.corrupt.into_iter().map(|row| row.shard_id).collect(),
            stats,
        })
    }

    /// Unreadable rows are reported once, and again when they change.
    fn report(&mut self, rows: &Rows) {
        self.fleet.corrupt_rows.set(rows.corrupt.len());
        for row in &rows.corrupt {
            if !self.reported.contains(row) {
                report_corrupt(row, self.keeper.table.name());
            }
        }
        self.reported.clone_from(&rows.corrupt);
    }

    /// Who is to get what. A worker that leaves gets nothing.
    pub(super) fn plan(&mut self, board: &Board, leaving: bool) -> Plan {
        let now = self.keeper.clock.now();
        let now_millis = self.keeper.clock.epoch_millis();
        self.roster.scanned(&board.stats, now, now_millis);
        let lineage = Lineage::new(&board.leases, &board.unreadable);
        let open = board.leases.iter().filter(|lease| !lease.is_ended());
        let candidates: Vec<_> = open
            .filter(|lease| !lineage.is_blocked(lease))
            .map(|lease| self.candidate(lease, leaving, now))
            .collect();
        let me = self.keeper.me.as_str();
        let mut stats = board.stats.clone();
        if self.keeper.settings.assignment == LeaseAssignment::LeaseCount {
            // Nor does it matter then whether a reading failed.
            stats.iter_mut().for_each(|row| row.values.clear());
        }
        if leaving {
            stats.retain(|row| row.worker != me);
        }
        let me = Some(me).filter(|_| !leaving);
        let members = self.roster.members(stats, &candidates, me, now);
        if !leaving {
            let failing = board.stats.iter().filter(|row| row.is_failing()).count();
            self.fleet.workers.set(members.len());
            self.fleet.workers_failing.set(failing);
            self.fleet.leases_open.set(candidates.len());
        }
        let settings = &self.keeper.settings;
        let rules = Rules {
            assignment: settings.assignment,
            leases_max: settings.max_leases_for_worker as usize,
            handoffs_max: settings.max_handoffs_at_once as usize,
            rebalance: match settings.assignment {
                LeaseAssignment::LeaseCount => true,
                LeaseAssignment::WorkerUtilization(how) => self
                    .passes
                    .is_multiple_of(how.variance_balancing_frequency.into()),
            },
        };
        let plan = assign::plan(&candidates, &members, rules, &self.keeper.rand);
        if !leaving {
            self.fleet.spillover.set(plan.spillover);
        }
        plan
    }

    fn candidate<'a>(&self, lease: &'a Lease, leaving: bool, now: Instant) -> Candidate<'a> {
        let held = self.held.contains_key(&lease.shard_id);
        Candidate {
            lease,
            standing: if held {
                Standing::Active
            } else if (leaving && self.is_given_too_late(lease)) || self.is_given_to_who_left(lease)
            {
                Standing::Unowned
            } else {
                self.observer.standing(lease, now)
            },
            since: self.observer.since(lease),
            at_work: held || self.observer.is_at_work(lease),
        }
    }

    /// Whether nobody takes the lease any more whom it was given to.
    fn is_given_to_who_left(&self, lease: &Lease) -> bool {
        let left = |owner: &String| self.roster.has_left(owner);
        is_untaken(lease) && lease.owner.as_ref().is_some_and(left)
    }

    pub(super) async fn assign(&mut self, board: &Board, plan: &Plan) -> Result<(), Error> {
        let mut to_me = Vec::new();
        let writes = plan.assign.iter().filter_map(|(id, to)| {
            let row = board.get(id)?;
            if self.waits_for_range(row) {
                return None;
            }
            if *to == self.keeper.me {
                let now = self.keeper.clock.now();
                to_me.push((row.clone(), gain(self.observer.standing(row, now))));
                return None;
            }
            self.report_untaken(row);
            Some(Write::assign(row, to))
        });
        let writes: Vec<Write> = writes.collect();
        let assigned = self.write_all(writes).await;
        counter!(names::LEASES_ASSIGNED)
            .increment((*assigned.as_ref().unwrap_or(&0) + to_me.len()) as u64);
        // What falls to the leader itself needs no detour.
        to_me.retain(|(row, _)| self.is_free_for_me(&row.shard_id));
        to_me.truncate(self.room());
        let taken = self.take_all(to_me).await;
        assigned.and(taken)
    }

    /// Reports a lease of one of several streams that its owner was given and never took.
    fn report_untaken(&self, row: &Lease) {
        let Some(owner) = &row.owner else {
            return;
        };
        let taken = row.marked_by() == Some(owner);
        let gone = *owner == self.keeper.me || owner == FORMER_OWNER || self.roster.has_left(owner);
        if !taken && !gone && matches!(self.keeper.sources, Sources::Many(_)) {
            tracing::warn!(
                shard = %row.shard_id, %owner,
                "the worker did not take the lease it was given, and another gets it; does it have \
                 the stream in its list?"
            );
        }
    }

    async fn hand_over(&mut self, board: &Board, plan: &Plan) -> Result<(), Error> {
        let mut writes = Vec::new();
        for (id, to) in &plan.hand_over {
            writes.extend(board.get(id).and_then(|row| Write::start_handoff(row, to)));
        }
        let started = self.write_all(writes).await?;
        counter!(names::HANDOFFS_STARTED).increment(started as u64);
        Ok(())
    }

    /// How many of the writes were made. One that is refused was overtaken by somebody, and is looked
    /// at in the next pass.
    pub(super) async fn write_all(&mut self, writes: Vec<Write>) -> Result<usize, Error> {
        let table = &self.keeper.table;
        let writes = writes.into_iter().map(|write| async move {
            match table.write(&write).await? {
                Outcome::Done(row) => {
                    tracing::info!(
                        shard = %row.shard_id,
                        to = row.owner.as_deref().unwrap_or("nobody"),
                        from = row.checkpoint_owner.as_deref().unwrap_or("nobody"),
                        "gave the lease away"
                    );
                    Ok(Moved::Done(row))
                }
                Outcome::Refused(row) => Ok::<_, Error>(Moved::Refused(row)),
            }
        });
        let outcomes: Vec<_> = stream::iter(writes)
            .buffer_unordered(ASSIGNS_AT_ONCE)
            .collect()
            .await;
        let now = self.keeper.clock.now();
        let mut done = 0;
        let mut failed = None;
        for outcome in outcomes {
            match outcome {
                Ok(Moved::Done(row)) => {
                    done += 1;
                    self.tell(&row);
                }
                Ok(Moved::Refused(Some(row))) => self.observer.saw(&row, now),
                Ok(Moved::Refused(None)) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// Tells of a handoff that began.
    fn tell(&self, row: &Lease) {
        let (Some(from), Some(to)) = (&row.checkpoint_owner, &row.owner) else {
            return;
        };
        if let Some(source) = self.source_of(&row.shard_id) {
            let kind = EventKind::HandoffAsked {
                from: from.clone(),
                to: to.clone(),
            };
            source.announce(StreamId::shard_of_key(&row.shard_id), kind);
        }
    }
}

/// How a free lease comes to who takes it.
fn gain(standing: Standing) -> Gain {
    match standing {
        Standing::Unowned | Standing::Active => Gain::Unowned,
        Standing::Expired => Gain::Failover,
        Standing::Overdue => Gain::Forced,
    }
}

fn report_corrupt(row: &CorruptRow, table: &str) {
    tracing::error!(
        table,
        shard = %row.shard_id,
        attribute = row.attribute,
        "{row}; the lease is skipped until the row is put right"
    );
}
