//! The end: leases are given back, what became free is passed on, and the fleet is taken leave of.
//!
//! A worker that leaves waits for no leader: it gives what it gave back to the others itself, by the
//! leader's rules, and so what it was given and does not take any more. What is on its way to it by a handoff
//! stays with its holder. One that leads does so for all that is free.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{sleep_until, timeout, timeout_at};

use super::Service;
use super::lead::Board;
use crate::error::{Error, ErrorKind};
use crate::lease::Lease;
use crate::lease::observe::is_given;
use crate::lease::write::Write;

/// How much longer than `shutdown_timeout` the keeper waits for leases to be released, so that
/// whoever releases them at the last moment still finds it. Source: none, reasonable default.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How long the last words to the fleet may take at the end.
/// Source: none; two deletes, three attempts each.
const FAREWELL: Duration = Duration::from_secs(5);

/// From a lease that was given back to the pass that gives it to another, so that several are passed on by
/// one scan. Source: none; with what a worker takes to find what it was given it is less than three seconds.
const PASS_ON_PAUSE: Duration = Duration::from_millis(500);

/// The same for a large table, in parts of what the last pass took. Source: none; a worker that gives back one
/// lease after the other scans for a fifth of the time at most.
const PASS_ON_PAUSES: u32 = 4;

/// How long one such pass may take; what it does not do the leader does. Source: none; with [`FAREWELL`] it
/// is less than what a consumer waits for its keeper beyond `shutdown_timeout`.
const PASS_ON_LIMIT: Duration = Duration::from_secs(3);

impl Service {
    /// Waits until every lease is released or lost, and takes leave of the fleet.
    pub(super) async fn drain(&mut self) {
        self.survey.stop();
        self.farewell.leave.cancel();
        let now = self.keeper.clock.now();
        let mut deadline = now + self.keeper.shutdown_timeout + SHUTDOWN_GRACE;
        // Whoever was not let in, or may not work any more, has nothing to give.
        let may_give = self.pulse.is_some();
        let mut pause = PASS_ON_PAUSE;
        self.next_pass = self.next_pass.min(now + pause);
        let mut news = true;
        while !self.tasks.is_empty() {
            let leads = self.leads();
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended);
                    news = true;
                    self.next_pass = self.next_pass.min(self.keeper.clock.now() + pause);
                }
                () = sleep_until(deadline) => {
                    if self.abandon.is_cancelled() {
                        break;
                    }
                    let left = self.tasks.len();
                    tracing::warn!(left, "leases were not released in time and are given away");
                    self.abandon.cancel();
                    deadline = self.keeper.clock.now() + self.keeper.settings.failover_time;
                }
                () = sleep_until(self.next_pass), if may_give && (leads || news) => {
                    news = false;
                    pause = PASS_ON_PAUSE.max(self.pass_on().await * PASS_ON_PAUSES);
                    let interval = self.keeper.settings.lease_assignment_interval;
                    self.next_pass = self.keeper.clock.now() + interval.max(pause);
                }
            }
        }
        if may_give && (self.leads() || news) {
            self.pass_on().await;
        }
        self.farewell.gone.cancel();
        if let Some(pulse) = self.pulse.take() {
            let until = self.keeper.clock.now() + FAREWELL;
            match timeout_at(until, pulse).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::warn!("the fleet was not taken leave of: {error}"),
                Ok(Err(error)) => tracing::error!("the pulse of this worker failed: {error}"),
                Err(_) => tracing::warn!("there was no time to take leave of the fleet"),
            }
        }
    }

    fn leads(&self) -> bool {
        self.view.borrow().leads(self.keeper.clock.now())
    }

    /// Gives to others what became free, or leaves it to the leader; how long that took.
    async fn pass_on(&mut self) -> Duration {
        let began = self.keeper.clock.now();
        let limit = self.keeper.settings.failover_time.min(PASS_ON_LIMIT);
        let passed = timeout(limit, self.give_away()).await.unwrap_or_else(|_| {
            let what = format!("there was no answer within {limit:?}");
            Err(Error::new(ErrorKind::Unavailable, what))
        });
        if let Err(error) = passed {
            tracing::warn!("leases that became free have to wait for the leader: {error}");
        }
        self.keeper.clock.now().duration_since(began)
    }

    async fn give_away(&mut self) -> Result<(), Error> {
        // A handle that nobody has any more keeps nothing from being passed on.
        let now = self.keeper.clock.now();
        self.resting.retain(|_, rest| !rest.is_over(now));
        // Rows that were just written are certain to be seen.
        let mut board = self.look(true).await?;
        let withdrawals = self.withdrawals(&board);
        let withdrawn = if withdrawals.is_empty() {
            Ok(0)
        } else {
            let withdrawn = self.write_all(withdrawals).await;
            // One that was handed over meanwhile refused, and is to be passed on.
            board = self.look(true).await?;
            withdrawn
        };
        let mut plan = self.plan(&board, true);
        if !self.leads() {
            plan.assign
                .retain(|(id, _)| board.get(id).is_some_and(|row| self.is_to_pass_on(row)));
        }
        let given = self.assign(&board, &plan).await;
        let assigned: BTreeSet<_> = plan.assign.iter().map(|(id, _)| id).collect();
        // What nobody has room for, or is not to have yet, does not have to expire first.
        let left = board.leases.iter().filter(|row| {
            !row.is_ended() && self.is_given_too_late(row) && !assigned.contains(&row.shard_id)
        });
        let left = self.write_all(left.map(Write::give_up).collect()).await;
        withdrawn.map(drop).and(given).and(left.map(drop))
    }

    /// Ends the handoffs to this worker, which does not take what comes any more.
    fn withdrawals(&self, board: &Board) -> Vec<Write> {
        let mine = |row: &&Lease| row.owner.as_ref() == Some(&self.keeper.me);
        let open = board.leases.iter().filter(|row| !row.is_ended());
        open.filter(mine).filter_map(Write::withdraw).collect()
    }

    /// Whether a lease is this worker's to pass on, though it does not lead.
    fn is_to_pass_on(&self, row: &Lease) -> bool {
        let mark = row.acquisition.as_deref();
        let given_back =
            row.owner.is_none() && mark.is_some_and(|mark| mark.starts_with(&self.process));
        given_back || self.is_given_too_late(row)
    }

    /// Whether this worker, which leaves, was given the lease and never took it. Nobody else takes it either
    /// until it expires.
    pub(super) fn is_given_too_late(&self, row: &Lease) -> bool {
        self.is_free_for_me(&row.shard_id) && is_given(row, &self.keeper.me, &self.process)
    }
}
