//! A processor that takes a batch as a whole.

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor,
};
use kinesis_core::Position;

use super::{Actor, Asked, end};
use crate::simulation::log::Call;

/// Tells what it is given, and checkpoints it at times, or a part of it.
pub(super) struct Recorder {
    actor: Actor,
    /// The end of the last batch that was done, or where it began.
    done: Position,
}

impl Recorder {
    pub(super) fn new(actor: Actor) -> Self {
        let done = Position::TrimHorizon;
        Self { actor, done }
    }

    /// Checkpoints a first part of the batch, which may end within an aggregate, and goes on.
    async fn checkpoint_part(&self, input: &ProcessRecordsInput) -> Result<(), ProcessorError> {
        let actor = &self.actor;
        let middle = actor.rand.below(input.records.len() as u64) as usize;
        let part = &input.records[..=middle];
        let position = part[middle].position();
        // A batch that comes again may be checkpointed further already.
        if actor.tastes(part).is_ok() {
            let checkpointer = &input.checkpointer;
            let checkpointed = actor.checkpoint(checkpointer, Asked::At(&position)).await;
            // Some processors mind, others go on.
            if actor.once_in(2) {
                checkpointed?;
            }
        }
        Ok(())
    }

    /// Takes the batch, which ends there.
    async fn process(
        &self,
        input: &ProcessRecordsInput,
        end: &Position,
    ) -> Result<(), ProcessorError> {
        let actor = &self.actor;
        actor.is_given(&input.records);
        actor.work(1).await;
        if actor.once_in(4) {
            self.checkpoint_part(input).await?;
            actor.work(1).await;
        }
        actor.tastes(&input.records)?;
        actor.may_fail(1)?;
        if actor.rand.below(3) > 0 {
            let all = Asked::All(end);
            let checkpointed = actor.checkpoint(&input.checkpointer, all).await;
            if actor.once_in(2) {
                checkpointed?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl RecordProcessor for Recorder {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Initialize);
        self.actor.begins(&input);
        self.done = input.position;
        self.actor.work(1).await;
        under.over(Ok(()))
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Process);
        let end = end(&input);
        let done = self.process(&input, &end).await;
        if done.is_ok() {
            self.done = end;
        }
        under.over(done)
    }

    async fn lease_lost(&mut self) {
        let under = self.actor.enter(Call::LeaseLost);
        drop(under.over(Ok(())));
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::ShardEnded);
        self.actor.work(1).await;
        let all = Asked::All(&Position::ShardEnd);
        let done = self.actor.checkpoint(&checkpointer, all).await;
        under.over(done)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Shutdown);
        let all = Asked::All(&self.done);
        let done = self.actor.checkpoint(&checkpointer, all).await;
        under.over(done)
    }
}
