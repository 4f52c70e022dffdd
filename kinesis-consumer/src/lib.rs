//! The consumer's leg of a record's journey.

mod checkpoint;
mod consumer;
mod discover;
mod error;
mod fetch;
mod lease;
pub mod metrics;
mod processor;
mod record;
mod settings;
mod shard;
#[cfg(feature = "sink-s3")]
pub mod sink;

pub use checkpoint::Checkpointer;
pub use consumer::{Consumer, ConsumerBuilder};
pub use error::{BoxError, Error, ErrorKind};
pub use processor::{
    InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor, RecordProcessorFactory,
};
pub use record::Record;
pub use settings::{InitialPosition, LeaseSettings, Settings};

/// What a record, a shard and a position in it are, as all crates of the toolkit agree on.
pub use kinesis_core::{HashKey, HashKeyRange, Position, SequenceNumber, ShardId};
