//! What goes wrong with the table while processors work.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_local::{FaultEffect, FaultPlan};

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
