//! Leases: which worker may work on which shard, kept in one DynamoDB table as the KCL keeps it, or in
//! the memory of one process ([`LeaseStore`]).
//!
//! ```text
//!  every worker   Pulse: worker metrics ─▶ row    lock: look, claim, beat    states of migrations
//!                 index ──what was given to me?──▶ take ──▶ HeldLease ──gained──▶ consumer
//!                                                  └ its own task: renew every 4 s, checkpoint,
//!                                                    fence, release, hand over
//!  the leader     scan ─▶ Observer ─────▶ Roster ─────────▶ assign::plan ─▶ assign / start handoff ─▶ row
//!                         (what is free)  (who is there)    (who gets what)
//!                 ListShards, apart ──discover──▶ rows (at the start, and where the key space has a hole)
//! ```
//!
//! What this module promises:
//! - **One worker at a time.** Every write that moves a lease raises `leaseCounter` and is made on
//!   the condition that the counter is the one last seen. A lease is given to another only after the
//!   counter stood still for `failover_time` on the leader's own monotonic clock; the holder counts
//!   the same time from *before* it sent its last successful write, less a margin, and stops
//!   (`HeldLease::lost`) before that. Wall clocks take no part. A process that stood still (SIGSTOP, no
//!   CPU) compares the clock before each step of its processors (`HeldLease::fenced`); code that runs on
//!   its own, in a thread or behind a call to elsewhere, is not stopped by that. What a machine slept
//!   through its monotonic clock does not count, on Linux: after that a processor may go on beside the
//!   next owner until the next renewal is refused, 40 % of `failover_time` at the most and the time of
//!   the write. Its checkpoints are refused all the same. A KCL promises less: see below.
//! - **No lease stays stuck.** A row without a living holder is given away after `failover_time`, by
//!   the leader or, while there is none, by whoever takes it. A handoff ends at the latest
//!   `handoff_timeout + failover_time` after the leader saw it: its old owner stops by itself at
//!   `handoff_timeout`, and the lease is then given to the new one by force.
//! - **A leader is replaced.** It proves that it lives every 40 % of `leader_lock_duration`; whoever sees
//!   nothing of it for that long takes its place. Already at 45 % the others begin to look at the leases, so
//!   that those of a dead leader have expired by then, or soon after. One that stops gives the lock back at
//!   once; another takes it at its next look, after 40 % of that at the most.
//! - **Who leaves waits for nobody.** A worker that stops in order gives its leases to the others itself,
//!   by the leader's rules, whoever leads; so, too, what it was given and did not take any more. Only where
//!   it cannot tell that anybody else is there (each other worker's wall clock is more than a minute off its
//!   own, none of them owns a lease, and it has seen none of their rows change) does the next leader do so.
//!   From a handoff to it that is under way it withdraws. What comes to it by one that it did not see any
//!   more, the leader, which saw it leave, gives to another. Only one of a KCL's has to expire where a KCL
//!   leads, or the leader changes at that moment: no KCL may be told that a handoff is off.
//! - **Parents before children.** A lease is taken only when each parent's lease is `SHARD_END` or
//!   is known, by a consistent read, not to exist. A blocked lease is left alone, not held.
//! - **No shard is lost.** The leases of a shard's children exist before the shard's checkpoint is
//!   `SHARD_END` (that of a merged shard: before its last parent's is); a lease is deleted only when
//!   all its children are under way, or when the stream has its shard no more and nobody knows them.
//! - **A renewal never waits for user code**, nor for a scan. Each lease has a task that does all its
//!   writes; [`HeldLease`] only sends it messages.
//! - **Leases move while Kinesis does not list or describe its streams.** What is asked of it is asked by
//!   tasks apart from the looks at the table; only leases that are still to be made wait for the answer,
//!   and, where an application reads several streams, those of streams that a worker has not been told the
//!   identity of since it started: it neither takes nor, if it leads, gives them away until then.
//!
//! # Rows
//! The attributes are those of the KCL 3.5 (`leaseKey` S hash key, `leaseOwner` S, `leaseCounter` N,
//! `checkpoint` S, `checkpointSubSequenceNumber` N, `ownerSwitchesSinceCheckpoint` N, `parentShardId`
//! SS, `childShardIds` SS, `startingHashKey` S, `endingHashKey` S, `checkpointOwner` S, `throughputKBps`
//! N, `entityType` S; see [`item`]) and two of our own (a row of worker metrics has one, [`stats`]). `acquisitionId` S: which worker, process and
//! take wrote last, so that a write whose answer got lost is told apart from a write of somebody
//! else. `startTimestampMillis` N: the instant that a checkpoint of `LATEST` or `AT_TIMESTAMP` stands
//! for. Rows of 2.x are read too. Attributes that are not known here are kept: existing rows are only
//! ever updated.
//!
//! Beside them lie, as the KCL 3.5 has them, the leader's lock ([`lock`]), a row of worker metrics for
//! each worker ([`stats`]) and the states of the KCL's migrations ([`migration`]); an application of
//! KCL 3.0 to 3.4 has them in tables of their own, which are used where they are ([`layout`]).
//!
//! # Beside the KCL
//! Live KCL 3 workers may share the table: whoever leads, of either kind, assigns to both, and each
//! hands over to the other. A *running* KCL 2.x, whose workers take leases from each other, is
//! refused at the start; a stopped one is taken over where it stands.
//!
//! A KCL renews a lease once in a third of its `failoverTimeMillis`, which is its own: no row tells it. So a
//! lease that a KCL has is given to another only after its counter stood still for
//! [`kcl_failover_time`](crate::LeaseSettings::kcl_failover_time), 60 s by default, in place of
//! `failover_time`; a handoff by it is overdue that much later, and a worker that finds leases of a 2.x
//! watches them for as long before it takes them over. Nor is a KCL worker that died known to be dead before
//! that, and what is free meanwhile may be given to it, and waits as long again. A KCL of 3 is known by its row of worker metrics.
//! The other way round a KCL's leader judges the leases of ours by its own `failoverTimeMillis`, so
//! `failover_time` is to be no longer than that.
//!
//! A KCL stops no processor that does not return. One that is to hand a lease over asks its processor to shut
//! down, and at its `gracefulLeaseHandoffTimeoutMillis` (30 s by default) gives the lease to the next owner
//! whether that has come to its end or not (source: 3.5.1, `LeaseGracefulShutdownHandler`). From then on the
//! next owner, ours too, works on the shard beside a call of the KCL's processor that is still under way, and
//! what that call does to other systems may come after what the next owner does. Its checkpoint is refused:
//! the counter has moved. What ours hands to a KCL is over before.
//!
//! A KCL does not know `startTimestampMillis`. A row at `LATEST` it reads from the newest record when it
//! takes it, as one of its own. A row at `AT_TIMESTAMP` it cannot read at all unless it is itself set to an
//! instant, which it takes then: it fails whenever it begins, and keeps the lease. So no such row is made
//! while a KCL is in the fleet, or was within a day, unless the application begins at an instant: a lease
//! that is made anew begins at the oldest record then. Rows at an instant that a fleet without a KCL made,
//! for a row that was deleted or by `leases reset`, and that had no record since, are to be reset before the
//! first KCL starts.
//!
//! # Handoff
//! `leaseOwner` already names the next owner and `checkpointOwner` the present one:
//! ```text
//!  owner=A           leader: owner=B, checkpointOwner=A   A drains, checkpoints, completes: owner=B
//!  ────────────────▶ ───────────────────────────────────▶ ─────────────────────────────────────────▶
//!                    A dead: the counter stands still, the leader gives it to B after failover_time
//!                    A never done: fences itself at handoff_timeout, the leader gives it to B by force
//!                    B dead: the lease expires when A has handed it over, and is given to another
//!                    B leaves: owner=A again. A goes on, or takes it again when it is done draining,
//!                    or, if it stops too, gives it up as any other
//!                    leader dead: the next one sees the handoff and counts from then on
//! ```
//!
//! # Cost
//! Per lease one write in 40 % of `failover_time`, be it a renewal or a checkpoint (no renewal follows a
//! checkpoint). Per worker one query of the index per `lease_discovery_interval` (half a read unit for
//! about 40 leases), one small write per `worker_metrics_interval` and about three reads of the lock per
//! `leader_lock_duration`, half a unit each. For the fleet one eventually consistent scan per
//! `lease_assignment_interval`, and one beat of the lock in 40 % of `leader_lock_duration`. A row is about
//! 0.5 kB, so 1,000 leases on 50 workers cost, at the defaults and without a checkpoint, 250 writes, 35
//! read units for the scan, 13 for the queries and 4 for the lock a second. A write unit costs five times a
//! read unit, so all the reading is less than a twentieth of the renewals, and buys a failover in 15 s in
//! place of 50. It is paid for by renewals that are a sixth fewer than the KCL's, which renews every 3.3 s:
//! with twenty leases a worker this costs a seventh less than the KCL, with two a twentieth less, with one a
//! twentieth more. A worker all alone, whose beats nobody looks at, costs a quarter more with one lease, 7 %
//! with two, and as much as a KCL with three. `tests::cost` holds fleets to that. A worker that stops scans
//! besides, consistently, as often as it gives leases back, twice a second at most and for a fifth of the
//! time. Every unit that DynamoDB counts is told by the metric `kinesis_consumer_lease_table_units`.
//!
//! Deliberately absent: the election by shuffling of KCL 2.x and its taking from each other.

pub mod admin;
mod assign;
pub(crate) mod bench;
mod cpu;
mod gauges;
mod held;
mod item;
mod keeper;
mod layout;
mod lineage;
mod lock;
pub(crate) mod metrics;
mod migration;
mod observe;
mod pulse;
mod roster;
mod settings;
mod stats;
mod store;
mod table;
mod tenure;
pub(crate) mod worker_metric;
mod write;

use std::collections::BTreeSet;

use kinesis_core::{HashKeyRange, Position, ShardId};

use crate::checkpoint::PendingCheckpoint;
use crate::stream::StreamId;
pub use cpu::CpuMetric;
pub(crate) use held::{HeldLease, WeakLease};
pub(crate) use keeper::LeaseKeeper;
pub(crate) use settings::TABLE_NAME_CHARS;
pub use settings::{
    BillingMode, LeaseAssignment, LeaseSettings, LeaseTableSettings, UtilizationSettings,
};
pub use store::LeaseStore;
pub use worker_metric::WorkerMetric;

/// Owns a lease that was missing among others, for `failover_time`: whoever had it may not know yet that its
/// row was deleted. No worker has this name, and to a KCL, too, such a lease is one whose owner died.
const FORMER_OWNER: &str = "unknown-former-owner";

/// Owns a lease between its holder, whom an operator asked to let go, and whoever takes it. No worker has this
/// name, so the lease is free once its counter has stood still for `failover_time`.
const RELEASED_BY_OPERATOR: &str = "released-by-operator";

/// Whether a worker must not be called so: its row of metrics would be another one, the lock, a state of a
/// migration, or a lease; or the name says that a lease is nobody's.
pub(crate) fn is_reserved(worker_id: &str) -> bool {
    let reserved = [
        lock::LEADER,
        migration::CLIENT_VERSION_KEY,
        migration::TABLE_MIGRATION_KEY,
        FORMER_OWNER,
        RELEASED_BY_OPERATOR,
    ];
    let shard = StreamId::shard_of_key(&worker_id.into());
    reserved.contains(&worker_id) || shard.index().is_some()
}

/// One row of the lease table, as far as this crate understands it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Lease {
    /// `leaseKey`: the shard's id, behind that of its stream where the application reads several.
    pub(crate) shard_id: ShardId,
    /// `leaseOwner`: who owns the lease or, during a handoff, is to own it next.
    pub(crate) owner: Option<String>,
    /// `checkpointOwner`: during a handoff, who still works on the shard.
    pub(crate) checkpoint_owner: Option<String>,
    /// `leaseCounter`: raised by every write of the holder and every change of owner.
    pub(crate) counter: u64,
    /// `checkpoint` and `checkpointSubSequenceNumber`.
    pub(crate) checkpoint: Position,
    /// `pendingCheckpoint`, its sub-sequence number and state: a checkpoint that is prepared and not
    /// committed; removed by the next checkpoint.
    pub(crate) pending_checkpoint: Option<PendingCheckpoint>,
    /// `ownerSwitchesSinceCheckpoint`.
    pub(crate) owner_switches: u64,
    /// `parentShardId`, a set in spite of its name.
    pub(crate) parents: BTreeSet<ShardId>,
    /// `childShardIds`; empty until the shard ends.
    pub(crate) children: BTreeSet<ShardId>,
    /// `startingHashKey` and `endingHashKey`; rows of 2.x may lack them.
    pub(crate) range: Option<HashKeyRange>,
    /// `acquisitionId`: the take of the lease that wrote last; absent in rows of the KCL.
    pub(crate) acquisition: Option<String>,
    /// `startTimestampMillis`: the instant that a checkpoint of `LATEST` or `AT_TIMESTAMP` stands
    /// for, in milliseconds since the Unix epoch, so that every owner starts at the same; absent in
    /// rows of the KCL.
    pub(crate) starts_at_millis: Option<u64>,
    /// `throughputKBps`: what the shard delivered lately.
    pub(crate) throughput: Option<Throughput>,
}

/// Data of a shard over time, in millionths of a kilobyte a second: what `throughputKBps` can hold.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Throughput(u64);

impl Throughput {
    /// `None` for what is no amount.
    pub(crate) fn of_kbps(kbps: f64) -> Option<Self> {
        // A cast from a float keeps to the bounds of the integer.
        (kbps.is_finite() && kbps >= 0.0).then(|| Self((kbps * 1e6).round() as u64))
    }

    pub(crate) fn kbps(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Lease {
    /// A lease that nobody has owned yet.
    pub(crate) fn new(shard_id: ShardId, checkpoint: Position) -> Self {
        Self {
            shard_id,
            owner: None,
            checkpoint_owner: None,
            counter: 0,
            checkpoint,
            pending_checkpoint: None,
            owner_switches: 0,
            parents: BTreeSet::new(),
            children: BTreeSet::new(),
            range: None,
            acquisition: None,
            starts_at_millis: None,
            throughput: None,
        }
    }

    /// Who works on the shard now.
    pub(crate) fn holder(&self) -> Option<&str> {
        self.checkpoint_owner.as_deref().or(self.owner.as_deref())
    }

    /// Whose process wrote the row's mark, which is the worker's name, the process and which take it was.
    pub(crate) fn marked_by(&self) -> Option<&str> {
        self.acquisition.as_deref()?.rsplitn(3, '/').nth(2)
    }

    /// Whether a handoff is under way.
    pub(crate) fn is_in_handoff(&self) -> bool {
        self.checkpoint_owner.is_some()
    }

    /// Whether the shard was processed to its end.
    pub(crate) fn is_ended(&self) -> bool {
        self.checkpoint == Position::ShardEnd
    }
}

/// A shard that a split or merge made, as its parent's last read tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ChildShard {
    /// The child's id.
    pub(crate) id: ShardId,
    /// The shards it was made from: one after a split, two after a merge.
    pub(crate) parents: Vec<ShardId>,
    /// The part of the key space it takes.
    pub(crate) range: HashKeyRange,
}

#[cfg(test)]
mod tests;
