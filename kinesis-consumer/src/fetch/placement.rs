//! Whether a member of another shard may be dropped: only where its producer certainly sends it
//! again.
//!
//! A producer that goes by keys sends members again that met a reshard on their way. One of a stream
//! with record distribution AUTO does not: its members are where they belong. What the distribution
//! is now says nothing of a record that was written before it was changed, at once and any time, and
//! AUTO needs on-demand mode. So members are dropped only of a stream that is provisioned; of any
//! other, and where nobody answers, they are delivered: a record twice is no loss.
//!
//! Not covered: a stream with AUTO that is made provisioned while aggregates of before are unread.
//! Nothing that the service tells dates such a switch.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Failure, Reader};
use super::poll::Trouble;

/// How long it counts that a stream is provisioned. Source: none, reasonable default; a way to AUTO
/// leads through a change of mode, during which the stream is not ACTIVE, and a second request.
const PROVISIONED_FOR: Duration = Duration::from_secs(1);

/// How long any other answer counts. Source: none, reasonable default; it only lets records come
/// twice.
const OTHER_FOR: Duration = Duration::from_secs(10);

/// The pause before asking again. Source: none, reasonable default.
const PAUSE: Duration = Duration::from_secs(1);

/// Failed questions in a row before it counts as unknown. Source: none, reasonable default.
const FAILURES_MAX: u32 = 60;

/// The latest answer, shared by the shards of a stream.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    known: Mutex<Option<(Instant, bool)>>,
}

impl Placement {
    /// Whether members of other shards were certainly sent again. Waits out failures; without the
    /// permission to ask, it is not certain.
    pub(super) async fn is_by_key(&self, reader: &Reader) -> bool {
        for _ in 0..FAILURES_MAX {
            let now = reader.clock.now();
            if let Some((at, by_key)) = *self.lock()
                && now < at + known_for(by_key)
            {
                return by_key;
            }
            match reader.is_provisioned().await {
                Ok(provisioned) => *self.lock() = Some((now, provisioned)),
                Err(failure) if is_final(&failure) => *self.lock() = Some((now, false)),
                Err(Failure { error, .. }) => {
                    tracing::warn!("The mode of the stream is asked for again: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        false
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Instant, bool)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known_for(by_key: bool) -> Duration {
    if by_key { PROVISIONED_FOR } else { OTHER_FOR }
}

fn is_final(failure: &Failure) -> bool {
    failure.trouble == Trouble::NotFound || !failure.error.kind().is_retryable()
}
