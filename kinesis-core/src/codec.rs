//! Typed payloads: how a value becomes a record's data, and a value again.
//!
//! ```text
//! producer                                             consumer
//! value ─Encode─▶ bytes ─compress─▶ envelope ─▶ … ─▶ envelope ─expand─▶ bytes ─Decode─▶ value
//!         Json            Compressed<Json>              Compressed<Json>          Json
//! ```
//!
//! The same codec stands on both sides: [`Json`] (feature `json`), or a codec of your own, alone
//! or inside [`Compressed`], which writes and reads the envelope below. Two traits and not one,
//! because a program that only writes a type need not be able to read it.
//!
//! ```
//! use bytes::Bytes;
//! use kinesis_core::codec::{CodecError, Compressed, Decode, Encode};
//!
//! /// Delays in minutes, big-endian.
//! struct Minutes;
//!
//! impl Encode<i32> for Minutes {
//!     fn encode(&self, delay: &i32) -> Result<Bytes, CodecError> {
//!         Ok(Bytes::copy_from_slice(&delay.to_be_bytes()))
//!     }
//! }
//!
//! impl Decode<i32> for Minutes {
//!     fn decode(&self, data: &Bytes) -> Result<i32, CodecError> {
//!         let bytes = <[u8; 4]>::try_from(&data[..]);
//!         bytes.map(i32::from_be_bytes).map_err(|error| CodecError::decode("minutes", error))
//!     }
//! }
//!
//! let codec = Compressed::plain(Minutes);
//! assert_eq!(codec.decode(&codec.encode(&-4)?)?, -4);
//! assert!(codec.decode(&Bytes::from_static(b"late")).is_ok(), "any four bytes");
//! assert!(codec.decode(&Bytes::from_static(b"early")).is_err());
//! # Ok::<(), CodecError>(())
//! ```
//!
//! # The envelope of a compressed payload
//! ```text
//! offset  bytes
//!      0      4  D7 4B 5A 01        mark and version; no UTF-8 text begins so, nor an aggregate
//!      4      1  00 stored          as it is
//!                01 gzip            RFC 1952, one member, nothing behind it
//!                02 zstd            RFC 8878, one frame with its checksum, nothing behind it
//!      5      4  length of the payload before compression, big-endian
//!      9      …  the body
//! ```
//! A payload that does not begin with the mark is no envelope and is taken as it is. So a writer
//! leaves out what would not make the payload smaller, a stream may hold both, and compression can
//! be turned on (readers first) or off at any time. A payload that begins with the mark by chance
//! is written as *stored*, so it is read back unchanged.
//!
//! # Hostile and damaged input
//! A body is never expanded beyond the length that its envelope states, and that never beyond
//! [`Compressed::max_decoded_bytes`]. Whatever does not fit is a [`CodecError`], never a panic.
//!
//! Deliberately absent: schemas and their registries, encryption.

mod envelope;
mod error;
#[cfg(feature = "json")]
mod json;

use bytes::Bytes;

pub use envelope::{Compressed, Compression, DECODED_MAX_BYTES_DEFAULT};
pub use error::CodecError;
#[cfg(feature = "json")]
pub use json::Json;

/// Makes a record's data out of a value.
pub trait Encode<T: ?Sized> {
    /// The data that [`Decode`] of the same codec understands.
    ///
    /// # Errors
    /// [`CodecError`] if the value has no form as data, or is too large.
    fn encode(&self, value: &T) -> Result<Bytes, CodecError>;
}

/// Makes a value out of a record's data.
pub trait Decode<T> {
    /// The value in `data`.
    ///
    /// # Errors
    /// [`CodecError`] if there is none: another format, damaged, or too large.
    fn decode(&self, data: &Bytes) -> Result<T, CodecError>;
}

impl<T: ?Sized, C: Encode<T> + ?Sized> Encode<T> for std::sync::Arc<C> {
    fn encode(&self, value: &T) -> Result<Bytes, CodecError> {
        (**self).encode(value)
    }
}

impl<T, C: Decode<T> + ?Sized> Decode<T> for std::sync::Arc<C> {
    fn decode(&self, data: &Bytes) -> Result<T, CodecError> {
        (**self).decode(data)
    }
}
