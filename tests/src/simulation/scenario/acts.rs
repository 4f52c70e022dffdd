//! What may happen to a fleet, each act by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_kinesis::types::ScalingType;
use kinesis_core::Clock;

use super::Scenario;
use crate::simulation::log::Event;
use crate::simulation::network::{Cut, Doom, Network};
use crate::simulation::processor::{Graveyard, Processors};
use crate::simulation::worker::{Parts, Worker};

/// Most workers at a time. Source: none, small.
const WORKERS_MAX: usize = 4;

/// The most by which a worker's wall clock is wrong, either way, in milliseconds.
/// Source: none; a machine without NTP.
const SKEW_MILLIS_MAX: u64 = 90_000;

impl Scenario {
    /// Something happens.
    pub(super) async fn step(&mut self) {
        self.workers.retain(|worker| !worker.is_gone());
        match self.rand.below(19) {
            0..=3 if self.workers.len() < WORKERS_MAX => self.start_worker(true),
            4..=7 if self.nobody_goes => {}
            4 => {
                if let Some(worker) = self.any() {
                    worker.stop();
                }
            }
            5 | 6 => {
                if let Some(worker) = self.any() {
                    worker.network.kill();
                    self.crashed.push(Arc::clone(&worker.name));
                }
            }
            7 => {
                if let Some(leader) = self.leader() {
                    self.log.step("the leader is killed");
                    leader.network.kill();
                    self.crashed.push(Arc::clone(&leader.name));
                }
            }
            8..=10 => self.cut(),
            11 => self.split().await,
            12 => self.merge().await,
            13 => self.scale().await,
            14..=16 if !self.is_looked_after() => {}
            14 => self.operate(),
            15 => self.remove().await,
            16 if !self.nobody_goes => self.begin_anew().await,
            17 => self.change_streams(),
            _ => {}
        }
    }

    pub(super) fn any(&self) -> Option<&Worker> {
        if self.workers.is_empty() {
            return None;
        }
        let at = self.rand.below(self.workers.len() as u64) as usize;
        self.workers.get(at)
    }

    fn leader(&self) -> Option<&Worker> {
        let leads = self.log.with(|entries| {
            entries.iter().rev().find_map(|entry| match &entry.event {
                Event::Led { worker } => Some(worker.clone()),
                _ => None,
            })
        });
        self.workers
            .iter()
            .find(|worker| Some(&*worker.name) == leads.as_deref())
    }

    pub(super) fn start_worker(&mut self, in_trouble: bool) {
        self.started += 1;
        let again = self.rand.below(3) == 0;
        let name = match self.crashed.pop().filter(|_| again) {
            // A crashed worker may come back under its name, before its leases expire.
            Some(name) if self.workers.iter().all(|worker| worker.name != name) => name,
            _ => format!("w{}", self.started).into(),
        };
        let doomed = in_trouble && !self.nobody_goes && self.rand.below(3) == 0;
        let doom = doomed.then(|| Doom::AtCall {
            after_calls: self.rand.below(250),
            carried_out: self.rand.below(2) == 0,
        });
        self.start_named(name, doom, if in_trouble { self.fault_every } else { 0 });
    }

    /// Starts a worker that dies there, if it does, behind a network that fails so often.
    pub(super) fn start_named(&mut self, name: Arc<str>, doom: Option<Doom>, fault_every: u64) {
        let client = self.local.http_client();
        let rand = self.rand.fork();
        let network = Network::new(Arc::clone(&name), client, self.log.clone(), rand, doom);
        network.fault_every(fault_every);
        if !self.sound.load(Ordering::Relaxed) {
            network.late_every(self.late_every, self.more.fork());
        }
        let skew = self.rand.below(2 * SKEW_MILLIS_MAX);
        let now = self.clock.epoch_millis() + skew - SKEW_MILLIS_MAX;
        self.workers.push(Worker::start(Parts {
            local: self.local.clone(),
            network,
            streams: self.list(),
            settings: self.settings.clone(),
            processors: Processors {
                worker: name,
                many: self.sources.len() > 1,
                log: self.log.clone(),
                instances: Arc::clone(&self.instances),
                rand: self.rand.fork(),
                way: self.way.clone(),
                temper: self.temper,
                sound: Arc::clone(&self.sound),
                mended: Arc::clone(&self.mended),
            },
            graveyard: Graveyard {
                log: self.log.clone(),
                many: self.sources.len() > 1,
                rand: self.more.fork(),
                mood: self.mood,
                sound: Arc::clone(&self.sound),
            },
            clock: Clock::starting_at(now),
            rand: self.rand.fork(),
            log: self.log.clone(),
        }));
    }

    /// Cuts a worker off for a while: from everything, from one service alone, or, for longer, one
    /// operation alone.
    pub(super) fn cut(&self) {
        let Some(worker) = self.any() else { return };
        let one_of = |cuts: &[Cut]| cuts[self.rand.below(cuts.len() as u64) as usize];
        let (cut, seconds_max) = match self.rand.below(3) {
            0 => (Cut::Everything, 40),
            1 => (one_of(&Cut::SERVICES), 40),
            _ => (one_of(&Cut::OPERATIONS), 120),
        };
        let seconds = 1 + self.rand.below(seconds_max);
        let name = Arc::clone(&worker.name);
        self.log
            .step(format!("{name} is cut off from {cut} for {seconds} s"));
        let made = worker.network.cut(cut);
        let (network, log) = (worker.network.clone(), self.log.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            if network.lift(made) && !network.is_dead() {
                log.step(format!("{name} is let in to {cut} again"));
            }
        });
    }

    pub(super) async fn split(&self) {
        let source = self.any_source();
        let open = source.stream.open_shards().await;
        if open.len() < 6 {
            let shard = open[self.rand.below(open.len() as u64) as usize].shard_id();
            self.log.step(format!("{} is split", source.key(shard)));
            source.stream.split(shard).await;
        }
    }

    pub(super) async fn merge(&self) {
        let source = self.any_source();
        let open = source.stream.open_shards().await;
        if open.len() >= 2 {
            let at = self.rand.below(open.len() as u64 - 1) as usize;
            let (shard, next) = (open[at].shard_id(), open[at + 1].shard_id());
            let key = source.key(shard);
            self.log.step(format!("{key} and {next} are merged"));
            source.stream.merge(shard, next).await;
        }
    }

    async fn scale(&self) {
        let stream = &self.any_source().stream;
        let open = stream.open_shards().await.len();
        // Within what the service takes: half to double.
        let least = open.div_ceil(2);
        let target = (least + self.rand.below((2 * open - least) as u64 + 1) as usize).min(6);
        if target == open || target < least {
            return;
        }
        let name = stream.name();
        self.log
            .step(format!("{open} shards of {name} are made {target}"));
        let update = stream.client().update_shard_count();
        let update = update
            .stream_name(name)
            .target_shard_count(target as i32)
            .scaling_type(ScalingType::UniformScaling);
        update.send().await.expect("the shards are updated");
        stream.until_active().await;
    }
}
