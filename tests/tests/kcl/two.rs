//! What works by the rules of KCL 2.x, where each takes leases from the others and nobody leads, beside ours:
//! we leave it alone while it lives, and it cannot start on our table.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::EventKind;
use tests::Worker;
use tests::history::Event;
use tests::world::APPLICATION;

use crate::fleet::{Fleet, SHARDS, lease_table};
use crate::rows::{leave_only_leases, text};
use crate::worker::{How, KclWorker, Retrieval, Stage, Version};

/// The longest wait until one of ours refuses. Source: none; one failover time and a few calls.
const REFUSAL: Duration = Duration::from_secs(150);

async fn kcl_2(fleet: &Fleet, name: &str) -> KclWorker {
    let how = How {
        version: Version::Two,
        ..How::default()
    };
    fleet.kcl_with(name, how).await
}

/// Fails unless `ours` ends by itself, because of what all `parts` name.
async fn assert_refuses(ours: Worker, parts: &[&str]) {
    let ended = tokio::time::timeout(REFUSAL, ours.ended()).await;
    let refused = ended.expect("it ends").expect_err("a KCL 2 runs");
    let refused = refused.to_string();
    for part in parts {
        assert!(refused.contains(part), "no {part} in: {refused}");
    }
}

fn has_started(fleet: &Fleet, name: &str) -> bool {
    let started = |event: &Event| matches!(event, Event::Started { worker, .. } if worker == name);
    fleet.history.events().iter().any(started)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kcl_2_that_runs_is_left_alone_and_named_and_taken_over_once_it_stopped() {
    let mut fleet = Fleet::start("kcl-2-runs", Retrieval::Polling).await;
    let kcl = kcl_2(&fleet, "kcl").await;
    fleet.until_read("kcl", SHARDS).await;
    let refused = ["worker kcl ", "KCL 2.x", "stop"];
    assert_refuses(fleet.ours("ours"), &refused).await;
    assert!(!has_started(&fleet, "ours"));
    let rows = fleet.rows(&lease_table()).await;
    assert_eq!(rows.len(), SHARDS, "nothing was written: {:?}", rows.keys());
    fleet.until_read("kcl", SHARDS).await;

    kcl.stop().await;
    let ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    fleet.finish().await;
    ours.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kcl_2_that_is_started_beside_us_takes_nothing() {
    let mut fleet = Fleet::start("kcl-2-comes", Retrieval::Polling).await;
    let mut ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    let kcl = kcl_2(&fleet, "kcl").await;
    let fails = async || {
        kcl.log()
            .contains("leaseCounter is marked non-null but is null")
    };
    fleet
        .until("the KCL 2 not to understand the table", fails)
        .await;
    fleet.until_read("ours", SHARDS).await;
    kcl.kill().await;
    assert!(!has_started(&fleet, "kcl"));
    let told = ours.told();
    let gave = told
        .iter()
        .find(|event| matches!(event.kind, EventKind::LeaseLost | EventKind::LeaseReleased));
    assert!(gave.is_none(), "{gave:?}");
    fleet.finish().await;
    ours.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kcl_3_that_works_as_a_kcl_2_is_left_alone_until_the_row_that_says_so_is_gone() {
    let mut fleet = Fleet::start("kcl-compatible", Retrieval::Polling).await;
    // Only so that the KCL finds leases, and starts at once.
    let ours = fleet.ours("before");
    fleet.until_read("before", SHARDS).await;
    ours.stop().await.expect("an orderly end");
    leave_only_leases(&fleet.world).await;

    let how = How {
        stage: Stage::Compatible,
        ..How::default()
    };
    let kcl = fleet.kcl_with("kcl", how).await;
    fleet.until_read("kcl", SHARDS).await;
    let state = fleet.rows(&lease_table()).await.remove("Migration3.0");
    let state = state.expect("a state");
    assert_eq!(text(&state, "cv"), Some("CLIENT_VERSION_UPGRADE_FROM_2X"));
    let refused = [
        "CLIENT_VERSION_UPGRADE_FROM_2X",
        "delete the row Migration3.0",
    ];
    assert_refuses(fleet.ours("ours"), &refused).await;
    assert!(!has_started(&fleet, "ours"));
    fleet.until_read("kcl", SHARDS).await;

    kcl.stop().await;
    let delete = fleet.world.dynamodb.delete_item().table_name(APPLICATION);
    let delete = delete.key("leaseKey", AttributeValue::S("Migration3.0".to_owned()));
    delete.send().await.expect("the row is deleted");
    let ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    fleet.finish().await;
    ours.stop().await.expect("an orderly end");
}
