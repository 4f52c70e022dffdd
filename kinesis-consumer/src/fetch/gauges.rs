//! The gauges of reading. They tell of nothing where nothing is read any more: whoever looks at them sees
//! the shards that this process has, and not those that it had.

use std::sync::{Arc, Mutex, PoisonError};

use super::Budget;
use crate::metrics;

/// What of a worker's budget is in use, as its part of the sum over all consumers of the process.
#[derive(Debug)]
pub(crate) struct Buffered {
    budget: Arc<Budget>,
    /// What the gauge has of it.
    told: Mutex<usize>,
}

impl Buffered {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            told: Mutex::default(),
        }
    }

    /// Brings the gauge up to date; after bytes were reserved or given back.
    pub(crate) fn tell(&self) {
        // Read under the lock: the last of several that tell at once has the newest.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.budget.used();
        ::metrics::gauge!(metrics::BUFFERED_BYTES).increment(used as f64 - *told as f64);
        *told = used;
    }
}

/// Brings the gauge up to date when it is dropped: the last field of what holds bytes.
#[derive(Debug)]
pub(crate) struct TellsBuffered(pub(crate) Arc<Buffered>);

impl Drop for TellsBuffered {
    fn drop(&mut self) {
        self.0.tell();
    }
}

/// How far reading of one shard is behind, for as long as it is read.
#[derive(Debug)]
pub(super) struct Lag {
    stream: Arc<str>,
    shard_id: String,
    is_told: bool,
}

impl Lag {
    pub(super) fn new(stream: Arc<str>, shard_id: String) -> Self {
        Self {
            stream,
            shard_id,
            is_told: false,
        }
    }

    pub(super) fn tell(&mut self, millis: u64) {
        self.is_told = true;
        self.set(millis);
    }

    fn set(&self, millis: u64) {
        let (stream, shard) = (Arc::clone(&self.stream), self.shard_id.clone());
        ::metrics::gauge!(metrics::MILLIS_BEHIND_LATEST, "stream" => stream, "shard" => shard)
            .set(millis as f64);
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        if self.is_told {
            self.set(0);
        }
    }
}
