//! `load consume`: how fast a backlog is read, and how long a new record takes to arrive.
//!
//! ```text
//! fill      --records are written, unless --no-fill: they are there already
//! consume   a worker reads the stream from its beginning until it has seen --records, behind the first
//!           --warm-up, or the first batch
//! live      --live-seconds long, --live-rate records a second are sent and seen by the same worker
//! ```
//! The records of the live phase carry their number, and the process remembers when it handed each to
//! its producer, so their latency is that of producer, stream and consumer together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kinesis_consumer::{
    BoxError, Checkpointer, Consumer, FanOutSettings, InitialPosition, ProcessRecordsInput,
    ProcessorError, RecordProcessor, Retrieval, Settings, ShardId,
};
use kinesis_core::{Clock, Rand, UserRecord};
use kinesis_producer::Producer;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::live::{Pace, data, number, send};
use crate::place::{Place, PlaceArgs};
use crate::produce::{self, RecordArgs};
use crate::progress::Progress;
use crate::report::{Latencies, Report};
use crate::usage::Usage;

/// How long the last live records may take to arrive. Source: none; the default pause between reads, times
/// sixty, as the machine may be busy.
const LIVE_GRACE: Duration = Duration::from_secs(60);

/// Pause before the live records: the reader's quota of a shard has to fill up again behind a backlog.
/// Source: the service's quota is one of a second.
const LIVE_PAUSE: Duration = Duration::from_secs(2);

/// Options of `load consume`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    records: RecordArgs,
    /// The application, and so the lease table; one that was never used otherwise.
    #[arg(long)]
    application: Option<String>,
    /// Records read before, not measured.
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
    /// The records are in the stream already.
    #[arg(long)]
    no_fill: bool,
    /// Read by enhanced fan-out in place of polling.
    #[arg(long)]
    fan_out: bool,
    /// Milliseconds between two reads of a shard by polling, once it has no more; the consumer's default
    /// otherwise.
    #[arg(long, conflicts_with = "fan_out")]
    idle_ms: Option<u64>,
    #[command(flatten)]
    pace: Pace,
    /// Gives up after so many seconds without having read all.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Write one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// What the processors saw.
#[derive(Debug)]
struct Seen {
    clock: Clock,
    records: Arc<AtomicU64>,
    /// How many are waited for, and who waits.
    wanted: AtomicU64,
    reached: Notify,
    first: Mutex<Option<Instant>>,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Live {
    /// When each live record was handed over, by its number.
    sent: Vec<Instant>,
    latencies: Latencies,
}

impl Seen {
    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many were seen.
    async fn until(&self, records: u64, within: Duration) -> Result<(), BoxError> {
        self.wanted.store(records, Ordering::SeqCst);
        let reached = async {
            while self.records.load(Ordering::SeqCst) < records {
                self.reached.notified().await;
            }
        };
        let seen = || self.records.load(Ordering::SeqCst);
        tokio::time::timeout(within, reached).await.map_err(|_| {
            format!(
                "only {} of {records} records came within {within:?}",
                seen()
            )
            .into()
        })
    }
}

/// Counts, and checkpoints each batch.
struct Counter(Arc<Seen>);

#[async_trait]
impl RecordProcessor for Counter {
    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        let seen = &self.0;
        let now = seen.clock.now();
        seen.first
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(now);
        let numbers = input
            .records
            .iter()
            .filter_map(|record| number(&record.data));
        for number in numbers {
            let mut live = seen.live();
            if let Some(sent) = live.sent.get(number).copied() {
                live.latencies.record(now - sent);
            }
        }
        let count = input.records.len() as u64;
        let before = seen.records.fetch_add(count, Ordering::SeqCst);
        if before + count >= seen.wanted.load(Ordering::SeqCst) {
            seen.reached.notify_one();
        }
        Ok(input.checkpointer.checkpoint().await?)
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(
        &mut self,
        checkpointer: Checkpointer,
    ) -> Result<(), ProcessorError> {
        Ok(checkpointer.checkpoint().await?)
    }
}

pub(crate) async fn run(args: &Args) -> Result<(), BoxError> {
    let place = Place::open(&args.place).await?;
    let producer = Producer::builder(place.kinesis.clone(), args.place.stream.as_str())
        .settings(produce::settings(false))
        .build()?;
    if !args.no_fill {
        fill(args, &producer).await?;
    }
    let clock = Clock::system();
    let seen = Arc::new(Seen {
        clock: clock.clone(),
        records: Arc::default(),
        wanted: AtomicU64::new(u64::MAX),
        reached: Notify::new(),
        first: Mutex::new(None),
        live: Mutex::new(Live {
            sent: Vec::new(),
            latencies: Latencies::new()?,
        }),
    });
    let all = args.warm_up + args.records.records;
    let began = clock.now();
    let stop = CancellationToken::new();
    let worker = tokio::spawn(consumer(args, &place, &seen)?.run(stop.clone()));
    let line = Progress::show("consume", all, Arc::clone(&seen.records));
    let within = Duration::from_secs(args.seconds);
    let read = measure(args.warm_up.max(1), all, within, &seen).await;
    drop(line);
    let first = *seen.first.lock().unwrap_or_else(PoisonError::into_inner);
    let live = match &read {
        Ok(_) => live(args, &producer, &seen).await,
        Err(_) => Ok(()),
    };
    stop.cancel();
    worker.await??;
    producer.close(Duration::from_secs(10)).await?;
    place.close().await;
    let Read {
        records,
        seconds,
        cpu_s,
        usage,
    } = read?;
    live?;
    let mut report = Report::default();
    report.add("records", records);
    report.add(
        "first_record_s",
        first.map(|first| (first - began).as_secs_f64()),
    );
    report.add("seconds", seconds);
    report.add("records_per_s", records / seconds);
    report.add(
        "mb_per_s",
        records * f64::from(args.records.size) / 1e6 / seconds,
    );
    report.add(
        "cpu_s_per_million_records",
        cpu_s.map(|cpu_s| cpu_s / records * 1e6),
    );
    report.add("rss_mb", usage.rss_mb);
    report.add("threads", usage.threads);
    report.add("live_records", seen.live().latencies.count() as f64);
    report.add_latencies("end_to_end", &seen.live().latencies);
    report.print(args.json);
    Ok(())
}

/// What reading came to.
#[derive(Debug)]
struct Read {
    records: f64,
    seconds: f64,
    cpu_s: Option<f64>,
    usage: Usage,
}

/// Waits until all records were seen; measures from when the first so many were.
async fn measure(first: u64, all: u64, within: Duration, seen: &Seen) -> Result<Read, BoxError> {
    seen.until(first, within).await?;
    let (before, begin) = (Usage::now(), seen.clock.now());
    let before_it = seen.records.load(Ordering::SeqCst);
    seen.until(all, within).await?;
    let usage = Usage::now();
    Ok(Read {
        records: all.saturating_sub(before_it) as f64,
        seconds: (seen.clock.now() - begin).as_secs_f64(),
        cpu_s: usage.cpu_s_since(&before),
        usage,
    })
}

fn consumer(args: &Args, place: &Place, seen: &Arc<Seen>) -> Result<Consumer, BoxError> {
    let application = args
        .application
        .clone()
        .unwrap_or_else(|| format!("load-{}", Rand::from_entropy().uuid()));
    let defaults = Settings::default();
    let settings = Settings {
        initial_position: InitialPosition::TrimHorizon,
        idle_time_between_reads: args
            .idle_ms
            .map_or(defaults.idle_time_between_reads, Duration::from_millis),
        retrieval: if args.fan_out {
            Retrieval::FanOut(FanOutSettings::default())
        } else {
            Retrieval::default()
        },
        ..defaults
    };
    let (kinesis, dynamodb) = (place.kinesis.clone(), place.dynamodb.clone());
    let seen = Arc::clone(seen);
    let factory = move |_: &ShardId| Counter(Arc::clone(&seen));
    let stream = args.place.stream.as_str();
    Ok(
        Consumer::builder(application, stream, kinesis, dynamodb, factory)
            .settings(settings)
            .build()?,
    )
}

/// Writes the records that are to be read.
async fn fill(args: &Args, producer: &Producer) -> Result<(), BoxError> {
    let records = args.warm_up + args.records.records;
    let done = Arc::new(AtomicU64::new(0));
    let _line = Progress::show("fill", records, Arc::clone(&done));
    let (keys, data) = (
        produce::keys(args.records.keys),
        data(0, 0, args.records.size),
    );
    for number in 0..records {
        let key = keys.get(number.wrapping_mul(7919) as usize % keys.len());
        let record = UserRecord::new(key.cloned().unwrap_or_default(), data.clone());
        // That it is delivered shows when it is read.
        drop(producer.enqueue(record).await?);
        done.store(number, Ordering::Relaxed);
    }
    producer.flush().await;
    Ok(())
}

/// Sends a few records at an even pace and waits until they were seen.
async fn live(args: &Args, producer: &Producer, seen: &Arc<Seen>) -> Result<(), BoxError> {
    let records = args.pace.records();
    if records == 0 {
        return Ok(());
    }
    let before = args.warm_up + args.records.records;
    seen.clock.sleep(LIVE_PAUSE).await;
    let _line = Progress::show("live", before + records, Arc::clone(&seen.records));
    let sent = || seen.live().sent.push(seen.clock.now());
    send(args.pace, &args.records, producer, &seen.clock, sent).await?;
    seen.until(before + records, LIVE_GRACE).await
}
