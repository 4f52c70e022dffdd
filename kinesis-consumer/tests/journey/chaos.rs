//! Workers that come, go, crash and misbehave while shards are split and merged: seeded, and the
//! same promises at the end of every run.

use std::time::Duration;

use kinesis_consumer::Settings;
use kinesis_core::{Aggregate, Rand, UserRecord};
use kinesis_local::{FaultEffect, FaultPlan};

use crate::fan_out::by_fan_out;
use crate::ledger::Behaviour;
use crate::world::{Worker, World, for_workers};

/// Runs per test, everyday and with the feature `slow`; each takes about a second in a debug build.
const SEEDS: std::ops::Range<u64> = if cfg!(feature = "slow") { 0..8 } else { 0..2 };
const STEPS: usize = 40;
const KEYS: u64 = 11;
const WORKERS_MAX: usize = 3;

/// On a bad network, one request of so many meets a fault.
const ONE_FAULT_IN: u64 = 15;

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_workers_and_shards_nothing_is_lost_and_keys_stay_in_order() {
    for seed in SEEDS {
        println!("seed {seed}");
        Chaos::new(seed).await.run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_bad_network_too_nothing_is_lost_and_keys_stay_in_order() {
    for seed in SEEDS {
        println!("seed {seed}");
        let chaos = Chaos::new(1000 + seed).await;
        chaos.world.faults(bad_network(seed));
        let hits = chaos.run().await;
        assert!(hits.iter().sum::<u64>() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn over_fan_out_on_a_bad_network_nothing_is_lost_and_keys_stay_in_order() {
    for seed in SEEDS {
        println!("seed {seed}");
        let mut chaos = Chaos::new(2000 + seed).await;
        chaos.settings = by_fan_out();
        chaos.world.faults(bad_network(seed));
        let hits = chaos.run().await;
        assert!(hits.iter().sum::<u64>() > 0);
    }
}

/// Calls of workers that do not arrive, lose their answers, are refused or late.
fn bad_network(seed: u64) -> FaultPlan {
    let throttled = FaultEffect::error("ProvisionedThroughputExceededException");
    let effects = [
        FaultEffect::DropRequest,
        FaultEffect::DropResponse,
        throttled,
        FaultEffect::latency_between_ms(0, 8000),
    ];
    let rate = 1.0 / (effects.len() as u64 * ONE_FAULT_IN) as f64;
    let rule = |effect| for_workers(effect).rate(rate);
    effects
        .into_iter()
        .map(rule)
        .fold(FaultPlan::seeded(seed), FaultPlan::rule)
}

struct Chaos {
    world: World,
    settings: Settings,
    rand: Rand,
    workers: Vec<Worker>,
    started: usize,
    put: usize,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        Self {
            world: World::new(2).await,
            settings: Settings::default(),
            rand: Rand::seeded(seed),
            workers: Vec::new(),
            started: 0,
            put: 0,
        }
    }

    /// How many calls met each fault on purpose.
    async fn run(mut self) -> Vec<u64> {
        for _ in 0..STEPS {
            match self.rand.below(12) {
                0..=3 => self.put_some().await,
                4 | 5 if self.workers.len() < WORKERS_MAX => self.start(true),
                6 => {
                    if let Some(worker) = self.take_worker() {
                        worker.stop().await.expect("a clean stop");
                    }
                }
                7 => {
                    if let Some(worker) = self.take_worker() {
                        worker.kill().await;
                    }
                }
                8 => self.split().await,
                9 => self.merge().await,
                _ => tokio::time::sleep(Duration::from_millis(self.rand.below(15_000))).await,
            }
        }
        // A processor that hangs keeps its shard for as long as its worker lives.
        while let Some(worker) = self.take_worker() {
            match self.rand.below(2) {
                0 => worker.kill().await,
                _ => worker.stop().await.expect("a clean stop"),
            }
        }
        self.start(false);
        let all = self.put;
        crate::world::until("all numbers are processed", async || {
            self.world.ledger.numbers() == all
        })
        .await;
        for worker in self.workers.drain(..) {
            worker.stop().await.expect("a clean stop");
        }
        self.world.ledger.assert_each_at_least_once(0..all);
        self.world.hits()
    }

    /// Numbers of random keys, alone or several of one key in an aggregate.
    async fn put_some(&mut self) {
        for _ in 0..=self.rand.below(8) {
            let key = format!("key-{}", self.rand.below(KEYS));
            let members = self.rand.below(4);
            if members == 0 {
                self.world.put(&key, self.put.to_string()).await;
                self.put += 1;
                continue;
            }
            let mut aggregate = Aggregate::new();
            for _ in 0..members {
                aggregate.push(UserRecord::new(key.as_str(), self.put.to_string()));
                self.put += 1;
            }
            self.world.put(&key, aggregate.encode()).await;
        }
    }

    /// A worker whose processors fail, panic and dawdle, or a sound one.
    fn start(&mut self, misbehaves: bool) {
        let name: &'static str = Box::leak(format!("worker-{}", self.started).into_boxed_str());
        self.started += 1;
        let settings = Settings {
            max_records: 1 + self.rand.below(6) as u32,
            ..self.settings.clone()
        };
        let rand = self.rand.fork();
        let worker = self
            .world
            .worker_with(name, settings, move |_| match rand.below(100) {
                0 if misbehaves => Behaviour::Fail,
                1 if misbehaves => Behaviour::Panic,
                2 if misbehaves => Behaviour::Hang,
                3 | 4 if misbehaves => Behaviour::Slow(Duration::from_millis(rand.below(20_000))),
                5..=14 => Behaviour::ProcessAndCheckpoint,
                _ => Behaviour::Process,
            });
        self.workers.push(worker);
    }

    fn take_worker(&mut self) -> Option<Worker> {
        if self.workers.is_empty() {
            return None;
        }
        let at = self.rand.below(self.workers.len() as u64) as usize;
        Some(self.workers.swap_remove(at))
    }

    async fn split(&self) {
        let open = self.world.stream.open_shards().await;
        let shard = &open[self.rand.below(open.len() as u64) as usize];
        self.world.stream.split(shard.shard_id()).await;
    }

    async fn merge(&self) {
        let open = self.world.stream.open_shards().await;
        if open.len() >= 2 {
            let at = self.rand.below(open.len() as u64 - 1) as usize;
            let (shard, adjacent) = (open[at].shard_id(), open[at + 1].shard_id());
            self.world.stream.merge(shard, adjacent).await;
        }
    }
}
