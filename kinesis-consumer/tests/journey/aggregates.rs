//! KPL aggregates on their way to the processor.

use kinesis_core::{Aggregate, HashKeyRange, UserRecord};

use crate::ledger::{Behaviour, Note};
use crate::world::World;

fn aggregate(members: impl IntoIterator<Item = UserRecord>) -> Vec<u8> {
    let mut aggregate = Aggregate::new();
    for member in members {
        aggregate.push(member);
    }
    aggregate.encode().to_vec()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<u8> {
    aggregate(range.map(|number| UserRecord::new("key", number.to_string())))
}

#[tokio::test(start_paused = true)]
async fn after_a_checkpoint_in_the_middle_of_an_aggregate_the_next_member_comes_first() {
    let world = World::new(1).await;
    world.put("key", numbers(0..6)).await;
    world.put("key", numbers(6..8)).await;
    let first = world.worker("one", |seen| match seen.text().as_str() {
        "2" => Behaviour::ProcessAndCheckpoint,
        "3" => Behaviour::Hang,
        _ => Behaviour::Process,
    });
    world
        .ledger
        .until_note(
            "it hangs",
            |note| matches!(note, Note::Tried(seen) if seen.text() == "3"),
        )
        .await;
    first.kill().await;
    let second = world.worker("two-", |_| Behaviour::Process);
    world.ledger.until_processed(8).await;
    second.stop().await.expect("a clean stop");
    world.ledger.assert_each_once(0..8);
    let processed = world.ledger.processed();
    assert_eq!(
        (processed[3].worker, processed[3].record.sub_sequence),
        ("two-", 3)
    );
    assert!(processed.iter().all(|seen| seen.record.aggregated));
}

#[tokio::test(start_paused = true)]
async fn a_broken_aggregate_is_delivered_raw_and_the_records_around_it_too() {
    let world = World::new(1).await;
    let mut broken = numbers(0..3);
    let last = broken.len() - 1;
    broken[last] ^= 1;
    world.put("key", "before").await;
    world.put("key", broken.clone()).await;
    world.put("key", "after").await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(3).await;
    worker.stop().await.expect("a clean stop");
    let processed = world.ledger.processed();
    let data: Vec<&[u8]> = processed
        .iter()
        .map(|seen| seen.record.data.as_ref())
        .collect();
    assert_eq!(data, [b"before".as_slice(), &broken, b"after"]);
    assert!(!processed[1].record.aggregated);
}

#[tokio::test(start_paused = true)]
async fn a_member_of_another_shard_is_dropped_and_the_other_members_are_delivered() {
    let world = World::halves().await;
    let ranges = HashKeyRange::FULL.split_even(2);
    let member = |text: &'static str, range: HashKeyRange| {
        UserRecord::new("key", text).with_explicit_hash_key(range.start())
    };
    let data = aggregate([
        member("0", ranges[0]),
        member("foreign", ranges[1]),
        member("1", ranges[0]),
    ]);
    world.put_at(ranges[0].start(), data).await;
    world.put_at(ranges[0].start(), "2").await;
    let worker = world.worker("one", |_| Behaviour::Process);
    world.ledger.until_processed(3).await;
    worker.stop().await.expect("a clean stop");
    assert_eq!(world.ledger.texts(), ["0", "1", "2"]);
}
