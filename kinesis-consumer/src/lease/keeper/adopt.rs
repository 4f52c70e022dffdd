//! Taking what was given to this worker.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use kinesis_core::ShardId;
use metrics::counter;
use tracing::Instrument;

use super::{Holding, Service, names};
use crate::error::{Error, ErrorKind};
use crate::events::{EventKind, Gain};
use crate::lease::Lease;
use crate::lease::held::HeldTask;
use crate::lease::item::Row;
use crate::lease::observe::{Standing, is_given};
use crate::lease::table::{Index, Outcome};
use crate::lease::tenure::{Tenure, Timing};
use crate::lease::write::Write;

/// Reads and takes under way at once. Source: none, reasonable default.
const TAKES_AT_ONCE: usize = 16;

/// When an index that refused a worker is asked again. Source: none; a refusal is mended by a person.
const REFUSED_INDEX_INTERVAL: Duration = Duration::from_secs(60);

/// Whether a refusal of the index is no matter of time: a scan may find what it does not tell.
fn may_be_scanned_for(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Denied | ErrorKind::InvalidInput | ErrorKind::NotFound
    )
}

/// What came of trying to take a lease.
enum Take {
    Taken(Tenure),
    /// Somebody else was faster, or a parent is not finished.
    Left(Option<Lease>),
}

impl Service {
    /// Takes the leases that were given to this worker, and such of an earlier process of its name
    /// that expired.
    pub(super) async fn discover(&mut self) -> Result<(), Error> {
        self.find_streams();
        let keys = self.ask_index().await?;
        let table = &self.keeper.table;
        let rows: Vec<Lease> = if let Some(keys) = keys {
            let unknown = keys.into_iter().filter(|key| self.is_free_for_me(key));
            let reads = unknown.map(|key| async move { table.get(&key).await });
            let rows: Vec<_> = stream::iter(reads).buffered(TAKES_AT_ONCE).collect().await;
            let rows: Vec<Option<Row>> = rows.into_iter().collect::<Result<_, _>>()?;
            let lease = |row: Option<Row>| match row {
                Some(Row::Lease(lease)) => Some(*lease),
                _ => None,
            };
            rows.into_iter().filter_map(lease).collect()
        } else {
            let rows = table.scan(false).await?.leases;
            let mine = |lease: &Lease| {
                lease.owner.as_ref() == Some(&self.keeper.me)
                    && self.is_free_for_me(&lease.shard_id)
            };
            rows.into_iter().filter(mine).collect()
        };
        let now = self.keeper.clock.now();
        for row in &rows {
            self.observer.saw(row, now);
        }
        self.take_given(rows).await
    }

    /// The leases that name this worker as their owner; `None` where the index cannot tell.
    async fn ask_index(&mut self) -> Result<Option<Vec<ShardId>>, Error> {
        if self.index != Index::Active {
            return Ok(None);
        }
        match self.keeper.table.owned_by(&self.keeper.me).await {
            Ok(keys) => Ok(Some(keys)),
            // A policy that does not name the index, or somebody deleted it. That the table itself is
            // gone, the scan tells.
            Err(error) if may_be_scanned_for(error.kind()) => {
                self.index = Index::NotYet;
                self.next_index = Some(self.keeper.clock.now() + REFUSED_INDEX_INTERVAL);
                if !std::mem::replace(&mut self.index_reported, true) {
                    tracing::warn!(
                        "the index of the lease table cannot be asked; leases are found by scanning, \
                         which costs more: {error}"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes those of `rows`, all of which name this worker as their owner, that nobody works on.
    pub(super) async fn take_given(&mut self, mut rows: Vec<Lease>) -> Result<(), Error> {
        let now = self.keeper.clock.now();
        rows.retain(|row| !row.is_ended() && self.is_free_for_me(&row.shard_id));
        let mut given = Vec::new();
        for row in rows {
            if is_given(&row, &self.keeper.me, &self.process) {
                // Who hands over leaves its mark, and a leader that gives removes it.
                let by = match row.acquisition {
                    Some(_) => Gain::Handoff,
                    None => Gain::Assigned,
                };
                given.push((row, by));
            } else if self.observer.standing(&row, now) == Standing::Expired {
                given.push((row, Gain::Failover));
            }
        }
        let most = self.keeper.settings.max_leases_for_worker as usize;
        if !given.is_empty() && self.held.len() + given.len() > most {
            tracing::warn!(
                held = self.held.len(),
                given = given.len(),
                most,
                "this worker was given more leases than its max_leases_for_worker, and takes them: \
                 they would be read by nobody. The leader's setting counts; give all workers the same"
            );
        }
        self.take_all(given).await
    }

    /// How many leases more this worker takes where it chooses itself.
    pub(super) fn room(&self) -> usize {
        let most = self.keeper.settings.max_leases_for_worker as usize;
        most.saturating_sub(self.held.len())
    }

    /// Whether this worker reads the stream, does not hold the lease, and does not leave it to
    /// others for a while.
    pub(super) fn is_free_for_me(&self, shard_id: &ShardId) -> bool {
        !self.held.contains_key(shard_id)
            && !self.resting.contains_key(shard_id)
            && self.source_of(shard_id).is_some()
    }

    /// Takes leases that came each in its way.
    pub(super) async fn take_all(&mut self, leases: Vec<(Lease, Gain)>) -> Result<(), Error> {
        let mut failed = None;
        for batch in leases.chunks(TAKES_AT_ONCE) {
            let takes: Vec<_> = batch
                .iter()
                .map(|(lease, _)| self.take(lease.clone()))
                .collect();
            let outcomes = futures::future::join_all(takes).await;
            for (outcome, (_, by)) in outcomes.into_iter().zip(batch) {
                match outcome {
                    Ok(Take::Taken(tenure)) => self.hold(tenure, *by).await,
                    Ok(Take::Left(Some(row))) => self.observer.saw(&row, self.keeper.clock.now()),
                    Ok(Take::Left(None)) => {}
                    Err(error) => failed = Some(error),
                }
            }
            if self.shutdown.is_cancelled() {
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Tries to take one lease.
    fn take(&self, seen: Lease) -> impl Future<Output = Result<Take, Error>> + use<> {
        let table = Arc::clone(&self.keeper.table);
        let clock = self.keeper.clock.clone();
        let me = self.keeper.me.clone();
        let timing = Timing::of(&self.keeper.settings);
        let acquisition = format!("{}{}", self.process, self.keeper.rand.uuid());
        async move {
            // A parent's row is asked for by name, since whoever gave the lease may not have looked.
            for parent in &seen.parents {
                match table.get(parent).await? {
                    None | Some(Row::Other | Row::Stats(_)) => {}
                    Some(Row::Lease(row)) if row.is_ended() => {}
                    Some(Row::Lease(_) | Row::Corrupt(_)) => return Ok(Take::Left(None)),
                }
            }
            let sent = clock.now();
            match table.write(&Write::take(&seen, &me, &acquisition)).await? {
                Outcome::Done(row) => Ok(Take::Taken(Tenure::new(
                    &me,
                    &acquisition,
                    row,
                    timing,
                    sent,
                ))),
                // An attempt whose answer was lost took it. The name is compared too: workers that
                // were given the same seed make up the same acquisitions.
                Outcome::Refused(Some(row))
                    if row.acquisition.as_ref() == Some(&acquisition)
                        && row.owner.as_ref() == Some(&me) =>
                {
                    let tenure = Tenure::new(&me, &acquisition, row, timing, sent);
                    Ok(Take::Taken(tenure))
                }
                Outcome::Refused(row) => Ok(Take::Left(row)),
            }
        }
    }

    /// Starts the task of a lease and hands it to the consumer.
    async fn hold(&mut self, tenure: Tenure, by: Gain) {
        let row = tenure.lease().clone();
        if self.keeper.clock.now() >= tenure.fence_at() {
            // The answer took so long that others may take the lease; a later look shows who has it.
            tracing::warn!(shard = %row.shard_id, "took the lease too slowly to use it");
            return;
        }
        let Some(source) = self.source_of(&row.shard_id) else {
            // Removed from the streams since the look: nobody renews it, and others take it.
            return;
        };
        let reason = by.as_str();
        counter!(names::LEASES_TAKEN, "reason" => reason).increment(1);
        tracing::info!(shard = %row.shard_id, reason, checkpoint = %row.checkpoint, "took the lease");
        let keeper = &self.keeper;
        let (handle, task) = HeldTask::new(
            &keeper.labels,
            tenure.with_head_start(keeper.rand.unit()),
            Arc::clone(&keeper.table),
            Arc::clone(&source),
            self.abandon.clone(),
            keeper.clock.clone(),
            keeper.rand.clone(),
        );
        source.announce(handle.shard_id().clone(), EventKind::LeaseGained { by });
        let span = handle.span();
        let held = Holding {
            trace: handle.trace(),
            task: self.tasks.spawn(task.run().instrument(span)).id(),
            source,
        };
        self.held.insert(row.shard_id.clone(), held);
        self.resting.remove(&row.shard_id);
        self.leases_held.set(self.held.len());
        // A lease that cannot be handed on is dropped here, which releases it.
        tokio::select! {
            biased;
            sent = self.gained.send(handle) => {
                if sent.is_err() {
                    tracing::debug!(shard = %row.shard_id, "nobody wants the lease any more");
                }
            }
            () = self.shutdown.cancelled() => {}
        }
    }
}
