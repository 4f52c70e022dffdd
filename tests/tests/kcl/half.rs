//! A worker of ours that checkpoints half of each batch, as the KCL's does, and whether the next one went on
//! right there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, InitializeInput, LeaseSettings, ProcessRecordsInput, ProcessorError, Record,
    RecordProcessor, Settings,
};
use kinesis_core::{Position, ShardId};
use tests::history::{Event, History};
use tests::{Worker, World};

use crate::streams::{Reads, key};

/// The name of our worker.
pub(super) const OURS: &str = "ours";

/// How the KCL worker is set up; workers of one application agree on it.
pub(super) const FAILOVER_TIME: Duration = Duration::from_secs(3);

/// The record in the middle of a batch, or the one before it if an aggregate ends there.
fn middle(records: &[Record]) -> Position {
    let middle = (records.len() - 1) / 2;
    let ends = records
        .get(middle + 1)
        .is_none_or(|next| next.sub_sequence == 0);
    records[middle.saturating_sub(usize::from(ends))].position()
}

/// Checkpoints half of each batch and nothing more when it stops, as [`Checkpoints::Half`] does, so
/// that whoever comes next has to go on in the middle of an aggregate.
struct HalfRecorder {
    history: History,
    shard: ShardId,
}

#[async_trait]
impl RecordProcessor for HalfRecorder {
    async fn initialize(&mut self, _: InitializeInput) -> Result<(), ProcessorError> {
        self.history.push(Event::Started {
            worker: OURS.to_owned(),
            shard: self.shard.clone(),
        });
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        for record in input.records.iter() {
            self.history.push(Event::Delivered {
                worker: OURS.to_owned(),
                shard: self.shard.clone(),
                position: record.position(),
                payload: String::from_utf8_lossy(&record.data).into_owned(),
            });
        }
        let middle = middle(&input.records);
        input.checkpointer.checkpoint_at(&middle).await?;
        self.history.push(Event::Checkpointed {
            shard: self.shard.clone(),
            position: middle,
        });
        Ok(())
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        self.history.push(Event::Ended {
            shard: self.shard.clone(),
        });
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        Ok(())
    }
}

/// A worker of ours that checkpoints as the KCL's does.
pub(super) fn ours(world: &World, application: &str, reads: Reads, history: &History) -> Worker {
    let lease = LeaseSettings {
        failover_time: FAILOVER_TIME,
        kcl_failover_time: FAILOVER_TIME,
        // Not during a test: every row is to be seen at its end.
        lease_cleanup_interval: Duration::from_secs(3600),
        ..LeaseSettings::default()
    };
    let settings = Settings {
        lease,
        ..Settings::default()
    };
    let history = history.clone();
    let worker = reads.ours(world, application, OURS, settings, move |stream, shard| {
        HalfRecorder {
            history: history.clone(),
            shard: key(stream, shard),
        }
    });
    Worker::start(worker)
}

/// Fails unless `next`, which began after the first `before` events, went on right behind the
/// checkpoints: everything delivered behind them comes again, and at least once that is the rest of
/// an aggregate. (That nothing else comes again holds for all turns together.)
pub(super) fn assert_went_on_behind_the_checkpoints(
    history: &History,
    before: usize,
    next: &str,
    reads: impl Fn(&ShardId) -> bool,
) {
    let events = history.events();
    let mut open: BTreeMap<ShardId, (Position, BTreeSet<Position>)> = BTreeMap::new();
    for event in &events[..before] {
        match event {
            Event::Delivered {
                shard, position, ..
            } => {
                let entry = open.entry(shard.clone());
                let (_, behind) = entry.or_insert((Position::TrimHorizon, BTreeSet::new()));
                behind.insert(position.clone());
            }
            Event::Checkpointed { shard, position } => {
                let (at, behind) = open.get_mut(shard).expect("something was delivered");
                *at = position.clone();
                behind.retain(|delivered| delivered > position);
            }
            Event::Ended { shard } => {
                open.remove(shard);
            }
            Event::Started { .. } | Event::LeaseLost { .. } => {}
        }
    }
    let inside = |(at, behind): &(Position, BTreeSet<Position>)| {
        behind
            .first()
            .is_some_and(|next| next.checkpoint() == at.checkpoint())
    };
    assert!(
        open.values().any(inside),
        "no checkpoint lies inside of an aggregate when {next} begins"
    );
    for (shard, (at, behind)) in open.into_iter().filter(|(shard, _)| reads(shard)) {
        let mut again = events[before..].iter().filter_map(|event| match event {
            Event::Delivered {
                worker,
                shard: of,
                position,
                ..
            } if worker == next && *of == shard => Some(position.clone()),
            _ => None,
        });
        let again: BTreeSet<_> = again.by_ref().take(behind.len()).collect();
        assert!(
            again == behind,
            "{next} went on in {shard}, checkpointed at {at}, with {:?} to {:?} in the place of {:?} to {:?}",
            again.first(),
            again.last(),
            behind.first(),
            behind.last()
        );
    }
}
