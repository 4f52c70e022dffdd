//! Dead letters as objects in S3.
//!
//! ```text
//! <prefix><stream>/<shard id>/<sequence number>.<sub-sequence number>.json
//! ```
//!
//! One object per letter. The sequence number is padded with zeros to 56 digits and the sub-sequence
//! number to 7, so that names sort as records do. The name follows from the record's position: a
//! letter that is written again replaces itself.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;

use super::{DeadLetter, DeadLetters};
use crate::error::{BoxError, Error};

/// Digits of a sequence number in an object's name.
/// Source: the service's version-2 numbers are 186 bits, which is 56 decimal digits.
const SEQUENCE_DIGITS: usize = 56;

/// Digits of a sub-sequence number in an object's name.
/// Source: a record of 10 MiB, the largest, holds fewer than 10^7 members, each taking 6 bytes or more.
const SUB_SEQUENCE_DIGITS: usize = 7;

/// Writes dead letters as objects into an S3 bucket, one each; see [`dead_letter`](super) for their
/// form.
///
/// Objects are named `<prefix><stream>/<shard id>/<sequence number>.<sub-sequence number>.json`:
/// a letter that is written again replaces itself. Applications that read the same stream need
/// prefixes of their own in a shared bucket.
#[derive(Clone)]
pub struct S3DeadLetters {
    client: Client,
    bucket: Arc<str>,
    prefix: Arc<str>,
}

impl S3DeadLetters {
    /// Letters go into `bucket` under `prefix`, which may be empty and otherwise should end with a
    /// slash. Nothing is sent yet: whether the bucket exists shows at the first letter.
    pub fn new(client: Client, bucket: impl Into<Arc<str>>, prefix: impl Into<Arc<str>>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
            prefix: prefix.into(),
        }
    }

    fn key(&self, letter: &DeadLetter) -> String {
        format!(
            "{}{}/{}/{:0>SEQUENCE_DIGITS$}.{:0>SUB_SEQUENCE_DIGITS$}.json",
            self.prefix,
            letter.stream,
            letter.shard_id,
            letter.record.sequence_number.as_str(),
            letter.record.sub_sequence,
        )
    }
}

#[async_trait]
impl DeadLetters for S3DeadLetters {
    async fn write(&self, letter: &DeadLetter) -> Result<(), BoxError> {
        let key = self.key(letter);
        let put = self
            .client
            .put_object()
            .bucket(&*self.bucket)
            .key(&key)
            .content_type("application/json")
            .body(ByteStream::from(letter.to_json()));
        match Box::pin(put.send()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let what = format_args!("writing dead letter {key} to bucket {}", self.bucket);
                Err(Error::aws(what, error).into())
            }
        }
    }
}

impl fmt::Debug for S3DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3DeadLetters")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
