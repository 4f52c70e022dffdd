//! Under which key a stream's records are kept, and what becomes of them when the key is not usable.
//!
//! Promises: a record keeps the key that was in force when it was written, so that it can be read
//! only while *that* key is usable; a key that is applied comes into force when the stream leaves
//! UPDATING. Nothing is enciphered: what is kept is the bookkeeping that clients see.
//!
//! There is no KMS here: every key of a right form exists and is enabled until the test says
//! otherwise ([`KmsKeyState`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::daily::Daily;

/// Starts, and stops, of a stream's encryption in a rolling day. Source: API model.
pub(crate) const ENCRYPTION_CHANGES_PER_DAY_MAX: usize = 25;

/// The key that records are kept under, as the request named it; `None`: not encrypted.
pub(crate) type Key = Option<Arc<str>>;

/// A stream's encryption.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encryption {
    key: Key,
    /// What was in force before the last change, and when that was made.
    before: Key,
    changed_ms: u64,
    /// When it was started and stopped, in the last day.
    pub(crate) started: Daily,
    pub(crate) stopped: Daily,
}

impl Encryption {
    /// The key that was applied last, be it in force or not.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// The key of a record that is written now; a change takes `delay` to come into force.
    pub(crate) fn in_force(&self, now_ms: u64, delay: Duration) -> &Key {
        let passed = u128::from(now_ms.saturating_sub(self.changed_ms));
        if passed < delay.as_millis() {
            &self.before
        } else {
            &self.key
        }
    }

    pub(crate) fn apply(&mut self, key: Key, at_ms: u64) {
        let changes = if key.is_some() {
            &mut self.started
        } else {
            &mut self.stopped
        };
        changes.note(at_ms);
        self.before = std::mem::replace(&mut self.key, key);
        self.changed_ms = at_ms;
    }
}

/// Whether `id` has one of the forms that name a key: a key's id, `alias/NAME`, or the ARN of
/// either.
pub(crate) fn is_key_id(id: &str) -> bool {
    let Some(arn) = id.strip_prefix("arn:") else {
        return is_alias(id) || is_id(id);
    };
    let mut parts = arn.splitn(5, ':');
    let mut next = || parts.next().unwrap_or_default();
    let (partition, service, region, account, key) = (next(), next(), next(), next(), next());
    let id = key.strip_prefix("key/");
    partition.starts_with("aws")
        && service == "kms"
        && !region.is_empty()
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && id.map_or_else(|| is_alias(key), is_id)
}

/// `alias/` and a name of the characters that KMS takes.
fn is_alias(text: &str) -> bool {
    let name = text.strip_prefix("alias/").unwrap_or_default();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// A UUID, or `mrk-` and 32 hexadecimal digits: a key of several regions.
fn is_id(text: &str) -> bool {
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if let Some(digits) = text.strip_prefix("mrk-") {
        return hex(digits, 32);
    }
    let mut parts = text.split('-');
    let widths = [8, 4, 4, 4, 12];
    let whole = widths
        .iter()
        .all(|&width| parts.next().is_some_and(|part| hex(part, width)));
    whole && parts.next().is_none()
}

/// What a KMS key answers to who uses it. A key that nothing was said about is enabled.
///
/// Starting a stream's encryption with a key that is not enabled, writing to a stream under it, and
/// reading a record that was written under it are refused with the state's exception.
#[derive(Copy, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KmsKeyState {
    /// It works.
    #[default]
    Enabled,
    /// `KMSDisabledException`: it was disabled.
    Disabled,
    /// `KMSInvalidStateException`: it is on its way to be deleted.
    PendingDeletion,
    /// `KMSAccessDeniedException`: its policy does not let the caller use it.
    AccessDenied,
    /// `KMSNotFoundException`: there is no such key.
    NotFound,
    /// `KMSOptInRequired`: the caller's access key needs a subscription.
    OptInRequired,
    /// `KMSThrottlingException`: it was used too often.
    Throttling,
}

impl KmsKeyState {
    /// The code and text of the refusal; `None`: it works.
    /// Source: the API model's exceptions; the texts are those of KMS.
    pub(crate) fn refusal(self, key: &str) -> Option<(&'static str, String)> {
        Some(match self {
            Self::Enabled => return None,
            Self::Disabled => ("KMSDisabledException", format!("{key} is disabled.")),
            Self::PendingDeletion => (
                "KMSInvalidStateException",
                format!("{key} is pending deletion."),
            ),
            Self::AccessDenied => (
                "KMSAccessDeniedException",
                "The ciphertext refers to a customer master key that does not exist, does not \
                 exist in this region, or you are not allowed to access."
                    .to_owned(),
            ),
            Self::NotFound => (
                "KMSNotFoundException",
                format!("Key '{key}' does not exist"),
            ),
            Self::OptInRequired => (
                "KMSOptInRequired",
                "The AWS Access Key Id needs a subscription for the service".to_owned(),
            ),
            Self::Throttling => ("KMSThrottlingException", "Rate exceeded".to_owned()),
        })
    }
}

/// The states of the keys that are not enabled. Cheap to clone; all clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct KmsKeys(Arc<Mutex<BTreeMap<String, KmsKeyState>>>);

impl KmsKeys {
    pub(crate) fn new(states: BTreeMap<String, KmsKeyState>) -> Self {
        Self(Arc::new(Mutex::new(states)))
    }

    pub(crate) fn set(&self, key: &str, state: KmsKeyState) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            KmsKeyState::Enabled => drop(states.remove(key)),
            state => drop(states.insert(key.to_owned(), state)),
        }
    }

    pub(crate) fn get(&self, key: &str) -> KmsKeyState {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(key).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_id_alias_or_arn() {
        let id = "12345678-1234-1234-1234-123456789012";
        for right in [
            id,
            "mrk-12345678123412341234123456789012",
            "alias/MyAliasName",
            "alias/aws/kinesis",
            "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012",
            "arn:aws:kms:us-east-1:123456789012:alias/MyAliasName",
        ] {
            assert!(is_key_id(right), "{right}");
        }
        for wrong in [
            "",
            "MyAliasName",
            "alias/",
            "alias/a b",
            "12345678-1234-1234-1234-12345678901",
            "12345678-1234-1234-1234-123456789012-1",
            "arn:aws:kms:us-east-1:123456789012:key/MyAliasName",
            "arn:aws:kms:us-east-1:1:alias/MyAliasName",
            "arn:aws:s3:us-east-1:123456789012:alias/MyAliasName",
        ] {
            assert!(!is_key_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_comes_into_force_when_the_stream_has_left_updating() {
        let delay = Duration::from_millis(500);
        let mut encryption = Encryption::default();
        encryption.apply(Some("alias/a".into()), 1000);
        assert_eq!(encryption.in_force(1499, delay), &None);
        assert_eq!(encryption.in_force(1500, delay).as_deref(), Some("alias/a"));
        encryption.apply(None, 2000);
        assert_eq!(encryption.in_force(2499, delay).as_deref(), Some("alias/a"));
        assert_eq!(encryption.in_force(2500, delay), &None);
    }

    #[test]
    fn only_a_key_that_is_not_enabled_is_remembered() {
        let keys = KmsKeys::default();
        keys.set("alias/a", KmsKeyState::Disabled);
        assert_eq!(keys.get("alias/a"), KmsKeyState::Disabled);
        keys.set("alias/a", KmsKeyState::Enabled);
        assert_eq!(keys.get("alias/a"), KmsKeyState::Enabled);
        assert!(keys.0.lock().unwrap().is_empty());
    }
}
