//! The fleet in simulation: real workers on kinesis-local in one thread, under virtual time, and all
//! chance from one seed.
//!
//! ```text
//! seed ─▶ scenario ─ starts, stops, kills, cuts off ─▶ workers (the real consumer, a clock of its own each)
//!            │                                             │ SDK clients
//!            │ splits, merges, writes, operates            ▼
//!            ▼                                          network: loses, delays, refuses, repeats
//!        kinesis-local ◀───────────────────────────────────┘
//!            │ what the table holds        │ what processors see
//!            └──────────────▶ log ◀────────┘ ─▶ rules ─▶ violations
//! ```
//! A seed decides beforehand how many streams there are (one, or two on one lease table), where the
//! application starts (`scenario/settings`), how it reads, which processors it has ([`processor::Way`]), what
//! becomes of a batch that fails, and how the destination of dead letters behaves ([`processor::Mood`]); and,
//! while it runs, all else.
//!
//! Promise: a seed has one history. Two runs give the same log, byte for byte, also in one process
//! with other runs between them.
//!
//! What that rests on: one thread and one current-thread runtime per run, with paused time; a `Rand`
//! of its own for each part; kinesis-local [single-threaded](kinesis_local::Builder::single_threaded);
//! `select!` in order of its branches everywhere in the consumer; the SDK's jitter, which comes from
//! the thread's generator, seeded; an SDK's quota of retries for each worker, where by default a
//! process has one; signatures by a worker's own clock; readings of a CPU that the seed has
//! made up (`busy`). What is not
//! the seed's, and shows nowhere: the order of attributes in requests, the ids of requests, how long
//! anything really takes.
//!
//! Deliberately absent: processes that stand still and go on (every task of a worker runs whenever it
//! can), monotonic clocks of different speeds (`lease/tests/simulation.rs` of the consumer has them),
//! orders of polling other than tokio's (delays of calls stand in for them), and reads of the table
//! that are behind its writes.

mod busy;
pub mod log;
pub mod network;
mod observe;
mod operator;
pub mod processor;
pub mod rules;
mod scenario;
mod time;
mod worker;

use log::Entry;
use log::Log;
use rules::Truth;
use rules::{Checker, Violation};
use scenario::Scenario;
pub use scenario::sweep;
use sweep::{Crash, Lived};

/// A run that is over.
#[derive(Debug)]
pub struct Played {
    /// Its seed.
    pub seed: u64,
    /// What happened.
    pub log: Vec<Entry>,
    /// Which rules it broke; empty if all is well.
    pub violations: Vec<Violation>,
}

impl Played {
    /// The log as text, a line for each entry.
    pub fn text(&self) -> String {
        let lines = self.log.iter().map(|entry| format!("{entry}\n"));
        lines.collect()
    }
}

/// Plays the run of a seed with consumers that do something wrong.
///
/// # Panics
/// As [`run`].
#[cfg(feature = "mutations")]
pub fn run_mutated(seed: u64, mutation: kinesis_consumer::mutation::Mutation) -> Played {
    kinesis_consumer::mutation::switch(Some(mutation));
    let played = run(seed);
    kinesis_consumer::mutation::switch(None);
    played
}

/// Plays the run of a seed.
///
/// # Panics
/// If kinesis-local does not do what it is to do.
pub fn run(seed: u64) -> Played {
    let play = async { Scenario::start(seed).await.play().await };
    let (log, truth) = in_virtual_time(seed, play);
    judge(seed, &log, truth)
}

/// Plays the story of [`sweep`], with a crash or without; and how long its first two workers lived.
///
/// # Panics
/// As [`run`].
pub fn run_sweep(seed: u64, crash: Option<Crash>) -> (Played, [Lived; 2]) {
    let play = async { Scenario::start_sweep(seed).await.sweep(crash).await };
    let (log, truth, lived) = in_virtual_time(seed, play);
    (judge(seed, &log, truth), lived)
}

fn in_virtual_time<T>(seed: u64, play: impl Future<Output = T>) -> T {
    // The SDK takes its jitter from here.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(play)
}

fn judge(seed: u64, log: &Log, truth: Truth) -> Played {
    let log = log.with(<[Entry]>::to_vec);
    let mut checker = Checker::new(truth);
    log.iter().for_each(|entry| checker.see(entry));
    Played {
        seed,
        violations: checker.violations().to_vec(),
        log,
    }
}
