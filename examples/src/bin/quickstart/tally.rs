//! What happens to the flights of this run, counted as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use examples::arrivals::Arrivals;
use examples::flights::NumberedFlight;
use hdrhistogram::Histogram;
use kinesis_core::Clock;
use tokio::time::Instant;

/// Longest time from sending to processing that is told apart, in microseconds: ten minutes.
/// Source: none, reasonable bound.
const LATENCY_MAX_MICROS: u64 = 600_000_000;

/// The running account. Shared by the sender and all workers.
#[derive(Debug)]
pub(crate) struct Tally {
    run: u32,
    clock: Clock,
    sent_at: Vec<OnceLock<Instant>>,
    sent: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    /// Shards that each worker holds.
    held: Mutex<BTreeMap<u32, i64>>,
    processed: Mutex<Processed>,
}

/// What the workers saw.
#[derive(Debug)]
pub(crate) struct Processed {
    /// The flights of this run, in the order in which all workers together saw them.
    pub(crate) arrivals: Arrivals,
    /// Flights of earlier runs, by run.
    pub(crate) earlier: BTreeMap<u32, u64>,
    /// From sending to processing, in microseconds; each flight once.
    pub(crate) latency_micros: Histogram<u64>,
    /// Which workers had something to do.
    pub(crate) workers: BTreeSet<u32>,
    /// When the last flight of this run was seen.
    pub(crate) last: Option<Instant>,
}

impl Tally {
    pub(crate) fn new(run: u32, flights: usize, clock: Clock) -> Self {
        Self {
            run,
            clock,
            sent_at: (0..flights).map(|_| OnceLock::new()).collect(),
            sent: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            held: Mutex::default(),
            processed: Mutex::new(Processed {
                arrivals: Arrivals::default(),
                earlier: BTreeMap::new(),
                latency_micros: Histogram::new_with_max(LATENCY_MAX_MICROS, 3)
                    .expect("three digits below ten minutes is a valid range"),
                workers: BTreeSet::new(),
                last: None,
            }),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// A worker has got a shard, or given one back.
    pub(crate) fn hold(&self, worker: u32, change: i64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(worker).or_default() += change;
    }

    /// How many workers have a shard.
    pub(crate) fn holders(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.values().filter(|shards| **shards > 0).count()
    }

    /// A flight is about to be handed to the producer.
    pub(crate) fn send(&self, flight: &NumberedFlight) {
        // A flight is sent once, so the cell is empty.
        self.sent_at[flight.id as usize].get_or_init(|| self.clock.now());
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// A flight is in the stream.
    pub(crate) fn deliver(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// The producer had to say that a flight is not in the stream.
    pub(crate) fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A worker was given a batch of flights.
    pub(crate) fn process(&self, worker: u32, flights: &[NumberedFlight]) {
        let now = self.clock.now();
        let mut processed = self.processed();
        processed.workers.insert(worker);
        for flight in flights {
            if flight.run != self.run {
                *processed.earlier.entry(flight.run).or_default() += 1;
            } else if processed.arrivals.see(flight) {
                let sent_at = self.sent_at.get(flight.id as usize).and_then(OnceLock::get);
                let latency = now.duration_since(*sent_at.unwrap_or(&now));
                processed.latency_micros.saturating_record(micros(latency));
                processed.last = Some(now);
            }
        }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub(crate) fn processed(&self) -> MutexGuard<'_, Processed> {
        // Counting does not panic half-way.
        self.processed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that grows as long as anything moves.
    pub(crate) fn progress(&self) -> u64 {
        let processed = self.processed();
        let seen = processed.arrivals.distinct() as u64 + processed.earlier.values().sum::<u64>();
        self.sent() + self.delivered() + seen
    }

    /// Whether the producer has said of every flight whether it is in the stream.
    pub(crate) fn has_all_outcomes(&self) -> bool {
        self.delivered() + self.failed.load(Ordering::Relaxed) == self.flights() as u64
    }

    /// Whether every flight has an outcome, and those that are in the stream were processed.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_all_outcomes() && self.processed().arrivals.distinct() as u64 >= self.delivered()
    }

    /// How far it came, for when it goes no further.
    pub(crate) fn stalled(&self, after: Duration) -> String {
        format!(
            "nothing moved for {} s: of {} flights {} were sent, {} delivered and {} processed",
            after.as_secs(),
            self.flights(),
            self.sent(),
            self.delivered(),
            self.processed().arrivals.distinct()
        )
    }

    /// Flights of this run.
    pub(crate) fn flights(&self) -> usize {
        self.sent_at.len()
    }

    /// From the first flight sent to the last one processed.
    pub(crate) fn duration(&self) -> Duration {
        let first = self.sent_at.first().and_then(OnceLock::get);
        match (first, self.processed().last) {
            (Some(first), Some(last)) => last.duration_since(*first),
            _ => Duration::ZERO,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
