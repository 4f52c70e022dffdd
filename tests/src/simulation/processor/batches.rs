//! A processor that takes a batch as a whole.

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor,
};

use super::Actor;
use crate::simulation::log::Call;

/// Tells what it is given, and checkpoints it at times, or a part of it.
pub(super) struct Recorder {
    actor: Actor,
}

impl Recorder {
    pub(super) fn new(actor: Actor) -> Self {
        Self { actor }
    }

    /// Checkpoints a first part of the batch, which may end within an aggregate, and goes on.
    async fn checkpoint_part(&self, input: &ProcessRecordsInput) -> Result<(), ProcessorError> {
        let actor = &self.actor;
        let middle = actor.rand.below(input.records.len() as u64) as usize;
        let part = &input.records[..=middle];
        let position = part[middle].position();
        // A batch that comes again may be checkpointed in part already.
        if actor.tastes(part).is_ok() && position > input.checkpointer.last() {
            let checkpointer = &input.checkpointer;
            let checkpointed = actor.checkpoint(checkpointer, Some(&position)).await;
            // Some processors mind, others go on.
            if actor.once_in(2) {
                checkpointed?;
            }
        }
        Ok(())
    }

    async fn process(&self, input: &ProcessRecordsInput) -> Result<(), ProcessorError> {
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
            let checkpointed = actor.checkpoint(&input.checkpointer, None).await;
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
        self.actor.work(1).await;
        under.over(Ok(()))
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Process);
        let done = self.process(&input).await;
        under.over(done)
    }

    async fn lease_lost(&mut self) {
        let under = self.actor.enter(Call::LeaseLost);
        drop(under.over::<ProcessorError>(Ok(())));
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::ShardEnded);
        self.actor.work(1).await;
        let done = self.actor.checkpoint(&checkpointer, None).await;
        under.over(done)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Shutdown);
        let done = self.actor.checkpoint(&checkpointer, None).await;
        under.over(done)
    }
}
