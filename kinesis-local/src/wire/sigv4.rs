//! Signatures of version 4: who signed a request and for where, and what the signature has to be.
//!
//! ```text
//! Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261123/us-east-1/kinesis/aws4_request,
//!                SignedHeaders=host;x-amz-date, Signature=…
//! ?X-Amz-Algorithm=…&X-Amz-Credential=AKID%2F20261123%2F…&X-Amz-Date=…&X-Amz-Expires=…&…
//! ```
//! Promises: pure; a request is never changed, and nothing here panics on a hostile one. Signatures
//! are compared in constant time.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

mod canonical;

pub(crate) use canonical::Path;

/// The one algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What ends every credential scope.
pub(crate) const SCOPE_END: &str = "aws4_request";

/// The credential of a signature: access key id and scope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Credential<'a> {
    text: Cow<'a, str>,
}

impl<'a> Credential<'a> {
    /// The credential of a signed request, in its header or its query; `None` for an unsigned one,
    /// and for one signed with version 2, which has no scope.
    pub(crate) fn of(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<Self> {
        let header = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let text = if let Some(header) = header {
            let (_, credential) = header.split_once("Credential=")?;
            Cow::Borrowed(credential.split([',', ' ']).next()?)
        } else {
            canonical::parameter(query?, "X-Amz-Credential")?
        };
        let credential = Self { text };
        (credential.nth_last(0)? == SCOPE_END).then_some(credential)
    }

    /// May hold slashes itself.
    pub(crate) fn access_key(&self) -> &str {
        self.text.rsplitn(5, '/').nth(4).unwrap_or_default()
    }

    pub(crate) fn date(&self) -> Option<&str> {
        self.nth_last(3)
    }

    pub(crate) fn region(&self) -> Option<&str> {
        self.nth_last(2)
    }

    pub(crate) fn service(&self) -> Option<&str> {
        self.nth_last(1)
    }

    fn nth_last(&self, part: usize) -> Option<&str> {
        self.text.rsplit('/').nth(part)
    }

    /// The scope without the access key.
    fn scope(&self) -> &str {
        let key = self.access_key().len();
        self.text
            .get(key..)
            .unwrap_or_default()
            .trim_start_matches('/')
    }
}

/// What a request says about its signature.
#[derive(Clone, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) credential: Credential<'a>,
    /// `20261123T020000Z`, as it was sent.
    pub(crate) time: Cow<'a, str>,
    /// Seconds that a presigned request is good for; `None`: signed in its header.
    pub(crate) expires_s: Option<u64>,
    pub(crate) token: Option<Cow<'a, str>>,
    signed_headers: Cow<'a, str>,
    signature: Cow<'a, str>,
}

impl<'a> Claim<'a> {
    /// Reads header or query; `None`: there is no signature of version 4, not the whole of it, or one
    /// of another algorithm.
    pub(crate) fn of(head: &'a Parts) -> Option<Self> {
        let claim = Self::read(head)?;
        (claim.signed_headers.split(';').count() <= SIGNED_HEADERS_MAX).then_some(claim)
    }

    fn read(head: &'a Parts) -> Option<Self> {
        let query = head.uri.query();
        let credential = Credential::of(&head.headers, query)?;
        let text = |name: &str| head.headers.get(name)?.to_str().ok().map(Cow::Borrowed);
        let Some(header) = text("authorization") else {
            let parameter = |name| canonical::parameter(query?, name);
            if parameter("X-Amz-Algorithm")? != ALGORITHM {
                return None;
            }
            return Some(Self {
                credential,
                time: parameter("X-Amz-Date")?,
                expires_s: Some(
                    parameter("X-Amz-Expires")
                        .map_or(Some(DEFAULT_EXPIRES_S), |text| text.parse().ok())?,
                ),
                token: parameter("X-Amz-Security-Token"),
                signed_headers: parameter("X-Amz-SignedHeaders")?,
                signature: parameter("X-Amz-Signature")?,
            });
        };
        let Cow::Borrowed(header) = header else {
            return None;
        };
        let (algorithm, header) = header.trim_start().split_once(' ')?;
        if algorithm != ALGORITHM {
            return None;
        }
        let parameter = |name: &str| {
            header.split([' ', ',']).find_map(|part| {
                let (key, value) = part.split_once('=')?;
                (key == name).then_some(Cow::Borrowed(value))
            })
        };
        Some(Self {
            credential,
            time: text("x-amz-date").or_else(|| text("date"))?,
            expires_s: None,
            token: text("x-amz-security-token"),
            signed_headers: parameter("SignedHeaders")?,
            signature: parameter("Signature")?,
        })
    }

    /// Whether the signature is the one of `secret` for this request. `payload_hash` is in hex, or
    /// the word that stands for it.
    pub(crate) fn is_signed_by(
        &self,
        secret: &str,
        head: &Parts,
        path: Path,
        payload_hash: &str,
    ) -> bool {
        let request = canonical::request(head, path, &self.signed_headers, payload_hash);
        let expected = self.signature_of(secret, &request);
        expected.as_bytes().ct_eq(self.signature.as_bytes()).into()
    }

    /// Whether the header is among those that the signature covers.
    pub(crate) fn covers(&self, header: &str) -> bool {
        self.signed_headers.split(';').any(|name| name == header)
    }

    fn signature_of(&self, secret: &str, canonical_request: &str) -> String {
        let (scope, time) = (self.credential.scope(), &self.time);
        let hash = hex(&Sha256::digest(canonical_request));
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{hash}");
        let secret = format!("AWS4{secret}").into_bytes();
        let key = scope
            .split('/')
            .fold(secret, |key, part| hmac(&key, part.as_bytes()));
        hex(&hmac(&key, to_sign.as_bytes()))
    }
}

/// Headers that a signature can cover. Source: none; as many as a request may have.
const SIGNED_HEADERS_MAX: usize = 100;

/// How long a presigned request is good that does not say it, in seconds. Source: none; the model's
/// own clients always say it.
const DEFAULT_EXPIRES_S: u64 = 900;

/// The hash of a payload, in hex.
pub(crate) fn payload_hash(payload: &[u8]) -> String {
    hex(&Sha256::digest(payload))
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new(); // HMAC takes keys of any length
    };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A String takes whatever is written to it.
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}

#[cfg(test)]
pub(crate) mod tests;
