//! How the leases stand.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use kinesis_core::{Position, ShardId};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::LeaseAdmin;
use crate::discover;
use crate::error::Error;
use crate::fetch::StartAt;
use crate::lease::Lease;
use crate::settings::InitialPosition;
use crate::stream::{Address, StreamId, StreamSource};

/// Shards that are asked for their lag at once. Source: none, reasonable default; each is asked twice.
const LAGS_AT_ONCE: usize = 32;

/// How long one shard is asked for its lag. Source: none, reasonable default.
const LAG_PATIENCE: Duration = Duration::from_secs(10);

/// How long all shards together are. Source: none, reasonable default: at 32 at once and 30 ms a call,
/// thirty thousand are asked by then.
const LAGS_PATIENCE: Duration = Duration::from_secs(60);

/// How one lease stands.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LeaseState {
    /// The lease's key.
    pub lease: String,
    /// The stream in the key, for a multi-stream application.
    pub stream: Option<String>,
    /// The shard.
    pub shard: String,
    /// Who owns it or, during a handoff, is to own it next.
    pub owner: Option<String>,
    /// During a handoff, who still works on the shard.
    pub checkpoint_owner: Option<String>,
    /// `leaseCounter`.
    pub counter: u64,
    /// A sequence number, or `TRIM_HORIZON`, `LATEST`, `AT_TIMESTAMP`, `SHARD_END`.
    pub checkpoint: String,
    /// `checkpointSubSequenceNumber`.
    pub sub_sequence: u64,
    /// Whether a checkpoint is prepared and not committed.
    pub has_pending_checkpoint: bool,
    /// Seconds since the checkpointed record was written to the stream; absent for a sentinel. Where
    /// nothing is written it grows though all is processed, other than the metric
    /// [`CHECKPOINT_AGE_SECONDS`](crate::metrics::CHECKPOINT_AGE_SECONDS), the time since the checkpoint
    /// was last made.
    pub checkpoint_age_seconds: Option<u64>,
    /// How far a reader at the checkpoint is from the tip of the shard, in milliseconds; absent for
    /// a finished shard, and where the stream was not given or the shard could not be asked in time.
    pub millis_behind_latest: Option<u64>,
}

impl LeaseAdmin {
    /// All leases, in the order of their keys. The lag of those that belong to `streams` (for an
    /// application of one stream: of all) is asked of Kinesis, one `GetRecords` per open lease, which
    /// takes one of the five reads a second that a shard has. A shard that has not answered after ten
    /// seconds has none, and neither have those that were not asked within a minute.
    ///
    /// # Errors
    /// When the table, or one of `streams`, cannot be read. A shard whose lag cannot be asked for
    /// has none.
    pub async fn list(&self, streams: &[StreamSource]) -> Result<Vec<LeaseState>, Error> {
        let mut known = Vec::new();
        for stream in streams {
            let id = discover::identify(&self.kinesis, &stream.address).await?;
            known.push((id, &stream.address));
        }
        let scan = self.rows.scan().await?;
        let until = self.clock.now() + LAGS_PATIENCE;
        let states = scan.leases.into_iter().map(|found| {
            let address = match StreamId::of_key(&found.lease.shard_id) {
                None => known.first(),
                Some(of_key) => known.iter().find(|(id, _)| *id == of_key),
            };
            let address = address.filter(|_| !found.lease.is_ended());
            let mut state = self.state(&found.lease);
            async move {
                if let Some((_, address)) = address {
                    state.millis_behind_latest = self.lag_by(&found.lease, address, until).await;
                }
                state
            }
        });
        Ok(stream::iter(states).buffered(LAGS_AT_ONCE).collect().await)
    }

    fn state(&self, lease: &Lease) -> LeaseState {
        LeaseState {
            lease: lease.shard_id.to_string(),
            stream: StreamId::of_key(&lease.shard_id).map(|id| id.to_string()),
            shard: StreamId::shard_of_key(&lease.shard_id).to_string(),
            owner: lease.owner.clone(),
            checkpoint_owner: lease.checkpoint_owner.clone(),
            counter: lease.counter,
            checkpoint: lease.checkpoint.checkpoint().to_owned(),
            sub_sequence: lease.checkpoint.sub_sequence(),
            has_pending_checkpoint: lease.pending_checkpoint.is_some(),
            checkpoint_age_seconds: self.age(&lease.checkpoint),
            millis_behind_latest: None,
        }
    }

    fn age(&self, checkpoint: &Position) -> Option<u64> {
        let Position::At {
            sequence_number, ..
        } = checkpoint
        else {
            return None;
        };
        let written = sequence_number.parts()?.written_s;
        Some((self.clock.epoch_millis() / 1_000).saturating_sub(written))
    }

    async fn lag_by(&self, lease: &Lease, address: &Address, until: Instant) -> Option<u64> {
        let now = self.clock.now();
        if now >= until {
            return None;
        }
        let until = until.min(now + LAG_PATIENCE);
        timeout_at(until, self.lag(lease, address)).await.ok()?
    }

    async fn lag(&self, lease: &Lease, address: &Address) -> Option<u64> {
        let shard_id: ShardId = StreamId::shard_of_key(&lease.shard_id);
        let start = StartAt::of_lease(lease, InitialPosition::TrimHorizon);
        let request = self
            .kinesis
            .get_shard_iterator()
            .set_stream_name(address.name())
            .set_stream_arn(address.arn())
            .shard_id(shard_id.as_str());
        let iterator = Box::pin(start.behind().ask(request).send())
            .await
            .ok()?
            .shard_iterator?;
        let request = self.kinesis.get_records().shard_iterator(iterator).limit(1);
        let answer = Box::pin(request.send()).await.ok()?;
        u64::try_from(answer.millis_behind_latest?).ok()
    }
}
