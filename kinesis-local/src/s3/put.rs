//! Storing one object in one request.
//!
//! ```text
//! <directory>/.tmp.put-<n>.internal.part                             1 written, checked, synced
//! <directory>/.bucket-<b>.object-<k>.{internal,metadata}.json        2 removed
//! <directory>/<bucket>/<key>                                         3 the upload, renamed
//! <directory>/.bucket-<b>.object-<k>.{internal,metadata}.json        4 written (b, k in base64)
//! ```
//!
//! Promises: whenever it is interrupted, the object is the old one or the new one as a whole, and
//! what is kept beside it is never of the other one. s3s-fs, which does everything else, checks a
//! checksum only after the object is in its place, and syncs nothing.
//!
//! The dot files are in s3s-fs's format, which reads them. A file name has at most 255 bytes, which
//! leaves about 160 for a key, and S3 allows 1,024: an object with a longer key has no dot files, so
//! no content type and no user metadata, and its ETag is computed when it is asked for.

use std::io;
use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{
    Checksum, ChecksumAlgorithm, ETag, ETagCondition, PutObjectInput, PutObjectOutput,
    StreamingBlob, TimestampFormat,
};
use s3s::{S3Result, s3_error};
use tokio::io::AsyncWriteExt as _;

/// Longest file name. Source: common file systems (ext4, xfs, APFS, NTFS).
const FILE_NAME_MAX_BYTES: usize = 255;

/// How often a folder may be removed under an object that goes into it. Source: none.
const PLACE_TRIES: u32 = 8;

/// What s3s-fs adds to one of the names while a multipart upload is open: `.upload-<uuid>`.
const MULTIPART_SUFFIX_BYTES: usize = 8 + 36;

/// The names under which s3s-fs keeps what belongs to an object beside its bytes: its ETag and
/// checksums, and its attributes.
pub(super) fn dot_files(root: &Path, bucket: &str, key: &str) -> [PathBuf; 2] {
    let encode = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(text);
    let stem = format!(".bucket-{}.object-{}", encode(bucket), encode(key));
    [
        root.join(format!("{stem}.internal.json")),
        root.join(format!("{stem}.metadata.json")),
    ]
}

/// Whether an object of this key has dot files.
pub(super) fn has_dot_files(bucket: &str, key: &str) -> bool {
    longest_name(bucket, key) <= FILE_NAME_MAX_BYTES
}

/// Whether s3s-fs can store an object of this key in parts.
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

/// Where an object goes. Whoever makes one has the turn for `object`.
#[derive(Debug)]
pub(super) struct Place {
    /// The directory of all buckets.
    pub(super) root: PathBuf,
    /// The object's file.
    pub(super) object: PathBuf,
    /// An unused name in `root` for the upload; s3s-fs removes files with such names when it starts.
    pub(super) upload: PathBuf,
    /// Sync files before they are renamed.
    pub(super) durable: bool,
}

/// Stores an object, if its conditions hold and its checksums are right.
pub(super) async fn put(place: Place, mut input: PutObjectInput) -> S3Result<PutObjectOutput> {
    check_conditions(&place.object, &input).await?;
    let body = input.body.take().ok_or_else(|| s3_error!(IncompleteBody))?;
    let written = place.write(body, hasher(&input)?).await?;
    if written.differs_from(&input) {
        return Err(s3_error!(
            BadDigest,
            "the checksum sent with the object does not match it"
        ));
    }
    place
        .store(&input, &written)
        .await
        .map_err(|error| s3_error!(error, InternalError, "the object cannot be stored"))?;
    let sums = written.checksums;
    Ok(PutObjectOutput {
        e_tag: Some(ETag::Strong(hex(&written.md5))),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..PutObjectOutput::default()
    })
}

impl Place {
    /// Step 1: the bytes, under the upload's name.
    async fn write(
        &self,
        mut body: StreamingBlob,
        mut checksums: ChecksumHasher,
    ) -> S3Result<Written> {
        let unwritable = |error| s3_error!(error, InternalError, "the object cannot be written");
        let upload = Upload(self.upload.clone());
        let mut file = tokio::fs::File::create(&upload.0)
            .await
            .map_err(unwritable)?;
        let mut md5 = Md5::new();
        while let Some(piece) = body.try_next().await.map_err(|error| {
            let message = format!("the object's bytes did not arrive whole: {error}");
            s3_error!(IncompleteBody, "{message}")
        })? {
            md5.update(&piece);
            checksums.update(&piece);
            file.write_all(&piece).await.map_err(unwritable)?;
        }
        file.flush().await.map_err(unwritable)?;
        if self.durable {
            file.sync_all().await.map_err(unwritable)?;
        }
        Ok(Written {
            upload,
            md5: md5.finalize(),
            checksums: checksums.finalize(),
        })
    }

    /// Steps 2 to 4.
    async fn store(&self, input: &PutObjectInput, written: &Written) -> io::Result<()> {
        let has_dot_files = has_dot_files(&input.bucket, &input.key);
        let dot_files = dot_files(&self.root, &input.bucket, &input.key);
        if has_dot_files {
            for file in &dot_files {
                match tokio::fs::remove_file(file).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.place(&written.upload).await?;
        if has_dot_files {
            let contents = [written.internal(), attributes(input)];
            for (file, content) in dot_files.iter().zip(contents) {
                self.write_dot_file(file, content).await?;
            }
        }
        Ok(())
    }

    /// Step 3. Tries again if the folder was removed in between, with the last other object in it.
    async fn place(&self, upload: &Upload) -> io::Result<()> {
        let mut tries = 1..=PLACE_TRIES;
        loop {
            if let Some(folder) = self.object.parent() {
                tokio::fs::create_dir_all(folder).await?;
            }
            match tokio::fs::rename(&upload.0, &self.object).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {
                }
                done => return done,
            }
        }
    }

    async fn write_dot_file(&self, file: &Path, content: serde_json::Value) -> io::Result<()> {
        let upload = Upload(self.upload.clone());
        let mut out = tokio::fs::File::create(&upload.0).await?;
        out.write_all(content.to_string().as_bytes()).await?;
        out.flush().await?;
        if self.durable {
            out.sync_all().await?;
        }
        tokio::fs::rename(&upload.0, file).await
    }
}

/// What s3s-fs keeps in its `.metadata.json`.
fn attributes(input: &PutObjectInput) -> serde_json::Value {
    let expires = input.expires.as_ref().and_then(|expires| {
        let mut text = Vec::new();
        expires.format(TimestampFormat::DateTime, &mut text).ok()?;
        String::from_utf8(text).ok()
    });
    let mut kept = serde_json::Map::new();
    if let Some(metadata) = &input.metadata {
        kept.insert("user_metadata".to_owned(), serde_json::json!(metadata));
    }
    let texts = [
        ("content_encoding", &input.content_encoding),
        ("content_type", &input.content_type),
        ("content_disposition", &input.content_disposition),
        ("content_language", &input.content_language),
        ("cache_control", &input.cache_control),
        ("expires", &expires),
        (
            "website_redirect_location",
            &input.website_redirect_location,
        ),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            kept.insert(name.to_owned(), serde_json::json!(text));
        }
    }
    kept.into()
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
    upload: Upload,
    md5: [u8; 16],
    checksums: Checksum,
}

impl Written {
    /// What s3s-fs keeps in its `.internal.json`.
    fn internal(&self) -> serde_json::Value {
        let mut kept = serde_json::Map::new();
        let sums = &self.checksums;
        let texts = [
            ("e_tag", &Some(hex(&self.md5))),
            ("checksum_crc32", &sums.checksum_crc32),
            ("checksum_crc32c", &sums.checksum_crc32c),
            ("checksum_crc64nvme", &sums.checksum_crc64nvme),
            ("checksum_sha1", &sums.checksum_sha1),
            ("checksum_sha256", &sums.checksum_sha256),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                kept.insert(name.to_owned(), serde_json::json!(text));
            }
        }
        kept.into()
    }

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

/// Computes the checksums that the client announced or asked for.
fn hasher(input: &PutObjectInput) -> S3Result<ChecksumHasher> {
    let asked = input
        .checksum_algorithm
        .as_ref()
        .map(ChecksumAlgorithm::as_str);
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
    let wanted = |sum: &Option<String>, name: &str| sum.is_some() || asked == Some(name);
    Ok(ChecksumHasher {
        crc32: wanted(&input.checksum_crc32, ChecksumAlgorithm::CRC32).then(Crc32::new),
        crc32c: wanted(&input.checksum_crc32c, ChecksumAlgorithm::CRC32C).then(Crc32c::new),
        crc64nvme: wanted(&input.checksum_crc64nvme, ChecksumAlgorithm::CRC64NVME)
            .then(Crc64Nvme::new),
        sha1: wanted(&input.checksum_sha1, ChecksumAlgorithm::SHA1).then(Sha1::new),
        sha256: wanted(&input.checksum_sha256, ChecksumAlgorithm::SHA256).then(Sha256::new),
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
