//! The gauges of reading. They tell of nothing where nothing is read any more: whoever looks at them sees
//! the shards that this process has, and not those that it had.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Budget;
use crate::metrics;

/// The sums over the shards of one consumer. Each is set whole, as often as it changes and every
/// [`TELL_EVERY`], so that neither a recorder that was installed late nor one that forgets what rests stays
/// wrong.
#[derive(Debug)]
pub(crate) struct Totals {
    pub(crate) application: Arc<str>,
    worker: Arc<str>,
    budget: Arc<Budget>,
    /// Shards that are being processed.
    shards: Mutex<usize>,
}

/// How often the sums are told though nothing changes. Source: none; well below the idle time-outs of
/// exporters, which are of minutes.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(15);

impl Totals {
    pub(crate) fn new(application: &str, worker: &str, budget: Arc<Budget>) -> Self {
        Self {
            application: application.into(),
            worker: worker.into(),
            budget,
            shards: Mutex::default(),
        }
    }

    /// Brings the gauges up to date; after bytes were reserved or given back.
    pub(crate) fn tell(&self) {
        self.count(|_| {});
    }

    fn count(&self, change: impl FnOnce(&mut usize)) {
        // Read and told under the lock: the last of several that tell at once has the newest.
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut shards);
        let of_all = [
            (metrics::BUFFERED_BYTES, self.budget.used()),
            (metrics::CURRENT_SHARDS, *shards),
        ];
        for (name, value) in of_all {
            let (application, worker) = (Arc::clone(&self.application), Arc::clone(&self.worker));
            ::metrics::gauge!(name, "application" => application, "worker" => worker)
                .set(value as f64);
        }
    }
}

/// Brings the gauges up to date when it is dropped: the last field of what holds bytes.
#[derive(Debug)]
pub(crate) struct TellsTotals(pub(crate) Arc<Totals>);

impl Drop for TellsTotals {
    fn drop(&mut self) {
        self.0.tell();
    }
}

/// Counts a shard for as long as it lives, however its task ends.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Totals>);

impl Counted {
    pub(crate) fn new(totals: &Arc<Totals>) -> Self {
        totals.count(|shards| *shards += 1);
        Self(Arc::clone(totals))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count(|shards| *shards -= 1);
    }
}

/// How far reading of one shard is behind, for as long as anybody has this: who reads it, and who holds
/// its lease, since a shard that is not read for now is no nearer to its tip for that.
#[derive(Debug)]
pub(crate) struct Lag {
    application: Arc<str>,
    stream: Arc<str>,
    shard_id: String,
    is_told: AtomicBool,
}

impl Lag {
    pub(super) fn new(application: Arc<str>, stream: Arc<str>, shard_id: String) -> Self {
        Self {
            application,
            stream,
            shard_id,
            is_told: AtomicBool::new(false),
        }
    }

    pub(super) fn tell(&self, millis: u64) {
        self.is_told.store(true, Ordering::Relaxed);
        self.set(millis);
    }

    fn set(&self, millis: u64) {
        let (application, stream) = (Arc::clone(&self.application), Arc::clone(&self.stream));
        ::metrics::gauge!(metrics::MILLIS_BEHIND_LATEST, "application" => application, "stream" => stream, "shard" => self.shard_id.clone())
            .set(millis as f64);
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        if *self.is_told.get_mut() {
            self.set(0);
        }
    }
}
