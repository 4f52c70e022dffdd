//! Records at an even pace, to see how long each takes to arrive; and `load live`, which sends them to a
//! consumer in another process.
//!
//! ```text
//! number from 1, or 0 │ when it was sent, milliseconds since the Unix epoch │ zeros
//! 8 bytes, big-endian │ 8 bytes, big-endian                                 │
//! ```

use std::time::Duration;

use bytes::Bytes;
use kinesis_consumer::BoxError;
use kinesis_core::{Clock, UserRecord};
use kinesis_producer::Producer;

use crate::place::{Place, PlaceArgs};
use crate::produce::{self, RecordArgs};
use crate::report::Report;

/// Bytes of number and time.
const HEAD_BYTES: usize = 16;

/// How many records, and how fast.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Pace {
    /// Records a second of the live phase.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    live_rate: u64,
    /// How long the live phase is; 0 leaves it out.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=3_600))]
    live_seconds: u64,
}

impl Pace {
    pub(crate) fn records(&self) -> u64 {
        self.live_rate * self.live_seconds
    }
}

/// Options of `load live`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    records: RecordArgs,
    #[command(flatten)]
    pace: Pace,
    /// Write one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// The number of a live record, from 0.
pub(crate) fn number(data: &[u8]) -> Option<usize> {
    let number = u64::from_be_bytes(*data.first_chunk()?);
    usize::try_from(number.checked_sub(1)?).ok()
}

/// A record's data: its number from 1, or 0, and when it is sent.
pub(crate) fn data(number: u64, sent_millis: u64, size: u32) -> Bytes {
    let mut data = vec![0; (size as usize).max(HEAD_BYTES)];
    let head = [number.to_be_bytes(), sent_millis.to_be_bytes()].concat();
    for (byte, of_head) in data.iter_mut().zip(head) {
        *byte = of_head;
    }
    data.into()
}

/// Sends the records at their pace; `before` is called right before each.
pub(crate) async fn send(
    pace: Pace,
    records: &RecordArgs,
    producer: &Producer,
    clock: &Clock,
    mut before: impl FnMut(),
) -> Result<(), BoxError> {
    let keys = produce::keys(records.keys);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / pace.live_rate as u32);
    for number in 0..pace.records() {
        ticks.tick().await;
        let key = keys.get(number as usize % keys.len()).cloned();
        before();
        let data = data(number + 1, clock.epoch_millis(), records.size);
        let record = UserRecord::new(key.unwrap_or_default(), data);
        // That it is delivered shows when it is read.
        drop(producer.enqueue(record).await?);
    }
    producer.flush().await;
    Ok(())
}

pub(crate) async fn run(args: &Args) -> Result<(), BoxError> {
    let place = Place::open(&args.place).await?;
    let producer = Producer::builder(place.kinesis.clone(), args.place.stream.as_str())
        .settings(produce::settings(false))
        .build()?;
    send(args.pace, &args.records, &producer, &Clock::system(), || {}).await?;
    producer.close(Duration::from_secs(10)).await?;
    place.close().await;
    let mut report = Report::default();
    report.add("live_records", args.pace.records() as f64);
    report.print(args.json);
    Ok(())
}
