//! kinesis-local over a socket, by the official SDK clients and by hand.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "dynamodb", feature = "s3"))]

use std::net::SocketAddr;
use std::time::Duration;

use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_types::SdkConfig;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kinesis_local::KinesisLocal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn listening() -> KinesisLocal {
    KinesisLocal::builder()
        .listen(LOOPBACK)
        .start()
        .await
        .unwrap()
}

/// The instance's configuration with an HTTP client that goes through the socket.
fn over_the_socket(local: &KinesisLocal) -> SdkConfig {
    let client = HttpClientBuilder::new().build_http();
    local
        .sdk_config()
        .into_builder()
        .http_client(client)
        .build()
}

fn request(
    local: &KinesisLocal,
    path: &str,
    target: Option<&str>,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::post(format!("{}{path}", local.endpoint_url()))
        .header("host", local.local_addr().unwrap().to_string())
        .header("content-type", "application/x-amz-json-1.0");
    if let Some(target) = target {
        request = request.header("x-amz-target", target);
    }
    request.body(Full::new(body.into())).unwrap()
}

async fn http1(local: &KinesisLocal, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let stream = TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    whole(sender.send_request(request).await.unwrap()).await
}

async fn http2(local: &KinesisLocal, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let stream = TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap(); // as the SDKs do
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    whole(sender.send_request(request).await.unwrap()).await
}

async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn one_port_serves_every_sdk_client() {
    let local = listening().await;
    let config = over_the_socket(&local);
    let tables = aws_sdk_dynamodb::Client::new(&config)
        .list_tables()
        .send()
        .await
        .unwrap();
    assert!(tables.table_names().is_empty());
    let s3 = aws_sdk_s3::Client::new(&config);
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"object");
    s3.put_object()
        .bucket("bucket")
        .key("key")
        .body(body)
        .send()
        .await
        .unwrap();
    let object = s3
        .get_object()
        .bucket("bucket")
        .key("key")
        .send()
        .await
        .unwrap();
    assert_eq!(object.body.collect().await.unwrap().into_bytes(), "object");
    local.shutdown().await;
}

#[tokio::test]
async fn one_port_speaks_http1_and_http2() {
    let local = listening().await;
    let list = || request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    for answer in [http1(&local, list()).await, http2(&local, list()).await] {
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.body(), r#"{"TableNames":[]}"#);
        let sum = answer.headers()["x-amz-crc32"].to_str().unwrap().parse();
        assert_eq!(sum, Ok(crc32(answer.body())));
    }
}

/// CRC-32 as the SDKs check it, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_server_lives_on() {
    let local = listening().await;
    for target in [
        "DynamoDB_20120810.ListTables",
        "Kinesis_20131202.PutRecords",
    ] {
        let large = request(&local, "/", Some(target), vec![b' '; 16 * 1024 * 1024 + 1]);
        assert_eq!(
            http1(&local, large.clone()).await.status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
        assert_eq!(
            http2(&local, large).await.status(),
            StatusCode::PAYLOAD_TOO_LARGE
        );
    }
    let largest = request(&local, "/", Some("DynamoDB_20120810.ListTables"), {
        let mut body = vec![b' '; 16 * 1024 * 1024];
        body[..2].copy_from_slice(b"{}");
        body
    });
    assert_eq!(http1(&local, largest).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn every_answer_has_a_date_and_a_length() {
    let local = listening().await;
    let kinesis = |target: &'static str, body: &'static str| {
        let mut request = request(&local, "/", Some(target), body);
        let json = http::HeaderValue::from_static("application/x-amz-json-1.1");
        request.headers_mut().insert("content-type", json);
        let signature = "AWS4-HMAC-SHA256 Credential=a/20261123/us-east-1/kinesis/aws4_request, \
                         SignedHeaders=host, Signature=abc";
        let signature = http::HeaderValue::from_static(signature);
        request.headers_mut().insert("authorization", signature);
        let date = http::HeaderValue::from_static("20261123T020000Z");
        request.headers_mut().insert("x-amz-date", date);
        request
    };
    let (list, create) = (
        "Kinesis_20131202.ListStreams",
        "Kinesis_20131202.CreateStream",
    );
    let answers = [
        http1(&local, kinesis(list, "{}")).await,
        http2(&local, kinesis(list, "{}")).await,
        http1(
            &local,
            kinesis(create, r#"{"StreamName":"a","ShardCount":1}"#),
        )
        .await,
        http2(
            &local,
            kinesis(create, r#"{"StreamName":"b","ShardCount":1}"#),
        )
        .await,
        http1(&local, kinesis(create, "{}")).await,
        http2(&local, kinesis(create, "{}")).await,
    ];
    let statuses = answers.each_ref().map(|answer| answer.status().as_u16());
    assert_eq!(statuses, [200, 200, 200, 200, 400, 400]);
    for answer in answers {
        let headers = answer.headers();
        assert!(headers.contains_key("date"));
        let length = answer.body().len().to_string();
        assert_eq!(headers["content-length"], length);
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let local = listening().await;
    let mut large = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    large
        .headers_mut()
        .insert("x-large", "x".repeat(80_000).parse().unwrap());
    let status = http1(&local, large).await.status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn the_health_page_answers_and_table_streams_are_refused() {
    let local = listening().await;
    let mut health = request(&local, "/_local/health", None, "");
    *health.method_mut() = http::Method::GET;
    assert_eq!(http1(&local, health).await.body(), r#"{"status":"ok"}"#);
    let streams = request(
        &local,
        "/",
        Some("DynamoDBStreams_20120810.ListStreams"),
        "{}",
    );
    let refused = http1(&local, streams).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(
        refused
            .body()
            .starts_with(br#"{"__type":"UnknownOperationException""#)
    );
}

#[tokio::test]
async fn a_bare_post_is_answered_by_kinesis_and_not_by_s3() {
    let local = listening().await;
    let answer = http1(&local, request(&local, "/", None, "{}")).await;
    assert!(answer.status().is_client_error());
    assert!(!answer.body().starts_with(b"<?xml"), "{:?}", answer.body());
}

/// An upload as the Java SDK sends it over plain HTTP: signed chunks, the checksum behind them.
async fn put_in_signed_chunks(local: &KinesisLocal, key: &str, checksum: &str) -> StatusCode {
    let body = format!(
        "5;chunk-signature=00ff\r\nhello\r\n6;chunk-signature=00ff\r\n world\r\n\
         0;chunk-signature=00ff\r\nx-amz-checksum-crc32:{checksum}\r\n\
         x-amz-trailer-signature:00ff\r\n\r\n"
    );
    let mut put = request(local, &format!("/bucket/{key}"), None, body);
    *put.method_mut() = http::Method::PUT;
    let headers = [
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20260102/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00ff",
        ),
        (
            "x-amz-content-sha256",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        ),
        ("x-amz-date", "20260102T030405Z"),
        ("x-amz-decoded-content-length", "11"),
        ("x-amz-sdk-checksum-algorithm", "CRC32"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
        ("content-encoding", "aws-chunked"),
    ];
    for (name, value) in headers {
        put.headers_mut().insert(name, value.parse().unwrap());
    }
    http1(local, put).await.status()
}

#[tokio::test]
async fn an_upload_in_signed_chunks_is_stored_only_if_its_checksum_holds() {
    let local = listening().await;
    let s3 = aws_sdk_s3::Client::new(&local.sdk_config());
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    assert_eq!(
        put_in_signed_chunks(&local, "whole", "DUoRhQ==").await,
        StatusCode::OK
    );
    assert!(
        !put_in_signed_chunks(&local, "broken", "AAAAAA==")
            .await
            .is_success()
    );
    let listed = s3.list_objects_v2().bucket("bucket").send().await.unwrap();
    let keys: Vec<_> = listed
        .contents()
        .iter()
        .map(|object| object.key().unwrap())
        .collect();
    assert_eq!(keys, ["whole"]);
    let object = s3
        .get_object()
        .bucket("bucket")
        .key("whole")
        .send()
        .await
        .unwrap();
    assert_eq!(object.content_encoding(), None);
    assert_eq!(
        object.body.collect().await.unwrap().into_bytes(),
        "hello world"
    );
}

#[tokio::test]
async fn a_presigned_url_works_without_the_sdk() {
    let local = listening().await;
    let s3 = aws_sdk_s3::Client::new(&local.sdk_config());
    s3.create_bucket().bucket("bucket").send().await.unwrap();
    let for_a_minute = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let key = "a folder/key+more";
    let put = s3
        .put_object()
        .bucket("bucket")
        .key(key)
        .presigned(for_a_minute.clone())
        .await
        .unwrap();
    let get = s3
        .get_object()
        .bucket("bucket")
        .key(key)
        .presigned(for_a_minute)
        .await
        .unwrap();
    for (presigned, body, answer) in [(put, "object", ""), (get, "", "object")] {
        let mut request = request(&local, "/", None, body);
        *request.method_mut() = presigned.method().parse().unwrap();
        *request.uri_mut() = presigned.uri().parse().unwrap();
        let answered = http1(&local, request).await;
        assert_eq!(
            (answered.status(), answered.body().as_ref()),
            (StatusCode::OK, answer.as_bytes())
        );
    }
}

#[tokio::test]
async fn a_subscription_streams_over_the_socket_and_ends_with_the_server() {
    let local = listening().await;
    let kinesis = aws_sdk_kinesis::Client::new(&over_the_socket(&local));
    kinesis
        .create_stream()
        .stream_name("stream")
        .shard_count(1)
        .send()
        .await
        .unwrap();
    let summary = kinesis
        .describe_stream_summary()
        .stream_name("stream")
        .send()
        .await
        .unwrap();
    let arn = summary.stream_description_summary.unwrap().stream_arn;
    let consumer = kinesis
        .register_stream_consumer()
        .stream_arn(arn)
        .consumer_name("consumer");
    let consumer = consumer.send().await.unwrap().consumer.unwrap();
    let start = StartingPosition::builder()
        .r#type(ShardIteratorType::TrimHorizon)
        .build()
        .unwrap();
    let mut subscription = kinesis
        .subscribe_to_shard()
        .consumer_arn(consumer.consumer_arn)
        .shard_id("shardId-000000000000")
        .starting_position(start)
        .send()
        .await
        .unwrap();
    let record = kinesis
        .put_record()
        .stream_name("stream")
        .partition_key("p");
    record
        .data(aws_sdk_kinesis::primitives::Blob::new("hello"))
        .send()
        .await
        .unwrap();
    loop {
        let event = subscription.event_stream.recv().await.unwrap().unwrap();
        if let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event
            && let [record] = event.records()
        {
            assert_eq!(record.data().as_ref(), b"hello");
            break;
        }
    }
    let ended = async { while let Ok(Some(_)) = subscription.event_stream.recv().await {} };
    let both = async { tokio::join!(ended, local.shutdown()) };
    tokio::time::timeout(Duration::from_secs(9), both)
        .await
        .unwrap();
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_cuts_half_open_ones_at_its_deadline() {
    let mut settings = kinesis_local::Settings::default();
    settings.listen = Some(LOOPBACK);
    settings.shutdown_deadline_ms = 100;
    let local = KinesisLocal::builder()
        .settings(settings)
        .start()
        .await
        .unwrap();
    let address = local.local_addr().unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST / HTTP/1.1\r\nHost: x\r\n")
        .await
        .unwrap();
    http1(
        &local,
        request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}"),
    )
    .await;
    tokio::time::timeout(Duration::from_secs(9), local.shutdown())
        .await
        .unwrap();
    let mut end = Vec::new();
    assert_eq!(idle.read_to_end(&mut end).await.unwrap_or(0), 0);
    assert_eq!(half.read_to_end(&mut end).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
    // A second call finds it done.
    local.shutdown().await;
}

#[tokio::test]
async fn the_connections_are_bounded_and_wait_for_a_place() {
    let mut settings = kinesis_local::Settings::default();
    settings.max_connections = 1;
    settings.listen = Some(LOOPBACK);
    let local = KinesisLocal::builder()
        .settings(settings)
        .start()
        .await
        .unwrap();
    let first = TcpStream::connect(local.local_addr().unwrap())
        .await
        .unwrap();
    let list = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
    let mut second = std::pin::pin!(http1(&local, list));
    let waited = tokio::time::timeout(Duration::from_millis(200), second.as_mut()).await;
    assert!(
        waited.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    assert_eq!(second.await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let local = listening().await;
    let address = local.local_addr().unwrap();
    let refused = KinesisLocal::builder()
        .listen(address)
        .start()
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), kinesis_local::ErrorKind::Listen);
    assert!(refused.to_string().contains(&address.to_string()));
}

/// A server that waits for nobody for long.
async fn impatient() -> KinesisLocal {
    let mut settings = kinesis_local::Settings::default();
    settings.listen = Some(LOOPBACK);
    settings.head_timeout_ms = 100;
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
    let local = impatient().await;
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
    let local = impatient().await;
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
async fn who_announces_much_and_sends_nothing_takes_nobodys_place() {
    let local = listening().await;
    let mut half_open = Vec::new();
    for _ in 0..40 {
        // More together than all bodies may have.
        let mut socket = TcpStream::connect(local.local_addr().unwrap())
            .await
            .unwrap();
        let head = "POST / HTTP/1.1\r\nhost: a\r\nx-amz-target: Kinesis_20131202.PutRecords\r\n\
                    content-length: 16000000\r\n\r\n{";
        socket.write_all(head.as_bytes()).await.unwrap();
        half_open.push(socket);
    }
    let body = request(&local, "/", Some("DynamoDB_20120810.ListTables"), {
        let mut body = vec![b' '; 8 * 1024 * 1024];
        body[..2].copy_from_slice(b"{}");
        body
    });
    let answered = tokio::time::timeout(Duration::from_secs(50), http1(&local, body)).await;
    assert_eq!(answered.unwrap().status(), StatusCode::OK);
    drop(half_open);
}

/// An HTTP/2 connection; the second ends with it.
async fn http2_connection(
    local: &KinesisLocal,
) -> (
    hyper::client::conn::http2::SendRequest<Full<Bytes>>,
    tokio::task::JoinHandle<()>,
) {
    let address = local.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let ended = tokio::spawn(async move { drop(connection.await) });
    (sender, ended)
}

#[tokio::test]
async fn an_http2_connection_that_asks_nothing_more_is_closed_in_time() {
    let local = impatient().await;
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
    let local = impatient().await;
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
    // Five times as long as an idle connection has.
    tokio::time::sleep(Duration::from_millis(500)).await;
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
async fn the_headers_of_a_request_are_bounded_in_number_and_size_on_both_protocols() {
    let local = listening().await;
    let with = |headers: usize, bytes: usize| {
        let mut request = request(&local, "/", Some("DynamoDB_20120810.ListTables"), "{}");
        for at in 0..headers {
            let name: http::HeaderName = format!("x-many-{at}").parse().unwrap();
            let value = "x".repeat(bytes).parse().unwrap();
            request.headers_mut().insert(name, value);
        }
        request
    };
    let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    assert_eq!(http1(&local, with(90, 9)).await.status(), StatusCode::OK);
    assert_eq!(http1(&local, with(110, 9)).await.status(), too_large);
    assert_eq!(http1(&local, with(1, 80_000)).await.status(), too_large);
    assert_eq!(http2(&local, with(90, 9)).await.status(), StatusCode::OK);
    // HTTP/2 counts 32 bytes more for each: either bound is one on the sum.
    for large in [with(600, 9), with(1, 20_000)] {
        let (mut sender, ended) = http2_connection(&local).await;
        match sender.send_request(large).await {
            Ok(answer) => assert_eq!(answer.status(), too_large),
            Err(refused) => assert!(!refused.is_canceled(), "{refused}"),
        }
        drop((sender, ended));
    }
    let after = http2(&local, with(0, 0)).await;
    assert_eq!(after.status(), StatusCode::OK, "nobody else is hurt");
}

/// A body that is sent piece by piece.
type Piped = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn piped() -> (tokio::sync::mpsc::Sender<Bytes>, Piped) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let pieces = futures::stream::poll_fn(move |context| {
        let piece = receiver.poll_recv(context);
        piece.map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    });
    (sender, http_body_util::StreamBody::new(pieces).boxed())
}

#[tokio::test]
async fn bodies_that_wait_for_memory_do_not_block_one_that_has_it_on_their_connection() {
    const LENGTH: usize = 16_000_000;
    let local = listening().await;
    let stream = TcpStream::connect(local.local_addr().unwrap());
    let stream = TokioIo::new(stream.await.unwrap());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let announced = |length: usize, body: Piped| {
        let (mut head, _) =
            request(&local, "/", Some("DynamoDB_20120810.ListTables"), "").into_parts();
        head.headers.insert("content-length", length.into());
        Request::from_parts(head, body)
    };
    // One that has its share of the memory, …
    let (pieces, body) = piped();
    let first = tokio::spawn(sender.send_request(announced(LENGTH, body)));
    let mut begin = vec![b' '; 64 * 1024];
    begin[..2].copy_from_slice(b"{}");
    pieces.send(begin.into()).await.unwrap();
    let small = Full::new(Bytes::from_static(b"{}")).boxed();
    let answer = sender.send_request(announced(2, small)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    // … and more than there is room for behind it, which stop.
    let mut others = Vec::new();
    for _ in 0..40 {
        let (pieces, body) = piped();
        others.push((
            tokio::spawn(sender.send_request(announced(LENGTH, body))),
            pieces,
        ));
    }
    for (_, pieces) in &others {
        pieces.send(vec![b' '; 100 * 1024].into()).await.unwrap();
    }
    let mut left = LENGTH - 64 * 1024;
    while left > 0 {
        let piece = left.min(64 * 1024);
        pieces.send(vec![b' '; piece].into()).await.unwrap();
        left -= piece;
    }
    drop(pieces);
    assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
    drop(others);
}
