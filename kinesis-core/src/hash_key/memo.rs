//! Remembers the hash keys of partition keys that come again and again.
//!
//! MD5 of a short key takes 90 ns, finding it here 10: measured with the producer's `benches/journey.rs`.
//! Each thread that asks has a memo of its own, 256 KiB once it is used, so nobody waits for it.
//!
//! Invariant: the answer is [`HashKey::of_partition_key`]'s, whatever was asked before: an entry
//! holds its whole key, and longer keys are not remembered.

use std::cell::RefCell;

use super::HashKey;

/// The longest key remembered. Source: none; identifiers and UUIDs without dashes fit, and an entry
/// is a cache line.
const KEY_MAX_BYTES: usize = 32;

/// Sets of two entries; a power of two. Source: measured; of a thousand keys nine in ten stay.
const SETS: usize = 2048;

/// Odd numbers without structure. Source: fractions of the square roots of primes (SHA-512).
const MIX: [u64; 4] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
];

/// A key, padded with zeros.
type Words = [u64; KEY_MAX_BYTES / 8];

#[derive(Clone, Copy, Default)]
struct Known {
    key: Words,
    /// 0 where there is no entry.
    len: usize,
    hash_key: u128,
}

struct Memo {
    /// In each set the one used last is first.
    sets: Box<[[Known; 2]]>,
}

impl Memo {
    fn new() -> Self {
        Self {
            sets: vec![[Known::default(); 2]; SETS].into_boxed_slice(),
        }
    }

    fn hash_key(&mut self, partition_key: &str) -> HashKey {
        let Some(key) = words(partition_key.as_bytes()) else {
            return HashKey::of_partition_key(partition_key);
        };
        let len = partition_key.len();
        let Some([first, second]) = self.sets.get_mut(set(&key)) else {
            return HashKey::of_partition_key(partition_key);
        };
        if first.len == len && first.key == key {
            return HashKey(first.hash_key);
        }
        if second.len != len || second.key != key {
            *second = Known {
                key,
                len,
                hash_key: HashKey::of_partition_key(partition_key).0,
            };
        }
        std::mem::swap(first, second);
        HashKey(first.hash_key)
    }
}

/// The key as an entry holds it; `None` for one that is empty or too long.
fn words(key: &[u8]) -> Option<Words> {
    let mut padded = [0; KEY_MAX_BYTES];
    padded.get_mut(..key.len())?.copy_from_slice(key);
    let mut words = Words::default();
    for (word, bytes) in words.iter_mut().zip(padded.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    (!key.is_empty()).then_some(words)
}

/// The set that a key belongs to.
fn set([a, b, c, d]: &Words) -> usize {
    let product = |x: u64, y: u64| u128::from(x) * u128::from(y);
    let mixed = product(a ^ MIX[0], b ^ MIX[1]) ^ product(c ^ MIX[2], d ^ MIX[3]);
    ((mixed >> 64) as u64 ^ mixed as u64) as usize % SETS
}

thread_local! {
    static MEMO: RefCell<Option<Memo>> = const { RefCell::new(None) };
}

/// As [`HashKey::of_partition_key`].
pub(crate) fn of_partition_key(partition_key: &str) -> HashKey {
    let remembered = MEMO.try_with(|memo| {
        let mut memo = memo.try_borrow_mut().ok()?;
        Some(memo.get_or_insert_with(Memo::new).hash_key(partition_key))
    });
    // Without a memo while its thread ends.
    let remembered = remembered.ok().flatten();
    remembered.unwrap_or_else(|| HashKey::of_partition_key(partition_key))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_that_differ_by_padding_or_share_a_set_are_told_apart() {
        let mut memo = Memo::new();
        let mut keys: Vec<_> = (0..20_000).map(|n| format!("key-{n}")).collect();
        keys.extend((0..40).map(|len| "x".repeat(len)));
        keys.extend((1..33).map(|len| "\0".repeat(len)));
        for _ in 0..2 {
            for key in &keys {
                assert_eq!(
                    memo.hash_key(key),
                    HashKey::of_partition_key(key),
                    "{key:?}"
                );
                assert_eq!(
                    memo.hash_key(key),
                    HashKey::of_partition_key(key),
                    "{key:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn an_answer_does_not_depend_on_what_was_asked_before(
            keys in prop::collection::vec("\\PC{0,40}", 0..50),
        ) {
            for key in keys {
                prop_assert_eq!(of_partition_key(&key), HashKey::of_partition_key(&key));
            }
        }
    }
}
