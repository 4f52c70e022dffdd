//! Kinesis Data Streams in one process, with the DynamoDB and S3 that consumers need beside it.

mod admin;
mod api;
mod body;
mod embed;
mod error;
mod local;
mod route;
mod settings;

pub use embed::InProcessClient;
pub use error::{Error, ErrorKind};
pub use local::{Builder, KinesisLocal};
pub use settings::{
    DEFAULT_ACCOUNT, DEFAULT_MAX_CONNECTIONS, DEFAULT_PORT, DEFAULT_REGION,
    DEFAULT_SHUTDOWN_DEADLINE, Settings,
};
