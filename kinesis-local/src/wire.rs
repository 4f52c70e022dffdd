//! What the service reads and writes: requests, answers, faults and event frames.
//!
//! Promises: a request is read straight into its typed struct and an answer is written straight
//! into one buffer; no document tree is built on the way. The texts of type and constraint errors
//! are the service's own, because SDKs and people match on them.
//!
//! ```text
//! read, cbor  bytes ─▶ typed request        type errors: SerializationException, `Message`
//! constraint  typed request ─▶ checked      up to ten failures in one ValidationException
//! write       answer ─▶ one buffer
//! fault       refusal ─▶ status and body
//! event       SubscribeToShard's frames
//! ```
//!
//! A handler knows neither JSON nor CBOR: it is given a [`Body`], reads it by `decode` and answers
//! through a `Writer` of the same [`Format`].
//!
//! | | JSON 1.1 | CBOR 1.1 |
//! |---|---|---|
//! | blob | base64 | byte string |
//! | timestamp | seconds, with a fraction to the millisecond | tag 1 and integer *milliseconds* |
//! | structure, list | | both forms are read; written without lengths, as the service does |

use crate::answers::{Answers, Full, Share};
use crate::fault::EntryFaults;

mod cbor;
pub(crate) mod constraint;
pub(crate) mod event;
pub(crate) mod fault;
pub(crate) mod read;
pub(crate) mod sigv4;
pub(crate) mod write;

use fault::Fault;

/// How a request, its answer and the events that follow are encoded.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Json,
    Cbor,
}

impl Format {
    /// The type of a request's or answer's body.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }
}

/// The body of a request, with the encoding that its answer has too.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Body<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) format: Format,
    /// Which of the records in it are to be refused, on purpose.
    pub(crate) faults: Option<&'a EntryFaults>,
    /// The memory for what is answered and pushed to who asks, if that is somebody behind a socket.
    pub(crate) answers: Option<&'a Answers>,
}

impl<'a> Body<'a> {
    pub(crate) fn new(format: Format, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            format,
            faults: None,
            answers: None,
        }
    }

    /// The share of an answer of at most so many bytes, of a request whose effect is still to come: who
    /// is told to come again must not have had it. Cancel safe.
    pub(crate) async fn share_ahead(self, bytes: usize) -> Result<Option<Share>, Fault> {
        match self.answers {
            Some(answers) => answers
                .share_in_time(bytes)
                .await
                .map_err(|Full| Fault::busy()),
            None => Ok(None),
        }
    }
}
