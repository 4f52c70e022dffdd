//! What is told, logged and counted of records that fail one by one, more than one at a time.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use kinesis_consumer::metrics as names;
use kinesis_consumer::{
    Delivery, EventKind, ForEach, OnFailure, ProcessorError, RecordProcessorFactory, Settings,
    ShardRecord, for_each, record_stream,
};

use crate::measured::Counts;
use crate::one_by_one::worker;
use crate::poison::settings;
use crate::world::{World, until};
use crate::written::Written;

const FAILED: &str = "A record failed.";

/// Whose handler fails of these numbers whenever they come.
fn failing(numbers: &'static [&'static str]) -> impl RecordProcessorFactory {
    for_each(
        ForEach::default(),
        async move |handled: ShardRecord| match std::str::from_utf8(&handled.record.data) {
            Ok(text) if numbers.contains(&text) => Err(ProcessorError::retry("the sky is closed")),
            _ => Ok(()),
        },
    )
}

/// What comes behind ` position=` in each of the lines.
fn positions(lines: &[String]) -> BTreeSet<String> {
    let of = |line: &String| {
        let (_, behind) = line.split_once(" position=").expect("it names a record");
        behind
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    lines.iter().map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn two_records_that_keep_failing_are_warned_of_for_as_long_as_they_do() {
    let (written, _installed) = Written::begin();
    let world = World::new(1).await;
    world.put_numbers(0..6, 6).await;
    let settings = settings(OnFailure::Retry);
    let longest = settings.task_backoff_max;
    let worker = worker(&world, "one", settings, failing(&["1", "3"]));
    tokio::time::sleep(10 * longest).await;
    for _ in 0..3 {
        let (failed, stalled) = (
            written.lines(FAILED).len(),
            written.lines("No record was done for a while").len(),
        );
        tokio::time::sleep(3 * longest.max(Duration::from_secs(60))).await;
        assert!(written.lines(FAILED).len() > failed, "{failed}");
        let now = written.lines("No record was done for a while").len();
        assert!(now > stalled, "the checkpoint stands still: {stalled}");
    }
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn the_record_that_stops_a_shard_is_named_though_another_fails_beside_it() {
    let (written, _installed) = Written::begin();
    let world = World::new(1).await;
    world.put_numbers(0..6, 6).await;
    let settings = settings(OnFailure::Stop { attempts: 3 });
    let mut worker = worker(&world, "one", settings, failing(&["1", "3"]));
    let stops = |kind: &EventKind| matches!(kind, EventKind::ShardStopped);
    worker.until_event("the shard stops", stops).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.stop().await.expect("a clean stop");
    let stopped = written.lines("A record failed for good");
    assert_eq!(stopped.len(), 1, "{stopped:#?}");
    let failed = written.lines(FAILED);
    assert!(failed.iter().all(|line| line.contains("the sky is closed")));
    let stopped = positions(&stopped);
    let warned = |line: &&String| stopped.is_subset(&positions(&[(*line).clone()]));
    let warned = failed.iter().filter(warned).count();
    assert_eq!(warned, 3, "one for each attempt: {stopped:?} {failed:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_ends_the_consumer_though_an_earlier_record_stops_the_shard() {
    for fatal_first in [true, false] {
        let world = World::new(1).await;
        world.put_numbers(0..6, 1).await;
        let (mut records, factory) = record_stream(6);
        let settings = settings(OnFailure::Stop { attempts: 1 });
        let worker = worker(&world, "one", settings, factory);
        let mut out: Vec<Delivery> = records.by_ref().take(6).collect().await;
        let (five, three) = (out.remove(5), out.remove(3));
        let gives_up = || five.fail(ProcessorError::fatal("the disk is gone"));
        let stops = || three.fail(ProcessorError::retry("never"));
        if fatal_first {
            gives_up();
            tokio::time::sleep(Duration::from_secs(1)).await;
            stops();
        } else {
            stops();
            tokio::time::sleep(Duration::from_secs(1)).await;
            gives_up();
        }
        drop(out);
        let error = worker.ended().await.expect_err("the processor gave up");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("the disk is gone"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_counts_as_skipped_and_not_as_processed() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    world.put_numbers(0..4, 4).await;
    world.put("4", "a longer one").await;
    world.put_numbers(5..9, 4).await;
    let settings = Settings {
        max_records: 3,
        ..settings(OnFailure::DeadLetter { attempts: 2 })
    };
    let worker = worker(&world, "one", settings, failing(&["a longer one"]));
    until("all is counted", async || {
        counts.of(names::RECORDS_PROCESSED) + counts.of(names::RECORDS_SKIPPED) >= 9
    })
    .await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.ledger.letters().len(), 1);
    assert_eq!(counts.of(names::RECORDS_SKIPPED), 1);
    assert_eq!(counts.of(names::RECORDS_PROCESSED), 8);
    assert_eq!(counts.of(names::DATA_BYTES_PROCESSED), 8);
    assert_eq!(counts.of(names::RECORDS_REDELIVERED), 1);
    assert_eq!(counts.of(names::BATCHES_RETRIED), 0, "no batch came again");
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_stops_the_shard_is_counted_and_told_once() {
    let counts = Counts::default();
    let _recorder = metrics::set_default_local_recorder(&counts);
    let (written, _installed) = Written::begin();
    let world = World::new(1).await;
    world.put_numbers(0..6, 6).await;
    let factory = for_each(ForEach::default(), async |handled: ShardRecord| {
        assert!(handled.record.data != "3", "no such flight");
        Ok(())
    });
    let settings = settings(OnFailure::Stop { attempts: 1 });
    let mut worker = worker(&world, "one", settings, factory);
    let stops = |kind: &EventKind| matches!(kind, EventKind::ShardStopped);
    worker.until_event("the shard stops", stops).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(counts.of(names::PROCESSOR_PANICS), 1);
    let told = written.lines(" panicked.");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("no such flight"), "{told:#?}");
}

#[tokio::test(start_paused = true)]
async fn letters_that_wait_for_their_destination_take_no_place_of_what_may_be_out() {
    let world = World::new(1).await;
    world.put_numbers(0..9, 9).await;
    world.letters.away.store(true, Ordering::Relaxed);
    let (mut records, factory) = record_stream(3);
    let settings = settings(OnFailure::DeadLetter { attempts: 1 });
    let worker = worker(&world, "one", settings, factory);
    for _ in 0..2 {
        let delivery = records.next().await.expect("it runs");
        delivery.fail(ProcessorError::poison("no flight"));
    }
    let out: Vec<_> = records.by_ref().take(3).collect().await;
    let fourth = tokio::time::timeout(Duration::from_secs(60), records.next()).await;
    assert!(fourth.is_err(), "three are out");
    assert!(out.into_iter().all(Delivery::ack), "it goes on");
    world.letters.away.store(false, Ordering::Relaxed);
    until("they are stored", async || {
        world.ledger.letters().len() == 2
    })
    .await;
    worker.kill().await;
}
