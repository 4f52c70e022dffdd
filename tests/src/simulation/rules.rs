//! The promises, held against a log. Without I/O.
//!
//! | Rule | |
//! |---|---|
//! | [`Rule::Lost`] | a checkpoint passes only records that a processor was done with, or that are stored dead letters; in the end that is every record |
//! | [`Rule::Order`] | a processor starts behind the checkpoint and is given the shard's records in order and without a gap; again only what it failed |
//! | [`Rule::TwoOwners`] | of a shard's processors one at a time is in a call, and none that is older than another that began |
//! | [`Rule::Parents`] | a processor begins after the parents of its shard are checkpointed at their end |
//! | [`Rule::Back`] | checkpoints and counters of a lease never go back, and a lease is deleted only at its end, save where an operator does it ([`anew`]) |
//! | [`Rule::Broke`] | no worker ends by itself |
//! | [`Rule::Deposed`] | who leads leads on, and gives the lock back, unless it is killed or asked to stop, or several of its calls failed lately: of those for the lock, for another to take it ([`leading`]) |
//! | [`Rule::Stuck`] | some time after the last fault the fleet is at rest: every record is done, every open shard has a processor on a living worker that owns its lease, every closed one is checkpointed at its end, a living worker leads, and the shards are shared out evenly |
//! | in quiet, when nothing fails but what is said here | |
//! | [`Rule::Slow`] | the next processor of a shard begins within 3 s after a worker handed it over or stopped, within 15 s after it was killed, within 30 s if it led, within 15 s where an operator had a lease released; not before 30 s after the leader's death if that, or who follows it, is what is waited for; and [`ON_THE_DEAD`] later for each other worker that died lately, which may be given the lease first |
//! | [`Rule::Shaken`] | nobody is told that a lease is lost |
//! | [`Rule::Twice`] | what a processor was done with, and had time to checkpoint when it was asked to stop, does not come again |
//!
//! What a processor is told of a lost lease (`lease_lost`) is no work, and may overlap with anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::{Position, ShardId};

use super::log::{Call, Ending, Entry, Event, Instance, Row};
use super::operator::NOBODY;
use anew::Anew;
use leading::Leading;

mod anew;
pub mod leading;

/// What a log can break.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// A record is lost.
    Lost,
    /// A processor was given what was not its turn.
    Order,
    /// Two processors work on one shard.
    TwoOwners,
    /// A child was begun before a parent was finished.
    Parents,
    /// A lease went back.
    Back,
    /// A worker ended by itself.
    Broke,
    /// A shard was left alone for too long.
    Slow,
    /// A lease was lost without a reason.
    Shaken,
    /// A record came again without a reason.
    Twice,
    /// Another leads without a reason.
    Deposed,
    /// Something is not mended in time.
    Stuck,
}

/// From the end of a processor that was asked to stop to the beginning of the next.
/// Source: the promise of the README.
pub const HANDED_OVER_WITHIN: Duration = Duration::from_secs(3);

/// From the death of a worker to the beginning of the next processor. Source: as above.
pub const REPLACED_WITHIN: Duration = Duration::from_secs(15);

/// The same for the worker that leads. Source: as above.
pub const LEADER_REPLACED_WITHIN: Duration = Duration::from_secs(30);

/// How long a worker that died may be taken for a living one: its row of metrics is fresh for a minute,
/// and its clock and the leader's may each be wrong by as much as a scenario lets them.
pub const TAKEN_FOR_ALIVE: Duration = Duration::from_secs(60 + 2 * 90);

/// What it costs that a lease is given to one: it has to expire again, once for each.
pub const ON_THE_DEAD: Duration = Duration::from_secs(12);

/// A rule that a log breaks, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// When.
    pub at: Duration,
    /// Which rule.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, rule, what } = self;
        write!(f, "{:.3} s: {rule:?}: {what}", at.as_secs_f64())
    }
}

/// What the stream holds in the end.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Its records, each user record by itself.
    pub records: Vec<(ShardId, Position)>,
    /// Its shards and their parents.
    pub parents: BTreeMap<ShardId, Vec<ShardId>>,
    /// Those of the shards that take records still.
    pub open: BTreeSet<ShardId>,
    /// Whether leases are shared out by number.
    pub by_number: bool,
}

/// One shard and its lease.
#[derive(Debug, Default)]
struct Shard {
    /// In order, and whether somebody is done with each.
    records: BTreeMap<Position, bool>,
    /// What an operator did, until the next row.
    anew: Option<Anew>,
    row: Option<Row>,
    /// The furthest checkpoint, which outlives the row.
    checkpoint: Option<Position>,
    newest: Option<Instance>,
    working: Option<(Instance, Call)>,
    /// Since when nobody works on it, and for how long that may be.
    left: Option<Left>,
}

/// A shard without a processor.
#[derive(Clone, Debug)]
struct Left {
    /// The workers whose deaths `until` makes up for.
    deaths: BTreeSet<Arc<str>>,
    since: Duration,
    /// When the next processor has to begin, unless more workers are dead.
    until: Duration,
    /// The processor, if it had time to checkpoint all that it was done with.
    in_order: Option<usize>,
}

impl Left {
    /// Who gives the shard to another may first have to replace the leader that died.
    fn waits_for_a_leader(&mut self, leaderless: Option<&(Arc<str>, Duration)>) {
        if let Some((leader, died)) = leaderless {
            self.until = self.until.max(*died + LEADER_REPLACED_WITHIN);
            self.deaths.insert(Arc::clone(leader));
        }
    }
}

/// One processor.
#[derive(Debug)]
struct Life {
    /// The furthest record that it was given, or its start.
    given: Position,
    /// The furthest record that it was done with, or its start.
    done: Position,
    /// What the call under way was given.
    in_call: Vec<Position>,
}

/// Reads a log, entry by entry.
#[derive(Debug)]
pub struct Checker {
    truth: Truth,
    shards: BTreeMap<ShardId, Shard>,
    lives: BTreeMap<usize, Life>,
    alive: BTreeSet<Arc<str>>,
    leader: Option<String>,
    leading: Leading,
    /// The leader that died, and when, until another leads: nobody gives leases away.
    leaderless: Option<(Arc<str>, Duration)>,
    quiet: bool,
    /// The instants that operators set leases to.
    set_to: BTreeSet<u64>,
    /// When workers were killed that did not come back.
    dead: BTreeMap<Arc<str>, Duration>,
    at: Duration,
    violations: Vec<Violation>,
}

impl Checker {
    /// A checker of the log of a run in which the stream came to hold this.
    pub fn new(truth: Truth) -> Self {
        let mut shards: BTreeMap<ShardId, Shard> = BTreeMap::new();
        for shard in truth.parents.keys() {
            shards.insert(shard.clone(), Shard::default());
        }
        for (shard, position) in &truth.records {
            let shard = shards.entry(shard.clone()).or_default();
            shard.records.insert(position.clone(), false);
        }
        Self {
            truth,
            shards,
            lives: BTreeMap::new(),
            alive: BTreeSet::new(),
            leader: None,
            leading: Leading::default(),
            leaderless: None,
            quiet: false,
            set_to: BTreeSet::new(),
            dead: BTreeMap::new(),
            at: Duration::ZERO,
            violations: Vec::new(),
        }
    }

    /// What was broken so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    fn breaks(&mut self, rule: Rule, what: String) {
        let at = self.at;
        self.violations.push(Violation { at, rule, what });
    }

    /// Reads the next entry.
    pub fn see(&mut self, entry: &Entry) {
        self.at = entry.at;
        if let Some(what) = self.leading.see(entry) {
            self.breaks(Rule::Deposed, what);
        }
        match &entry.event {
            Event::Up { worker } => {
                self.dead.remove(worker);
                self.alive.insert(Arc::clone(worker));
            }
            Event::Down { worker, crashed } => {
                self.alive.remove(worker);
                if *crashed {
                    self.died(worker);
                } else if !self.quiet {
                    // It may have been unable to take its leave.
                    self.dead.insert(Arc::clone(worker), self.at);
                }
            }
            Event::Broke { worker, what } => {
                self.alive.remove(worker);
                self.breaks(Rule::Broke, format!("{worker}: {what}"));
            }
            Event::Led { worker } => {
                // A beat of the dead one may still be under way.
                if self.alive.contains(&**worker) {
                    self.leaderless = None;
                }
                self.leader = Some(worker.clone());
            }
            Event::Row { lease, row } => self.row(lease, row),
            Event::RowDeleted {
                lease,
                by_hand: true,
            } => self.is_operated(lease, Anew::Removed),
            Event::RowDeleted { lease, .. } => self.deleted(lease),
            Event::Reset { lease } => self.is_operated(lease, Anew::Reset),
            Event::Begins { instance, position } => self.begins(instance, position),
            Event::Enters { instance, call } => self.enters(instance, *call),
            Event::Leaves {
                instance,
                call,
                ending,
            } => self.leaves(instance, *call, *ending),
            Event::Delivered {
                instance,
                position,
                payload,
            } => self.delivered(instance, position, payload),
            Event::Asks { instance } => self.is_done(instance),
            Event::Buried { shard, position } => {
                let records = self.shards.get_mut(shard).map(|shard| &mut shard.records);
                if let Some(done) = records.and_then(|records| records.get_mut(position)) {
                    *done = true;
                }
            }
            Event::Unrest { what } => self.breaks(Rule::Stuck, what.clone()),
            Event::Quiet => self.quiet = true,
            Event::Step(_)
            | Event::Asked { .. }
            | Event::Called { .. }
            | Event::GaveBack { .. }
            | Event::Calm
            | Event::Over => {}
        }
    }

    /// How many workers besides these are dead and may still be taken for living ones.
    fn dead(&self, besides: &BTreeSet<Arc<str>>) -> u32 {
        let lately = |(worker, died): &(&Arc<str>, &Duration)| {
            !besides.contains(*worker) && self.at < **died + TAKEN_FOR_ALIVE
        };
        self.dead.iter().filter(lately).count() as u32
    }

    /// A worker was killed: its shards are alone, and if it led, nobody gives away any that are.
    fn died(&mut self, worker: &Arc<str>) {
        let led = self.leader.as_deref() == Some(&**worker);
        self.dead.insert(Arc::clone(worker), self.at);
        if led {
            self.leaderless = Some((Arc::clone(worker), self.at));
        }
        let mut left = self.left(REPLACED_WITHIN, None);
        left.deaths.insert(Arc::clone(worker));
        let leaderless = self.leaderless.clone();
        for shard in self.shards.values_mut() {
            let newest = shard.newest.as_ref();
            if let Some(left) = &mut shard.left {
                left.waits_for_a_leader(leaderless.as_ref());
            } else if newest.is_some_and(|newest| newest.worker == *worker) {
                shard.left = Some(left.clone());
            }
        }
    }

    /// A shard that is left alone now, for so long if somebody leads.
    fn left(&self, within: Duration, in_order: Option<usize>) -> Left {
        let mut left = Left {
            deaths: BTreeSet::new(),
            since: self.at,
            until: self.at + within,
            in_order,
        };
        left.waits_for_a_leader(self.leaderless.as_ref());
        left
    }

    fn row(&mut self, lease: &ShardId, row: &Row) {
        self.starts_anew(lease, row);
        let shard = self.shards.entry(lease.clone()).or_default();
        let before = shard.checkpoint.clone();
        let counter = shard.row.as_ref().map_or(0, |row| row.counter);
        let skipped = shard
            .records
            .iter()
            .find(|(at, done)| **at <= row.checkpoint && !**done)
            .map(|(at, _)| at.clone());
        shard.row = Some(row.clone());
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

    fn deleted(&mut self, lease: &ShardId) {
        let ended = self.has_ended(lease);
        if let Some(shard) = self.shards.get_mut(lease) {
            shard.row = None;
        }
        if !ended {
            self.breaks(Rule::Back, format!("{lease} is deleted before its end"));
        }
    }

    fn has_ended(&self, shard: &ShardId) -> bool {
        let is_open = self.truth.open.contains(shard);
        self.shards.get(shard).is_some_and(|shard| {
            shard.checkpoint == Some(Position::ShardEnd)
                || (!is_open && shard.was_removed_at_its_end())
        })
    }

    fn begins(&mut self, instance: &Instance, position: &Position) {
        let start = self.start_of(&instance.shard, position);
        let life = Life {
            given: start.clone(),
            done: start.clone(),
            in_call: Vec::new(),
        };
        self.lives.insert(instance.number, life);
        let parents = self.truth.parents.get(&instance.shard);
        let early = parents
            .into_iter()
            .flatten()
            .find(|parent| !self.has_ended(parent))
            .cloned();
        if let Some(parent) = early {
            let what = format!("{instance} begins before the end of {parent}");
            self.breaks(Rule::Parents, what);
        }
        let shard = self.shards.entry(instance.shard.clone()).or_default();
        shard.newest = shard.newest.clone().max(Some(instance.clone()));
        let left = shard.left.take();
        let stored = shard.row.as_ref().map(|row| row.checkpoint.clone());
        if let Some(left) = left.filter(|_| self.quiet) {
            let took = self.at - left.since;
            if self.at > left.until + ON_THE_DEAD * self.dead(&left.deaths) {
                let what = format!("{instance} begins {took:?} after the one before it was gone");
                self.breaks(Rule::Slow, what);
            }
            let done = left.in_order.and_then(|before| self.lives.get(&before));
            if let Some(done) = done
                .map(|life| life.done.clone())
                .filter(|done| *done > start)
            {
                let what = format!("{instance} begins at {position}, and {done} was done with");
                self.breaks(Rule::Twice, what);
            }
        }
        if stored.as_ref() != Some(position) {
            let what = format!("{instance} begins at {position}, the checkpoint is {stored:?}");
            self.breaks(Rule::Order, what);
        }
    }

    fn enters(&mut self, instance: &Instance, call: Call) {
        if call == Call::LeaseLost {
            if self.quiet {
                self.breaks(Rule::Shaken, format!("{instance} lost its lease"));
            }
            return;
        }
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

    fn leaves(&mut self, instance: &Instance, call: Call, ending: Ending) {
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
        if call == Call::Shutdown {
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
        if call == Call::Process && ending == Ending::Done {
            self.is_done(instance);
            if let Some(life) = self.lives.get_mut(&instance.number) {
                let last = life.in_call.last().cloned();
                life.done = last.map_or(life.done.clone(), |last| last.max(life.done.clone()));
            }
        }
        if let Some(life) = self.lives.get_mut(&instance.number) {
            life.in_call.clear();
        }
    }

    /// The processor is done with what the call under way was given.
    fn is_done(&mut self, instance: &Instance) {
        let (Some(life), Some(shard)) = (
            self.lives.get(&instance.number),
            self.shards.get_mut(&instance.shard),
        ) else {
            return;
        };
        for position in &life.in_call {
            shard.records.insert(position.clone(), true);
        }
    }

    fn delivered(&mut self, instance: &Instance, position: &Position, payload: &str) {
        let (Some(life), Some(shard)) = (
            self.lives.get_mut(&instance.number),
            self.shards.get_mut(&instance.shard),
        ) else {
            let what = format!("{instance} is given {payload} and never began");
            return self.breaks(Rule::Order, what);
        };
        let mut wrong = None;
        if !shard.records.contains_key(position) {
            wrong = Some("which the shard does not hold".to_owned());
        } else if *position <= life.done {
            wrong = Some(format!("though it was done with {}", life.done));
        } else if life.in_call.last().is_some_and(|last| position <= last) {
            wrong = Some("in the wrong order".to_owned());
        } else if *position > life.given {
            let behind = (
                std::ops::Bound::Excluded(&life.given),
                std::ops::Bound::Excluded(position),
            );
            if let Some((missing, _)) = shard.records.range(behind).next() {
                wrong = Some(format!("and not {missing}, which comes before"));
            }
        }
        life.given = life.given.clone().max(position.clone());
        life.in_call.push(position.clone());
        if let Some(wrong) = wrong {
            let what = format!("{instance} is given {payload} at {position} {wrong}");
            self.breaks(Rule::Order, what);
        }
    }

    /// What is not as it should be when nothing has failed for long; `None` at rest.
    pub fn unrest(&self) -> Option<String> {
        let is_alive = |worker: &str| self.alive.iter().any(|alive| **alive == *worker);
        for (id, shard) in &self.shards {
            let left = shard.records.iter().filter(|(_, done)| !**done);
            if let Some((first, _)) = left.clone().next() {
                let left = left.count();
                return Some(format!(
                    "{left} records of {id} are left, the first at {first}"
                ));
            }
            if !self.truth.open.contains(id) {
                if !self.has_ended(id) {
                    return Some(format!("{id} is closed and not checkpointed at its end"));
                }
                continue;
            }
            let Some(row) = &shard.row else {
                return Some(format!("{id} has no lease"));
            };
            let owner = row.owner.as_deref().filter(|owner| is_alive(owner));
            let Some(owner) = owner else {
                return Some(format!("no living worker owns {id}: {row}"));
            };
            if row.checkpoint_owner.is_some() {
                return Some(format!("{id} is in a handoff: {row}"));
            }
            let works = shard.newest.as_ref().map(|newest| &*newest.worker);
            if works != Some(owner) || shard.left.is_some() {
                return Some(format!("{owner} owns {id}, and works on it: {works:?}"));
            }
        }
        let leader = self.leader.as_deref();
        if !leader.is_some_and(is_alive) {
            return Some(format!("no living worker leads: {leader:?}"));
        }
        self.truth.by_number.then(|| self.uneven()).flatten()
    }

    fn uneven(&self) -> Option<String> {
        let mut counts: BTreeMap<&str, usize> =
            self.alive.iter().map(|worker| (&**worker, 0)).collect();
        for id in &self.truth.open {
            let row = self.shards.get(id).and_then(|shard| shard.row.as_ref());
            let owner = row.and_then(|row| row.owner.as_deref());
            if let Some(count) = owner.and_then(|owner| counts.get_mut(owner)) {
                *count += 1;
            }
        }
        let most = counts.values().max().copied().unwrap_or(0);
        let least = counts.values().min().copied().unwrap_or(0);
        (most > least + 1).then(|| format!("the shards are shared out unevenly: {counts:?}"))
    }
}

#[cfg(test)]
mod tests;
