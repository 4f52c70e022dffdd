//! What goes on while the services do not answer what a worker asks beside its leases.

use super::*;
use crate::stream::Streams;

/// Ten seconds until a row counts as expired, a look to find it so, and another for whoever is given it.
const FAILOVER_MAX: f64 = 15.0;

/// The same after a leader, which counts as dead after ten seconds, too.
const LEADER_FAILOVER_MAX: f64 = 30.0;

/// A switch that has nobody answer these operations.
#[derive(Clone)]
struct Outage {
    on: Arc<AtomicBool>,
    operations: &'static [&'static str],
}

impl Outage {
    fn of(operations: &'static [&'static str]) -> Self {
        let on = Arc::new(AtomicBool::new(false));
        Self { on, operations }
    }

    fn begin(&self) {
        self.on.store(true, Ordering::SeqCst);
    }

    fn end(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    fn fault(&self, operation: &str) -> Fault {
        if self.on.load(Ordering::SeqCst) && self.operations.contains(&operation) {
            Fault::Hang
        } else {
            Fault::None
        }
    }
}

/// A rig whose Kinesis answers no question about streams and shards during the outage.
async fn without_control_plane(shards: i32) -> (Rig, Outage) {
    let mut rig = Rig::new(shards).await;
    let outage = Outage::of(&["ListShards", "DescribeStreamSummary"]);
    let judge = outage.clone();
    rig.kinesis = rig.faulty_kinesis(move |operation| judge.fault(operation));
    (rig, outage)
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_twenty_streams_is_replaced_while_nobody_lists_their_shards() {
    let (rig, outage) = without_control_plane(1).await;
    let names = (0..20).map(|index| format!("stream-{index}"));
    let streams = Streams::new(create_streams(&rig, names).await).expect("valid");
    let workers = ["a", "b"].map(|id| rig.worker_of_streams(id, &streams));
    let [a, b] = workers;
    until("ten each", &[&a, &b], || a.count() == 10 && b.count() == 10).await;
    let (leader, other) = leader_first(&rig, (a, b)).await;
    outage.begin();
    let start = Clock::system().now();
    leader.crash();
    until("all twenty", &[&other], || other.count() == 20).await;
    let took = seconds_since(start);
    assert!(took < LEADER_FAILOVER_MAX, "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_is_replaced_while_streams_are_added_that_nobody_describes() {
    for leader_dies in [false, true] {
        let (rig, outage) = without_control_plane(1).await;
        let names = (0..4).map(|index| format!("stream-{index}"));
        let streams = Streams::new(create_streams(&rig, names).await).expect("valid");
        let more = create_streams(&rig, (4..7).map(|index| format!("stream-{index}"))).await;
        let workers = ["a", "b", "c"].map(|id| rig.worker_of_streams(id, &streams));
        let [a, b, c] = &workers;
        until("all four", &[a, b, c], || {
            let counts = workers.each_ref().map(Worker::count);
            counts.iter().sum::<usize>() == 4 && counts.iter().all(|count| *count > 0)
        })
        .await;
        let leader = rig.table().await.lock().await.expect("read");
        let leader = leader.expect("a leader").owner;
        let mut rest: Vec<_> = ["a", "b", "c"].into_iter().zip(workers).collect();
        let dies = rest
            .iter()
            .position(|(id, _)| (*id == leader) == leader_dies);
        let (_, dies) = rest.remove(dies.expect("one of them"));
        outage.begin();
        for stream in more {
            streams.add(stream).expect("added");
        }
        // In the middle of a look-up that nobody answers.
        sleep(Duration::from_secs(3)).await;
        let start = Clock::system().now();
        dies.crash();
        let (b, c) = (&rest[0].1, &rest[1].1);
        until("the four", &[b, c], || b.count() + c.count() == 4).await;
        let took = seconds_since(start);
        let most = if leader_dies {
            LEADER_FAILOVER_MAX
        } else {
            FAILOVER_MAX
        };
        assert!(took < most, "the leader {leader_dies}: {took}");
        outage.end();
        until("all seven", &[b, c], || b.count() + c.count() == 7).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_one_stream_is_replaced_while_nobody_lists_its_shards() {
    let (rig, outage) = without_control_plane(8).await;
    let (leader, other) = leader_first(&rig, pair(&rig).await).await;
    outage.begin();
    // A hole, which has the leader list the shards again and again.
    let gone = leader.shards()[0];
    let key = AttributeValue::S(ShardId::from_index(gone).to_string());
    let delete = rig.dynamodb.delete_item().key(item::LEASE_KEY, key);
    let delete = delete.table_name(crate::lease::tests::rig::TABLE);
    delete.send().await.expect("deleted");
    until("it is lost", &[&leader], || leader.count() == 3).await;
    sleep(Duration::from_secs(3)).await;
    let start = Clock::system().now();
    other.crash();
    until("seven", &[&leader], || leader.count() == 7).await;
    let took = seconds_since(start);
    assert!(took < FAILOVER_MAX, "{took}");
    outage.end();
    until("all eight", &[&leader], || leader.count() == 8).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_scans_are_not_answered_gives_the_lead_to_another() {
    let rig = Rig::new(6).await;
    let outage = Outage::of(&["Scan"]);
    let judge = outage.clone();
    let client = rig.faulty(move |operation| judge.fault(operation));
    let settings = Settings::default();
    let a = rig.worker_with("a", client, &settings, OnHandoff::Release);
    until("all", &[&a], || a.count() == 6).await;
    let (b, c) = (rig.worker("b"), rig.worker("c"));
    until("two each", &[&a, &b, &c], || {
        b.count() == 2 && c.count() == 2
    })
    .await;
    outage.begin();
    let start = Clock::system().now();
    c.crash();
    until("the leases of c", &[&a, &b], || a.count() + b.count() == 6).await;
    let took = seconds_since(start);
    // Three attempts of ten seconds, seven until another looks at the lock that was given back, and the next
    // leader has seen nothing yet of the leases.
    assert!(took < 55.0, "{took}");
    let leader = rig.table().await.lock().await.expect("read");
    assert_eq!(leader.expect("a leader").owner, "b");
}

#[test]
fn passes_that_fail_end_a_lead_by_their_number_or_their_time() {
    let start = Clock::system().now();
    let at = |second| start + Duration::from_secs(second);
    let failover = Duration::from_secs(10);
    let mut failing = Failing::default();
    let mut pass = |good, began, ended| failing.after(good, at(began), at(ended), failover);
    assert!(!pass(false, 0, 1));
    assert!(!pass(false, 2, 3));
    assert!(!pass(true, 4, 5), "all is well again");
    assert!(!pass(false, 6, 7));
    assert!(!pass(false, 8, 9));
    assert!(!pass(false, 10, 11), "the third, too soon");
    assert!(pass(false, 15, 16), "for ten seconds");
    assert!(!pass(false, 17, 18), "counted anew");
    assert!(!pass(false, 28, 29), "the second only");
    assert!(!pass(true, 30, 31));
    assert!(pass(false, 32, 52), "a single one, which took too long");
}

/// A row for a shard that was read to its end long ago, and whose child is that of shard 0.
fn finished(index: u64) -> item::Item {
    item::new_item(&Lease {
        children: [ShardId::from_index(0)].into(),
        ..Lease::new(ShardId::from_index(index), Position::ShardEnd)
    })
}

#[tokio::test(start_paused = true)]
async fn a_thousand_rows_of_finished_shards_are_deleted_while_workers_die_and_stop() {
    const ROWS: u64 = 1_000;
    let mut settings = Settings::default();
    settings.lease.lease_cleanup_interval = Duration::from_secs(20);
    for leader_stops in [false, true] {
        let rig = Rig::new(8).await;
        let deletes = Arc::new(AtomicU64::new(0));
        let worker = |id: &str| {
            let deletes = Arc::clone(&deletes);
            let client = rig.faulty(move |operation| {
                if operation != "DeleteItem" {
                    return Fault::None;
                }
                deletes.fetch_add(1, Ordering::SeqCst);
                // One after the other they would take 50 s.
                Fault::Late(Duration::from_millis(50))
            });
            rig.worker_with(id, client, &settings, OnHandoff::Release)
        };
        let workers = (worker("a"), worker("b"));
        let [a, b] = [&workers.0, &workers.1];
        until("four each", &[a, b], || a.count() == 4 && b.count() == 4).await;
        let first = if a.shards().contains(&0) { a } else { b };
        first.lease(0).checkpoint(&at(5)).await.expect("stored");
        let rows: Vec<_> = (1_000..1_000 + ROWS).map(finished).collect();
        rig.put_all(rows).await;
        let (leader, other) = leader_first(&rig, workers).await;
        until("rows go", &[&leader, &other], || {
            deletes.load(Ordering::SeqCst) > ROWS / 10
        })
        .await;
        assert!(deletes.load(Ordering::SeqCst) < ROWS / 2, "in the middle");
        let start = Clock::system().now();
        let (stays, most) = if leader_stops {
            leader.stop().await.expect("stops");
            (other, 3.0)
        } else {
            other.crash();
            (leader, FAILOVER_MAX)
        };
        until("all eight", &[&stays], || stays.count() == 8).await;
        let took = seconds_since(start);
        assert!(took < most, "the leader stops {leader_stops}: {took}");
        // Where it stopped, the next one goes on with what is left.
        sleep(settings.lease.lease_cleanup_interval * 2).await;
        let rows = rig.table().await.scan(true).await.expect("scans");
        assert_eq!(rows.leases.len(), 8, "the leader stops {leader_stops}");
    }
}
