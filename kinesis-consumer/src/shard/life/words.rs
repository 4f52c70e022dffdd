//! The words between the task of a shard and its [`Life`](super::Life): what is to be done, and what happened.

use tokio::time::Instant;

/// A call of the processor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    Initialize,
    /// `process_records` with the batch in hand, or the part of it that is next.
    Process,
    LeaseLost,
    ShardEnded,
    ShutdownRequested,
}

/// What the shard's task has to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Doing {
    Call(Call),
    /// Nothing, before a failed call is made again.
    Pause(Instant),
    /// Wait for what was fetched.
    Fetch,
    /// Store a record of the batch as a dead letter.
    Bury,
    /// Store the end of a shard that the stream no longer has.
    Retire,
    /// Give the lease up.
    Release,
    /// Hold the lease and do nothing with it.
    Park,
    Done(End),
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Another worker has the lease.
    Lost,
    /// The shard is finished and its end stored.
    Ended,
    /// The lease was released.
    Released,
    /// The lease could not be released in time and expires by itself.
    Abandoned,
    /// The processor gave up, or the crate broke an own rule; the lease was released.
    Failed,
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Event {
    /// The call under way returned.
    Returned(Returned),
    /// The pause is over.
    Rested,
    Fetched(Fetch),
    Buried(Buried),
    /// Storing the end of an expired shard succeeded or failed.
    Retired(bool),
    /// Releasing the lease succeeded or failed.
    Released(bool),
    /// The lease is lost.
    Lost,
    /// The worker stops, or is not to read this stream any more.
    StopRequested,
    /// The lease is to be handed over.
    HandoffRequested,
    /// [`Life::deadline`](super::Life::deadline) has passed.
    Deadline,
}

/// How a call returned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Returned {
    /// Done, with the whole batch; for `shard_ended` this means that the end of the shard is stored.
    Ok,
    /// The call is over, and another part of the batch is to be delivered.
    Part,
    /// The call is over, and a record of the batch is to become a dead letter.
    Guilty,
    /// The batch failed for good: the shard is to stop.
    Stuck,
    /// Failed or panicked.
    Again,
    /// The processor gave up.
    Fatal,
}

/// What came of storing a dead letter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Buried {
    /// It is stored, and with it the batch is done.
    Last,
    /// It is stored, and another part of the batch is to be delivered.
    Part,
    /// It is stored, and the next record is to become one too.
    Guilty,
    /// It is not stored.
    Failed,
}

/// What was fetched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fetch {
    Batch,
    End,
    /// The stream no longer has the shard.
    Expired,
    /// There is no such stream.
    NotFound,
    /// The fetch task broke down.
    Broken,
}
