//! The 128-bit key space that shards divide among themselves.
//!
//! A partition key maps to the big-endian value of the MD5 of its UTF-8 bytes. Ranges are
//! inclusive at both ends, as the service prints them, so that the full space needs no 129th bit.

pub(crate) mod memo;

use std::fmt;
use std::str::FromStr;

use md5::{Digest, Md5};

/// A point in the key space, 0 to 2^128 − 1. Printed and parsed as decimal.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct HashKey(pub u128);

impl HashKey {
    /// The lowest key, 0.
    pub const MIN: Self = Self(0);
    /// The highest key, 2^128 − 1.
    pub const MAX: Self = Self(u128::MAX);

    /// The hash key of a partition key: MD5 of its UTF-8 bytes, read big-endian.
    ///
    /// Source: Kinesis API reference, `PutRecord`, "PartitionKey".
    ///
    /// ```
    /// use kinesis_core::HashKey;
    /// assert_eq!(HashKey::of_partition_key("a").to_string(), "16955237001963240173058271559858726497");
    /// ```
    #[must_use]
    pub fn of_partition_key(partition_key: &str) -> Self {
        let digest = Md5::digest(partition_key.as_bytes());
        Self(u128::from_be_bytes(digest.into()))
    }

    fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a decimal integer from 0 to 2^128 − 1.
///
/// The text itself is not repeated: an explicit hash key may be derived from user data.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an explicit hash key must be a decimal integer from 0 to 2^128-1")]
pub struct InvalidHashKey;

impl FromStr for HashKey {
    type Err = InvalidHashKey;

    /// Accepts what the service's pattern `0|([1-9]\d{0,38})` accepts, and leading zeros.
    fn from_str(text: &str) -> Result<Self, InvalidHashKey> {
        // `u128::from_str` would also take a leading `+`.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidHashKey);
        }
        text.parse().map(Self).map_err(|_| InvalidHashKey)
    }
}

/// A non-empty part of the key space, inclusive at both ends.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct HashKeyRange {
    start: HashKey,
    end: HashKey,
}

impl HashKeyRange {
    /// The whole key space.
    pub const FULL: Self = Self {
        start: HashKey::MIN,
        end: HashKey::MAX,
    };

    /// The range from `start` to `end`, both inside; `None` if `start > end`.
    #[must_use]
    pub fn new(start: HashKey, end: HashKey) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }

    /// The first key of the range.
    #[must_use]
    pub fn start(&self) -> HashKey {
        self.start
    }

    /// The last key of the range.
    #[must_use]
    pub fn end(&self) -> HashKey {
        self.end
    }

    /// Whether `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: HashKey) -> bool {
        self.start <= key && key <= self.end
    }

    /// Divides the range into `parts` consecutive ranges as a new stream divides the key space:
    /// all of the same width (rounded down), the last one taking the rest.
    ///
    /// Source: the ranges that `CreateStream` answers with.
    ///
    /// # Panics
    /// If `parts` is 0 or larger than the range.
    #[must_use]
    pub fn split_even(self, parts: u32) -> Vec<Self> {
        assert!(parts > 0, "a range cannot be split into 0 parts");
        if parts == 1 {
            return vec![self]; // the width of the whole key space, 2^128, does not fit below
        }
        let span = self.end.0 - self.start.0;
        // The width is (span + 1) / parts; span + 1 may be 2^128.
        let parts_wide = u128::from(parts);
        let width = span / parts_wide + u128::from(span % parts_wide == parts_wide - 1);
        assert!(width > 0, "the range has fewer keys than parts");
        let start_of = |index: u128| HashKey(self.start.0 + index * width);
        (0..parts_wide)
            .map(|index| {
                let last = index + 1 == parts_wide;
                let end = if last {
                    self.end
                } else {
                    HashKey(start_of(index).0 + (width - 1))
                };
                Self {
                    start: start_of(index),
                    end,
                }
            })
            .collect()
    }

    /// Cuts the range in two, the second part starting at `key`; `None` unless both parts would
    /// have at least one key.
    #[must_use]
    pub fn split_at(self, key: HashKey) -> Option<(Self, Self)> {
        let before = key.previous()?;
        Some((Self::new(self.start, before)?, Self::new(key, self.end)?))
    }

    /// Whether the two ranges touch without overlapping, in either order.
    #[must_use]
    pub fn is_adjacent(&self, other: &Self) -> bool {
        self.end.next() == Some(other.start) || other.end.next() == Some(self.start)
    }

    /// Joins two adjacent ranges, in either order; `None` if they are not adjacent.
    #[must_use]
    pub fn merge(self, other: Self) -> Option<Self> {
        self.is_adjacent(&other).then(|| Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        })
    }
}

impl fmt::Display for HashKeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn partition_keys_hash_as_the_service_hashes_them() {
        let decimal = |key| HashKey::of_partition_key(key).to_string();
        assert_eq!(decimal("a"), "16955237001963240173058271559858726497");
        assert_eq!(decimal("abc"), "191415658344158766168031473277922803570");
        assert_eq!(decimal("abcd"), "301716283811389038011477436469853762335");
    }

    #[test]
    fn text_that_is_no_hash_key_is_refused() {
        let too_large = "340282366920938463463374607431768211456";
        for text in ["", "-1", "+1", "1.0", " 1", "0x10", "k", too_large] {
            assert_eq!(text.parse::<HashKey>(), Err(InvalidHashKey), "{text:?}");
        }
        assert_eq!(
            "340282366920938463463374607431768211455".parse(),
            Ok(HashKey::MAX)
        );
        assert_eq!("007".parse(), Ok(HashKey(7)));
    }

    #[test]
    fn four_shards_divide_the_key_space_as_the_service_does() {
        let starts: Vec<_> = HashKeyRange::FULL
            .split_even(4)
            .iter()
            .map(|range| range.start().to_string())
            .collect();
        assert_eq!(
            starts,
            [
                "0",
                "85070591730234615865843651857942052864",
                "170141183460469231731687303715884105728",
                "255211775190703847597530955573826158592",
            ]
        );
        let third = HashKeyRange::FULL.split_even(3)[0];
        assert_eq!(
            third.end().to_string(),
            "113427455640312821154458202477256070484"
        );
    }

    #[test]
    fn one_shard_takes_the_whole_key_space() {
        assert_eq!(HashKeyRange::FULL.split_even(1), [HashKeyRange::FULL]);
    }

    proptest! {
        #[test]
        fn even_parts_cover_the_range_without_gap_or_overlap(a: u128, b: u128, parts in 1u32..1000) {
            let range = HashKeyRange::new(HashKey(a.min(b)), HashKey(a.max(b))).expect("ordered");
            prop_assume!(range.end().0 - range.start().0 >= u128::from(parts));
            let ranges = range.split_even(parts);
            prop_assert_eq!(ranges.len(), parts as usize);
            let joined = ranges.into_iter().try_fold(None::<HashKeyRange>, |sum, next| match sum {
                None => Some(Some(next)),
                Some(sum) => sum.merge(next).map(Some),
            });
            prop_assert_eq!(joined, Some(Some(range)));
        }

        #[test]
        fn what_is_split_merges_back(a: u128, b: u128, at: u128) {
            let range = HashKeyRange::new(HashKey(a.min(b)), HashKey(a.max(b))).expect("ordered");
            let key = HashKey(at);
            match range.split_at(key) {
                Some((low, high)) => {
                    prop_assert!(low.end() < key && high.start() == key);
                    prop_assert_eq!(high.merge(low), Some(range));
                }
                None => prop_assert!(key <= range.start() || key > range.end()),
            }
        }
    }
}
