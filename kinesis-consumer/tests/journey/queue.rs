//! A queue's consumer against the queues of kinesis-local.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamMode, StreamModeDetails};
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_types::body::SdkBody;
use kinesis_consumer::codec::Json;
use kinesis_consumer::queue::{Lane, QueueClient, QueueConsumer, QueueRecord, QueueSettings};
use kinesis_consumer::{Error, ErrorKind, ProcessorError};
use kinesis_core::Rand;
use kinesis_local::{FaultEffect, FaultPlan, FaultRule};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{World, until};

const STREAM: &str = "orders";
/// Virtual time after which a consumer that is to end has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// Creates a queue, which the SDK cannot yet.
#[derive(Debug)]
struct CreateQueue {
    body: String,
    arn: Arc<Mutex<String>>,
}

impl Intercept for CreateQueue {
    fn name(&self) -> &'static str {
        "CreateQueue"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        request
            .headers_mut()
            .insert("x-amz-target", "Kinesis_20131202.CreateQueue");
        request
            .headers_mut()
            .insert("content-length", self.body.len().to_string());
        *request.body_mut() = SdkBody::from(self.body.clone());
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default();
        let answer: serde_json::Value = serde_json::from_slice(body)?;
        let arn = answer["QueueDescription"]["QueueARN"]
            .as_str()
            .unwrap_or_default();
        *self.arn.lock().expect("no panic") = arn.to_owned();
        Ok(())
    }
}

/// A queue on a stream of its own whose records are dead letters after `receives`; its ARN.
pub(crate) async fn queue(world: &World, receives: u32) -> String {
    let mode = StreamModeDetails::builder()
        .stream_mode(StreamMode::OnDemand)
        .build();
    let create = world.kinesis.create_stream().stream_name(STREAM);
    create
        .stream_mode_details(mode.expect("complete"))
        .send()
        .await
        .expect("created");
    let summary = async || {
        let describe = world.kinesis.describe_stream_summary().stream_name(STREAM);
        let answer = describe.send().await.expect("described");
        answer.stream_description_summary.expect("a summary")
    };
    until("the stream is active", async || {
        summary().await.stream_status.as_str() == "ACTIVE"
    })
    .await;
    let stream = summary().await.stream_arn;
    let body = serde_json::json!({
        "QueueName": "q",
        "StreamConfigurationList":
            [{"StreamARN": stream, "StartingPosition": {"Type": "TRIM_HORIZON"}}],
        "QueueAttributes": {"DeadLetterConfiguration":
            {"TargetType": "BUILT_IN", "MaxReceiveCount": receives}},
    });
    let arn = Arc::new(Mutex::new(String::new()));
    let create = CreateQueue {
        body: body.to_string(),
        arn: Arc::clone(&arn),
    };
    let carrier = world
        .kinesis
        .add_tags_to_stream()
        .stream_name(STREAM)
        .tags("a", "b");
    carrier
        .customize()
        .interceptor(create)
        .send()
        .await
        .expect("the queue is created");
    let arn = arn.lock().expect("no panic").clone();
    // It becomes active.
    tokio::time::sleep(Duration::from_secs(60)).await;
    arn
}

pub(crate) async fn put(world: &World, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let request = world.kinesis.put_record().stream_name(STREAM);
        let data = Blob::new(number.to_string());
        request
            .partition_key("a")
            .data(data)
            .send()
            .await
            .expect("put");
    }
}

/// A running consumer, and the numbers that its handler was done with.
pub(crate) struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    done: Arc<Mutex<Vec<u32>>>,
}

impl Running {
    pub(crate) fn start<F>(world: &World, arn: &str, settings: QueueSettings, handle: F) -> Self
    where
        F: AsyncHandle,
    {
        let done: Arc<Mutex<Vec<u32>>> = Arc::default();
        let (noted, handle) = (Arc::clone(&done), Arc::new(handle));
        let handler = move |record: QueueRecord| {
            let (noted, handle) = (Arc::clone(&noted), Arc::clone(&handle));
            async move {
                let number: u32 = record.decode(&Json)?;
                handle.handle(number, record.receive_count).await?;
                noted.lock().expect("no panic").push(number);
                Ok(())
            }
        };
        let consumer = QueueConsumer::builder(arn, world.kinesis.clone(), handler)
            .settings(settings)
            .clock(world.clock.clone())
            .rand(Rand::seeded(1))
            .build()
            .expect("valid");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(consumer.run(shutdown.clone()));
        Self {
            shutdown,
            task,
            done,
        }
    }

    pub(crate) fn done(&self) -> Vec<u32> {
        let mut done = self.done.lock().expect("no panic").clone();
        done.sort_unstable();
        done
    }

    pub(crate) async fn until_done(&self, numbers: std::ops::Range<u32>) {
        let numbers: Vec<u32> = numbers.collect();
        until("all are handled", async || self.done() == numbers).await;
    }

    /// The error that it ended with by itself.
    pub(crate) async fn failed(self) -> Error {
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        let ended = ended.expect("it ends").expect("no panic");
        ended.expect_err("it does not go on")
    }

    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("it ends").expect("no panic")
    }
}

/// What a handler does with a number that is received for the nth time.
pub(crate) trait AsyncHandle: Send + Sync + 'static {
    fn handle(
        &self,
        number: u32,
        receives: u32,
    ) -> futures::future::BoxFuture<'static, Result<(), ProcessorError>>;
}

impl<F> AsyncHandle for F
where
    F: Fn(u32, u32) -> futures::future::BoxFuture<'static, Result<(), ProcessorError>>
        + Send
        + Sync
        + 'static,
{
    fn handle(
        &self,
        number: u32,
        receives: u32,
    ) -> futures::future::BoxFuture<'static, Result<(), ProcessorError>> {
        self(number, receives)
    }
}

/// Done after so many seconds.
pub(crate) fn after(seconds: u64) -> impl AsyncHandle {
    move |_, _| -> futures::future::BoxFuture<'static, Result<(), ProcessorError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        })
    }
}

pub(crate) fn at_once(
    _: u32,
    _: u32,
) -> futures::future::BoxFuture<'static, Result<(), ProcessorError>> {
    Box::pin(async { Ok(()) })
}

/// What is left in the queue once every visibility timeout is over.
pub(crate) async fn left(world: &World, arn: &str, lane: Lane) -> Vec<String> {
    tokio::time::sleep(Duration::from_secs(120)).await;
    let client = QueueClient::new(world.kinesis.clone());
    let records = client.receive(arn, lane, 10, 1, 0).await.expect("received");
    let text = |record: &QueueRecord| String::from_utf8_lossy(&record.data).into_owned();
    records.iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn every_record_is_handled_and_acknowledged_once() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..25).await;
    let running = Running::start(&world, &arn, QueueSettings::default(), at_once);
    running.until_done(0..25).await;
    put(&world, 25..30).await;
    running.until_done(0..30).await;
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_told_of_records_is_asked_for_no_more() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..200).await;
    let throttled = FaultRule::new(FaultEffect::error("ProvisionedThroughputExceededException"));
    let throttled = throttled.operation("AcknowledgeQueueRecords");
    world.faults(FaultPlan::seeded(1).rule(throttled));
    let settings = QueueSettings {
        concurrency: 10,
        ..QueueSettings::default()
    };
    let running = Running::start(&world, &arn, settings, at_once);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (done, calls) = (running.done().len(), world.hits()[0]);
    // Ten fill the room, nine wait to fill a request, eighty are in eight requests under way.
    assert!((10..=99).contains(&done), "{done} records");
    // Eight requests at once, each made anew by the SDK, and longer and longer pauses between them.
    assert!((4..=200).contains(&calls), "{calls} calls");
    world.faults(FaultPlan::seeded(1));
    until("all are handled", async || {
        let mut done = running.done();
        done.dedup();
        done.len() == 200
    })
    .await;
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_more_is_received_than_fits_if_each_record_is_as_large_as_can_be() {
    const MIB: usize = 1024 * 1024;
    // With its key as large as a record of this stream may be.
    const BYTES: usize = MIB - 1;
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    for _ in 0..20 {
        let request = world.kinesis.put_record().stream_name(STREAM);
        let request = request
            .partition_key("a")
            .data(Blob::new(vec![b'0'; BYTES]));
        request.send().await.expect("put");
    }
    // All at the same time, and ever.
    let counts: Arc<Mutex<[usize; 3]>> = Arc::default();
    let counted = Arc::clone(&counts);
    let handler = move |record: QueueRecord| {
        let counts = Arc::clone(&counted);
        let bytes = record.data.len();
        async move {
            {
                let [now, most, all] = &mut *counts.lock().expect("no panic");
                *now += bytes;
                *most = (*most).max(*now);
                *all += 1;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
            counts.lock().expect("no panic")[0] -= bytes;
            Ok(())
        }
    };
    let settings = QueueSettings {
        max_buffered_bytes: 15 * MIB,
        ..QueueSettings::default()
    };
    let consumer = QueueConsumer::builder(&*arn, world.kinesis.clone(), handler);
    let consumer = consumer.settings(settings).clock(world.clock.clone());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(consumer.build().expect("valid").run(shutdown.clone()));
    until("all are handled", async || {
        counts.lock().expect("no panic")[2] == 20
    })
    .await;
    shutdown.cancel();
    task.await.expect("no panic").expect("a clean stop");
    let [_, most, _] = *counts.lock().expect("no panic");
    // One is asked for while there is room for the largest.
    assert_eq!(most, 6 * BYTES);
}

/// Puts so many records at once, as far as the stream takes them.
async fn put_many(world: &World, numbers: std::ops::Range<u32>) {
    let entry = |number: u32| {
        let entry = PutRecordsRequestEntry::builder().partition_key(format!("key-{number}"));
        let entry = entry.data(Blob::new(number.to_string())).build();
        entry.expect("complete")
    };
    let numbers: Vec<u32> = numbers.collect();
    for numbers in numbers.chunks(500) {
        let records = numbers.iter().copied().map(entry).collect();
        let put = world.kinesis.put_records().stream_name(STREAM);
        let answer = put.set_records(Some(records)).send().await.expect("put");
        assert_eq!(answer.failed_record_count, Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_that_is_some_milliseconds_away_is_received_from_several_times_at_once() {
    const RECORDS: u32 = 1_000;
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put_many(&world, 0..RECORDS).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let away = FaultEffect::latency_ms(20);
    let receives = FaultRule::new(away.clone()).operation("ReceiveQueueRecords");
    let acknowledges = FaultRule::new(away).operation("AcknowledgeQueueRecords");
    let plan = FaultPlan::seeded(1).rule(receives).rule(acknowledges);
    world.faults(plan);
    let settings = QueueSettings {
        concurrency: 1_000,
        max_buffered_bytes: 2 << 30,
        ..QueueSettings::default()
    };
    let begun = world.clock.now();
    let running = Running::start(&world, &arn, settings, at_once);
    running.until_done(0..RECORDS).await;
    let took = world.clock.now() - begun;
    // One receive after the other it would be two seconds, of ten records each.
    assert!(took < Duration::from_millis(700), "{took:?}");
    let receives = world.hits()[0];
    assert!((100..=120).contains(&receives), "{receives} receives");
    // A queue that has nothing more is waited at by one.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let before = world.hits()[0];
    let minute = Duration::from_secs(60);
    tokio::time::sleep(minute).await;
    let in_a_minute = world.hits()[0] - before;
    assert!(in_a_minute <= 8, "{in_a_minute} receives of 9 s each");
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_handler_takes_longer_than_the_timeout_stays_hidden() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..3).await;
    // Three times as long as a record is hidden.
    let running = Running::start(&world, &arn, QueueSettings::default(), after(90));
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(running.done(), [0, 1, 2], "each once");
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_fails_comes_again_and_what_always_fails_is_a_dead_letter_until_it_is_restored() {
    let world = World::new(1).await;
    let arn = queue(&world, 3).await;
    put(&world, 0..4).await;
    let picky =
        |number, receives| -> futures::future::BoxFuture<'static, Result<(), ProcessorError>> {
            Box::pin(async move {
                match (number, receives) {
                    (1, 1) => Err(ProcessorError::retry("not yet")),
                    (2, 1) => panic!("asked to panic"),
                    (3, _) => Err(ProcessorError::poison("never")),
                    _ => Ok(()),
                }
            })
        };
    let running = Running::start(&world, &arn, QueueSettings::default(), picky);
    running.until_done(0..3).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::Records).await.is_empty());
    assert_eq!(left(&world, &arn, Lane::DeadLetters).await, ["3"]);

    let client = QueueClient::new(world.kinesis.clone());
    assert_eq!(client.restore_all(&arn).await.expect("restored"), 1);
    let mended = Running::start(&world, &arn, QueueSettings::default(), at_once);
    mended.until_done(3..4).await;
    mended.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::DeadLetters).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn dead_letters_have_the_same_consumer() {
    let world = World::new(1).await;
    let arn = queue(&world, 1).await;
    put(&world, 0..3).await;
    let client = QueueClient::new(world.kinesis.clone());
    let all = client
        .receive(&arn, Lane::Records, 10, 1, 0)
        .await
        .expect("received");
    assert_eq!(all.len(), 3);
    let letters = QueueSettings {
        lane: Lane::DeadLetters,
        ..QueueSettings::default()
    };
    let running = Running::start(&world, &arn, letters, at_once);
    running.until_done(0..3).await;
    running.stop().await.expect("a clean stop");
    assert!(left(&world, &arn, Lane::DeadLetters).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_handlers_finish_and_gives_back_at_once_what_they_do_not() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..2).await;
    let slow = |number, _| -> futures::future::BoxFuture<'static, Result<(), ProcessorError>> {
        Box::pin(async move {
            let time = if number == 0 { 10 } else { 10_000 };
            tokio::time::sleep(Duration::from_secs(time)).await;
            Ok(())
        })
    };
    let settings = QueueSettings {
        visibility_timeout: Duration::from_secs(3_600),
        ..QueueSettings::default()
    };
    let running = Running::start(&world, &arn, settings, slow);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (done, begun) = (Arc::clone(&running.done), world.clock.now());
    running.stop().await.expect("a clean stop");
    assert_eq!(*done.lock().expect("no panic"), [0]);
    assert!(world.clock.now() - begun < Duration::from_secs(36));
    let next = Running::start(&world, &arn, QueueSettings::default(), at_once);
    next.until_done(1..2).await;
    next.stop().await.expect("a clean stop");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_gives_up_and_a_queue_that_is_not_there_end_the_consumer() {
    let world = World::new(1).await;
    let arn = queue(&world, 6).await;
    put(&world, 0..1).await;
    let fatal = |_, _| -> futures::future::BoxFuture<'static, Result<(), ProcessorError>> {
        Box::pin(async { Err(ProcessorError::fatal("no disk")) })
    };
    let running = Running::start(&world, &arn, QueueSettings::default(), fatal);
    let error = running.failed().await;
    assert_eq!(error.kind(), ErrorKind::Processor);
    assert_eq!(left(&world, &arn, Lane::Records).await, ["0"]);

    let gone = arn.replace(":queue/", ":queue/x");
    let running = Running::start(&world, &gone, QueueSettings::default(), at_once);
    let error = running.failed().await;
    assert!(!error.kind().is_retryable(), "{error}");
    assert!(error.to_string().contains(&gone), "{error}");
}
