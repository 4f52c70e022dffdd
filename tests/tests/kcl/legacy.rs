//! Workers of the KCL 3.4 beside ours, in the tables that it has for what is no lease; and the KCL 3.5 that
//! moves all of it into the lease table while ours work.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use crate::fleet::{
    Fleet, SHARDS, assert_given, assert_handed_over, assert_took_over, coordinator_table, gains,
    lease_table, metrics_table,
};
use crate::rows::text;
use crate::worker::{How, KclWorker, Retrieval, Stage, Version};

/// More than the KCL waits before it takes the next step of its move.
/// Source: KCL 3.5.1, an hour to `DEPLOYED`, and a day to `COMPLETE`.
const BAKED: Duration = Duration::from_secs(2 * 24 * 3_600);

async fn kcl_3_4(fleet: &Fleet, name: &str) -> KclWorker {
    let how = How {
        version: Version::ThreeFour,
        ..How::default()
    };
    fleet.kcl_with(name, how).await
}

/// Fails unless the lease table has nothing but leases, and the metrics of all `workers` are in the table
/// that KCL 3.4 has for them.
async fn assert_in_the_old_tables(fleet: &Fleet, workers: &[&str]) {
    let leases = fleet.rows(&fleet.leases()).await;
    assert!(
        leases.keys().all(|key| key.starts_with("shardId-")),
        "{:?}",
        leases.keys()
    );
    let metrics = fleet.rows(&metrics_table()).await;
    for worker in workers {
        assert!(metrics.contains_key(*worker), "{worker}: {metrics:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kcl_3_4_and_we_share_a_stream_in_its_tables_under_either_leader_whoever_dies() {
    let mut fleet = Fleet::start("mixed-3-4", Retrieval::Polling).await;

    // It leads: one of ours that comes is given a share by handoff from it.
    let kcl = kcl_3_4(&fleet, "kcl").await;
    fleet.until_read("kcl", SHARDS).await;
    let mut ours = fleet.ours("ours");
    fleet.until_read("ours", 1).await;
    assert_given(&mut ours);
    assert_in_the_old_tables(&fleet, &["kcl", "ours"]).await;
    fleet.until_leads(&coordinator_table(), "kcl").await;

    // It dies: we lead by its lock, and take over everything. One that comes is given a share by us.
    kcl.kill().await;
    fleet.until_read("ours", SHARDS).await;
    assert_took_over(&mut ours);
    fleet.until_leads(&coordinator_table(), "ours").await;
    let kcl = kcl_3_4(&fleet, "kcl-again").await;
    fleet.until_read("kcl-again", 1).await;
    assert_handed_over(&mut ours, "kcl-again", 1);
    fleet.until_leads(&coordinator_table(), "ours").await;

    // We die: it leads, and takes over everything.
    ours.kill().await;
    fleet.until_read("kcl-again", SHARDS).await;
    fleet.until_leads(&coordinator_table(), "kcl-again").await;

    assert_in_the_old_tables(&fleet, &["kcl-again"]).await;
    fleet.finish().await;
    kcl.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kcl_3_4_whose_leases_are_not_called_as_the_application_is_shared_with_and_taken_over() {
    let fleet = Fleet::start("named-3-4", Retrieval::Polling).await;
    let mut fleet = fleet.on_table("leases");
    let kcl = kcl_3_4(&fleet, "kcl").await;
    fleet.until_read("kcl", SHARDS).await;
    let mut ours = fleet.ours("ours");
    fleet.until_read("ours", 1).await;
    assert_given(&mut ours);
    fleet.until_leads(&coordinator_table(), "kcl").await;

    kcl.kill().await;
    fleet.until_read("ours", SHARDS).await;
    assert_took_over(&mut ours);
    fleet.until_leads(&coordinator_table(), "ours").await;
    assert_in_the_old_tables(&fleet, &["kcl", "ours"]).await;
    assert!(fleet.rows(&lease_table()).await.is_empty());
    fleet.finish().await;
    ours.stop().await.expect("an orderly end");
}

/// Waits until the KCL says that its move has come to `status`.
async fn until_migrated(fleet: &Fleet, status: &str) {
    let place = coordinator_table();
    let status = format!("TABLE_MIGRATION_STATUS_{status}");
    let reached = async || {
        let states = fleet.rows(&place).await;
        let row = states.get("TableMigration3.5");
        row.and_then(|row| text(row, "tm")) == Some(&status)
    };
    fleet.until(&status, reached).await;
}

/// Makes what the KCL waits for since its last step so old that it goes on.
async fn bake(fleet: &Fleet) {
    let (table, key) = coordinator_table();
    let by = AttributeValue::N(BAKED.as_millis().to_string());
    let update = fleet.world.dynamodb.update_item().table_name(table);
    let update = update
        .key(key, AttributeValue::S("TableMigration3.5".to_owned()))
        .update_expression("SET mts = mts - :by")
        .expression_attribute_values(":by", by);
    update.send().await.expect("the row is updated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kcl_moves_an_application_of_3_4_into_the_lease_table_beside_us() {
    let mut fleet = Fleet::start("moving", Retrieval::Polling).await;
    let kcl = kcl_3_4(&fleet, "kcl-3-4").await;
    fleet.until_read("kcl-3-4", SHARDS).await;
    kcl.stop().await;

    // The first phase: a KCL 3.5 that leads sees that all workers know of one table, ours too.
    let first = fleet.kcl("first-phase").await;
    fleet.until_read("first-phase", SHARDS).await;
    let mut ours = fleet.ours("ours");
    fleet.until_read("ours", 1).await;
    until_migrated(&fleet, "INIT").await;
    assert_in_the_old_tables(&fleet, &["first-phase", "ours"]).await;
    bake(&fleet).await;
    until_migrated(&fleet, "DEPLOYED").await;

    // The second phase, at first with us as the leader: the KCL's metrics are in the lease table now, and
    // it is given leases.
    first.stop().await;
    fleet.until_read("ours", SHARDS).await;
    let moving = How {
        stage: Stage::Moving,
        ..How::default()
    };
    let second = fleet.kcl_with("second-phase", moving).await;
    fleet.until_read("second-phase", 1).await;
    assert_handed_over(&mut ours, "second-phase", 1);
    fleet.until_leads(&coordinator_table(), "ours").await;

    // It leads: it goes on when nobody's metrics are in the old table any more, so ours must not be.
    ours.stop().await.expect("an orderly end");
    fleet
        .until_leads(&coordinator_table(), "second-phase")
        .await;
    let mut ours = fleet.ours("ours-again");
    fleet.until_read("ours-again", 1).await;
    until_migrated(&fleet, "PENDING").await;
    let rows = fleet.rows(&lease_table()).await;
    for key in ["ours-again", "second-phase", "Migration3.0"] {
        assert!(rows.contains_key(key), "{key}: {:?}", rows.keys());
    }
    assert!(!rows.contains_key("Leader"), "the lock moves last");
    bake(&fleet).await;
    until_migrated(&fleet, "COMPLETE").await;
    fleet.until_leads(&lease_table(), "second-phase").await;

    // It dies: we lead by the new lock, and leave the old one alone.
    fleet.until_read("ours-again", 1).await;
    gains(&mut ours);
    second.kill().await;
    fleet.until_read("ours-again", SHARDS).await;
    assert_took_over(&mut ours);
    fleet.until_leads(&lease_table(), "ours-again").await;
    assert_eq!(fleet.leader_in(&coordinator_table()).await, None);
    fleet.finish().await;
    ours.stop().await.expect("an orderly end");
}
