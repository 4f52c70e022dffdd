//! The buckets that channels deliver to: the S3 of the same instance, called directly.

#[cfg(feature = "s3")]
use bytes::Bytes;
#[cfg(feature = "s3")]
use http::{Method, Request, StatusCode};
#[cfg(feature = "s3")]
use http_body_util::{BodyExt as _, Full, Limited};

#[cfg(feature = "s3")]
use crate::s3::S3;
use crate::stream::channel::object::Compression;

/// Bytes of a refusal of S3 that are looked at. Source: none, reasonable default.
#[cfg(feature = "s3")]
const REFUSAL_MAX_BYTES: usize = 64 * 1024;

/// Where objects go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets {
    #[cfg(feature = "s3")]
    s3: Option<S3>,
}

/// An object on its way.
#[derive(Debug)]
pub(super) struct Object<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) storage_class: &'a str,
    pub(super) compression: Compression,
    pub(super) contents: Vec<u8>,
}

/// Why an object is not in its bucket.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum BucketError {
    #[error("The bucket {0} does not exist.")]
    Missing(String),
    #[cfg_attr(
        not(feature = "s3"),
        expect(dead_code, reason = "without S3 no bucket is there")
    )]
    #[error("The bucket {bucket} did not take an object: {reason}.")]
    Refused { bucket: String, reason: String },
}

impl Buckets {
    /// The buckets of `s3`.
    #[cfg(feature = "s3")]
    pub(crate) fn of(s3: S3) -> Self {
        Self { s3: Some(s3) }
    }

    /// Whether there can be any.
    #[cfg(feature = "s3")]
    pub(super) fn are_there(&self) -> bool {
        self.s3.is_some()
    }

    /// Whether there can be any.
    #[cfg(not(feature = "s3"))]
    pub(super) fn are_there(&self) -> bool {
        false
    }

    /// Whether the bucket is there.
    #[cfg(feature = "s3")]
    pub(super) async fn check(&self, bucket: &str) -> Result<(), BucketError> {
        let head = Request::builder().method(Method::HEAD);
        let request = head.uri(format!("/{bucket}"));
        self.call(bucket, request, Bytes::new()).await
    }

    /// Whether the bucket is there.
    #[cfg(not(feature = "s3"))]
    pub(super) async fn check(&self, bucket: &str) -> Result<(), BucketError> {
        Err(BucketError::Missing(bucket.to_owned()))
    }

    /// Writes the object, or replaces the one that has its key; compressed as it says.
    #[cfg(feature = "s3")]
    pub(super) async fn put(&self, object: Object<'_>) -> Result<(), BucketError> {
        let refused = |reason: String| BucketError::Refused {
            bucket: object.bucket.to_owned(),
            reason,
        };
        let (compression, contents) = (object.compression, object.contents);
        let compressing = tokio::task::spawn_blocking(move || compress(compression, contents));
        let compressed = match compressing.await {
            Ok(compressed) => compressed.map_err(|error| refused(error.to_string()))?,
            Err(error) => return Err(refused(error.to_string())),
        };
        let put = Request::builder()
            .method(Method::PUT)
            .uri(format!("/{}/{}", object.bucket, in_path(object.key)))
            .header("x-amz-storage-class", object.storage_class);
        self.call(object.bucket, put, compressed.into()).await
    }

    /// Writes the object, or replaces the one that has its key.
    #[cfg(not(feature = "s3"))]
    pub(super) async fn put(&self, object: Object<'_>) -> Result<(), BucketError> {
        let _ = (
            object.key,
            object.storage_class,
            object.compression,
            object.contents,
        );
        Err(BucketError::Missing(object.bucket.to_owned()))
    }

    #[cfg(feature = "s3")]
    async fn call(
        &self,
        bucket: &str,
        request: http::request::Builder,
        body: Bytes,
    ) -> Result<(), BucketError> {
        let missing = || BucketError::Missing(bucket.to_owned());
        let refused = |reason: String| BucketError::Refused {
            bucket: bucket.to_owned(),
            reason,
        };
        let s3 = self.s3.as_ref().ok_or_else(missing)?;
        let request = request
            .header("host", "localhost")
            .header("content-length", body.len())
            .body(())
            .map_err(|error| refused(error.to_string()))?;
        let (head, ()) = request.into_parts();
        let response = s3.call(head, Full::new(body)).await;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let refusal = Limited::new(response.into_body(), REFUSAL_MAX_BYTES);
        let refusal = refusal.collect().await.map(|whole| whole.to_bytes());
        let code = refusal.ok().and_then(|xml| error_code(&xml));
        match code.as_deref() {
            Some("NoSuchBucket") => Err(missing()),
            // The answer to a HEAD says no more.
            None if status == StatusCode::NOT_FOUND => Err(missing()),
            code => Err(refused(code.unwrap_or(status.as_str()).to_owned())),
        }
    }
}

/// The `Code` of an error of S3.
#[cfg(feature = "s3")]
fn error_code(xml: &[u8]) -> Option<String> {
    let xml = std::str::from_utf8(xml).ok()?;
    let (_, code) = xml.split_once("<Code>")?;
    Some(code.split_once("</Code>")?.0.to_owned())
}

/// The key in the path of a URL.
#[cfg(feature = "s3")]
fn in_path(key: &str) -> String {
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(feature = "s3")]
fn compress(compression: Compression, contents: Vec<u8>) -> std::io::Result<Vec<u8>> {
    use std::io::Write as _;
    match compression {
        Compression::None => Ok(contents),
        Compression::Gzip => {
            // Without a time in its head: the same records are the same object.
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&contents)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::encode_all(&contents[..], zstd::DEFAULT_COMPRESSION_LEVEL),
    }
}
