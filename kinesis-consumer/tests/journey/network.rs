//! The same promises when the services are hard to reach.

use std::time::Duration;

use kinesis_consumer::{OnFailure, Settings};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule, FaultService};

use crate::faulty::Faulty;
use crate::ledger::{Behaviour, Note};
use crate::world::{World, for_workers, until};

/// The first `count` calls of `operation` meet `effect`.
fn first(operation: &str, count: u64, effect: FaultEffect) -> FaultRule {
    for_workers(effect).operation(operation).times(count)
}

async fn all_come_through(rule: FaultRule) {
    let world = World::new(2).await;
    world.faults(FaultPlan::default().rule(rule));
    let worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..50, 13).await;
    world.ledger.until_processed(50).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..50);
    assert!(world.hits()[0] > 0);
}

#[tokio::test(start_paused = true)]
async fn reads_that_are_throttled_for_a_while_lose_nothing() {
    let throttled = FaultEffect::error("ProvisionedThroughputExceededException");
    all_come_through(first("GetRecords", 60, throttled)).await;
}

#[tokio::test(start_paused = true)]
async fn reads_whose_answers_get_lost_are_made_again_without_a_gap_or_a_duplicate() {
    all_come_through(first("GetRecords", 60, FaultEffect::DropResponse)).await;
}

#[tokio::test(start_paused = true)]
async fn iterators_that_the_service_refuses_are_replaced() {
    all_come_through(first("GetRecords", 20, FaultEffect::ExpiredIterator)).await;
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_refused_for_a_while_do_not_end_the_consumer() {
    let denied = FaultEffect::error("AccessDeniedException");
    all_come_through(first("GetShardIterator", 30, denied)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_table_that_is_throttled_at_the_start_does_not_end_the_consumer() {
    for operation in ["Scan", "PutItem", "DescribeTable", "ListShards"] {
        let throttled = FaultEffect::error("ThrottlingException");
        all_come_through(first(operation, 40, throttled)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_answer_got_lost_counts() {
    let lost = for_workers(FaultEffect::DropResponse);
    all_come_through(lost.operation("UpdateItem").every(3)).await;
}

#[tokio::test(start_paused = true)]
async fn checkpoints_that_are_refused_for_a_while_make_no_record_guilty() {
    let world = World::new(1).await;
    world.put_numbers(0..20, 3).await;
    let settings = Settings {
        on_failure: OnFailure::DeadLetter { attempts: 3 },
        ..Settings::default()
    };
    let worker = world.worker_with("one", settings, |seen| match seen.text().as_str() {
        "0" => Behaviour::Slow(Duration::from_millis(500)),
        _ => Behaviour::Process,
    });
    let begun = |note: &Note| matches!(note, Note::Tried(_));
    world.ledger.until_note("the first record", begun).await;
    let expired = for_workers(FaultEffect::error("ExpiredTokenException")).operation("UpdateItem");
    world.faults(FaultPlan::default().rule(expired));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.hits()[0] > 0);
    world.faults(FaultPlan::default());
    let last = world
        .ledger
        .processed()
        .last()
        .expect("all")
        .record
        .position();
    let last = last.checkpoint();
    until("the checkpoint is stored", async || {
        world.lease_row("shardId-000000000000").await["checkpoint"] == last
    })
    .await;
    worker.stop().await.expect("a clean stop");
    assert!(world.ledger.letters().is_empty());
    world.ledger.assert_each_once(0..20);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_while_it_waits_for_the_first_listing_stops_at_once() {
    let world = World::new(1).await;
    let throttled = FaultEffect::error("LimitExceededException");
    let rule = for_workers(throttled).operation("ListShards");
    world.faults(FaultPlan::default().rule(rule));
    let worker = world.worker("one", |_| Behaviour::Process);
    until("the first listing", async || world.hits()[0] > 2).await;
    assert!(!world.lease_row("Leader").await.is_empty());
    assert!(!world.lease_row("one").await.is_empty());
    let begun = world.clock.now();
    worker.stop().await.expect("a clean stop");
    let took = world.clock.now().duration_since(begun);
    assert!(took < Duration::from_secs(2), "{took:?}");
    // It took leave of the fleet.
    assert!(world.lease_row("Leader").await.is_empty());
    assert!(world.lease_row("one").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn children_that_the_last_answer_does_not_name_are_listed() {
    let mut world = World::new(1).await;
    world.network = Some(Faulty::without_child_shards(world.http_client()));
    world.put_numbers(0..10, 3).await;
    world.stream.split("shardId-000000000000").await;
    world.put_numbers(10..30, 13).await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(30).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..30);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_cut_off_from_the_lease_table_stops_before_another_begins() {
    let world = World::new(1).await;
    world.put_numbers(0..10, 3).await;
    let one = world.worker("one", |seen| match seen.text().as_str() {
        "7" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    world.ledger.until_processed(7).await;
    let cut = FaultRule::new(FaultEffect::DropRequest).user_agent("app/one");
    let cut = cut.service(FaultService::DynamoDb);
    world.faults(FaultPlan::default().rule(cut));
    let two = world.worker("two-", |_| Behaviour::Process);
    world
        .ledger
        .until_note("two begins", |note| {
            matches!(note, Note::Initialized("two-", _))
        })
        .await;
    let notes = world.ledger.notes();
    let stopped = notes
        .iter()
        .position(|note| matches!(note, Note::Dropped("one")));
    let begun = notes
        .iter()
        .position(|note| matches!(note, Note::Initialized("two-", _)));
    assert!(
        stopped.is_some() && stopped < begun,
        "{stopped:?} {begun:?}"
    );
    world.faults(FaultPlan::default());
    one.kill().await;
    crate::world::until("all numbers are processed", async || {
        world.ledger.numbers() == 10
    })
    .await;
    two.stop().await.expect("a clean stop");
    world.ledger.assert_each_at_least_once(0..10);
}
