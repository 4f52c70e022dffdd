//! Writing aggregates, with the size known in advance.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use md5::{Digest, Md5};

use super::{CHECKSUM_BYTES, MAGIC, tag};
use crate::{HashKey, UserRecord};

/// User records on their way into one Kinesis record.
///
/// Invariant: [`Aggregate::encoded_len`] is the length of what [`Aggregate::encode`] returns, and
/// [`Aggregate::size_with`] what it would be with one record more. Both cost O(1).
#[derive(Debug, Default)]
pub struct Aggregate {
    members: Vec<Member>,
    keys: Table<Arc<str>>,
    hash_keys: Table<HashKey>,
    protobuf_len: usize,
}

#[derive(Debug)]
struct Member {
    record: UserRecord,
    key_index: usize,
    hash_key_index: Option<usize>,
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
    /// The index of `value`, and whether it would be new.
    fn find(&self, value: &T) -> (usize, bool) {
        match self.index.get(value) {
            Some(index) => (*index, false),
            None => (self.values.len(), true),
        }
    }

    fn add(&mut self, value: &T) -> usize {
        let (index, new) = self.find(value);
        if new {
            self.values.push(value.clone());
            self.index.insert(value.clone(), index);
        }
        index
    }
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
        MAGIC.len() + self.protobuf_len + self.growth(record) + CHECKSUM_BYTES
    }

    /// Adds a record behind the others; its index is its sub-sequence number.
    pub fn push(&mut self, record: UserRecord) {
        self.protobuf_len += self.growth(&record);
        let key_index = self.keys.add(&record.partition_key);
        let hash_key_index = record.explicit_hash_key.map(|key| self.hash_keys.add(&key));
        self.members.push(Member {
            record,
            key_index,
            hash_key_index,
        });
    }

    /// How many bytes [`Self::encode`] returns.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        MAGIC.len() + self.protobuf_len + CHECKSUM_BYTES
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
        self.members.iter().map(|member| &member.record)
    }

    /// Gives the members back in the order they were added.
    #[must_use]
    pub fn into_members(self) -> Vec<UserRecord> {
        self.members
            .into_iter()
            .map(|member| member.record)
            .collect()
    }

    /// The aggregate's bytes. Each payload is copied once. A single member is wrapped too: that a
    /// record alone needs no wrapping is the caller's decision.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        out.put_slice(&MAGIC);
        for key in &self.keys.values {
            put_delimited(&mut out, tag::KEY_TABLE, key.as_bytes());
        }
        for key in &self.hash_keys.values {
            put_delimited(&mut out, tag::HASH_KEY_TABLE, key.to_string().as_bytes());
        }
        for member in &self.members {
            let data = &member.record.data;
            out.put_u8(tag::RECORDS);
            put_varint(
                &mut out,
                record_len(member.key_index, member.hash_key_index, data.len()),
            );
            out.put_u8(tag::KEY_INDEX);
            put_varint(&mut out, member.key_index);
            if let Some(index) = member.hash_key_index {
                out.put_u8(tag::HASH_KEY_INDEX);
                put_varint(&mut out, index);
            }
            put_delimited(&mut out, tag::DATA, data);
        }
        let checksum = Md5::digest(&out[MAGIC.len()..]);
        out.put_slice(&checksum);
        debug_assert_eq!(out.len(), self.encoded_len());
        out.freeze()
    }

    /// By how many bytes the protobuf grows with `record`.
    fn growth(&self, record: &UserRecord) -> usize {
        let (key_index, new_key) = self.keys.find(&record.partition_key);
        let mut growth = if new_key {
            delimited_len(record.partition_key.len())
        } else {
            0
        };
        let hash_key_index = record.explicit_hash_key.map(|key| {
            let (index, new) = self.hash_keys.find(&key);
            if new {
                growth += delimited_len(decimal_len(key.0));
            }
            index
        });
        growth + delimited_len(record_len(key_index, hash_key_index, record.data.len()))
    }
}

/// Bytes of a `Record` message without its own tag and length.
fn record_len(key_index: usize, hash_key_index: Option<usize>, data_len: usize) -> usize {
    let hash_key = hash_key_index.map_or(0, |index| 1 + varint_len(index));
    1 + varint_len(key_index) + hash_key + delimited_len(data_len)
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

fn put_varint(out: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_delimited(out: &mut BytesMut, tag: u8, content: &[u8]) {
    out.put_u8(tag);
    put_varint(out, content.len());
    out.put_slice(content);
}
