//! The KCL and our consumer at the same time, as one application: whoever leads gives leases to both,
//! each hands over to the other, and takes over from it when it dies or stops.

use std::collections::BTreeMap;
use std::time::Duration;

use kinesis_local::testing::TestStream;
use tests::world::APPLICATION;

use crate::fleet::{
    Fleet, SHARDS, assert_given, assert_handed_over, assert_took_over, gains, lease_table,
};
use crate::rows::text;
use crate::streams::ARRIVALS;
use crate::worker::{How, Retrieval};

/// More than twice what a slow KCL takes from one renewal to the next.
const WATCHED_SECONDS: u32 = 45;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_both_kinds_share_a_stream_under_either_leader_whoever_dies() {
    let mut fleet = Fleet::start("mixed", Retrieval::Polling).await;

    // We lead: a KCL worker that comes is given its share by handoff from us.
    let mut ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    gains(&mut ours);
    let kcl = fleet.kcl("kcl").await;
    fleet.until_read("kcl", SHARDS / 2).await;
    fleet.until_read("ours", SHARDS / 2).await;
    assert_handed_over(&mut ours, "kcl", SHARDS / 2);
    assert_eq!(fleet.leader().await, "ours");

    // It dies: what it had expires, and we give it to ourselves.
    kcl.kill().await;
    fleet.until_read("ours", SHARDS).await;
    assert_took_over(&mut ours);
    fleet.until_leads(&lease_table(), "ours").await;

    // We die: the KCL leads, and takes over everything.
    let kcl = fleet.kcl("kcl-again").await;
    fleet.until_read("kcl-again", 1).await;
    assert_handed_over(&mut ours, "kcl-again", 1);
    ours.kill().await;
    fleet.until_read("kcl-again", SHARDS).await;
    fleet.until_leads(&lease_table(), "kcl-again").await;

    // The KCL leads: one of ours that comes is given a share by handoff from it.
    let mut ours = fleet.ours("ours-again");
    fleet.until_read("ours-again", 1).await;
    assert_given(&mut ours);
    assert_eq!(fleet.leader().await, "kcl-again");

    // It dies under the KCL, which takes over what it had.
    ours.kill().await;
    fleet.until_read("kcl-again", SHARDS).await;
    fleet.until_leads(&lease_table(), "kcl-again").await;

    // The KCL that leads dies: we lead, and take over everything.
    let mut ours = fleet.ours("ours-third");
    fleet.until_read("ours-third", 1).await;
    assert_given(&mut ours);
    kcl.kill().await;
    fleet.until_read("ours-third", SHARDS).await;
    assert_took_over(&mut ours);
    fleet.until_leads(&lease_table(), "ours-third").await;

    // We stop in order: the KCL leads. It stops in order: we lead. It gives nothing back then (a KCL
    // leaves its leases to expire), so we take them over as from one that died.
    let kcl = fleet.kcl("kcl-third").await;
    fleet.until_read("kcl-third", 1).await;
    assert_handed_over(&mut ours, "kcl-third", 1);
    ours.stop().await.expect("an orderly end");
    fleet.until_read("kcl-third", SHARDS).await;
    fleet.until_leads(&lease_table(), "kcl-third").await;
    let mut ours = fleet.ours("ours-fourth");
    fleet.until_read("ours-fourth", 1).await;
    assert_given(&mut ours);
    kcl.stop().await;
    fleet.until_read("ours-fourth", SHARDS).await;
    assert_took_over(&mut ours);
    fleet.until_leads(&lease_table(), "ours-fourth").await;

    fleet.finish().await;
    ours.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kcl_that_renews_once_in_twenty_seconds_keeps_its_leases_while_we_lead() {
    let mut fleet = Fleet::start("slow", Retrieval::Polling).await;
    let mut ours = fleet.ours_unaware("ours");
    fleet.until_read("ours", SHARDS).await;
    let slow = How {
        slow: true,
        ..How::default()
    };
    let kcl = fleet.kcl_with("kcl", slow).await;
    fleet.until_read("kcl", SHARDS / 2).await;
    // From now on its counters move by renewals alone.
    fleet.finish().await;
    fleet.until_leads(&lease_table(), "ours").await;
    gains(&mut ours);
    let owners = async || {
        let mut rows = fleet.rows(&lease_table()).await;
        rows.retain(|key, _| key.starts_with("shardId-"));
        let names = |row: &_| {
            let name = |attribute| text(row, attribute).map(str::to_owned);
            [name("leaseOwner"), name("checkpointOwner")]
        };
        let names = rows.iter().map(|(key, row)| (key.clone(), names(row)));
        names.collect::<BTreeMap<_, _>>()
    };
    let before = owners().await;
    let of_kcl = [Some("kcl".to_owned()), None];
    let its = before.values().filter(|owners| **owners == of_kcl).count();
    assert_eq!(its, SHARDS / 2, "{before:?}");
    for second in 0..WATCHED_SECONDS {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(owners().await, before, "after {second} s");
    }
    assert_eq!(gains(&mut ours), []);
    kcl.stop().await;
    ours.stop().await.expect("an orderly end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_share_two_streams_on_one_lease_table_by_fan_out() {
    let mut fleet = Fleet::of_two_streams("mixed-streams", Retrieval::FanOut).await;

    // We make the table and lead: a multi-stream KCL that comes is given its share by handoff from us.
    let mut ours = fleet.ours("ours");
    fleet.until_read("ours", SHARDS).await;
    let kcl = fleet.kcl("kcl").await;
    fleet.until_read("kcl", SHARDS / 2).await;
    fleet.until_read("ours", SHARDS / 2).await;
    assert_handed_over(&mut ours, "kcl", SHARDS / 2);
    assert_eq!(fleet.leader().await, "ours");

    // We stop in order: the KCL has all in place, and goes on through a split of its own.
    ours.stop().await.expect("an orderly end");
    fleet.until_leads(&lease_table(), "kcl").await;
    let arrivals = TestStream::named(&fleet.world.local, ARRIVALS);
    arrivals.split("shardId-000000000000").await;
    fleet.until_read("kcl", SHARDS + 1).await;

    // The KCL leads: one of ours that comes is given a share by handoff from it.
    let mut ours = fleet.ours("ours-again");
    fleet.until_read("ours-again", 2).await;
    assert_given(&mut ours);
    assert_eq!(fleet.leader().await, "kcl");

    // It dies: we lead, and take over everything.
    kcl.kill().await;
    fleet.until_read("ours-again", SHARDS + 1).await;
    assert_took_over(&mut ours);
    fleet.until_leads(&lease_table(), "ours-again").await;

    fleet.finish().await;
    ours.stop().await.expect("an orderly end");
    assert_eq!(
        fleet.consumers().await,
        [APPLICATION; 2],
        "one of each stream for both"
    );
}
