//! What the command line takes, and what the command prints and returns.
//!
//! ```text
//! stdout   kinesis-local listening on http://127.0.0.1:4567      always the first line: parse this
//!          export AWS_ENDPOINT_URL=http://127.0.0.1:4567         https with --tls or --tls-cert
//!          export AWS_CA_BUNDLE=FILE                             with --tls-ca-out FILE
//!          -----BEGIN CERTIFICATE----- …                         with --tls alone: the CA, as PEM
//! stderr   the log; RUST_LOG filters it
//! exit     0  ended by SIGINT or SIGTERM, everything stored
//!          1  could not start: the port or the data directory; or could not go on
//!          2  wrong arguments, or a fault plan that is none
//! ```

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as ClapErrorKind;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as ValueError, StrDeserializer};
use tracing_subscriber::EnvFilter;

#[cfg(feature = "tls")]
use kinesis_local::Tls;
use kinesis_local::{
    DEFAULT_ACCOUNT, DEFAULT_PORT, DEFAULT_REGION, ErrorKind, KinesisLocal, KmsKeyState, Limits,
    Settings,
};

mod file;

/// The exit code for wrong arguments. Source: clap's own, and custom.
const EXIT_USAGE: u8 = 2;

/// Kinesis Data Streams on this machine, with the DynamoDB and S3 that consumers need, on one port.
///
/// Point any AWS SDK or the aws command at it with the line that it prints. Any credentials are
/// accepted unless --auth says otherwise. Without --data-dir everything is in memory and gone at the end.
#[derive(Debug, Parser)]
#[command(name = "kinesis-local", version, about)]
struct Arguments {
    /// The port to listen on; 0 takes a free one
    #[arg(long, env = "KINESIS_LOCAL_PORT", default_value_t = DEFAULT_PORT)]
    port: u16,
    /// The address to listen on; anything but loopback lets other machines in: without --auth by
    /// any credentials, with it still to /_local/ (health, faults, time)
    #[arg(long, env = "KINESIS_LOCAL_HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Keep streams, tables and buckets in this directory
    #[arg(long, env = "KINESIS_LOCAL_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The region of requests whose signature names none
    #[arg(long, env = "KINESIS_LOCAL_REGION", default_value = DEFAULT_REGION)]
    region: String,
    /// The account of requests whose access key id is not one (12 digits)
    #[arg(long, env = "KINESIS_LOCAL_ACCOUNT", default_value = DEFAULT_ACCOUNT)]
    account: String,
    /// Take only requests signed by the users in this file, TOML or JSON: [[users]] with name,
    /// access_key_id, secret_access_key, and, if wanted, account and session_token. The pages under
    /// /_local/ (health, faults, time) stay open to anybody. Signatures may be
    /// 15 minutes off this server's clock, so do not advance it further (--virtual-time)
    #[arg(long, env = "KINESIS_LOCAL_AUTH", value_name = "FILE")]
    auth: Option<PathBuf>,
    /// What is limited per second: as the service does, nothing, or by the numbers in a file (TOML or
    /// JSON; what it leaves out is as in the service, 0 is no limit)
    #[arg(
        long,
        env = "KINESIS_LOCAL_LIMITS",
        value_name = "aws|off|FILE",
        default_value = "aws"
    )]
    limits: LimitsArgument,
    /// How long a new stream, consumer, queue or channel is CREATING, in milliseconds
    #[arg(
        long,
        env = "KINESIS_LOCAL_CREATE_DELAY_MS",
        value_name = "MS",
        default_value_t = 0
    )]
    create_delay_ms: u64,
    /// How long a stream is UPDATING after its shards, mode or encryption were changed, in milliseconds
    #[arg(
        long,
        env = "KINESIS_LOCAL_UPDATE_DELAY_MS",
        value_name = "MS",
        default_value_t = 0
    )]
    update_delay_ms: u64,
    /// How long a deleted stream, consumer, queue or channel is DELETING, in milliseconds
    #[arg(
        long,
        env = "KINESIS_LOCAL_DELETE_DELAY_MS",
        value_name = "MS",
        default_value_t = 0
    )]
    delete_delay_ms: u64,
    /// The state of a KMS key, named as in requests (id, alias/NAME or ARN): enabled, disabled,
    /// pending-deletion, access-denied, not-found, opt-in-required or throttling; may be repeated, and
    /// keys that are not named are enabled
    #[arg(long = "kms-key", value_name = "KEY=STATE", value_parser = kms_key)]
    kms_keys: Vec<(String, KmsKeyState)>,
    /// Inject the faults of this plan, TOML or JSON; /_local/faults shows and replaces it
    #[arg(long, env = "KINESIS_LOCAL_FAULTS", value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Let a POST to /_local/time advance the clock: {"advance_ms": N} or {"to_epoch_ms": N}
    #[arg(long, env = "KINESIS_LOCAL_VIRTUAL_TIME")]
    virtual_time: bool,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: TlsArguments,
}

/// The value of `--limits`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum LimitsArgument {
    Off,
    Aws,
    File(PathBuf),
}

impl From<&str> for LimitsArgument {
    fn from(text: &str) -> Self {
        match text {
            "off" => Self::Off,
            "aws" => Self::Aws,
            path => Self::File(path.into()),
        }
    }
}

/// The value of `--kms-key`.
fn kms_key(text: &str) -> Result<(String, KmsKeyState), String> {
    let (key, state) = text
        .rsplit_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| "it must be KEY=STATE".to_owned())?;
    let state: StrDeserializer<'_, ValueError> = state.into_deserializer();
    let state = KmsKeyState::deserialize(state).map_err(|error| error.to_string())?;
    Ok((key.to_owned(), state))
}

/// Whether TLS is spoken beside plain HTTP, and by which certificate.
#[cfg(feature = "tls")]
#[derive(Debug, clap::Args)]
struct TlsArguments {
    /// Speak TLS too, by a certificate made now for localhost, 127.0.0.1, ::1 and the host; the CA
    /// that clients have to trust is printed as PEM, unless --tls-ca-out names a file for it
    #[arg(long, env = "KINESIS_LOCAL_TLS")]
    tls: bool,
    /// Write the CA that clients have to trust to this file, as PEM; turns --tls on
    #[arg(long, value_name = "FILE")]
    tls_ca_out: Option<PathBuf>,
    /// Speak TLS too, by the certificate in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    #[arg(conflicts_with_all = ["tls", "tls_ca_out"])]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

#[cfg(feature = "tls")]
impl TlsArguments {
    fn settings(&self) -> Tls {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Tls::Given {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            _ if self.tls || self.tls_ca_out.is_some() => Tls::Own,
            _ => Tls::Off,
        }
    }

    /// Writes the CA, if that was asked for: before the address is announced, so that whoever
    /// reads that finds the file.
    fn write_ca(&self, local: &KinesisLocal) -> Result<(), Failure> {
        if let (Some(path), Some(ca)) = (&self.tls_ca_out, local.tls_ca_pem()) {
            std::fs::write(path, ca).map_err(|error| Failure::Ca(path.clone(), error))?;
        }
        Ok(())
    }

    /// Tells the SDKs and the aws command whom to trust: by the file, or by the CA itself.
    fn announce(&self, local: &KinesisLocal) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match (&self.tls_ca_out, local.tls_ca_pem()) {
            (Some(path), _) => writeln!(out, "export AWS_CA_BUNDLE={}", path.display())?,
            (None, Some(ca)) => writeln!(out, "{}", ca.trim_end())?,
            (None, None) => {}
        }
        out.flush()
    }
}

/// Why the command ended in failure.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Local(#[from] kinesis_local::Error),
    #[error(transparent)]
    File(#[from] file::Unreadable),
    #[error("the system refused to start threads")]
    Threads(#[source] io::Error),
    #[error("signals cannot be caught")]
    Signals(#[source] io::Error),
    #[cfg(feature = "tls")]
    #[error("the CA cannot be written to {}", .0.display())]
    Ca(PathBuf, #[source] io::Error),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Local(error) if error.kind() == ErrorKind::Settings => ExitCode::from(EXIT_USAGE),
            Self::File(_) => ExitCode::from(EXIT_USAGE),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Reads the arguments, serves until SIGINT or SIGTERM, and says how it ended.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => return print(&answer),
    };
    start_log();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Threads)
        .and_then(|runtime| runtime.block_on(serve(arguments)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            failure.exit_code()
        }
    }
}

/// Prints the help that was asked for, or what is wrong with the arguments.
fn print(answer: &clap::Error) -> ExitCode {
    let asked = matches!(
        answer.kind(),
        ClapErrorKind::DisplayHelp | ClapErrorKind::DisplayVersion
    );
    match answer.print() {
        Ok(()) if asked => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

fn start_log() {
    // s3s logs every refused request, a missing key too, as an error.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,s3s=off,s3s_fs=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}

async fn serve(arguments: Arguments) -> Result<(), Failure> {
    let mut settings = Settings::default();
    settings.listen = Some(SocketAddr::new(arguments.host, arguments.port));
    settings.data_dir = arguments.data_dir;
    settings.region = arguments.region;
    settings.account = arguments.account;
    settings.virtual_time = arguments.virtual_time;
    settings.create_delay_ms = arguments.create_delay_ms;
    settings.update_delay_ms = arguments.update_delay_ms;
    settings.delete_delay_ms = arguments.delete_delay_ms;
    settings.kms_keys = arguments.kms_keys.into_iter().collect();
    settings.limits = match arguments.limits {
        LimitsArgument::Off => Limits::Off,
        LimitsArgument::Aws => Limits::Aws,
        LimitsArgument::File(path) => Limits::Given(file::read("limits", &path)?),
    };
    #[cfg(feature = "tls")]
    {
        settings.tls = arguments.tls.settings();
    }
    // Before anything is announced, so that a signal right after it is not lost.
    let mut signals = Signals::catch().map_err(Failure::Signals)?;
    let faults = arguments.faults.as_deref();
    let faults = faults
        .map(|path| file::read("fault plan", path))
        .transpose()?;
    let mut builder = KinesisLocal::builder()
        .settings(settings)
        .faults(faults.unwrap_or_default());
    if let Some(path) = &arguments.auth {
        builder = builder.auth(file::read("list of users", path)?);
    }
    let local = builder.start().await?;
    #[cfg(feature = "tls")]
    arguments.tls.write_ca(&local)?;
    let announced = announce(&local);
    #[cfg(feature = "tls")]
    let announced = announced.and_then(|()| arguments.tls.announce(&local));
    if let Err(error) = announced {
        // Whoever started it may read the first line only and close the pipe.
        tracing::warn!(
            endpoint = local.endpoint_url(),
            "nobody reads standard output: {error}"
        );
    }
    signals.wait().await;
    tracing::info!("shutting down");
    local.shutdown().await;
    Ok(())
}

/// Tells where the server is, at once even if standard output is a pipe.
fn announce(local: &KinesisLocal) -> io::Result<()> {
    let endpoint = local.endpoint_url();
    let mut out = io::stdout().lock();
    writeln!(out, "kinesis-local listening on {endpoint}")?;
    writeln!(out, "export AWS_ENDPOINT_URL={endpoint}")?;
    out.flush()
}

/// The failure with its causes, on one line.
fn report(failure: &Failure) {
    let mut line = format!("kinesis-local: {failure}");
    let mut cause = std::error::Error::source(failure);
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    eprintln!("{line}");
}

/// The signals that end the server.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn catch() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn catch() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn wait(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
