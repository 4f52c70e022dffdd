//! Workers that leave in order pass on what they had, whoever leads.

use super::*;
use crate::checkpoint::Checkpointer;
use crate::lease::held::HeldLease;
use crate::lease::item::Row;
use crate::lease::table::Outcome;
use crate::lease::write::Write;
use crate::processor::StopSignal;
use crate::stream::{Sources, Streams};

/// How long what a worker leaves may lie about.
const PASSED_ON: f64 = 3.0;

#[tokio::test(start_paused = true)]
async fn a_clean_stop_of_the_leader_or_of_another_hands_everything_over_within_three_seconds() {
    for leader_stops in [true, false] {
        let rig = Rig::new(8).await;
        let workers = pair(&rig).await;
        let (leader, other) = leader_first(&rig, workers).await;
        let (stops, stays) = if leader_stops {
            (leader, other)
        } else {
            (other, leader)
        };
        let start = Clock::system().now();
        stops.stop().await.expect("stops");
        until("all eight", &[&stays], || stays.count() == 8).await;
        let took = seconds_since(start);
        assert!(took < PASSED_ON, "leader {leader_stops}: {took}");
        let stats = rig.table().await.scan(true).await.expect("scans").stats;
        assert_eq!(stats.len(), 1, "who is gone has no metrics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_while_nobody_leads_passes_its_leases_on_itself() {
    let rig = Rig::new(9).await;
    let mut workers: Vec<_> = ["a", "b", "c"].map(|id| (id, rig.worker(id))).into();
    {
        let all: Vec<_> = workers.iter().map(|(_, worker)| worker).collect();
        until("three each", &all, || all.iter().all(|w| w.count() == 3)).await;
    }
    let table = rig.table().await;
    let leader = table.lock().await.expect("read").expect("a leader").owner;
    let at = workers.iter().position(|(id, _)| *id == leader);
    let (_, leads) = workers.remove(at.expect("one of them leads"));
    let [(_, stops), (_, stays)] = <[_; 2]>::try_from(workers).ok().expect("two are left");

    leads.stop().await.expect("stops");
    let lock = table.lock().await.expect("read");
    assert!(lock.is_none_or(|lock| lock.released), "nobody leads");
    let start = Clock::system().now();
    stops.stop().await.expect("stops");
    until("all nine", &[&stays], || stays.count() == 9).await;
    assert!(seconds_since(start) < PASSED_ON, "{}", seconds_since(start));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_passes_on_what_it_was_given_and_did_not_take() {
    let rig = Rig::new(4).await;
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 4).await;
    // It does not find what it is given.
    let blind = rig.faulty(|operation| match operation {
        "Query" => Fault::Drop,
        _ => Fault::None,
    });
    let b = rig.worker_with("b", blind, &Settings::default(), OnHandoff::Release);
    let given = async || {
        let rows = rig.table().await.scan(true).await.expect("scans").leases;
        let to_b = |lease: &&Lease| lease.owner.as_deref() == Some("b") && !lease.is_in_handoff();
        rows.iter().filter(to_b).count()
    };
    while given().await < 2 {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((a.count(), b.count()), (2, 0));
    let start = Clock::system().now();
    b.stop().await.expect("stops");
    until("all four again", &[&a], || a.count() == 4).await;
    assert!(seconds_since(start) < PASSED_ON, "{}", seconds_since(start));
}

/// Asks for a lease by a handoff, and waits until its holder knows.
async fn ask_for(rig: &Rig, held: &HeldLease, to: &str) {
    let ask = Write::start_handoff(&held.lease(), to).expect("it has an owner");
    let asked = rig.table().await.write(&ask).await.expect("answers");
    assert!(matches!(asked, Outcome::Done(_)));
    held.handoff_requested().cancelled().await;
}

/// `b`, asked for a lease of `a` by a handoff, which `a` may know of already, stops.
async fn stops_while_a_handoff_is_on_its_way(b_leads: bool, known_for: u64) -> f64 {
    let rig = Rig::new(2).await;
    let worker = |id| {
        // The test says when a lease is released.
        let (client, settings) = (rig.dynamodb.clone(), Settings::default());
        rig.worker_with(id, client, &settings, OnHandoff::Ignore)
    };
    // The first one leads, and loses a lease by force.
    let (first, second) = if b_leads { ("b", "a") } else { ("a", "b") };
    let first = worker(first);
    until("both", &[&first], || first.count() == 2).await;
    let second = worker(second);
    until("one each", &[&first, &second], || {
        first.count() == 1 && second.count() == 1
    })
    .await;
    let (a, b) = if b_leads {
        (second, first)
    } else {
        (first, second)
    };
    let shard = a.shards()[0];
    let row = rig.lease(shard).await;
    let ask = Write::start_handoff(&row, "b").expect("it has an owner");
    let asked = rig.table().await.write(&ask).await.expect("answers");
    assert!(matches!(asked, Outcome::Done(_)));
    if known_for > 0 {
        a.lease(shard).handoff_requested().cancelled().await;
        sleep(Duration::from_millis(known_for)).await;
    }
    let start = Clock::system().now();
    b.stop().await.expect("stops");
    if known_for > 0 && a.count() == 1 {
        a.lease(shard).release().await.expect("given up");
    }
    until("both", &[&a], || a.count() == 2).await;
    let took = seconds_since(start);
    assert!(!rig.lease(shard).await.is_in_handoff());
    // Nothing comes later that takes it away again.
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(a.count(), 2, "leads {b_leads}, known for {known_for}");
    }
    took
}

#[tokio::test(start_paused = true)]
async fn a_lease_on_its_way_to_a_worker_that_stops_does_not_wait_for_an_expiry() {
    for b_leads in [false, true] {
        for known_for in [0, 1, 700] {
            let took = stops_while_a_handoff_is_on_its_way(b_leads, known_for).await;
            assert!(
                took < PASSED_ON,
                "leads {b_leads}, known for {known_for}: {took}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpointer_that_a_processor_kept_does_not_keep_its_worker_from_the_lease() {
    let rig = Rig::new(1).await;
    let a = rig.worker_with(
        "a",
        rig.dynamodb.clone(),
        &Settings::default(),
        OnHandoff::Ignore,
    );
    until("the shard", &[&a], || a.count() == 1).await;
    let lease = a.lease(0);
    let kept = Checkpointer::of_lease(&lease, StopSignal::never());
    ask_for(&rig, &lease, "b").await;
    // As `b` does when it leaves.
    let withdraw = Write::withdraw(&rig.lease(0).await).expect("a handoff");
    let withdrawn = rig.table().await.write(&withdraw).await.expect("answers");
    assert!(matches!(withdrawn, Outcome::Done(_)));
    lease.release().await.expect("kept");

    // Whoever works on the shard is not done yet.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(a.count(), 0);
    drop(lease);
    let start = Clock::system().now();
    until("the shard again", &[&a], || a.count() == 1).await;
    assert!(seconds_since(start) < PASSED_ON, "{}", seconds_since(start));
    // It is of the tenure that is over.
    kept.deliver(at(5));
    let refused = kept.checkpoint_at(&at(5)).await.expect_err("not its lease");
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    assert_eq!(rig.lease(0).await.checkpoint, Position::TrimHorizon);
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_next_owner_withdrew_is_passed_on_when_its_holder_stops_too() {
    for leads in ["a", "b", "c"] {
        let rig = Rig::new(3).await;
        let worker = |id| {
            // The test says when a lease is released.
            let (client, settings) = (rig.dynamodb.clone(), Settings::default());
            rig.worker_with(id, client, &settings, OnHandoff::Ignore)
        };
        let first = worker(leads);
        until("all three", &[&first], || first.count() == 3).await;
        let mut workers = BTreeMap::from([(leads, first)]);
        for id in ["a", "b", "c"] {
            workers.entry(id).or_insert_with(|| worker(id));
        }
        {
            let all: Vec<_> = workers.values().collect();
            until("one each", &all, || all.iter().all(|w| w.count() == 1)).await;
        }
        let [a, b, c] = ["a", "b", "c"].map(|id| workers.remove(id).expect("started"));
        let shard = a.shards()[0];
        // As whoever works on the shard, which ends a little later than the lease.
        let handle = a.lease(shard);
        ask_for(&rig, &handle, "b").await;
        b.stop().await.expect("stops");
        assert!(!handle.lost().is_cancelled(), "{leads}: not yet given up");
        let start = Clock::system().now();
        a.stop().await.expect("stops");
        until("all three", &[&c], || c.count() == 3).await;
        let took = seconds_since(start);
        assert!(took < PASSED_ON, "{leads}: {took}");
        drop(handle);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_next_owner_withdrew_is_free_once_its_stream_is_not_listed() {
    let rig = Rig::new(1).await;
    let listed = create_streams(&rig, ["one".to_owned()]).await;
    let streams = Streams::new(listed.clone()).expect("valid");
    let a = rig.worker_of(
        "a",
        Sources::Many(streams.clone()),
        rig.dynamodb.clone(),
        &Settings::default(),
        OnHandoff::Ignore,
    );
    until("the stream", &[&a], || a.count() == 1).await;
    let key = a.keys().remove(0);
    let handle = a.lease_of(&key);
    ask_for(&rig, &handle, "b").await;
    // As `b` does when it leaves.
    let table = rig.table().await;
    let Ok(Some(Row::Lease(row))) = table.get(&key).await else {
        panic!("there is a lease");
    };
    let withdraw = Write::withdraw(&row).expect("a handoff");
    let withdrawn = table.write(&withdraw).await.expect("answers");
    assert!(matches!(withdrawn, Outcome::Done(_)));

    assert!(streams.remove("one"));
    until("it is let go", &[&a], || a.count() == 0).await;
    sleep(Duration::from_millis(100)).await;
    let Ok(Some(Row::Lease(row))) = table.get(&key).await else {
        panic!("there is a lease");
    };
    assert_eq!(row.owner, None);
    let start = Clock::system().now();
    a.stop().await.expect("stops");
    let next = rig.worker_of_streams("next", &Streams::new(listed).expect("valid"));
    until("it is taken", &[&next], || next.count() == 1).await;
    assert!(seconds_since(start) < PASSED_ON, "{}", seconds_since(start));
    drop(handle);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_handed_over_to_a_worker_that_is_gone_is_given_to_another_at_once() {
    let rig = Rig::new(8).await;
    let (leads, other) = leader_first(&rig, pair(&rig).await).await;
    let c = rig.worker("c");
    until("three at most", &[&leads, &other, &c], || {
        c.count() == 2 && leads.count() == 3 && other.count() == 3
    })
    .await;
    c.stop().await.expect("stops");
    until("four each", &[&leads, &other], || {
        leads.count() == 4 && other.count() == 4
    })
    .await;
    // The leader had not seen that when it asked for one more.
    let shard = other.shards()[0];
    let row = rig.lease(shard).await;
    let ask = Write::start_handoff(&row, "c").expect("it has an owner");
    drop(rig.table().await.write(&ask).await.expect("answers"));
    until("it is handed over", &[&leads, &other], || {
        leads.count() + other.count() == 7
    })
    .await;
    let start = Clock::system().now();
    until("it is taken", &[&leads, &other], || {
        leads.count() + other.count() == 8
    })
    .await;
    assert!(seconds_since(start) < PASSED_ON, "{}", seconds_since(start));
}

#[tokio::test(start_paused = true)]
async fn the_last_worker_leaves_nothing_to_a_worker_that_goes_too() {
    let rig = Rig::new(8).await;
    let (a, b) = pair(&rig).await;
    let (a, b) = tokio::join!(a.stop(), b.stop());
    a.and(b).expect("both stop");
    let start = Clock::system().now();
    let next = rig.worker("next");
    until("all", &[&next], || next.count() == 8).await;
    assert!(seconds_since(start) < PASSED_ON, "{}", seconds_since(start));
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_scans_hang_leaves_in_time() {
    let rig = Rig::new(4).await;
    let hang = Arc::new(AtomicBool::new(false));
    let hangs = Arc::clone(&hang);
    let client = rig.faulty(move |operation| match operation {
        "Scan" if hangs.load(Ordering::SeqCst) => Fault::Hang,
        _ => Fault::None,
    });
    let a = rig.worker_with("a", client, &Settings::default(), OnHandoff::Release);
    until("all", &[&a], || a.count() == 4).await;
    hang.store(true, Ordering::SeqCst);
    let start = Clock::system().now();
    a.stop().await.expect("stops");
    assert!(seconds_since(start) < 5.0, "{}", seconds_since(start));
    let lock = rig.table().await.lock().await.expect("read");
    assert!(lock.is_none_or(|lock| lock.released), "given back");
    for shard in 0..4 {
        assert_eq!(rig.lease(shard).await.owner, None);
    }
}
