//! Objects whose key is too long for the dot files in which s3s-fs keeps their metadata.
//!
//! ```text
//! <directory>/.bucket-<base64 of bucket>.object-<base64 of key>.internal.json    ≤ 255 bytes
//! ```
//!
//! That leaves about 160 bytes for a key, and S3 allows 1,024. A longer key is stored without dot
//! files: whole, checked and with conditions, but without content type and user metadata; its ETag
//! is computed when it is asked for.

use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{ETag, ETagCondition, PutObjectInput, PutObjectOutput};
use s3s::{S3Request, S3Response, S3Result, s3_error};
use tokio::io::AsyncWriteExt as _;

/// Longest file name. Source: common file systems (ext4, xfs, APFS, NTFS).
const FILE_NAME_MAX_BYTES: usize = 255;

/// What s3s-fs adds to one of the names while a multipart upload is open: `.upload-<uuid>`.
const MULTIPART_SUFFIX_BYTES: usize = 8 + 36;

/// The names under which s3s-fs keeps what belongs to an object beside its bytes.
pub(super) fn dot_files(root: &Path, bucket: &str, key: &str) -> [PathBuf; 2] {
    let encode = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text);
    let stem = format!(".bucket-{}.object-{}", encode(bucket), encode(key));
    [
        root.join(format!("{stem}.internal.json")),
        root.join(format!("{stem}.metadata.json")),
    ]
}

/// Whether s3s-fs can store an object under this key in one request.
pub(super) fn fits(bucket: &str, key: &str) -> bool {
    longest_name(bucket, key) <= FILE_NAME_MAX_BYTES
}

/// Whether s3s-fs can store an object under this key in parts.
pub(super) fn fits_in_parts(bucket: &str, key: &str) -> bool {
    longest_name(bucket, key) + MULTIPART_SUFFIX_BYTES <= FILE_NAME_MAX_BYTES
}

fn longest_name(bucket: &str, key: &str) -> usize {
    let names = dot_files(Path::new(""), bucket, key);
    names
        .iter()
        .map(|name| name.as_os_str().len())
        .max()
        .unwrap_or(0)
}

/// Stores an object without dot files. The caller has the turn for `path` and gives an unused name
/// for the upload, in the same file system.
pub(super) async fn put(
    upload: PathBuf,
    path: &Path,
    request: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let mut input = request.input;
    check_conditions(path, &input).await?;
    let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
    let upload = Upload(upload);
    let written = write(&upload.0, body, hasher(&input)).await?;
    if written.differs_from(&input) {
        return Err(s3_error!(
            BadDigest,
            "the checksum sent with the object does not match it"
        ));
    }
    let stored = async {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        tokio::fs::rename(&upload.0, path).await
    };
    stored
        .await
        .map_err(|error| s3_error!(error, InternalError, "the object cannot be stored"))?;
    Ok(S3Response::new(PutObjectOutput {
        e_tag: Some(ETag::Strong(hex(&written.md5))),
        checksum_crc32: written.checksums.checksum_crc32,
        checksum_crc32c: written.checksums.checksum_crc32c,
        checksum_crc64nvme: written.checksums.checksum_crc64nvme,
        checksum_sha1: written.checksums.checksum_sha1,
        checksum_sha256: written.checksums.checksum_sha256,
        ..PutObjectOutput::default()
    }))
}

/// The file of an upload; removed unless it was renamed.
struct Upload(PathBuf);

impl Drop for Upload {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "an unfinished upload is removed at the next start");
        }
    }
}

/// What a written file is.
struct Written {
    md5: [u8; 16],
    checksums: s3s::dto::Checksum,
}

impl Written {
    /// Whether the client announced something else.
    fn differs_from(&self, input: &PutObjectInput) -> bool {
        let md5 = base64_simd::STANDARD.encode_to_string(self.md5);
        let sums = &self.checksums;
        [
            (&input.content_md5, &Some(md5)),
            (&input.checksum_crc32, &sums.checksum_crc32),
            (&input.checksum_crc32c, &sums.checksum_crc32c),
            (&input.checksum_crc64nvme, &sums.checksum_crc64nvme),
            (&input.checksum_sha1, &sums.checksum_sha1),
            (&input.checksum_sha256, &sums.checksum_sha256),
        ]
        .iter()
        .any(|(announced, computed)| announced.is_some() && announced != computed)
    }
}

/// Computes the checksums that the client announced.
fn hasher(input: &PutObjectInput) -> ChecksumHasher {
    ChecksumHasher {
        crc32: input.checksum_crc32.as_ref().map(|_| Crc32::new()),
        crc32c: input.checksum_crc32c.as_ref().map(|_| Crc32c::new()),
        crc64nvme: input.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::new()),
        sha1: input.checksum_sha1.as_ref().map(|_| Sha1::new()),
        sha256: input.checksum_sha256.as_ref().map(|_| Sha256::new()),
    }
}

async fn write(
    path: &Path,
    mut body: s3s::dto::StreamingBlob,
    mut checksums: ChecksumHasher,
) -> S3Result<Written> {
    let unwritable = |error| s3_error!(error, InternalError, "the object cannot be written");
    let mut file = tokio::fs::File::create(path).await.map_err(unwritable)?;
    let mut md5 = Md5::new();
    while let Some(piece) = body
        .try_next()
        .await
        .map_err(|_| s3_error!(IncompleteBody, "the object's bytes ended before their time"))?
    {
        md5.update(&piece);
        checksums.update(&piece);
        file.write_all(&piece).await.map_err(unwritable)?;
    }
    file.flush().await.map_err(unwritable)?;
    Ok(Written {
        md5: md5.finalize(),
        checksums: checksums.finalize(),
    })
}

async fn check_conditions(path: &Path, input: &PutObjectInput) -> S3Result<()> {
    let old = async |wanted: &ETag| -> bool {
        let Ok(bytes) = tokio::fs::read(path).await else {
            return false;
        };
        ETag::Strong(hex(&Md5::checksum(&bytes))).strong_cmp(wanted)
    };
    let exists = tokio::fs::try_exists(path).await.unwrap_or(true);
    let refused = match (&input.if_none_match, &input.if_match) {
        (Some(ETagCondition::Any), _) => exists,
        (Some(ETagCondition::ETag(unwanted)), _) => exists && old(unwanted).await,
        (None, Some(ETagCondition::Any)) => !exists,
        (None, Some(ETagCondition::ETag(wanted))) => !old(wanted).await,
        (None, None) => false,
    };
    if refused {
        return Err(s3_error!(
            PreconditionFailed,
            "At least one of the pre-conditions you specified did not hold"
        ));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
