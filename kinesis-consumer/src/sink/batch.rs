//! Where one object ends and the next begins.
//!
//! A [`Batcher`] takes the lines of one shard in order and says when an object is complete. It is
//! pure: no clock, no I/O, so that the same lines at the same times give the same objects.
//!
//! ```text
//!   push ──▶ open ──(bytes · records · age · asked)──▶ sealed ──stored──▶ gone
//!            ▲ one, grows                              ▲ one, waits for its write
//! ```
//!
//! Invariants:
//! - Every line is in exactly one batch, in the order of the pushes.
//! - At most one batch is open and at most one is sealed; nothing is taken while one is sealed. What
//!   is held is therefore at most the byte limit, or one line when a single line is larger.
//! - A batch is never empty, and larger than the byte limit only when it is one line.
//! - A position at or before the last one taken is not taken again: a processor gets a batch of
//!   records again after an error, and what of it is already here stays here once.
//!
//! Absent: deduplication across a restart. A new batcher starts at the checkpoint with no memory,
//! and age may cut its batches elsewhere than those of the worker before it.

use std::time::Duration;

use bytes::Bytes;
use kinesis_core::Position;
use tokio::time::Instant;

/// When an open batch is complete: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// Bytes of lines that one object holds at most.
    pub(crate) bytes: usize,
    /// Records that one object holds at most.
    pub(crate) records: usize,
    /// How long the first line of a batch waits at most.
    pub(crate) age: Duration,
}

/// The content of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Position of the first record in it.
    pub(crate) first: Position,
    /// Position of the last record in it: the checkpoint once it is stored.
    pub(crate) last: Position,
    /// Number of records, which is the number of lines.
    pub(crate) records: usize,
    /// The lines, each ended by a newline.
    pub(crate) body: Bytes,
}

/// What became of a pushed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is in a batch now.
    Taken,
    /// It was in a batch before; nothing changed.
    Repeated,
    /// A batch is sealed: store it, then push the line again.
    Full,
}

#[derive(Debug)]
struct OpenBatch {
    first: Position,
    last: Position,
    records: usize,
    lines: Vec<u8>,
    due: Instant,
}

/// The batches of one shard; see the module.
#[derive(Debug)]
pub(crate) struct Batcher {
    limits: BatchLimits,
    taken: Option<Position>,
    open: Option<OpenBatch>,
    sealed: Option<Batch>,
}

impl Batcher {
    pub(crate) fn new(limits: BatchLimits) -> Self {
        Self {
            limits,
            taken: None,
            open: None,
            sealed: None,
        }
    }

    /// Whether the record at this position is in a batch already.
    pub(crate) fn has_taken(&self, position: &Position) -> bool {
        self.taken.as_ref().is_some_and(|taken| position <= taken)
    }

    /// Adds a line. A batch that this completes is sealed at once.
    pub(crate) fn push(&mut self, position: &Position, line: &[u8], now: Instant) -> Pushed {
        if self.has_taken(position) {
            return Pushed::Repeated;
        }
        self.seal_due(now);
        let overflows = self
            .open
            .as_ref()
            .is_some_and(|open| open.lines.len() + line.len() > self.limits.bytes);
        if overflows {
            self.seal();
        }
        if self.sealed.is_some() {
            return Pushed::Full;
        }
        let due = now + self.limits.age;
        let open = self.open.get_or_insert_with(|| OpenBatch {
            first: position.clone(),
            last: position.clone(),
            records: 0,
            lines: Vec::new(),
            due,
        });
        open.last = position.clone();
        open.records += 1;
        open.lines.extend_from_slice(line);
        let complete = open.records >= self.limits.records || open.lines.len() >= self.limits.bytes;
        self.taken = Some(position.clone());
        if complete {
            self.seal();
        }
        Pushed::Taken
    }

    /// Seals the open batch if its first line has waited long enough.
    pub(crate) fn seal_due(&mut self, now: Instant) {
        if self.open.as_ref().is_some_and(|open| open.due <= now) {
            self.seal();
        }
    }

    /// Seals the open batch, unless one is sealed already: that one has to be stored first.
    pub(crate) fn seal(&mut self) {
        if self.sealed.is_none() {
            self.sealed = self.open.take().map(|open| Batch {
                first: open.first,
                last: open.last,
                records: open.records,
                body: open.lines.into(),
            });
        }
    }

    /// The batch that waits for its write.
    pub(crate) fn sealed(&self) -> Option<&Batch> {
        self.sealed.as_ref()
    }

    /// The sealed batch is stored: forget it.
    pub(crate) fn stored(&mut self) {
        self.sealed = None;
    }

    /// When the open batch becomes due; `None` when there is none.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.due)
    }

    /// Drops everything that is held. What was taken stays known as taken.
    pub(crate) fn discard(&mut self) {
        self.open = None;
        self.sealed = None;
    }

    /// Bytes of lines held.
    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.lines.len())
            + self.sealed.as_ref().map_or(0, |batch| batch.body.len())
    }
}

#[cfg(test)]
mod tests;
