//! Where the load goes: a kinesis-local in this process, or an endpoint.

use std::path::PathBuf;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kinesis::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_kinesis::types::StreamStatus;
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_types::SdkConfig;
use backon::{ConstantBuilder, Retryable};
use kinesis_consumer::BoxError;
use kinesis_local::{KinesisLocal, Limits};

/// Looks at a new stream until it is ACTIVE, half a second apart; AWS takes some seconds.
const LOOKS: usize = 120;
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// Where the stream is.
#[derive(Debug, clap::Args)]
pub(crate) struct PlaceArgs {
    /// A Kinesis (and DynamoDB) elsewhere, any credentials; a kinesis-local in this process otherwise.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The PEM file of the CA to trust there.
    #[arg(long, value_name = "FILE", requires = "endpoint")]
    ca: Option<PathBuf>,
    /// The stream; made with --shards if it is not there.
    #[arg(long, default_value = "load")]
    pub(crate) stream: String,
    /// Shards of a stream that is made.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    shards: i32,
}

/// A stream and the clients to reach it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) kinesis: aws_sdk_kinesis::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    local: Option<KinesisLocal>,
}

impl Place {
    pub(crate) async fn open(args: &PlaceArgs) -> Result<Self, BoxError> {
        let (config, local) = match &args.endpoint {
            Some(endpoint) => (elsewhere(endpoint, args.ca.as_ref())?, None),
            None => {
                let local = KinesisLocal::builder().limits(Limits::Off).start().await?;
                (local.sdk_config(), Some(local))
            }
        };
        let place = Self {
            kinesis: aws_sdk_kinesis::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            local,
        };
        place.stream(&args.stream, args.shards).await?;
        Ok(place)
    }

    pub(crate) async fn close(self) {
        if let Some(local) = self.local {
            local.shutdown().await;
        }
    }

    /// Makes the stream if it is not there, and waits until it can be used.
    async fn stream(&self, name: &str, shards: i32) -> Result<(), BoxError> {
        let create = self.kinesis.create_stream().stream_name(name);
        if let Err(error) = create.shard_count(shards).send().await {
            let error = error.into_service_error();
            if !error.is_resource_in_use_exception() {
                return Err(error.into());
            }
        }
        let active = || async {
            let describe = self.kinesis.describe_stream_summary().stream_name(name);
            let summary = describe.send().await?;
            let summary = summary.stream_description_summary();
            match summary.map(|summary| summary.stream_status()) {
                Some(StreamStatus::Active) => Ok(()),
                status => Err(BoxError::from(format!("stream {name} is {status:?}"))),
            }
        };
        let pauses = ConstantBuilder::default()
            .with_delay(LOOK_EVERY)
            .with_max_times(LOOKS);
        active.retry(pauses).await
    }
}

fn elsewhere(endpoint: &str, ca: Option<&PathBuf>) -> Result<SdkConfig, BoxError> {
    let http_client = if endpoint.starts_with("https:") {
        let trusted = match ca {
            Some(file) => TrustStore::empty().with_pem_certificate(std::fs::read(file)?),
            None => TrustStore::default(),
        };
        let context = TlsContext::builder().with_trust_store(trusted).build()?;
        HttpClientBuilder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context)
            .build_https()
    } else {
        HttpClientBuilder::new().build_http()
    };
    let credentials = Credentials::from_keys("local", "local", None);
    Ok(SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(http_client)
        .build())
}
