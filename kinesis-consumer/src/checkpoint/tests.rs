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
    let behind = checkpointer
        .checkpoint_at(&at("10", 0))
        .await
        .expect_err("behind");
    let beyond = checkpointer
        .checkpoint_at(&at("10", 3))
        .await
        .expect_err("beyond");
    for error in [behind, beyond] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(
            error.to_string().contains("shardId-000000000003"),
            "{error}"
        );
    }
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
async fn in_shard_ended_a_checkpoint_is_the_end_of_the_shard() {
    let checkpointer = checkpointer();
    assert!(
        checkpointer
            .checkpoint_at(&Position::ShardEnd)
            .await
            .is_err()
    );
    checkpointer.end(Vec::new());
    assert!(!checkpointer.has_ended());
    checkpointer.checkpoint().await.expect("the end");
    assert!(checkpointer.has_ended());
}
