//! The promises, held against a log. Without I/O.
//!
//! | Rule | |
//! |---|---|
//! | [`Rule::Lost`] | a checkpoint passes only records that a processor was done with, or that are stored dead letters; in the end that is every record |
//! | [`Rule::Order`] | a processor starts behind the checkpoint and is given the shard's records in order and without a gap; again only what it failed. Of a batch that is gone through record by record each is taken once until it fails, behind all earlier ones of its key, and so many at once as was asked for |
//! | [`Rule::Stopped`] | where shards stop at what fails: whoever failed so often, or said that a record cannot be processed, is asked to shut down and called no more. Until that is mended the next owner comes as far and no further; all other shards come to rest |
//! | [`Rule::TwoOwners`] | of a shard's processors one at a time is in a call, and none that is older than another that began |
//! | [`Rule::Parents`] | a processor begins after the parents of its shard are checkpointed at their end |
//! | [`Rule::Back`] | checkpoints and counters of a lease never go back, and a lease is deleted only at its end, save where an operator does it (`rules/anew.rs`) |
//! | [`Rule::Start`] | an application that starts at an instant has one, stored with its leases and the same in all of them; of the newest record it is the service's time when the first worker came. Records from then on are the application's ([`Rule::Lost`], [`Rule::Stuck`]); of those before it at most the last few seconds come, also of children, which are read from their beginning. A lease that an operator set anew starts where that was to be, one whose row was deleted where the application does (`rules/anew.rs`) |
//! | [`Rule::Pending`] | a lease holds as prepared only what its processors prepared, ahead of its checkpoint; the next processor is told just that; a checkpoint puts an end to it, and nothing else does |
//! | [`Rule::Unsaid`] | what a processor asked to be stored is, when it is told so |
//! | [`Rule::Broke`] | no worker ends by itself |
//! | [`Rule::Deposed`] | who leads leads on, and does not give the lock back, unless it is killed or asked to stop, or several of its calls for the lease table failed lately: of those for the lock, for another to take it ([`leading`]) |
//! | [`Rule::Stuck`] | some time after the last fault the fleet is at rest: every record is done, every open shard has a processor on a living worker that owns its lease, every closed one is checkpointed at its end, a living worker leads, and the shards are shared out evenly |
//! | in quiet, when nothing fails but what is said here | |
//! | [`Rule::Slow`] | the next processor of a shard begins within 3 s after a worker handed it over or stopped, within 15 s after it was killed, within 30 s if it led, within 15 s where an operator had a lease released; not before 30 s after the leader's death if that, or who follows it, is what is waited for; [`ON_THE_DEAD`] later for each other worker that died lately, which may be given the lease first; and, where a lease has to expire and the leader stops meanwhile, [`SEEN_TO_BE_GONE_WITHIN`] later |
//! | [`Rule::Shaken`] | nobody is told that a lease is lost |
//! | [`Rule::Restless`] | nothing is moved once nothing is written any more and the readings of the workers show that, and nobody counts as one who died |
//! | [`Rule::Twice`] | what a processor was done with, and had time to checkpoint when it was asked to stop, does not come again |
//!
//! What a processor is told of a lost lease (`lease_lost`) is no work, and may overlap with anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kinesis_consumer::{ForEach, InitialPosition};
use kinesis_core::{Position, ShardId};

use super::log::{Call, Entry, Event, Instance, Pending, Row, Start};
use alone::Left;
pub use alone::{
    HANDED_OVER_WITHIN, LEADER_REPLACED_WITHIN, ON_THE_DEAD, REPLACED_WITHIN,
    SEEN_TO_BE_GONE_WITHIN, TAKEN_FOR_ALIVE,
};
use anew::Anew;
use leading::Leading;
use records::{Kept, Life};
use start::Began;

mod alone;
mod anew;
pub mod leading;
mod leases;
mod pending;
mod records;
mod rest;
mod start;
mod stopped;
mod turns;

/// What a log can break.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// A record is lost.
    Lost,
    /// A processor was given what was not its turn.
    Order,
    /// A shard that stopped goes on.
    Stopped,
    /// Two processors work on one shard.
    TwoOwners,
    /// A child was begun before a parent was finished.
    Parents,
    /// A lease went back.
    Back,
    /// A shard is not read from where the application starts.
    Start,
    /// A prepared checkpoint is not what was prepared.
    Pending,
    /// A processor was told that something is stored, which is not.
    Unsaid,
    /// A worker ended by itself.
    Broke,
    /// A shard was left alone for too long.
    Slow,
    /// A lease was lost without a reason.
    Shaken,
    /// A record came again without a reason.
    Twice,
    /// A lease is moved without a reason.
    Restless,
    /// Another leads without a reason.
    Deposed,
    /// Something is not mended in time.
    Stuck,
}

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

/// What the streams hold in the end. Shards go by the keys of their leases.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Its records, each user record by itself.
    pub records: Vec<Written>,
    /// Its shards and their parents.
    pub parents: BTreeMap<ShardId, Vec<ShardId>>,
    /// Those of the shards that take records still.
    pub open: BTreeSet<ShardId>,
    /// Whether leases are shared out by number.
    pub by_number: bool,
    /// Where the application starts.
    pub initial: InitialPosition,
    /// How records are gone through one by one, where they are.
    pub each: Option<ForEach>,
    /// Failures of a batch at which its shard stops, where it does.
    pub stops_after: Option<u32>,
}

/// A user record of the stream.
#[derive(Clone, Debug)]
pub struct Written {
    /// The shard that holds it.
    pub shard: ShardId,
    /// Its place there.
    pub position: Position,
    /// Its partition key.
    pub key: Arc<str>,
    /// When it came by the service's clock, in milliseconds since the Unix epoch.
    pub arrived: u64,
}

/// One shard and its lease.
#[derive(Debug, Default)]
struct Shard {
    records: BTreeMap<Position, Kept>,
    /// What an operator did, until the next row.
    anew: Option<Anew>,
    row: Option<Row>,
    /// The row that an operator deleted, until there is one again.
    removed: Option<Row>,
    /// The furthest checkpoint, which outlives the row.
    checkpoint: Option<Position>,
    newest: Option<Instance>,
    working: Option<(Instance, Call)>,
    /// The instant that its lease was made to start at, in milliseconds since the Unix epoch.
    starts_at: Option<u64>,
    /// What processors asked to prepare, in this order.
    prepared: Vec<Pending>,
    /// Since when nobody works on it, and for how long that may be.
    left: Option<Left>,
}

/// Reads a log, entry by entry.
#[derive(Debug)]
pub struct Checker {
    truth: Truth,
    /// From which instant on the records of a stream are the application's, once that is settled.
    began: BTreeMap<String, Began>,
    /// When the first worker came.
    first_up: Option<Duration>,
    shards: BTreeMap<ShardId, Shard>,
    lives: BTreeMap<usize, Life>,
    alive: BTreeSet<Arc<str>>,
    leader: Option<String>,
    leading: Leading,
    /// The leader that died, and when, until another leads: nobody gives leases away.
    leaderless: Option<(Arc<str>, Duration)>,
    /// The leader gave the lock back, and no other has it yet.
    vacant: bool,
    quiet: bool,
    /// What shards stopped at is none any more, and they are let go on.
    mended: bool,
    still: bool,
    /// Where operators' deeds set leases to.
    deeds: BTreeMap<Arc<str>, Start>,
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
        for written in &truth.records {
            let shard = shards.entry(written.shard.clone()).or_default();
            let kept = Kept {
                key: Arc::clone(&written.key),
                arrived: written.arrived,
                done: false,
            };
            shard.records.insert(written.position.clone(), kept);
        }
        let mut checker = Self {
            truth,
            began: BTreeMap::new(),
            first_up: None,
            shards,
            lives: BTreeMap::new(),
            alive: BTreeSet::new(),
            leader: None,
            leading: Leading::default(),
            leaderless: None,
            vacant: false,
            quiet: false,
            mended: false,
            still: false,
            deeds: BTreeMap::new(),
            dead: BTreeMap::new(),
            at: Duration::ZERO,
            violations: Vec::new(),
        };
        checker.starts();
        checker
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
                self.first_up.get_or_insert(self.at);
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
                    self.vacant = false;
                }
                self.leader = Some(worker.clone());
            }
            Event::GaveBack { .. } => self.vacates(),
            Event::Row { lease, row } => self.row(lease, row),
            Event::RowDeleted {
                lease,
                by_hand: true,
            } => self.removed(lease),
            Event::RowDeleted { lease, .. } => self.deleted(lease),
            Event::Resets { deed, to } => {
                self.deeds.insert(Arc::clone(deed), to.clone());
            }
            Event::Reset { lease, deed } => self.reset(lease, deed),
            Event::Begins {
                instance,
                position,
                pending,
            } => {
                self.begins(instance, position);
                self.begins_with(instance, pending.as_ref());
            }
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
            Event::Asks { instance, position } => self.is_done(instance, position.as_ref()),
            Event::Prepares { instance, pending } => self.prepares(instance, pending),
            Event::Told {
                instance,
                checkpoint,
                pending,
            } => self.told(instance, checkpoint.as_ref(), pending.as_ref()),
            Event::Takes { instance, position } => self.takes(instance, position),
            Event::Handled {
                instance,
                position,
                ending,
            } => self.handled(instance, position, *ending),
            Event::Buried { shard, position } => self.buried(shard, position),
            Event::Unrest { what } => self.breaks(Rule::Stuck, what.clone()),
            Event::Quiet => self.quiet = true,
            Event::Mended => self.mended = true,
            Event::Still => self.still = true,
            Event::Over => self.still = false,
            Event::Step(_) | Event::Asked { .. } | Event::Called { .. } | Event::Calm => {}
        }
    }
}

#[cfg(test)]
mod tests;
