//! What becomes of the batch in hand: parts of it are processed, or fail, or are stored as dead
//! letters; the checkpointer is told of each.
//!
//! Invariant: what is told to the checkpointer as delivered ends before the first record that is
//! neither processed nor a stored dead letter, save while a call is under way.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kinesis_core::Position;
use tokio::time::Instant;
use tracing::{error, info};

use super::bury::{bury, tell_not_stored, tell_stored};
use super::hand::Hand;
use super::isolate::Blame;
use super::life::{Buried, Doing, Event, Returned};
use super::{ShardTask, interruptible};
use crate::dead_letter::DeadLetter;
use crate::events::EventKind;
use crate::fetch::FetchContext;
use crate::lease::HeldLease;
use crate::metrics;
#[cfg(feature = "mutations")]
use crate::mutation::{self, Mutation};
use crate::record::Record;

impl ShardTask {
    /// The part in hand failed.
    pub(super) fn failed(&mut self, blame: Blame, named: Option<&Position>) -> Returned {
        self.checkpointer.withdraw();
        let Some(hand) = &mut self.in_hand else {
            return self.failed_in_flow();
        };
        let records = hand.part().len();
        let first = hand.part().first().map(Record::position);
        let next = hand.failed(blame, named);
        #[cfg(feature = "mutations")]
        if next == Returned::Stuck && mutation::is(Mutation::StoppedGoesOn) {
            self.drop_batch();
            return Returned::Ok;
        }
        let first = first.as_ref().map(tracing::field::display);
        match next {
            Returned::Part => {
                self.count(metrics::BATCHES_BISECTED);
                info!(
                    first,
                    records, "A failed batch is divided to find the guilty record."
                );
            }
            Returned::Stuck => {
                self.is_stuck();
                error!(
                    first,
                    records,
                    "A batch failed for good and by the setting on_failure the shard stops. Its lease is kept, idle, until the worker stops: mend the processor and start the worker again."
                );
            }
            Returned::Ok | Returned::Guilty | Returned::Again | Returned::Fatal => {}
        }
        next
    }

    /// The part in hand was processed.
    pub(super) fn processed(&mut self, begun: Instant) -> Returned {
        if !self.out.is_empty() {
            debug_assert!(false, "a processor returned with records out");
            return self.failed_in_flow();
        }
        self.checkpointer.settle();
        let Some(hand) = &mut self.in_hand else {
            return Returned::Ok;
        };
        let (records, data_bytes) = (Arc::clone(hand.part()), hand.data_bytes());
        let returned = hand.processed();
        let took = self.now().duration_since(begun);
        let amount = Amount {
            records: records.len() as u64,
            data_bytes,
        };
        tell_processed(&self.fetch, &self.lease, amount, records.first(), took);
        if returned == Returned::Ok {
            self.drop_batch();
        }
        returned
    }

    /// A call ended before all was settled that it had taken.
    pub(super) fn failed_in_flow(&mut self) -> Returned {
        self.checkpointer.withdraw();
        let Some(position) = self.out.stuck() else {
            return Returned::Again;
        };
        self.is_stuck();
        error!(
            %position,
            "A record failed for good and by the setting on_failure the shard stops. Its lease is kept, idle, until the worker stops: mend the processor and start the worker again."
        );
        Returned::Stuck
    }

    fn is_stuck(&self) {
        self.count(metrics::SHARDS_STOPPED);
        self.announce(EventKind::ShardStopped);
    }

    /// Gives the memory of a batch that is done to others.
    fn drop_batch(&mut self) {
        self.in_hand = None;
        self.fetch.totals.tell();
    }

    /// Makes one attempt to store the guilty record as a dead letter. Only then may it be passed.
    pub(super) async fn bury(&mut self) {
        let letter = self.in_hand.as_ref();
        let letter = letter.and_then(|hand| hand.letter(&self.fetch.stream, &self.lease));
        let (Some(mut letter), Some(destination)) = (letter, self.dead_letters.clone()) else {
            debug_assert!(false, "checked when the consumer was built");
            return self.watch(std::future::pending()).await;
        };
        letter.given_up_at_millis = self.fetch.clock.epoch_millis();
        let mut work = std::pin::pin!(bury(&*destination, &letter));
        let written = loop {
            let mut written = None;
            let watched = (&mut work).map(|result| {
                written = Some(result);
                Event::Buried(Buried::Failed)
            });
            let event = interruptible(&self.life, &self.lease, &self.stop, watched).await;
            if let Some(written) = written {
                break written;
            }
            self.life.on(event, self.now());
            if self.life.doing() != Doing::Bury {
                // Stored or not: the next owner gets the record again.
                return;
            }
        };
        let buried = match written {
            Ok(()) => self.buried(&letter),
            #[cfg(feature = "mutations")]
            Err(_) if mutation::is(Mutation::LetterNotStored) => self.buried(&letter),
            Err(error) => {
                tell_not_stored(&letter, self.life.attempts() + 1, &error);
                Buried::Failed
            }
        };
        self.life.on(Event::Buried(buried), self.now());
    }

    fn buried(&mut self, letter: &DeadLetter) -> Buried {
        tell_stored(letter, &self.lease);
        self.checkpointer.deliver(letter.position());
        self.checkpointer.settle();
        let buried = self.in_hand.as_mut().map_or(Buried::Last, Hand::buried);
        if buried == Buried::Last {
            self.drop_batch();
        }
        buried
    }
}

/// So many user records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) records: u64,
    pub(super) data_bytes: u64,
}

/// A batch, or a part of one, was processed: `amount` of it, from its `first` record on.
pub(super) fn tell_processed(
    fetch: &FetchContext,
    lease: &HeldLease,
    amount: Amount,
    first: Option<&Record>,
    took: Duration,
) {
    let stream = || Arc::clone(&fetch.stream);
    ::metrics::histogram!(metrics::PROCESS_RECORDS_SECONDS, "stream" => stream())
        .record(took.as_secs_f64());
    ::metrics::counter!(metrics::RECORDS_PROCESSED, "stream" => stream()).increment(amount.records);
    ::metrics::counter!(metrics::DATA_BYTES_PROCESSED, "stream" => stream())
        .increment(amount.data_bytes);
    lease.delivered(amount.data_bytes);
    let oldest = first.and_then(|record| record.approximate_arrival_millis);
    if let Some(arrival) = oldest {
        let millis = fetch.clock.epoch_millis().saturating_sub(arrival);
        ::metrics::histogram!(metrics::END_TO_END_SECONDS, "stream" => stream())
            .record(millis as f64 / 1000.0);
    }
}
