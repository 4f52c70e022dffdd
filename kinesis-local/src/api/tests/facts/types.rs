//! Values of the wrong type, told before anything else about the request.

use super::*;

const CODE: &str = "SerializationException";

#[tokio::test(start_paused = true)]
async fn each_wrong_type_is_told_in_the_services_words() {
    let kinesis = kinesis();
    let big =
        "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to";
    let bool = "class java.lang.Boolean can not be converted to";
    let string = "class java.lang.String can not be converted to";
    let list = "Start of list found where not expected";
    let map = "Start of structure or map found where not expected.";
    let text_for_bool = "'TEXT' can not be converted to an Boolean".to_owned();
    for (operation, member, value, told) in [
        (
            "DescribeStream",
            "StreamName",
            json!(true),
            format!("{bool} an String"),
        ),
        (
            "DescribeStream",
            "StreamName",
            json!(23),
            format!("{big} an String"),
        ),
        (
            "DescribeStream",
            "StreamName",
            json!(-34.56),
            format!("{big} an String"),
        ),
        ("DescribeStream", "StreamName", json!([]), list.to_owned()),
        ("DescribeStream", "StreamName", json!({}), map.to_owned()),
        (
            "CreateStream",
            "ShardCount",
            json!("23"),
            format!("{string} an Integer"),
        ),
        (
            "CreateStream",
            "ShardCount",
            json!(true),
            format!("{bool} an Integer"),
        ),
        ("CreateStream", "ShardCount", json!([]), list.to_owned()),
        ("CreateStream", "ShardCount", json!({}), map.to_owned()),
        (
            "DeleteStream",
            "EnforceConsumerDeletion",
            json!(1),
            format!("{big} an Boolean"),
        ),
        (
            "DeleteStream",
            "EnforceConsumerDeletion",
            json!("text"),
            text_for_bool,
        ),
        (
            "DeleteStream",
            "EnforceConsumerDeletion",
            json!([]),
            list.to_owned(),
        ),
        (
            "PutRecords",
            "Records",
            json!("23"),
            "Expected list or null".to_owned(),
        ),
        (
            "PutRecords",
            "Records",
            json!(23),
            "Expected list or null".to_owned(),
        ),
        ("PutRecords", "Records", json!({}), map.to_owned()),
        (
            "PutRecords",
            "Records",
            json!([1]),
            "Expected null".to_owned(),
        ),
        (
            "PutRecords",
            "Records",
            json!([{"PartitionKey": 1}]),
            format!("{big} an String"),
        ),
        (
            "AddTagsToStream",
            "Tags",
            json!(1),
            "Expected map or null".to_owned(),
        ),
        ("AddTagsToStream", "Tags", json!([]), list.to_owned()),
        (
            "AddTagsToStream",
            "Tags",
            json!({"a": 1}),
            format!("{big} an String"),
        ),
        (
            "CreateStream",
            "StreamModeDetails",
            json!(23),
            "Expected null".to_owned(),
        ),
        (
            "CreateStream",
            "StreamModeDetails",
            json!([]),
            list.to_owned(),
        ),
        ("PutRecord", "Data", json!(true), format!("{bool} a Blob")),
        ("PutRecord", "Data", json!(23), format!("{big} a Blob")),
        (
            "GetShardIterator",
            "Timestamp",
            json!("x"),
            format!("{string} milliseconds since epoch"),
        ),
        (
            "GetShardIterator",
            "Timestamp",
            json!(true),
            format!("{bool} milliseconds since epoch"),
        ),
    ] {
        // The other members are missing: constraints would tell so, if they came first.
        assert_refused(&kinesis, operation, json!({member: value}), CODE, &told).await;
    }
}

#[tokio::test(start_paused = true)]
async fn integers_clamp_and_unknown_members_are_dropped() {
    let kinesis = with_stream(1).await;
    for (given, shown) in [(1_i64 << 40, i32::MAX), (i64::MIN / 2, i32::MIN)] {
        let (code, text) = refused(&kinesis, "GetRecords", json!({"Limit": given})).await;
        assert_eq!(code, "ValidationException");
        assert!(
            text.contains(&format!("Value '{shown}' at 'limit' failed")),
            "{text}"
        );
    }
    let unknown = json!({"StreamName": "s", "Unknown": [{"a": 1.5}], "limit": "no such member"});
    ok(&kinesis, "DescribeStream", unknown).await;
    let null = json!({"StreamName": "s", "Limit": null, "ExclusiveStartShardId": null});
    ok(&kinesis, "DescribeStream", null).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_ten_constraints_are_told_and_entries_count_from_one() {
    let entries = vec![json!({"PartitionKey": "", "Data": ""}); 12];
    let failed = (1..=10).map(|at| {
        format!(
            "Value '' at 'records.{at}.member.partitionKey' failed to satisfy constraint: Member \
             must have length greater than or equal to 1"
        )
    });
    let failed: Vec<String> = failed.collect();
    let text = format!("10 validation errors detected: {}", failed.join("; "));
    let body = json!({"StreamName": "s", "Records": entries});
    assert_refused(&kinesis(), "PutRecords", body, "ValidationException", &text).await;
}
