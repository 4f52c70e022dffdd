//! A registered consumer of a stream: who may subscribe to its shards.

use super::change::Tags;
use super::lifecycle::{Delays, Life, Status};

/// One registration; its name is the key that the stream keeps it under.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Consumer {
    pub(crate) life: Life,
    pub(crate) tags: Tags,
    /// Its resource policy, as it was given.
    pub(crate) policy: Option<String>,
}

impl Consumer {
    pub(crate) fn registered(created_ms: u64, tags: Tags) -> Self {
        Self {
            life: Life::created(created_ms),
            tags,
            policy: None,
        }
    }

    pub(crate) fn is_gone(&self, now_ms: u64, delays: Delays) -> bool {
        self.life.status(now_ms, delays) == Status::Gone
    }
}

/// `…stream/S/consumer/C:EPOCHSECONDS`
pub(crate) fn consumer_arn(stream_arn: &str, name: &str, created_ms: u64) -> String {
    format!("{stream_arn}/consumer/{name}:{}", created_ms / 1000)
}

/// The stream's name, the consumer's name and the creation second in a consumer's ARN.
pub(crate) fn parse_consumer_arn(arn: &str) -> Option<(&str, &str, u64)> {
    // The last one: a stream may be called `consumer`, and no consumer's name has a slash.
    let (stream, consumer) = arn.rsplit_once("/consumer/")?;
    let (_, stream) = stream.split_once(":stream/")?;
    let (name, created_s) = consumer.split_once(':')?;
    Some((stream, name, created_s.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_leads_back_to_stream_and_consumer() {
        let arn = consumer_arn("arn:aws:kinesis:r:0:stream/s", "c", 1_700_000_000_123);
        assert_eq!(arn, "arn:aws:kinesis:r:0:stream/s/consumer/c:1700000000");
        assert_eq!(parse_consumer_arn(&arn), Some(("s", "c", 1_700_000_000)));
        assert_eq!(parse_consumer_arn("arn:aws:kinesis:r:0:stream/s"), None);
        let arn = "arn:aws:kinesis:r:0:stream/consumer/consumer/c:1";
        assert_eq!(parse_consumer_arn(arn), Some(("consumer", "c", 1)));
    }
}
