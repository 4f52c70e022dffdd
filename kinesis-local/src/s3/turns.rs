//! One at a time per object: an object's bytes and what is kept about it change together. And all of a
//! bucket's, or one that makes or deletes it: no object is put into a bucket that is being deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

type Lock = Arc<tokio::sync::Mutex<()>>;
type Busy = Arc<Mutex<BTreeMap<PathBuf, Lock>>>;

/// So many locks of buckets are kept before those that nobody has are forgotten. Source: none, reasonable
/// default.
const BUCKETS_KEPT: usize = 64;

/// Who works on which object. Holds one entry per object that somebody works on or waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    busy: Busy,
    /// Held by each turn of the bucket's objects, and for writing by whoever makes or deletes it.
    buckets: Arc<Mutex<BTreeMap<String, Weak<RwLock<()>>>>>,
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
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = buckets.get(bucket).and_then(Weak::upgrade) {
            return lock;
        }
        if buckets.len() >= BUCKETS_KEPT {
            buckets.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        buckets.insert(bucket.to_owned(), Arc::downgrade(&lock));
        lock
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
        drop(turns.take_object("c", Path::new("c/a")).await); // another bucket does not wait
        drop(working);
        let deleting = deleting.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!later.is_finished());
        drop(deleting);
        later.await.unwrap();
        assert!(entries(&turns.busy).is_empty());
        for n in 0..3 * BUCKETS_KEPT {
            drop(turns.take_bucket(&n.to_string()).await);
        }
        assert!(turns.buckets.lock().unwrap().len() <= BUCKETS_KEPT);
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
