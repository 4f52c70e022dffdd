//! The same promises when shards are read by enhanced fan-out, and what only fan-out promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use kinesis_consumer::metrics as names;
use kinesis_consumer::{FanOutSettings, InitialPosition, Retrieval, Settings};
use kinesis_core::{Aggregate, HashKeyRange, Rand, UserRecord};
use kinesis_local::{FaultEffect, FaultPlan};

use crate::faulty::Faulty;
use crate::ledger::{Behaviour, Note};
use crate::measured::Counts;
use crate::resharding::{assert_parents_end_before_children_start, parents};
use crate::world::{APPLICATION, STREAM, World, for_workers, until};

/// Consumers that a stream may have.
const CONSUMERS_MAX: usize = kinesis_core::limits::CONSUMERS_PER_STREAM_MAX;

/// Longer than a shard is polled before fan-out is tried again.
const RETRIED: Duration = Duration::from_secs(310);

pub(crate) fn by_fan_out() -> Settings {
    with(FanOutSettings::default())
}

fn with(fan_out: FanOutSettings) -> Settings {
    Settings {
        retrieval: Retrieval::FanOut(fan_out),
        ..Settings::default()
    }
}

/// Workers of this world cannot poll.
fn without_polling(world: &World) {
    let polls = for_workers(FaultEffect::DropRequest).operation("GetRecords");
    world.faults(FaultPlan::default().rule(polls.operation("GetShardIterator")));
}

async fn stream_arn(world: &World) -> String {
    let summary = world.kinesis.describe_stream_summary().stream_name(STREAM);
    let answer = summary.send().await.expect("described");
    answer.stream_description_summary.expect("there").stream_arn
}

/// Registers a consumer and waits until it is active; its ARN.
async fn register(world: &World, name: &str) -> String {
    let stream_arn = stream_arn(world).await;
    let register = world.kinesis.register_stream_consumer();
    let register = register.stream_arn(&stream_arn).consumer_name(name);
    let answer = register.send().await.expect("registered");
    let arn = answer.consumer.expect("there").consumer_arn;
    until("the consumer is active", async || {
        let describe = world.kinesis.describe_stream_consumer().consumer_arn(&arn);
        let answer = describe.send().await.expect("described");
        let consumer = answer.consumer_description.expect("there");
        consumer.consumer_status.as_str() == "ACTIVE"
    })
    .await;
    arn
}

async fn deregister(world: &World, arn: &str) {
    let deregister = world.kinesis.deregister_stream_consumer().consumer_arn(arn);
    deregister.send().await.expect("deregistered");
}

async fn consumers(world: &World) -> Vec<String> {
    let list = world.kinesis.list_stream_consumers();
    let answer = list.stream_arn(stream_arn(world).await).send().await;
    let consumers = answer.expect("listed").consumers.unwrap_or_default();
    let name = |consumer: aws_sdk_kinesis::types::Consumer| consumer.consumer_name;
    consumers.into_iter().map(name).collect()
}

/// Takes every place for a consumer that the stream has.
async fn take_all_places(world: &World) -> String {
    let mut arn = String::new();
    for number in 0..CONSUMERS_MAX {
        arn = register(world, &format!("other-{number}")).await;
    }
    arn
}

#[tokio::test(start_paused = true)]
async fn all_records_of_four_shards_are_pushed_once_and_in_order_per_key() {
    let world = World::new(4).await;
    without_polling(&world);
    world.put_numbers(0..200, 17).await;
    let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    world.ledger.until_processed(200).await;
    world.put_numbers(200..300, 17).await;
    world.ledger.until_processed(300).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..300);
    assert_eq!(world.hits(), [0], "nobody polled");
}

#[tokio::test(start_paused = true)]
async fn workers_that_start_together_register_one_consumer_and_share_the_shards() {
    let world = World::new(4).await;
    let worker = |name| world.worker_with(name, by_fan_out(), |_| Behaviour::Process);
    let workers = [worker("one"), worker("two-"), worker("three")];
    world.put_numbers(0..200, 17).await;
    world.ledger.until_processed(200).await;
    for worker in workers {
        worker.stop().await.expect("a clean stop");
    }
    world.ledger.assert_each_once(0..200);
    assert_eq!(consumers(&world).await, [APPLICATION]);
}

#[tokio::test(start_paused = true)]
async fn splits_and_merges_are_crossed_with_parents_first_and_nothing_lost() {
    let world = World::new(2).await;
    without_polling(&world);
    let one = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    let two = world.worker_with("two-", by_fan_out(), |_| Behaviour::Process);
    world.put_numbers(0..50, 13).await;
    world.stream.split("shardId-000000000000").await;
    world.put_numbers(50..100, 13).await;
    world.ledger.until_processed(80).await;
    world
        .stream
        .merge("shardId-000000000003", "shardId-000000000001")
        .await;
    world.put_numbers(100..150, 13).await;
    world.ledger.until_processed(150).await;
    one.stop().await.expect("a clean stop");
    two.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..150);
    let parents = parents(&world).await;
    assert_eq!(parents["shardId-000000000004"].len(), 2, "{parents:?}");
    assert_parents_end_before_children_start(&world.ledger.notes(), &parents);
    assert_eq!(world.hits(), [0], "nobody polled");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_renewed_every_five_minutes_without_a_gap_or_a_repeat() {
    let world = World::new(1).await;
    // What changes nothing counts the subscriptions.
    let counting = for_workers(FaultEffect::latency_ms(0)).operation("SubscribeToShard");
    world.faults(FaultPlan::default().rule(counting));
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    for minute in 0..16 {
        if minute % 8 < 4 {
            world.put_numbers(minute * 10..minute * 10 + 10, 3).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    worker.stop().await.expect("a clean stop");
    let mut texts: Vec<usize> = world
        .ledger
        .texts()
        .iter()
        .map(|text| text.parse().expect("a number"))
        .collect();
    texts.sort_unstable();
    let put = (0..160).filter(|number| number / 10 % 8 < 4);
    assert_eq!(texts, put.collect::<Vec<_>>());
    assert_eq!(world.hits(), [16 / 5 + 1]);
    assert_eq!(counts.of(names::FETCH_FAILURES), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_in_the_middle_of_an_event_goes_on_without_a_gap_or_a_repeat() {
    for seed in 0..8 {
        println!("seed {seed}");
        let world = World::new(2).await;
        let rand = Rand::seeded(seed);
        let cut = |number| {
            let cut = for_workers(FaultEffect::cut_after_bytes(rand.below(6000)));
            cut.operation("SubscribeToShard").skip(number).times(1)
        };
        world.faults(
            (0..20)
                .map(cut)
                .fold(FaultPlan::seeded(seed), FaultPlan::rule),
        );
        world.put_numbers(0..100, 13).await;
        let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
        world.put_numbers(100..150, 13).await;
        world.ledger.until_processed(150).await;
        worker.stop().await.expect("a clean stop");
        world.ledger.assert_each_once(0..150);
        assert!(world.hits().iter().sum::<u64>() > 2);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_in_the_middle_of_an_aggregate_the_successor_goes_on_behind_the_checkpoint() {
    let world = World::new(1).await;
    let mut aggregate = Aggregate::new();
    for number in 0..6 {
        aggregate.push(UserRecord::new("key", number.to_string()));
    }
    world.put("key", aggregate.encode()).await;
    world.put("key", "6").await;
    let first = world.worker_with("one", by_fan_out(), |seen| match seen.text().as_str() {
        "2" => Behaviour::ProcessAndCheckpoint,
        "3" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    let hangs = |note: &Note| matches!(note, Note::Tried(seen) if seen.text() == "3");
    world.ledger.until_note("it hangs", hangs).await;
    first.kill().await;
    let second = world.worker_with("two-", by_fan_out(), |_| Behaviour::Process);
    world.ledger.until_processed(7).await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..7);
}

#[tokio::test(start_paused = true)]
async fn a_successor_takes_over_a_subscription_that_was_left_open() {
    let world = World::new(1).await;
    let arn = register(&world, APPLICATION).await;
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    let subscribe = world.kinesis.subscribe_to_shard().consumer_arn(&arn);
    let subscribe = subscribe.shard_id("shardId-000000000000");
    let subscribe = subscribe.starting_position(start.build().expect("complete"));
    let mut left_open = subscribe.send().await.expect("subscribed");
    world.put_numbers(0..20, 3).await;
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    world.ledger.until_processed(20).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..20);
    assert_eq!(counts.of(names::FAN_OUT_FALL_BACKS), 0);
    while let Ok(Some(_)) = left_open.event_stream.recv().await {}
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_died_is_replaced_within_seconds_beyond_the_lease() {
    let world = World::new(2).await;
    world.put_numbers(0..50, 13).await;
    let first = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    world.ledger.until_processed(50).await;
    first.kill().await;
    world.put_numbers(50..100, 13).await;
    let second = world.worker_with("two-", by_fan_out(), |_| Behaviour::Process);
    until("all numbers processed", async || {
        world.ledger.numbers() == 100
    })
    .await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_at_least_once(0..100);
}

#[tokio::test(start_paused = true)]
async fn slow_processors_take_no_more_than_the_budget_and_keep_their_leases() {
    const MIB: usize = 1024 * 1024;
    // The more wait, the longer it takes; what they wait for is asked for again and again.
    const SHARDS: usize = if cfg!(feature = "slow") { 32 } else { 22 };
    const BUDGET: usize = 20 * MIB;
    let mut world = World::new(SHARDS as i32).await;
    let network = Faulty::counting(world.http_client());
    world.network = Some(network.clone());
    let settings = Settings {
        max_buffered_bytes: BUDGET,
        ..by_fan_out()
    };
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = Arc::clone(&slow);
    let worker = world.worker_with("one", settings, move |seen| {
        if is_slow.load(Ordering::Relaxed) && seen.record.data.len() > 1 {
            return Behaviour::Slow(Duration::from_secs(180));
        }
        Behaviour::Process
    });
    let ranges = HashKeyRange::FULL.split_even(SHARDS as u32);
    for range in &ranges {
        world.put_at(range.start(), "0").await;
    }
    world.ledger.until_processed(SHARDS).await;
    let before = network.bytes();
    for range in &ranges {
        world.put_at(range.start(), vec![b'0'; MIB - 1]).await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.ledger.processed().len(), SHARDS, "all slow, or wait");
    // Base64 takes a third more. A shard that waits for room holds a chunk, and one more of each
    // subscription that was let go; the rest of the time there are signs of life.
    let budget = BUDGET * 4 / 3;
    let chunks = SHARDS * 2 * Faulty::CHUNK_BYTES + MIB / 2;
    let read = usize::try_from(network.bytes() - before).expect("small");
    println!("{read} bytes of {budget} and {chunks}");
    assert!(read <= budget + chunks);
    slow.store(false, Ordering::Relaxed);
    world.ledger.until_processed(2 * SHARDS).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.ledger.processed().len(), 2 * SHARDS);
    let lost = |note: &Note| matches!(note, Note::LeaseLost(_) | Note::Dropped(_));
    assert!(!world.ledger.notes().iter().any(lost));
}

#[tokio::test(start_paused = true)]
async fn without_a_place_for_a_consumer_shards_are_polled_until_there_is_one() {
    let world = World::new(2).await;
    let other = take_all_places(&world).await;
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    world.put_numbers(0..50, 13).await;
    let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    world.ledger.until_processed(50).await;
    assert_eq!(counts.of(names::FAN_OUT_FALL_BACKS), 2);
    assert_eq!(counts.of(names::SUBSCRIPTIONS), 0);
    deregister(&world, &other).await;
    tokio::time::sleep(RETRIED).await;
    world.put_numbers(50..100, 13).await;
    world.ledger.until_processed(100).await;
    assert_eq!(
        counts.of(names::SUBSCRIPTIONS),
        2,
        "fan-out was tried again"
    );
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..100);
}

#[tokio::test(start_paused = true)]
async fn where_polling_is_not_wanted_shards_wait_for_their_consumer() {
    let world = World::new(2).await;
    let other = take_all_places(&world).await;
    world.put_numbers(0..50, 13).await;
    let settings = with(FanOutSettings {
        fall_back_to_polling: false,
        ..FanOutSettings::default()
    });
    let worker = world.worker_with("one", settings, |_| Behaviour::Process);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(world.ledger.processed().is_empty());
    deregister(&world, &other).await;
    world.ledger.until_processed(50).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..50);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_that_fall_silent_are_made_anew_and_then_polled_for_a_while() {
    let world = World::new(1).await;
    let silent = for_workers(FaultEffect::silent_after_events(0));
    world.faults(FaultPlan::default().rule(silent.operation("SubscribeToShard")));
    let counts = Counts::default();
    let _installed = metrics::set_default_local_recorder(&counts);
    world.put_numbers(0..20, 3).await;
    let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    world.ledger.until_processed(20).await;
    assert_eq!(counts.of(names::SUBSCRIPTIONS_STALLED), 3);
    assert_eq!(counts.of(names::FAN_OUT_FALL_BACKS), 1);
    world.faults(FaultPlan::default());
    tokio::time::sleep(RETRIED).await;
    let before = counts.of(names::SUBSCRIPTIONS);
    assert!(before > 3, "fan-out was tried again");
    world.put_numbers(20..40, 3).await;
    world.ledger.until_processed(40).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..40);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_deregistered_is_registered_again() {
    let world = World::new(2).await;
    let arn = register(&world, APPLICATION).await;
    let worker = world.worker_with("one", by_fan_out(), |_| Behaviour::Process);
    world.put_numbers(0..20, 3).await;
    world.ledger.until_processed(20).await;
    deregister(&world, &arn).await;
    world.put_numbers(20..40, 3).await;
    world.ledger.until_processed(40).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..40);
    assert_eq!(consumers(&world).await, [APPLICATION]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_given_by_its_arn_is_used_and_none_is_registered() {
    let world = World::new(2).await;
    let arn = register(&world, "given").await;
    without_polling(&world);
    let settings = with(FanOutSettings {
        consumer_arn: Some(arn),
        ..FanOutSettings::default()
    });
    let worker = world.worker_with("one", settings, |_| Behaviour::Process);
    world.put_numbers(0..20, 3).await;
    world.ledger.until_processed(20).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..20);
    assert_eq!(consumers(&world).await, ["given"]);
    assert_eq!(world.hits(), [0], "nobody polled");
}

#[tokio::test(start_paused = true)]
async fn latest_and_a_timestamp_begin_where_they_say() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let at = world.clock.epoch_millis();
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.put_numbers(10..20, 3).await;
    let settings = Settings {
        initial_position: InitialPosition::AtTimestamp(at),
        ..by_fan_out()
    };
    let worker = world.worker_with("one", settings, |_| Behaviour::Process);
    world.ledger.until_processed(10).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(10..20);

    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    // The service's clock is known to the second, and "newest" is early rather than late.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let settings = Settings {
        initial_position: InitialPosition::Latest,
        ..by_fan_out()
    };
    let worker = world.worker_with("one", settings, |_| Behaviour::Process);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.put_numbers(10..20, 3).await;
    world.ledger.until_processed(10).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(10..20);
}
