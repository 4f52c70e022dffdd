//! Which shards ListShards names.
//!
//! Promises: a closed shard whose last record is past the retention is not listed at all, with or
//! without a filter.

use super::Stream;
use super::shard::Shard;

/// The filter's types, as the model names and orders them.
pub(crate) const FILTER_TYPES: [&str; 6] = [
    "AFTER_SHARD_ID",
    "AT_TRIM_HORIZON",
    "FROM_TRIM_HORIZON",
    "AT_LATEST",
    "AT_TIMESTAMP",
    "FROM_TIMESTAMP",
];

/// The shards that are asked for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum ShardFilter {
    /// All that are not expired.
    All,
    /// Those with a greater index.
    After(u32),
    /// Those that were open when the oldest kept record could have been written.
    AtTrimHorizon,
    /// Those that are open now.
    AtLatest,
    /// Those that were open then; one that closed at that instant may have a record of it.
    At(u64),
    /// Those that were open then or opened later.
    From(u64),
}

impl ShardFilter {
    /// Whether `shard` of `stream` is listed.
    pub(crate) fn lists(self, stream: &Stream, shard: &Shard, now_ms: u64) -> bool {
        let horizon_ms = stream.horizon_ms(now_ms).max(stream.life.created_ms);
        let created_ms = shard.identity.created_ms;
        let closed_ms = shard.closed_ms();
        let open_at = |at_ms: u64| created_ms <= at_ms && closed_ms.is_none_or(|end| end >= at_ms);
        if stream.is_expired(shard, now_ms) {
            return false;
        }
        match self {
            Self::All => true,
            Self::After(index) => shard.identity.index > index,
            Self::AtTrimHorizon => open_at(horizon_ms),
            Self::AtLatest => closed_ms.is_none(),
            Self::At(at_ms) => open_at(at_ms),
            Self::From(at_ms) => closed_ms.is_none_or(|end| end >= at_ms),
        }
    }
}
