//! How far a batch got: what of it is done, whether it failed, whether it is to stop.

use std::any::Any;

use kinesis_core::Position;

use super::schedule::Schedule;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::processor::{ProcessRecordsInput, ProcessorError};
use crate::record::Record;

/// How far a batch got.
pub(super) struct Progress {
    pub(super) schedule: Schedule,
    /// The first record, in the order of the shard, that failed.
    pub(super) failure: Option<(usize, Failure)>,
    pub(super) stopping: bool,
    /// The watermark that was to be stored last because the shard is to stop, once there was one.
    stopped_at: Option<Option<usize>>,
}

/// How a record failed.
pub(super) enum Failure {
    Error(ProcessorError),
    /// What the handler panicked with.
    Panic(Box<dyn Any + Send>),
}

impl Progress {
    /// A batch of which nothing has begun.
    pub(super) fn new(schedule: Schedule) -> Self {
        Self {
            schedule,
            failure: None,
            stopping: false,
            stopped_at: None,
        }
    }

    /// The position up to which everything is done.
    pub(super) fn watermark(&self, input: &ProcessRecordsInput) -> Option<Position> {
        #[cfg(feature = "mutations")]
        if mutation::is(Mutation::WatermarkPassesUndone) {
            let index = self.schedule.last_finished()?;
            return Some(input.records[index].position());
        }
        let index = self.schedule.watermark()?;
        Some(input.records[index].position())
    }

    /// Whether the watermark is another than when this was asked last; the first time it is.
    pub(super) fn moves(&mut self) -> bool {
        let watermark = self.schedule.watermark();
        self.stopped_at.replace(watermark) != Some(watermark)
    }

    /// Tells that nothing was done for a while.
    pub(super) fn warn(&self, under_way: usize, records: &[Record]) {
        let first = self.schedule.watermark().map_or(0, |index| index + 1);
        let first = records.get(first).map(Record::position);
        tracing::warn!(
            under_way,
            records = records.len(),
            first = first.as_ref().map(tracing::field::display),
            "No record of the batch was done for a while, and the shard waits: its next batch comes once all of this one is done. Handlers hang, or whoever takes from the record stream waits for more records before it acknowledges those that it has."
        );
    }

    pub(super) fn may_start(&self) -> bool {
        self.failure.is_none() && !self.stopping
    }

    pub(super) fn settle(&mut self, index: usize, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.schedule.finish(index),
            Err(failure) => {
                let earlier = self
                    .failure
                    .as_ref()
                    .is_none_or(|(first, _)| index < *first);
                if earlier {
                    self.failure = Some((index, failure));
                }
            }
        }
    }
}
