//! The KCL and our consumer, as two applications, read the same stream.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kinesis_consumer::Settings;
use kinesis_core::{HashKey, HashKeyRange, Position, ShardId};
use tests::World;
use tests::history::{Event, History, numbered};

use crate::streams::{Reads, ranges};
use crate::worker::{How, KclWorker, Retrieval};
use crate::{ended, merge, scale, send, split};

/// A record's place, and its payload.
type Places = BTreeMap<(ShardId, Position), String>;

fn places(history: &History) -> Places {
    let place = |event| match event {
        Event::Delivered {
            shard,
            position,
            payload,
            ..
        } => Some(((shard, position), payload)),
        _ => None,
    };
    history.events().into_iter().filter_map(place).collect()
}

/// The hash keys of every shard.
pub(super) type Ranges = BTreeMap<ShardId, HashKeyRange>;

/// Whether a record of this payload belongs to `shard`.
fn belongs(payload: &str, shard: &ShardId, ranges: &Ranges) -> bool {
    let (key, _) = payload.split_once(':').expect("payload is key:number");
    ranges[shard].contains(HashKey::of_partition_key(key))
}

/// The history without the copies of records that were delivered in a shard they do not belong to:
/// see [`assert_same_places`]. They come besides the others and in no order with them.
pub(super) fn at_home(history: &History, ranges: &Ranges) -> History {
    let at_home = History::default();
    for event in history.events() {
        match &event {
            Event::Delivered { shard, payload, .. } if !belongs(payload, shard, ranges) => {}
            _ => at_home.push(event),
        }
    }
    at_home
}

/// Fails unless the KCL and our consumer saw the same records at the same sequence and sub-sequence
/// numbers, but for aggregates that met a split on their way and so have members of other shards.
/// Of these we deliver the shard's own members. The KCL drops them whole, or, while its listing of
/// the shards is younger than 30 s and lacks the shard, delivers them whole.
fn assert_same_places(kcl: &History, ours: &History, ranges: &Ranges) {
    let (kcl, ours) = (places(kcl), places(ours));
    let in_aggregates = kcl.keys().filter(|(_, at)| at.sub_sequence() > 0).count();
    assert!(
        in_aggregates > kcl.len() / 2,
        "only {in_aggregates} of {} records came in aggregates",
        kcl.len()
    );
    for (place, payload) in &kcl {
        let expected = belongs(payload, &place.0, ranges).then_some(payload);
        assert_eq!(ours.get(place), expected, "{payload} at {place:?}");
    }
    let opened: BTreeSet<_> = kcl.keys().map(|(_, at)| at.checkpoint()).collect();
    for (place, payload) in ours.iter().filter(|(place, _)| !kcl.contains_key(place)) {
        assert!(
            !opened.contains(place.1.checkpoint()),
            "the KCL saw a part of an aggregate, but not {payload} at {place:?}"
        );
    }
}

/// Fails if a reader was given the record of a place twice. (A record that met a reshard may stand at
/// two places: the producer sent it again.)
fn assert_nothing_repeated(history: &History) {
    let mut given = BTreeSet::new();
    for event in history.events() {
        if let Event::Delivered {
            shard,
            position,
            payload,
            ..
        } = event
        {
            let place = (shard, position);
            assert!(!given.contains(&place), "{payload} again, at {place:?}");
            given.insert(place);
        }
    }
}

/// The stream is split, merged and scaled while our producer writes and both read.
async fn read_through_reshards(scenario: &str, retrieval: Retrieval) {
    let world = World::listening(2).await;
    let (history, ours) = (History::default(), History::default());
    let records = numbered(30, 8_000);
    let reader = {
        let ours = ours.clone();
        let factory = move |_: &ShardId| ours.processor("reader");
        world.worker_of("reader", "reader", Settings::default(), factory)
    };
    let how = How {
        retrieval,
        ..How::default()
    };
    let kcl = KclWorker::start(&world, scenario, "kcl", how, &history).await;
    let producer = world.producer();

    send(&producer, &records[..2_000]).await;
    let seen = |count: usize| {
        let history = history.clone();
        move || history.payloads().len() >= count
    };
    kcl.wait_until("the first records", seen(2_000)).await;
    let pause = tokio::time::sleep(Duration::from_millis(200));
    let splitting = async {
        pause.await;
        split(&world, "shardId-000000000000", 1 << 125).await;
    };
    tokio::join!(send(&producer, &records[2_000..4_000]), splitting);
    kcl.wait_until("the records of the split", seen(4_000))
        .await;
    let pause = tokio::time::sleep(Duration::from_millis(200));
    let merging = async {
        pause.await;
        merge(&world, "shardId-000000000003", "shardId-000000000001").await;
    };
    tokio::join!(send(&producer, &records[4_000..6_000]), merging);
    kcl.wait_until("the records of the merge", seen(6_000))
        .await;
    let pause = tokio::time::sleep(Duration::from_millis(200));
    let scaling = async {
        pause.await;
        scale(&world, 4).await;
    };
    tokio::join!(send(&producer, &records[6_000..]), scaling);
    let ranges = ranges(&world, Reads::One).await;
    let closed = ranges.len() - world.stream.open_shards().await.len();
    assert!(closed > 5, "scaling closed shards too: {closed}");
    kcl.wait_until("all records", || {
        at_home(&history, &ranges).payloads().len() == records.len()
    })
    .await;
    kcl.wait_until("the parents to end", || ended(&history) == closed)
        .await;
    kcl.wait_until("our own reader", || {
        ended(&ours) == closed && ours.payloads().len() == records.len()
    })
    .await;
    kcl.stop().await;
    reader.stop().await.expect("an orderly end");

    history.assert_duplicates_were_not_checkpointed();
    history.assert_parents_first(&world.parents().await);
    assert_nothing_repeated(&history);
    assert_nothing_repeated(&ours);
    assert_same_places(&history, &ours, &ranges);
    let at_home = at_home(&history, &ranges);
    at_home.assert_nothing_lost(&records);
    at_home.assert_order_per_key();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kcl_reads_through_a_split_a_merge_and_a_new_shard_count_by_polling_and_by_fan_out() {
    let polling = read_through_reshards("polling", Retrieval::Polling);
    let fan_out = read_through_reshards("fanout", Retrieval::FanOut);
    tokio::join!(Box::pin(polling), Box::pin(fan_out));
}
