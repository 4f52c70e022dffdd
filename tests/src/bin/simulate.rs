//! Plays runs of the simulated fleet: `cargo run --release -p tests --bin simulate -- --seeds 1000`.
//!
//! Prints the log of every seed that breaks a rule, and which, and ends with the exit code 1; with
//! `--log` the log of every seed. Seeds are played side by side, each in a thread of its own.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use clap::Parser;
use tests::simulation::{Played, run};

/// Between two lines that tell how far it is, in seeds.
const PROGRESS: u64 = 10;

/// Plays runs of the simulated fleet and holds them against the rules.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many side by side. Default: one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints the log of each run, whether it breaks a rule or not.
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (first, count) = match args.seed {
        Some(seed) => (seed, 1),
        None => (args.from, args.seeds),
    };
    let jobs = args
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let next = AtomicU64::new(first);
    let (sender, played) = sync_channel(jobs);
    let failed = thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || play(next, first.saturating_add(count), &sender));
        }
        drop(sender);
        let mut failed = 0_u64;
        for (done, played) in (1..).zip(played) {
            failed += u64::from(!played.violations.is_empty());
            report(&played, args.log);
            if done % PROGRESS == 0 {
                eprintln!("{done} of {count} seeds, {failed} broke a rule");
            }
        }
        failed
    });
    println!("{count} seeds, {failed} broke a rule");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays one seed after the other until there is none left.
fn play(next: &AtomicU64, end: u64, played: &SyncSender<Played>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || played.send(run(seed)).is_err() {
            return;
        }
    }
}

fn report(played: &Played, log: bool) {
    if log || !played.violations.is_empty() {
        print!("{}", played.text());
    }
    for violation in &played.violations {
        println!("seed {} breaks a rule at {violation}", played.seed);
    }
}
