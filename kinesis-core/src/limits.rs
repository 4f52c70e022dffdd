//! Every quota of the service that more than one crate needs, with its source.
//!
//! "Quotas" is the developer guide's page "Quotas and limits"; "model" is the service's API model
//! (2013-12-02, 57 operations); an operation's name is its page in the API reference.

use std::time::Duration;

/// One kibibyte, in bytes.
pub const KIB: usize = 1024;
/// One mebibyte, in bytes.
pub const MIB: usize = 1024 * KIB;

/// The most characters of a partition key; the least is 1. Source: model, `PartitionKey`.
pub const PARTITION_KEY_MAX_CHARS: usize = 256;
/// The most digits of a sequence number. Source: model, `SequenceNumber`.
pub const SEQUENCE_NUMBER_MAX_DIGITS: usize = 129;
/// Data plus partition key of one record, in bytes, unless the stream was given another maximum.
/// Source: Quotas; `UpdateMaxRecordSize`.
pub const RECORD_MAX_BYTES_DEFAULT: usize = MIB;
/// The largest maximum record size a stream may be given, in bytes. Source: `UpdateMaxRecordSize`.
pub const RECORD_MAX_BYTES_LARGEST: usize = 10 * MIB;

/// The most entries of one PutRecords request. Source: model, `PutRecordsRequestEntryList`.
pub const PUT_RECORDS_MAX_RECORDS: usize = 500;
/// The most bytes of one PutRecords request, data plus partition keys. Source: `PutRecords`.
pub const PUT_RECORDS_MAX_BYTES: usize = 10 * MIB;

/// Bytes a shard takes per second, data plus partition keys. Source: Quotas.
pub const SHARD_WRITE_BYTES_PER_SECOND: usize = MIB;
/// Records a shard takes per second. Source: Quotas.
pub const SHARD_WRITE_RECORDS_PER_SECOND: usize = 1000;

/// The most records of one GetRecords answer. Source: model, `GetRecordsInputLimit`.
pub const GET_RECORDS_MAX_RECORDS: usize = 10_000;
/// The most bytes of one GetRecords answer. Source: `GetRecords`.
pub const GET_RECORDS_MAX_BYTES: usize = 10 * MIB;
/// GetRecords calls a shard answers per second, all readers together. Source: Quotas.
pub const SHARD_READS_PER_SECOND: usize = 5;
/// Bytes a shard hands out by GetRecords per second, all readers together. Source: Quotas.
pub const SHARD_READ_BYTES_PER_SECOND: usize = 2 * MIB;
/// Bytes a shard pushes to one fan-out consumer per second. Source: Quotas.
pub const FAN_OUT_BYTES_PER_SECOND: usize = 2 * MIB;

/// How long a shard iterator may be used. Source: `GetShardIterator`.
pub const ITERATOR_LIFETIME: Duration = Duration::from_secs(300);
/// GetShardIterator calls a shard answers per second. Source: `GetShardIterator`.
pub const ITERATORS_PER_SECOND: usize = 5;
/// The most characters of a shard iterator. Source: model, `ShardIterator`.
pub const ITERATOR_MAX_CHARS: usize = 512;

/// How long one SubscribeToShard stream lives. Source: `SubscribeToShard`.
pub const SUBSCRIPTION_LIFETIME: Duration = Duration::from_secs(300);
/// A subscription this young is not taken over by the same consumer. Source: `SubscribeToShard`.
pub const SUBSCRIPTION_TAKEOVER_AFTER: Duration = Duration::from_secs(5);
/// Registered fan-out consumers of a stream. Source: `RegisterStreamConsumer`.
pub const CONSUMERS_PER_STREAM_MAX: usize = 20;
/// The same of an On-demand Advantage stream. Source: `RegisterStreamConsumer`.
pub const CONSUMERS_PER_ADVANTAGE_STREAM_MAX: usize = 50;

/// The most shards of one ListShards answer, and the default. Source: `ListShards`.
pub const LIST_SHARDS_MAX: usize = 1000;
/// ListShards calls a stream answers per second. Source: `ListShards`.
pub const LIST_SHARDS_PER_SECOND: usize = 1000;
/// How long a listing's NextToken may be used. Source: `ListShards`.
pub const NEXT_TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// Retention of a new stream, in hours. Source: `CreateStream`.
pub const RETENTION_HOURS_DEFAULT: u32 = 24;
/// The shortest retention, in hours. Source: `DecreaseStreamRetentionPeriod`.
pub const RETENTION_HOURS_MIN: u32 = 24;
/// The longest retention, in hours (365 days). Source: `IncreaseStreamRetentionPeriod`.
pub const RETENTION_HOURS_MAX: u32 = 8760;

/// Shards of a new on-demand stream. Source: developer guide, "On-demand mode".
pub const ON_DEMAND_SHARDS_AT_START: u32 = 4;

const _: () = {
    assert!(RECORD_MAX_BYTES_DEFAULT <= RECORD_MAX_BYTES_LARGEST);
    assert!(
        RECORD_MAX_BYTES_LARGEST <= PUT_RECORDS_MAX_BYTES,
        "a largest record must be sendable"
    );
    assert!(
        RECORD_MAX_BYTES_LARGEST <= GET_RECORDS_MAX_BYTES,
        "a largest record must be readable"
    );
    assert!(RETENTION_HOURS_MIN <= RETENTION_HOURS_DEFAULT);
    assert!(RETENTION_HOURS_DEFAULT <= RETENTION_HOURS_MAX);
};
