//! S3 on kinesis-local, by the official SDK client: what a sink and a person need.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(feature = "s3")]

use std::fmt::Debug;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, EncodingType,
    ObjectIdentifier,
};
use kinesis_local::KinesisLocal;

#[path = "s3/parts.rs"]
mod parts;

const BUCKET: &str = "flights";

/// An instance with one bucket.
async fn with_bucket() -> (KinesisLocal, Client) {
    let local = KinesisLocal::builder().start().await.unwrap();
    let client = Client::new(&local.sdk_config());
    client.create_bucket().bucket(BUCKET).send().await.unwrap();
    (local, client)
}

async fn put(client: &Client, key: &str, body: &'static str) {
    client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(ByteStream::from_static(body.as_bytes()))
        .send()
        .await
        .unwrap();
}

async fn object(client: &Client, key: &str) -> GetObjectOutput {
    let object = client.get_object().bucket(BUCKET).key(key).send();
    object.await.unwrap()
}

async fn get(client: &Client, key: &str) -> String {
    let body = object(client, key).await.body;
    let bytes = body.collect().await.unwrap().into_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The error code and status of a refused call.
fn refusal<E>(error: SdkError<E>) -> (String, u16)
where
    E: ProvideErrorMetadata + Debug,
{
    let status = error.raw_response().unwrap().status().as_u16();
    (error.code().unwrap_or_default().to_owned(), status)
}

#[tokio::test(start_paused = true)]
async fn an_object_is_a_plain_file_that_comes_back_as_it_was_put() {
    let (local, client) = with_bucket().await;
    let put = client
        .put_object()
        .bucket(BUCKET)
        .key("jfk/2001-01-01.ndjson")
        .content_type("application/x-ndjson")
        .metadata("shard", "shardId-000000000000")
        .body(ByteStream::from_static(b"{}\n"))
        .send()
        .await
        .unwrap();
    let file = local.s3_dir().join(BUCKET).join("jfk/2001-01-01.ndjson");
    assert_eq!(std::fs::read(file).unwrap(), b"{}\n");

    let head = client
        .head_object()
        .bucket(BUCKET)
        .key("jfk/2001-01-01.ndjson")
        .send()
        .await
        .unwrap();
    assert_eq!(head.content_length(), Some(3));
    assert_eq!(head.content_type(), Some("application/x-ndjson"));
    assert_eq!(head.metadata().unwrap()["shard"], "shardId-000000000000");
    assert_eq!(head.e_tag(), put.e_tag());
    assert_eq!(get(&client, "jfk/2001-01-01.ndjson").await, "{}\n");
    let part = client
        .get_object()
        .bucket(BUCKET)
        .key("jfk/2001-01-01.ndjson")
        .range("bytes=1-1")
        .send()
        .await
        .unwrap();
    assert_eq!(part.body.collect().await.unwrap().into_bytes(), "}");
}

#[tokio::test(start_paused = true)]
async fn objects_are_listed_by_prefix_and_page() {
    let (_local, client) = with_bucket().await;
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        put(&client, key, "x").await;
    }
    let pages: Vec<_> = client
        .list_objects_v2()
        .bucket(BUCKET)
        .prefix("a/")
        .max_keys(2)
        .into_paginator()
        .send()
        .try_collect()
        .await
        .unwrap();
    let keys: Vec<_> = pages
        .iter()
        .flat_map(|page| page.contents())
        .map(|object| object.key().unwrap())
        .collect();
    assert_eq!(keys, ["a/1", "a/2", "a/3"]);
    let folders = client
        .list_objects_v2()
        .bucket(BUCKET)
        .delimiter("/")
        .send()
        .await
        .unwrap();
    let folders: Vec<_> = folders
        .common_prefixes()
        .iter()
        .map(|folder| folder.prefix().unwrap())
        .collect();
    assert_eq!(folders, ["a/", "b/"]);
}

#[tokio::test(start_paused = true)]
async fn a_listed_key_is_the_key_that_was_put_whatever_its_characters() {
    let (_local, client) = with_bucket().await;
    let key = "a b/c+d%2Fe &<>\"\u{e9}\u{1f980}";
    put(&client, key, "x").await;
    let listed = client
        .list_objects_v2()
        .bucket(BUCKET)
        .encoding_type(EncodingType::Url)
        .send()
        .await
        .unwrap();
    assert_eq!(listed.encoding_type(), None);
    assert_eq!(listed.contents()[0].key(), Some(key));
    assert_eq!(get(&client, key).await, "x");
}

#[tokio::test(start_paused = true)]
async fn of_concurrent_writers_of_a_new_object_exactly_one_succeeds() {
    let (_local, client) = with_bucket().await;
    for key in ["short".to_owned(), "long/".repeat(100) + "key"] {
        let writers: Vec<_> = (0..8)
            .map(|writer: u8| {
                let put = client
                    .put_object()
                    .bucket(BUCKET)
                    .key(&key)
                    .if_none_match("*")
                    .body(ByteStream::from(vec![writer; 100_000]))
                    .send();
                tokio::spawn(async move { (writer, put.await) })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                (writer, Ok(_)) => winners.push(writer),
                (_, Err(error)) => {
                    assert_eq!(refusal(error), ("PreconditionFailed".to_owned(), 412));
                }
            }
        }
        assert_eq!(winners.len(), 1);
        let object = client
            .get_object()
            .bucket(BUCKET)
            .key(&key)
            .send()
            .await
            .unwrap();
        let bytes = object.body.collect().await.unwrap().into_bytes();
        assert!(bytes.len() == 100_000 && bytes.iter().all(|byte| *byte == winners[0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_is_gone_with_its_empty_folders_and_metadata() {
    let (local, client) = with_bucket().await;
    put(&client, "a/b/one", "1").await;
    put(&client, "a/two", "2").await;
    put(&client, "three", "3").await;
    client
        .delete_object()
        .bucket(BUCKET)
        .key("a/b/one")
        .send()
        .await
        .unwrap();
    client
        .delete_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap();
    client
        .delete_object()
        .bucket(BUCKET)
        .key("never-there")
        .send()
        .await
        .unwrap();
    let gone = client
        .head_object()
        .bucket(BUCKET)
        .key("a/b/one")
        .send()
        .await
        .unwrap_err();
    assert_eq!(refusal(gone).1, 404);
    assert!(!local.s3_dir().join(BUCKET).join("a/b").exists());
    let delete =
        ["a/two", "three"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder()
        .set_objects(Some(delete.to_vec()))
        .build()
        .unwrap();
    client
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete)
        .send()
        .await
        .unwrap();
    let left: Vec<_> = std::fs::read_dir(local.s3_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [BUCKET]);
}

#[tokio::test(start_paused = true)]
async fn a_streamed_upload_with_its_checksum_behind_is_stored_without_its_wrapping() {
    let (_local, client) = with_bucket().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("flights.ndjson");
    std::fs::write(&file, "a line\n".repeat(50_000)).unwrap();
    for algorithm in [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32C,
        ChecksumAlgorithm::Sha256,
        ChecksumAlgorithm::Crc64Nvme,
    ] {
        let key = algorithm.as_str().to_owned();
        client
            .put_object()
            .bucket(BUCKET)
            .key(&key)
            .checksum_algorithm(algorithm)
            .body(ByteStream::from_path(&file).await.unwrap())
            .send()
            .await
            .unwrap();
        assert_eq!(get(&client, &key).await, "a line\n".repeat(50_000));
        let head = client
            .head_object()
            .bucket(BUCKET)
            .key(&key)
            .send()
            .await
            .unwrap();
        assert_eq!(head.content_encoding(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_of_any_length_that_s3_allows_can_be_stored() {
    let (_local, client) = with_bucket().await;
    // 56-digit sequence numbers, as a sink names its objects; and the longest key of all.
    let sink = format!(
        "sink/{}/shardId-000000000000/{:056}-{:056}.ndjson",
        "p".repeat(60),
        1,
        2
    );
    let longest = "0123456789/".repeat(93) + "x";
    assert_eq!(longest.len(), 1024);
    for key in [sink, longest] {
        put(&client, &key, "one").await;
        put(&client, &key, "two").await;
        assert_eq!(get(&client, &key).await, "two");
        client
            .delete_object()
            .bucket(BUCKET)
            .key(&key)
            .send()
            .await
            .unwrap();
    }
    let (key, body) = ("x".repeat(1025), ByteStream::from_static(b"x"));
    let too_long = client
        .put_object()
        .bucket(BUCKET)
        .key(key)
        .body(body)
        .send()
        .await
        .unwrap_err();
    assert_eq!(refusal(too_long), ("KeyTooLongError".to_owned(), 400));
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_in_the_way_has_its_own_error() {
    let (_local, client) = with_bucket().await;
    put(&client, "a/b", "x").await;
    let body = || ByteStream::from_static(b"x");
    let put_into = |bucket: &str, key: &str| {
        client
            .put_object()
            .bucket(bucket)
            .key(key)
            .body(body())
            .send()
    };
    let cases = [
        (
            put_into("other", "k").await.unwrap_err(),
            "NoSuchBucket",
            404,
        ),
        (
            put_into(BUCKET, "a").await.unwrap_err(),
            "InvalidArgument",
            400,
        ),
        (
            put_into(BUCKET, "a/b/c").await.unwrap_err(),
            "InvalidArgument",
            400,
        ),
        (
            put_into(BUCKET, "a//b").await.unwrap_err(),
            "InvalidArgument",
            400,
        ),
    ];
    for (error, code, status) in cases {
        assert_eq!(refusal(error), (code.to_owned(), status));
    }
    let missing = client
        .get_object()
        .bucket(BUCKET)
        .key("a")
        .send()
        .await
        .unwrap_err();
    assert_eq!(refusal(missing), ("NoSuchKey".to_owned(), 404));
    let again = client
        .create_bucket()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap_err();
    assert_eq!(refusal(again), ("BucketAlreadyOwnedByYou".to_owned(), 409));
    let full = client
        .delete_bucket()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap_err();
    assert_eq!(refusal(full), ("BucketNotEmpty".to_owned(), 409));
    assert_eq!(get(&client, "a/b").await, "x");
}

#[tokio::test(start_paused = true)]
async fn buckets_survive_a_restart_in_a_data_directory_and_not_without() {
    let directory = tempfile::tempdir().unwrap();
    let start = || KinesisLocal::builder().data_dir(directory.path()).start();
    let first = start().await.unwrap();
    let client = Client::new(&first.sdk_config());
    client.create_bucket().bucket(BUCKET).send().await.unwrap();
    put(&client, "kept", "x").await;
    first.shutdown().await;
    let second = start().await.unwrap();
    assert_eq!(get(&Client::new(&second.sdk_config()), "kept").await, "x");
    assert_eq!(
        second.s3_dir(),
        directory.path().canonicalize().unwrap().join("s3")
    );

    let (temporary, _) = with_bucket().await;
    let directory = temporary.s3_dir().to_owned();
    assert!(directory.exists());
    temporary.shutdown().await;
    assert!(!directory.exists());
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_put_leaves_behind_harms_no_object() {
    let directory = tempfile::tempdir().unwrap();
    let buckets = directory.path().join("s3");
    let start = || KinesisLocal::builder().data_dir(directory.path()).start();
    let first = start().await.unwrap();
    let client = Client::new(&first.sdk_config());
    client.create_bucket().bucket(BUCKET).send().await.unwrap();
    put(&client, "object", "whole").await;
    first.shutdown().await;
    // Interrupted before the rename: a part of an upload. After it: an object without dot files.
    std::fs::write(buckets.join(".tmp.put-0.internal.part"), "ha").unwrap();
    for entry in std::fs::read_dir(&buckets).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().unwrap().starts_with(".bucket-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }

    let second = start().await.unwrap();
    let client = Client::new(&second.sdk_config());
    assert_eq!(get(&client, "object").await, "whole");
    let head = client.head_object().bucket(BUCKET).key("object").send();
    assert_eq!(
        head.await.unwrap().e_tag(),
        Some("\"356c9ee60e9da05301adc3bd96f6b383\"")
    );
    let left: Vec<_> = std::fs::read_dir(&buckets)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [BUCKET]);
}

#[tokio::test(start_paused = true)]
async fn deleting_many_tells_each_unless_it_is_to_be_quiet_and_leaves_folders_of_others() {
    let (local, client) = with_bucket().await;
    for quiet in [false, true] {
        for key in ["a/1", "a/2", "b"] {
            put(&client, key, "x").await;
        }
        let object = |key: &str| ObjectIdentifier::builder().key(key).build().unwrap();
        let keys = ["a/1", "a", "b", "b/c", "none"];
        let delete = Delete::builder().quiet(quiet);
        let delete = delete.set_objects(Some(keys.map(object).to_vec())).build();
        let sent = client
            .delete_objects()
            .bucket(BUCKET)
            .delete(delete.unwrap());
        let told = sent.send().await.unwrap();
        let told: Vec<_> = told.deleted().iter().filter_map(|it| it.key()).collect();
        assert_eq!(told, if quiet { vec![] } else { keys.to_vec() });
        assert_eq!(get(&client, "a/2").await, "x");
        let left = client
            .list_objects_v2()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap();
        assert_eq!(left.key_count(), Some(1));
    }
    drop(local);
}
