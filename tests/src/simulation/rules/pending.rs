//! Checkpoints in two phases, and what processors are told of checkpoints. Not those that had their lease
//! when an operator changed it: between a write and its answer there may be another one by hand.

use kinesis_core::{Position, ShardId};

use super::{Checker, Rule};
use crate::simulation::log::{Instance, Pending, Row};

impl Checker {
    /// A processor asks for a checkpoint to be prepared.
    pub(super) fn prepares(&mut self, instance: &Instance, pending: &Pending) {
        let shard = self.shards.entry(instance.shard.clone()).or_default();
        shard.prepared.push(pending.clone());
    }

    /// A lease is written; before its last row is forgotten.
    pub(super) fn pends(&mut self, lease: &ShardId, row: &Row) {
        let Some(shard) = self.shards.get(lease) else {
            return;
        };
        let when = |pending: &Pending| shard.prepared.iter().position(|known| known == pending);
        let before = shard.row.as_ref();
        let moved = before.is_some_and(|before| before.checkpoint != row.checkpoint);
        let stood = before.and_then(|before| before.pending.as_ref());
        let wrong = match (stood, &row.pending) {
            // An operator removes what is prepared.
            (_, None) if shard.anew.is_some() => None,
            (None, Some(pending)) if before.is_none() => {
                Some(format!("{pending} is pending from the first"))
            }
            (Some(stood), None) if !moved => Some(format!("{stood} is gone without a checkpoint")),
            (_, None) => None,
            (_, Some(pending)) if when(pending).is_none() => {
                Some(format!("{pending} is pending, which nobody prepared"))
            }
            (_, Some(pending)) if pending.position <= row.checkpoint => {
                Some(format!("{pending} is pending behind {}", row.checkpoint))
            }
            (_, Some(pending)) if moved => {
                let checkpoint = &row.checkpoint;
                Some(format!("{pending} is pending though {checkpoint} is new"))
            }
            (Some(stood), Some(pending)) if when(pending) < when(stood) => Some(format!(
                "{pending} is pending in place of the newer {stood}"
            )),
            (_, Some(_)) => None,
        };
        if let Some(wrong) = wrong {
            self.breaks(Rule::Pending, format!("{lease}: {wrong}"));
        }
    }

    /// A processor begins, and this is what it is told to be pending.
    pub(super) fn begins_with(&mut self, instance: &Instance, told: Option<&Pending>) {
        let shard = self.shards.get(&instance.shard);
        let row = shard.and_then(|shard| shard.row.as_ref().or(shard.removed.as_ref()));
        let pending = row.and_then(|row| row.pending.as_ref());
        if told != pending {
            let what = format!("{instance} begins with {told:?} pending, and it is {pending:?}");
            self.breaks(Rule::Pending, what);
        }
    }

    /// A processor is told that its checkpoint is here or further on, and what is prepared, if it asked for
    /// that.
    pub(super) fn told(
        &mut self,
        instance: &Instance,
        checkpoint: Option<&Position>,
        pending: Option<&Pending>,
    ) {
        let life = self.lives.get(&instance.number);
        if life.is_some_and(|life| life.is_operated) {
            return;
        }
        let shard = self.shards.get(&instance.shard);
        let row = shard.and_then(|shard| shard.row.as_ref());
        let stands = |asked: &Position| row.is_some_and(|row| row.checkpoint >= *asked);
        let checkpointed = checkpoint.is_none_or(stands);
        let prepared = pending.is_none() || row.is_some_and(|row| row.pending.as_ref() == pending);
        if !checkpointed || !prepared {
            let row = row.map(ToString::to_string);
            let what =
                format!("{instance} is told of {checkpoint:?} and {pending:?}, it is {row:?}");
            self.breaks(Rule::Unsaid, what);
        }
    }
}
