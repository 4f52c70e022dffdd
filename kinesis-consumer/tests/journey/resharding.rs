//! Shards that are split and merged on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, Consumer, EventKind, Position, ProcessRecordsInput, ProcessorError,
    RecordProcessor, ShardId,
};

use crate::ledger::{Behaviour, Note};
use crate::world::{APPLICATION, STREAM, World};

/// Parents by child, as the service tells.
pub(crate) async fn parents(world: &World) -> BTreeMap<String, Vec<String>> {
    let answer = world
        .kinesis
        .list_shards()
        .stream_name(STREAM)
        .send()
        .await
        .expect("listed");
    let shards = answer.shards.unwrap_or_default().into_iter();
    shards
        .map(|shard| {
            let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
            (shard.shard_id, parents.into_iter().flatten().collect())
        })
        .collect()
}

pub(crate) fn assert_parents_end_before_children_start(
    notes: &[Note],
    parents: &BTreeMap<String, Vec<String>>,
) {
    let ended = |shard: &str| {
        notes
            .iter()
            .position(|note| matches!(note, Note::Ended(id) if id.as_str() == shard))
    };
    for (at, note) in notes.iter().enumerate() {
        let Note::Initialized(_, shard_id) = note else {
            continue;
        };
        for parent in &parents[shard_id.as_str()] {
            let ended = ended(parent);
            assert!(
                ended.is_some_and(|ended| ended < at),
                "{shard_id} started before {parent} ended"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn parents_are_finished_before_their_children_start_after_a_split_and_a_merge() {
    let world = World::new(2).await;
    world.put_numbers(0..50, 13).await;
    world.stream.split("shardId-000000000000").await;
    world.put_numbers(50..100, 13).await;
    world
        .stream
        .merge("shardId-000000000003", "shardId-000000000001")
        .await;
    world.put_numbers(100..150, 13).await;
    let one = world.worker("one", |_| Behaviour::Process);
    let two = world.worker("two-", |_| Behaviour::Process);
    world.ledger.until_processed(150).await;
    one.stop().await.expect("a clean stop");
    two.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..150);
    let parents = parents(&world).await;
    assert_eq!(
        parents["shardId-000000000004"].len(),
        2,
        "the merge is there: {parents:?}"
    );
    assert_parents_end_before_children_start(&world.ledger.notes(), &parents);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_split_while_it_is_read_goes_on_in_its_children_in_order() {
    let world = World::new(1).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..50, 13).await;
    world.ledger.until_processed(20).await;
    world.stream.split("shardId-000000000000").await;
    world.put_numbers(50..100, 13).await;
    world.ledger.until_processed(100).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..100);
    assert_parents_end_before_children_start(&world.ledger.notes(), &parents(&world).await);
    let row = world.lease_row("shardId-000000000000").await;
    assert!(
        row.get("checkpoint")
            .is_none_or(|checkpoint| checkpoint == "SHARD_END"),
        "{row:?}"
    );
}

/// Forgets to checkpoint the end of its shard, twice.
struct Forgetful {
    shard_id: ShardId,
    asked: Arc<AtomicU32>,
}

#[async_trait]
impl RecordProcessor for Forgetful {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        input.checkpointer.checkpoint().await?;
        Ok(())
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        if asked > 2 {
            checkpointer.checkpoint().await?;
            assert_eq!(checkpointer.last(), Position::ShardEnd);
        }
        Ok(())
    }

    async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        assert_ne!(
            self.shard_id,
            ShardId::from_index(0),
            "the parent has ended"
        );
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_does_not_checkpoint_the_end_is_asked_again_and_the_children_wait() {
    let world = World::new(1).await;
    world.put_numbers(0..5, 3).await;
    world.stream.split("shardId-000000000000").await;
    let asked = Arc::new(AtomicU32::new(0));
    let factory = {
        let asked = Arc::clone(&asked);
        move |shard_id: &ShardId| {
            let is_child = *shard_id != ShardId::from_index(0);
            assert!(
                !is_child || asked.load(Ordering::Relaxed) == 3,
                "{shard_id} started too early"
            );
            Forgetful {
                shard_id: shard_id.clone(),
                asked: Arc::clone(&asked),
            }
        }
    };
    let consumer = Consumer::builder(
        APPLICATION,
        STREAM,
        world.kinesis.clone(),
        world.dynamodb.clone(),
        factory,
    )
    .clock(world.clock.clone())
    .build()
    .expect("valid");
    let shutdown = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(consumer.run(shutdown.clone()));
    for child in ["shardId-000000000001", "shardId-000000000002"] {
        crate::world::until("the children are held", async || {
            world.lease_row(child).await.contains_key("leaseOwner")
        })
        .await;
    }
    shutdown.cancel();
    task.await.expect("no panic").expect("a clean stop");
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_the_stream_no_longer_has_is_ended_without_its_processor_saying_so() {
    let world = World::new(2).await;
    let mut worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..20, 7).await;
    world.ledger.until_processed(20).await;
    world.delete_stream().await;
    // The service's answer about shard 1 is the same as when retention took it.
    world.create_stream(1).await;
    crate::world::until("shard 1 is ended", async || {
        world.lease_row("shardId-000000000001").await["checkpoint"] == "SHARD_END"
    })
    .await;
    let expired = |kind: &EventKind| matches!(kind, EventKind::ShardExpired { .. });
    let expired = worker.until_event("it expired", expired).await;
    assert_eq!(expired.shard_id.as_str(), "shardId-000000000001");
    let of_shard = world.ledger.processed().into_iter();
    let of_shard = of_shard.filter(|seen| seen.shard_id == expired.shard_id);
    let checkpoint = of_shard.map(|seen| seen.record.position()).max();
    let checkpoint = checkpoint.expect("it had records");
    assert_eq!(expired.kind, EventKind::ShardExpired { checkpoint });
    let ended = |kind: &EventKind| *kind == EventKind::ShardEnded;
    let ended = worker.until_event("and then ended", ended).await;
    assert_eq!(ended.shard_id, expired.shard_id);
    worker.stop().await.expect("a clean stop");
    let notes = world.ledger.notes();
    assert!(!notes.iter().any(|note| matches!(note, Note::Ended(..))));
    assert_eq!(
        notes
            .iter()
            .filter(|note| matches!(note, Note::Shutdown))
            .count(),
        2
    );
}

#[tokio::test(start_paused = true)]
async fn shards_of_a_deleted_stream_stop_are_not_ended_and_do_not_hinder_a_clean_stop() {
    let world = World::new(2).await;
    let mut worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..20, 7).await;
    world.ledger.until_processed(20).await;
    world.delete_stream().await;
    let gone = |kind: &EventKind| *kind == EventKind::StreamNotFound;
    let first = worker.until_event("one is told", gone).await.shard_id;
    let second = worker.until_event("so is the other", gone).await.shard_id;
    assert_ne!(first, second);
    crate::world::until("both processors had their last call", async || {
        let last = |note: &&Note| matches!(note, Note::Shutdown);
        world.ledger.notes().iter().filter(last).count() == 2
    })
    .await;
    worker.stop().await.expect("a clean stop");
    for shard in ["shardId-000000000000", "shardId-000000000001"] {
        let row = world.lease_row(shard).await;
        assert_ne!(row["checkpoint"], "SHARD_END");
        assert!(!row.contains_key("leaseOwner"), "{row:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_retention_took_before_they_were_read_do_not_stop_the_shard() {
    let world = World::new(1).await;
    world.put_numbers(0..5, 1).await;
    let first = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(5).await;
    first.stop().await.expect("a clean stop");
    world.put_numbers(5..10, 1).await;
    tokio::time::sleep(std::time::Duration::from_secs(25 * 60 * 60)).await;
    world.put_numbers(10..15, 1).await;
    let second = world.worker("two-", |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    second.stop().await.expect("a clean stop");
    let expected: Vec<String> = (0..5)
        .chain(10..15)
        .map(|number: u32| number.to_string())
        .collect();
    assert_eq!(world.ledger.texts(), expected);
}
