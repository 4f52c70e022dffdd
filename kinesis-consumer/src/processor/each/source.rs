//! Where the records of a call come from, and what is to be done with one that failed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kinesis_core::Position;

use super::progress::Failure;
use crate::checkpoint::Checkpointer;
use crate::processor::{ProcessRecordsInput, StopSignal};
use crate::record::Record;

/// The records of a call: a batch, or a [`Flow`](crate::shard::Flow) of them.
pub(crate) trait Source: Send {
    /// A batch that is there already, of which the call is to take all.
    fn first(&mut self) -> Option<Arc<[Record]>>;

    /// The next batch; `None` if the call gets no more. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Option<Arc<[Record]>>> + Send;

    /// Whether an earlier call was done with the record.
    fn was_done(&self, record: &Record) -> bool;

    /// The record is done.
    fn done(&mut self, record: &Record);

    /// The record is done in so far as it is stored as a dead letter.
    fn buried(&mut self, record: &Record);

    /// All records up to this position are done.
    fn settled(&mut self, up_to: &Position);

    /// The record failed; `beside` others, whose pause is not over.
    fn failed(&mut self, record: &Record, failure: Failure, beside: bool) -> Verdict;

    /// How long records under way may take to finish once the call gives up; `None`: until they do.
    fn patience(&self) -> Option<Duration>;

    /// Of the call.
    fn checkpointer(&self) -> &Checkpointer;

    /// Tells when the call is to return.
    fn stop(&self) -> StopSignal;
}

/// What is to be done with a record that failed.
pub(crate) enum Verdict {
    /// It comes again after a pause in which nothing starts.
    Again(Duration),
    /// It becomes a dead letter, which is stored once this returns true. False only if a stop was requested.
    Bury(BoxFuture<'static, bool>),
    /// The call ends because of it.
    GiveUp(Failure),
}

/// One batch, and no more: its failures are for whoever called.
pub(super) struct Single<'a> {
    input: &'a ProcessRecordsInput,
    is_taken: bool,
    /// Records of a batch that failed or was cut off, and that were done all the same.
    done: &'a mut BTreeSet<Position>,
}

impl<'a> Single<'a> {
    pub(super) fn new(input: &'a ProcessRecordsInput, done: &'a mut BTreeSet<Position>) -> Self {
        Self {
            input,
            is_taken: false,
            done,
        }
    }
}

impl Source for Single<'_> {
    fn first(&mut self) -> Option<Arc<[Record]>> {
        let is_new = !std::mem::replace(&mut self.is_taken, true);
        is_new.then(|| Arc::clone(&self.input.records))
    }

    async fn next(&mut self) -> Option<Arc<[Record]>> {
        None
    }

    fn was_done(&self, record: &Record) -> bool {
        self.done.contains(&record.position())
    }

    fn done(&mut self, record: &Record) {
        self.done.insert(record.position());
    }

    fn buried(&mut self, record: &Record) {
        debug_assert!(false, "its failures are for whoever called");
        self.done(record);
    }

    fn settled(&mut self, _: &Position) {}

    fn failed(&mut self, _: &Record, failure: Failure, _: bool) -> Verdict {
        Verdict::GiveUp(failure)
    }

    fn patience(&self) -> Option<Duration> {
        None
    }

    fn checkpointer(&self) -> &Checkpointer {
        &self.input.checkpointer
    }

    fn stop(&self) -> StopSignal {
        self.input.stop.clone()
    }
}
