//! Which records may start, and up to where all are done, without any I/O. Batches are pushed as they come.
//!
//! ```text
//! first               records are known by their number, from 0 in the order of the shard
//!   ▼
//!   3  4  5  6  7 ◀── push
//!   ·  ●  ·  ●  ·     watermark: 2, the last before the first that is not done
//! ```
//!
//! Invariants:
//! - A record starts once, after every earlier one of its key has finished; one that failed starts again
//!   when it is told to, and those of its key that come later wait for it.
//! - Of those that may start, the earliest does, so that the watermark moves on.
//! - The watermark is the last record before the first that has not finished.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Records on their way, across batches.
#[derive(Debug)]
pub(super) struct Schedule {
    order_per_key: bool,
    /// The number of the first record that has not finished.
    first: u64,
    /// The records from there on.
    records: VecDeque<Scheduled>,
    /// The last record of each key that has some which have not finished.
    last_of_key: HashMap<Arc<str>, u64>,
    /// Records that may start.
    ready: BTreeSet<u64>,
    /// Records that failed and may start again once they are told to.
    failed: BTreeSet<u64>,
}

#[derive(Debug)]
struct Scheduled {
    key: Arc<str>,
    /// The next one of its key.
    next: Option<u64>,
    finished: bool,
}

impl Schedule {
    /// Without any record; those of one key wait for each other if `order_per_key`.
    pub(super) fn new(order_per_key: bool) -> Self {
        Self {
            order_per_key,
            first: 0,
            records: VecDeque::new(),
            last_of_key: HashMap::new(),
            ready: BTreeSet::new(),
            failed: BTreeSet::new(),
        }
    }

    /// The next record of the shard; an empty key is none. Returns its number.
    pub(super) fn push(&mut self, key: &Arc<str>) -> u64 {
        let number = self.first + self.records.len() as u64;
        let before = match self.order_per_key && !key.is_empty() {
            true => self.last_of_key.insert(Arc::clone(key), number),
            false => None,
        };
        self.records.push_back(Scheduled {
            key: Arc::clone(key),
            next: None,
            finished: false,
        });
        match before.and_then(|before| self.get(before)) {
            Some(before) => before.next = Some(number),
            None => drop(self.ready.insert(number)),
        }
        number
    }

    /// The record was done before; to be called before any other starts, in the order of the shard.
    /// Returns how far the watermark moves.
    pub(super) fn skip(&mut self, number: u64) -> usize {
        // A later one of its key stays behind those that are not done.
        match self.ready.remove(&number) {
            true => self.finish(number),
            false => 0,
        }
    }

    /// The next record that may start.
    pub(super) fn start(&mut self) -> Option<u64> {
        self.ready.pop_first()
    }

    /// A record that was started is done. Returns by how many records the watermark moves.
    pub(super) fn finish(&mut self, number: u64) -> usize {
        let Some(record) = self.get(number) else {
            return 0;
        };
        record.finished = true;
        let (next, key) = (record.next, Arc::clone(&record.key));
        match next {
            Some(next) => drop(self.ready.insert(next)),
            None if self.last_of_key.get(&key) == Some(&number) => {
                self.last_of_key.remove(&key);
            }
            None => {}
        }
        let mut moved = 0;
        while self.records.front().is_some_and(|record| record.finished) {
            self.records.pop_front();
            self.first += 1;
            moved += 1;
        }
        moved
    }

    /// A record that was started failed, and waits to start again.
    pub(super) fn fail(&mut self, number: u64) {
        self.failed.insert(number);
    }

    /// Those that failed may start again.
    pub(super) fn again(&mut self) {
        self.ready.append(&mut self.failed);
    }

    /// The number of the first record that has not finished: the watermark is the one before it.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Records from the first that has not finished on.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn is_done(&self) -> bool {
        self.records.is_empty()
    }

    fn get(&mut self, number: u64) -> Option<&mut Scheduled> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.records.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(order_per_key: bool, keys: &[&str]) -> Schedule {
        let mut schedule = Schedule::new(order_per_key);
        for key in keys {
            schedule.push(&Arc::from(*key));
        }
        schedule
    }

    #[test]
    fn what_was_done_before_is_skipped_and_lets_the_next_of_its_key_start() {
        let mut schedule = schedule(true, &["a", "b", "a", "a"]);
        schedule.skip(0);
        schedule.skip(2);
        assert_eq!(schedule.first(), 1);
        assert_eq!(
            (schedule.start(), schedule.start(), schedule.start()),
            (Some(1), Some(3), None)
        );
        schedule.finish(3);
        assert_eq!(schedule.first(), 1);
        assert_eq!(schedule.finish(1), 3);
        assert!(schedule.is_done());
    }

    #[test]
    fn records_without_a_key_wait_for_no_other() {
        let mut schedule = schedule(true, &["", "a", "", "a", ""]);
        let started: Vec<_> = std::iter::from_fn(|| schedule.start()).collect();
        assert_eq!(started, [0, 1, 2, 4]);
    }

    #[test]
    fn a_record_of_a_later_batch_waits_for_its_key_and_no_longer_than_for_that() {
        let mut schedule = schedule(true, &["a", "b"]);
        assert_eq!((schedule.start(), schedule.start()), (Some(0), Some(1)));
        schedule.push(&Arc::from("a"));
        schedule.push(&Arc::from("c"));
        assert_eq!((schedule.start(), schedule.start()), (Some(3), None));
        schedule.finish(0);
        assert_eq!(schedule.start(), Some(2));
        schedule.finish(2);
        schedule.push(&Arc::from("a"));
        assert_eq!(schedule.start(), Some(4), "no other of its key is left");
    }

    #[test]
    fn one_that_failed_holds_up_its_key_until_it_is_done_and_comes_again_when_it_is_told_to() {
        let mut schedule = schedule(true, &["a", "a", "b"]);
        assert_eq!((schedule.start(), schedule.start()), (Some(0), Some(2)));
        schedule.fail(0);
        schedule.finish(2);
        assert_eq!((schedule.start(), schedule.first()), (None, 0));
        schedule.again();
        assert_eq!((schedule.start(), schedule.start()), (Some(0), None));
        assert_eq!(schedule.finish(0), 1);
        assert_eq!(schedule.start(), Some(1));
    }

    proptest! {
        #[test]
        fn each_starts_once_in_the_order_of_its_key_and_the_watermark_passes_nothing_undone(
            keys in prop::collection::vec(0_usize..4, 1..40),
            picks in prop::collection::vec((0_usize..8, 0_usize..4), 0..200),
            (concurrency, batch) in (1_usize..6, 1_usize..9),
        ) {
            let names = ["a", "b", "c", "d"];
            let mut schedule = Schedule::new(true);
            let (mut running, mut done) = (Vec::new(), vec![false; keys.len()]);
            let (mut started, mut pushed) = (BTreeSet::new(), 0);
            let mut picks = picks.into_iter().chain(std::iter::repeat((0, 0)));
            while pushed < keys.len() || !schedule.is_done() {
                while running.len() < concurrency && let Some(number) = schedule.start() {
                    let number = number as usize;
                    prop_assert!(started.insert(number), "{number} started twice");
                    let before = (0..number).filter(|other| keys[*other] == keys[number]);
                    for other in before {
                        prop_assert!(done[other], "{number} started before {other} was done");
                    }
                    running.push(number);
                }
                let (pick, choice) = picks.next().unwrap_or_default();
                if running.is_empty() || (choice == 0 && pushed < keys.len()) {
                    prop_assert!(pushed < keys.len(), "it is stuck");
                    for key in keys.iter().skip(pushed).take(batch) {
                        schedule.push(&Arc::from(names[*key]));
                        pushed += 1;
                    }
                    continue;
                }
                let number = running.swap_remove(pick % running.len());
                if choice == 1 {
                    started.remove(&number);
                    schedule.fail(number as u64);
                    schedule.again();
                    continue;
                }
                done[number] = true;
                schedule.finish(number as u64);
                let expected = done.iter().take_while(|done| **done).count();
                prop_assert_eq!(schedule.first(), expected as u64);
            }
            prop_assert_eq!(started.len(), keys.len());
            prop_assert!(schedule.last_of_key.is_empty(), "keys that are done are forgotten");
        }
    }
}
