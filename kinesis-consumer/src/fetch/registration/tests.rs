use aws_sdk_kinesis::Client;
use kinesis_local::testing::{START_MS, TestStream};
use kinesis_local::{KinesisLocal, Limits};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::events::Hub;
use crate::settings::InitialPosition;

/// Registers a consumer; its ARN.
async fn register(kinesis: &Client, stream: &str) -> String {
    let describe = kinesis.describe_stream_summary().stream_name(stream);
    let summary = describe.send().await.expect("described");
    let stream_arn = summary
        .stream_description_summary
        .expect("there")
        .stream_arn;
    let register = kinesis.register_stream_consumer().stream_arn(stream_arn);
    let answer = register.consumer_name("given").send().await;
    let consumer = answer.expect("registered").consumer;
    consumer.expect("there").consumer_arn
}

fn registration(kinesis: &Client, stream: &str, arn: &str, clock: &Clock) -> Registration {
    let source = Source {
        id: None,
        address: stream.into(),
        initial: InitialPosition::TrimHorizon,
        consumer_arn: Some(arn.to_owned()),
        stop: CancellationToken::new(),
        events: Hub::default().announcer(),
        doubted: std::sync::atomic::AtomicBool::new(false),
    };
    Registration::new(
        kinesis.clone(),
        &source,
        "arrivals",
        &FanOutSettings::default(),
        Duration::from_secs(30),
        clock.clone(),
        Rand::seeded(1),
    )
}

#[tokio::test(start_paused = true)]
async fn a_given_consumer_of_another_stream_is_refused_and_that_of_the_stream_used() {
    let clock = Clock::starting_at(START_MS);
    let local = KinesisLocal::builder()
        .clock(clock.clone())
        .rand(Rand::seeded(1))
        .limits(Limits::Off)
        .start()
        .await
        .expect("kinesis-local starts");
    let kinesis = Client::new(&local.sdk_config());
    TestStream::create(&local, "flights", 1).await;
    TestStream::create(&local, "orders", 1).await;
    let own = register(&kinesis, "flights").await;
    let foreign = register(&kinesis, "orders").await;

    let refused = registration(&kinesis, "flights", &foreign, &clock);
    // The second time it is remembered.
    for _ in 0..2 {
        let failure = refused.arn().await.expect_err("another stream's");
        assert_eq!(failure.trouble, Trouble::Refused(Reason::OtherStream));
        assert_eq!(failure.error.kind(), ErrorKind::InvalidInput);
        let text = failure.error.to_string();
        assert!(text.contains("another stream"), "{text}");
    }
    let used = registration(&kinesis, "flights", &own, &clock);
    assert_eq!(*used.arn().await.expect("its own"), *own);
}
