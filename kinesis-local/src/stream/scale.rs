//! Uniform scaling: the splits and merges that lead from the open shards to equal ones.
//!
//! Promises: after the steps the open shards are the even split of the key space into the target
//! number; a shard that already is one of them is not touched; the steps carry the shards' indices,
//! so that a recovery makes the same ones.
//!
//! ```text
//! 2 ─▶ 3    before   ├─────── 0 ───────┼─────── 1 ───────┤
//!           split    ├── 2 ──────┼─ 3 ─┼─ 4 ─┼───── 5 ───┤   at every new edge, from the left
//!           merge    ├── 2 ──────┼──── 6 ────┼───── 5 ───┤   within each new range, from the left
//! ```

use kinesis_core::{HashKey, HashKeyRange};

use super::demand::ON_DEMAND_SHARDS_MAX;
use super::{ReshardRefusal, Stream};

/// One split or merge.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Split { shard: u32, key: HashKey },
    Merge { shard: u32, adjacent: u32 },
}

/// How many shards more than before are open after the steps; none if there are less.
pub(crate) fn more_shards(steps: &[Step]) -> usize {
    let splits = |step: &&Step| matches!(step, Step::Split { .. });
    let splits = steps.iter().filter(splits).count();
    (2 * splits).saturating_sub(steps.len())
}

/// A shard that is open at some step: its index, and where its range starts and ends.
type Open = (u32, u128, u128);

impl Stream {
    /// The steps to `target` equal shards.
    pub(crate) fn steps_to(&self, target: u32) -> Vec<Step> {
        self.steps_to_ranges(target, 0)
    }

    /// The steps to shards of which none is larger than one of `target` equal ones; those that are
    /// not stay as they are. None if there are no larger ones.
    pub(crate) fn steps_to_at_least(&self, target: u32) -> Vec<Step> {
        let largest = HashKeyRange::FULL.split_even(target);
        let largest = largest.iter().map(|range| range.end().0 - range.start().0);
        let largest = largest.max().unwrap_or(u128::MAX);
        let size = |&index: &u32| {
            let range = self.at(index).identity.range;
            range.end().0 - range.start().0
        };
        if self.open.iter().map(size).all(|size| size <= largest) {
            return Vec::new();
        }
        let pieces_from = u32::try_from(self.shards.len()).unwrap_or(u32::MAX);
        let steps = self.steps_to_ranges(target, pieces_from);
        if self.open.len() + more_shards(&steps) > ON_DEMAND_SHARDS_MAX as usize {
            return self.steps_to(target);
        }
        steps
    }

    /// Splits at the edges of `target` equal ranges and merges what lies within one of them, of
    /// shards from the index `merged_from` on.
    fn steps_to_ranges(&self, target: u32, merged_from: u32) -> Vec<Step> {
        let mut open: Vec<Open> = self
            .open
            .iter()
            .map(|&index| {
                let range = self.at(index).identity.range;
                (index, range.start().0, range.end().0)
            })
            .collect();
        let mut next = u32::try_from(self.shards.len()).unwrap_or(u32::MAX);
        let ranges = HashKeyRange::FULL.split_even(target);
        let mut steps = Vec::new();
        let edges = ranges.iter().map(|range| range.start().0).skip(1);
        split_at_edges(&mut open, edges, &mut next, &mut steps);
        merge_within(&open, &ranges, merged_from, &mut next, &mut steps);
        steps
    }

    /// The steps that split each shard into that many equal pieces, a power of two; shards that are
    /// too small stay as they are.
    pub(crate) fn steps_to_split(&self, split: &[(u32, u32)]) -> Vec<Step> {
        let mut next = u32::try_from(self.shards.len()).unwrap_or(u32::MAX);
        let mut steps = Vec::new();
        for &(shard, pieces) in split {
            let Some(found) = self.shard(shard) else {
                continue;
            };
            let range = found.identity.range;
            let mut parts: Vec<Open> = vec![(shard, range.start().0, range.end().0)];
            let mut count = 1;
            while count < pieces {
                parts = halve(&parts, &mut next, &mut steps);
                count *= 2;
            }
        }
        steps
    }

    /// Takes the steps.
    pub(super) fn take(&mut self, steps: &[Step], now_ms: u64) -> Result<(), ReshardRefusal> {
        for &step in steps {
            match step {
                Step::Split { shard, key } => self.divide(shard, key, now_ms)?,
                Step::Merge { shard, adjacent } => self.merge(shard, adjacent, now_ms)?,
            }
        }
        Ok(())
    }
}

/// Splits each of the shards in its middle.
fn halve(parts: &[Open], next: &mut u32, steps: &mut Vec<Step>) -> Vec<Open> {
    let mut halves = Vec::with_capacity(parts.len() * 2);
    for &(shard, start, end) in parts {
        if start == end {
            halves.push((shard, start, end));
            continue;
        }
        let middle = start + (end - start) / 2 + 1;
        let key = HashKey(middle);
        steps.push(Step::Split { shard, key });
        halves.push((*next, start, middle - 1));
        halves.push((*next + 1, middle, end));
        *next += 2;
    }
    halves
}

fn split_at_edges(
    open: &mut Vec<Open>,
    edges: impl Iterator<Item = u128>,
    next: &mut u32,
    steps: &mut Vec<Step>,
) {
    for edge in edges {
        let at = open.partition_point(|&(_, start, _)| start <= edge) - 1;
        let (shard, start, end) = open[at];
        if start == edge {
            continue;
        }
        let key = HashKey(edge);
        steps.push(Step::Split { shard, key });
        open[at] = (*next, start, edge - 1);
        open.insert(at + 1, (*next + 1, edge, end));
        *next += 2;
    }
}

fn merge_within(
    open: &[Open],
    ranges: &[HashKeyRange],
    merged_from: u32,
    next: &mut u32,
    steps: &mut Vec<Step>,
) {
    let mut open = open.iter().peekable();
    for range in ranges {
        let end = range.end().0;
        let Some(&(mut shard, _, _)) = open.next() else {
            return;
        };
        while let Some(&(adjacent, _, _)) = open.next_if(|&&(_, start, _)| start <= end) {
            if shard < merged_from || adjacent < merged_from {
                shard = adjacent;
                continue;
            }
            steps.push(Step::Merge { shard, adjacent });
            shard = *next;
            *next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::tests::new_stream;

    fn scaled(from: u32, targets: &[u32]) -> Stream {
        let mut stream = Stream::create(&new_stream("s", from));
        for &target in targets {
            let steps = stream.steps_to(target);
            stream.take(&steps, 5).unwrap();
        }
        stream
    }

    fn ranges(stream: &Stream) -> Vec<HashKeyRange> {
        let range = |&index: &u32| stream.at(index).identity.range;
        stream.open.iter().map(range).collect()
    }

    #[test]
    fn doubling_splits_every_shard_and_halving_merges_every_pair() {
        let key = HashKey(1 << 126);
        let double = Stream::create(&new_stream("s", 2)).steps_to(4);
        assert_eq!(double.len(), 2);
        assert_eq!(double[0], Step::Split { shard: 0, key });
        let half = scaled(2, &[4]).steps_to(2);
        let pair = |shard, adjacent| Step::Merge { shard, adjacent };
        assert_eq!(half, [pair(2, 3), pair(4, 5)]);
    }

    #[test]
    fn an_uneven_target_splits_first_and_merges_the_pieces_then() {
        let stream = scaled(2, &[3]);
        assert_eq!(stream.open, [2, 6, 5]);
        assert_eq!(ranges(&stream), HashKeyRange::FULL.split_even(3));
    }

    #[test]
    fn the_same_number_of_equal_shards_takes_no_step() {
        assert_eq!(scaled(3, &[]).steps_to(3), []);
    }

    #[test]
    fn a_shard_is_split_into_equal_pieces_one_by_one_in_two() {
        let mut stream = scaled(4, &[]);
        let steps = stream.steps_to_split(&[(0, 4), (3, 2)]);
        assert_eq!(steps.len(), 4);
        stream.take(&steps, 5).unwrap();
        assert_eq!(stream.open, [6, 7, 8, 9, 1, 2, 10, 11]);
        let even = HashKeyRange::FULL.split_even(16);
        assert_eq!(ranges(&stream)[..4], even[..4]);
        let parent = |index| stream.at(index).identity.parent;
        assert_eq!(
            [4, 6, 8, 10].map(parent),
            [Some(0), Some(4), Some(5), Some(3)]
        );
    }

    #[test]
    fn a_shard_of_one_key_is_not_split() {
        let mut stream = scaled(1, &[]);
        stream
            .take(
                &[Step::Split {
                    shard: 0,
                    key: HashKey(1),
                }],
                5,
            )
            .unwrap();
        assert_eq!(stream.steps_to_split(&[(1, 8)]), []);
    }

    #[test]
    fn shards_that_are_small_enough_stay_while_the_larger_ones_are_split() {
        let mut stream = scaled(2, &[]);
        let hot = stream.steps_to_split(&[(1, 4)]);
        stream.take(&hot, 5).unwrap();
        assert_eq!(stream.open, [0, 4, 5, 6, 7]);
        let steps = stream.steps_to_at_least(4);
        stream.take(&steps, 6).unwrap();
        assert_eq!(stream.open, [8, 9, 4, 5, 6, 7]);
        assert_eq!(stream.steps_to_at_least(4), []);
        assert_eq!(stream.steps_to_at_least(1), []);
    }

    proptest! {
        #[test]
        fn what_is_to_hold_a_number_of_equal_shards_has_none_that_is_larger(
            from in 1u32..20,
            hot in prop::collection::vec((0u32..20, 1u32..4), 0..4),
            target in 1u32..100,
        ) {
            let mut stream = scaled(from, &[]);
            for (shard, power) in hot {
                let shard = stream.open[shard as usize % stream.open.len()];
                let steps = stream.steps_to_split(&[(shard, 1 << power)]);
                stream.take(&steps, 5).unwrap();
            }
            let size = |range: &HashKeyRange| range.end().0 - range.start().0;
            let largest = HashKeyRange::FULL.split_even(target).iter().map(size).max().unwrap();
            let before = stream.open.clone();
            let small: Vec<HashKeyRange> = ranges(&stream);
            let steps = stream.steps_to_at_least(target);
            stream.take(&steps, 6).unwrap();
            let after = ranges(&stream);
            prop_assert!(after.iter().all(|range| size(range) <= largest));
            prop_assert!(after.len() >= target as usize);
            // A shard is only closed because an edge goes through it.
            let edges = HashKeyRange::FULL.split_even(target);
            for (index, range) in before.iter().zip(small) {
                let cut = edges.iter().any(|edge| range.start() < edge.start() && edge.start() <= range.end());
                if !cut {
                    prop_assert!(stream.open.contains(index));
                }
            }
        }

        #[test]
        fn any_target_leads_to_equal_shards(
            from in 1u32..40,
            targets in prop::collection::vec(1u32..80, 1..4),
        ) {
            let stream = scaled(from, &targets);
            let even = HashKeyRange::FULL.split_even(targets[targets.len() - 1]);
            prop_assert_eq!(ranges(&stream), even);
        }
    }
}
