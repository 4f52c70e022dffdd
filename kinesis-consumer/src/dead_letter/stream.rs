//! Dead letters as records of another Kinesis stream.
//!
//! A record of it is one letter as JSON, under the partition key of the record that was given up, so
//! that letters of one key stay in one shard and in order. Base64 makes data a third larger: a
//! payload above 700 KiB goes into several records, each with all members, its number (`part`), how
//! many there are (`parts`) and its share of the data, joined by concatenating what they decode to.
//!
//! A key that no stream takes as one (a stream that distributes records by itself has records without
//! key, and nobody checks the keys inside an aggregate) is replaced by `shard id:sequence number`. The
//! letter has the key all the same, of a monstrous one the first 8 KiB.
//!
//! A letter that is written twice is two records.

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use kinesis_core::limits;

use super::{DeadLetter, DeadLetters, envelope};
use crate::error::{BoxError, Error};
use crate::stream::Address;

/// Most payload in one record.
/// Source: `limits::RECORD_MAX_BYTES_DEFAULT` less the other members at their longest, times 3/4 for
/// base64.
const DATA_BYTES_MAX: usize = 700 * limits::KIB;

/// Most bytes of a partition key that a letter in a stream keeps.
/// Source: eight times the longest key that the service takes, so that only what never was one is cut.
const KEY_BYTES_MAX: usize = 8 * limits::KIB;

/// Room for all members but the data, whose text JSON may make six times as long, and for the key
/// that the record goes under.
/// Source: the error's 4 KiB, the key, 1 KiB for the rest, and a key of 256 four-byte characters.
const MEMBERS_BYTES_MAX: usize = 6 * (super::ERROR_BYTES_MAX + KEY_BYTES_MAX)
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
    stream: Address,
}

impl KinesisDeadLetters {
    /// Letters go into `stream`: a name in the client's account and region, or the ARN of a stream,
    /// which may be another account's. Nothing is sent yet: whether it exists shows at the first letter.
    pub fn new(client: Client, stream: impl AsRef<str>) -> Self {
        Self {
            client,
            stream: stream.as_ref().into(),
        }
    }

    async fn put(&self, letter: &DeadLetter, data: Vec<u8>) -> Result<(), Error> {
        let put = self
            .client
            .put_record()
            .set_stream_name(self.stream.name())
            .set_stream_arn(self.stream.arn())
            .partition_key(partition_key(letter))
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
        let mut shortened = None;
        if letter.record.partition_key.len() > KEY_BYTES_MAX {
            let shortened = shortened.insert(letter.clone());
            let key = &letter.record.partition_key;
            shortened.record.partition_key = key[..key.floor_char_boundary(KEY_BYTES_MAX)].into();
        }
        let letter = shortened.as_ref().unwrap_or(letter);
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

/// The key that a letter goes under: its record's, where a stream takes that.
fn partition_key(letter: &DeadLetter) -> Cow<'_, str> {
    let key = &*letter.record.partition_key;
    if (1..=limits::PARTITION_KEY_MAX_CHARS).contains(&key.chars().count()) {
        return key.into();
    }
    format!("{}:{}", letter.shard_id, letter.record.sequence_number).into()
}

impl fmt::Debug for KinesisDeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KinesisDeadLetters")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
