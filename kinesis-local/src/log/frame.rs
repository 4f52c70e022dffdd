//! Frames: what is written and synced at once, and how a reader tells a whole one from a torn one.
//!
//! ```text
//! u32 mark │ u32 length │ u32 crc32c(mark, length) │ u32 crc32c(payload) │ payload
//! ```

use std::io::{self, Read, Seek, SeekFrom};

/// What the file begins with: the format's name and version.
pub(super) const FILE_HEAD: [u8; 16] = *b"kinesis-local-1\n";

/// Begins every frame, so that a reader can look for the next one behind a broken one.
const MARK: [u8; 4] = *b"KLF\x01";

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 16;

/// Bytes of a file that are searched for a frame at once. Source: none, reasonable default.
const WINDOW_BYTES: usize = 64 * 1024;

/// Begins a frame in `buffer`; the payload is appended behind it.
pub(super) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEAD_BYTES, 0);
}

/// Whether nothing was appended since [`begin`].
pub(super) fn is_empty(buffer: &[u8]) -> bool {
    buffer.len() == HEAD_BYTES
}

/// Fills in the head.
pub(super) fn finish(buffer: &mut [u8]) -> io::Result<()> {
    let (head, payload) = buffer.split_at_mut(HEAD_BYTES);
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    head[0..4].copy_from_slice(&MARK);
    head[4..8].copy_from_slice(&length.to_le_bytes());
    let of_head = crc32c::crc32c(&head[0..8]);
    head[8..12].copy_from_slice(&of_head.to_le_bytes());
    head[12..16].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    Ok(())
}

/// A head that is whole.
#[derive(Copy, Clone, Debug)]
pub(super) struct Head {
    pub(super) length: usize,
    payload_checksum: u32,
}

impl Head {
    /// `None`: no frame begins like this.
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let whole = bytes[0..4] == MARK && number(8) == crc32c::crc32c(&bytes[0..8]);
        whole.then(|| Self {
            length: number(4) as usize,
            payload_checksum: number(12),
        })
    }

    /// Whether what was written behind this head is at `offset` of `file`.
    fn is_followed(&self, file: &mut (impl Read + Seek), offset: u64) -> io::Result<bool> {
        file.seek(SeekFrom::Start(offset))?;
        let mut left = self.length;
        let mut checksum = 0;
        let mut window = [0; 8 * 1024];
        while left > 0 {
            let bytes = left.min(window.len());
            file.read_exact(&mut window[..bytes])?;
            checksum = crc32c::crc32c_append(checksum, &window[..bytes]);
            left -= bytes;
        }
        Ok(checksum == self.payload_checksum)
    }

    /// Whether `payload` is what was written behind this head.
    pub(super) fn holds(&self, payload: &[u8]) -> bool {
        payload.len() == self.length && crc32c::crc32c(payload) == self.payload_checksum
    }
}

/// Whether a whole frame begins at `from` or later in the first `length` bytes of `file`.
pub(super) fn any_behind(
    file: &mut (impl Read + Seek),
    mut from: u64,
    length: u64,
) -> io::Result<bool> {
    let mut window = Vec::with_capacity(WINDOW_BYTES);
    while from + HEAD_BYTES as u64 <= length {
        file.seek(SeekFrom::Start(from))?;
        window.clear();
        let bytes = (length - from).min(WINDOW_BYTES as u64);
        file.take(bytes).read_to_end(&mut window)?;
        for (at, bytes) in window.windows(HEAD_BYTES).enumerate() {
            let head = bytes.try_into().ok().and_then(Head::parse);
            let payload = from + (at + HEAD_BYTES) as u64;
            if let Some(head) = head
                && head.length as u64 <= length.saturating_sub(payload)
                && head.is_followed(file, payload)?
            {
                return Ok(true);
            }
        }
        let searched = window.len().saturating_sub(HEAD_BYTES - 1);
        if searched == 0 {
            return Ok(false); // the file is shorter than it was
        }
        from += searched as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        begin(&mut buffer);
        buffer.extend_from_slice(payload);
        finish(&mut buffer).unwrap();
        buffer
    }

    fn any_in(bytes: &[u8]) -> bool {
        any_behind(&mut io::Cursor::new(bytes), 0, bytes.len() as u64).unwrap()
    }

    #[test]
    fn a_frame_is_found_wherever_it_lies_in_a_long_file() {
        for before in [
            0,
            1,
            WINDOW_BYTES - HEAD_BYTES,
            WINDOW_BYTES - 1,
            3 * WINDOW_BYTES,
        ] {
            let mut bytes = vec![b'K'; before];
            bytes.extend(frame(&vec![7; 2 * WINDOW_BYTES]));
            assert!(any_in(&bytes), "{before}");
            let behind = before as u64 + 1;
            let mut file = io::Cursor::new(&bytes);
            assert!(!any_behind(&mut file, behind, bytes.len() as u64).unwrap());
        }
    }

    #[test]
    fn any_flipped_bit_breaks_a_frame() {
        let whole = frame(b"payload");
        assert!(any_in(&whole));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!any_in(&flipped), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_found_behind_other_bytes_but_not_when_cut() {
        let mut bytes = b"KLF\x01 rubbish KLF".to_vec();
        bytes.extend(frame(b"payload"));
        assert!(any_in(&bytes));
        bytes.pop();
        assert!(!any_in(&bytes));
        assert!(any_in(&frame(b"")));
    }
}
