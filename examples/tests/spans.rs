//! What is logged of a shard is logged inside of its span, whichever task says it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kinesis_consumer::{
    Checkpointer, Consumer, EventKind, ProcessRecordsInput, ProcessorError, RecordProcessor,
    ShardId,
};
use kinesis_local::{FaultEffect, FaultPlan, FaultRule, KinesisLocal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

const SHARDS: [&str; 2] = ["shardId-000000000000", "shardId-000000000001"];

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The lines with this text, up to it: level, spans, target.
    fn before(&self, text: &str) -> Vec<String> {
        let log = self.0.lock().expect("no panic under the lock");
        let log = String::from_utf8(log.clone()).expect("text");
        let lines = log.lines().filter_map(|line| line.split_once(text));
        lines.map(|(before, _)| before.to_owned()).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic under the lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

struct Nothing;

#[async_trait]
impl RecordProcessor for Nothing {
    async fn process_records(&mut self, _: ProcessRecordsInput) -> Result<(), ProcessorError> {
        Ok(())
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

#[tokio::test]
async fn each_shard_has_a_span_inside_of_its_worker_s_and_reading_logs_in_it_too() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(log.clone());
    let _installed = tracing::subscriber::set_default(subscriber.finish());
    let local = KinesisLocal::builder().start().await.expect("it starts");
    let config = local.sdk_config();
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    let create = kinesis.create_stream().stream_name("flights");
    create.shard_count(2).send().await.expect("created");
    let denied = FaultRule::new(FaultEffect::error("AccessDeniedException"));
    let denied = denied.operation("GetShardIterator").shard(SHARDS[1]);
    let faults = FaultPlan::default().rule(denied.times(1));
    local.set_faults(faults).expect("a plan");

    let factory = |_: &ShardId| Nothing;
    let builder = Consumer::builder("arrivals", "flights", kinesis, dynamodb, factory);
    let consumer = builder.worker_id("one").build().expect("valid");
    let shutdown = CancellationToken::new();
    let mut events = consumer.events();
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    let mut started = 0;
    while started < SHARDS.len() {
        let event = events.next().await.expect("it runs").expect("kept");
        started += usize::from(matches!(event.kind, EventKind::ShardStarted { .. }));
    }
    let refused = "Reading is refused";
    while log.before(refused).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    running.await.expect("no panic").expect("a clean stop");

    let span = |shard| {
        format!(
            "consumer{{application=\"arrivals\" worker=\"one\"}}:shard{{stream=\"flights\" shard={shard}}}: "
        )
    };
    for text in [
        "Processing of the shard begins",
        "Processing of the shard is over",
    ] {
        let lines = log.before(text);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for shard in SHARDS {
            let of_shard = lines.iter().filter(|line| line.contains(&span(shard)));
            assert_eq!(of_shard.count(), 1, "{lines:?}");
        }
    }
    // The task that reads is another one.
    let lines = log.before(refused);
    assert!(lines[0].contains(&span(SHARDS[1])), "{lines:?}");
}
