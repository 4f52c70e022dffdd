//! Why a record was not delivered, and what to do about it.
//!
//! [`ErrorKind`] is the caller's decision; the text says what happened to which stream; `source()`
//! is the service's own answer. A record that failed comes back in the error. No text contains
//! payload, partition keys or credentials: the service's message is left out where it may quote
//! the request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::codec::CodecError;
use kinesis_core::{InvalidRecord, UserRecord};

use crate::attempts::{FailedAttempt, History};

/// Requests that were refused for the time of their signature, or whose credentials were of the past,
/// before that is taken to last. Source: none, reasonable default; after a freeze the first new
/// signature passes.
pub(crate) const STALE_ATTEMPTS_MIN: u32 = 4;
/// And for how long, at least. Source: the SDK gets new credentials 10 s before the old ones expire; a
/// clock that is a minute late is 50 s too late for that.
pub(crate) const STALE_TIME_MIN: Duration = Duration::from_secs(60);

/// What the caller can do about an [`Error`].
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Fix the settings or the SDK client (region, endpoint, credentials), or build the producer
    /// inside a tokio runtime. Where the SDK's default chain finds no credentials at all, the first
    /// record fails with this after about a minute: it looks like a source that is out of reach.
    InvalidSettings,
    /// Fix the record: its key is empty or too long, it is larger than the stream allows, or a
    /// typed value has no form as data.
    InvalidRecord,
    /// Retry later: the intake has no room now. Only `try_send` says this; `send` waits instead.
    Full,
    /// Give up with this handle: the producer was closed. The record was not accepted.
    Closed,
    /// Send less, or retry later: the stream is over its write quota. Only
    /// [`Settings::fail_if_throttled`](crate::Settings::fail_if_throttled) lets a record fail so.
    Throttled,
    /// Give up or retry: the record's time to live ran out. The source is the last failure. An
    /// attempt that timed out may have stored it.
    Expired,
    /// Fix: the stream does not exist in this account and region.
    NotFound,
    /// Fix: the credentials are refused, or do not allow the operation on this stream. Expired ones
    /// are tried for a minute.
    AccessDenied,
    /// Fix the stream's KMS key: it is disabled, deleted, or not allowed to the producer.
    Encryption,
    /// Fix the record or request: the service refuses it and would refuse it again.
    Rejected,
    /// Retry elsewhere: the producer ended (deadline of `close`, runtime shut down) before the
    /// outcome was known. A record that was in flight may have been stored.
    Undelivered,
}

/// A failure of the producer, with the record if it was about one.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    reason: Reason,
    attempts: u32,
    history: History,
    record: Option<UserRecord>,
}

/// What happened, precisely. Its `Display` is the error's text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reason {
    #[error("setting `{field}`: {bounds}")]
    Setting { field: &'static str, bounds: String },
    #[error("a producer needs a tokio runtime: call build() inside one")]
    NoRuntime,
    #[error("a producer needs a tokio runtime with timers: enable_time() on its builder")]
    NoTimers,
    #[error("the record for stream {stream} was not accepted{bound}")]
    Record {
        stream: Arc<str>,
        source: InvalidRecord,
        bound: Bound,
    },
    #[error("the value for stream {stream} did not become a record")]
    Value {
        stream: Arc<str>,
        source: CodecError,
    },
    #[error(
        "the producer of stream {stream} has no room: {records} records and {bytes} bytes are \
         outstanding; wait (send), slow down, or raise max_buffered_bytes or max_buffered_records"
    )]
    Full {
        stream: Arc<str>,
        records: u64,
        bytes: u64,
    },
    #[error("the producer of stream {stream} is closed; the record was not accepted")]
    Closed { stream: Arc<str> },
    #[error("the record for stream {stream} was not stored within its time to live of {ttl:?}")]
    Expired {
        stream: Arc<str>,
        ttl: Duration,
        source: Option<Arc<Cause>>,
    },
    #[error("the record was not stored in stream {stream}: {}", source.class.advice())]
    Service {
        stream: Arc<str>,
        source: Arc<Cause>,
    },
    #[error("the producer of stream {stream} ended before the outcome of the record was known")]
    Undelivered {
        stream: Arc<str>,
        source: Option<Arc<Cause>>,
    },
    #[error(
        "{records} records for stream {stream} were not delivered before the deadline of close(); \
         their own errors give them back"
    )]
    Deadline { stream: Arc<str>, records: u64 },
    #[error("the producer ended")]
    Stopped,
}

/// What sets the size that a record was held against.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Bound {
    /// It was not about size.
    None,
    /// The service, of any record.
    Service,
    /// `max_user_record_size`.
    Setting,
    /// `max_buffered_bytes`.
    Buffer,
    /// The stream.
    Stream,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "",
            Self::Service => ": no record of the service is so large",
            Self::Setting => ": max_user_record_size bounds it",
            Self::Buffer => ": max_buffered_bytes bounds it",
            Self::Stream => ": the stream's maximum record size bounds it",
        })
    }
}

impl Error {
    pub(crate) fn new(reason: Reason) -> Self {
        let kind = match &reason {
            Reason::Setting { .. } | Reason::NoRuntime | Reason::NoTimers => {
                ErrorKind::InvalidSettings
            }
            Reason::Record { .. } | Reason::Value { .. } => ErrorKind::InvalidRecord,
            Reason::Full { .. } => ErrorKind::Full,
            Reason::Closed { .. } => ErrorKind::Closed,
            Reason::Expired { .. } => ErrorKind::Expired,
            Reason::Service { source, .. } => source.class.kind(),
            Reason::Undelivered { .. } | Reason::Deadline { .. } | Reason::Stopped => {
                ErrorKind::Undelivered
            }
        };
        Self {
            inner: Box::new(Inner {
                kind,
                reason,
                attempts: 0,
                history: History::default(),
                record: None,
            }),
        }
    }

    pub(crate) fn setting(field: &'static str, bounds: String) -> Self {
        Self::new(Reason::Setting { field, bounds })
    }

    pub(crate) fn stopped() -> Self {
        Self::new(Reason::Stopped)
    }

    pub(crate) fn about(mut self, record: UserRecord, attempts: u32) -> Self {
        self.inner.record = Some(record);
        self.inner.attempts = attempts;
        self
    }

    pub(crate) fn after(mut self, history: History) -> Self {
        self.inner.history = history;
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// How many requests carried the record; 0 if it was never sent.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// Those attempts that failed, oldest first: of many the first one and the latest seven.
    pub fn failed_attempts(&self) -> impl ExactSizeIterator<Item = FailedAttempt<'_>> {
        self.inner.history.iter()
    }

    /// The record that failed, if the error is about one.
    #[must_use]
    pub fn record(&self) -> Option<&UserRecord> {
        self.inner.record.as_ref()
    }

    /// Gives the failed record back; its payload was not copied.
    #[must_use]
    pub fn into_record(self) -> Option<UserRecord> {
        self.inner.record
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.reason.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("reason", &self.inner.reason)
            .field("attempts", &self.inner.attempts)
            .field("record", &self.inner.record)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.inner.reason)
    }
}

/// How a request or one of its records failed.
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Class {
    /// Over a quota; the same request passes later.
    Throttled,
    /// The service or the way to it is down; the outcome may be unknown.
    Unavailable,
    /// An aggregate was stored in a shard that not all its members belong to.
    WrongShard,
    /// The stream does not exist.
    NotFound,
    /// The credentials are refused, or do not allow it.
    AccessDenied,
    /// The stream's KMS key cannot be used.
    Encryption,
    /// The service refuses the request, perhaps for a neighbour in it.
    Rejected,
    /// The SDK client cannot make the request at all.
    Client,
}

impl Class {
    /// Whether the same request can succeed later without anybody's help.
    pub(crate) fn is_transient(self) -> bool {
        match self {
            Self::Throttled | Self::Unavailable | Self::WrongShard => true,
            Self::NotFound
            | Self::AccessDenied
            | Self::Encryption
            | Self::Rejected
            | Self::Client => false,
        }
    }

    fn kind(self) -> ErrorKind {
        match self {
            Self::Throttled => ErrorKind::Throttled,
            Self::Unavailable | Self::WrongShard => ErrorKind::Undelivered,
            Self::NotFound => ErrorKind::NotFound,
            Self::AccessDenied => ErrorKind::AccessDenied,
            Self::Encryption => ErrorKind::Encryption,
            Self::Rejected => ErrorKind::Rejected,
            Self::Client => ErrorKind::InvalidSettings,
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Throttled => "the stream is over its write quota; send less or add shards",
            Self::Unavailable => "the service could not be reached or failed; send it again",
            Self::WrongShard => "the stream was resharded; send it again",
            Self::NotFound => "the stream does not exist; check name, account and region",
            Self::AccessDenied => {
                "access is denied; check the credentials and allow kinesis:PutRecords and \
                 kinesis:ListShards on the stream"
            }
            Self::Encryption => "the stream's KMS key cannot be used; enable it or allow its use",
            Self::Rejected => "the service refuses it; sending it again does not help",
            Self::Client => "the SDK client cannot send; check region, endpoint and credentials",
        }
    }
}

/// The service's answer, or what stood in its place. Shared by all records it is about.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {}{}", code, detail.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
pub(crate) struct Cause {
    pub(crate) operation: &'static str,
    pub(crate) class: Class,
    /// The service's error code, or a word for what happened on the way.
    pub(crate) code: String,
    pub(crate) detail: Option<String>,
    /// The records of the request that the service found guilty, from 0, if it named them.
    pub(crate) guilty: Vec<usize>,
    /// It is about the content of the request: without a guilty record it would pass.
    pub(crate) of_content: bool,
    /// It is about the time of the signature: after a freeze a new one passes.
    pub(crate) stale: bool,
}

impl Cause {
    pub(crate) fn new(operation: &'static str, class: Class, code: impl Into<String>) -> Self {
        Self {
            operation,
            class,
            code: code.into(),
            detail: None,
            guilty: Vec::new(),
            of_content: false,
            stale: false,
        }
    }

    pub(crate) fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    pub(crate) fn with_guilty(mut self, guilty: Vec<usize>) -> Self {
        self.guilty = guilty;
        self
    }

    pub(crate) fn of_content(mut self, of_content: bool) -> Self {
        self.of_content = of_content;
        self
    }

    pub(crate) fn stale(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }

    /// Whether the same request can succeed later without anybody's help, after so many failures
    /// in a row, this one included, in so long a time.
    pub(crate) fn is_transient_after(&self, failures: u32, time: Duration) -> bool {
        self.class.is_transient()
            || self.stale && (failures < STALE_ATTEMPTS_MIN || time < STALE_TIME_MIN)
    }
}
