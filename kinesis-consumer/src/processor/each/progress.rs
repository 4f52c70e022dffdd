//! How far a call got: what is done of the records that it was given, what rests, whether it gives up or is
//! to stop.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use kinesis_core::Position;
use tokio::time::Instant;

use super::schedule::Schedule;
use super::source::Source;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::processor::ProcessorError;
use crate::record::Record;

/// How far a call got.
pub(super) struct Progress {
    schedule: Schedule,
    /// The records from the first that is not done on, as the schedule has them.
    records: VecDeque<Record>,
    /// The position up to which everything is done.
    watermark: Option<Position>,
    #[cfg(feature = "mutations")]
    last_done: Option<(u64, Position)>,
    /// The record for which the call gives up: the first in the order of the shard, of those whose failure
    /// is fatal if there are any, since these are to end the consumer.
    failure: Option<(u64, Position, Failure)>,
    /// Until when nothing starts, because a record failed.
    rests_until: Option<Instant>,
    /// By when the call ends, once it gives up.
    ends_by: Option<Instant>,
    pub(super) stopping: bool,
    /// The watermark that was to be stored last because the shard is to stop, once there was one.
    stopped_at: Option<u64>,
}

/// How a record failed.
pub(crate) enum Failure {
    Error(ProcessorError),
    /// What the handler panicked with.
    Panic(Box<dyn Any + Send>),
}

impl Failure {
    fn is_fatal(&self) -> bool {
        matches!(self, Self::Error(ProcessorError::Fatal(_)))
    }
}

impl Progress {
    /// A call of which nothing has begun.
    pub(super) fn new(order_per_key: bool) -> Self {
        #[cfg(feature = "mutations")]
        let order_per_key = order_per_key && !mutation::is(Mutation::KeysOutOfOrder);
        Self {
            schedule: Schedule::new(order_per_key),
            records: VecDeque::new(),
            watermark: None,
            #[cfg(feature = "mutations")]
            last_done: None,
            failure: None,
            rests_until: None,
            ends_by: None,
            stopping: false,
            stopped_at: None,
        }
    }

    /// Takes the next batch.
    pub(super) fn take(&mut self, records: &Arc<[Record]>, source: &impl Source) {
        for record in records.iter() {
            let number = self.schedule.push(&record.partition_key);
            self.records.push_back(record.clone());
            if source.was_done(record) {
                let moved = self.schedule.skip(number);
                self.pass(moved);
            }
        }
    }

    /// The next record that may start now.
    pub(super) fn start(&mut self) -> Option<(u64, Record)> {
        let number = self.schedule.start()?;
        self.record(number).map(|record| (number, record.clone()))
    }

    /// A record that has started and is not done.
    pub(super) fn record(&self, number: u64) -> Option<&Record> {
        let index = usize::try_from(number.checked_sub(self.schedule.first())?).ok()?;
        self.records.get(index)
    }

    /// The record is done. Returns whether the watermark moves.
    pub(super) fn finish(&mut self, number: u64) -> bool {
        #[cfg(feature = "mutations")]
        self.is_last_done(number);
        let moved = self.schedule.finish(number);
        self.pass(moved);
        moved > 0
    }

    fn pass(&mut self, records: usize) {
        if let Some(last) = self.records.drain(..records).next_back() {
            self.watermark = Some(last.position());
        }
    }

    #[cfg(feature = "mutations")]
    fn is_last_done(&mut self, number: u64) {
        let position = self.record(number).map(Record::position);
        if let Some(position) = position
            && self
                .last_done
                .as_ref()
                .is_none_or(|(last, _)| number > *last)
        {
            self.last_done = Some((number, position));
        }
    }

    /// The position up to which everything is done.
    pub(super) fn watermark(&self) -> Option<Position> {
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::WatermarkPassesUndone) {
            return self
                .last_done
                .as_ref()
                .map(|(_, position)| position.clone());
        }
        self.watermark.clone()
    }

    /// The same, whatever is done wrong on purpose.
    pub(super) fn settled(&self) -> Option<&Position> {
        self.watermark.as_ref()
    }

    /// The record comes again once it is rested; until then nothing starts.
    pub(super) fn rest(&mut self, number: u64, until: Instant) {
        self.schedule.fail(number);
        self.rests_until.get_or_insert(until);
    }

    /// Until when nothing starts.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.rests_until
    }

    /// What failed may start again, and all else.
    pub(super) fn rested(&mut self) {
        self.rests_until = None;
        self.schedule.again();
    }

    /// The call is to end because of this record: once nothing is under way, and `by` then at the latest.
    pub(super) fn give_up(&mut self, number: u64, failure: Failure, by: Option<Instant>) {
        self.ends_by = self.ends_by.or(by);
        let is_before = self.failure.as_ref().is_none_or(|(first, _, known)| {
            (!failure.is_fatal(), number) < (!known.is_fatal(), *first)
        });
        if is_before && let Some(position) = self.record(number).map(Record::position) {
            self.failure = Some((number, position, failure));
        }
    }

    /// For which record, and why.
    pub(super) fn into_failure(self) -> Option<(Position, Failure)> {
        self.failure
            .map(|(_, position, failure)| (position, failure))
    }

    /// By when the call ends, whatever is under way.
    pub(super) fn ends_by(&self) -> Option<Instant> {
        self.ends_by
    }

    /// Whether no more records start.
    pub(super) fn is_ending(&self) -> bool {
        self.failure.is_some() || self.stopping
    }

    pub(super) fn may_start(&self) -> bool {
        !self.is_ending() && self.rests_until.is_none()
    }

    pub(super) fn is_done(&self) -> bool {
        self.schedule.is_done()
    }

    /// Whether the watermark is another than when this was asked last; the first time it is.
    pub(super) fn moves(&mut self) -> bool {
        let first = self.schedule.first();
        self.stopped_at.replace(first) != Some(first)
    }

    /// Tells that nothing was done for a while.
    pub(super) fn warn(&self, under_way: usize) {
        let first = self.records.front().map(Record::position);
        tracing::warn!(
            under_way,
            records = self.schedule.len(),
            first = first.as_ref().map(tracing::field::display),
            "No record was done for a while, though some are under way. The checkpoint stays before the first of them, and where the shard has ended its children wait. Handlers hang or fail, or whoever takes from the record stream does not acknowledge those that it has."
        );
    }
}
