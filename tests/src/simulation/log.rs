//! What happened in a run, in the order it happened: what the scenario did, what the network did to
//! calls, what the lease table held, and what processors saw.
//!
//! The log is all that [`rules`](super::rules) look at, and its text is what two runs of one seed are
//! compared by.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kinesis_core::{Clock, Position, ShardId};
use tokio::time::Instant;

/// One life of a record processor.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Instance {
    /// Unlike any other of the run.
    pub number: usize,
    /// The worker it belongs to.
    pub worker: Arc<str>,
    /// The shard it was made for, by the key of its lease.
    pub shard: ShardId,
}

/// The calls of a record processor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// `initialize`
    Initialize,
    /// `process_records`
    Process,
    /// `shard_ended`
    ShardEnded,
    /// `shutdown_requested`
    Shutdown,
    /// `lease_lost`
    LeaseLost,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    /// It returned `Ok`.
    Done,
    /// It returned an error or panicked.
    Failed,
    /// It returned an error that says that a record cannot be processed.
    Poison,
    /// Its future was dropped.
    Dropped,
}

/// A lease as the table holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// `leaseOwner`.
    pub owner: Option<String>,
    /// `checkpointOwner`: the owner before, in a handoff.
    pub checkpoint_owner: Option<String>,
    /// `leaseCounter`.
    pub counter: u64,
    /// The checkpoint.
    pub checkpoint: Position,
    /// `startTimestampMillis`: the instant that `LATEST` and `AT_TIMESTAMP` stand for, in milliseconds
    /// since the Unix epoch.
    pub starts_at: Option<u64>,
    /// The checkpoint that is prepared beside it.
    pub pending: Option<Pending>,
}

/// A checkpoint that is prepared, and not committed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pending {
    /// Where the checkpoint is to go.
    pub position: Position,
    /// The processor's bytes, which tell it from all others of the run.
    pub state: String,
}

/// Where a lease is to be read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// The checkpoint.
    pub position: Position,
    /// The instant that it stands for, as in [`Row::starts_at`].
    pub starts_at: Option<u64>,
}

/// One thing that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The scenario did this, which no rule looks at.
    Step(String),
    /// A worker's process began.
    Up {
        /// Its name.
        worker: Arc<str>,
    },
    /// A worker was asked to stop in order.
    Asked {
        /// Its name.
        worker: Arc<str>,
    },
    /// A worker's process is gone.
    Down {
        /// Its name.
        worker: Arc<str>,
        /// Killed, and not stopped in order.
        crashed: bool,
    },
    /// A worker ended by itself, which none has a reason to.
    Broke {
        /// Its name.
        worker: Arc<str>,
        /// What it said.
        what: String,
    },
    /// A worker called a service, and what the network makes of it.
    Called {
        /// The worker.
        worker: Arc<str>,
        /// `Service.Operation`
        operation: String,
        /// In words.
        fate: String,
        /// Whether that is a fault.
        fault: bool,
        /// Whether it is about the leader's lock.
        of_lock: bool,
    },
    /// A lease was written.
    Row {
        /// Its key.
        lease: ShardId,
        /// The row after it.
        row: Row,
    },
    /// A lease was deleted.
    RowDeleted {
        /// Its key.
        lease: ShardId,
        /// An operator did so, and not a worker.
        by_hand: bool,
    },
    /// An operator begins to set leases anew.
    Resets {
        /// The deed, which is unlike any other of the run.
        deed: Arc<str>,
        /// Where they are to start.
        to: Start,
    },
    /// An operator sets the checkpoint of a lease; its row follows.
    Reset {
        /// The lease's key.
        lease: ShardId,
        /// By this deed.
        deed: Arc<str>,
    },
    /// The leader's lock was written, by the leader.
    Led {
        /// Who leads.
        worker: String,
    },
    /// The leader's lock was given back, by the leader.
    GaveBack {
        /// Who led.
        worker: Arc<str>,
    },
    /// A processor was made and is told where it starts.
    Begins {
        /// The processor.
        instance: Instance,
        /// The checkpoint.
        position: Position,
        /// The checkpoint that was prepared and not committed.
        pending: Option<Pending>,
    },
    /// A call of a processor begins.
    Enters {
        /// The processor.
        instance: Instance,
        /// Which one.
        call: Call,
    },
    /// The call is over.
    Leaves {
        /// The processor.
        instance: Instance,
        /// Which one.
        call: Call,
        /// How it ended.
        ending: Ending,
    },
    /// A record was given to a processor.
    Delivered {
        /// The processor.
        instance: Instance,
        /// The record's place in the shard.
        position: Position,
        /// Its payload.
        payload: String,
    },
    /// A processor that goes through its batch record by record begins with one.
    Takes {
        /// The processor.
        instance: Instance,
        /// The record's place in the shard.
        position: Position,
    },
    /// It is over with the record.
    Handled {
        /// The processor.
        instance: Instance,
        /// The record's place in the shard.
        position: Position,
        /// How that ended.
        ending: Ending,
    },
    /// A processor asks for a checkpoint: it is done with what that passes.
    Asks {
        /// The processor.
        instance: Instance,
        /// Up to here; else behind all that it was given.
        position: Option<Position>,
    },
    /// A processor asks for a checkpoint to be prepared.
    Prepares {
        /// The processor.
        instance: Instance,
        /// What.
        pending: Pending,
    },
    /// A processor is told that what it asked for is stored.
    Told {
        /// The processor.
        instance: Instance,
        /// The checkpoint is here, or further on, if that was asked for.
        checkpoint: Option<Position>,
        /// This is prepared, if that was asked for.
        pending: Option<Pending>,
    },
    /// A dead letter was stored.
    Buried {
        /// The shard.
        shard: ShardId,
        /// The record's place in it.
        position: Position,
    },
    /// From here on nothing fails: the network is well, and nobody crashes.
    Calm,
    /// Where shards stop at what fails: from here on no record is poison, and whoever looks after the fleet
    /// lets the shards go on.
    Mended,
    /// The fleet did not come to rest in time.
    Unrest {
        /// What is not in order.
        what: String,
    },
    /// The fleet is at rest: what was broken is mended. From here on the promises to a fleet without
    /// faults hold too.
    Quiet,
    /// Nothing is written any more, that shows in the readings of all workers, and nobody counts any more who
    /// died: nothing has a reason to be moved.
    Still,
    /// The run is over; workers are being stopped.
    Over,
}

/// An event and when it happened, in virtual time since the run began.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Since the run began.
    pub at: Duration,
    /// What.
    pub event: Event,
}

/// The log of a run. Cheap to clone; clones are the same log.
#[derive(Clone, Debug)]
pub struct Log {
    entries: Arc<Mutex<Vec<Entry>>>,
    clock: Clock,
    began: Instant,
}

impl Log {
    /// An empty log that begins now.
    pub fn new(clock: Clock) -> Self {
        Self {
            entries: Arc::default(),
            began: clock.now(),
            clock,
        }
    }

    /// The time since the run began.
    pub fn now(&self) -> Duration {
        self.clock.now().duration_since(self.began)
    }

    /// Adds what happened now.
    pub fn push(&self, event: Event) {
        let at = self.now();
        self.lock().push(Entry { at, event });
    }

    /// Adds a step of the scenario.
    pub fn step(&self, what: impl Into<String>) {
        self.push(Event::Step(what.into()));
    }

    /// Looks at what happened so far.
    pub fn with<T>(&self, look: impl FnOnce(&[Entry]) -> T) -> T {
        look(&self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        // Entries are whole whatever panicked meanwhile.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shard's number, which is what tells shards apart, behind its stream's name where there are
/// several.
fn short(shard: &ShardId) -> String {
    let (stream, shard) = shard
        .as_str()
        .rsplit_once(':')
        .unwrap_or(("", shard.as_str()));
    let digits = shard.trim_start_matches("shardId-");
    let number = match digits.trim_start_matches('0') {
        "" => "0",
        number => number,
    };
    match stream.split(':').nth(1) {
        Some(stream) => format!("{stream}/{number}"),
        None => number.to_owned(),
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            worker,
            shard,
        } = self;
        write!(f, "{worker}/shard {}#{number}", short(shard))
    }
}

impl Row {
    /// Where the lease is read from now.
    pub fn start(&self) -> Start {
        Start {
            position: self.checkpoint.clone(),
            starts_at: self.starts_at,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
        let (owner, counter) = (name(&self.owner), self.counter);
        write!(f, "counter {counter}, owner {owner}")?;
        if self.checkpoint_owner.is_some() {
            write!(f, ", to be given by {}", name(&self.checkpoint_owner))?;
        }
        write!(f, ", checkpoint {}", self.start())?;
        if let Some(pending) = &self.pending {
            write!(f, ", pending {pending}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.position)?;
        match self.starts_at {
            Some(millis) => write!(f, " from {millis} ms on"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, state } = self;
        write!(f, "{position} ({state})")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3} ", self.at.as_secs_f64())?;
        match &self.event {
            Event::Step(what) => write!(f, "== {what}"),
            Event::Up { worker } => write!(f, "== {worker} starts"),
            Event::Asked { worker } => write!(f, "== {worker} is asked to stop"),
            Event::Down { worker, crashed } => {
                let how = if *crashed { "crashes" } else { "has stopped" };
                write!(f, "== {worker} {how}")
            }
            Event::Broke { worker, what } => write!(f, "== {worker} ends by itself: {what}"),
            Event::Called {
                worker,
                operation,
                fate,
                ..
            } => write!(f, "   {worker} calls {operation}: {fate}"),
            Event::Row { lease, row } => write!(f, "   row of shard {}: {row}", short(lease)),
            Event::RowDeleted { lease, by_hand } => {
                let how = if *by_hand { " by hand" } else { "" };
                write!(f, "   row of shard {} deleted{how}", short(lease))
            }
            Event::Resets { deed, to } => write!(f, "== {deed} sets leases to {to}"),
            Event::Reset { lease, deed } => {
                write!(f, "   shard {} is set anew by {deed}", short(lease))
            }
            Event::Led { worker } => write!(f, "   {worker} leads"),
            Event::GaveBack { worker } => write!(f, "   {worker} gives the lock back"),
            Event::Begins {
                instance,
                position,
                pending,
            } => {
                write!(f, " > {instance} begins at {position}")?;
                match pending {
                    Some(pending) => write!(f, ", pending {pending}"),
                    None => Ok(()),
                }
            }
            Event::Enters { instance, call } => write!(f, " > {instance} {call:?}"),
            Event::Leaves {
                instance,
                call,
                ending,
            } => write!(f, " < {instance} {call:?}: {ending:?}"),
            Event::Delivered {
                instance,
                position,
                payload,
            } => write!(f, "   {instance} gets {payload} at {position}"),
            Event::Takes { instance, position } => write!(f, "   {instance} takes {position}"),
            Event::Handled {
                instance,
                position,
                ending,
            } => write!(f, "   {instance} is over with {position}: {ending:?}"),
            Event::Asks { instance, position } => {
                write!(f, "   {instance} asks for a checkpoint")?;
                match position {
                    Some(position) => write!(f, " at {position}"),
                    None => Ok(()),
                }
            }
            Event::Prepares { instance, pending } => write!(f, "   {instance} prepares {pending}"),
            Event::Told {
                instance,
                checkpoint,
                pending,
            } => {
                write!(f, "   {instance} is told that it is stored")?;
                if let Some(checkpoint) = checkpoint {
                    write!(f, ", checkpoint {checkpoint}")?;
                }
                match pending {
                    Some(pending) => write!(f, ", pending {pending}"),
                    None => Ok(()),
                }
            }
            Event::Buried { shard, position } => {
                write!(f, "   dead letter of shard {} at {position}", short(shard))
            }
            Event::Calm => f.write_str("== calm: nothing fails from here on"),
            Event::Mended => f.write_str("== mended: no record is poison from here on"),
            Event::Unrest { what } => write!(f, "== not at rest: {what}"),
            Event::Quiet => f.write_str("== quiet: everything is in order"),
            Event::Still => f.write_str("== still: nothing is to be moved from here on"),
            Event::Over => f.write_str("== over"),
        }
    }
}
