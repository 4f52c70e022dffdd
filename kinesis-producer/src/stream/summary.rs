//! What a stream says about itself: how large its records may be, and who places them.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::RecordDistributionStrategy;
use kinesis_core::limits::{KIB, RECORD_MAX_BYTES_LARGEST};

use super::StreamRef;
use crate::error::{Cause, Class};
use crate::pipeline::send::cause_of;

const OPERATION: &str = "DescribeStreamSummary";

/// How long the answer is waited for: the first records wait with it. Source: none, reasonable
/// default; less than a cold start waits for the shard map.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What decides how records are packed, beside the shards.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct StreamTraits {
    /// Most bytes of data and key of a record, an aggregate included.
    pub(crate) record_bytes_max: usize,
    /// Whether the service places records where it likes, whatever their keys are.
    pub(crate) auto: bool,
}

impl StreamTraits {
    /// Of a stream that nothing is known of: the service will say what it does not take.
    pub(crate) fn unknown() -> Self {
        Self {
            record_bytes_max: RECORD_MAX_BYTES_LARGEST,
            auto: false,
        }
    }
}

/// Asks the stream.
pub(crate) async fn describe(client: &Client, stream: &StreamRef) -> Result<StreamTraits, Cause> {
    let failed = |code| Cause::new(OPERATION, Class::Unavailable, code);
    let request = client
        .describe_stream_summary()
        .set_stream_name(stream.name_field())
        .set_stream_arn(stream.arn_field());
    let answer = tokio::time::timeout(TIMEOUT, request.send())
        .await
        .map_err(|_elapsed| failed("Timeout"))?
        .map_err(|error| cause_of(OPERATION, &error))?;
    let summary = answer.stream_description_summary();
    let summary = summary.ok_or_else(|| failed("MalformedAnswer"))?;
    let unknown = StreamTraits::unknown();
    let kibibytes = summary.max_record_size_in_kib().map(usize::try_from);
    Ok(StreamTraits {
        record_bytes_max: match kibibytes {
            Some(Ok(kibibytes)) if kibibytes > 0 => kibibytes.saturating_mul(KIB),
            _ => unknown.record_bytes_max,
        },
        auto: summary.record_distribution_strategy() == Some(&RecordDistributionStrategy::Auto),
    })
}
