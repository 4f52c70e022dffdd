//! A worker to deploy: it shares the shards of a stream with all workers of the same application
//! and stores the records in S3, or in a file of its own.
//!
//! ```text
//! worker --stream flights --application board --bucket flights --prefix board/
//! worker --stream flights --application board --out seen.ndjson --endpoint-url http://127.0.0.1:4567
//! worker leases list --application board --stream flights
//! ```
//!
//! `worker leases` looks after the lease table instead: `list`, `verify`, `release`, `reset`,
//! `unstick`, `convert`, each with `--json`.
//!
//! Credentials, region and profile are found as every AWS program finds them (environment,
//! `~/.aws`, instance role). It runs until SIGTERM or SIGINT, then finishes the records in hand,
//! checkpoints and hands its leases over. Killed without warning, the next worker goes on from its
//! last checkpoints. Logs go to stderr; `RUST_LOG` selects them.

mod file;
mod leases;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use clap::{ArgGroup, Args, Parser};
use kinesis_consumer::sink::{S3Sink, S3SinkSettings};
use kinesis_consumer::{BoxError, Consumer, LeaseSettings, LeaseTableSettings, Settings, ShardId};
use kinesis_core::Rand;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use file::{File, FileProcessor};

/// Where the services are.
#[derive(Args, Debug)]
pub(crate) struct Connection {
    /// Where the services are, if not at AWS: http://127.0.0.1:4567 for kinesis-local.
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    endpoint_url: Option<String>,
    /// The region; otherwise as configured for AWS. With --endpoint-url, us-east-1 will do.
    #[arg(long)]
    region: Option<String>,
}

/// What the tables are called where that is not by the application's name.
#[derive(Args, Debug)]
pub(crate) struct Tables {
    /// The lease table: the KCL's tableName. Otherwise the application's name.
    #[arg(long)]
    table: Option<String>,
    /// Where a KCL 3.0 to 3.4 keeps its lock and states. Otherwise the application's name and
    /// -CoordinatorState.
    #[arg(long)]
    coordinator_state_table: Option<String>,
    /// Where a KCL 3.0 to 3.4 keeps worker metrics. Otherwise the application's name and
    /// -WorkerMetricStats.
    #[arg(long)]
    worker_metrics_table: Option<String>,
}

impl Tables {
    pub(crate) fn settings(&self) -> LeaseTableSettings {
        LeaseTableSettings {
            name: self.table.clone(),
            coordinator_state_table: self.coordinator_state_table.clone(),
            worker_metrics_table: self.worker_metrics_table.clone(),
            ..LeaseTableSettings::default()
        }
    }
}

/// Processes a stream together with all workers of the same application.
#[derive(Debug, Parser)]
#[command(
    group = ArgGroup::new("destination").required(true),
    after_help = "`worker leases --help` tells how to look after the lease table instead."
)]
struct Run {
    /// The stream to read.
    #[arg(long)]
    stream: String,
    /// The application: workers with the same name share the stream. Names the lease table, unless
    /// --table does.
    #[arg(long)]
    application: String,
    #[command(flatten)]
    tables: Tables,
    /// Stores the records as NDJSON objects in this S3 bucket.
    #[arg(long, group = "destination")]
    bucket: Option<String>,
    /// What the objects' names start with.
    #[arg(long, default_value = "", requires = "bucket")]
    prefix: String,
    /// Most records of an object.
    #[arg(long, default_value_t = 100_000, requires = "bucket")]
    batch_records: usize,
    /// How long a record waits for its object, in milliseconds.
    #[arg(long, default_value_t = 60_000, requires = "bucket")]
    batch_age_ms: u64,
    /// Appends the records, and what else happens to a processor, to this file as NDJSON.
    #[arg(long, group = "destination")]
    out: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
    /// This worker's name, different from every other worker's; otherwise a random one.
    #[arg(long)]
    worker_id: Option<String>,
    /// How long a lease is left to a worker that gives no sign of life, in milliseconds. The same
    /// for all workers of an application.
    #[arg(long, default_value_t = 10_000)]
    failover_ms: u64,
    /// The same for a lease that a worker of a KCL has: the longest failoverTimeMillis of those that share
    /// the table, or more.
    #[arg(long, default_value_t = 60_000)]
    kcl_failover_ms: u64,
    /// Pause between reads when there is nothing new, in milliseconds, 200 or more.
    #[arg(long, default_value_t = 1_000)]
    idle_ms: u64,
    /// Most stream records of a read, 1 to 10,000.
    #[arg(long, default_value_t = 10_000)]
    max_records: u32,
    /// How long the work on each batch of records takes on top, in milliseconds: to watch what
    /// happens to work in hand.
    #[arg(long, default_value_t = 0, conflicts_with = "bucket")]
    work_ms: u64,
}

impl Run {
    fn settings(&self) -> Settings {
        let failover_time = Duration::from_millis(self.failover_ms);
        let defaults = LeaseSettings::default();
        Settings {
            idle_time_between_reads: Duration::from_millis(self.idle_ms),
            max_records: self.max_records,
            lease: LeaseSettings {
                failover_time,
                kcl_failover_time: Duration::from_millis(self.kcl_failover_ms),
                table: self.tables.settings(),
                lease_assignment_interval: defaults
                    .lease_assignment_interval
                    .min(failover_time / 4),
                lease_discovery_interval: defaults.lease_discovery_interval.min(failover_time / 4),
                leader_lock_duration: defaults.leader_lock_duration.min(failover_time * 9 / 5),
                ..defaults
            },
            ..Settings::default()
        }
    }

    fn sink(&self, aws: &SdkConfig, bucket: &str) -> Result<S3Sink, BoxError> {
        let config = aws_sdk_s3::config::Builder::from(aws)
            .force_path_style(self.connection.endpoint_url.is_some())
            .build();
        let settings = S3SinkSettings {
            prefix: self.prefix.clone(),
            max_batch_records: self.batch_records,
            max_batch_age: Duration::from_millis(self.batch_age_ms),
            ..S3SinkSettings::default()
        };
        let client = aws_sdk_s3::Client::from_conf(config);
        Ok(S3Sink::builder(client, bucket).settings(settings).build()?)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_writer(std::io::stderr)
        .init();
    let done = if std::env::args().nth(1).as_deref() == Some("leases") {
        leases::Cli::parse().run().await
    } else {
        run(Run::parse()).await
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Run) -> Result<(), BoxError> {
    let shutdown = CancellationToken::new();
    // Before anything is announced: a signal that comes then must not kill the process.
    let signals = Signals::new()?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        signals.received().await;
        stop.cancel();
    });

    let aws = args.connection.aws().await;
    let worker_id = args
        .worker_id
        .clone()
        .unwrap_or_else(|| Rand::from_entropy().uuid());
    let kinesis = aws_sdk_kinesis::Client::new(&aws);
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
    let builder = match (&args.bucket, &args.out) {
        (Some(bucket), _) => {
            let sink = args.sink(&aws, bucket)?;
            Consumer::builder(&args.application, &args.stream, kinesis, dynamodb, sink)
        }
        (None, Some(path)) => {
            let file = File::append_to(path, worker_id.clone())?;
            let work = Duration::from_millis(args.work_ms);
            let factory = move |_: &ShardId| FileProcessor::new(file.clone(), work);
            Consumer::builder(&args.application, &args.stream, kinesis, dynamodb, factory)
        }
        (None, None) => return Err("one of --bucket and --out is needed".into()),
    };
    let consumer = builder
        .worker_id(&worker_id)
        .settings(args.settings())
        .build()?;
    println!("worker {worker_id} runs");
    consumer.run(shutdown).await?;
    println!("worker {worker_id} has ended");
    Ok(())
}

impl Connection {
    /// Region, credentials and connection, from the environment and the arguments.
    pub(crate) async fn aws(&self) -> SdkConfig {
        let region = match (&self.region, &self.endpoint_url) {
            (Some(region), _) => RegionProviderChain::first_try(Region::new(region.clone())),
            // No question to an instance's metadata service for a stream that is not at AWS.
            (None, Some(_)) => {
                RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                    .or_else("us-east-1")
            }
            (None, None) => RegionProviderChain::default_provider(),
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).region(region);
        if let Some(url) = &self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        // Without the SDK's TLS client, plain HTTP is what is left: enough for kinesis-local.
        #[cfg(not(feature = "aws"))]
        let loader = loader.http_client(aws_smithy_http_client::Builder::new().build_http());
        loader.load().await
    }
}

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn received(self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
