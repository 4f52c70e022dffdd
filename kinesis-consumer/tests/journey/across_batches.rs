//! Records one by one, out of more than one batch of a shard at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kinesis_consumer::dead_letter::FailureCause;
use kinesis_consumer::{
    Delivery, EventKind, ForEach, OnFailure, ProcessorError, RecordStream, Settings, for_each,
    record_stream,
};

use crate::one_by_one::{Seen, numbers, take, worker};
use crate::world::{World, until};

const SHARD: &str = "shardId-000000000000";

/// Batches of three records.
fn small() -> Settings {
    Settings {
        max_records: 3,
        ..Settings::default()
    }
}

fn small_with(on_failure: OnFailure) -> Settings {
    Settings {
        on_failure,
        ..small()
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.record().data).into_owned()
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

/// The next `count` deliveries, not acknowledged.
async fn hold(records: &mut RecordStream, count: usize) -> Vec<Delivery> {
    records.take(count).collect().await
}

/// Whether nothing comes for a minute.
async fn nothing_comes(records: &mut RecordStream) -> bool {
    let next = tokio::time::timeout(Duration::from_secs(60), records.next());
    next.await.is_err()
}

async fn checkpoint(world: &World) -> String {
    let row = world.lease_row(SHARD).await;
    row.get("checkpoint").cloned().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_takes_a_hundred_before_it_acknowledges_gets_them_out_of_small_batches() {
    let world = World::new(1).await;
    world.put_numbers(0..250, 7).await;
    let (mut records, factory) = record_stream(100);
    let worker = worker(&world, "one", small(), factory);
    let mut seen = Vec::new();
    for count in [100, 100, 50] {
        let chunk = hold(&mut records, count).await;
        seen.extend(texts(&chunk));
        assert!(chunk.into_iter().all(Delivery::ack), "the shard waits");
    }
    assert_eq!(seen, numbers(0..250), "each once, in order");
    let (stopped, end) = tokio::join!(worker.stop(), records.next());
    stopped.expect("a clean stop");
    assert!(end.is_none(), "{end:?}");

    world.put_numbers(250..251, 1).await;
    let (mut records, factory) = record_stream(100);
    let worker = self::worker(&world, "two-", small(), factory);
    assert_eq!(take(&mut records, 1).await, ["250"], "all is checkpointed");
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn such_a_loop_goes_on_though_it_fails_some_of_each_hundred() {
    let world = World::new(1).await;
    world.put_numbers(0..300, 7).await;
    let (mut records, factory) = record_stream(150);
    let worker = worker(&world, "one", small(), factory);
    let mut times = BTreeMap::<String, usize>::new();
    let mut done = 0;
    while done < 300 {
        for delivery in hold(&mut records, 100.min(300 - done)).await {
            let times = times.entry(text(&delivery)).or_default();
            *times += 1;
            // Every tenth is dropped when it comes first.
            if *times > 1 || !text(&delivery).ends_with('0') {
                assert!(delivery.ack());
                done += 1;
            }
        }
    }
    assert_eq!(times.len(), 300);
    let wrong = times
        .iter()
        .find(|(text, times)| **times != 1 + usize::from(text.ends_with('0')));
    assert_eq!(wrong, None);
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_poison_record_of_a_later_batch_becomes_a_dead_letter_while_earlier_ones_are_out() {
    let world = World::new(1).await;
    world.put_numbers(0..9, 3).await;
    let settings = small_with(OnFailure::DeadLetter { attempts: 10 });
    let (mut records, factory) = record_stream(20);
    let worker = worker(&world, "one", settings, factory);
    let mut out = hold(&mut records, 6).await;
    let four = out.remove(4);
    let position = four.record().position();
    four.fail(ProcessorError::poison("no flight"));
    until("the letter is stored", async || {
        !world.ledger.letters().is_empty()
    })
    .await;
    let letter = &world.ledger.letters()[0];
    assert_eq!(letter.position(), position);
    assert_eq!((letter.attempts, letter.cause), (1, FailureCause::Poison));
    let more = hold(&mut records, 3).await;
    assert_eq!(texts(&more), ["6", "7", "8"], "it does not come again");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(checkpoint(&world).await, "TRIM_HORIZON", "0 is out");

    let five = out.pop().expect("it is out");
    assert_eq!(text(&five), "5");
    assert!(out.into_iter().all(Delivery::ack));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(checkpoint(&world).await, position.checkpoint());
    worker.kill().await;
    drop((five, more));

    let (mut records, factory) = record_stream(20);
    let worker = self::worker(&world, "two-", small(), factory);
    assert_eq!(take(&mut records, 4).await, numbers(5..9));
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fails_comes_again_after_pauses_that_grow_and_is_given_up_by_itself() {
    let world = World::new(1).await;
    world.put_numbers(0..6, 3).await;
    let settings = small_with(OnFailure::DeadLetter { attempts: 4 });
    let backoff = settings.task_backoff;
    let (mut records, factory) = record_stream(20);
    let worker = worker(&world, "one", settings, factory);
    let mut out = hold(&mut records, 6).await;
    let mut fails = out.remove(4);
    let position = fails.record().position();
    let begun = world.clock.now();
    for _ in 1..4 {
        fails.fail(ProcessorError::retry("not now"));
        fails = records.next().await.expect("it runs");
        assert_eq!(fails.record().position(), position);
        assert!(world.ledger.letters().is_empty());
    }
    let paused = world.clock.now() - begun;
    assert!(
        paused > Duration::ZERO && paused <= 7 * backoff,
        "{paused:?}"
    );
    fails.fail(ProcessorError::retry("never"));
    until("the letter is stored", async || {
        !world.ledger.letters().is_empty()
    })
    .await;
    let letter = &world.ledger.letters()[0];
    assert_eq!(letter.position(), position);
    assert_eq!((letter.attempts, letter.cause), (4, FailureCause::Retry));
    assert!(letter.error.contains("never"), "{}", letter.error);
    assert!(
        out.into_iter().all(Delivery::ack),
        "they were out all along"
    );
    worker.stop().await.expect("a clean stop");
    let row = checkpoint(&world).await;
    assert!(*row > *position.checkpoint(), "{row}");
}

#[tokio::test(start_paused = true)]
async fn no_checkpoint_passes_a_letter_that_is_not_stored_and_the_others_go_on() {
    let world = World::new(1).await;
    world.put_numbers(0..9, 1).await;
    let settings = small_with(OnFailure::DeadLetter { attempts: 1 });
    let (mut records, factory) = record_stream(3);
    world.letters.away.store(true, Ordering::Relaxed);
    let worker = worker(&world, "one", settings, factory);
    assert_eq!(take(&mut records, 1).await, ["0"]);
    let one = records.next().await.expect("it runs");
    let position = one.record().position();
    one.fail(ProcessorError::poison("no flight"));
    assert_eq!(take(&mut records, 7).await, numbers(2..9));
    tokio::time::sleep(Duration::from_secs(300)).await;
    let stored = checkpoint(&world).await;
    assert!(*stored < *position.checkpoint(), "{stored}");
    world.letters.away.store(false, Ordering::Relaxed);
    until("all is checkpointed", async || {
        *checkpoint(&world).await > *position.checkpoint()
    })
    .await;
    assert_eq!(world.ledger.letters().len(), 1);
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn what_keeps_all_records_from_success_is_outlasted_by_the_attempts_of_one() {
    let world = World::new(1).await;
    world.put_numbers(0..64, 64).await;
    let away = Arc::new(AtomicBool::new(true));
    let (fails, handled) = (Arc::clone(&away), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&handled);
    let factory = for_each(ForEach::default(), move |_| {
        let (fails, counted) = (fails.load(Ordering::Relaxed), Arc::clone(&counted));
        async move {
            if fails {
                return Err(ProcessorError::retry("the database is away"));
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    });
    let settings = small_with(OnFailure::DeadLetter { attempts: 3 });
    let worker = worker(&world, "one", settings, factory);
    until("one is given up", async || {
        !world.ledger.letters().is_empty()
    })
    .await;
    away.store(false, Ordering::Relaxed);
    until("the others are handled", async || {
        handled.load(Ordering::Relaxed) + world.ledger.letters().len() == 64
    })
    .await;
    let letters = world.ledger.letters().len();
    assert!(letters <= 2, "sixteen failed at a time: {letters}");
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_all_that_was_out_comes_again_from_the_watermark_on() {
    let world = World::new(1).await;
    world.put_numbers(0..12, 1).await;
    let (mut records, factory) = record_stream(9);
    let worker = worker(&world, "one", small(), factory);
    let out = hold(&mut records, 9).await;
    assert_eq!(texts(&out), numbers(0..9));
    assert!(nothing_comes(&mut records).await, "nine are out");
    let mut kept = Vec::new();
    for (number, delivery) in out.into_iter().enumerate() {
        match number {
            0..=3 | 5 | 8 => assert!(delivery.ack()),
            _ => kept.push(delivery),
        }
    }
    kept.extend(hold(&mut records, 3).await);
    tokio::time::sleep(Duration::from_secs(10)).await;
    worker.kill().await;
    assert!(kept.into_iter().all(|delivery| !delivery.ack()));

    let (mut records, factory) = record_stream(20);
    let worker = self::worker(&world, "two-", small(), factory);
    let again = hold(&mut records, 8).await;
    assert_eq!(texts(&again), numbers(4..12));
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_is_out_until_its_deadline_and_checkpoints_the_watermark() {
    let world = World::new(1).await;
    world.put_numbers(0..12, 1).await;
    let (mut records, factory) = record_stream(9);
    let worker = worker(&world, "one", small(), factory);
    let mut out = hold(&mut records, 9).await;
    let rest = out.split_off(7);
    let last = out.last().expect("seven").record().position();
    let acknowledge = async {
        // The stop is requested, and these come within its time.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(out.into_iter().all(Delivery::ack), "the shard waits");
        assert!(records.next().await.is_none(), "no other comes");
    };
    let begun = world.clock.now();
    let (stopped, ()) = tokio::join!(worker.stop(), acknowledge);
    stopped.expect("a clean stop");
    let took = world.clock.now() - begun;
    let given = Settings::default().shutdown_timeout;
    assert!(took > given / 2 && took <= given, "{took:?}");
    assert_eq!(checkpoint(&world).await, last.checkpoint());
    assert!(rest.into_iter().all(|delivery| !delivery.ack()));

    let (mut records, factory) = record_stream(9);
    let worker = self::worker(&world, "two-", small(), factory);
    assert_eq!(take(&mut records, 5).await, numbers(7..12));
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_ends_only_once_all_is_acknowledged_and_its_children_come_after_that() {
    let world = World::new(1).await;
    world.put_numbers(0..7, 7).await;
    world.stream.split(SHARD).await;
    world.put_numbers(7..14, 7).await;
    let (mut records, factory) = record_stream(100);
    let worker = worker(&world, "one", small(), factory);
    let mut out = hold(&mut records, 7).await;
    assert_eq!(texts(&out), numbers(0..7));
    assert!(nothing_comes(&mut records).await, "its children wait");
    let last = out.pop().expect("seven");
    assert!(out.into_iter().all(Delivery::ack));
    assert!(nothing_comes(&mut records).await, "one is out");
    assert_ne!(checkpoint(&world).await, "SHARD_END");
    assert!(last.ack());
    let mut children = take(&mut records, 7).await;
    children.sort_by_key(|text| text.parse::<usize>().expect("a number"));
    assert_eq!(children, numbers(7..14));
    assert_eq!(checkpoint(&world).await, "SHARD_END");
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_slow_key_holds_up_the_checkpoint_and_no_other_key_over_many_batches() {
    let world = World::new(1).await;
    world.put_numbers(0..60, 6).await;
    let seen = Seen::default();
    let factory = seen.factory(|number| Duration::from_secs(if number == 6 { 600 } else { 0 }));
    let worker = worker(&world, "one", small(), factory);
    let begun = world.clock.now();
    until("the other keys are handled", async || seen.count() == 51).await;
    assert!(world.clock.now() - begun < Duration::from_secs(300));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(seen.count(), 51, "those behind the slow one wait");
    let held = checkpoint(&world).await;
    until("all are handled", async || seen.count() == 60).await;
    worker.stop().await.expect("a clean stop");
    assert!(checkpoint(&world).await > held, "{held}");
    // It was before the slow one.
    let records = world.stream.read_all().await;
    assert_eq!(held, records[5].sequence_number.as_str());
    assert_eq!(seen.keys_in_order(), 6);
}

#[tokio::test(start_paused = true)]
async fn records_that_are_out_count_until_their_batch_is_settled_and_a_stalled_shard_reads_no_more()
{
    // Thirty records; a hundred and twenty thousand bytes, which are twelve.
    let by_records = Settings {
        max_records_count: 30,
        ..small()
    };
    let by_bytes = Settings {
        max_byte_size: 120_000,
        ..small()
    };
    for (name, settings, in_flight, most) in [
        ("one", by_records.clone(), 1_000, 30),
        ("two-", by_bytes, 1_000, 12),
        ("three", by_records, 5, 5),
    ] {
        let world = World::new(1).await;
        for number in 0..60 {
            let mut data = vec![b' '; 10_000];
            data.extend(number.to_string().bytes());
            world.put("a", data).await;
        }
        let (mut records, factory) = record_stream(in_flight);
        let worker = worker(&world, name, settings, factory);
        let mut out = Vec::new();
        while let Ok(next) = tokio::time::timeout(Duration::from_secs(60), records.next()).await {
            out.push(next.expect("it runs"));
        }
        // The answer that goes over the bound is let in whole.
        assert!(
            (most..most + 3).contains(&out.len()),
            "{name}: {}",
            out.len()
        );
        let seen = out.len();
        assert!(out.into_iter().all(Delivery::ack), "it goes on");
        let more = take(&mut records, most).await;
        assert_eq!(more[0].trim(), seen.to_string());
        worker.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_fails_for_good_stops_the_shard_in_bounded_time_whoever_has_records_out() {
    let world = World::new(1).await;
    world.put_numbers(0..9, 1).await;
    let settings = small_with(OnFailure::Stop { attempts: 2 });
    let (mut records, factory) = record_stream(5);
    let mut worker = worker(&world, "one", settings, factory);
    let mut out = hold(&mut records, 5).await;
    let first = out.remove(0);
    let position = first.record().position();
    assert!(first.ack());
    out.extend(hold(&mut records, 1).await);
    out.remove(2).fail(ProcessorError::retry("not now"));
    let again = records.next().await.expect("it runs");
    assert_eq!(text(&again), "3");
    again.fail(ProcessorError::retry("never"));
    worker
        .until_event("the shard stops", |kind| {
            matches!(kind, EventKind::ShardStopped)
        })
        .await;
    until("what is done is checkpointed", async || {
        checkpoint(&world).await == position.checkpoint()
    })
    .await;
    assert!(nothing_comes(&mut records).await, "it stands still");
    assert!(out.into_iter().all(|delivery| !delivery.ack()));
    worker.stop().await.expect("a clean stop");
}
