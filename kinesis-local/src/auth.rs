//! Who may call, when `--auth` asks: the users of a file, and whether a request is one of theirs.
//!
//! ```text
//! claim whole? ─ time of the signature ─ scope ─ access key known? ─ token ─ signature
//! ```
//! Promises: nothing is carried out for a request that is not signed by a user of the file, within
//! 15 minutes of the clock (presigned: as long as it says), or that could be made another operation
//! without its signature being wrong; a refusal has the service's code and
//! text, and no text, log or `Debug` form has a secret. Pure: the caller gives the time.
//!
//! Deliberately absent: what a user may do (IAM policies). For S3 the hash of a payload and the
//! signatures of its chunks are taken as they are sent; its head is checked.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::request::Parts;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use crate::date::{Utc, epoch_seconds};
use crate::error::{Error, ErrorKind};
use crate::place::{ACCOUNT_DIGITS, is_account};
use crate::wire::sigv4::{Claim, Path, SCOPE_END, payload_hash};

/// How far the time of a signature may be from the clock, in seconds. Source: "Signing AWS API
/// requests", IAM user guide.
const SKEW_MAX_S: u64 = 15 * 60;

/// The longest that a presigned request is good for, in seconds: a week. Source: the same.
const EXPIRES_MAX_S: u64 = 7 * 86_400;

/// Users of a file. Source: none, reasonable bound.
const USERS_MAX: usize = 10_000;

/// One user: a name, an account and a pair of keys.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct User {
    /// The name in `arn:aws:iam::ACCOUNT:user/NAME`.
    pub name: String,
    /// The user's account, 12 digits. `None`: the settings' account.
    #[serde(default)]
    pub account: Option<String>,
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
    /// The session token that requests have to bring. `None`: they bring none.
    #[serde(default)]
    pub session_token: Option<String>,
}

impl User {
    /// A user of the settings' account, without a session token.
    pub fn new(
        name: impl Into<String>,
        access_key_id: impl Into<String>,
        secret_access_key: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            account: None,
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// The users that requests may be signed by; in a file (`--auth FILE`) TOML or JSON:
///
/// ```toml
/// [[users]]
/// name = "ann"
/// account = "111122223333"          # left out: the account of the settings
/// access_key_id = "AKIDANN"
/// secret_access_key = "a secret"
/// # session_token = "…"             # if set, requests have to bring it
/// ```
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Users {
    /// The users; each access key id is used once.
    pub users: Vec<User>,
}

impl Users {
    /// These users.
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        Self {
            users: users.into_iter().collect(),
        }
    }
}

/// Users by access key id, checked.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    users: HashMap<String, Arc<User>>,
}

impl Auth {
    pub(crate) fn new(users: Users) -> Result<Self, Error> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Settings, text));
        if !(1..=USERS_MAX).contains(&users.users.len()) {
            return refuse(format!("users must be 1 to {USERS_MAX}"));
        }
        let mut by_key = HashMap::new();
        for user in users.users {
            let name = user.name.clone();
            if user.name.is_empty() || user.access_key_id.is_empty() {
                return refuse(format!("user {name:?} needs a name and an access_key_id"));
            }
            if user.secret_access_key.is_empty() {
                return refuse(format!("secret_access_key of user {name:?} is empty"));
            }
            if user
                .account
                .as_deref()
                .is_some_and(|account| !is_account(account))
            {
                return refuse(format!(
                    "account of user {name:?} must be {ACCOUNT_DIGITS} digits"
                ));
            }
            let earlier = by_key.insert(user.access_key_id.clone(), Arc::new(user));
            if let Some(earlier) = earlier {
                let earlier = &earlier.name;
                return refuse(format!(
                    "users {earlier:?} and {name:?} have one access_key_id"
                ));
            }
        }
        Ok(Self { users: by_key })
    }

    /// The user with this key; whether a request is really theirs, [`check`](Self::check) tells.
    pub(crate) fn user(&self, access_key: &str) -> Option<&Arc<User>> {
        self.users.get(access_key)
    }

    /// Whether the request is signed by a user, for `service`, at about `now_ms`. `body` is what
    /// the signature has to cover; `None`: what its head says of it (S3).
    pub(crate) fn check(
        &self,
        service: &str,
        head: &Parts,
        body: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let claim = Claim::of(head).ok_or(Refusal::Incomplete)?;
        check_time(&claim, now_ms / 1000)?;
        check_scope(&claim, service)?;
        if body.is_some() {
            check_covered(&claim, head)?;
        }
        let user = self.user(claim.credential.access_key());
        let user = user.ok_or(Refusal::UnknownKey)?;
        let tokens = (user.session_token.as_deref(), claim.token.as_deref());
        let same = match tokens {
            (None, None) => true,
            (Some(expected), Some(token)) => expected.as_bytes().ct_eq(token.as_bytes()).into(),
            _ => false,
        };
        if !same {
            return Err(Refusal::UnknownToken);
        }
        let told = head.headers.get("x-amz-content-sha256");
        let told = told.and_then(|hash| hash.to_str().ok());
        let (path, hash) = match body {
            Some(body) => (Path::Normalized, payload_hash(body)),
            None => (Path::AsSent, told.unwrap_or("UNSIGNED-PAYLOAD").to_owned()),
        };
        if claim.is_signed_by(&user.secret_access_key, head, path, &hash) {
            Ok(())
        } else {
            Err(Refusal::Mismatch)
        }
    }
}

fn check_time(claim: &Claim<'_>, now_s: u64) -> Result<(), Refusal> {
    let signed_s = epoch_seconds(&claim.time).ok_or(Refusal::BadDate)?;
    let good_s = match claim.expires_s {
        None => SKEW_MAX_S,
        Some(expires_s) if expires_s <= EXPIRES_MAX_S => expires_s,
        Some(_) => {
            return Err(Refusal::Signature(format!(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given \
                 X-Amz-Expires must be less than {EXPIRES_MAX_S} seconds"
            )));
        }
    };
    let text = |epoch_s: u64| Utc::at(epoch_s * 1000).basic();
    let time = text(signed_s);
    if signed_s + good_s < now_s {
        return Err(Refusal::Expired(format!(
            "Signature expired: {time} is now earlier than {} ({} - {}.)",
            text(now_s - good_s),
            text(now_s),
            span(good_s)
        )));
    }
    if signed_s > now_s + SKEW_MAX_S {
        return Err(Refusal::NotYet(format!(
            "Signature not yet current: {time} is still later than {} ({} + {}.)",
            text(now_s + SKEW_MAX_S),
            text(now_s),
            span(SKEW_MAX_S)
        )));
    }
    Ok(())
}

fn span(seconds: u64) -> String {
    if seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} sec")
    }
}

fn check_scope(claim: &Claim<'_>, service: &str) -> Result<(), Refusal> {
    let (credential, day) = (&claim.credential, claim.time.get(..8));
    if credential.access_key().is_empty() {
        return Err(Refusal::Incomplete);
    }
    if credential.date() != day {
        return Err(Refusal::Signature(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{}' != '{}', from '{}'.",
            credential.date().unwrap_or_default(),
            day.unwrap_or_default(),
            claim.time
        )));
    }
    if credential.service() != Some(service) {
        return Err(Refusal::Signature(format!(
            "Credential should be scoped to correct service: '{service}'. "
        )));
    }
    if !claim.covers("host") {
        return Err(Refusal::Signature(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
        ));
    }
    Ok(())
}

/// Whether the signature covers what makes a request of Kinesis or DynamoDB this one and no other:
/// without its target, who sees it could send it again as another operation.
fn check_covered(claim: &Claim<'_>, head: &Parts) -> Result<(), Refusal> {
    for name in ["x-amz-target", "x-amz-date"] {
        // A presigned request's time is in its query, which is covered.
        let counts = name != "x-amz-date" || claim.expires_s.is_none();
        if counts && head.headers.contains_key(name) && !claim.covers(name) {
            return Err(Refusal::Signature(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    Ok(())
}

/// Why a request is not taken for a user's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    /// No signature of version 4, or a part of it is missing.
    Incomplete,
    BadDate,
    UnknownKey,
    UnknownToken,
    Mismatch,
    Expired(String),
    NotYet(String),
    /// The signature cannot be right; the text says why.
    Signature(String),
}

impl Refusal {
    /// Code and text of the services that speak JSON.
    pub(crate) fn json(&self) -> (&'static str, String) {
        const INVALID: &str = "InvalidSignatureException";
        match self {
            Self::Incomplete => (
                "IncompleteSignatureException",
                format!(
                    "Authorization header requires a whole signature: Credential (keyid/date/\
                     region/service/{SCOPE_END}), SignedHeaders and Signature."
                ),
            ),
            Self::BadDate => (
                "IncompleteSignatureException",
                "Date must be in ISO-8601 'basic format'. See \
                 http://en.wikipedia.org/wiki/ISO_8601"
                    .to_owned(),
            ),
            Self::UnknownKey | Self::UnknownToken => (
                "UnrecognizedClientException",
                "The security token included in the request is invalid.".to_owned(),
            ),
            Self::Mismatch => (
                INVALID,
                "The request signature we calculated does not match the signature you provided. \
                 Check your AWS Secret Access Key and signing method. Consult the service \
                 documentation for details."
                    .to_owned(),
            ),
            Self::Expired(text) | Self::NotYet(text) | Self::Signature(text) => {
                (INVALID, text.clone())
            }
        }
    }

    /// Code and text of S3; its status is 403.
    #[cfg(feature = "s3")]
    pub(crate) fn s3(&self) -> (&'static str, &'static str) {
        match self {
            Self::Incomplete | Self::BadDate | Self::Signature(_) => {
                ("AccessDenied", "Access Denied")
            }
            Self::UnknownKey => (
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            ),
            Self::UnknownToken => (
                "InvalidToken",
                "The provided token is malformed or otherwise invalid.",
            ),
            Self::Mismatch => (
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. \
                 Check your key and signing method.",
            ),
            Self::Expired(_) | Self::NotYet(_) => (
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            ),
        }
    }
}

#[cfg(all(test, feature = "s3"))]
mod tests {
    use super::*;

    #[test]
    fn s3_tells_a_refusal_in_words_of_its_own() {
        let text = String::new;
        for (refusal, code, begins) in [
            (Refusal::Incomplete, "AccessDenied", "Access Denied"),
            (Refusal::BadDate, "AccessDenied", "Access Denied"),
            (Refusal::Signature(text()), "AccessDenied", "Access Denied"),
            (
                Refusal::UnknownKey,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does",
            ),
            (
                Refusal::UnknownToken,
                "InvalidToken",
                "The provided token is malformed",
            ),
            (
                Refusal::Mismatch,
                "SignatureDoesNotMatch",
                "The request signature we calculated",
            ),
            (
                Refusal::Expired(text()),
                "RequestTimeTooSkewed",
                "The difference between the request",
            ),
            (
                Refusal::NotYet(text()),
                "RequestTimeTooSkewed",
                "The difference between the request",
            ),
        ] {
            let (told, words) = refusal.s3();
            assert_eq!(told, code, "{refusal:?}");
            assert!(words.starts_with(begins), "{refusal:?}: {words}");
        }
    }
}
