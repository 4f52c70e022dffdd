//! Whether the stream places records by their keys, or wherever it likes (distribution AUTO).
//!
//! It matters only where an aggregate has members of other shards: of a stream that goes by keys
//! they are dropped, because they were sent again; of one with AUTO they are where they belong. So
//! it is asked for then, and not asked again for a while.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::call::{Failure, Reader};
use super::poll::Trouble;

/// How long an answer counts. Source: none, reasonable default; members are sent anew for longer
/// than that only by producers that do not know of the change either.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// The pause before asking again. Source: none, reasonable default.
const PAUSE: Duration = Duration::from_secs(1);

/// Failed questions in a row before keys are taken to count. Source: none, reasonable default.
const FAILURES_MAX: u32 = 60;

/// The latest answer, shared by the shards of a stream.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    known: Mutex<Option<(Instant, bool)>>,
}

impl Placement {
    /// Whether shards hold whatever records they are given. Waits out failures; without the
    /// permission to ask, keys count.
    pub(super) async fn is_auto(&self, reader: &Reader) -> bool {
        for _ in 0..FAILURES_MAX {
            let now = reader.clock.now();
            if let Some((at, auto)) = *self.lock()
                && now < at + KNOWN_FOR
            {
                return auto;
            }
            match reader.places_itself().await {
                Ok(auto) => *self.lock() = Some((now, auto)),
                Err(failure) if is_final(&failure) => *self.lock() = Some((now, false)),
                Err(Failure { error, .. }) => {
                    tracing::warn!("How the stream places records is asked again: {error}");
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

fn is_final(failure: &Failure) -> bool {
    failure.trouble == Trouble::NotFound || !failure.error.kind().is_retryable()
}
