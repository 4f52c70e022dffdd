//! Which records of a batch are guilty of its failure, found by delivering ever smaller parts of it,
//! without any I/O.
//!
//! ```text
//! [0 1 2 3 4 5 6 7]          fails `attempts` times, or is poison
//! [0 1 2 3]                  is taken
//!         [4 5 6 7]          fails: halved at once
//!         [4 5]              fails: halved at once
//!         [4]                is taken
//!           [5]              fails `attempts` times, or is poison: guilty ─▶ dead letter
//!             [6 7]          is taken
//! ```
//!
//! A failure that names the guilty record needs no halving: `[0 1 2 3 4]`, the record, `[6 7]`.
//!
//! Invariants:
//! - Parts come in the order of the batch, and each record is in exactly one part that is left. What
//!   is behind a part comes only after the part was taken, or its record is a dead letter.
//! - Only a record that failed alone, or that the processor named, is guilty. One that fails
//!   whenever it is delivered is always found, and no other.
//! - With g guilty records among n, of which the processor names none, there are at most
//!   `attempts + g · (2⌈log₂ n⌉ + attempts - 1)` calls, with `attempts` = 1 where it says "poison";
//!   where it names each, at most `2g + 1`. (Of the whole and of a single record there are
//!   `attempts` calls, of each other part one, and each halving makes two.)
//!
//! A failure that is not the records' own (a database that is away) blames the record in hand: it is
//! what `attempts` and its pauses have to outlast.

use std::ops::Range;

use kinesis_core::Position;

use crate::dead_letter::FailureCause;
use crate::record::Record;
use crate::settings::OnFailure;

/// Why a part failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Blame {
    pub(crate) cause: FailureCause,
    /// What the processor said.
    pub(crate) error: String,
}

/// What is to be done with the batch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Deliver these records.
    Process(Range<usize>),
    /// Store this record as a dead letter.
    Bury(usize),
    /// Nothing is left of it.
    Done,
}

/// What a failure leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// The same part again, after a pause.
    Again,
    /// A smaller part, or a dead letter, at once.
    Isolate,
    /// Nothing: the shard stops.
    Stop,
}

/// One batch on its way.
#[derive(Debug)]
pub(crate) struct Isolation {
    on_failure: OnFailure,
    /// What is left, the next at the end.
    left: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    records: Range<usize>,
    /// Failed calls with exactly these records.
    tried: u32,
    /// Failed calls that these records were in.
    attempts: u32,
    /// Set of a single record that is to be a dead letter.
    guilty: Option<Blame>,
}

impl Isolation {
    pub(crate) fn new(records: usize, on_failure: OnFailure) -> Self {
        let mut isolation = Self {
            on_failure,
            left: Vec::new(),
        };
        isolation.push(0..records, 0);
        isolation
    }

    pub(crate) fn step(&self) -> Step {
        match self.left.last() {
            None => Step::Done,
            Some(part) if part.guilty.is_some() => Step::Bury(part.records.start),
            Some(part) => Step::Process(part.records.clone()),
        }
    }

    /// Failed calls that the records of the present step were in, and why the last one failed if
    /// the step is to bury.
    pub(crate) fn attempts(&self) -> (u32, Option<&Blame>) {
        self.left
            .last()
            .map_or((0, None), |part| (part.attempts, part.guilty.as_ref()))
    }

    /// The present step is done: its records were taken, or the dead letter is stored.
    pub(crate) fn settled(&mut self) {
        self.left.pop();
    }

    /// The present part failed; `named` is the guilty record's index, if the processor knows it.
    pub(crate) fn failed(&mut self, blame: Blame, named: Option<usize>) -> Next {
        let Some(mut part) = self.left.pop() else {
            return Next::Again;
        };
        part.tried = part.tried.saturating_add(1);
        part.attempts = part.attempts.saturating_add(1);
        let poison = blame.cause == FailureCause::Poison;
        let next = match self.on_failure {
            OnFailure::Retry => Next::Again,
            OnFailure::Stop { attempts } if poison || part.tried >= attempts => Next::Stop,
            OnFailure::DeadLetter { attempts } if poison || part.is_over(attempts) => Next::Isolate,
            OnFailure::Stop { .. } | OnFailure::DeadLetter { .. } => Next::Again,
        };
        match next {
            Next::Isolate => self.divide(part, blame, named),
            Next::Again | Next::Stop => self.left.push(part),
        }
        next
    }

    /// The present part failed beside another of the same batches: that is no attempt of its own.
    pub(crate) fn failed_beside(&mut self) -> Next {
        if let Some(part) = self.left.last_mut() {
            part.attempts = part.attempts.saturating_add(1);
        }
        Next::Again
    }

    fn divide(&mut self, part: Part, blame: Blame, named: Option<usize>) {
        let (Range { start, end }, attempts) = (part.records.clone(), part.attempts);
        let guilty = match named {
            Some(named) if part.records.contains(&named) => Some(named),
            _ if part.records.len() == 1 => Some(start),
            _ => None,
        };
        let Some(guilty) = guilty else {
            let middle = start + part.records.len() / 2;
            self.push(middle..end, attempts);
            return self.push(start..middle, attempts);
        };
        self.push(guilty + 1..end, attempts);
        self.left.push(Part {
            records: guilty..guilty + 1,
            tried: part.tried,
            attempts,
            guilty: Some(blame),
        });
        self.push(start..guilty, attempts);
    }

    fn push(&mut self, records: Range<usize>, attempts: u32) {
        if !records.is_empty() {
            self.left.push(Part {
                records,
                tried: 0,
                attempts,
                guilty: None,
            });
        }
    }
}

impl Part {
    /// Whether it failed as often as it may. Parts between the whole batch and a single record get
    /// one call: the whole had its attempts, and each record has its own before it is guilty.
    fn is_over(&self, attempts: u32) -> bool {
        let between = self.attempts > self.tried && self.records.len() > 1;
        between || self.tried >= attempts
    }
}

/// The index of the record at `position`.
pub(crate) fn index_of(records: &[Record], position: &Position) -> Option<usize> {
    records
        .binary_search_by(|record| record.position().cmp(position))
        .ok()
}

#[cfg(test)]
mod tests;
