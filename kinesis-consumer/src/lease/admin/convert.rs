//! From the lease table of one stream to that of several, and back, with every checkpoint.
//!
//! ```text
//! shardId-000000000003  ◀──▶  123456789012:flights:1767225600:shardId-000000000003
//!                             streamName = 123456789012:flights:1767225600, shardId = shardId-000000000003
//! ```
//! A row is put under its new key and the old one deleted in one transaction, all other attributes
//! as they were (those unknown here too) save for the owners: so a conversion that was cut short is
//! finished by calling it again.

use aws_sdk_dynamodb::types::AttributeValue;

use super::LeaseAdmin;
use super::change::{Change, ChangeResult, change_of, of};
use super::rows::Found;
use crate::error::{Error, ErrorKind};
use crate::lease::item::{self, Item};
use crate::stream::{StreamId, StreamSource};

impl LeaseAdmin {
    /// The id of a stream in a multi-stream table.
    ///
    /// # Errors
    /// When the stream cannot be described.
    pub async fn identify(&self, stream: &StreamSource) -> Result<StreamId, Error> {
        crate::discover::identify(&self.kinesis, &stream.address).await
    }

    /// Makes the leases of a consumer of one stream those of `stream` in a consumer of several. Stop
    /// the application first: nothing is converted while a lease is held.
    ///
    /// # Errors
    /// When the table cannot be read or written; [`ErrorKind::InvalidInput`] when a worker runs.
    pub async fn convert_to_multi_stream(&self, stream: &StreamId) -> Result<Vec<Change>, Error> {
        self.convert(|found| {
            if StreamId::of_key(found.key()).is_some() {
                return None;
            }
            let mut item = found.item.clone();
            let text = |text: &str| AttributeValue::S(text.to_owned());
            let key = stream.key(found.key());
            item.insert(item::LEASE_KEY.to_owned(), text(key.as_str()));
            item.insert(item::STREAM_NAME.to_owned(), text(stream.as_str()));
            item.insert(item::SHARD.to_owned(), text(found.key().as_str()));
            Some(item)
        })
        .await
    }

    /// Makes the leases of `stream` in a consumer of several those of a consumer of it alone. Stop the
    /// application first.
    ///
    /// The leases of other streams stay as they are, [`Unchanged`](ChangeResult::Unchanged). A consumer of
    /// this crate leaves them alone. A KCL of one stream does not: it takes them for shards of its stream,
    /// cannot read them, and keeps asking. Delete their rows before one starts on the table, by DynamoDB's own
    /// `DeleteItem`: nothing here forgets how far a stream was read.
    ///
    /// # Errors
    /// As [`convert_to_multi_stream`](Self::convert_to_multi_stream).
    pub async fn convert_to_single_stream(&self, stream: &StreamId) -> Result<Vec<Change>, Error> {
        self.convert(|found| {
            if StreamId::of_key(found.key()).as_ref() != Some(stream) {
                return None;
            }
            let mut item = found.item.clone();
            let shard_id = StreamId::shard_of_key(found.key()).to_string();
            item.insert(item::LEASE_KEY.to_owned(), AttributeValue::S(shard_id));
            item.remove(item::STREAM_NAME);
            item.remove(item::SHARD);
            Some(item)
        })
        .await
    }

    async fn convert(&self, make: impl Fn(&Found) -> Option<Item>) -> Result<Vec<Change>, Error> {
        let (scan, held) = self.watch(|_| true).await?;
        if let Some(lease) = held.first() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "lease {lease} is held by a worker that runs; stop all workers of the application first"
                ),
            ));
        }
        let mut changes = Vec::new();
        for found in &scan.leases {
            let Some(mut item) = make(found) else {
                changes.push(change_of(found.key(), ChangeResult::Unchanged));
                continue;
            };
            item.remove(item::OWNER);
            item.remove(item::CHECKPOINT_OWNER);
            let counter = item::number(found.lease.counter.saturating_add(1));
            item.insert(item::COUNTER.to_owned(), counter);
            let done = self.rows.rekey(&found.lease, &item).await?;
            changes.push(change_of(found.key(), of(done)));
        }
        Ok(changes)
    }
}
