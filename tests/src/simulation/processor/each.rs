//! The consumer's own `for_each` as the processor: what it does is told by its handler, and what is
//! asked of it by what stands around it.

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, Flow, ForEach, InitializeInput, ProcessRecordsInput, ProcessorError, Record,
    RecordProcessor, RecordProcessorFactory, ShardRecord, for_each,
};
use kinesis_core::Position;

use super::{Actor, ending, or_panicked};
use crate::simulation::log::{Call, Ending, Event, Instance, Log};

/// So many records make a batch, where a batch is what is slow or fails.
/// Source: none, about the mean of what the writer puts between two reads.
const RECORDS_PER_BATCH: u64 = 6;

/// Tells of the calls, and lets `for_each` answer them.
pub(super) struct Watched {
    actor: Actor,
    each: Box<dyn RecordProcessor>,
}

impl Watched {
    pub(super) fn new(settings: ForEach, actor: Actor) -> Self {
        let handler = {
            let actor = actor.clone();
            move |record: ShardRecord| handle(actor.clone(), record.record)
        };
        let each = for_each(settings, handler).create(&actor.instance.shard);
        Self { actor, each }
    }
}

async fn handle(actor: Actor, record: Record) -> Result<(), ProcessorError> {
    let position = record.position();
    actor.log.push(Event::Takes {
        instance: actor.instance.clone(),
        position: position.clone(),
    });
    let taken = Taken {
        log: actor.log.clone(),
        instance: actor.instance.clone(),
        position,
        ending: Ending::Dropped,
    };
    actor.work(RECORDS_PER_BATCH).await;
    let tasted = actor.tastes(std::slice::from_ref(&record));
    taken.over(match tasted {
        Ok(()) => actor.may_fail(RECORDS_PER_BATCH),
        poison => poison,
    })
}

/// A record that is being handled; told as dropped unless it is told otherwise.
struct Taken {
    log: Log,
    instance: Instance,
    position: Position,
    ending: Ending,
}

impl Taken {
    fn over(mut self, result: Result<(), ProcessorError>) -> Result<(), ProcessorError> {
        self.ending = ending(&result);
        result
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.log.push(Event::Handled {
            instance: self.instance.clone(),
            position: self.position.clone(),
            ending: or_panicked(self.ending),
        });
    }
}

#[async_trait]
impl RecordProcessor for Watched {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Initialize);
        self.actor.begins(&input);
        let done = self.each.initialize(input).await;
        under.over(done)
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Process);
        self.actor.is_given(&input.records);
        let done = self.each.process_records(input).await;
        under.over(done)
    }

    fn takes_flow(&self) -> bool {
        self.each.takes_flow()
    }

    async fn process_flow(&mut self, flow: Flow<'_>) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Process);
        let actor = self.actor.clone();
        let flow = flow.observed(move |records| actor.is_given(records));
        let done = self.each.process_flow(flow).await;
        under.over(done)
    }

    async fn lease_lost(&mut self) {
        let under = self.actor.enter(Call::LeaseLost);
        self.each.lease_lost().await;
        drop(under.over(Ok(())));
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::ShardEnded);
        let done = self.each.shard_ended(checkpointer).await;
        under.over(done)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Shutdown);
        let done = self.each.shutdown_requested(checkpointer).await;
        under.over(done)
    }
}
