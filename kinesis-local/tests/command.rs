//! The `kinesis-local` command as a process.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![cfg(all(feature = "cli", feature = "dynamodb", unix))]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_kinesis::types::{EncryptionType, StreamStatus};
#[cfg(feature = "tls")]
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
#[cfg(feature = "tls")]
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_types::SdkConfig;
use kinesis_local::KinesisLocal;

#[path = "command/files.rs"]
mod files;
#[cfg(target_os = "linux")]
#[path = "command/memory.rs"]
mod memory;

/// A running command; killed when the test ends.
struct Running {
    process: Child,
    out: BufReader<ChildStdout>,
    endpoint: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinesis-local"));
    command
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn start(data_dir: &Path) -> Running {
    start_with(&["--data-dir", data_dir.to_str().unwrap()])
}

fn start_with(arguments: &[&str]) -> Running {
    let mut process = command().args(arguments).spawn().unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    let endpoint = first
        .trim()
        .strip_prefix("kinesis-local listening on ")
        .unwrap()
        .to_owned();
    Running {
        process,
        out,
        endpoint,
    }
}

fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &process.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// Clients of the command, with an HTTP client over the socket.
async fn config(running: &Running) -> SdkConfig {
    let configured = KinesisLocal::builder().start().await.unwrap().sdk_config();
    configured
        .into_builder()
        .endpoint_url(&running.endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

async fn client(running: &Running) -> Client {
    Client::new(&config(running).await)
}

async fn create_stream(kinesis: &aws_sdk_kinesis::Client) {
    let create = kinesis.create_stream().stream_name("s").shard_count(1);
    create.send().await.unwrap();
}

async fn status(kinesis: &aws_sdk_kinesis::Client) -> StreamStatus {
    let summary = kinesis.describe_stream_summary().stream_name("s");
    let summary = summary.send().await.unwrap().stream_description_summary;
    summary.unwrap().stream_status
}

async fn create_table(client: &Client) {
    let attribute = AttributeDefinition::builder()
        .attribute_name("k")
        .attribute_type(ScalarAttributeType::S)
        .build()
        .unwrap();
    let key = KeySchemaElement::builder()
        .attribute_name("k")
        .key_type(KeyType::Hash)
        .build()
        .unwrap();
    client
        .create_table()
        .table_name("kept")
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute)
        .key_schema(key)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_signal_ends_it_in_order_and_the_endpoint_is_printed_for_the_shell() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["-INT", "-TERM"] {
        let mut running = start(directory.path());
        client(&running).await.list_tables().send().await.unwrap();
        signal(&running.process, name);
        assert_eq!(running.process.wait().unwrap().code(), Some(0));
        let mut rest = String::new();
        running.out.read_to_string(&mut rest).unwrap();
        assert_eq!(
            rest,
            format!("export AWS_ENDPOINT_URL={}\n", running.endpoint)
        );
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn the_ca_of_its_own_certificate_is_printed_and_good_for_a_client() {
    let mut running = start_with(&["--tls"]);
    let mut printed = String::new();
    while !printed.contains("-----END CERTIFICATE-----") {
        assert_ne!(running.out.read_line(&mut printed).unwrap(), 0, "{printed}");
    }
    let start = printed.find("-----BEGIN CERTIFICATE-----").unwrap();
    let trust = TrustStore::empty().with_pem_certificate(&printed.as_bytes()[start..]);
    let context = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .unwrap();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https();
    assert!(
        running.endpoint.starts_with("https://"),
        "{}",
        running.endpoint
    );
    let config = config(&running)
        .await
        .into_builder()
        .http_client(http)
        .build();
    Client::new(&config).list_tables().send().await.unwrap();
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path());
    create_table(&client(&running).await).await;
    drop(running);
    let again = start(directory.path());
    let tables = client(&again).await.list_tables().send().await.unwrap();
    assert_eq!(tables.table_names(), ["kept"]);
}

#[tokio::test]
async fn delays_and_the_states_of_kms_keys_are_given_by_options() {
    let running = start_with(&["--create-delay-ms", "3600000"]);
    let kinesis = aws_sdk_kinesis::Client::new(&config(&running).await);
    create_stream(&kinesis).await;
    assert_eq!(status(&kinesis).await, StreamStatus::Creating);

    let delays = [
        "--update-delay-ms",
        "3600000",
        "--delete-delay-ms",
        "3600000",
    ];
    let keys = [
        "--kms-key",
        "alias/a=disabled",
        "--kms-key",
        "alias/b=not-found",
    ];
    let running = start_with(&[delays, keys].concat());
    let kinesis = aws_sdk_kinesis::Client::new(&config(&running).await);
    create_stream(&kinesis).await;
    let encrypt = async |key: &str| {
        let start = kinesis.start_stream_encryption().stream_name("s");
        let start = start.encryption_type(EncryptionType::Kms).key_id(key);
        start
            .send()
            .await
            .map_err(|error| error.into_service_error())
    };
    let refused = encrypt("alias/a").await.unwrap_err();
    assert!(refused.is_kms_disabled_exception(), "{refused:?}");
    let refused = encrypt("alias/b").await.unwrap_err();
    assert!(refused.is_kms_not_found_exception(), "{refused:?}");
    assert_eq!(status(&kinesis).await, StreamStatus::Active);
    encrypt("alias/c").await.unwrap();
    assert_eq!(status(&kinesis).await, StreamStatus::Updating);
    let delete = kinesis.delete_stream().stream_name("s");
    delete.send().await.unwrap();
    assert_eq!(status(&kinesis).await, StreamStatus::Deleting);
}

#[test]
fn a_directory_in_use_is_refused_with_the_process_that_uses_it() {
    let directory = tempfile::tempdir().unwrap();
    let running = start(directory.path());
    let Output { status, stderr, .. } = command()
        .arg("--data-dir")
        .arg(directory.path())
        .output()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    let text = String::from_utf8(stderr).unwrap();
    assert!(
        text.contains(&format!("process {}", running.process.id())),
        "{text}"
    );
}

#[test]
fn wrong_arguments_have_their_own_exit_code() {
    for wrong in [
        ["--account", "12"],
        ["--region", "Us East"],
        ["--port", "x"],
        ["--faults", "Cargo.toml"],
        ["--faults", "not-there.json"],
        ["--create-delay-ms", "3600001"],
        ["--update-delay-ms", "3600001"],
        ["--delete-delay-ms", "3600001"],
        ["--kms-key", "alias/a"],
        ["--kms-key", "=disabled"],
        ["--kms-key", "alias/a=broken"],
    ] {
        let Output { status, stderr, .. } = command().args(wrong).output().unwrap();
        assert_eq!(
            status.code(),
            Some(2),
            "{}",
            String::from_utf8_lossy(&stderr)
        );
    }
    let help = command().arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
}
