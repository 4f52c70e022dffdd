//! The bytes of an object or of a part, on their way from a client into a file.
//!
//! ```text
//! body ─▶ <directory>/.tmp.put-<n>.internal.part ─▶ flushed, synced if durable ─▶ checked ─▶ Received
//! ```
//! Promises: nothing is locked while a client sends; a file is as large as one payload may be at most
//! (see [`super::unsigned`], which also gives up on a client that is too slow); it is removed unless it
//! was renamed: at once when anything fails or the request is dropped, at the next start after a kill.

use std::path::PathBuf;

use futures::TryStreamExt as _;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, PutObjectInput, StreamingBlob, UploadPartInput};
use s3s::{S3Result, s3_error};
use tokio::io::AsyncWriteExt as _;

use super::unsigned::Abandoned;
use crate::body::BoxError;

/// The file of an upload; removed unless it was renamed.
#[derive(Debug)]
pub(super) struct Upload(pub(super) PathBuf);

impl Drop for Upload {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "an unfinished upload is removed at the next start");
        }
    }
}

/// What a client said about the bytes before it sent them.
#[derive(Debug, Default)]
pub(super) struct Announced {
    md5: Option<String>,
    checksums: Checksum,
    algorithm: Option<ChecksumAlgorithm>,
}

/// Takes the announcements out of the input of either operation: they have the same fields.
macro_rules! announced_by {
    ($input:ty) => {
        impl From<&$input> for Announced {
            fn from(input: &$input) -> Self {
                Self {
                    md5: input.content_md5.clone(),
                    checksums: Checksum {
                        checksum_crc32: input.checksum_crc32.clone(),
                        checksum_crc32c: input.checksum_crc32c.clone(),
                        checksum_crc64nvme: input.checksum_crc64nvme.clone(),
                        checksum_sha1: input.checksum_sha1.clone(),
                        checksum_sha256: input.checksum_sha256.clone(),
                        ..Checksum::default()
                    },
                    algorithm: input.checksum_algorithm.clone(),
                }
            }
        }
    };
}

announced_by!(PutObjectInput);
announced_by!(UploadPartInput);

impl Announced {
    /// Computes the checksums that the client announced or asked for.
    fn hasher(&self) -> S3Result<ChecksumHasher> {
        let asked = self.algorithm.as_ref().map(ChecksumAlgorithm::as_str);
        let known = [
            ChecksumAlgorithm::CRC32,
            ChecksumAlgorithm::CRC32C,
            ChecksumAlgorithm::CRC64NVME,
            ChecksumAlgorithm::SHA1,
            ChecksumAlgorithm::SHA256,
        ];
        if asked.is_some_and(|asked| !known.contains(&asked)) {
            return Err(s3_error!(
                InvalidArgument,
                "the checksum algorithm is unknown"
            ));
        }
        let sums = &self.checksums;
        let wanted = |sum: &Option<String>, name: &str| sum.is_some() || asked == Some(name);
        Ok(ChecksumHasher {
            crc32: wanted(&sums.checksum_crc32, ChecksumAlgorithm::CRC32).then(Crc32::new),
            crc32c: wanted(&sums.checksum_crc32c, ChecksumAlgorithm::CRC32C).then(Crc32c::new),
            crc64nvme: wanted(&sums.checksum_crc64nvme, ChecksumAlgorithm::CRC64NVME)
                .then(Crc64Nvme::new),
            sha1: wanted(&sums.checksum_sha1, ChecksumAlgorithm::SHA1).then(Sha1::new),
            sha256: wanted(&sums.checksum_sha256, ChecksumAlgorithm::SHA256).then(Sha256::new),
        })
    }

    /// Whether something else was received.
    fn differs_from(&self, received: &Received) -> bool {
        let md5 = base64_simd::STANDARD.encode_to_string(received.md5);
        let (said, sums) = (&self.checksums, &received.checksums);
        [
            (&self.md5, &Some(md5)),
            (&said.checksum_crc32, &sums.checksum_crc32),
            (&said.checksum_crc32c, &sums.checksum_crc32c),
            (&said.checksum_crc64nvme, &sums.checksum_crc64nvme),
            (&said.checksum_sha1, &sums.checksum_sha1),
            (&said.checksum_sha256, &sums.checksum_sha256),
        ]
        .iter()
        .any(|(announced, computed)| announced.is_some() && announced != computed)
    }
}

/// Bytes that arrived whole, as they were announced.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) upload: Upload,
    md5: [u8; 16],
    pub(super) checksums: Checksum,
}

impl Received {
    /// The value of the ETag.
    pub(super) fn e_tag(&self) -> String {
        hex(&self.md5)
    }
}

/// Receives `body` into the file `path`, which must not be in use; synced, if `durable`.
pub(super) async fn receive(
    path: PathBuf,
    body: Option<StreamingBlob>,
    announced: &Announced,
    durable: bool,
) -> S3Result<Received> {
    let unwritable = |error| s3_error!(error, InternalError, "the bytes cannot be written");
    let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    let mut checksums = announced.hasher()?;
    let upload = Upload(path);
    let mut file = tokio::fs::File::create(&upload.0)
        .await
        .map_err(unwritable)?;
    let mut md5 = Md5::new();
    while let Some(piece) = body.try_next().await.map_err(not_whole)? {
        md5.update(&piece);
        checksums.update(&piece);
        file.write_all(&piece).await.map_err(unwritable)?;
    }
    file.flush().await.map_err(unwritable)?;
    if durable {
        file.sync_all().await.map_err(unwritable)?;
    }
    let received = Received {
        upload,
        md5: md5.finalize(),
        checksums: checksums.finalize(),
    };
    if announced.differs_from(&received) {
        return Err(s3_error!(
            BadDigest,
            "the checksum sent with the bytes does not match them"
        ));
    }
    Ok(received)
}

/// The service's error for a body that broke off.
fn not_whole(error: BoxError) -> s3s::S3Error {
    match error.downcast_ref::<Abandoned>() {
        // Source: S3 API reference, "List of error codes".
        Some(Abandoned::TooSlow) => s3_error!(
            RequestTimeout,
            "Your socket connection to the server was not read from or written to within the timeout \
             period. Idle connections will be closed."
        ),
        Some(Abandoned::TooLarge) => s3_error!(
            EntityTooLarge,
            "Your proposed upload exceeds the maximum allowed object size."
        ),
        None => {
            let message = format!("the object's bytes did not arrive whole: {error}");
            s3_error!(IncompleteBody, "{message}")
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
