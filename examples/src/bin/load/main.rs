//! Measures what producing and consuming cost on this machine.
//!
//! ```text
//! load produce                                          a kinesis-local in this process
//! load produce --endpoint http://127.0.0.1:4567 --json  one in a process of its own, as in BENCHMARKS.md
//! load consume --records 1000000 --shards 16            reads what it wrote before, then latency
//! load idle --endpoint http://127.0.0.1:4567            one record at a time, beside the SDK alone
//! ```
//!
//! A progress line while it runs (on a terminal), a table at the end; `--json` writes the same as one
//! object on the last line of standard output, with the units in the names. Processor time, memory
//! and threads are those of this process, so with a kinesis-local in it they are its too. They are
//! read from `/proc`; elsewhere they are missing.
//!
//! The streams of kinesis-local have no throughput limits here. Against AWS the limits are what is
//! measured, and what is measured is paid for.

mod consume;
mod idle;
mod live;
mod place;
mod produce;
mod progress;
mod report;
mod usage;

use std::process::ExitCode;

use clap::Parser;
use kinesis_consumer::BoxError;

/// Measures what producing and consuming cost on this machine.
#[derive(Debug, Parser)]
#[command(name = "load")]
enum Command {
    /// Sends records and waits for their acknowledgements.
    Produce(produce::Args),
    /// Reads records that are there, then measures how long new ones take to arrive.
    Consume(consume::Args),
    /// Sends one record at a time, by the producer and by the SDK alone.
    Idle(idle::Args),
    /// Sends records at an even pace, for a consumer elsewhere to see how long they take to arrive.
    Live(live::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Command::parse() {
        Command::Produce(args) => produce::run(&args).await,
        Command::Consume(args) => consume::run(&args).await,
        Command::Idle(args) => idle::run(&args).await,
        Command::Live(args) => live::run(&args).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn with_causes(error: &BoxError) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let texts = std::iter::once(error.to_string()).chain(causes.map(ToString::to_string));
    texts.collect::<Vec<_>>().join(": ")
}
