//! Objects of a bucket: put at once, or in a part or two, and deleted.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use super::*;

const BUCKET: &str = "archive";

/// Keys of one writer.
const KEYS: usize = 3;

/// The name of what a user keeps beside an object.
const NOTE: &str = "version";

pub(super) async fn create(config: &SdkConfig) {
    let create = Client::new(config).create_bucket().bucket(BUCKET);
    create.send().await.unwrap();
}

/// All parts but the last have at least this many bytes. Source: S3 user guide, "Amazon S3 multipart upload
/// limits".
const PART_MIN_BYTES: usize = 5 * 1024 * 1024;

/// Whether it is so long that its first part is not its last.
fn has_two_parts(version: u64) -> bool {
    version % 8 == 6
}

/// The bytes of a version, of which each line tells which it is; a length that no other has.
fn bytes(version: u64) -> Vec<u8> {
    let line = format!("{version}\n");
    let least = match has_two_parts(version) {
        true => PART_MIN_BYTES / line.len() + 1,
        false => 0,
    };
    line.repeat(1 + least + version as usize % 30_011).into()
}

/// Writes until the server is gone.
pub(super) async fn write(
    config: SdkConfig,
    writer: usize,
    round: usize,
    books: Books,
    count: Arc<AtomicUsize>,
) {
    let client = Client::new(&config);
    for n in 0.. {
        let next = version(round, n);
        let key = format!("{writer}/{}.txt", n % KEYS);
        let done = if n % 4 == 2 {
            match send_parts(&client, &key, next).await {
                Some(upload) => {
                    let complete = client.complete_multipart_upload().bucket(BUCKET).key(&key);
                    let complete = complete.upload_id(upload.0).multipart_upload(upload.1);
                    change(&books, &key, Some(next), complete.send()).await
                }
                None => false,
            }
        } else if n % 5 == 4 && known(&books, &key).is_some() {
            let delete = client.delete_object().bucket(BUCKET).key(&key).send();
            change(&books, &key, None, delete).await
        } else {
            let put = client.put_object().bucket(BUCKET).key(&key);
            let put = put.metadata(NOTE, next.to_string());
            let put = put.body(ByteStream::from(bytes(next))).send();
            change(&books, &key, Some(next), Box::pin(put)).await
        };
        if !done {
            return;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// An upload with its parts, to be completed; `None`: the server is gone.
async fn send_parts(
    client: &Client,
    key: &str,
    version: u64,
) -> Option<(String, CompletedMultipartUpload)> {
    let upload = client.create_multipart_upload().bucket(BUCKET).key(key);
    let upload = upload
        .metadata(NOTE, version.to_string())
        .send()
        .await
        .ok()?;
    let upload = upload.upload_id.unwrap();
    let mut whole = bytes(version);
    let rest = match has_two_parts(version) {
        true => vec![whole.split_off(PART_MIN_BYTES)],
        false => Vec::new(),
    };
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(std::iter::once(whole).chain(rest)) {
        let sent = client
            .upload_part()
            .bucket(BUCKET)
            .key(key)
            .upload_id(&upload);
        let sent = sent.part_number(number).body(ByteStream::from(part));
        let e_tag = sent.send().await.ok()?.e_tag;
        parts.push(
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(e_tag)
                .build(),
        );
    }
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
    Some((upload, parts.build()))
}

/// The version of every object. Each is whole, and what is kept beside it is its own.
pub(super) async fn read(config: &SdkConfig, books: &Books) -> BTreeMap<String, u64> {
    let client = Client::new(config);
    let list = client
        .list_objects_v2()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    let mut found = BTreeMap::new();
    for listed in list.contents() {
        let key = listed.key().unwrap();
        let object = client
            .get_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
            .unwrap();
        let note = object
            .metadata()
            .and_then(|metadata| metadata.get(NOTE))
            .cloned();
        let body = object.body.collect().await.unwrap().into_bytes();
        let line = body.split(|byte| *byte == b'\n').next().unwrap();
        let version = std::str::from_utf8(line).unwrap().parse().unwrap();
        assert!(body == bytes(version), "{key} is not the whole {version}");
        // A kill may come between an object and what is kept beside it.
        match note {
            Some(note) => assert_eq!(note, version.to_string(), "{key}"),
            None => assert!(
                !is_acknowledged(books, key),
                "{key} {version} lost its metadata"
            ),
        }
        found.insert(key.to_owned(), version);
    }
    found
}
