//! Processors that fail, panic, hang or give up.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kinesis_consumer::{ErrorKind, OnFailure, Settings, ShardId};

use crate::ledger::{Behaviour, Note};
use crate::world::World;

/// Fails a record so many times, by `behaviour`, then processes it.
fn fail_first(
    text: &'static str,
    times: u32,
    behaviour: Behaviour,
) -> impl Fn(&crate::ledger::Seen) -> Behaviour {
    let failures = AtomicU32::new(0);
    move |seen| {
        if seen.text() == text && failures.fetch_add(1, Ordering::Relaxed) < times {
            return behaviour.clone();
        }
        Behaviour::Process
    }
}

async fn is_delivered_again(behaviour: Behaviour) {
    let world = World::new(1).await;
    world.put_numbers(0..6, 1).await;
    let settings = Settings {
        max_records: 2,
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings, fail_first("3", 4, behaviour));
    until_all(&world, 6).await;
    worker.stop().await.expect("a clean stop");
    // The batch [2, 3] came five times; nothing behind it came before it succeeded.
    let tried: Vec<String> = tried(&world);
    let expected = [
        "0", "1", "2", "3", "2", "3", "2", "3", "2", "3", "2", "3", "4", "5",
    ];
    assert_eq!(tried, expected);
    world.ledger.assert_each_at_least_once(0..6);
}

async fn until_all(world: &World, count: usize) {
    crate::world::until("all numbers processed", async || {
        world
            .ledger
            .texts()
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            == count
    })
    .await;
}

fn tried(world: &World) -> Vec<String> {
    let tried = |note| match note {
        Note::Tried(seen) => Some(seen.text()),
        _ => None,
    };
    world.ledger.notes().into_iter().filter_map(tried).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failing_batch_is_delivered_again_until_it_succeeds_and_is_never_skipped() {
    is_delivered_again(Behaviour::Fail).await;
}

#[tokio::test(start_paused = true)]
async fn a_panicking_batch_is_delivered_again_until_it_succeeds_and_is_never_skipped() {
    is_delivered_again(Behaviour::Panic).await;
}

/// Checkpoints each record as it goes, except that "5" fails so many times.
fn checkpoint_each(times: u32) -> impl Fn(&crate::ledger::Seen) -> Behaviour {
    let behave = fail_first("5", times, Behaviour::Fail);
    move |seen| match behave(seen) {
        Behaviour::Process => Behaviour::ProcessAndCheckpoint,
        other => other,
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_checkpointed_record_by_record_is_taken_from_its_first_record_again() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 1).await;
    let worker = world.worker("one", checkpoint_each(1));
    until_all(&world, 10).await;
    worker.stop().await.expect("a clean stop");
    let numbers = (0..=5).chain(0..10).map(|number: u32| number.to_string());
    assert_eq!(tried(&world), numbers.collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn of_a_batch_that_is_checkpointed_record_by_record_only_the_guilty_one_is_a_dead_letter() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 1).await;
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 2 },
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings, checkpoint_each(u32::MAX));
    until_all(&world, 9).await;
    worker.stop().await.expect("a clean stop");
    let letters = world.ledger.letters();
    let buried: Vec<&[u8]> = letters.iter().map(|letter| &*letter.record.data).collect();
    assert_eq!(buried, [b"5"]);
    world
        .ledger
        .assert_no_checkpoint_passed_an_unsettled_record();
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_for_minutes_keeps_its_lease_and_its_place() {
    let world = World::new(1).await;
    world.put_numbers(0..3, 1).await;
    let worker = world.worker("one", fail_first("0", 60, Behaviour::Fail));
    world.ledger.until_processed(3).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..3);
    let initialized = |note: &&Note| matches!(note, Note::Initialized(..));
    assert_eq!(world.ledger.notes().iter().filter(initialized).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_a_batch_keeps_failing_does_not_checkpoint_it() {
    let world = World::new(1).await;
    world.put_numbers(0..4, 1).await;
    let settings = Settings {
        max_records: 2,
        ..Settings::default()
    };
    let worker = world.worker_with(
        "one",
        settings.clone(),
        fail_first("3", u32::MAX, Behaviour::Fail),
    );
    crate::world::until("it failed twice", async || {
        tried(&world).iter().filter(|text| *text == "3").count() >= 2
    })
    .await;
    worker.stop().await.expect("a clean stop");
    // Its `shutdown_requested` checkpointed everything delivered: that is the batch before.
    let before = tried(&world).len();
    let successor = world.worker_with("two-", settings, |_| Behaviour::Process);
    until_all(&world, 4).await;
    successor.stop().await.expect("a clean stop");
    assert_eq!(tried(&world)[before..], ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_checkpointer_of_an_earlier_batch_does_not_pass_the_one_in_hand() {
    let world = World::new(1).await;
    world.put_numbers(0..2, 1).await;
    let worker = world.worker("one", |seen| match seen.text().as_str() {
        "0" | "1" => Behaviour::Process,
        _ => Behaviour::Hang,
    });
    world.ledger.until_processed(2).await;
    let shard_id = ShardId::from_index(0);
    let kept = world.ledger.checkpointer(&shard_id);
    let end = world.ledger.processed()[1].record.position();
    let stored = async || world.lease_row(shard_id.as_str()).await["checkpoint"].clone();
    crate::world::until("the first batch is checkpointed", async || {
        stored().await == end.checkpoint()
    })
    .await;

    world.put_numbers(2..4, 1).await;
    let hangs = |note: &Note| matches!(note, Note::Tried(seen) if seen.text() == "2");
    world.ledger.until_note("the second hangs", hangs).await;
    kept.checkpoint().await.expect("nothing to do");
    assert_eq!(stored().await, end.checkpoint());
    assert_eq!(kept.delivered(), end);
    let own = world.ledger.checkpointer(&shard_id);
    own.checkpoint().await.expect("its own word");
    assert!(own.last() > end);
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_gives_up_ends_run_with_its_error_and_the_others_stop_cleanly() {
    let world = World::new(2).await;
    let worker = world.worker("one", |seen| match seen.text().as_str() {
        "poison" => Behaviour::Fatal,
        _ => Behaviour::Process,
    });
    crate::world::until("both shards are held", async || {
        let initialized = |note: &&Note| matches!(note, Note::Initialized(..));
        world.ledger.notes().iter().filter(initialized).count() == 2
    })
    .await;
    world.put("key", "poison").await;
    let error = worker.ended().await.expect_err("it gave up");
    assert_eq!(error.kind(), ErrorKind::Processor, "{error:?}");
    let shutdowns = |note: &&Note| matches!(note, Note::Shutdown);
    assert_eq!(
        world.ledger.notes().iter().filter(shutdowns).count(),
        1,
        "only the healthy shard"
    );
    for shard in ["shardId-000000000000", "shardId-000000000001"] {
        let row = world.lease_row(shard).await;
        assert!(
            !row.contains_key("leaseOwner"),
            "{shard} was not released: {row:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_hangs_is_dropped_at_the_deadline_of_a_stop_and_nothing_is_lost() {
    let world = World::new(1).await;
    world.put_numbers(0..4, 1).await;
    let settings = Settings {
        max_records: 2,
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings, |seen| match seen.text().as_str() {
        "3" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    world.ledger.until_processed(3).await;
    let asked = world.clock.now();
    worker.stop().await.expect("a clean stop");
    let asked_for = world.clock.now() - asked;
    assert!(
        asked_for <= Settings::default().shutdown_timeout,
        "{:?}",
        asked_for
    );
    let notes = world.ledger.notes();
    assert!(notes.iter().any(|note| matches!(note, Note::Dropped(..))));
    let successor = world.worker("two-", |_| Behaviour::Process);
    until_all(&world, 4).await;
    successor.stop().await.expect("a clean stop");
    assert_eq!(
        world.ledger.texts(),
        ["0", "1", "2", "2", "3"],
        "from the last batch that succeeded"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_drops_the_call_at_once_and_no_checkpoint_is_possible_any_more() {
    use aws_sdk_dynamodb::types::AttributeValue;
    let world = World::new(1).await;
    world.put_numbers(0..2, 1).await;
    let worker = world.worker("one", |seen| match seen.text().as_str() {
        "1" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    world.ledger.until_processed(1).await;
    let shard_id = ShardId::from_index(0);
    world
        .dynamodb
        .update_item()
        .table_name(crate::world::APPLICATION)
        .key("leaseKey", AttributeValue::S(shard_id.to_string()))
        .update_expression("SET leaseOwner = :thief, leaseCounter = leaseCounter + :one")
        .expression_attribute_values(":thief", AttributeValue::S("thief".into()))
        .expression_attribute_values(":one", AttributeValue::N("1".into()))
        .send()
        .await
        .expect("stolen");
    world
        .ledger
        .until_note("the loss", |note| matches!(note, Note::LeaseLost("one")))
        .await;
    assert!(
        world
            .ledger
            .notes()
            .iter()
            .any(|note| matches!(note, Note::Dropped("one")))
    );
    let checkpointer = world.ledger.checkpointer(&shard_id);
    let error = checkpointer.checkpoint().await.map_or_else(Some, |()| None);
    // The batch was withdrawn, so that there is nothing to checkpoint; its own record is refused.
    assert!(error.is_none_or(|error| error.kind() == ErrorKind::LeaseLost));
    let position = world.ledger.processed()[0].record.position();
    let error = checkpointer
        .checkpoint_at(&position)
        .await
        .expect_err("not ours");
    assert!(
        matches!(error.kind(), ErrorKind::LeaseLost | ErrorKind::InvalidInput),
        "{error:?}"
    );
    // The thief never renews: the worker takes the shard back and goes on.
    tokio::time::sleep(Duration::from_secs(60)).await;
    worker.kill().await;
}
