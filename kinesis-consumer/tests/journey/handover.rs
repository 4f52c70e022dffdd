//! Workers that stop, crash, and come back.

use kinesis_consumer::{EventKind, Settings};

use crate::ledger::{Behaviour, Note};
use crate::world::World;

#[tokio::test(start_paused = true)]
async fn after_a_clean_stop_the_successor_goes_on_at_once_and_sees_no_record_twice() {
    let world = World::new(4).await;
    world.put_numbers(0..100, 13).await;
    let first = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(60).await;
    first.stop().await.expect("a clean stop");
    world.put_numbers(100..150, 13).await;
    let begun = world.clock.now();
    let second = world.worker("two-", |_| Behaviour::Process);
    world.ledger.until_processed(150).await;
    let took = world.clock.now() - begun;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..150);
    assert!(
        took < Settings::default().lease.failover_time,
        "{took:?}: as slow as a crash"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_died_is_replaced_and_only_what_was_not_checkpointed_comes_again() {
    let world = World::new(2).await;
    world.put_numbers(0..100, 13).await;
    let settings = Settings {
        max_records: 10,
        ..Settings::default()
    };
    // Dies in the middle of batches: some of their records were processed, and not checkpointed.
    let first = world.worker_with("one", settings.clone(), |seen| {
        if seen
            .text()
            .parse::<usize>()
            .is_ok_and(|number| number >= 57)
        {
            return Behaviour::Hang;
        }
        Behaviour::Process
    });
    world
        .ledger
        .until_note(
            "it hangs",
            |note| matches!(note, Note::Tried(seen) if seen.text() == "57"),
        )
        .await;
    let checkpoints = checkpoints(&world).await;
    first.kill().await;
    world.put_numbers(100..150, 13).await;
    let second = world.worker_with("two-", settings, |_| Behaviour::Process);
    crate::world::until("all numbers processed", async || {
        world
            .ledger
            .texts()
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            == 150
    })
    .await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_at_least_once(0..150);
    for seen in world.ledger.processed() {
        if seen.worker == "two-" {
            let checkpoint = &checkpoints[seen.shard_id.as_str()];
            assert!(
                seen.record.position() > *checkpoint,
                "{seen:?} was checkpointed at {checkpoint}"
            );
        }
    }
}

async fn checkpoints(
    world: &World,
) -> std::collections::BTreeMap<String, kinesis_consumer::Position> {
    let mut checkpoints = std::collections::BTreeMap::new();
    for shard in ["shardId-000000000000", "shardId-000000000001"] {
        let row = world.lease_row(shard).await;
        let sub = row["checkpointSubSequenceNumber"]
            .parse()
            .expect("a number");
        let position =
            kinesis_consumer::Position::parse(&row["checkpoint"], sub).expect("a position");
        checkpoints.insert(shard.to_owned(), position);
    }
    checkpoints
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_joins_gets_its_share_without_a_duplicate() {
    let world = World::new(4).await;
    world.put_numbers(0..100, 13).await;
    let first = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(100).await;
    let mut second = world.worker("two-", |_| Behaviour::Process);
    for _ in 0..2 {
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        second.until_event("two has its share", started).await;
    }
    world.put_numbers(100..200, 13).await;
    world.ledger.until_processed(200).await;
    first.stop().await.expect("a clean stop");
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..200);
}
