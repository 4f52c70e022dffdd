//! One batch, one object.
//!
//! ```text
//! <prefix><shard id>/<first sequence number>[.<sub>]-<last sequence number>[.<sub>].ndjson
//! ```
//!
//! Sequence numbers are padded with zeros to 56 digits and sub-sequence numbers (written where they
//! are not 0) to 6, so the names of a shard's objects sort as its records do. The name follows from
//! the content's positions alone: writing the same batch again, after a lost answer or by a worker
//! that starts at the same checkpoint and cuts the same edges, replaces the object by its equal.
//!
//! An object appears whole or not at all: one PutObject request, which S3 makes atomic.
//!
//! Absent: multipart uploads, conditional writes.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::ByteStream;
use backon::{ExponentialBuilder, Retryable};
use kinesis_core::{Position, Rand, ShardId};
use tokio::time::timeout;

use super::batch::Batch;
use super::metrics::{self, Tally};
use crate::error::BoxError;

/// How long one PutObject may take.
/// Source: none, reasonable default: 256 MiB, the largest batch allowed, at 5 MiB/s.
pub(crate) const PUT_TIMEOUT: Duration = Duration::from_secs(60);

/// Requests for one object before the error goes to the caller, who comes again with the same batch.
/// Source: none, reasonable default.
const PUT_ATTEMPTS: usize = 4;

/// Shortest wait between two requests for one object, before jitter is added.
/// Source: none, reasonable default.
const PUT_BACKOFF_MIN: Duration = Duration::from_millis(100);

/// Longest wait between two requests for one object, before jitter is added.
/// Source: none, reasonable default.
const PUT_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Digits of a sequence number in an object's name.
/// Source: the service's version-2 numbers are 186 bits, which is 56 decimal digits.
const NAME_SEQUENCE_DIGITS: usize = 56;

/// Digits of a sub-sequence number in an object's name.
/// Source: an aggregate of 1 MiB holds fewer than 10^6 members, each taking 6 bytes or more. With
/// more, in a record of up to 10 MiB, names within that one record would not sort.
const NAME_SUB_SEQUENCE_DIGITS: usize = 6;

/// Why an object was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(
        "object `{key}` of {records} records was not stored in bucket `{bucket}` after {PUT_ATTEMPTS} attempts; \
         the records stay unacknowledged and are tried again: if this goes on, check the bucket, its permissions and the network"
    )]
    Put {
        bucket: String,
        key: String,
        records: usize,
        source: PutError,
    },
    #[error("the write was given up because the shard's processor ended")]
    Stopped,
}

/// Why one PutObject failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error("S3 did not answer within {} s", PUT_TIMEOUT.as_secs())]
    Timeout,
    #[error("S3 answered {code}")]
    Answer { code: String, source: BoxError },
    #[error("S3 was not reached")]
    NotReached(#[source] BoxError),
}

impl From<SdkError<PutObjectError>> for PutError {
    fn from(error: SdkError<PutObjectError>) -> Self {
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        let code = error.code().map(str::to_owned);
        // Without the raw answer, which would show up in `Debug`: S3 repeats the access key in it,
        // and what was to be signed.
        let source = error.into_source().unwrap_or_else(BoxError::from);
        match (status, code) {
            (None, _) => Self::NotReached(source),
            (Some(status), Some(code)) => Self::Answer {
                code: format!("{code} (HTTP {status})"),
                source,
            },
            (Some(status), None) => Self::Answer {
                code: format!("HTTP {status}"),
                source,
            },
        }
    }
}

/// Where the objects of a sink go.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    pub(crate) client: Client,
    pub(crate) bucket: String,
    pub(crate) prefix: String,
    pub(crate) rand: Rand,
    pub(crate) tally: Tally,
}

impl Objects {
    /// Stores the batch, with a bounded number of attempts. Cancel-safe: the object is there whole
    /// or not at all, and storing it again does no harm.
    pub(crate) async fn store(&self, shard_id: &ShardId, batch: &Batch) -> Result<(), StoreError> {
        let key = object_key(&self.prefix, shard_id, &batch.first, &batch.last);
        let backoff = ExponentialBuilder::new()
            .with_min_delay(PUT_BACKOFF_MIN)
            .with_max_delay(PUT_BACKOFF_MAX)
            .with_max_times(PUT_ATTEMPTS - 1)
            .with_jitter()
            .with_jitter_seed(self.rand.next_u64());
        let stored = (|| self.put(&key, batch))
            .retry(backoff)
            .sleep(tokio::time::sleep)
            .notify(|error, wait| {
                tracing::debug!(
                    %shard_id, %error, wait_ms = wait.as_millis(), "an object was not stored, trying again"
                );
            })
            .await;
        match stored {
            Ok(()) => {
                self.tally.stored(batch);
                Ok(())
            }
            Err(source) => {
                metrics::write_failed();
                let (bucket, records) = (self.bucket.clone(), batch.records);
                Err(StoreError::Put {
                    bucket,
                    key,
                    records,
                    source,
                })
            }
        }
    }

    async fn put(&self, key: &str, batch: &Batch) -> Result<(), PutError> {
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type("application/x-ndjson")
            .body(ByteStream::from(batch.body.clone()))
            .send();
        match timeout(PUT_TIMEOUT, put).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(PutError::from(error)),
            Err(_) => Err(PutError::Timeout),
        }
    }
}

/// The name of the object that holds the records from `first` to `last`.
pub(crate) fn object_key(
    prefix: &str,
    shard_id: &ShardId,
    first: &Position,
    last: &Position,
) -> String {
    format!("{prefix}{shard_id}/{}-{}.ndjson", name(first), name(last))
}

fn name(position: &Position) -> String {
    let sequence = format!("{:0>NAME_SEQUENCE_DIGITS$}", position.checkpoint());
    match position.sub_sequence() {
        0 => sequence,
        sub => format!("{sequence}.{sub:0>NAME_SUB_SEQUENCE_DIGITS$}"),
    }
}

#[cfg(test)]
mod tests {
    use kinesis_core::SequenceNumber;

    use super::*;

    fn at(sequence: &str, sub_sequence: u64) -> Position {
        Position::at(SequenceNumber::try_from(sequence).unwrap(), sub_sequence)
    }

    #[test]
    fn an_objects_name_follows_from_its_positions() {
        let shard = ShardId::from("shardId-000000000003");
        let sequence = "49590338271490256608559692538361571095921575989136588898";
        assert_eq!(
            object_key("flights/", &shard, &at(sequence, 0), &at(sequence, 12)),
            format!("flights/shardId-000000000003/{sequence}-{sequence}.000012.ndjson")
        );
    }

    #[test]
    fn names_sort_as_positions_do() {
        let shard = ShardId::from("shardId-000000000000");
        let last = at(
            "99999999999999999999999999999999999999999999999999999999",
            0,
        );
        let positions = [
            at("7", 0),
            at("7", 1),
            at("7", 9),
            at("7", 10),
            at("7", 10_000),
            at("8", 0),
            at("12", 0),
        ];
        let names = positions.map(|first| object_key("", &shard, &first, &last));
        assert!(names.is_sorted(), "{names:#?}");
    }
}
