//! `load idle`: what an idle producer adds to the round trip of a record.
//!
//! One record at a time, by turns through a producer that has no linger, and by `PutRecord` and by
//! `PutRecords` of the same SDK client over the same connections. So what disturbs the machine disturbs
//! all three alike. Before each record is a pause: nothing is under way then, and whatever the producer
//! still had to do after the last one is over.

use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;
use kinesis_consumer::BoxError;
use kinesis_core::{Clock, UserRecord};
use kinesis_producer::{Producer, Settings};

use crate::place::{Place, PlaceArgs};
use crate::produce;
use crate::report::{Latencies, Report};

/// Options of `load idle`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
    /// Records of each way that are measured.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    records: u32,
    /// Records of each way sent before, not measured.
    #[arg(long, default_value_t = 200)]
    warm_up: u32,
    /// Bytes of a record, without its key.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    size: u32,
    /// Milliseconds before each record.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(..=60_000))]
    pause_ms: u64,
    /// Write one JSON object in place of the table.
    #[arg(long)]
    json: bool,
}

/// How a record is sent.
#[derive(Clone, Copy, Debug)]
enum Way {
    Producer,
    PutRecords,
    PutRecord,
}

const WAYS: [(Way, &str); 3] = [
    (Way::Producer, "producer"),
    (Way::PutRecords, "put_records"),
    (Way::PutRecord, "put_record"),
];

struct Senders<'a> {
    place: &'a Place,
    stream: &'a str,
    producer: Producer,
    data: Bytes,
}

pub(crate) async fn run(args: &Args) -> Result<(), BoxError> {
    let place = Place::open(&args.place).await?;
    let settings = Settings {
        record_max_buffered_time: Duration::ZERO,
        ..produce::settings(true)
    };
    let producer = Producer::builder(place.kinesis.clone(), args.place.stream.as_str());
    let senders = Senders {
        place: &place,
        stream: &args.place.stream,
        producer: producer.settings(settings).build()?,
        data: vec![b'x'; args.size as usize].into(),
    };
    let clock = Clock::system();
    let pause = Duration::from_millis(args.pause_ms);
    let mut measured = Vec::new();
    for _ in WAYS {
        measured.push(Latencies::new()?);
    }
    for round in 0..u64::from(args.warm_up) + u64::from(args.records) {
        // Each way has each place in a round equally often.
        for turn in 0..WAYS.len() {
            let at = (turn + round as usize) % WAYS.len();
            let (Some((way, _)), Some(latencies)) = (WAYS.get(at), measured.get_mut(at)) else {
                continue;
            };
            tokio::time::sleep(pause).await;
            let began = clock.now();
            senders.send(*way, round).await?;
            if round >= args.warm_up.into() {
                latencies.record(clock.now() - began);
            }
        }
    }
    senders.producer.close(Duration::from_secs(10)).await?;
    place.close().await;
    let mut report = Report::default();
    report.add("records", f64::from(args.records));
    for ((_, name), latencies) in WAYS.iter().zip(&measured) {
        report.add_latencies(name, latencies);
    }
    report.print(args.json);
    Ok(())
}

impl Senders<'_> {
    /// Ends once the record is stored.
    async fn send(&self, way: Way, round: u64) -> Result<(), BoxError> {
        let (kinesis, key) = (&self.place.kinesis, format!("vehicle-{:06}", round % 1_000));
        let blob = || Blob::new(self.data.to_vec());
        match way {
            Way::Producer => {
                let record = UserRecord::new(key, self.data.clone());
                self.producer.send(record).await?;
            }
            Way::PutRecords => {
                let entry = PutRecordsRequestEntry::builder();
                let entry = entry.partition_key(key).data(blob()).build()?;
                let put = kinesis.put_records().stream_name(self.stream);
                let stored = put.records(entry).send().await?;
                if stored.failed_record_count() != Some(0) {
                    return Err("a record was not stored".into());
                }
            }
            Way::PutRecord => {
                let put = kinesis.put_record().stream_name(self.stream);
                put.partition_key(key).data(blob()).send().await?;
            }
        }
        Ok(())
    }
}
