//! The whole path of a record, in one process: 20,000 real flights go through a producer into a
//! stream, a shard is split on the way, two workers process them and store them in S3, and in the
//! end every stored object is read back and compared with what was sent.
//!
//! ```text
//! flights ─▶ producer ─▶ stream of kinesis-local ─▶ 2 workers ─▶ S3 sink ─▶ bucket of kinesis-local
//!            (traffic)   (place)                    (workers)                       │
//!                └──────────────── compared, flight by flight (check) ──────────────┘
//! ```
//!
//! Read `run` below first: it is the story. The exit code is 0 only if nothing was lost and each
//! airport's flights were processed and stored in order.

mod bars;
mod check;
mod place;
mod report;
mod tally;
mod traffic;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use examples::flights;
use kinesis_consumer::BoxError;
use kinesis_core::Clock;

use bars::Bars;
use place::Place;
use report::{Paint, Report};
use tally::Tally;
use workers::Workers;

/// How long the run may stand still before it is given up.
/// Source: none, reasonable default: far above the failover time of the workers.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// How often the progress is looked at. Source: none, reasonable default for the eye.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Sends real flights through producer, stream, workers and S3, and proves that none was lost.
#[derive(Debug, Parser)]
struct Args {
    /// How many flights to send; there are 20,000 real ones, more begin again at the first.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    records: u32,
    /// Shards of the stream, when it is created.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    shards: u32,
    /// Workers that share the stream.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    workers: u32,
    /// Keeps stream, checkpoints and objects in this directory: the next run with it goes on from
    /// the checkpoints. Without it, each run begins in a fresh temporary directory.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let paint = Paint::for_stdout();
    match run(&args).await {
        Ok(report) => {
            report.print(paint);
            match report.is_without_fault() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<Report, BoxError> {
    // A stream, a lease table and a bucket, all in this process.
    let place = Place::open(args.keep.as_deref(), args.shards).await?;
    let flights = flights::numbered(place.run(), args.records as usize);
    let tally = Arc::new(Tally::new(place.run(), flights.len(), Clock::system()));

    // Workers that share the shards, each storing what it processes in S3.
    let mut workers = Workers::start(&place, args.workers, &tally)?;
    workers.share(place.open_shards().await?, &tally).await?;

    // The flights, keyed by the airport they leave, and a split when half of them have arrived.
    let traffic = traffic::start(&place, &flights, &tally)?;

    // Until every flight was processed.
    let bars = Bars::new(args.records);
    let mut progress = tally.progress();
    let mut progressed = tally.now();
    while !tally.is_complete() {
        tokio::time::sleep(LOOK_EVERY).await;
        bars.show(&tally, workers.stored());
        workers.still_run().await?;
        if traffic.is_finished() && !tally.has_all_outcomes() {
            break; // The traffic failed; its error comes next.
        }
        if tally.progress() != progress {
            (progress, progressed) = (tally.progress(), tally.now());
        } else if tally.now() - progressed > STALLED_AFTER {
            return Err(tally.stalled(STALLED_AFTER).into());
        }
    }
    let traffic = traffic.await??;

    // A clean end stores what is buffered, checkpoints, and releases the leases.
    workers.stop().await?;
    bars.show(&tally, workers.stored());
    bars.finish();

    // What is in the bucket is what counts.
    let stored = check::read_back(&place, &tally).await?;
    let report = Report::new(&place, &tally, traffic, stored, args);
    place.close(report.is_without_fault()).await?;
    Ok(report)
}
