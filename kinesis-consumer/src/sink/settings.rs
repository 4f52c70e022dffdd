//! What a sink can be told, apart from its components.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::batch::BatchLimits;
use super::format::LineFormat;
use crate::error::{Error, ErrorKind};
use crate::settings::millis;

/// Bytes of one object.
/// Source: the default buffer of Amazon Data Firehose for S3, 5 MiB.
const DEFAULT_MAX_BATCH_BYTES: usize = 5 * 1024 * 1024;

/// Records of one object.
/// Source: none, reasonable default: lines of 50 bytes fill the default object.
const DEFAULT_MAX_BATCH_RECORDS: usize = 100_000;

/// How long a record waits for its object.
/// Source: the shortest buffer time that Amazon Data Firehose had for years, 60 s.
const DEFAULT_MAX_BATCH_AGE: Duration = Duration::from_secs(60);

/// Largest object that can be asked for; it is held in memory, once per shard.
/// Source: none, reasonable bound.
const MAX_BATCH_BYTES_BOUND: usize = 256 * 1024 * 1024;

/// Shortest wait that can be asked for.
/// Source: the resolution of tokio's timer.
const MAX_BATCH_AGE_MIN: Duration = Duration::from_millis(1);

/// Longest wait that can be asked for.
/// Source: the shortest retention of a stream, 24 h: a record must not expire while it waits.
const MAX_BATCH_AGE_BOUND: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of a prefix.
/// Source: an S3 key has up to 1,024 bytes; shard and positions take fewer than 424 of them.
const PREFIX_MAX_BYTES: usize = 600;

/// The settings of an [`S3Sink`](super::S3Sink); checked once, when it is built.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3SinkSettings {
    /// What the objects' names start with, as it is: `flights/` makes a folder, `flights-` does not.
    /// Up to 600 bytes, not starting with `/`; empty by default.
    pub prefix: String,
    /// What a line holds.
    pub format: LineFormat,
    /// An object is complete before a line would make it larger than this; a line that is larger
    /// on its own has an object of its own. Bytes, 1 to 256 MiB; 5 MiB by default. Every shard holds
    /// up to this much in memory.
    pub max_batch_bytes: usize,
    /// An object is complete with this many records. 1 or more; 100,000 by default.
    pub max_batch_records: usize,
    /// An object is complete when its first record has waited this long, 1 ms to 24 h; 60 s by
    /// default.
    #[serde(rename = "max_batch_age_millis", with = "millis")]
    pub max_batch_age: Duration,
}

impl Default for S3SinkSettings {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            format: LineFormat::default(),
            max_batch_bytes: DEFAULT_MAX_BATCH_BYTES,
            max_batch_records: DEFAULT_MAX_BATCH_RECORDS,
            max_batch_age: DEFAULT_MAX_BATCH_AGE,
        }
    }
}

impl S3SinkSettings {
    pub(super) fn limits(&self) -> BatchLimits {
        BatchLimits {
            bytes: self.max_batch_bytes,
            records: self.max_batch_records,
            age: self.max_batch_age,
        }
    }

    /// Checks every field against its bound; the error names the first that is out of it.
    pub(super) fn validate(&self, bucket: &str) -> Result<(), Error> {
        let refused = if bucket.is_empty() {
            "bucket must not be empty".to_owned()
        } else if self.prefix.len() > PREFIX_MAX_BYTES || self.prefix.starts_with('/') {
            format!(
                "prefix must have up to {PREFIX_MAX_BYTES} bytes and not start with '/', it has {} bytes",
                self.prefix.len()
            )
        } else if !(1..=MAX_BATCH_BYTES_BOUND).contains(&self.max_batch_bytes) {
            format!(
                "max_batch_bytes must be 1 to {MAX_BATCH_BYTES_BOUND}, it is {}",
                self.max_batch_bytes
            )
        } else if self.max_batch_records == 0 {
            "max_batch_records must be 1 or more, it is 0".to_owned()
        } else if !(MAX_BATCH_AGE_MIN..=MAX_BATCH_AGE_BOUND).contains(&self.max_batch_age) {
            format!(
                "max_batch_age must be {} ms to {} ms, it is {} ms",
                MAX_BATCH_AGE_MIN.as_millis(),
                MAX_BATCH_AGE_BOUND.as_millis(),
                self.max_batch_age.as_millis()
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput, refused))
    }
}
