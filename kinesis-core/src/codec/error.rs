//! Why a value did not become data, or data no value.

use super::Compression;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A payload that could not be written or read.
///
/// Its text holds sizes and places, never contents. A codec of your own keeps to that in the
/// `source` it gives, which ends up in logs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Fix the value or its type: it has no form in this format.
    #[error("the value cannot be written as {format}")]
    Encode {
        /// What it was to be written as.
        format: &'static str,
        /// Why it could not.
        source: Source,
    },
    /// Fix the writer, or read with its codec: the data are not of this format.
    #[error("the payload cannot be read as {format}")]
    Decode {
        /// What it was to be read as.
        format: &'static str,
        /// Why it could not.
        source: Source,
    },
    /// Split the value, or raise `max_decoded_bytes` at writer and readers.
    #[error(
        "the payload has {bytes} bytes before compression, more than max_decoded_bytes, {max_bytes}"
    )]
    TooLarge {
        /// The payload's length, as known or as its envelope says.
        bytes: u64,
        /// The bound.
        max_bytes: usize,
    },
    /// The envelope is damaged or cut; no retry helps. The text says where.
    #[error("the envelope of the payload is damaged: {what}")]
    Damaged {
        /// What does not fit.
        what: &'static str,
        /// What the decompression said, if it was that.
        source: Option<Source>,
    },
    /// Read with a newer version: the envelope names a compression that is not known here.
    #[error("the payload is compressed by method {method}, which is not known here")]
    UnknownCompression {
        /// The method's number in the envelope.
        method: u8,
    },
    /// Build with the feature of the same name: this compression was left out.
    #[error("{compression:?} was left out of this build; turn on the feature of its name")]
    NotBuilt {
        /// The compression that is missing.
        compression: Compression,
    },
}

impl CodecError {
    /// For a codec's [`Encode`](super::Encode): the value has no form as `format`.
    pub fn encode(format: &'static str, source: impl Into<Source>) -> Self {
        let source = source.into();
        Self::Encode { format, source }
    }

    /// For a codec's [`Decode`](super::Decode): the data are no `format`.
    pub fn decode(format: &'static str, source: impl Into<Source>) -> Self {
        let source = source.into();
        Self::Decode { format, source }
    }

    pub(super) fn damaged(what: &'static str) -> Self {
        Self::Damaged { what, source: None }
    }
}
