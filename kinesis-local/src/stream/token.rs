//! The sealed texts that readers hand back: shard iterators and paging tokens.
//!
//! ```text
//! base64( 00 00 00 00 00 00 00 01 │ fields … │ n × u8 n │ u32 crc32c(all before) )
//! fields: u8 tag · u16 length + bytes, or u64 / u32 / u8, little-endian
//! n: 1 to 16, so that what follows the head is whole blocks of 16 bytes, as in the service's texts
//! ```
//! Promises: a text that was not made here, or was changed, does not open. The inside is ours to
//! change and nobody's to rely on. It is not secret.

/// What the service's own iterators begin with.
const HEAD: [u8; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

const CHECKSUM_BYTES: usize = 4;

/// Source: kinesalite `db/index.js`, on the service's iterators.
const BLOCK_BYTES: usize = 16;

/// Seals fields one after the other.
#[derive(Debug)]
pub(crate) struct Sealer(Vec<u8>);

impl Sealer {
    /// `kind` keeps an iterator from being taken for a paging token.
    pub(crate) fn new(kind: u8) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&HEAD);
        bytes.push(kind);
        Self(bytes)
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0
            .extend_from_slice(&text.as_bytes()[..usize::from(length)]);
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn seal(mut self) -> String {
        let behind_head = self.0.len() - HEAD.len() + CHECKSUM_BYTES;
        let padding = BLOCK_BYTES - behind_head % BLOCK_BYTES;
        self.0.resize(self.0.len() + padding, padding as u8);
        let checksum = crc32c::crc32c(&self.0);
        self.0.extend_from_slice(&checksum.to_le_bytes());
        base64_simd::STANDARD.encode_to_string(&self.0)
    }
}

/// Gives the fields back in the order in which they were sealed.
#[derive(Debug)]
pub(crate) struct Opened {
    bytes: Vec<u8>,
    at: usize,
}

impl Opened {
    /// `None`: not a text of this `kind` that was sealed here.
    pub(crate) fn open(text: &str, kind: u8) -> Option<Self> {
        let mut bytes = base64_simd::STANDARD.decode_to_vec(text).ok()?;
        let sealed = bytes.len().checked_sub(CHECKSUM_BYTES)?;
        let checksum = crc32c::crc32c(&bytes[..sealed]).to_le_bytes();
        if bytes[sealed..] != checksum || sealed <= HEAD.len() {
            return None;
        }
        let padding = usize::from(bytes[sealed - 1]);
        bytes.truncate(sealed.checked_sub(padding)?);
        if bytes.len() <= HEAD.len() {
            return None;
        }
        (bytes[..HEAD.len()] == HEAD && bytes[HEAD.len()] == kind).then_some(Self {
            bytes,
            at: HEAD.len() + 1,
        })
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        String::from_utf8(self.take(usize::from(length))?.to_vec()).ok()
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order() {
        let sealed = Sealer::new(7).text("stream").u64(42).seal();
        let mut opened = Opened::open(&sealed, 7).unwrap();
        assert_eq!(opened.text().unwrap(), "stream");
        assert_eq!(opened.u64(), Some(42));
        assert_eq!(opened.u64(), None);
    }

    #[test]
    fn a_text_of_another_kind_or_with_a_changed_byte_does_not_open() {
        let sealed = Sealer::new(7).text("stream").u64(42).seal();
        assert!(Opened::open(&sealed, 8).is_none());
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Opened::open(&changed, 7).is_none(), "byte {at}");
        }
        for text in ["", "AAAA", "not base64!", "AAAAAAAAAAE="] {
            assert!(Opened::open(text, 7).is_none(), "{text}");
        }
    }
}
