//! The same promises when the services are hard to reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::faulty::{Fault, Faulty};
use crate::ledger::{Behaviour, Note};
use crate::world::World;

/// The first `count` requests to `operation` meet `fault`.
fn first(operation: &'static str, count: u64, fault: Fault) -> impl Fn(&str) -> Option<Fault> {
    let seen = AtomicU64::new(0);
    move |target| {
        let hit = target.ends_with(operation) && seen.fetch_add(1, Ordering::Relaxed) < count;
        hit.then_some(fault)
    }
}

async fn all_come_through(rule: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static) {
    let mut world = World::new(2).await;
    let network = Faulty::new(world.http_client(), rule);
    world.network = Some(network.clone());
    let worker = world.worker("one", |_| Behaviour::Process);
    world.put_numbers(0..50, 13).await;
    world.ledger.until_processed(50).await;
    worker.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..50);
    assert!(network.hits() > 0);
}

#[tokio::test(start_paused = true)]
async fn reads_that_are_throttled_for_a_while_lose_nothing() {
    let throttled = Fault::Refused("ProvisionedThroughputExceededException");
    all_come_through(first(".GetRecords", 60, throttled)).await;
}

#[tokio::test(start_paused = true)]
async fn reads_whose_answers_get_lost_are_made_again_without_a_gap_or_a_duplicate() {
    all_come_through(first(".GetRecords", 60, Fault::LosesItsAnswer)).await;
}

#[tokio::test(start_paused = true)]
async fn iterators_that_the_service_refuses_are_replaced() {
    all_come_through(first(
        ".GetRecords",
        20,
        Fault::Refused("ExpiredIteratorException"),
    ))
    .await;
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_refused_for_a_while_do_not_end_the_consumer() {
    all_come_through(first(
        ".GetShardIterator",
        30,
        Fault::Refused("AccessDeniedException"),
    ))
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_table_that_is_throttled_at_the_start_does_not_end_the_consumer() {
    for operation in [".Scan", ".PutItem", ".DescribeTable", ".ListShards"] {
        let throttled = Fault::Refused("ThrottlingException");
        all_come_through(first(operation, 40, throttled)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_answer_got_lost_counts() {
    let every_third = AtomicU64::new(0);
    all_come_through(move |target| {
        let write = target.ends_with(".UpdateItem");
        let hit = write
            && every_third
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(3);
        hit.then_some(Fault::LosesItsAnswer)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn children_that_the_last_answer_does_not_name_are_listed() {
    let mut world = World::new(1).await;
    let strip = |target: &str| {
        target
            .ends_with(".GetRecords")
            .then_some(Fault::WithoutChildShards)
    };
    world.network = Some(Faulty::new(world.http_client(), strip));
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
    let mut world = World::new(1).await;
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&cut);
    let rule = move |target: &str| {
        let hit = is_cut.load(Ordering::Relaxed) && target.starts_with("DynamoDB");
        hit.then_some(Fault::NeverArrives)
    };
    world.network = Some(Faulty::new(world.http_client(), rule));
    world.put_numbers(0..10, 3).await;
    let one = world.worker("one", |seen| match seen.text().as_str() {
        "7" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    world.ledger.until_processed(7).await;
    cut.store(true, Ordering::Relaxed);
    world.network = None;
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
    cut.store(false, Ordering::Relaxed);
    one.kill().await;
    crate::world::until("all numbers are processed", async || {
        world.ledger.numbers() == 10
    })
    .await;
    two.stop().await.expect("a clean stop");
    world.ledger.assert_each_at_least_once(0..10);
}
