//! How fast a fleet recovers, and what it pays for it: each promise measured in virtual time, with
//! real workers on a stream in process. Run with `--nocapture` to see the figures, which
//! `BENCHMARKS.md` has beside those of the KCL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use kinesis_consumer::{
    Checkpointer, InitializeInput, ProcessRecordsInput, ProcessorError, RecordProcessor, Settings,
};
use kinesis_core::{Clock, Rand, ShardId, UserRecord};
use tests::history::{Event, History};
use tests::world::{APPLICATION, STREAM, wait_until};
use tests::{Worker, World};
use tokio::time::Instant;

/// When each worker got the first record of each shard since it was last asked to forget.
#[derive(Clone, Default)]
struct Firsts {
    seen: Arc<Mutex<BTreeMap<(String, ShardId), Instant>>>,
    pauses: Arc<Mutex<BTreeMap<ShardId, Pause>>>,
    history: History,
}

/// How long a shard was not read.
#[derive(Clone, Copy)]
struct Pause {
    read: Instant,
    longest: Duration,
}

impl Firsts {
    /// The longest time without a record for any shard, since that was asked last.
    fn longest_pause(&self) -> Duration {
        let now = Clock::system().now();
        let mut pauses = self.pauses.lock().expect("not poisoned");
        let longest = pauses.values_mut().map(|pause| {
            let longest = pause.longest.max(now.duration_since(pause.read));
            pause.longest = Duration::ZERO;
            longest
        });
        longest.max().expect("shards are read")
    }

    fn of(&self, worker: &str) -> BTreeMap<ShardId, Instant> {
        let seen = self.seen.lock().expect("not poisoned");
        let of_worker = seen.iter().filter(|((name, _), _)| name == worker);
        of_worker
            .map(|((_, shard), at)| (shard.clone(), *at))
            .collect()
    }

    fn shards(&self, worker: &str) -> usize {
        self.of(worker).len()
    }

    fn saw(&self, worker: &str, shard: &ShardId) {
        let key = (worker.to_owned(), shard.clone());
        let now = Clock::system().now();
        let mut seen = self.seen.lock().expect("not poisoned");
        seen.entry(key).or_insert(now);
        let mut pauses = self.pauses.lock().expect("not poisoned");
        let pause = pauses.entry(shard.clone()).or_insert(Pause {
            read: now,
            longest: Duration::ZERO,
        });
        pause.longest = pause.longest.max(now.duration_since(pause.read));
        pause.read = now;
    }

    fn forget(&self) {
        self.seen.lock().expect("not poisoned").clear();
    }

    fn worker(&self, world: &World, name: &str) -> Worker {
        let (firsts, worker) = (self.clone(), name.to_owned());
        world.worker_with(name, Settings::default(), move |shard: &ShardId| Reader {
            worker: worker.clone(),
            shard: shard.clone(),
            firsts: firsts.clone(),
        })
    }
}

struct Reader {
    worker: String,
    shard: ShardId,
    firsts: Firsts,
}

#[async_trait]
impl RecordProcessor for Reader {
    async fn initialize(&mut self, _: InitializeInput) -> Result<(), ProcessorError> {
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> Result<(), ProcessorError> {
        self.firsts.saw(&self.worker, &self.shard);
        for record in input.records.iter() {
            self.firsts.history.push(Event::Delivered {
                worker: self.worker.clone(),
                shard: self.shard.clone(),
                position: record.position(),
                payload: String::from_utf8_lossy(&record.data).into_owned(),
            });
        }
        Ok(input.checkpointer.checkpoint().await?)
    }

    async fn shard_ended(&mut self, checkpointer: Checkpointer) -> Result<(), ProcessorError> {
        Ok(checkpointer.checkpoint().await?)
    }

    async fn shutdown_requested(&mut self, last: Checkpointer) -> Result<(), ProcessorError> {
        Ok(last.checkpoint().await?)
    }
}

/// Ten records a second for each shard, until dropped.
fn trickle(world: &World, shards: usize) -> tokio::task::JoinHandle<()> {
    let producer = world.producer();
    let rand = Rand::seeded(5);
    tokio::spawn(async move {
        loop {
            for _ in 0..shards {
                // Payloads are told apart, to find what comes twice.
                let record = UserRecord::new(rand.uuid(), rand.uuid());
                // What is refused is not waited for; the next comes soon.
                drop(producer.enqueue(record).await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

async fn leader(world: &World) -> Option<String> {
    let get = world.dynamodb.get_item().table_name(APPLICATION);
    let key = AttributeValue::S("Leader".to_owned());
    let row = get.key("leaseKey", key).send().await.expect("read");
    let owner = row.item()?.get("ownerName")?.as_s().ok()?;
    Some(owner.clone())
}

/// Four workers that each read from two of eight shards, the leader first.
async fn four(world: &World, firsts: &Firsts) -> Vec<(&'static str, Worker)> {
    let names = ["a", "b", "c", "d"];
    let mut workers = Vec::new();
    for name in names {
        workers.push((name, firsts.worker(world, name)));
    }
    let settled = async || {
        firsts.forget();
        tokio::time::sleep(Duration::from_secs(20)).await;
        names.iter().all(|name| firsts.shards(name) == 2)
    };
    wait_until("two shards each", settled).await;
    let leader = leader(world).await.expect("a leader");
    workers.sort_by_key(|(name, _)| *name != leader);
    workers
}

fn longest(firsts: &Firsts, since: Instant, lost: &[ShardId], survivors: &[&str]) -> Duration {
    let first = |shard: &ShardId| {
        let of = |name: &&str| firsts.of(name).get(shard).copied();
        survivors.iter().filter_map(of).min()
    };
    let times = lost.iter().map(|shard| first(shard).expect("it is read"));
    let last = times.max().expect("it had shards");
    last.duration_since(since)
}

/// Moments at which a worker goes, everyday and with the feature `slow`; each takes three seconds in a debug
/// build.
const MOMENTS: u64 = if cfg!(feature = "slow") { 4 } else { 1 };

/// How long the shards of one of four workers are without a reader when it goes, for several moments
/// at which that happens.
async fn measure(of_leader: bool, clean: bool) -> (Duration, usize) {
    let mut worst = Duration::ZERO;
    let mut duplicates = 0;
    for moment in 0..MOMENTS {
        let world = World::start(8).await;
        let firsts = Firsts::default();
        let sending = trickle(&world, 8);
        let mut workers = four(&world, &firsts).await;
        tokio::time::sleep(Duration::from_millis(730 * moment)).await;
        let (name, goes) = workers.remove(if of_leader { 0 } else { 2 });
        let lost: Vec<ShardId> = firsts.of(name).into_keys().collect();
        firsts.forget();
        let since = Clock::system().now();
        if clean {
            goes.stop().await.expect("an orderly end");
        } else {
            goes.kill().await;
        }
        let survivors: Vec<_> = workers.iter().map(|(name, _)| *name).collect();
        wait_until("every shard to have a reader", async || {
            let read = |shard| {
                survivors
                    .iter()
                    .any(|name| firsts.of(name).contains_key(shard))
            };
            lost.iter().all(read)
        })
        .await;
        worst = worst.max(longest(&firsts, since, &lost, &survivors));
        sending.abort();
        for (_, worker) in workers {
            worker.stop().await.expect("an orderly end");
        }
        duplicates += firsts.history.duplicates();
    }
    (worst, duplicates)
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_dead_worker_are_read_again_within_15_seconds() {
    let (took, _) = measure(false, false).await;
    println!("worker failover: {took:?} until the last shard is read (KCL 3.5: 20 to 50 s)");
    assert!(took <= Duration::from_secs(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_dead_leader_are_read_again_within_30_seconds() {
    let (took, _) = measure(true, false).await;
    println!("leader failover: {took:?} until the last shard is read (KCL 3.5: 150 to 200 s)");
    assert!(took <= Duration::from_secs(30), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_shards_of_a_worker_that_stops_are_read_within_3_seconds_and_nothing_comes_twice() {
    for of_leader in [false, true] {
        let (took, duplicates) = measure(of_leader, true).await;
        let who = if of_leader { "the leader" } else { "a worker" };
        println!(
            "clean stop of {who}: {took:?} until the last shard is read (KCL 3.5: as a crash)"
        );
        assert!(took <= Duration::from_secs(3), "{who}: {took:?}");
        assert_eq!(duplicates, 0, "{who}");
    }
}

/// Whether a handoff to this worker is under way.
async fn is_asked_for(world: &World, to: &str) -> bool {
    let scan = world.dynamodb.scan().table_name(APPLICATION);
    let rows = scan.consistent_read(true).send().await.expect("scans");
    let owner = AttributeValue::S(to.to_owned());
    rows.items()
        .iter()
        .any(|row| row.get("leaseOwner") == Some(&owner) && row.get("checkpointOwner").is_some())
}

#[tokio::test(start_paused = true)]
async fn a_shard_on_its_way_to_a_worker_that_stops_is_read_again_within_3_seconds() {
    // The old owner hears of the handoff within four seconds, and hands over.
    for moment in 0..MOMENTS {
        let world = World::start(8).await;
        let firsts = Firsts::default();
        let sending = trickle(&world, 8);
        let workers = four(&world, &firsts).await;
        let comes = firsts.worker(&world, "e");
        while !is_asked_for(&world, "e").await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tokio::time::sleep(Duration::from_millis(4_000 * moment / MOMENTS)).await;
        firsts.longest_pause();
        comes.stop().await.expect("an orderly end");
        tokio::time::sleep(Duration::from_secs(20)).await;
        let longest = firsts.longest_pause();
        println!("stop of who is to get a shard, moment {moment}: a pause of {longest:?} at most");
        assert!(longest <= Duration::from_secs(3), "{moment}: {longest:?}");
        sending.abort();
        for (_, worker) in workers {
            worker.stop().await.expect("an orderly end");
        }
        assert_eq!(firsts.history.duplicates(), 0, "{moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_record_of_a_table_of_100_shards_comes_within_5_seconds() {
    let world = World::start(100).await;
    let firsts = Firsts::default();
    let sending = trickle(&world, 100);
    let before = firsts.worker(&world, "before");
    wait_until("all shards", async || firsts.shards("before") == 100).await;
    before.stop().await.expect("an orderly end");
    let since = Clock::system().now();
    let after = firsts.worker(&world, "after");
    wait_until("all shards", async || firsts.shards("after") == 100).await;
    let of_after = firsts.of("after");
    let first = of_after.values().min().expect("some").duration_since(since);
    let last = of_after.values().max().expect("some").duration_since(since);
    println!(
        "start on a table of 100 shards: first record after {first:?}, of every shard after {last:?} (KCL 3.5: 60 to 90 s)"
    );
    assert!(last <= Duration::from_secs(5), "{first:?}, {last:?}");
    sending.abort();
    after.stop().await.expect("an orderly end");
}

async fn counter(world: &World) -> u64 {
    let get = world.dynamodb.get_item().table_name(APPLICATION);
    let key = AttributeValue::S("shardId-000000000000".to_owned());
    let row = get.key("leaseKey", key).send().await.expect("read");
    let counter = row.item().and_then(|row| row.get("leaseCounter"));
    let counter = counter.and_then(|counter| counter.as_n().ok());
    counter.expect("a lease").parse().expect("a number")
}

/// The KCL renews every 3,308 ms whatever else it writes.
const KCL_RENEWAL: Duration = Duration::from_millis(3_308);

#[tokio::test(start_paused = true)]
async fn a_checkpoint_every_three_seconds_saves_a_third_of_the_writes() {
    let world = World::start(1).await;
    let firsts = Firsts::default();
    let worker = firsts.worker(&world, "a");
    let put = async |number: u64| {
        let put = world.kinesis.put_record().stream_name(STREAM);
        let data = aws_sdk_kinesis::primitives::Blob::new(number.to_string());
        let put = put.partition_key("key").data(data).send();
        put.await.expect("put");
    };
    put(0).await;
    wait_until("the shard", async || firsts.shards("a") == 1).await;
    let before = counter(&world).await;
    let begun = Clock::system().now();
    for number in 1..=200 {
        put(number).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let passed = Clock::system().now().duration_since(begun);
    let writes = counter(&world).await - before;
    let of_kcl = 200.0 + passed.as_secs_f64() / KCL_RENEWAL.as_secs_f64();
    let saved = 1.0 - writes as f64 / of_kcl;
    println!(
        "writes of a lease checkpointed every 3 s for {passed:?}: {writes}, of the KCL {of_kcl:.0}: {:.0} % fewer",
        saved * 100.0
    );
    assert!(saved >= 0.3, "{saved}");
    worker.stop().await.expect("an orderly end");
}
