//! A processor that does as it is told, and a ledger of everything that processors saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kinesis_consumer::{
    BoxError, Checkpointer, DeadLetter, DeadLetters, InitializeInput, PendingCheckpoint, Position,
    ProcessRecordsInput, ProcessorError, Record, RecordProcessor, ShardId,
};

use crate::world::until;

/// What a processor is to do with a record, before it is noted as processed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Behaviour {
    Process,
    /// Process it and checkpoint exactly here.
    ProcessAndCheckpoint,
    Fail,
    Panic,
    /// Say that the batch is poison.
    Poison,
    /// Say that this record is.
    PoisonHere,
    /// Process it, prepare a checkpoint exactly here with this state, then await for ever.
    PrepareAndHang(&'static str),
    Fatal,
    /// Await for ever.
    Hang,
    /// Await the request to stop, then fail.
    AwaitStop,
    /// Take this long, then process.
    Slow(Duration),
}

/// One record as a processor saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) worker: &'static str,
    pub(crate) shard_id: ShardId,
    pub(crate) record: Record,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.record.data).into_owned()
    }
}

/// What happened to processors, in order.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Initialized(&'static str, ShardId),
    /// `initialize` was told of a prepared checkpoint.
    Pending(&'static str, PendingCheckpoint),
    /// The stored checkpoint as a call of `process_records` found it.
    Checkpoint(Position),
    Buried(DeadLetter),
    /// A checkpoint was prepared.
    Prepared,
    Tried(Seen),
    Processed(Seen),
    LeaseLost(&'static str),
    Ended(ShardId),
    Shutdown,
    /// `process_records` was told to stop.
    StopSeen {
        deadline: tokio::time::Instant,
    },
    /// A `process_records` was dropped before it returned.
    Dropped(&'static str),
}

#[derive(Clone, Default)]
pub(crate) struct Ledger {
    notes: Arc<Mutex<Vec<Note>>>,
    checkpointers: Arc<Mutex<BTreeMap<ShardId, Checkpointer>>>,
}

impl Ledger {
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.notes.lock().expect("no panic under the lock").clone()
    }

    pub(crate) fn note(&self, note: Note) {
        self.notes
            .lock()
            .expect("no panic under the lock")
            .push(note);
    }

    /// The newest checkpointer handed out for a shard.
    pub(crate) fn checkpointer(&self, shard_id: &ShardId) -> Checkpointer {
        self.checkpointers.lock().expect("no panic under the lock")[shard_id].clone()
    }

    pub(crate) fn processed(&self) -> Vec<Seen> {
        let processed = |note| match note {
            Note::Processed(seen) => Some(seen),
            _ => None,
        };
        self.notes().into_iter().filter_map(processed).collect()
    }

    /// The dead letters, in order.
    pub(crate) fn letters(&self) -> Vec<DeadLetter> {
        let buried = |note| match note {
            Note::Buried(letter) => Some(letter),
            _ => None,
        };
        self.notes().into_iter().filter_map(buried).collect()
    }

    /// When a checkpoint was seen, every record up to it had been processed or was a dead letter.
    pub(crate) fn assert_no_checkpoint_passed_an_unsettled_record(&self) {
        let notes = self.notes();
        let tried = notes.iter().filter_map(|note| match note {
            Note::Tried(seen) => Some(seen.record.position()),
            _ => None,
        });
        let all: BTreeSet<Position> = tried.collect();
        let mut settled = BTreeSet::new();
        for note in &notes {
            match note {
                Note::Processed(seen) => drop(settled.insert(seen.record.position())),
                Note::Buried(letter) => drop(settled.insert(letter.position())),
                Note::Checkpoint(checkpoint) => {
                    let mut passed = all.range(..=checkpoint);
                    let unsettled = passed.find(|position| !settled.contains(position));
                    assert_eq!(unsettled, None, "passed by the checkpoint {checkpoint}");
                }
                _ => {}
            }
        }
    }

    /// Texts of the processed records, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.processed().iter().map(Seen::text).collect()
    }

    /// How many different texts were processed.
    pub(crate) fn numbers(&self) -> usize {
        self.texts().into_iter().collect::<BTreeSet<_>>().len()
    }

    pub(crate) async fn until_processed(&self, count: usize) {
        until(&format!("{count} records processed"), async || {
            self.processed().len() >= count
        })
        .await;
    }

    pub(crate) async fn until_note(&self, what: &str, matches: impl Fn(&Note) -> bool) {
        until(what, async || self.notes().iter().any(&matches)).await;
    }

    /// Each number once, and in order within its key.
    pub(crate) fn assert_each_once(&self, numbers: std::ops::Range<usize>) {
        let mut seen: Vec<usize> = self
            .texts()
            .iter()
            .map(|text| text.parse().expect("a number"))
            .collect();
        self.assert_order_per_key();
        seen.sort_unstable();
        assert_eq!(seen, numbers.collect::<Vec<_>>());
    }

    /// Each number at least once, and first deliveries in order within their key.
    pub(crate) fn assert_each_at_least_once(&self, numbers: std::ops::Range<usize>) {
        let mut firsts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for seen in self.processed() {
            let number: usize = seen.text().parse().expect("a number");
            let key = firsts
                .entry(seen.record.partition_key.to_string())
                .or_default();
            if !key.contains(&number) {
                key.push(number);
            }
        }
        assert!(
            firsts.values().all(|numbers| numbers.is_sorted()),
            "out of order: {firsts:?}"
        );
        let mut all: Vec<usize> = firsts.into_values().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, numbers.collect::<Vec<_>>());
    }

    fn assert_order_per_key(&self) {
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        for seen in self.processed() {
            let number = seen.text().parse().expect("a number");
            let before = last.insert(seen.record.partition_key.to_string(), number);
            assert!(
                before.is_none_or(|before| before < number),
                "{before:?} before {number}"
            );
        }
    }
}

/// Dead letters, noted in the ledger unless the destination is away.
#[derive(Clone, Default)]
pub(crate) struct Letters {
    pub(crate) ledger: Ledger,
    pub(crate) away: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl DeadLetters for Letters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        if self.away.load(Ordering::Relaxed) {
            return Err("the destination is away".into());
        }
        self.ledger.note(Note::Buried(letter.clone()));
        Ok(())
    }
}

/// Notes every record and checkpoints after every batch.
pub(crate) struct Recorder {
    pub(crate) worker: &'static str,
    pub(crate) shard_id: ShardId,
    pub(crate) ledger: Ledger,
    pub(crate) behave: Arc<dyn Fn(&Seen) -> Behaviour + Send + Sync>,
}

/// Notes that the call it lives in was dropped.
struct Unfinished<'a>(&'a Ledger, &'static str);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.note(Note::Dropped(self.1));
    }
}

#[async_trait::async_trait]
impl RecordProcessor for Recorder {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        self.ledger
            .note(Note::Initialized(self.worker, input.shard_id));
        if let Some(pending) = input.pending {
            self.ledger.note(Note::Pending(self.worker, pending));
        }
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        assert!(!input.records.is_empty(), "never an empty batch");
        self.ledger
            .checkpointers
            .lock()
            .expect("no panic under the lock")
            .insert(self.shard_id.clone(), input.checkpointer.clone());
        let checkpoint = input.checkpointer.last();
        self.ledger.note(Note::Checkpoint(checkpoint));
        let unfinished = Unfinished(&self.ledger, self.worker);
        for record in input.records.iter() {
            let seen = Seen {
                worker: self.worker,
                shard_id: self.shard_id.clone(),
                record: record.clone(),
            };
            self.ledger.note(Note::Tried(seen.clone()));
            let behaviour = (self.behave)(&seen);
            match behaviour {
                Behaviour::Fail => {
                    std::mem::forget(unfinished);
                    return Err(ProcessorError::retry("asked to fail"));
                }
                Behaviour::Poison => {
                    std::mem::forget(unfinished);
                    return Err(ProcessorError::poison("asked for poison"));
                }
                Behaviour::PoisonHere => {
                    std::mem::forget(unfinished);
                    let position = record.position();
                    return Err(ProcessorError::poison_at(position, "asked for poison"));
                }
                Behaviour::Fatal => {
                    std::mem::forget(unfinished);
                    return Err(ProcessorError::fatal("asked to give up"));
                }
                Behaviour::Panic => {
                    std::mem::forget(unfinished);
                    panic!("asked to panic");
                }
                Behaviour::Hang => std::future::pending().await,
                Behaviour::AwaitStop => {
                    input.stop.requested().await;
                    let deadline = input.stop.deadline().expect("a stop has a deadline");
                    self.ledger.note(Note::StopSeen { deadline });
                    std::mem::forget(unfinished);
                    return Err(ProcessorError::retry("stopped in the middle"));
                }
                Behaviour::Slow(time) => tokio::time::sleep(time).await,
                Behaviour::Process
                | Behaviour::ProcessAndCheckpoint
                | Behaviour::PrepareAndHang(_) => {}
            }
            self.ledger.note(Note::Processed(seen));
            if let Behaviour::PrepareAndHang(state) = behaviour {
                let position = record.position();
                let prepared = input.checkpointer.prepare(&position, state).await?;
                assert_eq!(prepared.position(), &position);
                self.ledger.note(Note::Prepared);
                std::future::pending::<()>().await;
            }
            if behaviour == Behaviour::ProcessAndCheckpoint {
                input.checkpointer.checkpoint_at(&record.position()).await?;
            }
        }
        input.checkpointer.checkpoint().await?;
        std::mem::forget(unfinished);
        Ok(())
    }

    async fn lease_lost(&mut self) {
        self.ledger.note(Note::LeaseLost(self.worker));
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        checkpointer.checkpoint().await?;
        self.ledger.note(Note::Ended(self.shard_id.clone()));
        Ok(())
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        self.ledger.note(Note::Shutdown);
        checkpointer.checkpoint().await?;
        Ok(())
    }
}
