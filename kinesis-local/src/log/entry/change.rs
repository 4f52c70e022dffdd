//! What changes in a stream, in bytes.
//!
//! ```text
//! u8 what │ fields
//!
//! 1 tags   consumer │ tags that are set │ u16 count │ key text │ …
//! consumer: text, empty for the stream itself
//! ```

use bytes::{Buf as _, Bytes};

use super::{Unreadable, put, put_tags, put_text, take_tags, take_text};
use crate::stream::change::Change;

const TAGS: u8 = 1;

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
            put(out, &(removed.len() as u16).to_le_bytes());
            for key in removed {
                put_text(out, key);
            }
        }
    }
}

/// Takes the next change off `bytes`.
pub(super) fn decode(bytes: &mut Bytes) -> Result<Change, Unreadable> {
    Ok(match bytes.try_get_u8()? {
        TAGS => Change::Tags {
            consumer: take_consumer(bytes)?,
            set: take_tags(bytes)?,
            removed: {
                let count = bytes.try_get_u16_le()?;
                let keys = (0..count).map(|_| take_text(bytes));
                keys.collect::<Result<_, _>>()?
            },
        },
        _ => return Err(Unreadable),
    })
}

fn take_consumer(bytes: &mut Bytes) -> Result<Option<String>, Unreadable> {
    Ok(Some(take_text(bytes)?).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests;
