//! s3s-fs with the rules that it leaves out.
//!
//! | s3s-fs | here |
//! |---|---|
//! | creates a bucket when an object is put into a missing one | `NoSuchBucket` |
//! | deletes a bucket with all that is in it | `BucketNotEmpty` unless it is empty |
//! | checks `If-None-Match`, later renames: two writers can both succeed | one writer per object at a time, from when its bytes are here |
//! | takes parts without looking at their checksums, and after their upload is over | `BadDigest`, `NoSuchUpload` |
//! | `a//b` and `a/../b` reach another object | refused |
//! | a folder answers like an object | `NoSuchKey` |
//! | stores an object, then checks it, then fails if its key is long | own [`put`] |
//! | makes an object of parts after its metadata, checks them meanwhile, and forgets the upload first | own [`complete`] |
//! | renames without syncing | synced before the answer, when durable |
//! | says that listed keys are URL-encoded and does not encode them | says what is so |
//! | leaves folders and dot files of deleted objects behind | removed |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput, CreateBucketInput,
    CreateBucketOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
    DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
    DeleteObjectsOutput, DeletedObject, ETag, GetBucketLocationInput, GetBucketLocationOutput,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsInput, ListObjectsOutput,
    ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput,
    PutObjectOutput, StreamingBlob, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;

use super::complete;
use super::put::{self, Place};
use super::turns::{Turn, Turns};
use super::upload::{self, Announced, Received, Upload};

/// Longest key. Source: S3 user guide, "Naming Amazon S3 objects" (1,024 bytes of UTF-8).
const KEY_MAX_BYTES: usize = 1024;

/// Longest part of a key between slashes. Source: the longest file name of common file systems.
const KEY_PART_MAX_BYTES: usize = 255;

/// Numbers of parts. Source: S3 user guide, "Amazon S3 multipart upload limits".
const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

/// The length of what s3s-fs calls a multipart upload: a UUID with its hyphens.
const UPLOAD_ID_BYTES: usize = 36;

/// Buckets as folders of one directory.
#[derive(Debug)]
pub(super) struct Buckets {
    files: FileSystem,
    root: PathBuf,
    turns: Turns,
    /// Uploads so far; makes their names differ.
    uploads: AtomicU64,
    /// Sync what was written before it is answered.
    durable: bool,
}

impl Buckets {
    /// Opens the directory and removes what unfinished uploads left in it. Blocks.
    pub(super) fn open(root: &Path, durable: bool) -> Result<Self, s3s_fs::Error> {
        Ok(Self {
            files: FileSystem::new(root)?,
            root: root.to_owned(),
            turns: Turns::default(),
            uploads: AtomicU64::new(0),
            durable,
        })
    }

    /// The folder of a bucket, if there is such a bucket.
    async fn bucket(&self, bucket: &str) -> S3Result<PathBuf> {
        let folder = self.root.join(bucket);
        if tokio::fs::metadata(&folder)
            .await
            .is_ok_and(|found| found.is_dir())
        {
            Ok(folder)
        } else {
            Err(s3_error!(
                NoSuchBucket,
                "The specified bucket does not exist"
            ))
        }
    }

    /// The file of an object that may or may not exist.
    async fn object(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        check(key)?;
        Ok(self.bucket(bucket).await?.join(key))
    }

    /// The file of an object, and the turn to work on it.
    async fn turn(&self, bucket: &str, key: &str) -> S3Result<(PathBuf, Turn)> {
        let path = self.object(bucket, key).await?;
        let turn = self.turns.take_object(bucket, &path).await;
        self.bucket(bucket).await?; // it may have been deleted meanwhile
        Ok((path, turn))
    }

    /// The turn to read an object that exists.
    async fn existing(&self, bucket: &str, key: &str) -> S3Result<Turn> {
        let (path, turn) = self.turn(bucket, key).await?;
        let found = tokio::fs::metadata(&path).await;
        if found.is_ok_and(|found| found.is_file() || key.ends_with('/')) {
            Ok(turn)
        } else {
            Err(s3_error!(NoSuchKey, "The specified key does not exist."))
        }
    }

    /// The turn to write an object.
    async fn writable(&self, bucket: &str, key: &str) -> S3Result<(PathBuf, Turn)> {
        let (path, turn) = self.turn(bucket, key).await?;
        let folder = self.root.join(bucket);
        let taken = |path: &Path, folder_wanted: bool| {
            std::fs::metadata(path).is_ok_and(|found| found.is_dir() != folder_wanted)
        };
        let above = path
            .ancestors()
            .skip(1)
            .take_while(|above| *above != folder);
        if taken(&path, key.ends_with('/')) || above.into_iter().any(|above| taken(above, true)) {
            return Err(s3_error!(
                InvalidArgument,
                "kinesis-local keeps objects as files: a key cannot be both an object and a folder"
            ));
        }
        Ok((path, turn))
    }

    /// Receives an object's or a part's bytes. To be done in nobody's turn: it takes as long as the
    /// client likes.
    async fn receive(
        &self,
        body: Option<StreamingBlob>,
        announced: &Announced,
    ) -> S3Result<Received> {
        upload::receive(self.new_file(), body, announced, self.durable).await
    }

    /// The path of a file that nobody uses; whoever does makes an [`Upload`] of it.
    fn new_file(&self) -> PathBuf {
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        // s3s-fs removes files with such names when it starts.
        self.root.join(format!(".tmp.put-{number}.internal.part"))
    }

    /// Where an object goes whose turn it is.
    fn place(&self, bucket: &str, key: &str, object: &Path) -> Place {
        Place {
            root: self.root.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            object: object.to_owned(),
            durable: self.durable,
        }
    }

    /// The turn to change what was uploaded in parts.
    async fn parts(&self, upload: &str) -> S3Result<Turn> {
        let is_id = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if upload.len() == UPLOAD_ID_BYTES && upload.bytes().all(is_id) {
            let path = self.root.join(format!(".upload-{upload}.json"));
            let turn = self.turns.take(&path).await;
            if tokio::fs::try_exists(&path).await.is_ok_and(|found| found) {
                return Ok(turn);
            }
        }
        Err(no_such_upload())
    }

    /// Puts a change at `path` on the disk, if this is a durable instance: the file, if it is still
    /// there, with its dot files, and the folders above.
    async fn sync(&self, path: PathBuf, dot_files: Vec<PathBuf>) -> S3Result<()> {
        if !self.durable {
            return Ok(());
        }
        let root = self.root.clone();
        tokio::task::spawn_blocking(move || sync(&path, &dot_files, &root))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| s3_error!(error, InternalError, "the change cannot be synced"))
    }

    /// The dot files of an object, if its key is not too long for them.
    fn dot_files(&self, bucket: &str, key: &str) -> Vec<PathBuf> {
        if put::has_dot_files(bucket, key) {
            put::dot_files(&self.root, bucket, key).to_vec()
        } else {
            Vec::new()
        }
    }

    /// Deletes an object, if there is one, in its turn.
    async fn delete(&self, bucket: &str, key: &str) -> S3Result<()> {
        let (path, _turn) = self.turn(bucket, key).await?;
        let is_folder = tokio::fs::metadata(&path).await.map(|found| found.is_dir());
        let removed = match (is_folder, key.ends_with('/')) {
            (Ok(true), true) => match tokio::fs::remove_dir(&path).await {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
                removed => removed,
            },
            (Ok(false), false) => tokio::fs::remove_file(&path).await,
            // There is none, or a folder of other objects.
            (Ok(_) | Err(_), _) => return Ok(()),
        };
        removed.map_err(|error| s3_error!(error, InternalError, "the object cannot be deleted"))?;
        self.tidy(bucket, key).await;
        self.sync(path, Vec::new()).await
    }

    /// Removes what a deleted object leaves behind: its dot files and its empty folders.
    async fn tidy(&self, bucket: &str, key: &str) {
        for file in self.dot_files(bucket, key) {
            if let Err(error) = tokio::fs::remove_file(&file).await
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "what S3 kept about a deleted object was not removed");
            }
        }
        let folder = self.root.join(bucket);
        let object = folder.join(key);
        for above in object
            .ancestors()
            .skip(1)
            .take_while(|above| *above != folder)
        {
            // Not empty: the folder of other objects.
            if tokio::fs::remove_dir(above).await.is_err() {
                break;
            }
        }
    }
}

pub(super) fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may \
         have been aborted or completed."
    )
}

/// Whether `key` can be a file of its own.
fn check(key: &str) -> S3Result<()> {
    if key.len() > KEY_MAX_BYTES {
        return Err(s3_error!(KeyTooLongError, "Your key is too long"));
    }
    let parts = key.strip_suffix('/').unwrap_or(key).split('/');
    for part in parts {
        if part.len() > KEY_PART_MAX_BYTES {
            return Err(s3_error!(
                KeyTooLongError,
                "kinesis-local keeps objects as files: a part of a key has at most 255 bytes"
            ));
        }
        if matches!(part, "" | "." | "..") || part.contains('\0') {
            return Err(s3_error!(
                InvalidArgument,
                "kinesis-local keeps objects as files: a key has no empty parts, '.' or '..'"
            ));
        }
    }
    Ok(())
}

/// Syncs files and the folders above the first of them. Blocks.
fn sync(path: &Path, dot_files: &[PathBuf], root: &Path) -> io::Result<()> {
    let above = path.ancestors().take_while(|part| part.starts_with(root));
    for part in dot_files.iter().map(PathBuf::as_path).chain(above) {
        match std::fs::File::open(part) {
            Ok(file) => file.sync_all()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a folder holds any file, however deep. Blocks.
fn holds_files(folder: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || holds_files(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait]
impl S3 for Buckets {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> Answer<CreateBucketOutput> {
        let owned = || {
            s3_error!(
                BucketAlreadyOwnedByYou,
                "Your previous request to create the named bucket succeeded and you already own it."
            )
        };
        // Asked before waiting too: set-up code makes buckets that there are, and stops nobody.
        if self.bucket(&request.input.bucket).await.is_ok() {
            return Err(owned());
        }
        let _turn = self.turns.take_bucket(&request.input.bucket).await;
        if self.bucket(&request.input.bucket).await.is_ok() {
            return Err(owned());
        }
        let folder = self.root.join(&request.input.bucket);
        let answer = self.files.create_bucket(request).await?;
        self.sync(folder, Vec::new()).await?;
        Ok(answer)
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> Answer<DeleteBucketOutput> {
        let _turn = self.turns.take_bucket(&request.input.bucket).await;
        let folder = self.bucket(&request.input.bucket).await?;
        let holds_files = tokio::task::spawn_blocking(move || holds_files(&folder))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| s3_error!(error, InternalError, "the bucket cannot be read"))?;
        if holds_files {
            return Err(s3_error!(
                BucketNotEmpty,
                "The bucket you tried to delete is not empty"
            ));
        }
        self.files.delete_bucket(request).await
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (bucket, key) = (&request.input.bucket, &request.input.key);
        if key.ends_with('/') {
            let _turn = self.writable(bucket, key).await?;
            return self.files.put_object(request).await; // it has no bytes
        }
        self.object(bucket, key).await?; // before the client sends in vain
        let mut input = request.input;
        let received = self
            .receive(input.body.take(), &Announced::from(&input))
            .await?;
        let (path, _turn) = self.writable(&input.bucket, &input.key).await?;
        let place = self.place(&input.bucket, &input.key, &path);
        let output = put::put(place, &input, received).await?;
        self.sync(path, Vec::new()).await?;
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let (bucket, key) = (&request.input.bucket, &request.input.key);
        let (path, _turn) = self.writable(bucket, key).await?;
        let _parts = self.parts(&request.input.upload_id).await?;
        let place = self.place(bucket, key, &path);
        let whole = Upload(self.new_file());
        let output = complete::complete(&place, &request.input, &whole).await?;
        self.sync(path, Vec::new()).await?;
        complete::forget(&place, &request.input.upload_id).await;
        Ok(S3Response::new(output))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let (bucket, key) = (&request.input.bucket, &request.input.key);
        drop(self.writable(bucket, key).await?);
        if !put::fits_in_parts(bucket, key) {
            return Err(s3_error!(
                KeyTooLongError,
                "kinesis-local takes keys of this length in a single PutObject only"
            ));
        }
        self.files.create_multipart_upload(request).await
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        if let s3s::dto::CopySource::Bucket { bucket, key, .. } = &request.input.copy_source {
            drop(self.existing(bucket, key).await?);
        }
        let (bucket, key) = (&request.input.bucket, &request.input.key);
        let (path, _turn) = self.writable(bucket, key).await?;
        if !put::has_dot_files(bucket, key) {
            return Err(s3_error!(
                KeyTooLongError,
                "kinesis-local takes keys of this length in a single PutObject only"
            ));
        }
        let dot_files = self.dot_files(bucket, key);
        let answer = self.files.copy_object(request).await?;
        self.sync(path, dot_files).await?;
        Ok(answer)
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let _turn = self
            .existing(&request.input.bucket, &request.input.key)
            .await?;
        self.files.get_object(request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let _turn = self
            .existing(&request.input.bucket, &request.input.key)
            .await?;
        self.files.head_object(request).await
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> Answer<DeleteObjectOutput> {
        let (bucket, key) = (request.input.bucket.clone(), request.input.key.clone());
        let (path, _turn) = self.turn(&bucket, &key).await?;
        let found = tokio::fs::metadata(&path).await;
        if found.is_ok_and(|found| found.is_dir() && !key.ends_with('/')) {
            // The folder of other objects is no object: there is nothing to delete.
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        let answer = self.files.delete_object(request).await?;
        self.tidy(&bucket, &key).await;
        self.sync(path, Vec::new()).await?;
        Ok(answer)
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        self.bucket(&bucket).await?;
        for object in &delete.objects {
            check(&object.key)?;
        }
        let mut deleted = Vec::with_capacity(delete.objects.len());
        for object in delete.objects {
            self.delete(&bucket, &object.key).await?;
            deleted.push(DeletedObject {
                key: Some(object.key),
                version_id: object.version_id,
                ..DeletedObject::default()
            });
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted).filter(|_| delete.quiet != Some(true)),
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.files.get_bucket_location(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.files.head_bucket(request).await
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> Answer<ListBucketsOutput> {
        self.files.list_buckets(request).await
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> Answer<ListObjectsOutput> {
        let mut answer = self.files.list_objects(request).await?;
        answer.output.encoding_type = None;
        Ok(answer)
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        let mut answer = self.files.list_objects_v2(request).await?;
        answer.output.encoding_type = None;
        Ok(answer)
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let mut input = request.input;
        if !PART_NUMBERS.contains(&input.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            ));
        }
        drop(self.parts(&input.upload_id).await?); // before the client sends in vain
        let received = self
            .receive(input.body.take(), &Announced::from(&input))
            .await?;
        let (number, upload) = (input.part_number, input.upload_id.to_ascii_lowercase());
        let _parts = self.parts(&upload).await?;
        let part = format!(".upload_id-{upload}.part-{number}"); // where s3s-fs looks for it
        let part = self.root.join(part);
        tokio::fs::rename(&received.upload.0, &part)
            .await
            .map_err(|error| s3_error!(error, InternalError, "the part cannot be stored"))?;
        self.sync(part, Vec::new()).await?;
        let e_tag = received.e_tag();
        let sums = received.checksums;
        Ok(S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(e_tag)),
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha1: sums.checksum_sha1,
            checksum_sha256: sums.checksum_sha256,
            ..UploadPartOutput::default()
        }))
    }

    async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        self.files.upload_part_copy(request).await
    }

    async fn list_parts(&self, request: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.files.list_parts(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let _parts = self.parts(&request.input.upload_id).await?;
        self.files.abort_multipart_upload(request).await
    }
}
