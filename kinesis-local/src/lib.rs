//! Kinesis Data Streams in one process, with the DynamoDB and S3 that consumers need beside it.

mod admin;
mod api;
mod body;
mod catalog;
mod data_dir;
#[cfg(feature = "dynamodb")]
mod dynamodb;
mod embed;
mod error;
mod limits;
mod local;
mod log;
mod route;
#[cfg(feature = "s3")]
mod s3;
mod server;
mod services;
mod settings;
mod stream;
mod wire;

pub use embed::InProcessClient;
pub use error::{Error, ErrorKind};
pub use limits::Limits;
pub use local::{Builder, KinesisLocal};
pub use settings::{
    DEFAULT_ACCOUNT, DEFAULT_MAX_CONNECTIONS, DEFAULT_PORT, DEFAULT_REGION,
    DEFAULT_SHUTDOWN_DEADLINE, Settings,
};
