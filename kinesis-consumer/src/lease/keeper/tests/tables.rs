//! Tables of KCL 3.0 to 3.4 that are called otherwise, are half made, or cannot be looked at.

use super::states::{COORDINATOR, METRICS, create, kinds, legacy, put};
use super::*;
use crate::admin::{LeaseAdmin, Which};
use crate::lease::LeaseTableSettings;
use crate::lease::tests::rig::TABLE;
use crate::written::Written;

/// The answer to a description of the table of states.
const CREATING: Fault =
    Fault::Answer(r#"{"Table":{"TableName":"billing-CoordinatorState","TableStatus":"CREATING"}}"#);
const DELETING: Fault =
    Fault::Answer(r#"{"Table":{"TableName":"billing-CoordinatorState","TableStatus":"DELETING"}}"#);

fn settings(table: &LeaseTableSettings) -> Settings {
    let mut settings = Settings::default();
    settings.lease.table = table.clone();
    settings
}

/// The keys in a table, and in the order of the alphabet.
async fn keys(rig: &Rig, table: &str, key: &str) -> Vec<String> {
    kinds(rig, table, key).await.into_keys().collect()
}

/// Fails unless only leases lie with the leases, and the rest in those two tables.
async fn assert_in(rig: &Rig, leases: &str, states: &str, metrics: &str) {
    let rows = kinds(rig, leases, "leaseKey").await;
    assert!(rows.values().all(|kind| kind == "LEASE"), "{rows:?}");
    assert_eq!(keys(rig, states, "key").await, ["Leader", "Migration3.0"]);
    assert_eq!(keys(rig, metrics, "wid").await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_old_tables_are_found_by_the_applications_name_whatever_the_leases_are_called() {
    let rig = Rig::new(2).await;
    legacy(&rig).await;
    let table = LeaseTableSettings {
        name: Some("leases".to_owned()),
        ..LeaseTableSettings::default()
    };
    let dynamodb = rig.dynamodb.clone();
    let a = rig.worker_with("a", dynamodb, &settings(&table), OnHandoff::Release);
    until("both", &[&a], || a.count() == 2).await;
    assert_in(&rig, "leases", COORDINATOR, METRICS).await;
    let of_the_name = rig.dynamodb.describe_table().table_name(TABLE).send().await;
    let error = of_the_name.expect_err("no such table").into_service_error();
    assert!(error.is_resource_not_found_exception(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_old_tables_are_found_by_names_of_their_own_by_workers_and_by_an_operator() {
    let rig = Rig::new(2).await;
    create(&rig, "states", "key").await;
    create(&rig, "workers", "wid").await;
    let version = |cv| [("key", "Migration3.0"), ("cv", cv)];
    put(&rig, "states", &version("CLIENT_VERSION_3X")).await;
    let table = LeaseTableSettings {
        name: Some("leases".to_owned()),
        coordinator_state_table: Some("states".to_owned()),
        worker_metrics_table: Some("workers".to_owned()),
        ..LeaseTableSettings::default()
    };
    let dynamodb = rig.dynamodb.clone();
    let a = rig.worker_with("a", dynamodb, &settings(&table), OnHandoff::Release);
    until("both", &[&a], || a.count() == 2).await;
    assert_in(&rig, "leases", "states", "workers").await;

    let admin = LeaseAdmin::new(TABLE, rig.kinesis.clone(), rig.dynamodb.clone());
    let error = admin.list(&[]).await.expect_err("no such table");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let admin = admin.table(&table);
    let listed = admin.list(&[]).await.expect("listed");
    assert_eq!(listed.len(), 2);
    put(&rig, "states", &version("CLIENT_VERSION_2X")).await;
    let refused = admin.release(&Which::All).await.expect_err("by its states");
    assert!(
        refused.to_string().contains("CLIENT_VERSION_2X"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn old_tables_that_are_being_made_or_are_not_everywhere_yet_are_waited_for() {
    // Of the reads of the table of states, by which its first ones find nothing.
    for missing in 0..4 {
        let rig = Rig::new(1).await;
        legacy(&rig).await;
        let (mut described, mut read) = (0, 0);
        let client = rig.faulty_by_body(move |operation, body| {
            if !body.contains(COORDINATOR) {
                return Fault::None;
            }
            match operation {
                "DescribeTable" if described < 3 => {
                    described += 1;
                    CREATING
                }
                "GetItem" if described < 3 => panic!("it cannot be read yet"),
                "GetItem" if read < missing => {
                    read += 1;
                    Fault::NotFound
                }
                _ => Fault::None,
            }
        });
        let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
        until("the lease", &[&a], || a.count() == 1).await;
        assert_in(&rig, TABLE, COORDINATOR, METRICS).await;
    }
}

#[tokio::test(start_paused = true)]
async fn old_tables_that_are_being_deleted_are_as_good_as_gone() {
    let rig = Rig::new(1).await;
    let client = rig.faulty_by_body(|operation, body| {
        match body.contains(COORDINATOR) && operation == "DescribeTable" {
            true => DELETING,
            false => Fault::None,
        }
    });
    let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
    until("the lease", &[&a], || a.count() == 1).await;
    let rows = keys(&rig, TABLE, "leaseKey").await;
    assert_eq!(
        rows,
        ["Leader", "Migration3.0", "a", "shardId-000000000000"]
    );
}

#[tokio::test(start_paused = true)]
async fn who_may_not_look_for_old_tables_says_so_once() {
    let (written, _installed) = Written::begin();
    let rig = Rig::new(1).await;
    let looks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&looks);
    let client = rig.faulty_by_body(move |operation, body| {
        if !body.contains(COORDINATOR) || operation != "DescribeTable" {
            return Fault::None;
        }
        count.fetch_add(1, Ordering::SeqCst);
        Fault::Deny
    });
    let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
    sleep(Duration::from_secs(310)).await;
    assert_eq!(a.count(), 1);
    assert!(looks.load(Ordering::SeqCst) >= 5, "it is looked again");
    let told = written.lines("whether there is a table of KCL 3.0");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("WARN"), "{told:?}");
}
