//! How the leases stand.

use kinesis_core::{Position, ShardId};
use serde::Serialize;

use super::LeaseAdmin;
use crate::discover;
use crate::error::Error;
use crate::fetch::StartAt;
use crate::lease::Lease;
use crate::settings::InitialPosition;
use crate::stream::{Address, StreamId, StreamSource};

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
    /// Seconds since the checkpointed record was written to the stream; absent for a sentinel.
    pub checkpoint_age_seconds: Option<u64>,
    /// How far a reader at the checkpoint is from the tip of the shard, in milliseconds; absent for
    /// a finished shard, and where the stream was not given or could not be asked.
    pub millis_behind_latest: Option<u64>,
}

impl LeaseAdmin {
    /// All leases, in the order of their keys. The lag of those that belong to `streams` (for an
    /// application of one stream: of all) is asked of Kinesis, one `GetRecords` per open lease, which
    /// takes one of the five reads a second that a shard has.
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
        let mut states = Vec::new();
        for found in scan.leases {
            let address = match StreamId::of_key(&found.lease.shard_id) {
                None => known.first(),
                Some(of_key) => known.iter().find(|(id, _)| *id == of_key),
            };
            let mut state = self.state(&found.lease);
            if let Some((_, address)) = address
                && !found.lease.is_ended()
            {
                state.millis_behind_latest = self.lag(&found.lease, address).await;
            }
            states.push(state);
        }
        Ok(states)
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
