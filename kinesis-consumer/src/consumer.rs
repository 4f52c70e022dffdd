//! The consumer: gives each gained lease a processor and a task, and stops all of them in good
//! order.
//!
//! ```text
//! LeaseKeeper (own task) ── gained: HeldLease ──▶ run() ── spawns ──▶ ShardTask per lease
//!        ▲                                          │                     │
//!        └────────── stop taking, keep renewing ────┴── stop ─────────────┘ drains, checkpoints, releases
//! ```
//!
//! Invariant: leases are renewed until every shard task is done with its lease, so that a clean stop
//! never loses one half-way.

mod builder;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kinesis_core::{Clock, Rand};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, error, info, warn};

use crate::dead_letter::DeadLetters;
use crate::error::{Error, ErrorKind};
use crate::events::{Events, Hub};
use crate::fetch::{Budget, Connections, FetchContext, Registration, TELL_EVERY, Totals};
use crate::lease::worker_metric::Meters;
use crate::lease::{HeldLease, LeaseKeeper, LeaseStore};
use crate::processor::RecordProcessorFactory;
use crate::settings::{Retrieval, Settings};
use crate::shard::{Outcome, ShardTask};
use crate::stream::{Source, Sources, Streams};

pub use builder::ConsumerBuilder;

/// Leases gained and not yet picked up. Source: none, reasonable default; they are picked up at once.
const GAINED_LEASES_MAX: usize = 16;

/// How long stopping may take beyond `shutdown_timeout`, for releasing the leases; then what is left
/// is dropped and its leases expire. Source: none, reasonable default.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Reads a stream, or several, as one worker of an application.
///
/// All workers of an application give the same application name, which is also the name of its
/// lease table in DynamoDB unless [`LeaseTableSettings`](crate::LeaseTableSettings) has another; the table is created when missing. [`LeaseStore`] says what to use instead
/// where nothing is to outlive the process.
pub struct Consumer {
    application: String,
    worker_id: String,
    kinesis: aws_sdk_kinesis::Client,
    leases: LeaseStore,
    factory: Arc<dyn RecordProcessorFactory>,
    sources: Sources,
    settings: Arc<Settings>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    meters: Meters,
    clock: Clock,
    rand: Rand,
    events: Hub,
}

impl Consumer {
    /// Begins to build the consumer of `stream` for `application`.
    ///
    /// The clients say where: an AWS account and region, or kinesis-local. `leases` is a DynamoDB client,
    /// or a [`LeaseStore`] in memory for what needs no memory of its own. `factory` makes a
    /// processor for each shard; a closure `|shard_id: &ShardId| MyProcessor::new()` is one. `stream`
    /// is a name or an ARN.
    pub fn builder(
        application: impl Into<String>,
        stream: impl Into<String>,
        kinesis: aws_sdk_kinesis::Client,
        leases: impl Into<LeaseStore>,
        factory: impl RecordProcessorFactory + 'static,
    ) -> ConsumerBuilder {
        let sources = Sources::from(stream.into().as_str());
        ConsumerBuilder::new(
            application.into(),
            sources,
            kinesis,
            leases.into(),
            Arc::new(factory),
        )
    }

    /// Begins to build the consumer of several streams for `application`. Streams may be added to
    /// and removed from `streams` while it runs. Make the factory with
    /// [`per_stream`](crate::per_stream), or implement
    /// [`create_for`](RecordProcessorFactory::create_for), to tell their shards apart.
    ///
    /// The lease table is laid out as that of a multi-stream KCL, and is not the table of a consumer
    /// of one stream; [`admin`](crate::admin) converts one into the other. A stream that cannot be read is reported and tried again, and does not end [`run`](Self::run).
    pub fn multi_stream(
        application: impl Into<String>,
        streams: &Streams,
        kinesis: aws_sdk_kinesis::Client,
        leases: impl Into<LeaseStore>,
        factory: impl RecordProcessorFactory + 'static,
    ) -> ConsumerBuilder {
        let sources = Sources::Many(streams.clone());
        ConsumerBuilder::new(
            application.into(),
            sources,
            kinesis,
            leases.into(),
            Arc::new(factory),
        )
    }

    /// The name of this worker in the lease table.
    pub fn worker_id(&self) -> &str {
        &self.worker_id
    }

    /// What happens to leases and shards from now on. Subscribe before [`run`](Self::run) to hear all;
    /// any number may subscribe.
    pub fn events(&self) -> Events {
        self.events.subscribe()
    }

    /// Works until `shutdown` is cancelled and every shard is handed over, or until something
    /// cannot go on.
    ///
    /// A cancelled `shutdown` is a clean stop: no more leases are taken, each processor finishes
    /// its batch and gets `shutdown_requested`, and each lease is released at once, so that another
    /// worker goes on within three seconds and without duplicates. It takes at most
    /// `shutdown_timeout` and ten seconds. A call of a processor that is not done within `shutdown_timeout` is
    /// dropped, with a WARN; its lease is released like the others, its batch comes again, and `run` returns
    /// `Ok`.
    ///
    /// # Errors
    /// - [`ErrorKind::Processor`]: a processor gave up. The other shards were stopped cleanly first.
    /// - [`ErrorKind::NotFound`]: there is no such stream, or the lease table was deleted.
    /// - [`ErrorKind::Denied`], [`ErrorKind::InvalidInput`]: the lease table cannot be used as it is.
    /// - [`ErrorKind::StopTimedOut`]: not everything could be stopped and given back in that time, as while the
    ///   lease table does not answer. What was left was dropped, as by a crash.
    /// - [`ErrorKind::Internal`]: a defect of this crate. The other shards were stopped cleanly first.
    ///
    /// What can mend itself (throttling, an unreachable service, a stream that may not be listed yet) is
    /// retried, with a WARN or an ERROR, and does not end `run`.
    ///
    /// # Cancel safety
    /// Dropping the future stops everything at its next await point, as a crash would: nothing is
    /// lost, the leases expire after `failover_time`, and what was not checkpointed is delivered
    /// again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let span = tracing::info_span!(
            "consumer",
            application = self.application,
            worker = self.worker_id
        );
        self.work(shutdown).instrument(span).await
    }

    async fn work(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let (handoff, shutdown_timeout) = (
            self.settings.lease.handoff_timeout,
            self.settings.shutdown_timeout,
        );
        if handoff < shutdown_timeout {
            warn!(
                ?handoff,
                ?shutdown_timeout,
                "Processors have less time to stop when a lease is handed over than when the worker stops."
            );
        }
        let stop = shutdown.child_token();
        let (gained_sender, mut gained) = mpsc::channel(GAINED_LEASES_MAX);
        let keeper = self.keeper().run(gained_sender, stop.clone());
        let mut keeper = AbortOnDropHandle::new(tokio::spawn(keeper.in_current_span()));
        let mut shards = Shards {
            reading: self.reading(),
            factory: Arc::clone(&self.factory),
            dead_letters: self.dead_letters.clone(),
            stop: stop.clone(),
            tasks: JoinSet::new(),
            failure: None,
        };
        let mut keeper_result = None;
        let mut telling = tokio::time::interval(TELL_EVERY);
        telling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while keeper_result.is_none() && !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(over) = shards.tasks.join_next(), if !shards.tasks.is_empty() => shards.over(over),
                Some(lease) = gained.recv() => shards.start(lease),
                result = &mut keeper => keeper_result = Some(result),
                _ = telling.tick() => shards.reading.totals.tell(),
            }
        }
        stop.cancel();
        info!(shards = shards.tasks.len(), "The consumer stops.");
        let deadline = self.clock.now() + self.settings.shutdown_timeout + STOP_GRACE;
        let drained = async {
            loop {
                tokio::select! {
                    biased;
                    Some(over) = shards.tasks.join_next(), if !shards.tasks.is_empty() => shards.over(over),
                    // Gained before the keeper heard of the stop: its task releases it again.
                    Some(lease) = gained.recv() => shards.start(lease),
                    result = &mut keeper, if keeper_result.is_none() => keeper_result = Some(result),
                    else => break,
                }
            }
        };
        let in_time = tokio::time::timeout_at(deadline, drained).await.is_ok();
        let left = shards.tasks.len();
        if !in_time {
            error!(
                shards = left,
                "Stopping took too long; what is left is dropped and its leases expire."
            );
        }
        let outcome = match (shards.failure, keeper_result) {
            (Some(failure), _) => Err(failure),
            (None, Some(keeper)) => keeper_outcome(keeper),
            (None, None) => Ok(()),
        };
        match in_time {
            true => outcome,
            false => outcome.and(Err(self.stop_timed_out(left))),
        }
    }

    fn stop_timed_out(&self, shards: usize) -> Error {
        let (asked, grace) = (self.settings.shutdown_timeout, STOP_GRACE);
        let what = format!(
            "worker {} did not stop within shutdown_timeout ({asked:?}) and {grace:?}: {shards} shards and \
             whatever leases were left were dropped; others take these after failover_time, and what was not \
             checkpointed comes again",
            self.worker_id
        );
        Error::new(ErrorKind::StopTimedOut, what)
    }

    fn keeper(&mut self) -> LeaseKeeper {
        LeaseKeeper::new(
            self.kinesis.clone(),
            &self.leases,
            &self.application,
            self.sources.clone(),
            self.worker_id.clone(),
            &self.settings,
            self.clock.clone(),
            self.rand.fork(),
        )
        .measuring(std::mem::take(&mut self.meters))
        .announcing(self.events.announcer())
    }

    fn reading(&self) -> Reading {
        let budget = Budget::new(self.settings.max_buffered_bytes);
        Reading {
            application: self.application.clone(),
            kinesis: self.kinesis.clone(),
            kinesis_once: once(&self.kinesis),
            settings: Arc::clone(&self.settings),
            clock: self.clock.clone(),
            rand: self.rand.fork(),
            totals: Arc::new(Totals::new(
                &self.application,
                &self.worker_id,
                Arc::clone(&budget),
            )),
            budget,
            connections: Arc::default(),
            streams: Vec::new(),
        }
    }
}

/// What reading needs, for each stream once.
struct Reading {
    application: String,
    kinesis: aws_sdk_kinesis::Client,
    kinesis_once: aws_sdk_kinesis::Client,
    settings: Arc<Settings>,
    clock: Clock,
    rand: Rand,
    budget: Arc<Budget>,
    totals: Arc<Totals>,
    connections: Arc<Connections>,
    streams: Vec<FetchContext>,
}

impl Reading {
    /// What reading `source` needs.
    fn of(&mut self, source: &Arc<Source>) -> FetchContext {
        self.streams
            .retain(|known| !known.source.stop.is_cancelled());
        let known = self
            .streams
            .iter()
            .find(|known| Arc::ptr_eq(&known.source, source));
        if let Some(known) = known {
            return known.clone();
        }
        let context = FetchContext {
            kinesis: self.kinesis.clone(),
            kinesis_once: self.kinesis_once.clone(),
            stream: source.label(),
            source: Arc::clone(source),
            settings: Arc::clone(&self.settings),
            clock: self.clock.clone(),
            rand: self.rand.fork(),
            budget: Arc::clone(&self.budget),
            totals: Arc::clone(&self.totals),
            connections: Arc::clone(&self.connections),
            registration: self.registration(source).map(Arc::new),
            placement: Arc::default(),
        };
        self.streams.push(context.clone());
        context
    }

    fn registration(&self, source: &Source) -> Option<Registration> {
        let Retrieval::FanOut(fan_out) = &self.settings.retrieval else {
            return None;
        };
        Some(Registration::new(
            self.kinesis.clone(),
            source,
            &self.application,
            fan_out,
            self.settings.kinesis_request_timeout,
            self.clock.clone(),
            self.rand.fork(),
        ))
    }
}

/// The shards that are being processed.
struct Shards {
    reading: Reading,
    factory: Arc<dyn RecordProcessorFactory>,
    dead_letters: Option<Arc<dyn DeadLetters>>,
    stop: CancellationToken,
    tasks: JoinSet<Outcome>,
    /// The first failure; it stops the others.
    failure: Option<Error>,
}

impl Shards {
    fn start(&mut self, lease: HeldLease) {
        let (source, shard_id) = (lease.source(), lease.shard_id());
        let create = AssertUnwindSafe(|| match &source.id {
            Some(stream) => self.factory.create_for(stream, shard_id),
            None => self.factory.create(shard_id),
        });
        let Ok(processor) = catch_unwind(create) else {
            // Dropping the lease gives it back.
            let text = format!(
                "the processor factory panicked for shard {}",
                lease.shard_id()
            );
            error!(shard = %lease.shard_id(), "The processor factory panicked: the consumer shuts down.");
            return self.failed(Error::new(ErrorKind::Processor, text));
        };
        let (fetch, stop) = (self.reading.of(source), source.stop.clone());
        let task = ShardTask::new(lease, processor, fetch, self.dead_letters.clone(), stop);
        self.tasks.spawn(task.run().in_current_span());
    }

    fn over(&mut self, over: Result<Outcome, JoinError>) {
        let failure = match over {
            Ok(Outcome::Over) => return,
            Ok(Outcome::Failed(failure)) => failure,
            Err(panic) => {
                error!(%panic, "The task of a shard broke down; its lease expires.");
                Error::new(
                    ErrorKind::Internal,
                    "the task of a shard broke down by a defect of this crate",
                )
                .with_source(panic)
            }
        };
        self.failed(failure);
    }

    /// Notes a failure, of which the first counts, and stops the others.
    fn failed(&mut self, failure: Error) {
        self.stop.cancel();
        self.failure.get_or_insert(failure);
    }
}

/// A client of the same service that makes one attempt of each call.
fn once(client: &aws_sdk_kinesis::Client) -> aws_sdk_kinesis::Client {
    let config = client.config().to_builder();
    let retries = aws_sdk_kinesis::config::retry::RetryConfig::disabled();
    aws_sdk_kinesis::Client::from_conf(config.retry_config(retries).build())
}

fn keeper_outcome(result: Result<Result<(), Error>, JoinError>) -> Result<(), Error> {
    match result {
        Ok(result) => result,
        Err(panic) => Err(Error::new(
            ErrorKind::Internal,
            "keeping the leases stopped by a defect of this crate",
        )
        .with_source(panic)),
    }
}
