//! What the operations on channels answer.

use crate::api::attached::StreamIdentifier;
use crate::stream::channel::change::{Bucket, NewChannel};
use crate::wire::write::{Encode, Writer};

/// Where logs go unless told otherwise. Source: API model.
const LOG_STREAM_DEFAULT: &str = "DestinationDelivery";

/// What descriptions and listings of a channel tell.
#[derive(Debug)]
pub(super) struct ChannelFacts {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) reason: Option<String>,
    pub(super) created_ms: u64,
    pub(super) stream: StreamIdentifier,
}

impl ChannelFacts {
    fn encode(&self, writer: &mut Writer) {
        writer.key("ChannelName");
        writer.plain(&self.name);
        writer.key("ChannelARN");
        writer.plain(&self.arn);
        writer.key("ChannelId");
        writer.plain(&self.id);
        writer.key("ChannelStatus");
        writer.plain(self.status);
        if let Some(reason) = &self.reason {
            writer.key("ChannelStatusReason");
            writer.text(reason);
        }
        writer.key("ChannelCreationTimestamp");
        writer.timestamp(self.created_ms);
    }
}

/// CreateChannel, DescribeChannel and UpdateChannel.
#[derive(Debug)]
pub(super) struct OneChannel {
    pub(super) facts: ChannelFacts,
    pub(super) settings: NewChannel,
}

impl Encode for OneChannel {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("ChannelDescription");
            writer.structure(|writer| {
                self.facts.encode(writer);
                writer.key("ServiceExecutionRoleARN");
                writer.plain(&self.settings.role_arn);
                writer.key("StreamConfigurationList");
                writer.list([self], |writer, channel| {
                    writer.structure(|writer| channel.encode_stream(writer));
                });
                writer.key("S3DestinationConfiguration");
                writer.structure(|writer| self.encode_destination(writer));
                if let Some(key) = &self.settings.encryption_key {
                    writer.key("EncryptionConfiguration");
                    writer.structure(|writer| {
                        writer.key("EncryptionType");
                        writer.plain("KMS");
                        writer.key("KeyId");
                        writer.text(key);
                    });
                }
                writer.key("LoggingConfiguration");
                writer.structure(|writer| {
                    writer.key("CloudWatchLogs");
                    writer.structure(|writer| self.encode_logging(writer));
                });
            });
        });
    }
}

impl OneChannel {
    fn encode_stream(&self, writer: &mut Writer) {
        writer.key("StreamARN");
        writer.plain(&self.facts.stream.arn);
        writer.key("StreamCreationTimestamp");
        writer.timestamp(self.facts.stream.created_ms);
        writer.key("RecordConfiguration");
        writer.structure(|writer| {
            writer.key("RecordFormatType");
            writer.plain(self.settings.format.name());
            if let Some(arn) = &self.settings.schema_arn {
                writer.key("GSRSchemaARN");
                writer.plain(arn);
            }
        });
    }

    fn encode_destination(&self, writer: &mut Writer) {
        let settings = &self.settings;
        writer.key("DataFreshnessInSeconds");
        writer.integer(u64::from(settings.freshness_s));
        writer.key("DeadLetterQueueS3Configuration");
        writer.structure(|writer| {
            encode_bucket(writer, &settings.errors);
            writer.key("ErrorOutputPrefix");
            writer.plain(&settings.error_prefix);
        });
        writer.key("StorageConfiguration");
        writer.structure(|writer| {
            encode_bucket(writer, &settings.bucket);
            writer.key("OutputKeyTemplate");
            writer.plain(&settings.key_template);
            writer.key("StorageClass");
            writer.plain(&settings.storage_class);
            writer.key("CompressionType");
            writer.plain(settings.compression.name());
        });
    }

    fn encode_logging(&self, writer: &mut Writer) {
        let logging = &self.settings.logging;
        writer.key("Enabled");
        writer.boolean(logging.enabled);
        if logging.enabled {
            let ChannelFacts { name, id, .. } = &self.facts;
            writer.key("LogGroupName");
            match &logging.group {
                Some(group) => writer.plain(group),
                None => writer.plain(&format!("/aws/kinesis/{name}/{id}")),
            }
            writer.key("LogStreamName");
            let stream = logging.stream.as_deref();
            writer.text(stream.unwrap_or(LOG_STREAM_DEFAULT));
        }
    }
}

fn encode_bucket(writer: &mut Writer, bucket: &Bucket) {
    writer.key("BucketARN");
    writer.plain(&bucket.arn);
    writer.key("ExpectedBucketOwner");
    writer.plain(&bucket.owner);
}

#[derive(Debug)]
pub(super) struct ListAnswer {
    pub(super) channels: Vec<ChannelFacts>,
    pub(super) next_token: Option<String>,
}

impl Encode for ListAnswer {
    fn encode(&self, writer: &mut Writer) {
        writer.structure(|writer| {
            writer.key("ChannelSummaries");
            writer.list(&self.channels, |writer, channel| {
                writer.structure(|writer| {
                    channel.encode(writer);
                    writer.key("ChannelDestinationType");
                    writer.plain("S3");
                    channel.stream.encode(writer);
                });
            });
            if let Some(token) = &self.next_token {
                writer.key("NextToken");
                writer.plain(token);
            }
        });
    }
}
