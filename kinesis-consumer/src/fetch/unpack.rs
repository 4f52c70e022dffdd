//! From the stream records of one answer to the user records of one batch, without any I/O.
//!
//! - Aggregates are opened; member `i` gets sub-sequence number `i`.
//! - Records at or before the position the shard resumes from are skipped, also inside of an
//!   aggregate: reading starts *at* the checkpointed sequence number, because the checkpoint may lie
//!   in the middle of its aggregate.
//! - A member that cannot be read, in an aggregate of which others can, is dropped and counted; the
//!   others keep their sub-sequence numbers.
//! - A record that begins like an aggregate and cannot be opened is delivered as it is, and counted:
//!   bytes are never thrown away because they look wrong.
//! - A member whose hash key is outside of the shard's range is marked, with the part of the key space
//!   that its aggregate spans, to be dropped and counted where the producer certainly sends it again
//!   (`placement`). It got here because the producer
//!   aggregated by an older shard map; the producer sees from the answer's shard id that it
//!   mispredicted and sends such members again, to the shard that owns them. (The KCL drops the whole
//!   aggregate.) Without a known range nothing is marked. Plain records never are: the service itself
//!   put them here.

use std::sync::Arc;

use bytes::Bytes;
use kinesis_core::aggregate::{deaggregate_each, members_at_most};
use kinesis_core::{
    Deaggregated, HashKey, HashKeyRange, Position, RawReason, SequenceNumber, UserRecord,
};

use crate::record::Record;

/// What a stream record has on the heap besides payload and key: its sequence number, which its user
/// records share, and what is around it and the key. Source: sizes of the allocations, rounded up.
const STREAM_RECORD_BYTES: usize = 128;

/// One record of an answer of `GetRecords`.
#[derive(Clone, Debug)]
pub(crate) struct StreamRecord {
    pub(crate) sequence_number: SequenceNumber,
    pub(crate) partition_key: Arc<str>,
    pub(crate) data: Bytes,
    pub(crate) approximate_arrival_millis: Option<u64>,
}

/// What an answer takes in memory once it is opened, at the most: payload and keys as they came, of which
/// members are parts, what is around each, and each user record.
pub(crate) fn opened_bytes(answer: &[StreamRecord]) -> usize {
    let opened = |record: &StreamRecord| {
        record.memory() + members_at_most(&record.data) * size_of::<Record>()
    };
    answer.iter().map(opened).sum()
}

impl StreamRecord {
    /// What it takes in memory without its user records.
    fn memory(&self) -> usize {
        self.data.len() + self.partition_key.len() + STREAM_RECORD_BYTES
    }
}

/// Opens the answers of one shard, in order.
#[derive(Debug)]
pub(crate) struct Unpacker {
    range: Option<HashKeyRange>,
    resume: Resume,
}

/// Where the reader stands relative to the checkpoint it resumes from.
#[derive(Debug)]
enum Resume {
    /// Past it, or there is none.
    Passed,
    /// No record seen yet; the first ought to be the checkpointed one.
    Looking(SequenceNumber, u64),
    /// At the checkpointed stream record: its members up to the sub-sequence number are done.
    Within(SequenceNumber, u64),
}

/// What an answer held.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    pub(crate) records: Vec<Record>,
    /// What the records take in memory.
    pub(crate) bytes: usize,
    /// Members that belong to another shard, ascending.
    pub(crate) foreign: Vec<Foreign>,
    /// Stream records that look like aggregates and are not, delivered raw; with what is wrong
    /// with the last of them.
    pub(crate) corrupt: u64,
    /// Members that cannot be read, dropped.
    pub(crate) corrupt_members: u64,
    pub(crate) corrupt_reason: Option<&'static str>,
    /// Set when the checkpointed record is no longer in the stream: the first record after the gap.
    pub(crate) gap_before: Option<SequenceNumber>,
}

/// A member whose hash key is outside of the shard's range.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Foreign {
    /// Which of the records it is.
    pub(crate) at: usize,
    /// From the lowest to the highest hash key of its aggregate, itself included.
    pub(crate) span: HashKeyRange,
}

impl Unpacker {
    /// Opens answers that begin at `start`'s sequence number.
    pub(crate) fn new(start: &Position, range: Option<HashKeyRange>) -> Self {
        let resume = match start {
            Position::At {
                sequence_number,
                sub_sequence,
            } => Resume::Looking(sequence_number.clone(), *sub_sequence),
            _ => Resume::Passed,
        };
        Self { range, resume }
    }

    pub(crate) fn unpack(&mut self, answer: Vec<StreamRecord>) -> Unpacked {
        let mut unpacked = Unpacked::default();
        let count = answer.len();
        let data: Vec<_> = answer.iter().map(|record| record.data.clone()).collect();
        let data: Vec<_> = data.iter().collect();
        let opened = deaggregate_each(&data).enumerate();
        for (stream_record, (opened, inside)) in answer.into_iter().zip(opened) {
            let records = &mut unpacked.records;
            let per_record = records.len().div_ceil(opened.max(1));
            if records.capacity() - records.len() < per_record {
                // The others probably hold as many: no growing, and copying, by and by.
                records.reserve_exact(per_record * (count - opened));
            }
            let (memory, already) = (stream_record.memory(), unpacked.records.len());
            self.open(stream_record, inside, &mut unpacked);
            let user_records = unpacked.records.len() - already;
            if user_records > 0 {
                unpacked.bytes += memory + user_records * size_of::<Record>();
            }
        }
        unpacked
    }

    /// The checkpoint that reading resumed from, as long as neither its record nor a later one
    /// was seen.
    pub(crate) fn unseen_checkpoint(&self) -> Option<&SequenceNumber> {
        match &self.resume {
            Resume::Looking(checkpoint, _) => Some(checkpoint),
            Resume::Passed | Resume::Within(..) => None,
        }
    }

    fn open(&mut self, from: StreamRecord, inside: Deaggregated, into: &mut Unpacked) {
        let Some(first_new) = self.first_new_member(&from.sequence_number, into) else {
            return;
        };
        match inside {
            Deaggregated::Members(members) => {
                let mut span = None;
                let already = into.foreign.len();
                for (sub_sequence, member) in (0_u64..).zip(members) {
                    self.member(&from, sub_sequence, first_new, member, &mut span, into);
                }
                into.spans(already, span);
            }
            Deaggregated::Damaged { members, reason } => {
                into.corrupt_reason = Some(reason);
                let mut span = None;
                let already = into.foreign.len();
                for (sub_sequence, member) in (0_u64..).zip(members) {
                    match member {
                        Some(member) => {
                            self.member(&from, sub_sequence, first_new, member, &mut span, into);
                        }
                        None => into.corrupt_members += u64::from(sub_sequence >= first_new),
                    }
                }
                into.spans(already, span);
            }
            Deaggregated::Raw(reason) => {
                if let Some(reason) = broken(reason) {
                    into.corrupt += 1;
                    into.corrupt_reason = Some(reason);
                }
                if first_new == 0 {
                    into.records.push(Record {
                        partition_key: from.partition_key,
                        explicit_hash_key: None,
                        data: from.data,
                        sequence_number: from.sequence_number,
                        sub_sequence: 0,
                        aggregated: false,
                        approximate_arrival_millis: from.approximate_arrival_millis,
                    });
                }
            }
        }
    }

    fn member(
        &self,
        from: &StreamRecord,
        sub_sequence: u64,
        first_new: u64,
        member: UserRecord,
        span: &mut Option<(HashKey, HashKey)>,
        into: &mut Unpacked,
    ) {
        if let Some(range) = self.range {
            let key = member.hash_key();
            let (low, high) = span.unwrap_or((key, key));
            *span = Some((low.min(key), high.max(key)));
            if sub_sequence >= first_new && !range.contains(key) {
                let at = into.records.len();
                // What it is to span is known behind the last member.
                into.foreign.push(Foreign { at, span: range });
            }
        }
        if sub_sequence < first_new {
            return;
        }
        into.records.push(Record {
            partition_key: member.partition_key,
            explicit_hash_key: member.explicit_hash_key,
            data: member.data,
            sequence_number: from.sequence_number.clone(),
            sub_sequence,
            aggregated: true,
            approximate_arrival_millis: from.approximate_arrival_millis,
        });
    }

    /// The first sub-sequence number of this stream record that is new; `None` if none can be.
    fn first_new_member(
        &mut self,
        sequence_number: &SequenceNumber,
        into: &mut Unpacked,
    ) -> Option<u64> {
        let (checkpointed, sub_sequence, looking) = match &self.resume {
            Resume::Passed => return Some(0),
            Resume::Looking(checkpointed, sub_sequence) => (checkpointed, *sub_sequence, true),
            Resume::Within(checkpointed, sub_sequence) => (checkpointed, *sub_sequence, false),
        };
        if sequence_number < checkpointed {
            return None;
        }
        if sequence_number == checkpointed {
            self.resume = Resume::Within(sequence_number.clone(), sub_sequence);
            return sub_sequence.checked_add(1);
        }
        if looking {
            into.gap_before = Some(sequence_number.clone());
        }
        self.resume = Resume::Passed;
        Some(0)
    }
}

impl Unpacked {
    /// The aggregate whose foreign members are those behind `already` spans this.
    fn spans(&mut self, already: usize, span: Option<(HashKey, HashKey)>) {
        let span = span.and_then(|(low, high)| HashKeyRange::new(low, high));
        if let (Some(span), Some(foreign)) = (span, self.foreign.get_mut(already..)) {
            foreign.iter_mut().for_each(|member| member.span = span);
        }
    }

    /// Takes those members of other shards out that `goes` says of; how many they are.
    pub(crate) fn drop_foreign(&mut self, goes: impl Fn(&Foreign) -> bool) -> u64 {
        self.foreign.retain(goes);
        let mut foreign = self.foreign.iter().map(|member| member.at).peekable();
        let mut at = 0;
        self.records.retain(|_| {
            let drops = foreign.next_if_eq(&at).is_some();
            at += 1;
            !drops
        });
        // Their payload is a part of their aggregate's, which stays.
        self.bytes -= self.foreign.len() * size_of::<Record>();
        self.foreign.len() as u64
    }
}

/// What is wrong with a record that claims to be an aggregate.
fn broken(reason: RawReason) -> Option<&'static str> {
    match reason {
        RawReason::NotAggregated => None,
        RawReason::Checksum => Some("its checksum does not match"),
        RawReason::Malformed(what) => Some(what),
    }
}

#[cfg(test)]
mod tests;
