//! Tags of streams and consumers.

use super::*;

const ARN: &str = STREAM_ARN;

async fn tags(kinesis: &Kinesis, arn: &str) -> Value {
    let listed = ok(kinesis, "ListTagsForResource", json!({"ResourceARN": arn})).await;
    listed["Tags"].clone()
}

#[tokio::test(start_paused = true)]
async fn tags_are_added_replaced_listed_and_removed() {
    let kinesis = with_stream(1).await;
    let add = json!({"StreamName": "s", "Tags": {"ü0 _.": "a", "/=+-@:": "", "b": "ü0 _./=+-@:"}});
    ok(&kinesis, "AddTagsToStream", add).await;
    let replace = json!({"StreamARN": ARN, "Tags": {"b": "c"}});
    ok(&kinesis, "AddTagsToStream", replace).await;
    let listed = ok(&kinesis, "ListTagsForStream", json!({"StreamName": "s"})).await;
    assert_eq!(
        listed,
        json!({"Tags": [
            {"Key": "/=+-@:", "Value": ""},
            {"Key": "b", "Value": "c"},
            {"Key": "ü0 _.", "Value": "a"},
        ], "HasMoreTags": false})
    );
    let remove = json!({"StreamName": "s", "TagKeys": ["b", "never there"]});
    ok(&kinesis, "RemoveTagsFromStream", remove).await;
    let untag = json!({"ResourceARN": ARN, "TagKeys": ["/=+-@:"]});
    ok(&kinesis, "UntagResource", untag).await;
    let left = json!([{"Key": "ü0 _.", "Value": "a"}]);
    assert_eq!(tags(&kinesis, ARN).await, left);
}

#[tokio::test(start_paused = true)]
async fn tags_are_listed_page_after_page() {
    let kinesis = with_stream(1).await;
    let add = json!({"ResourceARN": ARN, "Tags": {"a": "1", "b": "2", "c": "3"}});
    ok(&kinesis, "TagResource", add).await;
    let page = json!({"StreamName": "s", "Limit": 2});
    let page = ok(&kinesis, "ListTagsForStream", page).await;
    assert_eq!(page["HasMoreTags"], true);
    assert_eq!(page["Tags"][1]["Key"], "b");
    let rest = json!({"StreamName": "s", "ExclusiveStartTagKey": "b"});
    let rest = ok(&kinesis, "ListTagsForStream", rest).await;
    let expected = json!({"Tags": [{"Key": "c", "Value": "3"}], "HasMoreTags": false});
    assert_eq!(rest, expected);
}

#[tokio::test(start_paused = true)]
async fn tags_given_at_creation_are_those_of_the_stream_and_of_the_consumer() {
    let kinesis = kinesis();
    let create = json!({"StreamName": "s", "ShardCount": 1, "Tags": {"of": "stream"}});
    ok(&kinesis, "CreateStream", create).await;
    let register = json!({"StreamARN": ARN, "ConsumerName": "c", "Tags": {"of": "consumer"}});
    let consumer = ok(&kinesis, "RegisterStreamConsumer", register).await;
    let consumer = consumer["Consumer"]["ConsumerARN"].as_str().unwrap();
    let of = |whose| json!([{"Key": "of", "Value": whose}]);
    assert_eq!(tags(&kinesis, ARN).await, of("stream"));
    assert_eq!(tags(&kinesis, consumer).await, of("consumer"));
    let untag = json!({"ResourceARN": consumer, "TagKeys": ["of"]});
    ok(&kinesis, "UntagResource", untag).await;
    assert_eq!(tags(&kinesis, consumer).await, json!([]));
    assert_eq!(tags(&kinesis, ARN).await, of("stream"));
}

#[tokio::test(start_paused = true)]
async fn more_than_fifty_tags_are_refused_and_replacing_one_of_fifty_is_not() {
    let kinesis = with_stream(1).await;
    let fifty: serde_json::Map<String, Value> =
        (0..50).map(|at| (format!("k{at}"), json!("v"))).collect();
    let add = json!({"StreamName": "s", "Tags": fifty});
    ok(&kinesis, "AddTagsToStream", add).await;
    let replace = json!({"StreamName": "s", "Tags": {"k7": "w"}});
    ok(&kinesis, "AddTagsToStream", replace).await;
    assert_refused(
        &kinesis,
        "AddTagsToStream",
        json!({"StreamName": "s", "Tags": {"one more": ""}}),
        "InvalidArgumentException",
        "Failed to add tags to stream s under account 000000000000 because a given stream cannot \
         have more than 50 tags associated with it.",
    )
    .await;
    let tags: serde_json::Map<String, Value> =
        (0..51).map(|at| (format!("k{at}"), json!("v"))).collect();
    let create = json!({"StreamName": "t", "ShardCount": 1, "Tags": tags});
    let (code, _) = refused(&kinesis, "CreateStream", create).await;
    assert_eq!(code, "InvalidArgumentException");
}

#[tokio::test(start_paused = true)]
async fn characters_that_the_service_does_not_take_are_refused_in_its_words() {
    let kinesis = with_stream(1).await;
    let invalid = "Some tags contain invalid characters. Valid characters: Unicode letters, \
                   digits, white space, _ . / = + - % @ :.";
    for tags in [
        json!({"abc;def": "1"}),
        json!({"abc\tdef": "1"}),
        json!({"a": "abc\ndef"}),
        json!({"a": "b,c"}),
    ] {
        let add = json!({"StreamName": "s", "Tags": tags});
        let code = "InvalidArgumentException";
        assert_refused(&kinesis, "AddTagsToStream", add, code, invalid).await;
    }
    assert_refused(
        &kinesis,
        "AddTagsToStream",
        json!({"StreamName": "s", "Tags": {"abc%def": "1"}}),
        "InvalidArgumentException",
        "Failed to add tags to stream s under account 000000000000 because some tags contained \
         illegal characters. The allowed characters are Unicode letters, white-spaces, \
         '_',',','/','=','+','-','@',':'.",
    )
    .await;
    assert_refused(
        &kinesis,
        "RemoveTagsFromStream",
        json!({"StreamName": "s", "TagKeys": ["a;b"]}),
        "InvalidArgumentException",
        invalid,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_models_constraints_of_tags_are_told_together() {
    assert_refused(
        &kinesis(),
        "AddTagsToStream",
        json!({"StreamName": "", "Tags": {}}),
        "ValidationException",
        "3 validation errors detected: Value '' at 'streamName' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value '' at \
         'streamName' failed to satisfy constraint: Member must have length greater than or equal \
         to 1; Value '{}' at 'tags' failed to satisfy constraint: Member must have length greater \
         than or equal to 1",
    )
    .await;
    assert_refused(
        &kinesis(),
        "RemoveTagsFromStream",
        json!({"StreamName": "s", "TagKeys": ["ok", ""]}),
        "ValidationException",
        "1 validation error detected: Value '[ok, ]' at 'tagKeys' failed to satisfy constraint: \
         Member must satisfy constraint: [Member must have length less than or equal to 128, \
         Member must have length greater than or equal to 1]",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_has_no_tags() {
    let kinesis = with_stream(1).await;
    let missing = "Stream t under account 000000000000 not found.";
    let code = "ResourceNotFoundException";
    let list = json!({"StreamName": "t"});
    assert_refused(&kinesis, "ListTagsForStream", list, code, missing).await;
    for arn in [
        ARN.replace("stream/s", "stream/t"),
        format!("{ARN}/consumer/c:1700000000"),
        ARN.replace("stream/s", "queue/q"),
    ] {
        let list = json!({"ResourceARN": arn});
        assert_eq!(refused(&kinesis, "ListTagsForResource", list).await.0, code);
    }
}
