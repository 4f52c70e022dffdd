//! One at a time per object: an object's bytes and what is kept about it change together. And all of a
//! bucket's, or one that makes or deletes it: no object is put into a bucket that is being deleted.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

type Lock = Arc<tokio::sync::Mutex<()>>;
type Busy = Arc<Mutex<BTreeMap<PathBuf, Lock>>>;

/// Locks of buckets; two buckets in so many share one by chance. Source: none, reasonable default.
const BUCKET_LOCKS: usize = 256;

/// Who works on which object. Holds one entry per object that somebody works on or waits for.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    busy: Busy,
    /// By the bucket's hash: held by each of its objects' turns, and for writing by whoever makes or
    /// deletes it.
    buckets: Arc<[Arc<RwLock<()>>]>,
    hash: RandomState,
}

/// Exclusive use of one object, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    lock: Lock,
    busy: Busy,
    held: Option<OwnedMutexGuard<()>>,
    /// Not while somebody makes or deletes the bucket.
    bucket: Option<OwnedRwLockReadGuard<()>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            busy: Busy::default(),
            buckets: (0..BUCKET_LOCKS).map(|_| Arc::default()).collect(),
            hash: RandomState::new(),
        }
    }
}

impl Turns {
    /// Waits until nobody else works on the bucket's object at `path`, nor makes or deletes the bucket.
    /// Cancel safe; first come, first served. Not to be taken twice at once: who waits for the bucket may
    /// be in between.
    pub(super) async fn take_object(&self, bucket: &str, path: &Path) -> Turn {
        let bucket = self.lock_of(bucket).read_owned().await;
        let mut turn = self.take(path).await;
        turn.bucket = Some(bucket);
        turn
    }

    /// Waits until nobody works on an object of the bucket. Cancel safe.
    pub(super) async fn take_bucket(&self, bucket: &str) -> OwnedRwLockWriteGuard<()> {
        self.lock_of(bucket).write_owned().await
    }

    fn lock_of(&self, bucket: &str) -> Arc<RwLock<()>> {
        let at = self.hash.hash_one(bucket) as usize % BUCKET_LOCKS;
        self.buckets.get(at).map(Arc::clone).unwrap_or_default()
    }

    /// Waits until nobody else works on what is at `path`. Cancel safe; first come, first served.
    pub(super) async fn take(&self, path: &Path) -> Turn {
        let lock = Arc::clone(entries(&self.busy).entry(path.to_owned()).or_default());
        let mut turn = Turn {
            path: path.to_owned(),
            lock: Arc::clone(&lock),
            busy: Arc::clone(&self.busy),
            held: None,
            bucket: None,
        };
        turn.held = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        (self.held, self.bucket) = (None, None);
        let mut busy = entries(&self.busy);
        // The map's and this turn's: nobody else waits.
        if Arc::strong_count(&self.lock) == 2 {
            busy.remove(&self.path);
        }
    }
}

fn entries(busy: &Busy) -> MutexGuard<'_, BTreeMap<PathBuf, Lock>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_has_one_worker_at_a_time_and_is_forgotten_afterwards() {
        let turns = Turns::default();
        let first = turns.take(Path::new("a")).await;
        let other = turns.take(Path::new("b")).await;
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(Path::new("a")).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop((first, other));
        waiting.await.unwrap();
        assert!(entries(&turns.busy).is_empty());
    }

    #[tokio::test]
    async fn a_bucket_goes_when_nobody_works_on_its_objects_and_nobody_begins_meanwhile() {
        let turns = Turns::default();
        let working = turns.take_object("b", Path::new("b/a")).await;
        let deleting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take_bucket("b").await }
        });
        tokio::task::yield_now().await;
        assert!(!deleting.is_finished());
        let later = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take_object("b", Path::new("b/c")).await) }
        });
        tokio::task::yield_now().await;
        // Another bucket does not wait for this one; of ten, one at most shares its lock by chance.
        let others = (0..10).filter(|n| {
            let lock = turns.lock_of(&n.to_string());
            lock.try_read().is_ok()
        });
        assert!(others.count() >= 8);
        drop(working);
        let deleting = deleting.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!later.is_finished());
        drop(deleting);
        later.await.unwrap();
        assert!(entries(&turns.busy).is_empty());
    }

    #[tokio::test]
    async fn giving_up_waiting_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take(Path::new("a")).await;
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take(Path::new("a")).await) }
        });
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        drop(first);
        assert!(entries(&turns.busy).is_empty());
    }
}
