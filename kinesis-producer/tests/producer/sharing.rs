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
    // Four need longer to find their shares, which costs more than going on with them.
    for (producers, seconds) in [(1, 15), (2, 30), (4, 90)] {
        saturate(producers, seconds).await;
    }
}

async fn saturate(producers: usize, seconds: u32) {
    let world = World::with_limits(1).await;
    let long = Duration::from_secs(seconds.into());
    let feeding = (0..producers).map(|sender| {
        let producer = world.producer(Settings::default());
        tokio::spawn(async move {
            let data = Bytes::from(vec![0; DATA_BYTES]);
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
    let mib = f64::from(delivered) * DATA_BYTES as f64 / (1024.0 * 1024.0);
    let goodput = mib / f64::from(seconds);
    let throttled = 1.0 - f64::from(delivered) / f64::from(attempts);
    let figures =
        format!("{producers} producers: goodput {goodput:.3} MiB/s, throttled {throttled:.3}");
    assert!(goodput >= 0.95 && throttled < 0.10, "{figures}");
}

/// So many records a second are a shard's other limit.
#[tokio::test(start_paused = true)]
async fn producers_of_small_records_share_what_a_shard_takes_in_records() {
    // Four are simulated beside the limiter, which takes less time.
    for (producers, seconds) in [(2, 40)] {
        let world = World::with_limits(1).await;
        let long = Duration::from_secs(seconds);
        let feeding = (0..producers).map(|sender| {
            let settings = Settings {
                aggregation_enabled: false,
                max_buffered_records: 2_000,
                ..Settings::default()
            };
            let producer = world.producer(settings);
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                let feed = async {
                    for number in 0.. {
                        let record = UserRecord::new(format!("{sender}-{number}"), "small");
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
        let goodput = f64::from(delivered) / seconds as f64;
        let throttled = 1.0 - f64::from(delivered) / f64::from(attempts);
        let figures =
            format!("{producers} producers: {goodput:.0} records/s, throttled {throttled:.3}");
        assert!(goodput >= 950.0 && throttled < 0.10, "{figures}");
    }
}
