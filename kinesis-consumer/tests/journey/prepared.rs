//! Checkpoints in two phases, across a crash.

use kinesis_consumer::PendingCheckpoint;

use crate::ledger::{Behaviour, Note};
use crate::world::World;

fn pending(world: &World) -> Vec<(&'static str, PendingCheckpoint)> {
    let pending = |note| match note {
        Note::Pending(worker, pending) => Some((worker, pending)),
        _ => None,
    };
    world
        .ledger
        .notes()
        .into_iter()
        .filter_map(pending)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_next_owner_is_told_what_was_prepared_until_it_checkpoints() {
    let world = World::new(1).await;
    world.put_numbers(0..5, 1).await;
    let first = world.worker("one", |seen| match seen.text().as_str() {
        "1" => Behaviour::ProcessAndCheckpoint,
        "3" => Behaviour::PrepareAndHang("upload-17"),
        _ => Behaviour::Process,
    });
    let prepared = |note: &Note| matches!(note, Note::Prepared);
    world.ledger.until_note("prepared", prepared).await;
    let at = |index: usize| world.ledger.processed()[index].record.position();
    let row = world.lease_row("shardId-000000000000").await;
    assert_eq!(row["checkpoint"], at(1).checkpoint());
    assert_eq!(row["pendingCheckpoint"], at(3).checkpoint());
    assert_eq!(row["pendingCheckpointSubSequenceNumber"], "0");
    first.kill().await;

    let hang = |seen: &crate::ledger::Seen| match seen.text().as_str() {
        "2" => Behaviour::Hang,
        _ => Behaviour::Process,
    };
    let second = world.worker("two-", hang);
    let hangs = |note: &Note| matches!(note, Note::Tried(seen) if seen.worker == "two-");
    world.ledger.until_note("it has the shard", hangs).await;
    let expected = PendingCheckpoint::new(at(3), "upload-17");
    assert_eq!(pending(&world), [("two-", expected.clone())]);
    second.kill().await;

    // Not checkpointed, so still pending.
    let third = world.worker("three", |_| Behaviour::Process);
    world.ledger.until_processed(7).await;
    assert_eq!(pending(&world)[1..], [("three", expected)]);
    third.stop().await.expect("a clean stop");
    let fourth = world.worker("fourth", |_| Behaviour::Process);
    world.put_numbers(5..6, 1).await;
    world.ledger.until_processed(8).await;
    assert_eq!(pending(&world).len(), 2, "nothing is pending any more");
    fourth.stop().await.expect("a clean stop");
    assert_eq!(
        world.ledger.texts(),
        ["0", "1", "2", "3", "2", "3", "4", "5"]
    );
    let row = world.lease_row("shardId-000000000000").await;
    assert!(
        !row.keys().any(|name| name.starts_with("pending")),
        "{row:?}"
    );
}
