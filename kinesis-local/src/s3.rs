//! S3 on the same port, path style, for what sinks write: buckets are folders, objects plain files.
//!
//! ```text
//! request ─▶ unsigned      signature dropped, aws-chunked body decoded and its checksum verified
//!         ─▶ s3s           the S3 protocol
//!         ─▶ buckets       the rules that s3s-fs lacks: see its doc
//!         ─▶ s3s-fs        files: <directory>/<bucket>/<key>
//! ```
//!
//! Promises: an object appears whole or not at all; of concurrent writes with `If-None-Match: *`
//! exactly one succeeds; in a data directory an answered write is synced to the disk. (An object
//! put together from parts is whole after a kill; after a power loss only once it was answered.)
//! Without a data directory the buckets live in a temporary directory that is removed at the end.
//!
//! What S3 keeps about an object beside its bytes (content type, user metadata, checksums) is in
//! dot files of the directory; losing them loses only that.
//!
//! Deliberately absent: checking of signatures, versions, tags, ACLs, lifecycle, virtual-hosted
//! buckets, form uploads. A key cannot be both an object and a "folder" of other objects, and
//! cannot contain the path parts ``, `.` and `..`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;

use crate::body::{BoxError, ResponseBody};
use crate::error::{Error, ErrorKind};

mod buckets;
mod chunked;
mod put;
mod turns;
mod unsigned;

use buckets::Buckets;

/// The service; cheap to clone.
#[derive(Clone)]
pub(crate) struct S3 {
    service: S3Service,
    directory: PathBuf,
    temporary: Arc<Mutex<Option<TempDir>>>,
}

impl S3 {
    /// Serves the buckets in `directory`, or in a temporary directory. Blocks.
    pub(crate) fn open(directory: Option<PathBuf>) -> Result<Self, Error> {
        let unusable = |error: BoxError| {
            Error::new(
                ErrorKind::Storage,
                "the directory for S3 buckets cannot be used; check that it can be written",
            )
            .with_source(error)
        };
        let durable = directory.is_some();
        let (directory, temporary) = match directory {
            Some(directory) => (directory, None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("kinesis-local-s3-")
                    .tempdir()
                    .map_err(|error| unusable(error.into()))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let directory = directory
            .canonicalize()
            .map_err(|error| unusable(error.into()))?;
        let buckets = Buckets::open(&directory, durable)
            .map_err(|error| unusable(format!("{error:?}").into()))?;
        Ok(Self {
            service: S3ServiceBuilder::new(buckets).build(),
            directory,
            temporary: Arc::new(Mutex::new(temporary)),
        })
    }

    /// Where the buckets are, as folders.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Answers one request; its body is read as it arrives.
    pub(crate) async fn call<B>(&self, head: Parts, body: B) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = match unsigned::plain(Request::from_parts(head, body)) {
            Ok(request) => request,
            Err(malformed) => {
                return failure(
                    StatusCode::BAD_REQUEST,
                    "InvalidRequest",
                    &malformed.to_string(),
                );
            }
        };
        match self.service.call(request).await {
            Ok(response) => response.map(|body| ResponseBody::Object(Box::new(body))),
            Err(error) => {
                tracing::error!(?error, "an S3 request failed inside kinesis-local");
                failure(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "InternalError",
                    "the request failed inside kinesis-local",
                )
            }
        }
    }

    /// Removes the temporary directory, if that is what was used.
    pub(crate) async fn close(&self) {
        let temporary = self
            .temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(temporary) = temporary else { return };
        match tokio::task::spawn_blocking(move || temporary.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the temporary S3 directory was not removed"),
            Err(error) => tracing::warn!(%error, "the temporary S3 directory was not removed"),
        }
    }
}

/// An error in S3's XML shape.
fn failure(status: StatusCode, code: &str, message: &str) -> Response<ResponseBody> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(ResponseBody::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/xml"),
    );
    response
}
