//! The end: leases are given back, what became free is passed on, and the fleet is taken leave of.

use std::time::Duration;

use tokio::time::{sleep_until, timeout_at};

use super::Service;

/// How much longer than `shutdown_timeout` the keeper waits for leases to be released, so that
/// whoever releases them at the last moment still finds it. Source: none, reasonable default.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How long the last words to the fleet may take at the end.
/// Source: none; two deletes, three attempts each.
const FAREWELL: Duration = Duration::from_secs(5);

impl Service {
    /// Waits until every lease is released or lost, and takes leave of the fleet.
    pub(super) async fn drain(&mut self) {
        self.survey.stop();
        self.farewell.leave.cancel();
        let mut deadline = self.keeper.clock.now() + self.keeper.shutdown_timeout + SHUTDOWN_GRACE;
        while !self.tasks.is_empty() {
            let leads = self.view.borrow().leads(self.keeper.clock.now());
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                () = sleep_until(deadline) => {
                    if self.abandon.is_cancelled() {
                        break;
                    }
                    let left = self.tasks.len();
                    tracing::warn!(left, "leases were not released in time and are given away");
                    self.abandon.cancel();
                    deadline = self.keeper.clock.now() + self.keeper.settings.failover_time;
                }
                () = sleep_until(self.next_pass), if leads => {
                    self.next_pass += self.keeper.settings.lease_assignment_interval;
                    self.pass_on().await;
                }
            }
        }
        if self.view.borrow().leads(self.keeper.clock.now()) {
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

    /// What a leader that leaves still does: gives to others what became free.
    async fn pass_on(&mut self) {
        if let Err(error) = self.pass().await {
            tracing::warn!("leases that became free have to wait for the next leader: {error}");
        }
    }
}
