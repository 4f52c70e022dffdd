//! Shards that stop at what fails.

use kinesis_core::{Position, ShardId};

use super::{Checker, Rule, Shard};
use crate::simulation::log::{Call, Ending, Instance};

/// How often a processor failed with the batch in hand, and whether its shard stops at that.
#[derive(Debug, Default)]
pub(super) struct Failing {
    /// Of the batch that begins there.
    batch: Option<Position>,
    failures: u32,
    pub(super) stopped: bool,
    /// It was asked to shut down.
    pub(super) is_told: bool,
}

impl Failing {
    /// A call with a batch that begins there has ended.
    pub(super) fn ended(&mut self, first: Option<&Position>, ending: Ending, stops_after: u32) {
        if ending == Ending::Done || self.batch.as_ref() != first {
            self.failures = 0;
        }
        self.batch = first.cloned();
        match ending {
            Ending::Done | Ending::Dropped => {}
            Ending::Failed => self.failures += 1,
            Ending::Poison => self.failures = stops_after,
        }
        self.stopped |= self.failures >= stops_after;
    }
}

impl Checker {
    /// A processor is called: not if its shard stopped, save for the last time.
    pub(super) fn goes_on(&mut self, instance: &Instance, call: Call) {
        let Some(life) = self.lives.get_mut(&instance.number) else {
            return;
        };
        life.failing.is_told |= call == Call::Shutdown;
        let wrong = match call {
            Call::Initialize | Call::Process | Call::ShardEnded => life.failing.stopped,
            Call::Shutdown | Call::LeaseLost => false,
        };
        if wrong {
            let what = format!("{instance} is called ({call:?}) though its shard stopped");
            self.breaks(Rule::Stopped, what);
        }
    }

    /// Whether the shard stands still, and nobody has mended why.
    pub(super) fn stands_still(&self, shard: &Shard) -> bool {
        let newest = shard.newest.as_ref().filter(|_| !self.mended);
        let life = newest.and_then(|newest| self.lives.get(&newest.number));
        life.is_some_and(|life| life.failing.stopped && life.failing.is_told)
    }

    /// Whether one that a shard comes from does, so that it has to wait.
    pub(super) fn waits_for_stopped(&self, shard: &ShardId) -> bool {
        let parents = self.truth.parents.get(shard).into_iter().flatten();
        parents.into_iter().any(|parent| {
            let stands = self
                .shards
                .get(parent)
                .is_some_and(|parent| self.stands_still(parent));
            stands || self.waits_for_stopped(parent)
        })
    }
}
