use kinesis_core::SequenceNumber;
use proptest::prelude::*;

use super::*;

fn at(sequence: u64) -> Position {
    let sequence = SequenceNumber::try_from(sequence.to_string().as_str()).unwrap();
    Position::at(sequence, 0)
}

fn limits(bytes: usize, records: usize, age_s: u64) -> BatchLimits {
    BatchLimits {
        bytes,
        records,
        age: Duration::from_secs(age_s),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the state machine takes any start of time"
)]
fn start() -> Instant {
    Instant::now()
}

fn body(batch: Option<&Batch>) -> &[u8] {
    batch.map_or(b"", |batch| &batch.body)
}

#[test]
fn a_batch_is_complete_with_its_last_record() {
    let mut batcher = Batcher::new(limits(1000, 2, 60));
    let now = start();
    assert_eq!(batcher.push(&at(1), b"a\n", now), Pushed::Taken);
    assert_eq!(batcher.sealed(), None);
    assert_eq!(batcher.push(&at(2), b"b\n", now), Pushed::Taken);
    let sealed = batcher.sealed().unwrap();
    assert_eq!(
        (&sealed.first, &sealed.last, sealed.records),
        (&at(1), &at(2), 2)
    );
    assert_eq!(&sealed.body[..], b"a\nb\n");
}

#[test]
fn a_line_that_would_overflow_a_batch_begins_the_next() {
    let mut batcher = Batcher::new(limits(5, 100, 60));
    let now = start();
    batcher.push(&at(1), b"aa\n", now);
    assert_eq!(batcher.push(&at(2), b"bb\n", now), Pushed::Full);
    assert_eq!(body(batcher.sealed()), b"aa\n");
    assert_eq!(
        batcher.push(&at(2), b"bb\n", now),
        Pushed::Full,
        "until it is stored"
    );
    batcher.stored();
    assert_eq!(batcher.push(&at(2), b"bb\n", now), Pushed::Taken);
    batcher.seal();
    assert_eq!(body(batcher.sealed()), b"bb\n");
}

#[test]
fn a_line_larger_than_the_limit_is_a_batch_of_its_own() {
    let mut batcher = Batcher::new(limits(4, 100, 60));
    let now = start();
    batcher.push(&at(1), b"a\n", now);
    assert_eq!(batcher.push(&at(2), b"very long\n", now), Pushed::Full);
    batcher.stored();
    assert_eq!(batcher.push(&at(2), b"very long\n", now), Pushed::Taken);
    assert_eq!(body(batcher.sealed()), b"very long\n");
}

#[test]
fn age_counts_from_the_first_line() {
    let mut batcher = Batcher::new(limits(1000, 100, 60));
    let now = start();
    assert_eq!(batcher.due(), None);
    batcher.push(&at(1), b"a\n", now);
    batcher.push(&at(2), b"b\n", now + Duration::from_secs(59));
    assert_eq!(batcher.due(), Some(now + Duration::from_secs(60)));
    batcher.seal_due(now + Duration::from_secs(59));
    assert_eq!(batcher.sealed(), None);
    assert_eq!(
        batcher.push(&at(3), b"c\n", now + Duration::from_secs(60)),
        Pushed::Full
    );
    assert_eq!(body(batcher.sealed()), b"a\nb\n");
}

#[test]
fn a_record_that_comes_again_is_not_taken_again() {
    let mut batcher = Batcher::new(limits(1000, 100, 60));
    let now = start();
    batcher.push(&at(1), b"a\n", now);
    batcher.push(&at(2), b"b\n", now);
    assert_eq!(batcher.push(&at(1), b"a\n", now), Pushed::Repeated);
    assert_eq!(batcher.push(&at(2), b"b\n", now), Pushed::Repeated);
    batcher.seal();
    batcher.stored();
    assert_eq!(
        batcher.push(&at(2), b"b\n", now),
        Pushed::Repeated,
        "not after its write either"
    );
}

#[test]
fn sealing_nothing_makes_no_batch() {
    let mut batcher = Batcher::new(limits(1000, 100, 60));
    batcher.seal();
    batcher.seal_due(start());
    assert_eq!(batcher.sealed(), None);
}

/// One thing that happens to a batcher.
#[derive(Clone, Debug)]
enum Step {
    Push { line_bytes: usize },
    Repeat { back: u64 },
    Wait { seconds: u64 },
    FlushDue,
    Seal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..40_usize).prop_map(|line_bytes| Step::Push { line_bytes }),
        1 => (0..5_u64).prop_map(|back| Step::Repeat { back }),
        2 => (0..15_u64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::FlushDue),
        1 => Just(Step::Seal),
    ];
    prop::collection::vec(step, 0..120)
}

/// Runs the steps as the processor does and returns the batches and the lines that were pushed.
fn run(limits: BatchLimits, steps: &[Step], now: Instant) -> (Vec<Batch>, Vec<(u64, Vec<u8>)>) {
    fn store(batcher: &mut Batcher, batches: &mut Vec<Batch>) {
        batches.extend(batcher.sealed().cloned());
        batcher.stored();
    }
    let (mut batcher, mut now) = (Batcher::new(limits), now);
    let (mut batches, mut lines) = (Vec::new(), Vec::<(u64, Vec<u8>)>::new());
    let largest = |lines: &[(u64, Vec<u8>)]| lines.iter().map(|(_, line)| line.len()).max();
    for step in steps {
        match step {
            Step::Push { line_bytes } => {
                let sequence = lines.len() as u64 + 1;
                let line = vec![b'a' + (sequence % 26) as u8; *line_bytes];
                lines.push((sequence, line.clone()));
                while batcher.push(&at(sequence), &line, now) == Pushed::Full {
                    store(&mut batcher, &mut batches);
                }
            }
            Step::Repeat { back } => {
                let sequence = (lines.len() as u64).saturating_sub(*back);
                if sequence > 0 {
                    assert_eq!(batcher.push(&at(sequence), b"again", now), Pushed::Repeated);
                }
            }
            Step::Wait { seconds } => now += Duration::from_secs(*seconds),
            Step::FlushDue => batcher.seal_due(now),
            Step::Seal => batcher.seal(),
        }
        let bound = limits.bytes.max(largest(&lines).unwrap_or(0));
        assert!(
            batcher.held_bytes() <= bound,
            "{} held",
            batcher.held_bytes()
        );
        store(&mut batcher, &mut batches);
        assert!(batcher.due().is_none_or(|due| due <= now + limits.age));
    }
    batcher.seal();
    store(&mut batcher, &mut batches);
    (batches, lines)
}

proptest! {
    /// proptest prints the failing input and, with it, the seed to keep.
    #[test]
    fn every_line_is_in_one_batch_in_order_and_no_batch_breaks_a_limit(
        bytes in 1..120_usize,
        records in 1..12_usize,
        age_s in 1..30_u64,
        steps in steps(),
    ) {
        let limits = limits(bytes, records, age_s);
        let now = start();
        let (batches, lines) = run(limits, &steps, now);
        let stored: Vec<u8> = batches.iter().flat_map(|batch| batch.body.to_vec()).collect();
        let pushed: Vec<u8> = lines.iter().flat_map(|(_, line)| line.clone()).collect();
        prop_assert_eq!(stored, pushed);
        let mut next = 1;
        for batch in &batches {
            prop_assert!((1..=records).contains(&batch.records));
            prop_assert!(batch.body.len() <= bytes || batch.records == 1);
            prop_assert_eq!(&batch.first, &at(next));
            next += batch.records as u64;
            prop_assert_eq!(&batch.last, &at(next - 1));
        }
        prop_assert_eq!(run(limits, &steps, now).0, batches, "the same steps cut the same edges");
    }
}
