//! A change of a queue: made by an operation, kept in the log, made again by a recovery.

use super::{Attributes, Key, Lane, Queue};
use crate::stream::Stream;
use crate::stream::attached::AttachedId;
use crate::stream::change::Tags;
use crate::stream::shard::Start;

/// Where a queue was asked to begin.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    TrimHorizon,
    Latest,
    /// Milliseconds since the Unix epoch.
    Timestamp(u64),
}

impl Asked {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::Timestamp(_) => "AT_TIMESTAMP",
        }
    }
}

/// Where a queue begins.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct StartingPosition {
    pub(crate) asked: Asked,
    /// The time that this came to, in milliseconds since the Unix epoch.
    pub(crate) effective_ms: u64,
}

impl StartingPosition {
    /// What `asked` comes to on `stream` now.
    pub(crate) fn settle(asked: Asked, stream: &Stream, now_ms: u64) -> Self {
        let readable_from_ms = stream.horizon_ms(now_ms).max(stream.life.created_ms);
        let effective_ms = match asked {
            Asked::TrimHorizon => readable_from_ms,
            Asked::Latest => now_ms,
            Asked::Timestamp(ms) => ms.max(readable_from_ms),
        };
        Self {
            asked,
            effective_ms,
        }
    }
}

/// What CreateQueue asked for, with everything settled that it left open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct NewQueue {
    pub(crate) id: AttachedId,
    pub(crate) name: String,
    pub(crate) attributes: Attributes,
    pub(crate) start: StartingPosition,
    /// The first record that is wanted, by the index of its shard.
    pub(crate) cursors: Vec<u64>,
    pub(crate) tags: Tags,
}

impl NewQueue {
    /// The first record that is wanted of every shard that there is.
    pub(crate) fn cursors(start: StartingPosition, stream: &Stream) -> Vec<u64> {
        let start = match start.asked {
            Asked::TrimHorizon => Start::TrimHorizon,
            Asked::Latest => Start::Latest,
            Asked::Timestamp(_) => Start::Timestamp(start.effective_ms),
        };
        let shards = stream.shards().iter();
        shards.map(|shard| shard.log().seek(start)).collect()
    }
}

/// What changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum QueueChange {
    Create(Box<NewQueue>),
    Update(Attributes),
    Delete,
    Tags {
        set: Tags,
        removed: Vec<String>,
    },
    /// Records go to a receiver, who has them until then.
    Received {
        lane: Lane,
        visible_ms: u64,
        keys: Vec<Key>,
    },
    Handed(Handed),
}

/// What becomes of records that a receiver has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Handed {
    Acknowledged(Vec<Key>),
    /// Until when each stays out of sight.
    Hidden(Vec<(Key, u64)>),
    /// Dead letters start again.
    Restored(Vec<Key>),
}

impl Stream {
    /// Makes a queue's change; the error says why it does not fit.
    pub(crate) fn apply_to_queue(
        &mut self,
        id: u64,
        change: &QueueChange,
        at_ms: u64,
    ) -> Result<(), &'static str> {
        if let QueueChange::Create(new) = change {
            let queue = Queue::create(new, at_ms);
            return match self.queues.insert(id, queue.into()) {
                None => Ok(()),
                Some(_) => Err("a queue was created twice"),
            };
        }
        let queue = self.queues.get_mut(&id).ok_or("a queue is not known")?;
        let queue = queue.get_mut();
        queue
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .apply(change, at_ms);
        Ok(())
    }
}
