//! How often each operation may be called.
//!
//! Promises: the numbers are the service's unless the settings replace them; a call is counted once
//! it is known to be well-formed and, where it names a stream, once the stream is found. The refusal
//! is `LimitExceededException` in the service's words, and `ThrottlingException` on a queue's records.

use super::Inner;
use super::operation::Operation;
use crate::catalog::StreamCell;
use crate::wire::fault::Fault;

/// What the calls of an operation are counted by.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Scope {
    /// The account, in a region.
    Account,
    Stream,
}

impl Operation {
    /// What its calls are counted by, and the service's number per second; `None`: it has none.
    /// Source: the operations' pages in the API reference.
    fn calls_per_second(self) -> (Scope, Option<u32>) {
        use Scope::{Account, Stream};
        match self {
            Self::DescribeLimits => (Account, Some(1)),
            Self::CreateStream
            | Self::DeleteStream
            | Self::ListStreams
            | Self::SplitShard
            | Self::MergeShards
            | Self::RegisterStreamConsumer
            | Self::AddTagsToStream
            | Self::RemoveTagsFromStream
            | Self::ListTagsForStream
            | Self::CreateChannel
            | Self::DescribeChannel
            | Self::UpdateChannel
            | Self::DeleteChannel
            | Self::ListChannels
            | Self::DescribeAccountSettings
            | Self::UpdateAccountSettings
            | Self::UpdateStreamWarmThroughput => (Account, Some(5)),
            Self::DescribeStream | Self::UpdateShardCount => (Account, Some(10)),
            Self::DescribeStreamSummary => (Account, Some(20)),
            Self::ListStreamConsumers | Self::DeregisterStreamConsumer => (Stream, Some(5)),
            Self::DescribeStreamConsumer => (Stream, Some(20)),
            Self::ListShards => (Stream, Some(1000)),
            // Those on records have limits per shard; of the others the service names none.
            Self::PutRecord
            | Self::PutRecords
            | Self::GetRecords
            | Self::GetShardIterator
            | Self::SubscribeToShard
            | Self::TagResource
            | Self::UntagResource
            | Self::ListTagsForResource
            | Self::IncreaseStreamRetentionPeriod
            | Self::DecreaseStreamRetentionPeriod
            | Self::UpdateStreamMode
            | Self::StartStreamEncryption
            | Self::StopStreamEncryption
            | Self::EnableEnhancedMonitoring
            | Self::DisableEnhancedMonitoring
            | Self::UpdateMaxRecordSize
            | Self::UpdateStreamRecordDistributionStrategy
            | Self::CreateQueue
            | Self::DescribeQueue
            | Self::UpdateQueue
            | Self::DeleteQueue
            | Self::ListQueues
            | Self::ReceiveQueueRecords
            | Self::AcknowledgeQueueRecords
            | Self::UpdateQueueRecordsVisibility
            | Self::ReceiveDeadLetterQueueRecords
            | Self::AcknowledgeDeadLetterQueueRecords
            | Self::RestoreDeadLetterQueueRecords
            | Self::UpdateDeadLetterQueueRecordsVisibility
            | Self::PutResourcePolicy
            | Self::GetResourcePolicy
            | Self::DeleteResourcePolicy => (Account, None),
        }
    }
}

impl Operation {
    /// Whether it receives records of a queue or tells what becomes of them; the model has another
    /// exception for too many of these calls.
    fn is_on_queued_records(self) -> bool {
        matches!(
            self,
            Self::ReceiveQueueRecords
                | Self::AcknowledgeQueueRecords
                | Self::UpdateQueueRecordsVisibility
                | Self::ReceiveDeadLetterQueueRecords
                | Self::AcknowledgeDeadLetterQueueRecords
                | Self::RestoreDeadLetterQueueRecords
                | Self::UpdateDeadLetterQueueRecordsVisibility
        )
    }
}

impl Inner {
    /// Counts a call that names no stream.
    pub(super) fn check_pace(&self) -> Result<(), Fault> {
        match self.calls_allowed() {
            Some((_, calls)) if !self.calls.take(self.operation, calls, self.clock.now()) => {
                let account = &self.place.account;
                Err(Fault::limit_exceeded(format!(
                    "Rate exceeded for account {account}."
                )))
            }
            _ => Ok(()),
        }
    }

    /// Counts a call that names this stream.
    pub(super) fn check_pace_on(&self, cell: &StreamCell) -> Result<(), Fault> {
        let Some((scope, calls)) = self.calls_allowed() else {
            return Ok(());
        };
        let counted = match scope {
            Scope::Account => &self.calls,
            Scope::Stream => &cell.calls,
        };
        if counted.take(self.operation, calls, self.clock.now()) {
            return Ok(());
        }
        let (name, account) = (&cell.name, &cell.place.account);
        let text = format!("Rate exceeded for stream {name} under account {account}.");
        Err(if self.operation.is_on_queued_records() {
            Fault::new("ThrottlingException", text)
        } else {
            Fault::limit_exceeded(text)
        })
    }

    /// How often the operation may be called per second; `None`: as often as one likes.
    fn calls_allowed(&self) -> Option<(Scope, u32)> {
        let quotas = self.quotas.as_ref()?;
        let (scope, of_service) = self.operation.calls_per_second();
        let given = if quotas.calls_per_second.is_empty() {
            None
        } else {
            quotas.calls_per_second.get(&self.operation.name()).copied()
        };
        let calls = given.or(of_service)?;
        (calls > 0).then_some((scope, calls))
    }
}
