use aws_sdk_dynamodb::primitives::Blob;

use super::*;

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn item(attributes: &[(&str, AttributeValue)]) -> Item {
    attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

fn minimal() -> Item {
    item(&[
        (LEASE_KEY, s("shardId-000000000001")),
        (COUNTER, AttributeValue::N("7".to_owned())),
        (CHECKPOINT, s("TRIM_HORIZON")),
    ])
}

fn with(name: &str, value: AttributeValue) -> Item {
    let mut item = minimal();
    item.insert(name.to_owned(), value);
    item
}

#[test]
fn a_row_of_kcl_2_without_entity_type_or_hash_keys_is_a_lease() {
    let Row::Lease(lease) = read(&minimal()) else {
        panic!("a lease")
    };
    let expected = Lease {
        counter: 7,
        ..Lease::new("shardId-000000000001".into(), Position::TrimHorizon)
    };
    assert_eq!(*lease, expected);
    assert_eq!(lease.holder(), None);
}

#[test]
fn every_attribute_of_kcl_3_is_read() {
    let row = item(&[
        (LEASE_KEY, s("shardId-000000000003")),
        (OWNER, s("next")),
        (CHECKPOINT_OWNER, s("present")),
        (COUNTER, number(41)),
        (OWNER_SWITCHES, number(2)),
        (
            CHECKPOINT,
            s("49590338271490256608559692538361571095921575989136588898"),
        ),
        (SUB_SEQUENCE, number(5)),
        (PENDING, s("LATEST")),
        (PENDING_SUB_SEQUENCE, number(0)),
        (PENDING_STATE, AttributeValue::B(Blob::new([1, 2]))),
        (
            PARENTS,
            AttributeValue::Ss(vec!["shardId-000000000001".into()]),
        ),
        (
            CHILDREN,
            AttributeValue::Ss(vec!["shardId-000000000005".into()]),
        ),
        (RANGE_START, s("0")),
        (RANGE_END, s("340282366920938463463374607431768211455")),
        ("throughputKBps", AttributeValue::N("12.5".into())),
        (ENTITY_TYPE, s("LEASE")),
    ]);
    let Row::Lease(lease) = read(&row) else {
        panic!("a lease")
    };
    assert_eq!(lease.owner.as_deref(), Some("next"));
    assert_eq!(lease.holder(), Some("present"));
    assert_eq!((lease.counter, lease.owner_switches), (41, 2));
    assert_eq!(lease.checkpoint.sub_sequence(), 5);
    let pending = PendingCheckpoint {
        position: Position::Latest,
        state: Bytes::from_static(&[1, 2]),
    };
    assert_eq!(lease.pending_checkpoint, Some(pending));
    assert_eq!(
        lease.parents,
        BTreeSet::from(["shardId-000000000001".into()])
    );
    assert_eq!(
        lease.children,
        BTreeSet::from(["shardId-000000000005".into()])
    );
    assert_eq!(lease.range, Some(HashKeyRange::FULL));
}

#[test]
fn a_pending_state_that_the_kcl_wrote_as_a_number_is_no_state() {
    let mut row = with(PENDING, s("SHARD_END"));
    row.insert(PENDING_STATE.to_owned(), number(0));
    let Row::Lease(lease) = read(&row) else {
        panic!("a lease")
    };
    let pending = lease.pending_checkpoint.expect("pending");
    assert_eq!(pending.position, Position::ShardEnd);
    assert!(pending.state.is_empty());
}

#[test]
fn rows_of_other_kinds_are_not_leases() {
    for kind in ["LEADER", "STREAM", "WORKER_METRIC_STATS", "SOMETHING_NEW"] {
        assert_eq!(read(&with(ENTITY_TYPE, s(kind))), Row::Other, "{kind}");
    }
    assert_eq!(read(&with(ENTITY_TYPE, number(1))), Row::Other);
}

#[test]
fn a_row_of_a_multi_stream_application_names_its_stream_in_the_key_and_its_relatives_without() {
    let stream = "123456789012:orders:1767225600";
    let key = |index| ShardId::from(format!("{stream}:{}", ShardId::from_index(index)));
    let range = HashKeyRange::new(HashKey(0), HashKey(9)).expect("in order");
    let lease = Lease {
        parents: BTreeSet::from([key(1)]),
        range: Some(range),
        ..Lease::new(key(3), Position::TrimHorizon)
    };
    let mut item = new_item(&lease);
    assert_eq!(item[LEASE_KEY], s(key(3).as_str()));
    assert_eq!(item[STREAM_NAME], s(stream));
    assert_eq!(item[SHARD], s("shardId-000000000003"));
    let parents = AttributeValue::Ss(vec!["shardId-000000000001".to_owned()]);
    assert_eq!(item[PARENTS], parents);
    assert_eq!(read(&item), Row::Lease(Box::new(lease)));

    item.insert(STREAM_NAME.to_owned(), s("123456789012:refunds:1"));
    let Row::Corrupt(row) = read(&item) else {
        panic!("the key says otherwise");
    };
    assert_eq!(row.attribute, STREAM_NAME);
}

#[test]
fn a_row_that_cannot_be_read_names_the_attribute() {
    let text = |name| with(name, s("x"));
    let mut no_counter = minimal();
    no_counter.remove(COUNTER);
    let mut no_checkpoint = minimal();
    no_checkpoint.remove(CHECKPOINT);
    let mut pending_text = with(PENDING, s("LATEST"));
    pending_text.insert(PENDING_STATE.to_owned(), s("x"));
    let cases = [
        (no_counter, COUNTER),
        (no_checkpoint, CHECKPOINT),
        (text(COUNTER), COUNTER),
        (with(COUNTER, AttributeValue::N("-1".into())), COUNTER),
        (text(CHECKPOINT), CHECKPOINT),
        (with(CHECKPOINT, AttributeValue::Null(true)), CHECKPOINT),
        (text(SUB_SEQUENCE), SUB_SEQUENCE),
        (with(OWNER, number(3)), OWNER),
        (with(OWNER, s("")), OWNER),
        (text(PARENTS), PARENTS),
        (text(RANGE_START), RANGE_START),
        (with(RANGE_START, s("5")), RANGE_END),
        (with(RANGE_END, s("5")), RANGE_START),
        (text(PENDING), PENDING),
        (pending_text, PENDING_STATE),
    ];
    for (row, attribute) in cases {
        let Row::Corrupt(corrupt) = read(&row) else {
            panic!("{attribute}: {row:?}")
        };
        assert_eq!(corrupt.attribute, attribute);
        assert_eq!(corrupt.shard_id.as_str(), "shardId-000000000001");
        assert!(corrupt.to_string().contains(attribute));
    }
}

#[test]
fn a_new_item_reads_back_as_the_lease_and_has_no_empty_set() {
    let mut lease = Lease {
        range: Some(HashKeyRange::FULL),
        ..Lease::new("shardId-000000000009".into(), Position::AtTimestamp)
    };
    let item = new_item(&lease);
    assert!(!item.contains_key(PARENTS));
    assert_eq!(item.get(ENTITY_TYPE), Some(&s("LEASE")));
    assert_eq!(read(&item), Row::Lease(Box::new(lease.clone())));
    lease.parents.insert("shardId-000000000001".into());
    assert_eq!(read(&new_item(&lease)), Row::Lease(Box::new(lease)));
}
