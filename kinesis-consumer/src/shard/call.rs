//! One call of a record processor: making it, and telling what came of it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use super::flow::Flow;
use super::hand::Hand;
use super::life::Call;
use crate::checkpoint::Checkpointer;
use crate::error::BoxError;
use crate::lease::HeldLease;
use crate::processor::{InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor};

/// What a call returned, or what it panicked with.
pub(super) type CallResult = Result<Result<(), ProcessorError>, Box<dyn Any + Send>>;

/// What the calls are made with.
pub(super) struct Input<'a> {
    pub(super) lease: &'a HeldLease,
    pub(super) checkpointer: &'a Checkpointer,
    pub(super) hand: Option<&'a Hand>,
    /// In place of it, for a processor that takes batches while it works on others.
    pub(super) flow: Option<Flow<'a>>,
}

/// Makes one call and catches its panic.
pub(super) async fn make(
    processor: &mut dyn RecordProcessor,
    call: Call,
    input: Input<'_>,
) -> CallResult {
    // After a panic the processor is called again: its own documentation says what that asks of it.
    AssertUnwindSafe(invoke(processor, call, input))
        .catch_unwind()
        .await
}

async fn invoke(
    processor: &mut dyn RecordProcessor,
    call: Call,
    input: Input<'_>,
) -> Result<(), ProcessorError> {
    let checkpointer = input.checkpointer.of_delivery();
    match call {
        Call::Initialize => {
            let shard_id = input.lease.shard_id().clone();
            let mut start = InitializeInput::new(shard_id, checkpointer.last());
            start.pending = input.lease.lease().pending_checkpoint;
            processor.initialize(start).await
        }
        Call::Process => match (input.flow, input.hand) {
            (Some(flow), _) => processor.process_flow(flow).await,
            (None, Some(hand)) => {
                let mut input = ProcessRecordsInput::new(Arc::clone(hand.part()), checkpointer);
                input.millis_behind_latest = hand.millis_behind_latest();
                processor.process_records(input).await
            }
            (None, None) => Ok(()),
        },
        Call::LeaseLost => {
            processor.lease_lost().await;
            Ok(())
        }
        Call::ShardEnded => processor.shard_ended(checkpointer).await,
        Call::ShutdownRequested => processor.shutdown_requested(checkpointer).await,
    }
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &BoxError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The text of a panic, if it has one.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}
