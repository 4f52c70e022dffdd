//! Plays runs of the simulated fleet: `cargo run --release -p tests --bin simulate -- --seeds 1000`.
//!
//! Prints the log of every seed that breaks a rule, and which, and ends with the exit code 1; with
//! `--log` the log of every seed. Seeds are played side by side, each in a thread of its own.
//!
//! With `--sweep` it tells one story ([`tests::simulation::sweep`]) once for each point at which a worker may
//! crash in it: `cargo run --release -p tests --bin simulate -- --sweep` tries all of them, `--every 20` one
//! of twenty. The story of another seed (`--from`) has other delays, and reads in its own way.

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use clap::Parser;
use tests::simulation::sweep::{Crash, Role};
use tests::simulation::{Played, run, run_sweep};

/// Between two lines that tell how far it is, in runs.
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
    /// Crashes a worker of one fleet at every point of its life, each time anew.
    #[arg(long, conflicts_with_all = ["seeds", "seed"])]
    sweep: bool,
    /// Of the points of a sweep every so many only.
    #[arg(long, default_value_t = 1, requires = "sweep", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// How many side by side. Default: one for each processor.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints the log of each run, whether it breaks a rule or not.
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runs = if args.sweep {
        sweep(args.from, args.every)
    } else {
        let (first, count) = match args.seed {
            Some(seed) => (seed, 1),
            None => (args.from, args.seeds),
        };
        let seeds = first..first.saturating_add(count);
        seeds.map(Run::Seed).collect()
    };
    let jobs = args
        .jobs
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let next = AtomicUsize::new(0);
    let (sender, played) = sync_channel(jobs);
    let failed = thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, runs, sender) = (&next, &runs, sender.clone());
            scope.spawn(move || play(next, runs, &sender));
        }
        drop(sender);
        let mut failed = 0_u64;
        for (done, (run, played)) in (1..).zip(played) {
            failed += u64::from(!played.violations.is_empty());
            report(run, &played, args.log);
            if done % PROGRESS == 0 {
                eprintln!("{done} of {} runs, {failed} broke a rule", runs.len());
            }
        }
        failed
    });
    println!("{} runs, {failed} broke a rule", runs.len());
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
enum Run {
    /// Of a seed.
    Seed(u64),
    /// Of a sweep, with a crash or without.
    Story(u64, Option<Crash>),
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::Story(seed, None) => write!(f, "story {seed} without a crash"),
            Self::Story(seed, Some(Crash { role, at })) => {
                write!(f, "story {seed} in which the {role:?} dies {at:?}")
            }
        }
    }
}

/// The runs of a sweep: where a worker may crash, the story without a crash tells.
fn sweep(seed: u64, every: u64) -> Vec<Run> {
    let every = usize::try_from(every).unwrap_or(usize::MAX);
    let (_, [first, second]) = run_sweep(seed, None);
    println!("without a crash: the first {first:?}, the second {second:?}");
    let mut crashes = vec![None];
    crashes.extend(first.crashes(Role::First, every).into_iter().map(Some));
    crashes.extend(second.crashes(Role::Second, every).into_iter().map(Some));
    let story = |crash| Run::Story(seed, crash);
    crashes.into_iter().map(story).collect()
}

/// Plays one run after the other until there is none left.
fn play(next: &AtomicUsize, runs: &[Run], played: &SyncSender<(Run, Played)>) {
    while let Some(one) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
        let over = match *one {
            Run::Seed(seed) => run(seed),
            Run::Story(seed, crash) => run_sweep(seed, crash).0,
        };
        if played.send((*one, over)).is_err() {
            return;
        }
    }
}

fn report(run: Run, played: &Played, log: bool) {
    if log || !played.violations.is_empty() {
        print!("{}", played.text());
    }
    for violation in &played.violations {
        println!("{run} breaks a rule at {violation}");
    }
}
