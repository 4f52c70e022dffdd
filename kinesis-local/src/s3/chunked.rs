//! The `aws-chunked` content encoding, read: what SDKs wrap a streamed upload into so that a
//! checksum can follow it.
//!
//! ```text
//! <length, hex>[;chunk-signature=…] CRLF <bytes> CRLF      any number of times
//! 0[;chunk-signature=…] CRLF
//! <name>:<value> CRLF                                      trailers: x-amz-checksum-…, signature
//! CRLF
//! ```
//!
//! Promises: hands out the payload without copying it; the end is reported only after the length
//! and the checksum of a trailer were found right. Signatures of chunks are not checked.

use bytes::{Buf as _, Bytes};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};

/// Longest line between chunks. Source: none; a chunk signature line has about 90 bytes.
const LINE_MAX_BYTES: usize = 1024;

/// What is wrong with a body.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the aws-chunked body is malformed: {0}")]
    Framing(&'static str),
    #[error("the aws-chunked body does not have the length that was announced")]
    Length,
    #[error("the checksum after the aws-chunked body does not match it")]
    Checksum,
}

/// Where the reader stands.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailers,
    Done,
}

/// Takes an `aws-chunked` body apart. Feed it with [`next`](Self::next) until the input is empty.
pub(super) struct Decoder {
    state: State,
    line: Vec<u8>,
    left_in_all: u64,
    hasher: ChecksumHasher,
    trailer: Option<String>,
}

impl Decoder {
    /// `length` is the announced payload length, `trailer` the name of the header that follows.
    pub(super) fn new(length: u64, trailer: Option<&str>) -> Self {
        let mut hasher = ChecksumHasher::default();
        match trailer {
            Some("x-amz-checksum-crc32") => hasher.crc32 = Some(Crc32::new()),
            Some("x-amz-checksum-crc32c") => hasher.crc32c = Some(Crc32c::new()),
            Some("x-amz-checksum-crc64nvme") => hasher.crc64nvme = Some(Crc64Nvme::new()),
            Some("x-amz-checksum-sha1") => hasher.sha1 = Some(Sha1::new()),
            Some("x-amz-checksum-sha256") => hasher.sha256 = Some(Sha256::new()),
            _ => {}
        }
        Self {
            state: State::Size,
            line: Vec::new(),
            left_in_all: length,
            hasher,
            trailer: None,
        }
    }

    /// The next piece of payload in `input`; `None` when all of `input` was taken.
    pub(super) fn next(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
        while !input.is_empty() {
            match self.state {
                State::Data { left } => {
                    let taken = left.min(input.len() as u64);
                    let piece = input.split_to(taken as usize);
                    self.state = match left - taken {
                        0 => State::DataEnd,
                        left => State::Data { left },
                    };
                    self.left_in_all = self
                        .left_in_all
                        .checked_sub(taken)
                        .ok_or(Malformed::Length)?;
                    self.hasher.update(&piece);
                    return Ok(Some(piece));
                }
                State::Size | State::DataEnd | State::Trailers => {
                    if let Some(line) = self.line(input)? {
                        self.state = self.after(&line)?;
                    }
                }
                State::Done => return Err(Malformed::Framing("bytes after the end")),
            }
        }
        Ok(None)
    }

    /// To be called at the end of the input.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.state != State::Done {
            return Err(Malformed::Framing("it ended before its last chunk"));
        }
        if self.left_in_all != 0 {
            return Err(Malformed::Length);
        }
        let computed = self.hasher.finalize();
        let computed = computed
            .checksum_crc32
            .or(computed.checksum_crc32c)
            .or(computed.checksum_crc64nvme)
            .or(computed.checksum_sha1)
            .or(computed.checksum_sha256);
        if computed == self.trailer {
            Ok(())
        } else {
            Err(Malformed::Checksum)
        }
    }

    fn after(&mut self, line: &[u8]) -> Result<State, Malformed> {
        match self.state {
            State::Size => {
                let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(size)
                    .ok()
                    .and_then(|size| u64::from_str_radix(size.trim(), 16).ok())
                    .ok_or(Malformed::Framing("a chunk's length is not a number"))?;
                Ok(match size {
                    0 => State::Trailers,
                    left => State::Data { left },
                })
            }
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::DataEnd => Err(Malformed::Framing("a chunk is longer than it says")),
            State::Trailers if line.is_empty() => Ok(State::Done),
            State::Trailers => {
                let line = std::str::from_utf8(line)
                    .map_err(|_| Malformed::Framing("a trailer is not text"))?;
                let (name, value) = line
                    .split_once(':')
                    .ok_or(Malformed::Framing("a trailer has no name"))?;
                if name
                    .trim()
                    .to_ascii_lowercase()
                    .starts_with("x-amz-checksum-")
                {
                    self.trailer = Some(value.trim().to_owned());
                }
                Ok(State::Trailers)
            }
            State::Data { .. } | State::Done => Err(Malformed::Framing("a line out of place")),
        }
    }

    /// A whole line without its CRLF, if `input` holds the rest of one.
    fn line(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>, Malformed> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(input.len());
        if self.line.len() + taken > LINE_MAX_BYTES {
            return Err(Malformed::Framing("a line between chunks is too long"));
        }
        self.line.extend_from_slice(&input[..taken]);
        input.advance(end.map_or(taken, |end| end + 1));
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        if line.pop_if(|byte| *byte == b'\r').is_none() {
            return Err(Malformed::Framing("a line does not end in CRLF"));
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests;
