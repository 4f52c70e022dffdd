//! Dead letters as records of another Kinesis stream.
//!
//! A record of it is one letter as JSON, under the partition key of the record that was given up, so
//! that letters of one key stay in one shard and in order. Base64 makes data a third larger: a
//! payload above 700 KiB goes into several records, each with all members, its number (`part`), how
//! many there are (`parts`) and its share of the data, joined by concatenating what they decode to.
//!
//! A letter that is written twice is two records.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use kinesis_core::limits;

use super::{DeadLetter, DeadLetters, envelope};
use crate::error::{BoxError, Error};

/// Most payload in one record.
/// Source: `limits::RECORD_MAX_BYTES_DEFAULT` less the other members at their longest, times 3/4 for
/// base64.
const DATA_BYTES_MAX: usize = 700 * limits::KIB;

/// Room for all members but the data, whose text JSON may make six times as long.
/// Source: the error's 4 KiB, a partition key of 256 four-byte characters and 1 KiB for the rest.
const MEMBERS_BYTES_MAX: usize = 6 * (super::ERROR_BYTES_MAX + 4 * limits::PARTITION_KEY_MAX_CHARS)
    + limits::KIB
    + 4 * limits::PARTITION_KEY_MAX_CHARS;

const _: () =
    assert!(DATA_BYTES_MAX.div_ceil(3) * 4 + MEMBERS_BYTES_MAX <= limits::RECORD_MAX_BYTES_DEFAULT);

/// Writes dead letters into a Kinesis stream, one `PutRecord` each; see
/// [`dead_letter`](super) for their form.
///
/// The stream has to exist and should not be one that the same application reads. Letters stay there
/// for its retention. A payload above 700 KiB goes into several records.
#[derive(Clone)]
pub struct KinesisDeadLetters {
    client: Client,
    stream: Arc<str>,
}

impl KinesisDeadLetters {
    /// Letters go into `stream`. Nothing is sent yet: whether it exists shows at the first letter.
    pub fn new(client: Client, stream: impl Into<Arc<str>>) -> Self {
        Self {
            client,
            stream: stream.into(),
        }
    }

    async fn put(&self, letter: &DeadLetter, data: Vec<u8>) -> Result<(), Error> {
        let put = self
            .client
            .put_record()
            .stream_name(&*self.stream)
            .partition_key(&*letter.record.partition_key)
            .data(Blob::new(data));
        match Box::pin(put.send()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::aws(
                format_args!("putting a dead letter into stream {}", self.stream),
                error,
            )),
        }
    }
}

#[async_trait]
impl DeadLetters for KinesisDeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        let data = &letter.record.data;
        let parts = data.len().div_ceil(DATA_BYTES_MAX).max(1);
        for part in 0..parts {
            let end = data.len().min((part + 1) * DATA_BYTES_MAX);
            let share = &data[part * DATA_BYTES_MAX..end];
            self.put(letter, envelope::part(letter, part, parts, share))
                .await?;
        }
        Ok(())
    }
}

impl fmt::Debug for KinesisDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisDeadLetters")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
