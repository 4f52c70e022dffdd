//! The batch in hand, as the parts of it that are delivered.

use std::ops::Range;
use std::sync::Arc;

use kinesis_core::Position;

use super::isolate::{Blame, Isolation, Next, Step, index_of};
use super::life::{Buried, Returned};
use crate::dead_letter::DeadLetter;
use crate::fetch::Batch;
use crate::lease::HeldLease;
use crate::record::Record;
use crate::settings::OnFailure;

/// A batch, and how far it got.
#[derive(Debug)]
pub(super) struct Hand {
    batch: Batch,
    isolation: Isolation,
    /// The records of the present part, and which they are.
    part: (Range<usize>, Arc<[Record]>),
    /// So many of the batch's records were delivered at least once.
    delivered: usize,
}

/// What a part is delivered as.
pub(super) struct Delivering {
    /// Of its last record.
    pub(super) position: Position,
    /// Records of it that were delivered before.
    pub(super) again: u64,
}

impl Hand {
    pub(super) fn new(batch: Batch, on_failure: OnFailure) -> Self {
        let whole = 0..batch.records.len();
        Self {
            isolation: Isolation::new(whole.len(), on_failure),
            part: (whole, Arc::clone(&batch.records)),
            delivered: 0,
            batch,
        }
    }

    /// The records that are to be delivered next, or that are being delivered.
    pub(super) fn part(&self) -> &Arc<[Record]> {
        &self.part.1
    }

    /// The part is being delivered.
    pub(super) fn delivering(&mut self) -> Option<Delivering> {
        let Range { start, end } = self.part.0;
        let again = self.delivered.min(end).saturating_sub(start) as u64;
        self.delivered = self.delivered.max(end);
        let position = self.end_of_part()?;
        Some(Delivering { position, again })
    }

    /// Position of the last of them.
    fn end_of_part(&self) -> Option<Position> {
        if self.is_whole() {
            return Some(self.batch.end.clone());
        }
        self.part.1.last().map(Record::position)
    }

    /// Payload of the part.
    pub(super) fn data_bytes(&self) -> u64 {
        if self.is_whole() {
            return self.batch.data_bytes;
        }
        self.part
            .1
            .iter()
            .map(|record| record.data.len() as u64)
            .sum()
    }

    fn is_whole(&self) -> bool {
        self.part.1.len() == self.batch.records.len()
    }

    pub(super) fn millis_behind_latest(&self) -> u64 {
        self.batch.millis_behind_latest
    }

    /// The part was taken.
    pub(super) fn processed(&mut self) -> Returned {
        self.isolation.settled();
        match self.advance() {
            Step::Done => Returned::Ok,
            Step::Process(_) => Returned::Part,
            Step::Bury(_) => Returned::Guilty,
        }
    }

    /// The part failed; `named` is the position of the guilty record, if the processor knows it.
    pub(super) fn failed(&mut self, blame: Blame, named: Option<&Position>) -> Returned {
        let named = named.and_then(|position| index_of(&self.batch.records, position));
        match self.isolation.failed(blame, named) {
            Next::Again => Returned::Again,
            Next::Stop => Returned::Stuck,
            Next::Isolate => match self.advance() {
                Step::Bury(_) => Returned::Guilty,
                Step::Process(_) | Step::Done => Returned::Part,
            },
        }
    }

    /// The letter is stored.
    pub(super) fn buried(&mut self) -> Buried {
        self.isolation.settled();
        match self.advance() {
            Step::Done => Buried::Last,
            Step::Process(_) => Buried::Part,
            Step::Bury(_) => Buried::Guilty,
        }
    }

    /// The letter that is to be stored now.
    pub(super) fn letter(&self, stream: &Arc<str>, lease: &HeldLease) -> Option<DeadLetter> {
        let Step::Bury(index) = self.isolation.step() else {
            return None;
        };
        let (attempts, blame) = self.isolation.attempts();
        let (record, blame) = (self.batch.records.get(index)?.clone(), blame?);
        let shard_id = lease.shard_id().clone();
        let letter = DeadLetter::new(
            Arc::clone(stream),
            shard_id,
            record,
            blame.cause,
            &*blame.error,
        );
        Some(DeadLetter { attempts, ..letter })
    }

    fn advance(&mut self) -> Step {
        let step = self.isolation.step();
        if let Step::Process(range) = &step
            && *range != self.part.0
        {
            self.part = (range.clone(), self.batch.records[range.clone()].into());
        }
        step
    }
}
