//! The records of one shard, in order of acceptance, with the next Kinesis record cut to size.
//!
//! ```text
//! front                                                        back
//! [ forming: what goes into the next Kinesis record ][ rest ......... ]
//!   grows until the next record does not fit (full)     waits its turn
//! ```
//!
//! Invariants: the whole queue is sorted by acceptance, but that records of the key that forms come
//! before those of others if only they share an aggregate; the front is the oldest; `forming` never exceeds
//! `aggregation_max_size` unless it is a single record; a record of that size or more is by
//! itself; entries are encoded only when they are cut, so a new shard map moves records, never
//! finished aggregates.

use std::collections::VecDeque;
use std::sync::Arc;

use kinesis_core::aggregate::Unsealed;
use kinesis_core::{AggregateLayout, HashKey, ShardId, UserRecord};
use tokio::time::Instant;

use super::collect::LaneKey;
use super::intake::Entry;
use super::search::{self, Search};
use crate::{EnvelopeKey, Settings};

/// The partition key of an aggregate's envelope, unless set otherwise. Source: KPL.
const ENVELOPE_KEY: &str = "a";

/// Waiting records that are looked at for those of one key ([`EnvelopeKey::Common`]).
/// Source: none, reasonable default.
const SAME_KEY_SCAN: usize = 500;

/// What may go into an aggregate.
#[derive(Clone, Debug)]
pub(crate) struct AggregateLimits {
    pub(crate) count: usize,
    pub(crate) envelope: EnvelopeKey,
    /// Of the encoded aggregate and the envelope's key together.
    pub(crate) bytes: usize,
}

impl AggregateLimits {
    /// Of a stream whose records have at most `record_bytes_max`.
    pub(crate) fn new(settings: &Settings, record_bytes_max: usize) -> Self {
        let count = if settings.aggregation_enabled {
            settings.aggregation_max_count
        } else {
            1
        };
        Self {
            count,
            envelope: settings.envelope_key,
            bytes: settings.aggregation_max_size.min(record_bytes_max),
        }
    }

    /// For records whose shard is not known: an aggregate would be a guess.
    pub(crate) fn none() -> Self {
        Self {
            count: 1,
            envelope: EnvelopeKey::Constant,
            bytes: 0,
        }
    }
}

/// One record as PutRecords takes it, with the entries it stands for.
#[derive(Debug)]
pub(crate) struct KinesisRecord {
    /// The shard it was cut for; `None` where the map knew none.
    pub(crate) predicted: Option<ShardId>,
    /// Encoded and not yet sent; see [`Self::take_data`].
    data: Option<Unsealed>,
    pub(crate) data_len: usize,
    pub(crate) partition_key: Arc<str>,
    pub(crate) explicit_hash_key: Option<HashKey>,
    /// In order of acceptance; the index is the sub-sequence number.
    pub(crate) members: Vec<Entry>,
    /// The lanes that wait for it: its own, or after a new shard map those its members belong to.
    pub(crate) holds: Vec<LaneKey>,
}

impl KinesisRecord {
    /// What counts against the limits of request and shard.
    pub(crate) fn size(&self) -> usize {
        self.data_len + self.partition_key.len()
    }

    /// Whether all members have the same hash key, so that no shard takes one without the others.
    pub(crate) fn has_one_hash_key(&self) -> bool {
        let mut keys = self.members.windows(2);
        keys.all(|pair| matches!(pair, [a, b] if a.hash_key == b.hash_key))
    }

    /// What PutRecords is to take, in memory of its own: the SDK's request moves it in, and so each
    /// payload is copied once. The request keeps it, so a record that has to go again is encoded
    /// again, from its members.
    pub(crate) fn take_data(&mut self) -> Data {
        match (self.data.take(), self.members.as_slice()) {
            (Some(data), _) => Data::Aggregate(data),
            (None, [single]) => Data::Raw(single.record.data.to_vec()),
            (None, members) => {
                let mut layout = AggregateLayout::new();
                members.iter().for_each(|member| layout.add(&member.record));
                let members = members.iter().map(|member| &member.record);
                Data::Aggregate(layout.encode_unsealed(members))
            }
        }
    }
}

/// What PutRecords is to take of one record, but for the checksum.
#[derive(Debug)]
pub(crate) enum Data {
    Raw(Vec<u8>),
    Aggregate(Unsealed),
}

impl Data {
    /// The bytes of each; the checksums of a request are computed together, which costs half.
    pub(crate) fn seal_each(all: Vec<Self>) -> Vec<Vec<u8>> {
        let mut unsealed = Vec::new();
        let raw = |data| match data {
            Self::Raw(bytes) => Some(bytes),
            Self::Aggregate(aggregate) => {
                unsealed.push(aggregate);
                None
            }
        };
        let all: Vec<_> = all.into_iter().map(raw).collect();
        let mut sealed = Unsealed::seal_each(unsealed).into_iter();
        all.into_iter()
            .filter_map(|raw| raw.or_else(|| sealed.next()))
            .collect()
    }
}

/// The queue of one shard.
#[derive(Debug)]
pub(crate) struct Queue {
    limits: AggregateLimits,
    forming: Vec<Entry>,
    /// The sizes of `forming`, exactly; empty while a single record forms that goes by itself.
    layout: AggregateLayout,
    /// `forming` takes no more.
    full: bool,
    /// Most members that `forming` may have for the sake of one of them.
    company: u32,
    /// Some entry had an explicit hash key since the queue was empty: records of different
    /// partition keys may have an order among each other.
    explicit: bool,
    rest: VecDeque<Entry>,
    /// Members of the last Kinesis record.
    last_cut: usize,
}

impl Queue {
    pub(crate) fn new(limits: AggregateLimits) -> Self {
        Self {
            limits,
            forming: Vec::new(),
            layout: AggregateLayout::new(),
            full: false,
            company: u32::MAX,
            explicit: false,
            rest: VecDeque::new(),
            last_cut: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.forming.is_empty()
    }

    /// Whether waiting longer cannot make the next Kinesis record any better.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// The oldest entry.
    pub(crate) fn head(&self) -> Option<&Entry> {
        self.forming.first()
    }

    /// The search that looks through the next Kinesis record, if one does.
    pub(crate) fn search(&self) -> Option<&Arc<Search>> {
        self.head()?.search.as_ref()
    }

    /// Adds the youngest entry.
    pub(crate) fn push_back(&mut self, entry: Entry) {
        self.explicit |= entry.record.explicit_hash_key.is_some();
        // Among records of one key nothing of another key is overtaken that has an order with it.
        let common = self.limits.envelope == EnvelopeKey::Common;
        let overtakes = !self.rest.is_empty() && (!common || self.overtakes(&entry));
        if !overtakes && self.joins(&entry) {
            self.form(entry);
        } else {
            self.full |= !common || self.is_of_forming(&entry);
            self.rest.push_back(entry);
        }
    }

    /// Puts entries back where they belong by their order of acceptance: nearly always in front.
    pub(crate) fn put_back(&mut self, entries: Vec<Entry>) {
        let common = self.limits.envelope == EnvelopeKey::Common;
        let older = match (entries.last(), self.head()) {
            (Some(last), Some(head)) => last.id < head.id,
            _ => true,
        };
        if older && !common && entries.is_sorted_by_key(|entry| entry.id) {
            // The backlog stays where it is, however long it is.
            self.explicit |= entries.iter().any(|e| e.record.explicit_hash_key.is_some());
            let forming = std::mem::take(&mut self.forming).into_iter();
            for entry in entries.into_iter().chain(forming).rev() {
                self.rest.push_front(entry);
            }
            return self.refill();
        }
        let mut all = VecDeque::from(entries);
        all.extend(std::mem::take(&mut self.forming));
        all.append(&mut self.rest);
        // In order already, except after a merge of shards whose records were both in flight.
        all.make_contiguous().sort_by_key(|entry| entry.id);
        self.explicit |= all.iter().any(|e| e.record.explicit_hash_key.is_some());
        self.rest = all;
        self.refill();
    }

    /// Whether the first record goes by itself, and others wait behind it.
    pub(crate) fn has_one_in_the_way(&self) -> bool {
        self.full && self.forming.len() == 1 && !self.rest.is_empty()
    }

    /// Takes the first record out, so that what waits behind it comes first until it is put back;
    /// `None` if nothing does.
    pub(crate) fn step_aside(&mut self) -> Option<Entry> {
        if !self.has_one_in_the_way() {
            return None;
        }
        let first = self.forming.pop();
        self.refill();
        first
    }

    /// Bytes that [`Self::cut`] gives; 0 if there is nothing.
    pub(crate) fn next_size(&self) -> usize {
        match self.forming.as_slice() {
            [] => 0,
            [single] => single.record.size(),
            [first, ..] => self.layout.encoded_len() + self.envelope_key(first).len(),
        }
    }

    /// The hash key of the next Kinesis record if all its members have the same: that of a single
    /// user record, or of the common partition key.
    pub(crate) fn next_hash_key(&self) -> Option<HashKey> {
        let (first, others) = self.forming.split_first()?;
        let common = self.limits.envelope == EnvelopeKey::Common;
        let same = |other: &Entry| common && other.hash_key == first.hash_key;
        others.iter().all(same).then_some(first.hash_key)
    }

    /// Takes the next Kinesis record out. A single member goes raw with its own key, so that
    /// readers without de-aggregation get it too.
    pub(crate) fn cut(&mut self, predicted: Option<ShardId>) -> Option<KinesisRecord> {
        let mut members = std::mem::take(&mut self.forming);
        let first = members.first()?;
        let (data, data_len, partition_key, explicit_hash_key) = if members.len() == 1 {
            let UserRecord {
                partition_key,
                explicit_hash_key,
                data,
            } = &first.record;
            let partition_key = Arc::clone(partition_key);
            (None, data.len(), partition_key, *explicit_hash_key)
        } else {
            let envelope_key = Arc::from(self.envelope_key(first));
            let hash_key = Some(first.hash_key);
            let members = members.iter().map(|member| &member.record);
            let data = self.layout.encode_unsealed(members);
            let data_len = data.len();
            (Some(data), data_len, envelope_key, hash_key)
        };
        for member in &mut members {
            member.attempts = member.attempts.saturating_add(1);
        }
        self.last_cut = members.len();
        self.refill();
        let holds = vec![predicted.clone()];
        Some(KinesisRecord {
            predicted,
            data,
            data_len,
            partition_key,
            explicit_hash_key,
            members,
            holds,
        })
    }

    /// Takes out what was accepted at `oldest` or before.
    pub(crate) fn expire(&mut self, oldest: Instant) -> Vec<Entry> {
        if self.head().is_none_or(|head| head.accepted_at > oldest) {
            return Vec::new();
        }
        let (expired, kept) = self
            .drain()
            .into_iter()
            .partition(|entry| entry.accepted_at <= oldest);
        self.put_back(kept);
        expired
    }

    /// Takes everything out, in order.
    pub(crate) fn drain(&mut self) -> Vec<Entry> {
        self.clear();
        let mut all = std::mem::take(&mut self.forming);
        all.extend(std::mem::take(&mut self.rest));
        all
    }

    fn clear(&mut self) {
        self.full = false;
        self.company = u32::MAX;
        self.layout.clear();
    }

    fn refill(&mut self) {
        self.clear();
        self.explicit &= !self.rest.is_empty();
        if self.limits.envelope == EnvelopeKey::Common {
            return self.refill_by_key();
        }
        // The next Kinesis record probably takes as many as the last one.
        self.forming.reserve(self.rest.len().min(self.last_cut));
        while let Some(entry) = self.rest.pop_front() {
            if !self.joins(&entry) {
                self.full = true;
                self.rest.push_front(entry);
                return;
            }
            self.form(entry);
        }
    }

    /// Takes the oldest record and those of its key out of what waits, up to one that has to wait.
    fn refill_by_key(&mut self) {
        let Some(first) = self.rest.pop_front() else {
            return;
        };
        // Into what is empty any record goes.
        self.joins(&first);
        self.form(first);
        let beyond = self.rest.split_off(self.rest.len().min(SAME_KEY_SCAN));
        for entry in std::mem::take(&mut self.rest) {
            let of_forming = self.is_of_forming(&entry);
            if of_forming && !self.overtakes(&entry) && self.joins(&entry) {
                self.form(entry);
            } else {
                // Nothing of its key may join any more: it would overtake.
                self.full |= of_forming;
                self.rest.push_back(entry);
            }
        }
        self.full |= !beyond.is_empty();
        self.rest.extend(beyond);
    }

    /// Whether a record of another partition key, but of this one's hash key, waits in `rest`.
    fn overtakes(&self, entry: &Entry) -> bool {
        let same = |waiting: &Entry| waiting.hash_key == entry.hash_key;
        // Beyond the scan it is taken for granted.
        self.explicit && (self.rest.len() > SAME_KEY_SCAN || self.rest.iter().any(same))
    }

    fn is_of_forming(&self, entry: &Entry) -> bool {
        let first = self.forming.first();
        first.is_some_and(|first| first.record.partition_key == entry.record.partition_key)
    }

    /// The partition key of an aggregate that begins with `first`.
    fn envelope_key<'a>(&self, first: &'a Entry) -> &'a str {
        match self.limits.envelope {
            EnvelopeKey::Constant => ENVELOPE_KEY,
            EnvelopeKey::FirstMember | EnvelopeKey::Common => &first.record.partition_key,
        }
    }

    /// Gives `entry` its place in what forms if it may join; whether it did.
    fn joins(&mut self, entry: &Entry) -> bool {
        let common = self.limits.envelope == EnvelopeKey::Common;
        if common && !self.forming.is_empty() && !self.is_of_forming(entry) {
            return false;
        }
        let envelope = self.envelope_key(self.forming.first().unwrap_or(entry));
        let max_len = self.limits.bytes.saturating_sub(envelope.len());
        match (self.forming.is_empty(), self.goes_alone(entry)) {
            (true, true) => true,
            (true, false) => {
                self.layout.add(&entry.record);
                true
            }
            (false, true) => false,
            (false, false) => {
                !self.full
                    && self.forming.len() < self.company.min(entry.company) as usize
                    && search::is_same(self.search(), entry.search.as_ref())
                    && self.layout.add_within(&entry.record, max_len)
            }
        }
    }

    /// Appends an entry that joined.
    fn form(&mut self, entry: Entry) {
        self.company = self.company.min(entry.company);
        let count = self.limits.count.min(self.company as usize);
        self.full = self.goes_alone(&entry) || self.forming.len() + 1 >= count;
        self.forming.push(entry);
    }

    fn goes_alone(&self, entry: &Entry) -> bool {
        entry.company <= 1 || self.limits.count == 1 || entry.record.size() >= self.limits.bytes
    }
}

#[cfg(test)]
mod tests;
