//! The metrics of shards: each rises when what it tells of happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::metrics as names;
use kinesis_consumer::{EventKind, OnFailure, Settings};
use kinesis_core::{Aggregate, HashKeyRange, UserRecord};
use kinesis_local::{FaultEffect, FaultPlan, FaultService};

use crate::ledger::Behaviour;
use crate::measured::Counts;
use crate::world::{APPLICATION, World, for_workers, until};

/// How often a histogram recorded.
fn times(counts: &Counts, name: &str) -> u64 {
    counts.of(&format!("{name} times"))
}

/// Nothing is read, nor room reserved for it, as long as a record is in hand.
fn one_at_a_time() -> Settings {
    Settings {
        max_records: 1,
        max_records_count: 1,
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn each_handoff_is_timed_and_a_clean_stop_is_none() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(4).await;
    let first = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..40, 13).await;
    world.ledger.until_processed(40).await;
    let mut second = world.worker("two-", |_| Behaviour::Process);
    for _ in 0..2 {
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        second.until_event("two has its share", started).await;
    }
    assert_eq!(times(&counts, names::HANDOFF_SECONDS), 2);
    let most = 2 * Settings::default().lease.handoff_timeout.as_secs();
    assert!(counts.of(names::HANDOFF_SECONDS) < most);
    first.stop().await.expect("a clean stop");
    second.stop().await.expect("a clean stop");
    assert_eq!(times(&counts, names::HANDOFF_SECONDS), 2);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_checkpoint_grows_until_one_is_made() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    let fails = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&fails);
    let worker = world.worker("one", move |_| match still.load(Ordering::Relaxed) {
        true => Behaviour::Fail,
        false => Behaviour::Process,
    });
    world.put_numbers(0..1, 1).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let age = counts.of(names::CHECKPOINT_AGE_SECONDS);
    assert!((280..=301).contains(&age), "{age} s");
    fails.store(false, Ordering::Relaxed);
    world.ledger.until_processed(1).await;
    let renewed = Settings::default().lease.failover_time;
    tokio::time::sleep(renewed).await;
    let age = counts.of(names::CHECKPOINT_AGE_SECONDS);
    assert!(age <= renewed.as_secs(), "{age} s");
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn bytes_are_buffered_until_their_records_are_processed() {
    const BYTES: usize = 200_000;
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    let slow = Duration::from_secs(60);
    let worker = world.worker("one", move |_| Behaviour::Slow(slow));
    world.put("a", vec![b'0'; BYTES]).await;
    tokio::time::sleep(slow / 2).await;
    let buffered = counts.of(names::BUFFERED_BYTES);
    assert!(buffered >= BYTES as u64, "{buffered} bytes");
    world.ledger.until_processed(1).await;
    tokio::time::sleep(slow).await;
    assert_eq!(counts.of(names::BUFFERED_BYTES), 0);
    worker.stop().await.expect("a clean stop");
}

/// A gauge of one worker.
fn of_worker(counts: &Counts, name: &str, worker: &str) -> u64 {
    counts.of(&format!("{name} worker={worker}"))
}

#[tokio::test(start_paused = true)]
async fn the_workers_of_a_process_do_not_overwrite_the_gauges_of_each_other() {
    const BYTES: u64 = 200_000;
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(2).await;
    let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
    let mut first = world.worker_with("one", one_at_a_time(), |_| Behaviour::Hang);
    first.until_event("one has both", started).await;
    first.until_event("one has both", started).await;
    let mut second = world.worker_with("two-", one_at_a_time(), |_| Behaviour::Hang);
    second.until_event("two has its share", started).await;
    for range in HashKeyRange::FULL.split_even(2) {
        world
            .put_at(range.start(), vec![b'0'; BYTES as usize])
            .await;
    }
    let holds = async |what: &str, one: u64, two: u64| {
        let has = |worker, shards: u64| {
            of_worker(&counts, names::CURRENT_SHARDS, worker) == shards
                && of_worker(&counts, names::BUFFERED_BYTES, worker) / BYTES == shards
        };
        until(what, async || has("one", one) && has("two-", two)).await;
    };
    holds("each holds one", 1, 1).await;
    first.kill().await;
    holds("one holds one", 0, 1).await;
    second.kill().await;
    holds("nobody holds any", 0, 0).await;
    for gauge in [names::BUFFERED_BYTES, names::CURRENT_SHARDS] {
        let application = format!("{gauge} application={APPLICATION}");
        assert!(counts.has(&application), "{gauge}");
    }
}

/// A worker's gauges of leases: those it holds, whether it leads, and as a leader the open leases and the workers.
fn of_leases(counts: &Counts, worker: &str) -> [u64; 4] {
    ["leases_held", "is_leader", "leases_open", "workers"]
        .map(|name| of_worker(counts, &format!("kinesis_consumer_{name}"), worker))
}

#[tokio::test(start_paused = true)]
async fn each_worker_of_a_process_tells_its_own_leases_and_the_leader_of_the_fleet() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(2).await;
    let shows = async |what: &str, one: [u64; 4], two: [u64; 4]| {
        let is = || of_leases(&counts, "one") == one && of_leases(&counts, "two-") == two;
        until(what, async || is()).await;
    };
    let first = world.worker("one", |_| Behaviour::Process);
    shows("one leads and has both", [2, 1, 2, 1], [0; 4]).await;
    let second = world.worker("two-", |_| Behaviour::Process);
    shows("they share", [1, 1, 2, 2], [1, 0, 0, 0]).await;
    first.stop().await.expect("a clean stop");
    shows("two leads and has both", [0; 4], [2, 1, 2, 1]).await;
    second.kill().await;
    shows("nobody is there", [0; 4], [0; 4]).await;
    let name = names::CHECKPOINT_AGE_SECONDS;
    assert!(counts.has(&format!("{name} application={APPLICATION}")));
}

#[tokio::test(start_paused = true)]
async fn a_part_of_the_keys_without_a_lease_shows_until_it_has_one() {
    const FIRST: &str = "shardId-000000000000";
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(2).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    let shows = async |holes: u64| {
        let of = |name| of_worker(&counts, &format!("kinesis_consumer_{name}"), "one");
        let is = || (of("streams"), of("streams_with_holes")) == (1, holes);
        until("the holes show", async || is()).await;
    };
    world.put_numbers(0..10, 3).await;
    world.ledger.until_processed(10).await;
    shows(0).await;
    let delete = world.dynamodb.delete_item().table_name(APPLICATION);
    let key = AttributeValue::S(FIRST.to_owned());
    delete.key("leaseKey", key).send().await.expect("deleted");
    shows(1).await;
    // The shard is listed again after a while, and read again from its beginning.
    shows(0).await;
    let row = world.lease_row(FIRST).await;
    assert!(row["leaseKey"].contains(FIRST), "{row:?}");
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_installed_late_or_forgets_what_rests_has_the_gauges_right_soon() {
    const BYTES: u64 = 200_000;
    let world = World::new(1).await;
    let slow = Duration::from_secs(120);
    let worker = world.worker_with("one", one_at_a_time(), move |_| Behaviour::Slow(slow));
    world.put("a", vec![b'0'; BYTES as usize]).await;
    tokio::time::sleep(slow / 4).await;
    for recorder in ["late", "another"] {
        let counts = Counts::default();
        let _installed = metrics::set_default_local_recorder(&counts);
        // Nothing changes meanwhile, nor is anything asked for: the record is in hand.
        tokio::time::sleep(Duration::from_secs(16)).await;
        let buffered = of_worker(&counts, names::BUFFERED_BYTES, "one");
        assert!(
            (BYTES..2 * BYTES).contains(&buffered),
            "{recorder}: {buffered}"
        );
        let shards = of_worker(&counts, names::CURRENT_SHARDS, "one");
        assert_eq!(shards, 1, "{recorder}");
    }
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    world.ledger.until_processed(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(of_worker(&counts, names::BUFFERED_BYTES, "one"), 0);
    worker.stop().await.expect("a clean stop");
    assert_eq!(of_worker(&counts, names::CURRENT_SHARDS, "one"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_gauges_of_a_shard_say_nothing_any_more_once_it_has_left() {
    const GAUGES: [&str; 3] = [
        names::BUFFERED_BYTES,
        names::MILLIS_BEHIND_LATEST,
        names::CHECKPOINT_AGE_SECONDS,
    ];
    for way in ["stop", "kill", "lost lease"] {
        let counts = Counts::default();
        let _installed = metrics::set_default_local_recorder(&counts);
        let world = World::new(1).await;
        world.put_numbers(0..1, 1).await;
        tokio::time::sleep(Duration::from_secs(100)).await;
        world.put_numbers(1..2, 1).await;
        // The second record is not asked for as long as the first is in hand.
        let mut worker = world.worker_with("one", one_at_a_time(), |_| Behaviour::Hang);
        tokio::time::sleep(Duration::from_secs(60)).await;
        for gauge in GAUGES {
            assert!(counts.of(gauge) > 0, "{way}: {gauge}");
        }
        match way {
            "stop" => worker.stop().await.expect("a clean stop"),
            "kill" => worker.kill().await,
            _ => {
                let cut = for_workers(FaultEffect::DropRequest).service(FaultService::DynamoDb);
                world.faults(FaultPlan::default().rule(cut));
                let lost = |kind: &EventKind| matches!(kind, EventKind::LeaseLost);
                worker.until_event("it loses the lease", lost).await;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
        tokio::task::yield_now().await;
        for gauge in GAUGES {
            assert_eq!(counts.of(gauge), 0, "{way}: {gauge}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_way_of_a_record_is_timed_from_its_arrival_until_it_is_processed() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    world.put_numbers(0..1, 1).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let slow = Duration::from_secs(50);
    let begun = world.clock.now();
    let worker = world.worker("one", move |_| Behaviour::Slow(slow));
    world.ledger.until_processed(1).await;
    worker.stop().await.expect("a clean stop");
    let took = 100 + (world.clock.now() - begun).as_secs();
    assert_eq!(times(&counts, names::END_TO_END_SECONDS), 1);
    let told = counts.of(names::END_TO_END_SECONDS);
    assert!((150..=took + 1).contains(&told), "{told} s of {took} s");
}

#[tokio::test(start_paused = true)]
async fn iterators_that_expired_are_counted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    world.faults(FaultPlan::default().rule(for_workers(FaultEffect::ExpiredIterator).times(3)));
    world.put_numbers(0..10, 3).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..10);
    assert_eq!(counts.of(names::EXPIRED_ITERATORS), 3);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_stops_by_the_settings_is_counted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(2).await;
    let settings = Settings {
        on_failure: OnFailure::Stop { attempts: 2 },
        ..Settings::default()
    };
    let mut worker = world.worker_with("one", settings, |_| Behaviour::Fail);
    world.put_numbers(0..1, 1).await;
    let stopped = |kind: &EventKind| matches!(kind, EventKind::ShardStopped);
    worker.until_event("it stops", stopped).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(counts.of(names::SHARDS_STOPPED), 1);
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_stands_still_stays_behind_until_its_lease_is_given_up() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    world.put_numbers(0..1, 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.put_numbers(1..3, 1).await;
    let settings = Settings {
        on_failure: OnFailure::Stop { attempts: 2 },
        ..one_at_a_time()
    };
    let mut worker = world.worker_with("one", settings, |_| Behaviour::Fail);
    let stopped = |kind: &EventKind| matches!(kind, EventKind::ShardStopped);
    worker.until_event("it stops", stopped).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let behind = counts.of(names::MILLIS_BEHIND_LATEST);
    assert!(behind > 0, "nothing of it was processed");
    worker.stop().await.expect("a clean stop");
    assert_eq!(counts.of(names::MILLIS_BEHIND_LATEST), 0);
}

#[tokio::test(start_paused = true)]
async fn shards_that_are_gone_with_their_stream_are_counted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(2).await;
    world.put_numbers(0..10, 13).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    assert_eq!(counts.of(names::SHARDS_NOT_FOUND), 0);
    world.delete_stream().await;
    until("both are counted", async || {
        counts.of(names::SHARDS_NOT_FOUND) == 2
    })
    .await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_record_is_trimmed_is_counted() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    world.put_numbers(0..5, 3).await;
    let first = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(5).await;
    first.stop().await.expect("a clean stop");
    // Longer than records are kept.
    tokio::time::sleep(Duration::from_secs(25 * 60 * 60)).await;
    world.put_numbers(5..8, 3).await;
    assert_eq!(counts.of(names::TRIMMED_CHECKPOINTS), 0);
    let second = world.worker("two-", |_| Behaviour::Process);
    world.ledger.until_processed(8).await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..8);
    assert_eq!(counts.of(names::TRIMMED_CHECKPOINTS), 1);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_are_not_stored_are_counted_until_they_are() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(1).await;
    world.letters.away.store(true, Ordering::Relaxed);
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 1 },
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings, |_| Behaviour::Poison);
    world.put_numbers(0..1, 1).await;
    until("it is tried again and again", async || {
        counts.of(names::DEAD_LETTER_FAILURES) >= 3
    })
    .await;
    assert_eq!(counts.of(names::DEAD_LETTERS), 0);
    world.letters.away.store(false, Ordering::Relaxed);
    until("it is stored", async || world.ledger.letters().len() == 1).await;
    let failures = counts.of(names::DEAD_LETTER_FAILURES);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(counts.of(names::DEAD_LETTER_FAILURES), failures);
    assert_eq!(counts.of(names::DEAD_LETTERS), 1);
    worker.stop().await.expect("a clean stop");
}

/// The listing takes a second, in which all four shards want it.
#[tokio::test(start_paused = true)]
async fn shards_that_want_to_know_their_ancestors_at_once_have_them_listed_once() {
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let world = World::new(2).await;
    for shard in ["shardId-000000000000", "shardId-000000000001"] {
        world.stream.split(shard).await;
    }
    let mut worker = world.worker("one", |_| Behaviour::Process);
    for _ in 0..6 {
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        worker.until_event("it has a shard", started).await;
    }
    let slow = for_workers(FaultEffect::latency_ms(1_000)).operation("ListShards");
    world.faults(FaultPlan::default().rule(slow));
    let quarters = HashKeyRange::FULL.split_even(4);
    for at in 0..4 {
        let (own, sibling) = (quarters[at], quarters[at ^ 1]);
        let mut aggregate = Aggregate::new();
        for range in [own, sibling] {
            aggregate.push(UserRecord::new("key", "member").with_explicit_hash_key(range.start()));
        }
        world.put_at(own.start(), aggregate.encode()).await;
    }
    until("all is read", async || {
        counts.of(names::RECORDS_PROCESSED) == 4
    })
    .await;
    assert_eq!(counts.of(names::FOREIGN_MEMBERS_DROPPED), 4);
    assert_eq!(world.hits(), [1]);
    worker.stop().await.expect("a clean stop");
}
