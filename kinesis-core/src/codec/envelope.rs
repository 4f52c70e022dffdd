//! Compression as an envelope around any codec's bytes; the layout is in the parent module.

#[cfg(any(feature = "gzip", feature = "zstd"))]
use std::io::Read;

use bytes::{BufMut, Bytes, BytesMut};

use super::{CodecError, Decode, Encode};
use crate::limits::RECORD_MAX_BYTES_LARGEST;

/// What an envelope begins with: three bytes that no UTF-8 text has, then the version.
const MARK: [u8; 4] = [0xd7, 0x4b, 0x5a, 0x01];
/// Mark, method and length.
const HEADER_BYTES: usize = MARK.len() + 1 + size_of::<u32>();

/// The largest payload before compression, in bytes, unless [`Compressed::max_decoded_bytes`] says
/// otherwise. Source: the largest record of the service, so that whatever is compressed could
/// also go without.
pub const DECODED_MAX_BYTES_DEFAULT: usize = RECORD_MAX_BYTES_LARGEST;

/// What is allocated for a body before any of it is expanded: its length may be a lie.
/// Source: none, reasonable default.
#[cfg(any(feature = "gzip", feature = "zstd"))]
const CAPACITY_AT_FIRST: usize = 64 * 1024;

/// The level of gzip. Source: the default of zlib.
#[cfg(feature = "gzip")]
const GZIP_LEVEL: u32 = 6;
/// The level of zstd. Source: the default of zstd.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 3;
/// Log2 of the most bytes that a zstd frame may ask its reader to keep (8 MiB).
/// Source: the window of zstd's level 19, the last one without `--ultra`.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a payload is made smaller.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Compression {
    /// RFC 1952 at level 6. Needs the feature `gzip`.
    Gzip,
    /// RFC 8878 at level 3. Needs the feature `zstd`.
    Zstd,
}

/// A codec whose data travel compressed.
///
/// Writing, it compresses what becomes smaller by it, header included; reading, it takes every
/// compression and what is not compressed at all. It is meant for payloads of kilobytes: each
/// record is compressed by itself, and the compression's memory is set up for each.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Compressed<C> {
    codec: C,
    compression: Option<Compression>,
    max_decoded_bytes: usize,
}

impl<C> Compressed<C> {
    /// Writes by `compression`.
    ///
    /// Whether it was built in is only known on writing: see [`CodecError::NotBuilt`].
    pub fn new(codec: C, compression: Compression) -> Self {
        Self {
            codec,
            compression: Some(compression),
            max_decoded_bytes: DECODED_MAX_BYTES_DEFAULT,
        }
    }

    /// Writes without compression. For readers, and to turn compression off.
    pub fn plain(codec: C) -> Self {
        Self {
            codec,
            compression: None,
            max_decoded_bytes: DECODED_MAX_BYTES_DEFAULT,
        }
    }

    /// The largest payload before compression, in bytes, written or read; at most 4 GiB - 1, which
    /// is all that the envelope can say. [`DECODED_MAX_BYTES_DEFAULT`] otherwise.
    #[must_use]
    pub fn max_decoded_bytes(self, max_decoded_bytes: usize) -> Self {
        Self {
            max_decoded_bytes,
            ..self
        }
    }

    fn within_bounds(&self, bytes: u64) -> Result<(), CodecError> {
        let max_bytes = self.max_decoded_bytes.min(u32::MAX as usize);
        if bytes > max_bytes as u64 {
            return Err(CodecError::TooLarge { bytes, max_bytes });
        }
        Ok(())
    }

    fn wrap(&self, plain: Bytes) -> Result<Bytes, CodecError> {
        self.within_bounds(plain.len() as u64)?;
        if let Some(compression) = self.compression {
            let body = compress(compression, &plain)?;
            if HEADER_BYTES + body.len() < plain.len() {
                return Ok(seal(method(compression), plain.len(), &body));
            }
        }
        if plain.starts_with(&MARK) {
            return Ok(seal(STORED, plain.len(), &plain));
        }
        Ok(plain)
    }

    fn unwrap(&self, data: &Bytes) -> Result<Bytes, CodecError> {
        if !data.starts_with(&MARK) {
            self.within_bounds(data.len() as u64)?;
            return Ok(data.clone());
        }
        let header = data[MARK.len()..].first_chunk::<{ HEADER_BYTES - MARK.len() }>();
        let Some([method, length @ ..]) = header else {
            return Err(CodecError::damaged("it ends inside its header"));
        };
        let length = u32::from_be_bytes(*length);
        self.within_bounds(u64::from(length))?;
        let (length, body) = (length as usize, data.slice(HEADER_BYTES..));
        let expanded = match *method {
            STORED => body,
            GZIP => expand_gzip(&body, length)?.into(),
            ZSTD => expand_zstd(&body, length)?.into(),
            method => return Err(CodecError::UnknownCompression { method }),
        };
        if expanded.len() != length {
            return Err(CodecError::damaged("the body has not the stated length"));
        }
        Ok(expanded)
    }
}

impl<T: ?Sized, C: Encode<T>> Encode<T> for Compressed<C> {
    fn encode(&self, value: &T) -> Result<Bytes, CodecError> {
        self.wrap(self.codec.encode(value)?)
    }
}

impl<T, C: Decode<T>> Decode<T> for Compressed<C> {
    fn decode(&self, data: &Bytes) -> Result<T, CodecError> {
        self.codec.decode(&self.unwrap(data)?)
    }
}

const STORED: u8 = 0;
const GZIP: u8 = 1;
const ZSTD: u8 = 2;

fn method(compression: Compression) -> u8 {
    match compression {
        Compression::Gzip => GZIP,
        Compression::Zstd => ZSTD,
    }
}

fn seal(method: u8, decoded_len: usize, body: &[u8]) -> Bytes {
    let mut envelope = BytesMut::with_capacity(HEADER_BYTES + body.len());
    envelope.put_slice(&MARK);
    envelope.put_u8(method);
    // Within bounds, and those are within 32 bits.
    envelope.put_u32(u32::try_from(decoded_len).unwrap_or(u32::MAX));
    envelope.put_slice(body);
    envelope.freeze()
}

fn compress(compression: Compression, plain: &[u8]) -> Result<Vec<u8>, CodecError> {
    match compression {
        #[cfg(feature = "gzip")]
        Compression::Gzip => {
            let mut body = Vec::new();
            let level = flate2::Compression::new(GZIP_LEVEL);
            flate2::bufread::GzEncoder::new(plain, level)
                .read_to_end(&mut body)
                .map_err(|error| CodecError::encode("gzip", error))?;
            Ok(body)
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let failed = |error| CodecError::encode("zstd", error);
            let mut frame = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(failed)?;
            frame.include_checksum(true).map_err(failed)?;
            frame.compress(plain).map_err(failed)
        }
        #[cfg(not(all(feature = "gzip", feature = "zstd")))]
        compression => {
            let _nothing_to_compress = plain;
            Err(CodecError::NotBuilt { compression })
        }
    }
}

/// Reads what a decompression gives, one byte beyond `length` at most.
#[cfg(any(feature = "gzip", feature = "zstd"))]
fn expand(from: &mut impl Read, length: usize) -> Result<Vec<u8>, CodecError> {
    let mut plain = Vec::with_capacity(length.min(CAPACITY_AT_FIRST));
    let read = from.take(length as u64 + 1).read_to_end(&mut plain);
    read.map_err(|error| CodecError::Damaged {
        what: "the body does not expand",
        source: Some(error.into()),
    })?;
    Ok(plain)
}

#[cfg(feature = "gzip")]
fn expand_gzip(body: &[u8], length: usize) -> Result<Vec<u8>, CodecError> {
    let mut member = flate2::bufread::GzDecoder::new(body);
    let plain = expand(&mut member, length)?;
    if plain.len() == length && !member.into_inner().is_empty() {
        return Err(CodecError::damaged("something follows the body"));
    }
    Ok(plain)
}

#[cfg(feature = "zstd")]
fn expand_zstd(body: &[u8], length: usize) -> Result<Vec<u8>, CodecError> {
    let set_up = |error| CodecError::decode("zstd", error);
    let frame = zstd::stream::read::Decoder::with_buffer(body).map_err(set_up)?;
    let mut frame = frame.single_frame();
    frame.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(set_up)?;
    let plain = expand(&mut frame, length)?;
    if plain.len() == length && !frame.finish().is_empty() {
        return Err(CodecError::damaged("something follows the body"));
    }
    Ok(plain)
}

#[cfg(not(feature = "gzip"))]
fn expand_gzip(_body: &[u8], _length: usize) -> Result<Vec<u8>, CodecError> {
    let compression = Compression::Gzip;
    Err(CodecError::NotBuilt { compression })
}

#[cfg(not(feature = "zstd"))]
fn expand_zstd(_body: &[u8], _length: usize) -> Result<Vec<u8>, CodecError> {
    let compression = Compression::Zstd;
    Err(CodecError::NotBuilt { compression })
}

#[cfg(all(test, feature = "gzip", feature = "zstd"))]
mod tests;
