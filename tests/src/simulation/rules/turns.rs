//! Whose turn a shard is: when a processor begins, and when it is called.

use kinesis_core::Position;

use super::alone::{HANDED_OVER_WITHIN, REPLACED_WITHIN};
use super::records::Life;
use super::{Checker, Rule};
use crate::simulation::log::{Call, Ending, Instance};
use crate::simulation::operator::NOBODY;

impl Checker {
    pub(super) fn begins(&mut self, instance: &Instance, position: &Position) {
        let start = self.start_of(&instance.shard, position);
        let mut life = Life::begins(position, &start);
        let shard = self.shards.get(&instance.shard);
        life.is_operated = shard.is_some_and(|shard| shard.row.is_none());
        self.lives.insert(instance.number, life);
        let parents = self.truth.parents.get(&instance.shard);
        let early = parents
            .into_iter()
            .flatten()
            .find(|parent| !self.has_ended(parent) && !self.is_before_start(parent))
            .cloned();
        if let Some(parent) = early {
            let what = format!("{instance} begins before the end of {parent}");
            self.breaks(Rule::Parents, what);
        }
        let shard = self.shards.entry(instance.shard.clone()).or_default();
        shard.newest = shard.newest.clone().max(Some(instance.clone()));
        let left = shard.left.take();
        // An owner may not know yet that its row was deleted.
        let stored = shard.row.as_ref().or(shard.removed.as_ref());
        let stored = stored.map(|row| row.checkpoint.clone());
        if let Some(left) = left.filter(|_| self.quiet) {
            self.is_not_alone(instance, position, &start, &left);
        }
        if stored.as_ref() != Some(position) {
            let what = format!("{instance} begins at {position}, the checkpoint is {stored:?}");
            self.breaks(Rule::Order, what);
        }
    }

    pub(super) fn enters(&mut self, instance: &Instance, call: Call) {
        if call == Call::LeaseLost {
            if self.quiet {
                self.breaks(Rule::Shaken, format!("{instance} lost its lease"));
            }
            return;
        }
        self.goes_on(instance, call);
        let shard = self.shards.entry(instance.shard.clone()).or_default();
        let other = shard.working.replace((instance.clone(), call));
        let newer = shard.newest.clone();
        if let Some((other, its_call)) = other.filter(|(other, _)| other != instance) {
            let what = format!("{instance} is called ({call:?}) while {other} is in {its_call:?}");
            self.breaks(Rule::TwoOwners, what);
        }
        if let Some(newer) = newer.filter(|newer| newer.number > instance.number) {
            let what = format!("{instance} is called ({call:?}) though {newer} has begun");
            self.breaks(Rule::TwoOwners, what);
        }
    }

    pub(super) fn leaves(&mut self, instance: &Instance, call: Call, ending: Ending) {
        if call == Call::LeaseLost {
            return;
        }
        let shard = self.shards.entry(instance.shard.clone()).or_default();
        if shard
            .working
            .as_ref()
            .is_some_and(|(other, _)| other == instance)
        {
            shard.working = None;
        }
        let life = self.lives.get(&instance.number);
        let stands_still = life.is_some_and(|life| life.failing.stopped);
        // Where the shard stopped its worker keeps it.
        if call == Call::Shutdown && !stands_still {
            let in_order = (ending == Ending::Done).then_some(instance.number);
            let row = self
                .shards
                .get(&instance.shard)
                .and_then(|shard| shard.row.as_ref());
            let owner = row.and_then(|row| row.owner.as_deref());
            // Nobody has it until it stood still for as long as one whose owner died.
            let within = match owner {
                Some(NOBODY) => REPLACED_WITHIN,
                _ => HANDED_OVER_WITHIN,
            };
            let left = self.left(within, in_order);
            self.shards.entry(instance.shard.clone()).or_default().left = Some(left);
        }
        if call == Call::Process {
            self.batch_is_over(instance, ending);
        }
    }
}
