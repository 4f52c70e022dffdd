//! `load produce`: sends records as fast as they are taken, or at a `--rate`.
//!
//! Each of `--concurrency` senders is a task with a handle of its own, and beside it a task that
//! awaits the outcomes in the order of sending. So a latency counts from the hand-over (room
//! included) to the moment at which it and all older ones of its sender are known: never too small.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use bytes::Bytes;
use kinesis_consumer::BoxError;
use kinesis_core::{Clock, UserRecord};
use kinesis_producer::{DeliveryFuture, Producer, Settings};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::place::{Place, PlaceArgs};
use crate::progress::Progress;
use crate::report::{Latencies, Report};
use crate::usage::Usage;

/// Outcomes that may wait for being looked at, in groups. Source: more than the producer's room.
const GROUPS: usize = 1024;
/// Records whose outcomes are handed over together. Source: none, keeps the hand-over cheap.
const GROUP: usize = 256;
/// Per cent of a shard's quota: kinesis-local has none here. Source: upper bound of the setting.
const RATE_LIMIT: u32 = 1_000_000;

/// What is sent.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// Records that are measured.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) records: u64,
    /// Bytes of a record, without its key.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(8..=1_000_000))]
    pub(crate) size: u32,
    /// Partition keys, by turns.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keys: u32,
}

/// Options of `load produce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    records: RecordArgs,
    /// Tasks that send, each with a handle of the one producer.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    concurrency: u32,
    /// Records sent before, not measured.
    #[arg(long, default_value_t = 100_000)]
    warm_up: u64,
    /// Records a second, spread evenly; as fast as they are taken otherwise.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Ends after so many seconds, with what was sent by then.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Keep the order of each key, as is the producer's default.
    #[arg(long)]
    ordered: bool,
    /// Write one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// What all senders share.
#[derive(Debug)]
struct Load {
    records: u64,
    senders: u64,
    begin: Instant,
    rate: Option<u32>,
    deadline: Instant,
    keys: Vec<Arc<str>>,
    data: Bytes,
    clock: Clock,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// When a record is to be sent, if that is not at once.
    fn due(&self, number: u64) -> Option<Instant> {
        let rate = self.rate?;
        Some(self.begin + Duration::from_secs_f64(number as f64 / f64::from(rate)))
    }
}

/// Counts requests of PutRecords.
#[derive(Clone, Debug, Default)]
struct Requests(Arc<AtomicU64>);

impl Intercept for Requests {
    fn name(&self) -> &'static str {
        "Requests"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let target = context.request().headers().get("x-amz-target");
        if target.is_some_and(|target| target.ends_with(".PutRecords")) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What came of it.
#[derive(Debug)]
struct Sent {
    latencies: Latencies,
    /// Records in the sense of the service, aggregates among them.
    kinesis_records: u64,
    failed: u64,
    last_error: Option<BoxError>,
}

impl Sent {
    fn nothing() -> Result<Self, BoxError> {
        Ok(Self {
            latencies: Latencies::new()?,
            kinesis_records: 0,
            failed: 0,
            last_error: None,
        })
    }
}

pub(crate) fn settings(ordered: bool) -> Settings {
    Settings {
        rate_limit: RATE_LIMIT,
        ordered,
        ..Settings::default()
    }
}

/// The partition keys of a load.
pub(crate) fn keys(count: u32) -> Vec<Arc<str>> {
    let key = |number| format!("vehicle-{number:06}").into();
    (0..count).map(key).collect()
}

pub(crate) async fn run(args: &Args) -> Result<(), BoxError> {
    let place = Place::open(&args.place).await?;
    let requests = Requests::default();
    let config = place.kinesis.config().to_builder();
    let kinesis = aws_sdk_kinesis::Client::from_conf(config.interceptor(requests.clone()).build());
    let producer = Producer::builder(kinesis, args.place.stream.as_str())
        .settings(settings(args.ordered))
        .build()?;
    let clock = Clock::system();
    let load = |records, rate| {
        Arc::new(Load {
            records,
            senders: args.concurrency.into(),
            begin: clock.now(),
            rate,
            deadline: clock.now() + Duration::from_secs(args.seconds),
            keys: keys(args.records.keys),
            data: vec![b'x'; args.records.size as usize].into(),
            clock: clock.clone(),
            acknowledged: Arc::default(),
        })
    };
    send("warm-up", &producer, &load(args.warm_up, None)).await?;
    let (before, began) = (Usage::now(), clock.now());
    let requests_before = requests.0.load(Ordering::Relaxed);
    let sent = send("produce", &producer, &load(args.records.records, args.rate)).await?;
    let (after, seconds) = (Usage::now(), (clock.now() - began).as_secs_f64());
    let requests = requests.0.load(Ordering::Relaxed) - requests_before;
    producer.close(Duration::from_secs(10)).await?;
    place.close().await;
    let mut report = report(args, &sent, seconds, after.cpu_s_since(&before), after);
    report.add("kinesis_records", sent.kinesis_records as f64);
    report.add("requests", requests as f64);
    report.print(args.json);
    match sent.last_error {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn report(args: &Args, sent: &Sent, seconds: f64, cpu_s: Option<f64>, usage: Usage) -> Report {
    let records = sent.latencies.count() as f64;
    let bytes = records * f64::from(args.records.size);
    let mut report = Report::default();
    report.add("records", records);
    report.add("failed", sent.failed as f64);
    report.add("seconds", seconds);
    report.add("records_per_s", records / seconds);
    report.add("mb_per_s", bytes / 1e6 / seconds);
    report.add(
        "cpu_s_per_million_records",
        cpu_s.map(|cpu_s| cpu_s / records * 1e6),
    );
    report.add_latencies("ack", &sent.latencies);
    report.add("rss_mb", usage.rss_mb);
    report.add("threads", usage.threads);
    report
}

/// Sends and waits until everything is settled.
async fn send(
    phase: &'static str,
    producer: &Producer,
    load: &Arc<Load>,
) -> Result<Sent, BoxError> {
    let _line = Progress::show(phase, load.records, Arc::clone(&load.acknowledged));
    let mut tasks = Vec::new();
    for sender in 0..load.senders {
        let (groups, watched) = mpsc::channel(GROUPS);
        let sending = sender_task(sender, producer.clone(), Arc::clone(load), groups);
        tokio::spawn(sending);
        tasks.push(tokio::spawn(watch(watched, Arc::clone(load))));
    }
    let mut all = Sent::nothing()?;
    for task in tasks {
        let sent = task.await??;
        all.latencies.add(&sent.latencies)?;
        all.kinesis_records += sent.kinesis_records;
        all.failed += sent.failed;
        all.last_error = all.last_error.or(sent.last_error);
    }
    Ok(all)
}

type Group = Vec<(Instant, Result<DeliveryFuture, kinesis_producer::Error>)>;

/// Sends every `senders`th record.
async fn sender_task(
    sender: u64,
    producer: Producer,
    load: Arc<Load>,
    groups: mpsc::Sender<Group>,
) {
    let mut group = Vec::with_capacity(GROUP);
    for number in (sender..load.records).step_by(load.senders as usize) {
        if let Some(due) = load.due(number).filter(|due| *due > load.clock.now()) {
            // Whoever watches is to see the outcomes of what was sent when they come.
            if groups.send(std::mem::take(&mut group)).await.is_err() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
        let begin = load.clock.now();
        if begin > load.deadline {
            break;
        }
        let key = number.wrapping_mul(7919) as usize % load.keys.len();
        let key = load.keys.get(key).cloned().unwrap_or_default();
        let record = UserRecord::new(key, load.data.clone());
        group.push((begin, producer.enqueue(record).await));
        if group.len() == GROUP {
            let full = std::mem::replace(&mut group, Vec::with_capacity(GROUP));
            if groups.send(full).await.is_err() {
                return;
            }
        }
    }
    // Whoever watches has gone only if it panicked.
    groups.send(group).await.ok();
    producer.flush().await;
}

/// Awaits the outcomes of one sender.
async fn watch(mut groups: mpsc::Receiver<Group>, load: Arc<Load>) -> Result<Sent, BoxError> {
    let mut sent = Sent::nothing()?;
    while let Some(group) = groups.recv().await {
        let count = group.len() as u64;
        for (begin, accepted) in group {
            let outcome = match accepted {
                Ok(outcome) => outcome.await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(delivery) => {
                    sent.latencies.record(load.clock.now() - begin);
                    sent.kinesis_records += u64::from(delivery.sub_sequence == 0);
                }
                Err(error) => {
                    sent.failed += 1;
                    sent.last_error = Some(error.into());
                }
            }
        }
        load.acknowledged.fetch_add(count, Ordering::Relaxed);
    }
    Ok(sent)
}
