//! What can go wrong with a `kinesis-local` as a whole: starting it and its data directory.
//!
//! Errors of a request are not here: they travel in the response, in the shape of the service that
//! was called. An error's text names paths and addresses, never payloads, keys or credentials.

use std::fmt;

use crate::body::BoxError;

/// What to do about an [`Error`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is out of its bounds. Fix the setting that the message names.
    Settings,
    /// The address cannot be listened on. Choose another, or stop who uses it.
    Listen,
    /// Another process uses the data directory. Stop it, or choose another directory.
    DataDirInUse,
    /// The data directory cannot be read or written. Fix its permissions or free space, then retry.
    Storage,
    /// The data directory holds something that this version cannot understand. Nothing was changed:
    /// move the directory aside and keep it for analysis.
    Corrupt,
}

/// Why a `kinesis-local` could not start or stop as asked.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
