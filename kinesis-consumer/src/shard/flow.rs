//! Batches that a processor takes while it works on earlier ones, and settles record by record
//! ([`for_each`](crate::for_each), [`record_stream`](crate::record_stream)).
//!
//! ```text
//!              settled                  out                       waiting in the buffer
//! ───────────────●──────────[ batch ][ batch ][ batch ]──────────[ batch ]…[ end ]
//!                └─▶ checkpoints go here        └─ first(), next() ─┘         └─ kept until all is settled
//! ```
//!
//! One call of the processor lasts for as long as it has records out; for the life of the shard it is one
//! `process_records`. What is told to the checkpointer as delivered is the end of the last batch that was
//! handed on; as settled, the last record up to which all are done. A batch keeps its room in the buffer
//! until all of it is settled, so what is out stays within the limits of what is read ahead.
//!
//! A record that fails is tried again by itself, by the rules of [`isolate`](super::isolate) for a part of
//! one record. A failure beside another does not count as one of its attempts: it may have the same cause,
//! such as a database that is away, and that is to outlast the attempts of one record, not of all.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kinesis_core::{Backoff, Position};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::bury::Burial;
use super::call::{chain, panic_text};
use super::isolate::{Blame, Isolation, Next};
use super::settle::{Amount, tell_processed};
use crate::checkpoint::Checkpointer;
use crate::dead_letter::{DeadLetter, DeadLetters, FailureCause};
use crate::fetch::{Batch, FetchContext, Fetched, Fetching};
use crate::lease::HeldLease;
use crate::metrics;
use crate::processor::{Failure, ProcessorError, Source, StopSignal, Verdict};
use crate::record::Record;
use crate::settings::OnFailure;

/// What is out: batches of which not all is settled.
#[derive(Debug, Default)]
pub(super) struct Out {
    batches: VecDeque<OutBatch>,
    /// So many of them were handed on in the present call.
    handed: usize,
    /// Whether some of it was handed on in an earlier call too.
    is_again: bool,
    /// Records that failed and are not done.
    tries: BTreeMap<Position, Isolation>,
    /// The first record that failed for good, so that the shard is to stop.
    stuck: Option<Position>,
    /// One letter of a shard at a time.
    burying: Arc<AsyncMutex<()>>,
}

#[derive(Debug)]
struct OutBatch {
    batch: Batch,
    /// When it was handed on, once it was.
    begun: Option<Instant>,
    /// Of it, what is stored as dead letters: that counts as skipped, and not as processed.
    buried: Amount,
}

impl Out {
    pub(super) fn push(&mut self, batch: Batch) {
        self.batches.push_back(OutBatch {
            batch,
            begun: None,
            buried: Amount::default(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// A call begins: it is handed all that is not settled.
    pub(super) fn begin(&mut self) {
        self.handed = 0;
    }

    /// Drops what is not settled; whether there was any.
    pub(super) fn drop_all(&mut self) -> bool {
        let had_any = !self.is_empty();
        *self = Self::default();
        had_any
    }

    /// The first record that failed for good, because of which the shard is to stop.
    pub(super) fn stuck(&self) -> Option<&Position> {
        self.stuck.as_ref()
    }

    fn is_stuck_at(&mut self, position: Position) {
        self.stuck = Some(match self.stuck.take() {
            Some(first) => first.min(position),
            None => position,
        });
    }
}

/// The records of one call of a processor that takes batches while it works on others.
#[doc(hidden)]
pub struct Flow<'a> {
    pub(super) out: &'a mut Out,
    pub(super) fetching: Option<&'a mut Fetching>,
    /// What came behind the last batch.
    pub(super) early: &'a mut Option<Early>,
    pub(super) checkpointer: Checkpointer,
    pub(super) fetch: &'a FetchContext,
    pub(super) lease: &'a HeldLease,
    pub(super) dead_letters: Option<&'a Arc<dyn DeadLetters>>,
    pub(super) observer: Option<Observer<'a>>,
}

/// Sees what is handed on.
type Observer<'a> = Box<dyn FnMut(&[Record]) + Send + 'a>;

/// What was fetched and is no batch; `None` if the task that fetches broke down.
pub(super) type Early = Option<Fetched>;

impl<'a> Flow<'a> {
    /// The same, seen by whoever stands between.
    #[must_use]
    pub fn observed(mut self, observer: impl FnMut(&[Record]) + Send + 'a) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// The next batch that is out and not handed on.
    fn hand_on(&mut self) -> Option<Arc<[Record]>> {
        let next = self.out.batches.get_mut(self.out.handed)?;
        self.out.handed += 1;
        let records = Arc::clone(&next.batch.records);
        self.checkpointer.deliver(next.batch.end.clone());
        let now = self.fetch.clock.now();
        if next.begun.replace(now).is_some() {
            self.out.is_again = true;
            self.count(metrics::RECORDS_REDELIVERED, records.len() as u64);
        }
        if let Some(observer) = &mut self.observer {
            observer(&records);
        }
        Some(records)
    }

    fn count(&self, counter: &'static str, by: u64) {
        ::metrics::counter!(counter, "stream" => Arc::clone(&self.fetch.stream)).increment(by);
    }

    /// Tells of a record that failed; `is_quietly` where another tells of the same cause.
    fn tell_failed(&self, position: &Position, blame: &Blame, attempts: u32, is_quietly: bool) {
        let error = &*blame.error;
        match (blame.cause, self.fetch.settings.on_failure) {
            (FailureCause::Panic, _) => {
                self.count(metrics::PROCESSOR_PANICS, 1);
                error!(%position, attempts, panic = error, "A record's handler panicked.");
            }
            (FailureCause::Poison, OnFailure::Retry) => error!(
                %position, attempts, error,
                "A record cannot be processed. By the setting on_failure it is tried again for ever: no checkpoint passes it."
            ),
            _ if is_quietly => debug!(%position, attempts, error, "A record failed."),
            _ => warn!(%position, attempts, error, "A record failed."),
        }
    }

    fn bury(&self, record: &Record, blame: Blame, attempts: u32) -> Option<Verdict> {
        let destination = self.dead_letters.map(Arc::clone);
        debug_assert!(destination.is_some(), "checked when the consumer was built");
        let (stream, shard_id) = (
            Arc::clone(&self.fetch.stream),
            self.lease.shard_id().clone(),
        );
        let letter = DeadLetter {
            attempts,
            ..DeadLetter::new(stream, shard_id, record.clone(), blame.cause, blame.error)
        };
        let burial = Burial {
            destination: destination?,
            turn: Arc::clone(&self.out.burying),
            lease: self.lease.clone(),
            clock: self.fetch.clock.clone(),
            backoff: self.backoff(),
            rand: self.fetch.rand.fork(),
            stop: self.checkpointer.stop_signal().clone(),
        };
        Some(Verdict::Bury(burial.until_stored(letter).boxed()))
    }

    fn backoff(&self) -> Backoff {
        let settings = &self.fetch.settings;
        Backoff::new(settings.task_backoff, settings.task_backoff_max)
    }
}

impl Source for Flow<'_> {
    fn first(&mut self) -> Option<Arc<[Record]>> {
        self.hand_on()
    }

    async fn next(&mut self) -> Option<Arc<[Record]>> {
        if let Some(records) = self.hand_on() {
            return Some(records);
        }
        if self.early.is_some() {
            return None;
        }
        match self.fetching.as_mut()?.next().await {
            Some(Fetched::Batch(batch)) => {
                self.out.push(batch);
                self.hand_on()
            }
            other => {
                *self.early = Some(other);
                None
            }
        }
    }

    fn was_done(&self, record: &Record) -> bool {
        self.out.is_again && record.position() <= self.checkpointer.settled()
    }

    fn done(&mut self, record: &Record) {
        if !self.out.tries.is_empty() {
            self.out.tries.remove(&record.position());
        }
    }

    fn buried(&mut self, record: &Record) {
        let position = record.position();
        let batches = &mut self.out.batches;
        let of = batches.partition_point(|out| out.batch.end < position);
        if let Some(out) = batches.get_mut(of) {
            out.buried.records += 1;
            out.buried.data_bytes += record.data.len() as u64;
        }
    }

    fn settled(&mut self, up_to: &Position) {
        self.checkpointer.settle_to(up_to);
        while self
            .out
            .batches
            .front()
            .is_some_and(|front| front.begun.is_some() && front.batch.end <= *up_to)
        {
            let Some(front) = self.out.batches.pop_front() else {
                return;
            };
            let OutBatch {
                batch,
                begun,
                buried,
            } = front;
            self.out.handed = self.out.handed.saturating_sub(1);
            let now = self.fetch.clock.now();
            let took = now.duration_since(begun.unwrap_or(now));
            let (records, data_bytes) = (batch.records.len() as u64, batch.data_bytes);
            let processed = Amount {
                records: records.saturating_sub(buried.records),
                data_bytes: data_bytes.saturating_sub(buried.data_bytes),
            };
            let first = batch.records.first();
            tell_processed(self.fetch, self.lease, processed, first, took);
            drop(batch);
            self.fetch.totals.tell();
        }
    }

    fn failed(&mut self, record: &Record, failure: Failure, beside: bool) -> Verdict {
        let position = record.position();
        let on_failure = self.fetch.settings.on_failure;
        let Some(blame) = blame(&failure) else {
            return Verdict::GiveUp(failure);
        };
        let tried = self.out.tries.entry(position.clone());
        let tried = tried.or_insert_with(|| Isolation::new(1, on_failure));
        let attempts = tried.attempts().0.saturating_add(1);
        let is_beside = beside && blame.cause != FailureCause::Poison;
        let next = match is_beside {
            true => tried.failed_beside(),
            false => tried.failed(blame.clone(), None),
        };
        // Of many that may have failed by the same cause the one that counts is enough; each that is given
        // up is named.
        let is_quietly = is_beside && next == Next::Again;
        self.tell_failed(&position, &blame, attempts, is_quietly);
        match next {
            Next::Again => {
                self.count(metrics::RECORDS_REDELIVERED, 1);
                let pause = self.backoff().delay(attempts - 1, &self.fetch.rand);
                Verdict::Again(pause)
            }
            Next::Stop => {
                self.out.is_stuck_at(position);
                Verdict::GiveUp(told(failure, &blame))
            }
            Next::Isolate => {
                self.out.tries.remove(&position);
                let verdict = self.bury(record, blame, attempts);
                verdict.unwrap_or(Verdict::GiveUp(failure))
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        Some(self.fetch.settings.shutdown_timeout)
    }

    fn checkpointer(&self) -> &Checkpointer {
        &self.checkpointer
    }

    fn stop(&self) -> StopSignal {
        self.checkpointer.stop_signal().clone()
    }
}

/// A panic was told and counted as its record's: it is not to be one of the call too.
fn told(failure: Failure, blame: &Blame) -> Failure {
    match failure {
        Failure::Panic(_) => {
            let text = format!("a record's handler panicked: {}", blame.error);
            Failure::Error(ProcessorError::retry(text))
        }
        Failure::Error(error) => Failure::Error(error),
    }
}

/// Why a record failed; `None` if for no fault of its own.
fn blame(failure: &Failure) -> Option<Blame> {
    let (cause, error) = match failure {
        Failure::Error(ProcessorError::Fatal(_)) => return None,
        Failure::Error(ProcessorError::Retry(cause)) => (FailureCause::Retry, chain(cause)),
        Failure::Error(ProcessorError::Poison(cause) | ProcessorError::PoisonAt { cause, .. }) => {
            (FailureCause::Poison, chain(cause))
        }
        Failure::Panic(panic) => (FailureCause::Panic, panic_text(&**panic).to_owned()),
    };
    Some(Blame { cause, error })
}

impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("checkpointer", &self.checkpointer)
            .finish_non_exhaustive()
    }
}
