//! One at a time per object: an object's bytes and what is kept about it change together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;
type Busy = Arc<Mutex<BTreeMap<PathBuf, Lock>>>;

/// Who works on which object. Holds one entry per object that somebody works on or waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    busy: Busy,
}

/// Exclusive use of one object, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    lock: Lock,
    busy: Busy,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until nobody else works on the object at `path`. Cancel safe; first come, first served.
    pub(super) async fn take(&self, path: &Path) -> Turn {
        let lock = Arc::clone(entries(&self.busy).entry(path.to_owned()).or_default());
        let mut turn = Turn {
            path: path.to_owned(),
            lock: Arc::clone(&lock),
            busy: Arc::clone(&self.busy),
            held: None,
        };
        turn.held = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
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
