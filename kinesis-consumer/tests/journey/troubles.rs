//! What goes wrong with the table while processors work.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::{ErrorKind, Settings};
use kinesis_local::{FaultEffect, FaultPlan, FaultService};

use crate::ledger::{Behaviour, Note};
use crate::world::{APPLICATION, World, for_workers};

#[tokio::test(start_paused = true)]
async fn processors_of_a_fleet_that_is_rolled_back_are_asked_to_stop_and_nothing_comes_twice() {
    let world = World::new(2).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..20, 5).await;
    world.ledger.until_processed(20).await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    world
        .dynamodb
        .put_item()
        .table_name(APPLICATION)
        .item("leaseKey", text("Migration3.0"))
        .item("entityType", text("CLIENT_VERSION_MIGRATION"))
        .item("cv", text("CLIENT_VERSION_2X"))
        .send()
        .await
        .expect("put");
    let error = worker.ended().await.expect_err("it must not go on");
    assert!(error.to_string().contains("CLIENT_VERSION_2X"), "{error}");
    let notes = world.ledger.notes();
    let asked = notes.iter().filter(|note| matches!(note, Note::Shutdown));
    assert_eq!(asked.count(), 2, "one a shard");
    let lost = |note: &Note| matches!(note, Note::LeaseLost(_));
    assert!(!notes.iter().any(lost), "fenced");
    for shard in ["shardId-000000000000", "shardId-000000000001"] {
        let row = world.lease_row(shard).await;
        assert!(!row.contains_key("leaseOwner"), "released: {row:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn looks_at_the_states_of_the_fleet_that_are_denied_for_a_while_stop_nobody() {
    let world = World::new(1).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..10, 5).await;
    world.ledger.until_processed(10).await;
    let denied = for_workers(FaultEffect::error("AccessDeniedException"));
    let looks = denied.operation("GetItem").operation("DescribeTable");
    world.faults(FaultPlan::default().rule(looks));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(world.hits()[0] >= 4, "{:?}", world.hits());
    world.put_numbers(10..20, 5).await;
    world.ledger.until_processed(20).await;
    world.faults(FaultPlan::default());
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..20);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_table_does_not_answer_ends_in_time_and_says_that_it_was_no_clean_one() {
    let world = World::new(2).await;
    let settings = Settings {
        shutdown_timeout: Duration::from_secs(5),
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings.clone(), |_| Behaviour::Process);
    world.put_numbers(0..20, 5).await;
    world.ledger.until_processed(20).await;
    let hour = FaultEffect::latency_before_ms(kinesis_local::FAULT_LATENCY_MAX_MS);
    let hangs = for_workers(hour).service(FaultService::DynamoDb);
    world.faults(FaultPlan::default().rule(hangs));
    let begun = world.clock.now();
    let error = worker.stop().await.expect_err("leases were not given back");
    assert_eq!(error.kind(), ErrorKind::StopTimedOut);
    assert!(!error.kind().is_retryable());
    let text = error.to_string();
    assert!(text.contains("worker one") && text.contains("5s"), "{text}");
    let took = world.clock.now() - begun;
    assert!(
        took <= settings.shutdown_timeout + Duration::from_secs(11),
        "{took:?}"
    );
    // Another goes on once the leases expire.
    world.faults(FaultPlan::default());
    let next = world.worker("two", |_| Behaviour::Process);
    world.put_numbers(20..30, 5).await;
    world.ledger.until_processed(30).await;
    next.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_hangs_while_its_worker_stops_is_dropped_and_the_stop_is_a_clean_one() {
    let world = World::new(1).await;
    let worker = world.worker("one", |_| Behaviour::Hang);
    world.put_numbers(0..1, 1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    worker.stop().await.expect("its lease is released");
    let row = world.lease_row("shardId-000000000000").await;
    assert!(!row.contains_key("leaseOwner"), "released: {row:?}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_one_of_whose_tables_is_to_be_two_is_not_built() {
    let world = World::new(1).await;
    let build = |states: &str| {
        let mut settings = Settings::default();
        settings.lease.table.coordinator_state_table = Some(states.to_owned());
        let builder = world.builder("one", settings, |_| Behaviour::Process);
        builder.build().map(drop)
    };
    let error = build(APPLICATION).expect_err("as the lease table is called");
    assert!(
        error.to_string().contains("coordinator_state_table"),
        "{error}"
    );
    build("states").expect("apart");
}
