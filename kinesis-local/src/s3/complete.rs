//! Making one object of the parts that were uploaded for it.
//!
//! ```text
//! <directory>/.upload-<id>.json                                      there as long as the upload is
//! <directory>/.bucket-<b>.object-<k>.upload-<id>.metadata.json       what was said of the object at its begin
//! <directory>/.upload_id-<id>.part-<n>                               the parts
//! <directory>/.tmp.put-<n>.internal.part                             1 the parts, checked and joined
//!                                                                    2 stored as any object (see `put`)
//! the upload's files                                                 3 removed
//! ```
//! Promises: parts that cannot be completed leave the object and the upload as they were; whenever it is
//! interrupted, the object's bytes are the old ones or the new ones as a whole, and the upload is there until
//! they are the new ones. What is kept beside the old bytes may be gone (see [`put`](super::put)). s3s-fs,
//! whose files these are, replaces what is kept beside the old object first, and has forgotten the upload
//! when it finds a part missing.

use std::io;
use std::path::PathBuf;

use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart, ETag};
use s3s::{S3Error, S3Result, s3_error};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::put::{self, Place};
use super::upload::{Upload, hex};

/// All parts but the last have at least as many bytes. Source: S3 user guide, "Amazon S3 multipart upload
/// limits".
const PART_MIN_BYTES: u64 = 5 * 1024 * 1024;

/// How much is joined at once, in bytes. Source: none.
const PIECE_BYTES: usize = 64 * 1024;

/// Makes the object in the file `whole`, and stores it. To be done in the object's turn and the upload's.
pub(super) async fn complete(
    place: &Place,
    input: &CompleteMultipartUploadInput,
    whole: &Upload,
) -> S3Result<CompleteMultipartUploadOutput> {
    let upload = input.upload_id.to_ascii_lowercase();
    let attributes = attributes(place, &upload).await?;
    let parts = listed(input)?;
    let conditions = (&input.if_none_match, &input.if_match);
    place.check_conditions(conditions).await?;
    let sums = join(place, &upload, parts, whole).await?;
    let mut sum = Md5::new();
    sums.iter().for_each(|part| sum.update(part));
    let e_tag = format!("{}-{}", hex(&sum.finalize()), sums.len());
    let kept = [json!({ "e_tag": e_tag }), attributes];
    place.store(whole, kept).await?;
    Ok(CompleteMultipartUploadOutput {
        bucket: Some(place.bucket.clone()),
        key: Some(place.key.clone()),
        e_tag: Some(ETag::Strong(e_tag)),
        ..CompleteMultipartUploadOutput::default()
    })
}

/// What was said of the object when the upload began. There is none under the name of another object.
async fn attributes(place: &Place, upload: &str) -> S3Result<Value> {
    let said = tokio::fs::read(said_of(place, upload)).await;
    let said = said
        .ok()
        .and_then(|said| serde_json::from_slice(&said).ok());
    said.ok_or_else(super::buckets::no_such_upload)
}

/// The parts that the client lists, in its order.
fn listed(input: &CompleteMultipartUploadInput) -> S3Result<&[CompletedPart]> {
    let listed = input.multipart_upload.as_ref();
    let parts = listed.and_then(|listed| listed.parts.as_deref());
    let parts = parts.filter(|parts| !parts.is_empty()).ok_or_else(|| {
        s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        )
    })?;
    if !parts.is_sorted_by(|one, next| one.part_number < next.part_number) {
        return Err(s3_error!(
            InvalidPartOrder,
            "The list of parts was not in ascending order. The parts list must be specified in order by \
             part number."
        ));
    }
    Ok(parts)
}

/// Step 1. Gives the MD5 of each part.
async fn join(
    place: &Place,
    upload: &str,
    parts: &[CompletedPart],
    whole: &Upload,
) -> S3Result<Vec<[u8; 16]>> {
    let unwritable = |error| s3_error!(error, InternalError, "the parts cannot be joined");
    let file = tokio::fs::File::create(&whole.0).await;
    let mut file = file.map_err(unwritable)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut sums = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        let number = part.part_number.ok_or_else(no_such_part)?;
        let path = format!(".upload_id-{upload}.part-{number}");
        let from = tokio::fs::File::open(place.root.join(path)).await;
        let mut from = from.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => no_such_part(),
            _ => unwritable(error),
        })?;
        let (mut md5, mut bytes) = (Md5::new(), 0);
        loop {
            let read = from.read(&mut piece).await.map_err(unwritable)?;
            if read == 0 {
                break;
            }
            md5.update(&piece[..read]);
            bytes += read as u64;
            file.write_all(&piece[..read]).await.map_err(unwritable)?;
        }
        let sum = md5.finalize();
        let e_tag = ETag::Strong(hex(&sum));
        if part
            .e_tag
            .as_ref()
            .is_some_and(|said| !said.strong_cmp(&e_tag))
        {
            return Err(no_such_part());
        }
        if bytes < PART_MIN_BYTES && at + 1 < parts.len() {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size"
            ));
        }
        sums.push(sum);
    }
    file.flush().await.map_err(unwritable)?;
    if place.durable {
        file.sync_all().await.map_err(unwritable)?;
    }
    Ok(sums)
}

fn no_such_part() -> S3Error {
    s3_error!(
        InvalidPart,
        "One or more of the specified parts could not be found. The part may not have been uploaded, or \
         the specified entity tag may not match the part's entity tag."
    )
}

/// Where s3s-fs keeps the attributes that the object is to have.
fn said_of(place: &Place, upload: &str) -> PathBuf {
    let [_, attributes] = put::dot_files(&place.root, &place.bucket, &place.key);
    attributes
        .with_extension("")
        .with_extension(format!("upload-{upload}.metadata.json"))
}

/// Step 3. What cannot be removed is no upload any more.
pub(super) async fn forget(place: &Place, upload: &str) {
    let upload = upload.to_ascii_lowercase();
    let mut files = vec![
        place.root.join(format!(".upload-{upload}.json")),
        said_of(place, &upload),
    ];
    let parts = format!(".upload_id-{upload}.part-");
    if let Ok(mut found) = tokio::fs::read_dir(&place.root).await {
        while let Ok(Some(file)) = found.next_entry().await {
            if file.file_name().to_string_lossy().starts_with(&parts) {
                files.push(file.path());
            }
        }
    }
    for file in files {
        if let Err(error) = tokio::fs::remove_file(&file).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a file of a completed upload was not removed");
        }
    }
}
