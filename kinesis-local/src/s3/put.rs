//! Storing one object: in one request, or from its parts ([`complete`](super::complete)).
//!
//! ```text
//! <directory>/.tmp.put-<n>.internal.part                             1 received (see `upload`)
//! <directory>/.bucket-<b>.object-<k>.{internal,metadata}.json        2 removed
//! <directory>/<bucket>/<key>                                         3 the upload, renamed
//! <directory>/.bucket-<b>.object-<k>.{internal,metadata}.json        4 written (b, k in base64)
//! ```
//!
//! Only from 2 on has it to be the object's turn: a client that sends slowly holds up nobody.
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

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{ETag, ETagCondition, PutObjectInput, PutObjectOutput, TimestampFormat};
use s3s::{S3Result, s3_error};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::upload::{Received, Upload, hex};

/// Longest file name. Source: common file systems (ext4, xfs, APFS, NTFS).
const FILE_NAME_MAX_BYTES: usize = 255;

/// How often a folder may be removed under an object that goes into it. Source: none.
const PLACE_TRIES: u32 = 8;

/// How much of an object is read at once to sum it up, in bytes. Source: none.
const SUM_PIECE_BYTES: usize = 64 * 1024;

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
    pub(super) bucket: String,
    pub(super) key: String,
    /// The object's file.
    pub(super) object: PathBuf,
    /// Sync files before they are renamed.
    pub(super) durable: bool,
}

/// Stores an object that was received, if its conditions hold.
pub(super) async fn put(
    place: Place,
    input: &PutObjectInput,
    received: Received,
) -> S3Result<PutObjectOutput> {
    let conditions = (&input.if_none_match, &input.if_match);
    place.check_conditions(conditions).await?;
    let kept = [internal(&received), attributes(input)];
    place.store(&received.upload, kept).await?;
    let e_tag = received.e_tag();
    let sums = received.checksums;
    Ok(PutObjectOutput {
        e_tag: Some(ETag::Strong(e_tag)),
        checksum_crc32: sums.checksum_crc32,
        checksum_crc32c: sums.checksum_crc32c,
        checksum_crc64nvme: sums.checksum_crc64nvme,
        checksum_sha1: sums.checksum_sha1,
        checksum_sha256: sums.checksum_sha256,
        ..PutObjectOutput::default()
    })
}

impl Place {
    /// Checks `If-None-Match` and `If-Match`.
    pub(super) async fn check_conditions(
        &self,
        conditions: (&Option<ETagCondition>, &Option<ETagCondition>),
    ) -> S3Result<()> {
        let old = async |wanted: &ETag| -> bool {
            let tag = self.e_tag().await;
            tag.is_ok_and(|tag| ETag::Strong(tag).strong_cmp(wanted))
        };
        let exists = tokio::fs::try_exists(&self.object).await.unwrap_or(true);
        let refused = match conditions {
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

    /// The ETag of the object that is there: the one that was kept, which says of how many parts it
    /// was made, or else the sum of its bytes.
    async fn e_tag(&self) -> io::Result<String> {
        let mut file = tokio::fs::File::open(&self.object).await?;
        if has_dot_files(&self.bucket, &self.key) {
            let [kept, _] = dot_files(&self.root, &self.bucket, &self.key);
            let kept = tokio::fs::read(kept).await.unwrap_or_default();
            let kept: Value = serde_json::from_slice(&kept).unwrap_or_default();
            if let Some(tag) = kept["e_tag"].as_str() {
                return Ok(tag.to_owned());
            }
        }
        let (mut md5, mut piece) = (Md5::new(), vec![0; SUM_PIECE_BYTES]);
        loop {
            match file.read(&mut piece).await? {
                0 => return Ok(hex(&md5.finalize())),
                read => md5.update(&piece[..read]),
            }
        }
    }

    /// Steps 2 to 4; `kept` is what the dot files hold.
    pub(super) async fn store(&self, upload: &Upload, kept: [Value; 2]) -> S3Result<()> {
        let stored = self.try_store(upload, kept).await;
        stored.map_err(|error| s3_error!(error, InternalError, "the object cannot be stored"))
    }

    async fn try_store(&self, upload: &Upload, kept: [Value; 2]) -> io::Result<()> {
        let has_dot_files = has_dot_files(&self.bucket, &self.key);
        let dot_files = dot_files(&self.root, &self.bucket, &self.key);
        if has_dot_files {
            for file in &dot_files {
                match tokio::fs::remove_file(file).await {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        self.place(upload).await?;
        if has_dot_files {
            for (file, content) in dot_files.iter().zip(kept) {
                self.write_dot_file(upload, file, content).await?;
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

    /// Step 4. The name of the upload is free again.
    async fn write_dot_file(&self, upload: &Upload, file: &Path, content: Value) -> io::Result<()> {
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
fn attributes(input: &PutObjectInput) -> Value {
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

/// What s3s-fs keeps in its `.internal.json`.
fn internal(received: &Received) -> Value {
    let mut kept = serde_json::Map::new();
    let sums = &received.checksums;
    let texts = [
        ("e_tag", &Some(received.e_tag())),
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
