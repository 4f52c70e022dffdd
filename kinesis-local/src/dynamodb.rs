//! DynamoDB on the same port, for the lease tables of consumers: dynoxide embedded, called directly.
//!
//! ```text
//! POST / X-Amz-Target: DynamoDB_20120810.<operation>
//!   │
//!   ├─ backups, limits, endpoints       answered here (dynoxide does not know them)
//!   └─ every other operation ─▶ one call at a time ─▶ blocking thread ─▶ dynoxide ─▶ SQLite
//!                                                     (or the caller's, if the builder says so)
//! ```
//!
//! Promises: a write that was answered is on disk (SQLite's write-ahead log, synced at each commit)
//! when there is a data directory, and gone with the instance when there is none. Errors have
//! DynamoDB's JSON shape and names. Calls never block the async runtime, and virtual time stands
//! still while one is carried out.
//!
//! One call at a time, because one SQLite connection serves them: waiting costs a permit, not a
//! thread. Signatures are not looked at here: if they are checked, that was before ([`crate::auth`]).
//!
//! Deliberately absent: table streams, capacity and throttling, backups other than their on/off
//! state, indexes that take time to build (an index is ACTIVE at once). Table ARNs carry the
//! region `dynoxide`. Error texts for malformed requests are close to the service's, not equal.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dynoxide::Database;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use kinesis_core::{Clock, Rand};
use tokio::sync::Semaphore;

use crate::body::ResponseBody;
use crate::error::{Error, ErrorKind};

mod account;
mod backups;
mod dispatch;

use backups::Backups;

/// The tables of a durable instance, inside its part of the data directory.
const DATABASE_FILE: &str = "tables.sqlite";

/// Which of them have point-in-time recovery.
const BACKUPS_FILE: &str = "backups.json";

/// What an operation answers: the JSON text of its output, or of its error with the status.
type Answer = Result<String, Refusal>;

/// An error of the service.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    body: String,
}

impl Refusal {
    /// A client's mistake, in DynamoDB's shape; `kind` with its namespace.
    fn new(kind: &str, message: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: serde_json::json!({ "__type": kind, "message": message }).to_string(),
        }
    }

    fn unknown_operation() -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            body: r#"{"__type":"com.amazon.coral.service#UnknownOperationException"}"#.to_owned(),
        }
    }

    fn internal(message: &str) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            body: serde_json::json!({
                "__type": "com.amazonaws.dynamodb.v20120810#InternalServerError",
                "message": message,
            })
            .to_string(),
        }
    }
}

/// The service; cheap to clone.
#[derive(Clone)]
pub(crate) struct DynamoDb {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` once closed.
    tables: Mutex<Option<Tables>>,
    turn: Arc<Semaphore>,
    rand: Rand,
    /// Carry calls out on the caller's thread.
    single_threaded: bool,
}

/// What a call works on.
#[derive(Clone)]
struct Tables {
    database: Database,
    backups: Arc<Backups>,
    clock: Clock,
}

impl DynamoDb {
    /// Opens the tables in `directory`, or a database in memory. Blocks.
    pub(crate) fn open(
        directory: Option<&Path>,
        clock: Clock,
        rand: Rand,
        single_threaded: bool,
    ) -> Result<Self, Error> {
        let (database, backups) = match directory {
            None => (Database::memory().map_err(unusable)?, Backups::in_memory()),
            Some(directory) => {
                let file = directory.join(DATABASE_FILE);
                let file = file.to_str().ok_or_else(|| {
                    Error::new(
                        ErrorKind::Settings,
                        format!("data_dir {} is not valid UTF-8", directory.display()),
                    )
                })?;
                (
                    Database::new(file).map_err(unusable)?,
                    Backups::open(directory.join(BACKUPS_FILE))?,
                )
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                tables: Mutex::new(Some(Tables {
                    database,
                    backups: Arc::new(backups),
                    clock,
                })),
                turn: Arc::new(Semaphore::new(1)),
                rand,
                single_threaded,
            }),
        })
    }

    /// Answers one request. A call that was started ends even if the future is dropped.
    pub(crate) async fn call(&self, request: Request<Bytes>) -> Response<ResponseBody> {
        let (head, body) = request.into_parts();
        let answer = match operation(&head.headers) {
            None => Err(Refusal::unknown_operation()),
            Some(operation) => {
                let operation = operation.to_owned();
                self.run(operation, host(&head.headers), body).await
            }
        };
        self.response(answer)
    }

    async fn run(&self, operation: String, host: String, body: Bytes) -> Answer {
        let Ok(turn) = Arc::clone(&self.inner.turn).acquire_owned().await else {
            return Err(Refusal::internal("the server is shutting down"));
        };
        let tables = self.tables().clone();
        let Some(tables) = tables else {
            return Err(Refusal::internal("the server is shutting down"));
        };
        if self.inner.single_threaded {
            return tables.answer(&operation, &host, &body);
        }
        let work = tokio::task::spawn_blocking(move || {
            let answer = tables.answer(&operation, &host, &body);
            drop(turn);
            answer
        });
        work.await.unwrap_or_else(|_| {
            tracing::error!("a DynamoDB operation panicked; it was answered with 500");
            Err(Refusal::internal(
                "the operation failed inside kinesis-local",
            ))
        })
    }

    /// Waits for the call that is under way and closes the database. Later calls are refused.
    pub(crate) async fn close(&self) {
        let _turn = self.inner.turn.acquire().await;
        let tables = self.tables().take();
        // Closing SQLite writes its log back into the database file.
        let closed = tokio::task::spawn_blocking(move || drop(tables)).await;
        if closed.is_err() {
            tracing::error!(
                "closing the DynamoDB tables panicked; they are read back at the next start"
            );
        }
    }

    fn tables(&self) -> std::sync::MutexGuard<'_, Option<Tables>> {
        self.inner
            .tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn response(&self, answer: Answer) -> Response<ResponseBody> {
        let (status, body) = match answer {
            Ok(body) => (StatusCode::OK, body),
            Err(refusal) => (refusal.status, refusal.body),
        };
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-amz-json-1.0"),
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        // The Java SDK checks it and takes a mismatch for a broken connection.
        headers.insert(
            "x-amz-crc32",
            HeaderValue::from(crc32fast::hash(body.as_bytes())),
        );
        if let Ok(id) = HeaderValue::from_str(&self.inner.rand.uuid()) {
            headers.insert("x-amzn-requestid", id);
        }
        let mut response = Response::new(ResponseBody::full(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl Tables {
    /// Carries out one operation. Blocks.
    fn answer(&self, operation: &str, host: &str, body: &[u8]) -> Answer {
        match operation {
            "DescribeContinuousBackups" => self.backups.describe(&self.database, &self.clock, body),
            "UpdateContinuousBackups" => self.backups.update(&self.database, &self.clock, body),
            "DescribeLimits" => Ok(account::limits()),
            "DescribeEndpoints" => Ok(account::endpoints(host)),
            _ => dispatch::run(&self.database, operation, body),
        }
    }
}

/// The operation that the target names, or `None` if there is no target (the request was routed
/// here by its signature).
fn operation(headers: &HeaderMap) -> Option<&str> {
    headers
        .get("x-amz-target")?
        .to_str()
        .ok()?
        .strip_prefix("DynamoDB_20120810.")
}

/// The name under which the caller reached this server.
fn host(headers: &HeaderMap) -> String {
    headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("127.0.0.1")
        .to_owned()
}

fn unusable(error: dynoxide::DynoxideError) -> Error {
    Error::new(
        ErrorKind::Storage,
        "the DynamoDB tables cannot be opened; check the data directory's permissions, or move \
         its dynamodb/ aside to start with no tables",
    )
    .with_source(error)
}
