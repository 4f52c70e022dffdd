//! Clients that stop half-way, or do not read, and how long they are waited for.

use super::*;

/// For clients that keep nothing waiting: as short as a test has the time for, and long for a busy machine.
const HEAD_TIMEOUT_MS: u64 = 2_000;

/// A server that waits so long for a head, and for nobody's body for long.
async fn impatient(head_timeout_ms: u64) -> KinesisLocal {
    let mut settings = kinesis_local::Settings::default();
    settings.listen = Some(LOOPBACK);
    settings.head_timeout_ms = head_timeout_ms;
    settings.body_timeout_ms = 100;
    KinesisLocal::builder()
        .settings(settings)
        .start()
        .await
        .unwrap()
}

/// Sends `text` and gives what comes back until the server closes.
async fn until_closed(local: &KinesisLocal, text: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn half_a_request_is_cut_off_in_time() {
    let local = impatient(100).await;
    for half in [
        "",
        "POST / HT",
        "POST / HTTP/1.1\r\nhost: a\r\nx-slow: ",
        "PRI * HTTP/2.0\r\n\r\nS",
    ] {
        // That it closes at all is the promise: without a time limit this waits for ever.
        let answer = until_closed(&local, half).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{half:?}"
        );
    }
}

#[tokio::test]
async fn half_a_body_is_refused_in_the_encoding_of_the_request() {
    let local = impatient(HEAD_TIMEOUT_MS).await;
    for (kind, begin) in [
        (
            "application/x-amz-json-1.1",
            &br#"{"__type":"RequestTimeoutException""#[..],
        ),
        (
            "application/x-amz-cbor-1.1",
            &b"\xbf\x66__type\x77RequestTimeoutException"[..],
        ),
    ] {
        let half = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             x-amz-target: Kinesis_20131202.PutRecords\r\ncontent-length: 1000\r\n\r\n{{"
        );
        let answer = until_closed(&local, &half).await;
        assert!(answer.starts_with(b"HTTP/1.1 408"), "{kind}");
        let at = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        assert!(answer[at + 4..].starts_with(begin), "{kind}");
    }
}

#[tokio::test]
async fn an_http2_connection_that_asks_nothing_more_is_closed_in_time() {
    let local = impatient(HEAD_TIMEOUT_MS).await;
    let list = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    let (mut sender, ended) = http2_connection(&local).await;
    let answer = whole(sender.send_request(list).await.unwrap()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // The client answers pings and keeps its handle: without a time limit this waits for ever.
    tokio::time::timeout(Duration::from_secs(50), ended)
        .await
        .unwrap()
        .unwrap();
    drop(sender);
}

#[tokio::test]
async fn a_subscription_is_no_idle_connection() {
    let local = impatient(HEAD_TIMEOUT_MS).await;
    let kinesis = aws_sdk_kinesis::Client::new(&local.sdk_config());
    let create = kinesis.create_stream().stream_name("s").shard_count(1);
    create.send().await.unwrap();
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let consumer = kinesis
        .register_stream_consumer()
        .stream_arn(arn)
        .consumer_name("c");
    let consumer = consumer.send().await.unwrap().consumer.unwrap();
    let body = format!(
        r#"{{"ConsumerARN": "{}", "ShardId": "0", "StartingPosition": {{"Type": "LATEST"}}}}"#,
        consumer.consumer_arn
    );
    let target = "Kinesis_20131202.SubscribeToShard";
    let mut subscribe = request(&local, "/", Some(target), body);
    let headers = subscribe.headers_mut();
    let kind = "application/x-amz-json-1.1".parse().unwrap();
    headers.insert("content-type", kind);
    let date = "20260102T030405Z".parse().unwrap();
    headers.insert("x-amz-date", date);
    let authorization = "AWS4-HMAC-SHA256 Credential=a/20260102/us-east-1/kinesis/aws4_request, \
                         SignedHeaders=host, Signature=00ff";
    headers.insert("authorization", authorization.parse().unwrap());
    let (mut sender, ended) = http2_connection(&local).await;
    let answer = sender.send_request(subscribe).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut events = answer.into_body();
    // Longer than an idle connection has: it would be told after one time-out, and closed after two.
    tokio::time::sleep(Duration::from_millis(3 * HEAD_TIMEOUT_MS)).await;
    let put = kinesis.put_record().stream_name("s").partition_key("k");
    let data = aws_sdk_kinesis::primitives::Blob::new("late");
    put.data(data).send().await.unwrap();
    let mut pushed = Vec::new();
    while !pushed.windows(8).any(|eight| eight == b"bGF0ZQ==") {
        let frame = events.frame().await.expect("the record").unwrap();
        pushed.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    assert!(!ended.is_finished());
}

#[tokio::test]
async fn who_does_not_read_the_answer_does_not_keep_its_place() {
    let mut settings = kinesis_local::Settings::default();
    settings.listen = Some(LOOPBACK);
    settings.head_timeout_ms = 100;
    settings.max_connections = 1;
    let local = KinesisLocal::builder().settings(settings).start().await;
    let local = local.unwrap();
    let s3 = aws_sdk_s3::Client::new(&local.sdk_config());
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    let address = local.local_addr().unwrap();
    let mut deaf = TcpStream::connect(address).await.unwrap();
    // Its answers are more than the buffers between the two hold.
    let list = "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: DynamoDB_20120810.ListTables\r\n\
                content-length: 2\r\n\r\n{}";
    let many = list.repeat(100_000);
    let asked = tokio::spawn(async move {
        let sent = deaf.write_all(many.as_bytes()).await;
        (deaf, sent)
    });
    let list = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    let answered = tokio::time::timeout(Duration::from_secs(50), http1(&local, list)).await;
    assert_eq!(answered.unwrap().status(), StatusCode::OK);
    asked.abort();
}

#[tokio::test]
async fn who_does_not_read_an_object_does_not_keep_its_place() {
    let mut settings = kinesis_local::Settings::default();
    settings.listen = Some(LOOPBACK);
    settings.head_timeout_ms = 100;
    settings.max_connections = 1;
    let local = KinesisLocal::builder().settings(settings).start().await;
    let local = local.unwrap();
    let s3 = aws_sdk_s3::Client::new(&local.sdk_config());
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    // More than the buffers between the two hold.
    let body = aws_sdk_s3::primitives::ByteStream::from(vec![0; 32 * 1024 * 1024]);
    let put = s3.put_object().bucket("bucket").key("key").body(body);
    put.send().await.unwrap();
    let mut deaf = TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    let get = "GET /bucket/key HTTP/1.1\r\nhost: a\r\n\r\n";
    deaf.write_all(get.as_bytes()).await.unwrap();
    let list = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    let answered = tokio::time::timeout(Duration::from_secs(50), http1(&local, list)).await;
    assert_eq!(answered.unwrap().status(), StatusCode::OK);
    drop(deaf);
}
