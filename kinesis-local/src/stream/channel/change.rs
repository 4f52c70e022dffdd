//! A change of a channel: made by an operation or a delivery, kept in the log, made again by a
//! recovery.

use std::sync::PoisonError;

use super::Channel;
use super::object::{Compression, Format};
use crate::stream::Stream;
use crate::stream::attached::AttachedId;
use crate::stream::change::Tags;
use crate::stream::shard::Start;

/// A bucket, as a request names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Bucket {
    pub(crate) arn: String,
    pub(crate) owner: String,
}

impl Bucket {
    /// The name in `arn:aws:s3:::NAME`.
    pub(crate) fn name(&self) -> &str {
        self.arn.rsplit(':').next().unwrap_or_default()
    }
}

/// Logging to CloudWatch, which is noted and not done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Logging {
    pub(crate) enabled: bool,
    pub(crate) group: Option<String>,
    pub(crate) stream: Option<String>,
}

/// What CreateChannel asked for, with everything settled that it left open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct NewChannel {
    pub(crate) id: AttachedId,
    pub(crate) name: String,
    pub(crate) role_arn: String,
    pub(crate) format: Format,
    pub(crate) schema_arn: Option<String>,
    /// What arrived before, in milliseconds since the Unix epoch, is not delivered.
    pub(crate) from_ms: u64,
    pub(crate) freshness_s: u32,
    pub(crate) bucket: Bucket,
    pub(crate) key_template: String,
    pub(crate) storage_class: String,
    pub(crate) compression: Compression,
    /// Where records go that are not of the format, and under which prefix.
    pub(crate) errors: Bucket,
    pub(crate) error_prefix: String,
    pub(crate) encryption_key: Option<String>,
    pub(crate) logging: Logging,
    /// Why it never delivers anything.
    pub(crate) failed: Option<String>,
    /// The first record that is wanted, by the index of its shard.
    pub(crate) cursors: Vec<u64>,
    pub(crate) tags: Tags,
}

impl NewChannel {
    /// The ends of all shards that there are.
    pub(crate) fn cursors(stream: &Stream) -> Vec<u64> {
        let shards = stream.shards().iter();
        shards
            .map(|shard| shard.log().seek(Start::Latest))
            .collect()
    }
}

/// What changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ChannelChange {
    Create(Box<NewChannel>),
    Update {
        freshness_s: u32,
        logging: Logging,
    },
    Delete,
    Tags {
        set: Tags,
        removed: Vec<String>,
    },
    /// The bucket has everything of the shard below `next`.
    Delivered {
        shard: u32,
        next: u64,
    },
}

impl Stream {
    /// Makes a channel's change; the error says why it does not fit.
    pub(crate) fn apply_to_channel(
        &mut self,
        id: u64,
        change: &ChannelChange,
        at_ms: u64,
    ) -> Result<(), &'static str> {
        if let ChannelChange::Create(new) = change {
            let channel = Channel::create(new, at_ms);
            return match self.channels.insert(id, channel.into()) {
                None => Ok(()),
                Some(_) => Err("a channel was created twice"),
            };
        }
        let channel = self.channels.get_mut(&id);
        let channel = channel.ok_or("a channel is not known")?.get_mut();
        channel
            .unwrap_or_else(PoisonError::into_inner)
            .apply(change, at_ms);
        Ok(())
    }
}
