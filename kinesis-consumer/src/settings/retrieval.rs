//! Settings of how records come out of the stream: polling or enhanced fan-out.

use serde::{Deserialize, Serialize};

use super::out_of_bounds;
use crate::error::Error;
use crate::stream::{Sources, foreign_consumer};

/// Source: Kinesis API 2013-12-02, `ConsumerName`.
const CONSUMER_NAME_MAX_CHARS: usize = 128;

/// How records come out of the stream.
///
/// | | [`Polling`](Self::Polling) | [`FanOut`](Self::FanOut) |
/// |---|---|---|
/// | delay of a record at the tip | half of `idle_time_between_reads` on average, 0.5 s | about 70 ms (AWS), pushed |
/// | throughput of a shard | 2 MB/s and five reads a second, shared by all applications that poll | 2 MB/s for each registered consumer |
/// | cost beyond the stream's | none | per consumer and shard hour, and per GB read; from registration on, also while no worker runs |
/// | limit | none | 20 registered consumers of a stream (50 with On-demand Advantage) |
/// | [permissions](crate#permissions) | `ListShards`, `GetShardIterator`, `GetRecords`, `DescribeStreamSummary` | besides these `DescribeStreamConsumer`, `RegisterStreamConsumer`, `SubscribeToShard` |
///
/// Polling is the default, other than in the KCL, because it costs nothing and serves one or two
/// applications of a stream well. Fan-out is for many applications on one stream, and for delays
/// well below a second.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retrieval {
    /// `GetRecords`, again and again.
    #[default]
    Polling,
    /// Enhanced fan-out: `SubscribeToShard`, one stream of events for each shard over HTTP/2, a
    /// hundred on a connection.
    FanOut(FanOutSettings),
}

/// Reading by enhanced fan-out.
///
/// All workers of an application use one registered consumer. The first registers it and waits
/// until it is active, which takes some ten seconds on AWS; it stays registered, and is charged for,
/// until somebody calls `DeregisterStreamConsumer`. Give each application a consumer of its own: two
/// that share one take the subscriptions from each other.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FanOutSettings {
    /// Name of the registered consumer, 1 to 128 characters. Default: the application's name.
    pub consumer_name: Option<String>,
    /// ARN of a consumer that was registered by somebody else; then the workers register none and
    /// need no permission to. It must be a consumer of the stream that is read. Not together with
    /// `consumer_name`, and not with several streams: those have
    /// [`StreamSource::consumer_arn`](crate::StreamSource::consumer_arn) each.
    pub consumer_arn: Option<String>,
    /// Whether a shard that cannot be read by fan-out is polled instead, with a WARN and a count in
    /// [`FAN_OUT_FALL_BACKS`](crate::metrics::FAN_OUT_FALL_BACKS): when the consumer cannot be
    /// registered or is not active within a minute, when subscriptions bring nothing or fail again and
    /// again, or when shards that are stuck leave no room for its events (see
    /// [`Settings::max_buffered_bytes`](crate::Settings::max_buffered_bytes)). Fan-out is tried again
    /// after five minutes; the shard is not read until that has worked or failed, which may take another
    /// minute. Without it such a shard stands still until fan-out works.
    pub fall_back_to_polling: bool,
}

impl Default for FanOutSettings {
    fn default() -> Self {
        Self {
            consumer_name: None,
            consumer_arn: None,
            fall_back_to_polling: true,
        }
    }
}

impl FanOutSettings {
    /// Checks that the consumer these settings name can be one of what is read.
    pub(crate) fn fits(&self, sources: &Sources, application: &str) -> Result<(), Error> {
        let field = "retrieval.fan_out.consumer_arn";
        match (&self.consumer_arn, sources) {
            (Some(arn), Sources::Many(_)) => {
                let bound = "absent where several streams are read, since a consumer is of one stream: \
                             give it to StreamSource::consumer_arn";
                Err(out_of_bounds(field, bound, format_args!("{arn:?}")))
            }
            (Some(arn), Sources::One(stream)) if !stream.can_have_consumer(arn) => {
                Err(foreign_consumer(stream, field, arn))
            }
            (None, _) if self.consumer_name.is_none() => {
                consumer_name("retrieval.fan_out.consumer_name", application)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn validate(&self) -> Result<(), Error> {
        if let Some(name) = &self.consumer_name {
            consumer_name("retrieval.fan_out.consumer_name", name)?;
        }
        let field = "retrieval.fan_out.consumer_arn";
        match &self.consumer_arn {
            Some(_) if self.consumer_name.is_some() => {
                let bound = format_args!("absent where consumer_name is given");
                Err(out_of_bounds(field, bound, "both"))
            }
            Some(arn) if !(arn.starts_with("arn:") && arn.contains("/consumer/")) => {
                let bound = format_args!("arn:…:stream/<stream>/consumer/<name>:<seconds>");
                Err(out_of_bounds(field, bound, format_args!("{arn:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// Checks the name of a fan-out consumer; `field` is what it was given by.
fn consumer_name(field: &str, name: &str) -> Result<(), Error> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if (1..=CONSUMER_NAME_MAX_CHARS).contains(&name.len()) && name.chars().all(known) {
        return Ok(());
    }
    let bound = format_args!("1 to {CONSUMER_NAME_MAX_CHARS} letters, digits, '_', '.' or '-'");
    Err(out_of_bounds(field, bound, format_args!("{name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::stream::Streams;

    #[test]
    fn fan_out_is_written_with_what_differs_from_its_defaults() {
        let text = r#"{"retrieval":{"fan_out":{"consumer_name":"arrivals-2"}}}"#;
        let settings: Settings = serde_json::from_str(text).expect("readable");
        let Retrieval::FanOut(fan_out) = &settings.retrieval else {
            panic!("{:?}", settings.retrieval);
        };
        assert_eq!(fan_out.consumer_name.as_deref(), Some("arrivals-2"));
        assert!(fan_out.fall_back_to_polling);
        settings.validate().expect("valid");
        let polling: Settings = serde_json::from_str("{}").expect("readable");
        assert_eq!(polling.retrieval, Retrieval::Polling);
    }

    #[test]
    fn a_consumer_given_by_its_arn_is_one_of_the_stream_that_is_read() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/flights/consumer/c:1";
        let fan_out = FanOutSettings {
            consumer_arn: Some(arn.into()),
            ..FanOutSettings::default()
        };
        let own = "arn:aws:kinesis:eu-west-1:123456789012:stream/flights";
        for stream in ["flights", own] {
            fan_out.fits(&stream.into(), "app").expect(stream);
        }
        let other_region = "arn:aws:kinesis:us-east-1:123456789012:stream/flights";
        for stream in ["flight", "orders", other_region] {
            let error = fan_out.fits(&stream.into(), "app").expect_err(stream);
            let text = error.to_string();
            assert!(
                text.contains(stream) && text.contains("consumer_arn"),
                "{text}"
            );
        }
        let several = Sources::Many(Streams::new([]).expect("none is allowed"));
        let error = fan_out.fits(&several, "app").expect_err("several streams");
        assert!(
            error.to_string().contains("StreamSource::consumer_arn"),
            "{error}"
        );
    }

    #[test]
    fn a_consumer_that_cannot_be_is_named_with_the_bound() {
        let arn = "arn:aws:kinesis:eu-west-1:1:stream/s/consumer/c:1";
        let name = "x".repeat(129);
        for (consumer_name, consumer_arn, bound) in [
            (Some(""), None, "1 to 128"),
            (Some(name.as_str()), None, "1 to 128"),
            (Some("a b"), None, "letters"),
            (
                None,
                Some("arn:aws:kinesis:eu-west-1:1:stream/s"),
                "/consumer/",
            ),
            (Some("c"), Some(arn), "absent where"),
        ] {
            let fan_out = FanOutSettings {
                consumer_name: consumer_name.map(str::to_owned),
                consumer_arn: consumer_arn.map(str::to_owned),
                ..FanOutSettings::default()
            };
            let text = fan_out.validate().expect_err(bound).to_string();
            assert!(text.contains("retrieval.fan_out.consumer_"), "{text}");
            assert!(text.contains(bound), "{text}");
        }
    }
}
