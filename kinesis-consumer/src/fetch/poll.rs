//! When to ask Kinesis for what, for one shard: the rules of polling, without any I/O.
//!
//! ```text
//!              ┌──────── expired, refused: a new one from the last position ───────┐
//!              ▼                                                                   │
//!   Iterator(start at …) ──▶ Records(iterator) ──▶ Records(next iterator) ──▶ … ───┴──▶ Ended
//!                                  │ behind: as fast as 5 reads and 2 MiB a second allow
//!                                  └ at the tip: after the idle pause
//! ```
//!
//! Invariants: a new iterator starts right behind the last record that was answered, or at the
//! checkpoint when none was; failures wait with full jitter and a bound, and are never given up,
//! except a stream or shard that stays unknown for [`NOT_FOUND_PATIENCE`].

use std::time::Duration;

use kinesis_core::{Backoff, Position, Rand, SequenceNumber, TokenBucket, TokenBucketRate, limits};
use tokio::time::Instant;

use crate::lease::Lease;
use crate::settings::InitialPosition;

/// First pause after a failed call. Source: the service's quota, five calls a second.
pub(crate) const FETCH_BACKOFF_BASE: Duration = Duration::from_millis(200);

/// Longest pause after a failed call. Source: none, reasonable default.
pub(crate) const FETCH_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Where the pauses after answers that there was no room for begin: each was charged for and sent in
/// vain, so the first is of up to 3.2 s. Source: none, reasonable default.
const UNREAD_BACKOFF_FROM: u32 = 4;

/// How long a stream or shard may be unknown before it is believed: a child shard can be read a
/// moment later than it is announced. Source: none, reasonable default.
pub(crate) const NOT_FOUND_PATIENCE: Duration = Duration::from_secs(60);

/// What one answer is to hold: what a shard gives in a second. Larger ones bring nothing sooner, since
/// the service makes the reader wait for them afterwards, and hold five times the memory while they
/// are taken apart. Source: the service's quota.
const ANSWER_BYTES: u64 = limits::SHARD_READ_BYTES_PER_SECOND as u64;

/// Records that are asked for while it is not known how large they are: of aggregates of 50 KiB, the
/// KPL's and our producer's default, an answer's worth. Source: none, reasonable default.
const FIRST_RECORDS: u32 = 40;

/// What of a room a record takes whose size is not known. Source: the same aggregates.
const FIRST_RECORD_BYTES: u64 = 50 * limits::KIB as u64;

/// What is around a record's payload and key in the JSON of an answer, in bytes as [`Doorkeeper`] counts
/// a body: names, sequence number, time of arrival, type of encryption and the end of the base64 take
/// 180 characters. Source: the answers of GetRecords, Kinesis API 2013-12-02, rounded up.
///
/// [`Doorkeeper`]: crate::fetch::gate::answer::Doorkeeper
const RECORD_ENVELOPE_BYTES: u64 = 160;

/// What is around the records: the next iterator, and two children at the shard's end. Source: the
/// same.
const ANSWER_ENVELOPE_BYTES: u64 = limits::KIB as u64;

/// One part in so many of a room is left free, since records are not all as large as the mean of those
/// before them: of 50 records of any size up to twice the mean, four standard deviations.
/// Source: none, reasonable default.
const SPARE_PART: u64 = 5;

/// How much later than told the service's time can be: the header that tells it has whole seconds.
const SERVICE_TIME_UNIT_MILLIS: u64 = 1_000;

const _: () = assert!(FETCH_BACKOFF_MAX.as_millis() < NOT_FOUND_PATIENCE.as_millis());

/// Where an iterator is to start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum StartAt {
    TrimHorizon,
    Latest,
    Timestamp { epoch_millis: u64 },
    AtSequence(SequenceNumber),
    AfterSequence(SequenceNumber),
}

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    Wait(Instant),
    Iterator(StartAt),
    Records(String),
}

/// What an answer of `GetRecords` tells about going on.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Absent at the shard's end.
    pub(crate) next_iterator: Option<String>,
    /// The last record of the answer.
    pub(crate) last: Option<SequenceNumber>,
    /// How many there are.
    pub(crate) records: u64,
    /// Payload and keys of the answer, as the service counts them.
    pub(crate) bytes: u64,
    /// What it takes in memory, opened.
    pub(crate) opened_bytes: u64,
    pub(crate) millis_behind_latest: u64,
}

/// Why a call failed, as far as polling is concerned.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// The iterator is too old, or the service does not know it: a new one mends it.
    Iterator,
    /// The stream or the shard is unknown.
    NotFound,
    /// Anything else: wait and try again.
    Other,
}

/// What comes of a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Again, after `pause`; `attempts` calls have failed in a row.
    Again { pause: Duration, attempts: u32 },
    /// The stream or shard has been unknown for too long.
    GiveUp,
}

/// The polling of one shard.
#[derive(Debug)]
pub(crate) struct Poll {
    start: StartAt,
    iterator: Option<String>,
    not_before: Instant,
    bucket: TokenBucket,
    /// Bytes of the last answer: they are charged before the next read.
    owed_bytes: u64,
    /// How large records are expected to be: as the mean of the last answer that had any, or half of what
    /// was expected before, whatever is more. Where small and large ones take turns it stays near the
    /// large ones.
    record_bytes: Option<u64>,
    /// The same of what a record takes in memory, with all user records in it.
    opened_bytes: u64,
    idle: Duration,
    failures: u32,
    /// Answers of one record in a row that there was no room for.
    unread: u32,
    unknown_since: Option<Instant>,
    backoff: Backoff,
    rand: Rand,
}

impl Poll {
    pub(crate) fn new(start: StartAt, idle: Duration, rand: Rand, now: Instant) -> Self {
        let mut rate = TokenBucketRate::per_second(
            limits::SHARD_READS_PER_SECOND as f64,
            limits::SHARD_READ_BYTES_PER_SECOND as f64,
        );
        // The service hands out one full answer at once and makes the reader wait for it later.
        rate.byte_burst = limits::GET_RECORDS_MAX_BYTES as f64;
        Self {
            start,
            iterator: None,
            not_before: now,
            bucket: TokenBucket::new(rate, now),
            owed_bytes: 0,
            record_bytes: None,
            opened_bytes: 0,
            idle,
            failures: 0,
            unread: 0,
            unknown_since: None,
            backoff: Backoff::new(FETCH_BACKOFF_BASE, FETCH_BACKOFF_MAX),
            rand,
        }
    }

    /// What to do now. `Records` takes from the quota, so it is to be followed by the call.
    pub(crate) fn next(&mut self, now: Instant) -> Ask {
        if now < self.not_before {
            return Ask::Wait(self.not_before);
        }
        let Some(iterator) = &self.iterator else {
            return Ask::Iterator(self.start.clone());
        };
        match self.bucket.try_take(1, self.owed_bytes, now) {
            Ok(()) => {
                self.owed_bytes = 0;
                Ask::Records(iterator.clone())
            }
            Err(wait) => Ask::Wait(now + wait.max(Duration::from_millis(1))),
        }
    }

    /// Bytes to have room for before records are asked for: of `most` records what is expected, as they
    /// come or once they are opened, or all that an answer can hold while it is not known how large they
    /// are. What is around the records counts, since the answer's length does not tell it from them.
    pub(crate) fn wanted(&self, most: u32) -> usize {
        let all = limits::GET_RECORDS_MAX_BYTES;
        let Some(bytes) = self.record_bytes else {
            return all;
        };
        let records = u64::from(self.limit(most, all));
        let expected = records.saturating_mul(self.room_of_record(bytes));
        let expected = expected.saturating_add(ANSWER_ENVELOPE_BYTES);
        let wanted = expected.saturating_add(expected.div_ceil(SPARE_PART - 1));
        usize::try_from(wanted).map_or(all, |wanted| wanted.min(all))
    }

    /// How many records to ask for, `most` at most: as many as fill an answer, or the `room` that there
    /// is for it, if they are like those that came last.
    pub(crate) fn limit(&self, most: u32, room: usize) -> u32 {
        let room = room as u64;
        let fitting = match self.record_bytes {
            Some(bytes) => {
                let within = room - room / SPARE_PART;
                let within = within.saturating_sub(ANSWER_ENVELOPE_BYTES);
                (within / self.room_of_record(bytes)).min(ANSWER_BYTES / bytes.max(1))
            }
            None if room >= limits::GET_RECORDS_MAX_BYTES as u64 => u64::from(FIRST_RECORDS),
            None => (room / FIRST_RECORD_BYTES).min(u64::from(FIRST_RECORDS)),
        };
        u32::try_from(fitting.max(1)).map_or(most, |fitting| fitting.min(most))
    }

    /// What a record of `bytes` is expected to take of a room, while it comes and afterwards.
    fn room_of_record(&self, bytes: u64) -> u64 {
        let comes = bytes.saturating_add(RECORD_ENVELOPE_BYTES);
        comes.max(self.opened_bytes)
    }

    /// Nothing was read yet, and reading begins here.
    pub(crate) fn begin(&mut self, start: StartAt) {
        self.start = start;
        self.iterator = None;
    }

    /// An iterator was answered.
    pub(crate) fn on_iterator(&mut self, iterator: String) {
        // Not a success yet: the failures count on until records are answered, or an iterator that
        // is answered and then refused would be asked for again and again without a pause.
        self.iterator = Some(iterator);
        self.unknown_since = None;
    }

    /// Where reading goes on: behind the last record answered.
    pub(crate) fn position(&self) -> StartAt {
        self.start.clone()
    }

    /// Records were answered. Returns whether the shard has ended.
    pub(crate) fn on_answer(&mut self, answer: Answer, now: Instant) -> bool {
        self.failures = 0;
        self.unread = 0;
        self.unknown_since = None;
        self.owed_bytes = answer.bytes;
        if let Some(mean) = answer.bytes.checked_div(answer.records) {
            let least = self.record_bytes.map_or(0, |expected| expected / 2);
            self.record_bytes = Some(mean.max(least));
            let mean = answer.opened_bytes / answer.records;
            self.opened_bytes = mean.max(self.opened_bytes / 2);
        }
        if let Some(last) = answer.last {
            self.start = StartAt::AfterSequence(last);
        }
        let idle = if answer.millis_behind_latest == 0 {
            self.idle
        } else {
            Duration::ZERO
        };
        self.not_before = now + idle;
        let ended = answer.next_iterator.is_none();
        self.iterator = answer.next_iterator;
        ended
    }

    /// An answer of `bytes`, with what is around its records, to a request for `limit` records was not
    /// read, because there is no room for it: fewer records are asked for next, and after a pause where
    /// it was one record.
    pub(crate) fn on_unread(&mut self, limit: u32, bytes: u64, now: Instant) {
        // The service has counted it all the same, but for what is around the records.
        let around = u64::from(limit) * RECORD_ENVELOPE_BYTES + ANSWER_ENVELOPE_BYTES;
        let bytes = bytes.saturating_sub(around);
        self.owed_bytes = bytes;
        let expected = self.record_bytes.unwrap_or(FIRST_RECORD_BYTES);
        let least = bytes / u64::from(limit.max(1));
        let most = limits::GET_RECORDS_MAX_BYTES as u64;
        self.record_bytes = Some(expected.saturating_mul(2).max(least).min(most));
        self.go_on_in_smaller_steps(limit == 1, now);
    }

    /// An answer was read, and dropped unopened because there is no room for what is in it: as above.
    pub(crate) fn on_unopened(&mut self, answer: &Answer, now: Instant) {
        self.owed_bytes = answer.bytes;
        let records = answer.records.max(1);
        self.record_bytes = Some(answer.bytes / records);
        let mean = answer.opened_bytes / records;
        self.opened_bytes = self.opened_bytes.saturating_mul(2).max(mean);
        self.go_on_in_smaller_steps(records == 1, now);
    }

    /// Where steps cannot be smaller, there is a pause.
    fn go_on_in_smaller_steps(&mut self, smallest: bool, now: Instant) {
        if smallest {
            let attempt = self.unread.saturating_add(UNREAD_BACKOFF_FROM);
            self.not_before = now + self.backoff.delay(attempt, &self.rand);
            self.unread = self.unread.saturating_add(1);
        }
    }

    /// A call failed.
    pub(crate) fn on_trouble(&mut self, trouble: Trouble, now: Instant) -> Verdict {
        let attempts = self.failures.saturating_add(1);
        self.failures = attempts;
        if trouble == Trouble::Iterator {
            self.iterator = None;
        }
        // The first iterator that expired is nobody's fault: a new one is asked for at once.
        let pause = if trouble == Trouble::Iterator && attempts == 1 {
            Duration::ZERO
        } else {
            self.backoff.delay(attempts - 1, &self.rand)
        };
        self.not_before = now + pause;
        if trouble == Trouble::NotFound {
            let since = *self.unknown_since.get_or_insert(now);
            if now.duration_since(since) >= NOT_FOUND_PATIENCE {
                return Verdict::GiveUp;
            }
        }
        Verdict::Again { pause, attempts }
    }

    /// The shard is listed after all.
    pub(crate) fn on_found(&mut self) {
        self.unknown_since = None;
    }
}

/// Whether `epoch_millis` was certainly still to come when reading began, at `began_at` or up to a second
/// later: the service tells its time in whole seconds.
pub(crate) fn was_ahead(epoch_millis: u64, began_at: u64) -> bool {
    epoch_millis >= began_at.saturating_add(SERVICE_TIME_UNIT_MILLIS)
}

impl StartAt {
    /// Makes an instant of "latest", at which everybody who reads the shard begins, however long it
    /// takes until a call succeeds and however often one has to be made again.
    pub(crate) fn pinned(self, epoch_millis: u64) -> Self {
        match self {
            Self::Latest => Self::Timestamp { epoch_millis },
            other => other,
        }
    }

    /// Where reading begins for `lease`: the instant that its row was made with, where its checkpoint
    /// stands for one. Rows of the KCL have none.
    pub(crate) fn of_lease(lease: &Lease, initial: InitialPosition) -> Self {
        let stored = match (&lease.checkpoint, lease.starts_at_millis) {
            (Position::AtTimestamp, Some(millis)) => InitialPosition::AtTimestamp(millis),
            _ => initial,
        };
        let start = Self::checkpoint(&lease.checkpoint, stored);
        match lease.starts_at_millis {
            Some(millis) => start.pinned(millis),
            None => start,
        }
    }

    /// Where reading begins for a lease whose checkpoint is `checkpoint`.
    pub(crate) fn checkpoint(checkpoint: &Position, initial: InitialPosition) -> Self {
        match checkpoint {
            Position::At {
                sequence_number, ..
            } => Self::AtSequence(sequence_number.clone()),
            Position::TrimHorizon | Position::ShardEnd => Self::TrimHorizon,
            Position::Latest => Self::Latest,
            // The table says only *that* there is an instant; which one is a setting of the worker.
            Position::AtTimestamp => match initial {
                InitialPosition::AtTimestamp(epoch_millis) => Self::Timestamp { epoch_millis },
                InitialPosition::TrimHorizon | InitialPosition::Latest => Self::TrimHorizon,
            },
        }
    }
}

#[cfg(test)]
mod tests;
