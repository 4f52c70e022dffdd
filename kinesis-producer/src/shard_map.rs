//! The producer's picture of the stream's shards: when to ask for it, and the asking.
//!
//! ```text
//! no map ──first record──▶ loading ──ok──▶ map ◀──ok── loading (the old map stays in use)
//!    ▲                        │ failed       │ a record comes a minute or so later, or landed elsewhere
//!    └── again after backoff ─┘              └──────────▶ loading
//! ```
//!
//! One ListShards walk at a time. While there is no map, records wait at most [`COLD_START_WAIT`]
//! and are then sent unaggregated; a cause that no waiting cures (no such stream, access denied)
//! fails those that wait. A map in use is kept through failed refreshes, but for one that does not
//! find the stream. While refreshes fail nothing waits for them: where a record landed is then told
//! by what is known, and what is not known does not count as delivered.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{ShardFilter, ShardFilterType};
use kinesis_core::limits::LIST_SHARDS_MAX;
use kinesis_core::{Backoff, HashKeyRange, Rand, SequenceNumber, Shard, ShardId, ShardMap};
use tokio::time::Instant;

use crate::error::{Cause, Class};
use crate::pipeline::send::cause_of;
use crate::stream::StreamRef;

/// How long a cold start waits for the shard map before records go unaggregated.
/// Source: none, reasonable default.
const COLD_START_WAIT: Duration = Duration::from_secs(5);
/// Mean age at which the map is asked for again, once a record comes; each time ± a quarter.
/// Source: none, reasonable default (the KPL never refreshes unasked).
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);
/// The same once nothing new comes and somebody waits for the end. Source: none, reasonable
/// default; the deadline of a `close` may be short.
const COLD_START_WAIT_AT_END: Duration = Duration::from_secs(1);
/// Shortest time between two walks. Source: none; far below the service's quota for ListShards.
const REFRESH_MIN_INTERVAL: Duration = Duration::from_millis(200);
/// A walk for a record that landed elsewhere begins at random within this, because a reshard shows
/// to all producers at once. Source: none, reasonable default; the shard's records wait so long.
const REFRESH_JITTER: Duration = Duration::from_millis(100);
/// The wait after a failed walk. Source: none, reasonable default; the maximum is the KPL's.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
/// Most pages of one walk: a million shards. Source: none, a bound on a server that never ends.
const PAGES_MAX: usize = 1000;

/// The map and when to load it. Pure: time and outcomes are passed in.
#[derive(Debug)]
pub(crate) struct MapKeeper {
    map: Option<ShardMap>,
    loading: bool,
    /// The stream was not found since the walk began: it may be that of another one of the name.
    stale: bool,
    /// When the last walk began.
    started_at: Option<Instant>,
    /// When the walk that gave the map began.
    map_as_of: Option<Instant>,
    /// When to load next; `None` while nobody needs a map.
    next_at: Option<Instant>,
    /// No record came since the last walk: the next one waits for the first.
    unused: bool,
    failures_in_a_row: u32,
    /// Since when records wait for the first map.
    cold_since: Option<Instant>,
}

/// What a new map is beside the one before.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// It has the same open shards.
    None,
    /// Shards were split or merged, or there was no map.
    Resharded,
    /// A shard's range never changes: this is another stream of the name.
    OtherStream,
    /// It was left out: the stream was not found since it was asked for.
    Stale,
}

impl MapKeeper {
    pub(crate) fn new() -> Self {
        Self {
            map: None,
            loading: false,
            stale: false,
            started_at: None,
            map_as_of: None,
            next_at: None,
            unused: false,
            failures_in_a_row: 0,
            cold_since: None,
        }
    }

    pub(crate) fn map(&self) -> Option<&ShardMap> {
        self.map.as_ref()
    }

    /// A record comes, or waits for its shard to be known: sees to it that a map comes, and is not
    /// too old.
    pub(crate) fn needed(&mut self, now: Instant) {
        self.unused = false;
        if self.map.is_none() && self.cold_since.is_none() {
            self.cold_since = Some(now);
            self.schedule(now);
        }
    }

    /// When records may be sent without a known shard; sooner if nothing new comes (`draining`).
    pub(crate) fn unmapped_from(&self, now: Instant, draining: bool) -> Option<Instant> {
        if self.map.is_some() {
            return Some(now);
        }
        let wait = match draining {
            true if self.failures_in_a_row > 0 => Duration::ZERO,
            true => COLD_START_WAIT_AT_END,
            false => COLD_START_WAIT,
        };
        self.cold_since.map(|since| since + wait)
    }

    /// Whether the map was asked for after `sent_at`.
    pub(crate) fn is_younger(&self, sent_at: Instant) -> bool {
        self.map_as_of.is_some_and(|as_of| as_of > sent_at)
    }

    /// A record sent at `sent_at` landed where the map did not expect it. `true` if a fresher map
    /// is on its way; `false` if the map is younger than the request, or refreshes fail: what
    /// waited for them would wait as long as they do.
    pub(crate) fn suspect(&mut self, sent_at: Instant, now: Instant, rand: &Rand) -> bool {
        if self.map.is_none() {
            return self.next_at.is_some() || self.loading;
        }
        // What is still to be sent would land elsewhere too, though nothing new is accepted.
        self.unused = false;
        if self.failures_in_a_row > 0 {
            return false;
        }
        if self.loading {
            // Should that walk have begun before the request, the next one is asked for when it ends.
            return true;
        }
        if self.is_younger(sent_at) {
            return false;
        }
        // The first record that landed elsewhere has drawn already.
        if self.next_at.is_none_or(|at| at > now + REFRESH_JITTER) {
            self.schedule(now + REFRESH_JITTER.mul_f64(rand.unit()));
        }
        true
    }

    /// The stream was not found: what is known of it is gone, and what is being asked for with it.
    /// Whoever needs a map asks anew.
    pub(crate) fn forget(&mut self) {
        self.stale = self.loading;
        self.map = None;
        self.map_as_of = None;
        self.cold_since = None;
        self.next_at = None;
        self.unused = false;
    }

    fn schedule(&mut self, now: Instant) {
        let earliest = self
            .started_at
            .map_or(now, |at| now.max(at + REFRESH_MIN_INTERVAL));
        self.next_at = Some(self.next_at.map_or(earliest, |at| at.min(earliest)));
    }

    /// When a walk is to begin; `None` while one runs or none is wanted.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.next_at.filter(|_| !self.loading && !self.unused)
    }

    /// Whether a walk is to begin now; if so it counts as begun.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        let due = self.next_at().is_some_and(|at| at <= now);
        if due {
            self.loading = true;
            self.started_at = Some(now);
            self.next_at = None;
        }
        due
    }

    /// The walk gave `map`.
    pub(crate) fn loaded(&mut self, map: ShardMap, now: Instant, rand: &Rand) -> Change {
        self.loading = false;
        if std::mem::take(&mut self.stale) {
            return Change::Stale;
        }
        self.failures_in_a_row = 0;
        self.map_as_of = self.started_at;
        self.cold_since = None;
        // The listing caught a split or merge half-way.
        let halfway = map.hole().is_some();
        self.unused = !halfway;
        self.next_at = Some(if halfway {
            now + REFRESH_MIN_INTERVAL
        } else {
            now + REFRESH_INTERVAL.mul_f64(0.75 + 0.5 * rand.unit())
        });
        let open = |map: &ShardMap| {
            map.open()
                .map(|s| (s.id.clone(), s.range))
                .collect::<Vec<_>>()
        };
        let before = self.map.replace(map);
        let (Some(before), Some(map)) = (before, &self.map) else {
            return Change::Resharded;
        };
        let other = |shard: &Shard| map.get(&shard.id).is_some_and(|s| s.range != shard.range);
        if before.shards().any(other) {
            Change::OtherStream
        } else if open(&before) != open(map) {
            Change::Resharded
        } else {
            Change::None
        }
    }

    /// The walk failed. With a map in use, or for a transient cause, it is tried again; else
    /// `true`: whoever waits for the first map is to be failed, and the next one asks anew.
    pub(crate) fn failed(&mut self, cause: &Cause, now: Instant, rand: &Rand) -> bool {
        self.loading = false;
        self.stale = false;
        self.unused = self.map.is_some();
        self.next_at = Some(now + BACKOFF.delay(self.failures_in_a_row, rand));
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let cold = self
            .cold_since
            .map(|since| now.saturating_duration_since(since));
        let transient = cause.is_transient_after(self.failures_in_a_row, cold.unwrap_or_default());
        let hopeless = self.map.is_none() && !transient;
        if hopeless {
            self.next_at = None;
            self.cold_since = None;
        }
        hopeless
    }
}

/// Walks through all pages of the open shards.
pub(crate) async fn list_shards(
    client: &Client,
    stream: &StreamRef,
    page_timeout: Duration,
) -> Result<ShardMap, Cause> {
    let failed = |code| Cause::new("ListShards", Class::Unavailable, code);
    let open_shards = ShardFilter::builder()
        .r#type(ShardFilterType::AtLatest)
        .build();
    let open_shards = open_shards.map_err(|_invalid| failed("InvalidFilter"))?;
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let request = client.list_shards().max_results(LIST_SHARDS_MAX as i32);
        // A continued walk names the token only; the service refuses the stream's name beside it.
        let request = match token.take() {
            Some(token) => request.next_token(token),
            None => request
                .set_stream_name(stream.name_field())
                .set_stream_arn(stream.arn_field())
                .shard_filter(open_shards.clone()),
        };
        let page = tokio::time::timeout(page_timeout, request.send())
            .await
            .map_err(|_elapsed| failed("Timeout"))?
            .map_err(|error| cause_of("ListShards", &error))?;
        for shard in page.shards() {
            shards.push(parse(shard).ok_or_else(|| failed("MalformedShard"))?);
        }
        match page.next_token {
            Some(next) => token = Some(next),
            None if shards.is_empty() => return Err(failed("NoOpenShards")),
            None => return Ok(ShardMap::new(shards)),
        }
    }
    Err(failed("TooManyPages"))
}

fn parse(shard: &aws_sdk_kinesis::types::Shard) -> Option<Shard> {
    let keys = shard.hash_key_range()?;
    let numbers = shard.sequence_number_range()?;
    let range = HashKeyRange::new(
        keys.starting_hash_key().parse().ok()?,
        keys.ending_hash_key().parse().ok()?,
    )?;
    let ending = numbers
        .ending_sequence_number()
        .map(SequenceNumber::try_from);
    Some(Shard {
        id: shard.shard_id().into(),
        range,
        parent: shard.parent_shard_id().map(ShardId::from),
        adjacent_parent: shard.adjacent_parent_shard_id().map(ShardId::from),
        starting_sequence_number: numbers.starting_sequence_number().try_into().ok()?,
        ending_sequence_number: ending.transpose().ok()?,
    })
}

#[cfg(test)]
mod tests;
