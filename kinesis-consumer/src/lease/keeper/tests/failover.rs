//! Workers and leaders that die, and handoffs whose parties do.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_leases_of_a_crashed_worker_are_given_to_others_after_the_failover_time() {
    let rig = Rig::new(8).await;
    let workers = pair(&rig).await;
    let (leader, other) = leader_first(&rig, workers).await;
    let lost = other.lease(other.shards()[0]);
    let start = Clock::system().now();
    other.crash();
    until("all eight", &[&leader], || leader.count() == 8).await;
    let took = seconds_since(start);
    assert!((6.0..14.0).contains(&took), "{took}");
    assert!(
        lost.lost().is_cancelled(),
        "a dropped keeper fences its handles"
    );
}

#[tokio::test(start_paused = true)]
async fn a_crashed_leader_is_replaced_and_its_leases_are_given_to_others() {
    let rig = Rig::new(8).await;
    let workers = pair(&rig).await;
    let (leader, other) = leader_first(&rig, workers).await;
    let start = Clock::system().now();
    leader.crash();
    until("all eight", &[&other], || other.count() == 8).await;
    let took = seconds_since(start);
    assert!((6.0..20.0).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn leases_are_recovered_even_while_the_lock_cannot_be_had() {
    let rig = Rig::new(4).await;
    let a = rig.worker("a");
    until("all", &[&a], || a.count() == 4).await;
    a.crash();
    // A leader of two minutes, long dead: nobody may replace it for a while.
    let table = rig.table().await;
    let held = table.lock().await.expect("read").expect("a lock");
    let claim = crate::lease::lock::Claim::Expired(held.version);
    let minutes = Duration::from_secs(120);
    let claimed = table.claim_lock(&claim, "java", "v", minutes).await;
    claimed.expect("claimed");
    let start = Clock::system().now();
    let b = rig.worker("b");
    until("all", &[&b], || b.count() == 4).await;
    assert!(seconds_since(start) < 65.0, "{}", seconds_since(start));
    assert_eq!(table.lock().await.expect("read").expect("it").owner, "java");
}

#[tokio::test(start_paused = true)]
async fn a_handoff_whose_old_owner_died_is_taken_after_the_failover_time() {
    let rig = Rig::new(2).await;
    let a = rig.worker_with(
        "a",
        rig.dynamodb.clone(),
        &Settings::default(),
        OnHandoff::Ignore,
    );
    until("both", &[&a], || a.count() == 2).await;
    let b = rig.worker("b");
    let asked = async || {
        (
            rig.lease(0).await.is_in_handoff(),
            rig.lease(1).await.is_in_handoff(),
        )
    };
    while asked().await == (false, false) {
        sleep(Duration::from_millis(100)).await;
    }
    let start = Clock::system().now();
    a.crash();
    until("both", &[&b], || b.count() == 2).await;
    // The old owner was the leader, too.
    assert!(seconds_since(start) < 20.0, "{}", seconds_since(start));
    for shard in 0..2 {
        assert_eq!(rig.lease(shard).await.checkpoint_owner, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handoff_that_the_old_owner_ignores_is_forced_after_it_fenced_itself() {
    let rig = Rig::new(2).await;
    let a = rig.worker_with(
        "a",
        rig.dynamodb.clone(),
        &Settings::default(),
        OnHandoff::Ignore,
    );
    until("both", &[&a], || a.count() == 2).await;
    let start = Clock::system().now();
    let b = rig.worker("b");
    until("one each", &[&a, &b], || a.count() == 1 && b.count() == 1).await;
    let took = seconds_since(start);
    assert!((30.0..55.0).contains(&took), "{took}");
    until("it stays so", &[&a, &b], || {
        a.count() == 1 && b.count() == 1
    })
    .await;
}
