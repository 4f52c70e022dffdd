//! The objects of a bucket, read back.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::BoxError;
use futures::{StreamExt, TryStreamExt, stream};

/// Objects that are read at the same time. Source: none, reasonable default.
const READS_AT_ONCE: usize = 8;

/// One object of a bucket.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name.
    pub key: String,
    /// Its content.
    pub content: String,
}

/// Reads every object whose name starts with `prefix`, in the order of their names. With the names
/// that the S3 sink gives, that is shard by shard, a shard before those that it was split or merged
/// into (their numbers are higher), and within a shard by position.
///
/// # Errors
/// Whatever listing or reading fails with, and a content that is not UTF-8.
pub async fn read(client: &Client, bucket: &str, prefix: &str) -> Result<Vec<Object>, BoxError> {
    let mut pages = client
        .list_objects_v2()
        .bucket(bucket)
        .prefix(prefix)
        .into_paginator()
        .send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(
            page?
                .contents
                .into_iter()
                .flatten()
                .filter_map(|object| object.key),
        );
    }
    keys.sort();
    let read_one = async |key: String| {
        let object = client.get_object().bucket(bucket).key(&key).send().await?;
        let content = String::from_utf8(object.body.collect().await?.to_vec())?;
        Ok::<_, BoxError>(Object { key, content })
    };
    stream::iter(keys)
        .map(read_one)
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await
}
