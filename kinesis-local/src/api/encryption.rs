//! StartStreamEncryption and StopStreamEncryption, and what a key that is not usable refuses.
//!
//! Promises: a stream is encrypted at most 25 times with another key, and no longer encrypted at
//! most 25 times, in a rolling day; a key is asked when encryption starts with it, when a record is
//! written under it, and when a record that was written under it is read.
//!
//! Applying the key that is there, or stopping where nothing is encrypted, changes and counts
//! nothing.

use serde::Deserialize;

use super::{Inner, Reply};
use crate::catalog::StreamCell;
use crate::stream::change::Change;
use crate::stream::encryption::{ENCRYPTION_CHANGES_PER_DAY_MAX, Key, KmsKeys, is_key_id};
use crate::stream::shard::Record;
use crate::wire::Body;
use crate::wire::constraint::Constraints;
use crate::wire::fault::Fault;
use crate::wire::read::{Text, decode};

/// Longest name of a key. Source: API model.
const KEY_ID_MAX_CHARS: usize = 2048;

/// StartStreamEncryption and StopStreamEncryption.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, bound(deserialize = "\'de: \'a"))]
struct EncryptionRequest<'a> {
    stream_name: Option<Text<'a>>,
    encryption_type: Option<Text<'a>>,
    key_id: Option<Text<'a>>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<Text<'a>>,
    stream_id: Option<Text<'a>>,
}

impl Inner {
    pub(super) async fn start_stream_encryption(&self, body: Body<'_>) -> Result<Reply, Fault> {
        self.change_encryption(body, true).await
    }

    pub(super) async fn stop_stream_encryption(&self, body: Body<'_>) -> Result<Reply, Fault> {
        self.change_encryption(body, false).await
    }

    async fn change_encryption(&self, body: Body<'_>, start: bool) -> Result<Reply, Fault> {
        let request: EncryptionRequest<'_> = decode(body)?;
        check(&request)?;
        self.check_writable()?;
        let cell = self.stream(request.stream_name.as_ref(), request.stream_arn.as_ref())?;
        let key = request.key_id.as_deref().unwrap_or_default();
        check_forms(request.encryption_type.as_deref(), key)?;
        let key = if start { key } else { "" };
        let ticket = {
            let mut stream = cell.write();
            self.check_active(&stream, &cell)?;
            if start {
                check_key(&self.kms, key)?;
            }
            let there = stream.encryption.key().as_deref().unwrap_or_default();
            if there == key {
                return Ok(Reply::Empty);
            }
            let now_ms = self.now_ms();
            let encryption = &stream.encryption;
            let (used, what) = if start {
                (encryption.started.count(now_ms), "started")
            } else {
                (encryption.stopped.count(now_ms), "stopped")
            };
            if used >= ENCRYPTION_CHANGES_PER_DAY_MAX {
                return Err(self.too_many_changes(&cell, what));
            }
            let key = key.to_owned();
            self.change(&cell, &mut stream, Change::Encryption { key })?
        };
        self.stored(ticket).await?;
        Ok(Reply::Empty)
    }

    fn too_many_changes(&self, cell: &StreamCell, what: &str) -> Fault {
        Fault::limit_exceeded(format!(
            "The encryption of stream {} under account {} can be {what} at most \
             {ENCRYPTION_CHANGES_PER_DAY_MAX} times in a rolling 24-hour period.",
            cell.name, cell.place.account
        ))
    }
}

/// Whether the key that records are written under can be used.
pub(super) fn check_writing(keys: &KmsKeys, key: &Key) -> Result<(), Fault> {
    key.as_deref().map_or(Ok(()), |key| check_key(keys, key))
}

/// Whether the keys that the records were written under can be used.
pub(super) fn check_reading(keys: &KmsKeys, records: &[Record]) -> Result<(), Fault> {
    let mut last = None;
    for key in records.iter().filter_map(|record| record.key.as_deref()) {
        if last != Some(key) {
            check_key(keys, key)?;
            last = Some(key);
        }
    }
    Ok(())
}

/// Whether the key can be used.
pub(super) fn check_key(keys: &KmsKeys, key: &str) -> Result<(), Fault> {
    match keys.get(key).refusal(key) {
        Some((code, text)) => Err(Fault::new(code, text)),
        None => Ok(()),
    }
}

fn check(request: &EncryptionRequest<'_>) -> Result<(), Fault> {
    let own = |constraints: &mut Constraints| {
        let kind = request.encryption_type.as_deref();
        constraints.present(kind.is_some(), "encryptionType");
        constraints.one_of("encryptionType", kind, &["NONE", "KMS"]);
        let key = request.key_id.as_deref();
        constraints.present(key.is_some(), "keyId");
        if let Some(key) = key {
            constraints.length("keyId", key, 1, KEY_ID_MAX_CHARS);
        }
    };
    let (name, arn) = (&request.stream_name, &request.stream_arn);
    Constraints::of_stream(name, own, arn, &request.stream_id)
}

fn check_forms(kind: Option<&str>, key: &str) -> Result<(), Fault> {
    if kind != Some("KMS") {
        return Err(Fault::invalid_argument(
            "EncryptionType has to be KMS: it is the only valid value of this request.",
        ));
    }
    if !is_key_id(key) {
        return Err(Fault::invalid_argument(
            "KeyId has to be the id of a key, alias/NAME, or the ARN of a key or alias.",
        ));
    }
    Ok(())
}
