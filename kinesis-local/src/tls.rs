//! TLS on the port: which certificate the server shows, and how a connection is told to be TLS.
//!
//! ```text
//! first byte of a connection   0x16 ─▶ TLS 1.2 or 1.3, ALPN h2 and http/1.1 ─▶ HTTP inside
//!                              else ─▶ HTTP/1.1 or h2c, as without TLS
//! ```
//! Promises: a certificate of our own names `localhost`, `127.0.0.1`, `::1` and the address that is
//! listened on; it is signed by a CA whose certificate can be handed to clients and whose key is
//! forgotten as soon as it has signed, so that nobody who trusts it can be shown anything else. A
//! handshake is bounded in time.
//!
//! Deliberately absent: client certificates, and keys that outlive the process: every start has
//! another CA, unless a certificate is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::error::{Error, ErrorKind};
use crate::settings::Tls;

/// The first byte of a TLS connection: a handshake record. Neither HTTP starts with it.
pub(crate) const FIRST_BYTE: u8 = 0x16;

/// How long a handshake may take. Source: none, reasonable default.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a certificate of our own is valid. Source: the longest that Apple's clients accept.
const VALID: Duration = Duration::from_secs(825 * 24 * 60 * 60);

/// How long before its making it is valid already, for clients whose clocks are behind. Source:
/// none, reasonable default.
const VALID_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);

/// What the server shows, ready to be used.
#[derive(Clone)]
pub(crate) struct Identity {
    acceptor: TlsAcceptor,
    ca_pem: Option<Arc<str>>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("own", &self.ca_pem.is_some())
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// What the settings ask for; `None`: no TLS. `address` is the one that is listened on. Blocks.
    pub(crate) fn open(tls: &Tls, address: Option<IpAddr>) -> Result<Option<Self>, Error> {
        match tls {
            Tls::Off => Ok(None),
            Tls::Own => Self::own(address).map(Some),
            Tls::Given { certificate, key } => Self::given(certificate, key).map(Some),
        }
    }

    fn given(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable("certificate", certificate).with_source(error))?;
        if chain.is_empty() {
            return Err(unusable("certificate", certificate));
        }
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| unusable("private key", key).with_source(error))?;
        let acceptor = acceptor(chain, private)
            .map_err(|error| unusable("private key", key).with_source(error))?;
        Ok(Self {
            acceptor,
            ca_pem: None,
        })
    }

    fn own(address: Option<IpAddr>) -> Result<Self, Error> {
        let failed = |error| {
            Error::new(ErrorKind::Settings, "tls: no certificate could be made").with_source(error)
        };
        let (leaf, key, ca_pem) = make(address).map_err(failed)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| {
            Error::new(
                ErrorKind::Settings,
                "tls: the key that was made cannot be read",
            )
            .with_source(error)
        })?;
        let acceptor = acceptor(vec![leaf], private).map_err(|error| {
            Error::new(
                ErrorKind::Settings,
                "tls: the certificate that was made cannot be used",
            )
            .with_source(error)
        })?;
        Ok(Self {
            acceptor,
            ca_pem: Some(ca_pem.into()),
        })
    }

    /// The certificate that clients have to trust, unless it was given.
    pub(crate) fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Does the handshake; `None`: the client did not do its part.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<Box<TlsStream<TcpStream>>> {
        let handshake = Box::pin(self.acceptor.accept(stream));
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed; does the client trust the CA?");
                None
            }
            Err(_) => {
                tracing::debug!("a TLS handshake took too long; the connection was cut");
                None
            }
        }
    }
}

fn unusable(what: &str, path: &Path) -> Error {
    Error::new(
        ErrorKind::Settings,
        format!(
            "tls: {} is no {what} in PEM that the server can use",
            path.display()
        ),
    )
}

fn acceptor(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<TlsAcceptor, tokio_rustls::rustls::Error> {
    // Named, because a program may have compiled in more than one.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A certificate with its key, and the CA's certificate in PEM. The keys are the cryptographic
/// library's own chance: they must not be repeatable.
fn make(
    address: Option<IpAddr>,
) -> Result<(CertificateDer<'static>, KeyPair, String), rcgen::Error> {
    let mut ca = parameters("kinesis-local CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut leaf = parameters("kinesis-local");
    leaf.subject_alt_names = names(address)?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;
    Ok((certificate.into(), key, ca_pem))
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    // The system's clock and not the caller's: clients judge it by theirs.
    let now = Duration::from_millis(Clock::system().epoch_millis());
    let epoch = date_time_ymd(1970, 1, 1);
    parameters.not_before = epoch + now.saturating_sub(VALID_BEFORE);
    parameters.not_after = epoch + (now + VALID - VALID_BEFORE);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn names(address: Option<IpAddr>) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
    ];
    if let Some(address) = address
        && !address.is_loopback()
        && !address.is_unspecified()
    {
        names.push(SanType::IpAddress(address));
    }
    Ok(names)
}
