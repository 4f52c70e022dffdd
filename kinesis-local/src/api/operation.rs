//! The operations of the service's model, by the name in `X-Amz-Target`.

/// The service and version before the operation's name.
const TARGET_PREFIX: &str = "Kinesis_20131202.";

/// What a request asks for. Source: API model of 2026-11-17 (57 operations).
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Operation {
    PutRecord,
    PutRecords,
    GetRecords,
    GetShardIterator,
    SubscribeToShard,
    CreateStream,
    DeleteStream,
    ListStreams,
    DescribeStream,
    DescribeStreamSummary,
    ListShards,
    SplitShard,
    MergeShards,
    RegisterStreamConsumer,
    DescribeStreamConsumer,
    ListStreamConsumers,
    DeregisterStreamConsumer,
    AddTagsToStream,
    RemoveTagsFromStream,
    ListTagsForStream,
    TagResource,
    UntagResource,
    ListTagsForResource,
    IncreaseStreamRetentionPeriod,
    DecreaseStreamRetentionPeriod,
    UpdateShardCount,
    DescribeLimits,
    UpdateStreamMode,
    StartStreamEncryption,
    StopStreamEncryption,
    EnableEnhancedMonitoring,
    DisableEnhancedMonitoring,
    UpdateMaxRecordSize,
    UpdateStreamRecordDistributionStrategy,
    CreateChannel,
    DescribeChannel,
    UpdateChannel,
    DeleteChannel,
    ListChannels,
    CreateQueue,
    DescribeQueue,
    UpdateQueue,
    DeleteQueue,
    ListQueues,
    ReceiveQueueRecords,
    AcknowledgeQueueRecords,
    UpdateQueueRecordsVisibility,
    ReceiveDeadLetterQueueRecords,
    AcknowledgeDeadLetterQueueRecords,
    RestoreDeadLetterQueueRecords,
    UpdateDeadLetterQueueRecordsVisibility,
    PutResourcePolicy,
    GetResourcePolicy,
    DeleteResourcePolicy,
    DescribeAccountSettings,
    UpdateAccountSettings,
    UpdateStreamWarmThroughput,
}

impl Operation {
    /// The name in the model.
    pub(super) fn name(self) -> String {
        format!("{self:?}") // the variants have the model's names
    }

    /// Whether the model lists `InternalFailureException` for it.
    pub(crate) fn lists_internal_failure(self) -> bool {
        match self {
            Self::PutRecord
            | Self::PutRecords
            | Self::GetRecords
            | Self::GetShardIterator
            | Self::TagResource
            | Self::UntagResource
            | Self::ListTagsForResource
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
            | Self::DeleteResourcePolicy => true,
            Self::SubscribeToShard
            | Self::CreateStream
            | Self::DeleteStream
            | Self::ListStreams
            | Self::DescribeStream
            | Self::DescribeStreamSummary
            | Self::ListShards
            | Self::SplitShard
            | Self::MergeShards
            | Self::RegisterStreamConsumer
            | Self::DescribeStreamConsumer
            | Self::ListStreamConsumers
            | Self::DeregisterStreamConsumer
            | Self::AddTagsToStream
            | Self::RemoveTagsFromStream
            | Self::ListTagsForStream
            | Self::IncreaseStreamRetentionPeriod
            | Self::DecreaseStreamRetentionPeriod
            | Self::UpdateShardCount
            | Self::DescribeLimits
            | Self::UpdateStreamMode
            | Self::StartStreamEncryption
            | Self::StopStreamEncryption
            | Self::EnableEnhancedMonitoring
            | Self::DisableEnhancedMonitoring
            | Self::UpdateMaxRecordSize
            | Self::UpdateStreamRecordDistributionStrategy
            | Self::CreateChannel
            | Self::DescribeChannel
            | Self::UpdateChannel
            | Self::DeleteChannel
            | Self::ListChannels
            | Self::DescribeAccountSettings
            | Self::UpdateAccountSettings
            | Self::UpdateStreamWarmThroughput => false,
        }
    }

    /// The operation in the target header; `None`: not one of the service's.
    pub(crate) fn from_target(target: &str) -> Option<Self> {
        Some(match target.strip_prefix(TARGET_PREFIX)? {
            "PutRecord" => Self::PutRecord,
            "PutRecords" => Self::PutRecords,
            "GetRecords" => Self::GetRecords,
            "GetShardIterator" => Self::GetShardIterator,
            "SubscribeToShard" => Self::SubscribeToShard,
            "CreateStream" => Self::CreateStream,
            "DeleteStream" => Self::DeleteStream,
            "ListStreams" => Self::ListStreams,
            "DescribeStream" => Self::DescribeStream,
            "DescribeStreamSummary" => Self::DescribeStreamSummary,
            "ListShards" => Self::ListShards,
            "SplitShard" => Self::SplitShard,
            "MergeShards" => Self::MergeShards,
            "RegisterStreamConsumer" => Self::RegisterStreamConsumer,
            "DescribeStreamConsumer" => Self::DescribeStreamConsumer,
            "ListStreamConsumers" => Self::ListStreamConsumers,
            "DeregisterStreamConsumer" => Self::DeregisterStreamConsumer,
            "AddTagsToStream" => Self::AddTagsToStream,
            "RemoveTagsFromStream" => Self::RemoveTagsFromStream,
            "ListTagsForStream" => Self::ListTagsForStream,
            "TagResource" => Self::TagResource,
            "UntagResource" => Self::UntagResource,
            "ListTagsForResource" => Self::ListTagsForResource,
            "IncreaseStreamRetentionPeriod" => Self::IncreaseStreamRetentionPeriod,
            "DecreaseStreamRetentionPeriod" => Self::DecreaseStreamRetentionPeriod,
            "UpdateShardCount" => Self::UpdateShardCount,
            "DescribeLimits" => Self::DescribeLimits,
            "UpdateStreamMode" => Self::UpdateStreamMode,
            "PutResourcePolicy" => Self::PutResourcePolicy,
            "GetResourcePolicy" => Self::GetResourcePolicy,
            "DeleteResourcePolicy" => Self::DeleteResourcePolicy,
            "StartStreamEncryption" => Self::StartStreamEncryption,
            "StopStreamEncryption" => Self::StopStreamEncryption,
            "EnableEnhancedMonitoring" => Self::EnableEnhancedMonitoring,
            "DisableEnhancedMonitoring" => Self::DisableEnhancedMonitoring,
            "UpdateMaxRecordSize" => Self::UpdateMaxRecordSize,
            "UpdateStreamRecordDistributionStrategy" => {
                Self::UpdateStreamRecordDistributionStrategy
            }
            "CreateChannel" => Self::CreateChannel,
            "DescribeChannel" => Self::DescribeChannel,
            "UpdateChannel" => Self::UpdateChannel,
            "DeleteChannel" => Self::DeleteChannel,
            "ListChannels" => Self::ListChannels,
            "CreateQueue" => Self::CreateQueue,
            "DescribeQueue" => Self::DescribeQueue,
            "UpdateQueue" => Self::UpdateQueue,
            "DeleteQueue" => Self::DeleteQueue,
            "ListQueues" => Self::ListQueues,
            "ReceiveQueueRecords" => Self::ReceiveQueueRecords,
            "AcknowledgeQueueRecords" => Self::AcknowledgeQueueRecords,
            "UpdateQueueRecordsVisibility" => Self::UpdateQueueRecordsVisibility,
            "ReceiveDeadLetterQueueRecords" => Self::ReceiveDeadLetterQueueRecords,
            "AcknowledgeDeadLetterQueueRecords" => Self::AcknowledgeDeadLetterQueueRecords,
            "RestoreDeadLetterQueueRecords" => Self::RestoreDeadLetterQueueRecords,
            "UpdateDeadLetterQueueRecordsVisibility" => {
                Self::UpdateDeadLetterQueueRecordsVisibility
            }
            "DescribeAccountSettings" => Self::DescribeAccountSettings,
            "UpdateAccountSettings" => Self::UpdateAccountSettings,
            "UpdateStreamWarmThroughput" => Self::UpdateStreamWarmThroughput,
            _ => return None, // a name, not an operation
        })
    }
}

/// Whether the service's model has an operation of this name.
pub(crate) fn is_known(name: &str) -> bool {
    Operation::from_target(&format!("{TARGET_PREFIX}{name}")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_another_service_or_version_is_unknown() {
        let known = Operation::from_target("Kinesis_20131202.PutRecord");
        assert_eq!(known, Some(Operation::PutRecord));
        for target in [
            "",
            "PutRecord",
            "Kinesis_20131202.",
            "Kinesis_20131202.Put",
            "Kinesis_2013.PutRecord",
        ] {
            assert_eq!(Operation::from_target(target), None, "{target}");
        }
    }
}
