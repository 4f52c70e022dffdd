//! What an operator does to a fleet.

use std::time::Duration;

use kinesis_consumer::admin::{ResetTo, Which};
use kinesis_consumer::{InitialPosition, ShardId};

use super::{Scenario, Worker, within};
use crate::simulation::log::Event;
use crate::simulation::operator::{Deed, only};

/// How long a fleet that is asked to stop may take, until it is killed. Source: none; longer than any
/// `shutdown_timeout` of a scenario and what comes behind it.
pub(super) const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How far back records are read again at most, in seconds. Source: none; most of the trouble so far.
const BACK_SECONDS_MAX: u64 = 60;

impl Scenario {
    /// Whether there is an operator: for one stream that is read from its beginning. Where an operator sets
    /// leases anew, the rules could not tell where the application had begun by itself.
    pub(super) fn is_looked_after(&self) -> bool {
        let from_beginning = self.settings.initial_position == InitialPosition::TrimHorizon;
        from_beginning && self.sources.len() == 1
    }

    /// The operator releases leases, ends handoffs that hang, or sets leases anew, while workers run.
    pub(super) fn operate(&mut self) {
        let which = match self.any_lease() {
            Some(lease) if self.rand.below(2) == 0 => only(&lease),
            _ => Which::All,
        };
        let deed = match self.rand.below(4) {
            0 | 1 => Deed::Release(which),
            2 => Deed::Reset(which, self.where_to()),
            _ => Deed::Unstick,
        };
        let operator = self.operator.clone();
        self.deeds.spawn(async move { operator.does(deed).await });
    }

    /// The row of a shard that takes records is deleted, whoever owns it. Every other time
    /// somebody is cut off first, who may own it and then does not learn of it.
    pub(super) async fn remove(&self) {
        if self.rand.below(2) == 0 {
            self.cut();
        }
        let leases = self.leases_of_open_shards().await;
        if let Some(lease) = self.one_of(&leases) {
            self.operator.deletes(lease).await;
        }
    }

    /// The whole fleet is stopped, all leases are set anew, and workers start.
    pub(super) async fn begin_anew(&mut self) {
        self.log.step("the fleet is stopped");
        self.workers.iter().for_each(Worker::stop);
        let over = async || self.workers.iter().all(Worker::is_gone);
        within(STOPS_WITHIN, over).await;
        for worker in self.workers.drain(..) {
            // One that cannot take its leave is not waited for.
            if !worker.is_gone() {
                worker.network.kill();
            }
        }
        self.operator
            .does(Deed::Reset(Which::All, self.where_to()))
            .await;
        for _ in 0..=self.rand.below(2) {
            self.start_worker(true);
        }
    }

    /// In quiet: a lease is released, and its holder lets go.
    pub(super) async fn release(&self) {
        if !self.is_looked_after() {
            return;
        }
        let leases = self.leases_of_open_shards().await;
        if let Some(lease) = self.one_of(&leases) {
            self.operator.does(Deed::Release(only(lease))).await;
        }
    }

    fn where_to(&self) -> ResetTo {
        let seconds = self.clock.epoch_millis() / 1_000 - self.rand.below(BACK_SECONDS_MAX);
        match self.rand.below(3) {
            0 => ResetTo::TrimHorizon,
            1 => ResetTo::Latest,
            _ => ResetTo::AtTimestamp(seconds * 1_000),
        }
    }

    fn any_lease(&self) -> Option<ShardId> {
        self.one_of(&self.leases()).cloned()
    }

    fn one_of<'a>(&self, leases: &'a [ShardId]) -> Option<&'a ShardId> {
        let at = self.rand.below(leases.len().max(1) as u64) as usize;
        leases.get(at)
    }

    async fn leases_of_open_shards(&self) -> Vec<ShardId> {
        let source = &self.sources[0];
        let open = source.stream.open_shards().await;
        let open = open.iter().map(|shard| source.key(shard.shard_id()));
        let leases = self.leases();
        open.filter(|shard| leases.contains(shard)).collect()
    }

    /// The leases of the table, as the log tells.
    fn leases(&self) -> Vec<ShardId> {
        let mut leases = std::collections::BTreeSet::new();
        self.log.with(|entries| {
            for entry in entries {
                match &entry.event {
                    Event::Row { lease, .. } => {
                        leases.insert(lease.clone());
                    }
                    Event::RowDeleted { lease, .. } => {
                        leases.remove(lease);
                    }
                    _ => {}
                }
            }
        });
        leases.into_iter().collect()
    }
}
