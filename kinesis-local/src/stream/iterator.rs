//! Shard iterators: a reader's place in a shard, as an opaque text.
//!
//! Promises: at most 512 characters; a new text each time, also for the same place; usable again
//! and again until it expires 300 s after it was made; of no use for a later stream of the same
//! name. A text that was not made here is refused as `Invalid ShardIterator.`

use kinesis_core::limits::ITERATOR_LIFETIME;

use super::token::{Opened, Sealer};
use crate::date::Utc;

/// Tells iterators from other sealed texts.
const KIND: u8 = 1;

/// What an iterator stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ShardIterator {
    /// The account of the stream; its region is that of the request.
    pub(crate) account: String,
    pub(crate) stream: String,
    pub(crate) stream_id: u64,
    pub(crate) shard_index: u32,
    /// The counter of the next record.
    pub(crate) position: u64,
    pub(crate) created_ms: u64,
}

/// Why an iterator is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum IteratorRefusal {
    Invalid,
    /// The text that tells when it was made and what time it is.
    Expired(String),
}

impl ShardIterator {
    /// The text; `nonce` makes it a new one.
    pub(crate) fn seal(&self, nonce: u64) -> String {
        Sealer::new(KIND)
            .u64(nonce)
            .text(&self.stream)
            .u64(self.stream_id)
            .u64(u64::from(self.shard_index))
            .u64(self.position)
            .u64(self.created_ms)
            .text(&self.account)
            .seal()
    }

    /// Reads a text that has not expired; surrounding double quotes are forgiven, as by the service.
    /// One from the future was made before the clock was set back, and counts as new.
    pub(crate) fn open(text: &str, now_ms: u64) -> Result<Self, IteratorRefusal> {
        let iterator = Self::read(text).ok_or(IteratorRefusal::Invalid)?;
        let lifetime_ms = ITERATOR_LIFETIME.as_millis();
        if u128::from(now_ms.saturating_sub(iterator.created_ms)) > lifetime_ms {
            return Err(IteratorRefusal::Expired(iterator.expired_text(now_ms)));
        }
        Ok(iterator)
    }

    /// What the service says of it once it has expired.
    pub(crate) fn expired_text(&self, now_ms: u64) -> String {
        format!(
            "Iterator expired. The iterator was created at time {} while right now it is {} which \
             is further in the future than the tolerated delay of {} milliseconds.",
            Utc::at(self.created_ms).long(),
            Utc::at(now_ms).long(),
            ITERATOR_LIFETIME.as_millis()
        )
    }

    /// What a text stands for, expired or not.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'))
            .unwrap_or(text);
        let mut opened = Opened::open(text, KIND)?;
        opened.u64()?;
        Some(Self {
            stream: opened.text()?,
            stream_id: opened.u64()?,
            shard_index: u32::try_from(opened.u64()?).ok()?,
            position: opened.u64()?,
            created_ms: opened.u64()?,
            account: opened.text()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iterator() -> ShardIterator {
        ShardIterator {
            account: "000000000000".to_owned(),
            stream: "s".repeat(128),
            stream_id: 3,
            shard_index: 7,
            position: 99,
            created_ms: 1_449_712_779_000,
        }
    }

    #[test]
    fn it_comes_back_as_it_was_and_fits_512_characters() {
        let text = iterator().seal(u64::MAX);
        assert!(text.len() <= 512, "{}", text.len());
        assert_eq!(
            ShardIterator::open(&text, iterator().created_ms).unwrap(),
            iterator()
        );
        let quoted = format!("\"{text}\"");
        assert_eq!(
            ShardIterator::open(&quoted, iterator().created_ms).unwrap(),
            iterator()
        );
    }

    #[test]
    fn another_nonce_makes_another_text() {
        assert_ne!(iterator().seal(1), iterator().seal(2));
    }

    #[test]
    fn it_expires_after_300_seconds_in_the_services_words() {
        let text = iterator().seal(0);
        let made = iterator().created_ms;
        assert!(ShardIterator::open(&text, made + 300_000).is_ok());
        assert_eq!(
            ShardIterator::open(&text, made + 396_000).unwrap_err(),
            IteratorRefusal::Expired(
                "Iterator expired. The iterator was created at time Thu Dec 10 01:59:39 UTC 2015 \
                 while right now it is Thu Dec 10 02:06:15 UTC 2015 which is further in the future \
                 than the tolerated delay of 300000 milliseconds."
                    .to_owned()
            )
        );
    }

    #[test]
    fn one_that_was_made_before_the_clock_was_set_back_is_good() {
        let text = iterator().seal(0);
        for back_ms in [1, 3_600_000] {
            let opened = ShardIterator::open(&text, iterator().created_ms - back_ms);
            assert_eq!(opened.unwrap(), iterator());
        }
    }
}
