//! The search for guilty records, step by step and at random.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const DEAD_LETTER: OnFailure = OnFailure::DeadLetter { attempts: 3 };

fn blame(cause: FailureCause) -> Blame {
    let error = cause.as_str().to_owned();
    Blame { cause, error }
}

/// How a processor fails that cannot take the guilty records.
#[derive(Clone, Copy, Debug)]
enum Failing {
    Retry,
    Panic,
    Poison,
    /// Poison, and it names the first guilty record.
    Names,
}

impl Failing {
    fn fail(self, isolation: &mut Isolation, guilty: usize) -> Next {
        match self {
            Self::Retry => isolation.failed(blame(FailureCause::Retry), None),
            Self::Panic => isolation.failed(blame(FailureCause::Panic), None),
            Self::Poison => isolation.failed(blame(FailureCause::Poison), None),
            Self::Names => isolation.failed(blame(FailureCause::Poison), Some(guilty)),
        }
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
struct Outcome {
    processed: Vec<usize>,
    buried: Vec<usize>,
    /// Both, in the order in which they were passed.
    passed: Vec<usize>,
    calls: usize,
    parts_held: usize,
}

fn run(records: usize, guilty: &BTreeSet<usize>, attempts: u32, failing: Failing) -> Outcome {
    let mut isolation = Isolation::new(records, OnFailure::DeadLetter { attempts });
    let mut outcome = Outcome::default();
    let mut failed_calls = vec![0_u32; records];
    loop {
        outcome.parts_held = outcome.parts_held.max(isolation.left.len());
        match isolation.step() {
            Step::Done => return outcome,
            Step::Bury(index) => {
                let (attempts, blame) = isolation.attempts();
                assert_eq!(attempts, failed_calls[index], "attempts of record {index}");
                assert!(blame.is_some());
                outcome.buried.push(index);
                outcome.passed.push(index);
                isolation.settled();
            }
            Step::Process(part) => {
                outcome.calls += 1;
                match guilty.range(part.clone()).next() {
                    None => {
                        outcome.processed.extend(part.clone());
                        outcome.passed.extend(part);
                        isolation.settled();
                    }
                    Some(first) => {
                        part.for_each(|index| failed_calls[index] += 1);
                        failing.fail(&mut isolation, *first);
                    }
                }
            }
        }
    }
}

fn log2_ceil(n: usize) -> usize {
    n.next_power_of_two().trailing_zeros() as usize
}

fn bound(records: usize, guilty: usize, attempts: usize, failing: Failing) -> usize {
    let attempts = match failing {
        Failing::Names => return 2 * guilty + 1,
        Failing::Poison => 1,
        Failing::Retry | Failing::Panic => attempts,
    };
    attempts + guilty * (2 * log2_ceil(records) + attempts - 1)
}

proptest! {
    #[test]
    fn exactly_the_guilty_are_isolated_and_all_others_processed_in_order(
        (records, guilty) in (1_usize..200).prop_flat_map(|records| {
            (Just(records), prop::collection::btree_set(0..records, 0..=records.min(12)))
        }),
        attempts in 1_u32..5,
        failing in prop::sample::select(vec![Failing::Retry, Failing::Panic, Failing::Poison, Failing::Names]),
    ) {
        let outcome = run(records, &guilty, attempts, failing);
        prop_assert_eq!(&outcome.passed, &(0..records).collect::<Vec<_>>());
        prop_assert_eq!(&outcome.buried, &guilty.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(outcome.processed.len(), records - guilty.len());
        let bound = bound(records, guilty.len(), attempts as usize, failing);
        prop_assert!(outcome.calls <= bound, "{} calls, not {bound}", outcome.calls);
        prop_assert!(outcome.parts_held <= log2_ceil(records) + 2, "{}", outcome.parts_held);
    }

    #[test]
    fn whatever_a_processor_returns_each_record_is_passed_once_and_in_order(
        records in 1_usize..100,
        attempts in 1_u32..4,
        answers in prop::collection::vec((0_u8..6, 0_usize..100), 0..400),
    ) {
        let mut isolation = Isolation::new(records, OnFailure::DeadLetter { attempts });
        let mut passed = Vec::new();
        let mut answers = answers.into_iter().chain(std::iter::repeat((0, 0)));
        loop {
            match (isolation.step(), answers.next().expect("endless")) {
                (Step::Done, _) => break,
                (Step::Bury(index), _) => {
                    passed.push(index);
                    isolation.settled();
                }
                (Step::Process(part), (0 | 1, _)) => {
                    passed.extend(part);
                    isolation.settled();
                }
                (Step::Process(_), (2, _)) => drop(isolation.failed(blame(FailureCause::Panic), None)),
                (Step::Process(_), (3, _)) => drop(isolation.failed(blame(FailureCause::Retry), None)),
                (Step::Process(_), (4, _)) => drop(isolation.failed(blame(FailureCause::Poison), None)),
                (Step::Process(_), (_, named)) => {
                    isolation.failed(blame(FailureCause::Poison), Some(named));
                }
            }
        }
        prop_assert_eq!(passed, (0..records).collect::<Vec<_>>());
    }
}

#[test]
fn every_single_guilty_record_and_every_pair_of_small_batches_is_found() {
    for records in 1..=16 {
        for one in 0..records {
            for two in one..records {
                let guilty = BTreeSet::from([one, two]);
                for failing in [Failing::Retry, Failing::Poison, Failing::Names] {
                    let outcome = run(records, &guilty, 2, failing);
                    assert_eq!(outcome.buried, Vec::from_iter(guilty.clone()));
                    assert_eq!(outcome.passed, Vec::from_iter(0..records));
                }
            }
        }
    }
}

#[test]
fn a_batch_of_nothing_but_poison_is_buried_record_by_record() {
    let all = BTreeSet::from_iter(0..100);
    let outcome = run(100, &all, 3, Failing::Poison);
    assert_eq!(outcome.buried, Vec::from_iter(0..100));
    assert_eq!(outcome.calls, 199, "each node of the tree once");
}

#[test]
fn the_whole_batch_and_a_record_alone_have_all_their_attempts_and_parts_between_have_one() {
    let mut isolation = Isolation::new(4, DEAD_LETTER);
    let next = |isolation: &mut Isolation| {
        let step = isolation.step();
        (step, isolation.failed(blame(FailureCause::Retry), None))
    };
    let expected = [
        (0..4, Next::Again),
        (0..4, Next::Again),
        (0..4, Next::Isolate),
        (0..2, Next::Isolate),
        (0..1, Next::Again),
        (0..1, Next::Again),
        (0..1, Next::Isolate),
    ];
    for (part, then) in expected {
        assert_eq!(next(&mut isolation), (Step::Process(part), then));
    }
    assert_eq!(isolation.step(), Step::Bury(0));
    assert_eq!(isolation.attempts().0, 7);
}

#[test]
fn a_named_record_is_buried_after_those_before_it_were_processed() {
    let mut isolation = Isolation::new(5, DEAD_LETTER);
    let named = Some(2);
    assert_eq!(
        isolation.failed(blame(FailureCause::Poison), named),
        Next::Isolate
    );
    for step in [Step::Process(0..2), Step::Bury(2), Step::Process(3..5)] {
        assert_eq!(isolation.step(), step);
        isolation.settled();
    }
    assert_eq!(isolation.step(), Step::Done);
}

#[test]
fn a_named_record_outside_of_the_part_names_nobody() {
    let mut isolation = Isolation::new(4, DEAD_LETTER);
    isolation.failed(blame(FailureCause::Poison), Some(9));
    assert_eq!(isolation.step(), Step::Process(0..2));
}

#[test]
fn by_default_the_same_batch_comes_for_ever_whatever_the_error() {
    let mut isolation = Isolation::new(4, OnFailure::Retry);
    for _ in 0..1_000 {
        for failing in [
            Failing::Retry,
            Failing::Panic,
            Failing::Poison,
            Failing::Names,
        ] {
            assert_eq!(failing.fail(&mut isolation, 2), Next::Again);
            assert_eq!(isolation.step(), Step::Process(0..4));
        }
    }
}

#[test]
fn a_batch_stops_the_shard_after_its_attempts_or_at_once_when_it_is_poison() {
    let stop = OnFailure::Stop { attempts: 3 };
    let mut isolation = Isolation::new(4, stop);
    let fails = |isolation: &mut Isolation| Failing::Retry.fail(isolation, 0);
    assert_eq!(fails(&mut isolation), Next::Again);
    assert_eq!(fails(&mut isolation), Next::Again);
    assert_eq!(fails(&mut isolation), Next::Stop);
    let mut isolation = Isolation::new(4, stop);
    assert_eq!(Failing::Poison.fail(&mut isolation, 0), Next::Stop);
}

#[test]
fn a_failure_beside_another_is_no_attempt_of_its_own_and_is_in_the_letter() {
    let mut isolation = Isolation::new(1, DEAD_LETTER);
    for _ in 0..20 {
        assert_eq!(isolation.failed_beside(), Next::Again);
    }
    for _ in 1..3 {
        let next = isolation.failed(blame(FailureCause::Retry), None);
        assert_eq!(next, Next::Again);
    }
    let next = isolation.failed(blame(FailureCause::Retry), None);
    assert_eq!((next, isolation.step()), (Next::Isolate, Step::Bury(0)));
    assert_eq!(isolation.attempts().0, 23);
}
