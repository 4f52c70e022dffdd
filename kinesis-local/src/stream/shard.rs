//! One shard: who it is, and the records that it holds.
//!
//! Promises: a record's number is greater than all numbers before it in its shard and is never
//! given twice; a record can be read only once it and all records before it are stored; what was
//! stored is read in order, without a gap, until the retention ends; arrival times never go back.
//!
//! ```text
//! counter   1   2   3 │ 4   5 │
//!           stored    │ being │ next_counter = 6
//!           visible   │ stored│
//!                     └ visible_end = 4
//! ```
//! A reader's position is the counter of the record that it wants next. Readers and writers take
//! the lock only to copy references, never across an await.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use kinesis_core::{HashKeyRange, SequenceNumber, SequenceParts, ShardId};
use tokio::sync::watch;

use super::encryption::Key;
use crate::limits::ShardLimits;

/// The counter of a shard's first record; 0 stands for the shard's start.
const FIRST_COUNTER: u64 = 1;

/// Room for records that is kept even if it is empty. Source: none, reasonable default.
const KEPT_ROOM: usize = 1024;

/// What never changes about a shard.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) index: u32,
    pub(crate) range: HashKeyRange,
    pub(crate) parent: Option<u32>,
    pub(crate) adjacent_parent: Option<u32>,
    /// When it was opened.
    pub(crate) created_ms: u64,
    /// The creation second that its sequence numbers carry.
    pub(crate) created_s: u64,
}

impl Identity {
    pub(crate) fn id(&self) -> ShardId {
        ShardId::from_index(u64::from(self.index))
    }

    pub(crate) fn parents(&self) -> impl Iterator<Item = u32> {
        self.parent.into_iter().chain(self.adjacent_parent)
    }

    /// The number of the record `counter` that arrived at `arrival_ms`.
    pub(crate) fn sequence_number(&self, counter: u64, arrival_ms: u64) -> SequenceNumber {
        let parts = SequenceParts {
            shard_created_s: self.created_s,
            shard_index: self.index,
            counter,
            written_s: arrival_ms / 1000,
        };
        parts.encode()
    }

    pub(crate) fn starting_sequence_number(&self) -> SequenceNumber {
        self.sequence_number(0, self.created_s * 1000)
    }

    pub(crate) fn ending_sequence_number(&self, closed_ms: u64) -> SequenceNumber {
        self.sequence_number(SequenceParts::COUNTER_MAX, closed_ms)
    }
}

/// One record. Cheap to clone: the key and the data are shared.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) counter: u64,
    pub(crate) arrival_ms: u64,
    /// Empty: its producer gave none, which only `AUTO` allows.
    pub(crate) partition_key: Arc<str>,
    pub(crate) data: Bytes,
    /// What it is encrypted under.
    pub(crate) key: Key,
}

impl Record {
    /// What the service counts: data and key.
    pub(crate) fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }

    fn order(&self) -> (u64, u64) {
        (self.counter, self.arrival_ms / 1000)
    }
}

/// Where a reader begins.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    TrimHorizon,
    Latest,
    /// The first record that arrived then or later.
    Timestamp(u64),
    /// The record with this number, or the next: counter and second of writing.
    At(u64, u64),
    /// The record after this number.
    After(u64, u64),
}

/// What one read gave.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    /// Where the next read goes on.
    pub(crate) next: u64,
    /// How old the first record not yet read is; 0 at the tip.
    pub(crate) behind_ms: u64,
    /// The shard is closed and everything in it was read.
    pub(crate) ended: bool,
}

/// One shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) identity: Identity,
    log: Mutex<ShardLog>,
    changed: watch::Sender<()>,
    /// The same for who watches the whole stream.
    news: Arc<watch::Sender<()>>,
}

impl Shard {
    pub(crate) fn open(identity: Identity, news: Arc<watch::Sender<()>>) -> Self {
        Self {
            identity,
            log: Mutex::new(ShardLog::default()),
            changed: watch::Sender::new(()),
            news,
        }
    }

    /// The records; hold it shortly.
    pub(crate) fn log(&self) -> MutexGuard<'_, ShardLog> {
        // The state is whole between its plain calls, so a panic elsewhere does not spoil it.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the records below `end` readable and wakes who waits for them.
    pub(crate) fn publish(&self, end: u64) {
        self.log().visible_end = end;
        self.wake();
    }

    pub(crate) fn close(&self, now_ms: u64) {
        self.log().closed_ms = Some(now_ms);
        self.wake();
    }

    pub(crate) fn closed_ms(&self) -> Option<u64> {
        self.log().closed_ms
    }

    /// Wakes all who watch the shard.
    pub(crate) fn wake(&self) {
        self.changed.send_replace(());
        self.news.send_replace(());
    }

    /// Tells of everything that changes after this call.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// The records of a shard and what rules them.
#[derive(Debug)]
pub(crate) struct ShardLog {
    records: VecDeque<Record>,
    next_counter: u64,
    visible_end: u64,
    last_arrival_ms: u64,
    closed_ms: Option<u64>,
    pub(crate) limits: ShardLimits,
}

impl Default for ShardLog {
    fn default() -> Self {
        Self {
            records: VecDeque::new(),
            next_counter: FIRST_COUNTER,
            visible_end: FIRST_COUNTER,
            last_arrival_ms: 0,
            closed_ms: None,
            limits: ShardLimits::default(),
        }
    }
}

impl ShardLog {
    /// Takes a record and gives it its number; not yet readable.
    pub(crate) fn append(
        &mut self,
        partition_key: Arc<str>,
        data: Bytes,
        key: Key,
        now_ms: u64,
    ) -> Record {
        debug_assert!(self.closed_ms.is_none(), "a closed shard takes no record");
        let arrival_ms = now_ms.max(self.last_arrival_ms);
        let record = Record {
            counter: self.next_counter,
            arrival_ms,
            partition_key,
            data,
            key,
        };
        self.next_counter += 1;
        self.last_arrival_ms = arrival_ms;
        self.records.push_back(record.clone());
        record
    }

    /// Takes a record that a recovery read, with the number that it was given then.
    /// False: its number is not above all before it, so it cannot be what was stored.
    pub(crate) fn restore(&mut self, record: Record) -> bool {
        if record.counter < self.next_counter || record.counter >= SequenceParts::COUNTER_MAX {
            return false;
        }
        self.next_counter = record.counter + 1;
        self.visible_end = self.next_counter;
        self.last_arrival_ms = self.last_arrival_ms.max(record.arrival_ms);
        self.records.push_back(record);
        true
    }

    /// When its last record arrived, in milliseconds since the Unix epoch; 0: it never had one. It can
    /// lie ahead of a clock that was set back.
    pub(crate) fn last_arrival_ms(&self) -> u64 {
        self.last_arrival_ms
    }

    /// Where the records that were taken so far end: what [`Shard::publish`] gets once all of them
    /// are stored.
    pub(crate) fn taken_end(&self) -> u64 {
        self.next_counter
    }

    /// Makes everything taken so far readable: nothing has to be stored first.
    pub(crate) fn publish_all(&mut self) {
        self.visible_end = self.next_counter;
    }

    /// Forgets the readable records that arrived before `horizon_ms` and gives their memory back.
    pub(crate) fn trim(&mut self, horizon_ms: u64) {
        while let Some(record) = self.records.front() {
            if record.arrival_ms >= horizon_ms || record.counter >= self.visible_end {
                break;
            }
            self.records.pop_front();
        }
        let (kept, room) = (self.records.len(), self.records.capacity());
        if room > KEPT_ROOM && kept < room / 4 {
            self.records.shrink_to(kept * 2);
        }
    }

    /// Gives up every record, expired or not; numbers go on.
    pub(crate) fn forget_all(&mut self) {
        self.records = VecDeque::new();
    }

    /// The position that `start` stands for now.
    pub(crate) fn seek(&self, start: Start) -> u64 {
        let found = match start {
            Start::TrimHorizon => 0,
            Start::Latest => self.records.len(),
            Start::Timestamp(ms) => self
                .records
                .partition_point(|record| record.arrival_ms < ms),
            Start::At(counter, written_s) => self
                .records
                .partition_point(|record| record.order() < (counter, written_s)),
            Start::After(counter, written_s) => self
                .records
                .partition_point(|record| record.order() <= (counter, written_s)),
        };
        let position = self
            .records
            .get(found)
            .map_or(self.visible_end, |record| record.counter);
        let asked = match start {
            Start::At(counter, _) => counter,
            Start::After(counter, _) => counter.saturating_add(1),
            Start::TrimHorizon | Start::Latest | Start::Timestamp(_) => 0,
        };
        // A number that lies ahead of the tip is waited for, not replaced by the tip.
        let ahead = if asked > self.visible_end { asked } else { 0 };
        position.min(self.visible_end).max(ahead)
    }

    /// The readable records from `from` on: at least one if there is any, at most `max_records`
    /// and not more than `max_bytes` unless the first alone is larger.
    pub(crate) fn read(
        &self,
        from: u64,
        max_records: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> Batch {
        let first = self.records.partition_point(|record| record.counter < from);
        let mut bytes = 0;
        let mut records = Vec::new();
        for record in self.records.range(first..) {
            if record.counter >= self.visible_end || records.len() >= max_records {
                break;
            }
            bytes += record.size();
            if bytes > max_bytes && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        let unread = self.records.get(first + records.len());
        let unread = unread.filter(|record| record.counter < self.visible_end);
        Batch {
            next: unread.map_or(from.max(self.visible_end), |record| record.counter),
            behind_ms: unread.map_or(0, |record| now_ms.saturating_sub(record.arrival_ms)),
            ended: unread.is_none() && self.closed_ms.is_some() && self.all_stored(),
            records,
        }
    }

    /// Nothing is on its way to the disk.
    fn all_stored(&self) -> bool {
        self.visible_end == self.next_counter
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

/// The index in a shard id, which may be given short: `shardId-000000000007`, `shardId-7`, `7`.
pub(crate) fn parse_shard_index(id: &str) -> Option<u32> {
    let digits = match id.split('-').nth(1) {
        Some(digits) if !digits.is_empty() => digits,
        _ => id,
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Greater ones are no ids at all. Source: service behaviour.
    digits
        .parse::<u32>()
        .ok()
        .filter(|&index| index <= i32::MAX as u32)
}

#[cfg(test)]
mod tests;
