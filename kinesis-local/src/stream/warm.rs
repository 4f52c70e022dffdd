//! Warm throughput: what an on-demand stream is kept ready to take, whatever its traffic is.
//!
//! Promises: a shard stands for 1 MiB a second. A stream that is warmed has at least as many shards
//! as that takes, and none of them has more than its share of the keys; shards that were split for
//! being hot stay as they are. Excess capacity is released down to what is kept warm, what the last
//! hours of traffic needed and the four shards of any on-demand stream.

use kinesis_core::limits::ON_DEMAND_SHARDS_AT_START;

use super::scale::Step;
use super::{Mode, Stream};
use crate::commitment::Commitment;

/// Warm throughput that a stream can have at most, in MiB a second. Source: API model (10 GiB/s).
pub(crate) const WARM_MIBPS_MAX: u32 = 10_240;

/// What a stream is kept ready to take.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Warm {
    pub(crate) target_mibps: u32,
    /// Since when: it ends with the commitment that was there then.
    pub(crate) since_ms: u64,
}

/// Shards that take `mibps` MiB a second, of an on-demand stream.
pub(crate) fn warm_shards(mibps: u32) -> u32 {
    mibps.max(ON_DEMAND_SHARDS_AT_START)
}

impl Stream {
    /// The steps of UpdateStreamWarmThroughput: to more shards, or, where there are enough, to those
    /// that are needed.
    pub(crate) fn steps_to_warm(&self, mibps: u32, now_ms: u64) -> Vec<Step> {
        if !self.holds_warm(mibps) {
            return self.steps_to_at_least(warm_shards(mibps));
        }
        let needed = self.demand().needed_lately(self.open_shards(), now_ms);
        let target = warm_shards(mibps).max(needed);
        if target < self.open_shards() {
            self.steps_to(target)
        } else {
            Vec::new()
        }
    }

    /// Whether its shards are enough for this warm throughput.
    pub(super) fn holds_warm(&self, mibps: u32) -> bool {
        self.steps_to_at_least(warm_shards(mibps)).is_empty()
    }

    /// Whether it is an On-demand Advantage stream: on-demand, in an account with a commitment.
    pub(crate) fn is_advantage(&self, commitment: &Commitment, now_ms: u64) -> bool {
        self.mode == Mode::OnDemand && commitment.holds(now_ms)
    }

    /// The warm throughput that it has now, in MiB a second.
    pub(crate) fn warm_mibps(&self, commitment: &Commitment, now_ms: u64) -> Option<u32> {
        let warm = self.warm?;
        let lasts = commitment.has_held_since(warm.since_ms, now_ms);
        lasts.then_some(warm.target_mibps)
    }

    /// The write throughput that the stream is scaled to, in MiB a second.
    pub(crate) fn current_mibps(&self) -> u32 {
        self.open_shards()
    }
}
