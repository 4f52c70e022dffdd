//! Whether a member of another shard may be dropped: only where its producer certainly sends it
//! again.
//!
//! A producer that goes by keys sends members again that met a reshard on their way. It filled their
//! aggregate for one shard, by the map it had; here it arrived because that shard is an ancestor of
//! this one. So all members of such an aggregate lie within the range of one ancestor
//! ([`is_explained`]). One that does not was filled by other rules, as with record distribution AUTO,
//! and nobody sends its members again: they are delivered.
//!
//! The other way round it proves nothing: an aggregate of a stream with AUTO may by chance lie within an
//! ancestor's range. What the distribution is now says nothing of a record that was written before it
//! was changed, at once and any time, and AUTO needs on-demand mode. So members are dropped only of a
//! stream that is provisioned besides; of any other, and where nobody answers, they are delivered: a
//! record twice is no loss.
//!
//! Left: an on-demand stream with AUTO that is made provisioned, while of a shard that a split made an
//! aggregate is unread all of whose members by chance have keys of one of its ancestors. Nothing that
//! the service tells dates such a switch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kinesis_core::{Clock, HashKeyRange, ShardId, ShardMap};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout};

use super::call::{Failure, Reader};
use super::poll::Trouble;
use super::unpack::Foreign;
use crate::error::Error;

/// How long it counts that a stream is provisioned. Source: none, reasonable default; a way to AUTO
/// leads through a change of mode, during which the stream is not ACTIVE, and a second request.
const PROVISIONED_FOR: Duration = Duration::from_secs(1);

/// How long any other answer counts. Source: none, reasonable default; it only lets records come
/// twice.
const OTHER_FOR: Duration = Duration::from_secs(10);

/// The pause before asking again. Source: none, reasonable default.
const PAUSE: Duration = Duration::from_secs(1);

/// How long it is asked for before it counts as unknown. Source: none, reasonable default.
const PATIENCE: Duration = Duration::from_secs(60);

/// The latest answers, shared by the shards of a stream: one of them asks for all, since the service takes
/// 20 calls a second of an account.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    known: Mutex<Option<(Instant, bool)>>,
    mode: InTurn,
    /// The shards as last listed. Only more come, and the oldest go; what is here stays true, but for a
    /// stream that was created anew under the name.
    shards: Mutex<Option<Arc<ShardMap>>>,
    listing: InTurn,
}

/// Held by who asks, and when that last failed: the others wait for what it finds, and do not ask again
/// before [`PAUSE`] is over.
#[derive(Debug, Default)]
struct InTurn(AsyncMutex<Option<Instant>>);

impl InTurn {
    /// What is known, or is answered to one of all who are here.
    async fn find<T>(
        &self,
        what: &str,
        clock: &Clock,
        known: impl Fn() -> Option<T>,
        ask: &Call<'_, T, Error>,
    ) -> T {
        loop {
            if let Some(found) = known() {
                return found;
            }
            let mut failed_at = self.0.lock().await;
            if let Some(found) = known() {
                return found;
            }
            let at = match *failed_at {
                Some(at) if clock.now() < at + PAUSE => at,
                _ => match ask().await {
                    Ok(found) => {
                        *failed_at = None;
                        return found;
                    }
                    Err(error) => {
                        tracing::warn!("{what} again: {error}");
                        *failed_at.insert(clock.now())
                    }
                },
            };
            drop(failed_at);
            tokio::time::sleep_until(at + PAUSE).await;
        }
    }
}

impl Placement {
    /// Whether members of other shards were certainly sent again. Waits out failures for
    /// [`PATIENCE`]; without the permission to ask, it is not certain.
    pub(super) async fn is_by_key(&self, reader: &Reader) -> bool {
        let ask = || reader.is_provisioned().boxed();
        self.is_by_key_of(&reader.clock, &ask).await
    }

    async fn is_by_key_of(&self, clock: &Clock, ask: &Call<'_, bool, Failure>) -> bool {
        let known = || {
            let known = *self.lock();
            let counts = known.filter(|(at, by_key)| clock.now() < *at + known_for(*by_key));
            counts.map(|(_, by_key)| by_key)
        };
        let ask = || {
            let asked = async {
                let by_key = match ask().await {
                    Ok(provisioned) => provisioned,
                    Err(failure) if is_final(&failure) => false,
                    Err(failure) => return Err(failure.error),
                };
                // From its coming on, so that all who waited for a slow one have it.
                *self.lock() = Some((clock.now(), by_key));
                Ok(by_key)
            };
            asked.boxed()
        };
        let what = "The mode of the stream is asked for";
        // By the time and not by attempts: many shards may wait for one answer that fails.
        let found = timeout(PATIENCE, self.mode.find(what, clock, known, &ask)).await;
        found.unwrap_or(false)
    }

    /// The ranges of the ancestors of a shard, as far as they are listed; none where they may not be
    /// listed, or not within [`PATIENCE`].
    pub(super) async fn ancestors(&self, reader: &Reader) -> Vec<HashKeyRange> {
        let list = || reader.shards().boxed();
        self.ancestors_in(&reader.shard_id, &reader.clock, &list)
            .await
    }

    async fn ancestors_in(
        &self,
        id: &ShardId,
        clock: &Clock,
        list: &Call<'_, ShardMap, Error>,
    ) -> Vec<HashKeyRange> {
        let known = || self.known_ancestors(id);
        let ask = || {
            let listed = async {
                match list().await {
                    Ok(shards) => {
                        let found = ancestors_of(&shards, id);
                        *self.listed() = Some(Arc::new(shards));
                        Ok(found)
                    }
                    Err(error) if !error.kind().is_retryable() => Ok(Vec::new()),
                    Err(error) => Err(error),
                }
            };
            listed.boxed()
        };
        let what = "The shards are listed";
        let found = timeout(PATIENCE, self.listing.find(what, clock, known, &ask)).await;
        found.unwrap_or_default()
    }

    fn known_ancestors(&self, id: &ShardId) -> Option<Vec<HashKeyRange>> {
        let shards = self.listed().clone();
        let shards = shards.filter(|shards| shards.get(id).is_some())?;
        Some(ancestors_of(&shards, id))
    }

    /// The stream may be another one by now, with other shards under the same ids.
    pub(super) fn forget(&self) {
        *self.lock() = None;
        *self.listed() = None;
    }

    fn listed(&self) -> MutexGuard<'_, Option<Arc<ShardMap>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, bool)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One attempt of a call.
type Call<'a, T, E> = dyn Fn() -> BoxFuture<'a, Result<T, E>> + Sync + 'a;

/// Whether a producer that went by keys, and by a map of before a reshard, made the member's aggregate
/// for one of the `ancestors` of the shard it is in.
pub(super) fn is_explained(member: &Foreign, ancestors: &[HashKeyRange]) -> bool {
    let has = |range: &HashKeyRange| {
        range.contains(member.span.start()) && range.contains(member.span.end())
    };
    ancestors.iter().any(has)
}

fn ancestors_of(shards: &ShardMap, id: &ShardId) -> Vec<HashKeyRange> {
    let mut found: BTreeMap<&ShardId, HashKeyRange> = BTreeMap::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        let parents = shards.get(id).into_iter().flat_map(|shard| shard.parents());
        for parent in parents.filter_map(|id| shards.get(id)) {
            if found.insert(&parent.id, parent.range).is_none() {
                open.push(&parent.id);
            }
        }
    }
    found.into_values().collect()
}

fn known_for(by_key: bool) -> Duration {
    if by_key { PROVISIONED_FOR } else { OTHER_FOR }
}

fn is_final(failure: &Failure) -> bool {
    failure.trouble == Trouble::NotFound || !failure.error.kind().is_retryable()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kinesis_core::{HashKey, Shard};

    use super::*;
    use crate::error::ErrorKind;

    fn range(start: u128, end: u128) -> HashKeyRange {
        HashKeyRange::new(HashKey(start), HashKey(end)).expect("a range")
    }

    /// Shard 0 is split into 1 and 2, of which 2 is split into 3 and 4, and 3 merged with 1 into 5.
    fn shards() -> ShardMap {
        let shard = |index, range, parents: &[u64]| Shard {
            range,
            parent: parents.first().map(|index| ShardId::from_index(*index)),
            adjacent_parent: parents.get(1).map(|index| ShardId::from_index(*index)),
            id: ShardId::from_index(index),
            starting_sequence_number: "1".parse().expect("a number"),
            ending_sequence_number: None,
        };
        ShardMap::new([
            shard(0, range(0, 99), &[]),
            shard(1, range(0, 49), &[0]),
            shard(2, range(50, 99), &[0]),
            shard(3, range(50, 74), &[2]),
            shard(4, range(75, 99), &[2]),
            shard(5, range(0, 74), &[3, 1]),
            shard(6, range(100, 199), &[]),
        ])
    }

    #[test]
    fn the_ancestors_of_a_shard_are_its_parents_and_theirs() {
        let of = |index| ancestors_of(&shards(), &ShardId::from_index(index));
        assert_eq!(of(0), []);
        assert_eq!(of(6), []);
        assert_eq!(of(7), []);
        assert_eq!(of(4), [range(0, 99), range(50, 99)]);
        let all = [range(0, 99), range(0, 49), range(50, 99), range(50, 74)];
        assert_eq!(of(5), all);
    }

    #[tokio::test(start_paused = true)]
    async fn shards_that_wait_for_a_listing_that_fails_share_its_failures_and_its_success() {
        for (succeeds_after_secs, calls_most, secs_most) in [(10, 11, 11), (u64::MAX, 60, 60)] {
            let (placement, clock) = (Placement::default(), Clock::system());
            let begun = clock.now();
            let calls = AtomicUsize::new(0);
            let list = || {
                let listed = async {
                    calls.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if begun.elapsed().as_secs() < succeeds_after_secs {
                        let what = "listing the shards failed";
                        return Err(Error::new(ErrorKind::Unavailable, what));
                    }
                    Ok(shards())
                };
                listed.boxed()
            };
            let id = ShardId::from_index(4);
            let shards = (0..100).map(|_| placement.ancestors_in(&id, &clock, &list));
            for found in futures::future::join_all(shards).await {
                let succeeds = succeeds_after_secs != u64::MAX;
                assert_eq!(found.len(), if succeeds { 2 } else { 0 });
            }
            let (calls, took) = (calls.load(Ordering::Relaxed), begun.elapsed());
            assert!((2..=calls_most).contains(&calls), "{calls} calls");
            assert!(took <= Duration::from_secs(secs_most), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_long_in_coming_is_one_for_all_who_wait() {
        let (placement, clock) = (Placement::default(), Clock::system());
        let calls = AtomicUsize::new(0);
        let ask = || {
            let answered = async {
                calls.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(true)
            };
            answered.boxed()
        };
        let shards = (0..100).map(|_| placement.is_by_key_of(&clock, &ask));
        let answers = futures::future::join_all(shards).await;
        assert!(answers.into_iter().all(|by_key| by_key));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    /// A hundred shards of which each asks whenever it was answered; how often the service was asked, and
    /// how often it refused, as of more than 20 calls a second.
    async fn asked_for_ten_seconds(provisioned: bool) -> (usize, usize) {
        let (placement, clock) = (Placement::default(), Clock::system());
        let begun = clock.now();
        let calls = Mutex::new(Vec::new());
        let refused = AtomicUsize::new(0);
        let ask = || {
            let answered = async {
                let now = clock.now();
                let within = {
                    let mut calls = calls.lock().expect("no panic");
                    calls.push(now);
                    let recent = calls
                        .iter()
                        .filter(|at| now < **at + Duration::from_secs(1));
                    recent.count()
                };
                tokio::time::sleep(Duration::from_millis(30)).await;
                if within > 20 {
                    refused.fetch_add(1, Ordering::Relaxed);
                    let error = Error::new(ErrorKind::Throttled, "too many calls");
                    return Err(Failure::other(error));
                }
                Ok(provisioned)
            };
            answered.boxed()
        };
        let shard = async || {
            while begun.elapsed() < Duration::from_secs(10) {
                let asked = clock.now();
                assert_eq!(placement.is_by_key_of(&clock, &ask).await, provisioned);
                let waited = clock.now() - asked;
                assert!(waited < Duration::from_secs(1), "{waited:?}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        futures::future::join_all((0..100).map(|_| shard())).await;
        let calls = calls.lock().expect("no panic").len();
        (calls, refused.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn shards_that_ask_for_the_mode_together_stay_within_what_may_be_asked() {
        let (calls, refused) = asked_for_ten_seconds(true).await;
        assert_eq!(refused, 0);
        assert!((8..=11).contains(&calls), "{calls} calls");
        assert_eq!(asked_for_ten_seconds(false).await, (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn shards_that_wait_for_the_mode_share_a_failure_and_one_that_is_final_says_no() {
        for (kind, calls_most, secs) in [(ErrorKind::Throttled, 61, 60), (ErrorKind::Denied, 1, 0)]
        {
            let (placement, clock) = (Placement::default(), Clock::system());
            let (begun, calls) = (clock.now(), AtomicUsize::new(0));
            let ask = || {
                calls.fetch_add(1, Ordering::Relaxed);
                let error = Error::new(kind, "not now");
                futures::future::ready(Err(Failure::other(error))).boxed()
            };
            let shards = (0..100).map(|_| placement.is_by_key_of(&clock, &ask));
            let found = futures::future::join_all(shards).await;
            assert!(found.into_iter().all(|by_key| !by_key));
            let calls = calls.load(Ordering::Relaxed);
            assert!((1..=calls_most).contains(&calls), "{kind:?}: {calls} calls");
            assert_eq!(begun.elapsed().as_secs(), secs);
        }
    }

    #[test]
    fn an_aggregate_is_explained_by_one_ancestor_that_has_all_of_it() {
        let ancestors = [range(0, 49), range(50, 99)];
        let explained = |start, end| {
            let span = range(start, end);
            is_explained(&Foreign { at: 0, span }, &ancestors)
        };
        assert!(explained(0, 49) && explained(60, 60));
        assert!(!explained(49, 50), "by two together");
        assert!(!explained(90, 100), "in part");
        let nobody = Foreign {
            at: 0,
            span: range(0, 0),
        };
        assert!(!is_explained(&nobody, &[]));
    }
}
