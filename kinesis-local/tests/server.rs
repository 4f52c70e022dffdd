//! kinesis-local over a socket, by the official SDK clients and by hand.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "dynamodb", feature = "s3"))]

use std::net::SocketAddr;
use std::time::Duration;

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
