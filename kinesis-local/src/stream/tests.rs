//! Lineage: splits and merges keep the key space whole and the history readable.

use kinesis_core::{Rand, ShardMap};
use proptest::prelude::*;

use super::filter::ShardFilter;
use super::*;

const NOW_MS: u64 = 1_795_399_200_000;

pub(crate) fn new_stream(name: &str, shard_count: u32) -> NewStream {
    NewStream {
        id: 1,
        name: name.into(),
        place: None,
        created_ms: NOW_MS,
        mode: Mode::Provisioned,
        shard_count,
        retention_hours: 24,
        record_max_bytes: 1024 * 1024,
        distribution: Distribution::default(),
        warm_mibps: None,
        tags: BTreeMap::new(),
    }
}

fn stream(shard_count: u32) -> Stream {
    Stream::create(&new_stream("s", shard_count))
}

/// The stream as a client sees it.
fn shard_map(stream: &Stream) -> ShardMap {
    let id = |index: u32| kinesis_core::ShardId::from_index(u64::from(index));
    let shards = stream.shards().iter().map(|shard| kinesis_core::Shard {
        id: shard.identity.id(),
        range: shard.identity.range,
        parent: shard.identity.parent.map(id),
        adjacent_parent: shard.identity.adjacent_parent.map(id),
        starting_sequence_number: shard.identity.starting_sequence_number(),
        ending_sequence_number: shard
            .closed_ms()
            .map(|closed_ms| shard.identity.ending_sequence_number(closed_ms)),
    });
    shards.collect()
}

fn middle(range: HashKeyRange) -> HashKey {
    HashKey(range.start().0 + (range.end().0 - range.start().0) / 2 + 1)
}

#[test]
fn a_new_stream_parts_the_key_space_evenly() {
    let stream = stream(4);
    let starts: Vec<u128> = stream
        .shards()
        .iter()
        .map(|shard| shard.identity.range.start().0)
        .collect();
    assert_eq!(starts, [0, 1 << 126, 2 << 126, 3 << 126]);
    assert_eq!(shard_map(&stream).hole(), None);
}

#[test]
fn a_split_closes_the_parent_and_opens_two_children_at_the_key() {
    let mut stream = stream(1);
    stream.split(0, HashKey(1 << 127), NOW_MS + 5).unwrap();
    let [parent, first, second] = stream.shards() else {
        panic!("three shards")
    };
    assert_eq!(parent.closed_ms(), Some(NOW_MS + 5));
    assert_eq!(first.identity.range.end(), HashKey((1 << 127) - 1));
    assert_eq!(second.identity.range.start(), HashKey(1 << 127));
    for child in [first, second] {
        assert_eq!(
            (child.identity.parent, child.identity.adjacent_parent),
            (Some(0), None)
        );
        let ending = parent.identity.ending_sequence_number(NOW_MS + 5);
        assert!(child.identity.starting_sequence_number() > ending);
    }
    assert_eq!(stream.children(0).count(), 2);
    assert_eq!(stream.open_count(), 2);
}

#[test]
fn a_merge_names_its_parents_in_the_order_of_the_request() {
    let mut stream = stream(2);
    stream.merge(0, 1, NOW_MS).unwrap();
    let merged = &stream.shards()[2].identity;
    assert_eq!(merged.range, HashKeyRange::FULL);
    assert_eq!((merged.parent, merged.adjacent_parent), (Some(0), Some(1)));
    assert_eq!(stream.open_count(), 1);
}

#[test]
fn shards_that_are_closed_missing_or_apart_are_not_resharded() {
    let mut stream = stream(3);
    assert_eq!(stream.merge(1, 0, NOW_MS), Err(ReshardRefusal::NotAdjacent));
    assert_eq!(stream.merge(0, 2, NOW_MS), Err(ReshardRefusal::NotAdjacent));
    assert_eq!(stream.merge(2, 0, NOW_MS), Err(ReshardRefusal::NotAdjacent));
    assert_eq!(
        stream.merge(0, 3, NOW_MS),
        Err(ReshardRefusal::NoSuchShard(3))
    );
    stream.merge(0, 1, NOW_MS).unwrap();
    assert_eq!(
        stream.merge(0, 1, NOW_MS),
        Err(ReshardRefusal::AlreadyClosed(0))
    );
    assert_eq!(
        stream.split(0, HashKey(9), NOW_MS),
        Err(ReshardRefusal::AlreadyClosed(0))
    );
    assert_eq!(
        stream.split(9, HashKey(9), NOW_MS),
        Err(ReshardRefusal::NoSuchShard(9))
    );
}

#[test]
fn a_shard_is_split_strictly_inside_its_range() {
    let mut stream = stream(1);
    for key in [HashKey(0), HashKey(1), HashKey::MAX] {
        let refused = Err(ReshardRefusal::KeyOutsideShard(HashKeyRange::FULL));
        assert_eq!(stream.split(0, key, NOW_MS), refused);
    }
    assert_eq!(stream.split(0, HashKey(2), NOW_MS), Ok(()));
}

#[test]
fn a_filter_tells_the_shards_of_its_time() {
    let mut stream = stream(1);
    let split_ms = NOW_MS + 1000;
    stream.split(0, HashKey(1 << 127), split_ms).unwrap();
    let listed = |filter: ShardFilter, now_ms: u64| -> Vec<u32> {
        let listed = stream
            .shards()
            .iter()
            .filter(|shard| filter.lists(&stream, shard, now_ms));
        listed.map(|shard| shard.identity.index).collect()
    };
    let now_ms = NOW_MS + 2000;
    assert_eq!(listed(ShardFilter::All, now_ms), [0, 1, 2]);
    assert_eq!(listed(ShardFilter::After(0), now_ms), [1, 2]);
    assert_eq!(listed(ShardFilter::AtLatest, now_ms), [1, 2]);
    assert_eq!(listed(ShardFilter::AtTrimHorizon, now_ms), [0]);
    assert_eq!(listed(ShardFilter::At(split_ms - 1), now_ms), [0]);
    assert_eq!(listed(ShardFilter::At(split_ms), now_ms), [0, 1, 2]);
    assert_eq!(listed(ShardFilter::At(split_ms + 1), now_ms), [1, 2]);
    assert_eq!(listed(ShardFilter::From(split_ms), now_ms), [0, 1, 2]);
    assert_eq!(listed(ShardFilter::From(split_ms + 1), now_ms), [1, 2]);
    let expired_ms = split_ms + 24 * MILLIS_PER_HOUR + 1;
    assert_eq!(listed(ShardFilter::All, expired_ms), [1, 2]);
    assert_eq!(listed(ShardFilter::AtTrimHorizon, expired_ms), [1, 2]);
}

proptest! {
    /// Whatever is split and merged: every key has exactly one open shard, children lie within
    /// their parents, and numbers grow from parent to child.
    #[test]
    fn any_resharding_keeps_the_key_space_whole(seed: u64, shards in 1..6u32, steps in 0..40usize) {
        let rand = Rand::seeded(seed);
        let mut stream = stream(shards);
        for step in 0..steps {
            let now_ms = NOW_MS + rand.below(3) * 700 * step as u64;
            let open: Vec<u32> = stream.open.clone();
            let at = rand.below(open.len() as u64) as usize;
            let index = open[at];
            let range = stream.at(index).identity.range;
            if rand.below(2) == 0 && range.end().0 - range.start().0 > 3 {
                prop_assert_eq!(stream.split(index, middle(range), now_ms), Ok(()));
            } else if let Some(next) = open.get(at + 1) {
                prop_assert_eq!(stream.merge(index, *next, now_ms), Ok(()));
            }
        }
        let map = shard_map(&stream);
        prop_assert_eq!(map.hole(), None);
        prop_assert_eq!(map.open().count(), stream.open_count());
        for _ in 0..50 {
            let key = HashKey(u128::from(rand.next_u64()) << 64 | u128::from(rand.next_u64()));
            prop_assert_eq!(&map.lookup(key).unwrap().id, &stream.route(key).identity.id());
        }
        for shard in stream.shards() {
            for parent in shard.identity.parents() {
                let parent = stream.at(parent);
                prop_assert!(parent.identity.index < shard.identity.index);
                let ending = parent.identity.ending_sequence_number(parent.closed_ms().unwrap());
                prop_assert!(shard.identity.starting_sequence_number() > ending);
                let child = shard.identity.range;
                let overlaps = parent.identity.range.contains(child.start())
                    || child.contains(parent.identity.range.start());
                prop_assert!(overlaps);
            }
        }
    }
}
