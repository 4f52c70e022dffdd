//! What operations changed is there after a crash.

use std::path::Path;

use super::*;

const ARN: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

fn open(dir: &Path) -> Kinesis {
    Kinesis::open(KinesisOptions {
        data_dir: Some(dir.to_owned()),
        ..options()
    })
    .unwrap()
}

#[tokio::test]
async fn tags_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let kinesis = open(dir.path());
    let create = json!({"StreamName": "s", "ShardCount": 1, "Tags": {"a": "1", "b": "2"}});
    ok(&kinesis, "CreateStream", create).await;
    let register = json!({"StreamARN": ARN, "ConsumerName": "c", "Tags": {"x": "1", "y": "2"}});
    let consumer = ok(&kinesis, "RegisterStreamConsumer", register).await;
    let consumer = consumer["Consumer"]["ConsumerARN"].clone();
    let tag = json!({"ResourceARN": ARN, "Tags": {"c": "3"}});
    ok(&kinesis, "TagResource", tag).await;
    let untag = json!({"ResourceARN": ARN, "TagKeys": ["a"]});
    ok(&kinesis, "UntagResource", untag).await;
    let untag = json!({"ResourceARN": consumer, "TagKeys": ["x"]});
    ok(&kinesis, "UntagResource", untag).await;
    drop(kinesis); // without a close: as in a crash
    let kinesis = open(dir.path());
    let tags = ok(&kinesis, "ListTagsForResource", json!({"ResourceARN": ARN})).await;
    let expected = json!([{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "3"}]);
    assert_eq!(tags["Tags"], expected);
    let tags = json!({"ResourceARN": consumer});
    let tags = ok(&kinesis, "ListTagsForResource", tags).await;
    assert_eq!(tags["Tags"], json!([{"Key": "y", "Value": "2"}]));
}
