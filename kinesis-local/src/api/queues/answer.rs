//! What the operations on queues answer.

use crate::api::attached::StreamIdentifier;
use crate::stream::lifecycle::Status;
use crate::stream::queue::Attributes;
use crate::stream::queue::change::{Asked, StartingPosition};
use crate::wire::write::{Encode, Writer};

/// A queue as it is described.
#[derive(Debug)]
pub(super) struct QueueAnswer {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) status: Status,
    pub(super) created_ms: u64,
    pub(super) stream_arn: String,
    pub(super) start: StartingPosition,
    pub(super) attributes: Attributes,
}

/// What descriptions and listings of a queue tell.
fn encode_facts(writer: &mut Writer, name: &str, arn: &str, status: Status, created_ms: u64) {
    writer.key("QueueName");
    writer.plain(name);
    writer.key("QueueARN");
    writer.plain(arn);
    writer.key("QueueStatus");
    writer.plain(status.name());
    writer.key("QueueCreationTimestamp");
    writer.timestamp(created_ms);
}

impl QueueAnswer {
    fn encode_start(&self, writer: &mut Writer) {
        writer.key("StartingPosition");
        writer.structure(|writer| {
            writer.key("Type");
            writer.plain(self.start.asked.name());
            // What was asked for while the queue is made, what it came to once it is there.
            let at_ms = match (self.status, self.start.asked) {
                (Status::Creating, Asked::Timestamp(ms)) => Some(ms),
                (Status::Creating, Asked::TrimHorizon | Asked::Latest) => None,
                _ => Some(self.start.effective_ms),
            };
            if let Some(at_ms) = at_ms {
                writer.key("Timestamp");
                writer.timestamp(at_ms);
            }
        });
    }

    fn encode_attributes(&self, writer: &mut Writer) {
        writer.key("VisibilityTimeoutSeconds");
        writer.integer(u64::from(self.attributes.visibility_s));
        writer.key("DeadLetterConfiguration");
        writer.structure(|writer| {
            writer.key("TargetType");
            match self.attributes.max_receives {
                None => writer.plain("NONE"),
                Some(receives) => {
                    writer.plain("BUILT_IN");
                    writer.key("MaxReceiveCount");
                    writer.integer(u64::from(receives));
                }
            }
        });
    }
}

/// CreateQueue, DescribeQueue and UpdateQueue.
#[derive(Debug)]
pub(super) struct OneQueue(pub(super) QueueAnswer);

impl Encode for OneQueue {
    fn encode(&self, writer: &mut Writer) {
        let Self(queue) = self;
        writer.structure(|writer| {
            writer.key("QueueDescription");
            writer.structure(|writer| {
                encode_facts(
                    writer,
                    &queue.name,
                    &queue.arn,
                    queue.status,
                    queue.created_ms,
                );
                writer.key("StreamConfigurationList");
                writer.list([queue], |writer, queue| {
                    writer.structure(|writer| {
                        writer.key("StreamARN");
                        writer.plain(&queue.stream_arn);
                        queue.encode_start(writer);
                    });
                });
                writer.key("QueueAttributes");
                writer.structure(|writer| queue.encode_attributes(writer));
            });
        });
    }
}

/// A queue as it is listed.
#[derive(Debug)]
pub(super) struct QueueSummary {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) status: Status,
    pub(super) created_ms: u64,
    pub(super) stream: StreamIdentifier,
}

#[derive(Debug)]
pub(super) struct ListAnswer {
    pub(super) queues: Vec<QueueSummary>,
    pub(super) next_token: Option<String>,
}

impl Encode for ListAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("QueueSummaries");
            writer.list(&self.queues, |writer, queue| {
                writer.structure(|writer| {
                    encode_facts(
                        writer,
                        &queue.name,
                        &queue.arn,
                        queue.status,
                        queue.created_ms,
                    );
                    queue.stream.encode(writer);
                });
            });
            if let Some(token) = &self.next_token {
                writer.key("NextToken");
                writer.plain(token);
            }
        });
    }
}
