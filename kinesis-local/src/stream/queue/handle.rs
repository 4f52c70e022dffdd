//! Receipt handles: one delivery of one record from one queue.
//!
//! Promises: a text that was not made here does not open; two deliveries of a record have two
//! handles. The inside is ours to change and nobody's to rely on.

use super::{Key, Lane};
use crate::stream::attached::AttachedId;
use crate::stream::token::{Opened, Sealer};

/// Tells receipt handles from other sealed texts.
const TOKEN_KIND: u8 = 20;

/// A delivery.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Handle {
    pub(crate) queue: AttachedId,
    pub(crate) key: Key,
    pub(crate) lane: Lane,
    /// The how-manieth delivery of the record it was.
    pub(crate) delivery: u32,
}

/// Why a handle stands for nothing, as far as the queue knows.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// It was not made here.
    Unreadable,
    OtherQueue,
    /// It was received on the other lane than the operation's, which is told.
    OtherLane(Lane),
    /// The record left the operation's lane since.
    LaneChanged(Lane),
    DeliveredAgain,
    /// Acknowledged, or past the stream's retention.
    Gone,
}

impl Handle {
    pub(crate) fn seal(&self) -> String {
        let lane = match self.lane {
            Lane::Normal => 0,
            Lane::DeadLetter => 1,
        };
        Sealer::new(TOKEN_KIND)
            .u64(self.queue.stream)
            .u64(self.queue.own)
            .u64(u64::from(self.key.shard))
            .u64(self.key.counter)
            .u64(u64::from(self.delivery) << 1 | lane)
            .seal()
    }

    pub(crate) fn open(text: &str) -> Result<Self, Refusal> {
        Self::read(text).ok_or(Refusal::Unreadable)
    }

    fn read(text: &str) -> Option<Self> {
        let mut opened = Opened::open(text, TOKEN_KIND)?;
        let queue = AttachedId {
            stream: opened.u64()?,
            own: opened.u64()?,
        };
        let key = Key {
            shard: u32::try_from(opened.u64()?).ok()?,
            counter: opened.u64()?,
        };
        let delivery = opened.u64()?;
        Some(Self {
            queue,
            key,
            lane: match delivery & 1 {
                0 => Lane::Normal,
                _ => Lane::DeadLetter,
            },
            delivery: u32::try_from(delivery >> 1).ok()?,
        })
    }
}

impl Refusal {
    /// The error code and text of the entry with the handle.
    pub(crate) fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Unreadable => (INVALID, "The receipt handle is not valid."),
            Self::OtherQueue => (INVALID, "The receipt handle is of another queue."),
            Self::OtherLane(Lane::Normal) => (
                INVALID,
                "The receipt handle is of a dead-letter record, which has operations of its own.",
            ),
            Self::OtherLane(Lane::DeadLetter) => (
                INVALID,
                "The receipt handle was not returned by ReceiveDeadLetterQueueRecords.",
            ),
            Self::LaneChanged(Lane::Normal) => (
                NOT_FOUND,
                "The record has become a dead-letter record since it was received.",
            ),
            Self::LaneChanged(Lane::DeadLetter) => (
                NOT_FOUND,
                "The record is not a dead-letter record any more.",
            ),
            Self::DeliveredAgain => (
                INVALID,
                "The receipt handle has expired: the record was received again since.",
            ),
            Self::Gone => (
                NOT_FOUND,
                "The record was acknowledged already, or is past the retention of its stream.",
            ),
        }
    }
}

const INVALID: &str = "InvalidArgumentException";
const NOT_FOUND: &str = "ResourceNotFoundException";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_comes_back_from_its_text_and_a_changed_text_does_not_open() {
        let handle = Handle {
            queue: AttachedId { stream: 1, own: 2 },
            key: Key {
                shard: 3,
                counter: 4,
            },
            lane: Lane::DeadLetter,
            delivery: 5,
        };
        let text = handle.seal();
        assert_eq!(Handle::open(&text), Ok(handle));
        let changed = text.replacen('A', "B", 1);
        assert_eq!(Handle::open(&changed), Err(Refusal::Unreadable));
        assert!(text.len() <= 1024);
    }
}
