//! Workers of a KCL that live, and renew as seldom as they are set to.

use super::states::{kinds, refusal, text};
use super::*;
use crate::lease::item::Item;
use crate::lease::tests::rig::TABLE;

/// A row of a KCL 2.x. Behind one of ours it keeps what that wrote.
fn of_kcl_2(counter: u64, mark: Option<&str>) -> Item {
    let mut row = Item::from([
        ("leaseKey".to_owned(), text("shardId-000000000000")),
        ("leaseOwner".to_owned(), text("ip-10-0-0-7:alive")),
        ("leaseCounter".to_owned(), item::number(counter)),
        ("checkpoint".to_owned(), text("TRIM_HORIZON")),
    ]);
    row.extend(mark.map(|mark| ("acquisitionId".to_owned(), text(mark))));
    row
}

#[tokio::test(start_paused = true)]
async fn a_kcl_2_that_is_alive_is_refused_with_what_to_do() {
    // Its failoverTimeMillis in seconds; it renews three times in that.
    for failover in [10, 30, 60, 150] {
        for mark in [None, Some("b/1/7")] {
            let rig = Rig::new(1).await;
            rig.table().await;
            rig.put(of_kcl_2(1, mark)).await;
            let living = async {
                for counter in 2.. {
                    sleep(Duration::from_secs(failover / 3)).await;
                    rig.put(of_kcl_2(counter, mark)).await;
                }
            };
            let error = tokio::select! {
                error = refusal(&rig) => error,
                () = living => unreachable!("it lives on"),
            };
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let sought = ["billing-CoordinatorState", "coordinator_state_table"];
            for part in ["ip-10-0-0-7:alive", "KCL 2.x", "stop"]
                .iter()
                .chain(&sought)
            {
                assert!(error.to_string().contains(part), "{error}");
            }
            let rows = kinds(&rig, TABLE, "leaseKey").await;
            assert_eq!(rows.len(), 1, "nothing was written: {rows:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kcl_2_that_stopped_is_taken_over_when_none_that_lives_would_be_silent_for_so_long() {
    let rig = Rig::new(1).await;
    rig.table().await;
    rig.put(of_kcl_2(1, None)).await;
    let a = rig.worker("a");
    sleep(Duration::from_secs(59)).await;
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert_eq!(rows.len(), 1, "nothing was written yet: {rows:?}");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(a.count(), 1);
    a.stop().await.expect("stops");
}

/// A worker whose scans are refused from the first of these seconds until the second.
fn throttled(rig: &Rig, from: f64, until: f64) -> Worker {
    let start = Clock::system().now();
    let client = rig.faulty(move |operation| {
        let second = seconds_since(start);
        match operation == "Scan" && (from..until).contains(&second) {
            true => Fault::Throttle,
            false => Fault::None,
        }
    });
    rig.worker_with("a", client, &Settings::default(), OnHandoff::Release)
}

#[tokio::test(start_paused = true)]
async fn looks_for_a_kcl_2_that_a_busy_table_refuses_do_not_have_the_watch_begin_anew() {
    let rig = Rig::new(1).await;
    rig.table().await;
    rig.put(of_kcl_2(1, None)).await;
    let a = throttled(&rig, 12.0, 50.0);
    sleep(Duration::from_secs(59)).await;
    assert_eq!(kinds(&rig, TABLE, "leaseKey").await.len(), 1);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(a.count(), 1);
    a.stop().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_kcl_2_that_is_seen_by_the_last_look_alone_is_refused_however_late_that_is_answered() {
    let rig = Rig::new(1).await;
    rig.table().await;
    rig.put(of_kcl_2(1, None)).await;
    let a = throttled(&rig, 12.0, 100.0);
    sleep(Duration::from_secs(50)).await;
    rig.put(of_kcl_2(2, None)).await;
    sleep(Duration::from_secs(49)).await;
    assert_eq!(a.count(), 0);
    sleep(Duration::from_secs(60)).await;
    let error = a.stop().await.expect_err("it lives");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert_eq!(rows.len(), 1, "nothing was written: {rows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kcl_3_that_renews_seldom_keeps_its_leases_while_we_lead_until_it_dies() {
    let rig = Rig::new(2).await;
    let a = rig.worker("a");
    until("both", &[&a], || a.count() == 2).await;
    let metrics = || {
        let at = rig.now_millis() / 1_000;
        Item::from([
            ("leaseKey".to_owned(), text("java")),
            ("lut".to_owned(), item::number(at)),
            ("entityType".to_owned(), text("WORKER_METRIC_STATS")),
        ])
    };
    rig.put(metrics()).await;
    let asked = async || {
        let rows = [rig.lease(0).await, rig.lease(1).await];
        let theirs = rows.iter().find(|row| row.owner.as_deref() == Some("java"));
        theirs.filter(|row| !row.is_in_handoff()).cloned()
    };
    let mut given = asked().await;
    while given.is_none() {
        sleep(Duration::from_millis(200)).await;
        given = asked().await;
    }
    let given = given.expect("given");
    let shard = given.shard_id.index().expect("a shard");
    // As one whose failoverTimeMillis is 60 s; a checkpoint now and then tells nothing of that.
    let beat = async || {
        let update = rig.dynamodb.update_item().table_name(TABLE);
        let update = update
            .key("leaseKey", text(given.shard_id.as_str()))
            .update_expression("ADD leaseCounter :one")
            .expression_attribute_values(":one", item::number(1));
        update.send().await.expect("renewed");
    };
    for second in 0..300_u64 {
        if second < 100 || second % 20 == 0 {
            beat().await;
        }
        if second % 30 == 0 {
            rig.put(metrics()).await;
        }
        sleep(Duration::from_secs(1)).await;
        let row = rig.lease(shard).await;
        assert_eq!(row.holder(), Some("java"), "at {second}: {row:?}");
    }
    // Its last renewal was 20 s ago.
    sleep(Duration::from_secs(35)).await;
    assert_eq!(rig.lease(shard).await.holder(), Some("java"));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(a.count(), 2);
    a.stop().await.expect("stops");
}
