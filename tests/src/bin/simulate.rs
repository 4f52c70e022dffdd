//! Plays runs of the simulated fleet: `cargo run -p tests --bin simulate -- --seeds 1000`.
//!
//! A line for every seed that breaks a rule, with its log, and the exit code 1; with `--log` the log of
//! every seed.

use std::process::ExitCode;

use clap::Parser;
use tests::simulation::{Played, run};

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
    /// Prints the log of each run, whether it breaks a rule or not.
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seeds = match args.seed {
        Some(seed) => seed..seed + 1,
        None => args.from..args.from + args.seeds,
    };
    let mut failed = 0_u64;
    for seed in seeds.clone() {
        let played = run(seed);
        failed += u64::from(!played.violations.is_empty());
        report(&played, args.log);
        if (seed + 1 - seeds.start) % 10 == 0 {
            eprintln!(
                "{} of {} seeds, {failed} broke a rule",
                seed + 1 - seeds.start,
                seeds.end - seeds.start
            );
        }
    }
    if failed == 0 {
        println!("{} seeds, no rule broken", seeds.end - seeds.start);
        return ExitCode::SUCCESS;
    }
    println!("{failed} seeds broke a rule");
    ExitCode::FAILURE
}

fn report(played: &Played, log: bool) {
    if log || !played.violations.is_empty() {
        print!("{}", played.text());
    }
    for violation in &played.violations {
        println!("seed {} breaks a rule at {violation}", played.seed);
    }
}
