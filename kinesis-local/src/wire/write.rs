//! Writes an answer as JSON 1.1, front to back, into one buffer.
//!
//! Promises: what it writes is well-formed when each `key` is followed by one value; timestamps
//! are seconds with a fraction to the millisecond; blobs are base64.

use super::Format;

/// Room that most answers fit in. Source: none, reasonable default (a PutRecord's answer takes 130).
const INITIAL_BYTES: usize = 256;

/// The buffer under construction.
#[derive(Debug)]
pub(crate) struct Writer {
    out: Vec<u8>,
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
        match format {
            Format::Json => Self {
                out: Vec::with_capacity(bytes),
                comma: false,
            },
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// A structure; `members` writes its keys and values.
    pub(crate) fn structure(&mut self, members: impl FnOnce(&mut Self)) {
        self.nested(b'{', b'}', members);
    }

    /// A list of what `each` writes.
    pub(crate) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        self.nested(b'[', b']', |writer| {
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
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    /// A member's name, from the model: it never needs escaping.
    pub(crate) fn key(&mut self, name: &'static str) {
        self.plain(name);
        self.out.push(b':');
        self.comma = false;
    }

    /// A text that cannot hold a quote, a backslash or a control character.
    pub(crate) fn plain(&mut self, text: &str) {
        debug_assert!(
            !text
                .bytes()
                .any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
        );
        self.before_value();
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.push(b'"');
    }

    /// Any text.
    pub(crate) fn text(&mut self, text: &str) {
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
        self.digits(value, 1);
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.before_value();
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Milliseconds since the Unix epoch, as seconds with three decimals.
    pub(crate) fn timestamp(&mut self, epoch_ms: u64) {
        self.before_value();
        self.digits(epoch_ms / 1000, 1);
        self.out.push(b'.');
        self.digits(epoch_ms % 1000, 3);
    }

    /// Bytes, as base64.
    pub(crate) fn blob(&mut self, bytes: &[u8]) {
        self.before_value();
        self.out.push(b'"');
        base64_simd::STANDARD.encode_append(bytes, &mut self.out);
        self.out.push(b'"');
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
}
