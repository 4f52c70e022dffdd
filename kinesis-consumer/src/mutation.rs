//! Defects on purpose: each a mistake that a promise to a fleet does not survive, so that a test can
//! prove that the simulation of a fleet finds it. Only with the feature `mutations`; nothing of it is in
//! a normal build.
//!
//! A defect is switched on for a thread, since a simulation runs in one, and tests run side by side.

use std::cell::Cell;

/// What is done wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutation {
    /// Nobody takes the lock of a leader that is silent.
    NoLeaderReplacement,
    /// Who hands a lease over leaves its name in `checkpointOwner`.
    HandoffLeavesCheckpointOwner,
    /// A lease is not renewed while its processor is in a call.
    RenewalWaitsForProcessor,
    /// A checkpoint is written whatever the counter of the lease is.
    CheckpointWithoutCounter,
    /// Records of one key do not wait for each other where they are handled one by one.
    KeysOutOfOrder,
    /// The watermark is the last record that is done, whatever is not before it.
    WatermarkPassesUndone,
    /// A checkpoint leaves in the row what was prepared.
    CheckpointLeavesPending,
    /// A checkpoint further on in the aggregate that was checkpointed last counts as made.
    AggregateCountsAsOne,
    /// Who waits for the leader's lock does not notice the beats of its leader.
    BeatsUnnoticed,
    /// A leader gives the lock back as soon as one pass fails.
    ResignsAtOnce,
    /// The children of a shard start at their beginning, wherever their parent was to.
    ChildrenFromBeginning,
    /// A lease that is missing among others starts at the newest record.
    MissedLeaseStartsNow,
    /// A reset to an instant stores that of the reset.
    ResetStartsNow,
    /// A dead letter counts as stored though its destination failed.
    LetterNotStored,
    /// A shard that stops at what fails goes on behind it.
    StoppedGoesOn,
    /// Leases are moved until no worker has more than another, which may never be.
    EvensOutForEver,
}

thread_local! {
    static ACTIVE: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Makes the consumers that run on this thread do something wrong, or nothing.
pub fn switch(mutation: Option<Mutation>) {
    ACTIVE.set(mutation);
}

/// Whether this is to be done wrong.
pub(crate) fn is(mutation: Mutation) -> bool {
    ACTIVE.get() == Some(mutation)
}
