//! Frames: what is written and synced at once, and how a reader tells a whole one from a torn one.
//!
//! ```text
//! u32 mark │ u32 length │ u32 crc32c(mark, length) │ u32 crc32c(payload) │ payload
//! ```

use std::io;

/// What the file begins with: the format's name and version.
pub(super) const FILE_HEAD: [u8; 16] = *b"kinesis-local-1\n";

/// Begins every frame, so that a reader can look for the next one behind a broken one.
const MARK: [u8; 4] = *b"KLF\x01";

/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 16;

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

    /// Whether `payload` is what was written behind this head.
    pub(super) fn holds(&self, payload: &[u8]) -> bool {
        payload.len() == self.length && crc32c::crc32c(payload) == self.payload_checksum
    }
}

/// Whether a whole frame begins anywhere in `bytes`.
pub(super) fn any_in(bytes: &[u8]) -> bool {
    bytes.windows(HEAD_BYTES).enumerate().any(|(at, window)| {
        if window[0..4] != MARK {
            return false;
        }
        let head = window.try_into().ok().and_then(Head::parse);
        head.is_some_and(|head| {
            let payload = at + HEAD_BYTES;
            bytes
                .get(payload..payload + head.length)
                .is_some_and(|payload| head.holds(payload))
        })
    })
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
