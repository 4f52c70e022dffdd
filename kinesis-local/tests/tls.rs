//! TLS on the port, by the official SDK client and by hand.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(feature = "tls")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::SdkConfig;
use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kinesis_local::{ErrorKind, KinesisLocal, Settings, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Its shutdown has an hour: longer than a test waits for it.
async fn listening(tls: Tls) -> KinesisLocal {
    let mut settings = Settings::default();
    settings.shutdown_deadline_ms = 3_600_000;
    let builder = KinesisLocal::builder().settings(settings);
    builder.listen(LOOPBACK).tls(tls).start().await.unwrap()
}

/// The instance's configuration with an HTTP client that trusts only its CA.
fn over_tls(local: &KinesisLocal) -> SdkConfig {
    let trusted = TrustStore::empty().with_pem_certificate(local.tls_ca_pem().unwrap());
    let context = TlsContext::builder().with_trust_store(trusted);
    let client = HttpClientBuilder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context.build().unwrap())
        .build_https();
    local
        .sdk_config()
        .into_builder()
        .http_client(client)
        .build()
}

/// A connection by hand, to `name`, whose certificate has to be signed by `ca`.
async fn connect(
    local: &KinesisLocal,
    ca: &str,
    name: &'static str,
    alpn: &[&str],
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(local.local_addr().unwrap()).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from(name).unwrap(), stream)
        .await
}

fn health(local: &KinesisLocal) -> Request<Full<Bytes>> {
    Request::get(format!("{}/_local/health", local.endpoint_url()))
        .header("host", "localhost")
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn the_sdk_reads_and_subscribes_over_tls() {
    let local = listening(Tls::Own).await;
    assert!(local.endpoint_url().starts_with("https://127.0.0.1:"));
    let kinesis = aws_sdk_kinesis::Client::new(&over_tls(&local));
    let create = kinesis.create_stream().stream_name("s").shard_count(1);
    create.send().await.unwrap();
    let put = kinesis.put_record().stream_name("s").partition_key("k");
    put.data(Blob::new("hello")).send().await.unwrap();
    let consumer = kinesis
        .register_stream_consumer()
        .stream_arn("arn:aws:kinesis:us-east-1:000000000000:stream/s")
        .consumer_name("c");
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
    loop {
        let event = subscription.event_stream.recv().await.unwrap().unwrap();
        if let SubscribeToShardEventStream::SubscribeToShardEvent(event) = event
            && let [record] = event.records()
        {
            assert_eq!(record.data().as_ref(), b"hello");
            break;
        }
    }
    drop(subscription);
    local.shutdown().await;
}

#[tokio::test]
async fn each_name_version_and_protocol_is_served() {
    let local = listening(Tls::Own).await;
    let ca = local.tls_ca_pem().unwrap();
    for (version, expected) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for name in ["localhost", "127.0.0.1", "::1"] {
            let stream = connect(&local, ca, name, &["h2", "http/1.1"], &[version]).await;
            let stream = stream.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            assert_eq!(stream.get_ref().1.protocol_version(), Some(expected));
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            let answer = sender.send_request(health(&local)).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.version(), Version::HTTP_2);
        }
    }
    let stream = connect(&local, ca, "localhost", &["http/1.1"], &[&TLS13]).await;
    let stream = stream.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let answer = sender.send_request(health(&local)).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn plain_http_is_answered_on_the_same_port() {
    let local = listening(Tls::Own).await;
    let plain = HttpClientBuilder::new().build_http();
    let endpoint = local.endpoint_url().replace("https", "http");
    let config = local
        .sdk_config()
        .into_builder()
        .http_client(plain)
        .endpoint_url(endpoint)
        .build();
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    let listed = kinesis.list_streams().send().await.unwrap();
    assert!(listed.stream_names().is_empty());
}

#[tokio::test]
async fn another_name_or_another_ca_is_not_trusted() {
    let (local, other) = (listening(Tls::Own).await, listening(Tls::Own).await);
    let ca = local.tls_ca_pem().unwrap();
    assert!(
        connect(&local, ca, "example.com", &[], &[&TLS13])
            .await
            .is_err()
    );
    let strange = other.tls_ca_pem().unwrap();
    assert!(
        connect(&local, strange, "localhost", &[], &[&TLS13])
            .await
            .is_err()
    );
    // Neither took the server down.
    assert!(
        connect(&local, ca, "localhost", &[], &[&TLS13])
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_certificate_that_is_given_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (
        directory.path().join("c.pem"),
        directory.path().join("k.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let given = Tls::Given {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    let local = listening(given).await;
    assert_eq!(local.tls_ca_pem(), None);
    let stream = connect(&local, &made.cert.pem(), "localhost", &[], &[&TLS13]).await;
    let shown = stream.unwrap();
    let shown = shown.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown, [made.cert.der().clone()]);

    // What cannot be used is named, before anything is listened on.
    for (certificate, key, named) in [
        (&key, &key, &key),
        (&certificate, &certificate, &certificate),
        (
            &directory.path().join("missing"),
            &key,
            &directory.path().join("missing"),
        ),
    ] {
        let tls = Tls::Given {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let error = KinesisLocal::builder()
            .listen(LOOPBACK)
            .tls(tls)
            .start()
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        assert!(
            error.to_string().contains(&named.display().to_string()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_broken_handshake_holds_up_nobody_and_shutdown_cuts_it() {
    let local = listening(Tls::Own).await;
    let address = local.local_addr().unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    let mut wrong = TcpStream::connect(address).await.unwrap();
    wrong.write_all(&[0x16; 4096]).await.unwrap();
    let mut end = Vec::new();
    wrong.read_to_end(&mut end).await.unwrap_or(0);
    let ca = local.tls_ca_pem().unwrap();
    assert!(
        connect(&local, ca, "localhost", &[], &[&TLS13])
            .await
            .is_ok()
    );
    tokio::time::timeout(Duration::from_secs(50), local.shutdown())
        .await
        .unwrap();
    for stream in [&mut silent, &mut half] {
        end.clear();
        assert_eq!(stream.read_to_end(&mut end).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn without_tls_a_handshake_ends_the_connection() {
    let mut settings = Settings::default();
    settings.listen = Some(LOOPBACK);
    let local = KinesisLocal::builder()
        .settings(settings)
        .start()
        .await
        .unwrap();
    assert!(local.endpoint_url().starts_with("http://"));
    assert_eq!(local.tls_ca_pem(), None);
    let other = listening(Tls::Own).await;
    let ca = other.tls_ca_pem().unwrap();
    assert!(
        connect(&local, ca, "localhost", &[], &[&TLS13])
            .await
            .is_err()
    );
}
