//! Which shard a sequence number names, in any version that the service ever gave out.
//!
//! ```text
//! version   bits      hex digits
//! 2         186       2 · created 9 · 1 · counter 16 · 2 · written 9 · shard 8 · 2
//! 1         186       2 · created 9 · 1 · 2 · written 9 · 14 · 2 · shard 8 · 1
//! 0         125–128   any · created 9 · 2 · 16 · shard 4; a smaller number is read with 2^124 added
//! ```
//! Source: kinesalite `db/index.js` and its suite, which ran against the service.

use super::{SequenceNumber, from_decimal, to_decimal};

/// What a sequence number of any version tells. Seconds count from the Unix epoch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SequenceOrigin {
    /// The number as the service repeats it in its refusals: of version 0 it is another text than the
    /// one that was given.
    pub number: SequenceNumber,
    /// When the shard was created, in seconds.
    pub shard_created_s: u64,
    /// The number in the shard's id.
    pub shard_index: u32,
    /// When the record was written, in seconds; version 0 does not tell.
    pub written_s: Option<u64>,
}

/// The first second that version 0 cannot tell: in the year 2477.
const CREATED_S_MAX: u64 = 16_025_175_000;

impl SequenceNumber {
    /// Where the number comes from, whatever its version; `None` if the service never gave it out.
    #[must_use]
    pub fn origin(&self) -> Option<SequenceOrigin> {
        let mut limbs = from_decimal(self.as_str())?;
        let [_, middle, high] = limbs;
        if high == 0 && middle < 1 << 60 {
            limbs[1] |= 1 << 60; // 2^124
        }
        match high {
            0 => Self::of_version_0(limbs),
            // Above 2^185 and below 1.5 times that.
            high if high >> 56 == 2 => self.of_version_1_or_2(limbs),
            _ => None,
        }
    }

    /// The version that a number of 186 bits says it is of, whether or not there is such a version;
    /// `None` for the others, which say none.
    #[must_use]
    pub fn stated_version(&self) -> Option<u8> {
        let [low, _, high] = from_decimal(self.as_str())?;
        (high >> 56 == 2).then_some((low & 0xf) as u8)
    }

    fn of_version_0([low, middle, _]: [u64; 3]) -> Option<SequenceOrigin> {
        let shard_created_s = middle >> 24 & 0xf_ffff_ffff;
        if shard_created_s >= CREATED_S_MAX {
            return None;
        }
        // Whatever the first digit was, it is told as 1.
        let middle = middle & !(0xf << 60) | 1 << 60;
        Some(SequenceOrigin {
            number: Self(to_decimal([low, middle, 0]).into()),
            shard_created_s,
            shard_index: (low & 0xffff) as u32,
            written_s: None,
        })
    }

    fn of_version_1_or_2(&self, [low, middle, high]: [u64; 3]) -> Option<SequenceOrigin> {
        let counter = middle >> 16 | (high & 0xffff) << 48;
        let shard_index = (low >> 4) as u32;
        // The last digits of `middle` and the first of `low` are where version 2 has its time.
        let written_s = match low & 0xf {
            2 if counter >> 63 == 0 && shard_index >> 31 == 0 => low >> 36 | (middle & 0xff) << 28,
            1 => middle >> 36 & 0xfff_ffff | (high & 0xff) << 28,
            _ => return None,
        };
        Some(SequenceOrigin {
            number: self.clone(),
            shard_created_s: high >> 20 & 0xf_ffff_ffff,
            shard_index,
            written_s: Some(written_s),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::SequenceParts;
    use super::*;

    /// The decimal text of a hexadecimal number.
    fn decimal(hex: &str) -> SequenceNumber {
        let limbs = hex.bytes().fold([0u64; 3], |limbs, digit| {
            let mut carry = u64::from((digit as char).to_digit(16).expect("hex"));
            limbs.map(|limb| {
                let value = limb << 4 | carry;
                carry = limb >> 60;
                value
            })
        });
        SequenceNumber(to_decimal(limbs).into())
    }

    fn number(text: &str) -> SequenceNumber {
        SequenceNumber::try_from(text).expect("a number")
    }

    #[test]
    fn a_number_of_version_0_names_its_shard_and_is_told_with_a_1_in_front() {
        for (given, shard, told) in [
            ("0", 0, "21267647932558653966460912964485513216"),
            ("5", 5, "21267647932558653966460912964485513221"),
            (
                "425352958651173072921826052383309826",
                2,
                "21693000891209827039382739016868823042",
            ),
        ] {
            let origin = number(given).origin().expect("an origin");
            assert_eq!((origin.shard_index, origin.written_s), (shard, None));
            assert_eq!(origin.number.as_str(), told, "{given}");
        }
        let large = decimal("f3bb2cc3d7ff7fffffffffffffff0000");
        let told = "26227199374821822965252748908982894592";
        assert_eq!(large.origin().expect("an origin").number.as_str(), told);
        assert_eq!(decimal("13bb2cc3d80000000000000000000000").origin(), None);
        assert_eq!(
            decimal("13bb2cc3d80000000000000000000000").stated_version(),
            None
        );
        for version in [0, 2, 3, 15] {
            let said = decimal(&format!("2{}{version:x}", "0".repeat(45)));
            assert_eq!(said.stated_version(), Some(version));
        }
    }

    #[test]
    fn numbers_of_versions_1_and_2_name_shard_and_time() {
        let parts = SequenceParts {
            shard_created_s: 1_700_000_000,
            shard_index: 7,
            counter: SequenceParts::COUNTER_MAX,
            written_s: 1_700_000_001,
        };
        let origin = parts.encode().origin().expect("an origin");
        assert_eq!(origin.shard_created_s, 1_700_000_000);
        assert_eq!(origin.shard_index, 7);
        assert_eq!(origin.written_s, Some(1_700_000_001));
        assert_eq!(origin.number, parts.encode());
        let hex = [
            "2",
            "06553f100",
            "7",
            "00",
            "06553f101",
            "00000000000000",
            "00",
            "00000007",
            "1",
        ];
        let first = decimal(&hex.concat()).origin().expect("an origin");
        assert_eq!(
            (first.shard_created_s, first.shard_index),
            (1_700_000_000, 7)
        );
        assert_eq!(first.written_s, Some(1_700_000_001));
    }

    #[test]
    fn what_the_service_never_gave_out_has_no_origin() {
        for hex in [
            "20000000000000000000000000000000000000000000000", // ends in 0
            "20000000000000000000000000000000000000000000004",
            "30000000000000000000000000000000000000000000001",
            "1ffffffffff7fffffffffffffff000000000007fffffff2",
            "20000000000800000000000000000000000000000000002", // a counter with its highest bit
            "20000000000000000000000000000000000000800000002", // a shard with its highest bit
        ] {
            assert_eq!(decimal(hex).origin(), None, "{hex}");
        }
        assert_eq!(number(&"9".repeat(129)).origin(), None);
    }
}
