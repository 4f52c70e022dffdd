//! What changes in a channel, in bytes.
//!
//! ```text
//! u8 what │ fields
//!
//! 1 create     u64 stream │ u64 own │ text name │ text role │ u8 format │ maybe schema │ u64 from ms
//!              │ u32 freshness s │ bucket │ text template │ text class │ u8 compression │ bucket │
//!              text prefix │ maybe key │ logging │ maybe failure │ u32 count │ u64 cursor │ … │ tags
//! 2 update     u32 freshness s │ logging
//! 3 delete
//! 4 tags       tags that are set │ u16 count │ key text │ …
//! 5 delivered  u32 shard │ u64 next
//! bucket: text ARN │ text owner   logging: u8 enabled │ maybe group │ maybe stream
//! maybe: text, empty for none
//! ```

use bytes::{Buf as _, Bytes};

use super::super::{Unreadable, put, put_tags, put_text, take_tags, take_text};
use super::{put_texts, take_texts};
use crate::stream::attached::AttachedId;
use crate::stream::channel::change::{Bucket, ChannelChange, Logging, NewChannel};
use crate::stream::channel::object::{Compression, Format};

const CREATE: u8 = 1;
const UPDATE: u8 = 2;
const DELETE: u8 = 3;
const TAGS: u8 = 4;
const DELIVERED: u8 = 5;

const FORMATS: [Format; 3] = [Format::Json, Format::String, Format::ByteArray];
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// Appends the change's bytes.
pub(super) fn encode(change: &ChannelChange, out: &mut Vec<u8>) {
    match change {
        ChannelChange::Create(new) => encode_create(new, out),
        ChannelChange::Update {
            freshness_s,
            logging,
        } => {
            out.push(UPDATE);
            put(out, &freshness_s.to_le_bytes());
            encode_logging(logging, out);
        }
        ChannelChange::Delete => out.push(DELETE),
        ChannelChange::Tags { set, removed } => {
            out.push(TAGS);
            put_tags(out, set);
            put_texts(out, removed);
        }
        ChannelChange::Delivered { shard, next } => {
            out.push(DELIVERED);
            put(out, &shard.to_le_bytes());
            put(out, &next.to_le_bytes());
        }
    }
}

/// Takes the next change off `bytes`.
pub(super) fn decode(bytes: &mut Bytes) -> Result<ChannelChange, Unreadable> {
    Ok(match bytes.try_get_u8()? {
        CREATE => ChannelChange::Create(Box::new(decode_create(bytes)?)),
        UPDATE => ChannelChange::Update {
            freshness_s: bytes.try_get_u32_le()?,
            logging: decode_logging(bytes)?,
        },
        DELETE => ChannelChange::Delete,
        TAGS => ChannelChange::Tags {
            set: take_tags(bytes)?,
            removed: take_texts(bytes)?,
        },
        DELIVERED => ChannelChange::Delivered {
            shard: bytes.try_get_u32_le()?,
            next: bytes.try_get_u64_le()?,
        },
        _ => return Err(Unreadable),
    })
}

fn encode_create(new: &NewChannel, out: &mut Vec<u8>) {
    out.push(CREATE);
    put(out, &new.id.stream.to_le_bytes());
    put(out, &new.id.own.to_le_bytes());
    put_text(out, &new.name);
    put_text(out, &new.role_arn);
    put_one_of(out, &FORMATS, &new.format);
    put_maybe(out, new.schema_arn.as_deref());
    put(out, &new.from_ms.to_le_bytes());
    put(out, &new.freshness_s.to_le_bytes());
    encode_bucket(&new.bucket, out);
    put_text(out, &new.key_template);
    put_text(out, &new.storage_class);
    put_one_of(out, &COMPRESSIONS, &new.compression);
    encode_bucket(&new.errors, out);
    put_text(out, &new.error_prefix);
    put_maybe(out, new.encryption_key.as_deref());
    encode_logging(&new.logging, out);
    put_maybe(out, new.failed.as_deref());
    put(out, &(new.cursors.len() as u32).to_le_bytes());
    for cursor in &new.cursors {
        put(out, &cursor.to_le_bytes());
    }
    put_tags(out, &new.tags);
}

fn decode_create(bytes: &mut Bytes) -> Result<NewChannel, Unreadable> {
    Ok(NewChannel {
        id: AttachedId {
            stream: bytes.try_get_u64_le()?,
            own: bytes.try_get_u64_le()?,
        },
        name: take_text(bytes)?,
        role_arn: take_text(bytes)?,
        format: take_one_of(bytes, &FORMATS)?,
        schema_arn: take_maybe(bytes)?,
        from_ms: bytes.try_get_u64_le()?,
        freshness_s: bytes.try_get_u32_le()?,
        bucket: decode_bucket(bytes)?,
        key_template: take_text(bytes)?,
        storage_class: take_text(bytes)?,
        compression: take_one_of(bytes, &COMPRESSIONS)?,
        errors: decode_bucket(bytes)?,
        error_prefix: take_text(bytes)?,
        encryption_key: take_maybe(bytes)?,
        logging: decode_logging(bytes)?,
        failed: take_maybe(bytes)?,
        cursors: {
            let count = bytes.try_get_u32_le()?;
            let cursors = (0..count).map(|_| bytes.try_get_u64_le());
            cursors.collect::<Result<_, _>>()?
        },
        tags: take_tags(bytes)?,
    })
}

fn encode_bucket(bucket: &Bucket, out: &mut Vec<u8>) {
    put_text(out, &bucket.arn);
    put_text(out, &bucket.owner);
}

fn decode_bucket(bytes: &mut Bytes) -> Result<Bucket, Unreadable> {
    Ok(Bucket {
        arn: take_text(bytes)?,
        owner: take_text(bytes)?,
    })
}

fn encode_logging(logging: &Logging, out: &mut Vec<u8>) {
    out.push(u8::from(logging.enabled));
    put_maybe(out, logging.group.as_deref());
    put_maybe(out, logging.stream.as_deref());
}

fn decode_logging(bytes: &mut Bytes) -> Result<Logging, Unreadable> {
    Ok(Logging {
        enabled: bytes.try_get_u8()? != 0,
        group: take_maybe(bytes)?,
        stream: take_maybe(bytes)?,
    })
}

fn put_one_of<T: PartialEq>(out: &mut Vec<u8>, all: &[T], one: &T) {
    let at = all.iter().position(|other| other == one);
    out.push(at.unwrap_or_default() as u8);
}

fn take_one_of<T: Copy>(bytes: &mut Bytes, all: &[T]) -> Result<T, Unreadable> {
    let at = usize::from(bytes.try_get_u8()?);
    all.get(at).copied().ok_or(Unreadable)
}

fn put_maybe(out: &mut Vec<u8>, text: Option<&str>) {
    put_text(out, text.unwrap_or_default());
}

fn take_maybe(bytes: &mut Bytes) -> Result<Option<String>, Unreadable> {
    Ok(Some(take_text(bytes)?).filter(|text| !text.is_empty()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every kind of change of a channel.
    pub(in super::super) fn changes() -> Vec<ChannelChange> {
        let text = |text: &str| text.to_owned();
        let bucket = Bucket {
            arn: text("arn:aws:s3:::b"),
            owner: text("000000000000"),
        };
        let logging = Logging {
            enabled: true,
            group: Some(text("g")),
            stream: None,
        };
        let new = |format, compression, failed| NewChannel {
            id: AttachedId { stream: 1, own: 7 },
            name: text("c"),
            role_arn: text("role"),
            format,
            schema_arn: None,
            from_ms: 5,
            freshness_s: 300,
            bucket: bucket.clone(),
            key_template: text("t"),
            storage_class: text("STANDARD"),
            compression,
            errors: bucket.clone(),
            error_prefix: text("e/"),
            encryption_key: Some(text("alias/a")),
            logging: logging.clone(),
            failed,
            cursors: vec![1, 2],
            tags: [(text("k"), text("v"))].into(),
        };
        vec![
            ChannelChange::Create(Box::new(new(Format::Json, Compression::Zstd, None))),
            ChannelChange::Create(Box::new(new(
                Format::ByteArray,
                Compression::Gzip,
                Some(text("no bucket")),
            ))),
            ChannelChange::Update {
                freshness_s: 900,
                logging: Logging::default(),
            },
            ChannelChange::Delete,
            ChannelChange::Tags {
                set: [].into(),
                removed: vec![text("k")],
            },
            ChannelChange::Delivered { shard: 3, next: 9 },
        ]
    }
}
