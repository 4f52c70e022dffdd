//! Record processors that tell the log all they see, and behave as a seed has it: fast, slow, failing,
//! panicking, checkpointing or not, in batches or record by record.
//!
//! ```text
//! Processors ─ per lease ─┬▶ batches: checkpoints behind a batch, or in the middle of it
//!                         ├▶ prepared: checkpoints in two phases, with bytes of its own
//!                         └▶ each: the consumer's own `for_each`, watched from outside and from its handler
//! ```

mod batches;
mod each;
mod graveyard;
mod prepared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kinesis_consumer::{
    Checkpointer, ForEach, InitializeInput, ProcessRecordsInput, ProcessorError, Record,
    RecordProcessor, RecordProcessorFactory, ShardId, StreamId,
};
use kinesis_core::{Position, Rand};

use super::log::{Call, Ending, Event, Instance, Log, Pending};
pub use graveyard::{Graveyard, Mood};

/// Ends the payload of a record that no processor can process.
pub const POISON: &str = "!";

/// How the processors of a run go through the records of a shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// Batch by batch.
    Batches,
    /// Batch by batch, each checkpoint being prepared before the work and committed behind it.
    Prepared,
    /// Record by record, several keys at once.
    Each(ForEach),
}

/// How the processors of a run behave.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// The longest that a slow batch takes: longer than `failover_time`.
    pub slow: Duration,
    /// One batch of so many is slow.
    pub slow_every: u64,
    /// One batch of so many fails; 0: none does.
    pub fails_every: u64,
}

/// Makes the processors of one worker.
#[derive(Clone, Debug)]
pub struct Processors {
    /// The worker.
    pub worker: Arc<str>,
    /// Whether it reads several streams.
    pub many: bool,
    /// Where all is told.
    pub log: Log,
    /// The number of the next instance, shared by all workers.
    pub instances: Arc<AtomicUsize>,
    /// Chance.
    pub rand: Rand,
    /// How they go through a shard.
    pub way: Way,
    /// How they behave.
    pub temper: Temper,
    /// Whether batches do not fail any more; shared by all workers.
    pub sound: Arc<AtomicBool>,
    /// Whether poison is none any more; shared by all workers.
    pub mended: Arc<AtomicBool>,
}

impl RecordProcessorFactory for Processors {
    fn create(&self, shard: &ShardId) -> Box<dyn RecordProcessor> {
        assert!(!self.many, "the stream is told where there are several");
        self.of_lease(shard)
    }

    fn create_for(&self, stream: &StreamId, shard: &ShardId) -> Box<dyn RecordProcessor> {
        assert!(self.many, "the stream is told where there are several only");
        self.of_lease(&key(stream.as_str(), shard))
    }
}

/// The key of the lease of a shard where there are several streams.
fn key(stream: &str, shard: &ShardId) -> ShardId {
    format!("{stream}:{shard}").as_str().into()
}

impl Processors {
    fn of_lease(&self, shard: &ShardId) -> Box<dyn RecordProcessor> {
        let actor = Actor {
            instance: Instance {
                number: self.instances.fetch_add(1, Ordering::Relaxed),
                worker: Arc::clone(&self.worker),
                shard: shard.clone(),
            },
            log: self.log.clone(),
            rand: self.rand.fork(),
            temper: self.temper,
            sound: Arc::clone(&self.sound),
            mended: Arc::clone(&self.mended),
        };
        match &self.way {
            Way::Batches => Box::new(batches::Recorder::new(actor)),
            Way::Prepared => Box::new(prepared::Careful::new(actor)),
            Way::Each(settings) => Box::new(each::Watched::new(settings.clone(), actor)),
        }
    }
}

/// Which checkpoint a processor asks for.
enum Asked<'a> {
    /// Up to this record.
    At(&'a Position),
    /// All that it was given and did not fail, of which this is the end.
    All(&'a Position),
}

/// Who a processor is, whom it tells, and its luck.
#[derive(Clone, Debug)]
struct Actor {
    instance: Instance,
    log: Log,
    rand: Rand,
    temper: Temper,
    sound: Arc<AtomicBool>,
    mended: Arc<AtomicBool>,
}

/// A call under way; told as dropped unless it is told otherwise.
struct Under {
    log: Log,
    instance: Instance,
    call: Call,
    ending: Ending,
}

impl Drop for Under {
    fn drop(&mut self) {
        self.log.push(Event::Leaves {
            instance: self.instance.clone(),
            call: self.call,
            ending: or_panicked(self.ending),
        });
    }
}

impl Under {
    fn over(mut self, result: Result<(), ProcessorError>) -> Result<(), ProcessorError> {
        self.ending = ending(&result);
        result
    }
}

fn ending(result: &Result<(), ProcessorError>) -> Ending {
    match result {
        Ok(()) => Ending::Done,
        Err(ProcessorError::Poison(_) | ProcessorError::PoisonAt { .. }) => Ending::Poison,
        Err(_) => Ending::Failed,
    }
}

/// What is dropped by a panic has failed.
fn or_panicked(ending: Ending) -> Ending {
    if std::thread::panicking() {
        Ending::Failed
    } else {
        ending
    }
}

impl Actor {
    fn enter(&self, call: Call) -> Under {
        self.log.push(Event::Enters {
            instance: self.instance.clone(),
            call,
        });
        Under {
            log: self.log.clone(),
            instance: self.instance.clone(),
            call,
            ending: Ending::Dropped,
        }
    }

    fn begins(&self, input: &InitializeInput) {
        self.log.push(Event::Begins {
            instance: self.instance.clone(),
            position: input.position.clone(),
            pending: input.pending.as_ref().map(|pending| Pending {
                position: pending.position.clone(),
                state: String::from_utf8_lossy(&pending.state).into_owned(),
            }),
        });
    }

    /// Checkpoints up to a record, or all that was given.
    async fn checkpoint(
        &self,
        checkpointer: &Checkpointer,
        asked: Asked<'_>,
    ) -> Result<(), ProcessorError> {
        let (position, end) = match asked {
            Asked::At(position) => (Some(position), position),
            Asked::All(end) => (None, end),
        };
        self.log.push(Event::Asks {
            instance: self.instance.clone(),
            position: position.cloned(),
        });
        match position {
            Some(position) => checkpointer.checkpoint_at(position).await?,
            None => checkpointer.checkpoint().await?,
        }
        self.is_told(Some(end.clone()), None);
        Ok(())
    }

    /// It is told that what it asked for is stored: by what it knows itself, and not by what it is told.
    fn is_told(&self, checkpoint: Option<Position>, pending: Option<Pending>) {
        self.log.push(Event::Told {
            instance: self.instance.clone(),
            checkpoint,
            pending,
        });
    }

    fn is_given(&self, records: &[Record]) {
        for record in records {
            self.log.push(Event::Delivered {
                instance: self.instance.clone(),
                position: record.position(),
                payload: String::from_utf8_lossy(&record.data).into_owned(),
            });
        }
    }

    /// Once in so many times; 0: never.
    fn once_in(&self, times: u64) -> bool {
        times > 0 && self.rand.below(times) == 0
    }

    /// Takes the time of a piece of work, of which there are so many in a batch.
    async fn work(&self, pieces: u64) {
        let millis = if self.once_in(self.temper.slow_every * pieces) {
            self.rand.below(self.temper.slow.as_millis() as u64)
        } else {
            self.rand.below(30)
        };
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Fails at times, or panics, as long as anything may fail; of such pieces there are so many in a
    /// batch.
    fn may_fail(&self, pieces: u64) -> Result<(), ProcessorError> {
        let sound = self.sound.load(Ordering::Relaxed);
        if sound || !self.once_in(self.temper.fails_every * pieces) {
            return Ok(());
        }
        if self.once_in(3) {
            // Without a word on the console, which `panic!` would have.
            std::panic::resume_unwind(Box::new("a processor that panics"));
        }
        Err(ProcessorError::retry("a processor that fails"))
    }

    /// Fails if one of the records is poison, and names it or does not.
    fn tastes(&self, records: &[Record]) -> Result<(), ProcessorError> {
        if self.mended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let poisoned = |record: &&Record| record.data.ends_with(POISON.as_bytes());
        let Some(poisoned) = records.iter().find(poisoned) else {
            return Ok(());
        };
        let cause = "poison";
        Err(match self.rand.below(2) {
            0 => ProcessorError::poison(cause),
            _ => ProcessorError::poison_at(poisoned.position(), cause),
        })
    }
}

/// The end of a batch.
fn end(input: &ProcessRecordsInput) -> Position {
    let last = input.records.last().expect("a batch has a record");
    last.position()
}
