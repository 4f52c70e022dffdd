//! S3 on the same port, path style, for what sinks write: buckets are folders, objects plain files.
//!
//! ```text
//! request ─▶ unsigned      signature dropped, aws-chunked body decoded and its checksum verified
//!         ─▶ s3s           the S3 protocol
//!         ─▶ buckets       the rules that s3s-fs lacks: see its doc
//!         ─▶ s3s-fs        files: <directory>/<bucket>/<key>
//! ```
//!
//! Promises: an object appears whole or not at all; a client that sends slowly holds up no other one
//! of its object, and one that hardly sends is cut (see [`pace`]); of concurrent writes with `If-None-Match: *`
//! exactly one succeeds; in a data directory an answered write is synced to the disk. (An object
//! put together from parts is whole after a kill; after a power loss only once it was answered.)
//! Without a data directory the buckets live in a temporary directory that is made at the first
//! request and removed at the end.
//!
//! What S3 keeps about an object beside its bytes (content type, user metadata, checksums) is in
//! dot files of the directory; losing them loses only that.
//!
//! Deliberately absent: versions, tags, ACLs, lifecycle, virtual-hosted buckets, form uploads; and
//! signatures, which are checked before, if there are users ([`crate::auth`]). A key cannot be both an object and a "folder" of other objects, and
//! cannot contain the path parts ``, `.` and `..`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;

use crate::auth::Refusal;
use crate::body::{BoxError, ResponseBody};
use crate::error::{Error, ErrorKind};

mod buckets;
mod chunked;
mod complete;
mod pace;
mod put;
mod turns;
mod unsigned;
mod upload;

use buckets::Buckets;

/// How the name of a temporary directory begins.
const TEMPORARY_PREFIX: &str = "kinesis-local-s3-";

/// What is put beside the bytes of an object, as the query names it. All else there is of a presigned URL,
/// which may have any header of the request in it. Source: S3 API reference, "Actions": `PutObjectAcl` and
/// so on.
const SUBRESOURCES: [&str; 7] = [
    "acl",
    "encryption",
    "legal-hold",
    "renameObject",
    "retention",
    "tagging",
    "torrent",
];

/// The service; cheap to clone.
#[derive(Clone)]
pub(crate) struct S3 {
    opened: Arc<OnceLock<Opened>>,
}

/// The buckets' directory, and who serves it.
struct Opened {
    /// `None`: the temporary directory could not be made.
    service: Option<S3Service>,
    directory: PathBuf,
    temporary: Mutex<Option<TempDir>>,
}

impl Opened {
    /// Blocks.
    fn durable(directory: &Path) -> Result<Self, BoxError> {
        Self::serve(directory, None)
    }

    /// Blocks.
    fn temporary() -> Self {
        let opened = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .tempdir()
            .map_err(BoxError::from)
            .and_then(|temporary| {
                let directory = temporary.path().to_path_buf();
                Self::serve(&directory, Some(temporary))
            });
        opened.unwrap_or_else(|error| {
            tracing::error!(
                error,
                "The temporary directory for S3 buckets cannot be made."
            );
            Self {
                service: None,
                directory: std::env::temp_dir().join(TEMPORARY_PREFIX),
                temporary: Mutex::new(None),
            }
        })
    }

    fn serve(directory: &Path, temporary: Option<TempDir>) -> Result<Self, BoxError> {
        let directory = directory.canonicalize()?;
        let buckets = Buckets::open(&directory, temporary.is_none())
            .map_err(|error| BoxError::from(format!("{error:?}")))?;
        Ok(Self {
            service: Some(S3ServiceBuilder::new(buckets).build()),
            directory,
            temporary: Mutex::new(temporary),
        })
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let directory = self.opened.get().map(|opened| &opened.directory);
        let mut debug = f.debug_struct("S3");
        debug.field("directory", &directory).finish_non_exhaustive()
    }
}

impl S3 {
    /// Serves the buckets in `directory`, or in a temporary directory, which is made when it is
    /// first asked for: most tests have no use for it. Blocks.
    pub(crate) fn open(directory: Option<PathBuf>) -> Result<Self, Error> {
        let opened = OnceLock::new();
        if let Some(directory) = directory {
            let durable = Opened::durable(&directory).map_err(|error| {
                Error::new(
                    ErrorKind::Storage,
                    "the directory for S3 buckets cannot be used; check that it can be written",
                )
                .with_source(error)
            })?;
            opened.get_or_init(|| durable);
        }
        Ok(Self {
            opened: Arc::new(opened),
        })
    }

    fn opened(&self) -> &Opened {
        self.opened.get_or_init(Opened::temporary)
    }

    /// Where the buckets are, as folders. Blocks when it is first asked for.
    pub(crate) fn directory(&self) -> &Path {
        &self.opened().directory
    }

    /// Answers one request; its body is read as it arrives.
    pub(crate) async fn call<B>(&self, head: Parts, body: B) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if self.opened.get().is_none() {
            let first = self.clone();
            let made = tokio::task::spawn_blocking(move || first.opened().service.is_some());
            if let Err(error) = made.await {
                tracing::error!(%error, "Making the directory for S3 buckets panicked.");
            }
        }
        let Some(service) = &self.opened().service else {
            return failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "the temporary directory for buckets cannot be made; see kinesis-local's log",
            );
        };
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
        match service.call(request).await {
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
        let Some(opened) = self.opened.get() else {
            return;
        };
        let temporary = opened
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

/// The answer to a request that no user has signed.
pub(crate) fn unauthenticated(refusal: &Refusal) -> Response<ResponseBody> {
    let (code, text) = refusal.s3();
    failure(StatusCode::FORBIDDEN, code, text)
}

/// Whether the body of a request goes into a file as it arrives: the bytes of an object or of a part. All
/// others are read whole, and are short.
pub(crate) fn is_streamed(head: &Parts) -> bool {
    let path = head.uri.path().trim_start_matches('/');
    let has_key = path.split_once('/').is_some_and(|(_, key)| !key.is_empty());
    let of_its_bytes = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        // Nobody has to write any of them like this, so it is not read as something harmless.
        let is_encoded = name.contains(['%', '+']);
        !is_encoded && !SUBRESOURCES.contains(&name)
    };
    let mut parameters = head.uri.query().unwrap_or_default().split('&');
    head.method == http::Method::PUT && has_key && parameters.all(of_its_bytes)
}

/// The answer to a request whose body did not arrive, because it is too large, or too slow or broken off.
pub(crate) fn not_arrived(is_too_large: bool) -> Response<ResponseBody> {
    // Source: S3 API reference, "List of error codes".
    let (code, text) = match is_too_large {
        true => ("MaxMessageLengthExceeded", "Your request was too large."),
        false => (
            "RequestTimeout",
            "Your socket connection to the server was not read from or written to within the timeout \
             period. Idle connections will be closed.",
        ),
    };
    failure(StatusCode::BAD_REQUEST, code, text)
}

/// The answer to a request that comes while there is too much to do.
pub(crate) fn busy() -> Response<ResponseBody> {
    failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "SlowDown",
        "Please reduce your request rate.",
    )
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

#[cfg(test)]
mod tests;
