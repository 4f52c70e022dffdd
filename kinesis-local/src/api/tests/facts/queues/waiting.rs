//! Receives that wait, and what wakes them.

use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_receive_waits_until_a_record_is_written() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    let began = kinesis.clock().now();
    let waiting = tokio::spawn({
        let (kinesis, arn) = (kinesis.clone(), arn.clone());
        async move {
            let body = json!({"QueueARN": arn, "WaitTimeSeconds": 20});
            ok(&kinesis, RECEIVE, body).await
        }
    });
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!waiting.is_finished());
    put(&kinesis, "k", "a").await;
    let received = waiting.await.unwrap();
    assert_eq!(data(received["QueueRecords"].as_array().unwrap()), ["a"]);
    assert_eq!(kinesis.clock().now() - began, Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_receive_waits_until_a_timeout_ends_or_its_time_is_over() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({"VisibilityTimeoutSeconds": 5})).await;
    put(&kinesis, "k", "a").await;
    receive(&kinesis, RECEIVE, &arn).await;
    let began = kinesis.clock().now();
    let body = json!({"QueueARN": arn, "WaitTimeSeconds": 20, "VisibilityTimeoutSeconds": 60});
    let received = ok(&kinesis, RECEIVE, body).await;
    assert_eq!(received["QueueRecords"].as_array().unwrap().len(), 1);
    assert_eq!(kinesis.clock().now() - began, Duration::from_secs(5));
    let nothing = ok(&kinesis, RECEIVE, json!({"QueueARN": arn})).await;
    assert_eq!(nothing, json!({"QueueRecords": []}));
    let waited = kinesis.clock().now() - began;
    assert_eq!(waited, Duration::from_secs(5 + 9), "9 s by default");
}

#[tokio::test(start_paused = true)]
async fn a_record_made_visible_by_its_receiver_wakes_who_waits() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    put(&kinesis, "k", "a").await;
    let first = receive(&kinesis, RECEIVE, &arn).await;
    let waiting = tokio::spawn({
        let (kinesis, arn) = (kinesis.clone(), arn.clone());
        async move { receive(&kinesis, RECEIVE, &arn).await }
    });
    tokio::task::yield_now().await;
    let mut entries = entries(&first);
    entries[0]["VisibilityTimeoutSeconds"] = json!(0);
    let (done, _) = hand(&kinesis, "UpdateQueueRecordsVisibility", &arn, entries).await;
    assert_eq!(done, 1);
    let began = kinesis.clock().now();
    assert_eq!(data(&waiting.await.unwrap()), ["a"]);
    assert_eq!(kinesis.clock().now(), began);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_that_went_away_had_taken_comes_again() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({"VisibilityTimeoutSeconds": 3})).await;
    let waiting = tokio::spawn({
        let (kinesis, arn) = (kinesis.clone(), arn.clone());
        async move { receive(&kinesis, RECEIVE, &arn).await }
    });
    tokio::task::yield_now().await;
    waiting.abort();
    put(&kinesis, "k", "a").await;
    assert!(waiting.await.unwrap_err().is_cancelled());
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(data(&receive(&kinesis, RECEIVE, &arn).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_at_a_queue_that_is_deleted_or_at_a_service_that_closes_is_told() {
    let kinesis = kinesis();
    let arn = with_queue(&kinesis, json!({})).await;
    let other = queue(&kinesis, "other", "LATEST", json!({})).await;
    let wait = |arn: &str| {
        let (kinesis, body) = (kinesis.clone(), json!({"QueueARN": arn}));
        tokio::spawn(async move { answer(&kinesis, RECEIVE, &body).await })
    };
    let (at_deleted, at_closed) = (wait(&arn), wait(&other));
    tokio::task::yield_now().await;
    let began = kinesis.clock().now();
    ok(&kinesis, "DeleteQueue", json!({"QueueARN": arn})).await;
    let (status, told) = at_deleted.await.unwrap();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(told["__type"], "ResourceNotFoundException");
    kinesis.close().await;
    let told = at_closed.await.unwrap();
    assert_eq!(told, (StatusCode::OK, json!({"QueueRecords": []})));
    assert_eq!(kinesis.clock().now(), began);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_when_the_clock_is_advanced() {
    let clock = Clock::starting_at(NOW_MS).advanceable();
    let options = KinesisOptions {
        clock: clock.clone(),
        ..options()
    };
    let kinesis = Kinesis::open(options).unwrap();
    let arn = with_queue(&kinesis, json!({})).await;
    put(&kinesis, "k", "a").await;
    receive(&kinesis, RECEIVE, &arn).await;
    let waiting = tokio::spawn({
        let (kinesis, body) = (
            kinesis.clone(),
            json!({"QueueARN": arn, "WaitTimeSeconds": 20}),
        );
        async move { ok(&kinesis, RECEIVE, body).await }
    });
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(30)).unwrap();
    let began = clock.now();
    let received = waiting.await.unwrap();
    assert_eq!(data(received["QueueRecords"].as_array().unwrap()), ["a"]);
    assert_eq!(clock.now(), began);
}
