//! Records that cannot be processed: each of them is a dead letter or stops its shard, and all
//! others are delivered.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use kinesis_consumer::dead_letter::{FailureCause, KinesisDeadLetters};
use kinesis_consumer::{
    Checkpointer, Consumer, DeadLetter, ErrorKind, OnFailure, ProcessRecordsInput, ProcessorError,
    RecordProcessor, Settings, ShardId,
};
use kinesis_core::{Aggregate, UserRecord};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule};

use crate::ledger::{Behaviour, Note, Seen};
use crate::world::{Worker, World, until};

const SHARD: &str = "shardId-000000000000";

pub(crate) fn settings(on_failure: OnFailure) -> Settings {
    Settings {
        on_failure,
        ..Settings::default()
    }
}

fn dead_letter() -> Settings {
    settings(OnFailure::DeadLetter { attempts: 2 })
}

/// Fails the records with these texts, always.
fn guilty(
    texts: &'static [&'static str],
    behaviour: Behaviour,
) -> impl Fn(&Seen) -> Behaviour + Send + Sync {
    move |seen| match texts.contains(&seen.text().as_str()) {
        true => behaviour.clone(),
        false => Behaviour::Process,
    }
}

fn text(letter: &DeadLetter) -> String {
    String::from_utf8_lossy(&letter.record.data).into_owned()
}

fn buried(world: &World) -> Vec<String> {
    world.ledger.letters().iter().map(text).collect()
}

/// Waits until each of the numbers was processed or is a dead letter.
async fn until_settled(world: &World, numbers: std::ops::Range<usize>) {
    let all: BTreeSet<String> = numbers.map(|number| number.to_string()).collect();
    until("all is settled", async || {
        let settled: BTreeSet<String> = [world.ledger.texts(), buried(world)]
            .concat()
            .into_iter()
            .collect();
        settled.is_superset(&all)
    })
    .await;
}

fn tries(world: &World, text: &str) -> usize {
    let of_text = |note: &&Note| matches!(note, Note::Tried(seen) if seen.text() == text);
    world.ledger.notes().iter().filter(of_text).count()
}

async fn checkpoint(world: &World) -> String {
    world.lease_row(SHARD).await["checkpoint"].clone()
}

/// Fails record k of n in turn.
async fn one_of_eight_fails(behaviour: Behaviour, cause: FailureCause, attempts: u32) {
    const TEXTS: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
    for k in 0..8 {
        let world = World::new(1).await;
        world.put_numbers(0..8, 3).await;
        let worker = world.worker_with(
            "one",
            dead_letter(),
            guilty(&TEXTS[k..=k], behaviour.clone()),
        );
        until_settled(&world, 0..8).await;
        worker.stop().await.expect("a clean stop");
        let letters = world.ledger.letters();
        assert_eq!(buried(&world), [k.to_string()]);
        let letter = &letters[0];
        assert_eq!(
            (&*letter.stream, letter.shard_id.as_str()),
            ("flights", SHARD)
        );
        assert_eq!(&*letter.record.partition_key, format!("key-{}", k % 3));
        assert_eq!(letter.cause, cause);
        assert!(letter.error.starts_with("asked "), "{}", letter.error);
        assert_eq!(letter.attempts, attempts, "record {k}");
        assert!(
            letter.given_up_at_millis > letter.record.approximate_arrival_millis.expect("known")
        );
        // First deliveries are in order; a call that fails may have taken some before.
        let mut firsts = Vec::new();
        for text in world.ledger.texts() {
            if !firsts.contains(&text) {
                firsts.push(text);
            }
        }
        let others: Vec<String> = (0..8).filter(|n| *n != k).map(|n| n.to_string()).collect();
        assert_eq!(firsts, others, "record {k}");
        world
            .ledger
            .assert_no_checkpoint_passed_an_unsettled_record();
        let last = world
            .ledger
            .processed()
            .iter()
            .map(|seen| seen.record.position())
            .max();
        let end = last.max(Some(letter.position())).expect("records");
        assert_eq!(checkpoint(&world).await, end.checkpoint(), "record {k}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_always_fails_is_a_dead_letter_and_all_others_are_delivered() {
    // Twice in the whole, once in four and in two, twice alone.
    one_of_eight_fails(Behaviour::Fail, FailureCause::Retry, 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_panics_is_a_dead_letter_and_all_others_are_delivered() {
    one_of_eight_fails(Behaviour::Panic, FailureCause::Panic, 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_poison_is_divided_at_once() {
    one_of_eight_fails(Behaviour::Poison, FailureCause::Poison, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_named_is_a_dead_letter_at_once() {
    one_of_eight_fails(Behaviour::PoisonHere, FailureCause::Poison, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fails_for_a_while_is_no_dead_letter() {
    let world = World::new(1).await;
    world.put_numbers(0..6, 2).await;
    let failures = std::sync::atomic::AtomicU32::new(0);
    let worker = world.worker_with("one", dead_letter(), move |seen| {
        let fails = seen.text() == "4" && failures.fetch_add(1, Ordering::Relaxed) < 3;
        if fails {
            Behaviour::Fail
        } else {
            Behaviour::Process
        }
    });
    until_settled(&world, 0..6).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(buried(&world), [""; 0]);
    world.ledger.assert_each_at_least_once(0..6);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_nothing_but_poison_is_all_in_the_dead_letters_and_checkpointed() {
    let world = World::new(2).await;
    world.put_numbers(0..40, 8).await;
    let worker = world.worker_with("one", dead_letter(), |_| Behaviour::Poison);
    until_settled(&world, 0..40).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.ledger.letters().len(), 40);
    let successor = world.worker_with("two-", dead_letter(), |_| Behaviour::Process);
    world.put_numbers(40..42, 2).await;
    until_settled(&world, 40..42).await;
    successor.stop().await.expect("a clean stop");
    assert_eq!(
        world.ledger.texts().len(),
        2,
        "the letters were checkpointed"
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_destination_is_away_nothing_passes_and_then_all_is_delivered() {
    let world = World::new(1).await;
    world.letters.away.store(true, Ordering::Relaxed);
    world.put_numbers(0..6, 1).await;
    let worker = world.worker_with("one", dead_letter(), guilty(&["2"], Behaviour::PoisonHere));
    until("it came to the letter", async || tries(&world, "1") == 2).await;
    tokio::time::sleep(Duration::from_secs(5 * 60)).await;
    assert_eq!(tries(&world, "3"), 0, "nothing passes");
    let before = world.ledger.processed();
    let last = before.iter().map(|seen| seen.record.position()).max();
    assert_eq!(
        checkpoint(&world).await,
        last.expect("records").checkpoint()
    );
    assert_eq!(world.lease_row(SHARD).await["leaseOwner"], "one");

    world.letters.away.store(false, Ordering::Relaxed);
    until_settled(&world, 0..6).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(buried(&world), ["2"]);
    assert_eq!(world.ledger.texts(), ["0", "1", "0", "1", "3", "4", "5"]);
    world
        .ledger
        .assert_no_checkpoint_passed_an_unsettled_record();
}

#[tokio::test(start_paused = true)]
async fn while_credentials_are_expired_or_a_permission_is_missing_nothing_passes_a_letter() {
    const LETTERS: &str = "letters";
    for code in ["ExpiredTokenException", "AccessDeniedException"] {
        let world = World::new(1).await;
        let create = world.kinesis.create_stream().stream_name(LETTERS);
        create.shard_count(1).send().await.expect("created");
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.put_numbers(0..6, 1).await;
        let refused = FaultRule::new(FaultEffect::error(code)).operation("PutRecord");
        world.faults(FaultPlan::default().rule(refused));
        let fails = guilty(&["2"], Behaviour::PoisonHere);
        let letters = KinesisDeadLetters::new(world.kinesis.clone(), LETTERS);
        let builder = world.builder("one", dead_letter(), fails);
        let worker = Worker::of(builder.dead_letters(letters).build().expect("valid"));
        until("it came to the letter", async || tries(&world, "1") == 2).await;
        tokio::time::sleep(Duration::from_secs(5 * 60)).await;
        assert_eq!(tries(&world, "3"), 0, "{code}: nothing passes");
        let before = world.ledger.processed();
        let last = before.iter().map(|seen| seen.record.position()).max();
        assert_eq!(
            checkpoint(&world).await,
            last.expect("records").checkpoint()
        );
        let asked = world.hits()[0];
        assert!((4..=100).contains(&asked), "{code}: {asked} times");

        world.faults(FaultPlan::default());
        until("all others are processed", async || {
            world.ledger.texts().ends_with(&["5".to_owned()])
        })
        .await;
        worker.stop().await.expect("a clean stop");
        assert_eq!(world.ledger.texts(), ["0", "1", "0", "1", "3", "4", "5"]);
        assert_eq!(letters_in(&world, LETTERS).await, 1, "{code}");
    }
}

/// How many records a stream of one shard holds.
async fn letters_in(world: &World, stream: &str) -> usize {
    let iterator = world.kinesis.get_shard_iterator().stream_name(stream);
    let iterator = iterator.shard_id(SHARD);
    let iterator = iterator.shard_iterator_type(ShardIteratorType::TrimHorizon);
    let iterator = iterator.send().await.expect("an iterator").shard_iterator;
    let get = world.kinesis.get_records().set_shard_iterator(iterator);
    get.send().await.expect("records").records().len()
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_destination_is_away_leaves_the_record_to_the_next_owner() {
    let world = World::new(1).await;
    world.letters.away.store(true, Ordering::Relaxed);
    world.put_numbers(0..4, 1).await;
    let fails = || guilty(&["2"], Behaviour::PoisonHere);
    let worker = world.worker_with("one", dead_letter(), fails());
    until("it came to the letter", async || tries(&world, "1") == 2).await;
    worker.stop().await.expect("a clean stop");
    let successor = world.worker_with("two-", dead_letter(), fails());
    until("it came again", async || tries(&world, "2") == 2).await;
    assert_eq!(buried(&world), [""; 0]);
    world.letters.away.store(false, Ordering::Relaxed);
    until_settled(&world, 0..4).await;
    successor.stop().await.expect("a clean stop");
    assert_eq!(world.ledger.texts(), ["0", "1", "0", "1", "3"]);
    world
        .ledger
        .assert_no_checkpoint_passed_an_unsettled_record();
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_between_letter_and_checkpoint_the_letter_comes_twice_and_nothing_is_lost() {
    let world = World::new(1).await;
    world.put_numbers(0..5, 1).await;
    let first = world.worker_with("one", dead_letter(), |seen| match seen.text().as_str() {
        "2" => Behaviour::Poison,
        "3" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    let hangs = |note: &Note| matches!(note, Note::Tried(seen) if seen.text() == "3");
    world.ledger.until_note("it hangs", hangs).await;
    assert_eq!(buried(&world), ["2"]);
    first.kill().await;
    let second = world.worker_with("two-", dead_letter(), guilty(&["2"], Behaviour::Poison));
    until_settled(&world, 0..5).await;
    second.stop().await.expect("a clean stop");
    let letters = world.ledger.letters();
    assert_eq!(buried(&world), ["2", "2"]);
    assert_eq!(letters[0].position(), letters[1].position());
    world
        .ledger
        .assert_no_checkpoint_passed_an_unsettled_record();
}

#[tokio::test(start_paused = true)]
async fn a_member_of_an_aggregate_is_a_dead_letter_alone_and_a_checkpoint_passes_it_alone() {
    let world = World::new(1).await;
    let mut aggregate = Aggregate::new();
    for number in 0..6 {
        aggregate.push(UserRecord::new("key", number.to_string()));
    }
    world.put("key", aggregate.encode().to_vec()).await;
    world.put("key", "6").await;
    let first = world.worker_with("one", dead_letter(), |seen| match seen.text().as_str() {
        "3" => Behaviour::Fail,
        "4" => Behaviour::ProcessAndCheckpoint,
        "5" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    let hangs = |note: &Note| matches!(note, Note::Tried(seen) if seen.text() == "5" && tries(&world, "3") > 3);
    world.ledger.until_note("it hangs", hangs).await;
    until("the checkpoint is behind it", async || {
        world.lease_row(SHARD).await["checkpointSubSequenceNumber"] == "4"
    })
    .await;
    first.kill().await;
    let second = world.worker_with("two-", dead_letter(), |_| Behaviour::Process);
    until_settled(&world, 0..7).await;
    second.stop().await.expect("a clean stop");
    let letters = world.ledger.letters();
    assert_eq!(buried(&world), ["3"]);
    assert_eq!(
        (letters[0].record.sub_sequence, letters[0].record.aggregated),
        (3, true)
    );
    let of_second = world.ledger.processed();
    let of_second = of_second.iter().filter(|seen| seen.worker == "two-");
    assert_eq!(of_second.map(Seen::text).collect::<Vec<_>>(), ["5", "6"]);
    world
        .ledger
        .assert_no_checkpoint_passed_an_unsettled_record();
}

#[tokio::test(start_paused = true)]
async fn by_the_policy_stop_the_shard_stands_still_and_the_others_go_on() {
    let world = World::new(2).await;
    world.put_numbers(0..8, 4).await;
    let stop = settings(OnFailure::Stop { attempts: 3 });
    let worker = world.worker_with("one", stop.clone(), guilty(&["0"], Behaviour::Fail));
    let stops = |note: &Note| matches!(note, Note::Shutdown);
    world.ledger.until_note("the shard stops", stops).await;
    assert_eq!(tries(&world, "0"), 3);
    let notes = world.ledger.notes();
    let stopped = notes.iter().find_map(|note| match note {
        Note::Tried(seen) if seen.text() == "0" => Some(seen.shard_id.clone()),
        _ => None,
    });
    let stopped = stopped.expect("tried");
    world.put_numbers(8..40, 4).await;
    tokio::time::sleep(Duration::from_secs(5 * 60)).await;
    assert_eq!(
        tries(&world, "0"),
        3,
        "nothing more of the shard is delivered"
    );
    let processed = world.ledger.processed();
    assert!(processed.iter().all(|seen| seen.shard_id != stopped));
    let numbers = |seen: &&Seen| seen.text().parse::<usize>().expect("a number") >= 8;
    assert!(
        processed.iter().filter(numbers).count() > 0,
        "the other goes on"
    );
    assert_eq!(world.lease_row(stopped.as_str()).await["leaseOwner"], "one");

    worker.stop().await.expect("a clean stop");
    let successor = world.worker_with("two-", stop, |_| Behaviour::Process);
    until_settled(&world, 0..40).await;
    successor.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..40);
}

#[tokio::test(start_paused = true)]
async fn by_the_policy_stop_poison_stops_the_shard_at_once() {
    let world = World::new(1).await;
    world.put_numbers(0..2, 1).await;
    let stop = settings(OnFailure::Stop { attempts: 3 });
    let worker = world.worker_with("one", stop, guilty(&["1"], Behaviour::Poison));
    let stops = |note: &Note| matches!(note, Note::Shutdown);
    world.ledger.until_note("the shard stops", stops).await;
    assert_eq!(tries(&world, "1"), 1);
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn by_default_poison_is_tried_for_ever() {
    let world = World::new(1).await;
    world.put_numbers(0..2, 1).await;
    let poison = guilty(&["0"], Behaviour::PoisonHere);
    let worker = world.worker_with("one", Settings::default(), poison);
    until("it came often", async || tries(&world, "0") > 20).await;
    assert_eq!(tries(&world, "1"), 0);
    worker.stop().await.expect("a clean stop");
}

struct Nothing;

#[async_trait::async_trait]
impl RecordProcessor for Nothing {
    async fn process_records(&mut self, _: ProcessRecordsInput) -> Result<(), ProcessorError> {
        Ok(())
    }
    async fn shard_ended(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        Ok(())
    }
    async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_without_its_destination_or_without_attempts_is_refused() {
    let world = World::new(1).await;
    let build = |on_failure, with_destination| {
        let (kinesis, dynamodb) = (world.kinesis.clone(), world.dynamodb.clone());
        let factory = |_: &ShardId| Nothing;
        let mut builder = Consumer::builder("arrivals", "flights", kinesis, dynamodb, factory)
            .settings(settings(on_failure));
        if with_destination {
            builder = builder.dead_letters(world.letters.clone());
        }
        builder.build().map(drop)
    };
    let attempts = 1;
    for (on_failure, with_destination) in [
        (OnFailure::DeadLetter { attempts }, false),
        (OnFailure::Stop { attempts }, true),
        (OnFailure::Retry, true),
        (OnFailure::DeadLetter { attempts: 0 }, true),
        (OnFailure::Stop { attempts: 0 }, false),
    ] {
        let error = build(on_failure, with_destination).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("on_failure"), "{error}");
    }
    build(OnFailure::DeadLetter { attempts }, true).expect("valid");
}
