//! What an application puts into a stream.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::HashKey;
use crate::hash_key::memo;
use crate::limits::PARTITION_KEY_MAX_CHARS;

/// One record as the application sees it: before aggregation, and again after it.
///
/// Cloning copies neither the key nor the data. `Debug` shows sizes, never contents.
#[derive(Clone, Eq, PartialEq)]
pub struct UserRecord {
    /// Decides the shard, unless an explicit hash key does; 1 to 256 characters.
    pub partition_key: Arc<str>,
    /// Decides the shard in place of the partition key's hash.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload, opaque to the stream; may be empty.
    pub data: Bytes,
}

impl UserRecord {
    /// A record without an explicit hash key. Nothing is checked here: see [`Self::validate`].
    #[must_use]
    pub fn new(partition_key: impl Into<Arc<str>>, data: impl Into<Bytes>) -> Self {
        Self {
            partition_key: partition_key.into(),
            explicit_hash_key: None,
            data: data.into(),
        }
    }

    /// The same record, placed by `key` instead of by its partition key's hash.
    #[must_use]
    pub fn with_explicit_hash_key(self, key: HashKey) -> Self {
        Self {
            explicit_hash_key: Some(key),
            ..self
        }
    }

    /// Where in the key space the record belongs: its explicit hash key, else the MD5 of its
    /// partition key. Each thread remembers those of keys that came last.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.explicit_hash_key
            .unwrap_or_else(|| memo::of_partition_key(&self.partition_key))
    }

    /// The bytes that the service counts against its limits: data plus the key's UTF-8 bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }

    /// Checks what the service would refuse, for a stream whose records may be up to `max_bytes`
    /// (data plus key).
    ///
    /// # Errors
    /// Says which rule is broken, with sizes but without contents.
    pub fn validate(&self, max_bytes: usize) -> Result<(), InvalidRecord> {
        if self.partition_key.is_empty() {
            return Err(InvalidRecord::EmptyPartitionKey);
        }
        // A character has at least one byte: most keys need not be counted.
        if self.partition_key.len() > PARTITION_KEY_MAX_CHARS {
            let chars = self.partition_key.chars().count();
            if chars > PARTITION_KEY_MAX_CHARS {
                return Err(InvalidRecord::PartitionKeyTooLong { chars });
            }
        }
        if self.size() > max_bytes {
            return Err(InvalidRecord::TooLarge {
                bytes: self.size(),
                max_bytes,
            });
        }
        Ok(())
    }
}

impl fmt::Debug for UserRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserRecord")
            .field("partition_key_bytes", &self.partition_key.len())
            .field("has_explicit_hash_key", &self.explicit_hash_key.is_some())
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

/// Why the service would refuse a record.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRecord {
    /// The partition key is empty.
    #[error("the partition key is empty; give 1 to {PARTITION_KEY_MAX_CHARS} characters")]
    EmptyPartitionKey,
    /// The partition key is longer than 256 characters.
    #[error("the partition key has {chars} characters; at most {PARTITION_KEY_MAX_CHARS} fit")]
    PartitionKeyTooLong {
        /// The key's length in characters.
        chars: usize,
    },
    /// Data and key together exceed the stream's maximum record size.
    #[error(
        "the record has {bytes} bytes of data and partition key, more than the stream's maximum \
         of {max_bytes}; split it, or raise the maximum record size of stream and producer"
    )]
    TooLarge {
        /// Data plus partition key in bytes.
        bytes: usize,
        /// The limit it was checked against, in bytes.
        max_bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_would_refuse_is_refused_with_sizes_only() {
        let check = |key: &str, data: usize| UserRecord::new(key, vec![b's'; data]).validate(1000);
        assert_eq!(check("k", 999), Ok(()));
        assert_eq!(
            check("k", 1000),
            Err(InvalidRecord::TooLarge {
                bytes: 1001,
                max_bytes: 1000
            })
        );
        assert_eq!(check("", 1), Err(InvalidRecord::EmptyPartitionKey));
        assert_eq!(
            check(&"ю".repeat(256), 1),
            Ok(()),
            "characters count, not bytes"
        );
        let long = InvalidRecord::PartitionKeyTooLong { chars: 257 };
        assert_eq!(check(&"k".repeat(257), 1), Err(long));
    }

    #[test]
    fn debug_output_shows_no_contents() {
        let text = format!("{:?}", UserRecord::new("secret-key", "secret-data"));
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn an_explicit_hash_key_overrides_the_partition_key() {
        let record = UserRecord::new("a", "x");
        assert_eq!(record.hash_key(), HashKey::of_partition_key("a"));
        assert_eq!(
            record.with_explicit_hash_key(HashKey(5)).hash_key(),
            HashKey(5)
        );
    }
}
