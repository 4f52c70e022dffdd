//! What processors are given, and what they are done with.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;

use kinesis_core::{Position, ShardId};

use super::start::stream_of;
use super::stopped::Failing;
use super::{Checker, Rule, Shard};
use crate::simulation::log::{Call, Ending, Instance};

/// A record of a shard.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) key: Arc<str>,
    pub(super) arrived: u64,
    /// Whether somebody is done with it, or it came before the application starts.
    pub(super) done: bool,
}

/// One processor.
#[derive(Debug)]
pub(super) struct Life {
    /// Where it began.
    pub(super) start: Position,
    /// The furthest record that it was given, or its start.
    pub(super) given: Position,
    /// The end of the last batch that it was done with, or its start.
    done: Position,
    /// The furthest record up to which it was done with all when it last returned, or its start.
    pub(super) settled: Position,
    /// What the call under way was given.
    in_call: Vec<Position>,
    /// Of that, what it goes through now, record by record.
    taken: BTreeSet<Position>,
    /// Behind the last batch: what it was done with one by one, and dead letters.
    handled: BTreeSet<Position>,
    /// Whether an operator changed its lease while it had that: it may not know yet.
    pub(super) is_operated: bool,
    pub(super) failing: Failing,
}

impl Life {
    /// One that begins at a checkpoint, and is done with what is before there.
    pub(super) fn begins(checkpoint: &Position, there: &Position) -> Self {
        Self {
            start: checkpoint.clone(),
            given: there.clone(),
            done: there.clone(),
            settled: there.clone(),
            in_call: Vec::new(),
            taken: BTreeSet::new(),
            handled: BTreeSet::new(),
            is_operated: false,
            failing: Failing::default(),
        }
    }

    /// The records behind the last batch that it was done with, as far as it was given any.
    fn behind<'a>(&'a self, shard: &'a Shard) -> impl Iterator<Item = (&'a Position, &'a Kept)> {
        let behind = (Excluded(&self.done), Included(&self.given));
        let behind = shard.records.range(behind);
        behind.filter(|(position, kept)| {
            self.handled.contains(*position) || !self.is_before_start(kept, shard)
        })
    }

    /// What it was given in an earlier call and is not done with, if a call that begins with this record is
    /// behind that.
    fn leaves_behind<'a>(&'a self, first: &Position, shard: &'a Shard) -> Option<&'a Position> {
        let behind = self.behind(shard).map(|(position, _)| position);
        let mut left = behind.filter(|position| !self.handled.contains(*position));
        left.next()
            .filter(|left| self.in_call.is_empty() && *left < first)
    }

    /// The furthest record up to which all of the shard are handled.
    fn watermark(&self, shard: &Shard) -> Position {
        let behind = self.behind(shard).map(|(position, _)| position);
        let handled = behind.take_while(|position| self.handled.contains(*position));
        handled.last().unwrap_or(&self.done).clone()
    }
}

impl Checker {
    /// The processor is done with what the call under way was given, up to there or all of it.
    pub(super) fn is_done(&mut self, instance: &Instance, up_to: Option<&Position>) {
        let (Some(life), Some(shard)) = (
            self.lives.get(&instance.number),
            self.shards.get_mut(&instance.shard),
        ) else {
            return;
        };
        let done = |position: &&Position| up_to.is_none_or(|last| *position <= last);
        for position in life.in_call.iter().filter(done) {
            if let Some(kept) = shard.records.get_mut(position) {
                kept.done = true;
            }
        }
    }

    /// The call with a batch, or a part of one, has ended.
    pub(super) fn batch_is_over(&mut self, instance: &Instance, ending: Ending) {
        if ending == Ending::Done && self.truth.each.is_none() {
            self.is_done(instance, None);
        }
        let (Some(life), Some(shard)) = (
            self.lives.get_mut(&instance.number),
            self.shards.get(&instance.shard),
        ) else {
            return;
        };
        if let Some(stops_after) = self.truth.stops_after {
            let first = life.in_call.first();
            life.failing.ended(first, ending, stops_after);
        }
        if ending == Ending::Done {
            let last = life.in_call.last().cloned();
            life.done = last.map_or(life.done.clone(), |last| last.max(life.done.clone()));
            life.handled.retain(|position| *position > life.done);
        }
        if ending != Ending::Dropped {
            // Who returns before its batch is done had the time to checkpoint what was.
            life.settled = life.watermark(shard);
        }
        life.in_call.clear();
        life.taken.clear();
    }

    /// A dead letter is stored, so the record is dealt with.
    pub(super) fn buried(&mut self, shard: &ShardId, position: &Position) {
        let Some(shard) = self.shards.get_mut(shard) else {
            return;
        };
        if let Some(kept) = shard.records.get_mut(position) {
            kept.done = true;
        }
        let newest = shard.newest.as_ref();
        if let Some(life) = newest.and_then(|newest| self.lives.get_mut(&newest.number)) {
            life.handled.insert(position.clone());
        }
    }

    pub(super) fn delivered(&mut self, instance: &Instance, position: &Position, payload: &str) {
        let (Some(life), Some(shard)) = (
            self.lives.get_mut(&instance.number),
            self.shards.get_mut(&instance.shard),
        ) else {
            let what = format!("{instance} is given {payload} and never began");
            return self.breaks(Rule::Order, what);
        };
        let began = self.began.get(&stream_of(&instance.shard));
        let mut wrong = None;
        if !shard.records.contains_key(position) {
            wrong = Some("which the shard does not hold".to_owned());
        } else if *position <= life.done {
            wrong = Some(format!("though it was done with {}", life.done));
        } else if life.in_call.last().is_some_and(|last| position <= last) {
            wrong = Some("in the wrong order".to_owned());
        } else if let Some(left) = life.leaves_behind(position, shard)
            && self.truth.each.is_none()
        {
            wrong = Some(format!("though it is not done with {left}"));
        } else if *position > life.given {
            let between = (Excluded(&life.given), Excluded(position));
            let first = life.given == life.start;
            let passed_over = |kept: &Kept| first && life.is_before_start(kept, shard);
            let mut missing = shard.records.range(between);
            if let Some((missing, _)) = missing.find(|(_, kept)| !passed_over(kept)) {
                wrong = Some(format!("and not {missing}, which comes before"));
            }
        }
        let early = shard
            .records
            .get(position)
            .map(|kept| life.early(kept, shard, began));
        life.given = life.given.clone().max(position.clone());
        life.in_call.push(position.clone());
        if let Some(millis) = early.filter(|millis| *millis > 0) {
            let what = format!("{instance} is given {payload}, {millis} ms too early a record");
            self.breaks(Rule::Start, what);
        }
        if let Some(wrong) = wrong {
            let what = format!("{instance} is given {payload} at {position} {wrong}");
            self.breaks(Rule::Order, what);
        }
    }

    /// A processor begins with one record of the call under way.
    pub(super) fn takes(&mut self, instance: &Instance, position: &Position) {
        let (Some(life), Some(shard), Some(each)) = (
            self.lives.get_mut(&instance.number),
            self.shards.get(&instance.shard),
            &self.truth.each,
        ) else {
            let what = format!("{instance} takes {position} and never began");
            return self.breaks(Rule::Order, what);
        };
        let in_call = (instance.clone(), Call::Process);
        if shard.working.as_ref() != Some(&in_call) {
            let what = format!("{instance} takes {position} outside of a call");
            return self.breaks(Rule::TwoOwners, what);
        }
        let key = shard.records.get(position).map(|kept| &kept.key);
        let is_of_key = |(other, kept): &(&Position, &Kept)| {
            Some(&kept.key) == key && !life.handled.contains(*other)
        };
        let first = life.behind(shard).find(is_of_key);
        let first = first.filter(|(other, _)| *other < position);
        let mut wrong = None;
        if !life.in_call.contains(position) {
            wrong = Some("which it was not given".to_owned());
        } else if life.handled.contains(position) || life.taken.contains(position) {
            wrong = Some("again".to_owned());
        } else if life.taken.len() >= each.concurrency {
            wrong = Some(format!("beside {} others", life.taken.len()));
        } else if let Some((other, _)) = first.filter(|_| each.order_per_key) {
            wrong = Some(format!("before it is over with {other} of the same key"));
        }
        life.taken.insert(position.clone());
        if let Some(wrong) = wrong {
            self.breaks(Rule::Order, format!("{instance} takes {position} {wrong}"));
        }
    }

    /// A processor is over with a record.
    pub(super) fn handled(&mut self, instance: &Instance, position: &Position, ending: Ending) {
        let (Some(life), Some(shard)) = (
            self.lives.get_mut(&instance.number),
            self.shards.get_mut(&instance.shard),
        ) else {
            return;
        };
        life.taken.remove(position);
        if ending == Ending::Done {
            life.handled.insert(position.clone());
            if let Some(kept) = shard.records.get_mut(position) {
                kept.done = true;
            }
        }
    }
}
