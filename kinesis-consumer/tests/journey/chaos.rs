//! Workers that come, go, crash and misbehave while shards are split and merged: seeded, and the
//! same promises at the end of every run.

use std::collections::BTreeSet;
use std::time::Duration;

use kinesis_consumer::Settings;
use kinesis_core::{Aggregate, HashKey, Rand, UserRecord};

use crate::world::{Behaviour, STREAM, Worker, World};

/// Runs per test; each takes well under a second of real time.
const SEEDS: std::ops::Range<u64> = 0..12;
const STEPS: usize = 40;
const KEYS: u64 = 11;
const WORKERS_MAX: usize = 3;

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_workers_and_shards_nothing_is_lost_and_keys_stay_in_order() {
    for seed in SEEDS {
        println!("seed {seed}");
        Chaos::new(seed).await.run().await;
    }
}

struct Chaos {
    world: World,
    rand: Rand,
    workers: Vec<Worker>,
    started: usize,
    put: usize,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        Self {
            world: World::new(2).await,
            rand: Rand::seeded(seed),
            workers: Vec::new(),
            started: 0,
            put: 0,
        }
    }

    async fn run(mut self) {
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
            let texts: BTreeSet<String> = self.world.ledger.texts().into_iter().collect();
            texts.len() == all
        })
        .await;
        for worker in self.workers.drain(..) {
            worker.stop().await.expect("a clean stop");
        }
        self.world.ledger.assert_each_at_least_once(0..all);
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
            ..Settings::default()
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

    /// Open shards as (id, first key, last key), in order of their keys.
    async fn open_shards(&self) -> Vec<(String, HashKey, HashKey)> {
        let answer = self
            .world
            .kinesis
            .list_shards()
            .stream_name(STREAM)
            .send()
            .await;
        let shards = answer.expect("listed").shards.unwrap_or_default();
        let mut open: Vec<_> = shards
            .into_iter()
            .filter_map(|shard| {
                let ended = shard
                    .sequence_number_range?
                    .ending_sequence_number
                    .is_some();
                let range = shard.hash_key_range?;
                let start = range.starting_hash_key.parse().expect("a hash key");
                let end = range.ending_hash_key.parse().expect("a hash key");
                (!ended).then_some((shard.shard_id, start, end))
            })
            .collect();
        open.sort_by_key(|(_, start, _)| *start);
        open
    }

    async fn split(&self) {
        let mut open = self.open_shards().await;
        let (shard_id, HashKey(start), HashKey(end)) =
            open.swap_remove(self.rand.below(open.len() as u64) as usize);
        let middle = HashKey(start + (end - start) / 2 + 1);
        let split = self
            .world
            .kinesis
            .split_shard()
            .stream_name(STREAM)
            .shard_to_split(shard_id);
        split
            .new_starting_hash_key(middle.to_string())
            .send()
            .await
            .expect("split");
        self.world.until_active().await;
    }

    async fn merge(&self) {
        let open = self.open_shards().await;
        if open.len() < 2 {
            return;
        }
        let at = self.rand.below(open.len() as u64 - 1) as usize;
        let merge = self.world.kinesis.merge_shards().stream_name(STREAM);
        let merge = merge.shard_to_merge(open[at].0.as_str());
        merge
            .adjacent_shard_to_merge(open[at + 1].0.as_str())
            .send()
            .await
            .expect("merged");
        self.world.until_active().await;
    }
}
