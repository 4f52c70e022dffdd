//! One look at the table and what follows from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kinesis_core::ShardId;
use metrics::{counter, gauge, histogram};
use tokio::time::Instant;

use super::{Holding, Rest, Service, TAKES_AT_ONCE, names};
use crate::error::Error;
use crate::events::{EventKind, Gain};
use crate::lease::Lease;
use crate::lease::assign::{self, Candidate, Limits, Plan};
use crate::lease::held::HeldTask;
use crate::lease::item::{CorruptRow, Row};
use crate::lease::lineage::Lineage;
use crate::lease::observe::Standing;
use crate::lease::table::{Outcome, Rows};
use crate::lease::tenure::{Tenure, Timing};
use crate::lease::write::Write;
use crate::stream::StreamId;

/// The table during one round: as scanned, brought up to date by this worker's own writes.
struct Board {
    leases: Vec<Lease>,
    unreadable: Vec<ShardId>,
    /// Not to be tried again in this round.
    settled: BTreeSet<ShardId>,
}

impl Board {
    fn put(&mut self, row: Lease) {
        match self
            .leases
            .iter_mut()
            .find(|lease| lease.shard_id == row.shard_id)
        {
            Some(lease) => *lease = row,
            None => self.leases.push(row),
        }
    }

    fn get(&self, shard_id: &ShardId) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.shard_id == *shard_id)
    }
}

/// What came of trying to take a lease.
enum Take {
    Taken {
        tenure: Tenure,
        standing: Standing,
    },
    /// Somebody else was faster, or a parent is not finished.
    Left(Option<Lease>),
}

impl Service {
    /// Scans, takes, asks for handoffs, cleans up, repairs.
    pub(super) async fn round(&mut self) -> Result<(), Error> {
        let started = self.keeper.clock.now();
        self.find_streams().await?;
        let rows = self.keeper.table.scan().await?;
        let rows = self.own(rows);
        let now = self.keeper.clock.now();
        histogram!(names::SCAN_SECONDS).record(now.duration_since(started).as_secs_f64());
        self.report(&rows);
        self.observer.scanned(&rows.leases, now);
        self.resting.retain(|_, rest| !rest.is_over(now));
        let mut board = Board {
            leases: rows.leases,
            unreadable: rows.corrupt.into_iter().map(|row| row.shard_id).collect(),
            settled: BTreeSet::new(),
        };
        self.take_share(&mut board).await?;
        if self.shutdown.is_cancelled() {
            return Ok(());
        }
        self.clean_up(&board).await?;
        self.repair(&board.leases, &board.unreadable).await
    }

    /// Unreadable rows are reported once, and again when they change.
    fn report(&mut self, rows: &Rows) {
        gauge!(names::CORRUPT_ROWS).set(rows.corrupt.len() as f64);
        for row in &rows.corrupt {
            if !self.reported.contains(row) {
                report_corrupt(row, self.keeper.table.name());
            }
        }
        self.reported.clone_from(&rows.corrupt);
    }

    /// Takes leases until this worker has its share, then asks for handoffs.
    async fn take_share(&mut self, board: &mut Board) -> Result<(), Error> {
        // Ends: each pass settles at least one lease.
        loop {
            let plan = self.plan(board);
            gauge!(names::WORKERS).set(plan.workers as f64);
            let batch: Vec<_> = plan.take.iter().take(TAKES_AT_ONCE).cloned().collect();
            if batch.is_empty() {
                return self.ask_for_handoffs(board, &plan).await;
            }
            let takes: Vec<_> = batch
                .iter()
                .filter_map(|id| board.get(id).cloned())
                .map(|lease| self.take(lease))
                .collect();
            let outcomes = futures::future::join_all(takes).await;
            board.settled.extend(batch);
            let mut failed = None;
            for outcome in outcomes {
                match outcome {
                    Ok(Take::Taken { tenure, standing }) => {
                        board.put(tenure.lease().clone());
                        self.hold(tenure, standing).await;
                    }
                    Ok(Take::Left(Some(row))) => {
                        self.observer.saw(&row, self.keeper.clock.now());
                        board.put(row);
                    }
                    Ok(Take::Left(None)) => {}
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if self.shutdown.is_cancelled() {
                return Ok(());
            }
        }
    }

    fn plan(&self, board: &mut Board) -> Plan {
        for lease in &mut board.leases {
            let held = self.held.get(&lease.shard_id);
            if let Some(row) = held.and_then(|held| held.trace.lease()) {
                *lease = row;
            }
        }
        let now = self.keeper.clock.now();
        let lineage = Lineage::new(&board.leases, &board.unreadable);
        let open = board.leases.iter().filter(|lease| !lease.is_ended());
        let candidates: Vec<_> = open
            .filter(|lease| !lineage.is_blocked(lease))
            .map(|lease| self.candidate(lease, board, now))
            .collect();
        gauge!(names::LEASES_OPEN).set(candidates.len() as f64);
        let limits = Limits {
            leases: self.keeper.settings.max_leases_for_worker as usize,
            handoffs: self.keeper.settings.max_handoffs_at_once as usize,
        };
        assign::plan(&self.keeper.me, &candidates, limits, &self.keeper.rand)
    }

    fn candidate<'a>(&self, lease: &'a Lease, board: &Board, now: Instant) -> Candidate<'a> {
        let held = self.held.contains_key(&lease.shard_id);
        let standing = if held {
            Standing::Active
        } else {
            self.observer.standing(lease, now)
        };
        Candidate {
            lease,
            standing,
            unwanted: self.observer.is_unwanted(lease, now),
            held,
            owner_leaving: lease
                .owner
                .as_deref()
                .is_some_and(|owner| owner != self.keeper.me && self.observer.is_leaving(owner)),
            resting: self.resting.contains_key(&lease.shard_id),
            barred: board.settled.contains(&lease.shard_id)
                || self
                    .resting
                    .get(&lease.shard_id)
                    .is_some_and(Rest::is_winding_down),
        }
    }

    /// Tries to take one lease.
    fn take(&self, seen: Lease) -> impl Future<Output = Result<Take, Error>> + use<> {
        let table = self.keeper.table.clone();
        let clock = self.keeper.clock.clone();
        let me = self.keeper.me.clone();
        let timing = Timing::of(&self.keeper.settings);
        let standing = self.observer.standing(&seen, clock.now());
        let acquisition = format!("{}{}", self.process, self.keeper.rand.uuid());
        async move {
            // The scan is no snapshot: a parent it did not show is asked for by name.
            for parent in &seen.parents {
                match table.get(parent).await? {
                    None | Some(Row::Other) => {}
                    Some(Row::Lease(row)) if row.is_ended() => {}
                    Some(Row::Lease(_) | Row::Corrupt(_)) => return Ok(Take::Left(None)),
                }
            }
            let sent = clock.now();
            match table.write(&Write::take(&seen, &me, &acquisition)).await? {
                Outcome::Done(row) => {
                    let tenure = Tenure::new(&me, &acquisition, row, timing, sent);
                    Ok(Take::Taken { tenure, standing })
                }
                // An attempt whose answer was lost took it. The name is compared too: workers that
                // were given the same seed make up the same acquisitions.
                Outcome::Refused(Some(row))
                    if row.acquisition.as_ref() == Some(&acquisition)
                        && row.owner.as_ref() == Some(&me) =>
                {
                    let tenure = Tenure::new(&me, &acquisition, row, timing, sent);
                    Ok(Take::Taken { tenure, standing })
                }
                Outcome::Refused(row) => Ok(Take::Left(row)),
            }
        }
    }

    /// Starts the task of a lease and hands it to the consumer.
    async fn hold(&mut self, tenure: Tenure, standing: Standing) {
        let row = tenure.lease().clone();
        if self.keeper.clock.now() >= tenure.fence_at() {
            // The answer took so long that others may take the lease; the next scan shows who has it.
            tracing::warn!(shard = %row.shard_id, "took the lease too slowly to use it");
            return;
        }
        let (reason, by) = match standing {
            Standing::Unowned => ("unowned", Gain::Unowned),
            Standing::Expired => ("expired", Gain::Failover),
            Standing::Assigned => ("assigned", Gain::Handoff),
            Standing::Overdue => ("forced", Gain::Forced),
            Standing::Active => ("active", Gain::Forced),
        };
        counter!(names::LEASES_TAKEN, "reason" => reason).increment(1);
        tracing::info!(shard = %row.shard_id, reason, checkpoint = %row.checkpoint, "took the lease");
        let Some(source) = self.source_of(&row.shard_id) else {
            // Removed from the streams since the scan: nobody renews it, and others take it.
            return;
        };
        let keeper = &self.keeper;
        let (handle, task) = HeldTask::new(
            &keeper.me,
            tenure.with_head_start(keeper.rand.unit()),
            keeper.table.clone(),
            Arc::clone(&source),
            self.abandon.clone(),
            keeper.clock.clone(),
            keeper.rand.clone(),
        );
        source.announce(handle.shard_id().clone(), EventKind::LeaseGained { by });
        let held = Holding {
            trace: handle.trace(),
            task: self.tasks.spawn(task.run()).id(),
            source,
        };
        self.held.insert(row.shard_id.clone(), held);
        self.resting.remove(&row.shard_id);
        gauge!(names::LEASES_HELD).set(self.held.len() as f64);
        // A lease that cannot be handed on is dropped here, which releases it.
        tokio::select! {
            sent = self.gained.send(handle) => {
                if sent.is_err() {
                    tracing::debug!(shard = %row.shard_id, "nobody wants the lease any more");
                }
            }
            () = self.shutdown.cancelled() => {}
        }
    }

    async fn ask_for_handoffs(&mut self, board: &mut Board, plan: &Plan) -> Result<(), Error> {
        for id in &plan.hand_over {
            let write = board
                .get(id)
                .and_then(|row| Write::start_handoff(row, &self.keeper.me));
            let Some(write) = write else {
                continue;
            };
            match self.keeper.table.write(&write).await? {
                Outcome::Done(row) => {
                    counter!(names::HANDOFFS_STARTED).increment(1);
                    let from = row.checkpoint_owner.as_deref().unwrap_or("nobody");
                    tracing::info!(shard = %id, from, "asked for the lease");
                    if let Some(source) = self.source_of(id) {
                        let from = from.to_owned();
                        let kind = EventKind::HandoffAsked { from };
                        source.announce(StreamId::shard_of_key(id), kind);
                    }
                    self.observer.saw(&row, self.keeper.clock.now());
                    board.put(row);
                }
                // Moved on meanwhile, or already asked for by an attempt whose answer was lost.
                Outcome::Refused(Some(row)) => {
                    self.observer.saw(&row, self.keeper.clock.now());
                    board.put(row);
                }
                Outcome::Refused(None) => {}
            }
        }
        Ok(())
    }

    /// Deletes the leases of finished shards that are of no more use.
    async fn clean_up(&mut self, board: &Board) -> Result<(), Error> {
        let now = self.keeper.clock.now();
        if now < self.next_cleanup {
            return Ok(());
        }
        let interval = self.keeper.settings.lease_cleanup_interval;
        // Jittered, so that workers do not do the same at the same time.
        self.next_cleanup = now + interval.mul_f64(0.5 + 0.5 * self.keeper.rand.unit());
        let lineage = Lineage::new(&board.leases, &board.unreadable);
        let done = board
            .leases
            .iter()
            .filter(|lease| lineage.may_delete(lease));
        for lease in done.filter(|lease| !self.held.contains_key(&lease.shard_id)) {
            if self.keeper.table.delete_ended(lease).await? {
                counter!(names::LEASES_DELETED).increment(1);
                tracing::info!(shard = %lease.shard_id, "deleted the lease of a finished shard");
            }
        }
        Ok(())
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
