//! Batches that failed and come again in parts, as under `OnFailure::DeadLetter`.

use super::*;

/// Delivers a part of a batch as the shard's task does.
async fn deliver(
    shard: &mut Shard,
    sequences: std::ops::RangeInclusive<u64>,
) -> Result<(), ProcessorError> {
    shard.checkpointer.deliver(at(*sequences.end()));
    let result = shard.process(sequences).await;
    match &result {
        Ok(()) => shard.checkpointer.settle(),
        Err(_) => shard.checkpointer.withdraw(),
    }
    result
}

/// A shard of which nothing is delivered yet, and whose bucket was out of reach for a batch of eight.
async fn failed(settings: S3SinkSettings) -> Shard {
    let mut shard = Shard::start(settings).await;
    let begin = Position::TrimHorizon;
    shard.checkpointer = Checkpointer::in_memory(shard_id(), begin.clone(), begin);
    shard.line.is_cut.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        deliver(&mut shard, 1..=8).await.expect_err("no bucket");
    }
    shard.line.is_cut.store(false, Ordering::Relaxed);
    shard
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_batch_that_is_stored_as_a_whole_are_taken_and_the_checkpoint_follows_them() {
    let mut shard = failed(of_records(8)).await;
    for (part, reached) in [(1..=2, 2), (3..=4, 4), (5..=8, 8)] {
        deliver(&mut shard, part).await.expect("it is stored");
        assert_eq!(shard.checkpointer.last(), at(reached));
    }
    assert_eq!(shard.contents().await, [lines(1..=8)], "stored once");
    deliver(&mut shard, 9..=16).await.expect("stored");
    assert_eq!(shard.checkpointer.last(), at(16));
    assert_eq!(shard.contents().await, [lines(1..=8), lines(9..=16)]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_goes_neither_beyond_what_is_delivered_nor_beyond_what_is_stored() {
    let mut shard = failed(of_records(5)).await;
    deliver(&mut shard, 1..=4).await.expect("it is stored");
    assert_eq!(shard.contents().await, [lines(1..=5)]);
    assert_eq!(shard.checkpointer.last(), at(4));
    deliver(&mut shard, 5..=8).await.expect("taken");
    assert_eq!(shard.checkpointer.last(), at(5), "the rest is not stored");
    shard.checkpoint_reaches(at(8)).await;
    assert_eq!(shard.contents().await, [lines(1..=5), lines(6..=8)]);
}
