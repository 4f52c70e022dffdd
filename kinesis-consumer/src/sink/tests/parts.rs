//! Batches that failed and come again in parts, as under `OnFailure::DeadLetter`.

use super::*;

/// A shard of which nothing is delivered yet, and whose bucket was out of reach for a batch of eight.
async fn failed(settings: S3SinkSettings) -> Shard {
    let mut shard = Shard::start(settings).await;
    shard.line.is_cut.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        shard.process(1..=8).await.expect_err("no bucket");
    }
    shard.line.is_cut.store(false, Ordering::Relaxed);
    shard
}

#[tokio::test(start_paused = true)]
async fn parts_of_a_batch_that_is_stored_as_a_whole_are_taken_and_the_checkpoint_follows_them() {
    let mut shard = failed(of_records(8)).await;
    for (part, reached) in [(1..=2, 2), (3..=4, 4), (5..=8, 8)] {
        shard.process(part).await.expect("it is stored");
        assert_eq!(shard.checkpointer.last(), at(reached));
    }
    assert_eq!(shard.contents().await, [lines(1..=8)], "stored once");
    shard.process(9..=16).await.expect("stored");
    assert_eq!(shard.checkpointer.last(), at(16));
    assert_eq!(shard.contents().await, [lines(1..=8), lines(9..=16)]);
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_checkpoints_a_dead_letter_behind_what_is_stored() {
    let mut shard = Shard::start(S3SinkSettings::default()).await;
    shard.process(1..=3).await.expect("taken");
    // As the shard's task does once the letter of 4 is stored.
    shard.checkpointer.deliver(at(4));
    shard.checkpointer.settle();
    let checkpointer = shard.checkpointer.of_delivery();
    let stopped = shard.processor.shutdown_requested(checkpointer).await;
    stopped.expect("stored");
    assert_eq!(shard.contents().await, [lines(1..=3)]);
    assert_eq!(shard.checkpointer.last(), at(4));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_goes_neither_beyond_what_is_delivered_nor_beyond_what_is_stored() {
    let mut shard = failed(of_records(5)).await;
    shard.process(1..=4).await.expect("it is stored");
    assert_eq!(shard.contents().await, [lines(1..=5)]);
    assert_eq!(shard.checkpointer.last(), at(4));
    shard.process(5..=8).await.expect("taken");
    assert_eq!(shard.checkpointer.last(), at(5), "the rest is not stored");
    shard.checkpoint_reaches(at(8)).await;
    assert_eq!(shard.contents().await, [lines(1..=5), lines(6..=8)]);
}
