//! `LATEST` is one instant: that at which the lease was made, whoever reads and however long it takes.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::{EventKind, InitialPosition, Settings};
use kinesis_core::Clock;
use kinesis_local::{FaultEffect, FaultPlan};

use crate::fan_out::by_fan_out;
use crate::ledger::Behaviour;
use crate::world::{APPLICATION, World, for_workers, until};

fn latest(settings: Settings) -> Settings {
    Settings {
        initial_position: InitialPosition::Latest,
        ..settings
    }
}

/// A stream that has old records, the youngest some seconds old.
async fn world(shards: i32) -> World {
    let world = World::new(shards).await;
    world.put_numbers(0..20, 13).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world
}

/// Puts what is new to leases that are made by now, and sees that it comes and nothing else does.
async fn only_new(world: &World) {
    world.ledger.until_processed(20).await;
    world.ledger.assert_each_once(20..40);
}

#[tokio::test(start_paused = true)]
async fn two_workers_begin_at_the_same_instant_whoever_made_the_leases() {
    let world = world(8).await;
    let start = |name| {
        let settings = latest(Settings::default());
        world.worker_with(name, settings, |_| Behaviour::Process)
    };
    let mut workers = [start("one"), start("two-")];
    for worker in &mut workers {
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        worker.until_event("it has a shard", started).await;
    }
    world.put_numbers(20..40, 13).await;
    only_new(&world).await;
    for worker in workers {
        worker.stop().await.expect("a clean stop");
    }
}

/// Has a worker that begins held up by these faults, with new records meanwhile.
async fn nothing_is_skipped_while_held_up_by(faults: FaultPlan, settings: Settings) {
    let world = world(2).await;
    world.faults(faults);
    let mut worker = world.worker_with("one", latest(settings), |_| Behaviour::Process);
    let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
    worker.until_event("it has a shard", started).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.put_numbers(20..40, 13).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(world.hits()[0] > 0, "it is held up");
    world.faults(FaultPlan::default());
    only_new(&world).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_fan_out_consumer_is_registered_is_not_skipped() {
    let throttled = for_workers(FaultEffect::error("LimitExceededException"));
    let describe = for_workers(FaultEffect::error("ProvisionedThroughputExceededException"));
    let faults = FaultPlan::default()
        .rule(describe.operation("DescribeStreamConsumer"))
        .rule(throttled.operation("SubscribeToShard"));
    nothing_is_skipped_while_held_up_by(faults, by_fan_out()).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_first_iterator_is_throttled_is_not_skipped() {
    let throttled = for_workers(FaultEffect::error("ProvisionedThroughputExceededException"));
    let faults = FaultPlan::default().rule(throttled.operation("GetShardIterator"));
    nothing_is_skipped_while_held_up_by(faults, Settings::default()).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_before_the_first_read_by_the_successor_of_a_worker_that_never_read_is_not_skipped()
 {
    let world = world(1).await;
    let throttled = for_workers(FaultEffect::error("ProvisionedThroughputExceededException"));
    world.faults(FaultPlan::default().rule(throttled.operation("GetShardIterator")));
    let settings = latest(Settings::default());
    let mut first = world.worker_with("one", settings.clone(), |_| Behaviour::Process);
    let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
    first.until_event("it has a shard", started).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.put_numbers(20..30, 13).await;
    first.kill().await;
    world.faults(FaultPlan::default());
    let second = world.worker_with("two-", settings, |_| Behaviour::Process);
    world.put_numbers(30..40, 13).await;
    only_new(&world).await;
    second.stop().await.expect("a clean stop");
}

/// How wrong a wall clock is here: more than the five minutes for which the service would forgive an
/// instant to come.
const WRONG_MILLIS: u64 = 600_000;

/// The clocks of workers that are wrong either way.
fn wrong_clocks(world: &World) -> [Clock; 2] {
    let now = world.clock.epoch_millis();
    [now - WRONG_MILLIS, now + WRONG_MILLIS].map(Clock::starting_at)
}

#[tokio::test(start_paused = true)]
async fn the_newest_record_is_that_of_the_service_however_wrong_the_clock_of_the_worker_is() {
    for settings in [Settings::default(), by_fan_out()] {
        for ahead in [false, true] {
            let mut world = world(2).await;
            world.clock_of_workers = Some(wrong_clocks(&world)[usize::from(ahead)].clone());
            let settings = latest(settings.clone());
            let mut worker = world.worker_with("one", settings, |_| Behaviour::Process);
            let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
            worker.until_event("it has a shard", started).await;
            world.put_numbers(20..40, 13).await;
            only_new(&world).await;
            worker.stop().await.expect("a clean stop");
        }
    }
}

/// Begins with a row that says `LATEST` and this instant, by a worker whose clock is wrong, ten minutes
/// after it was written.
async fn begins_with_a_row_that_names(instant: Option<u64>, settings: Settings, clock: usize) {
    let mut world = world(1).await;
    let throttled = for_workers(FaultEffect::error("ProvisionedThroughputExceededException"));
    world.faults(FaultPlan::default().rule(throttled.operation("GetShardIterator")));
    let mut first = world.worker_with("one", latest(Settings::default()), |_| Behaviour::Process);
    let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
    first.until_event("it has a shard", started).await;
    first.kill().await;
    world.faults(FaultPlan::default());
    let key = AttributeValue::S("shardId-000000000000".into());
    let row = world.dynamodb.update_item().table_name(APPLICATION);
    let row = row.key("leaseKey", key);
    let row = match instant {
        None => row.update_expression("REMOVE startTimestampMillis"),
        Some(millis) => row
            .update_expression("SET startTimestampMillis = :at")
            .expression_attribute_values(":at", AttributeValue::N(millis.to_string())),
    };
    row.send().await.expect("written");
    world.clock_of_workers = Some(wrong_clocks(&world)[clock].clone());
    let mut second = world.worker_with("two-", latest(settings), |_| Behaviour::Process);
    second.until_event("it has the shard", started).await;
    world.put_numbers(20..40, 13).await;
    only_new(&world).await;
    second.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn an_instant_that_is_ahead_of_the_service_skips_nothing_that_comes_before_it() {
    let ahead = kinesis_local::testing::START_MS + WRONG_MILLIS;
    begins_with_a_row_that_names(Some(ahead), Settings::default(), 0).await;
    begins_with_a_row_that_names(Some(ahead), by_fan_out(), 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_row_of_a_kcl_which_names_no_instant_begins_when_the_worker_does_by_the_services_clock() {
    for clock in [0, 1] {
        begins_with_a_row_that_names(None, Settings::default(), clock).await;
        begins_with_a_row_that_names(None, by_fan_out(), clock).await;
    }
}

/// Writes the row of metrics of a worker of a KCL 3.5, that was written now.
async fn put_kcl(world: &World) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let seconds = AttributeValue::N((world.clock.epoch_millis() / 1_000).to_string());
    let put = world.dynamodb.put_item().table_name(APPLICATION);
    put.item("leaseKey", text("kcl"))
        .item("entityType", text("WORKER_METRIC_STATS"))
        .item("lut", seconds.clone())
        .item("sts", AttributeValue::M([].into()))
        .item("opr", AttributeValue::M([].into()))
        .item("sup", AttributeValue::N("1".to_owned()))
        .item("slu", seconds)
        .send()
        .await
        .expect("put");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_deleted_is_made_anew_at_the_instant_or_beside_a_kcl_at_the_oldest_record() {
    const FIRST: &str = "shardId-000000000000";
    for beside_kcl in [false, true] {
        let world = world(2).await;
        let settings = latest(Settings::default());
        let mut worker = world.worker_with("one", settings, |_| Behaviour::Process);
        let started = |kind: &EventKind| matches!(kind, EventKind::ShardStarted { .. });
        worker.until_event("it has a shard", started).await;
        world.put_numbers(20..40, 13).await;
        world.ledger.until_processed(20).await;
        let delete = world.dynamodb.delete_item().table_name(APPLICATION);
        let key = AttributeValue::S(FIRST.to_owned());
        delete.key("leaseKey", key).send().await.expect("deleted");
        let anew = async || {
            if beside_kcl {
                put_kcl(&world).await;
            }
            !world.lease_row(FIRST).await.is_empty()
        };
        until("the row is made anew", anew).await;
        let row = world.lease_row(FIRST).await;
        let expected = match beside_kcl {
            false => "AT_TIMESTAMP",
            true => "TRIM_HORIZON",
        };
        assert_eq!(row["checkpoint"], expected, "{row:?}");
        // When the application began, for the rows that are still to be made.
        assert!(row.contains_key("startTimestampMillis"), "{row:?}");
        worker.kill().await;
    }
}
