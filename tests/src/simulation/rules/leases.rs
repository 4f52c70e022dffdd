//! What the lease table says of a shard: how far it is done, and that this never goes back.

use kinesis_core::{Position, ShardId};

use super::{Checker, Rule};
use crate::simulation::log::Row;

impl Checker {
    pub(super) fn row(&mut self, lease: &ShardId, row: &Row) {
        self.pends(lease, row);
        self.starts_in(lease, row);
        self.starts_anew(lease, row);
        if self.still && row.checkpoint_owner.is_some() {
            self.breaks(Rule::Restless, format!("{lease} is moved: {row}"));
        }
        let shard = self.shards.entry(lease.clone()).or_default();
        let before = shard.checkpoint.clone();
        let counter = shard.row.as_ref().map_or(0, |row| row.counter);
        let skipped = shard
            .records
            .iter()
            .find(|(at, kept)| **at <= row.checkpoint && !kept.done)
            .map(|(at, _)| at.clone());
        shard.row = Some(row.clone());
        shard.removed = None;
        if before
            .as_ref()
            .is_none_or(|before| *before < row.checkpoint)
        {
            shard.checkpoint = Some(row.checkpoint.clone());
        }
        if let Some(before) = before.filter(|before| row.checkpoint < *before) {
            let what = format!(
                "{lease}: the checkpoint goes from {before} to {}",
                row.checkpoint
            );
            self.breaks(Rule::Back, what);
        }
        if row.counter < counter {
            let what = format!(
                "{lease}: the counter goes from {counter} to {}",
                row.counter
            );
            self.breaks(Rule::Back, what);
        }
        if let Some(skipped) = skipped {
            let what = format!(
                "{lease} is checkpointed at {} though nobody is done with {skipped}",
                row.checkpoint
            );
            self.breaks(Rule::Lost, what);
        }
    }

    pub(super) fn deleted(&mut self, lease: &ShardId) {
        let ended = self.has_ended(lease);
        if let Some(shard) = self.shards.get_mut(lease) {
            shard.row = None;
        }
        if !ended {
            self.breaks(Rule::Back, format!("{lease} is deleted before its end"));
        }
    }

    pub(super) fn has_ended(&self, shard: &ShardId) -> bool {
        let is_open = self.truth.open.contains(shard);
        self.shards.get(shard).is_some_and(|shard| {
            shard.checkpoint == Some(Position::ShardEnd)
                || (!is_open && shard.was_removed_at_its_end())
        })
    }
}
