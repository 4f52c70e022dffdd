//! A processor that checkpoints in two phases: it says beforehand where it is going, with bytes that name
//! the attempt, works, and commits.

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, InitializeInput, PreparedCheckpoint, ProcessRecordsInput, ProcessorError,
    RecordProcessor,
};
use kinesis_core::Position;

use super::{Actor, Asked, end};
use crate::simulation::log::{Call, Event, Pending};

/// Prepares, works and commits, or commits later, or not at all.
pub(super) struct Careful {
    actor: Actor,
    /// How many it has prepared.
    count: u64,
    /// What is prepared and not committed, all of it done.
    prepared: Option<PreparedCheckpoint>,
    /// The end of the last batch that was done, or where it began.
    done: Position,
}

impl Careful {
    pub(super) fn new(actor: Actor) -> Self {
        Self {
            actor,
            count: 0,
            prepared: None,
            done: Position::TrimHorizon,
        }
    }

    async fn prepare(
        &mut self,
        checkpointer: &Checkpointer,
        position: &Position,
    ) -> Result<PreparedCheckpoint, ProcessorError> {
        self.count += 1;
        let state = format!("{} of #{}", self.count, self.actor.instance.number);
        let pending = Pending {
            position: position.clone(),
            state: state.clone(),
        };
        self.actor.log.push(Event::Prepares {
            instance: self.actor.instance.clone(),
            pending: pending.clone(),
        });
        let goes_anywhere = *position > checkpointer.last();
        let prepared = checkpointer.prepare(position, state).await?;
        self.actor
            .is_told(None, Some(pending).filter(|_| goes_anywhere));
        Ok(prepared)
    }

    async fn commit(&self, prepared: &PreparedCheckpoint) -> Result<(), ProcessorError> {
        let position = Some(prepared.position().clone());
        self.actor.log.push(Event::Asks {
            instance: self.actor.instance.clone(),
            position: position.clone(),
        });
        prepared.commit().await?;
        self.actor.is_told(position, None);
        Ok(())
    }

    async fn process(&mut self, input: &ProcessRecordsInput) -> Result<(), ProcessorError> {
        let checkpointer = &input.checkpointer;
        self.actor.is_given(&input.records);
        // What an earlier batch left.
        if let Some(prepared) = self.prepared.take()
            && self.actor.once_in(2)
        {
            self.commit(&prepared).await?;
        }
        let records = input.records.len() as u64;
        let at = match self.actor.rand.below(3) {
            0 => self.actor.rand.below(records),
            _ => records - 1,
        };
        let position = input.records[at as usize].position();
        // Of a batch that comes again this may be checkpointed already, and then nothing is noted.
        let prepared = self.prepare(checkpointer, &position).await?;
        self.actor.work(1).await;
        self.actor.tastes(&input.records)?;
        self.actor.may_fail(1)?;
        match self.actor.rand.below(4) {
            0 => self.prepared = Some(prepared),
            // Any checkpoint puts an end to what is prepared.
            1 => {
                let end = end(input);
                let all = Asked::All(&end);
                self.actor.checkpoint(checkpointer, all).await?;
            }
            _ => self.commit(&prepared).await?,
        }
        Ok(())
    }

    /// Checkpoints at the end of what was done, in two phases or in one.
    async fn finish(
        &mut self,
        checkpointer: &Checkpointer,
        end: Position,
    ) -> Result<(), ProcessorError> {
        self.prepared = None;
        let all = Asked::All(&end);
        if self.actor.once_in(2) {
            return self.actor.checkpoint(checkpointer, all).await;
        }
        let prepared = self.prepare(checkpointer, &end).await?;
        self.actor.work(1).await;
        self.commit(&prepared).await?;
        // A batch that was cut off may have been checkpointed further; and dead letters may have come
        // since.
        self.actor.checkpoint(checkpointer, all).await
    }
}

#[async_trait]
impl RecordProcessor for Careful {
    async fn initialize(&mut self, input: InitializeInput) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Initialize);
        self.actor.begins(&input);
        self.done = input.position;
        self.actor.work(1).await;
        under.over(Ok(()))
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Process);
        let done = self.process(&input).await;
        if done.is_ok() {
            self.done = end(&input);
        }
        under.over(done)
    }

    async fn lease_lost(&mut self) {
        let under = self.actor.enter(Call::LeaseLost);
        drop(under.over(Ok(())));
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::ShardEnded);
        let done = self.finish(&checkpointer, Position::ShardEnd).await;
        under.over(done)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        let under = self.actor.enter(Call::Shutdown);
        let done = self.finish(&checkpointer, self.done.clone()).await;
        under.over(done)
    }
}
