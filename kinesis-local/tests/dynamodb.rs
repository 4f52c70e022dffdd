//! DynamoDB on kinesis-local, by the official SDK client: what a lease table needs.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(feature = "dynamodb")]

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, GlobalSecondaryIndex,
    KeySchemaElement, KeyType, PointInTimeRecoverySpecification, PointInTimeRecoveryStatus,
    Projection, ProjectionType, Put, ReturnValue, ReturnValuesOnConditionCheckFailure,
    ScalarAttributeType, TransactWriteItem,
};
use kinesis_local::KinesisLocal;

const TABLE: &str = "leases";

async fn in_memory() -> Client {
    Client::new(&KinesisLocal::builder().start().await.unwrap().sdk_config())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A lease table as the KCL makes it: hash key `leaseKey`, an index by owner.
async fn create_table(client: &Client) {
    let attribute = |name: &str| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .unwrap()
    };
    let hash = |name: &str| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(KeyType::Hash)
            .build()
            .unwrap()
    };
    let by_owner = GlobalSecondaryIndex::builder()
        .index_name("by-owner")
        .key_schema(hash("leaseOwner"))
        .projection(
            Projection::builder()
                .projection_type(ProjectionType::KeysOnly)
                .build(),
        )
        .build()
        .unwrap();
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("leaseKey"))
        .attribute_definitions(attribute("leaseOwner"))
        .key_schema(hash("leaseKey"))
        .global_secondary_indexes(by_owner)
        .send()
        .await
        .unwrap();
}

async fn put_lease(client: &Client, key: &str, owner: &str, counter: u64) {
    client
        .put_item()
        .table_name(TABLE)
        .item("leaseKey", text(key))
        .item("leaseOwner", text(owner))
        .item("leaseCounter", number(counter))
        .send()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_only_by_who_knows_its_counter() {
    let client = in_memory().await;
    create_table(&client).await;
    put_lease(&client, "shardId-000000000000", "a", 7).await;
    let renew = |expected: u64| {
        client
            .update_item()
            .table_name(TABLE)
            .key("leaseKey", text("shardId-000000000000"))
            .update_expression("SET leaseCounter = :next")
            .condition_expression("leaseCounter = :expected")
            .expression_attribute_values(":expected", number(expected))
            .expression_attribute_values(":next", number(expected + 1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
    };
    let renewed = renew(7).await.unwrap();
    assert_eq!(renewed.attributes().unwrap()["leaseCounter"], number(8));
    let refused = renew(7).await.unwrap_err().into_service_error();
    assert!(
        refused.is_conditional_check_failed_exception(),
        "{refused:?}"
    );
    let aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(
        refused,
    ) = refused
    else {
        unreachable!("checked above")
    };
    assert_eq!(refused.item().unwrap()["leaseCounter"], number(8));
}

#[tokio::test(start_paused = true)]
async fn the_leases_of_an_owner_are_found_by_the_index() {
    let client = in_memory().await;
    create_table(&client).await;
    put_lease(&client, "one", "a", 1).await;
    put_lease(&client, "two", "b", 1).await;
    let found = client
        .query()
        .table_name(TABLE)
        .index_name("by-owner")
        .key_condition_expression("leaseOwner = :owner")
        .expression_attribute_values(":owner", text("b"))
        .send()
        .await
        .unwrap();
    let keys: Vec<_> = found.items().iter().map(|item| &item["leaseKey"]).collect();
    assert_eq!(keys, [&text("two")]);
}

#[tokio::test(start_paused = true)]
async fn a_scan_visits_every_lease_once_across_its_pages() {
    let client = in_memory().await;
    create_table(&client).await;
    for n in 0..25 {
        put_lease(&client, &format!("lease-{n:02}"), "a", n).await;
    }
    let pages: Vec<_> = client
        .scan()
        .table_name(TABLE)
        .limit(10)
        .into_paginator()
        .send()
        .try_collect()
        .await
        .unwrap();
    let mut keys: Vec<_> = pages
        .iter()
        .flat_map(|page| page.items())
        .map(|item| item["leaseKey"].as_s().unwrap().clone())
        .collect();
    keys.sort();
    let expected: Vec<_> = (0..25).map(|n| format!("lease-{n:02}")).collect();
    assert_eq!(keys, expected);
    assert_eq!(pages.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_writes_all_or_nothing_and_says_why() {
    let client = in_memory().await;
    create_table(&client).await;
    put_lease(&client, "there", "a", 1).await;
    let put = Put::builder()
        .table_name(TABLE)
        .item("leaseKey", text("new"))
        .build()
        .unwrap();
    let check = ConditionCheck::builder()
        .table_name(TABLE)
        .key("leaseKey", text("there"))
        .condition_expression("leaseCounter = :expected")
        .expression_attribute_values(":expected", number(2))
        .build()
        .unwrap();
    let refused = client
        .transact_write_items()
        .transact_items(TransactWriteItem::builder().put(put).build())
        .transact_items(TransactWriteItem::builder().condition_check(check).build())
        .send()
        .await
        .unwrap_err()
        .into_service_error();
    let aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(refused) = refused
    else {
        panic!("{refused:?}")
    };
    let codes: Vec<_> = refused
        .cancellation_reasons()
        .iter()
        .map(|reason| reason.code().unwrap())
        .collect();
    assert_eq!(codes, ["None", "ConditionalCheckFailed"]);
    let new = client
        .get_item()
        .table_name(TABLE)
        .key("leaseKey", text("new"))
        .send()
        .await
        .unwrap();
    assert!(new.item().is_none());
}

async fn recovery(client: &Client) -> PointInTimeRecoveryStatus {
    let described = client
        .describe_continuous_backups()
        .table_name(TABLE)
        .send()
        .await
        .unwrap();
    let backups = described.continuous_backups_description().unwrap();
    let recovery = backups.point_in_time_recovery_description().unwrap();
    recovery.point_in_time_recovery_status().unwrap().clone()
}

async fn switch_recovery(client: &Client, enabled: bool) {
    let wanted = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(enabled)
        .build()
        .unwrap();
    client
        .update_continuous_backups()
        .table_name(TABLE)
        .point_in_time_recovery_specification(wanted)
        .send()
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn point_in_time_recovery_is_remembered_per_table_and_ends_with_it() {
    let client = in_memory().await;
    create_table(&client).await;
    assert_eq!(recovery(&client).await, PointInTimeRecoveryStatus::Disabled);
    switch_recovery(&client, true).await;
    assert_eq!(recovery(&client).await, PointInTimeRecoveryStatus::Enabled);
    client
        .delete_table()
        .table_name(TABLE)
        .send()
        .await
        .unwrap();
    let gone = client
        .describe_continuous_backups()
        .table_name(TABLE)
        .send()
        .await;
    assert!(
        gone.unwrap_err()
            .into_service_error()
            .is_table_not_found_exception()
    );
    create_table(&client).await;
    assert_eq!(recovery(&client).await, PointInTimeRecoveryStatus::Disabled);
}

#[tokio::test(start_paused = true)]
async fn limits_and_endpoints_are_answered() {
    let client = in_memory().await;
    let limits = client.describe_limits().send().await.unwrap();
    assert_eq!(limits.table_max_read_capacity_units(), Some(40_000));
    let endpoints = client.describe_endpoints().send().await.unwrap();
    assert_eq!(endpoints.endpoints().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_table_and_an_unknown_operation_have_their_own_errors() {
    let client = in_memory().await;
    let missing = client.describe_table().table_name("none").send().await;
    assert!(
        missing
            .unwrap_err()
            .into_service_error()
            .is_resource_not_found_exception()
    );
    let unknown = client.list_global_tables().send().await.unwrap_err();
    let status = unknown.raw_response().unwrap().status().as_u16();
    let code = aws_sdk_dynamodb::error::ProvideErrorMetadata::code(&unknown)
        .unwrap_or_default()
        .to_owned();
    assert_eq!((status, code.as_str()), (400, "UnknownOperationException"));
}

#[tokio::test(start_paused = true)]
async fn tables_and_their_state_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = || KinesisLocal::builder().data_dir(directory.path()).start();
    let first = start().await.unwrap();
    let client = Client::new(&first.sdk_config());
    create_table(&client).await;
    put_lease(&client, "one", "a", 3).await;
    switch_recovery(&client, true).await;
    first.shutdown().await;

    let refused = client.list_tables().send().await.unwrap_err();
    assert!(refused.as_service_error().is_none(), "{refused:?}");

    let second = start().await.unwrap();
    let client = Client::new(&second.sdk_config());
    let lease = client
        .get_item()
        .table_name(TABLE)
        .key("leaseKey", text("one"))
        .send()
        .await
        .unwrap();
    assert_eq!(lease.item().unwrap()["leaseCounter"], number(3));
    assert_eq!(recovery(&client).await, PointInTimeRecoveryStatus::Enabled);
}

#[tokio::test(start_paused = true)]
async fn calls_from_many_tasks_are_all_answered() {
    let client = in_memory().await;
    create_table(&client).await;
    let calls: Vec<_> = (0..64)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { put_lease(&client, &format!("lease-{n}"), "a", n).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let all = client.scan().table_name(TABLE).send().await.unwrap();
    assert_eq!(all.count(), 64);
}
