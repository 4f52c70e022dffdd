//! What happens to the leases and shards of one consumer, as it happens.
//!
//! ```text
//! HandoffAsked ─▶ LeaseGained ─▶ ShardStarted ─▶ … ─┬▶ ShardEnded ──────▶ LeaseReleased
//! (the leader)                                      ├▶ HandoffRequested ▶ LeaseReleased
//!                                                   ├▶ ShardStopped, StreamNotFound (idle, lease kept)
//!                                                   ├▶ ShardExpired ────▶ ShardEnded ▶ LeaseReleased
//!                                                   └▶ LeaseLost
//! ```
//!
//! [`Consumer::events`](crate::Consumer::events) subscribes. The consumer never waits for a
//! subscriber: one that does not keep up misses the oldest events and is told how many
//! ([`Missed`]). Events are for telling and for tests; what must not be missed belongs into the
//! processor, whose calls are never left out.

use std::fmt;
use std::sync::Arc;

use futures::Stream;
use kinesis_core::{Position, ShardId};
use tokio::sync::broadcast;

/// Events kept for a subscriber that is behind. Source: none, reasonable default: a worker that
/// takes 300 leases at once has about 1,000 events.
const EVENTS_KEPT: usize = 1_024;

/// Something that happened to one shard's lease or processing on this worker.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The stream: its name or ARN as given, or its [`StreamId`](crate::StreamId) where the consumer
    /// reads several.
    pub stream: Arc<str>,
    /// The shard.
    pub shard_id: ShardId,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// This worker holds the lease now.
    LeaseGained {
        /// How it came.
        by: Gain,
    },
    /// This worker, as the leader, asked for the lease to be handed over.
    HandoffAsked {
        /// The worker that holds it.
        from: String,
        /// The worker that is to have it.
        to: String,
    },
    /// Another worker asked for the lease; the shard drains, checkpoints and is released.
    HandoffRequested {
        /// The worker that is to have it.
        to: String,
    },
    /// The lease was given back, or over to the worker that asked for it.
    LeaseReleased,
    /// Another worker has the lease, or it could not be renewed in time.
    LeaseLost,
    /// The processor is about to be initialised.
    ShardStarted {
        /// Reading begins right behind it.
        checkpoint: Position,
    },
    /// The end of the shard is checkpointed: every record was processed, or it has expired before
    /// ([`ShardExpired`](Self::ShardExpired)).
    ShardEnded,
    /// The stream no longer has the shard: retention took it before it was read to its end. What it
    /// held beyond the checkpoint is lost. Its end is stored next, so that its children start.
    ShardExpired {
        /// The last one that was stored. What was processed behind it the processor may still checkpoint.
        checkpoint: Position,
    },
    /// There is no such stream any more: the shard is idle, its lease is kept, and it is not marked as
    /// ended.
    StreamNotFound,
    /// A batch failed for good and [`OnFailure::Stop`](crate::OnFailure::Stop) stopped the shard.
    ShardStopped,
    /// A record was stored as a dead letter.
    DeadLettered {
        /// Of the record.
        position: Position,
    },
}

/// How a lease came to a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
#[non_exhaustive]
pub enum Gain {
    /// Nobody owned it.
    Unowned,
    /// The leader, another worker, gave it to this one.
    Assigned,
    /// Its owner gave no sign of life: a failover.
    Failover,
    /// Its owner handed it over.
    Handoff,
    /// Its owner was asked for it and did not hand it over in time.
    Forced,
}

impl Gain {
    /// As a metric label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unowned => "unowned",
            Self::Assigned => "assigned",
            Self::Failover => "failover",
            Self::Handoff => "handoff",
            Self::Forced => "forced",
        }
    }
}

/// A subscriber was too slow: so many events are gone. What follows is complete again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{events} events were missed")]
pub struct Missed {
    /// How many.
    pub events: u64,
}

/// A subscription to the events of one consumer, from when it was made.
pub struct Events {
    receiver: broadcast::Receiver<Event>,
}

impl Events {
    /// The next event; `None` once the consumer has ended and everything was taken.
    ///
    /// # Errors
    /// [`Missed`] when events were dropped for want of room (1,024 are kept).
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost by dropping the future.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(Err(Missed { events })),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Event, Missed>> + Send + Unpin {
        Box::pin(futures::stream::unfold(self, async |mut events| {
            events.next().await.map(|event| (event, events))
        }))
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// The consumer's end: the subscriptions end when it is dropped, whoever still holds an announcer.
#[derive(Debug)]
pub(crate) struct Hub {
    sender: broadcast::Sender<Event>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            sender: broadcast::Sender::new(EVENTS_KEPT),
        }
    }
}

impl Hub {
    pub(crate) fn subscribe(&self) -> Events {
        Events {
            receiver: self.sender.subscribe(),
        }
    }

    pub(crate) fn announcer(&self) -> Announcer {
        Announcer {
            sender: self.sender.downgrade(),
        }
    }
}

/// Tells the subscribers.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    sender: broadcast::WeakSender<Event>,
}

impl Announcer {
    pub(crate) fn announce(&self, stream: Arc<str>, shard_id: ShardId, kind: EventKind) {
        let event = Event {
            stream,
            shard_id,
            kind,
        };
        if let Some(sender) = self.sender.upgrade() {
            // Nobody listens: that is fine.
            drop(sender.send(event));
        }
    }
}

impl Default for Announcer {
    /// To nobody.
    fn default() -> Self {
        Hub::default().announcer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_that_is_behind_is_told_how_much_it_missed_and_goes_on() {
        let hub = Hub::default();
        let announcer = hub.announcer();
        let mut events = hub.subscribe();
        let announce = |index| {
            let shard = ShardId::from_index(index);
            announcer.announce("flights".into(), shard, EventKind::ShardEnded);
        };
        (0..EVENTS_KEPT as u64 + 3).for_each(announce);
        assert_eq!(events.next().await, Some(Err(Missed { events: 3 })));
        let next = events.next().await.expect("kept").expect("kept");
        assert_eq!(next.shard_id, ShardId::from_index(3));
        drop(hub);
        announce(0);
        let rest = futures::StreamExt::collect::<Vec<_>>(events.into_stream()).await;
        assert_eq!(rest.len(), EVENTS_KEPT - 1);
    }
}
