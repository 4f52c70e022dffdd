//! What the caller gives: the SDK client, the clock, the runtime.

use std::time::Duration;

use kinesis_core::{Clock, Rand};
use kinesis_producer::{ErrorKind, Producer, Settings};

use crate::faults::Fault;
use crate::world::{STREAM, World, numbered};

/// FIPS and dual-stack decide the endpoint; a proxy and certificates belong to the HTTP client,
/// which all calls go through.
#[tokio::test(start_paused = true)]
async fn every_call_goes_where_and_through_what_the_client_is_set_up_for() {
    let world = World::new(1).await;
    for (fips, dual_stack, host) in [
        (false, false, "kinesis.us-east-1.amazonaws.com"),
        (true, false, "kinesis-fips.us-east-1.amazonaws.com"),
        (false, true, "kinesis.us-east-1.api.aws"),
        (true, true, "kinesis-fips.us-east-1.api.aws"),
    ] {
        let mut config = world.client.config().to_builder();
        config.set_endpoint_url(None);
        config
            .set_use_fips(Some(fips))
            .set_use_dual_stack(Some(dual_stack));
        let client = aws_sdk_kinesis::Client::from_conf(config.build());
        let before = world.faults.hosts().len();
        let producer = Producer::builder(client, STREAM).rand(Rand::seeded(3));
        let producer = producer.build().expect("a producer");
        producer.send(numbered(1)).await.expect("delivered");
        let hosts = world.faults.hosts().split_off(before);
        let mut operations: Vec<_> = hosts.iter().map(|(operation, _)| &**operation).collect();
        operations.sort_unstable();
        assert_eq!(
            operations,
            ["DescribeStreamSummary", "ListShards", "PutRecords"]
        );
        assert!(hosts.iter().all(|(_, at)| at == host), "{host}: {hosts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn waits_go_by_the_clock_that_is_given() {
    let world = World::new(1).await;
    world
        .faults
        .always(Fault::Refuse(503, "ServiceUnavailable"));
    let clock = Clock::system().advanceable();
    let ttl = Duration::from_secs(3600);
    let settings = Settings {
        record_ttl: Some(ttl),
        ..Settings::default()
    };
    let producer = Producer::builder(world.client.clone(), STREAM).settings(settings);
    let producer = producer.clock(clock.clone()).build().expect("a producer");
    let real = Clock::system();
    let began = real.now();
    let outcome = producer.enqueue(numbered(1)).await.expect("accepted");
    tokio::time::sleep(Duration::from_secs(5)).await;
    clock.advance(ttl).expect("an hour later");
    let error = outcome.await.expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Expired);
    assert!(
        real.now() - began < Duration::from_secs(10),
        "nobody really waited"
    );
}

#[test]
fn a_runtime_without_timers_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest())
        .region(aws_sdk_kinesis::config::Region::new("us-east-1"));
    let client = aws_sdk_kinesis::Client::from_conf(config.build());
    let built = runtime.block_on(async { Producer::builder(client, STREAM).build() });
    let error = built.expect_err("no timers");
    assert_eq!(error.kind(), ErrorKind::InvalidSettings);
    assert!(error.to_string().contains("enable_time"), "{error}");
}
