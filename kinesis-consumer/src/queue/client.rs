//! The operations on the records of queues, which `aws-sdk-kinesis` 1.130 does not have yet.
//!
//! ```text
//! AddTagsToStream ── interceptor ─▶ X-Amz-Target and body of ReceiveQueueRecords ─▶ sign, send, retry
//!                    interceptor ◀─ the answer's body ◀──────────────────────────── the SDK's own
//! ```
//!
//! An operation that the SDK has, and that answers nothing, carries them: endpoint, credentials,
//! signature, retries, time-outs and the reading of errors are the SDK's. **To be deleted** as soon as
//! the SDK has the operations: then each function here is one call of it.
//!
//! Source: API model of 2026-11-17 (Kinesis API 2013-12-02, AWS JSON 1.1).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::error;

use super::QueueRecord;
use super::settings::Lane;
use crate::error::{Error, ErrorKind, code_kind};

/// Entries of one request, and records of one receive. Source: API model.
const RECORDS_MAX: usize = super::book::ENTRIES_MAX;

/// How long a call may take, with the SDK's attempts; a receive besides what it waits for records.
/// Source: as `Settings::kinesis_request_timeout`.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Rounds of [`QueueClient::restore_all`]. Source: none; ten million dead letters.
const ROUNDS_MAX: usize = 1_000_000;

/// Calls the operations on the records of queues. Cheap to clone.
#[derive(Clone, Debug)]
pub struct QueueClient {
    kinesis: aws_sdk_kinesis::Client,
}

/// What became of one entry of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// The handle that was given.
    pub receipt_handle: String,
    /// Why it was refused, by the service's code; `None` if it was done.
    pub refusal: Option<String>,
}

impl Entry {
    /// What to do about its refusal, as about that of a whole request; `None` if it was done.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.refusal.as_deref().map(code_kind)
    }
}

impl QueueClient {
    /// Calls through `kinesis`.
    pub fn new(kinesis: aws_sdk_kinesis::Client) -> Self {
        Self { kinesis }
    }

    /// Receives up to ten records: those there are, or those that come within `wait_seconds` (1 to
    /// 20). Each is hidden from others for `visibility_seconds`.
    ///
    /// A record whose data cannot be read is left out, with an ERROR: it comes again after its visibility
    /// timeout, until the queue makes a dead letter of it.
    ///
    /// # Errors
    /// As the service answers; the kind says what to do. [`ErrorKind::Unavailable`] when there is no
    /// answer for 30 s longer than `wait_seconds`.
    ///
    /// # Cancel safety
    /// What a dropped call had received stays hidden for its visibility timeout.
    pub async fn receive(
        &self,
        queue_arn: &str,
        lane: Lane,
        limit: usize,
        wait_seconds: u64,
        visibility_seconds: u64,
    ) -> Result<Vec<QueueRecord>, Error> {
        let operation = match lane {
            Lane::Records => "ReceiveQueueRecords",
            Lane::DeadLetters => "ReceiveDeadLetterQueueRecords",
        };
        let request = ReceiveRequest {
            queue_arn,
            limit: limit.clamp(1, RECORDS_MAX),
            wait_time_seconds: wait_seconds,
            visibility_timeout_seconds: visibility_seconds,
        };
        let within = Duration::from_secs(wait_seconds) + CALL_TIMEOUT;
        let call = self.call(operation, queue_arn, &request, within);
        let answer: ReceiveAnswer = call.await?;
        Ok(answer.read(queue_arn))
    }

    /// Acknowledges up to ten records: they do not come again.
    ///
    /// # Errors
    /// As the service answers, or [`ErrorKind::Unavailable`] without an answer for 30 s. An entry that
    /// was refused is told of alone.
    pub async fn acknowledge(
        &self,
        queue_arn: &str,
        lane: Lane,
        handles: &[String],
    ) -> Result<Vec<Entry>, Error> {
        let operation = match lane {
            Lane::Records => "AcknowledgeQueueRecords",
            Lane::DeadLetters => "AcknowledgeDeadLetterQueueRecords",
        };
        let entries = handles.iter().map(|handle| (handle.as_str(), None));
        self.entries(operation, queue_arn, entries).await
    }

    /// Hides up to ten records for so many seconds from now; 0 makes them visible.
    ///
    /// # Errors
    /// As [`acknowledge`](Self::acknowledge).
    pub async fn hide(
        &self,
        queue_arn: &str,
        lane: Lane,
        handles: &[(String, u64)],
    ) -> Result<Vec<Entry>, Error> {
        let operation = match lane {
            Lane::Records => "UpdateQueueRecordsVisibility",
            Lane::DeadLetters => "UpdateDeadLetterQueueRecordsVisibility",
        };
        let entries = handles
            .iter()
            .map(|(handle, seconds)| (handle.as_str(), Some(*seconds)));
        self.entries(operation, queue_arn, entries).await
    }

    /// Makes up to ten dead letters ordinary records of the queue again, as if never received.
    ///
    /// # Errors
    /// As [`acknowledge`](Self::acknowledge).
    pub async fn restore(&self, queue_arn: &str, handles: &[String]) -> Result<Vec<Entry>, Error> {
        let entries = handles.iter().map(|handle| (handle.as_str(), None));
        self.entries("RestoreDeadLetterQueueRecords", queue_arn, entries)
            .await
    }

    /// Restores all dead letters that can be received now; how many.
    ///
    /// # Errors
    /// As [`acknowledge`](Self::acknowledge); what was restored before stays so.
    pub async fn restore_all(&self, queue_arn: &str) -> Result<u64, Error> {
        let mut restored = 0;
        for _ in 0..ROUNDS_MAX {
            let letters = self
                .receive(queue_arn, Lane::DeadLetters, RECORDS_MAX, 1, 30)
                .await?;
            if letters.is_empty() {
                break;
            }
            let handles: Vec<_> = letters
                .into_iter()
                .map(|letter| letter.receipt_handle)
                .collect();
            let entries = self.restore(queue_arn, &handles).await?;
            restored += entries
                .iter()
                .filter(|entry| entry.refusal.is_none())
                .count() as u64;
        }
        Ok(restored)
    }

    async fn entries<'a>(
        &self,
        operation: &'static str,
        queue_arn: &str,
        entries: impl Iterator<Item = (&'a str, Option<u64>)>,
    ) -> Result<Vec<Entry>, Error> {
        let request = EntriesRequest {
            queue_arn,
            entries: entries
                .map(
                    |(receipt_handle, visibility_timeout_seconds)| EntryRequest {
                        receipt_handle,
                        visibility_timeout_seconds,
                    },
                )
                .collect(),
        };
        if request.entries.is_empty() {
            return Ok(Vec::new());
        }
        let call = self.call(operation, queue_arn, &request, CALL_TIMEOUT);
        let answer: EntriesAnswer = call.await?;
        let all = answer.successful.into_iter().chain(answer.failed);
        Ok(all
            .map(|entry| Entry {
                receipt_handle: entry.receipt_handle,
                refusal: entry.error_code,
            })
            .collect())
    }

    async fn call<A: for<'de> Deserialize<'de>>(
        &self,
        operation: &'static str,
        queue_arn: &str,
        request: &impl Serialize,
        within: Duration,
    ) -> Result<A, Error> {
        let unreadable = |error| {
            let text = format!("the answer to {operation} on queue {queue_arn} cannot be read");
            Error::new(ErrorKind::Corrupt, text).with_source(error)
        };
        let body = serde_json::to_vec(request).map_err(|error| {
            let text = format!("a request of {operation} has no form as JSON");
            Error::new(ErrorKind::Internal, text).with_source(error)
        })?;
        let carrier = Carrier {
            operation,
            body: body.into(),
            answer: Arc::default(),
        };
        let answer = Arc::clone(&carrier.answer);
        // Neither name nor tag is sent: the interceptor puts another body in their place.
        let request = self
            .kinesis
            .add_tags_to_stream()
            .stream_name("carrier")
            .tags("carrier", "carrier")
            .customize()
            .interceptor(carrier);
        timeout(within, Box::pin(request.send()))
            .await
            .map_err(|elapsed| {
                let text = format!("{operation} on queue {queue_arn} took longer than {within:?}");
                Error::new(ErrorKind::Unavailable, text).with_source(elapsed)
            })?
            .map_err(|error| Error::aws(format_args!("{operation} on queue {queue_arn}"), error))?;
        let answer = std::mem::take(&mut *answer.lock().unwrap_or_else(PoisonError::into_inner));
        serde_json::from_slice(&answer).map_err(unreadable)
    }
}

/// Makes one operation another; see the module.
#[derive(Debug)]
struct Carrier {
    operation: &'static str,
    body: Bytes,
    answer: Arc<Mutex<Bytes>>,
}

impl Intercept for Carrier {
    fn name(&self) -> &'static str {
        "QueueOperation"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let json = request.headers().get("x-amz-target").is_some();
        if !json {
            return Err(
                "queues need a client that speaks AWS JSON 1.1, which is its default".into(),
            );
        }
        let target = format!("Kinesis_20131202.{}", self.operation);
        request.headers_mut().insert("x-amz-target", target);
        let length = self.body.len().to_string();
        request.headers_mut().insert("content-length", length);
        *request.body_mut() = SdkBody::from(self.body.clone());
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        let mut answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        *answer = Bytes::copy_from_slice(body);
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReceiveRequest<'a> {
    #[serde(rename = "QueueARN")]
    queue_arn: &'a str,
    limit: usize,
    wait_time_seconds: u64,
    visibility_timeout_seconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EntriesRequest<'a> {
    #[serde(rename = "QueueARN")]
    queue_arn: &'a str,
    entries: Vec<EntryRequest<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct EntryRequest<'a> {
    receipt_handle: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility_timeout_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct ReceiveAnswer {
    queue_records: Vec<RecordAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RecordAnswer {
    receipt_handle: String,
    record_id: String,
    partition_key: Option<String>,
    data: String,
    approximate_arrival_timestamp: Option<f64>,
    first_receive_timestamp: Option<f64>,
    #[serde(default)]
    receive_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EntriesAnswer {
    successful: Vec<EntryAnswer>,
    failed: Vec<EntryAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EntryAnswer {
    receipt_handle: String,
    error_code: Option<String>,
}

impl ReceiveAnswer {
    /// The records that can be read.
    fn read(self, queue_arn: &str) -> Vec<QueueRecord> {
        let mut records = Vec::with_capacity(self.queue_records.len());
        for record in self.queue_records {
            let record_id = record.record_id.clone();
            match record.read() {
                Ok(record) => records.push(record),
                Err(error) => {
                    error!(%error, queue_arn, record_id, "A record of the queue is not Base64: it is left to come again, until it is a dead letter.");
                }
            }
        }
        records
    }
}

impl RecordAnswer {
    fn read(self) -> Result<QueueRecord, aws_smithy_types::base64::DecodeError> {
        let data = aws_smithy_types::base64::decode(&self.data)?;
        Ok(QueueRecord {
            receipt_handle: self.receipt_handle,
            record_id: self.record_id,
            partition_key: self.partition_key,
            data: data.into(),
            approximate_arrival_millis: self.approximate_arrival_timestamp.map(millis),
            first_receive_millis: self.first_receive_timestamp.map(millis),
            receive_count: self.receive_count,
        })
    }
}

/// Seconds since the Unix epoch, with a fraction.
fn millis(seconds: f64) -> u64 {
    (seconds * 1_000.0).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_does_not_take_the_others_with_it() {
        let record = |id: &str, data: &str| serde_json::json!({"ReceiptHandle": id, "RecordId": id, "Data": data});
        let records = [
            record("a", "YQ=="),
            record("b", "no base64"),
            record("c", "Yw=="),
        ];
        let answer = serde_json::json!({ "QueueRecords": records });
        let answer: ReceiveAnswer = serde_json::from_value(answer).expect("an answer");
        let records = answer.read("arn");
        let data: Vec<_> = records.iter().map(|record| &record.data[..]).collect();
        assert_eq!(data, [b"a", b"c"]);
    }
}
