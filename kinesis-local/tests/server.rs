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

#[path = "server/bounds.rs"]
mod bounds;
#[path = "server/life.rs"]
mod life;
#[path = "server/patience.rs"]
mod patience;
#[path = "server/ways.rs"]
mod ways;

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Its shutdown has an hour: longer than a test waits for it.
async fn listening() -> KinesisLocal {
    let mut settings = kinesis_local::Settings::default();
    settings.listen = Some(LOOPBACK);
    settings.shutdown_deadline_ms = 3_600_000;
    let builder = KinesisLocal::builder().settings(settings);
    builder.start().await.unwrap()
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
