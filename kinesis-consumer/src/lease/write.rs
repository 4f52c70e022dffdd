//! The writes that move a lease: what each demands of the row and what it changes, as data.
//!
//! | Write | Demands | Changes |
//! | --- | --- | --- |
//! | renew | counter as held, held by me | counter + 1 |
//! | checkpoint | counter as held, held by me | counter + 1, checkpoint, switches = 0, pending removed |
//! | prepare | counter as held, held by me | counter + 1, pending checkpoint and its state |
//! | take | counter and both owners as seen | counter + 1, owner = me, no checkpoint owner, switches + 1 |
//! | assign | counter and both owners as seen | counter + 1, owner = new, no checkpoint owner, switches + 1 |
//! | start handoff | both owners as seen, not ended | owner = new, checkpoint owner = old |
//! | complete handoff | counter and both owners as seen | counter + 1, no checkpoint owner, switches + 1 |
//! | withdraw | both owners as seen, not ended | owner = old, no checkpoint owner |
//! | keep | counter and both owners as seen | counter + 1 |
//! | evict | counter and both owners as seen | counter + 1, no owner |
//!
//! The leader assigns and starts handoffs; a worker takes what was assigned to it, and withdraws from a
//! handoff to it when it leaves; the holder does the rest. What it gave up for a worker that withdrew
//! meanwhile it keeps, unless it stops too: it takes the lease again as one that was given to it.
//! "Held by me" is `checkpointOwner = me`, or `leaseOwner = me` without a `checkpointOwner`. It is
//! stronger than what the KCL demands of a checkpoint (the counter only), and compatible: a KCL
//! only looks at the result. A renewal does not demand that there is no handoff; its answer shows it.
//!
//! A take, and every write of the holder, sets `acquisitionId`; an assignment removes it, and the
//! two writes that give the lease away leave it, which tells who had the lease before. Demanding the
//! counter of an assignment is more than the KCL does: a holder that renewed since the leader looked
//! keeps its lease.

use kinesis_core::{Position, ShardId};

use super::{Lease, Throughput};
use crate::checkpoint::PendingCheckpoint;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};

/// One write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Write {
    pub(crate) shard_id: ShardId,
    pub(crate) demand: Demand,
    pub(crate) change: Change,
}

/// What must be true of the row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Demand {
    /// `leaseCounter`; `None` leaves it open, but the row must exist and not be ended.
    pub(crate) counter: Option<u64>,
    pub(crate) owners: Owners,
}

/// What must be true of the owners.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Owners {
    AsSeen {
        owner: Option<String>,
        checkpoint_owner: Option<String>,
    },
    HeldBy(String),
}

/// What the write changes. The counter is raised wherever it is demanded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    pub(crate) owner: Set<String>,
    pub(crate) checkpoint_owner: Set<String>,
    pub(crate) acquisition: Set<String>,
    pub(crate) throughput: Option<Throughput>,
    pub(crate) checkpoint: Option<Position>,
    pub(crate) pending_checkpoint: Option<PendingCheckpoint>,
    /// Adds 1 to `ownerSwitchesSinceCheckpoint`.
    pub(crate) owner_switch: bool,
}

/// What happens to an optional attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Set<T> {
    Keep,
    Remove,
    To(T),
}

const NO_CHANGE: Change = Change {
    owner: Set::Keep,
    checkpoint_owner: Set::Keep,
    acquisition: Set::Keep,
    throughput: None,
    checkpoint: None,
    pending_checkpoint: None,
    owner_switch: false,
};

impl Write {
    /// Proves that the holder lives.
    pub(crate) fn renew(held: &Lease, me: &str, acquisition: &str) -> Self {
        Self::by_holder(held, me, acquisition, NO_CHANGE)
    }

    /// Moves the checkpoint.
    pub(crate) fn checkpoint(
        held: &Lease,
        me: &str,
        acquisition: &str,
        position: &Position,
    ) -> Self {
        let change = Change {
            checkpoint: Some(position.clone()),
            ..NO_CHANGE
        };
        let write = Self::by_holder(held, me, acquisition, change);
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::CheckpointWithoutCounter) {
            let owners = write.demand.owners;
            let counter = None;
            let demand = Demand { counter, owners };
            return Self { demand, ..write };
        }
        write
    }

    /// Notes a checkpoint that is to be made later, in place of one that was noted before.
    pub(crate) fn prepare(
        held: &Lease,
        me: &str,
        acquisition: &str,
        pending: &PendingCheckpoint,
    ) -> Self {
        let change = Change {
            pending_checkpoint: Some(pending.clone()),
            ..NO_CHANGE
        };
        Self::by_holder(held, me, acquisition, change)
    }

    /// The same write with what the shard delivered lately, where the holder knows.
    pub(crate) fn with_throughput(mut self, throughput: Option<Throughput>) -> Self {
        self.change.throughput = throughput;
        self
    }

    fn by_holder(held: &Lease, me: &str, acquisition: &str, change: Change) -> Self {
        Self {
            shard_id: held.shard_id.clone(),
            demand: Demand {
                counter: Some(held.counter),
                owners: Owners::HeldBy(me.to_owned()),
            },
            change: Change {
                acquisition: Set::To(acquisition.to_owned()),
                ..change
            },
        }
    }

    /// Makes this worker the holder. A handoff that was under way ends with it.
    pub(crate) fn take(seen: &Lease, me: &str, acquisition: &str) -> Self {
        let switches = seen.owner.as_deref() != Some(me) || seen.is_in_handoff();
        Self {
            shard_id: seen.shard_id.clone(),
            demand: Demand {
                counter: Some(seen.counter),
                owners: owners_of(seen),
            },
            change: Change {
                owner: Set::To(me.to_owned()),
                checkpoint_owner: Set::Remove,
                acquisition: Set::To(acquisition.to_owned()),
                owner_switch: switches,
                ..NO_CHANGE
            },
        }
    }

    /// Gives the lease to `to`, whatever became of its holder. A handoff that was under way ends
    /// with it.
    pub(crate) fn assign(seen: &Lease, to: &str) -> Self {
        let switches = seen.owner.as_deref() != Some(to) || seen.is_in_handoff();
        Self {
            shard_id: seen.shard_id.clone(),
            demand: Demand {
                counter: Some(seen.counter),
                owners: owners_of(seen),
            },
            change: Change {
                owner: Set::To(to.to_owned()),
                checkpoint_owner: Set::Remove,
                acquisition: Set::Remove,
                owner_switch: switches,
                ..NO_CHANGE
            },
        }
    }

    /// Asks the holder to hand over to `to`; `None` if there is no holder or a handoff is under
    /// way.
    pub(crate) fn start_handoff(seen: &Lease, to: &str) -> Option<Self> {
        let old = seen.owner.clone().filter(|_| !seen.is_in_handoff())?;
        Some(Self::beside_holder(seen, to.to_owned(), Set::To(old)))
    }

    /// Ends a handoff before it is done: the next owner leaves, and the holder is to go on. `None` if there is none, or the holder is not known to be
    /// a worker of this crate: a KCL that heard of the handoff would have stopped its processor, and would
    /// hold the lease on without one.
    pub(crate) fn withdraw(seen: &Lease) -> Option<Self> {
        let old = seen.checkpoint_owner.clone()?;
        if seen.marked_by() != Some(&old) {
            return None;
        }
        Some(Self::beside_holder(seen, old, Set::Remove))
    }

    /// New owners in the place of those seen, while the holder goes on: the counter, which it raises, is
    /// neither demanded nor raised.
    fn beside_holder(seen: &Lease, owner: String, checkpoint_owner: Set<String>) -> Self {
        Self {
            shard_id: seen.shard_id.clone(),
            demand: Demand {
                counter: None,
                owners: owners_of(seen),
            },
            change: Change {
                owner: Set::To(owner),
                checkpoint_owner,
                ..NO_CHANGE
            },
        }
    }

    /// Ends a tenure for a next one of the same worker.
    pub(crate) fn keep(held: &Lease) -> Self {
        Self {
            shard_id: held.shard_id.clone(),
            demand: Demand {
                counter: Some(held.counter),
                owners: owners_of(held),
            },
            change: NO_CHANGE,
        }
    }

    /// Gives a held lease away: to the next owner if a handoff is under way, else to whoever takes it.
    pub(crate) fn give_up(held: &Lease) -> Self {
        let handoff = held.is_in_handoff();
        let left = if handoff { Set::Remove } else { Set::Keep };
        #[cfg(feature = "mutations")]
        let left = if mutation::is(Mutation::HandoffLeavesCheckpointOwner) {
            Set::Keep
        } else {
            left
        };
        Self {
            shard_id: held.shard_id.clone(),
            demand: Demand {
                counter: Some(held.counter),
                owners: owners_of(held),
            },
            change: Change {
                owner: if handoff { Set::Keep } else { Set::Remove },
                checkpoint_owner: left,
                owner_switch: handoff,
                ..NO_CHANGE
            },
        }
    }
}

fn owners_of(lease: &Lease) -> Owners {
    Owners::AsSeen {
        owner: lease.owner.clone(),
        checkpoint_owner: lease.checkpoint_owner.clone(),
    }
}

/// The rules on a row in memory.
impl Write {
    /// The row after this write, or `None` if the row refuses it.
    pub(crate) fn apply(&self, row: &Lease) -> Option<Lease> {
        let counter_holds = match self.demand.counter {
            Some(counter) => row.counter == counter,
            None => !row.is_ended(),
        };
        let owners_hold = match &self.demand.owners {
            Owners::AsSeen {
                owner,
                checkpoint_owner,
            } => row.owner == *owner && row.checkpoint_owner == *checkpoint_owner,
            Owners::HeldBy(me) => row.holder() == Some(me),
        };
        if !counter_holds || !owners_hold || row.shard_id != self.shard_id {
            return None;
        }
        let mut row = row.clone();
        row.counter += u64::from(self.demand.counter.is_some());
        set(&mut row.owner, &self.change.owner);
        set(&mut row.checkpoint_owner, &self.change.checkpoint_owner);
        set(&mut row.acquisition, &self.change.acquisition);
        if let Some(throughput) = self.change.throughput {
            row.throughput = Some(throughput);
        }
        row.owner_switches += u64::from(self.change.owner_switch);
        if let Some(position) = &self.change.checkpoint {
            row.checkpoint = position.clone();
            row.pending_checkpoint = None;
            row.owner_switches = 0;
        }
        if let Some(pending) = &self.change.pending_checkpoint {
            row.pending_checkpoint = Some(pending.clone());
        }
        Some(row)
    }
}

fn set(field: &mut Option<String>, change: &Set<String>) {
    match change {
        Set::Keep => {}
        Set::Remove => *field = None,
        Set::To(value) => *field = Some(value.clone()),
    }
}
