//! One change, and its bytes in the log.
//!
//! ```text
//! u8 kind │ fields             u8, u16, u32, u64, u128 little-endian
//! text    u16 length │ UTF-8   tags   u16 count │ key text │ value text │ …
//!
//! 1 create     u64 id │ text name │ u64 ms │ u8 mode │ u32 shards │ u32 hours │ u32 bytes │ tags
//! 2 delete     u64 stream │ u64 ms
//! 3 split      u64 stream │ u32 shard │ u128 key │ u64 ms
//! 4 merge      u64 stream │ u32 shard │ u32 adjacent │ u64 ms
//! 5 register   u64 stream │ text name │ u64 ms │ tags
//! 6 deregister u64 stream │ text name │ u64 ms
//! 7 records    u64 stream │ u32 shard │ u32 count │
//!              u64 counter │ u64 arrival ms │ u16 key length │ u32 data length │ key │ data │ …
//! 8 change     u64 stream │ u64 ms │ what changes, see `change`
//! 9 create in a place that is not of the settings: text account │ text region │ as in 1
//! 10 create with a distribution   u8 distribution │ an entry that creates
//! 11 records under a key          text key │ as in 7
//! 12 commitment   text account │ text region │ u64 ms │ u8 1: enabled, 0: disabled
//!              account and region are empty for those of the settings
//! 13 create with a warm throughput   u32 MiB/s │ an entry that creates
//! ```
//! Promises: what was encoded decodes to the same; anything else decodes to an error, never to a
//! panic or to more memory than the bytes have. The data of records is not copied.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use kinesis_core::HashKey;

use crate::place::Place;
use crate::stream::change::{Change, Tags};
use crate::stream::distribution::Distribution;
use crate::stream::encryption::Key;
use crate::stream::shard::Record;
use crate::stream::{Mode, NewStream};

mod change;

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    CreateStream(NewStream),
    DeleteStream {
        stream: u64,
        at_ms: u64,
    },
    Split {
        stream: u64,
        shard: u32,
        key: HashKey,
        at_ms: u64,
    },
    Merge {
        stream: u64,
        shard: u32,
        adjacent: u32,
        at_ms: u64,
    },
    RegisterConsumer {
        stream: u64,
        name: String,
        at_ms: u64,
        tags: Tags,
    },
    DeregisterConsumer {
        stream: u64,
        name: String,
        at_ms: u64,
    },
    Records {
        stream: u64,
        shard: u32,
        /// What all of them are encrypted under.
        key: Key,
        records: Vec<Record>,
    },
    Change {
        stream: u64,
        at_ms: u64,
        change: Change,
    },
    /// UpdateAccountSettings.
    Commitment {
        /// `None`: the account and region of the settings, whatever they are.
        place: Option<Arc<Place>>,
        at_ms: u64,
        enabled: bool,
    },
}

/// The bytes are no entry of this version.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an entry cannot be read")]
pub(super) struct Unreadable;

const CREATE: u8 = 1;
const DELETE: u8 = 2;
const SPLIT: u8 = 3;
const MERGE: u8 = 4;
const REGISTER: u8 = 5;
const DEREGISTER: u8 = 6;
const RECORDS: u8 = 7;
const CHANGE: u8 = 8;
const CREATE_IN: u8 = 9;
const CREATE_WITH: u8 = 10;
const RECORDS_UNDER: u8 = 11;
const COMMITMENT: u8 = 12;
const CREATE_WARM: u8 = 13;

const PROVISIONED: u8 = 0;
const ON_DEMAND: u8 = 1;

const USER_PARTITION_KEY: u8 = 0;
const AUTO: u8 = 1;

impl Entry {
    /// Appends the entry's bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::CreateStream(new) => encode_create(new, out),
            Self::DeleteStream { stream, at_ms } => {
                out.push(DELETE);
                put(out, &stream.to_le_bytes());
                put(out, &at_ms.to_le_bytes());
            }
            Self::Split {
                stream,
                shard,
                key,
                at_ms,
            } => {
                out.push(SPLIT);
                put(out, &stream.to_le_bytes());
                put(out, &shard.to_le_bytes());
                put(out, &key.0.to_le_bytes());
                put(out, &at_ms.to_le_bytes());
            }
            Self::Merge {
                stream,
                shard,
                adjacent,
                at_ms,
            } => {
                out.push(MERGE);
                put(out, &stream.to_le_bytes());
                put(out, &shard.to_le_bytes());
                put(out, &adjacent.to_le_bytes());
                put(out, &at_ms.to_le_bytes());
            }
            Self::RegisterConsumer {
                stream,
                name,
                at_ms,
                tags,
            } => {
                out.push(REGISTER);
                put(out, &stream.to_le_bytes());
                put_text(out, name);
                put(out, &at_ms.to_le_bytes());
                put_tags(out, tags);
            }
            Self::DeregisterConsumer {
                stream,
                name,
                at_ms,
            } => {
                out.push(DEREGISTER);
                put(out, &stream.to_le_bytes());
                put_text(out, name);
                put(out, &at_ms.to_le_bytes());
            }
            Self::Records {
                stream,
                shard,
                key,
                records,
            } => {
                match key {
                    None => out.push(RECORDS),
                    Some(key) => {
                        out.push(RECORDS_UNDER);
                        put_text(out, key);
                    }
                }
                put(out, &stream.to_le_bytes());
                put(out, &shard.to_le_bytes());
                put(out, &(records.len() as u32).to_le_bytes());
                for record in records {
                    encode_record(record, out);
                }
            }
            Self::Change {
                stream,
                at_ms,
                change,
            } => {
                out.push(CHANGE);
                put(out, &stream.to_le_bytes());
                put(out, &at_ms.to_le_bytes());
                change::encode(change, out);
            }
            Self::Commitment {
                place,
                at_ms,
                enabled,
            } => {
                out.push(COMMITMENT);
                let place = place.as_deref();
                put_text(out, place.map_or("", |place| &place.account));
                put_text(out, place.map_or("", |place| &place.region));
                put(out, &at_ms.to_le_bytes());
                out.push(u8::from(*enabled));
            }
        }
    }

    /// The highest time that it tells, in milliseconds since the Unix epoch; 0: none.
    pub(super) fn latest_ms(&self) -> u64 {
        match self {
            Self::CreateStream(new) => new.created_ms,
            Self::DeleteStream { at_ms, .. }
            | Self::Split { at_ms, .. }
            | Self::Merge { at_ms, .. }
            | Self::RegisterConsumer { at_ms, .. }
            | Self::DeregisterConsumer { at_ms, .. }
            | Self::Change { at_ms, .. }
            | Self::Commitment { at_ms, .. } => *at_ms,
            Self::Records { records, .. } => {
                let arrivals = records.iter().map(|record| record.arrival_ms);
                arrivals.max().unwrap_or_default()
            }
        }
    }

    /// Takes the next entry off `bytes`.
    pub(super) fn decode(bytes: &mut Bytes) -> Result<Self, Unreadable> {
        let entry = match bytes.try_get_u8()? {
            kind @ (CREATE | CREATE_IN | CREATE_WITH | CREATE_WARM) => {
                Self::CreateStream(decode_create(kind, bytes)?)
            }
            DELETE => Self::DeleteStream {
                stream: bytes.try_get_u64_le()?,
                at_ms: bytes.try_get_u64_le()?,
            },
            SPLIT => Self::Split {
                stream: bytes.try_get_u64_le()?,
                shard: bytes.try_get_u32_le()?,
                key: HashKey(bytes.try_get_u128_le()?),
                at_ms: bytes.try_get_u64_le()?,
            },
            MERGE => Self::Merge {
                stream: bytes.try_get_u64_le()?,
                shard: bytes.try_get_u32_le()?,
                adjacent: bytes.try_get_u32_le()?,
                at_ms: bytes.try_get_u64_le()?,
            },
            REGISTER => Self::RegisterConsumer {
                stream: bytes.try_get_u64_le()?,
                name: take_text(bytes)?,
                at_ms: bytes.try_get_u64_le()?,
                tags: take_tags(bytes)?,
            },
            DEREGISTER => Self::DeregisterConsumer {
                stream: bytes.try_get_u64_le()?,
                name: take_text(bytes)?,
                at_ms: bytes.try_get_u64_le()?,
            },
            RECORDS => decode_records(bytes, None)?,
            RECORDS_UNDER => {
                let key = take_text(bytes)?;
                decode_records(bytes, Some(key.into()))?
            }
            CHANGE => Self::Change {
                stream: bytes.try_get_u64_le()?,
                at_ms: bytes.try_get_u64_le()?,
                change: change::decode(bytes)?,
            },
            COMMITMENT => {
                let (account, region) = (take_text(bytes)?, take_text(bytes)?);
                let named = !account.is_empty() || !region.is_empty();
                Self::Commitment {
                    place: named.then(|| Arc::new(Place::new(&account, &region))),
                    at_ms: bytes.try_get_u64_le()?,
                    enabled: take_flag(bytes)?,
                }
            }
            _ => return Err(Unreadable),
        };
        Ok(entry)
    }
}

fn encode_create(new: &NewStream, out: &mut Vec<u8>) {
    if new.distribution != Distribution::default() {
        out.push(CREATE_WITH);
        out.push(encode_distribution(new.distribution));
    }
    if let Some(mibps) = new.warm_mibps {
        out.push(CREATE_WARM);
        put(out, &mibps.to_le_bytes());
    }
    match &new.place {
        None => out.push(CREATE),
        Some(place) => {
            out.push(CREATE_IN);
            put_text(out, &place.account);
            put_text(out, &place.region);
        }
    }
    put(out, &new.id.to_le_bytes());
    put_text(out, &new.name);
    put(out, &new.created_ms.to_le_bytes());
    out.push(encode_mode(new.mode));
    put(out, &new.shard_count.to_le_bytes());
    put(out, &new.retention_hours.to_le_bytes());
    put(out, &new.record_max_bytes.to_le_bytes());
    put_tags(out, &new.tags);
}

fn decode_create(mut kind: u8, bytes: &mut Bytes) -> Result<NewStream, Unreadable> {
    let mut distribution = Distribution::default();
    if kind == CREATE_WITH {
        distribution = take_distribution(bytes)?;
        kind = bytes.try_get_u8()?;
    }
    let mut warm_mibps = None;
    if kind == CREATE_WARM {
        warm_mibps = Some(bytes.try_get_u32_le()?);
        kind = bytes.try_get_u8()?;
    }
    let place = match kind {
        CREATE => None,
        CREATE_IN => Some(Place::new(&take_text(bytes)?, &take_text(bytes)?)),
        _ => return Err(Unreadable),
    };
    Ok(NewStream {
        id: bytes.try_get_u64_le()?,
        name: take_text(bytes)?.into(),
        place: place.map(Arc::new),
        created_ms: bytes.try_get_u64_le()?,
        mode: take_mode(bytes)?,
        shard_count: bytes.try_get_u32_le()?,
        retention_hours: bytes.try_get_u32_le()?,
        record_max_bytes: bytes.try_get_u32_le()?,
        distribution,
        warm_mibps,
        tags: take_tags(bytes)?,
    })
}

fn encode_mode(mode: Mode) -> u8 {
    match mode {
        Mode::Provisioned => PROVISIONED,
        Mode::OnDemand => ON_DEMAND,
    }
}

fn take_mode(bytes: &mut Bytes) -> Result<Mode, Unreadable> {
    match bytes.try_get_u8()? {
        PROVISIONED => Ok(Mode::Provisioned),
        ON_DEMAND => Ok(Mode::OnDemand),
        _ => Err(Unreadable),
    }
}

fn take_flag(bytes: &mut Bytes) -> Result<bool, Unreadable> {
    match bytes.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Unreadable),
    }
}

fn encode_distribution(distribution: Distribution) -> u8 {
    match distribution {
        Distribution::UserPartitionKey => USER_PARTITION_KEY,
        Distribution::Auto => AUTO,
    }
}

fn take_distribution(bytes: &mut Bytes) -> Result<Distribution, Unreadable> {
    match bytes.try_get_u8()? {
        USER_PARTITION_KEY => Ok(Distribution::UserPartitionKey),
        AUTO => Ok(Distribution::Auto),
        _ => Err(Unreadable),
    }
}

fn decode_records(bytes: &mut Bytes, key: Key) -> Result<Entry, Unreadable> {
    let (stream, shard) = (bytes.try_get_u64_le()?, bytes.try_get_u32_le()?);
    let count = bytes.try_get_u32_le()?;
    let records = (0..count)
        .map(|_| decode_record(bytes, key.clone()))
        .collect::<Result<_, _>>()?;
    Ok(Entry::Records {
        stream,
        shard,
        key,
        records,
    })
}

fn encode_record(record: &Record, out: &mut Vec<u8>) {
    put(out, &record.counter.to_le_bytes());
    put(out, &record.arrival_ms.to_le_bytes());
    // At most 256 characters, so at most 1,024 bytes.
    put(out, &(record.partition_key.len() as u16).to_le_bytes());
    put(out, &(record.data.len() as u32).to_le_bytes());
    put(out, record.partition_key.as_bytes());
    put(out, &record.data);
}

fn decode_record(bytes: &mut Bytes, key: Key) -> Result<Record, Unreadable> {
    let (counter, arrival_ms) = (bytes.try_get_u64_le()?, bytes.try_get_u64_le()?);
    let key_length = usize::from(bytes.try_get_u16_le()?);
    let data_length = bytes.try_get_u32_le()? as usize;
    let partition_key = take(bytes, key_length)?;
    let partition_key = std::str::from_utf8(&partition_key).map_err(|_| Unreadable)?;
    let partition_key = partition_key.into();
    Ok(Record {
        counter,
        arrival_ms,
        partition_key,
        data: take(bytes, data_length)?,
        key,
    })
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // Names and tags have at most 256 characters, keys 2,048, policies 20 KiB.
    put(out, &(text.len() as u16).to_le_bytes());
    put(out, text.as_bytes());
}

fn put_tags(out: &mut Vec<u8>, tags: &Tags) {
    put(out, &(tags.len() as u16).to_le_bytes());
    for (key, value) in tags {
        put_text(out, key);
        put_text(out, value);
    }
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, Unreadable> {
    if length > bytes.len() {
        return Err(Unreadable);
    }
    Ok(bytes.split_to(length))
}

fn take_text(bytes: &mut Bytes) -> Result<String, Unreadable> {
    let length = usize::from(bytes.try_get_u16_le()?);
    String::from_utf8(take(bytes, length)?.to_vec()).map_err(|_| Unreadable)
}

fn take_tags(bytes: &mut Bytes) -> Result<Tags, Unreadable> {
    let count = bytes.try_get_u16_le()?;
    (0..count)
        .map(|_| Ok((take_text(bytes)?, take_text(bytes)?)))
        .collect()
}

impl From<bytes::TryGetError> for Unreadable {
    fn from(_: bytes::TryGetError) -> Self {
        Self
    }
}
