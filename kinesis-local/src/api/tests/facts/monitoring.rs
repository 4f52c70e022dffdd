//! EnableEnhancedMonitoring and DisableEnhancedMonitoring.

use super::*;

fn metrics(names: &[&str]) -> Value {
    json!({"StreamName": "s", "ShardLevelMetrics": names})
}

const ALL: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "OutgoingBytes",
    "OutgoingRecords",
    "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded",
    "IteratorAgeMilliseconds",
];

#[tokio::test(start_paused = true)]
async fn monitoring_tells_what_it_was_and_what_it_is() {
    let kinesis = with_stream(1).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let answer = |current: &[&str], desired: &[&str]| {
        json!({"StreamName": "s", "CurrentShardLevelMetrics": current,
            "DesiredShardLevelMetrics": desired, "StreamARN": arn})
    };
    let two = ["IncomingBytes", "OutgoingBytes"];
    assert_eq!(
        ok(&kinesis, "EnableEnhancedMonitoring", metrics(&two)).await,
        answer(&[], &two)
    );
    let summary = json!({"StreamName": "s"});
    let summary = ok(&kinesis, "DescribeStreamSummary", summary).await;
    assert_eq!(
        summary["StreamDescriptionSummary"]["EnhancedMonitoring"],
        json!([{"ShardLevelMetrics": two}])
    );
    let one = metrics(&["OutgoingBytes"]);
    assert_eq!(
        ok(&kinesis, "DisableEnhancedMonitoring", one).await,
        answer(&two, &["IncomingBytes"])
    );
    assert_eq!(
        ok(&kinesis, "EnableEnhancedMonitoring", metrics(&["ALL"])).await,
        answer(&["IncomingBytes"], &ALL)
    );
    assert_eq!(
        ok(&kinesis, "DisableEnhancedMonitoring", metrics(&["ALL"])).await,
        answer(&ALL, &[])
    );
}
