//! The checkpointer as a processor's own tests use it.

use super::*;

fn at(sequence: &str, sub: u64) -> Position {
    Position::at(sequence.parse().expect("digits"), sub)
}

fn checkpointer() -> Checkpointer {
    Checkpointer::in_memory(ShardId::from_index(3), Position::TrimHorizon, at("10", 2))
}

#[tokio::test]
async fn in_memory_the_rules_are_those_of_a_lease() {
    let checkpointer = checkpointer();
    checkpointer
        .checkpoint_at(&at("10", 1))
        .await
        .expect("delivered");
    assert_eq!(checkpointer.last(), at("10", 1));
    checkpointer
        .checkpoint_at(&at("10", 0))
        .await
        .expect("stored already");
    assert_eq!(checkpointer.last(), at("10", 1));
    let error = checkpointer
        .checkpoint_at(&at("10", 3))
        .await
        .expect_err("beyond");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error.to_string().contains("shardId-000000000003"),
        "{error}"
    );
    checkpointer.checkpoint().await.expect("everything");
    assert_eq!(checkpointer.last(), at("10", 2));
}

#[tokio::test]
async fn clones_are_the_same_checkpoint() {
    let one = checkpointer();
    let two = one.clone();
    one.checkpoint().await.expect("everything");
    assert_eq!(two.last(), at("10", 2));
}

#[tokio::test]
async fn what_is_stored_is_checkpointed_as_far_as_it_is_delivered() {
    let checkpointer = checkpointer();
    let stored = at("10", 9);
    assert_eq!(checkpointer.delivered(), at("10", 2));
    let reached = checkpointer.delivered().min(stored.clone());
    checkpointer
        .checkpoint_at(&reached)
        .await
        .expect("delivered");
    checkpointer.deliver(at("12", 0));
    assert_eq!(
        checkpointer.delivered(),
        at("10", 2),
        "of a call that is over"
    );
    let checkpointer = checkpointer.of_delivery();
    let reached = checkpointer.delivered().min(stored.clone());
    checkpointer
        .checkpoint_at(&reached)
        .await
        .expect("delivered");
    assert_eq!(checkpointer.last(), stored);
}

#[tokio::test]
async fn in_shard_ended_a_checkpoint_is_the_end_of_the_shard() {
    let checkpointer = checkpointer();
    assert!(
        checkpointer
            .checkpoint_at(&Position::ShardEnd)
            .await
            .is_err()
    );
    checkpointer.end(Vec::new());
    let checkpointer = checkpointer.of_delivery();
    assert!(!checkpointer.has_ended());
    checkpointer.checkpoint().await.expect("the end");
    assert!(checkpointer.has_ended());
}

#[tokio::test]
async fn a_prepared_checkpoint_counts_once_it_is_committed() {
    let checkpointer = checkpointer();
    let prepared = checkpointer
        .prepare(&at("10", 1), "state")
        .await
        .expect("delivered");
    assert_eq!(prepared.position(), &at("10", 1));
    assert_eq!(checkpointer.last(), Position::TrimHorizon);
    prepared.commit().await.expect("committed");
    prepared.commit().await.expect("a repeat does nothing");
    assert_eq!(checkpointer.last(), at("10", 1));
}

#[tokio::test]
async fn a_checkpoint_is_prepared_under_the_rules_of_a_checkpoint() {
    let checkpointer = checkpointer();
    let beyond = checkpointer.prepare(&at("11", 0), "state").await;
    let too_large = checkpointer
        .prepare(&at("10", 1), vec![0; 64 * 1024 + 1])
        .await;
    for (error, says) in [(beyond, "delivered"), (too_large, "65536")] {
        let error = error.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
    }
    let prepared = checkpointer.prepare(&at("10", 1), "").await.expect("fine");
    checkpointer.checkpoint().await.expect("everything");
    prepared.commit().await.expect("another went further");
    assert_eq!(checkpointer.last(), at("10", 2));
    let late = checkpointer.prepare(&at("10", 1), "late").await;
    late.expect("stored already")
        .commit()
        .await
        .expect("nothing");
    assert_eq!(checkpointer.last(), at("10", 2));
}
