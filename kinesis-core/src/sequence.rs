//! Sequence numbers, and where a reader of a shard stands.
//!
//! A sequence number is a decimal integer of up to 129 digits; within a shard a later record has
//! a greater one. [`SequenceNumber`] promises no more than that. What the service puts inside
//! today (and what kinesis-local writes) is [`SequenceParts`], 186 bits, most significant first:
//!
//! ```text
//! hex digits   1    9                1            16        2    9              8            1
//!              2 │ shard created, s │ shard & 15 │ counter │ 00 │ written, s   │ shard index │ 2
//! ```
//!
//! A shard's starting number has counter 0 and its creation time; its ending number has the
//! largest counter, so it exceeds every record's.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::SEQUENCE_NUMBER_MAX_DIGITS;

mod origin;

pub use origin::SequenceOrigin;

/// A record's place in its shard: a decimal integer of 1 to 129 digits. Ordered as a number.
/// Cheap to clone.
#[derive(Clone, Eq, PartialEq, Hash)]
pub struct SequenceNumber(Arc<str>);

impl SequenceNumber {
    /// The decimal text, as the service prints it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the number is made of, if it has the service's version-2 layout.
    #[must_use]
    pub fn parts(&self) -> Option<SequenceParts> {
        SequenceParts::decode(self)
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        // No leading zeros, so more digits is more; digits of equal count compare as text.
        (self.0.len(), &*self.0).cmp(&(other.0.len(), &*other.0))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a decimal integer of 1 to 129 digits without leading zeros.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no sequence number: 1 to 129 decimal digits without leading zeros are expected")]
pub struct InvalidSequenceNumber(String);

impl InvalidSequenceNumber {
    fn new(text: &str) -> Self {
        // Enough to recognise it, however long it was.
        Self(text.chars().take(SEQUENCE_NUMBER_MAX_DIGITS + 1).collect())
    }
}

impl TryFrom<&str> for SequenceNumber {
    type Error = InvalidSequenceNumber;

    fn try_from(text: &str) -> Result<Self, InvalidSequenceNumber> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=SEQUENCE_NUMBER_MAX_DIGITS).contains(&text.len());
        if digits && fits && (text == "0" || !text.starts_with('0')) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSequenceNumber::new(text))
        }
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = InvalidSequenceNumber;

    fn try_from(text: String) -> Result<Self, InvalidSequenceNumber> {
        text.as_str().try_into()
    }
}

impl FromStr for SequenceNumber {
    type Err = InvalidSequenceNumber;

    fn from_str(text: &str) -> Result<Self, InvalidSequenceNumber> {
        text.try_into()
    }
}

/// What a version-2 sequence number is made of. Seconds count from the Unix epoch.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct SequenceParts {
    /// When the shard was created, in seconds; 36 bits.
    pub shard_created_s: u64,
    /// The number in the shard's id.
    pub shard_index: u32,
    /// Counts the shard's records; up to [`SequenceParts::COUNTER_MAX`].
    pub counter: u64,
    /// When the record was written, in seconds; 36 bits.
    pub written_s: u64,
}

impl SequenceParts {
    /// The counter of a closed shard's ending sequence number; records stay below it.
    /// Source: kinesalite `db/index.js`, which follows the service.
    pub const COUNTER_MAX: u64 = 0x7fff_ffff_ffff_ffff;

    /// The version digit at both ends of the number.
    const VERSION: u64 = 2;
    const SECONDS_MASK: u64 = (1 << 36) - 1;

    /// The sequence number with these parts: 56 digits. Bits beyond a part's width are cut off.
    #[must_use]
    pub fn encode(&self) -> SequenceNumber {
        let created = self.shard_created_s & Self::SECONDS_MASK;
        let written = self.written_s & Self::SECONDS_MASK;
        let shard = u64::from(self.shard_index);
        // Bits, from the lowest: version 4, shard 32, written 36, zero 8, counter 64,
        // shard nibble 4, created 36, version 4.
        let low = Self::VERSION | shard << 4 | written << 36;
        let middle = written >> 28 | self.counter << 16;
        let high = self.counter >> 48 | (shard & 0xf) << 16 | created << 20 | Self::VERSION << 56;
        SequenceNumber(to_decimal([low, middle, high]).into())
    }

    fn decode(number: &SequenceNumber) -> Option<Self> {
        let [low, middle, high] = from_decimal(number.as_str())?;
        let parts = Self {
            shard_created_s: high >> 20 & Self::SECONDS_MASK,
            shard_index: u32::try_from(low >> 4 & 0xffff_ffff).ok()?,
            counter: middle >> 16 | (high & 0xffff) << 48,
            written_s: low >> 36 | (middle & 0xff) << 28,
        };
        // Everything that is not a part (versions, padding, the repeated nibble) must fit too.
        (parts.encode() == *number).then_some(parts)
    }
}

/// Decimal text of a number of three little-endian limbs.
fn to_decimal(mut limbs: [u64; 3]) -> String {
    /// The largest power of ten in 64 bits, so that 192 bits take a few divisions.
    const CHUNK: u128 = 10_000_000_000_000_000_000;
    let mut chunks = [0u64; 4];
    for chunk in &mut chunks {
        let mut rest: u128 = 0;
        for limb in limbs.iter_mut().rev() {
            let value = rest << 64 | u128::from(*limb);
            // The remainder is below CHUNK, so the quotient is below 2^64.
            *limb = (value / CHUNK) as u64;
            rest = value % CHUNK;
        }
        *chunk = rest as u64;
    }
    let [a, b, c, d] = chunks;
    let padded = format!("{d:019}{c:019}{b:019}{a:019}");
    let text = padded.trim_start_matches('0');
    if text.is_empty() {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// Three little-endian limbs of a decimal text; `None` beyond 192 bits.
fn from_decimal(text: &str) -> Option<[u64; 3]> {
    let mut limbs = [0u64; 3];
    for digit in text.bytes() {
        let mut carry = u128::from(digit.checked_sub(b'0')?);
        for limb in &mut limbs {
            let value = u128::from(*limb) * 10 + carry;
            *limb = value as u64;
            carry = value >> 64;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(limbs)
}

/// Where a reader of a shard stands: what a checkpoint holds.
///
/// Ordered as the KCL orders its extended sequence numbers; a user record inside an aggregate is
/// told apart by its sub-sequence number, counted from 0.
/// Source: KCL 3.5 `ExtendedSequenceNumber` and the lease table's `checkpoint` attribute.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Position {
    /// Start at the instant that the application's settings name.
    AtTimestamp,
    /// Start at the oldest record still kept.
    TrimHorizon,
    /// Start behind the newest record.
    Latest,
    /// At a user record.
    At {
        /// The Kinesis record's sequence number.
        sequence_number: SequenceNumber,
        /// The user record's index inside its aggregate; 0 for a record of its own.
        sub_sequence: u64,
    },
    /// Behind the last record of a closed shard.
    ShardEnd,
}

impl Position {
    /// The position of a user record.
    #[must_use]
    pub fn at(sequence_number: SequenceNumber, sub_sequence: u64) -> Self {
        Self::At {
            sequence_number,
            sub_sequence,
        }
    }

    /// Reads the two attributes of a checkpoint: a decimal number or a sentinel's name, and the
    /// sub-sequence number, which sentinels ignore.
    ///
    /// # Errors
    /// If `checkpoint` is neither a sentinel nor a sequence number.
    pub fn parse(checkpoint: &str, sub_sequence: u64) -> Result<Self, InvalidSequenceNumber> {
        Ok(match checkpoint {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            number => Self::At {
                sequence_number: number.parse()?,
                sub_sequence,
            },
        })
    }

    /// The `checkpoint` attribute: a decimal number or a sentinel's name.
    #[must_use]
    pub fn checkpoint(&self) -> &str {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP",
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::At {
                sequence_number, ..
            } => sequence_number.as_str(),
            Self::ShardEnd => "SHARD_END",
        }
    }

    /// The `checkpointSubSequenceNumber` attribute; 0 for a sentinel.
    #[must_use]
    pub fn sub_sequence(&self) -> u64 {
        match self {
            Self::At { sub_sequence, .. } => *sub_sequence,
            Self::AtTimestamp | Self::TrimHorizon | Self::Latest | Self::ShardEnd => 0,
        }
    }

    /// Whether this is a name rather than a record's position.
    #[must_use]
    pub fn is_sentinel(&self) -> bool {
        !matches!(self, Self::At { .. })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.checkpoint())?;
        match self.sub_sequence() {
            0 => Ok(()),
            sub_sequence => write!(f, "/{sub_sequence}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> SequenceNumber {
        text.parse().expect("a sequence number")
    }

    #[test]
    fn text_that_is_no_sequence_number_is_refused() {
        let long = "1".repeat(130);
        for text in ["", "00", "01", "-1", "1a", "TRIM_HORIZON", &long] {
            assert!(text.parse::<SequenceNumber>().is_err(), "{text:?}");
        }
        assert_eq!(number("0").as_str(), "0");
        assert_eq!(number(&"9".repeat(129)).as_str().len(), 129);
    }

    #[test]
    fn numbers_order_by_value_not_by_text() {
        assert!(number("9") < number("10"));
        assert!(number("99999") < number("100000"));
        assert!(number("123") < number("124"));
        assert!(number(&"9".repeat(128)) < number(&format!("1{}", "0".repeat(128))));
    }

    #[test]
    fn positions_order_as_the_kcl_orders_them() {
        let at = |text, sub| Position::at(number(text), sub);
        let ordered = [
            Position::AtTimestamp,
            Position::TrimHorizon,
            Position::Latest,
            at("9", 0),
            at("9", 1),
            at("10", 0),
            Position::ShardEnd,
        ];
        assert!(ordered.is_sorted());
        for position in ordered {
            let parsed = Position::parse(position.checkpoint(), position.sub_sequence());
            assert_eq!(parsed.as_ref(), Ok(&position));
        }
        assert!(Position::parse("SHARD", 0).is_err());
    }

    #[test]
    fn parts_stand_in_the_number_where_the_layout_says() {
        let parts = SequenceParts {
            shard_created_s: 1_795_387_481,
            shard_index: 18,
            counter: 3,
            written_s: 1_795_387_999,
        };
        let hex = [
            "2",
            "06b037059",
            "2",
            "0000000000000003",
            "00",
            "06b03725f",
            "00000012",
            "2",
        ]
        .concat();
        let expected = hex.bytes().fold([0u64; 3], |limbs, digit| {
            let mut carry = u128::from((digit as char).to_digit(16).expect("hex"));
            limbs.map(|limb| {
                let value = u128::from(limb) * 16 + carry;
                carry = value >> 64;
                value as u64
            })
        });
        assert_eq!(parts.encode().as_str(), to_decimal(expected));
        assert_eq!(parts.encode().as_str().len(), 56);
    }

    #[test]
    fn a_foreign_number_has_no_parts() {
        for text in [
            "0",
            "1",
            "12345678901234567890",
            &"9".repeat(56),
            &"9".repeat(129),
        ] {
            assert_eq!(number(text).parts(), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parts_survive_the_decimal_text(
            shard_created_s in 0u64..1 << 36, shard_index: u32,
            counter in 0..=SequenceParts::COUNTER_MAX, written_s in 0u64..1 << 36,
        ) {
            let parts = SequenceParts { shard_created_s, shard_index, counter, written_s };
            prop_assert_eq!(parts.encode().parts(), Some(parts));
        }

        #[test]
        fn a_later_counter_is_a_greater_number(
            a in 0..SequenceParts::COUNTER_MAX, more in 1u64..1000, written_a in 0u64..1 << 36,
            written_b in 0u64..1 << 36,
        ) {
            let at = |counter, written_s| SequenceParts {
                shard_created_s: 1_795_387_481, shard_index: 7, counter, written_s,
            }.encode();
            prop_assert!(at(a, written_a) < at(a.saturating_add(more), written_b));
        }

        #[test]
        fn limbs_and_decimal_text_agree_with_128_bit_arithmetic(value: u128) {
            let limbs = [value as u64, (value >> 64) as u64, 0];
            prop_assert_eq!(to_decimal(limbs), value.to_string());
            prop_assert_eq!(from_decimal(&value.to_string()), Some(limbs));
        }
    }
}
