//! Puts records into a Kinesis stream.
mod error;
pub mod metrics;
mod pipeline;
mod producer;
mod record;
mod service;
mod settings;
mod shard_map;

pub use error::{Error, ErrorKind};
pub use kinesis_core::{HashKey, InvalidHashKey, Position, SequenceNumber, ShardId};
pub use producer::{Builder, Outstanding, Producer};
pub use record::{Delivery, DeliveryFuture, UserRecord};
pub use settings::Settings;
