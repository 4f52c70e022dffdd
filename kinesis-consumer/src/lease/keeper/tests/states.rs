//! Tables and states that KCL fleets leave, and that live ones use.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};

use super::*;
use crate::lease::item::Item;
use crate::lease::lock::Claim;
use crate::lease::table::Locked;
use crate::lease::tests::rig::TABLE;

pub(super) const COORDINATOR: &str = "billing-CoordinatorState";
pub(super) const METRICS: &str = "billing-WorkerMetricStats";

pub(super) fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub(super) async fn create(rig: &Rig, table: &str, key: &str) {
    let attribute = AttributeDefinition::builder()
        .attribute_name(key)
        .attribute_type(ScalarAttributeType::S);
    let schema = KeySchemaElement::builder()
        .attribute_name(key)
        .key_type(KeyType::Hash);
    rig.dynamodb
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute.build().expect("complete"))
        .key_schema(schema.build().expect("complete"))
        .send()
        .await
        .expect("created");
}

pub(super) async fn put(rig: &Rig, table: &str, row: &[(&str, &str)]) {
    let item: Item = row
        .iter()
        .map(|(name, value)| ((*name).to_owned(), text(value)))
        .collect();
    let put = rig.dynamodb.put_item().table_name(table);
    put.set_item(Some(item)).send().await.expect("put");
}

/// The keys of a table's rows by their kind; a lease is one without any.
pub(super) async fn kinds(rig: &Rig, table: &str, key: &str) -> BTreeMap<String, String> {
    let scan = rig.dynamodb.scan().table_name(table).send().await;
    let items = scan.expect("scanned").items.unwrap_or_default();
    let of = |item: &Item, name: &str| Some(item.get(name)?.as_s().ok()?.clone());
    items
        .iter()
        .map(|item| {
            let kind = of(item, "entityType").unwrap_or_default();
            (of(item, key).expect("a key"), kind)
        })
        .collect()
}

async fn item_of(rig: &Rig, table: &str, (key, value): (&str, &str)) -> Item {
    let get = rig.dynamodb.get_item().table_name(table);
    let got = get.key(key, text(value)).send().await.expect("read");
    got.item.expect("a row")
}

pub(super) async fn legacy(rig: &Rig) {
    create(rig, COORDINATOR, "key").await;
    create(rig, METRICS, "wid").await;
    let version = [("key", "Migration3.0"), ("cv", "CLIENT_VERSION_3X")];
    put(rig, COORDINATOR, &version).await;
}

pub(super) async fn refusal(rig: &Rig) -> Error {
    let (sender, _gained) = mpsc::channel(1);
    let keeper = rig.keeper(STREAM);
    let refused = keeper.run(sender, CancellationToken::new()).await;
    refused.expect_err("refused")
}

#[tokio::test(start_paused = true)]
async fn a_new_application_has_all_its_rows_in_the_lease_table() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let kinds = kinds(&rig, TABLE, "leaseKey").await;
    let expected = [
        ("Leader", "LEADER"),
        ("Migration3.0", "CLIENT_VERSION_MIGRATION"),
        ("a", "WORKER_METRIC_STATS"),
        ("shardId-000000000000", "LEASE"),
    ];
    let expected = expected.map(|(key, kind)| (key.to_owned(), kind.to_owned()));
    assert_eq!(kinds, BTreeMap::from(expected));
    a.stop().await.expect("stops");
    let left = self::kinds(&rig, TABLE, "leaseKey").await;
    let left: Vec<_> = left.keys().collect();
    assert_eq!(left, ["Migration3.0", "shardId-000000000000"]);
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_written_as_the_lock_client_of_java_does() {
    let rig = Rig::new(1).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let lock = || async {
        let get = rig.dynamodb.get_item().table_name(TABLE);
        let get = get.key("leaseKey", text("Leader")).send().await;
        get.expect("read").item.expect("a lock")
    };
    let first = lock().await;
    assert_eq!(first["ownerName"], text("a"));
    assert_eq!(first["leaseDuration"], text("18000"));
    assert_eq!(first["entityType"], text("LEADER"));
    assert_eq!(first.len(), 5, "{first:?}");
    sleep(Duration::from_secs(8)).await;
    let second = lock().await;
    assert_ne!(first["recordVersionNumber"], second["recordVersionNumber"]);
}

#[tokio::test(start_paused = true)]
async fn the_tables_of_kcl_3_0_are_used_where_they_are() {
    let rig = Rig::new(2).await;
    legacy(&rig).await;
    let (a, b) = (rig.worker("a"), rig.worker("b"));
    until("one each", &[&a, &b], || a.count() == 1 && b.count() == 1).await;
    let leases = kinds(&rig, TABLE, "leaseKey").await;
    assert_eq!(leases.len(), 2, "{leases:?}");
    let states = kinds(&rig, COORDINATOR, "key").await;
    let states: Vec<_> = states.keys().collect();
    assert_eq!(states, ["Leader", "Migration3.0"]);
    let metrics = kinds(&rig, METRICS, "wid").await;
    let metrics: Vec<_> = metrics.keys().collect();
    assert_eq!(metrics, ["a", "b"]);
}

/// Writes down how far the KCL is with its move, in the table where it does.
async fn migrate(rig: &Rig, status: &str) {
    let row = [("key", "TableMigration3.5"), ("tm", status)];
    put(rig, COORDINATOR, &row).await;
}

/// Moves the protocol of the fleet as a leader of the KCL does: out of one table, into the other.
async fn move_states(rig: &Rig) {
    let version = [("leaseKey", "Migration3.0"), ("cv", "CLIENT_VERSION_3X")];
    put(rig, TABLE, &version).await;
    let delete = rig.dynamodb.delete_item().table_name(COORDINATOR);
    let deleted = delete.key("key", text("Migration3.0")).send().await;
    deleted.expect("deleted");
}

#[tokio::test(start_paused = true)]
async fn a_move_of_the_kcl_into_the_lease_table_is_followed_step_by_step() {
    let rig = Rig::new(2).await;
    legacy(&rig).await;
    let (a, b) = (rig.worker("a"), rig.worker("b"));
    until("one each", &[&a, &b], || a.count() == 1 && b.count() == 1).await;
    migrate(&rig, "TABLE_MIGRATION_STATUS_INIT").await;
    sleep(Duration::from_secs(70)).await;
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert_eq!(rows.len(), 2, "a KCL 3.4 may still be there: {rows:?}");

    // The leader of the KCL waits until nobody's metrics are in the old table, moves the states, and
    // only then says so.
    migrate(&rig, "TABLE_MIGRATION_STATUS_DEPLOYED").await;
    sleep(Duration::from_secs(70)).await;
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert!(rows.contains_key("a") && rows.contains_key("b"), "{rows:?}");
    let old = async || item_of(&rig, METRICS, ("wid", "a")).await;
    let before = old().await;
    sleep(Duration::from_secs(70)).await;
    assert_eq!(old().await, before, "still written");
    move_states(&rig).await;
    migrate(&rig, "TABLE_MIGRATION_STATUS_PENDING").await;
    sleep(Duration::from_secs(70)).await;
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert!(!rows.contains_key("Leader"), "the lock moves last");

    migrate(&rig, "TABLE_MIGRATION_STATUS_COMPLETE").await;
    sleep(Duration::from_secs(80)).await;
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert!(rows.contains_key("Leader"), "{rows:?}");
    assert_eq!((a.count(), b.count()), (1, 1), "nobody noticed");
}

#[tokio::test(start_paused = true)]
async fn who_starts_while_the_kcl_moves_its_states_finds_them_and_writes_none_anew() {
    let rig = Rig::new(1).await;
    rig.table().await;
    legacy(&rig).await;
    migrate(&rig, "TABLE_MIGRATION_STATUS_DEPLOYED").await;
    move_states(&rig).await;
    let a = rig.worker("a");
    until("the lease", &[&a], || a.count() == 1).await;
    let states = kinds(&rig, COORDINATOR, "key").await;
    let states: Vec<_> = states.keys().collect();
    assert_eq!(states, ["Leader", "TableMigration3.5"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_lives_if_its_newer_row_says_so_in_whichever_table_that_is() {
    let rig = Rig::new(1).await;
    rig.table().await;
    legacy(&rig).await;
    let row = |key: &str, worker: &str, at: u64| {
        Item::from([
            (key.to_owned(), text(worker)),
            ("lut".to_owned(), item::number(at)),
            ("entityType".to_owned(), text("WORKER_METRIC_STATS")),
        ])
    };
    let in_metrics = |row| async {
        let put = rig.dynamodb.put_item().table_name(METRICS);
        put.set_item(Some(row)).send().await.expect("put");
    };
    rig.put(row("leaseKey", "upgraded", 2_000)).await;
    in_metrics(row("wid", "upgraded", 1_000)).await;
    rig.put(row("leaseKey", "rolled-back", 1_000)).await;
    in_metrics(row("wid", "rolled-back", 2_000)).await;
    for status in ["INIT", "DEPLOYED", "PENDING"] {
        migrate(&rig, &format!("TABLE_MIGRATION_STATUS_{status}")).await;
        let table = rig.table().await;
        let scanned = table.scan(true).await.expect("scans").stats;
        let stats = table.all_stats(scanned).await.expect("scans");
        let seen: Vec<_> = stats
            .iter()
            .map(|row| (row.worker.as_str(), row.updated_at))
            .collect();
        assert_eq!(
            seen,
            [("rolled-back", 2_000), ("upgraded", 2_000)],
            "{status}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_lock_is_not_claimed_from_a_leader_that_has_moved_to_the_new_one() {
    let rig = Rig::new(1).await;
    legacy(&rig).await;
    migrate(&rig, "TABLE_MIGRATION_STATUS_PENDING").await;
    let lock = |key: &'static str| {
        [
            (key, "Leader"),
            ("ownerName", "java"),
            ("leaseDuration", "3600000"),
            ("recordVersionNumber", "v"),
        ]
    };
    put(&rig, COORDINATOR, &lock("key")).await;
    let a = rig.worker("a");
    sleep(Duration::from_secs(20)).await;

    // What the KCL does when the last step is made, well before our next look at the states.
    migrate(&rig, "TABLE_MIGRATION_STATUS_COMPLETE").await;
    move_states(&rig).await;
    put(&rig, TABLE, &lock("leaseKey")).await;
    let release = rig.dynamodb.delete_item().table_name(COORDINATOR);
    let released = release.key("key", text("Leader")).send().await;
    released.expect("released");
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        let states = kinds(&rig, COORDINATOR, "key").await;
        assert!(!states.contains_key("Leader"), "{states:?}");
    }
    let lock = item_of(&rig, TABLE, ("leaseKey", "Leader")).await;
    assert_eq!(lock["ownerName"], text("java"));
    a.stop().await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_in_another_table_by_now_is_no_lock_that_cannot_be_read() {
    let rig = Rig::new(1).await;
    rig.table().await;
    legacy(&rig).await;
    let table = rig.table().await;
    table.find_layout().await.expect("found");
    let claim = async || {
        let lasts = Duration::from_secs(10);
        let claimed = table.claim_lock(&Claim::Absent, "a", "v", lasts).await;
        claimed.expect("answered")
    };
    migrate(&rig, "TABLE_MIGRATION_STATUS_COMPLETE").await;
    move_states(&rig).await;
    assert_eq!(claim().await, Locked::Moved);
    put(
        &rig,
        TABLE,
        &[("leaseKey", "Leader"), ("ownerName", "java")],
    )
    .await;
    assert_eq!(claim().await, Locked::Refused(None), "cannot be read");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_of_another_protocol_is_refused_at_the_start() {
    let rig = Rig::new(1).await;
    rig.table().await;
    let version = [
        ("leaseKey", "Migration3.0"),
        ("cv", "CLIENT_VERSION_UPGRADE_FROM_2X"),
    ];
    put(&rig, TABLE, &version).await;
    let error = refusal(&rig).await;
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("UPGRADE_FROM_2X"), "{error}");
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert_eq!(rows.len(), 1, "nothing was written: {rows:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_is_rolled_back_is_left_in_order() {
    let rig = Rig::new(1).await;
    rig.table().await;
    let version = |cv: &'static str| [("leaseKey", "Migration3.0"), ("cv", cv)];
    put(&rig, TABLE, &version("CLIENT_VERSION_3X_WITH_ROLLBACK")).await;
    let refused = refusal(&rig);
    let rolling_back = async {
        sleep(Duration::from_secs(30)).await;
        assert_eq!(rig.lease(0).await.owner.as_deref(), Some("b"));
        put(&rig, TABLE, &version("CLIENT_VERSION_2X")).await;
    };
    let (error, ()) = tokio::join!(refused, rolling_back);
    assert!(error.to_string().contains("CLIENT_VERSION_2X"), "{error}");
    assert_eq!(rig.lease(0).await.owner, None, "given back");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_refused_leaves_what_another_of_its_name_has() {
    let rig = Rig::new(1).await;
    rig.table().await;
    let version = [("leaseKey", "Migration3.0"), ("cv", "CLIENT_VERSION_2X")];
    put(&rig, TABLE, &version).await;
    rig.put(Item::from([
        ("leaseKey".to_owned(), text("shardId-000000000000")),
        ("leaseOwner".to_owned(), text("b")),
        ("leaseCounter".to_owned(), item::number(1)),
        ("checkpoint".to_owned(), text("TRIM_HORIZON")),
    ]))
    .await;
    refusal(&rig).await;
    let row = rig.lease(0).await;
    assert_eq!((row.owner.as_deref(), row.counter), (Some("b"), 1));
}

#[tokio::test(start_paused = true)]
async fn a_table_without_the_index_is_read_by_scans_and_gets_the_index() {
    let rig = Rig::new(2).await;
    create(&rig, TABLE, "leaseKey").await;
    let (a, b) = (rig.worker("a"), rig.worker("b"));
    until("one each", &[&a, &b], || a.count() == 1 && b.count() == 1).await;
    let described = rig.dynamodb.describe_table().table_name(TABLE).send().await;
    let described = described.expect("described");
    let table = described.table().expect("a table");
    let indexes: Vec<_> = table
        .global_secondary_indexes()
        .iter()
        .filter_map(|index| index.index_name())
        .collect();
    assert_eq!(indexes, ["LeaseOwnerToLeaseKeyIndex"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_may_not_ask_the_index_finds_its_leases_by_scans_until_it_may() {
    let rig = Rig::new(8).await;
    let (denied, queries) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let (is_denied, count) = (Arc::clone(&denied), Arc::clone(&queries));
    let client = rig.faulty(move |operation| {
        if operation != "Query" {
            return Fault::None;
        }
        count.fetch_add(1, Ordering::SeqCst);
        match is_denied.load(Ordering::SeqCst) {
            true => Fault::Deny,
            false => Fault::None,
        }
    });
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 8).await;
    let b = rig.worker_with("b", client, &Settings::default(), OnHandoff::Release);
    until("four each", &[&a, &b], || a.count() == 4 && b.count() == 4).await;
    for _ in 0..150 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!((a.count(), b.count()), (4, 4), "nothing is lost");
    }
    let asked = queries.load(Ordering::SeqCst);
    assert!((2..=4).contains(&asked), "{asked} queries of the index");
    denied.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(120)).await;
    assert!(queries.load(Ordering::SeqCst) > asked + 30, "it is used");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_worker_metrics_that_is_not_there_is_as_good_as_an_empty_one() {
    let rig = Rig::new(2).await;
    legacy(&rig).await;
    let a = rig.worker("a");
    until("both", &[&a], || a.count() == 2).await;
    let delete = rig.dynamodb.delete_table().table_name(METRICS);
    delete.send().await.expect("deleted");
    // Of a worker that has been dead for long: the leader deletes it.
    let stale = Item::from([
        ("leaseKey".to_owned(), text("dead")),
        ("lut".to_owned(), item::number(1)),
        ("entityType".to_owned(), text("WORKER_METRIC_STATS")),
    ]);
    rig.put(stale).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(a.count(), 2, "it works on");
    let rows = kinds(&rig, TABLE, "leaseKey").await;
    assert!(!rows.contains_key("dead"), "{rows:?}");
    a.stop().await.expect("no error");
}
