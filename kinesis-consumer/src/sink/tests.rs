//! The sink against the S3 of kinesis-local, under paused time.

mod parts;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use kinesis_core::{Position, SequenceNumber};
use kinesis_local::{InProcessClient, KinesisLocal};
use tracing::Instrument;

use super::*;
use crate::checkpoint::Checkpointer;
use crate::error::ErrorKind;
use crate::processor::{InitializeInput, ProcessRecordsInput, ProcessorError};
use crate::record::Record;
use crate::written::Written;

const BUCKET: &str = "flights";

/// The way to S3, with a switch that cuts it and one that leaves requests without an answer.
#[derive(Clone, Debug)]
struct Line {
    s3: InProcessClient,
    is_cut: Arc<AtomicBool>,
    is_silent: Arc<AtomicBool>,
}

impl HttpConnector for Line {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if self.is_cut.load(Ordering::Relaxed) {
            return HttpConnectorFuture::ready(Err(ConnectorError::io("the line is cut".into())));
        }
        if self.is_silent.load(Ordering::Relaxed) {
            return HttpConnectorFuture::new(std::future::pending());
        }
        self.s3.call(request)
    }
}

impl HttpClient for Line {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// One shard of a sink and the bucket it writes to.
struct Shard {
    s3: Client,
    line: Line,
    sink: S3Sink,
    processor: Box<dyn RecordProcessor>,
    checkpointer: Checkpointer,
    _local: KinesisLocal,
}

fn shard_id() -> ShardId {
    ShardId::from("shardId-000000000000")
}

fn at(sequence: u64) -> Position {
    Position::at(
        SequenceNumber::try_from(sequence.to_string().as_str()).unwrap(),
        0,
    )
}

fn record(sequence: u64) -> Record {
    let Position::At {
        sequence_number, ..
    } = at(sequence)
    else {
        unreachable!()
    };
    Record::new("JFK", format!("{{\"n\":{sequence}}}"), sequence_number)
}

impl Shard {
    async fn start(settings: S3SinkSettings) -> Self {
        let local = KinesisLocal::builder().start().await.unwrap();
        let line = Line {
            s3: local.http_client(),
            is_cut: Arc::default(),
            is_silent: Arc::default(),
        };
        let config = local
            .sdk_config()
            .into_builder()
            .http_client(line.clone())
            .build();
        let s3 = Client::new(&config);
        s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        let mut shard = Self {
            sink: S3Sink::builder(s3.clone(), BUCKET).build().unwrap(),
            processor: Box::new(()),
            checkpointer: checkpointer(),
            s3,
            line,
            _local: local,
        };
        shard.worker(settings).await;
        shard
    }

    /// Puts a new worker in the place of the one before, which is dropped.
    async fn worker(&mut self, settings: S3SinkSettings) {
        self.sink = S3Sink::builder(self.s3.clone(), BUCKET)
            .settings(settings)
            .rand(Rand::seeded(1))
            .build()
            .unwrap();
        self.checkpointer = checkpointer();
        self.processor = self.sink.create(&shard_id());
        let input = InitializeInput::new(shard_id(), Position::TrimHorizon);
        self.processor.initialize(input).await.unwrap();
    }

    /// Delivers records as the shard's task does.
    async fn process(
        &mut self,
        sequences: std::ops::RangeInclusive<u64>,
    ) -> Result<(), ProcessorError> {
        self.checkpointer.deliver(at(*sequences.end()));
        self.checkpointer = self.checkpointer.of_delivery();
        let records: Vec<Record> = sequences.map(record).collect();
        let input = ProcessRecordsInput::new(records, self.checkpointer.clone());
        let result = self.processor.process_records(input).await;
        match &result {
            Ok(()) => self.checkpointer.settle(),
            Err(_) => self.checkpointer.withdraw(),
        }
        result
    }

    /// The objects' names and contents, in the order of their names.
    async fn objects(&self) -> Vec<(String, String)> {
        let listed = self
            .s3
            .list_objects_v2()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap();
        let mut objects = Vec::new();
        for key in listed.contents().iter().filter_map(|object| object.key()) {
            let object = self
                .s3
                .get_object()
                .bucket(BUCKET)
                .key(key)
                .send()
                .await
                .unwrap();
            let body = object.body.collect().await.unwrap().to_vec();
            objects.push((key.to_owned(), String::from_utf8(body).unwrap()));
        }
        objects
    }

    async fn contents(&self) -> Vec<String> {
        self.objects()
            .await
            .into_iter()
            .map(|(_, content)| content)
            .collect()
    }

    /// Lets virtual time pass until the checkpoint is there.
    async fn checkpoint_reaches(&self, position: Position) {
        for _ in 0..3600 {
            if self.checkpointer.last() == position {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("the checkpoint stays at {:?}", self.checkpointer.last());
    }
}

/// A processor for the moment before there is one.
#[async_trait::async_trait]
impl RecordProcessor for () {
    async fn process_records(&mut self, _: ProcessRecordsInput) -> Result<(), ProcessorError> {
        unreachable!()
    }
    async fn shard_ended(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        unreachable!()
    }
    async fn shutdown_requested(&mut self, _: Checkpointer) -> Result<(), ProcessorError> {
        unreachable!()
    }
}

fn checkpointer() -> Checkpointer {
    Checkpointer::in_memory(shard_id(), Position::TrimHorizon, Position::TrimHorizon)
}

fn lines(sequences: std::ops::RangeInclusive<u64>) -> String {
    sequences.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

fn of_records(max_batch_records: usize) -> S3SinkSettings {
    S3SinkSettings {
        max_batch_records,
        ..S3SinkSettings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_checkpoint_follows_the_objects_and_not_the_records() {
    let mut shard = Shard::start(of_records(2)).await;
    shard.process(1..=5).await.unwrap();
    assert_eq!(shard.contents().await, [lines(1..=2), lines(3..=4)]);
    assert_eq!(
        shard.checkpointer.last(),
        at(4),
        "5 is delivered but not stored"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_is_named_after_its_shard_and_positions() {
    let settings = S3SinkSettings {
        prefix: "f/".to_owned(),
        ..of_records(2)
    };
    let mut shard = Shard::start(settings).await;
    shard.process(7..=8).await.unwrap();
    let name = format!("f/shardId-000000000000/{:0>56}-{:0>56}.ndjson", 7, 8);
    assert_eq!(shard.objects().await, [(name, lines(7..=8))]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_shard_stores_what_it_holds_when_it_is_old_enough() {
    let mut shard = Shard::start(S3SinkSettings::default()).await;
    shard.process(1..=3).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(shard.contents().await, [""; 0]);
    shard.checkpoint_reaches(at(3)).await;
    assert_eq!(shard.contents().await, [lines(1..=3)]);

    shard.process(4..=4).await.unwrap();
    shard.checkpoint_reaches(at(4)).await;
    assert_eq!(
        shard.contents().await,
        [lines(1..=3), lines(4..=4)],
        "and again"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_checkpointed_or_lost_while_the_bucket_is_out_of_reach() {
    let mut shard = Shard::start(of_records(2)).await;
    shard.process(1..=1).await.unwrap();
    shard.line.is_cut.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(matches!(
            shard.process(2..=5).await,
            Err(ProcessorError::Retry(_))
        ));
        assert_eq!(shard.checkpointer.last(), Position::TrimHorizon);
    }
    shard.line.is_cut.store(false, Ordering::Relaxed);
    shard.process(2..=5).await.unwrap();
    assert_eq!(shard.contents().await, [lines(1..=2), lines(3..=4)]);
    assert_eq!(shard.checkpointer.last(), at(4));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_does_not_answer_is_a_bucket_out_of_reach() {
    let mut shard = Shard::start(of_records(2)).await;
    shard.line.is_silent.store(true, Ordering::Relaxed);
    assert!(matches!(
        shard.process(1..=2).await,
        Err(ProcessorError::Retry(_))
    ));
    shard.line.is_silent.store(false, Ordering::Relaxed);
    shard.process(1..=2).await.unwrap();
    assert_eq!(shard.contents().await, [lines(1..=2)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_half_way_loses_and_repeats_nothing() {
    let mut shard = Shard::start(of_records(2)).await;
    shard.line.is_silent.store(true, Ordering::Relaxed);
    let dropped = tokio::time::timeout(Duration::from_secs(1), shard.process(1..=5)).await;
    assert!(dropped.is_err());
    shard.line.is_silent.store(false, Ordering::Relaxed);
    shard.process(1..=5).await.unwrap();
    let checkpointer = shard.checkpointer.clone();
    shard
        .processor
        .shutdown_requested(checkpointer)
        .await
        .unwrap();
    let all = [lines(1..=2), lines(3..=4), lines(5..=5)];
    assert_eq!(shard.contents().await, all);
    assert_eq!(shard.checkpointer.last(), at(5));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_lost_during_a_write_ends_the_write() {
    let mut shard = Shard::start(S3SinkSettings::default()).await;
    shard.process(1..=2).await.unwrap();
    shard.line.is_silent.store(true, Ordering::Relaxed);
    // The batch became due a second ago; its write waits for an answer.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let told = tokio::time::timeout(Duration::from_secs(1), shard.processor.lease_lost()).await;
    assert!(told.is_ok(), "losing a lease waits for nobody");
    shard.line.is_silent.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(shard.contents().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_shard_tries_again_until_the_bucket_is_back() {
    let mut shard = Shard::start(S3SinkSettings::default()).await;
    shard.process(1..=3).await.unwrap();
    shard.line.is_cut.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(shard.checkpointer.last(), Position::TrimHorizon);
    shard.line.is_cut.store(false, Ordering::Relaxed);
    shard.checkpoint_reaches(at(3)).await;
    assert_eq!(shard.contents().await, [lines(1..=3)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_quiet_shard_says_of_a_write_that_failed_is_in_its_span() {
    let (written, _installed) = Written::begin();
    let begun = async {
        let mut shard = Shard::start(S3SinkSettings::default()).await;
        shard.process(1..=3).await.unwrap();
        shard
    };
    let span = tracing::info_span!("shard", stream = "flights");
    let shard = begun.instrument(span).await;
    shard.line.is_cut.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let lines = written.lines("was not stored");
    assert!(!lines.is_empty());
    let ours = |line: &String| line.contains("shard{stream=\"flights\"}");
    assert!(lines.iter().all(ours), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_stores_everything_before_it_checkpoints() {
    let mut shard = Shard::start(S3SinkSettings::default()).await;
    shard.process(1..=3).await.unwrap();
    let checkpointer = shard.checkpointer.clone();
    shard
        .processor
        .shutdown_requested(checkpointer)
        .await
        .unwrap();
    assert_eq!(shard.contents().await, [lines(1..=3)]);
    assert_eq!(shard.checkpointer.last(), at(3));
}

#[tokio::test(start_paused = true)]
async fn a_shard_ends_only_when_everything_is_stored() {
    let mut shard = Shard::start(S3SinkSettings::default()).await;
    shard.process(1..=3).await.unwrap();
    shard.checkpointer.end(Vec::new());
    let checkpointer = shard.checkpointer.of_delivery();
    shard.line.is_cut.store(true, Ordering::Relaxed);
    assert!(
        shard
            .processor
            .shard_ended(checkpointer.clone())
            .await
            .is_err()
    );
    assert_eq!(shard.checkpointer.last(), Position::TrimHorizon);
    shard.line.is_cut.store(false, Ordering::Relaxed);
    shard.processor.shard_ended(checkpointer).await.unwrap();
    assert_eq!(shard.contents().await, [lines(1..=3)]);
    assert_eq!(shard.checkpointer.last(), Position::ShardEnd);
}

#[tokio::test(start_paused = true)]
async fn after_the_lease_is_lost_nothing_is_written() {
    let mut shard = Shard::start(of_records(3)).await;
    shard.process(1..=2).await.unwrap();
    shard.processor.lease_lost().await;
    assert!(
        shard.process(3..=5).await.is_err(),
        "not even a complete batch"
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(shard.contents().await, [""; 0]);
    assert_eq!(shard.checkpointer.last(), Position::TrimHorizon);
}

#[tokio::test(start_paused = true)]
async fn a_processor_that_is_dropped_writes_nothing_more() {
    let mut shard = Shard::start(of_records(3)).await;
    shard.process(1..=2).await.unwrap();
    shard.processor = Box::new(());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(shard.contents().await, [""; 0]);
    assert_eq!(shard.checkpointer.last(), Position::TrimHorizon);
}

#[tokio::test(start_paused = true)]
async fn the_next_worker_replaces_the_objects_it_cuts_alike() {
    let mut shard = Shard::start(of_records(2)).await;
    shard.process(1..=4).await.unwrap();
    shard.worker(of_records(2)).await;
    shard.process(1..=6).await.unwrap();
    assert_eq!(
        shard.contents().await,
        [lines(1..=2), lines(3..=4), lines(5..=6)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_setting_out_of_bounds_is_refused_by_name() {
    type Change = fn(&mut S3SinkSettings);
    let local = KinesisLocal::builder().start().await.unwrap();
    let s3 = Client::new(&local.sdk_config());
    let cases: [(&str, Change); 5] = [
        ("prefix", |settings| settings.prefix = "/flights".to_owned()),
        ("prefix", |settings| settings.prefix = "x".repeat(601)),
        ("max_batch_bytes", |settings| settings.max_batch_bytes = 0),
        ("max_batch_records", |settings| {
            settings.max_batch_records = 0
        }),
        ("max_batch_age", |settings| {
            settings.max_batch_age = Duration::ZERO
        }),
    ];
    for (field, break_it) in cases {
        let mut settings = S3SinkSettings::default();
        break_it(&mut settings);
        let error = S3Sink::builder(s3.clone(), BUCKET)
            .settings(settings)
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(field), "{error}");
    }
    let error = S3Sink::builder(s3, "").build().unwrap_err();
    assert!(error.to_string().contains("bucket"), "{error}");
}

#[test]
fn settings_are_written_and_read_with_their_units() {
    let settings = S3SinkSettings::default();
    let written = serde_json::to_value(&settings).unwrap();
    assert_eq!(written["max_batch_age_millis"], 60_000);
    assert_eq!(written["format"], "data");
    assert_eq!(
        serde_json::from_value::<S3SinkSettings>(written).unwrap(),
        settings
    );
    assert_eq!(
        serde_json::from_str::<S3SinkSettings>("{}").unwrap(),
        settings
    );
}
