//! Items of a table: put, updated, deleted, each on a condition, and two at a time in a transaction.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, Put,
    ScalarAttributeType, TransactWriteItem,
};

use super::*;

const TABLE: &str = "leases";

/// Keys of one writer.
const KEYS: usize = 3;

/// What the two items of a transaction are called beside the key that the books have them by.
const PAIR: [&str; 2] = ["left", "right"];

pub(super) async fn create(config: &SdkConfig) {
    let attribute = AttributeDefinition::builder().attribute_name("k");
    let attribute = attribute
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap();
    let key = KeySchemaElement::builder()
        .attribute_name("k")
        .key_type(KeyType::Hash);
    let create = Client::new(config).create_table().table_name(TABLE);
    let create = create.billing_mode(BillingMode::PayPerRequest);
    let create = create
        .attribute_definitions(attribute)
        .key_schema(key.build().unwrap());
    create.send().await.unwrap();
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// Attributes that say the same thing twice.
fn long(version: u64) -> AttributeValue {
    text(version.to_string().repeat(300))
}

/// Writes until the server is gone.
pub(super) async fn write(
    config: SdkConfig,
    writer: usize,
    round: usize,
    books: Books,
    count: Arc<AtomicUsize>,
) {
    let client = Client::new(&config);
    for n in 0.. {
        let next = version(round, n);
        let key = format!("{writer}-{}", n % KEYS);
        let done = match known(&books, &key) {
            _ if n % 5 == 4 => {
                let key = format!("{writer}-pair");
                let half = |name: &str| {
                    let put = Put::builder()
                        .table_name(TABLE)
                        .item("k", text(format!("{key}-{name}")));
                    let put = put
                        .item("v", number(next))
                        .item("long", long(next))
                        .build()
                        .unwrap();
                    TransactWriteItem::builder().put(put).build()
                };
                let put = client.transact_write_items();
                let put = put.set_transact_items(Some(PAIR.map(half).to_vec())).send();
                change(&books, &key, Some(next), put).await
            }
            None => {
                let put = client.put_item().table_name(TABLE).item("k", text(&key));
                let put = put.item("v", number(next)).item("long", long(next));
                let put = put.condition_expression("attribute_not_exists(k)").send();
                change(&books, &key, Some(next), put).await
            }
            Some(old) if n % 7 == 3 => {
                let delete = client.delete_item().table_name(TABLE).key("k", text(&key));
                let delete = delete.condition_expression("v = :old");
                let delete = delete
                    .expression_attribute_values(":old", number(old))
                    .send();
                change(&books, &key, None, delete).await
            }
            Some(old) => {
                let update = client.update_item().table_name(TABLE).key("k", text(&key));
                let update = update
                    .update_expression("SET v = :next, #long = :long")
                    .condition_expression("v = :old")
                    .expression_attribute_names("#long", "long")
                    .expression_attribute_values(":next", number(next))
                    .expression_attribute_values(":long", long(next))
                    .expression_attribute_values(":old", number(old));
                change(&books, &key, Some(next), update.send()).await
            }
        };
        if !done {
            return;
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The version of every item. Each is whole, and so is each pair.
pub(super) async fn read(config: &SdkConfig) -> BTreeMap<String, u64> {
    let client = Client::new(config);
    let scan = client.scan().table_name(TABLE).consistent_read(true);
    let items = scan.into_paginator().items().send();
    let mut found = BTreeMap::new();
    let mut halves: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for item in items.try_collect().await.unwrap() {
        let key = item["k"].as_s().unwrap();
        let version = item["v"].as_n().unwrap().parse().unwrap();
        assert_eq!(item["long"], long(version), "{key}");
        match PAIR
            .iter()
            .find_map(|half| key.strip_suffix(&format!("-{half}")))
        {
            Some(pair) => halves.entry(pair.to_owned()).or_default().push(version),
            None => _ = found.insert(key.to_owned(), version),
        }
    }
    for (pair, halves) in halves {
        assert!(
            halves.len() == 2 && halves[0] == halves[1],
            "{pair}: {halves:?}"
        );
        found.insert(pair, halves[0]);
    }
    found
}
