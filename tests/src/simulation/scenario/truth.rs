//! What the streams hold, as the rules need it.

use kinesis_consumer::{LeaseAssignment, OnFailure};
use kinesis_core::{Deaggregated, Position, deaggregate};

use super::Scenario;
use super::streams::Source;
use crate::simulation::processor::Way;
use crate::simulation::rules::{Truth, Written};

impl Scenario {
    /// What the streams hold now.
    pub(super) async fn truth(&self) -> Truth {
        let mut truth = Truth {
            by_number: self.settings.lease.assignment == LeaseAssignment::LeaseCount,
            initial: self.settings.initial_position,
            stops_after: match self.settings.on_failure {
                OnFailure::Stop { attempts } => Some(attempts),
                OnFailure::Retry | OnFailure::DeadLetter { .. } => None,
            },
            each: match &self.way {
                Way::Each(settings) => Some(settings.clone()),
                Way::Batches | Way::Prepared => None,
            },
            ..Truth::default()
        };
        for source in &self.sources {
            holds(source, &mut truth).await;
        }
        truth
    }
}

/// Adds what one stream holds.
async fn holds(source: &Source, truth: &mut Truth) {
    for shard in source.stream.shards().await {
        let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
        let parents = parents.into_iter().flatten().map(|id| source.key(id));
        let key = source.key(shard.shard_id());
        truth.parents.insert(key, parents.collect());
    }
    for stored in source.stream.read_all().await {
        let members = match deaggregate(&stored.data) {
            Deaggregated::Members(members) => members.len() as u64,
            Deaggregated::Raw(_) | Deaggregated::Damaged { .. } => 1,
        };
        truth.records.extend((0..members).map(|sub| Written {
            shard: source.key(stored.shard_id.as_str()),
            position: Position::at(stored.sequence_number.clone(), sub),
            // Members of an aggregate are of one key here.
            key: stored.partition_key.as_str().into(),
            arrived: stored.arrived_millis,
        }));
    }
    let open = source.stream.open_shards().await;
    let open = open.iter().map(|shard| source.key(shard.shard_id()));
    truth.open.extend(open);
}
