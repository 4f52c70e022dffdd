//! Writes an answer, as JSON or CBOR, front to back, into one buffer.
//!
//! Promises: what it writes is well-formed when each `key` is followed by one value. In JSON
//! timestamps are seconds with a fraction to the millisecond, and blobs base64. In CBOR timestamps
//! are tag 1 and the integer of milliseconds, never a float (readers take it for a date in 1970);
//! blobs are byte strings; structures and lists have no length and end with a break.

use super::Format;

/// Room that most answers fit in. Source: none, reasonable default (a PutRecord's answer takes 130).
const INITIAL_BYTES: usize = 256;

/// The majors and marks of CBOR that answers need.
mod cbor {
    pub(super) const UNSIGNED: u8 = 0;
    pub(super) const BYTES: u8 = 2 << 5;
    pub(super) const TEXT: u8 = 3 << 5;
    pub(super) const LIST_UNTIL_BREAK: u8 = 0x9f;
    pub(super) const MAP_UNTIL_BREAK: u8 = 0xbf;
    pub(super) const BREAK: u8 = 0xff;
    pub(super) const FALSE: u8 = 0xf4;
    pub(super) const TRUE: u8 = 0xf5;
    /// Tag 1: a point in time.
    pub(super) const TIMESTAMP: u8 = 0xc1;
}

/// The buffer under construction.
#[derive(Debug)]
pub(crate) struct Writer {
    out: Vec<u8>,
    format: Format,
    /// JSON: the next value follows another.
    comma: bool,
}

/// An answer that can be written.
pub(crate) trait Encode {
    fn encode(&self, writer: &mut Writer);
}

impl Writer {
    pub(crate) fn new(format: Format) -> Self {
        Self::with_capacity(format, INITIAL_BYTES)
    }

    pub(crate) fn with_capacity(format: Format, bytes: usize) -> Self {
        Self {
            out: Vec::with_capacity(bytes),
            format,
            comma: false,
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// A structure; `members` writes its keys and values.
    pub(crate) fn structure(&mut self, members: impl FnOnce(&mut Self)) {
        match self.format {
            Format::Json => self.nested(b'{', b'}', members),
            Format::Cbor => self.nested(cbor::MAP_UNTIL_BREAK, cbor::BREAK, members),
        }
    }

    /// A list of what `each` writes.
    pub(crate) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        let (open, close) = match self.format {
            Format::Json => (b'[', b']'),
            Format::Cbor => (cbor::LIST_UNTIL_BREAK, cbor::BREAK),
        };
        self.nested(open, close, |writer| {
            for item in items {
                each(writer, item);
            }
        });
    }

    fn nested(&mut self, open: u8, close: u8, inside: impl FnOnce(&mut Self)) {
        self.before_value();
        self.out.push(open);
        self.comma = false;
        inside(self);
        self.out.push(close);
        self.comma = true;
    }

    fn before_value(&mut self) {
        if self.comma && self.format == Format::Json {
            self.out.push(b',');
        }
        self.comma = true;
    }

    /// A member's name, from the model: it never needs escaping.
    pub(crate) fn key(&mut self, name: &'static str) {
        self.plain(name);
        if self.format == Format::Json {
            self.out.push(b':');
        }
        self.comma = false;
    }

    /// A text that cannot hold a quote, a backslash or a control character.
    pub(crate) fn plain(&mut self, text: &str) {
        debug_assert!(
            !text
                .bytes()
                .any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
        );
        match self.format {
            Format::Json => self.quoted(text),
            Format::Cbor => self.string(cbor::TEXT, text.as_bytes()),
        }
    }

    /// Any text.
    pub(crate) fn text(&mut self, text: &str) {
        match self.format {
            Format::Json => self.escaped(text),
            Format::Cbor => self.string(cbor::TEXT, text.as_bytes()),
        }
    }

    fn quoted(&mut self, text: &str) {
        self.before_value();
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    fn escaped(&mut self, text: &str) {
        self.before_value();
        self.out.push(b'"');
        let bytes = text.as_bytes();
        let mut clean_from = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            self.out.extend_from_slice(&bytes[clean_from..at]);
            clean_from = at + 1;
            self.escape(byte);
        }
        self.out.extend_from_slice(&bytes[clean_from..]);
        self.out.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        match byte {
            b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', byte]),
            b'\n' => self.out.extend_from_slice(b"\\n"),
            b'\r' => self.out.extend_from_slice(b"\\r"),
            b'\t' => self.out.extend_from_slice(b"\\t"),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                self.out.extend_from_slice(b"\\u00");
                self.out.extend_from_slice(&digits);
            }
        }
    }

    pub(crate) fn integer(&mut self, value: u64) {
        self.before_value();
        match self.format {
            Format::Json => self.digits(value, 1),
            Format::Cbor => self.head(cbor::UNSIGNED, value),
        }
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.before_value();
        match self.format {
            Format::Json => {
                let word: &[u8] = if value { b"true" } else { b"false" };
                self.out.extend_from_slice(word);
            }
            Format::Cbor => self.out.push(if value { cbor::TRUE } else { cbor::FALSE }),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn timestamp(&mut self, epoch_ms: u64) {
        self.before_value();
        match self.format {
            Format::Json => {
                self.digits(epoch_ms / 1000, 1);
                self.out.push(b'.');
                self.digits(epoch_ms % 1000, 3);
            }
            Format::Cbor => {
                self.out.push(cbor::TIMESTAMP);
                self.head(cbor::UNSIGNED, epoch_ms);
            }
        }
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) {
        match self.format {
            Format::Json => {
                self.before_value();
                self.out.push(b'"');
                base64_simd::STANDARD.encode_append(bytes, &mut self.out);
                self.out.push(b'"');
            }
            Format::Cbor => self.string(cbor::BYTES, bytes),
        }
    }

    /// A text or byte string of CBOR.
    fn string(&mut self, major: u8, bytes: &[u8]) {
        self.head(major, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// The start of an item of CBOR, in its shortest form.
    fn head(&mut self, major: u8, argument: u64) {
        let bytes = argument.to_be_bytes();
        let (info, width) = match argument {
            0..24 => {
                self.out.push(major | bytes[7]);
                return;
            }
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        self.out.push(major | info);
        self.out.extend_from_slice(&bytes[8 - width..]);
    }

    fn digits(&mut self, mut value: u64, at_least: usize) {
        let mut buffer = [b'0'; 20];
        let mut from = buffer.len();
        while value > 0 || buffer.len() - from < at_least {
            from -= 1;
            buffer[from] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.out.extend_from_slice(&buffer[from..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new(Format::Json);
        write(&mut writer);
        String::from_utf8(writer.into_bytes()).unwrap()
    }

    #[test]
    fn members_and_items_are_parted_by_commas() {
        let text = written(|writer| {
            writer.structure(|writer| {
                writer.key("A");
                writer.list([1, 2], Writer::integer);
                writer.key("B");
                writer.structure(|_| {});
                writer.key("C");
                writer.boolean(true);
            });
        });
        assert_eq!(text, r#"{"A":[1,2],"B":{},"C":true}"#);
    }

    #[test]
    fn texts_are_escaped_as_a_json_reader_expects() {
        let awkward = "a\"b\\c\n\r\t\u{1}ключ";
        let text = written(|writer| writer.text(awkward));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), awkward);
    }

    #[test]
    fn timestamps_are_seconds_to_the_millisecond() {
        assert_eq!(
            written(|writer| writer.timestamp(1_795_387_481_554)),
            "1795387481.554"
        );
        assert_eq!(written(|writer| writer.timestamp(7)), "0.007");
    }

    #[test]
    fn blobs_are_base64() {
        assert_eq!(written(|writer| writer.blob(b"x")), r#""eA==""#);
    }

    fn in_cbor(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new(Format::Cbor);
        write(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn cbor_has_structures_and_lists_until_a_break() {
        let bytes = in_cbor(|writer| {
            writer.structure(|writer| {
                writer.key("A");
                writer.list([1, 2], Writer::integer);
                writer.key("B");
                writer.structure(|_| {});
                writer.key("C");
                writer.boolean(true);
                writer.key("D");
                writer.text("\"ж");
            });
        });
        assert_eq!(
            bytes,
            b"\xbf\x61A\x9f\x01\x02\xff\x61B\xbf\xff\x61C\xf5\x61D\x63\"\xd0\xb6\xff"
        );
    }

    #[test]
    fn timestamps_in_cbor_are_tagged_integers_of_milliseconds() {
        assert_eq!(
            in_cbor(|writer| writer.timestamp(0x01a0_13ac_cc38)),
            b"\xc1\x1b\x00\x00\x01\xa0\x13\xac\xcc\x38"
        );
    }

    #[test]
    fn blobs_in_cbor_are_byte_strings() {
        assert_eq!(in_cbor(|writer| writer.blob(b"\x00\xff")), b"\x42\x00\xff");
        assert_eq!(
            in_cbor(|writer| writer.blob(&[7; 300]))[..3],
            *b"\x59\x01\x2c"
        );
    }

    #[test]
    fn heads_in_cbor_are_as_short_as_they_can_be() {
        for (number, bytes) in [
            (0, &b"\x00"[..]),
            (23, b"\x17"),
            (24, b"\x18\x18"),
            (255, b"\x18\xff"),
            (256, b"\x19\x01\x00"),
            (65_536, b"\x1a\x00\x01\x00\x00"),
            (u64::MAX, b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            assert_eq!(in_cbor(|writer| writer.integer(number)), bytes);
        }
    }
}
