//! Several producers on one shard that has the service's limits.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use kinesis_core::UserRecord;
use kinesis_producer::Settings;

use crate::world::World;

const DATA_BYTES: usize = 50_000;

#[tokio::test(start_paused = true)]
async fn saturating_producers_fill_a_shard_together_and_are_hardly_throttled() {
    // Four need longer to find their shares, which costs more than going on with them; too long for every
    // day.
    let four = cfg!(feature = "slow").then_some((4, 90));
    for (producers, seconds) in [(1, 15), (2, 30)].into_iter().chain(four) {
        let data = vec![0; DATA_BYTES].into();
        let shared = saturate(producers, seconds, Settings::default(), data).await;
        let goodput = shared.records_per_s * DATA_BYTES as f64 / (1024.0 * 1024.0);
        assert!(
            goodput >= 0.95 && shared.throttled < 0.10,
            "{producers} producers: {goodput:.3} MiB/s, {shared:?}"
        );
    }
}

/// So many records a second are a shard's other limit, and forty thousand records too many for every day.
#[cfg(feature = "slow")]
#[tokio::test(start_paused = true)]
async fn producers_of_small_records_share_what_a_shard_takes_in_records() {
    // Two; four are simulated beside the limiter, which takes less time.
    let settings = Settings {
        aggregation_enabled: false,
        max_buffered_records: 2_000,
        ..Settings::default()
    };
    let shared = saturate(2, 40, settings, "small".into()).await;
    assert!(
        shared.records_per_s >= 950.0 && shared.throttled < 0.10,
        "{shared:?}"
    );
}

/// What became of the records of several producers.
#[derive(Debug)]
struct Shared {
    /// Delivered, and how much of what was sent was throttled.
    records_per_s: f64,
    throttled: f64,
}

/// Has so many producers fill a shard with records of these bytes for as long.
async fn saturate(producers: usize, seconds: u32, settings: Settings, data: Bytes) -> Shared {
    let world = World::with_limits(1).await;
    let long = Duration::from_secs(seconds.into());
    let feeding = (0..producers).map(|sender| {
        let (producer, data) = (world.producer(settings.clone()), data.clone());
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            let feed = async {
                for number in 0.. {
                    let record = UserRecord::new(format!("{sender}-{number}"), data.clone());
                    outcomes.push(producer.enqueue(record).await.expect("accepted"));
                }
            };
            let for_ever = tokio::time::timeout(long, feed).await;
            for_ever.expect_err("the buffer is full to the end");
            (producer, outcomes)
        })
    });
    let (mut delivered, mut attempts) = (0, 0);
    for fed in join_all(feeding).await {
        let (producer, outcomes) = fed.expect("no panic");
        let left = producer.close(Duration::ZERO).await;
        left.expect_err("saturated to the end");
        for outcome in outcomes {
            match outcome.await {
                Ok(delivery) => {
                    delivered += 1;
                    attempts += delivery.attempts;
                }
                Err(error) => attempts += error.attempts(),
            }
        }
    }
    Shared {
        records_per_s: f64::from(delivered) / f64::from(seconds),
        throttled: 1.0 - f64::from(delivered) / f64::from(attempts),
    }
}
