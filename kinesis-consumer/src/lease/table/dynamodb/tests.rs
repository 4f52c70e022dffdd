use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoveryStatus,
    ScalarAttributeType,
};
use kinesis_core::Position;

use super::*;
use crate::checkpoint::PendingCheckpoint;
use crate::error::ErrorKind;
use crate::lease::LeaseTableSettings;
use crate::lease::tests::rig::{Fault, Rig, TABLE};

fn shard(index: u64) -> ShardId {
    ShardId::from_index(index)
}

fn done(outcome: Result<Outcome, Error>) -> Lease {
    match outcome.expect("answers") {
        Outcome::Done(row) => row,
        Outcome::Refused(row) => panic!("refused by {row:?}"),
    }
}

/// A read that is behind would let a child's lease be taken before its parent's end, or a lease that was just
/// given back be given to nobody. What only watches may be behind, at half the price.
#[tokio::test(start_paused = true)]
async fn what_decides_who_works_is_read_consistently() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    table
        .create(&Lease::new(shard(0), Position::TrimHorizon))
        .await
        .expect("made");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let asks = Arc::clone(&asked);
    let client = rig.faulty_by_body(move |operation, body| {
        let consistent = body.contains(r#""ConsistentRead":true"#);
        let mut asks = asks.lock().expect("not poisoned");
        asks.push((operation.to_owned(), consistent));
        Fault::None
    });
    let table = rig.table_through(&client);
    table.get(&shard(0)).await.expect("read");
    table.scan(true).await.expect("scanned");
    table.scan(false).await.expect("scanned");
    let asked = std::mem::take(&mut *asked.lock().expect("not poisoned"));
    let asked: Vec<_> = asked
        .iter()
        .map(|(name, is)| (name.as_str(), *is))
        .collect();
    assert_eq!(asked, [("GetItem", true), ("Scan", true), ("Scan", false)]);
}

#[tokio::test(start_paused = true)]
async fn the_table_is_made_once_however_many_ask_for_it() {
    let rig = Rig::new(1).await;
    let tables: Vec<_> = (0..4).map(|_| rig.table_through(&rig.dynamodb)).collect();
    let wanted = LeaseTableSettings::default();
    let made = futures::future::join_all(tables.iter().map(|table| table.prepare(&wanted))).await;
    made.into_iter()
        .collect::<Result<Vec<_>, _>>()
        .expect("all find the table");
    let answer = rig
        .dynamodb
        .describe_table()
        .table_name(TABLE)
        .send()
        .await
        .expect("described");
    let mode = answer
        .table()
        .and_then(|table| table.billing_mode_summary());
    assert_eq!(
        mode.and_then(|mode| mode.billing_mode()),
        Some(&BillingMode::PayPerRequest)
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_with_another_key_is_refused_with_a_clear_error() {
    let rig = Rig::new(1).await;
    let name = AttributeDefinition::builder()
        .attribute_name("id")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .expect("complete");
    let key = KeySchemaElement::builder()
        .attribute_name("id")
        .key_type(KeyType::Hash);
    rig.dynamodb
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(name)
        .key_schema(key.build().expect("complete"))
        .send()
        .await
        .expect("creates the table");
    let error = rig
        .table_through(&rig.dynamodb)
        .prepare(&LeaseTableSettings::default())
        .await
        .expect_err("not a lease table");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("billing"), "{error}");
    assert!(error.to_string().contains("leaseKey"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_scan_reads_every_page_and_sorts_the_rows_by_what_they_are() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    // Twelve rows of 150 kB are two pages.
    for index in 0..12 {
        let mut row = item::new_item(&Lease::new(shard(index), Position::TrimHorizon));
        row.insert(
            "padding".to_owned(),
            AttributeValue::B(Blob::new(vec![0; 150_000])),
        );
        rig.put(row).await;
    }
    let mut corrupt = item::new_item(&Lease::new(shard(20), Position::TrimHorizon));
    corrupt.insert("checkpoint".to_owned(), text("nonsense"));
    rig.put(corrupt).await;
    for (key, kind) in [("Leader", "LEADER"), ("worker-1", "WORKER_METRIC_STATS")] {
        rig.put(Item::from([
            (LEASE_KEY.to_owned(), text(key)),
            ("entityType".to_owned(), text(kind)),
        ]))
        .await;
    }
    let rows = table.scan(true).await.expect("scans");
    let mut found: Vec<_> = rows
        .leases
        .iter()
        .filter_map(|lease| lease.shard_id.index())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..12).collect::<Vec<_>>());
    assert_eq!(rows.corrupt.len(), 1);
    assert_eq!(rows.corrupt[0].attribute, "checkpoint");
}

#[tokio::test(start_paused = true)]
async fn a_row_of_kcl_2_is_taken_and_checkpointed_and_keeps_what_is_not_known_here() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    rig.put(Item::from([
        (LEASE_KEY.to_owned(), text("shardId-000000000000")),
        ("leaseOwner".to_owned(), text("host-1:42")),
        ("leaseCounter".to_owned(), item::number(812)),
        ("ownerSwitchesSinceCheckpoint".to_owned(), item::number(3)),
        (
            "checkpoint".to_owned(),
            text("49590338271490256608559692538361571095921575989136588898"),
        ),
        ("checkpointSubSequenceNumber".to_owned(), item::number(2)),
        ("pendingCheckpoint".to_owned(), text("LATEST")),
        (
            "pendingCheckpointSubSequenceNumber".to_owned(),
            item::number(0),
        ),
        (
            "pendingCheckpointState".to_owned(),
            AttributeValue::B(Blob::new([1])),
        ),
        (
            "parentShardId".to_owned(),
            AttributeValue::Ss(vec!["shardId-000000000009".into()]),
        ),
        (
            "somethingNew".to_owned(),
            AttributeValue::L(vec![text("kept")]),
        ),
    ]))
    .await;
    let seen = rig.lease(0).await;
    let taken = done(table.write(&Write::take(&seen, "me", "t1")).await);
    assert_eq!((taken.counter, taken.owner_switches), (813, 4));
    let next = Position::parse(
        "49590338271490256608559692538361571095921575989136588900",
        0,
    );
    let next = next.expect("a sequence number");
    let row = done(
        table
            .write(&Write::checkpoint(&taken, "me", "t1", &next))
            .await,
    );
    assert_eq!(
        (row.counter, row.owner_switches, row.checkpoint),
        (814, 0, next)
    );

    let item = rig.item(0).await;
    assert_eq!(item.get("leaseOwner"), Some(&text("me")));
    assert_eq!(item.get("leaseCounter"), Some(&item::number(814)));
    assert_eq!(
        item.get("checkpointSubSequenceNumber"),
        Some(&item::number(0))
    );
    assert_eq!(
        item.get("ownerSwitchesSinceCheckpoint"),
        Some(&item::number(0))
    );
    assert_eq!(
        item.get("somethingNew"),
        Some(&AttributeValue::L(vec![text("kept")]))
    );
    assert_eq!(
        item.get("parentShardId"),
        Some(&AttributeValue::Ss(vec!["shardId-000000000009".into()]))
    );
    assert!(
        !item.keys().any(|name| name.starts_with("pending")),
        "{:?}",
        item.keys()
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_request_is_tried_again_and_one_that_goes_on_failing_is_an_error_to_retry() {
    let rig = Rig::new(1).await;
    rig.table().await;
    let mut left = 2;
    let client = rig.faulty(move |_| {
        left -= i32::from(left > 0);
        if left > 0 {
            Fault::Throttle
        } else {
            Fault::None
        }
    });
    rig.table_through(&client)
        .scan(true)
        .await
        .expect("the SDK tries again");
    for (fault, kind) in [
        (Fault::Throttle, ErrorKind::Throttled),
        (Fault::Drop, ErrorKind::Unavailable),
        (Fault::Hang, ErrorKind::Unavailable),
    ] {
        let client = rig.faulty(move |_| fault);
        let lease = Lease::new(shard(0), Position::TrimHorizon);
        let error = rig
            .table_through(&client)
            .create(&lease)
            .await
            .expect_err("never answers");
        assert_eq!(error.kind(), kind, "{fault:?}: {error}");
    }
}

/// The SDK has 500 tokens for retries in a process, of which one takes five or more.
#[tokio::test(start_paused = true)]
async fn a_request_is_tried_again_however_much_other_clients_of_the_process_failed() {
    let rig = Rig::new(1).await;
    rig.table().await;
    let failing = rig.faulty(|_| Fault::Throttle);
    for _ in 0..120 {
        let answer = failing.list_tables().send().await;
        answer.expect_err("throttled for ever");
    }
    let mut throttled = false;
    let client = rig.faulty(move |_| match std::mem::replace(&mut throttled, true) {
        false => Fault::Throttle,
        true => Fault::None,
    });
    let rows = rig.table_through(&client).scan(true).await;
    rows.expect("tried again");
}

#[tokio::test(start_paused = true)]
async fn a_look_for_given_leases_that_nobody_answers_is_made_again_soon() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let lease = Lease::new(shard(0), Position::TrimHorizon);
    table.create(&lease).await.expect("creates");
    done(table.write(&Write::take(&lease, "a", "a/1/1")).await);
    let mut hangs = true;
    let client = rig.faulty(move |_| {
        if std::mem::take(&mut hangs) {
            Fault::Hang
        } else {
            Fault::None
        }
    });
    let table = rig.table_through(&client);
    let begun = kinesis_core::Clock::system().now();
    let found = table.owned_by("a").await.expect("the SDK tries again");
    let took = kinesis_core::Clock::system().now().duration_since(begun);
    assert_eq!(found, [shard(0)]);
    // What was given is to be worked on within three seconds.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_prepared_checkpoint_is_kept_through_a_take_and_removed_by_the_next_checkpoint() {
    let rig = Rig::new(1).await;
    let table = rig.table().await;
    let lease = Lease::new(shard(0), Position::TrimHorizon);
    table.create(&lease).await.expect("creates");
    let held = done(table.write(&Write::take(&lease, "me", "t1")).await);
    let at = |text: &str| Position::parse(text, 3).expect("a sequence number");
    let pending = PendingCheckpoint::new(at("12"), vec![0, 255]);
    let prepare = Write::prepare(&held, "me", "t1", &pending);
    let row = done(table.write(&prepare).await);
    assert_eq!(Some(row.clone()), prepare.apply(&held));
    assert_eq!(row.checkpoint, Position::TrimHorizon);
    let item = rig.item(0).await;
    for (name, value) in [
        ("pendingCheckpoint", AttributeValue::S("12".into())),
        ("pendingCheckpointSubSequenceNumber", item::number(3)),
        (
            "pendingCheckpointState",
            AttributeValue::B(Blob::new([0, 255])),
        ),
    ] {
        assert_eq!(item.get(name), Some(&value), "{name}");
    }
    let taken = done(table.write(&Write::take(&row, "you", "t2")).await);
    assert_eq!(taken.pending_checkpoint, Some(pending));
    let stateless = PendingCheckpoint::new(at("13"), "");
    let row = done(
        table
            .write(&Write::prepare(&taken, "you", "t2", &stateless))
            .await,
    );
    assert_eq!(row.pending_checkpoint, Some(stateless));
    assert!(!rig.item(0).await.contains_key("pendingCheckpointState"));
    let row = done(
        table
            .write(&Write::checkpoint(&row, "you", "t2", &at("12")))
            .await,
    );
    assert_eq!(row.pending_checkpoint, None);
    let item = rig.item(0).await;
    assert!(!item.keys().any(|name| name.starts_with("pending")));
}

#[tokio::test(start_paused = true)]
async fn a_new_table_is_made_as_the_settings_say_and_an_old_one_is_left_as_it_is() {
    let rig = Rig::new(1).await;
    let table = rig.table_through(&rig.dynamodb);
    let wanted = LeaseTableSettings {
        billing_mode: crate::lease::BillingMode::Provisioned {
            read_capacity: 7,
            write_capacity: 9,
        },
        point_in_time_recovery: true,
        deletion_protection: true,
        tags: [("team".to_owned(), "billing".to_owned())].into(),
        ..LeaseTableSettings::default()
    };
    table.prepare(&wanted).await.expect("made");
    // Another worker, with other settings.
    let other = rig.table_through(&rig.dynamodb);
    let ensured = other.prepare(&LeaseTableSettings::default()).await;
    ensured.expect("taken as it is");

    let described = rig.dynamodb.describe_table().table_name(TABLE).send().await;
    let described = described.expect("described");
    let made = described.table().expect("a table");
    let units = made.provisioned_throughput().expect("provisioned");
    assert_eq!(units.read_capacity_units(), Some(7));
    assert_eq!(units.write_capacity_units(), Some(9));
    assert_eq!(made.deletion_protection_enabled(), Some(true));
    let arn = made.table_arn().expect("an ARN");
    let tags = rig.dynamodb.list_tags_of_resource().resource_arn(arn);
    let tags = tags.send().await.expect("listed");
    let tags: Vec<_> = tags.tags().iter().map(|t| (t.key(), t.value())).collect();
    assert_eq!(tags, [("team", "billing")]);
    assert!(has_its_past(&rig).await);
}

/// Whether the table has point-in-time recovery.
async fn has_its_past(rig: &Rig) -> bool {
    let backups = rig.dynamodb.describe_continuous_backups().table_name(TABLE);
    let backups = backups.send().await.expect("described");
    let backups = backups.continuous_backups_description();
    let recovery = backups.and_then(|backups| backups.point_in_time_recovery_description());
    let status = recovery.and_then(|recovery| recovery.point_in_time_recovery_status());
    status == Some(&PointInTimeRecoveryStatus::Enabled)
}

#[tokio::test(start_paused = true)]
async fn a_table_whose_making_was_never_answered_has_point_in_time_recovery_all_the_same() {
    let wanted = LeaseTableSettings {
        point_in_time_recovery: true,
        ..LeaseTableSettings::default()
    };
    // One answer is lost, and the attempt after it hears that the table exists; or all are.
    for lost in [1, 3] {
        let rig = Rig::new(1).await;
        let mut left = lost;
        let client = rig.faulty(move |operation| match operation {
            "CreateTable" if left > 0 => {
                left -= 1;
                Fault::LoseAnswer
            }
            _ => Fault::None,
        });
        let prepared = rig.table_through(&client).prepare(&wanted).await;
        prepared.expect("made");
        assert!(has_its_past(&rig).await, "{lost} lost");
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_was_made_without_point_in_time_recovery_stays_so_and_is_looked_at() {
    let rig = Rig::new(1).await;
    rig.table().await;
    let looks = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let seen = Arc::clone(&looks);
    let client = rig.faulty(move |operation| {
        if operation == "DescribeContinuousBackups" {
            seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Fault::None
    });
    let wanted = LeaseTableSettings {
        point_in_time_recovery: true,
        ..LeaseTableSettings::default()
    };
    let prepared = rig.table_through(&client).prepare(&wanted).await;
    prepared.expect("taken as it is");
    assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(!has_its_past(&rig).await);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_may_not_turn_recovery_on_starts_unless_it_made_the_table() {
    let wanted = LeaseTableSettings {
        point_in_time_recovery: true,
        ..LeaseTableSettings::default()
    };
    for is_maker in [false, true] {
        let rig = Rig::new(1).await;
        let mut lost = is_maker;
        let client = rig.faulty(move |operation| match operation {
            // The attempt after it hears that the table exists, as of another worker.
            "CreateTable" if !lost => {
                lost = true;
                Fault::LoseAnswer
            }
            "UpdateContinuousBackups" => Fault::Deny,
            _ => Fault::None,
        });
        let prepared = rig.table_through(&client).prepare(&wanted).await;
        let refused = prepared.err().map(|error| error.kind());
        assert_eq!(refused, is_maker.then_some(ErrorKind::Denied));
        assert!(!has_its_past(&rig).await);
    }
}
