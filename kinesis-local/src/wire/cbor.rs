//! Reads CBOR (RFC 8949) into the same typed structs as JSON, through serde.
//!
//! ```text
//! item  = head [content]        head = 3 bits of major type, 5 bits of argument, up to 8 bytes more
//! major   0 unsigned · 1 negative · 2 bytes · 3 text · 4 list · 5 map · 6 tag · 7 simple, float, break
//! ```
//! Promises: both forms of length are read (what the SDK for Java sends has no lengths); texts and
//! byte strings are borrowed from the request, those in several chunks are copied once, into memory
//! of their exact size; nothing is allocated for a length that is only claimed; every item takes at
//! least a byte of the request, so the work is bounded by its size. Tags are passed over; keys have
//! to be texts.
//!
//! Written by hand, because `ciborium`, the one crate that reads all of these forms through serde,
//! reads from a stream: it cannot lend what it reads, copies every text and byte string twice, and
//! does not tell trailing bytes from the end. The tests hold this reader against it.

use std::borrow::Cow;

use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

/// Lists, maps and tags within each other in a member that is passed over. Source: serde_json's
/// bound, so that both encodings accept the same.
const NESTING_MAX: usize = 128;

/// The values of a head's low bits that are not the argument itself.
const ONE_BYTE: u8 = 24;
const TWO_BYTES: u8 = 25;
const FOUR_BYTES: u8 = 26;
const EIGHT_BYTES: u8 = 27;
const INDEFINITE: u8 = 31;

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u8 = 20;
const TRUE: u8 = 21;
const NULL: u8 = 22;
const UNDEFINED: u8 = 23;

/// Ends what was begun without a length.
const BREAK: u8 = 0xff;

/// Why a request could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the bytes are not CBOR")]
    Malformed,
    /// A type that only CBOR has, or a member that is there twice.
    #[error("a value that its member cannot have")]
    Unworded,
    /// A value of the wrong type, in the service's words.
    #[error("{0}")]
    Worded(String),
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self::Worded(text.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::Unworded
    }

    fn duplicate_field(_: &'static str) -> Self {
        Self::Unworded
    }
}

/// What is left of a request.
#[derive(Copy, Clone, Debug)]
pub(super) struct Reader<'de> {
    rest: &'de [u8],
}

/// The first bytes of an item.
#[derive(Copy, Clone, Debug)]
struct Head {
    major: u8,
    info: u8,
    argument: u64,
}

impl Head {
    /// How many items follow; `None`: until a break.
    fn length(self) -> Option<u64> {
        (self.info != INDEFINITE).then_some(self.argument)
    }

    fn is_break(self) -> bool {
        self.major == SIMPLE && self.info == INDEFINITE
    }
}

impl<'de> Reader<'de> {
    /// Reads the whole of `bytes`, which has to be one map.
    pub(super) fn whole<T: serde::Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
        let mut reader = Self { rest: bytes };
        if reader.ahead()?.major != MAP {
            return Err(Error::Malformed);
        }
        let read = T::deserialize(&mut reader)?;
        if reader.rest.is_empty() {
            Ok(read)
        } else {
            Err(Error::Malformed)
        }
    }

    /// Whether `bytes` are exactly one item.
    pub(super) fn is_well_formed(bytes: &'de [u8]) -> bool {
        let mut reader = Self { rest: bytes };
        reader.skip().is_ok() && reader.rest.is_empty()
    }

    /// The head of the next item, which stays.
    fn ahead(&self) -> Result<Head, Error> {
        let mut ahead = *self;
        ahead.untagged()
    }

    fn take(&mut self, length: u64) -> Result<&'de [u8], Error> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (taken, rest) = taken.ok_or(Error::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<Head, Error> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let more = match info {
            ONE_BYTE => 1,
            TWO_BYTES => 2,
            FOUR_BYTES => 4,
            EIGHT_BYTES => 8,
            INDEFINITE if matches!(major, BYTES | TEXT | LIST | MAP | SIMPLE) => 0,
            28.. => return Err(Error::Malformed),
            _ => 0,
        };
        let argument = if more == 0 {
            u64::from(info)
        } else {
            let big_endian = |sum, byte: &u8| sum << 8 | u64::from(*byte);
            self.take(more)?.iter().fold(0, big_endian)
        };
        if major == SIMPLE && info == ONE_BYTE && argument < 32 {
            return Err(Error::Malformed); // a one-byte simple value in two bytes
        }
        Ok(Head {
            major,
            info,
            argument,
        })
    }

    /// The head behind any tags.
    fn untagged(&mut self) -> Result<Head, Error> {
        loop {
            let head = self.head()?;
            if head.major != TAG {
                return Ok(head);
            }
        }
    }

    /// The content of a byte string or text.
    fn string(&mut self, head: Head) -> Result<Cow<'de, [u8]>, Error> {
        if let Some(length) = head.length() {
            return self.take(length).map(Cow::Borrowed);
        }
        let mut first: &[u8] = &[];
        let (mut chunks, mut bytes) = (0, 0);
        let mut ahead = *self;
        while let Some(chunk) = ahead.chunk(head.major)? {
            if chunks == 0 {
                first = chunk;
            }
            chunks += 1;
            bytes += chunk.len();
        }
        if chunks <= 1 {
            *self = ahead;
            return Ok(Cow::Borrowed(first));
        }
        let mut whole = Vec::with_capacity(bytes);
        while let Some(chunk) = self.chunk(head.major)? {
            whole.extend_from_slice(chunk);
        }
        Ok(Cow::Owned(whole))
    }

    /// The next chunk of a string without a length; `None`: its end.
    fn chunk(&mut self, major: u8) -> Result<Option<&'de [u8]>, Error> {
        let head = self.head()?;
        match head.length() {
            Some(length) if head.major == major => self.take(length).map(Some),
            None if head.is_break() => Ok(None),
            _ => Err(Error::Malformed),
        }
    }

    fn text(&mut self, head: Head) -> Result<Cow<'de, str>, Error> {
        let malformed = |_| Error::Malformed;
        Ok(match self.string(head)? {
            Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).map_err(malformed)?),
            Cow::Owned(bytes) => {
                Cow::Owned(String::from_utf8(bytes).map_err(|_| Error::Malformed)?)
            }
        })
    }

    /// Passes over the next item, whatever it is, without recursion.
    fn skip(&mut self) -> Result<(), Error> {
        let mut open = vec![Open::items(Some(1))];
        while let Some(last) = open.last_mut() {
            if last.left == Some(0) {
                open.pop();
                continue;
            }
            if last.left.is_none() && self.rest.first() == Some(&BREAK) {
                if last.is_map && last.is_odd {
                    return Err(Error::Malformed); // a key without its value
                }
                self.take(1)?;
                open.pop();
                continue;
            }
            last.left = last.left.map(|left| left - 1);
            last.is_odd = !last.is_odd;
            if let Some(inside) = self.skip_head()? {
                if open.len() > NESTING_MAX {
                    return Err(Error::Malformed);
                }
                open.push(inside);
            }
        }
        Ok(())
    }

    /// Passes over an item, but for the items within it.
    fn skip_head(&mut self) -> Result<Option<Open>, Error> {
        let head = self.head()?;
        match head.major {
            BYTES => {
                self.string(head)?;
            }
            TEXT => {
                self.text(head)?;
            }
            LIST => return Ok(Some(Open::items(head.length()))),
            MAP => return Open::pairs(head.length()).map(Some),
            TAG => return Ok(Some(Open::items(Some(1)))),
            SIMPLE if head.is_break() => return Err(Error::Malformed),
            _ => {}
        }
        Ok(None)
    }
}

/// A list, map or tag that is being passed over.
#[derive(Copy, Clone, Debug)]
struct Open {
    /// Items that it still lacks; `None`: until a break.
    left: Option<u64>,
    is_map: bool,
    is_odd: bool,
}

impl Open {
    fn items(left: Option<u64>) -> Self {
        Self {
            left,
            is_map: false,
            is_odd: false,
        }
    }

    fn pairs(pairs: Option<u64>) -> Result<Self, Error> {
        let left = match pairs {
            Some(pairs) => Some(pairs.checked_mul(2).ok_or(Error::Malformed)?),
            None => None,
        };
        Ok(Self {
            is_map: true,
            ..Self::items(left)
        })
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    /// Tells the field types that blobs are byte strings and timestamps are milliseconds.
    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let head = self.untagged()?;
        match head.major {
            0 => visitor.visit_u64(head.argument),
            1 => match i64::try_from(head.argument) {
                Ok(below) => visitor.visit_i64(-1 - below),
                Err(_) => visitor.visit_f64(-1.0 - head.argument as f64),
            },
            BYTES => match self.string(head)? {
                Cow::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
                Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
            },
            TEXT => match self.text(head)? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            LIST => visitor.visit_seq(Items::new(self, head)),
            MAP => visitor.visit_map(Items::new(self, head)),
            _ => simple(head, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        const MAJOR: u8 = SIMPLE << 5;
        if let Some((&first, rest)) = self.rest.split_first()
            && [MAJOR | NULL, MAJOR | UNDEFINED].contains(&first)
        {
            self.rest = rest;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip()?;
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

fn simple<'de, V: Visitor<'de>>(head: Head, visitor: V) -> Result<V::Value, Error> {
    match head.info {
        FALSE => visitor.visit_bool(false),
        TRUE => visitor.visit_bool(true),
        NULL | UNDEFINED => visitor.visit_unit(),
        TWO_BYTES => visitor.visit_f64(half(head.argument as u16)),
        FOUR_BYTES => visitor.visit_f64(f64::from(f32::from_bits(head.argument as u32))),
        EIGHT_BYTES => visitor.visit_f64(f64::from_bits(head.argument)),
        INDEFINITE => Err(Error::Malformed),
        _ => Err(Error::Unworded),
    }
}

/// A float of 16 bits: sign, 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (fraction + 1024.0) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 0 { size } else { -size }
}

/// What is left of a list or map.
#[derive(Debug)]
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    /// Items, or pairs of a map; `None`: until a break.
    left: Option<u64>,
}

impl<'a, 'de> Items<'a, 'de> {
    fn new(reader: &'a mut Reader<'de>, head: Head) -> Self {
        Self {
            reader,
            left: head.length(),
        }
    }

    /// Whether there is another item.
    fn next(&mut self) -> bool {
        match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => match self.reader.rest.split_first() {
                Some((&BREAK, rest)) => {
                    self.reader.rest = rest;
                    self.left = Some(0);
                    false
                }
                _ => true,
            },
        }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if !self.next() {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if !self.next() {
            return Ok(None);
        }
        let head = self.reader.untagged()?;
        if head.major != TEXT {
            return Err(Error::Malformed);
        }
        match self.reader.text(head)? {
            Cow::Borrowed(key) => seed.deserialize(BorrowedStrDeserializer::new(key)),
            Cow::Owned(key) => seed.deserialize(StringDeserializer::new(key)),
        }
        .map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }
}

#[cfg(test)]
mod tests;
