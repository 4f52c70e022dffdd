//! Writing aggregates, with the size known in advance.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::checksum::md5_of_each;
use super::{CHECKSUM_BYTES, MAGIC, tag};
use crate::{HashKey, UserRecord};

/// User records on their way into one Kinesis record.
///
/// Invariant: [`Aggregate::encoded_len`] is the length of what [`Aggregate::encode`] returns, and
/// [`Aggregate::size_with`] what it would be with one record more. Both cost O(1).
#[derive(Debug, Default)]
pub struct Aggregate {
    layout: AggregateLayout,
    members: Vec<UserRecord>,
}

impl Aggregate {
    /// An aggregate without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes the aggregate would have with `record` added.
    #[must_use]
    pub fn size_with(&self, record: &UserRecord) -> usize {
        self.layout.place(record).encoded_len
    }

    /// Adds a record behind the others; its index is its sub-sequence number.
    pub fn push(&mut self, record: UserRecord) {
        self.layout.add(&record);
        self.members.push(record);
    }

    /// How many bytes [`Self::encode`] returns.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.layout.encoded_len()
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members in the order they were added.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &UserRecord> {
        self.members.iter()
    }

    /// Gives the members back in the order they were added.
    #[must_use]
    pub fn into_members(self) -> Vec<UserRecord> {
        self.members
    }

    /// The aggregate's bytes. Each payload is copied once. A single member is wrapped too: that a
    /// record alone needs no wrapping is the caller's decision.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.layout.encode(&self.members).into()
    }
}

/// An aggregate that lacks its checksum, which costs less for several at a time.
#[derive(Debug)]
pub struct Unsealed(Vec<u8>);

impl Unsealed {
    /// How many bytes the aggregate has.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The aggregates with their checksums, in their order, in the same memory.
    #[must_use]
    pub fn seal_each(aggregates: Vec<Self>) -> Vec<Vec<u8>> {
        let content = |Self(bytes): &Self| MAGIC.len()..bytes.len() - CHECKSUM_BYTES;
        let contents: Vec<_> = aggregates.iter().map(|a| &a.0[content(a)]).collect();
        let checksums = md5_of_each(&contents);
        let seal = |(aggregate, checksum): (Self, [u8; CHECKSUM_BYTES])| {
            let end = content(&aggregate).end;
            let Self(mut bytes) = aggregate;
            bytes[end..].copy_from_slice(&checksum);
            bytes
        };
        aggregates.into_iter().zip(checksums).map(seal).collect()
    }
}

/// The shape of an aggregate whose members somebody else keeps: their places in the key tables
/// and the exact size, without their data.
///
/// Invariant: as for [`Aggregate`], as long as [`Self::encode`] is given the records that were
/// added, in the order they were.
#[derive(Debug, Default)]
pub struct AggregateLayout {
    members: Vec<Indexes>,
    keys: Table<Arc<str>>,
    hash_keys: Table<HashKey>,
    protobuf_len: usize,
}

/// Where a member's keys stand in the tables.
#[derive(Copy, Clone, Debug)]
struct Indexes {
    key: usize,
    hash_key: Option<usize>,
}

/// What adding a record would come to.
struct Place {
    indexes: Indexes,
    encoded_len: usize,
}

/// Distinct values in the order of first use.
#[derive(Debug)]
struct Table<T> {
    values: Vec<T>,
    index: HashMap<T, usize>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    /// The index of `value`, which would be the table's length if it were new.
    fn find(&self, value: &T) -> usize {
        let found = self.index.get(value);
        found.copied().unwrap_or(self.values.len())
    }

    /// Adds `value` if `index`, which [`Self::find`] gave, says that it is new.
    fn add_at(&mut self, index: usize, value: &T) {
        if index == self.values.len() {
            self.values.push(value.clone());
            self.index.insert(value.clone(), index);
        }
    }

    fn clear(&mut self) {
        self.values.clear();
        self.index.clear();
    }
}

impl AggregateLayout {
    /// A layout without members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record behind the others.
    pub fn add(&mut self, record: &UserRecord) {
        let place = self.place(record);
        self.add_at(&place, record);
    }

    /// Adds a record if the aggregate then has at most `max_len` bytes; whether it did.
    pub fn add_within(&mut self, record: &UserRecord, max_len: usize) -> bool {
        let place = self.place(record);
        let fits = place.encoded_len <= max_len;
        if fits {
            self.add_at(&place, record);
        }
        fits
    }

    /// How many bytes [`Self::encode`] returns.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        MAGIC.len() + self.protobuf_len + CHECKSUM_BYTES
    }

    /// Forgets all members and keeps the memory.
    pub fn clear(&mut self) {
        self.members.clear();
        self.keys.clear();
        self.hash_keys.clear();
        self.protobuf_len = 0;
    }

    /// The aggregate of `members`, which are the records that were added, in that order. Each
    /// payload is copied once, into memory that is as long as the aggregate.
    #[must_use]
    pub fn encode<'a>(&self, members: impl IntoIterator<Item = &'a UserRecord>) -> Vec<u8> {
        let Unsealed(mut out) = self.encode_unsealed(members);
        let content = out.len() - CHECKSUM_BYTES;
        let checksum = Md5::digest(&out[MAGIC.len()..content]);
        out[content..].copy_from_slice(&checksum);
        out
    }

    /// As [`Self::encode`], with the checksum left for [`Unsealed::seal_each`].
    #[must_use]
    pub fn encode_unsealed<'a>(
        &self,
        members: impl IntoIterator<Item = &'a UserRecord>,
    ) -> Unsealed {
        let mut out = Vec::with_capacity(self.encoded_len());
        out.extend_from_slice(&MAGIC);
        for key in &self.keys.values {
            put_delimited(&mut out, tag::KEY_TABLE, key.as_bytes());
        }
        for key in &self.hash_keys.values {
            put_delimited(&mut out, tag::HASH_KEY_TABLE, key.to_string().as_bytes());
        }
        for (indexes, record) in self.members.iter().zip(members) {
            out.push(tag::RECORDS);
            put_varint(&mut out, record_len(*indexes, record.data.len()));
            out.push(tag::KEY_INDEX);
            put_varint(&mut out, indexes.key);
            if let Some(index) = indexes.hash_key {
                out.push(tag::HASH_KEY_INDEX);
                put_varint(&mut out, index);
            }
            put_delimited(&mut out, tag::DATA, &record.data);
        }
        out.extend_from_slice(&[0; CHECKSUM_BYTES]);
        debug_assert_eq!(out.len(), self.encoded_len());
        Unsealed(out)
    }

    fn place(&self, record: &UserRecord) -> Place {
        let mut protobuf_len = self.protobuf_len;
        let key = self.keys.find(&record.partition_key);
        if key == self.keys.values.len() {
            protobuf_len += delimited_len(record.partition_key.len());
        }
        let hash_key = record.explicit_hash_key.map(|value| {
            let index = self.hash_keys.find(&value);
            if index == self.hash_keys.values.len() {
                protobuf_len += delimited_len(decimal_len(value.0));
            }
            index
        });
        let indexes = Indexes { key, hash_key };
        protobuf_len += delimited_len(record_len(indexes, record.data.len()));
        Place {
            indexes,
            encoded_len: MAGIC.len() + protobuf_len + CHECKSUM_BYTES,
        }
    }

    fn add_at(&mut self, place: &Place, record: &UserRecord) {
        self.keys.add_at(place.indexes.key, &record.partition_key);
        if let Some((index, value)) = place.indexes.hash_key.zip(record.explicit_hash_key) {
            self.hash_keys.add_at(index, &value);
        }
        self.members.push(place.indexes);
        self.protobuf_len = place.encoded_len - MAGIC.len() - CHECKSUM_BYTES;
    }
}

/// Bytes of a `Record` message without its own tag and length.
fn record_len(indexes: Indexes, data_len: usize) -> usize {
    let hash_key = indexes.hash_key.map_or(0, |index| 1 + varint_len(index));
    1 + varint_len(indexes.key) + hash_key + delimited_len(data_len)
}

/// Bytes of tag, length and content. Every tag of the format is one byte.
fn delimited_len(content_len: usize) -> usize {
    1 + varint_len(content_len) + content_len
}

fn varint_len(value: usize) -> usize {
    // Seven bits a byte; zero takes one.
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn decimal_len(value: u128) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_delimited(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    put_varint(out, content.len());
    out.extend_from_slice(content);
}
