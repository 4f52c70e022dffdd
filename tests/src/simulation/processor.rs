//! Record processors that tell the log all they see, and behave as a seed has it: fast, slow, failing,
//! panicking, checkpointing or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{
    BoxError, Checkpointer, DeadLetter, DeadLetters, InitializeInput, ProcessRecordsInput,
    ProcessorError, Record, RecordProcessor, ShardId,
};
use kinesis_core::{Position, Rand};

use super::log::{Call, Ending, Event, Instance, Log};

/// Ends the payload of a record that no processor can process.
pub const POISON: &str = "!";

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
    /// Where all is told.
    pub log: Log,
    /// The number of the next instance, shared by all workers.
    pub instances: Arc<AtomicUsize>,
    /// Chance.
    pub rand: Rand,
    /// How they behave.
    pub temper: Temper,
    /// Whether batches may fail still; shared by all workers.
    pub sound: Arc<AtomicBool>,
}

impl Processors {
    /// A processor for a shard.
    pub fn processor(&self, shard: &ShardId) -> impl RecordProcessor + use<> {
        Recorder {
            instance: Instance {
                number: self.instances.fetch_add(1, Ordering::Relaxed),
                worker: Arc::clone(&self.worker),
                shard: shard.clone(),
            },
            log: self.log.clone(),
            rand: self.rand.fork(),
            temper: self.temper,
            sound: Arc::clone(&self.sound),
        }
    }
}

struct Recorder {
    instance: Instance,
    log: Log,
    rand: Rand,
    temper: Temper,
    sound: Arc<AtomicBool>,
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
            ending: self.ending,
        });
    }
}

impl Under {
    fn over<E>(mut self, result: Result<(), E>) -> Result<(), E> {
        self.ending = if result.is_ok() {
            Ending::Done
        } else {
            Ending::Failed
        };
        result
    }
}

impl Recorder {
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

    async fn checkpoint(&self, checkpointer: &Checkpointer) -> Result<(), ProcessorError> {
        self.log.push(Event::Asks {
            instance: self.instance.clone(),
        });
        Ok(checkpointer.checkpoint().await?)
    }

    /// Once in so many times; 0: never.
    fn once_in(&self, times: u64) -> bool {
        times > 0 && self.rand.below(times) == 0
    }

    async fn work(&self) {
        let millis = if self.once_in(self.temper.slow_every) {
            self.rand.below(self.temper.slow.as_millis() as u64)
        } else {
            self.rand.below(30)
        };
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn process(
        &self,
        under: &mut Under,
        input: &ProcessRecordsInput,
    ) -> Result<(), ProcessorError> {
        for record in input.records.iter() {
            self.log.push(Event::Delivered {
                instance: self.instance.clone(),
                position: record.position(),
                payload: String::from_utf8_lossy(&record.data).into_owned(),
            });
        }
        self.work().await;
        if let Some(poisoned) = input.records.iter().find(|record| is_poison(record)) {
            let cause = "poison";
            return Err(match self.rand.below(2) {
                0 => ProcessorError::poison(cause),
                _ => ProcessorError::poison_at(poisoned.position(), cause),
            });
        }
        let sound = self.sound.load(Ordering::Relaxed);
        if !sound && self.once_in(self.temper.fails_every) {
            if self.once_in(3) {
                under.ending = Ending::Failed;
                // Without a word on the console, which `panic!` would have.
                std::panic::resume_unwind(Box::new("a processor that panics"));
            }
            return Err(ProcessorError::retry("a processor that fails"));
        }
        if self.rand.below(3) > 0 {
            let checkpointed = self.checkpoint(&input.checkpointer).await;
            // Some processors mind, others go on.
            if self.once_in(2) {
                checkpointed?;
            }
        }
        Ok(())
    }
}

fn is_poison(record: &Record) -> bool {
    record.data.ends_with(POISON.as_bytes())
}

#[async_trait]
impl RecordProcessor for Recorder {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        let under = self.enter(Call::Initialize);
        self.log.push(Event::Begins {
            instance: self.instance.clone(),
            position: input.position,
        });
        self.work().await;
        under.over(Ok(()))
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let mut under = self.enter(Call::Process);
        let done = self.process(&mut under, &input).await;
        under.over(done)
    }

    async fn lease_lost(&mut self) {
        let under = self.enter(Call::LeaseLost);
        drop(under.over::<ProcessorError>(Ok(())));
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        let under = self.enter(Call::ShardEnded);
        self.work().await;
        let done = self.checkpoint(&checkpointer).await;
        under.over(done)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        let under = self.enter(Call::Shutdown);
        let done = self.checkpoint(&checkpointer).await;
        under.over(done)
    }
}

/// Where dead letters go: into the log.
#[derive(Clone, Debug)]
pub struct Graveyard {
    /// The log.
    pub log: Log,
}

#[async_trait]
impl DeadLetters for Graveyard {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.log.push(Event::Buried {
            shard: letter.shard_id.clone(),
            position: Position::at(
                letter.record.sequence_number.clone(),
                letter.record.sub_sequence,
            ),
        });
        Ok(())
    }
}
