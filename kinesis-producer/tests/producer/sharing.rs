//! Several producers on one shard that has the service's limits.

use std::time::Duration;

use kinesis_core::UserRecord;
use kinesis_producer::Settings;

use crate::world::World;

const DATA_BYTES: usize = 50_000;
const SECONDS: u32 = 30;
/// For each producer more than the shard takes in that time.
const RECORDS: usize = 800;

#[tokio::test(start_paused = true)]
async fn two_saturating_producers_fill_a_shard_and_are_hardly_throttled() {
    let world = World::with_limits(1).await;
    let mut all = Vec::new();
    for sender in 0..2 {
        let producer = world.producer(Settings::default());
        let mut outcomes = Vec::new();
        for number in 0..RECORDS {
            let record = UserRecord::new(format!("{sender}-{number}"), vec![0; DATA_BYTES]);
            outcomes.push(producer.enqueue(record).await.expect("accepted"));
        }
        all.push((producer, outcomes));
    }
    tokio::time::sleep(Duration::from_secs(SECONDS.into())).await;
    let (mut delivered, mut attempts) = (0, 0);
    for (producer, outcomes) in all {
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
    let goodput = mib / f64::from(SECONDS);
    let throttled = 1.0 - f64::from(delivered) / f64::from(attempts);
    let figures = format!("goodput {goodput:.3} MiB/s, throttled {throttled:.3}");
    assert!(goodput >= 0.95 && throttled < 0.10, "{figures}");
}
