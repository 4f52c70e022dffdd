//! Reading aggregates of any writer.
//!
//! Tolerant where protobuf is: fields in any order, unknown fields, tags, over-long varints, and
//! keys listed but not used. Strict where a guess would change data: a wrong checksum, a cut
//! field, or a table that cannot be read, makes the whole record raw, never a part of it. A member
//! that cannot be read, in a frame that can, costs that member only.

use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest, Md5};

use super::checksum::md5_of_each;
use super::{CHECKSUM_BYTES, MAGIC};
use crate::{HashKey, UserRecord};

/// What a Kinesis record's data turned out to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Deaggregated {
    /// Deliver the record as it is.
    Raw(RawReason),
    /// The user records inside; the index of each is its sub-sequence number. Their data are
    /// slices of the input.
    Members(Vec<UserRecord>),
    /// Some members can be read and some, which are `None`, cannot; indices as above.
    Damaged {
        /// At least one of either.
        members: Vec<Option<UserRecord>>,
        /// What is wrong with the first of those that cannot be read.
        reason: &'static str,
    },
}

/// Why a record is to be delivered as it is.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum RawReason {
    /// It does not begin as an aggregate does: an ordinary record.
    NotAggregated,
    /// It begins as an aggregate but the MD5 at its end is not that of its content: damaged, or an
    /// ordinary record that happens to begin so.
    Checksum,
    /// Its checksum is right but its content is no aggregate; the text says what is wrong.
    Malformed(&'static str),
}

/// Takes an aggregate apart.
///
/// The rules are the KCL's: magic bytes, more than a checksum behind them, a checksum that
/// matches, a content that parses; anything else is an ordinary record. A member that does not parse
/// is left out where others do; the KCL drops all that follow it.
/// Source: KCL 3.5 `AggregatorUtil`.
#[must_use]
pub fn deaggregate(data: &Bytes) -> Deaggregated {
    open(data, |protobuf| Md5::digest(protobuf).into())
}

/// As [`deaggregate`] of each, in their order; the checksums of several are computed at a time. An
/// aggregate is taken apart when it is asked for.
pub fn deaggregate_each<'a>(data: &'a [&'a Bytes]) -> impl Iterator<Item = Deaggregated> + 'a {
    let protobufs: Vec<_> = data.iter().filter_map(|data| frame(data)).collect();
    let protobufs: Vec<_> = protobufs
        .into_iter()
        .map(|(protobuf, _)| protobuf)
        .collect();
    let mut digests = md5_of_each(&protobufs).into_iter();
    data.iter()
        .map(move |data| open(data, |_| digests.next().unwrap_or_default()))
}

/// How many user records a Kinesis record's data can hold at the most: its members if it looks like an
/// aggregate, else one. Nothing is taken apart for it, nor is the checksum looked at.
#[must_use]
pub fn members_at_most(data: &[u8]) -> usize {
    let Some((protobuf, _)) = frame(data) else {
        return 1;
    };
    let is_member = |field: &Result<_, Malformed>| matches!(field, Ok((3, _)));
    Fields(protobuf).filter(is_member).count().max(1)
}

/// What is checked and its checksum, if the record looks like an aggregate.
fn frame(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let framed = data.strip_prefix(&MAGIC)?;
    let len = framed.len().checked_sub(CHECKSUM_BYTES)?;
    (len > 0).then(|| framed.split_at(len))
}

fn open(data: &Bytes, md5: impl FnOnce(&[u8]) -> [u8; CHECKSUM_BYTES]) -> Deaggregated {
    let Some((protobuf, checksum)) = frame(data) else {
        return Deaggregated::Raw(RawReason::NotAggregated);
    };
    if md5(protobuf) != *checksum {
        return Deaggregated::Raw(RawReason::Checksum);
    }
    match members(data, protobuf) {
        Ok(deaggregated) => deaggregated,
        Err(Malformed(what)) => Deaggregated::Raw(RawReason::Malformed(what)),
    }
}

struct Malformed(&'static str);

/// The members in `protobuf`, which is a part of `whole`.
fn members(whole: &Bytes, protobuf: &[u8]) -> Result<Deaggregated, Malformed> {
    let mut keys: Vec<Arc<str>> = Vec::new();
    let mut hash_keys: Vec<HashKey> = Vec::new();
    let mut records = Vec::new();
    for field in Fields(protobuf) {
        match field? {
            (1, Value::Bytes(key)) => keys.push(utf8(key)?.into()),
            (2, Value::Bytes(key)) => {
                let key = utf8(key)?.parse();
                hash_keys.push(key.map_err(|_| Malformed("an explicit hash key is no number"))?);
            }
            (3, Value::Bytes(record)) => records.push(record),
            (1..=3, _) => return Err(Malformed("a field has another type")),
            _ => {}
        }
    }
    let mut members = Vec::with_capacity(records.len());
    let mut records = records
        .into_iter()
        .map(|record| member(whole, record, &keys, &hash_keys));
    while let Some(record) = records.next() {
        match record {
            Ok(member) => members.push(member),
            Err(Malformed(reason)) => return salvage(members, reason, records),
        }
    }
    Ok(Deaggregated::Members(members))
}

/// The members before and behind one that cannot be read.
fn salvage(
    before: Vec<UserRecord>,
    reason: &'static str,
    behind: impl Iterator<Item = Result<UserRecord, Malformed>>,
) -> Result<Deaggregated, Malformed> {
    let mut members: Vec<_> = before.into_iter().map(Some).collect();
    members.push(None);
    members.extend(behind.map(Result::ok));
    if members.iter().all(Option::is_none) {
        return Err(Malformed(reason));
    }
    Ok(Deaggregated::Damaged { members, reason })
}

fn member(
    whole: &Bytes,
    record: &[u8],
    keys: &[Arc<str>],
    hash_keys: &[HashKey],
) -> Result<UserRecord, Malformed> {
    let (mut key_index, mut hash_key_index, mut data) = (None, None, None);
    for field in Fields(record) {
        match field? {
            (1, Value::Varint(index)) => key_index = Some(index),
            (2, Value::Varint(index)) => hash_key_index = Some(index),
            (3, Value::Bytes(bytes)) => data = Some(bytes),
            (1..=3, _) => return Err(Malformed("a record's field has another type")),
            _ => {}
        }
    }
    let key = key_index.ok_or(Malformed("a record has no partition key index"))?;
    let partition_key = lookup(keys, key)?;
    let explicit_hash_key = hash_key_index
        .map(|index| lookup(hash_keys, index))
        .transpose()?;
    let data = data.ok_or(Malformed("a record has no data"))?;
    Ok(UserRecord {
        partition_key,
        explicit_hash_key,
        data: whole.slice_ref(data),
    })
}

fn lookup<T: Clone>(table: &[T], index: u64) -> Result<T, Malformed> {
    let index = usize::try_from(index).ok();
    index
        .and_then(|index| table.get(index))
        .cloned()
        .ok_or(Malformed("an index has no entry"))
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a key is not UTF-8"))
}

/// A protobuf field's content, as far as the format needs it.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Fixed-width numbers, which no field of the format has.
    Other,
}

/// The fields of a protobuf message, front to back; ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.0.iter().enumerate().take(10) {
            // The tenth byte's upper bits fall off, as in every protobuf reader.
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.0 = &self.0[index + 1..];
                return Ok(value);
            }
        }
        Err(Malformed("a number is cut short or too long"))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).ok();
        let (taken, rest) = len
            .and_then(|len| self.0.split_at_checked(len))
            .ok_or(Malformed("a field is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Other)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Other)?,
            _ => return Err(Malformed("a field's wire type is unknown")),
        };
        match tag >> 3 {
            0 => Err(Malformed("a field has number 0")),
            number => Ok((number, value)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
