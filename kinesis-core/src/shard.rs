//! Shards, their lineage, and which of them takes a hash key.
//!
//! A stream's open shards cover the key space without overlap. Splitting or merging closes shards
//! and opens children that name them as parents; a closed shard keeps its records until they
//! expire. [`ShardMap`] is a snapshot of that: a lookup by hash key over the open shards, and the
//! lineage of all.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::{HashKey, HashKeyRange, SequenceNumber};

/// A shard's name, `shardId-` and twelve or more digits. Cheap to clone. Ordered as text, which
/// is the order in which shards were made.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ShardId(Arc<str>);

impl ShardId {
    /// The id of the stream's shard number `index`, counted from 0.
    #[must_use]
    pub fn from_index(index: u64) -> Self {
        Self(format!("shardId-{index:012}").into())
    }

    /// The number in the id, if the id has the service's form.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        self.0.strip_prefix("shardId-")?.parse().ok()
    }

    /// The id as the service prints it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ShardId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for ShardId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Borrow<str> for ShardId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One shard as `ListShards` describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shard {
    /// The shard's name.
    pub id: ShardId,
    /// The part of the key space it takes or took.
    pub range: HashKeyRange,
    /// The shard it was split or merged from.
    pub parent: Option<ShardId>,
    /// The other one of two that were merged.
    pub adjacent_parent: Option<ShardId>,
    /// No record of the shard has a smaller number.
    pub starting_sequence_number: SequenceNumber,
    /// Present once the shard is closed; no record of it has a greater number.
    pub ending_sequence_number: Option<SequenceNumber>,
}

impl Shard {
    /// Whether the shard still takes records.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ending_sequence_number.is_none()
    }

    /// The shards it was made from: none, one after a split, two after a merge.
    pub fn parents(&self) -> impl Iterator<Item = &ShardId> {
        self.parent.iter().chain(&self.adjacent_parent)
    }
}

/// A snapshot of a stream's shards.
#[derive(Clone, Debug, Default)]
pub struct ShardMap {
    shards: BTreeMap<ShardId, Shard>,
    /// The open shards by the last key of their range.
    open: BTreeMap<HashKey, ShardId>,
}

impl ShardMap {
    /// A map of these shards. Of two with one id the later counts; of two open ones that end at
    /// the same key (a listing that caught a split half-way) the younger takes the keys.
    #[must_use]
    pub fn new(shards: impl IntoIterator<Item = Shard>) -> Self {
        let shards: BTreeMap<_, _> = shards
            .into_iter()
            .map(|shard| (shard.id.clone(), shard))
            .collect();
        let open = shards
            .values()
            .filter(|shard| shard.is_open())
            .map(|shard| (shard.range.end(), shard.id.clone()))
            .collect();
        Self { shards, open }
    }

    /// The open shard that takes `key`; `None` where the map has a hole.
    #[must_use]
    pub fn lookup(&self, key: HashKey) -> Option<&Shard> {
        let (_, id) = self.open.range(key..).next()?;
        self.shards
            .get(id)
            .filter(|shard| shard.range.contains(key))
    }

    /// The shard with this id, open or closed.
    #[must_use]
    pub fn get(&self, id: &ShardId) -> Option<&Shard> {
        self.shards.get(id)
    }

    /// The open shards in the order of their ranges.
    pub fn open(&self) -> impl Iterator<Item = &Shard> {
        self.open.values().filter_map(|id| self.shards.get(id))
    }

    /// All shards in the order of their ids.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.values()
    }

    /// The shards that name `id` as a parent, in the order of their ids.
    pub fn children<'a>(&'a self, id: &'a ShardId) -> impl Iterator<Item = &'a Shard> {
        self.shards
            .values()
            .filter(move |shard| shard.parents().any(|parent| parent == id))
    }

    /// The first part of the key space that no open shard covers; `None` if they cover it all.
    #[must_use]
    pub fn hole(&self) -> Option<HashKeyRange> {
        let mut next = HashKey::MIN;
        for shard in self.open() {
            if shard.range.start() > next {
                return HashKeyRange::new(next, HashKey(shard.range.start().0 - 1));
            }
            match shard.range.end().0.checked_add(1) {
                Some(after) => next = next.max(HashKey(after)),
                None => return None,
            }
        }
        HashKeyRange::new(next, HashKey::MAX)
    }

    /// How many shards the map holds, open and closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Whether the map holds no shard at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }
}

impl FromIterator<Shard> for ShardMap {
    fn from_iter<T: IntoIterator<Item = Shard>>(shards: T) -> Self {
        Self::new(shards)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard(index: u64, range: HashKeyRange, parents: &[u64], open: bool) -> Shard {
        let number = |text: &str| text.parse().expect("a sequence number");
        Shard {
            id: ShardId::from_index(index),
            range,
            parent: parents.first().map(|&parent| ShardId::from_index(parent)),
            adjacent_parent: parents.get(1).map(|&parent| ShardId::from_index(parent)),
            starting_sequence_number: number("1"),
            ending_sequence_number: (!open).then(|| number("2")),
        }
    }

    #[test]
    fn a_shard_id_has_twelve_digits_and_gives_its_number_back() {
        assert_eq!(ShardId::from_index(7).as_str(), "shardId-000000000007");
        assert_eq!(ShardId::from_index(7).index(), Some(7));
        assert_eq!(ShardId::from("orders").index(), None);
        assert!(ShardId::from_index(9) < ShardId::from_index(10));
    }

    #[test]
    fn children_are_found_from_either_parent_and_only_open_shards_take_keys() {
        let [low, high] = HashKeyRange::FULL.split_even(2)[..] else {
            panic!("two parts")
        };
        let map = ShardMap::new([
            shard(0, low, &[], false),
            shard(1, high, &[], false),
            shard(2, HashKeyRange::FULL, &[0, 1], true),
        ]);
        assert_eq!(
            map.lookup(HashKey(5)).map(|s| s.id.clone()),
            Some(ShardId::from_index(2))
        );
        for parent in [0, 1] {
            let parent = ShardId::from_index(parent);
            let children: Vec<_> = map.children(&parent).map(|s| s.id.clone()).collect();
            assert_eq!(children, [ShardId::from_index(2)]);
        }
        assert_eq!(map.hole(), None);
        assert_eq!((map.len(), map.open().count()), (3, 1));
    }

    #[test]
    fn a_hole_is_reported_and_takes_no_key() {
        let parts = HashKeyRange::FULL.split_even(4);
        for missing in 0..4 {
            let open = (0..4).filter(|&index| index != missing);
            let map: ShardMap = open
                .map(|i| shard(i, parts[i as usize], &[], true))
                .collect();
            let hole = parts[missing as usize];
            assert_eq!(map.hole(), Some(hole));
            assert_eq!(map.lookup(hole.start()), None);
            assert_eq!(map.lookup(hole.end()), None);
        }
        assert_eq!(ShardMap::default().hole(), Some(HashKeyRange::FULL));
    }

    proptest! {
        #[test]
        fn every_key_is_taken_by_the_shard_whose_range_has_it(parts in 1u32..300, key: u128) {
            let ranges = HashKeyRange::FULL.split_even(parts);
            let map: ShardMap =
                ranges.iter().zip(0..).map(|(range, i)| shard(i, *range, &[], true)).collect();
            let found = map.lookup(HashKey(key)).expect("the shards cover the key space");
            prop_assert!(found.range.contains(HashKey(key)));
        }
    }
}
