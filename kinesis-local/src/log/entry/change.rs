//! What changes in a stream, in bytes.
//!
//! ```text
//! u8 what │ fields
//!
//! 1 tags   consumer │ tags that are set │ u16 count │ key text │ …
//! 2 retention  u32 hours
//! 3 scale  u32 count │ u8 0 │ u32 shard │ u128 key, or u8 1 │ u32 shard │ u32 adjacent │ …
//! 4 mode   u8 mode
//! 5 encryption    text key, empty: stopped
//! 6 monitoring    u8 metrics, one bit each
//! 7 record size   u32 most bytes
//! 8 distribution  u8 distribution
//! 9 policy        consumer │ text document, empty: taken away
//! 10 demand       as 3
//! 11 queue policy u64 queue │ text document, empty: taken away
//! 12 warm throughput  u32 MiB/s │ as 3
//! 13 mode with a warm throughput  u8 mode │ as 12
//! 32 queue   u64 queue │ what changes, see `queue`
//! 33 channel u64 channel │ what changes, see `channel`
//! consumer: text, empty for the stream itself
//! ```

use bytes::{Buf as _, Bytes};

use kinesis_core::HashKey;

mod channel;
mod queue;

use super::{
    Unreadable, encode_distribution, encode_mode, put, put_tags, put_text, take_distribution,
    take_mode, take_tags, take_text,
};
use crate::stream::change::{Change, Holder, Warming};
use crate::stream::monitoring::Metrics;
use crate::stream::scale::Step;

const TAGS: u8 = 1;
const RETENTION: u8 = 2;
const SCALE: u8 = 3;
const MODE: u8 = 4;
const ENCRYPTION: u8 = 5;
const MONITORING: u8 = 6;
const RECORD_SIZE: u8 = 7;
const DISTRIBUTION: u8 = 8;
const POLICY: u8 = 9;
const DEMAND: u8 = 10;
const QUEUE_POLICY: u8 = 11;
const WARM: u8 = 12;
const MODE_AND_WARM: u8 = 13;
const QUEUE: u8 = 32;
const CHANNEL: u8 = 33;

const SPLIT: u8 = 0;
const MERGE: u8 = 1;

/// Appends the change's bytes.
pub(super) fn encode(change: &Change, out: &mut Vec<u8>) {
    match change {
        Change::Tags {
            consumer,
            set,
            removed,
        } => {
            out.push(TAGS);
            put_text(out, consumer.as_deref().unwrap_or_default());
            put_tags(out, set);
            put_texts(out, removed);
        }
        Change::Retention { hours } => {
            out.push(RETENTION);
            put(out, &hours.to_le_bytes());
        }
        Change::Scale { steps } => {
            out.push(SCALE);
            encode_steps(steps, out);
        }
        Change::Demand { steps } => {
            out.push(DEMAND);
            encode_steps(steps, out);
        }
        Change::Mode { mode, warm: None } => {
            out.push(MODE);
            out.push(encode_mode(*mode));
        }
        Change::Mode {
            mode,
            warm: Some(warm),
        } => {
            out.push(MODE_AND_WARM);
            out.push(encode_mode(*mode));
            encode_warming(warm, out);
        }
        Change::Warm(warm) => {
            out.push(WARM);
            encode_warming(warm, out);
        }
        Change::Encryption { key } => {
            out.push(ENCRYPTION);
            put_text(out, key);
        }
        Change::Monitoring(metrics) => put(out, &[MONITORING, metrics.0]),
        Change::RecordSize { max_bytes } => {
            out.push(RECORD_SIZE);
            put(out, &max_bytes.to_le_bytes());
        }
        Change::Distribution(distribution) => {
            put(out, &[DISTRIBUTION, encode_distribution(*distribution)]);
        }
        Change::Queue { id, change } => {
            out.push(QUEUE);
            put(out, &id.to_le_bytes());
            queue::encode(change, out);
        }
        Change::Policy { holder, document } => {
            match holder {
                Holder::Stream => {
                    out.push(POLICY);
                    put_text(out, "");
                }
                Holder::Consumer(name) => {
                    out.push(POLICY);
                    put_text(out, name);
                }
                Holder::Queue(id) => {
                    out.push(QUEUE_POLICY);
                    put(out, &id.to_le_bytes());
                }
            }
            put_text(out, document.as_deref().unwrap_or_default());
        }
        Change::Channel { id, change } => {
            out.push(CHANNEL);
            put(out, &id.to_le_bytes());
            channel::encode(change, out);
        }
    }
}

/// Takes the next change off `bytes`.
pub(super) fn decode(bytes: &mut Bytes) -> Result<Change, Unreadable> {
    Ok(match bytes.try_get_u8()? {
        TAGS => Change::Tags {
            consumer: take_filled(bytes)?,
            set: take_tags(bytes)?,
            removed: take_texts(bytes)?,
        },
        RETENTION => Change::Retention {
            hours: bytes.try_get_u32_le()?,
        },
        SCALE => Change::Scale {
            steps: take_steps(bytes)?,
        },
        DEMAND => Change::Demand {
            steps: take_steps(bytes)?,
        },
        MODE => Change::Mode {
            mode: take_mode(bytes)?,
            warm: None,
        },
        MODE_AND_WARM => Change::Mode {
            mode: take_mode(bytes)?,
            warm: Some(take_warming(bytes)?),
        },
        WARM => Change::Warm(take_warming(bytes)?),
        ENCRYPTION => Change::Encryption {
            key: take_text(bytes)?,
        },
        MONITORING => Change::Monitoring(Metrics(bytes.try_get_u8()?)),
        RECORD_SIZE => Change::RecordSize {
            max_bytes: bytes.try_get_u32_le()?,
        },
        DISTRIBUTION => Change::Distribution(take_distribution(bytes)?),
        QUEUE => Change::Queue {
            id: bytes.try_get_u64_le()?,
            change: queue::decode(bytes)?,
        },
        POLICY => Change::Policy {
            holder: take_filled(bytes)?.map_or(Holder::Stream, Holder::Consumer),
            document: take_filled(bytes)?,
        },
        QUEUE_POLICY => Change::Policy {
            holder: Holder::Queue(bytes.try_get_u64_le()?),
            document: take_filled(bytes)?,
        },
        CHANNEL => Change::Channel {
            id: bytes.try_get_u64_le()?,
            change: channel::decode(bytes)?,
        },
        _ => return Err(Unreadable),
    })
}

fn encode_warming(warm: &Warming, out: &mut Vec<u8>) {
    put(out, &warm.target_mibps.to_le_bytes());
    encode_steps(&warm.steps, out);
}

fn take_warming(bytes: &mut Bytes) -> Result<Warming, Unreadable> {
    Ok(Warming {
        target_mibps: bytes.try_get_u32_le()?,
        steps: take_steps(bytes)?,
    })
}

fn encode_steps(steps: &[Step], out: &mut Vec<u8>) {
    put(out, &(steps.len() as u32).to_le_bytes());
    for step in steps {
        encode_step(step, out);
    }
}

fn take_steps(bytes: &mut Bytes) -> Result<Vec<Step>, Unreadable> {
    let count = bytes.try_get_u32_le()?;
    (0..count).map(|_| decode_step(bytes)).collect()
}

fn encode_step(step: &Step, out: &mut Vec<u8>) {
    match step {
        Step::Split { shard, key } => {
            out.push(SPLIT);
            put(out, &shard.to_le_bytes());
            put(out, &key.0.to_le_bytes());
        }
        Step::Merge { shard, adjacent } => {
            out.push(MERGE);
            put(out, &shard.to_le_bytes());
            put(out, &adjacent.to_le_bytes());
        }
    }
}

fn decode_step(bytes: &mut Bytes) -> Result<Step, Unreadable> {
    Ok(match bytes.try_get_u8()? {
        SPLIT => Step::Split {
            shard: bytes.try_get_u32_le()?,
            key: HashKey(bytes.try_get_u128_le()?),
        },
        MERGE => Step::Merge {
            shard: bytes.try_get_u32_le()?,
            adjacent: bytes.try_get_u32_le()?,
        },
        _ => return Err(Unreadable),
    })
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put(out, &(texts.len() as u16).to_le_bytes());
    for text in texts {
        put_text(out, text);
    }
}

fn take_texts(bytes: &mut Bytes) -> Result<Vec<String>, Unreadable> {
    let count = bytes.try_get_u16_le()?;
    (0..count).map(|_| take_text(bytes)).collect()
}

/// A text; empty stands for none.
fn take_filled(bytes: &mut Bytes) -> Result<Option<String>, Unreadable> {
    Ok(Some(take_text(bytes)?).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests;
