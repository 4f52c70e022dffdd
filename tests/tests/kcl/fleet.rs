//! Workers of the KCL and ours as one application, the flights that are sent meanwhile, and how to tell
//! who has what.
//!
//! What is told apart: a lease that was handed over (`checkpointOwner` names who had it until that one is
//! done; our worker tells of it as [`Gain::Handoff`] or [`EventKind::HandoffRequested`]), and one that was
//! taken because its owner gave no sign of life. Who leads is read off the lock.

use std::collections::BTreeSet;
use std::time::Duration;

use kinesis_consumer::admin::LeaseAdmin;
use kinesis_consumer::{
    ConsumerBuilder, EventKind, FanOutSettings, Gain, LeaseSettings, Settings, StreamId,
    WorkerMetric,
};
use kinesis_core::{Clock, ShardId};
use kinesis_local::testing::TestStream;
use tests::history::{Event, History, endless_flights, flights};
use tests::world::{APPLICATION, wait_until};
use tests::{Worker, World};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::reading::{Ranges, at_home};
use crate::rows::{Item, Rows, text};
use crate::streams::{Reads, identifiers, of_stream, parents, producer, ranges};
use crate::worker::{How, KclWorker, PATIENCE, Retrieval};

pub(super) const SHARDS: usize = 4;

/// As the KCL's workers have it here.
const FAILOVER_TIME: Duration = Duration::from_secs(3);

/// Flights that are sent at once: every shard always has some. Source: none.
const BATCH: usize = 32;

/// The pause behind them, so that a test reads soon what is left at its end. Source: none.
const PAUSE: Duration = Duration::from_millis(100);

/// How a lease comes that its owner gives up for another: a KCL leaves no mark of its own on the row, so
/// that it was handed over, not only assigned, shows if one of ours had it before. Neither is an expiry.
const GIVEN: [Gain; 2] = [Gain::Handoff, Gain::Assigned];

/// In step with how the KCL worker is set up; workers of one application agree on it.
fn hurried(retrieval: Retrieval) -> Settings {
    Settings {
        lease: LeaseSettings {
            failover_time: FAILOVER_TIME,
            kcl_failover_time: FAILOVER_TIME,
            lease_assignment_interval: Duration::from_secs(1),
            lease_cleanup_interval: Duration::from_secs(2),
            leader_lock_duration: Duration::from_secs(6),
            worker_metrics_interval: Duration::from_secs(5),
            // The KCL finds no metrics of this machine either: both are weighed by throughput.
            disable_worker_metrics: true,
            ..LeaseSettings::default()
        },
        retrieval: match retrieval {
            Retrieval::Polling => kinesis_consumer::Retrieval::default(),
            // By the consumer that has the application's name, as the KCL does.
            Retrieval::FanOut => kinesis_consumer::Retrieval::FanOut(FanOutSettings::default()),
        },
        ..Settings::default()
    }
}

/// A table and its key attribute.
pub(super) type Place = (String, &'static str);

pub(super) fn lease_table() -> Place {
    (APPLICATION.to_owned(), "leaseKey")
}

/// Where the KCL 3.0 to 3.4 keep lock and states.
pub(super) fn coordinator_table() -> Place {
    (format!("{APPLICATION}-CoordinatorState"), "key")
}

/// Where the KCL 3.0 to 3.4 keep worker metrics.
pub(super) fn metrics_table() -> Place {
    (format!("{APPLICATION}-WorkerMetricStats"), "wid")
}

pub(super) struct Fleet {
    pub(super) world: World,
    pub(super) history: History,
    scenario: &'static str,
    retrieval: Retrieval,
    /// What the lease table is called, if not as the application.
    table: Option<&'static str>,
    reads: Reads,
    no_more: CancellationToken,
    sending: JoinHandle<usize>,
}

impl Fleet {
    /// A stream on which flights are sent from now on.
    pub(super) async fn start(scenario: &'static str, retrieval: Retrieval) -> Self {
        Self::on(scenario, retrieval, Reads::One).await
    }

    /// The same on two streams, which have the shards between them.
    pub(super) async fn of_two_streams(scenario: &'static str, retrieval: Retrieval) -> Self {
        Self::on(scenario, retrieval, Reads::Two).await
    }

    async fn on(scenario: &'static str, retrieval: Retrieval, reads: Reads) -> Self {
        let streams = reads.streams();
        let shards = (SHARDS / streams.len()) as i32;
        let world = World::listening(shards).await;
        for more in &streams[1..] {
            TestStream::create(&world.local, more, shards).await;
        }
        let producers = streams.iter().map(|stream| {
            let flights = endless_flights().map(|record| of_stream(stream, record));
            (producer(&world, stream), flights)
        });
        let mut producers: Vec<_> = producers.collect();
        let no_more = CancellationToken::new();
        let stop = no_more.clone();
        let sending = tokio::spawn(async move {
            let mut sent = 0;
            while !stop.is_cancelled() {
                let mut deliveries = Vec::new();
                for (producer, flights) in &mut producers {
                    for record in flights.by_ref().take(BATCH) {
                        deliveries.push(producer.enqueue(record).await.expect("accepted"));
                    }
                }
                for delivery in deliveries {
                    delivery.await.expect("delivered");
                }
                sent += BATCH;
                tokio::time::sleep(PAUSE).await;
            }
            sent
        });
        Self {
            world,
            history: History::default(),
            scenario,
            retrieval,
            table: None,
            reads,
            no_more,
            sending,
        }
    }

    /// The same with a lease table that is called otherwise than the application.
    pub(super) fn on_table(self, table: &'static str) -> Self {
        Self {
            table: Some(table),
            ..self
        }
    }

    /// Where the leases lie.
    pub(super) fn leases(&self) -> Place {
        let (application, key) = lease_table();
        (self.table.map_or(application, str::to_owned), key)
    }

    /// How ours are set up.
    fn settings(&self) -> Settings {
        let mut settings = hurried(self.retrieval);
        settings.lease.table.name = self.table.map(str::to_owned);
        settings
    }

    pub(super) fn ours(&self, name: &'static str) -> Worker {
        Worker::start(self.our_builder(name, self.settings()))
    }

    fn our_builder(&self, name: &'static str, settings: Settings) -> ConsumerBuilder {
        let history = self.history.clone();
        let make = move |stream: Option<&StreamId>, _: &ShardId| history.processor_of(stream, name);
        self.reads
            .ours(&self.world, APPLICATION, name, settings, make)
    }

    /// One of ours that does not know how seldom a KCL renews.
    pub(super) fn ours_unaware(&self, name: &'static str) -> Worker {
        let mut settings = self.settings();
        settings.lease.kcl_failover_time = LeaseSettings::default().kcl_failover_time;
        Worker::start(self.our_builder(name, settings))
    }

    /// One of ours that tells how busy it is by `metric`, in the place of nothing.
    pub(super) fn ours_measured(
        &self,
        name: &'static str,
        metric: impl WorkerMetric + 'static,
    ) -> Worker {
        let mut settings = self.settings();
        settings.lease.disable_worker_metrics = false;
        let worker = self.our_builder(name, settings);
        Worker::start(worker.worker_metrics(vec![Box::new(metric)]))
    }

    /// What an operator has for the fleet.
    pub(super) fn admin(&self) -> LeaseAdmin {
        let (kinesis, dynamodb) = (self.world.kinesis.clone(), self.world.dynamodb.clone());
        LeaseAdmin::new(APPLICATION, kinesis, dynamodb)
            .failover_time(FAILOVER_TIME)
            .kcl_failover_time(FAILOVER_TIME)
    }

    /// A worker of the newest KCL.
    pub(super) async fn kcl(&self, name: &str) -> KclWorker {
        self.kcl_with(name, How::default()).await
    }

    /// A worker of the KCL that reads as the fleet does.
    pub(super) async fn kcl_with(&self, name: &str, how: How) -> KclWorker {
        let how = How {
            retrieval: self.retrieval,
            table: self.table,
            reads: self.reads,
            ..how
        };
        KclWorker::start(&self.world, self.scenario, name, how, &self.history).await
    }

    /// The shards that `worker` got records of, since the first `before` events.
    pub(super) fn read_by(&self, worker: &str, before: usize) -> BTreeSet<ShardId> {
        let events = self.history.events();
        let read = events[before..].iter().filter_map(|event| match event {
            Event::Delivered {
                worker: by, shard, ..
            } if by == worker => Some(shard.clone()),
            _ => None,
        });
        read.collect()
    }

    pub(super) async fn until(&self, what: &str, done: impl AsyncFnMut() -> bool) {
        let (scenario, clock) = (self.scenario, Clock::system());
        let from = clock.now();
        let waited = tokio::time::timeout(PATIENCE, wait_until(what, done)).await;
        let waited_for = clock.now().duration_since(from);
        println!("{scenario}: waited {waited_for:.1?} for {what}");
        assert!(waited.is_ok(), "{scenario}: in vain");
    }

    /// Waits until `worker` reads from `shards` shards.
    pub(super) async fn until_read(&self, worker: &str, shards: usize) {
        let before = self.history.events().len();
        let what = format!("{worker} to read from {shards} shards");
        let read = async || self.read_by(worker, before).len() >= shards;
        self.until(&what, read).await;
    }

    /// Waits until `worker` reads from one of `shards`.
    pub(super) async fn until_read_any(&self, worker: &str, shards: &BTreeSet<ShardId>) {
        let before = self.history.events().len();
        let what = format!("{worker} to read from one of {shards:?}");
        let read = async || !self.read_by(worker, before).is_disjoint(shards);
        self.until(&what, read).await;
    }

    /// The rows of a table by key; none if there is no such table.
    pub(super) async fn rows(&self, (table, key): &Place) -> Rows {
        let scan = self.world.dynamodb.scan().table_name(table);
        let items = match scan.consistent_read(true).send().await {
            Ok(page) => page.items.unwrap_or_default(),
            Err(error) => {
                let refused = error.into_service_error();
                assert!(refused.is_resource_not_found_exception(), "{refused}");
                Vec::new()
            }
        };
        let name = |item: &Item| text(item, key).expect("the key is text").to_owned();
        items.into_iter().map(|item| (name(&item), item)).collect()
    }

    /// The consumers that are registered for fan-out, of all streams.
    pub(super) async fn consumers(&self) -> Vec<String> {
        let kinesis = &self.world.kinesis;
        let name =
            |consumer: &aws_sdk_kinesis::types::Consumer| consumer.consumer_name().to_owned();
        let mut consumers = Vec::new();
        for stream in self.reads.streams() {
            let arn = TestStream::named(&self.world.local, stream).arn().await;
            let listed = kinesis.list_stream_consumers().stream_arn(arn).send().await;
            let listed = listed.expect("listed");
            consumers.extend(listed.consumers().iter().map(name));
        }
        consumers
    }

    /// Whose name is in the lock that lies there, if there is one.
    pub(super) async fn leader_in(&self, place: &Place) -> Option<String> {
        let rows = self.rows(place).await;
        text(rows.get("Leader")?, "ownerName").map(str::to_owned)
    }

    /// Waits until `worker` has the lock that lies there. (Leases are taken over before it is, too: while
    /// nobody leads, workers of ours help themselves.)
    pub(super) async fn until_leads(&self, place: &Place, worker: &str) {
        let leads = async || self.leader_in(place).await.as_deref() == Some(worker);
        let what = format!("{worker} to lead in {}", place.0);
        self.until(&what, leads).await;
    }

    /// Whose name is in the lock of a fleet that has all in the lease table.
    pub(super) async fn leader(&self) -> String {
        let leader = self.leader_in(&lease_table()).await;
        leader.expect("somebody leads")
    }

    /// Sends no more flights, and waits until all are read.
    pub(super) async fn finish(&mut self) {
        self.no_more.cancel();
        let sent = (&mut self.sending).await.expect("all was sent");
        let all = sent * self.reads.streams().len();
        let ranges = ranges(&self.world, self.reads).await;
        let read = async || at_home(&self.history, &ranges).payloads().len() >= all;
        self.until("all flights", read).await;
        self.assert_kept(sent, &ranges).await;
    }

    /// Fails unless each of the flights that were sent, so many on each stream, was read in its shard and in
    /// order, and again only if no checkpoint said that it had been.
    async fn assert_kept(&self, sent: usize, ranges: &Ranges) {
        let streams = self.reads.streams().iter();
        let flights: Vec<_> = streams
            .flat_map(|stream| {
                flights(sent)
                    .into_iter()
                    .map(|record| of_stream(stream, record))
            })
            .collect();
        let at_home = at_home(&self.history, ranges);
        at_home.assert_nothing_lost(&flights);
        at_home.assert_order_per_key();
        let identifiers = match self.reads {
            Reads::One => None,
            Reads::Two => Some(identifiers(&self.world, self.reads).await),
        };
        at_home.assert_children_after_parents(&parents(&self.world, identifiers.as_ref()).await);
        self.history.assert_duplicates_were_not_checkpointed();
    }
}

/// How the leases came that `worker` was given since this was asked last.
pub(super) fn gains(worker: &mut Worker) -> Vec<Gain> {
    let told = worker.told().into_iter();
    let gain = |kind| match kind {
        EventKind::LeaseGained { by } => Some(by),
        _ => None,
    };
    told.filter_map(|event| gain(event.kind)).collect()
}

/// Fails unless `worker` handed leases over to `to`, so many at least, since this was asked last.
pub(super) fn assert_handed_over(worker: &mut Worker, to: &str, leases: usize) {
    let told: Vec<_> = worker.told().into_iter().map(|event| event.kind).collect();
    let count = |is: &dyn Fn(&EventKind) -> bool| told.iter().filter(|kind| is(kind)).count();
    let asked = count(&|kind| matches!(kind, EventKind::HandoffRequested { to: by } if by == to));
    let released = count(&|kind| *kind == EventKind::LeaseReleased);
    assert!(
        asked >= leases && released >= leases,
        "not handed over to {to}: {told:?}"
    );
}

/// Fails unless leases were given to `worker` since this was asked last, and none came otherwise.
pub(super) fn assert_given(worker: &mut Worker) {
    let gains = gains(worker);
    assert!(
        !gains.is_empty() && gains.iter().all(|gain| GIVEN.contains(gain)),
        "not given: {gains:?}"
    );
}

/// Fails unless `worker` took leases since this was asked last because their owner was silent, and none
/// came otherwise, but for those that it was given before.
pub(super) fn assert_took_over(worker: &mut Worker) {
    let gains = gains(worker);
    let otherwise = |gain: &&Gain| **gain != Gain::Failover && !GIVEN.contains(gain);
    assert!(
        gains.contains(&Gain::Failover) && gains.iter().find(otherwise).is_none(),
        "not taken over: {gains:?}"
    );
}
