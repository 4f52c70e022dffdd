//! Fan-out over a real connection: every shard has its subscription, however many there are.

use std::time::Duration;

use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use kinesis_consumer::{FanOutSettings, Retrieval, Settings, ShardId};
use kinesis_core::UserRecord;
use tests::World;
use tests::history::History;
use tests::world::wait_until;

/// More than kinesis-local, and any server that is known, takes on one connection: 256.
const SHARDS: i32 = 300;

/// How long to wait for what never comes.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn three_hundred_shards_are_all_subscribed_to_over_http_2() {
    let mut world = World::listening_with_tls(SHARDS).await;
    let trusted = TrustStore::empty().with_pem_certificate(world.local.tls_ca_pem().expect("a CA"));
    let context = TlsContext::builder().with_trust_store(trusted).build();
    let client = HttpClientBuilder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context.expect("a certificate"))
        .build_https();
    let config = world.local.sdk_config().into_builder().http_client(client);
    world.kinesis = aws_sdk_kinesis::Client::new(&config.build());

    let mut records = Vec::new();
    for shard in world.stream.shards().await {
        let hash_key = shard.hash_key_range().expect("open").starting_hash_key();
        let record = UserRecord::new(shard.shard_id(), records.len().to_string());
        records.push(record.with_explicit_hash_key(hash_key.parse().expect("a number")));
    }
    let producer = world.producer();
    let mut deliveries = Vec::new();
    for record in &records {
        deliveries.push(producer.enqueue(record.clone()).await.expect("accepted"));
    }
    producer.flush().await;
    for delivery in deliveries {
        delivery.await.expect("delivered");
    }

    let history = History::default();
    // A shard without a subscription stands still.
    let settings = Settings {
        retrieval: Retrieval::FanOut(FanOutSettings {
            fall_back_to_polling: false,
            ..FanOutSettings::default()
        }),
        ..Settings::default()
    };
    let factory = {
        let history = history.clone();
        move |_: &ShardId| history.processor("a")
    };
    let worker = world.worker_with("a", settings, factory);
    let all = wait_until("a record of each shard", async || {
        history.payloads().len() >= records.len()
    });
    let all = tokio::time::timeout(PATIENCE, all).await;
    assert!(
        all.is_ok(),
        "{} of {} shards were read",
        history.payloads().len(),
        records.len()
    );
    worker.stop().await.expect("an orderly end");
    history.assert_nothing_lost(&records);
}
