//! Shards that nobody works on, and for how long that may be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::Position;

use super::{Checker, Rule};
use crate::simulation::log::Instance;

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

/// What it costs that a lease is given to one: it has to expire again, once for each. Source: at the defaults
/// the leader sees it after 1.75 s, and the sixth time after that.
pub const ON_THE_DEAD: Duration = Duration::from_millis(12_300);

/// From the moment at which a leader gives the lock back to that at which the next one has it: how long what
/// has to expire is not looked at. Source: the consumer's lock, of which others look at 39 % of 18 s, and a
/// little.
pub const SEEN_TO_BE_GONE_WITHIN: Duration = Duration::from_millis(7_500);

/// A shard without a processor.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// The workers whose deaths `until` makes up for.
    deaths: BTreeSet<Arc<str>>,
    since: Duration,
    /// When the next processor has to begin, unless more workers are dead.
    until: Duration,
    /// For how long nobody may have seen it expire, if it has to.
    unseen: Duration,
    /// The processor, if it had time to checkpoint all that it was done with.
    in_order: Option<usize>,
}

impl Left {
    /// Who gives the shard to another may first have to replace the leader that died.
    pub(super) fn waits_for_a_leader(&mut self, leaderless: Option<&(Arc<str>, Duration)>) {
        if let Some((leader, died)) = leaderless {
            self.until = self.until.max(*died + LEADER_REPLACED_WITHIN);
            self.deaths.insert(Arc::clone(leader));
        }
    }
}

impl Checker {
    /// How many workers besides these are dead and may still be taken for living ones.
    pub(super) fn dead(&self, besides: &BTreeSet<Arc<str>>) -> u32 {
        let lately = |(worker, died): &(&Arc<str>, &Duration)| {
            !besides.contains(*worker) && self.at < **died + TAKEN_FOR_ALIVE
        };
        self.dead.iter().filter(lately).count() as u32
    }

    /// A worker was killed: its shards are alone, and if it led, nobody gives away any that are.
    pub(super) fn died(&mut self, worker: &Arc<str>) {
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

    /// The leader stopped: until there is another, nobody looks at what has to expire.
    pub(super) fn vacates(&mut self) {
        self.vacant = true;
        for left in self
            .shards
            .values_mut()
            .filter_map(|shard| shard.left.as_mut())
        {
            left.unseen += SEEN_TO_BE_GONE_WITHIN;
        }
    }

    /// A shard that is left alone now, for so long if somebody leads.
    pub(super) fn left(&self, within: Duration, in_order: Option<usize>) -> Left {
        let mut left = Left {
            deaths: BTreeSet::new(),
            since: self.at,
            until: self.at + within,
            unseen: match self.vacant {
                true => SEEN_TO_BE_GONE_WITHIN,
                false => Duration::ZERO,
            },
            in_order,
        };
        left.waits_for_a_leader(self.leaderless.as_ref());
        left
    }

    /// In quiet: the next processor begins with a shard that was left alone.
    pub(super) fn is_not_alone(
        &mut self,
        instance: &Instance,
        position: &Position,
        start: &Position,
        left: &Left,
    ) {
        let took = self.at - left.since;
        let dead = self.dead(&left.deaths);
        let mut until = left.until + ON_THE_DEAD * dead;
        if dead > 0 || !left.deaths.is_empty() {
            until += left.unseen;
        }
        if self.at > until {
            let what = format!("{instance} begins {took:?} after the one before it was gone");
            self.breaks(Rule::Slow, what);
        }
        let done = left.in_order.and_then(|before| self.lives.get(&before));
        if let Some(done) = done
            .map(|life| life.settled.clone())
            .filter(|done| *done > *start)
        {
            let what = format!("{instance} begins at {position}, and {done} was done with");
            self.breaks(Rule::Twice, what);
        }
    }
}
