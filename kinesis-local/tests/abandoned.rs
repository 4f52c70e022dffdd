//! A client that goes away while it waits: what it waited for is there for the next one.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::net::{Ipv4Addr, SocketAddr};

use kinesis_local::KinesisLocal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A connection on which the request was sent.
async fn sent(local: &KinesisLocal, operation: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let mut stream = TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Kinesis_20131202.{operation}\r\n\
         X-Amz-Date: 20261123T020000Z\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=a/20261123/us-east-1/kinesis/aws4_request, SignedHeaders=host, Signature=abc\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn call(local: &KinesisLocal, operation: &str, body: Value) -> Value {
    let mut answer = String::new();
    let mut stream = sent(local, operation, &body).await;
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{operation}: {answer}");
    serde_json::from_str(body).unwrap_or_default()
}

// On one thread: what the server does when it closes a connection is done before the client sees it.
#[tokio::test]
async fn a_long_poll_whose_connection_was_closed_takes_no_record() {
    let local = KinesisLocal::builder()
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .start()
        .await
        .unwrap();
    let create = json!({"StreamName": "s", "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    call(&local, "CreateStream", create).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let create = json!({"QueueName": "q", "StreamConfigurationList": [
        {"StreamARN": arn, "StartingPosition": {"Type": "TRIM_HORIZON"}}]});
    let created = call(&local, "CreateQueue", create).await;
    let queue = created["QueueDescription"]["QueueARN"].as_str().unwrap();
    let wait = json!({"QueueARN": queue, "WaitTimeSeconds": 20});
    for _ in 0..3 {
        let mut waiting = sent(&local, "ReceiveQueueRecords", &wait).await;
        // Answered on another connection later than that arrived.
        call(&local, "ListStreams", json!({})).await;
        waiting.shutdown().await.unwrap();
        let mut answer = Vec::new();
        waiting.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty(), "it was not answered");
    }
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": "AAAA"});
    call(&local, "PutRecord", put).await;
    let received = call(&local, "ReceiveQueueRecords", wait).await;
    let records = received["QueueRecords"].as_array();
    assert_eq!(records.map(Vec::len), Some(1), "{received}");
    local.shutdown().await;
}
