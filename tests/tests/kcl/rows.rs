//! The rows of a lease table as they lie in DynamoDB, and what may become of them.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::StreamId;
use tests::World;
use tests::world::APPLICATION;

use crate::streams::Reads;

/// An attribute that neither the KCL nor we know.
const STRANGE: &str = "ofALaterVersion";

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) type Rows = BTreeMap<String, Item>;

/// Text in a row.
pub(super) fn text<'a>(row: &'a Item, name: &str) -> Option<&'a str> {
    row.get(name)?.as_s().ok().map(String::as_str)
}

/// The rows of the lease table by key.
pub(super) async fn rows(world: &World) -> Rows {
    rows_in(world, APPLICATION).await
}

async fn rows_in(world: &World, table: &str) -> Rows {
    let scan = world.dynamodb.scan().table_name(table).send().await;
    let items = scan.expect("the table is read").items.unwrap_or_default();
    let key = |item: &Item| text(item, "leaseKey").expect("a key").to_owned();
    items.into_iter().map(|item| (key(&item), item)).collect()
}

/// Leases of the KCL 2 and of the first KCL 3 do not say what they are.
pub(super) fn is_lease(row: &Item) -> bool {
    match text(row, "entityType") {
        Some(kind) => kind == "LEASE",
        None => text(row, "leaseKey").is_some_and(|key| key.starts_with("shardId-")),
    }
}

/// Gives every lease an attribute that nobody knows.
pub(super) async fn add_strange_attributes(world: &World) {
    for (key, _) in rows(world)
        .await
        .into_iter()
        .filter(|(_, row)| is_lease(row))
    {
        let update = world.dynamodb.update_item().table_name(APPLICATION);
        let updated = update
            .key("leaseKey", AttributeValue::S(key.clone()))
            .update_expression("SET #strange = :key")
            .expression_attribute_names("#strange", STRANGE)
            .expression_attribute_values(":key", AttributeValue::S(key))
            .send();
        updated.await.expect("the row is updated");
    }
}

/// The KCL 2 takes every row for a lease, and does not start where one has no counter. What is deleted
/// here, lock, worker metrics and states, is made anew by whoever needs it.
pub(super) async fn leave_only_leases(world: &World) {
    let others = rows(world).await.into_iter();
    for (key, _) in others.filter(|(_, row)| !is_lease(row)) {
        let delete = world.dynamodb.delete_item().table_name(APPLICATION);
        let delete = delete.key("leaseKey", AttributeValue::S(key));
        delete.send().await.expect("the row is deleted");
    }
}

/// What a holder of a lease changes. Only the owner, and our mark of who that is, may be missing
/// afterwards.
const MOVING: [&str; 8] = [
    "acquisitionId",
    "checkpoint",
    "checkpointSubSequenceNumber",
    "childShardIds",
    "leaseCounter",
    "leaseOwner",
    "ownerSwitchesSinceCheckpoint",
    "throughputKBps",
];

/// Fails if a turn of ours changed a row that is not a lease, or if any turn lost an attribute of a
/// lease or changed one that is not the holder's to change.
pub(super) fn assert_rows_kept(by_kcl: bool, expects_others: bool, before: &Rows, after: &Rows) {
    let others = before.iter().filter(|(_, row)| !is_lease(row));
    // The KCL goes on writing its own; for us they are somebody else's.
    for (key, row) in others.clone().filter(|_| !by_kcl) {
        assert_eq!(after.get(key), Some(row), "the row of {key}");
    }
    assert!(
        by_kcl || before.is_empty() || others.count() > 0 || !expects_others,
        "the KCL left no rows of its own"
    );
    for (key, row) in before.iter().filter(|(_, row)| is_lease(row)) {
        let now = after.get(key).expect("nobody deletes leases here");
        for (name, value) in row {
            let kept = match name.as_str() {
                "leaseOwner" | "acquisitionId" => true,
                moving if MOVING.contains(&moving) => now.contains_key(name),
                _ => now.get(name) == Some(value),
            };
            let now = now.get(name);
            assert!(kept, "{name} of {key} was {value:?}, is {now:?}");
        }
    }
}

/// What a new lease has, or comes to have once it is held and read; all else is as its shard is.
const LIVELY: [&str; 7] = [
    "checkpoint",
    "checkpointOwner",
    "checkpointSubSequenceNumber",
    "leaseCounter",
    "leaseOwner",
    "ownerSwitchesSinceCheckpoint",
    "throughputKBps",
];

/// Fails unless we make the same leases of the same streams as the KCL did: the same keys, attributes and
/// types, and the same values of all but what moves. `ours` is the name of the table that we made.
pub(super) async fn assert_made_alike(world: &World, ours: &str) {
    let leases =
        |rows: Rows| -> Rows { rows.into_iter().filter(|(_, row)| is_lease(row)).collect() };
    let kcl = leases(rows(world).await);
    let ours = leases(rows_in(world, ours).await);
    let keys = |rows: &Rows| rows.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(&kcl), "the keys of the leases");
    for (key, row) in &kcl {
        let made = &ours[key];
        for (name, value) in row {
            let Some(made) = made.get(name) else {
                let comes = ["checkpointOwner", "leaseOwner", "throughputKBps"];
                assert!(
                    comes.contains(&name.as_str()),
                    "{key} of ours has no {name}"
                );
                continue;
            };
            let alike = if LIVELY.contains(&name.as_str()) {
                std::mem::discriminant(made) == std::mem::discriminant(value)
            } else {
                made == value
            };
            assert!(
                alike,
                "{name} of {key}: ours is {made:?}, the KCL's {value:?}"
            );
        }
        for name in made.keys() {
            let known = row.contains_key(name) || name == "acquisitionId";
            assert!(known, "{key} of ours has {name}");
        }
    }
}

/// Fails unless `after` has the leases that `before` had, with all their attributes, as those of an application
/// that reads so many streams. What names no stream is a lease of `stream`; all others stay.
pub(super) fn assert_converted(stream: &StreamId, to: Reads, before: &Rows, after: &Rows) {
    assert_eq!(after.len(), before.len(), "as many rows");
    let mut converted = 0;
    for (key, row) in before {
        let mut expected = row.clone();
        let shard = key.strip_prefix(&format!("{stream}:"));
        let new = match to {
            Reads::Two if is_lease(row) && !key.contains(':') => {
                for (name, value) in [("streamName", stream.as_str()), ("shardId", key)] {
                    expected.insert(name.to_owned(), AttributeValue::S(value.to_owned()));
                }
                Some(format!("{stream}:{key}"))
            }
            Reads::One if shard.is_some() => {
                expected.remove("streamName");
                expected.remove("shardId");
                shard.map(str::to_owned)
            }
            _ => None,
        };
        let Some(new) = new else {
            assert_eq!(after.get(key), Some(row), "the row of {key}");
            continue;
        };
        converted += 1;
        let mut now = after.get(&new).expect("the converted lease").clone();
        now.remove("leaseCounter");
        for name in ["leaseCounter", "leaseOwner", "checkpointOwner"] {
            expected.remove(name);
        }
        expected.insert("leaseKey".to_owned(), AttributeValue::S(new));
        assert_eq!(now, expected, "the lease of {key}");
    }
    assert!(converted > 0, "nothing to convert");
}
