//! What a `kinesis-local` can be told, apart from its components (clock, randomness).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::operation::is_known;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::place::{ACCOUNT_DIGITS, REGION_MAX_CHARS, is_account, is_region};
use crate::stream::encryption::KmsKeyState;

/// The port of the binary. Source: kinesalite's default, which existing set-ups use.
pub const DEFAULT_PORT: u16 = 4567;

/// The region of a request that names none. Source: the SDKs' fall-back region.
pub const DEFAULT_REGION: &str = "us-east-1";

/// The account of a request that names none. Source: what other local AWS emulators use.
pub const DEFAULT_ACCOUNT: &str = "000000000000";

/// Connections served at once; more wait in the kernel's queue. Source: none, reasonable default
/// (a few hundred SDK clients, well below the usual limit of 1,024 open files).
pub const DEFAULT_MAX_CONNECTIONS: usize = 512;

/// How long a client may take for the head of a request, the pause before it included. Source: longer
/// than clients keep unused connections (hyper's pool: 90 s), so that they close them and not we.
pub const DEFAULT_HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a body may take to arrive. Source: none, reasonable default.
pub const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a shutdown waits for requests that are under way. Source: none, reasonable default.
pub const DEFAULT_SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// Longest duration that can be asked for, in milliseconds: an hour. Source: none, reasonable bound.
const DURATION_MAX_MS: u64 = 3_600_000;

/// Connections that can be asked for. Source: none, reasonable bound.
const MAX_CONNECTIONS_BOUND: usize = 65_536;

/// Whether the port also speaks TLS, and by which certificate. Plain HTTP is always answered too.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tls {
    /// No TLS.
    #[default]
    Off,
    /// A certificate that is made at the start, for `localhost`, `127.0.0.1`, `::1` and the address
    /// that is listened on. Clients have to trust its CA: see `KinesisLocal::tls_ca_pem`.
    Own,
    /// A certificate that is given.
    Given {
        /// A PEM file with the certificate, and behind it any that lead from it to the CA.
        certificate: PathBuf,
        /// A PEM file with its private key.
        key: PathBuf,
    },
}

/// The settings of a `kinesis-local`; checked once, when it starts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Where streams, tables and buckets are kept. `None`: in memory (buckets in a temporary
    /// directory), gone at the end.
    pub data_dir: Option<PathBuf>,
    /// The address to listen on; port 0 takes a free one. `None`: no socket, in process only.
    pub listen: Option<SocketAddr>,
    /// The region of requests whose signature names none; 1 to 32 characters of `a-z`, `0-9` and
    /// `-`. Streams are kept apart by region and account.
    pub region: String,
    /// The account of requests whose access key id is not one (12 digits); 12 digits.
    pub account: String,
    /// What is limited per second. Default: as the service does.
    pub limits: Limits,
    /// How long a new stream, consumer, queue or channel is CREATING, in milliseconds; at most an
    /// hour. Default: 0.
    pub create_delay_ms: u64,
    /// How long a deleted stream, consumer, queue or channel is DELETING, in milliseconds; at most an
    /// hour. Default: 0.
    pub delete_delay_ms: u64,
    /// How long a stream is UPDATING after its shards, mode or encryption were changed, in
    /// milliseconds; at most an hour. Default: 0.
    pub update_delay_ms: u64,
    /// The states of KMS keys, by how requests name them (id, `alias/NAME` or ARN); a key that is
    /// not here is enabled. `KinesisLocal::set_kms_key` changes them later. Default: none.
    pub kms_keys: BTreeMap<String, KmsKeyState>,
    /// How long a connection may take for the head of a request, the pause before it included, in
    /// milliseconds; 1 to an hour. An answer of which not even 32 KiB could be written in that time is
    /// cut, too: its stream on HTTP/2, its connection on HTTP/1.1. Default: 120,000.
    pub head_timeout_ms: u64,
    /// How long the body of a request of Kinesis or DynamoDB may take to arrive, in milliseconds; 1 to
    /// an hour; the time in which it waits for memory is not counted. One that comes too slowly to be
    /// whole by then, or stops, is refused after a second while others wait for the memory that it
    /// takes. Default: 60,000.
    pub body_timeout_ms: u64,
    /// Connections served at once; 1 to 65,536.
    pub max_connections: usize,
    /// How long a shutdown waits for requests that are under way, in milliseconds; at most an hour.
    pub shutdown_deadline_ms: u64,
    /// Whether the port also speaks TLS; needs the feature `tls`. Default: off.
    pub tls: Tls,
    /// Whether time can be advanced, by `KinesisLocal::advance` and `/_local/time`. Default: no.
    pub virtual_time: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: None,
            listen: None,
            region: DEFAULT_REGION.to_owned(),
            account: DEFAULT_ACCOUNT.to_owned(),
            limits: Limits::Aws,
            create_delay_ms: 0,
            delete_delay_ms: 0,
            update_delay_ms: 0,
            kms_keys: BTreeMap::new(),
            head_timeout_ms: DEFAULT_HEAD_TIMEOUT.as_millis() as u64,
            body_timeout_ms: DEFAULT_BODY_TIMEOUT.as_millis() as u64,
            max_connections: DEFAULT_MAX_CONNECTIONS,
            shutdown_deadline_ms: DEFAULT_SHUTDOWN_DEADLINE.as_millis() as u64,
            tls: Tls::Off,
            virtual_time: false,
        }
    }
}

impl Settings {
    /// Checks every field against its bound; the error names the first that is out of it.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !is_region(&self.region) {
            return Err(out_of_bounds(format!(
                "region must be 1 to {REGION_MAX_CHARS} characters of a-z, 0-9 and '-', it is {:?}",
                self.region
            )));
        }
        if !is_account(&self.account) {
            return Err(out_of_bounds(format!(
                "account must be {ACCOUNT_DIGITS} digits, it is {:?}",
                self.account
            )));
        }
        if let Limits::Given(quotas) = &self.limits
            && let Some(name) = quotas.calls_per_second.keys().find(|name| !is_known(name))
        {
            return Err(out_of_bounds(format!(
                "limits.calls_per_second names {name:?}, which is no operation of Kinesis"
            )));
        }
        if !(1..=MAX_CONNECTIONS_BOUND).contains(&self.max_connections) {
            return Err(out_of_bounds(format!(
                "max_connections must be 1 to {MAX_CONNECTIONS_BOUND}, it is {}",
                self.max_connections
            )));
        }
        if cfg!(not(feature = "tls")) && self.tls != Tls::Off {
            return Err(out_of_bounds(
                "tls must be off: this kinesis-local was built without its feature `tls`"
                    .to_owned(),
            ));
        }
        for (name, value) in [
            ("head_timeout_ms", self.head_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
        ] {
            if value == 0 {
                return Err(out_of_bounds(format!("{name} must be at least 1")));
            }
        }
        let durations = [
            ("head_timeout_ms", self.head_timeout_ms),
            ("body_timeout_ms", self.body_timeout_ms),
            ("create_delay_ms", self.create_delay_ms),
            ("delete_delay_ms", self.delete_delay_ms),
            ("update_delay_ms", self.update_delay_ms),
            ("shutdown_deadline_ms", self.shutdown_deadline_ms),
        ];
        for (field, value) in durations {
            if value > DURATION_MAX_MS {
                return Err(out_of_bounds(format!(
                    "{field} must be at most {DURATION_MAX_MS}, it is {value}"
                )));
            }
        }
        Ok(())
    }
}

fn out_of_bounds(message: String) -> Error {
    Error::new(ErrorKind::Settings, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Settings::default().validate().unwrap();
    }

    #[test]
    fn an_error_names_the_field_that_is_out_of_its_bounds() {
        let settings = Settings::default;
        let cases = [
            (
                "region",
                Settings {
                    region: "US EAST".to_owned(),
                    ..settings()
                },
            ),
            (
                "region",
                Settings {
                    region: String::new(),
                    ..settings()
                },
            ),
            (
                "account",
                Settings {
                    account: "123".to_owned(),
                    ..settings()
                },
            ),
            (
                "max_connections",
                Settings {
                    max_connections: 0,
                    ..settings()
                },
            ),
            (
                "create_delay_ms",
                Settings {
                    create_delay_ms: 3_600_001,
                    ..settings()
                },
            ),
            (
                "delete_delay_ms",
                Settings {
                    delete_delay_ms: 3_600_001,
                    ..settings()
                },
            ),
            (
                "update_delay_ms",
                Settings {
                    update_delay_ms: 3_600_001,
                    ..settings()
                },
            ),
            (
                "shutdown_deadline_ms",
                Settings {
                    shutdown_deadline_ms: u64::MAX,
                    ..settings()
                },
            ),
        ];
        for (field, settings) in cases {
            let error = settings.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }

    #[test]
    fn a_part_of_the_settings_can_be_read_and_an_unknown_one_is_refused() {
        let read: Settings = serde_json::from_str(r#"{"region":"eu-west-1"}"#).unwrap();
        let expected = Settings {
            region: "eu-west-1".to_owned(),
            ..Settings::default()
        };
        assert_eq!(read, expected);
        assert!(serde_json::from_str::<Settings>(r#"{"regoin":"eu-west-1"}"#).is_err());
    }
}
