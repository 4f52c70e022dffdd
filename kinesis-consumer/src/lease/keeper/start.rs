//! What comes before a worker takes part: the table, and the states of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::{Backoff, ShardId};
use metrics::counter;
use tokio::time::sleep_until;
use tracing::Instrument;

use super::{Service, names};
use crate::error::Error;
use crate::lease::Lease;
use crate::lease::migration::{self, ClientVersion};
use crate::lease::pulse::Pulse;

/// Longest wait before the first new try to start; doubles. Source: none, reasonable default.
const START_BACKOFF: Duration = Duration::from_secs(1);

/// Longest wait before any new try to start. Source: none, reasonable default.
const START_BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How often it is looked whether a KCL 2.x lives: it is refused as soon as that is seen.
/// Source: none, reasonable default.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

impl Service {
    /// Starts, again and again while what is in the way can mend itself.
    pub(super) async fn start_patiently(&mut self) -> Result<(), Error> {
        let backoff = Backoff::new(START_BACKOFF, START_BACKOFF_MAX);
        for attempt in 0.. {
            match self.start().await {
                Err(error) if error.kind().is_retryable() => {
                    counter!(names::SCAN_FAILURES).increment(1);
                    tracing::warn!("the leases could not be set up and are tried again: {error}");
                    tokio::time::sleep(backoff.delay(attempt, &self.keeper.rand)).await;
                }
                settled => return settled,
            }
        }
        Ok(())
    }

    /// The table and its states; then this worker is part of the fleet. What the leases look like is
    /// noted, so that their ages are known if it is to lead soon.
    async fn start(&mut self) -> Result<(), Error> {
        let keeper = &self.keeper;
        keeper.table.prepare(&keeper.settings.table).await?;
        self.find_streams();
        let rows = self.keeper.table.scan(true).await?;
        let keeper = &self.keeper;
        self.observer.scanned(&rows.leases, keeper.clock.now());
        match keeper.table.client_version().await? {
            Some(version) => version.permit(keeper.table.name())?,
            None => self.introduce(rows.leases).await?,
        }
        self.index = self.keeper.table.index().await?;
        let meters = std::mem::take(&mut self.keeper.meters);
        let keeper = &self.keeper;
        let (pulse, view) = Pulse::new(
            &keeper.labels,
            Arc::clone(&keeper.table),
            &keeper.settings,
            meters,
            self.farewell.clone(),
            keeper.clock.clone(),
            keeper.rand.fork(),
        );
        self.view = view;
        let pulse = tokio::spawn(pulse.run().in_current_span());
        self.pulse = Some(tokio_util::task::AbortOnDropHandle::new(pulse));
        let now = keeper.clock.now();
        (self.next_pass, self.next_discovery) = (now, now);
        Ok(())
    }

    /// Nobody wrote down by which protocol the fleet works: it is new, or of KCL 2.x. That of KCL 3
    /// is written down unless a KCL 2.x works right now, which the counters of its leases tell.
    async fn introduce(&mut self, leases: Vec<Lease>) -> Result<(), Error> {
        if leases.iter().any(is_foreign) {
            let known = self.watch(&leases).await?;
            if let Some(version) = known {
                return version.permit(self.keeper.table.name());
            }
        }
        let table = &self.keeper.table;
        let now_millis = self.keeper.clock.epoch_millis();
        table
            .put_client_version(&self.keeper.me, now_millis)
            .await?;
        match table.client_version().await? {
            Some(version) => version.permit(table.name()),
            None => Ok(()),
        }
    }

    /// Watches leases that a KCL 2.x has, or had, for as long as one that lives may leave them alone; the
    /// protocol of the fleet if somebody wrote it down meanwhile.
    ///
    /// A look that is not answered is made again, and what was seen before it still counts: a table that is
    /// too busy for one of many looks would have the watch begin anew for ever. Only the last one has to be
    /// answered, and is consistent: it sees whatever was renewed until then.
    ///
    /// # Errors
    /// `InvalidInput` as soon as one is renewed; of a look, what cannot mend itself.
    async fn watch(&mut self, leases: &[Lease]) -> Result<Option<ClientVersion>, Error> {
        let before: BTreeMap<_, _> = leases
            .iter()
            .map(|lease| (&lease.shard_id, lease.counter))
            .collect();
        let wait = self.keeper.settings.failover_of_kcl();
        tracing::info!(
            table = self.keeper.table.name(),
            ?wait,
            "looking whether a KCL 2.x still renews the leases (kcl_failover_time)"
        );
        let until = self.keeper.clock.now() + wait;
        let mut pause = WATCH_INTERVAL;
        loop {
            let now = self.keeper.clock.now();
            let next = now + pause;
            sleep_until(if now < until { next.min(until) } else { next }).await;
            let is_last = self.keeper.clock.now() >= until;
            match self.compare(&before, is_last).await {
                Ok(None) if !is_last => pause = WATCH_INTERVAL,
                Err(error) if error.kind().is_retryable() => {
                    counter!(names::SCAN_FAILURES).increment(1);
                    tracing::warn!("the leases could not be looked at and are again: {error}");
                    pause = START_BACKOFF_MAX.min(pause * 2);
                }
                settled => return settled,
            }
        }
    }

    /// One look of the watch; the protocol of the fleet if somebody wrote it down.
    ///
    /// # Errors
    /// `InvalidInput` if a lease was renewed since `before`; when the table cannot be read.
    async fn compare(
        &mut self,
        before: &BTreeMap<&ShardId, u64>,
        consistent: bool,
    ) -> Result<Option<ClientVersion>, Error> {
        let table = &self.keeper.table;
        let rows = table.scan(consistent).await?.leases;
        self.observer.scanned(&rows, self.keeper.clock.now());
        if let Some(version) = table.client_version().await? {
            return Ok(Some(version));
        }
        let renewed = |lease: &&Lease| {
            let counter = before.get(&lease.shard_id);
            // What was not there before may be gone already where the read is not consistent.
            is_foreign(lease) && counter.map_or(consistent, |counter| *counter < lease.counter)
        };
        let living = rows.iter().find(renewed);
        match living.and_then(|row| row.owner.as_deref()) {
            Some(owner) => Err(migration::live_kcl_2(&self.keeper.names, owner)),
            None => Ok(None),
        }
    }
}

/// Whether a KCL has a lease, or had it last. One that went on behind a worker of ours left its mark there.
fn is_foreign(lease: &Lease) -> bool {
    lease.owner.is_some() && lease.marked_by() != lease.owner.as_deref()
}
