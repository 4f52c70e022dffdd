//! What a resource ARN leads to: a stream, or a consumer, queue or channel of one.

use std::sync::Arc;

use super::Inner;
use crate::catalog::StreamCell;
use crate::stream::Stream;
use crate::stream::change::{Change, Holder, Tags};
use crate::stream::channel::change::ChannelChange;
use crate::stream::queue::change::QueueChange;
use crate::wire::fault::Fault;

/// A stream or something of it.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) cell: Arc<StreamCell>,
    pub(super) part: Part,
}

/// Which part of a stream.
#[derive(Debug)]
pub(super) enum Part {
    Whole,
    /// A consumer, by name.
    Consumer(String),
    /// A queue, by the part of its id that is its own.
    Queue(u64),
    /// A channel, likewise.
    Channel(u64),
}

impl Resource {
    pub(super) fn stream(cell: Arc<StreamCell>) -> Self {
        Self {
            cell,
            part: Part::Whole,
        }
    }

    /// The tags that it has.
    pub(super) fn tags(&self, stream: &Stream) -> Tags {
        let tags = match &self.part {
            Part::Whole => Some(stream.tags.clone()),
            Part::Consumer(name) => {
                let consumer = stream.consumers.get(name);
                consumer.map(|consumer| consumer.tags.clone())
            }
            Part::Queue(id) => stream.queue(*id).map(|queue| queue.tags.clone()),
            Part::Channel(id) => {
                let channel = stream.channel(*id);
                channel.map(|channel| channel.settings.tags.clone())
            }
        };
        tags.unwrap_or_default()
    }

    /// Whose resource policy it has; channels have none.
    pub(super) fn holder(&self) -> Result<Holder, Fault> {
        match &self.part {
            Part::Whole => Ok(Holder::Stream),
            Part::Consumer(name) => Ok(Holder::Consumer(name.clone())),
            Part::Queue(id) => Ok(Holder::Queue(*id)),
            Part::Channel(_) => Err(Fault::invalid_argument(
                "A channel cannot have a resource policy.",
            )),
        }
    }

    /// The change that sets and removes tags of it.
    pub(super) fn change_tags(&self, set: Tags, removed: Vec<String>) -> Change {
        let consumer = match &self.part {
            Part::Whole => None,
            Part::Consumer(name) => Some(name.clone()),
            Part::Queue(id) => {
                return Change::Queue {
                    id: *id,
                    change: QueueChange::Tags { set, removed },
                };
            }
            Part::Channel(id) => {
                return Change::Channel {
                    id: *id,
                    change: ChannelChange::Tags { set, removed },
                };
            }
        };
        Change::Tags {
            consumer,
            set,
            removed,
        }
    }
}

impl Inner {
    /// The resource that `arn` names.
    pub(super) fn resource(&self, arn: &str) -> Result<Resource, Fault> {
        if arn.contains(":stream/") && arn.contains("/consumer/") {
            let (cell, name) = self.consumer_by_arn(arn)?;
            return Ok(Resource {
                cell,
                part: Part::Consumer(name.to_owned()),
            });
        }
        if arn.contains(":queue/") {
            let (cell, id) = self.queue_cell(arn)?;
            return Ok(Resource {
                cell,
                part: Part::Queue(id.own),
            });
        }
        if arn.contains(":channel/") {
            let (cell, id) = self.channel_cell(arn)?;
            return Ok(Resource {
                cell,
                part: Part::Channel(id.own),
            });
        }
        if !arn.contains(":stream/") {
            return Err(Fault::not_found(format!("Resource {arn} not found.")));
        }
        Ok(Resource::stream(self.stream_by_arn(arn)?))
    }
}
