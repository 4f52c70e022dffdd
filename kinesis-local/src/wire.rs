//! What the service reads and writes: requests, answers, faults and event frames.
//!
//! Promises: a request is read straight into its typed struct and an answer is written straight
//! into one buffer; no document tree is built on the way. The texts of type and constraint errors
//! are the service's own, because SDKs and people match on them.
//!
//! ```text
//! read        bytes ─▶ typed request        type errors: SerializationException, `Message`
//! constraint  typed request ─▶ checked      up to ten failures in one ValidationException
//! write       answer ─▶ one buffer          JSON 1.1
//! fault       refusal ─▶ status and body
//! event       SubscribeToShard's frames
//! ```
//!
//! The field types of `read` and the methods of `write::Writer` are all that knows JSON: they are
//! where a second encoding goes.
//!
//! Deliberately absent: CBOR. Its content type is answered with an error that says so.

/// How a request and its answer are encoded.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Json,
}

/// The body of a request, with the encoding that its answer has too.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Body<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) format: Format,
}

impl<'a> Body<'a> {
    pub(crate) fn new(format: Format, bytes: &'a [u8]) -> Self {
        Self { bytes, format }
    }
}

pub(crate) mod constraint;
pub(crate) mod event;
pub(crate) mod fault;
pub(crate) mod read;
pub(crate) mod write;
