//! The consumer's leg of a record's journey.

mod checkpoint;
mod error;
mod lease;
mod processor;
mod record;
mod settings;
#[cfg(feature = "sink-s3")]
pub mod sink;

pub use checkpoint::Checkpointer;
pub use error::{BoxError, Error, ErrorKind};
pub use processor::{
    InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor, RecordProcessorFactory,
};
pub use record::Record;
pub use settings::{InitialPosition, LeaseSettings, Settings};

/// What a record, a shard and a position in it are, as all crates of the toolkit agree on.
pub use kinesis_core::{HashKey, HashKeyRange, Position, SequenceNumber, ShardId};
