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

use super::{ReshardRefusal, Stream};

/// One split or merge.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    Split { shard: u32, key: HashKey },
    Merge { shard: u32, adjacent: u32 },
}

/// A shard that is open at some step: its index, and where its range starts and ends.
type Open = (u32, u128, u128);

impl Stream {
    /// The steps to `target` equal shards.
    pub(crate) fn steps_to(&self, target: u32) -> Vec<Step> {
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
        merge_within(&open, &ranges, &mut next, &mut steps);
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

fn merge_within(open: &[Open], ranges: &[HashKeyRange], next: &mut u32, steps: &mut Vec<Step>) {
    let mut open = open.iter().peekable();
    for range in ranges {
        let end = range.end().0;
        let Some(&(mut shard, _, _)) = open.next() else {
            return;
        };
        while let Some(&(adjacent, _, _)) = open.next_if(|&&(_, start, _)| start <= end) {
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

    proptest! {
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
