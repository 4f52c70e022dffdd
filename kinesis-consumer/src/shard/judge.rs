//! What the result of a call of the processor means, with the log and the count that belong to it.

use kinesis_core::Position;
use tracing::{error, warn};

use super::ShardTask;
use super::call::{CallResult, chain, panic_text};
use super::isolate::Blame;
use super::life::{Call, Returned};
use crate::dead_letter::FailureCause;
use crate::error::{BoxError, Error, ErrorKind};
use crate::metrics;
use crate::processor::ProcessorError;
use crate::settings::OnFailure;

/// What a call's result means.
pub(super) enum Judged {
    Ok,
    /// Failed, and which record is guilty if the processor knows.
    Failed(Blame, Option<Position>),
    Fatal,
}

impl Judged {
    fn failed(cause: FailureCause, error: String, named: Option<Position>) -> Self {
        Self::Failed(Blame { cause, error }, named)
    }
}

impl ShardTask {
    /// What a call's result means, with the log and the failure that belong to it.
    pub(super) fn judge(&mut self, call: Call, attempts: u32, result: CallResult) -> Judged {
        match result {
            Ok(Ok(())) => Judged::Ok,
            Ok(Err(ProcessorError::Retry(cause))) => {
                let error = chain(&cause);
                warn!(?call, attempts, error, "The record processor failed.");
                Judged::failed(FailureCause::Retry, error, None)
            }
            Ok(Err(ProcessorError::Poison(cause))) => self.poisoned(call, attempts, &cause, None),
            Ok(Err(ProcessorError::PoisonAt { position, cause })) => {
                self.poisoned(call, attempts, &cause, Some(position))
            }
            Ok(Err(ProcessorError::Fatal(cause))) => {
                error!(?call, error = %chain(&cause), "The record processor gave up: the shard stops on this worker and the consumer shuts down.");
                let text = format!(
                    "the record processor of shard {} gave up in {call:?}",
                    self.lease.shard_id()
                );
                self.failure = Some(Error::new(ErrorKind::Processor, text).with_source(cause));
                Judged::Fatal
            }
            Err(panic) => {
                self.count(metrics::PROCESSOR_PANICS);
                let error = panic_text(&*panic);
                error!(
                    ?call,
                    attempts,
                    panic = error,
                    "The record processor panicked."
                );
                Judged::failed(FailureCause::Panic, error.to_owned(), None)
            }
        }
    }

    fn poisoned(
        &self,
        call: Call,
        attempts: u32,
        cause: &BoxError,
        named: Option<Position>,
    ) -> Judged {
        let error = chain(cause);
        match self.fetch.settings.on_failure {
            OnFailure::Retry if call == Call::Process => error!(
                ?call,
                attempts,
                error,
                record = named.as_ref().map(tracing::field::display),
                "The record processor cannot process a record. By the setting on_failure it is tried again for ever: the shard does not go on."
            ),
            _ => warn!(
                ?call,
                attempts,
                error,
                record = named.as_ref().map(tracing::field::display),
                "The record processor cannot process a record."
            ),
        }
        Judged::failed(FailureCause::Poison, error, named)
    }

    /// The stored end is what counts, whatever was returned after it.
    pub(super) fn judge_end(&self, attempts: u32, returned: Returned) -> Returned {
        match (self.checkpointer.has_ended(), returned) {
            (true, _) => {
                self.has_ended();
                Returned::Ok
            }
            (false, Returned::Ok) => {
                error!(
                    attempts,
                    "shard_ended returned without checkpointing the end of the shard; it is called again, and the shard's children wait."
                );
                Returned::Again
            }
            (false, other) => other,
        }
    }
}
