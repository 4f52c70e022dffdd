//! One at a time per object: an object's bytes and what is kept about it change together. And all of them,
//! or one that makes or deletes a bucket: no object is put into a bucket that is being deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

type Lock = Arc<tokio::sync::Mutex<()>>;
type Busy = Arc<Mutex<BTreeMap<PathBuf, Lock>>>;

/// Who works on which object. Holds one entry per object that somebody works on or waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    busy: Busy,
    /// Held by each object's turn, and for writing by whoever changes which buckets there are.
    buckets: Arc<RwLock<()>>,
}

/// Exclusive use of one object, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    lock: Lock,
    busy: Busy,
    held: Option<OwnedMutexGuard<()>>,
    /// Not while somebody changes which buckets there are.
    buckets: Option<OwnedRwLockReadGuard<()>>,
}

impl Turns {
    /// Waits until nobody else works on the object at `path`, nor on which buckets there are. Cancel
    /// safe; first come, first served. Not to be taken twice at once: who waits for the buckets may be
    /// in between.
    pub(super) async fn take_object(&self, path: &Path) -> Turn {
        let buckets = Arc::clone(&self.buckets).read_owned().await;
        let mut turn = self.take(path).await;
        turn.buckets = Some(buckets);
        turn
    }

    /// Waits until nobody works on an object. Cancel safe.
    pub(super) async fn take_buckets(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.buckets).write_owned().await
    }

    /// Waits until nobody else works on what is at `path`. Cancel safe; first come, first served.
    pub(super) async fn take(&self, path: &Path) -> Turn {
        let lock = Arc::clone(entries(&self.busy).entry(path.to_owned()).or_default());
        let mut turn = Turn {
            path: path.to_owned(),
            lock: Arc::clone(&lock),
            busy: Arc::clone(&self.busy),
            held: None,
            buckets: None,
        };
        turn.held = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        (self.held, self.buckets) = (None, None);
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
    async fn a_bucket_goes_when_nobody_works_on_an_object_and_nobody_begins_meanwhile() {
        let turns = Turns::default();
        let working = turns.take_object(Path::new("b/a")).await;
        let deleting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take_buckets().await }
        });
        tokio::task::yield_now().await;
        assert!(!deleting.is_finished());
        let later = tokio::spawn({
            let turns = turns.clone();
            async move { drop(turns.take_object(Path::new("b/c")).await) }
        });
        tokio::task::yield_now().await;
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
