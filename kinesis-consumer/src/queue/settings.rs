//! How a queue's consumer behaves.

use std::time::Duration;

use kinesis_core::limits;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::settings::millis;

/// Source: none, reasonable default: calls of one service under way.
const CONCURRENCY: usize = 64;

/// Source: as `Settings::max_buffered_bytes`.
const MAX_BUFFERED_BYTES: usize = 256 * 1024 * 1024;

/// One record. Source: the service's largest.
const MAX_BUFFERED_BYTES_MIN: usize = limits::RECORD_MAX_BYTES_LARGEST;

/// Source: API model, `VisibilityTimeoutSeconds` when a queue is made.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest visibility timeout: 12 hours. Source: API model.
pub(super) const VISIBILITY_TIMEOUT_MAX: Duration = Duration::from_secs(43_200);

/// Least that leaves time to extend it. Source: none, reasonable default.
const VISIBILITY_TIMEOUT_MIN: Duration = Duration::from_secs(3);

/// Source: API model, the default of `WaitTimeSeconds`.
const WAIT_TIME: Duration = Duration::from_secs(9);

/// Longest wait of a receive. Source: API model.
const WAIT_TIME_MAX: Duration = Duration::from_secs(20);

/// Source: none, reasonable default: ten acknowledgements seldom need longer to come together.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_millis(100);

/// Source: as `Settings::shutdown_timeout`.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// Most records handled at once. Source: the service, records in flight of a queue.
const CONCURRENCY_MAX: usize = 120_000;

/// Which records of a queue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// Those of the stream.
    #[default]
    Records,
    /// Those that were received too often.
    DeadLetters,
}

/// How a [`QueueConsumer`](super::QueueConsumer) behaves. Checked by its builder.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// Which records are received.
    pub lane: Lane,
    /// Most records handled at once, 1 to 120,000.
    ///
    /// A request brings ten records at most. While answers are full up to eight are under way at once,
    /// where there is room for what they bring, and as many that acknowledge: 4,000 records a second where
    /// a round trip takes 20 ms. `max_buffered_bytes` makes it fewer where it is the smaller: by default
    /// 25 records may be asked for at once.
    pub concurrency: usize,
    /// Payload bytes that handlers together may have in their hands, at least 10 MiB. No more records are
    /// asked for than fit if each is as large as the service allows (10 MiB), so the sum stays below it.
    /// While an answer is read, its text takes about as much again.
    ///
    /// So it bounds how many small records are asked for at once, too: one for each 10 MiB that are free,
    /// over all requests under way. With 10 MiB nothing is asked for while a byte is held, which makes
    /// `concurrency` 1; with 20 MiB requests ask for one record each once something is held; for the ten
    /// that a request may ask for, 100 MiB have to be free.
    pub max_buffered_bytes: usize,
    /// How long a received record is hidden from other receivers, 3 s to 12 h, whole seconds; extended
    /// while its handler runs, when half of it is over since the receive was asked for.
    #[serde(rename = "visibility_timeout_millis", with = "millis")]
    pub visibility_timeout: Duration,
    /// How long a receive waits for records, 1 s to 20 s, whole seconds.
    #[serde(rename = "wait_time_millis", with = "millis")]
    pub wait_time: Duration,
    /// How long an acknowledgement waits for others to go with, at most half of
    /// `visibility_timeout`.
    #[serde(rename = "acknowledge_after_millis", with = "millis")]
    pub acknowledge_after: Duration,
    /// From the request to stop until handlers are dropped and their records made visible.
    #[serde(rename = "shutdown_timeout_millis", with = "millis")]
    pub shutdown_timeout: Duration,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            lane: Lane::default(),
            concurrency: CONCURRENCY,
            max_buffered_bytes: MAX_BUFFERED_BYTES,
            visibility_timeout: VISIBILITY_TIMEOUT,
            wait_time: WAIT_TIME,
            acknowledge_after: ACKNOWLEDGE_AFTER,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
        }
    }
}

impl QueueSettings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] that names the first field out of bounds, and the bound.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |field: &str, bound: String| {
            let text = format!("setting {field} must be {bound}");
            Err(Error::new(ErrorKind::InvalidInput, text))
        };
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return wrong("concurrency", format!("1 to {CONCURRENCY_MAX}"));
        }
        if self.max_buffered_bytes < MAX_BUFFERED_BYTES_MIN {
            let bound = format!("at least {MAX_BUFFERED_BYTES_MIN} (the largest record)");
            return wrong("max_buffered_bytes", bound);
        }
        for (field, value, least, most) in [
            (
                "visibility_timeout",
                self.visibility_timeout,
                VISIBILITY_TIMEOUT_MIN,
                VISIBILITY_TIMEOUT_MAX,
            ),
            (
                "wait_time",
                self.wait_time,
                Duration::from_secs(1),
                WAIT_TIME_MAX,
            ),
        ] {
            if !(least..=most).contains(&value) || value.subsec_nanos() != 0 {
                let bound = format!("{} to {} whole seconds", least.as_secs(), most.as_secs());
                return wrong(field, bound);
            }
        }
        if self.acknowledge_after > self.visibility_timeout / 2 {
            return wrong(
                "acknowledge_after",
                "at most half of visibility_timeout".into(),
            );
        }
        if self.shutdown_timeout > VISIBILITY_TIMEOUT_MAX {
            return wrong("shutdown_timeout", "at most 12 hours".into());
        }
        Ok(())
    }
}
