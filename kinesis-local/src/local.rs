//! The handle of a running `kinesis-local`, and how one is started.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
#[cfg(feature = "s3")]
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use kinesis_core::{Clock, ClockError, Rand};

use crate::auth::{Auth, Users};
use crate::embed::InProcessClient;
use crate::error::{Error, ErrorKind};
use crate::fault::{FaultCount, FaultPlan, Faults};
use crate::limits::Limits;
use crate::route::Service;
use crate::server::Server;
use crate::services::Services;
use crate::settings::{Settings, Tls};
use crate::stream::encryption::KmsKeyState;
use crate::tls::Identity;

/// The endpoint of an instance without a socket. Only its in-process client understands it: port 0
/// cannot be connected to, so a client that was set up without
/// [`http_client`](KinesisLocal::http_client) fails at once instead of reaching another server.
/// An IP address, because the SDK for S3 then puts the bucket into the path.
const IN_PROCESS_ENDPOINT: &str = "http://127.0.0.1:0";

/// A running `kinesis-local`. Cheap to clone; all clones are the same instance.
///
/// Instances in one process do not share anything. When the last handle is dropped the socket stops
/// accepting connections; use [`shutdown`](Self::shutdown) for an orderly end.
#[derive(Clone, Debug)]
pub struct KinesisLocal {
    inner: Arc<Running>,
}

#[derive(Debug)]
struct Running {
    service: Service,
    settings: Settings,
    server: Option<Server>,
}

impl KinesisLocal {
    /// Starts a description of what to run: in memory and without a socket unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The URL for an SDK's endpoint: the socket's if there is one (`https` if it speaks TLS, though
    /// it answers plain HTTP too), else a name that only [`http_client`](Self::http_client)
    /// understands.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        match &self.inner.server {
            Some(server) => {
                let scheme = match self.inner.settings.tls {
                    Tls::Off => "http",
                    Tls::Own | Tls::Given { .. } => "https",
                };
                format!("{scheme}://{}", reachable(server.address()))
            }
            None => IN_PROCESS_ENDPOINT.to_owned(),
        }
    }

    /// An SDK HTTP client that reaches this instance without a socket.
    #[must_use]
    pub fn http_client(&self) -> InProcessClient {
        InProcessClient::new(self.inner.service.clone())
    }

    /// What every SDK client needs to use this instance in process: region, credentials, endpoint,
    /// HTTP client and sleep.
    #[must_use]
    pub fn sdk_config(&self) -> SdkConfig {
        let credentials = Credentials::new("local", "local", None, None, "kinesis-local");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.inner.settings.region.clone()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(self.endpoint_url())
            .http_client(self.http_client())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            // Its measure of progress mixes wall and virtual time, and nothing stalls in process.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build()
    }

    /// What a KMS key answers from now on, by how requests name it (id, `alias/NAME` or ARN): so a
    /// test sees what becomes of a stream whose key is disabled or taken away.
    pub fn set_kms_key(&self, key: &str, state: KmsKeyState) {
        self.inner.service.kms().set(key, state);
    }

    /// The address of the socket, if there is one.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.server.as_ref().map(Server::address)
    }

    /// The CA that clients have to trust, as PEM, if the server made its own certificate
    /// ([`Tls::Own`]). It signed that certificate and nothing else, and another start has another.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls_ca_pem(&self) -> Option<&str> {
        self.inner.server.as_ref().and_then(Server::tls_ca_pem)
    }

    /// The directory with the S3 buckets: `<bucket>/<key>`, every object a plain file. Without a data
    /// directory it is temporary, made when it is first needed (so this may block for a moment) and
    /// removed by [`shutdown`](Self::shutdown) or when nothing uses the instance any more.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn s3_dir(&self) -> &Path {
        self.inner.service.s3_dir()
    }

    /// Replaces the fault plan; counters and chances begin anew. An empty plan ends all faults.
    ///
    /// # Errors
    /// A field of the plan out of its bounds; the plan there was goes on.
    pub fn set_faults(&self, plan: FaultPlan) -> Result<(), Error> {
        self.inner.service.faults().set(plan)
    }

    /// How often the rules of the fault plan met a call, in their order.
    #[must_use]
    pub fn fault_counts(&self) -> Vec<FaultCount> {
        self.inner.service.faults().counts()
    }

    /// The time of this instance, which [`advance`](Self::advance) moves.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.inner.service.clock()
    }

    /// Lets this much time pass at once: retention, iterators, CREATING and UPDATING, daily quotas,
    /// throughput limits, subscriptions and whatever waits for a time see it as passed. DynamoDB,
    /// S3 and the connections of the socket keep the machine's time.
    ///
    /// # Errors
    /// [`Builder::virtual_time`] was not asked for, or it is more than
    /// [`CLOCK_ADVANCE_MAX`](kinesis_core::CLOCK_ADVANCE_MAX) in all; nothing changed then.
    pub fn advance(&self, by: Duration) -> Result<(), Error> {
        let advanced = self.clock().advance(by);
        advanced.map_err(|why| Error::new(ErrorKind::Settings, not_advanced(why)))
    }

    /// Ends the instance: admits no more requests, ends subscriptions, waits for the requests that
    /// are under way (at most the settings' deadline) and closes the data directory.
    ///
    /// Calling it again waits for the same end. Cancel safe: a later call goes on.
    pub async fn shutdown(&self) {
        let clock = Clock::system();
        let deadline = Duration::from_millis(self.inner.settings.shutdown_deadline_ms);
        let end = clock.now() + deadline;
        if let Some(server) = &self.inner.server {
            server.close();
        }
        self.inner.service.finish(deadline).await;
        if let Some(server) = &self.inner.server {
            let left = end.saturating_duration_since(clock.now());
            server.wait(left).await;
        }
        self.inner.service.close().await;
    }
}

/// Why time stays as it is, and what to do about it.
pub(crate) fn not_advanced(why: ClockError) -> String {
    let hint = match why {
        ClockError::Fixed => "; start it with --virtual-time, or Builder::virtual_time(true)",
        ClockError::Backward | ClockError::TooFar => "",
    };
    format!("the time was not changed: {why}{hint}")
}

/// An address to connect to: this machine's, if the server listens on all of them.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// What to run; see [`KinesisLocal::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    settings: Settings,
    clock: Option<Clock>,
    rand: Option<Rand>,
    faults: FaultPlan,
    auth: Option<Users>,
    single_threaded: bool,
}

impl Builder {
    /// Keeps everything under this directory (created if missing) instead of in memory.
    #[must_use]
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.settings.data_dir = Some(directory.into());
        self
    }

    /// Also listens on this address; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.settings.listen = Some(address);
        self
    }

    /// Also speaks TLS on the port that it listens on.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.settings.tls = tls;
        self
    }

    /// The region of requests whose signature names none, and of [`sdk_config`](KinesisLocal::sdk_config).
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.settings.region = region.into();
        self
    }

    /// The account of requests whose access key id is not one (12 digits).
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.settings.account = account.into();
        self
    }

    /// What is limited per second. Default: as the service does.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Takes only requests that are signed by one of these users, for Kinesis, DynamoDB and S3 alike,
    /// within 15 minutes of the instance's clock: once [`advance`](KinesisLocal::advance) took it
    /// further, clients that sign by the machine's are refused. Default: any credentials are accepted.
    /// The credentials of [`sdk_config`](KinesisLocal::sdk_config) are no user's: give its clients some
    /// that are. The pages under `/_local/` stay open.
    #[must_use]
    pub fn auth(mut self, users: Users) -> Self {
        self.auth = Some(users);
        self
    }

    /// Replaces all settings at once, those given before included.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The clock for sequence numbers, arrival times and retention. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The source of chance. Default: seeded by the operating system.
    #[must_use]
    pub fn rand(mut self, rand: Rand) -> Self {
        self.rand = Some(rand);
        self
    }

    /// Faults on purpose, from the start on. Default: none.
    #[must_use]
    pub fn faults(mut self, plan: FaultPlan) -> Self {
        self.faults = plan;
        self
    }

    /// Lets [`KinesisLocal::advance`] and `/_local/time` advance the clock, the one that was given
    /// too if it is [advanceable](Clock::advanceable), else a copy of it. Default: no.
    #[must_use]
    pub fn virtual_time(mut self, virtual_time: bool) -> Self {
        self.settings.virtual_time = virtual_time;
        self
    }

    /// Carries out DynamoDB's operations on the runtime's threads, which they block for as long as
    /// SQLite takes. In memory nothing leaves those threads then, so that on a current-thread runtime
    /// with paused time, a seeded [`rand`](Self::rand) and a virtual [`clock`](Self::clock) the same
    /// calls are answered in the same order each time. For simulations. Default: no.
    #[must_use]
    pub fn single_threaded(mut self, single_threaded: bool) -> Self {
        self.single_threaded = single_threaded;
        self
    }

    /// Starts it. Has to run inside a tokio runtime with time enabled (and I/O, to listen).
    ///
    /// # Errors
    /// A setting or a fault rule out of its bounds, a certificate that cannot be used, an address that cannot be
    /// listened on, a data directory that is in use or cannot be read.
    pub async fn start(self) -> Result<KinesisLocal, Error> {
        let Self {
            settings,
            clock,
            rand,
            faults,
            auth,
            single_threaded,
        } = self;
        settings.validate()?;
        faults.validate()?;
        let auth = auth.map(Auth::new).transpose()?.map(Arc::new);
        let mut clock = clock.unwrap_or_default();
        if settings.virtual_time && !clock.is_advanceable() {
            clock = clock.advanceable();
        }
        let rand = rand.unwrap_or_else(Rand::from_entropy);
        let faults = Faults::new(faults, clock.clone());
        let service_clock = clock.clone();
        let to_open = settings.clone();
        let opening = tokio::task::spawn_blocking(move || {
            // First, because a certificate that cannot be read leaves the data alone.
            let identity = Identity::open(&to_open.tls, to_open.listen.map(|on| on.ip()))?;
            Ok((
                identity,
                Services::open(&to_open, auth, clock, rand, single_threaded)?,
            ))
        });
        let (identity, services) = opening.await.map_err(|panic| {
            Error::new(ErrorKind::Corrupt, "opening the data panicked").with_source(panic)
        })??;
        let service = Service::new(
            services,
            faults,
            service_clock,
            Duration::from_millis(settings.body_timeout_ms),
        );
        let server = match settings.listen {
            Some(address) => {
                let places = settings.max_connections;
                let head_timeout = Duration::from_millis(settings.head_timeout_ms);
                Some(
                    Server::listen(address, service.clone(), places, head_timeout, identity)
                        .await?,
                )
            }
            None => None,
        };
        Ok(KinesisLocal {
            inner: Arc::new(Running {
                service,
                settings,
                server,
            }),
        })
    }
}
