//! The stream is split and merged while the KCL and our consumer share it, under a leader of either kind.

use std::collections::BTreeSet;

use kinesis_core::ShardId;
use tests::world::APPLICATION;

use crate::fleet::{Fleet, SHARDS, assert_given, lease_table};
use crate::rows::text;
use crate::worker::{How, KclWorker, Retrieval};
use crate::{merge, split};

/// The shards that are closed each time: two that are merged, and one more of each worker.
const CLOSED: usize = 4;

/// An open shard.
#[derive(Clone)]
struct Open {
    id: String,
    /// The hash key in its middle.
    middle: u128,
    /// Whose lease it is.
    owner: String,
}

/// The open shards in the order of their hash keys; none while a lease is nobody's.
async fn open(fleet: &Fleet) -> Vec<Open> {
    let rows = fleet.rows(&lease_table()).await;
    let mut shards = fleet.world.stream.open_shards().await;
    let bound = |text: &str| text.parse::<u128>().expect("decimal");
    let range = |shard: &aws_sdk_kinesis::types::Shard| {
        let range = shard.hash_key_range().expect("a shard has a range");
        let (from, to) = (range.starting_hash_key(), range.ending_hash_key());
        (bound(from), bound(to))
    };
    shards.sort_by_key(range);
    let open = shards.iter().map(|shard| {
        let (from, to) = range(shard);
        Some(Open {
            id: shard.shard_id().to_owned(),
            middle: from + (to - from) / 2,
            owner: text(rows.get(shard.shard_id())?, "leaseOwner")?.to_owned(),
        })
    });
    open.collect::<Option<_>>().unwrap_or_default()
}

/// Two neighbours of different workers, and one more shard of each; nothing while they do not have as many.
fn choose(mut open: Vec<Open>) -> Option<([Open; 2], [Open; 2])> {
    let at = open
        .windows(2)
        .position(|pair| pair[0].owner != pair[1].owner)?;
    let (left, right) = (open.remove(at), open.remove(at));
    let more = |of: &Open| open.iter().find(|shard| shard.owner == of.owner).cloned();
    let split = [more(&left)?, more(&right)?];
    Some(([left, right], split))
}

/// Merges two shards of different workers and splits one more of each, and tells what was closed.
async fn reshard(fleet: &Fleet) -> BTreeSet<ShardId> {
    let mut chosen = None;
    let both_have_two = async || {
        chosen = choose(open(fleet).await);
        chosen.is_some()
    };
    fleet.until("both to have two leases", both_have_two).await;
    let (merged, split_up) = chosen.expect("it was waited for");
    merge(&fleet.world, &merged[0].id, &merged[1].id).await;
    for shard in &split_up {
        split(&fleet.world, &shard.id, shard.middle).await;
    }
    let closed = merged.iter().chain(&split_up);
    closed
        .map(|shard| ShardId::from(shard.id.as_str()))
        .collect()
}

/// Reshards, and waits until both workers read from what came of it, and nothing is left of the leases
/// of the shards that were closed.
async fn reshard_under(fleet: &Fleet, leader: &str, workers: [&str; 2]) {
    assert_eq!(fleet.leader().await, leader);
    let before: BTreeSet<_> = fleet.world.parents().await.into_keys().collect();
    let closed = reshard(fleet).await;
    let all: BTreeSet<_> = fleet.world.parents().await.into_keys().collect();
    let new = all.difference(&before).cloned().collect();
    for worker in workers {
        fleet.until_read_any(worker, &new).await;
    }
    let table = lease_table();
    let gone = async || {
        let rows = fleet.rows(&table).await;
        closed
            .iter()
            .all(|shard| !rows.contains_key(shard.as_str()))
    };
    let what = format!("the leases of {closed:?} to be cleaned up under {leader}");
    fleet.until(&what, gone).await;
    assert_eq!(fleet.leader().await, leader);
}

/// The leases that the KCL has cleaned up, by what it says.
fn cleaned_up_by(kcl: &KclWorker) -> usize {
    kcl.log().matches("Deleting lease").count()
}

async fn reshard_under_either_leader(scenario: &'static str, retrieval: Retrieval) -> Fleet {
    let mut fleet = Fleet::start(scenario, retrieval).await;
    let ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    let tidy = How {
        tidy: true,
        ..How::default()
    };
    let kcl = fleet.kcl_with("kcl", tidy).await;
    fleet.until_read("kcl", SHARDS / 2).await;
    fleet.until_read("ours", SHARDS / 2).await;
    reshard_under(&fleet, "ours", ["ours", "kcl"]).await;
    // Besides the leader, a KCL does so for shards whose end it has seen itself: half of them.
    let by_kcl = cleaned_up_by(&kcl);
    assert!(by_kcl <= CLOSED / 2, "the KCL cleaned up {by_kcl}");

    // We leave: the KCL leads, and reads from all shards. One of ours that comes is given a share of them.
    ours.stop().await.expect("an orderly end");
    fleet.until_read("kcl", SHARDS + 1).await;
    fleet.until_leads(&lease_table(), "kcl").await;
    let mut ours = fleet.ours("ours-again");
    fleet.until_read("ours-again", 2).await;
    assert_given(&mut ours);
    reshard_under(&fleet, "kcl", ["ours-again", "kcl"]).await;
    let by_kcl = cleaned_up_by(&kcl) - by_kcl;
    assert!(by_kcl >= CLOSED, "the KCL cleaned up only {by_kcl}");

    fleet.finish().await;
    kcl.stop().await;
    ours.stop().await.expect("an orderly end");
    fleet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_of_a_shared_stream_come_after_their_parents_by_polling_and_by_fan_out_as_one_consumer()
 {
    let polling = reshard_under_either_leader("resharding", Retrieval::Polling);
    let fan_out = reshard_under_either_leader("resharding-fanout", Retrieval::FanOut);
    let (polling, fan_out) = tokio::join!(Box::pin(polling), Box::pin(fan_out));
    assert_eq!(polling.consumers().await, [""; 0]);
    assert_eq!(fan_out.consumers().await, [APPLICATION], "one for both");
}
