//! What changes in a queue, in bytes.
//!
//! ```text
//! u8 what │ fields
//!
//! 1 create       u64 stream │ u64 own │ text name │ attributes │ start │ u32 count │ u64 cursor │ … │ tags
//! 2 update       attributes
//! 3 delete
//! 4 tags         tags that are set │ u16 count │ key text │ …
//! 5 received     u8 lane │ u64 visible ms │ keys
//! 6 acknowledged keys
//! 7 hidden       u32 count │ key │ u64 visible ms │ …
//! 8 restored     keys
//! attributes: u32 visibility s │ u32 receives, 0 for no end   start: u8 asked │ u64 asked ms │ u64 ms
//! keys: u32 count │ key │ …                                   key: u32 shard │ u64 counter
//! ```

use bytes::{Buf as _, Bytes};

use super::super::{Unreadable, put, put_tags, put_text, take_tags, take_text};
use super::{put_texts, take_texts};
use crate::stream::attached::AttachedId;
use crate::stream::queue::change::{Asked, Handed, NewQueue, QueueChange, StartingPosition};
use crate::stream::queue::{Attributes, Key, Lane};

const CREATE: u8 = 1;
const UPDATE: u8 = 2;
const DELETE: u8 = 3;
const TAGS: u8 = 4;
const RECEIVED: u8 = 5;
const ACKNOWLEDGED: u8 = 6;
const HIDDEN: u8 = 7;
const RESTORED: u8 = 8;

const NORMAL: u8 = 0;
const DEAD_LETTER: u8 = 1;

const TRIM_HORIZON: u8 = 0;
const LATEST: u8 = 1;
const AT_TIMESTAMP: u8 = 2;

/// Appends the change's bytes.
pub(super) fn encode(change: &QueueChange, out: &mut Vec<u8>) {
    match change {
        QueueChange::Create(new) => encode_create(new, out),
        QueueChange::Update(attributes) => {
            out.push(UPDATE);
            encode_attributes(*attributes, out);
        }
        QueueChange::Delete => out.push(DELETE),
        QueueChange::Tags { set, removed } => {
            out.push(TAGS);
            put_tags(out, set);
            put_texts(out, removed);
        }
        QueueChange::Received {
            lane,
            visible_ms,
            keys,
        } => {
            out.push(RECEIVED);
            out.push(match lane {
                Lane::Normal => NORMAL,
                Lane::DeadLetter => DEAD_LETTER,
            });
            put(out, &visible_ms.to_le_bytes());
            encode_keys(keys, out);
        }
        QueueChange::Handed(Handed::Acknowledged(keys)) => {
            out.push(ACKNOWLEDGED);
            encode_keys(keys, out);
        }
        QueueChange::Handed(Handed::Hidden(hidden)) => {
            out.push(HIDDEN);
            put(out, &(hidden.len() as u32).to_le_bytes());
            for (key, visible_ms) in hidden {
                encode_key(*key, out);
                put(out, &visible_ms.to_le_bytes());
            }
        }
        QueueChange::Handed(Handed::Restored(keys)) => {
            out.push(RESTORED);
            encode_keys(keys, out);
        }
    }
}

/// Takes the next change off `bytes`.
pub(super) fn decode(bytes: &mut Bytes) -> Result<QueueChange, Unreadable> {
    Ok(match bytes.try_get_u8()? {
        CREATE => QueueChange::Create(Box::new(decode_create(bytes)?)),
        UPDATE => QueueChange::Update(decode_attributes(bytes)?),
        DELETE => QueueChange::Delete,
        TAGS => QueueChange::Tags {
            set: take_tags(bytes)?,
            removed: take_texts(bytes)?,
        },
        RECEIVED => QueueChange::Received {
            lane: match bytes.try_get_u8()? {
                NORMAL => Lane::Normal,
                DEAD_LETTER => Lane::DeadLetter,
                _ => return Err(Unreadable),
            },
            visible_ms: bytes.try_get_u64_le()?,
            keys: decode_keys(bytes)?,
        },
        ACKNOWLEDGED => QueueChange::Handed(Handed::Acknowledged(decode_keys(bytes)?)),
        HIDDEN => {
            let count = bytes.try_get_u32_le()?;
            let hidden = (0..count).map(|_| Ok((decode_key(bytes)?, bytes.try_get_u64_le()?)));
            let hidden = hidden.collect::<Result<_, Unreadable>>()?;
            QueueChange::Handed(Handed::Hidden(hidden))
        }
        RESTORED => QueueChange::Handed(Handed::Restored(decode_keys(bytes)?)),
        _ => return Err(Unreadable),
    })
}

fn encode_create(new: &NewQueue, out: &mut Vec<u8>) {
    out.push(CREATE);
    put(out, &new.id.stream.to_le_bytes());
    put(out, &new.id.own.to_le_bytes());
    put_text(out, &new.name);
    encode_attributes(new.attributes, out);
    let (asked, asked_ms) = match new.start.asked {
        Asked::TrimHorizon => (TRIM_HORIZON, 0),
        Asked::Latest => (LATEST, 0),
        Asked::Timestamp(ms) => (AT_TIMESTAMP, ms),
    };
    out.push(asked);
    put(out, &asked_ms.to_le_bytes());
    put(out, &new.start.effective_ms.to_le_bytes());
    put(out, &(new.cursors.len() as u32).to_le_bytes());
    for cursor in &new.cursors {
        put(out, &cursor.to_le_bytes());
    }
    put_tags(out, &new.tags);
}

fn decode_create(bytes: &mut Bytes) -> Result<NewQueue, Unreadable> {
    let id = AttachedId {
        stream: bytes.try_get_u64_le()?,
        own: bytes.try_get_u64_le()?,
    };
    let name = take_text(bytes)?;
    let attributes = decode_attributes(bytes)?;
    let asked = bytes.try_get_u8()?;
    let asked_ms = bytes.try_get_u64_le()?;
    let start = StartingPosition {
        asked: match asked {
            TRIM_HORIZON => Asked::TrimHorizon,
            LATEST => Asked::Latest,
            AT_TIMESTAMP => Asked::Timestamp(asked_ms),
            _ => return Err(Unreadable),
        },
        effective_ms: bytes.try_get_u64_le()?,
    };
    let count = bytes.try_get_u32_le()?;
    let cursors = (0..count).map(|_| bytes.try_get_u64_le());
    Ok(NewQueue {
        id,
        name,
        attributes,
        start,
        cursors: cursors.collect::<Result<_, _>>()?,
        tags: take_tags(bytes)?,
    })
}

fn encode_attributes(attributes: Attributes, out: &mut Vec<u8>) {
    put(out, &attributes.visibility_s.to_le_bytes());
    let receives = attributes.max_receives.unwrap_or(0);
    put(out, &receives.to_le_bytes());
}

fn decode_attributes(bytes: &mut Bytes) -> Result<Attributes, Unreadable> {
    Ok(Attributes {
        visibility_s: bytes.try_get_u32_le()?,
        max_receives: Some(bytes.try_get_u32_le()?).filter(|&receives| receives > 0),
    })
}

fn encode_keys(keys: &[Key], out: &mut Vec<u8>) {
    put(out, &(keys.len() as u32).to_le_bytes());
    for key in keys {
        encode_key(*key, out);
    }
}

fn decode_keys(bytes: &mut Bytes) -> Result<Vec<Key>, Unreadable> {
    let count = bytes.try_get_u32_le()?;
    (0..count).map(|_| decode_key(bytes)).collect()
}

fn encode_key(key: Key, out: &mut Vec<u8>) {
    put(out, &key.shard.to_le_bytes());
    put(out, &key.counter.to_le_bytes());
}

fn decode_key(bytes: &mut Bytes) -> Result<Key, Unreadable> {
    Ok(Key {
        shard: bytes.try_get_u32_le()?,
        counter: bytes.try_get_u64_le()?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every kind of change of a queue.
    pub(in super::super) fn changes() -> Vec<QueueChange> {
        let key = |counter| Key { shard: 3, counter };
        let new = |asked, max_receives| NewQueue {
            id: AttachedId { stream: 1, own: 7 },
            name: "q".to_owned(),
            attributes: Attributes {
                visibility_s: 30,
                max_receives,
            },
            start: StartingPosition {
                asked,
                effective_ms: 5,
            },
            cursors: vec![1, 2, 3],
            tags: [("k".to_owned(), "v".to_owned())].into(),
        };
        vec![
            QueueChange::Create(Box::new(new(Asked::Timestamp(4), Some(6)))),
            QueueChange::Create(Box::new(new(Asked::Latest, None))),
            QueueChange::Update(new(Asked::TrimHorizon, None).attributes),
            QueueChange::Delete,
            QueueChange::Tags {
                set: [].into(),
                removed: vec!["k".to_owned()],
            },
            QueueChange::Received {
                lane: Lane::DeadLetter,
                visible_ms: 8,
                keys: vec![key(1), key(2)],
            },
            QueueChange::Handed(Handed::Acknowledged(vec![key(1)])),
            QueueChange::Handed(Handed::Hidden(vec![(key(1), 9), (key(2), 10)])),
            QueueChange::Handed(Handed::Restored(vec![key(2)])),
        ]
    }
}
