//! What goes in and what comes out: a user record, and where it landed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

pub use kinesis_core::UserRecord;
use kinesis_core::{Position, SequenceNumber, ShardId};

use crate::Error;
use crate::attempts::{FailedAttempt, History};
use crate::pipeline::outcome::Awaiter;

/// Where an acknowledged record stands in the stream.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The shard that took it.
    pub shard_id: ShardId,
    /// The sequence number of the Kinesis record that holds it.
    pub sequence_number: SequenceNumber,
    /// Its place among the members of that Kinesis record's aggregate, from 0; 0 for a record
    /// that was sent by itself.
    pub sub_sequence: u64,
    /// How many PutRecords requests carried it, the successful one included.
    pub attempts: u32,
    /// From acceptance to the request that stored it.
    pub sent_after: Duration,
    /// From that request to its answer.
    pub took: Duration,
    pub(crate) history: History,
}

impl Delivery {
    /// The attempts before the successful one, oldest first: of many the first one and the latest
    /// seven.
    pub fn failed_attempts(&self) -> impl ExactSizeIterator<Item = FailedAttempt<'_>> {
        self.history.iter()
    }

    /// The same place as a reader names it.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::at(self.sequence_number.clone(), self.sub_sequence)
    }
}

/// The outcome of one accepted record, on its way.
///
/// Dropping it does not take the record back: it is delivered all the same, and only its outcome
/// goes unseen. The future is cancel safe: it may be polled by `select!` in a loop.
#[derive(Debug)]
#[must_use = "a dropped outcome goes unseen; await it, or call flush() and count"]
pub struct DeliveryFuture {
    outcome: Awaiter,
}

impl DeliveryFuture {
    pub(crate) fn new(outcome: Awaiter) -> Self {
        Self { outcome }
    }
}

impl Future for DeliveryFuture {
    type Output = Result<Delivery, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // So that a task with many outcomes at hand lets others run, as with tokio's own channels.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let outcome = self.outcome.poll(cx);
        if outcome.is_ready() {
            coop.made_progress();
        }
        outcome
    }
}
