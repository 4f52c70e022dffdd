//! Who leads, and whether another had a reason to.
//!
//! A leader proves every 40 % of what its lock lasts that it lives, tries each time until it is heard, and
//! lets nothing else that is late keep it from that. So nobody else takes the lock from one that lives,
//! was not asked to stop, and met at most [`FAULTS_ENDURED`] faults on its calls for the lock lately,
//! whatever becomes of its other calls; nor does such a leader give the lock back, save when its other calls
//! for the table fail so often that its passes do. What Kinesis does not answer is no reason for either, and
//! in quiet nothing from before is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::simulation::log::{Entry, Event};

/// Faults of calls for the lock, lately, that a leader leads on through: one beat fails by one of them at
/// most, and the next one comes before the lock is anybody's.
/// Source: the consumer's lock, which has room for one beat that is lost.
pub const FAULTS_ENDURED: usize = 1;

/// For how long a fault of a call for the lock may be why another leads: the lock lasts 18 s, and whoever
/// waits for it sees the last beat at most 7 s late, which is no more than the time to the next one, that
/// fails. Source: the default of `leader_lock_duration`.
pub const LATELY: Duration = Duration::from_secs(20);

/// Calls that have to fail for a pass to: each has so many attempts. Source: the consumer's lease table.
const FAULTS_OF_A_PASS: usize = 3;

/// Passes of a leader that have to fail until another is to try. Source: as in the KCL.
const FAILED_PASSES: usize = 3;

/// For how long they have to fail for that, but for what a pass does before its first fault. Source: the
/// consumer's `keeper/lead`, the default of `failover_time`.
const FAILING: Duration = Duration::from_secs(10 - 1);

/// The same where they are fewer, slow ones. Source: as above, twice that.
const FAILING_SLOWLY: Duration = Duration::from_secs(20 - 1);

/// For how long a fault may be why a pass failed that was one of the last three: a call has three attempts
/// of ten seconds at most, and a pass a few calls. Source: derived from that.
const PASSES_AGO: Duration = Duration::from_secs(150);

/// The call for the lock that gives it back.
const GIVES_BACK: &str = "DynamoDB.DeleteItem";

/// How long a beat may be under way when its sender is dead. Source: the network's, and a little.
const LATE_BEAT: Duration = Duration::from_secs(10);

/// Follows the lock through a log.
#[derive(Debug, Default)]
pub(super) struct Leading {
    /// Who holds the lock, if that one lives.
    leader: Option<Arc<str>>,
    alive: BTreeSet<Arc<str>>,
    asked: BTreeSet<Arc<str>>,
    /// When processes of this name crashed last.
    crashed: BTreeMap<Arc<str>, Duration>,
    of_lock: BTreeMap<Arc<str>, VecDeque<Duration>>,
    /// Of other calls for the lease table.
    of_table: BTreeMap<Arc<str>, VecDeque<Duration>>,
}

impl Leading {
    /// Reads the next entry; what is wrong with it.
    pub(super) fn see(&mut self, entry: &Entry) -> Option<String> {
        let at = entry.at;
        match &entry.event {
            Event::Up { worker } => {
                self.alive.insert(Arc::clone(worker));
                self.asked.remove(worker);
            }
            Event::Asked { worker } => {
                self.asked.insert(Arc::clone(worker));
            }
            Event::Down { worker, crashed } => {
                self.gone(worker);
                if *crashed {
                    self.crashed.insert(Arc::clone(worker), at);
                }
            }
            Event::Broke { worker, .. } => self.gone(worker),
            Event::Called {
                worker,
                operation,
                fault: true,
                of_lock,
                ..
            } => {
                let add = |faults: &mut BTreeMap<Arc<str>, VecDeque<Duration>>, within| {
                    let faults = faults.entry(Arc::clone(worker)).or_default();
                    faults.push_back(at);
                    faults.retain(|fault| at <= *fault + within);
                };
                if *of_lock {
                    add(&mut self.of_lock, LATELY);
                    if operation == GIVES_BACK {
                        // It does not lead on, whether the lock hears of it or has to expire.
                        return self.gave_back(worker, at);
                    }
                } else if operation.starts_with("DynamoDB.") {
                    add(&mut self.of_table, PASSES_AGO);
                }
            }
            Event::Quiet => {
                self.of_lock.clear();
                self.of_table.clear();
            }
            Event::Led { worker } => return self.led(worker, at),
            Event::GaveBack { worker } => return self.gave_back(worker, at),
            _ => {}
        }
        None
    }

    fn gone(&mut self, worker: &Arc<str>) {
        self.alive.remove(worker);
        self.leader.take_if(|leader| leader == worker);
    }

    fn led(&mut self, worker: &str, at: Duration) -> Option<String> {
        let name: Arc<str> = worker.into();
        let before = self.leader.take();
        // What arrives of one that crashed makes nobody lead who came back under its name.
        let late = |crashed: &Duration| at < *crashed + LATE_BEAT;
        let of_the_dead = !self.alive.contains(&name) || self.crashed.get(&name).is_some_and(late);
        self.leader = (!of_the_dead).then(|| Arc::clone(&name));
        let before = before.filter(|before| *before != name)?;
        let faults = faults(&self.of_lock, &before, at, LATELY).count();
        let has_a_reason = self.asked.contains(&before) || faults > FAULTS_ENDURED;
        (!has_a_reason).then(|| {
            format!(
                "{name} leads though {before} does, {faults} of whose calls for the lock failed"
            )
        })
    }

    fn gave_back(&mut self, worker: &Arc<str>, at: Duration) -> Option<String> {
        self.leader.take_if(|leader| leader == worker);
        let faults = faults(&self.of_table, worker, at, PASSES_AGO);
        let since = faults
            .clone()
            .min()
            .map_or(Duration::ZERO, |first| at - first);
        let faults = faults.count();
        let fail = (faults >= FAULTS_OF_A_PASS && since >= FAILING_SLOWLY)
            || (faults >= FAILED_PASSES * FAULTS_OF_A_PASS && since >= FAILING);
        let has_a_reason = !self.alive.contains(worker) || self.asked.contains(worker) || fail;
        (!has_a_reason).then(|| {
            format!(
                "{worker} gives the lock back though only {faults} of its calls for the table failed, \
                 in {since:?}"
            )
        })
    }
}

/// Those of a worker's faults that are not longer ago than that.
fn faults(
    of: &BTreeMap<Arc<str>, VecDeque<Duration>>,
    worker: &Arc<str>,
    at: Duration,
    within: Duration,
) -> impl Iterator<Item = Duration> + Clone {
    let faults = of.get(worker).into_iter().flatten().copied();
    faults.filter(move |fault| at <= *fault + within)
}
