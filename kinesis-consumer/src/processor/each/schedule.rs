//! Which records of a batch may start, and up to where all are done, without any I/O.
//!
//! Invariants:
//! - A record starts once, after every earlier one of its key has finished.
//! - Of those that may start, the earliest does, so that the watermark moves on.
//! - The watermark is the last record before the first that has not finished.

use std::collections::{BTreeSet, HashMap};

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Schedule {
    /// For each record the next one of its key.
    next_of_key: Vec<Option<usize>>,
    /// Records that may start.
    ready: BTreeSet<usize>,
    finished: Vec<bool>,
    /// Records before the first that has not finished.
    settled: usize,
}

impl Schedule {
    /// Records of one key wait for each other; an empty key is none.
    pub(super) fn per_key<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let mut last_of_key: HashMap<&str, usize> = HashMap::new();
        let (mut next_of_key, mut ready) = (Vec::new(), BTreeSet::new());
        for (index, key) in keys.into_iter().enumerate() {
            next_of_key.push(None);
            if key.is_empty() {
                ready.insert(index);
                continue;
            }
            match last_of_key.insert(key, index) {
                Some(before) => next_of_key[before] = Some(index),
                None => drop(ready.insert(index)),
            }
        }
        Self {
            finished: vec![false; next_of_key.len()],
            next_of_key,
            ready,
            settled: 0,
        }
    }

    /// No record waits for another.
    pub(super) fn unordered(records: usize) -> Self {
        Self {
            next_of_key: vec![None; records],
            ready: (0..records).collect(),
            finished: vec![false; records],
            settled: 0,
        }
    }

    /// The record was done before; to be called before any other starts, in the order of the batch.
    pub(super) fn skip(&mut self, index: usize) {
        // A later one of its key stays behind those that are not done.
        if self.ready.remove(&index) {
            self.finish(index);
        }
    }

    /// The next record that may start.
    pub(super) fn start(&mut self) -> Option<usize> {
        self.ready.pop_first()
    }

    /// A record that was started is done.
    pub(super) fn finish(&mut self, index: usize) {
        self.finished[index] = true;
        self.ready.extend(self.next_of_key[index]);
        while self.finished.get(self.settled) == Some(&true) {
            self.settled += 1;
        }
    }

    /// The last record up to which all are done.
    pub(super) fn watermark(&self) -> Option<usize> {
        self.settled.checked_sub(1)
    }

    /// The last record that is done, whatever is not before it.
    #[cfg(feature = "mutations")]
    pub(super) fn last_finished(&self) -> Option<usize> {
        self.finished.iter().rposition(|finished| *finished)
    }

    pub(super) fn is_done(&self) -> bool {
        self.settled == self.finished.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_done_before_is_skipped_and_lets_the_next_of_its_key_start() {
        let mut schedule = Schedule::per_key(["a", "b", "a", "a"]);
        schedule.skip(0);
        schedule.skip(2);
        assert_eq!(schedule.watermark(), Some(0));
        assert_eq!(
            (schedule.start(), schedule.start(), schedule.start()),
            (Some(1), Some(3), None)
        );
        schedule.finish(3);
        assert_eq!(schedule.watermark(), Some(0));
        schedule.finish(1);
        assert!(schedule.is_done());
    }

    #[test]
    fn records_without_a_key_wait_for_no_other() {
        let mut schedule = Schedule::per_key(["", "a", "", "a", ""]);
        let started: Vec<_> = std::iter::from_fn(|| schedule.start()).collect();
        assert_eq!(started, [0, 1, 2, 4]);
    }

    proptest! {
        #[test]
        fn each_starts_once_in_the_order_of_its_key_and_the_watermark_passes_nothing_undone(
            keys in prop::collection::vec(0_usize..4, 1..40),
            picks in prop::collection::vec(0_usize..8, 0..200),
            concurrency in 1_usize..6,
        ) {
            let names = ["a", "b", "c", "d"];
            let mut schedule = Schedule::per_key(keys.iter().map(|key| names[*key]));
            let (mut running, mut done) = (Vec::new(), vec![false; keys.len()]);
            let mut started = BTreeSet::new();
            let mut picks = picks.into_iter().chain(std::iter::repeat(0));
            while !schedule.is_done() {
                while running.len() < concurrency && let Some(index) = schedule.start() {
                    prop_assert!(started.insert(index), "{index} started twice");
                    let before = (0..index).filter(|other| keys[*other] == keys[index]);
                    for other in before {
                        prop_assert!(done[other], "{index} started before {other} was done");
                    }
                    running.push(index);
                }
                prop_assert!(!running.is_empty(), "it is stuck");
                let pick = picks.next().unwrap_or(0) % running.len();
                let index = running.swap_remove(pick);
                done[index] = true;
                schedule.finish(index);
                let expected = done.iter().take_while(|done| **done).count().checked_sub(1);
                prop_assert_eq!(schedule.watermark(), expected);
            }
            prop_assert_eq!(started.len(), keys.len());
        }
    }
}
